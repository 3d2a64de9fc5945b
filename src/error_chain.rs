//! An error and its causes on one line, for logs and the status board: one way for all rooms.

use std::error::Error;

/// The error and its causes, joined by `: `. A cause that only repeats what was just said is left out.
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let link = error.to_string();
        if !line.ends_with(&link) {
            line.push_str(": ");
            line.push_str(&link);
        }
        cause = error.source();
    }
    line
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
