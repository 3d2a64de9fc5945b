//! A Parquet file on its way into the store, in parts: however large it becomes, one part of it is in memory.

use std::collections::VecDeque;

use bytes::Bytes;
use deltalake::parquet::arrow::async_writer::AsyncFileWriter;
use deltalake::parquet::errors::Result;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::store::LakeStore;
use crate::limits::UPLOAD_PART_BYTES;

/// Visible in the store when it is complete, and not before.
pub(crate) struct Upload {
    store: LakeStore,
    path: Path,
    /// Small files only: fail if there is one of this name.
    create: bool,
    /// What has come and is not sent, as it came.
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    parts: Option<Box<dyn MultipartUpload>>,
    bytes: u64,
}

impl Upload {
    /// Under a name that nobody else uses.
    pub fn of_new_name(store: LakeStore, path: Path) -> Self {
        Self { store, path, create: false, waiting: VecDeque::new(), waiting_bytes: 0, parts: None, bytes: 0 }
    }

    /// Under a name that somebody else may be writing too.
    pub fn unless_it_exists(store: LakeStore, path: Path) -> Self {
        Self { create: true, ..Self::of_new_name(store, path) }
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Leaves nothing behind, if the store is there to be told.
    pub async fn abort(mut self) {
        if let Some(mut parts) = self.parts.take()
            && let Err(error) = parts.abort().await
        {
            tracing::debug!(%error, path = %self.path, "an unfinished upload could not be aborted");
        }
    }

    async fn take(&mut self, bytes: Bytes) -> Result<()> {
        self.bytes += bytes.len() as u64;
        self.waiting_bytes += bytes.len();
        self.waiting.push_back(bytes);
        while self.waiting_bytes > UPLOAD_PART_BYTES {
            let part = self.next(UPLOAD_PART_BYTES);
            let parts = match self.parts.as_mut() {
                Some(parts) => parts,
                None => self.parts.insert(self.store.objects().put_multipart(&self.path).await?),
            };
            parts.put_part(part).await?;
        }
        Ok(())
    }

    /// The first of what waits, so many bytes if there are so many, without a copy.
    fn next(&mut self, bytes: usize) -> PutPayload {
        let (mut pieces, mut left) = (Vec::new(), bytes.min(self.waiting_bytes));
        self.waiting_bytes -= left;
        while let Some(mut piece) = self.waiting.pop_front() {
            let taken = piece.split_to(left.min(piece.len()));
            left -= taken.len();
            pieces.push(taken);
            if !piece.is_empty() {
                self.waiting.push_front(piece);
            }
            if left == 0 {
                break;
            }
        }
        PutPayload::from_iter(pieces)
    }

    async fn finish(&mut self) -> Result<()> {
        let rest = self.next(usize::MAX);
        if let Some(parts) = self.parts.as_mut() {
            parts.put_part(rest).await?;
            parts.complete().await?;
            self.parts = None;
            return Ok(());
        }
        let mode = if self.create { PutMode::Create } else { PutMode::Overwrite };
        self.store.objects().put_opts(&self.path, rest, PutOptions { mode, ..PutOptions::default() }).await?;
        Ok(())
    }
}

impl AsyncFileWriter for Upload {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.take(bytes))
    }

    fn complete(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::tests::Lake;

    #[tokio::test]
    async fn pieces_of_any_size_become_one_object_in_parts() {
        let lake = Lake::in_memory();
        let sizes = [1, 0, UPLOAD_PART_BYTES, 3, 2 * UPLOAD_PART_BYTES + 7, UPLOAD_PART_BYTES - 11];
        for upto in 0..=sizes.len() {
            let path = Path::from(format!("x/{upto}"));
            let mut upload = Upload::of_new_name(lake.store.clone(), path.clone());
            let mut whole = Vec::new();
            for (n, size) in sizes[..upto].iter().enumerate() {
                let piece: Vec<u8> = (0..*size).map(|at| (at % 251 + n) as u8).collect();
                whole.extend_from_slice(&piece);
                upload.write(piece.into()).await.unwrap();
            }
            upload.complete().await.unwrap();
            assert_eq!(upload.bytes(), whole.len() as u64);
            let (found, _) = lake.store.read(&path).await.unwrap().unwrap();
            assert!(found == whole, "{upto} pieces");
        }
    }
}
