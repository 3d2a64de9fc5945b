//! S3's operations over the bucket, as s3s decodes and encodes them.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CommonPrefix, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteObjectInput,
    DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, ETagCondition, GetObjectInput,
    GetObjectOutput, HeadObjectInput, HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output, PutObjectInput,
    PutObjectOutput, StreamingBlob, Timestamp, UploadPartInput, UploadPartOutput,
};
use s3s::{Body, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::objects::{Condition, NotStored, Object, Objects};

/// S3 answers with no more than this, whatever is asked.
const PAGE_KEYS_MAX: i32 = 1_000;

/// One bucket.
pub struct Bucket {
    /// Its name; no other bucket exists.
    pub name: &'static str,
    /// What is in it.
    pub objects: Arc<Objects>,
}

impl Bucket {
    fn exists(&self, bucket: &str) -> S3Result<()> {
        if bucket == self.name { Ok(()) } else { Err(S3ErrorCode::NoSuchBucket.into()) }
    }

    fn object(&self, key: &str) -> S3Result<Object> {
        self.objects.get(key).ok_or_else(|| S3ErrorCode::NoSuchKey.into())
    }
}

fn condition(none_match: Option<ETagCondition>, matches: Option<ETagCondition>) -> S3Result<Condition> {
    match (none_match, matches) {
        (None, None) => Ok(Condition::None),
        (Some(ETagCondition::Any), None) => Ok(Condition::Absent),
        (None, Some(ETagCondition::ETag(etag))) => Ok(Condition::Etag(etag.value().to_owned())),
        (Some(_), _) | (None, Some(ETagCondition::Any)) => Err(S3ErrorCode::NotImplemented.into()),
    }
}

/// `If-Match` and `If-None-Match` of a read.
fn wanted(object: &Object, none_match: Option<ETagCondition>, matches: Option<ETagCondition>) -> S3Result<()> {
    let is_it = |condition: &ETagCondition| condition.as_etag().is_none_or(|etag| etag.value() == object.etag);
    if matches.as_ref().is_some_and(|condition| !is_it(condition)) {
        return Err(S3ErrorCode::PreconditionFailed.into());
    }
    if none_match.as_ref().is_some_and(is_it) {
        return Err(S3ErrorCode::NotModified.into());
    }
    Ok(())
}

fn refused(why: NotStored) -> S3Error {
    match why {
        NotStored::Condition => S3ErrorCode::PreconditionFailed.into(),
        NotStored::NoKey => S3ErrorCode::NoSuchKey.into(),
        NotStored::NoUpload => S3ErrorCode::NoSuchUpload.into(),
    }
}

async fn whole(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(body) = body else { return Ok(Bytes::new()) };
    let gathered = body.try_fold(BytesMut::new(), async |mut whole, chunk| {
        whole.extend_from_slice(&chunk);
        Ok(whole)
    });
    Ok(gathered.await.map_err(|_error| S3ErrorCode::IncompleteBody)?.freeze())
}

fn etag(object: &Object) -> Option<ETag> {
    Some(ETag::Strong(object.etag.clone()))
}

fn modified(object: &Object) -> Option<Timestamp> {
    let since = Duration::from_millis(u64::try_from(object.modified_ms).unwrap_or_default());
    Some(Timestamp::from(UNIX_EPOCH + since))
}

fn length(bytes: usize) -> Option<i64> {
    i64::try_from(bytes).ok()
}

#[async_trait]
impl S3 for Bucket {
    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = req.input;
        self.exists(&input.bucket)?;
        let condition = condition(input.if_none_match, input.if_match)?;
        let bytes = whole(input.body).await?;
        let etag = self.objects.put(&input.key, bytes, &condition).map_err(refused)?;
        Ok(S3Response::new(PutObjectOutput { e_tag: Some(ETag::Strong(etag)), ..PutObjectOutput::default() }))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        self.exists(&input.bucket)?;
        let object = self.object(&input.key)?;
        wanted(&object, input.if_none_match, input.if_match)?;
        let size = object.bytes.len();
        let part = input.range.map(|range| range.check(size as u64)).transpose()?;
        let content_range = part.as_ref().map(|part| format!("bytes {}-{}/{size}", part.start, part.end - 1));
        let bytes = match part {
            Some(part) => {
                let at = |offset: u64| usize::try_from(offset).map_err(S3Error::internal_error);
                object.bytes.slice(at(part.start)?..at(part.end)?)
            }
            None => object.bytes.clone(),
        };
        Ok(S3Response::new(GetObjectOutput {
            content_length: length(bytes.len()),
            content_range,
            e_tag: etag(&object),
            last_modified: modified(&object),
            body: Some(StreamingBlob::from(Body::from(bytes))),
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        self.exists(&input.bucket)?;
        let object = self.object(&input.key)?;
        wanted(&object, input.if_none_match, input.if_match)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: length(object.bytes.len()),
            e_tag: etag(&object),
            last_modified: modified(&object),
            ..HeadObjectOutput::default()
        }))
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        self.exists(&input.bucket)?;
        let (prefix, limit) = (input.prefix.unwrap_or_default(), input.max_keys.unwrap_or(PAGE_KEYS_MAX));
        let limit = limit.clamp(1, PAGE_KEYS_MAX);
        let after = input.continuation_token.clone().or_else(|| input.start_after.clone()).unwrap_or_default();
        let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
        let page = self.objects.list(&prefix, delimiter, &after, usize::try_from(limit).unwrap_or_default());
        let contents = page.objects.into_iter().map(|(key, object)| s3s::dto::Object {
            e_tag: etag(&object),
            last_modified: modified(&object),
            size: length(object.bytes.len()),
            key: Some(key),
            ..s3s::dto::Object::default()
        });
        let contents: Vec<_> = contents.collect();
        let prefixes = page.prefixes.into_iter().map(|prefix| CommonPrefix { prefix: Some(prefix) });
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            key_count: i32::try_from(contents.len()).ok(),
            max_keys: Some(limit),
            is_truncated: Some(page.next.is_some()),
            contents: Some(contents),
            common_prefixes: Some(prefixes.collect()),
            prefix: Some(prefix),
            delimiter: input.delimiter,
            start_after: input.start_after,
            continuation_token: input.continuation_token,
            next_continuation_token: page.next,
            ..ListObjectsV2Output::default()
        }))
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.exists(&req.input.bucket)?;
        self.objects.delete(&req.input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        self.exists(&req.input.bucket)?;
        let deleted = req.input.delete.objects.into_iter().map(|object| {
            self.objects.delete(&object.key);
            DeletedObject { key: Some(object.key), ..DeletedObject::default() }
        });
        let deleted = Some(deleted.collect());
        Ok(S3Response::new(DeleteObjectsOutput { deleted, ..DeleteObjectsOutput::default() }))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.exists(&req.input.bucket)?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(req.input.bucket),
            key: Some(req.input.key),
            upload_id: Some(self.objects.begin()),
            ..CreateMultipartUploadOutput::default()
        }))
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = req.input;
        self.exists(&input.bucket)?;
        let bytes = whole(input.body).await?;
        let etag = self.objects.part(&input.upload_id, input.part_number, bytes).map_err(refused)?;
        Ok(S3Response::new(UploadPartOutput { e_tag: Some(ETag::Strong(etag)), ..UploadPartOutput::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        self.exists(&input.bucket)?;
        let condition = condition(input.if_none_match, input.if_match)?;
        let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let numbers: Vec<i32> = parts.into_iter().filter_map(|part| part.part_number).collect();
        let etag = self.objects.complete(&input.upload_id, &input.key, &numbers, &condition).map_err(refused)?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(etag)),
            ..CompleteMultipartUploadOutput::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.exists(&req.input.bucket)?;
        self.objects.abort(&req.input.upload_id);
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}
