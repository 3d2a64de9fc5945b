//! One cleaner for every stream: it runs a compiled contract over the records of a read.
//!
//! Every record comes out once, as a row or as a reject with its untouched bytes, and everything that was repaired,
//! made null or ignored on the way is counted. No I/O, no clock, no waiting: the same batch gives the same answer.
//!
//! A record walks the files in this order: `repair` undoes transport damage, `json` parses, `fields` finds the
//! contract's fields; the usual record, undamaged and flat, comes through `flat` instead. Then `value` with `text`,
//! `number` and `timestamp` makes one value of them, and `builder` puts it into its column. Whatever is in the way is a `fault`, which makes the record a reject.

mod builder;
mod counts;
mod fault;
mod fields;
mod flat;
mod json;
mod number;
mod repair;
#[cfg(test)]
mod tests;
mod text;
mod timestamp;
mod value;

use std::collections::VecDeque;
use std::sync::Arc;

use deltalake::arrow::array::RecordBatch;
use simd_json::Node;

use crate::checkpoint::{Position, ShardId};
use crate::contract::Contract;
use crate::limits::SCRATCH_IN_BATCH_BYTES_MAX;
use crate::record::{CleanBatch, CleanCounts, LeftOver, RawBatch, RawRecord, Refusal, Reject, RejectReason};
use builder::RowsBuilder;
use counts::UnknownFields;
use fault::Fault;
use fields::Located;
use flat::FlatReader;
use repair::Opener;
use value::Fields;

/// Cleans records, one batch after the other, of whichever shard. It keeps memory from batch to batch and nothing else:
/// what a record becomes depends on the record, and on how much of its own read has been inflated before it.
#[derive(Debug)]
pub struct Cleaner {
    contract: Arc<Contract>,
    flat: FlatReader,
    opener: Opener,
    located: Located,
    rows: RowsBuilder,
    unknown_fields: UnknownFields,
}

/// An aggregate of which a part does not fit, where it begins: what is in memory has some of it.
struct Unfit {
    at: usize,
}

impl Cleaner {
    /// A cleaner for the records of one stream.
    pub fn new(contract: Arc<Contract>) -> Self {
        Self {
            flat: FlatReader::default(),
            opener: Opener::default(),
            located: Located::default(),
            rows: RowsBuilder::new(&contract),
            unknown_fields: UnknownFields::default(),
            contract,
        }
    }

    /// Cleans one read: `rows + rejects` = its records, in their order. It stops before a Kinesis record that could be
    /// inflated alone, but not beside those before it; that one and the rest are left, to be read again.
    pub fn clean(&mut self, raw: RawBatch) -> (CleanBatch, CleanCounts) {
        let RawBatch { mut range, records, mut seen_ms, end, grant, permit } = raw;
        let mut fitting = records.len();
        let (taken, mut counts, rejects) = loop {
            match self.clean_fitting(&range.shard, &records[..fitting]) {
                Ok(cleaned) => break cleaned,
                Err(Unfit { at }) => fitting = at,
            }
        };
        let left = LeftOver::of(&records[taken..]);
        if let Some(last) = records[..taken].last().filter(|_| left.records > 0) {
            (range.through, seen_ms) = (Position::After(last.sequence_number), Some(last.arrived_at_us / 1000));
        }
        let is_empty = records.is_empty();
        drop(records);
        counts.unknown_fields = self.unknown_fields.take();
        let rows = self.rows.finish(&self.contract, &mut counts);
        self.shrink();
        // A read of nothing but rejects says when they came, as one of nothing at all does; among rows they say nothing.
        let rejected_us = || rejects.iter().map(|reject: &Reject| reject.record.arrived_at_us).max();
        let come_to_us = self.rows.take_watermark_us().or_else(rejected_us);
        let watermark_ms = if is_empty { seen_ms } else { come_to_us.map(|us| us.div_euclid(1000)) };
        (CleanBatch { range, rows, rejects, seen_ms, watermark_ms, end, left, grant, permit }, counts)
    }

