//! What a run of chaos found, for people and as JSON.

use std::collections::BTreeMap;

use pintail::demo::Kind;
use serde::Serialize;

use super::phase::{self, Phase, name};
use crate::verify::{Reckoned, Verdict, total};

/// What was asked for, beside the seed. Says nothing of the machine.
#[derive(Debug, Clone, Serialize)]
pub struct Setting {
    /// Kills asked for.
    pub kills: u64,
    /// Different phases asked for.
    pub phases: u64,
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
    /// Those of them that died while a known request was held.
    pub aimed_kills: u64,
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

/// What was seen beside the processes and the tables.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Records that came in a commit out of their order, by stream.
    pub disorder: BTreeMap<Kind, u64>,
    /// Splits and merges.
    pub reshards: u64,
    /// Commits of the rows tables that were looked at one by one.
    pub commits: u64,
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
    pub fn new(seed: u64, config: Setting, deaths: Deaths, verdict: &Verdict, seen: &Seen) -> Self {
        let mut reckoned = Reckoned::of(verdict);
        reckoned.out_of_order += seen.disorder.values().sum::<u64>();
        let mut report = Self {
            seed,
            duration_s: 0.0,
            deaths,
            reshards: seen.reshards,
            records: total(verdict).accepted,
            reckoned,
            late: verdict.values().map(|found| found.late).sum(),
            commits_checked: seen.commits,
            violations: Vec::new(),
            config,
        };
        report.violations = report.find_violations(verdict, &seen.disorder);
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
        violations.extend(self.proves_too_little());
        violations
    }

    /// What was promised of the run itself: one in which little happened would be clean as well.
    fn proves_too_little(&self) -> Vec<String> {
        let (kills, aimed, asked) = (self.deaths.kills, self.deaths.aimed_kills, self.config.kills);
        let mut lacking = Vec::new();
        if kills < asked {
            lacking.push(format!("{kills} processes were killed, and {asked} kills were asked for"));
        }
        if aimed * 2 < kills {
            lacking.push(format!("of {kills} kills only {aimed} were aimed"));
        }
        let is_full = self.config.phases == phase::all().count() as u64;
        let counts = [
            ("reshards", self.reshards),
            ("commits_checked", self.commits_checked),
            ("partials_checked", self.reckoned.partials_checked),
            ("sealed_checked", self.reckoned.sealed_checked),
        ];
        let missing = counts.iter().filter(|(_, count)| is_full && *count == 0);
        lacking.extend(missing.map(|(what, _)| format!("{what} is 0, and every phase was asked for")));
        lacking
    }

    /// Whether everything held.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Found;

    const GUIDE: &str = include_str!("../../README.md");

    fn asked(kills: u64, phases: u64) -> Setting {
        let sections = String::new();
        Setting { kills, phases, rate: 1.0, flush_interval_ms: 1, reshard_interval_ms: 1, sections }
    }

    /// So many kills, of which so many were aimed.
    fn killed(kills: u64, aimed_kills: u64) -> Deaths {
        Deaths { kills, aimed_kills, ..Deaths::default() }
    }

    fn violations(config: Setting, deaths: Deaths, verdict: &Verdict, seen: &Seen) -> Vec<String> {
        Report::new(1, config, deaths, verdict, seen).violations
    }

    #[test]
    fn a_phase_that_was_not_asked_for_is_told_with_0_and_only_one_that_was_is_a_violation() {
        let kills = |phase| if phase == Phase::Drain { 2 } else { 0 };
        let deaths = Deaths {
            kills_by_phase: phase::all().map(|phase| (phase, kills(phase))).collect(),
            waited_in_vain: BTreeMap::from([(Phase::DataPut, 4), (Phase::Drain, 1)]),
            ..killed(4, 2)
        };
        let report = Report::new(1, asked(4, 2), deaths, &Verdict::new(), &Seen::default());
        assert_eq!(report.violations, ["no process was killed in phase data_put"]);
        let told = serde_json::to_value(&report).unwrap();
        assert_eq!(told["kills_by_phase"]["vacuum_delete"], 0);
        for field in told.as_object().unwrap().keys() {
            assert!(GUIDE.contains(&format!("`{field}`")), "{field} is not explained in the README");
        }
    }

    #[test]
    fn every_phase_is_explained_in_the_readme() {
        let rows: Vec<&str> = GUIDE.lines().skip_while(|line| !line.starts_with("| phase |")).collect();
        let table: Vec<&str> = rows.into_iter().take_while(|line| line.starts_with('|')).collect();
        for phase in phase::all().map(|phase| format!("`{}`", name(phase))) {
            let rows = table.iter().filter(|row| row.split('|').nth(1).is_some_and(|names| names.contains(&phase)));
            assert_eq!(rows.count(), 1, "{phase} in the README's table of phases");
        }
    }

    #[test]
    fn a_run_that_kills_less_than_was_asked_or_mostly_by_chance_has_not_held() {
        let of = |kills, aimed| violations(asked(30, 2), killed(kills, aimed), &Verdict::new(), &Seen::default());
        assert_eq!(of(30, 15), [""; 0]);
        assert_eq!(of(33, 17), [""; 0]);
        assert_eq!(of(29, 15), ["29 processes were killed, and 30 kills were asked for"]);
        assert_eq!(of(33, 16), ["of 33 kills only 16 were aimed"]);
    }

    #[test]
    fn a_run_through_every_phase_in_which_nothing_was_looked_at_has_not_held() {
        let all = phase::all().count() as u64;
        let found = Found { partials: 1, sealed: 1, ..Found::default() };
        let (looked, blind) = (Verdict::from([(Kind::Pin, found)]), Verdict::new());
        let (nothing, seen) = (Seen::default(), Seen { reshards: 1, commits: 1, ..Seen::default() });
        let of = |phases, verdict: &Verdict, seen: &Seen| violations(asked(30, phases), killed(30, 20), verdict, seen);
        assert_eq!(of(all, &looked, &seen), [""; 0]);
        assert_eq!(of(all - 1, &blind, &nothing), [""; 0]);
        let lacking = |what: &str| format!("{what} is 0, and every phase was asked for");
        assert_eq!(of(all, &looked, &nothing), ["reshards", "commits_checked"].map(lacking));
        assert_eq!(of(all, &blind, &seen), ["partials_checked", "sealed_checked"].map(lacking));
    }
}
