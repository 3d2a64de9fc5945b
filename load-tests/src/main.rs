//! `load-tests pintail ARGS` is `pintail ARGS`: processes that a test kills need no build of their own.

use std::process::ExitCode;

use clap::Parser;
use pintail::cli::{self, Cli, EXIT_USAGE};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|command| command == "pintail") {
        return cli::run(Cli::parse_from(std::iter::once("pintail".into()).chain(arguments)));
    }
    eprintln!("load-tests: the tests run with `cargo test -p load-tests`; see load-tests/README.md");
    ExitCode::from(EXIT_USAGE)
}
