//! Up to when one shard is known to be complete, and whether records before the next one may be missing.
//!
//! Kinesis says nothing of what it trims. All that can be known is the arrival time up to which a shard was read
//! without a gap; once the retention no longer covers that time, something after it may have gone unread. What is
//! told wrongly here either stops a stream for nothing or loses records in silence, so it is kept apart from the
//! reader, as arithmetic over times.

use crate::checkpoint::ShardEntry;

/// An empty answer is passed on when it moves the shard's time by this much, so that an idle stream costs its
/// writer one message a second and shard, not four.
const SEEN_STEP_MS: i64 = 1000;

/// This far from the edge of the retention a shard is no longer being trimmed under its reader's hands.
const SETTLED_MS: i64 = 60_000;

/// What is known of one shard's completeness.
#[derive(Debug)]
pub struct Coverage {
    /// Arrival time (epoch ms) up to which it is complete.
    seen_ms: Option<i64>,
    /// The same, as the writer was told it.
    told_seen_ms: Option<i64>,
    /// False while a shard that is read from its oldest record is still at the edge of the retention: what is trimmed
    /// there in passing was never promised.
    settled: bool,
    /// Records up to the position are still there, so that none after it can be missing. Until the next record.
    intact: bool,
    /// A loss has been reported and the shard has not caught up with the retention since.
    alarmed: bool,
}

impl Coverage {
    /// As the ledger has it.
    pub fn of(entry: &ShardEntry) -> Self {
        // Never read, it is complete up to where it starts, if that is a time; of the beginning nothing is known.
        let seen_ms = entry.seen_ms.max((entry.start_ms > 0).then_some(entry.start_ms));
        Self {
            seen_ms,
            told_seen_ms: entry.seen_ms,
            settled: entry.position.is_some() || seen_ms.is_some(),
            intact: false,
            alarmed: false,
        }
    }

    /// Arrival time (epoch ms) up to which the shard is complete.
    pub fn seen_ms(&self) -> Option<i64> {
        self.seen_ms
    }

    /// Whether records after the last one read may have been trimmed, and nobody has been told. What arrived before
    /// `horizon_ms` is trimmed; `refused` says that the position itself may have been.
    pub fn is_suspect(&mut self, horizon_ms: i64, refused: bool) -> bool {
        self.settled |= self.seen_ms.is_some_and(|seen| seen >= horizon_ms + SETTLED_MS);
        let stale = self.settled && self.seen_ms.is_some_and(|seen| seen < horizon_ms);
        if !stale && !refused {
            self.alarmed = false;
        }
        (stale || refused) && !self.intact && !self.alarmed
    }

    /// The loss has been reported.
    pub fn alarmed(&mut self) {
        self.alarmed = true;
    }

    /// Nothing after the position has been trimmed.
    pub fn is_whole(&mut self) {
        self.intact = true;
    }

    /// A record was read: of what comes after it nothing is proven yet.
    pub fn moved(&mut self) {
        self.intact = false;
    }

    /// An answer was complete up to this arrival time. Arrival times go backwards within a shard; what was complete
    /// stays so.
    pub fn read_up_to(&mut self, seen_ms: Option<i64>) {
        self.seen_ms = self.seen_ms.max(seen_ms);
    }

    /// Whether an empty answer that is complete up to this time is worth telling the writer.
    pub fn is_news(&self, seen_ms: Option<i64>) -> bool {
        seen_ms.is_some_and(|seen| self.told_seen_ms.is_none_or(|told| seen >= told + SEEN_STEP_MS))
    }

    /// The writer was told.
    pub fn told(&mut self) {
        self.told_seen_ms = self.seen_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::SequenceNumber;

    const HORIZON: i64 = 1_000_000_000;
    const NEW: ShardEntry = ShardEntry::NEW;

    fn read(seen_ms: i64) -> ShardEntry {
        ShardEntry { position: SequenceNumber::parse("5").ok(), seen_ms: Some(seen_ms), ..NEW }
    }

    #[test]
    fn a_position_beyond_the_retention_is_suspect_once_and_again_after_it_has_caught_up() {
        assert!(!Coverage::of(&read(HORIZON)).is_suspect(HORIZON, false));
        let mut coverage = Coverage::of(&read(HORIZON - 1));
        assert!(coverage.is_suspect(HORIZON, false));
        coverage.alarmed();
        assert!(!coverage.is_suspect(HORIZON, false), "told already");
        coverage.read_up_to(Some(HORIZON + 10));
        assert!(!coverage.is_suspect(HORIZON + 10, false));
        assert!(coverage.is_suspect(HORIZON + 11, false), "and behind again");
    }

    #[test]
    fn a_shard_read_from_its_oldest_record_is_not_suspect_before_it_is_a_minute_from_the_horizon() {
        for (ahead_ms, suspect) in [(SETTLED_MS - 1, false), (SETTLED_MS, true)] {
            let mut coverage = Coverage::of(&NEW);
            assert!(!coverage.is_suspect(HORIZON, false), "nothing is known of it");
            coverage.read_up_to(Some(HORIZON - 5));
            assert!(!coverage.is_suspect(HORIZON, false), "trimmed in passing");
            coverage.read_up_to(Some(HORIZON + ahead_ms));
            assert!(!coverage.is_suspect(HORIZON, false));
            // The horizon overtakes it.
            assert_eq!(coverage.is_suspect(HORIZON + ahead_ms + 1, false), suspect, "{ahead_ms}");
        }
    }

    #[test]
    fn what_was_ever_read_or_starts_at_a_time_needs_no_minute() {
        for entry in [read(HORIZON - 1), ShardEntry { start_ms: HORIZON - 1, ..NEW }] {
            assert!(Coverage::of(&entry).is_suspect(HORIZON, false), "{entry:?}");
        }
    }

    #[test]
    fn a_refused_position_is_suspect_until_its_records_are_met_again() {
        let mut coverage = Coverage::of(&read(HORIZON + 5));
        assert!(coverage.is_suspect(HORIZON, true));
        coverage.is_whole();
        assert!(!coverage.is_suspect(HORIZON, true));
        coverage.moved();
        assert!(coverage.is_suspect(HORIZON + 6, false), "a proof is good for one record");
    }

    #[test]
    fn arrival_times_that_go_backwards_take_nothing_back() {
        let mut coverage = Coverage::of(&NEW);
        coverage.read_up_to(Some(HORIZON + SETTLED_MS));
        assert!(!coverage.is_suspect(HORIZON, false));
        coverage.read_up_to(Some(HORIZON - 1));
        coverage.read_up_to(None);
        assert_eq!(coverage.seen_ms(), Some(HORIZON + SETTLED_MS));
        assert!(!coverage.is_suspect(HORIZON, false));
    }

    #[test]
    fn an_idle_shard_is_news_once_a_second() {
        let mut coverage = Coverage::of(&NEW);
        assert!(coverage.is_news(Some(HORIZON)) && !coverage.is_news(None));
        coverage.read_up_to(Some(HORIZON));
        coverage.told();
        assert!(!coverage.is_news(Some(HORIZON + SEEN_STEP_MS - 1)));
        assert!(coverage.is_news(Some(HORIZON + SEEN_STEP_MS)));
    }
}
