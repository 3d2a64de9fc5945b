//! What the allocator keeps of the memory that is given back to it: nothing large.
//!
//! mimalloc keeps freed memory for a tenth of a second, for whoever wants it next. Records of 10 MiB, and a backlog that
//! is made to files within a second, make that 100 MiB and more beside what is held, which no budget counts. mimalloc
//! asks its environment for settings, once, and has no other way that is safe Rust; so a process begins anew with them.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Large memory comes from the system and goes back there at once.
const SETTING: (&str, &str) = ("MIMALLOC_DISALLOW_ARENA_ALLOC", "1");

/// Begins the process anew with the allocator's setting, unless it has one: the same process by number, with the same
/// arguments. What a `main` calls first. If that cannot be done it goes on, with more memory.
pub fn begin_with_setting() {
    let (name, value) = SETTING;
    if std::env::var_os(name).is_some() {
        return;
    }
    let mut arguments = std::env::args_os();
    if let (Ok(program), Some(called)) = (std::env::current_exe(), arguments.next()) {
        let failed = Command::new(program).arg0(called).args(arguments).env(name, value).exec();
        eprintln!("pintail: could not begin anew with {name}={value} and needs more memory: {failed}");
    }
}
