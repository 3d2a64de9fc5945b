//! The command line.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use pintail::toml_doc::{DurationMs, FromToml};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::chaos::ChaosArgs;
use crate::compare::{self, CompareArgs};
use crate::growth::GrowthArgs;
use crate::keys::KeysArgs;
use crate::peers::args::{PeersArgs, PeersCeilingArgs, PeersMaintainArgs, PeersRoomArgs};
use crate::peers::parts::PeersPartsArgs;
use crate::run::{self, Role, RunArgs};
use crate::seed::Seed;
use crate::series::{FootprintArgs, WindowsCostArgs};
use crate::soak::{SoakArgs, StallArgs};

const EXIT_CODES: &str = "Exit codes: 0 every promise held, 1 one did not or there is no verdict, 2 the call is wrong.";

/// Pintail under load, on this machine alone: an embedded Kinesis, an S3 that fails as it is told, and processes that
/// die. Everything that Kinesis acknowledged is written down and looked for in the tables at the end, with deltalake's
/// own reader.
#[derive(Debug, Parser)]
#[command(name = "load-tests", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kills processes in every phase of their life, under load and while shards split and merge, and looks for what
    /// was lost, doubled, altered or put out of order.
    ///
    /// At least half of the kills are aimed: S3 holds a request (an upload, a commit before or after it landed, a
    /// checkpoint, a compaction, a seal, a vacuum's delete) and the process dies while it waits. The rest comes at any
    /// moment; some processes are frozen, replaced and woken up first, some work two at a time.
    #[command(after_help = "Example: load-tests chaos --kills 200 --report chaos.json\n\
        A report with \"violations\": [] and exit code 0: nothing was lost, doubled, altered or out of order.\n\
        A failed run is repeated with its --seed: the same records, phases and draws; the scheduler's part is new.\n\
        Exit codes: 0 every promise held, 1 one did not or there is no verdict, 2 the call is wrong.")]
    Chaos(ChaosArgs),
    /// One process under a steady load, its memory and time measured, for as long as one likes.
    ///
    /// The report has the peak, the slope of the second half in KiB a minute, CPU seconds and commits. Memory beyond
    /// the byte budget and 200 MiB is a violation, as is anything lost, doubled, altered or out of order.
    #[command(after_help = "Example: load-tests soak --duration 30m --rate 2000 --report soak.json\n\
        Exit codes: 0 every promise held, 1 one did not or there is no verdict, 2 the call is wrong.")]
    Soak(SoakArgs),
    /// S3 stops answering at full input, and starts again: memory must stay within the byte budget and 200 MiB, and
    /// everything must be there in the end.
    #[command(after_help = "Examples: load-tests stall --for 3m --report stall.json\n          \
        load-tests stall --for 3m --large 12 --report large.json\n          \
        load-tests stall --for 30s --large 4 --filling tokens --report hostile.json\n\
        Exit codes: 0 every promise held, 1 one did not or there is no verdict, 2 the call is wrong.")]
    Stall(StallArgs),
    /// Posts a profile's load, open-loop, at a Pintail of its own, and reports throughput, latency, lag, memory, CPU and
    /// the ledger's verdict.
    ///
    /// Kinesis, S3, the producer and Pintail are processes of their own, so that CPU per million records is Pintail's.
    /// Every record has a time at which it is to be sent, drawn beforehand, and its latency counts from then.
    #[command(after_help = "Examples:\n  \
        load-tests run --profile canonical --report canonical\n  \
        load-tests run --profile burst --rate 1000 --report burst       another rate, for once\n  \
        load-tests run --profile ./mine.toml --report mine              a profile of one's own\n  \
        load-tests run --aws --region eu-west-1 --report aws            at AWS, after asking\n\n\
        Shipped profiles: canonical, burst, skewed, hot_shard, dirty, reshard, catch_up, quota, soak,\n\
        many_shards, huge.\n\
        DIR gets report.json and report.html. `load-tests compare A B` holds two of them against each other.\n\
        Exit codes: 0 every promise held, 1 one did not or there is no verdict, 2 the call is wrong.")]
    Run(Box<RunArgs>),
    /// Holds reports of `run` against each other: what got better, what got worse, what cannot be told.
    ///
    /// A and B are reports, or folders of several: of three runs and more on both sides the medians are compared, and
    /// how far the runs are apart is the noise. With fewer, the noise is how far the tenths of a run are apart, and
    /// figures that a run has only once are shown and not judged.
    #[command(after_help = "Examples:\n  \
        load-tests compare before/report.json after/report.json\n  \
        load-tests compare before after        folders with a report each, or with several in folders of their own\n\n\
        Worse or better is what differs by more than 3 % and by more than the noise: the intervals of both medians,\n\
        1.57 x IQR / sqrt(n) to either side, do not meet.\n\
        Exit codes: 0 nothing got worse, 1 something did, a run of B was a failed one, or a report cannot be read, 2 the call\n\
        is wrong.")]
    Compare(CompareArgs),
    /// One of the processes of `run`.
    #[command(hide = true)]
    Role {
        #[command(subcommand)]
        role: Role,
    },
    /// More keys than memory may hold, in windows of a minute and of a day, with sketches; killed once on the way.
    ///
    /// Memory must stay within the byte budget and 200 MiB, and rows, partials and sealed rows must have every key with
    /// every record. The live view alone may fold keys, and says how many.
    #[command(after_help = "Examples: load-tests keys --keys 10000000 --report keys.json\n          \
        load-tests keys --keys 1000000 --rounds 5 --report sketches.json\n\
        Exit codes: 0 every promise held, 1 one did not or there is no verdict, 2 the call is wrong.")]
    Keys(KeysArgs),
    /// Thousands of commits as fast as they go: what each costs as the log grows, and how soon a process reads on it.
    ///
    /// Every commit has one record, is made over HTTP and awaited; a tenth of them is one line of the report. Without
    /// --compact the table has a file a commit.
    #[command(after_help = "Examples: load-tests growth --commits 20000 --report growth.json\n          \
        load-tests growth --commits 10000 --compact --report compacted.json\n\
        Exit codes: 0 every promise held, 1 one did not or there is no verdict, 2 the call is wrong.")]
    Growth(GrowthArgs),
    /// What Pintail has resident: with three streams before the first record, and what each shard of a large stream adds,
    /// idle and under load.
    ///
    /// A shard's part is what a stream of many has more than a stream of one, under the same load, over the shards that it
    /// has more; so what every process has is in none of it. Each run ends with the reckoning of `run`.
    #[command(after_help = "Example: load-tests footprint --shards 500 --rounds 3 --report footprint.json\n\
        Exit codes: 0 every promise held, 1 one did not or there is no verdict, 2 the call is wrong.")]
    Footprint(FootprintArgs),
    /// CPU of the whole service for a million records, by how many windows are declared: the same profile without any, with
    /// five and with twenty, in turns.
    ///
    /// Ratios are taken within a round. Up to five windows are the shipped ones, more are copies of other sizes.
    #[command(after_help = "Examples: load-tests windows-cost --rounds 5 --report windows-cost.json\n          \
        load-tests windows-cost --windows 0,20 --profile burst --duration 60s\n\
        Exit codes: 0 every promise held, 1 one did not or there is no verdict, 2 the call is wrong.")]
    WindowsCost(WindowsCostArgs),
    /// Pintail against other engines at the same work on the same records, in turns: how many times as fast it is, and
    /// how much of what its parts allow.
    ///
    /// Everybody gets a file of JSON lines, cleans them by the shipped contracts and ends with columns in memory (`clean`)
    /// or with Parquet under zstd 1 (`parquet`), on one core. The whole service (`service`) is held against a consumer in
    /// Python that reads the same streams of a local Kinesis and commits to the same S3, and against the sum of its own
    /// parts in process; `compact` holds `pintail maintain` against delta-rs in Python, both of which make large files
    /// of the small ones in equal copies of a table that the service has made; `cores` does without others: JSON to
    /// Parquet and windows on one core and on all of them. CPU time of the work alone counts, without imports and the
    /// engine's start; Spark, which needs Java 17 or later and is left out where there is none, is warm. Ratios are
    /// taken within a round; the median and the spread are told. Each table is compared with Pintail's first: rows, and
    /// nulls and sum of each column. Who stops at a line that is no JSON, or loses others with it, gets the file
    /// without such lines, and the table says so.
    #[command(after_help = "Examples: load-tests peers --rounds 5 --report peers.json\n          \
        load-tests peers --rounds 3 --only duckdb,polars --paths parquet --kinds pin --pins 100000\n          \
        load-tests peers --rounds 3 --paths compact --kinds pin --pins 1000000 --served 600000\n\
        The first run installs the engines (Python 3.11, 2 GB, pinned) and writes the records, both below --folder.\n\
        Run it on a machine that does nothing else; the loads before and after are in the table.\n\
        Exit codes: 0 every promise held, 1 one did not or there is no verdict, 2 the call is wrong.")]
    Peers(PeersArgs),
    /// Pintail's turn at `peers`.
    #[command(hide = true)]
    PeersRoom(PeersRoomArgs),
    /// The component ceiling's turn at `peers`.
    #[command(hide = true)]
    PeersCeiling(PeersCeilingArgs),
    /// What Pintail's parts cost by themselves, for `peers`.
    #[command(hide = true)]
    PeersParts(PeersPartsArgs),
    /// Pintail's turn at compaction in `peers`.
    #[command(hide = true)]
    PeersMaintain(PeersMaintainArgs),
    /// Runs as `pintail` with the arguments that follow: the processes of the other commands are this binary's.
    #[command(disable_help_flag = true)]
    Pintail {
        /// As for `pintail`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

impl Cli {
    /// Whether this process is one of another harness's, which it must not outlive.
    pub fn is_role(&self) -> bool {
        matches!(self.command, Command::Role { .. })
    }

    /// Whether Pintail's rooms or its maintenance work in this process, and what they cost is told: then its memory is as
    /// the service's.
    pub fn is_measured(&self) -> bool {
        matches!(self.command, Command::PeersRoom(_) | Command::PeersParts(_) | Command::PeersMaintain(_))
    }
}

/// Runs one command to its end. `program` is this binary.
pub fn run(cli: Cli, program: &Path) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("load-tests: the runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let held = runtime.block_on(dispatch(cli.command, program));
    runtime.shutdown_background();
    match held {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load-tests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ends at SIGTERM and Ctrl-C too, so that no child and no folder is left behind.
async fn until_told(work: impl Future<Output = anyhow::Result<bool>>) -> anyhow::Result<bool> {
    tokio::select! {
        done = work => done,
        told = told() => Err(told?),
    }
}

/// SIGTERM or Ctrl-C, in words.
async fn told() -> anyhow::Result<anyhow::Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let told = tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| "interrupted")?,
        _ = terminate.recv() => "told to stop",
    };
    Ok(anyhow::anyhow!("{told}, there is no verdict"))
}

