//! A row group as it lies in a file, to be taken into another without being decoded and encoded again.
//!
//! That is done with row groups that this version of Pintail has written for the very same columns, and that are too large to
//! gain anything by being joined with others. Their pages are decompressed, all of them, since a damaged one should be
//! found where it is and not carried on; what that costs is a tenth of writing them anew.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use deltalake::arrow::datatypes::Schema;
use deltalake::parquet::arrow::async_reader::AsyncFileReader;
use deltalake::parquet::basic::{Compression, Type};
use deltalake::parquet::column::page::{Page, PageReader};
use deltalake::parquet::column::writer::ColumnCloseResult;
use deltalake::parquet::errors::{ParquetError, Result};
use deltalake::parquet::file::metadata::{ColumnChunkMetaData, FileMetaData, RowGroupMetaData};
use deltalake::parquet::file::reader::{ChunkReader, Length};
use deltalake::parquet::file::serialized_reader::SerializedPageReader;
use deltalake::parquet::file::statistics::Statistics;
use deltalake::parquet::schema::types::SchemaDescriptor;

use super::encode::CREATED_BY;
use super::reading::Source;
use crate::limits::{COMPACT_GROUP_BYTES, ROW_GROUP_BYTES_MAX};

/// A row group that has come out of its file.
#[derive(Debug)]
pub(crate) struct StoredGroup {
    piece: Piece,
    metadata: RowGroupMetaData,
}

/// What stands in a file from `start` on.
#[derive(Debug, Clone)]
struct Piece {
    start: u64,
    bytes: Bytes,
}

impl StoredGroup {
    /// Fetches a row group and looks at each of its pages.
    pub async fn fetch(source: &mut Source, group: &RowGroupMetaData) -> Result<Self> {
        let Some(range) = range_of(group) else {
            return Err(ParquetError::General("a row group that is nowhere".to_owned()));
        };
        let (start, expected) = (range.start, range.end - range.start);
        let bytes = source.get_bytes(range).await?;
        if bytes.len() as u64 != expected {
            return Err(ParquetError::EOF(format!("{} of a row group's {expected} bytes", bytes.len())));
        }
        let stored = Self { piece: Piece { start, bytes }, metadata: group.clone() };
        stored.metadata.columns().iter().try_for_each(|column| stored.check(column))?;
        Ok(stored)
    }

    fn check(&self, column: &ColumnChunkMetaData) -> Result<()> {
        let mut pages = SerializedPageReader::new(Arc::new(self.piece.clone()), column, self.rows(), None)?;
        let mut values = 0;
        while let Some(page) = pages.get_next_page()? {
            values += match page {
                Page::DataPage { num_values, .. } | Page::DataPageV2 { num_values, .. } => i64::from(num_values),
                Page::DictionaryPage { .. } => 0,
            };
        }
        if values == column.num_values() {
            return Ok(());
        }
        let (name, expected) = (column.column_path().string(), column.num_values());
        Err(ParquetError::General(format!("{name} holds {expected} values by the footer, and {values} are there")))
    }

    /// By the footer.
    pub fn rows(&self) -> usize {
        usize::try_from(self.metadata.num_rows()).unwrap_or(0)
    }

    /// Bytes of its pages.
    pub fn bytes(&self) -> usize {
        self.piece.bytes.len()
    }

    /// Nulls by column; `None` where the file's footer does not say it, since values lie in lists.
    pub fn nulls(&self, schema: &Schema) -> Vec<Option<usize>> {
        let nulls = |name: &String| {
            let column =
                self.metadata.columns().iter().find(|column| column.column_path().parts() == [name.as_str()])?;
            column.statistics()?.null_count_opt().and_then(|nulls| usize::try_from(nulls).ok())
        };
        schema.fields().iter().map(|field| nulls(field.name())).collect()
    }

    /// Its columns, for a row group of another file.
    pub fn columns(&self) -> impl Iterator<Item = (&(impl ChunkReader + use<>), ColumnCloseResult)> {
        self.metadata.columns().iter().map(|column| {
            let close = ColumnCloseResult {
                bytes_written: column.compressed_size().unsigned_abs(),
                rows_written: self.metadata.num_rows().unsigned_abs(),
                metadata: column.clone(),
                bloom_filter: None,
                column_index: None,
                offset_index: None,
            };
            (&self.piece, close)
        })
    }
}

impl Length for Piece {
    fn len(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl Piece {
    fn from(&self, start: u64) -> Result<Bytes> {
        let at = start.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        match at.filter(|at| *at <= self.bytes.len()) {
            Some(at) => Ok(self.bytes.slice(at..)),
            None => Err(ParquetError::EOF(format!("byte {start} is not in the row group"))),
        }
    }
}

impl ChunkReader for Piece {
    type T = <Bytes as ChunkReader>::T;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        self.from(start)?.get_read(0)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let mut rest = self.from(start)?;
        match length <= rest.len() {
            true => Ok(rest.split_to(length)),
            false => Err(ParquetError::EOF(format!("{length} bytes from {start} on are not in the row group"))),
        }
    }
}

/// Whether a row group of this file can be one of a file with these columns as it is, and is large enough to stay one.
pub(crate) fn is_to_be_copied(file: &FileMetaData, group: &RowGroupMetaData, wanted: &SchemaDescriptor) -> bool {
    let is_ours = file.created_by() == Some(CREATED_BY) && file.schema_descr().columns() == wanted.columns();
    is_ours && is_large(group) && group.columns().iter().all(is_usual)
}

/// What our files have, and what the `add` of another file has to be told.
fn is_usual(column: &ColumnChunkMetaData) -> bool {
    let is_counted = column.statistics().is_some_and(|statistics| Statistics::null_count_opt(statistics).is_some());
    is_counted && matches!(column.compression(), Compression::ZSTD(_)) && column.bloom_filter_offset().is_none()
}

/// At least half as large as our row groups become, and small enough to be held at once.
fn is_large(group: &RowGroupMetaData) -> bool {
    let compressed = group.compressed_size().unsigned_abs();
    let decoded: u64 = group.columns().iter().map(decoded_bytes).sum();
    let fills = compressed >= COMPACT_GROUP_BYTES as u64 / 2 || decoded >= ROW_GROUP_BYTES_MAX as u64 / 2;
    fills && range_of(group).is_some_and(|range| range.end - range.start <= 2 * COMPACT_GROUP_BYTES as u64)
}

/// What the values take in Arrow's arrays.
fn decoded_bytes(column: &ColumnChunkMetaData) -> u64 {
    let values = column.num_values().unsigned_abs();
    match column.column_type() {
        Type::BOOLEAN => values / 8,
        Type::INT32 | Type::FLOAT => 4 * values,
        Type::INT64 | Type::DOUBLE => 8 * values,
        Type::INT96 | Type::FIXED_LEN_BYTE_ARRAY => 16 * values,
        Type::BYTE_ARRAY => {
            let texts = column.unencoded_byte_array_data_bytes().unwrap_or(column.uncompressed_size());
            4 * values + texts.unsigned_abs()
        }
    }
}

/// Where its columns are, from the first to the last; `None` if the footer's numbers cannot be.
fn range_of(group: &RowGroupMetaData) -> Option<Range<u64>> {
    let range = |column: &ColumnChunkMetaData| {
        let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        let (start, bytes) = (u64::try_from(start).ok()?, u64::try_from(column.compressed_size()).ok()?);
        Some(start..start.checked_add(bytes)?)
    };
    group.columns().iter().map(range).reduce(|all, column| {
        let (all, column) = (all?, column?);
        Some(all.start.min(column.start)..all.end.max(column.end))
    })?
}
