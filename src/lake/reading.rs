//! A Parquet file of the store that is to be read: a small one is fetched whole, which is one request instead of one for
//! its footer and one for each column; a large one is read by ranges.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use deltalake::arrow::datatypes::{DataType, Schema, TimeUnit};
use deltalake::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use deltalake::parquet::arrow::async_reader::AsyncFileReader;
use deltalake::parquet::basic::Type as PhysicalType;
use deltalake::parquet::errors::{ParquetError, Result};
use deltalake::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use deltalake::parquet::schema::types::ColumnDescPtr;
use futures::future::BoxFuture;
use object_store::ObjectMeta;

use super::checkpoint::Ranged;
use super::checksums::check_all;
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
                let found = ParquetMetaDataReader::new().parse_and_finish(bytes).and_then(possible);
                let intact = found.and_then(|footer| check_all(&footer, bytes).map(|()| Arc::new(footer)));
                Box::pin(async move { intact })
            }
            Self::Ranged(ranged) => ranged.get_metadata(options),
        }
    }
}

/// How the rows of a file are read: in Parquet's own types, whatever another engine's Arrow called them when it rewrote
/// the file, and INT96 in microseconds, since its nanoseconds end in 2262 and begin in 1677.
pub(super) fn reader_of(footer: Arc<ParquetMetaData>) -> Result<ArrowReaderMetadata> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let found = ArrowReaderMetadata::try_new(footer, options.clone())?;
    let schema = found.metadata().file_metadata().schema_descr();
    let is_int96 =
        |column: &ColumnDescPtr| column.path().parts().len() == 1 && column.physical_type() == PhysicalType::INT96;
    let int96: Vec<&str> =
        schema.columns().iter().filter(|column| is_int96(column)).map(|column| column.name()).collect();
    if int96.is_empty() {
        return Ok(found);
    }
    let in_us = DataType::Timestamp(TimeUnit::Microsecond, None);
    let fields = found.schema().fields().iter().map(|field| match int96.contains(&field.name().as_str()) {
        true => Arc::new(field.as_ref().clone().with_data_type(in_us.clone())),
        false => Arc::clone(field),
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    ArrowReaderMetadata::try_new(Arc::clone(found.metadata()), options.with_schema(schema))
}

/// A footer whose numbers can be: Parquet's readers rely on that.
pub(super) fn possible(footer: ParquetMetaData) -> Result<ParquetMetaData> {
    let can_be = |group: &RowGroupMetaData| {
        group.num_rows() >= 0
            && group.columns().iter().all(|column| {
                let begins = column.dictionary_page_offset().unwrap_or(0).min(column.data_page_offset());
                let size = column.compressed_size();
                begins >= 0 && size >= 0 && column.uncompressed_size() >= 0 && column.num_values() >= 0
            })
    };
    match footer.row_groups().iter().all(can_be) {
        true => Ok(footer),
        false => Err(ParquetError::General("a footer with a place, a size or a number below zero".to_owned())),
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
    use deltalake::arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use deltalake::parquet::arrow::ArrowWriter;
    use deltalake::parquet::file::metadata::ColumnChunkMetaDataBuilder;
    use object_store::PutPayload;

    use super::*;
    use crate::lake::error::of_the_store;
    use crate::lake::tests::Lake;

    #[test]
    fn days_that_nanoseconds_do_not_reach_are_read_as_they_are() {
        use deltalake::arrow::array::AsArray;
        use deltalake::arrow::datatypes::TimestampMicrosecondType;
        use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
        use deltalake::parquet::data_type::{Int96, Int96Type};
        use deltalake::parquet::file::writer::SerializedFileWriter;
        use deltalake::parquet::schema::parser::parse_message_type;

        let schema = Arc::new(parse_message_type("message spark { required int96 at; }").unwrap());
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        // Midnight of 1970-01-01 is in the middle of Julian day 2,440,588; 2300 and 1500 are 120,530 and -171,662 days on.
        let of_day = |day: i64| Int96::from(vec![0, 0, u32::try_from(2_440_588 + day).unwrap()]);
        let days = [0, 120_530, -171_662];
        column.typed::<Int96Type>().write_batch(&days.map(of_day), None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        let bytes = Bytes::from(writer.into_inner().unwrap());
        let footer = ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
        let reader = reader_of(Arc::new(footer)).unwrap();
        let mut rows = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, reader).build().unwrap();
        let rows = rows.next().unwrap().unwrap();
        let found = rows.column(0).as_primitive::<TimestampMicrosecondType>().values().to_vec();
        assert_eq!(found, days.map(|day| day * crate::clock::DAY_US));
    }

    #[tokio::test]
    async fn a_footer_with_numbers_below_zero_is_an_error_before_anything_relies_on_it() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..9));
        let rows = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        let bytes = Bytes::from(writer.into_inner().unwrap());
        let footer = ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
        assert!(possible(footer.clone()).is_ok());
        type Change<'a> = &'a dyn Fn(ColumnChunkMetaDataBuilder) -> ColumnChunkMetaDataBuilder;
        let changes: [Change<'_>; 5] = [
            &|column| column.set_data_page_offset(-1),
            &|column| column.set_dictionary_page_offset(Some(-1)),
            &|column| column.set_total_compressed_size(-1),
            &|column| column.set_total_uncompressed_size(-1),
            &|column| column.set_num_values(-1),
        ];
        for change in changes {
            let group = footer.row_group(0).clone();
            let column = change(group.column(0).clone().into_builder()).build().unwrap();
            let group = group.into_builder().set_column_metadata(vec![column]).build().unwrap();
            let changed = footer.clone().into_builder().set_row_groups(vec![group]).build();
            assert!(possible(changed).unwrap_err().to_string().contains("below zero"));
        }
        // A bit of the footer as it lies in the file, whichever it is.
        let begins = bytes.len() - 8 - u32::from_le_bytes(bytes[bytes.len() - 8..][..4].try_into().unwrap()) as usize;
        for bit in begins * 8..(bytes.len() - 8) * 8 {
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let found = Source::Whole(bytes.into()).get_metadata(None).await;
            found.iter().flat_map(|footer| footer.row_groups()).flat_map(|group| group.columns()).for_each(|column| {
                column.byte_range();
            });
        }
    }

    #[tokio::test]
    async fn what_a_damaged_footer_asks_for_is_no_failure_of_the_store_and_a_file_that_is_gone_is_one() {
        let lake = Lake::in_memory();
        let path = lake.store.path("orders", "part");
        lake.store.objects().put_opts(&path, PutPayload::from_static(b"0123456789"), Default::default()).await.unwrap();
        let sources = [
            Source::Whole(Bytes::from_static(b"0123456789")),
            Source::Ranged(Ranged::new(&lake.store, path.clone(), 10)),
        ];
        for mut source in sources {
            assert_eq!(source.get_bytes(3..7).await.unwrap(), "3456");
            for range in [8..11, 11..12, Range { start: 5, end: 4 }, 0..u64::MAX] {
                let error = source.get_bytes(range.clone()).await.unwrap_err();
                assert!(of_the_store(&error).is_none(), "{range:?}: {error}");
                let error = source.get_byte_ranges(vec![0..1, range.clone()]).await.unwrap_err();
                assert!(of_the_store(&error).is_none(), "{range:?}: {error}");
            }
        }
        let mut gone = Source::Ranged(Ranged::new(&lake.store, lake.store.path("orders", "gone"), 10));
        assert!(of_the_store(&gone.get_bytes(0..1).await.unwrap_err()).is_some());
    }
}
