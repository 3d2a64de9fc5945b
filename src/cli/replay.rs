//! `replay`: rejects once more, after a contract was mended; or a stream's time range once more, into other tables.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{ArgGroup, Args};
use tokio_util::sync::CancellationToken;

use super::ConfigArgs;
use crate::app::{
    RangeEnding, RangeJob, RangeReport, RejectsEnding, RejectsJob, RejectsReport, RejectsTally, RejectsWish,
};
use crate::checkpoint::TimeRange;
use crate::clock::now_ms;
use crate::config::{Config, StreamConfig};
use crate::lake::LakeStore;
use crate::say::say;
use crate::source::{Kinesis, StartPosition};
use crate::toml_doc::{FromToml, Invalid};

/// What is replayed, and how.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
#[command(group = ArgGroup::new("what").required(true).args(["rejects", "from"]))]
pub struct ReplayArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only this stream of the configuration. Default for rejects: every one; a time range is of one stream.
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Cleans every reject again, by the contract as it is now. What can be cleaned becomes rows and partials, once,
    /// each row marked by `_replayed`; its reject stays where it is. The service may run meanwhile.
    #[arg(long)]
    rejects: bool,
    /// Says what would be recovered, and writes nothing.
    #[arg(long, conflicts_with = "from")]
    dry_run: bool,
    /// Ends a replay of rejects that was interrupted, where it stands, and begins the next one over the rejects that
    /// are there now. Without it the interrupted one goes on.
    #[arg(long, conflicts_with_all = ["dry_run", "from"])]
    anew: bool,
    /// Reads again what arrived at Kinesis from this time on, like 2026-01-31T08:00:00Z, into tables of another name.
    #[arg(long, value_name = "TIME", requires_all = ["to", "into"], value_parser = time)]
    from: Option<i64>,
    /// ... and before this time, which has passed.
    #[arg(long, value_name = "TIME", requires = "from", conflicts_with = "rejects", value_parser = time)]
    to: Option<i64>,
    /// The rows' new table. Beside it NAME_rejects, and NAME_{window}_partials for each window of the contract.
    #[arg(long, value_name = "NAME", requires = "from", conflicts_with = "rejects")]
    into: Option<String>,
}

/// Epoch ms.
fn time(text: &str) -> Result<i64, String> {
    match StartPosition::from_text(text) {
        Some(StartPosition::At(ms)) => Ok(ms),
        Some(StartPosition::TrimHorizon | StartPosition::Latest) | None => Err(match is_time(text) {
            true => "no stream is that old: records begin at its trim horizon, which is now minus its retention of at \
                     most 365 days (`pintail check` prints it); give that time or a later one"
                .to_owned(),
            false => "expected a time with its zone, like 2026-01-31T08:00:00Z".to_owned(),
        }),
    }
}

/// Whether only the year is to blame.
fn is_time(text: &str) -> bool {
    chrono::DateTime::parse_from_rfc3339(text).is_ok()
}

const EXAMPLES: &str = "\
After a contract was mended:
  1. restart `pintail run`, so that new records are cleaned by it
  2. pintail replay --rejects --dry-run --config pintail.toml
  3. pintail replay --rejects --config pintail.toml

A time range, say to see what a new contract makes of yesterday, beside what the service wrote:
  pintail replay --from 2026-01-30T00:00:00Z --to 2026-01-31T00:00:00Z --into orders_30th --stream orders --config new.toml

Killed or stopped, the same command goes on where the ledger says. A second run writes nothing twice.

Exit codes: 0 finished, 1 failed or stopped before the end (run it again), 64 the call or the configuration is wrong.";

/// Replays until it is done or told to stop.
pub async fn replay(args: ReplayArgs, shutdown: impl Future<Output = ()> + Send) -> anyhow::Result<ExitCode> {
    let config = Config::load_here(&args.config.config)?;
    let streams = chosen(&config, args.stream.as_deref())?;
    let uri = &config.lake.location.uri;
    let Some(store) = LakeStore::open_existing(&config.lake.location).await? else {
        bail!("there is no lake at {uri} yet; `pintail run` makes it");
    };
    let stop = CancellationToken::new();
    match range_of(&args, &config, &streams)? {
        Some((stream, range)) => {
            let kinesis = Kinesis::connect(&config.aws).await;
            let job = RangeJob::new(&config, stream.clone(), range, kinesis, store);
            let report = until_told(job.run(stop.clone()), shutdown, &stop).await?;
            say!("{}", range_told(&stream, range, &report).trim_end());
            Ok(match report.ending {
                RangeEnding::Finished | RangeEnding::FinishedBefore => ExitCode::SUCCESS,
                RangeEnding::Stopped => ExitCode::FAILURE,
            })
        }
        None => {
            let wish = RejectsWish { dry_run: args.dry_run, anew: args.anew };
            until_told(replay_rejects(wish, &config, &streams, &store, &stop), shutdown, &stop).await
        }
    }
}