/// Whether every promise held.
async fn dispatch(command: Command, program: &Path) -> anyhow::Result<bool> {
    let program = program.to_str().context("the path of this binary is not UTF-8")?;
    match command {
        Command::Chaos(args) => until_told(args.run(program)).await,
        Command::Soak(args) => until_told(args.run(program)).await,
        Command::Stall(args) => until_told(args.run(program)).await,
        Command::Compare(args) => compare::command(&args),
        Command::Run(args) => run::command(*args, program, told()).await,
        Command::Role { role } => role.play().await.map(|()| true),
        Command::Keys(args) => until_told(args.run(program)).await,
        Command::Growth(args) => until_told(args.run(program)).await,
        Command::Footprint(args) => until_told(args.run(program)).await,
        Command::WindowsCost(args) => until_told(args.run(program)).await,
        Command::Peers(args) => until_told(args.run(program)).await,
        Command::PeersRoom(args) => args.run().map(|()| true),
        Command::PeersCeiling(args) => args.run().map(|()| true),
        // These have a runtime of their own, and nobody waits beside them.
        Command::PeersParts(args) => tokio::task::spawn_blocking(move || args.run()).await?.map(|()| true),
        Command::PeersMaintain(args) => tokio::task::spawn_blocking(move || args.run()).await?.map(|()| true),
        Command::Pintail { .. } => anyhow::bail!("`load-tests pintail` is answered before the command line is read"),
    }
}

