//! The command line and nothing else: the allocator, parse, set up logs, call, exit code.

use std::process::ExitCode;

use clap::Parser;
use pintail::cli::{self, Cli};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pintail::allocator::begin_with_settings();
    match Cli::try_parse() {
        Ok(cli) => cli::run(cli),
        Err(answer) => cli::explain(&answer),
    }
}