/// The stream with the names of the tables that its range goes into; `None` if rejects are replayed.
fn range_of(
    args: &ReplayArgs,
    config: &Config,
    streams: &[&StreamConfig],
) -> Result<Option<(StreamConfig, TimeRange)>, Invalid> {
    let (Some(from_ms), Some(to_ms), Some(into)) = (args.from, args.to, &args.into) else { return Ok(None) };
    if from_ms >= to_ms {
        return Err(Invalid::from_text("--from is not before --to; nothing can have arrived in between".to_owned()));
    }
    if to_ms > now_ms() {
        let reason = "--to is still to come; a replay reads what has arrived, `pintail run` what will";
        return Err(Invalid::from_text(reason.to_owned()));
    }
    let [stream] = streams else {
        let known = streams.iter().map(|stream| stream.name()).collect::<Vec<_>>().join(", ");
        return Err(Invalid::from_text(format!("a time range is of one stream; add --stream with one of {known}")));
    };
    let contract = stream.contract.renamed(into);
    let contract =
        contract.map_err(|why| Invalid::from_text(format!("--into {into}: the names of its tables {why}")))?;
    let live: Vec<String> = config.streams.iter().flat_map(|stream| stream.contract.tables()).collect();
    let is_live = |table: &&String| live.iter().any(|live| live.eq_ignore_ascii_case(table));
    if let Some(table) = contract.tables().iter().find(is_live) {
        return Err(Invalid::from_text(format!(
            "--into {into}: {table} is a table of the configuration, which the service writes; choose another name"
        )));
    }
    let stream = StreamConfig { contract: Arc::new(contract), ..(*stream).clone() };
    Ok(Some((stream, TimeRange { from_ms, to_ms })))
}

fn range_told(stream: &StreamConfig, range: TimeRange, report: &RangeReport) -> String {
    let (name, table) = (stream.name(), &stream.contract.table);
    let head = match report.ending {
        RangeEnding::FinishedBefore => {
            return format!("stream {name}: {table} holds all of {range} already, nothing was written\n");
        }
        RangeEnding::Finished => format!("{table} holds all of {range}"),
        RangeEnding::Stopped => format!("stopped before all of {range} was in {table}; the same command goes on"),
    };
    let is_told_apart = report.reasons.values().sum::<u64>() == report.rejects;
    let by_reason = if is_told_apart { by_reason(&report.reasons) } else { String::new() };
    let lines = [line("rows, this time", report.rows, ""), line("rejects, this time", report.rejects, &by_reason)];
    format!("stream {name}: {head}\n{}", lines.concat())
}

fn line(what: &str, count: u64, more: &str) -> String {
    format!("  {what:<20}{count:>10}{more}\n")
}

fn by_reason(counts: &BTreeMap<&'static str, u64>) -> String {
    let counts: Vec<String> = counts.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    if counts.is_empty() { String::new() } else { format!("  {}", counts.join(", ")) }
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
    wish: RejectsWish,
    config: &Config,
    streams: &[&StreamConfig],
    store: &LakeStore,
    stop: &CancellationToken,
) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for stream in streams {
        let job = RejectsJob::new(config, stream, store.clone())?;
        let report = job.run(wish, stop.clone()).await.with_context(|| format!("stream {}", stream.name()))?;
        say!("{}", told(stream, &report).trim_end());
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
    format!("stream {name}: {head}\n{}", tally_told(report, &report.tally))
}

fn tally_told(report: &RejectsReport, tally: &RejectsTally) -> String {
    let before =
        if report.before == 0 { String::new() } else { format!(", {} of them before this run", report.before) };
    let recovered = if report.ending == RejectsEnding::DryRun { "would be recovered" } else { "recovered" };
    let mut lines = vec![
        line("re-cleaned", tally.looked_at(), &format!("  of {} rejects{before}", report.total)),
        line(recovered, tally.recovered, ""),
    ];
    if tally.uncommitted > 0 {
        lines.push(line("not committed", tally.uncommitted, "  cleaned in vain: this run was ended before"));
    }
    if tally.recovered_before > 0 {
        lines.push(line("recovered earlier", tally.recovered_before, ""));
    }
    lines.push(line("still rejected", tally.rejected.values().sum(), &by_reason(&tally.rejected)));
    if tally.unusable > 0 {
        let what = "  rows without number, arrival or bytes, written by somebody else";
        lines.push(line("no record", tally.unusable, what));
    }
    lines.concat()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Cli;

    fn is_understood(words: &str) -> bool {
        let words = ["pintail", "replay", "--config", "x.toml"].into_iter().chain(words.split_whitespace());
        Cli::try_parse_from(words).is_ok()
    }

    #[test]
    fn a_time_before_every_stream_is_answered_with_the_trim_horizon_and_nonsense_with_the_form() {
        let old = super::time("1900-01-01T00:00:00Z").unwrap_err();
        assert!(old.contains("trim horizon") && old.contains("retention"), "{old}");
        let nonsense = super::time("1900-01-01").unwrap_err();
        assert!(nonsense.contains("with its zone"), "{nonsense}");
        assert_eq!(super::time("1970-01-01T00:00:01Z"), Ok(1_000));
    }

    #[test]
    fn it_takes_rejects_or_a_whole_time_range_and_nothing_between() {
        let (from, to) = ("--from 2026-01-31T08:00:00Z", "--to 2026-01-31T09:00:00+01:00");
        for call in ["--rejects", "--rejects --dry-run", "--rejects --anew --stream a"] {
            assert!(is_understood(call), "{call}");
        }
        assert!(is_understood(&format!("{from} {to} --into again")));
        let wrong = [
            "",
            "--dry-run",
            "--rejects --dry-run --anew",
            "--rejects --into again",
            &format!("{from} --into again"),
            &format!("{from} {to}"),
            &format!("{to} --into again"),
            &format!("--rejects {from} {to} --into again"),
            &format!("{from} {to} --into again --dry-run"),
            &format!("--from yesterday {to} --into again"),
            &format!("--from latest {to} --into again"),
        ];
        for call in wrong {
            assert!(!is_understood(call), "{call}");
        }
    }
}
