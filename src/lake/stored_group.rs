//! A row group as it lies in a file, to be taken into another without being encoded and compressed anew.
//!
//! That is done with row groups that this version of Pintail has written for the very same columns, and that would gain
//! nothing by being joined with others. Each value is decoded all the same and held against what the footer says: damage is
//! to be found where it is and not carried on, and what the footer says becomes what the table's log says of the new file.
//! What is told of a column that nobody here compares with its values stays behind.

use std::ops::Range;

use bytes::Bytes;
use deltalake::arrow::array::RecordBatch;
use deltalake::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use deltalake::parquet::arrow::async_reader::AsyncFileReader;
use deltalake::parquet::basic::{Compression, Type};
use deltalake::parquet::column::writer::ColumnCloseResult;
use deltalake::parquet::errors::{ParquetError, Result};
use deltalake::parquet::file::metadata::{ColumnChunkMetaData, FileMetaData, RowGroupMetaData};
use deltalake::parquet::file::reader::{ChunkReader, Length};
use deltalake::parquet::file::writer::SerializedRowGroupWriter;
use deltalake::parquet::schema::types::SchemaDescriptor;

use super::checksums::Checksums;
use super::encode::{CREATED_BY, DATA_PAGE_BYTES};
use super::reading::Source;
use super::stats::{Counts, Ends, ends};
use crate::limits::{COMPACT_GROUP_BYTES, ROW_GROUP_BYTES_MAX};

/// A row group that has come out of its file.
#[derive(Debug)]
pub(crate) struct StoredGroup {
    piece: Piece,
    /// Of its rows, which were all looked at.
    pub counts: Counts,
    /// What is told of its columns, as far as it was found to be so.
    columns: Vec<ColumnChunkMetaData>,
}

/// What stands in a file from `start` on.
#[derive(Debug, Clone)]
struct Piece {
    start: u64,
    bytes: Bytes,
}

impl StoredGroup {
    /// Fetches a row group and looks at each of its values, so many rows at a time.
    pub async fn fetch(
        source: &mut Source,
        file: &ArrowReaderMetadata,
        group: usize,
        batch_rows: usize,
    ) -> Result<Self> {
        let metadata = file.metadata().row_group(group).clone();
        let Some(range) = range_of(&metadata) else {
            return Err(ParquetError::General("a row group whose columns are not one after the other".to_owned()));
        };
        let (start, expected) = (range.start, range.end - range.start);
        let bytes = source.get_bytes(range).await?;
        if bytes.len() as u64 != expected {
            return Err(ParquetError::EOF(format!("{} of a row group's {expected} bytes", bytes.len())));
        }
        if let Some(checksums) = Checksums::of(file.metadata().file_metadata())? {
            checksums.check(group, &bytes)?;
        }
        let piece = Piece { start, bytes };
        let (counts, columns) = checked(&piece, &metadata, file, group, batch_rows)?;
        Ok(Self { piece, counts, columns })
    }

    /// Bytes of its pages.
    pub fn bytes(&self) -> usize {
        self.piece.bytes.len()
    }

    /// Makes it a row group of another file.
    pub fn append_to<W: std::io::Write + Send>(&self, group: &mut SerializedRowGroupWriter<'_, W>) -> Result<()> {
        self.columns.iter().try_for_each(|column| {
            let close = ColumnCloseResult {
                bytes_written: column.compressed_size().unsigned_abs(),
                rows_written: self.counts.rows as u64,
                metadata: column.clone(),
                bloom_filter: None,
                column_index: None,
                offset_index: None,
            };
            group.append_column(&self.piece, close)
        })
    }
}

/// Decodes all of a row group, which has to be as its footer says: its rows and nulls, and its columns as far as that
/// is so.
fn checked(
    piece: &Piece,
    metadata: &RowGroupMetaData,
    file: &ArrowReaderMetadata,
    group: usize,
    batch_rows: usize,
) -> Result<(Counts, Vec<ColumnChunkMetaData>)> {
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(piece.clone(), file.clone());
    let reader = reader.with_row_groups(vec![group]).with_batch_size(batch_rows).build()?;
    let mut counts = Counts::default();
    let mut columns: Vec<Checked<'_>> = metadata.columns().iter().map(|column| Checked::new(column, file)).collect();
    for batch in reader {
        let batch = batch?;
        counts.add(&batch);
        columns.iter_mut().try_for_each(|column| column.look_at(&batch))?;
    }
    let expected = metadata.num_rows();
    if i64::try_from(counts.rows) != Ok(expected) {
        let found = counts.rows;
        return Err(ParquetError::General(format!(
            "{expected} rows of a row group by the footer, and {found} are there"
        )));
    }
    let columns = columns.into_iter().map(|column| column.confirmed(&counts)).collect::<Result<_>>()?;
    Ok((counts, columns))
}

