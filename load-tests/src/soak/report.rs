//! What a soak found, for people and as JSON.

use std::process::ExitStatus;
use std::time::Duration;

use pintail::demo::Kind;
use pintail::limits::SEALED_STARTS_MAX;
use serde::Serialize;

use super::{Filling, HEADROOM_BYTES, Plan};
use crate::child::Child;
use crate::usage::Usage;
use crate::verify::{Reckoned, Verdict, total};

/// A shorter soak says nothing of growth: what comes and goes with every flush is more than what creeps.
const SLOPE_JUDGED_FROM: Duration = Duration::from_secs(10 * 60);
/// What comes and goes with a compaction is 30 to 100 MiB, and where it falls in the second half tilts the line by some
/// 200 KiB a minute; files that grow with the tables weigh more each time they are compacted. Twice that is neither.
const SLOPE_MAX_KIB_PER_MIN: f64 = 512.0;
/// After a stall nothing holds a byte of the budget any more, and a process is far below it; what records of 10 MiB
/// leave behind, a compaction of them among it, has room beside it.
const END_HEADROOM_BYTES: u64 = 100 << 20;

/// One look at the process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sample {
    /// Since the first one.
    pub seconds: f64,
    /// Resident then.
    pub rss_bytes: u64,
    /// Whether S3 did not answer.
    pub stalled: bool,
}

/// What was asked for, beside the seed. Says nothing of the machine.
#[derive(Debug, Clone, Serialize)]
pub struct Setting {
    /// The streams that were read.
    pub streams: Vec<&'static str>,
    /// Shards of each.
    pub shards: u32,
    /// How long was posted.
    pub posting_s: f64,
    /// Records a second.
    pub rate: f64,
    /// `budget.bytes`
    pub budget_bytes: u64,
    /// `lake.flush_bytes`
    pub flush_bytes: u64,
    /// The size of all windows.
    pub window_s: u64,
    /// How long S3 did not answer.
    pub stall_s: Option<f64>,
    /// Records of 10 MiB for every shard.
    pub large_records: u64,
    /// What filled them.
    pub filling: Filling,
}

/// What it did while S3 did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Stall {
    /// The most memory at any look.
    pub rss_max_bytes: u64,
    /// Memory at the last look.
    pub rss_last_bytes: u64,
}

/// What was seen of the process.
pub(super) struct Seen {
    pub samples: Vec<Sample>,
    pub usage: Usage,
    pub posted_s: f64,
    pub recovered_s: f64,
    pub commits: u64,
    pub status: ExitStatus,
}

/// The report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Posts the same records again.
    pub seed: u64,
    /// How long was posted.
    pub duration_s: f64,
    /// Records that Kinesis acknowledged.
    pub records: u64,
    /// The same a second, while it was posted: what was asked for is in `config`.
    pub rate_achieved: f64,
    /// The book against the tables.
    #[serde(flatten)]
    pub reckoned: Reckoned,
    /// Versions of the rows tables.
    pub commits: u64,
    /// Data-loss alarms.
    pub alarms: u64,
    /// The most memory that was resident at once.
    pub rss_peak_bytes: u64,
    /// What may be: the byte budget and the headroom.
    pub rss_limit_bytes: u64,
    /// Resident when everything was committed.
    pub rss_end_bytes: u64,
    /// Growth in the second half of the posting, by least squares; without a stall it should be near 0.
    pub rss_slope_kib_per_min: f64,
    /// User and system time until everything was committed.
    pub cpu_seconds: f64,
    /// From the end of the posting until everything was committed.
    pub caught_up_s: f64,
    /// If S3 stopped answering.
    pub stall: Option<Stall>,
    /// Everything that must not be, in words. Empty: it has held.
    pub violations: Vec<String>,
    /// What was asked for.
    pub config: Setting,
    /// Every look at the process.
    pub samples: Vec<Sample>,
}

impl Report {
    pub(super) fn new(plan: &Plan, seen: Seen, child: &Child, verdict: &Verdict) -> anyhow::Result<Self> {
        let total = total(verdict);
        let budget_bytes = plan.budget_mib << 20;
        let while_stalled: Vec<u64> =
            seen.samples.iter().filter(|sample| sample.stalled).map(|sample| sample.rss_bytes).collect();
        let stall = while_stalled.iter().max().zip(while_stalled.last());
        let posting = seen.samples.iter().filter(|sample| sample.seconds <= seen.posted_s);
        let second_half: Vec<Sample> = posting.filter(|it| it.seconds >= seen.posted_s / 2.0).copied().collect();
        let mut report = Self {
            seed: plan.seed.value(),
            duration_s: seen.posted_s,
            records: total.accepted,
            rate_achieved: total.accepted as f64 / seen.posted_s,
            reckoned: Reckoned::of(verdict),
            commits: seen.commits,
            alarms: child.lines(&["records were trimmed before they were read"])?.len() as u64,
            rss_peak_bytes: seen.usage.rss_peak_bytes,
            rss_limit_bytes: budget_bytes + HEADROOM_BYTES,
            rss_end_bytes: seen.usage.rss_bytes,
            rss_slope_kib_per_min: slope_kib_per_min(&second_half),
            cpu_seconds: seen.usage.cpu_seconds,
            caught_up_s: seen.recovered_s,
            stall: stall.map(|(max, last)| Stall { rss_max_bytes: *max, rss_last_bytes: *last }),
            violations: Vec::new(),
            config: setting(plan),
            samples: seen.samples,
        };
        report.violations = report.find_violations(verdict, seen.status);
        report.violations.extend(unreturned(plan, report.rss_slope_kib_per_min, report.rss_end_bytes));
        Ok(report)
    }

