//! A file that is to be merged with others, read a batch at a time.

use std::sync::Arc;

use deltalake::arrow::datatypes::SchemaRef;
use deltalake::parquet::arrow::arrow_reader::ArrowReaderOptions;
use deltalake::parquet::arrow::async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use deltalake::parquet::errors::Result;

use super::choose::SmallFile;
use crate::lake::error::LakeError;
use crate::lake::reading::Source;
use crate::lake::store::LakeStore;
use crate::limits::COMPACT_BATCH_BYTES;

const BATCH_ROWS_MAX: u64 = 8192;

/// A file in the store, a small one already here.
pub(super) struct Fetched {
    pub path: String,
    size: u64,
    source: Source,
}

/// Finds a file, and fetches it if it is small.
pub(super) async fn fetch(store: &LakeStore, table: &str, file: &SmallFile) -> std::result::Result<Fetched, LakeError> {
    let found = Source::of(store, table, &file.path, file.size).await?;
    let source = found.ok_or_else(|| LakeError::Overtaken {
        table: table.to_owned(),
        reason: format!("its file {} is not there; if its log still names it, the table cannot be read", file.path),
    })?;
    Ok(Fetched { path: file.path.clone(), size: file.size, source })
}

/// An opened file.
pub(super) struct Input {
    pub path: String,
    pub size: u64,
    builder: ParquetRecordBatchStreamBuilder<Source>,
}

impl Input {
    /// Its types are those of its Parquet columns, not what its writer's Arrow made of them.
    pub async fn open(fetched: Fetched) -> Result<Self> {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = ParquetRecordBatchStreamBuilder::new_with_options(fetched.source, options).await?;
        Ok(Self { path: fetched.path, size: fetched.size, builder })
    }

    pub fn schema(&self) -> SchemaRef {
        Arc::clone(self.builder.schema())
    }

    /// By its footer.
    pub fn rows(&self) -> usize {
        usize::try_from(self.builder.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// All its rows, in batches that are bounded by the size of its average row.
    pub fn batches(self) -> Result<ParquetRecordBatchStream<Source>> {
        let groups = self.builder.metadata().row_groups();
        let bytes: u64 = groups.iter().map(|group| group.total_byte_size().unsigned_abs()).sum();
        let row_bytes = bytes / (self.rows() as u64).max(1);
        let rows = (COMPACT_BATCH_BYTES / row_bytes.max(1)).clamp(1, BATCH_ROWS_MAX);
        self.builder.with_batch_size(usize::try_from(rows).unwrap_or(1)).build()
    }
}
