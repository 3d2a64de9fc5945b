//! What commits cost as they went on.

use std::time::Duration;

use serde::Serialize;

use super::Plan;

/// What was measured.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub commit_ms: Vec<f64>,
    /// After each tenth of the commits.
    pub open_ms: Vec<f64>,
    /// For the rows table, a commit, in each tenth of the commits.
    pub requests: Vec<f64>,
    pub log_objects: u64,
    pub files: u64,
    pub first_read_ms: f64,
}

impl Seen {
    pub fn tell(&self, elapsed: Duration) {
        let open_ms = self.open_ms.last().copied().unwrap_or(0.0);
        let (commits, seconds) = (self.commit_ms.len(), elapsed.as_secs());
        let last = &self.commit_ms[commits - commits / self.open_ms.len().max(1)..];
        let median = quantile(last, 0.5);
        eprintln!("{commits} commits in {seconds} s  median {median:.1} ms  opening the tables {open_ms:.0} ms");
    }
}

/// A tenth of the commits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tenth {
    /// Half of its commits were no slower, ms.
    pub commit_p50_ms: f64,
    /// 99 of 100 were no slower, ms.
    pub commit_p99_ms: f64,
    /// Requests for the rows table, a commit: the writer's and those of the tables that follow.
    pub requests_per_commit: f64,
    /// Opening the stream's tables after it, ms.
    pub open_ms: f64,
}

/// Commits of the last tenth cost less than this more or less than the first's, in requests. What maintenance has
/// committed is read once, by one commit of each round, and makes less of a difference.
const REQUESTS_TOLERANCE: f64 = 0.5;
/// A table that gets nothing says so every so many versions, and the rows log is kept for it.
const IDLE_VERSIONS: u64 = 100;
/// Checkpoints, their hint, entries of compactions.
const BESIDE_COMMITS: u64 = 20;

/// Objects that may be in the log: the commits since the last checkpoint, those before it that were not old when that
/// was written, what an idle table keeps, rounded to a checkpoint, and whatever came since the last round.
fn log_objects_max(plan: &Plan) -> u64 {
    4 * u64::from(plan.maintain_every) + IDLE_VERSIONS + BESIDE_COMMITS
}

/// The report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Commits of the rows table that were made.
    pub commits: u32,
    /// Whether small files were joined on the way.
    pub compacted: bool,
    /// The commits, in ten parts.
    pub tenths: Vec<Tenth>,
    /// The median of the last tenth, over that of the first: 1 = nothing grew.
    pub last_to_first: f64,
    /// From the start of a process on what they left until it has read a record, ms.
    pub first_read_ms: f64,
    /// Objects in the log of the rows table.
    pub log_objects: u64,
    /// What may be there: a few intervals of maintenance.
    pub log_objects_max: u64,
    /// Active files of the rows table.
    pub files: u64,
    /// Everything that must not be, in words.
    pub violations: Vec<String>,
}

impl Report {
    pub(super) fn new(plan: &Plan, seen: &Seen, rows: u64, accepted: u64) -> Self {
        let parts = seen.commit_ms.chunks(seen.commit_ms.len() / 10).zip(seen.requests.iter().zip(&seen.open_ms));
        let tenths: Vec<Tenth> = parts
            .map(|(part, (requests_per_commit, open_ms))| Tenth {
                commit_p50_ms: quantile(part, 0.5),
                commit_p99_ms: quantile(part, 0.99),
                requests_per_commit: *requests_per_commit,
                open_ms: *open_ms,
            })
            .collect();
        let (first, last) = (tenths.first(), tenths.last());
        let last_to_first = first.zip(last).map_or(1.0, |(first, last)| last.commit_p50_ms / first.commit_p50_ms);
        let mut violations = Vec::new();
        if rows != accepted {
            violations.push(format!("{accepted} records were accepted, rows and rejects are {rows}"));
        }
        let log_objects_max = log_objects_max(plan);
        if seen.log_objects > log_objects_max {
            let log_objects = seen.log_objects;
            violations.push(format!("{log_objects} objects are in the log; cleanup leaves {log_objects_max} at most"));
        }
        let requests = first.zip(last).map(|(first, last)| (first.requests_per_commit, last.requests_per_commit));
        if let Some((first, last)) = requests.filter(|(first, last)| (first - last).abs() >= REQUESTS_TOLERANCE) {
            violations.push(format!("a commit of the last tenth took {last:.2} requests, one of the first {first:.2}"));
        }
        Self {
            commits: plan.commits,
            compacted: plan.compact,
            tenths,
            last_to_first,
            first_read_ms: seen.first_read_ms,
            log_objects: seen.log_objects,
            log_objects_max,
            files: seen.files,
            violations,
        }
    }

    /// Whether everything held.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

/// The value that this share of the values does not exceed; 0 of none.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0, 4.0], 0.5), 2.0);
        assert_eq!(quantile(&[3.0, 1.0, 2.0, 4.0], 0.99), 4.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }

    #[test]
    fn a_log_that_is_not_cleaned_and_commits_that_ask_for_more_are_violations() {
        let plan = Plan { commits: 3600, compact: true, maintain_every: 100, seed: 1, progress: false };
        let of = |last_requests: f64, log_objects: u64| {
            let requests: Vec<f64> = (0..10).map(|tenth| if tenth == 9 { last_requests } else { 8.0 }).collect();
            let seen =
                Seen { commit_ms: vec![1.0; 3600], open_ms: vec![1.0; 10], requests, log_objects, ..Seen::default() };
            Report::new(&plan, &seen, 5, 5).violations
        };
        assert_eq!(of(8.1, 320), [""; 0]);
        assert!(of(9.0, 320)[0].contains("9.00 requests"), "one request more");
        assert!(of(7.0, 320)[0].contains("7.00 requests"), "the first ones did not count");
        assert!(of(8.0, 3_700)[0].contains("3700 objects"), "never cleaned");
    }
}
