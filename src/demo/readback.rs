//! Reads the tables back and holds them against what Kinesis accepted: nothing lost, nothing doubled, or say so.
//!
//! The tables are opened as any other Delta reader would open them, from their log alone; nothing that the writer
//! remembers is asked.

use std::collections::BTreeMap;

use deltalake::arrow::array::{Array, AsArray, RecordBatch};
use deltalake::arrow::datatypes::Int64Type;
use deltalake::arrow::error::ArrowError;
use deltalake::logstore::parquet_reader::ParquetObjectReader;
use deltalake::parquet::arrow::ProjectionMask;
use deltalake::parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use deltalake::parquet::errors::ParquetError;
use deltalake::{DeltaTableBuilder, DeltaTableError};
use futures::TryStreamExt;
use object_store::path::Path;
use url::Url;

use super::accepted::{Accepted, AcceptedShards};
use crate::checkpoint::{SequenceNumber, SequenceNumberError, ShardId};
use crate::contract::{SEQUENCE_NUMBER, SHARD_ID, SUB_SEQUENCE_NUMBER};

const REASON: &str = "reason";

/// Why a table could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadbackError {
    /// A name that makes no URL below the lake's.
    #[error("table {table:?} has no place below {lake}")]
    Location {
        /// The table.
        table: String,
        /// The lake's root.
        lake: Url,
        /// Why.
        #[source]
        source: url::ParseError,
    },
    /// Its log cannot be read.
    #[error("the log of {table} cannot be read")]
    Log {
        /// The table.
        table: Url,
        /// Why.
        #[source]
        source: DeltaTableError,
    },
    /// A file cannot be read.
    #[error("file {file} of {table} cannot be read")]
    File {
        /// The table.
        table: Url,
        /// The file, below the table.
        file: Path,
        /// Why.
        #[source]
        source: ParquetError,
    },
    /// A bookkeeping column is missing or of another type.
    #[error("file {file} of {table} has no usable column {column}")]
    Column {
        /// The table.
        table: Url,
        /// The file, below the table.
        file: Path,
        /// The column.
        column: &'static str,
        /// Why.
        #[source]
        source: ArrowError,
    },
    /// A number that is none.
    #[error("{table} holds a sequence number that is none")]
    Number {
        /// The table.
        table: Url,
        /// The number.
        #[source]
        source: SequenceNumberError,
    },
}

/// A stream and its two tables, by name below the lake's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamTables {
    /// The stream.
    pub stream: String,
    /// Its rows table.
    pub rows: String,
    /// Its rejects table.
    pub rejects: String,
}

/// One stream's reckoning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reckoning {
    /// Records that Kinesis acknowledged.
    pub accepted: u64,
    /// Rows in the rows table.
    pub rows: u64,
    /// Rejects in the rejects table, by reason.
    pub rejects: BTreeMap<String, u64>,
    /// Acknowledged, but in neither table.
    pub lost: u64,
    /// In the tables more than once: each time beyond the first.
    pub duplicated: u64,
    /// In the tables, but never acknowledged (a call whose answer was lost).
    pub unexpected: u64,
}

/// Everything that the tables hold of one stream: (number, place inside an aggregated record), by shard.
type Found = BTreeMap<ShardId, Vec<(SequenceNumber, i64)>>;

/// Reads both tables of a stream under `lake` and compares them with what was accepted. A table that does not exist
/// yet holds nothing.
pub async fn reckon(lake: &Url, tables: &StreamTables, accepted: &AcceptedShards) -> Result<Reckoning, ReadbackError> {
    let mut found = Found::new();
    let mut reckoning = Reckoning::default();
    let rows = Table::open(lake, &tables.rows).await?;
    reckoning.rows = rows.read(&[], |batch| collect(&mut found, batch)).await?;
    let rejects = Table::open(lake, &tables.rejects).await?;
    let by_reason = &mut reckoning.rejects;
    rejects
        .read(&[REASON], |batch| {
            collect(&mut found, batch)?;
            text_column(batch, REASON)?.for_each(|reason| *by_reason.entry(reason.to_owned()).or_default() += 1);
            Ok(())
        })
        .await?;
    compare(accepted, found, &mut reckoning);
    Ok(reckoning)
}

