//! The command line: what a user can ask for, and what each answer's exit code means.
//!
//! Exit codes: 0 done or drained, 64 the configuration or the call is wrong (nothing was opened), 1 failed; each
//! command's help says what that means for it. A library function and not `main` itself, so that the load harness can
//! run itself as Pintail.

mod check;
mod demo;
mod maintain;
mod positions;
mod replay;
mod run;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::cores;
use crate::demo::{DemoArgs, NotEmpty, PostArgs};
use crate::say::complain;
use crate::toml_doc::Invalid;

/// The call or the configuration is wrong (sysexits' EX_USAGE).
pub const EXIT_USAGE: u8 = 64;

const EXIT_CODES: &str = "\
Exit codes: 0 done or drained, 1 failed, 64 the call or the configuration is wrong (nothing was opened). `pintail \
COMMAND --help` says what that means for it.";

/// JSON from Kinesis, cleaned by contract, into Delta tables and live windows, exactly once.
///
/// Try it on this machine, without an account:  pintail demo
#[derive(Debug, Parser)]
#[command(name = "pintail", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How logs look on standard error.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The service: reads the configured streams until it is told to stop, then drains.
    #[command(
        after_help = "Exit codes: 0 drained, 1 failed, or the drain took longer than [shutdown] grace, or a second \
        signal cut it off (no record is lost either way), 64 the configuration or the call is wrong (nothing was opened)."
    )]
    Run(ConfigArgs),
    /// The whole thing on this machine: a Kinesis in this process, a posting emulation, the processor, a local
    /// lake and the live page. Ends with what was posted, what arrived, and what was lost (nothing).
    #[command(
        after_help = "Its processor commits every second, so that a watcher sees the tables grow; `pintail run` does \
        so every 5 s unless [lake] flush_interval says otherwise, and its times to the lake are longer by that.\n\n\
        Exit codes: 0 every record is where it belongs, once; 1 one is not, or something failed; 64 the call is wrong."
    )]
    Demo(DemoArgs),
    /// Posts the emulation's pins, places and users to three streams of any Kinesis endpoint.
    #[command(after_help = "Exit codes: 0 posted, 1 failed, 64 the call is wrong.")]
    Post(PostArgs),
    /// Reads the configuration and every contract, says everything that is wrong, then shows the plan: streams,
    /// shards, where each would start, tables. Writes nothing but a probe, deleted again.
    #[command(
        after_help = "Exit codes: 0 ready for `pintail run`, 1 something is to be mended in Kinesis, the lake or the \
        permissions, 64 the configuration, a contract or the call is wrong (nothing was opened)."
    )]
    Check(ConfigArgs),
    /// Shows the ledger: how far each shard of each stream is committed.
    #[command(after_help = "Exit codes: 0 shown, 1 failed, 64 the configuration or the call is wrong.")]
    Positions(PositionsArgs),
    /// Once more: rejects, after a contract was mended; or a stream's time range, into tables of another name.
    Replay(replay::ReplayArgs),
    /// One round of maintenance over every table of the configuration.
    ///
    /// For each table, in this order: small files of one day become large ones (if [maintenance] compact_files of
    /// like size are there); the log gets a checkpoint; log entries older than the table's log retention are deleted,
    /// but for those that a table which follows has still to apply; data files that no version within the table's
    /// retention names are deleted; partials of sealed windows go when keep_partials is over. Then windows that are closed
    /// get their sealed rows. Kinesis is not asked.
    ///
    /// The service does all this by itself unless [maintenance] enabled = false. It may run at the same time, as may
    /// a second `pintail maintain` and other engines that read, append, delete or OPTIMIZE: whoever is too late gives
    /// up and loses no row. Of two that rewrite the same files, one works for nothing. Ctrl-C is safe at any point.
    ///
    /// Exit codes: 0 every table is maintained; 1 a table was refused or something failed, the other tables were
    /// maintained all the same; 64 the configuration or the call is wrong.
    Maintain(ConfigArgs),
}

