//! The rejects of one version of a rejects table, in an order that stays, so that "so many are done" is a position.
//!
//! The order is (path of the file, row in it). It stays because a version's files are a fact of an immutable log, a
//! file is never written again under its name, and a path sorts like itself. Sorting by shard and number instead
//! would need all of them in memory, or every file once a shard; this needs the names of the files, and reads each
//! once. A file that does not hold as many rows as the log says is an error, since all positions after it would lie.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;

use bytes::Bytes;
use deltalake::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use deltalake::arrow::compute::cast;
use deltalake::arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use deltalake::parquet::errors::ParquetError;
use futures::{StreamExt, TryStreamExt};

use super::error::{LakeError, is_gone};
use super::files::{DataFile, OpenFile, Part, Rows, active_files};
use super::recovered::{RecordKeys, Recovered};
use super::store::LakeStore;
use crate::checkpoint::ShardId;
use crate::contract::{ARRIVED_AT, PAYLOAD, REASON, SEQUENCE_NUMBER, SHARD_ID, SUB_SEQUENCE_NUMBER};
use crate::limits::{REPLAY_BATCH_BYTES, REPLAY_BATCH_ROWS_MAX, REPLAY_SLICE_ROWS_MAX};
use crate::record::{RawRecord, Refusal};

const FOOTERS_AT_A_TIME: usize = 8;
const KEYS_AT_A_TIME: u64 = 8192;

/// All rejects of one version.
#[derive(Debug)]
pub struct RejectSet {
    store: LakeStore,
    table: String,
    version: u64,
    files: Vec<(DataFile, u64)>,
    total: u64,
}

/// Some rejects that follow each other.
#[derive(Debug)]
pub struct RejectBatch {
    /// How many are before them.
    pub after: u64,
    /// How many are done with them.
    pub through: u64,
    /// Those that no replay has recovered yet, each with its shard.
    pub rejects: VecDeque<(ShardId, RawRecord)>,
    /// How many are before each of them.
    places: Vec<u64>,
    /// Those that are rows already, or stand in the same file before.
    pub recovered: u64,
    /// Rows that are no record: without number, arrival or bytes. Some foreign engine's.
    pub unusable: u64,
}

impl RejectBatch {
    /// The last of its rejects, which somebody could not take yet, as a batch of their own.
    pub fn rest(&self, left: VecDeque<(ShardId, RawRecord)>) -> Option<Self> {
        let places = self.places[self.places.len() - left.len()..].to_vec();
        let after = places.first().copied()?;
        Some(Self { after, through: self.through, rejects: left, places, recovered: 0, unusable: 0 })
    }
}

impl RejectSet {
    /// Finds the files. Reads no reject.
    pub async fn of(store: &LakeStore, table: &str, version: u64) -> Result<Self, LakeError> {
        let found = active_files(store, table, Some(version), |added| Some(added.file)).await?;
        let mut set = Self { store: store.clone(), table: table.to_owned(), version, files: Vec::new(), total: 0 };
        let count = |file: DataFile| async {
            let rows = match file.rows {
                Some(rows) => rows,
                None => set.open(&file).await?.rows(),
            };
            Ok::<_, LakeError>((file, rows))
        };
        let counted = futures::stream::iter(found.into_values()).map(count).buffered(FOOTERS_AT_A_TIME);
        let files: Vec<(DataFile, u64)> = counted.try_collect().await?;
        set.total = files.iter().map(|(_, rows)| rows).sum();
        set.files = files;
        Ok(set)
    }

