//! From record batches to the bytes of a Parquet file.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use deltalake::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use deltalake::arrow::datatypes::{Field, SchemaRef};
use deltalake::parquet::arrow::ArrowWriter;
use deltalake::parquet::arrow::arrow_writer::{ArrowColumnWriter, compute_leaves};
use deltalake::parquet::basic::{Compression, Encoding, ZstdLevel};
use deltalake::parquet::errors::ParquetError;
use deltalake::parquet::file::metadata::RowGroupMetaData;
use deltalake::parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use deltalake::parquet::file::writer::SerializedRowGroupWriter;
use uuid::Uuid;

use super::checksums::Checksums;
use super::partition::{Partition, split};
use super::sample::set_form;
use super::stats::{Counts, stats_json};
use super::stored_group::range_of;
use crate::limits::{PARTITIONS_PER_COMMIT_MAX, ROW_GROUP_BYTES_MAX};

/// Who wrote a file, in the form that the Parquet format wants (`FileMetaData.created_by`): Java readers that cannot read it take
/// the writer for one whose differences between texts are broken (PARQUET-246), and refuse the file.
pub(crate) const CREATED_BY: &str = concat!("pintail version ", env!("CARGO_PKG_VERSION"));

/// How large a page of values becomes before it is compressed. The codec finds nearly all that it finds in a page of twice
/// the size, and what a page is made of stays in the processor's cache.
pub(crate) const DATA_PAGE_BYTES: usize = 512 * 1024;

/// A file, and what its `add` says of it.
pub(crate) struct Encoded {
    pub path: String,
    pub partition: Option<String>,
    pub bytes: Bytes,
    pub stats: String,
    pub rows: u64,
}

/// The files that a commit would upload for these rows, for whoever measures what they cost.
pub fn encoded_files(rows: &[RecordBatch]) -> Result<Vec<Bytes>, ParquetError> {
    let (partitions, _) = split(rows, PARTITIONS_PER_COMMIT_MAX)?;
    let filled = partitions.iter().filter(|partition| partition.rows() > 0);
    filled.map(|partition| encode(partition).map(|file| file.bytes)).collect()
}

/// Writes the file of a partition, whole, in memory.
pub(crate) fn encode(partition: &Partition) -> Result<Encoded, ParquetError> {
    let schema = partition.batches.first().map(RecordBatch::schema);
    let schema: SchemaRef = schema.ok_or_else(|| ParquetError::General("a partition without batches".to_owned()))?;
    // The largest: what is unusually long is in it.
    let sample = partition.batches.iter().max_by_key(|batch| batch.get_array_memory_size());
    let column_bytes = |index: usize| partition.batches.iter().map(|batch| decoded_bytes(batch.column(index))).sum();
    let properties =
        sample.iter().fold(usual_properties()?, |usual, sample| formed(usual, &schema, sample, column_bytes));
    // Most of what is encoded is text, and becomes half of it or less: what grows is copied again and again.
    let mut bytes =
        Vec::with_capacity(partition.batches.iter().map(RecordBatch::get_array_memory_size).sum::<usize>() / 2);
    let writer = ArrowWriter::try_new(&mut bytes, Arc::clone(&schema), Some(properties.build()))?;
    let (mut writer, columns) = writer.into_serialized_writer()?;
    let (mut counts, mut checksums) = (Counts::default(), Checksums::default());
    for (index, batches) in row_groups(&partition.batches).into_iter().enumerate() {
        let mut group = writer.next_row_group()?;
        write_group(&mut group, &batches, columns.create_column_writers(index)?)?;
        let group = group.close()?;
        writer.flush()?;
        checksums.add(written(&group, 0, writer.inner())?);
        batches.iter().for_each(|batch| counts.add(batch));
    }
    writer.append_key_value_metadata(checksums.entry());
    let file = writer.close()?;
    let stats = stats_json(&schema, &counts, &file);
    Ok(Encoded {
        path: format!("{}/part-{}.zstd.parquet", partition.folder(), Uuid::new_v4()),
        partition: partition.day_text(),
        bytes: Bytes::from(bytes),
        stats,
        rows: counts.rows as u64,
    })
}

