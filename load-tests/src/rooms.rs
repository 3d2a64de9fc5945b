//! The engine's rooms, called in this process: what the service does with a read, without Kinesis and without a store.
//!
//! Cleaning is the reader's, encoding is the flush's, and a flush comes when the service's would; so what is measured
//! here is what runs there.

use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use deltalake::arrow::array::RecordBatch;
use pintail::budget::Permit;
use pintail::checkpoint::{Position, PositionRange, SequenceNumber, ShardId};
use pintail::clean::Cleaner;
use pintail::contract::{self, Contract};
use pintail::demo::Kind;
use pintail::demo::contracts::shipped;
use pintail::lake::encoded_files;
use pintail::limits::{GET_RECORDS_LIMIT_MAX, HELD_FACTOR_DEN, HELD_FACTOR_NUM};
use pintail::record::{CleanBatch, RawBatch, RawRecord, ShardGrant};
use pintail::toml_doc::Problems;

/// `lake.flush_bytes` as it is unless configured.
pub const FLUSH_BYTES: u64 = 32 << 20;

const SHARD: &str = "shardId-000000000000";

/// Of 56 digits, as they are in practice; the last limb counts.
const NUMBER_LIMBS: [i64; 3] = [49, 654_871_238_090_312_415, 871_260_998_127_354_010];

/// 2024-01-14T10:00:00Z; a record a millisecond stays within the day for some fifty million.
const FIRST_ARRIVAL_US: i64 = 1_705_226_400_000_000;

/// One shard's reader and its stream's flush, under a shipped contract.
#[derive(Debug)]
pub struct Rooms {
    contract: Arc<Contract>,
    cleaner: Cleaner,
    shard: ShardId,
    records: i64,
    delivered: Position,
    held: Vec<RecordBatch>,
    held_bytes: u64,
}

impl Rooms {
    /// Those of one of the shipped streams.
    pub fn of(kind: Kind) -> anyhow::Result<Self> {
        let (file, text) = shipped(kind);
        let problems = Problems::default();
        let contract = contract::parse(file, text.to_owned(), &problems);
        problems.into_result().with_context(|| file.to_owned())?;
        let contract = Arc::new(contract.with_context(|| format!("{file} holds no contract"))?);
        let (cleaner, shard) = (Cleaner::new(Arc::clone(&contract)), ShardId::new(SHARD));
        let delivered = Position::Beginning;
        Ok(Self { contract, cleaner, shard, records: 0, delivered, held: Vec::new(), held_bytes: 0 })
    }

    /// The names of the columns that a stranger would call the table's: without the bookkeeping.
    pub fn data_columns(&self) -> Vec<String> {
        self.contract.columns.iter().map(|column| column.name.clone()).collect()
    }

    /// What they were made by.
    pub fn contract(&self) -> Arc<Contract> {
        Arc::clone(&self.contract)
    }

    /// Records that the source has read, as its answer.
    pub fn batch(&mut self, records: Vec<RawRecord>) -> RawBatch {
        let through = records.last().map_or(self.delivered, |last| Position::After(last.sequence_number));
        let range = PositionRange { shard: self.shard.clone(), after: self.delivered, through };
        self.delivered = through;
        let (grant, permit) = (ShardGrant::new(), Permit::default());
        RawBatch { range, records, seen_ms: None, end: None, grant, permit }
    }

    /// One answer of the source with copies of these payloads.
    pub fn read<'a>(&mut self, payloads: impl IntoIterator<Item = &'a [u8]>) -> anyhow::Result<RawBatch> {
        let payloads: Vec<&[u8]> = payloads.into_iter().collect();
        let mut all = Bytes::from(payloads.concat());
        self.answer(payloads.into_iter().map(|payload| all.split_to(payload.len())))
    }

    /// One answer of the source with these payloads.
    pub fn answer(&mut self, payloads: impl IntoIterator<Item = Bytes>) -> anyhow::Result<RawBatch> {
        let mut records = Vec::with_capacity(GET_RECORDS_LIMIT_MAX as usize);
        for data in payloads {
            self.records += 1;
            records.push(RawRecord {
                data,
                sequence_number: self.number()?,
                sub_sequence_number: 0,
                arrived_at_us: FIRST_ARRIVAL_US + self.records * 1_000,
                refused: None,
            });
        }
        Ok(self.batch(records))
    }

    fn number(&self) -> anyhow::Result<SequenceNumber> {
        let [first, second, third] = NUMBER_LIMBS;
        Ok(SequenceNumber::from_limbs([first, second, third, self.records])?)
    }

    /// Cleans a read.
    pub fn clean(&mut self, raw: RawBatch) -> CleanBatch {
        self.cleaner.clean(raw).0
    }

    /// Takes clean rows to the flush: its files, if the service would flush now.
    pub fn hold(&mut self, rows: RecordBatch) -> anyhow::Result<Vec<Bytes>> {
        self.held_bytes += rows.get_array_memory_size() as u64 * HELD_FACTOR_NUM / HELD_FACTOR_DEN;
        self.held.push(rows);
        if self.held_bytes < FLUSH_BYTES { Ok(Vec::new()) } else { self.flush() }
    }

    /// The files of all rows that were held back.
    pub fn flush(&mut self) -> anyhow::Result<Vec<Bytes>> {
        self.held_bytes = 0;
        Ok(encoded_files(&std::mem::take(&mut self.held))?)
    }
}

#[cfg(test)]
mod tests {
    use pintail::demo::pinterest::Population;

    use super::*;

    #[test]
    fn every_record_is_a_row_or_a_reject_and_a_flush_comes_when_enough_is_held() {
        let population = Population::new();
        let mut rooms = Rooms::of(Kind::Pin).unwrap();
        let (mut files, mut rows) = (Vec::new(), 0);
        for read in 0..30 {
            let records: Vec<String> =
                (read * 2_000..(read + 1) * 2_000).map(|number| population.endless(Kind::Pin, number)).collect();
            let payloads = records.iter().map(String::as_bytes).chain([b"no record".as_slice()]);
            let raw = rooms.read(payloads).unwrap();
            let cleaned = rooms.clean(raw);
            assert_eq!((cleaned.rows.num_rows(), cleaned.rejects.len()), (2_000, 1));
            rows += cleaned.rows.num_rows();
            files.extend(rooms.hold(cleaned.rows).unwrap());
        }
        assert!(!files.is_empty(), "{rows} pins are more than one flush");
        assert_eq!(rooms.flush().unwrap().len(), 1);
        assert!(rooms.flush().unwrap().is_empty());
    }
}
