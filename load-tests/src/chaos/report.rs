//! What a run of chaos found, for people and as JSON.

use std::collections::BTreeMap;

use pintail::demo::Kind;
use serde::Serialize;

use super::phase::{Phase, name};
use crate::verify::{Reckoned, Verdict, total};

/// What was asked for, beside the seed. Says nothing of the machine.
#[derive(Debug, Clone, Serialize)]
pub struct Setting {
    /// Kills asked for.
    pub kills: u64,
    /// Records a second over all streams.
    pub rate: f64,
    /// `lake.flush_interval`
    pub flush_interval_ms: u64,
    /// Between two reshards.
    pub reshard_interval_ms: u64,
    /// The further sections of the configuration.
    pub sections: String,
}

/// What happened to the processes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Deaths {
    /// Processes that were killed with SIGKILL.
    pub kills: u64,
    /// The same by phase; every phase is there, also those in which nobody was killed.
    pub kills_by_phase: BTreeMap<Phase, u64>,
    /// Times a phase was waited for in vain.
    pub waited_in_vain: BTreeMap<Phase, u64>,
    /// Processes that drained after SIGTERM and ended with 0.
    pub drains: u64,
    /// Times a process was frozen, replaced and thawed.
    pub frozen: u64,
    /// Shards that were taken from a process, as the processes say.
    pub fenced: u64,
    /// Data-loss alarms that the processes raised.
    pub alarms: u64,
    /// The most memory that any process had resident.
    pub rss_peak_bytes: u64,
    /// What processes logged as errors, and how often.
    pub errors_logged: BTreeMap<String, u64>,
    /// What must not happen to a process, in words.
    pub wrong: Vec<String>,
}

/// The report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Draws the same numbers again.
    pub seed: u64,
    /// How long it took, the reckoning included.
    pub duration_s: f64,
    /// What happened to the processes.
    #[serde(flatten)]
    pub deaths: Deaths,
    /// Splits and merges.
    pub reshards: u64,
    /// Records that Kinesis acknowledged.
    pub records: u64,
    /// The book against the tables.
    #[serde(flatten)]
    pub reckoned: Reckoned,
    /// Records of sealed windows that are in no sealed row.
    pub late: u64,
    /// Commits of the rows tables that were looked at one by one.
    pub commits_checked: u64,
    /// Everything that must not be, in words. Empty: it has held.
    pub violations: Vec<String>,
    /// What was asked for.
    pub config: Setting,
}

impl Report {
    /// Puts together what the tables say and what the processes did.
    pub fn new(seed: u64, config: Setting, deaths: Deaths, verdict: &Verdict, disorder: &BTreeMap<Kind, u64>) -> Self {
        let mut reckoned = Reckoned::of(verdict);
        reckoned.out_of_order += disorder.values().sum::<u64>();
        let mut report = Self {
            seed,
            duration_s: 0.0,
            deaths,
            reshards: 0,
            records: total(verdict).accepted,
            reckoned,
            late: verdict.values().map(|found| found.late).sum(),
            commits_checked: 0,
            violations: Vec::new(),
            config,
        };
        report.violations = report.find_violations(verdict, disorder);
        report
    }

    fn find_violations(&self, verdict: &Verdict, disorder: &BTreeMap<Kind, u64>) -> Vec<String> {
        let mut violations = self.deaths.wrong.clone();
        for (kind, found) in verdict {
            violations.extend(found.violations().into_iter().map(|line| format!("{}: {line}", kind.name())));
        }
        for (kind, count) in disorder.iter().filter(|(_, count)| **count > 0) {
            violations.push(format!("{}: {count} records came in a commit out of their order", kind.name()));
        }
        if self.late > 0 {
            violations.push(format!("{} records are missing in sealed windows, and none came late", self.late));
        }
        if self.deaths.alarms > 0 {
            violations.push(format!("{} data-loss alarms, and nothing was trimmed", self.deaths.alarms));
        }
        let was_reached = |phase: &Phase| self.deaths.kills_by_phase.get(phase).is_some_and(|kills| *kills > 0);
        for phase in self.deaths.waited_in_vain.keys().filter(|phase| !was_reached(phase)) {
            violations.push(format!("no process was killed in phase {}", name(*phase)));
        }
        violations
    }

    /// Whether everything held.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::phase;

    #[test]
    fn a_phase_that_was_not_asked_for_is_told_with_0_and_only_one_that_was_is_a_violation() {
        let kills = |phase| if phase == Phase::Drain { 2 } else { 0 };
        let deaths = Deaths {
            kills_by_phase: phase::all().map(|phase| (phase, kills(phase))).collect(),
            waited_in_vain: BTreeMap::from([(Phase::DataPut, 4), (Phase::Drain, 1)]),
            ..Deaths::default()
        };
        let config =
            Setting { kills: 3, rate: 1.0, flush_interval_ms: 1, reshard_interval_ms: 1, sections: String::new() };
        let report = Report::new(1, config, deaths, &Verdict::new(), &BTreeMap::new());
        assert_eq!(report.violations, ["no process was killed in phase data_put"]);
        let told = serde_json::to_value(&report).unwrap();
        assert_eq!(told["kills_by_phase"]["vacuum_delete"], 0);
        let guide = include_str!("../../README.md");
        for field in told.as_object().unwrap().keys() {
            assert!(guide.contains(&format!("`{field}`")), "{field} is not explained in the README");
        }
    }
}
