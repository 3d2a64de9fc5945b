//! A file that is to be merged with others, read a batch at a time.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use deltalake::arrow::datatypes::SchemaRef;
use deltalake::parquet::arrow::arrow_reader::ArrowReaderOptions;
use deltalake::parquet::arrow::async_reader::{
    AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder,
};
use deltalake::parquet::errors::{ParquetError, Result};
use deltalake::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use futures::future::BoxFuture;
use object_store::ObjectMeta;

use super::choose::SmallFile;
use crate::lake::checkpoint::Ranged;
use crate::lake::error::LakeError;
use crate::lake::store::LakeStore;
use crate::limits::{COMPACT_BATCH_BYTES, COMPACT_WHOLE_BYTES_MAX};

const BATCH_ROWS_MAX: u64 = 8192;

/// A file in the store, a small one already here.
pub(super) struct Fetched {
    pub meta: ObjectMeta,
    source: Source,
}

pub(super) enum Source {
    Whole(Bytes),
    Ranged(Ranged),
}

/// Finds a file, and fetches it if it is small: one request instead of one for its footer and one for each column.
/// `None`: there is none.
pub(super) async fn fetch(
    store: &LakeStore,
    table: &str,
    file: &SmallFile,
) -> std::result::Result<Option<Fetched>, LakeError> {
    let location = store.path(table, &file.path);
    let found = if file.size <= COMPACT_WHOLE_BYTES_MAX {
        store.read(&location).await?.map(|(bytes, meta)| (Source::Whole(bytes), meta))
    } else {
        let found = store.head(&location).await?;
        found.map(|meta| (Source::Ranged(Ranged::new(store, meta.location.clone(), meta.size)), meta))
    };
    Ok(found.map(|(source, meta)| Fetched { meta, source }))
}

/// An opened file.
pub(super) struct Input {
    builder: ParquetRecordBatchStreamBuilder<Source>,
}

impl Input {
    /// Its types are those of its Parquet columns, not what its writer's Arrow made of them.
    pub async fn open(fetched: Fetched) -> Result<Self> {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = ParquetRecordBatchStreamBuilder::new_with_options(fetched.source, options).await?;
        Ok(Self { builder })
    }

    pub fn schema(&self) -> SchemaRef {
        Arc::clone(self.builder.schema())
    }

    /// By its footer.
    pub fn rows(&self) -> usize {
        usize::try_from(self.builder.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// All its rows, in batches that are bounded by the size of a row, on average where that is largest.
    pub fn batches(self) -> Result<ParquetRecordBatchStream<Source>> {
        let groups = self.builder.metadata().row_groups().iter();
        let row_bytes =
            groups.map(|group| group.total_byte_size().unsigned_abs() / group.num_rows().unsigned_abs().max(1));
        let rows = (COMPACT_BATCH_BYTES / row_bytes.max().unwrap_or(1).max(1)).clamp(1, BATCH_ROWS_MAX);
        self.builder.with_batch_size(usize::try_from(rows).unwrap_or(1)).build()
    }
}

impl AsyncFileReader for Source {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        match self {
            Self::Whole(bytes) => {
                let found = slice(bytes, &range);
                Box::pin(async move { found })
            }
            Self::Ranged(ranged) => ranged.get_bytes(range),
        }
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        match self {
            Self::Whole(bytes) => {
                let found = ranges.iter().map(|range| slice(bytes, range)).collect();
                Box::pin(async move { found })
            }
            Self::Ranged(ranged) => ranged.get_byte_ranges(ranges),
        }
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        match self {
            Self::Whole(bytes) => {
                let found = ParquetMetaDataReader::new().parse_and_finish(bytes).map(Arc::new);
                Box::pin(async move { found })
            }
            Self::Ranged(ranged) => ranged.get_metadata(options),
        }
    }
}

fn slice(bytes: &Bytes, range: &Range<u64>) -> Result<Bytes> {
    let within = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
    match within.filter(|(start, end)| start <= end && *end <= bytes.len()) {
        Some((start, end)) => Ok(bytes.slice(start..end)),
        None => Err(ParquetError::EOF(format!("{range:?} of {} bytes", bytes.len()))),
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
        let batches: Vec<RecordBatch> = input.batches().unwrap().try_collect().await.unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 100_008);
        assert!(batches.iter().all(|batch| batch.num_rows() <= 2));
    }
}