fn compare(accepted: &AcceptedShards, mut found: Found, reckoning: &mut Reckoning) {
    for (shard, records) in accepted {
        let accepted = places(records);
        let mut there = found.remove(shard).unwrap_or_default();
        reckoning.accepted += accepted.len() as u64;
        reckoning.duplicated += without_repeats(&mut there);
        reckoning.lost += missing(&accepted, &there);
        reckoning.unexpected += missing(&there, &accepted);
    }
    for mut unknown in found.into_values() {
        reckoning.duplicated += without_repeats(&mut unknown);
        reckoning.unexpected += unknown.len() as u64;
    }
}

/// Where the booked records must be, in order. A number that was booked n times is that of an aggregate of n.
fn places(records: &[Accepted]) -> Vec<(SequenceNumber, i64)> {
    let mut numbers: Vec<SequenceNumber> = records.iter().map(|record| record.number).collect();
    numbers.sort_unstable();
    numbers.chunk_by(|a, b| a == b).flat_map(|same| same.iter().copied().zip(0..)).collect()
}

/// Sorts, removes repeats and says how many there were.
fn without_repeats(there: &mut Vec<(SequenceNumber, i64)>) -> u64 {
    let all = there.len();
    there.sort_unstable();
    there.dedup();
    (all - there.len()) as u64
}

/// How many of these are not among those, which are sorted.
fn missing(these: &[(SequenceNumber, i64)], those: &[(SequenceNumber, i64)]) -> u64 {
    these.iter().filter(|place| those.binary_search(place).is_err()).count() as u64
}

// === Reading ===

/// What can be wrong with one batch, before table and file are known.
enum BatchError {
    Column(&'static str, ArrowError),
    Number(SequenceNumberError),
}

fn collect(found: &mut Found, batch: &RecordBatch) -> Result<(), BatchError> {
    let shards = text_column(batch, SHARD_ID)?;
    let numbers = text_column(batch, SEQUENCE_NUMBER)?;
    let subs = column(batch, SUB_SEQUENCE_NUMBER)?;
    let subs = subs.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong_type(SUB_SEQUENCE_NUMBER, subs))?;
    for ((shard, number), sub) in shards.zip(numbers).zip(subs.values()) {
        let number = SequenceNumber::parse(number).map_err(BatchError::Number)?;
        match found.get_mut(&ShardId::new(shard)) {
            Some(numbers) => numbers.push((number, *sub)),
            None => {
                found.insert(ShardId::new(shard), vec![(number, *sub)]);
            }
        }
    }
    Ok(())
}

fn column<'a>(batch: &'a RecordBatch, name: &'static str) -> Result<&'a dyn Array, BatchError> {
    let missing = || BatchError::Column(name, ArrowError::SchemaError("it is missing".to_owned()));
    batch.column_by_name(name).map(|column| column.as_ref()).ok_or_else(missing)
}

/// A text column's values; a null reads as the empty text.
fn text_column<'a>(batch: &'a RecordBatch, name: &'static str) -> Result<impl Iterator<Item = &'a str>, BatchError> {
    let column = column(batch, name)?;
    let texts = column.as_string_opt::<i32>().ok_or_else(|| wrong_type(name, column))?;
    Ok(texts.iter().map(Option::unwrap_or_default))
}

fn wrong_type(name: &'static str, column: &dyn Array) -> BatchError {
    BatchError::Column(name, ArrowError::SchemaError(format!("it is {}", column.data_type())))
}

/// A table's active files at its newest version.
struct Table {
    url: Url,
    store: deltalake::logstore::ObjectStoreRef,
    files: Vec<Path>,
}

