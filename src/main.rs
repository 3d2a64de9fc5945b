//! The command line and nothing else: parse, set up logs, call, exit code.

use std::process::ExitCode;

use clap::Parser;
use pintail::cli::{self, Cli};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => cli::run(cli),
        Err(answer) => cli::explain(&answer),
    }
}