/// Where the configuration is.
#[derive(Debug, Args)]
struct ConfigArgs {
    /// The configuration file; infra/pintail.toml is a commented example.
    #[arg(long, short, value_name = "FILE", env = "PINTAIL_CONFIG")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct PositionsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// As JSON, one document.
    #[arg(long)]
    json: bool,
}

/// Runs one command to its end.
pub fn run(cli: Cli) -> ExitCode {
    abort_on_panic();
    let quiet = matches!(cli.command, Command::Demo(_));
    init_logs(cli.log_format, quiet);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = match builder.max_blocking_threads(cores::blocking_threads()).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain!("pintail: the runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(dispatch(cli.command));
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(error) => report(&error),
    }
}

/// What the command line's own answer (help, version, or what is wrong with the call) comes to.
pub fn explain(answer: &clap::Error) -> ExitCode {
    match answer.print() {
        Ok(()) if answer.use_stderr() => ExitCode::from(EXIT_USAGE),
        Ok(()) => ExitCode::SUCCESS,
        Err(_closed) => ExitCode::FAILURE,
    }
}

/// Only what has something to drain takes signals as a request; the rest just ends.
async fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => run::run(&args.config, stop_signal()?).await,
        Command::Demo(args) => demo::demo(args, stop_signal()?).await,
        Command::Post(args) => demo::post(args, stop_signal()?).await,
        Command::Check(args) => check::check(&args.config).await,
        Command::Replay(args) => replay::replay(args, stop_signal()?).await,
        Command::Maintain(args) => maintain::maintain(&args.config).await,
        Command::Positions(args) => positions::positions(&args.config.config, args.json).await,
    }
}

/// One line a cause; a wrong configuration is the user's to mend and has a code of its own.
fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(invalid) = error.downcast_ref::<Invalid>() {
        complain!("{invalid}");
        let count = invalid.count();
        complain!("pintail: {count} problem{} to mend; nothing was opened", if count == 1 { "" } else { "s" });
        return ExitCode::from(EXIT_USAGE);
    }
    complain!("pintail: {error:#}");
    if error.is::<NotEmpty>() { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE }
}

/// Signals so soon after the first one are the same: `timeout` signals the process and then its group.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// Resolves on SIGTERM or Ctrl-C. A second one ends the process at once; the ledger is right either way.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let first = Instant::now();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                runtime.block_on(async {
                    loop {
                        tokio::select! {
                            _ = terminate.recv() => {}
                            _ = interrupt.recv() => {}
                        }
                        if first.elapsed() >= SAME_SIGNAL {
                            break;
                        }
                    }
                });
                complain!("pintail: stopped without draining; the next start goes on from the last commit");
                std::process::exit(1);
            }
        });
    })
}

/// A panicked task must not leave a half-alive process: whoever supervises it starts it again.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

fn init_logs(format: LogFormat, quiet: bool) {
    let default = if quiet { "warn" } else { "info,aws_config=error,aws_smithy_runtime=warn,object_store=warn" };
    let filter = match std::env::var("PINTAIL_LOG") {
        Ok(wanted) => tracing_subscriber::EnvFilter::try_new(&wanted).unwrap_or_else(|error| {
            complain!("pintail: PINTAIL_LOG={wanted:?} is no log filter ({error}); expected like \"pintail=debug\"");
            default.into()
        }),
        Err(_unset) => default.into(),
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // What cannot be written would be told where it cannot be written, by a panic.
    let logs = logs.log_internal_errors(false);
    let logs = logs.with_ansi(std::io::stderr().is_terminal());
    let result = match format {
        LogFormat::Text => logs.with_target(false).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    if let Err(error) = result {
        complain!("pintail: logs are already set up: {error}");
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_help_says_what_the_exit_codes_mean() {
        let mut pintail = Cli::command();
        pintail.build();
        let mut commands: Vec<clap::Command> = pintail.get_subcommands().cloned().collect();
        commands.retain(|command| command.get_name() != "help");
        assert_eq!(commands.len(), 7);
        for mut command in commands.into_iter().chain([pintail]) {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Exit codes: 0 ") && help.contains("64 "), "{help}");
        }
    }
}
