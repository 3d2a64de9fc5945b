//! Lines for people on standard output.

use std::fmt::Arguments;
use std::io::Write;

/// As `println!`, but a reader that has seen enough (`| head`) ends nobody's work.
macro_rules! say {
    ($($line:tt)*) => {
        $crate::cli::say::line(format_args!($($line)*))
    };
}
pub(super) use say;

/// Writes a line. Nobody is left to tell if it cannot be written.
pub(super) fn line(line: Arguments<'_>) {
    writeln!(std::io::stdout(), "{line}").ok();
}
