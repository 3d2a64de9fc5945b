//! Lines for people, on standard output and standard error. A pipe that nobody reads any more (`| head`) and a full disk end
//! nobody's work: `println!` and `eprintln!` would panic there.

use std::fmt::Arguments;
use std::io::Write;

/// As `println!`, whether or not it can be written.
macro_rules! say {
    ($($line:tt)*) => {
        $crate::say::line(std::io::stdout(), format_args!($($line)*))
    };
}

/// As `eprintln!`, whether or not it can be written.
macro_rules! complain {
    ($($line:tt)*) => {
        $crate::say::line(std::io::stderr(), format_args!($($line)*))
    };
}

pub(crate) use {complain, say};

/// Writes a line. Nobody is left to tell if it cannot be written.
pub(crate) fn line(mut to: impl Write, line: Arguments<'_>) {
    writeln!(to, "{line}").ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_cannot_be_written_ends_nobodys_work() {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        line(full, format_args!("to nobody"));
        let mut written = Vec::new();
        line(&mut written, format_args!("to somebody"));
        assert_eq!(written, b"to somebody\n");
    }
}
