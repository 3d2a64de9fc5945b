//! From Kinesis records to user records: aggregated ones are taken apart, as long as the read's permit pays for it.
//!
//! The Kinesis Producer Library packs many user records into one Kinesis record. Each of them is a record to everybody
//! behind this door: counted, cleaned, and with a place of its own (the sequence number, and its index as sub-sequence
//! number). Positions know only whole Kinesis records, so a read is cut between them and never inside one.
//!
//! An aggregate sent just before a reshard can land on a shard that does not own all its records. What is then to be
//! done only the user can know, since it depends on who aggregated: see [`ForeignRecords`].

mod wire;

#[cfg(test)]
mod tests;

use tokio::task::spawn_blocking;

use crate::checkpoint::SequenceNumber;
use crate::cores::Cores;
use crate::limits::{PAYLOAD_COPIES, READ_COST_MAX, READ_RECORDS_MAX, USER_RECORD_COST};
use crate::record::{RawRecord, Refusal};

pub(crate) use wire::{Opened, open};
use wire::{SubRecord, is_candidate};

/// What to do with records of an aggregate whose hash key belongs to another shard.
///
/// The KPL sends such records again, to their own shard, and the others with them while it does not know this one; an
/// aggregator that cares for no hash keys sends nothing again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForeignRecords {
    /// They are records like any other: nothing is lost, whoever sent them; what the KPL sends again is there twice.
    #[default]
    Keep,
    /// They are rejects, bytes and all: nothing is lost, and of what the KPL sends again less is there twice.
    Reject,
    /// As the Kinesis Client Library does: the whole aggregate is dropped, records that did belong here included.
    Strict,
}

impl ForeignRecords {
    /// What happens to the records, as a metric label.
    pub(super) fn action(self) -> &'static str {
        match self {
            Self::Keep => "kept",
            Self::Reject => "rejected",
            Self::Strict => "dropped",
        }
    }
}

/// What decides about the records of one shard.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rules {
    /// The user's choice.
    pub foreign_records: ForeignRecords,
    /// The shard's hash keys, inclusive; without them no record counts as foreign.
    pub hash_range: Option<(u128, u128)>,
    /// Kinesis records up to this one were taken before, and left by who got them: nothing of them is counted again.
    pub counted_through: Option<SequenceNumber>,
}

impl Rules {
    /// Whether this Kinesis record was not counted before.
    pub fn counts(&self, number: SequenceNumber) -> bool {
        self.counted_through.is_none_or(|counted| number > counted)
    }
}

/// What was taken of one read.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// User records, in order.
    pub records: Vec<RawRecord>,
    /// Kinesis records that they came from, dropped aggregates included.
    pub kinesis_records: usize,
    /// Payload bytes of those that were not counted before.
    pub bytes: u64,
    /// The number and the arrival (epoch us) of the last of them.
    pub last: Option<(SequenceNumber, i64)>,
    /// Kinesis records left out, because the permit does not pay for what is in them. To be read again.
    pub left: usize,
    /// How many were aggregates, not counted before.
    pub aggregates: u64,
    /// User records that the policy was about, not counted before: foreign ones, or with `strict` all of their aggregates.
    pub foreign: u64,
}

/// [`disaggregate`], and if there may be an aggregate then on the CPU pool: that is checksums of up to 10 MiB. `None`
/// if the runtime shuts down.
pub(super) async fn on_cpu(cores: &Cores, records: Vec<RawRecord>, rules: Rules) -> Option<Taken> {
    if !records.iter().any(|record| is_candidate(&record.data)) {
        return Some(Taken::all_plain(records, rules).unwrap_or_else(|records| disaggregate(records, rules)));
    }
    let core = cores.one().await?;
    let work = spawn_blocking(move || {
        let _core = core;
        disaggregate(records, rules)
    });
    // A panic in there has aborted the process already.
    work.await.ok()
}