/// The bytes of a row group that was just written, in those of its file from `begin` on.
pub(crate) fn written<'a>(group: &RowGroupMetaData, begin: u64, bytes: &'a [u8]) -> Result<&'a [u8], ParquetError> {
    let within = |place: u64| usize::try_from(place.checked_sub(begin)?).ok();
    let found = range_of(group).and_then(|range| bytes.get(within(range.start)?..within(range.end)?));
    found.ok_or_else(|| ParquetError::General("a row group is not where it was written".to_owned()))
}

/// Writes the columns of a row group one after the other: what the pages of one were made in is still in the processor's
/// cache, and is no new memory, when the next one is made.
fn write_group<W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    batches: &[RecordBatch],
    writers: Vec<ArrowColumnWriter>,
) -> Result<(), ParquetError> {
    let schema = batches.first().map(RecordBatch::schema);
    let fields = schema.iter().flat_map(|schema| schema.fields().iter().enumerate());
    for ((index, field), mut writer) in fields.zip(writers) {
        batches.iter().try_for_each(|batch| write_column(&mut writer, field, batch.column(index)))?;
        writer.close()?.append_to_row_group(group)?;
    }
    Ok(())
}

/// Writers of a row group's columns, by a sample of its rows.
pub(crate) fn column_writers(
    schema: &SchemaRef,
    sample: &RecordBatch,
    index: usize,
) -> Result<Vec<ArrowColumnWriter>, ParquetError> {
    // Of a file's writer they would all have the form of its first rows. There is no other public way to them than one
    // more, of which nothing is ever written.
    // How many more rows there will be nobody knows.
    let properties = formed(usual_properties()?, schema, sample, |_column| usize::MAX).build();
    let writer = ArrowWriter::try_new(std::io::sink(), Arc::clone(schema), Some(properties))?;
    writer.into_serialized_writer()?.1.create_column_writers(index)
}

/// Writes values of a column that is no structure of several: it is one leaf, and has one writer.
pub(crate) fn write_column(
    writer: &mut ArrowColumnWriter,
    field: &Field,
    values: &ArrayRef,
) -> Result<(), ParquetError> {
    compute_leaves(field, values)?.iter().try_for_each(|leaf| writer.write(leaf))
}

/// The rows in their order, as the row groups that they become: of about the same size, since compaction takes over as they
/// are those that are not much less than full.
fn row_groups(batches: &[RecordBatch]) -> Vec<Vec<RecordBatch>> {
    let mut ends = RowGroups::default();
    let pieces: Vec<RecordBatch> =
        batches.iter().flat_map(|batch| ends.cut(batch)).map(|(_ends_group, piece)| piece).collect();
    let largest = pieces.iter().map(rows_bytes).max().unwrap_or(0);
    let mut left = pieces.iter().map(rows_bytes).sum::<usize>();
    let mut groups_left = left.div_ceil(ROW_GROUP_BYTES_MAX.saturating_sub(largest).max(ROW_GROUP_BYTES_MAX / 2));
    let (mut groups, mut bytes) = (vec![Vec::new()], 0);
    for piece in pieces {
        let more = rows_bytes(&piece);
        let share = (bytes + left) / groups_left.max(1);
        if bytes > 0 && (bytes >= share || bytes + more > ROW_GROUP_BYTES_MAX) {
            groups.push(Vec::new());
            groups_left = groups_left.saturating_sub(1);
            bytes = 0;
        }
        bytes += more;
        left -= more;
        if let Some(group) = groups.last_mut() {
            group.push(piece);
        }
    }
    groups
}

/// Where row groups end: by decoded bytes, which the writer's own settings do not count.
#[derive(Debug, Default)]
pub(crate) struct RowGroups {
    bytes: usize,
}

