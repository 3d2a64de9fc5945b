//! `windows-cost`: CPU of the whole service for a million records, by how many windows are declared.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::Series;
use crate::cli;
use crate::peers::arithmetic::Spread;
use crate::run::{Build, Machine, Profile, Report};

/// `windows-cost`
#[derive(Debug, Args)]
pub struct WindowsCostArgs {
    /// How many windows are declared over all streams; the first is what the others are compared with
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', default_value = "0,5,20", value_parser = clap::value_parser!(u32).range(..=100))]
    windows: Vec<u32>,
    /// How often each has a turn; less than five say little
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// A shipped profile, or the path of a TOML file
    #[arg(long, value_name = "NAME|FILE", default_value = "canonical")]
    profile: String,
    /// How long a run posts
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = cli::duration)]
    duration: Duration,
    /// Records a second over all streams [default: the profile's]
    #[arg(long, value_name = "N", value_parser = cli::rate)]
    rate: Option<f64>,
    /// Draws times and records [default: a fresh one, which is printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where the report goes, as JSON
    #[arg(long, value_name = "FILE", default_value = "windows-cost.json")]
    report: PathBuf,
}

/// What so many windows cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Cost {
    windows: u32,
    /// Pintail's CPU seconds for a million records.
    cpu_s_per_million: Spread,
    /// How many times those of the first count, within a round.
    ratio: Spread,
}

/// The report.
#[derive(Debug, Serialize)]
struct Found {
    build: Build,
    machine: Machine,
    profile: Profile,
    rounds: usize,
    costs: Vec<Cost>,
    violations: Vec<String>,
}

impl WindowsCostArgs {
    /// Measures, prints the figures and writes the report; whether every promise held.
    pub async fn run(&self, program: &str) -> anyhow::Result<bool> {
        cli::check_writable(&self.report)?;
        let mut profile = Profile::load(&self.profile)?;
        profile.duration_ms = u64::try_from(self.duration.as_millis())?;
        profile.rate = self.rate.unwrap_or(profile.rate);
        let variants = self.windows.iter().map(|windows| {
            let variant = Profile { windows: *windows, ..profile.clone() };
            (format!("{windows} windows"), variant)
        });
        let series = Series {
            program,
            rounds: usize::try_from(self.rounds)?,
            seed: cli::seed_of(self.seed),
            variants: variants.collect(),
            tell: |report| format!("{:.2} s of CPU for a million records", report.cpu_s_per_million),
        };
        let (rounds, violations) = series.run().await?;
        let (costs, rounds) = (costs(&self.windows, &rounds), rounds.len());
        let (build, machine) = (Build::this(), Machine::this());
        let found = Found { build, machine, profile, rounds, costs, violations };
        println!("{}", table(&found.costs));
        cli::publish(&self.report, &found)?;
        cli::tell_verdict(&found.violations);
        Ok(found.violations.is_empty())
    }
}

fn costs(windows: &[u32], rounds: &[Vec<Report>]) -> Vec<Cost> {
    let of = |at: usize| -> Vec<Option<f64>> {
        rounds.iter().map(|reports| reports.get(at).map(|report| report.cpu_s_per_million)).collect()
    };
    let first = of(0);
    let costs = windows.iter().enumerate().filter_map(|(at, windows)| {
        let each = of(at);
        let cpu_s_per_million = Spread::of(&each.iter().copied().flatten().collect::<Vec<f64>>())?;
        Some(Cost { windows: *windows, cpu_s_per_million, ratio: Spread::of_ratios(&each, &first)? })
    });
    costs.collect()
}

fn table(costs: &[Cost]) -> String {
    let spread = |spread: Spread| format!("{:.2} [{:.2}, {:.2}]", spread.median, spread.min, spread.max);
    let mut lines = vec![format!("{:>8}  {:<24} times the first", "windows", "CPU s a million records")];
    lines.extend(
        costs
            .iter()
            .map(|cost| format!("{:>8}  {:<24} {}", cost.windows, spread(cost.cpu_s_per_million), spread(cost.ratio))),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_compared_with_the_first_within_a_round() {
        let round =
            |cpu: [f64; 2]| cpu.map(|cpu_s_per_million| Report { cpu_s_per_million, ..Report::default() }).to_vec();
        // The second round was twice as slow for both.
        let costs = costs(&[0, 20], &[round([4.0, 5.0]), round([8.0, 10.0]), round([4.0, 6.0])]);
        assert_eq!((costs[0].cpu_s_per_million.median, costs[0].ratio.max), (4.0, 1.0));
        assert_eq!((costs[1].windows, costs[1].ratio.median, costs[1].ratio.max), (20, 1.25, 1.5));
        let table = table(&costs);
        assert!(table.contains("      20  6.00 [5.00, 10.00]       1.25 [1.25, 1.50]"), "{table}");
    }
}
