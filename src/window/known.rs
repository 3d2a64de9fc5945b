//! Which ranges of a shard were committed and have been taken into account, whoever committed them.
//!
//! The ledger's ranges of a shard never overlap, so a range says by itself whether it was counted: nobody has to
//! remember whose commit it was. The lake is gone through in order, and this process's own commits are known before
//! they are found there.

use crate::checkpoint::{Position, SequenceNumber};

/// A position by its place alone: how far a shard is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// Nothing is done, wherever reading begins.
    Nothing,
    /// Up to this number.
    Number(SequenceNumber),
    /// All of it.
    All,
}

impl From<Position> for Mark {
    fn from(position: Position) -> Self {
        match position {
            Position::Beginning | Position::At(_) => Self::Nothing,
            Position::After(number) => Self::Number(number),
            Position::End => Self::All,
        }
    }
}

/// The ranges.
#[derive(Debug, Default)]
pub struct Known {
    /// Up to where all is known.
    through: Option<Mark>,
    /// What this process committed beyond that, in order; neighbours are one.
    ahead: Vec<(Mark, Mark)>,
}

impl Known {
    /// All up to here is known.
    pub fn pass(&mut self, through: Mark) {
        let mut end = self.through.map_or(through, |known| known.max(through));
        self.ahead.retain(|(after, through)| {
            let touches = *after <= end;
            if touches {
                end = end.max(*through);
            }
            !touches
        });
        self.through = Some(end);
    }

    /// A range is known; what lies before it may not be.
    pub fn insert(&mut self, after: Mark, through: Mark) {
        if after >= through || self.has(after, through) {
            return;
        }
        if self.through.is_some_and(|known| after <= known) {
            self.pass(through);
            return;
        }
        match self.ahead.last_mut().filter(|last| last.1 == after) {
            Some(last) => last.1 = through,
            None => self.ahead.push((after, through)),
        }
    }

    /// Whether all of a range is known.
    pub fn has(&self, after: Mark, through: Mark) -> bool {
        let within = |range: &(Mark, Mark)| range.0 <= after && through <= range.1;
        self.through.is_some_and(|known| through <= known) || self.ahead.iter().any(within)
    }

    /// Whether some of a range is known.
    pub fn overlaps(&self, after: Mark, through: Mark) -> bool {
        self.through.is_some_and(|known| after < known)
            || self.ahead.iter().any(|range| after < range.1 && range.0 < through)
    }

    /// How far all is known from here on.
    pub fn reach(&self, from: Mark) -> Mark {
        let start = self.through.map_or(from, |known| known.max(from));
        self.ahead.iter().fold(start, |end, range| if range.0 <= end { end.max(range.1) } else { end })
    }
}