impl RowGroups {
    /// The rows in pieces, each with whether a row group has to end before it.
    pub fn cut(&mut self, batch: &RecordBatch) -> Vec<(bool, RecordBatch)> {
        let bytes = rows_bytes(batch);
        if bytes > ROW_GROUP_BYTES_MAX && batch.num_rows() > 1 {
            let half = batch.num_rows() / 2;
            let mut pieces = self.cut(&batch.slice(0, half));
            pieces.extend(self.cut(&batch.slice(half, batch.num_rows() - half)));
            return pieces;
        }
        let ends_group = self.bytes > 0 && self.bytes + bytes > ROW_GROUP_BYTES_MAX;
        self.bytes = if ends_group { bytes } else { self.bytes + bytes };
        vec![(ends_group, batch.clone())]
    }
}

fn rows_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| decoded_bytes(column)).sum()
}

/// What the values take, and not what the buffers do that they lie in.
fn decoded_bytes(column: &dyn Array) -> usize {
    if let Some(list) = column.as_list_opt::<i32>() {
        let (first, end) = (list.value_offsets()[0] as usize, list.value_offsets()[list.len()] as usize);
        return decoded_bytes(&list.values().slice(first, end - first));
    }
    column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
}

/// How files are written. Data pages are of the second version: the writer copies the values of one of the first version
/// twice more, once beside its levels and once when what is compressed does not fit. What they bring in other encodings is
/// taken only where [`formed`] says so: of truths in run lengths some readers know nothing.
pub(crate) fn usual_properties() -> Result<WriterPropertiesBuilder, ParquetError> {
    Ok(WriterProperties::builder()
        .set_created_by(CREATED_BY.to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_encoding(Encoding::PLAIN)
        .set_data_page_size_limit(DATA_PAGE_BYTES)
        .set_statistics_enabled(EnabledStatistics::Chunk))
}

/// The form of each column, by a sample of its rows and its bytes, decoded.
fn formed(
    usual: WriterPropertiesBuilder,
    schema: &SchemaRef,
    sample: &RecordBatch,
    column_bytes: impl Fn(usize) -> usize,
) -> WriterPropertiesBuilder {
    let columns = schema.fields().iter().zip(sample.columns()).enumerate();
    columns.fold(usual, |usual, (index, (field, values))| set_form(usual, field, values, column_bytes(index)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use deltalake::arrow::array::{BinaryArray, BooleanArray, Decimal128Array, Int64Array, ListArray};
    use deltalake::arrow::datatypes::Int64Type;
    use deltalake::parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;
    use crate::limits::UNCOMPRESSED_COLUMN_BYTES_MAX;

    fn rows_of_groups(batches: Vec<RecordBatch>) -> Vec<i64> {
        let encoded = encode(&Partition { day: None, batches }).unwrap();
        let reader = SerializedFileReader::new(encoded.bytes).unwrap();
        reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect()
    }

    #[test]
    fn a_row_group_holds_few_huge_payloads_however_small_they_are_compressed() {
        let payloads = |count: usize| {
            let payload = vec![b'x'; 10 << 20];
            let column: ArrayRef = Arc::new(BinaryArray::from_iter_values((0..count).map(|_| &payload)));
            RecordBatch::try_from_iter([("payload", column)]).unwrap()
        };
        let groups = rows_of_groups(vec![payloads(2), payloads(5)]);
        assert!(groups.iter().all(|rows| *rows <= 3) && groups.len() <= 4, "{groups:?}");
        assert_eq!(groups.iter().sum::<i64>(), 7);
    }

    #[test]
    fn row_groups_of_a_flush_are_of_about_the_same_size() {
        let batch = |mib: usize| {
            let payload = vec![b'x'; 1 << 20];
            let column: ArrayRef = Arc::new(BinaryArray::from_iter_values((0..mib).map(|_| &payload)));
            RecordBatch::try_from_iter([("payload", column)]).unwrap()
        };
        let sizes = [&[2; 18][..], &[1; 33], &[2; 46], &[3, 1, 2, 2, 3, 1, 1, 3, 3, 2, 1, 3, 2, 2, 3, 3], &[2; 150]];
        for sizes in sizes {
            let batches: Vec<RecordBatch> = sizes.iter().map(|mib| batch(*mib)).collect();
            let groups = row_groups(&batches);
            let rows: Vec<usize> = groups.iter().map(|group| group.iter().map(RecordBatch::num_rows).sum()).collect();
            assert_eq!(rows.iter().sum::<usize>(), sizes.iter().sum::<usize>());
            // Beside a row's MiB there are a few bytes of it.
            assert!(rows.iter().all(|mib| (13..32).contains(mib)), "{rows:?}");
        }
        assert_eq!(row_groups(&[batch(100)]).iter().flatten().map(RecordBatch::num_rows).sum::<usize>(), 100);
    }

    #[test]
    fn truths_and_sums_are_written_as_every_reader_knows_them() {
        let rows = 100_000; // more sums than a dictionary takes
        let truths: ArrayRef = Arc::new(BooleanArray::from_iter((0..rows).map(|n| (n % 7 > 0).then_some(n % 3 == 0))));
        let sums: ArrayRef = Arc::new(Decimal128Array::from_iter_values((0..rows).map(i128::from)));
        let batches = vec![RecordBatch::try_from_iter([("truth", truths), ("sum", sums)]).unwrap()];
        let file = SerializedFileReader::new(encode(&Partition { day: None, batches }).unwrap().bytes).unwrap();
        let group = file.get_row_group(0).unwrap();
        let encodings = |column| -> HashSet<Encoding> {
            group.get_column_page_reader(column).unwrap().map(|page| page.unwrap().encoding()).collect()
        };
        assert_eq!(encodings(0), HashSet::from([Encoding::PLAIN]));
        assert_eq!(encodings(1), HashSet::from([Encoding::PLAIN, Encoding::RLE_DICTIONARY]));
    }

    #[test]
    fn columns_of_a_few_kilobytes_go_without_the_codec() {
        let rows = UNCOMPRESSED_COLUMN_BYTES_MAX as i64 / 8;
        let compressions = |rows: i64| {
            let whole: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
            let truths: ArrayRef = Arc::new(BooleanArray::from_iter((0..rows).map(|n| Some(n % 3 == 0))));
            let lists = ListArray::from_iter_primitive::<Int64Type, _, _>((0..rows).map(|n| Some([Some(n)])));
            let columns = [("n", whole), ("truth", truths), ("list", Arc::new(lists) as ArrayRef)];
            // In two batches, for what counts is the file.
            let all = RecordBatch::try_from_iter(columns).unwrap();
            let batches =
                vec![all.slice(0, all.num_rows() / 2), all.slice(all.num_rows() / 2, all.num_rows().div_ceil(2))];
            let file = SerializedFileReader::new(encode(&Partition { day: None, batches }).unwrap().bytes).unwrap();
            file.metadata().row_group(0).columns().iter().map(|column| column.compression()).collect::<Vec<_>>()
        };
        let zstd = Compression::ZSTD(ZstdLevel::try_new(1).unwrap());
        assert_eq!(compressions(rows), [Compression::UNCOMPRESSED; 3]);
        assert_eq!(compressions(rows + 1), [zstd, Compression::UNCOMPRESSED, zstd]);
        assert_eq!(compressions(9 * 8 * rows), [zstd; 3]);
    }

    #[test]
    fn java_readers_understand_who_wrote_a_file() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..3));
        let batches = vec![RecordBatch::try_from_iter([("n", column)]).unwrap()];
        let file = SerializedFileReader::new(encode(&Partition { day: None, batches }).unwrap().bytes).unwrap();
        let words: Vec<_> = file.metadata().file_metadata().created_by().unwrap().split(' ').collect();
        let ["pintail", "version", version] = words[..] else { panic!("{words:?}") };
        assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{version}");
    }

    #[test]
    fn rows_of_usual_size_and_slices_of_lists_share_a_row_group() {
        let whole: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>((0..100_000).map(|n| Some(vec![Some(n); 30])));
        let batch = RecordBatch::try_from_iter([("n", whole), ("list", Arc::new(lists) as ArrayRef)]).unwrap();
        // Each slice lies in the 24 MB that all of them share.
        let slices = (0..100).map(|index| batch.slice(index * 1_000, 1_000));
        assert_eq!(rows_of_groups(slices.collect()), [100_000]);
    }
}
