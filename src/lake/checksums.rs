//! Checksums of a file's row groups, in its footer: damage is told from data before it is decoded.
//!
//! Without them most flipped bits of a page become other values, which compaction would write anew for good, and some
//! are what Parquet's decoders do not expect and end the process on. Parquet's own, one for each page, are not written by
//! the writer at hand.

use deltalake::parquet::errors::{ParquetError, Result};
use deltalake::parquet::file::metadata::{FileMetaData, KeyValue, ParquetMetaData};

use super::stored_group::range_of;

/// Of the footer's entry: a CRC-32 (IEEE 802.3) of each row group from its first page to its last, eight hex digits each.
const KEY: &str = "pintail.row_groups.crc32";
const DIGITS: usize = 8;

/// How what any version of Pintail writes of itself begins, as [`CREATED_BY`](super::encode::CREATED_BY) does.
const OURS: &str = "pintail version ";

/// Those of a file's row groups, in their order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Checksums(Vec<u32>);

impl Checksums {
    /// Adds the one of the next row group.
    pub fn add(&mut self, row_group: &[u8]) {
        self.0.push(crc32fast::hash(row_group));
    }

    /// As they stand in a footer.
    pub fn entry(&self) -> KeyValue {
        let digits: String = self.0.iter().map(|sum| format!("{sum:08x}")).collect();
        KeyValue::new(KEY.to_owned(), digits)
    }

    /// Those of a footer; `None` if it has none. Others' files have none, or those of a file of ours that they were made
    /// of: some engines carry over what they do not know.
    pub fn of(footer: &FileMetaData) -> Result<Option<Self>> {
        let is_ours = footer.created_by().is_some_and(|by| by.starts_with(OURS));
        let entries = footer.key_value_metadata().filter(|_| is_ours);
        let Some(entry) = entries.and_then(|entries| entries.iter().find(|entry| entry.key == KEY)) else {
            return Ok(None);
        };
        let digits = entry.value.as_deref().unwrap_or_default().as_bytes();
        let sums = digits.chunks(DIGITS).map(|sum| match std::str::from_utf8(sum) {
            Ok(sum) if sum.len() == DIGITS => u32::from_str_radix(sum, 16).ok(),
            Ok(_) | Err(_) => None,
        });
        let sums: Option<Vec<u32>> = sums.collect();
        sums.map(|sums| Some(Self(sums))).ok_or_else(|| ParquetError::General(format!("{KEY} holds no checksums")))
    }

    /// Whether this is a row group's checksum.
    pub fn check(&self, group: usize, bytes: &[u8]) -> Result<()> {
        match self.0.get(group) {
            Some(sum) if *sum == crc32fast::hash(bytes) => Ok(()),
            Some(_) => Err(ParquetError::General(format!(
                "row group {group} is not what was written: its checksum is another"
            ))),
            None => Err(ParquetError::General(format!("row group {group} has no checksum, and others have"))),
        }
    }
}

/// Checks all row groups of a file that is here whole, if its footer tells their checksums.
pub(crate) fn check_all(footer: &ParquetMetaData, file: &[u8]) -> Result<()> {
    let Some(checksums) = Checksums::of(footer.file_metadata())? else { return Ok(()) };
    footer.row_groups().iter().enumerate().try_for_each(|(index, group)| {
        let place = range_of(group)
            .and_then(|range| file.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?));
        let bytes = place.ok_or_else(|| ParquetError::EOF(format!("row group {index} is not in the file")))?;
        checksums.check(index, bytes)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use deltalake::arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use deltalake::parquet::file::metadata::ParquetMetaDataReader;

    use super::*;
    use crate::lake::encode::{CREATED_BY, encode};
    use crate::lake::partition::Partition;

    fn file(batches: usize) -> Bytes {
        let column = |from: i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values((from..from + 2_000_000).rev())) };
        let batches = (0..batches).map(|from| RecordBatch::try_from_iter([("n", column(from as i64))]).unwrap());
        encode(&Partition { day: None, batches: batches.collect() }).unwrap().bytes
    }

    #[test]
    fn each_flipped_bit_of_a_page_is_found() {
        let bytes = file(4);
        let footer = ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
        assert!(footer.num_row_groups() > 1 && check_all(&footer, &bytes).is_ok());
        let end = range_of(footer.row_groups().last().unwrap()).unwrap().end as usize;
        for bit in (4 * 8..end * 8).step_by(end / 100) {
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(check_all(&footer, &bytes).unwrap_err().to_string().contains("its checksum is another"));
        }
        assert!(check_all(&footer, &bytes[..end - 1]).unwrap_err().to_string().contains("is not in the file"));
    }

    #[test]
    fn an_entry_that_is_none_or_of_another_file_is_an_error() {
        let bytes = file(1);
        let footer = ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
        let told_by = |by: &str, value: Option<&str>| {
            let entries = value.map(|value| vec![KeyValue::new(KEY.to_owned(), value.to_owned())]);
            let (file, by) = (footer.file_metadata(), Some(by.to_owned()));
            let file = FileMetaData::new(2, file.num_rows(), by, entries, file.schema_descr_ptr(), None);
            let footer = ParquetMetaData::new(file, footer.row_groups().to_vec());
            check_all(&footer, &bytes).map_err(|error| error.to_string())
        };
        let told = |value| told_by(CREATED_BY, value);
        assert_eq!(told(None), Ok(()), "earlier files have none");
        let right = Checksums::of(footer.file_metadata()).unwrap().unwrap().entry().value.unwrap();
        assert_eq!(told(Some(&right)), Ok(()));
        for wrong in ["", "0123456", "0123456x", "012345678", "é1234567"] {
            assert!(told(Some(wrong)).is_err(), "{wrong}");
        }
        assert!(told(Some("00000000")).unwrap_err().contains("its checksum is another"));
        assert_eq!(told_by("parquet-cpp-arrow version 23.0.0", Some("00000000")), Ok(()), "of the file that it was");
    }
}
