//! A file that is to be merged with others, read a row group or a batch at a time.

use std::sync::Arc;

use deltalake::arrow::datatypes::SchemaRef;
use deltalake::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use deltalake::parquet::arrow::async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use deltalake::parquet::errors::Result;
use deltalake::parquet::schema::types::SchemaDescriptor;
use object_store::ObjectMeta;

use super::choose::SmallFile;
use crate::lake::encode::CREATED_BY;
use crate::lake::error::LakeError;
use crate::lake::reading::Source;
use crate::lake::store::LakeStore;
use crate::lake::stored_group::{StoredGroup, is_to_be_copied, may_be_copied};
use crate::limits::COMPACT_BATCH_BYTES;

/// More of usual rows would be larger columns than the allocator keeps, and new memory for each batch.
const BATCH_ROWS_MAX: u64 = 1024;

/// A file in the store, a small one already here.
pub(super) struct Fetched {
    pub meta: ObjectMeta,
    source: Source,
}

/// Finds a file, and fetches it if it is small. `None`: there is none.
pub(super) async fn fetch(
    store: LakeStore,
    table: String,
    file: SmallFile,
) -> std::result::Result<(SmallFile, Option<Fetched>), LakeError> {
    let found = Source::of(&store, &table, &file.path, file.size).await?;
    Ok((file, found.map(|(source, meta)| Fetched { meta, source })))
}

/// An opened file.
pub(super) struct Input {
    source: Source,
    metadata: ArrowReaderMetadata,
}

/// Row groups of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// One that is copied as it is.
    Stored(usize),
    /// Some whose rows are.
    Rows(Vec<usize>),
}

impl Input {
    /// Its types are those of its Parquet columns, not what its writer's Arrow made of them.
    pub async fn open(fetched: Fetched) -> Result<Self> {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let mut source = fetched.source;
        let metadata = ArrowReaderMetadata::load_async(&mut source, options).await?;
        Ok(Self { source, metadata })
    }

    pub fn schema(&self) -> SchemaRef {
        Arc::clone(self.metadata.schema())
    }

    /// Whether this version of Pintail has written it.
    pub fn is_ours(&self) -> bool {
        self.metadata.metadata().file_metadata().created_by() == Some(CREATED_BY)
    }

    /// By its footer.
    pub fn rows(&self) -> usize {
        usize::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// All its row groups in their order, for a file with these columns.
    pub fn parts(&self, wanted: &SchemaDescriptor) -> Vec<Part> {
        let (file, groups) = (self.metadata.metadata().file_metadata(), self.metadata.metadata().row_groups());
        let (may_be_copied, mut parts) = (may_be_copied(file, wanted), Vec::new());
        for (index, group) in groups.iter().enumerate() {
            match parts.last_mut() {
                _ if may_be_copied && is_to_be_copied(group) => parts.push(Part::Stored(index)),
                Some(Part::Rows(indexes)) => indexes.push(index),
                Some(Part::Stored(_)) | None => parts.push(Part::Rows(vec![index])),
            }
        }
        parts
    }

    /// A row group as it is.
    pub async fn stored(&mut self, group: usize) -> Result<StoredGroup> {
        let batch_rows = self.batch_rows(&[group]);
        StoredGroup::fetch(&mut self.source, &self.metadata, group, batch_rows).await
    }

    /// The rows of these row groups.
    pub fn batches(&self, groups: Vec<usize>) -> Result<ParquetRecordBatchStream<Source>> {
        let batch_rows = self.batch_rows(&groups);
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.source.clone(), self.metadata.clone());
        builder.with_row_groups(groups).with_batch_size(batch_rows).build()
    }

    /// Rows that are decoded at a time, bounded by the size of a row, on average where that is largest.
    fn batch_rows(&self, groups: &[usize]) -> usize {
        let row_bytes = groups.iter().map(|group| {
            let group = self.metadata.metadata().row_group(*group);
            group.total_byte_size().unsigned_abs() / group.num_rows().unsigned_abs().max(1)
        });
        let rows = (COMPACT_BATCH_BYTES / row_bytes.max().unwrap_or(1).max(1)).clamp(1, BATCH_ROWS_MAX);
        usize::try_from(rows).unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use deltalake::arrow::array::{ArrayRef, BinaryArray, RecordBatch};
    use deltalake::parquet::arrow::ArrowWriter;
    use deltalake::parquet::file::properties::WriterProperties;
    use futures::TryStreamExt;
    use object_store::path::Path;

    use super::*;

    #[tokio::test]
    async fn a_few_huge_rows_among_many_small_ones_are_read_a_few_at_a_time() {
        let values = |count: u32, bytes: usize| {
            let value = |row: u32| row.to_le_bytes().repeat(bytes / 4);
            let column: ArrayRef = Arc::new(BinaryArray::from_iter_values((0..count).map(value)));
            RecordBatch::try_from_iter([("payload", column)]).unwrap()
        };
        let properties = WriterProperties::builder().set_dictionary_enabled(false).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), values(0, 4).schema(), Some(properties)).unwrap();
        for batch in [values(100_000, 4), values(8, 2 << 20)] {
            writer.write(&batch).unwrap();
            writer.flush().unwrap();
        }
        let bytes = writer.into_inner().unwrap();
        let meta = ObjectMeta {
            location: Path::from("x"),
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size: bytes.len() as u64,
            e_tag: None,
            version: None,
        };
        let input = Input::open(Fetched { meta, source: Source::Whole(bytes.into()) }).await.unwrap();
        let batches: Vec<RecordBatch> = input.batches(vec![0, 1]).unwrap().try_collect().await.unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 100_008);
        assert!(batches.iter().all(|batch| batch.num_rows() <= 2));
    }
}
