//! The command line and nothing else: the allocator, parse, set up logs, call, exit code.

use std::process::ExitCode;

use clap::Parser;
use pintail::allocator::Jemalloc;
use pintail::cli::{self, Cli};

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    pintail::allocator::begin_with_settings();
    match Cli::try_parse() {
        Ok(cli) => cli::run(cli),
        Err(answer) => cli::explain(&answer),
    }
}