    fn find_violations(&self, verdict: &Verdict, status: ExitStatus) -> Vec<String> {
        let mut violations = Vec::new();
        if self.rss_peak_bytes > self.rss_limit_bytes {
            let (peak, limit) = (self.rss_peak_bytes >> 20, self.rss_limit_bytes >> 20);
            violations.push(format!("{peak} MiB were resident; budget and headroom are {limit} MiB"));
        }
        if status.code() != Some(0) {
            violations.push(format!("after SIGTERM the process ended with {status}"));
        }
        if self.alarms > 0 {
            violations.push(format!("{} data-loss alarms, and nothing was trimmed", self.alarms));
        }
        for (kind, found) in verdict {
            violations.extend(found.violations().into_iter().map(|line| format!("{}: {line}", kind.name())));
        }
        violations
    }

    /// Whether everything held.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

/// Memory that a process did not give back, in words: a soak that creeps, a stall that has left something.
fn unreturned(plan: &Plan, slope_kib_per_min: f64, rss_end_bytes: u64) -> Option<String> {
    if plan.stall.is_some() {
        let limit_bytes = (plan.budget_mib << 20) + END_HEADROOM_BYTES;
        let (end, limit) = (rss_end_bytes >> 20, limit_bytes >> 20);
        let words = format!("{end} MiB were resident when all was committed after the stall; {limit} MiB may be");
        return (rss_end_bytes > limit_bytes).then_some(words);
    }
    // Until all the starts are there that are kept of each window, memory grows.
    let filled = Duration::from_secs(plan.window_s * SEALED_STARTS_MAX as u64);
    let judged_from = SLOPE_JUDGED_FROM.max(2 * filled);
    let creeps = plan.duration >= judged_from && slope_kib_per_min > SLOPE_MAX_KIB_PER_MIN;
    creeps.then(|| format!("memory grew by {slope_kib_per_min:.0} KiB a minute in the second half of the posting"))
}

fn setting(plan: &Plan) -> Setting {
    Setting {
        streams: plan.streams.iter().copied().map(Kind::name).collect(),
        shards: plan.shards,
        posting_s: plan.duration.as_secs_f64(),
        rate: plan.rate,
        budget_bytes: plan.budget_mib << 20,
        flush_bytes: plan.flush_mib << 20,
        window_s: plan.window_s,
        stall_s: plan.stall.map(|(_, time)| time.as_secs_f64()),
        large_records: plan.large,
        filling: plan.filling,
    }
}

/// The straight line through the samples, by least squares; 0 for fewer than two.
fn slope_kib_per_min(samples: &[Sample]) -> f64 {
    let count = samples.len() as f64;
    let minutes = || samples.iter().map(|sample| sample.seconds / 60.0);
    let kib = || samples.iter().map(|sample| sample.rss_bytes as f64 / 1024.0);
    let (mean_minutes, mean_kib) = (minutes().sum::<f64>() / count, kib().sum::<f64>() / count);
    let spread: f64 = minutes().map(|at| (at - mean_minutes).powi(2)).sum();
    let together: f64 = minutes().zip(kib()).map(|(at, kib)| (at - mean_minutes) * (kib - mean_kib)).sum();
    if spread > 0.0 { together / spread } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    #[test]
    fn the_slope_is_that_of_the_line() {
        let at = |seconds: f64, kib: u64| Sample { seconds, rss_bytes: kib * 1024, stalled: false };
        assert_eq!(slope_kib_per_min(&[at(0.0, 100), at(60.0, 160), at(120.0, 220)]), 60.0);
        assert_eq!(slope_kib_per_min(&[at(0.0, 110), at(30.0, 90), at(60.0, 110)]), 0.0);
        assert_eq!(slope_kib_per_min(&[at(5.0, 100)]), 0.0);
    }

    #[test]
    fn memory_that_creeps_in_a_long_soak_or_stays_after_a_stall_is_a_violation() {
        let of = |minutes: u64, stall: bool| Plan {
            seed: Seed::from(1),
            streams: Kind::ALL.to_vec(),
            shards: 1,
            duration: Duration::from_secs(60 * minutes),
            rate: 1.0,
            budget_mib: 256,
            flush_mib: 32,
            window_s: 5,
            stall: stall.then_some((Duration::ZERO, Duration::from_secs(60))),
            large: 0,
            filling: Filling::Text,
            sample_interval: Duration::from_secs(1),
            progress: false,
        };
        let mib = |mib: u64| mib << 20;
        assert!(unreturned(&of(20, false), 513.0, 0).unwrap().contains("513 KiB a minute"));
        assert_eq!(unreturned(&of(20, false), 511.0, mib(999)), None, "the peak is judged elsewhere");
        assert_eq!(unreturned(&of(19, false), 9999.0, 0), None, "the windows are not full before its second half");
        assert!(unreturned(&Plan { window_s: 1, ..of(10, false) }, 513.0, 0).is_some());
        assert_eq!(unreturned(&Plan { window_s: 1, ..of(9, false) }, 9999.0, 0), None, "too short to tell");
        assert!(unreturned(&of(4, true), 0.0, mib(357)).unwrap().contains("357 MiB"));
        assert_eq!(unreturned(&of(20, true), 9999.0, mib(356)), None, "a stall moves it up and down");
    }
}
