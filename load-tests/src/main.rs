//! `load-tests pintail ARGS` is `pintail ARGS`: processes that a test kills need no build of their own. The rest is
//! [`load_tests::cli`].

use std::process::ExitCode;

use clap::Parser;
use pintail::allocator::Jemalloc;

/// As in the real thing, or its memory would be measured with another allocator.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|command| command == "pintail") {
        pintail::allocator::begin_with_settings();
        if let Err(error) = load_tests::die_with_parent() {
            eprintln!("load-tests: {error:#}");
            return ExitCode::FAILURE;
        }
        let arguments = std::iter::once("pintail".into()).chain(arguments);
        return match pintail::cli::Cli::try_parse_from(arguments) {
            Ok(cli) => pintail::cli::run(cli),
            Err(answer) => pintail::cli::explain(&answer),
        };
    }
    let cli = load_tests::cli::Cli::parse();
    if cli.is_measured() {
        pintail::allocator::begin_with_settings();
    }
    if let Err(error) = cli.is_role().then(load_tests::die_with_parent).transpose() {
        eprintln!("load-tests: {error:#}");
        return ExitCode::FAILURE;
    }
    match std::env::current_exe() {
        Ok(program) => load_tests::cli::run(cli, &program),
        Err(error) => {
            eprintln!("load-tests: the path of this binary is not known: {error}");
            ExitCode::FAILURE
        }
    }
}
