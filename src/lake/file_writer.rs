//! A Parquet file that goes up into the store row group by row group: of rows that are encoded here, and of row groups of
//! other files.

use std::sync::Arc;

use bytes::Bytes;
use deltalake::arrow::array::RecordBatch;
use deltalake::arrow::datatypes::SchemaRef;
use deltalake::parquet::arrow::ArrowWriter;
use deltalake::parquet::arrow::arrow_writer::ArrowColumnWriter;
use deltalake::parquet::arrow::async_writer::AsyncFileWriter;
use deltalake::parquet::errors::Result;
use deltalake::parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use deltalake::parquet::file::writer::SerializedFileWriter;

use super::checksums::Checksums;
use super::encode::{RowGroups, column_writers, usual_properties, write_column, written};
use super::stats::Counts;
use super::stored_group::StoredGroup;
use super::upload::Upload;

/// Every Parquet file begins with so many.
const FIRST_BYTES: usize = 4;

/// A file on its way. What is in memory is the row group that is being filled, and what waits of finished ones to become
/// a part of the upload.
pub(crate) struct FileWriter {
    file: SerializedFileWriter<Vec<u8>>,
    schema: SchemaRef,
    upload: Upload,
    /// Of the row group that is being filled.
    group: Option<Vec<ArrowColumnWriter>>,
    ends: RowGroups,
    counts: Counts,
    checksums: Checksums,
    /// Bytes that are on their way into the store.
    sent: u64,
}