/// A leaf of a row group while its values are looked at.
struct Checked<'a> {
    told: &'a ColumnChunkMetaData,
    /// Which of the columns it is, if it is all of one.
    whole: Option<usize>,
    /// Whether values have been compared with what it is told to end with, and were one or the other of these.
    compared: bool,
    least: bool,
    greatest: bool,
}

impl<'a> Checked<'a> {
    fn new(told: &'a ColumnChunkMetaData, file: &ArrowReaderMetadata) -> Self {
        let path = told.column_path().parts();
        let whole = file.schema().fields().iter().position(|field| path == [field.name().as_str()]);
        Self { told, whole, compared: false, least: false, greatest: false }
    }

    fn look_at(&mut self, batch: &RecordBatch) -> Result<()> {
        let Some((statistics, column)) = self.told.statistics().zip(self.whole) else { return Ok(()) };
        match ends(statistics, batch.column(column)) {
            Ends::Untold => Ok(()),
            Ends::Exceeded => Err(self.wrong("a value is beyond its footer's bounds")),
            Ends::Kept { least, greatest } => {
                self.compared = true;
                self.least |= least;
                self.greatest |= greatest;
                Ok(())
            }
        }
    }

    /// What is told of the leaf and was found to be so.
    fn confirmed(self, counts: &Counts) -> Result<ColumnChunkMetaData> {
        let usual = self.told.clone().into_builder().set_repetition_level_histogram(None);
        let usual = usual.set_definition_level_histogram(None);
        let Some((statistics, column)) = self.told.statistics().zip(self.whole) else {
            return usual.clear_statistics().build();
        };
        let nulls = counts.nulls(column) as u64;
        if statistics.null_count_opt().is_some_and(|told| told != nulls) {
            return Err(self.wrong("its nulls are not as many as its footer counts"));
        }
        if self.told.num_values().unsigned_abs() != counts.rows as u64 {
            return Err(self.wrong("its values are not as many as its footer counts"));
        }
        let is_missed = statistics.min_is_exact() && !self.least || statistics.max_is_exact() && !self.greatest;
        if self.compared && is_missed {
            return Err(self.wrong("none of its values is the bound that its footer tells"));
        }
        let has_none = statistics.min_bytes_opt().is_none() && statistics.max_bytes_opt().is_none();
        if self.compared || has_none { usual.build() } else { usual.clear_statistics().build() }
    }

