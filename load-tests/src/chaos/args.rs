//! The command line of `load-tests chaos`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::{check_writable, publish, rate, seed_of, tell_verdict};

/// How many die, and under what load.
#[derive(Debug, Args)]
pub struct ChaosArgs {
    /// Processes to kill with SIGKILL: at least 30, so that every phase comes up; 200 give each several. A few more
    /// die, where two die together
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(30..))]
    kills: u64,
    /// Where the report goes, as JSON
    #[arg(long, value_name = "FILE", default_value = "chaos.json")]
    report: PathBuf,
    /// Draws records, phases and moments [default: a fresh one, which is printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Records a second over all three streams
    #[arg(long, value_name = "N", default_value_t = 600.0, value_parser = rate)]
    rate: f64,
    /// Keep every process's log, the configuration and the lake here, for a look at what went wrong
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

impl ChaosArgs {
    /// Whether every promise held.
    pub async fn run(self, program: &str) -> anyhow::Result<bool> {
        check_writable(&self.report)?;
        let mut seed = seed_of(self.seed);
        let plan = super::Plan {
            phases: super::share_out(self.kills, &mut seed),
            seed,
            rate: self.rate,
            flush_interval_ms: 300,
            reshard_interval: Duration::from_secs(4),
            work_ms: 1_500,
            old_after: Duration::from_secs(20),
            progress: true,
            keep: self.keep,
        };
        let report = super::run(program, plan).await?;
        publish(&self.report, &report)?;
        let (kills, aimed) = (report.deaths.kills, report.deaths.aimed_kills);
        eprintln!("{kills} kills, {aimed} of them aimed, {} records: {}", report.records, report.reckoned);
        tell_verdict(&report.violations);
        Ok(report.is_clean())
    }
}