    /// The version of the table.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Reads them, from the first one that is not `done`.
    pub async fn read(&self, done: u64, rows_table: &str) -> Result<RejectReader<'_>, LakeError> {
        if done > self.total {
            let reason = format!("it has {} rejects, and {done} of them are said to be done", self.total);
            return Err(LakeError::Log { table: self.table.clone(), version: self.version, reason });
        }
        let recovered = Recovered::of(&self.store, rows_table).await?;
        let mut reader = RejectReader { set: self, recovered, file: 0, row: 0, done: 0, slice: None };
        while let Some((_, rows)) = self.files.get(reader.file).filter(|(_, rows)| reader.done + rows <= done) {
            reader.done += rows;
            reader.file += 1;
        }
        reader.row = done - reader.done;
        reader.done = done;
        Ok(reader)
    }

    async fn open(&self, file: &DataFile) -> Result<OpenFile, LakeError> {
        file.open(&self.store, &self.table).await.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: ParquetError) -> LakeError {
        if is_gone(&source) {
            return LakeError::VersionGone { table: self.table.clone(), version: self.version };
        }
        LakeError::Encode { table: self.table.clone(), source }
    }

    fn wrong(&self, file: &DataFile, what: &str) -> LakeError {
        let reason = format!("its file {} {what}", file.path);
        LakeError::Log { table: self.table.clone(), version: self.version, reason }
    }
}

/// Goes through a [`RejectSet`] once.
#[derive(Debug)]
pub struct RejectReader<'a> {
    set: &'a RejectSet,
    recovered: Recovered,
    /// The file at hand, and how many of its rows are done.
    file: usize,
    row: u64,
    done: u64,
    slice: Option<Slice>,
}

/// A part of a file, open.
struct Slice {
    rows: Rows,
    /// The row that the next batch begins with, and the first one after the slice.
    row: u64,
    end: u64,
    recovered: HashSet<u64>,
}

impl std::fmt::Debug for Slice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rows {} to {}", self.row, self.end)
    }
}

impl RejectReader<'_> {
    /// The next few; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<RejectBatch>, LakeError> {
        loop {
            let Some((file, rows)) = self.set.files.get(self.file) else { return Ok(None) };
            if self.row >= *rows {
                (self.file, self.row) = (self.file + 1, 0);
                continue;
            }
            let slice = match &mut self.slice {
                Some(slice) => slice,
                None => {
                    let end = rows.saturating_sub(self.row).min(REPLAY_SLICE_ROWS_MAX) + self.row;
                    let opened = open(self.set, &self.recovered, file, self.row, end).await?;
                    self.slice.insert(opened)
                }
            };
            let batch = slice.rows.try_next().await.map_err(|source| self.set.failed(source))?;
            let Some(batch) = batch else {
                return Err(self.set.wrong(file, &format!("ends after {} rows; the log counts {rows}", slice.row)));
            };
            let mut taken = take(&batch, slice.row, &slice.recovered).map_err(|what| self.set.wrong(file, what))?;
            let count = batch.num_rows() as u64;
            slice.row += count;
            self.row = slice.row;
            let is_over = slice.row >= slice.end;
            if is_over {
                self.slice = None;
            }
            (taken.after, taken.through) = (self.done, self.done + count);
            taken.places.iter_mut().for_each(|place| *place += self.done);
            self.done = taken.through;
            return Ok(Some(taken));
        }
    }
}

/// Opens a part of a file, and finds out which of its rejects are recovered.
async fn open(
    set: &RejectSet,
    recovered: &Recovered,
    file: &DataFile,
    from: u64,
    end: u64,
) -> Result<Slice, LakeError> {
    let opened = set.open(file).await?;
    let rows = opened.rows();
    if let Some(counted) = file.rows.filter(|counted| *counted != rows) {
        return Err(set.wrong(file, &format!("has {rows} rows; the log counts {counted}")));
    }
    let batch_rows = (REPLAY_BATCH_BYTES / opened.value_bytes(PAYLOAD).max(1)).clamp(1, REPLAY_BATCH_ROWS_MAX);
    let found = recovered_in(set, recovered, file, &opened, from..end).await?;
    let columns = &[SHARD_ID, SEQUENCE_NUMBER, SUB_SEQUENCE_NUMBER, ARRIVED_AT, PAYLOAD, REASON];
    let part = Part { columns, offset: from, limit: end - from, batch_rows };
    let rows = opened.read(part).map_err(|source| set.failed(source))?;
    Ok(Slice { rows, row: from, end, recovered: found })
}

