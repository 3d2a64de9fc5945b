//! A table's active files at one version, and their rows as a stream of batches.
//!
//! Files are chosen by their `add`, so that only what was chosen is held; rows are decoded a few at a time.

use std::collections::BTreeMap;

use chrono::DateTime;
use deltalake::parquet::arrow::ProjectionMask;
use deltalake::parquet::arrow::arrow_reader::ArrowReaderMetadata;
use deltalake::parquet::arrow::async_reader::{
    AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder,
};
use deltalake::parquet::errors::ParquetError;
use object_store::path::Path;
use serde_json::Value;

use super::checkpoint::{Ranged, is_file};
use super::error::LakeError;
use super::log::{each_action, each_action_at};
use super::reading::reader_of;
use super::store::LakeStore;
use crate::limits::REPLAY_FILES_MAX;

/// A file of a table. Small: many are held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DataFile {
    /// Below the table's folder.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// How many rows the log counts in it, if it does.
    pub rows: Option<u64>,
}

/// What an `add` says of its file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Added {
    pub file: DataFile,
    /// `Null` without.
    stats: Value,
}

impl Added {
    pub fn of(add: &Value) -> Result<Self, String> {
        let stats = add.get("stats").and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok());
        let stats: Value = stats.unwrap_or(Value::Null);
        let size = add.get("size").and_then(Value::as_u64).ok_or_else(|| format!("no \"size\" in {add}"))?;
        let rows = stats.get("numRecords").and_then(Value::as_u64);
        Ok(Self { file: DataFile { path: path_of(add)?.to_owned(), size, rows }, stats })
    }

    /// Whether it may hold a value in this column, as far as its statistics say.
    pub fn may_have(&self, column: &str) -> bool {
        let nulls = self.stats.get("nullCount").and_then(|nulls| nulls.get(column)).and_then(Value::as_u64);
        nulls.is_none_or(|nulls| self.file.rows.is_none_or(|rows| nulls < rows))
    }

    /// The smallest and the largest time in this column, epoch us, not narrower than the truth.
    pub fn times_us(&self, column: &str) -> (i64, i64) {
        let bound = |which: &str| {
            let text = self.stats.get(which)?.get(column)?.as_str()?;
            Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros())
        };
        // A largest value is written in milliseconds, and not every engine rounds it up.
        (bound("minValues").unwrap_or(i64::MIN), bound("maxValues").map_or(i64::MAX, |max| max.saturating_add(999)))
    }
}

impl DataFile {
    /// Reads its footer. Types are Parquet's own: what another engine's Arrow called them when it rewrote the file is
    /// not asked.
    pub async fn open(&self, store: &LakeStore, table: &str) -> Result<OpenFile, ParquetError> {
        let path = store.path(table, &self.path);
        let footer = Ranged::new(store, path.clone(), self.size).get_metadata(None).await?;
        let metadata = reader_of(footer)?;
        Ok(OpenFile { store: store.clone(), path, size: self.size, metadata })
    }
}

/// A file whose footer was read.
pub(crate) struct OpenFile {
    store: LakeStore,
    path: Path,
    size: u64,
    metadata: ArrowReaderMetadata,
}

/// Rows of a file, as they are decoded.
pub(crate) type Rows = ParquetRecordBatchStream<Ranged>;

/// Which rows and columns of a file are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    pub columns: &'a [&'a str],
    /// Rows before the first one that is read.
    pub offset: u64,
    /// Rows that are read at most.
    pub limit: u64,
    pub batch_rows: u64,
}

impl OpenFile {
    /// How many rows it holds.
    pub fn rows(&self) -> u64 {
        self.metadata.metadata().row_groups().iter().map(|group| group.num_rows().unsigned_abs()).sum()
    }

    /// Bytes of a binary or text column's value, on average where that is largest: a row group of a few huge ones
    /// must not be read as the many small ones of the next.
    pub fn value_bytes(&self, column: &str) -> u64 {
        let averages = self.metadata.metadata().row_groups().iter().map(|group| {
            let chunks = group.columns().iter().filter(|chunk| chunk.column_path().parts() == [column]);
            // Without a dictionary, which hides repeated values, both are nearly the same.
            let size = chunks.map(|chunk| chunk.unencoded_byte_array_data_bytes().unwrap_or(chunk.uncompressed_size()));
            size.map(i64::unsigned_abs).sum::<u64>() / group.num_rows().unsigned_abs().max(1)
        });
        averages.max().unwrap_or(0)
    }

    /// Some of it. Columns that it does not have are left out.
    pub fn read(&self, part: Part<'_>) -> Result<Rows, ParquetError> {
        let reader = Ranged::new(&self.store, self.path.clone(), self.size);
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, self.metadata.clone());
        let mask = ProjectionMask::columns(builder.parquet_schema(), part.columns.iter().copied());
        let whole = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let builder = builder.with_projection(mask).with_offset(whole(part.offset)).with_limit(whole(part.limit));
        builder.with_batch_size(whole(part.batch_rows)).build()
    }
}