pub(crate) fn publish(file: &Path, report: &impl Serialize) -> anyhow::Result<()> {
    let json = serde_json::to_vec_pretty(report)?;
    std::fs::write(file, json).with_context(|| format!("the report {} cannot be written", file.display()))?;
    eprintln!("report: {}", file.display());
    Ok(())
}

/// An hour must not be lost to a folder that is not there.
pub(crate) fn check_writable(report: &Path) -> anyhow::Result<()> {
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(report);
    opened.map(|_| ()).with_context(|| format!("the report {} cannot be written", report.display()))
}

pub(crate) fn seed_of(given: Option<u64>) -> Seed {
    let seed = given.map_or_else(Seed::fresh, Seed::from);
    eprintln!("seed {}: --seed {0} posts the same records and draws the same numbers again", seed.value());
    seed
}

pub(crate) fn tell_verdict(violations: &[String]) {
    if violations.is_empty() {
        eprintln!("every promise held");
    }
    for violation in violations {
        eprintln!("VIOLATED: {violation}");
    }
}

pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).trim().parse::<f64>().ok();
    number.filter(|rate| *rate > 0.0).ok_or_else(|| "expected records a second, like 2000".to_owned())
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match DurationMs::from_text(text) {
        Some(DurationMs(0)) => Err("nothing can happen in no time; expected at least 1ms, like \"30s\"".to_owned()),
        Some(DurationMs(ms)) => Ok(Duration::from_millis(ms)),
        None => Err(format!("expected {}", DurationMs::EXPECTED)),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
        for command in ["chaos", "footprint", "growth", "keys", "peers", "soak", "stall", "windows-cost"] {
            let help = Cli::command().find_subcommand_mut(command).unwrap().render_long_help().to_string();
            assert!(help.contains(EXIT_CODES), "{help}");
        }
    }

    #[test]
    fn a_time_of_nothing_is_refused_with_what_would_be_right() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert!(duration("0s").unwrap_err().contains("expected at least 1ms"));
        assert!(duration("30").unwrap_err().contains("with its unit"));
    }
}
