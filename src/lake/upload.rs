//! A Parquet file on its way into the store, in parts: however large it becomes, one part of it is in memory.

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
    buffer: Vec<u8>,
    parts: Option<Box<dyn MultipartUpload>>,
    bytes: u64,
}

impl Upload {
    /// Under a name that nobody else uses.
    pub fn of_new_name(store: LakeStore, path: Path) -> Self {
        Self { store, path, create: false, buffer: Vec::new(), parts: None, bytes: 0 }
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
        self.buffer.extend_from_slice(&bytes);
        while self.buffer.len() > UPLOAD_PART_BYTES {
            let rest = self.buffer.split_off(UPLOAD_PART_BYTES);
            let part = std::mem::replace(&mut self.buffer, rest);
            let parts = match self.parts.as_mut() {
                Some(parts) => parts,
                None => self.parts.insert(self.store.objects().put_multipart(&self.path).await?),
            };
            parts.put_part(PutPayload::from(part)).await?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        let rest = PutPayload::from(std::mem::take(&mut self.buffer));
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
