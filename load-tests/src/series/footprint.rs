//! `footprint`: what Pintail has resident while nothing comes, and what each shard adds to that.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::Series;
use crate::cli;
use crate::peers::arithmetic::Spread;
use crate::run::{Build, Machine, Profile, Report};

const MIB: f64 = (1 << 20) as f64;

/// `footprint`
#[derive(Debug, Args)]
pub struct FootprintArgs {
    /// Shards of the large stream; what a shard costs is told against a stream with one
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    shards: u32,
    /// How often each has a turn
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long a run posts
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = cli::duration)]
    duration: Duration,
    /// Records a second, on one shard and on all of them alike
    #[arg(long, value_name = "N", default_value_t = 1_000.0, value_parser = cli::rate)]
    rate: f64,
    /// Draws times and records [default: a fresh one, which is printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where the report goes, as JSON
    #[arg(long, value_name = "FILE", default_value = "footprint.json")]
    report: PathBuf,
}

/// One round, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Round {
    /// Three streams of a shard, before the first record.
    three_streams_idle: u64,
    /// One stream of one shard, before the first record, and the most under load.
    one_shard_idle: u64,
    one_shard_peak: u64,
    /// The same of one stream of many.
    many_shards_idle: u64,
    many_shards_peak: u64,
}

impl Round {
    fn of(reports: &[Report]) -> Option<Self> {
        let [three, one, many] = reports else { return None };
        Some(Self {
            three_streams_idle: three.rss_idle_bytes,
            one_shard_idle: one.rss_idle_bytes,
            one_shard_peak: one.rss_peak_bytes,
            many_shards_idle: many.rss_idle_bytes,
            many_shards_peak: many.rss_peak_bytes,
        })
    }
}

/// The report.
#[derive(Debug, Serialize)]
struct Found {
    build: Build,
    machine: Machine,
    shards: u32,
    rate: f64,
    budget_mib: f64,
    rounds: Vec<Round>,
    /// With three streams, before the first record.
    idle_mib: Option<Spread>,
    /// What a shard adds before the first record.
    shard_idle_mib: Option<Spread>,
    /// What a shard adds to the most that is resident under the same load.
    shard_loaded_mib: Option<Spread>,
    /// The most that was resident beyond the byte budget, with many shards; negative if less was.
    beyond_budget_mib: Option<Spread>,
    violations: Vec<String>,
}

impl FootprintArgs {
    /// Measures, prints the figures and writes the report; whether every promise held.
    pub async fn run(&self, program: &str) -> anyhow::Result<bool> {
        cli::check_writable(&self.report)?;
        let many = Profile {
            duration_ms: u64::try_from(self.duration.as_millis())?,
            rate: self.rate,
            shards: self.shards,
            ..Profile::load("many_shards")?
        };
        let one = Profile { shards: 1, ..many.clone() };
        let budget_mib = many.budget_bytes as f64 / MIB;
        // What is posted here only ends the run: the figure is what was resident before it.
        let three = Profile { shards: 1, rate: 10.0, duration_ms: 1_000, ..Profile::load("canonical")? };
        let many_name = format!("{} shards", self.shards);
        let series = Series {
            program,
            rounds: usize::try_from(self.rounds)?,
            seed: cli::seed_of(self.seed),
            variants: vec![("three streams".to_owned(), three), ("one shard".to_owned(), one), (many_name, many)],
            tell: |report| format!("{} MiB idle, {} at most", report.rss_idle_bytes >> 20, report.rss_peak_bytes >> 20),
        };
        let (reports, violations) = series.run().await?;
        let rounds = reports.iter().filter_map(|reports| Round::of(reports)).collect();
        let found = Found::of(self, budget_mib, rounds, violations);
        println!("{}", found.table());
        cli::publish(&self.report, &found)?;
        cli::tell_verdict(&found.violations);
        Ok(found.violations.is_empty())
    }
}

impl Found {
    fn of(args: &FootprintArgs, budget_mib: f64, rounds: Vec<Round>, violations: Vec<String>) -> Self {
        let each = |of: &dyn Fn(&Round) -> f64| Spread::of(&rounds.iter().map(of).collect::<Vec<f64>>());
        let added = |many: u64, one: u64| (many as f64 - one as f64) / f64::from(args.shards - 1) / MIB;
        Self {
            build: Build::this(),
            machine: Machine::this(),
            shards: args.shards,
            rate: args.rate,
            budget_mib,
            idle_mib: each(&|round| round.three_streams_idle as f64 / MIB),
            shard_idle_mib: each(&|round| added(round.many_shards_idle, round.one_shard_idle)),
            shard_loaded_mib: each(&|round| added(round.many_shards_peak, round.one_shard_peak)),
            beyond_budget_mib: each(&|round| round.many_shards_peak as f64 / MIB - budget_mib),
            rounds,
            violations,
        }
    }

    fn table(&self) -> String {
        let lines = [
            ("three streams, idle".to_owned(), self.idle_mib),
            (format!("a shard of {}, idle", self.shards), self.shard_idle_mib),
            (format!("a shard of {}, {} records a second over all", self.shards, self.rate), self.shard_loaded_mib),
            (format!("beyond the budget of {} MiB", self.budget_mib), self.beyond_budget_mib),
        ];
        let line = |(name, spread): &(String, Option<Spread>)| {
            let figures = spread.map(|it| format!("{:>9.3} MiB [{:.3}, {:.3}]", it.median, it.min, it.max));
            format!("{name:<48} {}", figures.unwrap_or_default())
        };
        lines.iter().map(line).collect::<Vec<String>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: FootprintArgs,
    }

    #[test]
    fn a_shard_costs_what_many_have_more_than_one() {
        let args = Line::parse_from(["footprint", "--shards", "501"]).args;
        let report = |idle_mib: u64, peak_mib: u64| Report {
            rss_idle_bytes: idle_mib << 20,
            rss_peak_bytes: peak_mib << 20,
            ..Report::default()
        };
        let round = |many_idle, many_peak| Round::of(&[report(50, 90), report(40, 140), report(many_idle, many_peak)]);
        let rounds: Vec<Round> = [round(140, 390), round(90, 140), round(240, 640)].into_iter().flatten().collect();
        let found = Found::of(&args, 512.0, rounds, Vec::new());
        assert_eq!(found.idle_mib.unwrap().median, 50.0);
        assert_eq!((found.shard_idle_mib.unwrap().median, found.shard_idle_mib.unwrap().max), (0.2, 0.4));
        assert_eq!((found.shard_loaded_mib.unwrap().median, found.shard_loaded_mib.unwrap().min), (0.5, 0.0));
        assert_eq!(found.beyond_budget_mib.unwrap().max, 128.0);
        assert!(found.table().contains("a shard of 501, idle") && found.table().contains("0.200 MiB [0.100, 0.400]"));
        assert_eq!(Round::of(&[report(1, 1)]), None);
    }
}
