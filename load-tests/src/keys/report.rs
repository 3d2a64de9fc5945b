//! What a flood of keys did, for people and as JSON.

use std::process::ExitStatus;

use serde::Serialize;

use super::{Counted, HEADROOM_BYTES, Plan};

/// What was seen of the processes, the one that was killed included.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Resident at the last look.
    pub rss_bytes: u64,
    /// The most that was resident at once.
    pub rss_peak_bytes: u64,
    /// User and system time.
    pub cpu_seconds: f64,
    /// The most that the live view held of committed cells.
    pub committed_bytes_max: u64,
    /// The most that it held of cells that were not committed.
    pub pending_bytes_max: u64,
    /// The most of the byte budget that was in use.
    pub budget_in_use_bytes_max: u64,
    /// Cells that the live view showed as `__other__`, since the last start.
    pub folded: u64,
    /// Rows committed, since the last start.
    pub committed_rows: u64,
    /// From the start after the kill until it was ready.
    pub ready_again_s: f64,
    /// How long was posted.
    pub posted_s: f64,
    /// From the end of the posting until every brief window was sealed.
    pub sealed_s: f64,
    /// How the last one ended.
    pub status: Option<ExitStatus>,
}

impl Seen {
    pub(super) fn tell(&self) {
        eprintln!(
            "{} rows committed  {} MiB resident  live view: {} MiB committed, {} cells folded  {:.0} s of CPU",
            self.committed_rows,
            self.rss_bytes >> 20,
            self.committed_bytes_max >> 20,
            self.folded,
            self.cpu_seconds
        );
    }
}

/// The report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Different keys.
    pub keys: u32,
    /// Records of each.
    pub rounds: u8,
    /// Records in all.
    pub records: u64,
    /// How long was posted.
    pub posted_s: f64,
    /// The same a second.
    pub rate_achieved: f64,
    /// Until the process that followed the killed one was ready.
    pub ready_again_s: f64,
    /// From the end of the posting until every brief window was sealed.
    pub sealed_s: f64,
    /// User and system time.
    pub cpu_seconds: f64,
    /// The most memory that was resident at once.
    pub rss_peak_bytes: u64,
    /// What may be.
    pub rss_limit_bytes: u64,
    /// The most that the live view held of committed cells.
    pub committed_bytes_max: u64,
    /// The most that it held of cells that were not committed.
    pub pending_bytes_max: u64,
    /// The most of the byte budget that was in use.
    pub budget_in_use_bytes_max: u64,
    /// Cells that the live view showed as `__other__`, after the kill.
    pub folded: u64,
    /// Rows in the rows table.
    pub rows: u64,
    /// Rows of partials: of the window of a day, of the brief windows.
    pub partials_rows: [u64; 2],
    /// Sealed rows of the brief windows.
    pub sealed_rows: u64,
    /// Keys that do not have exactly the records that were put: of rows, both partials, sealed rows.
    pub wrong_keys: [u64; 4],
    /// Everything that must not be, in words.
    pub violations: Vec<String>,
}

impl Report {
    pub(super) fn new(plan: &Plan, seen: &Seen, counted: &Counted) -> Self {
        let tables = [counted.rows, counted.day_partials, counted.brief_partials, counted.sealed];
        let mut report = Self {
            keys: plan.keys,
            rounds: plan.rounds,
            records: plan.records(),
            posted_s: seen.posted_s,
            rate_achieved: plan.records() as f64 / seen.posted_s,
            ready_again_s: seen.ready_again_s,
            sealed_s: seen.sealed_s,
            cpu_seconds: seen.cpu_seconds,
            rss_peak_bytes: seen.rss_peak_bytes,
            rss_limit_bytes: (plan.budget_mib << 20) + HEADROOM_BYTES,
            committed_bytes_max: seen.committed_bytes_max,
            pending_bytes_max: seen.pending_bytes_max,
            budget_in_use_bytes_max: seen.budget_in_use_bytes_max,
            folded: seen.folded,
            rows: counted.rows.rows,
            partials_rows: [counted.day_partials.rows, counted.brief_partials.rows],
            sealed_rows: counted.sealed.rows,
            wrong_keys: tables.map(|table| table.wrong_keys),
            violations: Vec::new(),
        };
        report.violations = report.find_violations(plan, seen);
        report
    }

    fn find_violations(&self, plan: &Plan, seen: &Seen) -> Vec<String> {
        let mut violations = Vec::new();
        let names = ["rows", "partials of a day", "partials of the brief windows", "sealed rows"];
        for (name, wrong) in names.into_iter().zip(self.wrong_keys).filter(|(_, wrong)| *wrong > 0) {
            violations.push(format!("{wrong} keys have not exactly {} records in the {name}", self.rounds));
        }
        if self.rss_peak_bytes > self.rss_limit_bytes {
            let (peak, limit) = (self.rss_peak_bytes >> 20, self.rss_limit_bytes >> 20);
            violations.push(format!("{peak} MiB were resident; budget and headroom are {limit} MiB"));
        }
        if self.budget_in_use_bytes_max > plan.budget_mib << 20 {
            violations.push(format!("{} bytes of the budget were in use at once", self.budget_in_use_bytes_max));
        }
        match seen.status {
            Some(status) if status.code() == Some(0) => {}
            status => violations.push(format!("after SIGTERM the process ended with {status:?}")),
        }
        violations
    }

    /// Whether everything held.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}
