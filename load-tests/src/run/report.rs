//! What a run found: one JSON object. Every field is explained in the README, and a test holds that.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::latency::Latency;
use super::machine::{Build, Machine};
use super::profile::Profile;
use crate::kinesis_proxy::{Quota, Usage};
use crate::verify::Reckoned;

/// Raised when a field changes its meaning.
pub const FORMAT: u32 = 1;

/// User and system time so far, by process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuSeconds {
    /// Pintail.
    pub pintail: f64,
    /// The Kinesis, if it is the harness's own.
    pub kinesis: Option<f64>,
    /// The S3.
    pub s3: f64,
    /// The producer.
    pub producer: f64,
    /// What observes and reckons.
    pub harness: f64,
}

/// One look, once a second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Since the run began.
    pub seconds: f64,
    /// Records acknowledged so far.
    pub posted: u64,
    /// Records that Pintail has read.
    pub read: u64,
    /// Records that it has rejected.
    pub rejects: u64,
    /// Its commits of rows tables.
    pub commits: u64,
    /// What they took, in all.
    pub commit_seconds: f64,
    /// What encoding and uploading took, in all.
    pub flush_seconds: f64,
    /// Files committed, of all tables.
    pub files_committed: u64,
    /// What of the byte budget is held.
    pub budget_in_use_bytes: u64,
    /// Pintail's memory now.
    pub rss_bytes: u64,
    /// The most so far.
    pub rss_peak_bytes: u64,
    /// Of every process.
    pub cpu: CpuSeconds,
    /// By how much a record was sent after it was due, at most, within this second.
    pub late_max_ms: f64,
    /// `MillisBehindLatest` of every shard's last read.
    pub behind_s: BTreeMap<String, f64>,
}

/// A commit of a rows table, as a reader of the bucket saw it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// The stream.
    pub stream: String,
    /// The table's version.
    pub version: u64,
    /// When, since the run began.
    pub seconds: f64,
    /// Rows that it brought.
    pub rows: u64,
    /// Files that it added.
    pub files_added: u64,
    /// Files that it removed.
    pub files_removed: u64,
    /// The size of its entry.
    pub log_bytes: u64,
}

/// What was caught up with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Backlog {
    /// Records that were there before Pintail started.
    pub records: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// From Pintail's start until all of them were committed.
    pub caught_up_s: f64,
    /// Records a second.
    pub records_per_s: f64,
}

/// Which part of what the shards give Pintail got, while it caught up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct QuotaShare {
    /// Payload bytes a second that a shard gives.
    pub bytes_per_second: f64,
    /// `GetRecords` calls a second that it answers.
    pub calls_per_second: f64,
    /// Shards that Pintail had to catch up with.
    pub shards: u64,
    /// How long that took a shard, on average.
    pub behind_s: f64,
    /// Bytes read in that time, over all shards, as a part of what these gave in it. Savings are left out.
    pub share: f64,
    /// The same of the shard with the smallest part.
    pub share_min: f64,
    /// The backlog as a part of what all shards gave from Pintail's start until its last record was committed.
    pub committed_share: Option<f64>,
    /// Calls that were answered, from the start to the end.
    pub calls: u64,
    /// Calls that were refused for their rate.
    pub refused: u64,
}

impl QuotaShare {
    /// Of what the shards say that they have given. `backlog`: its bytes, and the seconds until it was committed.
    pub fn of(quota: Quota, usage: &[Usage], backlog: Option<(u64, f64)>) -> Self {
        let Quota { bytes_per_second, calls_per_second } = quota;
        let behind = || usage.iter().filter(|shard| shard.behind_s > 0.0);
        let share = |bytes: f64, seconds: f64| if seconds > 0.0 { bytes / (seconds * bytes_per_second) } else { 0.0 };
        let seconds = behind().fold(0.0, |sum, shard| sum + shard.behind_s);
        let least = behind().map(|shard| share(shard.behind_bytes, shard.behind_s)).reduce(f64::min);
        let shards = behind().count();
        Self {
            bytes_per_second,
            calls_per_second,
            shards: shards as u64,
            behind_s: seconds / shards.max(1) as f64,
            share: share(behind().map(|shard| shard.behind_bytes).sum(), seconds),
            share_min: least.unwrap_or_default(),
            committed_share: backlog.map(|(bytes, seconds)| share(bytes as f64, seconds * usage.len() as f64)),
            calls: usage.iter().map(|shard| shard.calls).sum(),
            refused: usage.iter().map(|shard| shard.refused).sum(),
        }
    }
}

