//! What follows of the compactors' turns: who took how much for the same table, and who did not do it.

use serde::Serialize;

use super::arithmetic::Spread;
use super::compact::{Compacted, Compactor, Files, Flush, TARGET_BYTES};
use super::report::Report;

/// Who took how much for one of the tables.
#[derive(Debug, Clone, Serialize)]
pub struct CompactionLine {
    /// The table.
    pub flush: Flush,
    /// Whose.
    pub who: Compactor,
    /// What it is.
    pub version: String,
    /// Of the process.
    pub cpu_s: Spread,
    /// How many times Pintail's CPU it needs.
    pub times_pintail: Option<Spread>,
    /// The most that was resident at once, in any round.
    pub rss_peak_bytes: u64,
    /// Before.
    pub before: Files,
    /// Afterwards, in the round that left the most files, and the largest.
    pub after: Files,
    /// How the table differs from what it was, in any round.
    pub differences: Vec<String>,
}

impl Report {
    /// Of both tables.
    pub(super) fn compaction_lines(&self) -> Vec<CompactionLine> {
        let of_flush = |flush| Compactor::ALL.map(|who| self.compaction(flush, who));
        Flush::ALL.into_iter().flat_map(of_flush).flatten().collect()
    }

    /// Turns that lost something, or that did not do what was asked for.
    pub(super) fn compaction_violations(&self) -> Vec<String> {
        let told = |turn: &Compacted| {
            let (who, flush, round) = (turn.who.name(), turn.flush.name(), turn.round + 1);
            let about = move |what: String| format!("{who}, {flush}, round {round}: {what}");
            let mut whats = turn.differences.clone();
            whats.extend(not_compacted(turn.before, turn.after));
            whats.into_iter().map(about).collect::<Vec<_>>()
        };
        self.compacted.iter().flat_map(told).collect()
    }

    fn compaction(&self, flush: Flush, who: Compactor) -> Option<CompactionLine> {
        let turns: Vec<&Compacted> =
            self.compacted.iter().filter(|turn| (turn.flush, turn.who) == (flush, who)).collect();
        let first = turns.first()?;
        let cpu_s = self.compaction_cpu_s(flush, who);
        let ours_s = self.compaction_cpu_s(flush, Compactor::Pintail);
        let mut differences: Vec<String> = turns.iter().flat_map(|turn| turn.differences.clone()).collect();
        differences.sort_unstable();
        differences.dedup();
        Some(CompactionLine {
            flush,
            who,
            version: first.work.version.clone(),
            cpu_s: Spread::of(&cpu_s.iter().flatten().copied().collect::<Vec<f64>>())?,
            times_pintail: (who != Compactor::Pintail).then(|| Spread::of_ratios(&cpu_s, &ours_s)).flatten(),
            rss_peak_bytes: turns.iter().map(|turn| turn.work.rss_peak_bytes).max()?,
            before: first.before,
            after: turns.iter().map(|turn| turn.after).max_by_key(|after| (after.count, after.bytes))?,
            differences,
        })
    }

    /// By round.
    fn compaction_cpu_s(&self, flush: Flush, who: Compactor) -> Vec<Option<f64>> {
        let of_round =
            |round| self.compacted.iter().find(move |turn| (turn.round, turn.flush, turn.who) == (round, flush, who));
        (0..self.rounds).map(|round| of_round(round).map(|turn| turn.work.cpu_s)).collect()
    }
}

/// Why that is no compaction.
fn not_compacted(before: Files, after: Files) -> Option<String> {
    let (had, left, at_most) = (before.count, after.count, left_at_most(before.bytes));
    (left >= had || left > at_most)
        .then(|| format!("{left} files are left of {had}; expected fewer, and {at_most} at most"))
}

/// Two neighbours that could be one file are no work of a compactor: so two files come to more than the target. Midnight
/// may lie between the pins, and then each day has an end of its own.
fn left_at_most(bytes: u64) -> usize {
    usize::try_from(2 * bytes.div_ceil(TARGET_BYTES) + 1).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn files(count: usize, mib: u64) -> Files {
        Files { count, bytes: mib * MIB }
    }

    #[test]
    fn as_many_files_as_before_or_many_small_ones_are_no_compaction() {
        assert_eq!(not_compacted(files(13, 100), files(1, 99)), None);
        assert_eq!(not_compacted(files(13, 100), files(3, 99)), None);
        assert!(not_compacted(files(13, 100), files(4, 99)).unwrap().contains("4 files are left of 13"));
        assert!(not_compacted(files(2, 100), files(2, 100)).is_some());
        assert_eq!(not_compacted(files(300, 400), files(9, 380)), None);
        assert!(not_compacted(files(300, 400), files(10, 380)).unwrap().contains("9 at most"));
    }
}
