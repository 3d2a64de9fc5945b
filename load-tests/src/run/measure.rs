//! What was seen, made into a report.

use std::process::ExitStatus;
use std::time::Duration;

use pintail::clock::now_ms;
use pintail::demo::accepted::AcceptedLog;

use super::Plan;
use super::clock::Clock;
use super::latency::Latency;
use super::machine::{Build, Machine};
use super::produce::Word;
use super::report::{Backlog, CpuSeconds, FORMAT, QuotaShare, Report, Sample};
use super::target::Target;
use super::watch::Watch;
use crate::kinesis_proxy::{Quota, Usage};
use crate::verify::{Reckoned, Verdict, total};

/// A producer that is later than this says something about itself and not about Pintail.
const LATE_MS: f64 = 100.0;

/// A smaller share of the rate that was asked for is another load.
const HELD_SHARE: f64 = 0.97;

/// How the load was posted.
pub struct Live {
    /// Pintail before it: reading, and idle unless it has to catch up.
    pub before: Sample,
    /// The producer's last word.
    pub live: Word,
    /// All of them.
    pub words: Vec<Word>,
    /// From the end of the posting until everything was committed.
    pub caught_up_s: f64,
    /// When the backlog was committed, from the start of the watch on.
    pub backlog_done: Option<Duration>,
    /// Splits and merges.
    pub reshards: u64,
}

/// What is known beside what the watch saw.
pub struct Run<'a> {
    /// What was asked for.
    pub plan: &'a Plan,
    /// The backlog's producer's last word.
    pub backlog: Word,
    /// The load.
    pub posted: Live,
    /// When everything was committed.
    pub after: Sample,
    /// What the shards have given, if they have quotas.
    pub usage: Option<Vec<Usage>>,
    /// How Pintail ended.
    pub status: ExitStatus,
    /// Its data-loss alarms.
    pub alarms: usize,
    /// The clock of all processes.
    pub clock: Clock,
}

/// The report. `live` is the book of the load without the backlog.
pub fn measured(
    run: Run<'_>,
    watch: Watch,
    live: &AcceptedLog,
    verdict: &Verdict,
    target: &Target,
) -> anyhow::Result<Report> {
    let Run { plan, backlog, posted, after, usage, status, alarms, clock } = run;
    let before = &posted.before;
    let (kinds, started) = (plan.profile.kinds(), watch.started);
    let posting = clock.instant(posted.live.started_us);
    let mut seen = watch.into_seen();
    add_words(&mut seen.samples, &posted.words, clock.us(started));
    let records = backlog.records + posted.live.records;
    let posted_s = posted.live.at_us.saturating_sub(posted.live.started_us) as f64 / 1e6;
    let cpu = CpuSeconds { producer: backlog.cpu_seconds + posted.live.cpu_seconds, ..after.cpu };
    // What it takes to start is left out, unless it starts into work.
    let own_s = after.cpu.pintail - if backlog.records == 0 { before.cpu.pintail } else { 0.0 };
    let commits = (after.commits - before.commits).max(1) as f64;
    let total = total(verdict);
    let added: u64 = seen.commits.iter().map(|commit| commit.files_added).sum();
    let removed: u64 = seen.commits.iter().map(|commit| commit.files_removed).sum();
    let mut report = Report {
        format: FORMAT,
        profile: plan.profile.clone(),
        seed: plan.seed.value(),
        target: target.name(),
        ended_ms: now_ms(),
        build: Build::this(),
        machine: Machine::this(),
        records,
        bytes: backlog.bytes + posted.live.bytes,
        posting_from_s: posting.saturating_duration_since(started).as_secs_f64(),
        posted_s,
        caught_up_s: posted.caught_up_s,
        rate_asked: posted.live.records as f64 / (plan.profile.duration_ms as f64 / 1e3),
        rate_achieved: posted.live.records as f64 / posted_s,
        late_max_ms: posted.words.iter().map(|word| word.late_max_us as f64 / 1e3).fold(0.0, f64::max),
        backlog: posted.backlog_done.map(|done| Backlog {
            records: backlog.records,
            bytes: backlog.bytes,
            caught_up_s: done.as_secs_f64(),
            records_per_s: backlog.records as f64 / done.as_secs_f64(),
        }),
        quota: usage.map(|usage| {
            let caught_up_s = posted.backlog_done.map(|done| done.as_secs_f64());
            QuotaShare::of(Quota::KINESIS, &usage, caught_up_s.map(|seconds| (backlog.bytes, seconds)))
        }),
        window_ms: Latency::of(live, &kinds, &seen.counted, posting)?,
        lake_ms: Latency::of(live, &kinds, &seen.committed, posting)?,
        cpu,
        cpu_s_per_million: own_s / records.max(1) as f64 * 1e6,
        rss_peak_bytes: after.rss_peak_bytes,
        rss_idle_bytes: before.rss_bytes,
        commit_mean_ms: (after.commit_seconds - before.commit_seconds) / commits * 1e3,
        flush_mean_ms: (after.flush_seconds - before.flush_seconds) / commits * 1e3,
        files_active: added.saturating_sub(removed),
        log_bytes: seen.commits.iter().map(|commit| commit.log_bytes).sum(),
        verdict: Reckoned::of(verdict),
        violations: violations(verdict, status, alarms),
        notes: Vec::new(),
        samples: seen.samples,
        commits: seen.commits,
    };
    report.notes = notes(&report, &posted, total.accepted);
    Ok(report)
}

