//! Reads the tables back and holds them against what Kinesis accepted: nothing lost, nothing doubled, nothing altered,
//! nothing out of order, or say so, shard by shard.
//!
//! The tables are opened as any other Delta reader would open them, from their log alone; nothing that the writer
//! remembers is asked. They are read file by file, with one byte a record beside what was accepted.

mod files;

use std::collections::{BTreeMap, BTreeSet};

use deltalake::DeltaTableError;
use deltalake::arrow::array::{Array, AsArray, RecordBatch};
use deltalake::arrow::datatypes::Int64Type;
use deltalake::arrow::error::ArrowError;
use deltalake::parquet::errors::ParquetError;
use object_store::path::Path;
use url::Url;

use self::files::{BatchError, Files, column, text_column, wrong_type};
use super::accepted::{Accepted, AcceptedShards};
use super::fingerprint::{self, ExpectedRows};
use super::pinterest::Kind;
use crate::checkpoint::{SequenceNumber, SequenceNumberError, ShardId};
use crate::contract::{PAYLOAD, REASON, REPLAYED, SEQUENCE_NUMBER, SHARD_ID, SUB_SEQUENCE_NUMBER};

/// What every table of records has.
const BOOKKEEPING: [&str; 3] = [SHARD_ID, SEQUENCE_NUMBER, SUB_SEQUENCE_NUMBER];

/// Files that replace others may bring them together in any order.
const COMPACTED: &str = "compact-";

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
    /// What is posted to it.
    pub kind: Kind,
    /// Its rows table.
    pub rows: String,
    /// Its rejects table.
    pub rejects: String,
}

/// What was found of some records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records that Kinesis acknowledged.
    pub accepted: u64,
    /// Acknowledged, but in neither table.
    pub lost: u64,
    /// In the tables more than once: each time beyond the first.
    pub duplicated: u64,
    /// Rejects of other bytes than were put, and rows that their posting does not make.
    pub altered: u64,
    /// In a file after a later record of their shard.
    pub out_of_order: u64,
    /// In the tables, but never acknowledged (a call whose answer was lost).
    pub unexpected: u64,
}

impl Tally {
    /// Nothing that should not be.
    pub fn is_clean(&self) -> bool {
        let Self { accepted: _, lost, duplicated, altered, out_of_order, unexpected: _ } = *self;
        (lost, duplicated, altered, out_of_order) == (0, 0, 0, 0)
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            altered: self.altered + other.altered,
            out_of_order: self.out_of_order + other.out_of_order,
            unexpected: self.unexpected + other.unexpected,
        }
    }
}

/// One stream's reckoning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reckoning {
    /// Rows in the rows table of records that were clean when they were read.
    pub rows: u64,
    /// Rows that a replay made of rejects. Each is one of the rejects as well.
    pub recovered: u64,
    /// Recovered rows whose reject is not there, or which are there more than once.
    pub unfounded: u64,
    /// Rejects in the rejects table, by reason.
    pub rejects: BTreeMap<String, u64>,
    /// By shard.
    pub shards: BTreeMap<ShardId, Tally>,
}

impl Reckoning {
    /// Over all shards.
    pub fn total(&self) -> Tally {
        self.shards.values().fold(Tally::default(), |sum, tally| sum.plus(*tally))
    }
}

/// Reads both tables of a stream under `lake` and compares them with what was accepted. A table that does not exist yet holds
/// nothing.
pub async fn reckon(
    lake: &Url,
    tables: &StreamTables,
    accepted: AcceptedShards,
    expected: &mut ExpectedRows,
) -> Result<Reckoning, ReadbackError> {
    let mut desk = Desk::new(accepted);
    let kind = tables.kind;
    let columns: Vec<&str> = BOOKKEEPING.iter().chain(&[REPLAYED]).chain(fingerprint::columns(kind)).copied().collect();
    let table = Files::open(lake, &tables.rows).await?;
    let rows = table.read(&columns, |file, batch| {
        let prints = fingerprint::of_rows(kind, batch).ok_or_else(|| not_as_expected(kind, batch))?;
        desk.tick_off(Table::Rows, file, batch, &prints, |accepted| expected.of(kind, accepted.ind))
    });
    let all_rows = rows.await?;
    let mut by_reason: BTreeMap<String, u64> = BTreeMap::new();
    desk.file = None;
    let columns: Vec<&str> = BOOKKEEPING.into_iter().chain([REASON, PAYLOAD]).collect();
    let table = Files::open(lake, &tables.rejects).await?;
    let rejects = table.read(&columns, |file, batch| {
        text_column(batch, REASON)?.for_each(|reason| *by_reason.entry(reason.to_owned()).or_default() += 1);
        let payloads = column(batch, PAYLOAD)?;
        let payloads = payloads.as_binary_opt::<i32>().ok_or_else(|| wrong_type(PAYLOAD, payloads))?;
        let prints: Vec<u32> =
            payloads.iter().map(|payload| fingerprint::of_payload(payload.unwrap_or_default())).collect();
        desk.tick_off(Table::Rejects, file, batch, &prints, |accepted| accepted.payload)
    });
    rejects.await?;
    let recovered = desk.recovered;
    let rows = all_rows - recovered;
    let (unfounded, shards) = desk.close();
    Ok(Reckoning { rows, recovered, unfounded, rejects: by_reason, shards })
}

