//! What the allocator keeps of the memory that is given back to it: what was freed within the last second or so.
//!
//! A read's body, its columns and the file that is made of them are megabytes that live for milliseconds. Memory that goes
//! back to the system at once comes as fresh pages the next time, and clearing those took a third of a catch-up's time.
//! Memory that is kept for long makes a burst of large records the resident size of the hours after it, which no budget
//! counts. A second is enough for the one and short enough for the other. jemalloc asks its
//! environment for settings, once, and has no other way that is safe Rust; so a process begins anew with them.

use std::os::unix::process::CommandExt;
use std::process::Command;

use tikv_jemalloc_ctl::{epoch, stats};
pub use tikv_jemallocator::Jemalloc;

/// What jemalloc is told, and by which variable.
const VARIABLE: &str = "_RJEM_MALLOC_CONF";
/// Freed pages go back to the system within a second, by a thread of their own where nobody allocates any more.
const SETTINGS: &str = "dirty_decay_ms:1000,muzzy_decay_ms:0,background_thread:true,max_background_threads:1";

/// Begins the process anew with the allocator's settings, unless it has them, or others: the same process by number, with
/// the same arguments. What a `main` calls first. If that cannot be done it goes on, with more memory.
pub fn begin_with_settings() {
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let mut arguments = std::env::args_os();
    if let (Ok(program), Some(called)) = (std::env::current_exe(), arguments.next()) {
        let failed = Command::new(program).arg0(called).args(arguments).env(VARIABLE, SETTINGS).exec();
        eprintln!("pintail: could not begin anew with the allocator's settings and needs more memory: {failed}");
    }
}

/// Bytes that are in use. What is resident beyond them is program, stacks, and freed memory on its way back.
pub fn allocated_bytes() -> Option<usize> {
    epoch::advance().ok()?; // its numbers are those of the last time that it was told so
    stats::allocated::read().ok()
}