/// Takes aggregates apart, from the first record on, until the worst case of a read is used up. The first record is
/// always taken: what does not fit even alone is a reject, whole.
pub(crate) fn disaggregate(records: Vec<RawRecord>, rules: Rules) -> Taken {
    let (all, mut spent) = (records.len(), Cost::default());
    let mut taken = Taken::default();
    for record in records {
        let opened = open(&record.data, Cost::of(&record, 0).records_left());
        let count = match &opened {
            Opened::Plain | Opened::TooMany => 1,
            Opened::Aggregate(inside) => inside.len(),
        };
        spent = spent.and(Cost::of(&record, count));
        if !spent.is_paid_for() && taken.kinesis_records > 0 {
            break;
        }
        taken.kinesis_records += 1;
        let counts = rules.counts(record.sequence_number);
        taken.bytes += if counts { record.data.len() as u64 } else { 0 };
        taken.last = Some((record.sequence_number, record.arrived_at_us));
        match opened {
            Opened::Plain => taken.records.push(record),
            Opened::TooMany => {
                taken.records.push(RawRecord { refused: Some(Refusal::AggregateTooLarge), ..record });
            }
            Opened::Aggregate(inside) => {
                taken.aggregates += u64::from(counts);
                taken.add(&record, &inside, rules);
            }
        }
    }
    taken.left = all - taken.kinesis_records;
    if taken.left > 0 {
        // The permit is counted on to pay for what was taken, and not for what lies beside it.
        RawRecord::detach(&mut taken.records);
    }
    taken
}

/// What records cost the permit of their read.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    bytes: u64,
    records: usize,
}

impl Cost {
    fn of(record: &RawRecord, records: usize) -> Self {
        Self { bytes: record.data.len() as u64 * PAYLOAD_COPIES, records }
    }

    fn and(self, more: Self) -> Self {
        Self { bytes: self.bytes + more.bytes, records: self.records + more.records }
    }

    fn is_paid_for(self) -> bool {
        let bytes = self.bytes + self.records as u64 * USER_RECORD_COST;
        bytes <= READ_COST_MAX && self.records <= READ_RECORDS_MAX
    }

    /// How many more records would be paid for.
    fn records_left(self) -> usize {
        let paid_for = READ_COST_MAX.saturating_sub(self.bytes) / USER_RECORD_COST;
        usize::try_from(paid_for).unwrap_or(usize::MAX).min(READ_RECORDS_MAX).saturating_sub(self.records)
    }
}

impl Taken {
    /// All of a read without aggregates, as it is; given back if that is more than a permit pays for, or not all of it
    /// counts.
    fn all_plain(records: Vec<RawRecord>, rules: Rules) -> Result<Self, Vec<RawRecord>> {
        let bytes = records.iter().map(|record| record.data.len() as u64).sum();
        let cost = Cost { bytes: bytes * PAYLOAD_COPIES, records: records.len() };
        let counts = records.first().is_none_or(|record| rules.counts(record.sequence_number));
        if !cost.is_paid_for() || !counts {
            return Err(records);
        }
        let last = records.last().map(|record| (record.sequence_number, record.arrived_at_us));
        Ok(Self { kinesis_records: records.len(), bytes, last, records, ..Self::default() })
    }

    /// Payloads stay where they are, in the aggregate's.
    fn add(&mut self, whole: &RawRecord, inside: &[SubRecord<'_>], rules: Rules) {
        let is_foreign = |hash_key: u128| rules.hash_range.is_some_and(|(from, to)| hash_key < from || hash_key > to);
        let foreign = inside.iter().filter(|record| is_foreign(record.hash_key)).count();
        let is_dropped = foreign > 0 && rules.foreign_records == ForeignRecords::Strict;
        if rules.counts(whole.sequence_number) {
            self.foreign += if is_dropped { inside.len() } else { foreign } as u64;
        }
        if is_dropped {
            return;
        }
        let refuses = rules.foreign_records == ForeignRecords::Reject;
        self.records.extend((0..).zip(inside).map(|(index, record)| RawRecord {
            data: whole.data.slice_ref(record.data),
            sequence_number: whole.sequence_number,
            sub_sequence_number: index,
            arrived_at_us: whole.arrived_at_us,
            refused: (refuses && is_foreign(record.hash_key)).then_some(Refusal::ForeignHashKey),
        }));
    }
}
