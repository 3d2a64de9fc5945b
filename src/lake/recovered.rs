//! Which rejects have become rows: asked of the rows table itself, so that no later replay recovers one again.
//!
//! Only files that have recovered rows by their statistics are read, only those whose arrivals meet the question's,
//! and only the columns that name a record; what is held is the answer.

use std::collections::{HashMap, HashSet};

use deltalake::arrow::array::{Array, AsArray, RecordBatch};
use deltalake::arrow::datatypes::Int64Type;
use deltalake::parquet::errors::ParquetError;
use futures::TryStreamExt;

use super::error::{LakeError, is_gone};
use super::files::{Added, DataFile, Part, active_files};
use super::store::LakeStore;
use crate::checkpoint::{SequenceNumber, ShardId};
use crate::contract::{ARRIVED_AT, REPLAYED, SEQUENCE_NUMBER, SHARD_ID, SUB_SEQUENCE_NUMBER};

const ROWS_AT_A_TIME: u64 = 8192;

/// What names a record: shard, sequence number, place inside an aggregated record.
pub(crate) type RecordKey = (ShardId, SequenceNumber, i64);

/// The files of a rows table that have recovered rows.
#[derive(Debug)]
pub(crate) struct Recovered {
    store: LakeStore,
    table: String,
    files: Vec<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    file: DataFile,
    arrived_us: (i64, i64),
}

impl Recovered {
    /// As of the table's head.
    pub async fn of(store: &LakeStore, table: &str) -> Result<Self, LakeError> {
        let candidate = |added: Added| {
            let arrived_us = added.times_us(ARRIVED_AT);
            added.may_have(REPLAYED).then_some(Candidate { file: added.file, arrived_us })
        };
        let files = active_files(store, table, None, candidate).await?;
        Ok(Self { store: store.clone(), table: table.to_owned(), files: files.into_values().collect() })
    }

    /// The rejects among these that have become rows. `arrived_us` are the earliest and the latest of their arrivals.
    pub async fn among(
        &self,
        rejects: &HashMap<RecordKey, u64>,
        arrived_us: (i64, i64),
    ) -> Result<HashSet<u64>, LakeError> {
        let mut found = HashSet::new();
        let (from, to) = arrived_us;
        for candidate in self.files.iter().filter(|it| it.arrived_us.0 <= to && it.arrived_us.1 >= from) {
            let looked = self.look(&candidate.file, rejects, &mut found).await;
            looked.map_err(|source| self.failed(&candidate.file, source))?;
        }
        Ok(found)
    }

    async fn look(
        &self,
        file: &DataFile,
        rejects: &HashMap<RecordKey, u64>,
        found: &mut HashSet<u64>,
    ) -> Result<(), ParquetError> {
        let columns = &[SHARD_ID, SEQUENCE_NUMBER, SUB_SEQUENCE_NUMBER, REPLAYED];
        let part = Part { columns, offset: 0, limit: u64::MAX, batch_rows: ROWS_AT_A_TIME };
        let mut rows = file.open(&self.store, &self.table).await?.read(part)?;
        while let Some(batch) = rows.try_next().await? {
            let Some(replayed) = batch.column_by_name(REPLAYED) else { return Ok(()) };
            let keys = RecordKeys::of(&batch).ok_or_else(|| {
                let (table, path) = (&self.table, &file.path);
                ParquetError::General(format!("{path} of {table} lacks a usable {SHARD_ID} or {SEQUENCE_NUMBER}"))
            })?;
            let recovered = (0..batch.num_rows()).filter(|row| replayed.is_valid(*row));
            found.extend(recovered.filter_map(|row| rejects.get(&keys.get(row)?)).copied());
        }
        Ok(())
    }

    fn failed(&self, file: &DataFile, source: ParquetError) -> LakeError {
        if is_gone(&source) {
            let reason = format!(
                "its file {} is gone, compacted and vacuumed while it was needed (start the replay again: it goes on)",
                file.path
            );
            return LakeError::Refused { table: self.table.clone(), reason };
        }
        LakeError::Encode { table: self.table.clone(), source }
    }
}

/// The columns of a batch that name its records.
pub(crate) struct RecordKeys<'a> {
    shards: &'a deltalake::arrow::array::StringArray,
    numbers: &'a deltalake::arrow::array::StringArray,
    subs: &'a deltalake::arrow::array::Int64Array,
}

impl<'a> RecordKeys<'a> {
    /// `None` if one is missing or of another type.
    pub fn of(batch: &'a RecordBatch) -> Option<Self> {
        Some(Self {
            shards: batch.column_by_name(SHARD_ID)?.as_string_opt()?,
            numbers: batch.column_by_name(SEQUENCE_NUMBER)?.as_string_opt()?,
            subs: batch.column_by_name(SUB_SEQUENCE_NUMBER)?.as_primitive_opt::<Int64Type>()?,
        })
    }

    /// `None` if the row does not name a record: some foreign engine's.
    pub fn get(&self, row: usize) -> Option<RecordKey> {
        let named = self.shards.is_valid(row) && self.numbers.is_valid(row) && self.subs.is_valid(row);
        let number = named.then(|| SequenceNumber::parse(self.numbers.value(row)).ok())??;
        Some((ShardId::new(self.shards.value(row)), number, self.subs.value(row)))
    }
}