/// The rows of this part whose rejects are rows of the rows table, or are here a second time: whoever doubled them,
/// they are one record, and become one row.
async fn recovered_in(
    set: &RejectSet,
    recovered: &Recovered,
    file: &DataFile,
    opened: &OpenFile,
    part: Range<u64>,
) -> Result<HashSet<u64>, LakeError> {
    let columns = &[SHARD_ID, SEQUENCE_NUMBER, SUB_SEQUENCE_NUMBER, ARRIVED_AT];
    let (offset, limit) = (part.start, part.end - part.start);
    let wanted = Part { columns, offset, limit, batch_rows: KEYS_AT_A_TIME };
    let mut rows = opened.read(wanted).map_err(|source| set.failed(source))?;
    let (mut asked, mut arrived_us, mut row) = (HashMap::new(), (i64::MAX, i64::MIN), offset);
    let mut doubles = Vec::new();
    while let Some(batch) = rows.try_next().await.map_err(|source| set.failed(source))? {
        let (keys, arrivals) =
            RecordKeys::of(&batch).zip(arrivals(&batch)).ok_or_else(|| set.wrong(file, NO_COLUMNS))?;
        for index in 0..batch.num_rows() {
            if let Some(key) = keys.get(index).filter(|_| arrivals.is_valid(index)) {
                match asked.entry(key) {
                    Entry::Vacant(first) => drop(first.insert(row)),
                    Entry::Occupied(_) => doubles.push(row),
                }
                let arrived = arrivals.value(index);
                arrived_us = (arrived_us.0.min(arrived), arrived_us.1.max(arrived));
            }
            row += 1;
        }
    }
    let mut found = recovered.among(&asked, arrived_us).await?;
    found.extend(doubles);
    Ok(found)
}

const NO_COLUMNS: &str = "lacks a column of a reject, or has it in another type";

/// What the batch, whose first row is the file's `first`, holds.
fn take(batch: &RecordBatch, first: u64, recovered: &HashSet<u64>) -> Result<RejectBatch, &'static str> {
    let keys = RecordKeys::of(batch).ok_or(NO_COLUMNS)?;
    let arrivals = arrivals(batch).ok_or(NO_COLUMNS)?;
    let payloads: &BinaryArray =
        batch.column_by_name(PAYLOAD).and_then(|column| column.as_binary_opt()).ok_or(NO_COLUMNS)?;
    let reasons: &StringArray =
        batch.column_by_name(REASON).and_then(|column| column.as_string_opt()).ok_or(NO_COLUMNS)?;
    let (rejects, places) = (VecDeque::new(), Vec::new());
    let mut taken = RejectBatch { after: 0, through: 0, rejects, places, recovered: 0, unusable: 0 };
    for (index, row) in (0..batch.num_rows()).zip(first..) {
        if recovered.contains(&row) {
            taken.recovered += 1;
            continue;
        }
        let is_whole = arrivals.is_valid(index) && payloads.is_valid(index);
        let Some((shard, sequence_number, sub_sequence_number)) = keys.get(index).filter(|_| is_whole) else {
            taken.unusable += 1;
            continue;
        };
        let record = RawRecord {
            data: Bytes::copy_from_slice(payloads.value(index)),
            sequence_number,
            sub_sequence_number,
            arrived_at_us: arrivals.value(index),
            refused: reasons.is_valid(index).then(|| Refusal::of_reason(reasons.value(index))).flatten(),
        };
        taken.rejects.push_back((shard, record));
        taken.places.push(row - first);
    }
    Ok(taken)
}

/// Arrivals in microseconds, whatever unit the file keeps them in.
fn arrivals(batch: &RecordBatch) -> Option<TimestampMicrosecondArray> {
    let column: &ArrayRef = batch.column_by_name(ARRIVED_AT)?;
    let wanted = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Some(cast(column, &wanted).ok()?.as_primitive_opt::<TimestampMicrosecondType>()?.clone())
}