/// The active files that `choose` makes something of, in the order of their paths: the same for everybody who looks
/// at the same version. The head, unless a version is given.
pub(crate) async fn active_files<T>(
    store: &LakeStore,
    table: &str,
    version: Option<u64>,
    choose: impl Fn(Added) -> Option<T>,
) -> Result<BTreeMap<String, T>, LakeError> {
    let mut files = BTreeMap::new();
    let note = |lines: &[u8]| note(lines, &choose, &mut files);
    match version {
        Some(version) => each_action_at(store, table, version, is_file, note).await?,
        None => each_action(store, table, is_file, note).await.map(|_head| ())?,
    }
    Ok(files)
}

fn note<T>(lines: &[u8], choose: &impl Fn(Added) -> Option<T>, files: &mut BTreeMap<String, T>) -> Result<(), String> {
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        let action: Value = serde_json::from_slice(line).map_err(|error| format!("a line is no action: {error}"))?;
        if let Some(add) = action.get("add").filter(|add| !add.is_null()) {
            let added = Added::of(add)?;
            let path = added.file.path.clone();
            if let Some(chosen) = choose(added) {
                files.insert(path, chosen);
            }
        } else if let Some(remove) = action.get("remove").filter(|remove| !remove.is_null()) {
            files.remove(path_of(remove)?);
        }
        if files.len() > REPLAY_FILES_MAX {
            return Err(format!("more than {REPLAY_FILES_MAX} files are to be read (compact the table before)"));
        }
    }
    Ok(())
}

fn path_of(action: &Value) -> Result<&str, String> {
    action.get("path").and_then(Value::as_str).ok_or_else(|| format!("no text \"path\" in {action}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use deltalake::arrow::array::{ArrayRef, BinaryArray, RecordBatch};
    use deltalake::parquet::arrow::ArrowWriter;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_value_is_taken_for_as_large_as_in_the_row_group_where_they_are_largest() {
        let payloads = |count: usize, bytes: usize| {
            let column: ArrayRef = Arc::new(BinaryArray::from_iter_values((0..count).map(|_| vec![7; bytes])));
            RecordBatch::try_from_iter([("payload", column)]).unwrap()
        };
        let mut writer = ArrowWriter::try_new(Vec::new(), payloads(0, 0).schema(), None).unwrap();
        for batch in [payloads(10_000, 10), payloads(2, 1_000_000), payloads(10_000, 10)] {
            writer.write(&batch).unwrap();
            writer.flush().unwrap();
        }
        let bytes = writer.into_inner().unwrap();
        let store = LakeStore::with_objects(Arc::new(InMemory::new()), "lake", "memory://lake");
        let file = DataFile { path: "x.parquet".to_owned(), size: bytes.len() as u64, rows: None };
        store.objects().put(&store.path("t", &file.path), bytes.into()).await.unwrap();
        assert_eq!(file.open(&store, "t").await.unwrap().value_bytes("payload"), 1_000_000);
    }

    fn file(stats: &Value) -> Added {
        Added::of(&json!({ "path": "x", "size": 1, "stats": stats.to_string() })).unwrap()
    }

    #[test]
    fn a_file_is_passed_over_only_if_its_statistics_say_that_the_column_is_null_throughout() {
        assert!(!file(&json!({ "numRecords": 3, "nullCount": { "n": 3 } })).may_have("n"));
        assert!(file(&json!({ "numRecords": 3, "nullCount": { "n": 2 } })).may_have("n"));
        assert!(file(&json!({ "numRecords": 3, "nullCount": {} })).may_have("n"));
        assert!(file(&json!({ "nullCount": { "n": 3 } })).may_have("n"));
        assert!(file(&Value::Null).may_have("n"));
    }

    #[test]
    fn bounds_of_times_are_never_narrower_than_the_truth() {
        let bounds = |time: &str| json!({ "t": time });
        let both = json!({ "minValues": bounds("1970-01-01T00:00:00.002Z"),
            "maxValues": bounds("1970-01-01T00:00:00.003Z") });
        assert_eq!(file(&both).times_us("t"), (2_000, 3_999));
        assert_eq!(file(&json!({})).times_us("t"), (i64::MIN, i64::MAX));
    }

    #[test]
    fn what_was_removed_is_not_active_and_a_line_that_is_no_action_is_an_error() {
        let mut files = BTreeMap::new();
        let lines = b"{\"add\":{\"path\":\"a\",\"size\":1}}\n{\"add\":{\"path\":\"b\",\"size\":1},\"remove\":null}\n\n\
            {\"remove\":{\"path\":\"a\"}}\n{\"txn\":{}}\n";
        note(lines, &|added| Some(added.file.size), &mut files).unwrap();
        assert_eq!(files, BTreeMap::from([("b".to_owned(), 1)]));
        for wrong in ["nonsense", "{\"add\":{\"path\":\"x\"}}", "{\"add\":{\"size\":1}}", "{\"remove\":{}}"] {
            assert!(note(wrong.as_bytes(), &|_| Some(()), &mut BTreeMap::new()).is_err(), "{wrong}");
        }
    }
}
