//! `replay`: rejects once more, after a contract was mended.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::ConfigArgs;
use crate::app::{RejectsEnding, RejectsJob, RejectsReport, RejectsWish};
use crate::config::{Config, StreamConfig};
use crate::lake::LakeStore;
use crate::toml_doc::Invalid;

/// What is replayed, and how.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ReplayArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only this stream of the configuration. Default: every one.
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Cleans every reject again, by the contract as it is now. What can be cleaned becomes rows and partials, once,
    /// each row marked by `_replayed`; its reject stays where it is. The service may run meanwhile.
    #[arg(long, required = true)]
    rejects: bool,
    /// Says what would be recovered, and writes nothing.
    #[arg(long, requires = "rejects")]
    dry_run: bool,
    /// Ends a replay of rejects that was interrupted, where it stands, and begins the next one over the rejects that
    /// are there now. Without it the interrupted one goes on.
    #[arg(long, requires = "rejects", conflicts_with = "dry_run")]
    anew: bool,
}

const EXAMPLES: &str = "\
After a contract was mended:
  1. restart `pintail run`, so that new records are cleaned by it
  2. pintail replay --rejects --dry-run --config pintail.toml
  3. pintail replay --rejects --config pintail.toml

Killed or stopped, the same command goes on where the ledger says. A second run recovers nothing twice.

Exit codes: 0 finished, 1 failed or stopped before the end (run it again), 64 the call or the configuration is wrong.";

/// Replays until it is done or told to stop.
pub async fn replay(args: ReplayArgs, shutdown: impl Future<Output = ()> + Send) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config.config, std::env::vars())?;
    let streams = chosen(&config, args.stream.as_deref())?;
    let uri = &config.lake.location.uri;
    let Some(store) = LakeStore::open_existing(&config.lake.location).await? else {
        bail!("there is no lake at {uri} yet; `pintail run` makes it");
    };
    let stop = CancellationToken::new();
    let work = replay_rejects(&args, &config, &streams, &store, &stop);
    until_told(work, shutdown, &stop).await
}

/// Tells `work` to stop when `shutdown` resolves, and waits for it either way.
async fn until_told<T>(
    work: impl Future<Output = T>,
    shutdown: impl Future<Output = ()> + Send,
    stop: &CancellationToken,
) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = shutdown => stop.cancel(),
    }
    tracing::info!("stopping: what is in hand is committed first");
    work.await
}

fn chosen<'a>(config: &'a Config, name: Option<&str>) -> Result<Vec<&'a StreamConfig>, Invalid> {
    let Some(name) = name else { return Ok(config.streams.iter().collect()) };
    let found: Vec<&StreamConfig> = config.streams.iter().filter(|stream| stream.name() == name).collect();
    if found.is_empty() {
        let known = config.streams.iter().map(StreamConfig::name).collect::<Vec<_>>().join(", ");
        return Err(Invalid::from_text(format!(
            "--stream {name}: no such stream in the configuration; it has {known}"
        )));
    }
    Ok(found)
}

async fn replay_rejects(
    args: &ReplayArgs,
    config: &Config,
    streams: &[&StreamConfig],
    store: &LakeStore,
    stop: &CancellationToken,
) -> anyhow::Result<ExitCode> {
    let wish = RejectsWish { dry_run: args.dry_run, anew: args.anew };
    let mut code = ExitCode::SUCCESS;
    for stream in streams {
        let report = RejectsJob::new(config, stream, store.clone())?.run(wish, stop.clone()).await?;
        print!("{}", told(stream, &report));
        match report.ending {
            RejectsEnding::NoLedger
            | RejectsEnding::NothingToRecover
            | RejectsEnding::DryRun
            | RejectsEnding::Finished(_) => {}
            RejectsEnding::Fenced(_) => code = ExitCode::FAILURE,
            RejectsEnding::Stopped(_) => return Ok(ExitCode::FAILURE),
        }
    }
    Ok(code)
}

fn told(stream: &StreamConfig, report: &RejectsReport) -> String {
    let name = stream.name();
    let head = match &report.ending {
        RejectsEnding::NoLedger => {
            return format!(
                "stream {name}: nothing to replay, {} holds no positions of it yet\n",
                stream.contract.table
            );
        }
        RejectsEnding::NothingToRecover => "nothing to recover, nothing was written".to_owned(),
        RejectsEnding::DryRun => "a dry run, nothing was written".to_owned(),
        RejectsEnding::Finished(replay) => format!("{} is finished", replay.shard()),
        RejectsEnding::Stopped(replay) => {
            format!("{} was stopped; the same command goes on with it", replay.shard())
        }
        RejectsEnding::Fenced(replay) => format!(
            "another process is at {}, and goes on with it; what it does not finish, the same command does",
            replay.shard()
        ),
    };
    let tally = &report.tally;
    let recovered = if report.ending == RejectsEnding::DryRun { "would be recovered" } else { "recovered" };
    let mut text = format!("stream {name}: {head}\n");
    let mut line = |what: &str, count: u64, more: &str| text.push_str(&format!("  {what:<20}{count:>10}{more}\n"));
    let before =
        if report.before == 0 { String::new() } else { format!(", {} of them before this run", report.before) };
    line("re-cleaned", tally.looked_at(), &format!("  of {} rejects{before}", report.total));
    line(recovered, tally.recovered, "");
    if tally.recovered_before > 0 {
        line("recovered earlier", tally.recovered_before, "");
    }
    let reasons: Vec<String> = tally.rejected.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    line("still rejected", tally.rejected.values().sum(), &format!("  {}", reasons.join(", ")));
    if tally.unusable > 0 {
        line("no record", tally.unusable, "  rows without number, arrival or bytes, written by somebody else");
    }
    text
}
