//! What the allocator keeps of the memory that is given back to it: small pieces for a second, large ones not at all.
//!
//! A read's body, its columns and the file that is made of them live for milliseconds. Memory that goes back to the system
//! at once comes as fresh pages the next time, and clearing those took a third of a catch-up's time. But whatever is kept
//! is resident and counted by no budget, and grows with what comes: with records of megabytes, inflated or not, it was 200 MiB
//! and more. So a block of a MiB or more goes back at once, as those records and their columns do, and so do free neighbours
//! that are as much together; one arena for all threads keeps the rest for about a second, or until something is allocated
//! again. jemalloc asks its environment for settings, once, and has no
//! other way that is safe Rust; so a process begins anew with them.

use std::os::unix::process::CommandExt;
use std::process::Command;

use tikv_jemalloc_ctl::{epoch, stats};
pub use tikv_jemallocator::Jemalloc;

/// What jemalloc is told, and by which variable.
const VARIABLE: &str = "_RJEM_MALLOC_CONF";
/// No background thread: with one, large blocks would be kept like all others.
const SETTINGS: &str = "narenas:1,dirty_decay_ms:1000,muzzy_decay_ms:0,oversize_threshold:1048576";

/// Begins the process anew with the allocator's settings, unless it has them, or others: the same process by number, with
/// the same arguments. What a `main` calls first. If that cannot be done it goes on, with more memory.
pub fn begin_with_settings() {
    if let Some(settings) = std::env::var_os(VARIABLE).filter(|settings| !settings.is_empty()) {
        if settings != SETTINGS {
            eprintln!(
                "pintail: memory is kept as {VARIABLE} says; unset it for {SETTINGS}, which the budget reckons with"
            );
        }
        return;
    }
    let mut arguments = std::env::args_os();
    let (program, called) = (std::env::current_exe(), arguments.next());
    let failed = match program {
        Ok(program) => {
            let called = called.unwrap_or_else(|| program.clone().into_os_string());
            Command::new(program).arg0(called).args(arguments).env(VARIABLE, SETTINGS).exec()
        }
        Err(unknown) => unknown,
    };
    eprintln!("pintail: could not begin anew with the allocator's settings and needs more memory: {failed}");
}

/// Bytes that are in use, whether they were ever written to or not. What is resident beyond them is program, stacks, and
/// freed memory on its way back.
pub fn allocated_bytes() -> Option<usize> {
    epoch::advance().ok()?; // its numbers are those of the last time that it was told so
    stats::allocated::read().ok()
}