/// The report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`]
    pub format: u32,
    /// What was asked for.
    pub profile: Profile,
    /// Draws the same times and records again.
    pub seed: u64,
    /// Which Kinesis: `own`, or where.
    pub target: String,
    /// When it ended, epoch ms.
    pub ended_ms: i64,
    /// What was measured.
    pub build: Build,
    /// On what.
    pub machine: Machine,
    /// Records that Kinesis acknowledged.
    pub records: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// When the posting began, the backlog left out; since the run began.
    pub posting_from_s: f64,
    /// How long was posted, the backlog left out.
    pub posted_s: f64,
    /// From the end of the posting until everything was committed.
    pub caught_up_s: f64,
    /// Records a second that were due.
    pub rate_asked: f64,
    /// Records a second that were acknowledged.
    pub rate_achieved: f64,
    /// By how much a record was sent after it was due, at most.
    pub late_max_ms: f64,
    /// If Pintail started behind.
    pub backlog: Option<Backlog>,
    /// If the shards had quotas.
    #[serde(default)]
    pub quota: Option<QuotaShare>,
    /// From when a record was due until the live windows count it.
    pub window_ms: Latency,
    /// From when a record was due until a reader of the table finds it.
    pub lake_ms: Latency,
    /// From the start of Pintail to the last commit, by process.
    pub cpu: CpuSeconds,
    /// Pintail's own.
    pub cpu_s_per_million: f64,
    /// The most memory that Pintail had resident at once.
    pub rss_peak_bytes: u64,
    /// What it had before the first record came.
    pub rss_idle_bytes: u64,
    /// The mean of a commit of a rows table, retries included.
    pub commit_mean_ms: f64,
    /// The mean of encoding and uploading a flush.
    pub flush_mean_ms: f64,
    /// Active files of the rows tables at the end.
    pub files_active: u64,
    /// Entries of their logs, in bytes.
    pub log_bytes: u64,
    /// The ledger's verdict.
    pub verdict: Reckoned,
    /// Everything that must not be, in words. Empty: it has held.
    pub violations: Vec<String>,
    /// What a reader of the figures must know, in words.
    pub notes: Vec<String>,
    /// One look a second.
    pub samples: Vec<Sample>,
    /// Commits of the rows tables.
    pub commits: Vec<Commit>,
}

impl Report {
    /// The figures that are asked for first, in a line.
    pub fn summary(&self) -> String {
        let Self { records, rate_achieved, cpu_s_per_million, .. } = self;
        let (window, lake, peak_mib) = (&self.window_ms.total, &self.lake_ms.total, self.rss_peak_bytes >> 20);
        format!(
            "{records} records at {rate_achieved:.0} a second: in the live window after {:.0} ms (p50) and {:.0} (p99), in \
             the lake after {:.0} and {:.0}; {cpu_s_per_million:.1} s of CPU a million records, {peak_mib} MiB at the peak",
            window.p50, window.p99, lake.p50, lake.p99
        )
    }

    /// Whether everything held.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(behind_s: f64, behind_bytes: f64) -> Usage {
        Usage { behind_s, behind_bytes, calls: 20, refused: 1, ..Usage::default() }
    }

    #[test]
    fn the_share_of_the_quota_is_that_of_the_shards_that_were_behind_each_in_its_time() {
        let quota = Quota { bytes_per_second: 100.0, calls_per_second: 5.0 };
        // The third had caught up with its first answer.
        let found =
            QuotaShare::of(quota, &[usage(10.0, 900.0), usage(30.0, 3_000.0), usage(0.0, 0.0)], Some((3_000, 20.0)));
        assert_eq!((found.shards, found.behind_s, found.share, found.share_min), (2, 20.0, 0.975, 0.9));
        assert_eq!((found.committed_share, found.calls, found.refused), (Some(0.5), 60, 3));
        let idle = QuotaShare::of(quota, &[usage(0.0, 0.0)], None);
        assert_eq!((idle.shards, idle.share, idle.share_min, idle.committed_share), (0, 0.0, 0.0, None));
    }
}
