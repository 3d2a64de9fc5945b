//! What is wrong, and where: short enough to be read, whatever the file holds.
//!
//! A file of the wrong kind can have a fault on every line and lines of any length. Its reader wants the first faults
//! and their places, so values are cut where they are echoed, and only so many problems are kept.

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::rc::Rc;

use crate::limits::{PROBLEM_VALUE_CHARS_MAX, PROBLEMS_KEPT_MAX};

/// Where something was said: `file:line`, or the environment variable that said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(Rc<str>);

impl Place {
    pub(super) fn new(text: String) -> Self {
        Self(text.into())
    }

    /// An environment variable.
    pub fn environment(variable: &str) -> Self {
        Self(format!("environment variable {}", Cut(variable)).into())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A user's text within a message: its beginning, on one line. `{:?}` puts it into quotes.
#[derive(Clone, Copy)]
pub struct Cut<'a>(pub &'a str);

impl Cut<'_> {
    fn split(&self) -> (&str, &'static str) {
        match self.0.char_indices().nth(PROBLEM_VALUE_CHARS_MAX) {
            Some((at, _)) => (&self.0[..at], "..."),
            None => (self.0, ""),
        }
    }
}

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (beginning, rest) = self.split();
        for c in beginning.chars() {
            f.write_char(if c.is_control() { ' ' } else { c })?;
        }
        f.write_str(rest)
    }
}

impl fmt::Debug for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (beginning, rest) = self.split();
        write!(f, "{beginning:?}{rest}")
    }
}

/// Everything found wrong so far. Shared by reference: noting a problem never stops the reading.
#[derive(Debug, Default)]
pub struct Problems(RefCell<Invalid>);

impl Problems {
    /// Notes one problem: where, what, and what would be right.
    pub fn note(&self, place: &Place, message: impl fmt::Display) {
        let mut found = self.0.borrow_mut();
        found.count += 1;
        if found.kept.len() < PROBLEMS_KEPT_MAX {
            found.kept.push(format!("{place}: {message}"));
        }
    }

    /// Whether nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// How many were noted so far; unchanged after a reading that found nothing wrong.
    pub fn count(&self) -> usize {
        self.0.borrow().count
    }

    /// Ends the reading: fails if anything was noted.
    pub fn into_result(self) -> Result<(), Invalid> {
        let found = self.0.into_inner();
        if found.count == 0 { Ok(()) } else { Err(found) }
    }
}

/// A file or a set of files that cannot be used, with the first reasons, one a line, and how many more there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invalid {
    kept: Vec<String>,
    count: usize,
}

impl Invalid {
    /// One problem that belongs to no line.
    pub fn from_text(problem: impl Into<String>) -> Self {
        Self { kept: vec![problem.into()], count: 1 }
    }

    /// The first problems, one each.
    pub fn problems(&self) -> &[String] {
        &self.kept
    }

    /// How many problems there are, also those that are not kept.
    pub fn count(&self) -> usize {
        self.count
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kept.join("\n"))?;
        match self.count - self.kept.len() {
            0 => Ok(()),
            more => write!(f, "\n... and {more} more"),
        }
    }
}

impl std::error::Error for Invalid {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_problems_are_shown_but_all_are_counted() {
        let problems = Problems::default();
        for line in 1..=PROBLEMS_KEPT_MAX + 7 {
            problems.note(&Place::new(format!("a.toml:{line}")), "wrong");
        }
        assert_eq!(problems.count(), PROBLEMS_KEPT_MAX + 7);
        let shown = problems.into_result().unwrap_err().to_string();
        assert_eq!(shown.lines().count(), PROBLEMS_KEPT_MAX + 1);
        assert!(shown.starts_with("a.toml:1: wrong\n") && shown.ends_with("\n... and 7 more"), "{shown}");
    }

    #[test]
    fn a_text_is_cut_between_letters_and_stays_on_its_line() {
        assert_eq!(Cut("a\nb").to_string(), "a b");
        let long = "ä".repeat(PROBLEM_VALUE_CHARS_MAX);
        assert_eq!(Cut(&long).to_string(), long);
        assert_eq!(format!("{:?}", Cut(&format!("{long}ä"))), format!("\"{long}\"..."));
    }
}