/// The producer speaks at other moments than those of the samples: each gets what lies between the words around it.
fn add_words(samples: &mut [Sample], words: &[Word], started_us: u64) {
    for sample in samples {
        let at_us = started_us + (sample.seconds * 1e6) as u64;
        let said = words.partition_point(|word| word.at_us <= at_us);
        let start = Word { at_us: words.first().map_or(0, |word| word.started_us), ..Word::default() };
        let before = said.checked_sub(1).and_then(|last| words.get(last)).copied().unwrap_or(start);
        let after = words.get(said).copied().unwrap_or(before);
        let way_us = after.at_us.saturating_sub(before.at_us).max(1);
        let part = (at_us.saturating_sub(before.at_us) as f64 / way_us as f64).min(1.0);
        sample.posted = before.records + ((after.records - before.records) as f64 * part) as u64;
        sample.late_max_ms = before.late_max_us as f64 / 1e3;
        sample.cpu.producer = before.cpu_seconds + (after.cpu_seconds - before.cpu_seconds) * part;
    }
}

fn violations(verdict: &Verdict, status: ExitStatus, alarms: usize) -> Vec<String> {
    let mut violations = Vec::new();
    if status.code() != Some(0) {
        violations.push(format!("after SIGTERM Pintail ended with {status}"));
    }
    if alarms > 0 {
        violations.push(format!("{alarms} data-loss alarms, and nothing was trimmed"));
    }
    for (kind, found) in verdict {
        violations.extend(found.violations().into_iter().map(|line| format!("{}: {line}", kind.name())));
    }
    violations
}

fn notes(report: &Report, posted: &Live, accepted: u64) -> Vec<String> {
    let mut notes = Vec::new();
    if !report.build.release {
        notes.push("a debug build: its figures say nothing about Pintail".to_owned());
    }
    let (achieved, asked) = (report.rate_achieved, report.rate_asked);
    if achieved < asked * HELD_SHARE {
        notes.push(format!("the rate could not be held: {achieved:.0} of {asked:.0} records a second"));
    }
    if report.late_max_ms > LATE_MS {
        notes.push(format!(
            "a record was sent {:.0} ms after it was due, since the producer or the calls before it took so long; that \
             is in the latencies",
            report.late_max_ms
        ));
    }
    if posted.live.sent_again > 0 {
        notes.push(format!("{} records were refused by Kinesis at first and sent again", posted.live.sent_again));
    }
    if posted.reshards > 0 {
        notes.push(format!("{} splits and merges", posted.reshards));
    }
    let unseen = report.window_ms.unseen + report.lake_ms.unseen;
    if unseen > 0 {
        notes.push(format!("{unseen} arrivals were not seen, and are in no latency"));
    }
    if accepted != report.records {
        notes.push(format!("the book has {accepted} records, the producers counted {}", report.records));
    }
    notes
}
