//! Shards that must not be read at the moment, and why.
//!
//! A fenced shard is somebody else's until its position in the ledger has stood still: then whoever moved it has
//! stopped, or has nothing to read. If that is wrong, the ledger fences again; trying never counts a record twice.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::checkpoint::{LedgerView, Position, ShardEntry, ShardId};

/// The parked shards of one stream.
#[derive(Debug, Default)]
pub struct Parking(BTreeMap<ShardId, Parked>);

#[derive(Debug)]
enum Parked {
    /// Somebody else commits it.
    Fenced { position: Position, since: Instant },
    /// Something is odd about it: look at the stream first.
    UntilSurvey,
}

impl Parking {
    /// Somebody else has moved this shard's position to where the ledger has it.
    pub fn fenced(&mut self, shard: ShardId, view: &LedgerView, now: Instant) {
        let position = position_of(view, &shard);
        self.0.insert(shard, Parked::Fenced { position, since: now });
    }

    /// Not to be read before the stream was looked at.
    pub fn until_survey(&mut self, shard: ShardId) {
        self.0.insert(shard, Parked::UntilSurvey);
    }

    /// The stream was looked at.
    pub fn surveyed(&mut self) {
        self.0.retain(|_, parked| matches!(parked, Parked::Fenced { .. }));
    }

    /// Frees the fenced shards whose position has stood still for `rest`.
    pub fn free_still(&mut self, view: &LedgerView, rest: Duration, now: Instant) {
        self.0.retain(|shard, parked| match parked {
            Parked::UntilSurvey => true,
            Parked::Fenced { position, since } => {
                let current = position_of(view, shard);
                if current != *position {
                    (*position, *since) = (current, now);
                }
                now.saturating_duration_since(*since) < rest
            }
        });
    }

    /// Whether the shard is parked.
    pub fn holds(&self, shard: &ShardId) -> bool {
        self.0.contains_key(shard)
    }

    /// Whether it is parked because somebody else commits it.
    pub fn holds_fenced(&self, shard: &ShardId) -> bool {
        matches!(self.0.get(shard), Some(Parked::Fenced { .. }))
    }

    /// Whether any shard is.
    pub fn any_fenced(&self) -> bool {
        self.0.values().any(|parked| matches!(parked, Parked::Fenced { .. }))
    }

    /// How many shards are parked.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn position_of(view: &LedgerView, shard: &ShardId) -> Position {
    view.shards.get(shard).map_or(Position::Beginning, ShardEntry::resume)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::SequenceNumber;

    fn at(number: &str) -> LedgerView {
        let position = Some(SequenceNumber::parse(number).unwrap());
        let entry = ShardEntry { position, ..ShardEntry::NEW };
        LedgerView { version: 1, shards: [(ShardId::new("s"), entry)].into() }
    }

    #[test]
    fn a_fenced_shard_is_free_once_its_position_has_stood_still() {
        let (shard, rest, start) = (ShardId::new("s"), Duration::from_secs(15), Instant::now());
        let mut parking = Parking::default();
        parking.fenced(shard.clone(), &at("1"), start);
        parking.surveyed();
        parking.free_still(&at("1"), rest, start + rest / 2);
        assert!(parking.holds_fenced(&shard));
        // It moved: whoever has it is alive.
        parking.free_still(&at("2"), rest, start + rest);
        parking.free_still(&at("2"), rest, start + rest * 3 / 2);
        assert!(parking.any_fenced());
        parking.free_still(&at("2"), rest, start + rest * 2);
        assert_eq!(parking.len(), 0);
    }

    #[test]
    fn an_odd_shard_is_free_after_a_survey_and_not_before() {
        let shard = ShardId::new("s");
        let mut parking = Parking::default();
        parking.until_survey(shard.clone());
        parking.free_still(&at("1"), Duration::ZERO, Instant::now());
        assert!(parking.holds(&shard) && !parking.holds_fenced(&shard));
        parking.surveyed();
        assert!(!parking.holds(&shard));
    }
}
