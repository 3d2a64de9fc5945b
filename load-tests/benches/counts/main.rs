//! Instructions a record of the hot functions, counted by callgrind: a guard that the machine's hour does not move.
//!
//! Each function runs in a process of its own under valgrind, once for one turn and once for several; the difference is
//! what turns cost, without the start and without what only the first turn does. What is found is held against
//! `stored.json`, which has figures of debug builds (they cost no build of their own: what the tests have built is
//! counted) and of release builds. Another compiler or processor makes other instructions of the same text; then nothing
//! is compared, and that is said.
//!
//! `cargo bench -p load-tests --bench counts [--profile dev] [-- --store]`

#![allow(clippy::expect_used, reason = "a benchmark that cannot run ends with what stopped it")]

#[allow(dead_code, reason = "what the other benchmark alone needs is here too")]
#[path = "../paths/data.rs"]
mod data;
mod stored;
mod work;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use pintail::allocator::Jemalloc;
use stored::{Figures, Stored};

/// As in the real thing.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// So many turns more the second process does than the first: of what is soon done more, for its hash seeds weigh more.
fn more_turns(name: &str) -> u32 {
    if name == work::WINDOWS { 20 } else { 2 }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--work", name, turns, folder] => {
            work::run(name, turns.parse().expect("a number of turns"), Path::new(folder));
            ExitCode::SUCCESS
        }
        [] => stored::compare(&Stored::read(), &counted()),
        ["--store"] => {
            Stored::read().with(counted()).write();
            ExitCode::SUCCESS
        }
        other => {
            eprintln!("expected nothing or --store, not {other:?}");
            ExitCode::from(2)
        }
    }
}

/// Every function, in this build.
fn counted() -> Figures {
    let folder = tempfile::tempdir().expect("a folder");
    work::prepare(folder.path());
    let figures = work::NAMES.map(|name| {
        let [few, many] = std::thread::scope(|scope| {
            let folder = folder.path();
            let runs = [1, 1 + more_turns(name)].map(|turns| scope.spawn(move || instructions(name, turns, folder)));
            runs.map(|run| run.join().expect("valgrind ran"))
        });
        let each = (many - few) as f64 / f64::from(more_turns(name)) / work::RECORDS as f64;
        eprintln!("{name:<14} {each:>9.0} instructions a record");
        (name.to_owned(), each.round() as u64)
    });
    Figures::of_this_build(figures)
}

/// Of a process that does so many turns.
fn instructions(name: &str, turns: u32, folder: &Path) -> u64 {
    let (turns, out) = (turns.to_string(), folder.join(format!("{name}-{turns}.out")));
    let program = std::env::current_exe().expect("this program");
    let mut valgrind = Command::new("valgrind");
    valgrind.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", out.display())).arg(program);
    valgrind.args(["--work", name, &turns]).arg(folder).stdout(Stdio::null()).stderr(Stdio::piped());
    let ended = valgrind.output().expect("valgrind is installed");
    assert!(ended.status.success(), "{name}: {}", String::from_utf8_lossy(&ended.stderr));
    let told = std::fs::read_to_string(&out).expect("callgrind has written what it found");
    let total = told.lines().find_map(|line| line.strip_prefix("totals: ")).expect("with the sum at its end");
    total.trim().parse().expect("a number")
}