impl Table {
    async fn open(lake: &Url, name: &str) -> Result<Self, ReadbackError> {
        let location = |source| ReadbackError::Location { table: name.to_owned(), lake: lake.clone(), source };
        let url = lake.join(&format!("{name}/")).map_err(location)?;
        let failed = |source| ReadbackError::Log { table: url.clone(), source };
        let mut table = DeltaTableBuilder::from_url(url.clone()).and_then(DeltaTableBuilder::build).map_err(failed)?;
        let store = table.object_store();
        if !table.verify_deltatable_existence().await.map_err(failed)? {
            return Ok(Self { url, store, files: Vec::new() });
        }
        table.load().await.map_err(failed)?;
        let files = table.get_files_by_partitions(&[]).await.map_err(failed)?;
        Ok(Self { url, store, files })
    }

    /// Hands every batch of the bookkeeping columns (and `more`) to `each`; says how many rows there were.
    async fn read(
        &self,
        more: &[&str],
        mut each: impl FnMut(&RecordBatch) -> Result<(), BatchError>,
    ) -> Result<u64, ReadbackError> {
        let mut rows = 0;
        for file in &self.files {
            let failed = |source| ReadbackError::File { table: self.url.clone(), file: file.clone(), source };
            let reader = ParquetObjectReader::new(self.store.clone(), file.clone());
            let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(failed)?;
            let wanted = [SHARD_ID, SEQUENCE_NUMBER, SUB_SEQUENCE_NUMBER].into_iter().chain(more.iter().copied());
            let projection = ProjectionMask::columns(builder.parquet_schema(), wanted);
            let mut batches = builder.with_projection(projection).build().map_err(failed)?;
            while let Some(batch) = batches.try_next().await.map_err(failed)? {
                rows += batch.num_rows() as u64;
                each(&batch).map_err(|error| self.of_batch(file, error))?;
            }
        }
        Ok(rows)
    }

