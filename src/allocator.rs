//! What the allocator keeps of the memory that is given back to it: next to nothing.
//!
//! mimalloc keeps freed memory for whoever wants it next: large memory for a tenth of a second, pieces of it until their
//! thread frees something again, which an idle one never does. Records of 10 MiB, and a backlog that is made to files within
//! a second, make that 100 MiB and more beside what is held, which no budget counts. Giving it back at once costs no time
//! that could be measured. mimalloc asks its environment for settings, once, and has no other way
//! that is safe Rust; so a process begins anew with them.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Large memory comes from the system and goes back there at once; so does what is freed in it.
const SETTINGS: [(&str, &str); 2] = [("MIMALLOC_DISALLOW_ARENA_ALLOC", "1"), ("MIMALLOC_PURGE_DELAY", "0")];

/// Begins the process anew with the allocator's settings, unless it has them, or others: the same process by number, with
/// the same arguments. What a `main` calls first. If that cannot be done it goes on, with more memory.
pub fn begin_with_settings() {
    let missing = SETTINGS.iter().filter(|(name, _)| std::env::var_os(name).is_none());
    let missing: Vec<(&str, &str)> = missing.copied().collect();
    if missing.is_empty() {
        return;
    }
    let mut arguments = std::env::args_os();
    if let (Ok(program), Some(called)) = (std::env::current_exe(), arguments.next()) {
        let failed = Command::new(program).arg0(called).args(arguments).envs(missing).exec();
        eprintln!("pintail: could not begin anew with the allocator's settings and needs more memory: {failed}");
    }
}