    fn wrong(&self, what: &str) -> ParquetError {
        ParquetError::General(format!("column {}: {what}", self.told.column_path()))
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

/// Whether row groups of this file can be of one with these columns as they are.
pub(crate) fn may_be_copied(file: &FileMetaData, wanted: &SchemaDescriptor) -> bool {
    file.created_by() == Some(CREATED_BY) && file.schema_descr().columns() == wanted.columns()
}

/// Whether a row group is large enough to stay one, small enough to be held at once, and as we write it.
pub(crate) fn is_to_be_copied(group: &RowGroupMetaData) -> bool {
    let (filled, decoded) = group.columns().iter().fold((0_u64, 0_u64), |(filled, decoded), column| {
        (filled.saturating_add(filled_bytes(column)), decoded.saturating_add(decoded_bytes(column)))
    });
    let is_large = filled >= COMPACT_GROUP_BYTES as u64 / 2 || decoded >= ROW_GROUP_BYTES_MAX as u64 / 3;
    let is_usual = |column: &ColumnChunkMetaData| {
        matches!(column.compression(), Compression::ZSTD(_) | Compression::UNCOMPRESSED)
            && column.bloom_filter_offset().is_none()
    };
    let fits = || range_of(group).is_some_and(|range| range.end - range.start <= 2 * COMPACT_GROUP_BYTES as u64);
    is_large && group.columns().iter().all(is_usual) && fits()
}

/// What a column's writer holds of it before the row group ends, by which row groups end: its finished pages, and what has
/// not become a page yet.
fn filled_bytes(column: &ColumnChunkMetaData) -> u64 {
    let (compressed, uncompressed) =
        (column.compressed_size().unsigned_abs(), column.uncompressed_size().unsigned_abs());
    if uncompressed < DATA_PAGE_BYTES as u64 { uncompressed } else { compressed }
}

/// What the values take in Arrow's arrays, by which row groups end, too.
fn decoded_bytes(column: &ColumnChunkMetaData) -> u64 {
    let values = column.num_values().unsigned_abs();
    match column.column_type() {
        Type::BOOLEAN => values / 8,
        Type::INT32 | Type::FLOAT => values.saturating_mul(4),
        Type::INT64 | Type::DOUBLE => values.saturating_mul(8),
        Type::INT96 | Type::FIXED_LEN_BYTE_ARRAY => values.saturating_mul(16),
        Type::BYTE_ARRAY => {
            let texts = column.unencoded_byte_array_data_bytes().unwrap_or(column.uncompressed_size());
            values.saturating_mul(4).saturating_add(texts.unsigned_abs())
        }
    }
}

/// Where its columns are, one after the other; `None` if the footer says anything else.
pub(crate) fn range_of(group: &RowGroupMetaData) -> Option<Range<u64>> {
    let mut all: Option<Range<u64>> = None;
    for column in group.columns() {
        let (dictionary, data) = (column.dictionary_page_offset(), column.data_page_offset());
        let start = u64::try_from(dictionary.unwrap_or(data)).ok()?;
        let end = start.checked_add(u64::try_from(column.compressed_size()).ok()?)?;
        let holds_data = u64::try_from(data).is_ok_and(|data| (start..end).contains(&data));
        let first = all.as_ref().map_or(start, |all| all.start);
        if !holds_data || all.is_some_and(|all| all.end != start) {
            return None;
        }
        all = Some(first..end);
    }
    all
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use deltalake::arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int64Array, StringArray};
    use deltalake::parquet::arrow::arrow_reader::ArrowReaderOptions;
    use deltalake::parquet::file::metadata::{ColumnChunkMetaDataBuilder, ParquetMetaData, ParquetMetaDataReader};
    use deltalake::parquet::file::statistics::Statistics;

    use super::*;
    use crate::lake::encode::encode;
    use crate::lake::partition::Partition;

    fn file() -> (Bytes, ParquetMetaData) {
        let numbers = (0..20_000).map(|n| (n % 10 != 0).then_some(n));
        let columns: [(&str, ArrayRef); 4] = [
            ("n", Arc::new(Int64Array::from_iter(numbers))),
            ("text", Arc::new(StringArray::from_iter_values((0..20_000).map(|n| format!("{n:01000}"))))),
            (
                "x",
                Arc::new(Float64Array::from_iter_values(
                    (0..20_000).map(|n| if n == 7 { f64::NAN } else { f64::from(n) }),
                )),
            ),
            ("sum", Arc::new(Decimal128Array::from_iter_values((0..20_000).map(i128::from)))),
        ];
        let batches = vec![RecordBatch::try_from_iter(columns).unwrap()];
        let bytes = encode(&Partition { day: None, batches }).unwrap().bytes;
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
        (bytes, metadata)
    }

    /// The footer with one column's entry changed, and another number of rows.
    fn forged(
        metadata: &ParquetMetaData,
        column: usize,
        change: impl Fn(ColumnChunkMetaDataBuilder) -> ColumnChunkMetaDataBuilder,
        rows: i64,
    ) -> ParquetMetaData {
        let group = metadata.row_group(0).clone();
        let mut columns = group.columns().to_vec();
        columns[column] = change(columns[column].clone().into_builder()).build().unwrap();
        let group = group.into_builder().set_column_metadata(columns).set_num_rows(rows).build().unwrap();
        metadata.clone().into_builder().set_row_groups(vec![group]).build()
    }

    async fn fetch(bytes: &Bytes, metadata: &ParquetMetaData) -> Result<StoredGroup> {
        let file = ArrowReaderMetadata::try_new(Arc::new(metadata.clone()), ArrowReaderOptions::new()).unwrap();
        StoredGroup::fetch(&mut Source::Whole(bytes.clone()), &file, 0, 1_000).await
    }

    #[tokio::test]
    async fn a_row_group_whose_footer_tells_the_truth_comes_with_its_counts() {
        let (bytes, metadata) = file();
        assert!(is_to_be_copied(metadata.row_group(0)));
        let stored = fetch(&bytes, &metadata).await.unwrap();
        let mut expected = Counts::default();
        let batches = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
        batches.for_each(|batch| expected.add(&batch.unwrap()));
        assert_eq!((stored.counts.rows, &stored.counts), (20_000, &expected));
        let told = metadata.row_group(0).columns();
        for (column, told) in stored.columns.iter().zip(told).take(3) {
            assert_eq!((column.statistics(), told.statistics().is_some()), (told.statistics(), true));
        }
        let unchecked = &stored.columns[3];
        assert!(told[3].statistics().is_some() && unchecked.statistics().is_none(), "nobody looked at sums");
        assert!(stored.columns.iter().all(|column| column.definition_level_histogram().is_none()));
    }

    #[tokio::test]
    async fn a_row_group_whose_footer_does_not_is_refused() {
        let (bytes, metadata) = file();
        let numbers = |min, max, nulls| Statistics::int64(Some(min), Some(max), None, Some(nulls), false);
        let texts = Statistics::byte_array(Some(vec![b'0'].into()), Some(vec![b'0'].into()), None, Some(0), false);
        let (beyond, none_is) = ("is beyond its footer's bounds", "none of its values is the bound");
        let lies = [
            (beyond, 0, numbers(1, 19_998, 2_000)),
            (beyond, 0, numbers(2, 19_999, 2_000)),
            (beyond, 1, texts),
            (beyond, 2, Statistics::double(Some(0.0), Some(19_998.0), None, Some(0), false)),
            (none_is, 0, numbers(-5, 19_999, 2_000)),
            (none_is, 0, numbers(1, 1 << 40, 2_000)),
            ("nulls are not as many", 0, numbers(1, 19_999, 0)),
            ("nulls are not as many", 0, numbers(1, 19_999, 20_000)),
        ];
        for (lie, column, statistics) in lies {
            let forged = forged(&metadata, column, |entry| entry.set_statistics(statistics.clone()), 20_000);
            let told = fetch(&bytes, &forged).await.map(|_| ()).unwrap_err().to_string();
            assert!(told.contains(lie), "{statistics:?}: {told}");
        }
        for values in [19_999, 20_001] {
            let forged = forged(&metadata, 1, |entry| entry.set_num_values(values), 20_000);
            assert!(fetch(&bytes, &forged).await.is_err(), "{values} values by the footer");
        }
        for rows in [19_999, 20_001] {
            let told = fetch(&bytes, &forged(&metadata, 0, |entry| entry, rows)).await.map(|_| ()).unwrap_err();
            assert!(!told.to_string().is_empty(), "{rows} rows by the footer");
        }
        let Statistics::Int64(wide) = numbers(-5, 1 << 40, 2_000) else { panic!("no numbers") };
        let wide = Statistics::Int64(wide.with_min_is_exact(false).with_max_is_exact(false));
        let wide = forged(&metadata, 0, |entry| entry.set_statistics(wide.clone()), 20_000);
        assert!(fetch(&bytes, &wide).await.is_ok(), "a bound that is not exact may be wider than the truth");
    }

    #[test]
    fn columns_that_do_not_lie_one_after_the_other_are_not_copied() {
        let (_, metadata) = file();
        let first = metadata.row_group(0).column(0).clone();
        let same_place = |entry: ColumnChunkMetaDataBuilder| {
            entry
                .set_data_page_offset(first.data_page_offset())
                .set_dictionary_page_offset(first.dictionary_page_offset())
                .set_total_compressed_size(first.compressed_size())
        };
        type Change<'a> = &'a dyn Fn(ColumnChunkMetaDataBuilder) -> ColumnChunkMetaDataBuilder;
        let changes: [(&str, Change<'_>); 5] = [
            ("twice the same", &same_place),
            ("far away", &|entry| entry.set_data_page_offset(1 << 40).set_dictionary_page_offset(None)),
            ("before the file", &|entry| entry.set_data_page_offset(-7).set_dictionary_page_offset(None)),
            ("of no size", &|entry| entry.set_total_compressed_size(-1)),
            ("dictionary without data", &|entry| {
                entry.set_dictionary_page_offset(Some(first.data_page_offset())).set_data_page_offset(1 << 40)
            }),
        ];
        for (name, change) in changes {
            for column in [1, 2] {
                let forged = forged(&metadata, column, change, 20_000);
                assert!(!is_to_be_copied(forged.row_group(0)), "{name}, column {column}");
            }
        }
    }
}