    fn of_batch(&self, file: &Path, error: BatchError) -> ReadbackError {
        let (table, file) = (self.url.clone(), file.clone());
        match error {
            BatchError::Column(column, source) => ReadbackError::Column { table, file, column, source },
            BatchError::Number(source) => ReadbackError::Number { table, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use deltalake::arrow::array::{ArrayRef, Int64Array, StringArray};
    use deltalake::parquet::arrow::ArrowWriter;
    use tokio::time::Instant;

    use super::*;

    const SHARD: &str = "shardId-000000000000";

    /// A Delta table made by hand: one file with these numbers, and with reasons if it is a rejects table.
    fn plant(folder: &std::path::Path, numbers: &[u64], reasons: Option<&[&str]>) {
        std::fs::create_dir_all(folder.join("_delta_log")).unwrap();
        let texts = |texts: Vec<String>| Arc::new(StringArray::from(texts)) as ArrayRef;
        let mut columns = vec![
            (SHARD_ID, texts(vec![SHARD.to_owned(); numbers.len()])),
            (SEQUENCE_NUMBER, texts(numbers.iter().map(u64::to_string).collect())),
            (SUB_SEQUENCE_NUMBER, Arc::new(Int64Array::from(vec![0; numbers.len()])) as ArrayRef),
        ];
        if let Some(reasons) = reasons {
            columns.push((REASON, texts(reasons.iter().map(|reason| (*reason).to_owned()).collect())));
        }
        let field = |(name, column): &(&str, ArrayRef)| {
            let kind = if column.data_type().is_integer() { "long" } else { "string" };
            format!(r#"{{\"name\":\"{name}\",\"type\":\"{kind}\",\"nullable\":true,\"metadata\":{{}}}}"#)
        };
        let fields = columns.iter().map(field).collect::<Vec<_>>().join(",");
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let file = std::fs::File::create(folder.join("part-0.parquet")).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let size = std::fs::metadata(folder.join("part-0.parquet")).unwrap().len();
        let log = format!(
            "{}\n{}{fields}{}\n{}{size}{}\n",
            r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#,
            r#"{"metaData":{"id":"0b0e8a3f-5c3e-4a51-9d7e-6f3f0c7b2a11","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":["#,
            r#"]}","partitionColumns":[],"configuration":{},"createdTime":0}}"#,
            r#"{"add":{"path":"part-0.parquet","partitionValues":{},"size":"#,
            r#","modificationTime":0,"dataChange":true}}"#,
        );
        std::fs::write(folder.join("_delta_log/00000000000000000000.json"), log).unwrap();
    }

    fn accepted(numbers: &[u64]) -> AcceptedShards {
        let sent = Instant::now();
        let one = |value: &u64| Accepted { number: SequenceNumber::parse(&value.to_string()).unwrap(), sent };
        AcceptedShards::from([(ShardId::new(SHARD), numbers.iter().map(one).collect())])
    }

    fn pin_tables() -> StreamTables {
        StreamTables { stream: "pin".to_owned(), rows: "pin".to_owned(), rejects: "pin_rejects".to_owned() }
    }

    #[tokio::test]
    async fn planted_losses_and_duplicates_are_found() {
        let lake = tempfile::tempdir().unwrap();
        plant(&lake.path().join("pin"), &[1, 2, 3, 3, 9], None);
        plant(&lake.path().join("pin_rejects"), &[4, 2], Some(&["invalid_json", "empty"]));
        let root = Url::from_directory_path(lake.path()).unwrap();
        let reckoning = reckon(&root, &pin_tables(), &accepted(&[1, 2, 3, 4, 5, 6])).await.unwrap();
        assert_eq!(
            reckoning,
            Reckoning {
                accepted: 6,
                rows: 5,
                rejects: BTreeMap::from([("empty".to_owned(), 1), ("invalid_json".to_owned(), 1)]),
                lost: 2,
                duplicated: 2,
                unexpected: 1,
            }
        );
    }

    #[test]
    fn a_number_that_was_booked_several_times_is_an_aggregate_of_as_many_records() {
        let number = |value: u64| SequenceNumber::parse(&value.to_string()).unwrap();
        let reckoned = |there: &[(u64, i64)]| {
            let found = there.iter().map(|(value, sub)| (number(*value), *sub)).collect();
            let mut reckoning = Reckoning::default();
            compare(&accepted(&[7, 8, 7, 7]), Found::from([(ShardId::new(SHARD), found)]), &mut reckoning);
            assert_eq!(reckoning.accepted, 4);
            (reckoning.lost, reckoning.duplicated, reckoning.unexpected)
        };
        assert_eq!(reckoned(&[(7, 0), (7, 1), (7, 2), (8, 0)]), (0, 0, 0));
        assert_eq!(reckoned(&[(7, 0), (7, 2), (8, 0)]), (1, 0, 0));
        assert_eq!(reckoned(&[(7, 2), (7, 0), (7, 1), (7, 2), (8, 0)]), (0, 1, 0));
        assert_eq!(reckoned(&[(7, 0), (7, 1), (7, 2), (8, 0), (8, 1)]), (0, 0, 1));
    }

    #[tokio::test]
    async fn a_clean_lake_reckons_to_nothing_lost_and_nothing_doubled() {
        let lake = tempfile::tempdir().unwrap();
        plant(&lake.path().join("pin"), &[3, 1, 2], None);
        let root = Url::from_directory_path(lake.path()).unwrap();
        let reckoning = reckon(&root, &pin_tables(), &accepted(&[1, 2, 3])).await.unwrap();
        assert_eq!(reckoning, Reckoning { accepted: 3, rows: 3, ..Reckoning::default() });
    }

    #[tokio::test]
    async fn tables_that_were_never_made_have_lost_everything() {
        let lake = tempfile::tempdir().unwrap();
        let root = Url::from_directory_path(lake.path()).unwrap();
        let reckoning = reckon(&root, &pin_tables(), &accepted(&[1, 2])).await.unwrap();
        assert_eq!(reckoning, Reckoning { accepted: 2, lost: 2, ..Reckoning::default() });
    }
}
