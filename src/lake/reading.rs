//! A Parquet file of the store that is to be read: a small one is fetched whole, which is one request instead of one for
//! its footer and one for each column; a large one is read by ranges.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use deltalake::parquet::arrow::arrow_reader::ArrowReaderOptions;
use deltalake::parquet::arrow::async_reader::AsyncFileReader;
use deltalake::parquet::errors::{ParquetError, Result};
use deltalake::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use futures::future::BoxFuture;
use object_store::ObjectMeta;

use super::checkpoint::Ranged;
use super::error::LakeError;
use super::store::LakeStore;
use crate::limits::READ_WHOLE_BYTES_MAX;

/// Where the bytes of a file come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Whole(Bytes),
    Ranged(Ranged),
}

impl Source {
    /// Finds a file of a table, and what the store says of it; `None` if it is not there.
    pub async fn of(
        store: &LakeStore,
        table: &str,
        path: &str,
        size: u64,
    ) -> std::result::Result<Option<(Self, ObjectMeta)>, LakeError> {
        let location = store.path(table, path);
        if size <= READ_WHOLE_BYTES_MAX {
            return Ok(store.read(&location).await?.map(|(bytes, meta)| (Self::Whole(bytes), meta)));
        }
        let found = store.head(&location).await?;
        Ok(found.map(|meta| (Self::Ranged(Ranged::new(store, meta.location.clone(), meta.size)), meta)))
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
