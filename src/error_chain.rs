//! An error and its causes on one line, for logs and the status board: one way for all rooms.

use std::error::Error;

const LINE_BYTES_MAX: usize = 700;
/// A shorter cause that stands somewhere in the line may be a word that just occurs there.
const REPEAT_BYTES_MIN: usize = 40;

/// The error and its causes, joined by `: `. A cause that only repeats what was just said is left out.
/// Bodies that a server sent along become part of the line, and the line is cut where nobody reads on.
pub fn chain(error: &dyn Error) -> String {
    let mut line = one_line(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        let link = one_line(error);
        let repeats = line.ends_with(&link) || (link.len() >= REPEAT_BYTES_MIN && line.contains(&link));
        if !repeats {
            line.push_str(": ");
            line.push_str(&link);
        }
        cause = error.source();
    }
    if line.len() > LINE_BYTES_MAX {
        line.truncate(line.floor_char_boundary(LINE_BYTES_MAX));
        line.push_str(" ...");
    }
    line
}

fn one_line(error: &dyn Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Link(&'static str, #[source] Option<Box<Link>>);

    #[test]
    fn every_cause_is_told_once() {
        let root = Link("connection reset", None);
        let repeated = Link("PUT failed: connection reset", Some(Box::new(root)));
        let error = Link("write orders/x", Some(Box::new(repeated)));
        assert_eq!(chain(&error), "write orders/x: PUT failed: connection reset");
    }
}
