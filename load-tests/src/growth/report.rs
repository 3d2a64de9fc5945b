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
    /// Opening the stream's tables after it, ms.
    pub open_ms: f64,
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
    /// Active files of the rows table.
    pub files: u64,
    /// Everything that must not be, in words.
    pub violations: Vec<String>,
}

impl Report {
    pub(super) fn new(plan: &Plan, seen: &Seen, rows: u64, accepted: u64) -> Self {
        let parts = seen.commit_ms.chunks(seen.commit_ms.len() / 10).zip(&seen.open_ms);
        let tenths: Vec<Tenth> = parts
            .map(|(part, open_ms)| Tenth {
                commit_p50_ms: quantile(part, 0.5),
                commit_p99_ms: quantile(part, 0.99),
                open_ms: *open_ms,
            })
            .collect();
        let (first, last) = (tenths.first(), tenths.last());
        let last_to_first = first.zip(last).map_or(1.0, |(first, last)| last.commit_p50_ms / first.commit_p50_ms);
        let mut violations = Vec::new();
        if rows != accepted {
            violations.push(format!("{accepted} records were accepted, rows and rejects are {rows}"));
        }
        Self {
            commits: plan.commits,
            compacted: plan.compact,
            tenths,
            last_to_first,
            first_read_ms: seen.first_read_ms,
            log_objects: seen.log_objects,
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
}