    /// Begins anew, and cleans as many of the records as can be inflated side by side. It stops between two Kinesis
    /// records, since positions know only those whole. The first is never left: what does not fit of it is a reject.
    fn clean_fitting(
        &mut self,
        shard: &ShardId,
        records: &[RawRecord],
    ) -> Result<(usize, CleanCounts, Vec<Reject>), Unfit> {
        let (mut counts, mut rejects) = (CleanCounts::default(), Vec::new());
        self.opener.begin_batch();
        self.unknown_fields.take();
        self.rows.begin_batch(records);
        for (index, record) in records.iter().enumerate() {
            let Err(fault) = self.clean_record(shard, record, &mut counts) else { continue };
            if fault.is_crowded_out {
                let is_of_another = |before: &RawRecord| before.sequence_number != record.sequence_number;
                match records[..index].iter().rposition(is_of_another) {
                    Some(last) if last + 1 == index => return Ok((index, counts, rejects)),
                    Some(last) => return Err(Unfit { at: last + 1 }),
                    None => {}
                }
            }
            rejects.push(fault.into_reject(record));
        }
        Ok((records.len(), counts, rejects))
    }

    /// Cleans records of any shards, in their order, as if one read had brought them. It stops before one that could be
    /// inflated alone, but not beside those before it; that one and the rest stay where they are. At least one is taken.
    pub fn clean_some(&mut self, records: &mut VecDeque<(ShardId, RawRecord)>) -> (RecordBatch, Vec<Reject>) {
        let mut counts = CleanCounts::default();
        let mut rejects = Vec::new();
        self.opener.begin_batch();
        while let Some((shard, record)) = records.pop_front() {
            let Err(fault) = self.clean_record(&shard, &record, &mut counts) else { continue };
            if fault.is_crowded_out {
                records.push_front((shard, record));
                break;
            }
            rejects.push(fault.into_reject(&record));
        }
        self.unknown_fields.take();
        let rows = self.rows.finish(&self.contract, &mut counts);
        self.shrink();
        (rows, rejects)
    }

    fn shrink(&mut self) {
        self.flat.shrink();
        self.opener.shrink();
        self.located.shrink();
    }

    fn clean_record(&mut self, shard: &ShardId, record: &RawRecord, counts: &mut CleanCounts) -> Result<(), Fault> {
        if let Some(refusal) = record.refused {
            return Err(refused(refusal, shard, record));
        }
        let Self { contract, flat, opener, located, rows, unknown_fields } = self;
        let place = (shard, record);
        if let Some(flat) = flat.read(&contract.fields, &record.data) {
            return append(contract, rows, unknown_fields, flat, place);
        }
        if opener.scratch_bytes() + located.scratch_bytes() > SCRATCH_IN_BATCH_BYTES_MAX {
            opener.shrink();
            located.shrink();
        }
        let cleaned = opener.open(&record.data, |object| {
            let tape = located.locate(&contract.fields, object);
            append(contract, rows, unknown_fields, tape, place)
        })?;
        for repair in opener.repairs() {
            *counts.repairs.entry(*repair).or_default() += 1;
        }
        cleaned
    }
}

fn append<'a>(
    contract: &Contract,
    rows: &mut RowsBuilder,
    unknown_fields: &mut UnknownFields,
    fields: impl Fields<'a>,
    (shard, record): (&ShardId, &RawRecord),
) -> Result<(), Fault> {
    is_of_this_kind(contract, fields)?;
    unknown_fields.count(fields.unknown_names());
    rows.append(contract, fields, shard, record)
}

fn refused(refusal: Refusal, shard: &ShardId, record: &RawRecord) -> Fault {
    let detail = match refusal {
        Refusal::ForeignHashKey => format!("its hash key belongs to another shard than {shard}"),
        Refusal::AggregateTooLarge => {
            format!("an aggregate of {} bytes with more records than one read may have", record.data.len())
        }
    };
    Fault::new(refusal.reason(), detail)
}

/// A record of another stream, or a test payload, has none of the fields that make this stream's records useful.
fn is_of_this_kind<'a>(contract: &Contract, fields: impl Fields<'a>) -> Result<(), Fault> {
    if contract.kind_fields.is_empty() || contract.kind_fields.iter().any(|field| fields.get(*field).is_some()) {
        return Ok(());
    }
    let paths: Vec<&str> = contract.kind_fields.iter().map(|field| contract.fields.path(*field)).collect();
    Err(Fault::new(RejectReason::AnotherKind, format!("it has none of these: {}", paths.join(", "))))
}

/// The nodes of one JSON object: itself, then keys and values in turn.
type Object<'a> = &'a [Node<'a>];
