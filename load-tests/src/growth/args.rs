//! The command line of `load-tests growth`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::{check_writable, publish, seed_of, tell_verdict};

/// How long a log grows.
#[derive(Debug, Args)]
pub struct GrowthArgs {
    /// Commits of the rows table
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..))]
    commits: u32,
    /// Join small files on the way, as the service does
    #[arg(long)]
    compact: bool,
    /// Draws the records [default: a fresh one, which is printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where the report goes, as JSON
    #[arg(long, value_name = "FILE", default_value = "growth.json")]
    report: PathBuf,
}

impl GrowthArgs {
    /// Whether every promise held.
    pub async fn run(self, program: &str) -> anyhow::Result<bool> {
        check_writable(&self.report)?;
        let seed = seed_of(self.seed).value();
        let GrowthArgs { commits, compact, .. } = self;
        let plan = super::Plan { commits, compact, maintain_every: 100, seed, progress: true };
        let report = super::run(program, &plan).await?;
        publish(&self.report, &report)?;
        eprintln!(
            "{commits} commits, {} files, {} objects in the log of at most {}: the last tenth took {:.2} of the first, a \
             process had read a record {:.0} ms after its start",
            report.files, report.log_objects, report.log_objects_max, report.last_to_first, report.first_read_ms
        );
        tell_verdict(&report.violations);
        Ok(report.is_clean())
    }
}
