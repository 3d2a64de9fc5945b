//! Reading a classic Parquet checkpoint: only its `txn`, `metaData` and `protocol` columns, by range requests.
//!
//! Its rows become the same JSON lines as a log entry's, so that there is one reader of actions and not two.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use deltalake::arrow::array::{Array, BooleanArray, RecordBatch};
use deltalake::arrow::compute::filter_record_batch;
use deltalake::arrow::json::WriterBuilder;
use deltalake::arrow::json::writer::LineDelimited;
use deltalake::parquet::arrow::ProjectionMask;
use deltalake::parquet::arrow::arrow_reader::ArrowReaderOptions;
use deltalake::parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use deltalake::parquet::errors::ParquetError;
use deltalake::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::entry::{Keep, LogEntry};
use super::error::LakeError;
use super::reading::possible;
use super::store::LakeStore;

/// Rows of a checkpoint turned into JSON at a time; an `add` with its statistics is one to a few KiB.
const BATCH_ROWS: usize = 1024;

/// What a checkpoint's parts say together, files left out.
pub(crate) async fn read(store: &LakeStore, parts: &[ObjectMeta], prefix: &str) -> Result<LogEntry, LakeError> {
    let mut found = Vec::new();
    let mut batches = lines(store, parts, is_head);
    while let Some(some) = batches.try_next().await? {
        found.extend_from_slice(&some);
    }
    LogEntry::parse(&found, Keep::txns(prefix)).map_err(|reason| not_understood(parts, reason))
}

/// Columns of what a table is, and not of what is in it.
pub(crate) fn is_head(column: &str) -> bool {
    matches!(root(column), "txn" | "metaData" | "protocol")
}

/// Columns of which files are in it.
pub(crate) fn is_file(column: &str) -> bool {
    matches!(root(column), "add" | "remove")
}

/// The kind of action that a column, as a dotted path, belongs to.
pub(crate) fn root(column: &str) -> &str {
    column.split('.').next().unwrap_or(column)
}

/// A checkpoint whose rows are no actions.
pub(crate) fn not_understood(parts: &[ObjectMeta], reason: String) -> LakeError {
    LakeError::Checkpoint {
        path: parts.first().map_or_else(String::new, |part| part.location.to_string()),
        reason: "understanding its actions",
        source: ParquetError::General(reason),
    }
}

/// The actions of a checkpoint as JSON lines, a batch at a time, with the columns (dotted paths of leaves) that are
/// `wanted`. Rows that have none of them are left out.
pub(crate) fn lines(
    store: &LakeStore,
    parts: &[ObjectMeta],
    wanted: fn(&str) -> bool,
) -> BoxStream<'static, Result<Vec<u8>, LakeError>> {
    let objects = store.objects();
    let parts = futures::stream::iter(parts.to_vec());
    let opened = parts.then(move |part| {
        let objects = Arc::clone(&objects);
        async move { part_lines(objects, part, wanted).await }
    });
    opened.try_flatten().boxed()
}

/// Decodes all of a checkpoint, and forgets it.
pub(crate) async fn check_whole(store: &LakeStore, parts: &[ObjectMeta]) -> Result<(), LakeError> {
    for part in parts {
        let failed =
            |source| LakeError::Checkpoint { path: part.location.to_string(), reason: "reading it whole", source };
        let batches = open_part(store.objects(), part).await?.with_batch_size(BATCH_ROWS).build().map_err(failed)?;
        batches.try_for_each(|_| std::future::ready(Ok(()))).await.map_err(failed)?;
    }
    Ok(())
}

/// How many actions its parts say they hold.
pub(crate) async fn count_rows(store: &LakeStore, parts: &[ObjectMeta]) -> Result<u64, LakeError> {
    let mut rows = 0;
    for part in parts {
        let builder = open_part(store.objects(), part).await?;
        rows += builder.metadata().file_metadata().num_rows().unsigned_abs();
    }
    Ok(rows)
}

async fn open_part(
    objects: Arc<dyn ObjectStore>,
    part: &ObjectMeta,
) -> Result<ParquetRecordBatchStreamBuilder<Ranged>, LakeError> {
    let reader = Ranged { objects, path: part.location.clone(), size: part.size };
    let opened = ParquetRecordBatchStreamBuilder::new(reader).await;
    opened.map_err(|source| LakeError::Checkpoint { path: part.location.to_string(), reason: "opening it", source })
}

async fn part_lines(
    objects: Arc<dyn ObjectStore>,
    part: ObjectMeta,
    wanted: fn(&str) -> bool,
) -> Result<impl Stream<Item = Result<Vec<u8>, LakeError>>, LakeError> {
    let path = part.location.to_string();
    let failed = move |reason, source| LakeError::Checkpoint { path: path.clone(), reason, source };
    let builder = open_part(objects, &part).await?;
    let columns = builder.parquet_schema().columns().iter().enumerate();
    let leaves: Vec<usize> =
        columns.filter(|(_, column)| wanted(&column.path().string())).map(|(index, _)| index).collect();
    let mask = ProjectionMask::leaves(builder.parquet_schema(), leaves);
    let built = builder.with_batch_size(BATCH_ROWS).with_projection(mask).build();
    let batches = built.map_err(|source| failed("choosing its columns", source))?;
    Ok(batches.map(move |batch| {
        let batch = batch.map_err(|source| failed("reading it", source))?;
        action_lines(&batch).map_err(|source| failed("turning it into actions", source))
    }))
}

/// One JSON line for each row that has one of our columns. Nulls are written: a null partition is one.
pub(crate) fn action_lines(batch: &RecordBatch) -> Result<Vec<u8>, ParquetError> {
    let present = |row: usize| batch.columns().iter().any(|column| column.is_valid(row));
    let mask: BooleanArray = (0..batch.num_rows()).map(|row| Some(present(row))).collect();
    let actions = filter_record_batch(batch, &mask)?;
    let builder = WriterBuilder::new().with_explicit_nulls(true);
    let mut writer = builder.build::<_, LineDelimited>(Vec::new());
    writer.write(&actions)?;
    writer.finish()?;
    Ok(writer.into_inner())
}

/// A Parquet file of the object store, read by ranges.
#[derive(Debug, Clone)]
pub(crate) struct Ranged {
    objects: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
}

impl Ranged {
    /// The file of this size at this place.
    pub fn new(store: &LakeStore, path: Path, size: u64) -> Self {
        Self { objects: store.objects(), path, size }
    }

    /// What a damaged footer asks for is no failure of the store.
    fn check(&self, range: &Range<u64>) -> Result<(), ParquetError> {
        match range.start <= range.end && range.end <= self.size {
            true => Ok(()),
            false => Err(ParquetError::EOF(format!("{range:?} of {} bytes", self.size))),
        }
    }
}

impl AsyncFileReader for Ranged {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        Box::pin(async move {
            self.check(&range)?;
            Ok(self.objects.get_range(&self.path, range).await?)
        })
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        Box::pin(async move {
            ranges.iter().try_for_each(|range| self.check(range))?;
            Ok(self.objects.get_ranges(&self.path, &ranges).await?)
        })
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        Box::pin(async move {
            let size = self.size;
            let reader = ParquetMetaDataReader::new()
                .with_metadata_options(options.map(|options| options.metadata_options().clone()));
            possible(reader.load_and_finish(self, size).await?).map(Arc::new)
        })
    }
}