fn not_as_expected(kind: Kind, batch: &RecordBatch) -> BatchError {
    let found: Vec<String> =
        batch.schema().fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    let reason = format!("texts and integers {:?} expected, it has {found:?}", fingerprint::columns(kind));
    BatchError::Column(fingerprint::columns(kind)[0], ArrowError::SchemaError(reason))
}

// === Ticking off ===

/// Which table is read. The rejects come last: by then it is known which of them were recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Rows,
    Rejects,
}

/// The book of one stream, while the tables are read.
struct Desk {
    shards: BTreeMap<ShardId, Page>,
    recovered: u64,
    unfounded: u64,
    /// The file being read, and the last number of each shard in it.
    file: Option<Path>,
    last: BTreeMap<ShardId, SequenceNumber>,
}

#[derive(Default)]
struct Page {
    /// By number. One that was booked n times is that of an aggregate of n.
    accepted: Vec<Accepted>,
    /// How often each of them was found; counts to 255.
    found: Vec<u8>,
    /// Which of them a replay recovered, and whose reject was not seen yet.
    recovered: BTreeSet<usize>,
    tally: Tally,
}

impl Page {
    /// The index of a booked record; `None` if there is no such record.
    fn place(&self, number: SequenceNumber, sub: i64) -> Option<usize> {
        let first = self.accepted.partition_point(|record| record.number < number);
        let place = first.checked_add(usize::try_from(sub).ok()?)?;
        self.accepted.get(place).filter(|record| record.number == number).map(|_| place)
    }
}

impl Desk {
    fn new(accepted: AcceptedShards) -> Self {
        let page = |(shard, mut accepted): (ShardId, Vec<Accepted>)| {
            // Those of an aggregate stay in its order.
            accepted.sort_by_key(|record| record.number);
            let found = vec![0; accepted.len()];
            let tally = Tally { accepted: accepted.len() as u64, ..Tally::default() };
            (shard, Page { accepted, found, recovered: BTreeSet::new(), tally })
        };
        let shards = accepted.into_iter().map(page).collect();
        Self { shards, recovered: 0, unfounded: 0, file: None, last: BTreeMap::new() }
    }

    /// Ticks off a batch of a table whose records have these fingerprints and should have those.
    fn tick_off(
        &mut self,
        table: Table,
        file: &Path,
        batch: &RecordBatch,
        prints: &[u32],
        mut should_be: impl FnMut(&Accepted) -> u32,
    ) -> Result<(), BatchError> {
        if self.file.as_ref() != Some(file) {
            (self.file, self.last) = (Some(file.clone()), BTreeMap::new());
        }
        let in_order = !file.filename().is_some_and(|name| name.starts_with(COMPACTED));
        let (shards, numbers) = (text_column(batch, SHARD_ID)?, text_column(batch, SEQUENCE_NUMBER)?);
        let subs = column(batch, SUB_SEQUENCE_NUMBER)?;
        let subs = subs.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong_type(SUB_SEQUENCE_NUMBER, subs))?;
        let replays = batch.column_by_name(REPLAYED);
        let records = shards.zip(numbers).zip(subs.values()).zip(prints).enumerate();
        for (row, (((shard, number), sub), print)) in records {
            let (shard, number) = (ShardId::new(shard), SequenceNumber::parse(number).map_err(BatchError::Number)?);
            let is_recovered = replays.is_some_and(|replays| replays.is_valid(row));
            self.recovered += u64::from(is_recovered);
            // A replay goes by the rejects' files, not by shards.
            let before = if is_recovered { None } else { self.last.insert(shard.clone(), number) };
            let page = self.shards.entry(shard).or_default();
            page.tally.out_of_order += u64::from(in_order && before > Some(number));
            match page.place(number, *sub) {
                Some(at) if is_recovered => {
                    self.unfounded += u64::from(!page.recovered.insert(at));
                    page.tally.altered += u64::from(should_be(&page.accepted[at]) != *print);
                }
                Some(at) => {
                    if table == Table::Rejects {
                        page.recovered.remove(&at);
                    }
                    page.tally.duplicated += u64::from(page.found[at] > 0);
                    page.tally.altered += u64::from(should_be(&page.accepted[at]) != *print);
                    page.found[at] = page.found[at].saturating_add(1);
                }
                None => page.tally.unexpected += 1,
            }
        }
        Ok(())
    }

    /// Recovered rows without one reject each, and what was found by shard.
    fn close(self) -> (u64, BTreeMap<ShardId, Tally>) {
        let without_reject: usize = self.shards.values().map(|page| page.recovered.len()).sum();
        let tally = |(shard, page): (ShardId, Page)| {
            let lost = page.found.iter().filter(|found| **found == 0).count() as u64;
            (shard, Tally { lost, ..page.tally })
        };
        (self.unfounded + without_reject as u64, self.shards.into_iter().map(tally).collect())
    }
}

#[cfg(test)]
mod tests;
