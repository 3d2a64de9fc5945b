//! What the source tells of its shards: their states on the status board, and the gauges that go with them.
//!
//! Apart from the coordinator, because nothing here decides anything.

use std::collections::BTreeSet;

use super::aggregated::{ForeignRecords, Rules, Taken};
use super::context::Context;
use super::parking::Parking;
use super::stream::ListedShard;
use super::tree::Plan;
use crate::checkpoint::{LedgerView, Position, ShardId};
use crate::clock;
use crate::metrics::ShardMetrics;
use crate::record::RawRecord;

/// Who is in trouble while another process has the shards.
const STANDBY: &str = "fenced";

/// Not to be read at the moment; told at once, since the next listing may be long in coming.
pub(super) fn parked<S>(context: &Context<S>, shard: &ShardId, parked: &Parking) {
    if parked.holds_fenced(shard) {
        // Whoever reads it now knows how late it is.
        no_longer_read(context, shard, "fenced");
        context.board.shard(shard, |status| status.behind_ms = None);
    } else {
        context.board.shard(shard, |status| status.state = "parked");
    }
    context.metrics.shards("parked", parked.len());
}

/// Nothing of this shard is read here any more, so that nothing of it is late.
pub(super) fn no_longer_read<S>(context: &Context<S>, shard: &ShardId, state: &'static str) {
    let metrics = context.metrics.shard(shard);
    metrics.behind(0);
    metrics.record_age(0.0);
    metrics.iterator_age(0.0);
    metrics.retention_headroom(1.0);
    context.board.shard(shard, |status| {
        status.state = state;
        status.behind_ms = Some(0);
    });
}

/// What is counted is what is handed on: user records, each once.
pub(super) fn taken<S>(context: &Context<S>, shard: &ShardId, metrics: &ShardMetrics, taken: &Taken, rules: Rules) {
    let is_again = |record: &RawRecord| !rules.counts(record.sequence_number);
    let again = taken.records.partition_point(is_again) as u64;
    let (records, bytes) = (taken.records.len() as u64 - again, taken.bytes);
    metrics.read(records, bytes, taken.aggregates);
    metrics.read_again(again);
    if let Some((_, arrived_at_us)) = taken.last {
        metrics.record_age((clock::now_ms() * 1000 - arrived_at_us) as f64 / 1e6);
    }
    context.board.shard(shard, |status| {
        status.records += records;
        status.bytes += bytes;
        if let Some((number, arrived_at_us)) = taken.last {
            status.position = Some(number.to_string());
            status.last_arrival_ms = Some(arrived_at_us / 1000);
        }
    });
}

/// Aggregates held records of other shards. Only dropping some is news: of the rest nothing is missing.
pub(super) fn foreign<S>(context: &Context<S>, shard: &ShardId, rules: Rules, after: Position, taken: &Taken) {
    let action = rules.foreign_records.action();
    context.metrics.foreign_records(action, taken.foreign);
    let (stream, records) = (&context.stream.name, taken.foreign);
    let through = taken.last.map(|(number, _)| number.to_string());
    match rules.foreign_records {
        ForeignRecords::Strict => tracing::warn!(stream, %shard, %after, through, records, action, "foreign records"),
        ForeignRecords::Keep | ForeignRecords::Reject => {
            tracing::debug!(stream, %shard, %after, through, records, action, "foreign records");
        }
    }
}

/// What the coordinator knows after it has acted.
pub(super) struct Telling<'a> {
    pub listed: &'a [ListedShard],
    pub view: &'a LedgerView,
    pub reading: &'a BTreeSet<ShardId>,
    pub parked: &'a Parking,
    pub plan: &'a Plan,
}

impl Telling<'_> {
    /// Puts every listed shard on the board, and counts them by state.
    pub fn tell<S>(&self, context: &Context<S>) {
        for shard in self.listed {
            let state = self.state_of(&shard.id);
            context.board.shard(&shard.id, |status| {
                status.state = state;
                status.parents = shard.parents.clone();
                status.hash_range = shard.hash_range.map(|(from, to)| (from.to_string(), to.to_string()));
                if status.position.is_none() {
                    let entry = self.view.shards.get(&shard.id);
                    status.position = entry.and_then(|entry| entry.position).map(|number| number.to_string());
                }
            });
        }
        self.tell_standby(context);
        let metrics = &context.metrics;
        metrics.shards("waiting", self.plan.waiting.len());
        metrics.shards("reading", self.reading.len());
        metrics.shards("parked", self.parked.len());
        metrics.shards("ended", self.plan.ended.len());
        metrics.shards("lost", self.plan.lost.len());
    }

    /// A process that reads nothing because another one commits every shard is not ready; it is a spare.
    fn tell_standby<S>(&self, context: &Context<S>) {
        let fenced = self.listed.iter().filter(|shard| self.parked.holds_fenced(&shard.id)).count();
        if fenced > 0 && self.reading.is_empty() {
            let what = format!("another process commits all {fenced} open shards; waiting to take over if it stops");
            context.board.trouble(STANDBY, what);
        } else {
            context.board.resolved(STANDBY);
        }
    }

    fn state_of(&self, shard: &ShardId) -> &'static str {
        if self.reading.contains(shard) {
            "reading"
        } else if self.parked.holds_fenced(shard) {
            "fenced"
        } else if self.parked.holds(shard) {
            "parked"
        } else if self.plan.ended.contains(shard) {
            "ended"
        } else {
            "waiting"
        }
    }
}
