//! What a replay of rejects says of itself when it has ended.

use std::collections::BTreeMap;

use super::reclean::Recleaned;
use crate::lake::RejectsReplay;

/// How a replay came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectsEnding {
    /// Nothing of the stream was ever committed.
    NoLedger,
    /// Not one reject can be cleaned; nothing was written.
    NothingToRecover,
    /// It was only asked what would be.
    DryRun,
    /// Every reject of its version is done, and the ledger says so.
    Finished(RejectsReplay),
    /// It was told to stop; what was recovered so far is committed.
    Stopped(RejectsReplay),
    /// Another process is at the same replay.
    Fenced(RejectsReplay),
}

/// What was made of the rejects that were looked at in this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectsReport {
    /// How it ended.
    pub ending: RejectsEnding,
    /// Rejects in the rejects table.
    pub total: u64,
    /// Those that earlier runs of the same replay were done with.
    pub before: u64,
    /// Those that were looked at.
    pub tally: RejectsTally,
}

/// Rejects by what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RejectsTally {
    /// Are rows now, or would be.
    pub recovered: u64,
    /// Could be cleaned, and are not committed by this run: another process has them, or the next run will.
    pub uncommitted: u64,
    /// Were rows already, from an earlier replay.
    pub recovered_before: u64,
    /// Still cannot be cleaned, by reason.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Rows of the rejects table that hold no record.
    pub unusable: u64,
}

impl RejectsTally {
    pub(super) fn add(&mut self, recleaned: &Recleaned) {
        self.recovered += recleaned.rows.num_rows() as u64;
        for (reason, count) in &recleaned.rejected {
            *self.rejected.entry(reason.as_str()).or_default() += count;
        }
    }

    /// Of what was recovered, only so many rows were committed.
    pub(super) fn settle(&mut self, committed: u64) {
        self.uncommitted = self.recovered.saturating_sub(committed);
        self.recovered -= self.uncommitted;
    }

    /// All of them.
    pub fn looked_at(&self) -> u64 {
        self.recovered + self.uncommitted + self.recovered_before + self.rejected.values().sum::<u64>() + self.unusable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cleaned_and_not_committed_is_not_told_as_recovered() {
        let mut tally = RejectsTally { recovered: 10, recovered_before: 2, ..RejectsTally::default() };
        tally.settle(7);
        assert_eq!((tally.recovered, tally.uncommitted, tally.looked_at()), (7, 3, 12));
        let mut all = RejectsTally { recovered: 10, ..RejectsTally::default() };
        all.settle(10);
        assert_eq!((all.recovered, all.uncommitted), (10, 0));
    }
}
