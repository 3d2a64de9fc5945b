//! The command lines of `load-tests soak` and `load-tests stall`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use pintail::demo::Kind;

use super::Filling;
use crate::cli::{check_writable, duration, publish, rate, seed_of, tell_verdict};

/// How long is posted before a stall, and after it.
const STALL_MARGIN: Duration = Duration::from_secs(30);

/// Windows of a stall: those of the shipped contracts.
const STALL_WINDOW: Duration = Duration::from_secs(60);

/// How long is posted.
#[derive(Debug, Args)]
pub struct SoakArgs {
    /// How long to post
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = duration)]
    duration: Duration,
    /// Size of all windows, 1 to 60 s. What is kept of the last 120 of each is all there after 120 times that long, and
    /// only then can memory be level: growth is judged if that is before the second half
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = window)]
    window: Duration,
    /// Where the report goes, as JSON
    #[arg(long, value_name = "FILE", default_value = "soak.json")]
    report: PathBuf,
    #[command(flatten)]
    load: LoadArgs,
}

impl SoakArgs {
    /// Whether every promise held.
    pub async fn run(self, program: &str) -> anyhow::Result<bool> {
        self.load.run(self.duration, self.window, None, &self.report, program).await
    }
}

/// How long S3 does not answer.
#[derive(Debug, Args)]
pub struct StallArgs {
    /// How long S3 does not answer; before and after it is posted for half a minute each
    #[arg(long = "for", value_name = "TIME", default_value = "3m", value_parser = duration)]
    time: Duration,
    /// Where the report goes, as JSON
    #[arg(long, value_name = "FILE", default_value = "stall.json")]
    report: PathBuf,
    #[command(flatten)]
    load: LoadArgs,
}

impl StallArgs {
    /// Whether every promise held.
    pub async fn run(self, program: &str) -> anyhow::Result<bool> {
        let duration = self.time + 2 * STALL_MARGIN;
        self.load.run(duration, STALL_WINDOW, Some((STALL_MARGIN, self.time)), &self.report, program).await
    }
}

/// What is posted, and to what.
#[derive(Debug, Args)]
struct LoadArgs {
    /// Records a second over all three streams
    #[arg(long, value_name = "N", default_value_t = 2_000.0, value_parser = rate)]
    rate: f64,
    /// Shards of each stream
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10))]
    shards: u32,
    /// Pintail's byte budget in MiB
    #[arg(long, value_name = "N", default_value_t = 256)]
    budget_mib: u64,
    /// Records of 10 MiB for every shard, one every five seconds from the start on
    #[arg(long, value_name = "N", default_value_t = 0)]
    large: u64,
    /// What fills them: text, the smallest JSON tokens, or as many numbers as are still parsed
    #[arg(long, value_enum, default_value_t = Filling::Text)]
    filling: Filling,
    /// Draws the records [default: a fresh one, which is printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl LoadArgs {
    async fn run(
        self,
        duration: Duration,
        window: Duration,
        stall: Option<(Duration, Duration)>,
        file: &Path,
        program: &str,
    ) -> anyhow::Result<bool> {
        check_writable(file)?;
        let plan = super::Plan {
            seed: seed_of(self.seed),
            streams: Kind::ALL.to_vec(),
            shards: self.shards,
            duration,
            rate: self.rate,
            budget_mib: self.budget_mib,
            flush_mib: 32,
            window_s: window.as_secs(),
            stall,
            large: self.large,
            filling: self.filling,
            sample_interval: Duration::from_secs(1),
            progress: true,
        };
        let report = super::run(program, &plan).await?;
        publish(file, &report)?;
        let (peak_mib, limit_mib) = (report.rss_peak_bytes >> 20, report.rss_limit_bytes >> 20);
        let (records, slope, cpu) = (report.records, report.rss_slope_kib_per_min, report.cpu_seconds);
        let (achieved, asked) = (report.rate_achieved, report.config.rate);
        eprintln!(
            "{records} records, {achieved:.0} a second of {asked:.0} asked for: {}; peak {peak_mib} MiB of {limit_mib} MiB \
             allowed, second half {slope:+.0} KiB/min, {cpu:.1} s of CPU",
            report.reckoned
        );
        tell_verdict(&report.violations);
        Ok(report.is_clean())
    }
}

/// Whole seconds, up to the minute of the shipped contracts.
fn window(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    let is_whole = time.subsec_nanos() == 0 && (1..=60).contains(&time.as_secs());
    is_whole.then_some(time).ok_or_else(|| format!("{text:?} is not a size from 1s to 60s in whole seconds"))
}