impl FileWriter {
    /// A file without rows.
    pub fn new(upload: Upload, schema: &SchemaRef) -> Result<Self> {
        // Row groups of other files come without the places of their pages, and all of a file's say them or none does.
        let properties = usual_properties()?.set_offset_index_disabled(true).build();
        let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties))?;
        let (file, _) = writer.into_serialized_writer()?;
        let (ends, counts, checksums) = (RowGroups::default(), Counts::default(), Checksums::default());
        Ok(Self { file, schema: Arc::clone(schema), upload, group: None, ends, counts, checksums, sent: 0 })
    }

    /// Bytes of the row groups that are finished.
    pub fn finished_bytes(&self) -> usize {
        self.file.bytes_written()
    }

    /// What the row group that is being filled will take, about: rather too much.
    pub fn unfinished_bytes(&self) -> usize {
        self.group.iter().flatten().map(ArrowColumnWriter::get_estimated_total_bytes).sum()
    }

    /// Adds rows.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        for (ends_group, piece) in self.ends.cut(batch) {
            if ends_group {
                self.send_group().await?;
            }
            self.encode(&piece)?;
        }
        self.counts.add(batch);
        Ok(())
    }

    fn encode(&mut self, rows: &RecordBatch) -> Result<()> {
        let writers = match self.group.as_mut() {
            Some(writers) => writers,
            None => self.group.insert(column_writers(&self.schema, rows, self.file.flushed_row_groups().len())?),
        };
        let columns = self.schema.fields().iter().zip(rows.columns());
        writers.iter_mut().zip(columns).try_for_each(|(writer, (field, values))| write_column(writer, field, values))
    }

    /// Adds a row group of another file, after the rows that are there.
    pub async fn copy(&mut self, stored: StoredGroup) -> Result<()> {
        self.end_group().await?;
        self.reserve(stored.bytes() as u64);
        let mut group = self.file.next_row_group()?;
        stored.append_to(&mut group)?;
        let group = group.close()?;
        self.note(&group)?;
        self.counts.add_counts(&stored.counts);
        // Its bytes are in the file now, and would be in memory twice while they go up.
        drop(stored);
        self.send().await
    }

    /// What comes next is another row group.
    pub async fn end_group(&mut self) -> Result<()> {
        self.ends = RowGroups::default();
        self.send_group().await
    }

    async fn send_group(&mut self) -> Result<()> {
        let Some(writers) = self.group.take() else { return Ok(()) };
        let chunks = writers.into_iter().map(ArrowColumnWriter::close).collect::<Result<Vec<_>>>()?;
        self.reserve(chunks.iter().map(|chunk| chunk.close().bytes_written).sum());
        let mut group = self.file.next_row_group()?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut group)?;
        }
        let group = group.close()?;
        self.note(&group)?;
        self.send().await
    }

    /// Memory for a row group: what grows is copied again and again. The file's first bytes may be before it.
    fn reserve(&mut self, bytes: u64) {
        self.file.inner_mut().reserve(usize::try_from(bytes).unwrap_or(0) + FIRST_BYTES);
    }

    /// The row group that was written last is whole.
    fn note(&mut self, group: &RowGroupMetaData) -> Result<()> {
        self.file.flush()?;
        self.checksums.add(written(group, self.sent, self.file.inner())?);
        Ok(())
    }

    async fn send(&mut self) -> Result<()> {
        let finished = std::mem::take(self.file.inner_mut());
        self.sent += finished.len() as u64;
        self.upload.write(Bytes::from(finished)).await
    }

    /// Completes the file in the store.
    pub async fn finish(&mut self) -> Result<ParquetMetaData> {
        self.end_group().await?;
        self.file.append_key_value_metadata(self.checksums.entry());
        let metadata = self.file.finish()?;
        self.send().await?;
        self.upload.complete().await?;
        Ok(metadata)
    }

    /// What was written of which rows, and to where.
    pub fn into_parts(self) -> (Upload, Counts) {
        (self.upload, self.counts)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use deltalake::arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
        ListBuilder, StringArray, StringBuilder, TimestampMicrosecondArray,
    };
    use deltalake::arrow::compute::concat_batches;
    use deltalake::parquet::arrow::arrow_reader::{
        ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
    };
    use object_store::path::Path;

    use super::*;
    use crate::lake::encode::encode;
    use crate::lake::partition::Partition;
    use crate::lake::reading::Source;
    use crate::lake::stats::stats_json;
    use crate::lake::tests::Lake;

    /// Rows of every type that a table may have, and of values that are hard on bounds.
    fn rows(range: Range<i64>, seed: i64) -> RecordBatch {
        let drawn = |n: i64| (n ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64).rotate_left(23);
        let some = |n: i64, of: i64| drawn(n + of).rem_euclid(7) != 0;
        let of = |of: i64| range.clone().map(move |n| some(n, of).then(|| drawn(n.wrapping_mul(31) + of)));
        let double = |bits: i64| match bits.rem_euclid(9) {
            0 => f64::NAN,
            1 => -0.0,
            2 => f64::INFINITY,
            _ => bits as f64 / 1e3,
        };
        let text = |bits: i64| match bits.rem_euclid(5) {
            0 => String::new(),
            1 => "\u{10ffff}".repeat(100), // cannot be shortened to a bound
            2 => format!("{bits}").repeat(12),
            _ => format!("k{}", bits.rem_euclid(40)),
        };
        let mut lists = ListBuilder::new(StringBuilder::new());
        of(8).for_each(|bits| {
            if let Some(bits) = bits {
                (0..bits.rem_euclid(3)).for_each(|n| lists.values().append_option((n > 0).then(|| text(bits))));
            }
            lists.append(bits.is_some());
        });
        let sums = Decimal128Array::from_iter(of(9).map(|bits| bits.map(|bits| i128::from(bits) << 40)));
        let columns: [(&str, ArrayRef); 10] = [
            ("integer", Arc::new(Int32Array::from_iter(of(0).map(|bits| bits.map(|bits| bits as i32))))),
            ("long", Arc::new(Int64Array::from_iter(of(1)))),
            ("double", Arc::new(Float64Array::from_iter(of(2).map(|bits| bits.map(double))))),
            ("truth", Arc::new(BooleanArray::from_iter(of(3).map(|bits| bits.map(|bits| bits > 0))))),
            ("text", Arc::new(StringArray::from_iter(of(4).map(|bits| bits.map(text))))),
            ("day", Arc::new(Date32Array::from_iter(of(5).map(|bits| bits.map(|bits| (bits % 100_000) as i32))))),
            ("at", Arc::new(TimestampMicrosecondArray::from_iter(of(6)).with_timezone("UTC"))),
            ("bytes", Arc::new(BinaryArray::from_iter(of(7).map(|bits| bits.map(|bits| bits.to_le_bytes()))))),
            ("list", Arc::new(lists.finish())),
            ("sum", Arc::new(sums.with_precision_and_scale(38, 0).unwrap())),
        ];
        let only_nulls: (&str, ArrayRef) = ("nothing", Arc::new(StringArray::new_null(range.clone().count())));
        let columns = columns.into_iter().chain([only_nulls]).map(|(name, values)| (name, values, true));
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    /// A file of these rows, each batch a row group, those that are so marked taken from files of their own; and what its
    /// `add` would say.
    async fn written(batches: &[(RecordBatch, bool)]) -> (RecordBatch, String) {
        let (lake, path) = (Lake::in_memory(), Path::from("x"));
        let schema = batches[0].0.schema();
        let mut writer = FileWriter::new(Upload::of_new_name(lake.store.clone(), path.clone()), &schema).unwrap();
        for (batch, is_stored) in batches {
            if *is_stored {
                let file = encode(&Partition { day: None, batches: vec![batch.clone()] }).unwrap().bytes;
                let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).unwrap();
                writer
                    .copy(StoredGroup::fetch(&mut Source::Whole(file), &metadata, 0, 100).await.unwrap())
                    .await
                    .unwrap();
            } else {
                writer.write(batch).await.unwrap();
                writer.end_group().await.unwrap();
            }
        }
        let metadata = writer.finish().await.unwrap();
        let stats = stats_json(&schema, &writer.into_parts().1, &metadata);
        let (bytes, _) = lake.store.read(&path).await.unwrap().unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
        let read: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        (concat_batches(&schema, &read).unwrap(), stats)
    }

    #[tokio::test]
    async fn a_file_with_row_groups_of_others_is_what_it_would_be_if_they_were_written_anew() {
        for seed in 0..40 {
            let sizes = [1, 700, 64, 3].map(|size| size + seed % 5);
            let mut from = 0;
            let batches = sizes.map(|size| {
                from += size;
                rows(from - size..from, seed)
            });
            let marked = |marks: i64| -> Vec<(RecordBatch, bool)> {
                batches.iter().cloned().zip((0..).map(|n| marks >> n & 1 == 1)).collect()
            };
            let (plain, plain_stats) = written(&marked(0)).await;
            assert_eq!(plain.num_rows() as i64, from);
            for marks in [0b1111, 1 + seed % 14] {
                let (copied, stats) = written(&marked(marks)).await;
                // By their bits, so that a NaN is equal to itself.
                assert!(copied == plain, "seed {seed}, {marks:b}");
                assert_eq!(stats, plain_stats, "seed {seed}, {marks:b}");
            }
        }
    }

    #[tokio::test]
    async fn no_row_group_is_larger_than_a_reader_may_have_to_hold_however_rows_come() {
        for rows in [1, 7, 63] {
            let payload = vec![b'x'; 1 << 20];
            let column: ArrayRef = Arc::new(BinaryArray::from_iter_values((0..rows).map(|_| &payload)));
            let batch = RecordBatch::try_from_iter([("payload", column)]).unwrap();
            let upload = Upload::of_new_name(Lake::in_memory().store.clone(), Path::from("x"));
            let mut writer = FileWriter::new(upload, &batch.schema()).unwrap();
            for _ in 0..130 / rows {
                writer.write(&batch).await.unwrap();
            }
            let file = writer.finish().await.unwrap();
            let groups: Vec<i64> = file.row_groups().iter().map(|group| group.num_rows()).collect();
            assert!(groups.iter().all(|rows| *rows < 32), "{groups:?}");
            assert_eq!(groups.iter().sum::<i64>(), i64::from(130 / rows * rows));
        }
    }
}
