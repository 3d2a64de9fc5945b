//! What each part of the way costs, alone and in one thread: records per CPU-second, side by side.
//!
//! On a shared machine a second of the wall is anybody's, and figures of two sittings cannot be compared. So the clock
//! is this process's CPU time, the sides of a comparison take turns, and what counts is the median and how it stands
//! to the first side's.
//!
//! `cargo bench -p load-tests --bench paths -- [read|clean|parquet|windows]... [--rounds N]`

#![allow(clippy::expect_used, reason = "a benchmark that cannot run ends with what stopped it")]

mod clean;
mod data;
mod read;
mod sides;

use pintail::allocator::Jemalloc;
use sides::Rounds;

/// As in the real thing.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

const NAMES: [&str; 4] = ["read", "clean", "parquet", "windows"];

fn main() {
    pintail::allocator::begin_with_settings();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [flag, side, bytes] = arguments.as_slice()
        && flag == "--memory-of"
    {
        return read::one_body(side, bytes.parse().expect("a number of bytes"));
    }
    let rounds = arguments
        .iter()
        .position(|argument| argument == "--rounds")
        .map_or(7, |at| arguments.get(at + 1).and_then(|rounds| rounds.parse().ok()).expect("--rounds takes a number"));
    let rounds = Rounds(rounds);
    let chosen: Vec<&str> = arguments.iter().map(String::as_str).filter(|argument| NAMES.contains(argument)).collect();
    let is_chosen = |name: &str| chosen.is_empty() || chosen.contains(&name);
    if is_chosen("read") {
        read::run(rounds);
    }
    if is_chosen("clean") {
        clean::to_arrow(rounds);
    }
    if is_chosen("parquet") {
        clean::to_parquet(rounds);
    }
    if is_chosen("windows") {
        clean::with_windows(rounds);
        clean::with_sliding_windows(rounds);
    }
}
