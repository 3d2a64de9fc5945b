//! Two builds, compared by their reports: what got better, what got worse, and what the noise hides.
//!
//! A difference counts if it is larger than [`DIFFERENCE_MIN`] and if the intervals of both medians do not meet:
//! `median ± 1.57 IQR / √n`, the notches of a box plot, which hold the true median nineteen times of twenty. What `n`
//! counts depends on what is there: runs, if both sides have three and more; otherwise tenths of runs. Runs know more:
//! what differs between two runs of one build, a neighbour on the machine for example, no part of one run can tell.

mod figures;
mod judge;
mod reports;

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use clap::Args;

use self::figures::{Better, FIGURES, Figure};
use self::judge::{DIFFERENCE_MIN, Judgement, RUNS_MIN, Side, judge};
use self::reports::{differing, read};
use crate::run::Report;

/// `load-tests compare`
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// What was before: a report, or a folder of one or several
    #[arg(value_name = "A")]
    before: PathBuf,
    /// What is now, likewise
    #[arg(value_name = "B")]
    after: PathBuf,
}

/// Reads both, prints the comparison to standard output; whether nothing got worse.
pub fn command(args: &CompareArgs) -> anyhow::Result<bool> {
    let comparison = Comparison::of(&read(&args.before)?, &read(&args.after)?);
    println!("{comparison}");
    Ok(comparison.is_fine())
}

/// One figure of both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What it is.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// The medians of A and B.
    pub medians: (f64, f64),
    /// From A to B, as a share of A.
    pub change: f64,
    /// The larger half of both intervals, as a share of its median; `None` if nothing is known of the noise.
    pub noise: Option<f64>,
    /// What follows.
    pub judgement: Judgement,
}

/// All figures of both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Figure by figure.
    pub lines: Vec<Line>,
    /// What the reports do not have in common, in words.
    pub differing: Vec<String>,
    /// Promises that did not hold in B, in words.
    pub violations: Vec<String>,
    /// Runs of A and B.
    pub runs: (usize, usize),
}

impl Comparison {
    /// Compares at least one report of each side.
    pub fn of(before: &[Report], after: &[Report]) -> Self {
        let lines = FIGURES.iter().filter_map(|figure| line(figure, before, after));
        Self {
            lines: lines.collect(),
            differing: differing(before, after),
            violations: after.iter().flat_map(|report| report.violations.clone()).collect(),
            runs: (before.len(), after.len()),
        }
    }

    /// Whether nothing got worse.
    pub fn is_fine(&self) -> bool {
        self.violations.is_empty() && self.lines.iter().all(|line| line.judgement != Judgement::Worse)
    }

    fn are_runs(&self) -> bool {
        self.runs.0.min(self.runs.1) >= RUNS_MIN
    }
}

fn line(figure: &Figure, before: &[Report], after: &[Report]) -> Option<Line> {
    let are_runs = before.len().min(after.len()) >= RUNS_MIN;
    let (before, after) = (side(figure, before, are_runs)?, side(figure, after, are_runs)?);
    let judged = judge(&before, &after, figure.better == Better::More);
    Some(Line {
        name: figure.name,
        unit: figure.unit,
        medians: (before.median, after.median),
        change: judged.change,
        noise: judged.noise,
        judgement: judged.judgement,
    })
}

/// `None` if no report of this side has the figure.
fn side(figure: &Figure, reports: &[Report], are_runs: bool) -> Option<Side> {
    let values: Vec<f64> = reports.iter().filter_map(figure.of).collect();
    let noise = match are_runs {
        true => Some(values.clone()),
        false => {
            figure.over_time.map(|over_time| reports.iter().flat_map(|it| judge::tenths(&over_time(it))).collect())
        }
    };
    Side::of(&values, noise.as_deref())
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (a, b) = self.runs;
        let noise = if self.are_runs() { "between the runs" } else { "between the tenths of a run" };
        writeln!(f, "{a} run{} against {b}; noise {noise}", if a == 1 { "" } else { "s" })?;
        for what in &self.differing {
            writeln!(f, "NOT THE SAME: {what}")?;
        }
        writeln!(f, "{:<28}{:>14}{:>14}{:>10}{:>10}   ", "", "A", "B", "change", "noise")?;
        for line in &self.lines {
            let Line { name, unit, medians: (a, b), change, noise, judgement } = line;
            let noise = noise.map_or_else(|| "?".to_owned(), |noise| format!("±{:.1} %", noise * 100.0));
            let change = format!("{:+.1} %", change * 100.0);
            let (a, b) = (format!("{} {unit}", shown(*a)), format!("{} {unit}", shown(*b)));
            writeln!(f, "{name:<28}{a:>14}{b:>14}{change:>10}{noise:>10}   {judgement}")?;
        }
        for violation in &self.violations {
            writeln!(f, "VIOLATED in B: {violation}")?;
        }
        let told = |judgement| {
            let names: Vec<&str> =
                self.lines.iter().filter(|line| line.judgement == judgement).map(|line| line.name).collect();
            if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
        };
        writeln!(f, "\nworse: {}", told(Judgement::Worse))?;
        write!(f, "better: {}", told(Judgement::Better))?;
        if !self.are_runs() {
            write!(f, "\nFor a verdict that lasts: {RUNS_MIN} and more runs of each, in turns, in a folder each")?;
        }
        write!(f, "\n(below {:.0} % nothing counts as a difference)", DIFFERENCE_MIN * 100.0)
    }
}

fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 1_000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests;
