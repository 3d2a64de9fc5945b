//! Reading a classic Parquet checkpoint: only its `txn`, `metaData` and `protocol` columns, by range requests.
//!
//! Its rows become the same JSON lines as a log entry's, so that there is one reader of actions and not two.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use deltalake::arrow::array::{Array, BooleanArray, RecordBatch};
use deltalake::arrow::compute::filter_record_batch;
use deltalake::arrow::json::LineDelimitedWriter;
use deltalake::parquet::arrow::ProjectionMask;
use deltalake::parquet::arrow::arrow_reader::ArrowReaderOptions;
use deltalake::parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use deltalake::parquet::errors::ParquetError;
use deltalake::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use futures::TryStreamExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::entry::LogEntry;
use super::error::LakeError;
use super::store::LakeStore;

const COLUMNS: [&str; 3] = ["txn", "metaData", "protocol"];

/// What a checkpoint's parts say together, files left out.
pub(crate) async fn read(store: &LakeStore, parts: &[ObjectMeta], prefix: &str) -> Result<LogEntry, LakeError> {
    let mut lines = Vec::new();
    let keep = |some: &[u8]| {
        lines.extend_from_slice(some);
        Ok(())
    };
    each_lines(store, parts, &COLUMNS, keep).await?;
    LogEntry::parse(&lines, prefix).map_err(|reason| LakeError::Checkpoint {
        path: parts.first().map_or_else(String::new, |part| part.location.to_string()),
        reason: "understanding its actions",
        source: ParquetError::General(reason),
    })
}

/// Shows `visit` the actions in these columns as JSON lines, a batch at a time, until it cannot understand them.
pub(crate) async fn each_lines(
    store: &LakeStore,
    parts: &[ObjectMeta],
    columns: &[&str],
    mut visit: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), LakeError> {
    for part in parts {
        let path = part.location.to_string();
        let failed = |reason, source| LakeError::Checkpoint { path: path.clone(), reason, source };
        let reader = Ranged::new(store, part.location.clone(), part.size);
        let builder =
            ParquetRecordBatchStreamBuilder::new(reader).await.map_err(|source| failed("opening it", source))?;
        let fields = builder.parquet_schema().root_schema().get_fields().iter().enumerate();
        let wanted = fields.filter(|(_, field)| columns.contains(&field.name()));
        let roots: Vec<usize> = wanted.map(|(index, _)| index).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let mut batches =
            builder.with_projection(mask).build().map_err(|source| failed("choosing its columns", source))?;
        while let Some(batch) = batches.try_next().await.map_err(|source| failed("reading it", source))? {
            let mut lines = Vec::new();
            append_lines(&batch, &mut lines).map_err(|source| failed("turning it into actions", source))?;
            visit(&lines).map_err(|reason| failed("understanding its actions", ParquetError::General(reason)))?;
        }
    }
    Ok(())
}

/// Appends one JSON line for each row that has one of our columns; all other rows are files.
pub(crate) fn append_lines(batch: &RecordBatch, lines: &mut Vec<u8>) -> Result<(), ParquetError> {
    let present = |row: usize| batch.columns().iter().any(|column| column.is_valid(row));
    let mask: BooleanArray = (0..batch.num_rows()).map(|row| Some(present(row))).collect();
    let actions = filter_record_batch(batch, &mask)?;
    let mut writer = LineDelimitedWriter::new(lines);
    writer.write(&actions)?;
    writer.finish()?;
    Ok(())
}

/// A Parquet file of the object store, read by ranges.
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
}

impl AsyncFileReader for Ranged {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        Box::pin(async move { Ok(self.objects.get_range(&self.path, range).await?) })
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        Box::pin(async move { Ok(self.objects.get_ranges(&self.path, &ranges).await?) })
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        Box::pin(async move {
            let size = self.size;
            let reader = ParquetMetaDataReader::new()
                .with_metadata_options(options.map(|options| options.metadata_options().clone()));
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        })
    }
}
