//! The command line of `load-tests keys`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::{check_writable, publish, rate, tell_verdict};

/// How many keys come, and how fast.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// Different keys
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// Records of each key; their sketches grow from the second on
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Records a second
    #[arg(long, value_name = "N", default_value_t = 20_000.0, value_parser = rate)]
    rate: f64,
    /// Shards of the stream
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10))]
    shards: u32,
    /// Pintail's byte budget in MiB
    #[arg(long, value_name = "N", default_value_t = 256)]
    budget_mib: u64,
    /// Where the report goes, as JSON
    #[arg(long, value_name = "FILE", default_value = "keys.json")]
    report: PathBuf,
}

impl KeysArgs {
    /// Whether every promise held.
    pub async fn run(self, program: &str) -> anyhow::Result<bool> {
        check_writable(&self.report)?;
        let KeysArgs { keys, rounds, rate, shards, budget_mib, .. } = self;
        let plan =
            super::Plan { keys, rounds, brief_s: 60, rate, shards, idle_streams: &[], budget_mib, progress: true };
        let report = super::run(program, &plan).await?;
        publish(&self.report, &report)?;
        let (peak_mib, limit_mib) = (report.rss_peak_bytes >> 20, report.rss_limit_bytes >> 20);
        eprintln!(
            "{} records of {keys} keys, {:.0} a second; ready {:.1} s after the kill, sealed {:.0} s after the last; peak \
             {peak_mib} MiB of {limit_mib} MiB allowed, {} cells folded in the live view, {:.0} s of CPU",
            report.records,
            report.rate_achieved,
            report.ready_again_s,
            report.sealed_s,
            report.folded,
            report.cpu_seconds
        );
        tell_verdict(&report.violations);
        Ok(report.is_clean())
    }
}
