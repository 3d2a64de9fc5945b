//! What one shard has brought that no commit covers yet, and what of it is on show.
//!
//! A shard may be read a second time: its reader was fenced or left a gap, and what it brought counts for nothing in
//! the next partial. But people have seen it, every record of it exists, and it comes again. So it is *held*: it
//! stays on show until the second reading has come as far, and until then that reading, committed or not, is not
//! shown beside it. Numbers then neither fall nor count a record twice.
//!
//! If the second reading begins farther on, another process has committed what lies between, and its cells are in
//! the lake and not here. What was held is then shown for good, and only what comes after it is added: until the
//! next start some records may be missing from the live view, and none is in it twice.

use std::collections::VecDeque;

use super::aggregate::WindowCells;
use super::{cells_bytes, merge_cells};
use crate::checkpoint::Position;
use crate::record::ShardGrant;

/// The cells of one batch.
#[derive(Debug)]
pub struct Batch {
    /// Its reader's right to the shard.
    pub grant: ShardGrant,
    /// Where it begins.
    pub after: Position,
    /// Where it ends.
    pub through: Position,
    /// One entry a declared window.
    pub windows: Vec<WindowCells>,
}

/// One shard's part of the view.
#[derive(Debug, Default)]
pub struct ShardCells {
    batches: VecDeque<Batch>,
    /// Up to where the committed layer has the shard.
    committed: Option<Position>,
    held: Option<Held>,
    /// What begins before this is shown already, as something that was held.
    floor: Option<Position>,
}

/// What stays on show while it is read again.
#[derive(Debug)]
struct Held {
    through: Position,
    shown: Vec<WindowCells>,
    /// What was committed of the second reading; takes the place of `shown` in the end.
    again: Vec<WindowCells>,
}

impl ShardCells {
    /// Adds a batch. True if [`Self::settle`] has something to do.
    pub fn push(&mut self, batch: Batch) -> bool {
        // The layer was loaded as of where the first reader begins.
        self.committed.get_or_insert(batch.after);
        self.batches.push_back(batch);
        self.is_settling()
    }

    /// All batches that no commit covers yet.
    pub fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.batches.iter()
    }

    /// The batches that a commit through `through` covers.
    pub fn covered(&self, through: Position) -> impl Iterator<Item = &Batch> {
        self.batches.iter().take(covered_by(&self.batches, through))
    }

    /// A commit landed. Returns the cells that pass into the committed layer.
    pub fn commit(&mut self, through: Position) -> Vec<Vec<WindowCells>> {
        let covered = covered_by(&self.batches, through);
        let landed: Vec<Batch> = self.batches.drain(..covered).collect();
        self.committed = Some(through);
        let Some(held) = &mut self.held else {
            let counted = landed.into_iter().filter(|batch| !begins_before(batch.after, self.floor));
            return counted.map(|batch| batch.windows).collect();
        };
        for batch in landed {
            merge_windows(&mut held.again, batch.windows);
        }
        self.settle().into_iter().collect()
    }

    /// What revoked readers brought counts for nothing any more. Not what one brought that has taken the shard up
    /// again in the meantime.
    pub fn discard(&mut self) {
        let (revoked, live): (VecDeque<Batch>, _) = self.batches.drain(..).partition(|batch| batch.grant.is_revoked());
        self.batches = live;
        if self.held.is_some() {
            // It was not on show yet, or what is held goes farther.
            return;
        }
        let (mut end, mut shown) = (self.committed, Vec::new());
        for batch in revoked {
            if end.is_none_or(|end| end == batch.after) && !begins_before(batch.after, self.floor) {
                end = Some(batch.through);
                merge_windows(&mut shown, batch.windows);
            }
        }
        if let (Some(through), false) = (end, shown.is_empty()) {
            self.held = Some(Held { through, shown, again: Vec::new() });
        }
    }

    /// Ends the holding if the second reading has come as far, or began farther on. Returns the cells that pass into
    /// the committed layer; the caller keeps lookers out until they are there.
    pub fn settle(&mut self) -> Option<Vec<WindowCells>> {
        if self.has_gap() {
            let held = self.held.take()?;
            self.floor = Some(held.through);
            return Some(held.shown);
        }
        if self.is_caught_up() { Some(self.held.take()?.again) } else { None }
    }

    fn is_settling(&self) -> bool {
        self.has_gap() || self.is_caught_up()
    }

    fn has_gap(&self) -> bool {
        let first = self.batches.iter().find(|batch| !batch.grant.is_revoked());
        self.held.is_some() && first.is_some_and(|first| goes_beyond(first.after, self.committed))
    }

    fn is_caught_up(&self) -> bool {
        let Some(held) = &self.held else { return false };
        let live = self.batches.iter().rev().find(|batch| !batch.grant.is_revoked());
        live.map(|batch| batch.through).into_iter().chain(self.committed).any(|at| reached(held.through, at))
    }

    /// The cells on show that are not in the committed layer, one entry a declared window each.
    pub fn shown(&self) -> impl Iterator<Item = &Vec<WindowCells>> {
        let held = self.held.as_ref();
        let batches = if held.is_some() { Vec::new() } else { self.batches_shown() };
        held.map(|held| &held.shown).into_iter().chain(batches.into_iter().map(|batch| &batch.windows))
    }

    /// Of two readings that overlap only the longer one, and nothing that is shown already.
    fn batches_shown(&self) -> Vec<&Batch> {
        let counted =
            |batch: &&Batch| !begins_before(batch.after, self.floor) && !begins_before(batch.after, self.committed);
        let (revoked, live): (Vec<&Batch>, Vec<&Batch>) =
            self.batches.iter().filter(counted).partition(|batch| batch.grant.is_revoked());
        match (revoked.last(), live.last()) {
            (Some(revoked_last), Some(live_last)) if !reached(revoked_last.through, live_last.through) => revoked,
            (Some(_), None) => revoked,
            (Some(_) | None, Some(_)) | (None, None) => live,
        }
    }

    /// How many cells, and their estimated bytes.
    pub fn size(&self) -> (usize, usize) {
        let held = self.held.iter().flat_map(|held| held.shown.iter().chain(&held.again));
        let windows = self.batches.iter().flat_map(|batch| &batch.windows).chain(held);
        windows.fold((0, 0), |(cells, bytes), window| (cells + window.len(), bytes + cells_bytes(window)))
    }
}

#[cfg(test)]
impl ShardCells {
    pub fn revoke_all(&self) {
        self.batches.iter().for_each(|batch| batch.grant.revoke());
    }
}

fn merge_windows(into: &mut Vec<WindowCells>, from: Vec<WindowCells>) {
    if into.is_empty() {
        *into = from;
    } else {
        into.iter_mut().zip(&from).for_each(|(into, from)| merge_cells(into, from));
    }
}

/// How many batches, from the first, a commit through `through` covers. One that does not go beyond the one before it
/// was read a second time; it is of no commit, and is about to be discarded.
fn covered_by(batches: &VecDeque<Batch>, through: Position) -> usize {
    let mut last = None;
    let covered = batches.iter().take_while(|batch| {
        let repeats = last.replace(batch.through).is_some_and(|last| reached(batch.through, last));
        reached(batch.through, through) && !repeats
    });
    covered.count()
}

/// Whether a batch that ends at `batch` is covered by what goes through `through`.
fn reached(batch: Position, through: Position) -> bool {
    match (batch, through) {
        (Position::After(batch), Position::After(through)) => batch <= through,
        // A batch with records ends after a number, and so does a commit that covers it.
        (Position::Beginning | Position::At(_) | Position::After(_) | Position::End, _) => false,
    }
}

/// Whether a batch that begins at `after` may hold records before `mark`.
fn begins_before(after: Position, mark: Option<Position>) -> bool {
    match (after, mark) {
        (Position::After(after), Some(Position::After(mark))) => after < mark,
        (Position::Beginning | Position::At(_), Some(Position::After(_))) => true,
        (Position::Beginning | Position::At(_) | Position::After(_) | Position::End, _) => false,
    }
}

/// Whether something lies between `mark` and a batch that begins at `after`.
fn goes_beyond(after: Position, mark: Option<Position>) -> bool {
    match (after, mark) {
        (Position::After(after), Some(Position::After(mark))) => after > mark,
        // Nothing of it was committed by this process, so nothing of it should have a number yet.
        (Position::After(_), Some(Position::Beginning | Position::At(_))) => true,
        (Position::Beginning | Position::At(_) | Position::After(_) | Position::End, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::SequenceNumber;

    #[test]
    fn a_batch_that_was_read_a_second_time_is_not_of_the_commit_of_the_first() {
        let through = |n: u32| Position::After(SequenceNumber::parse(&n.to_string()).unwrap());
        let batches = |ends: &[u32]| -> VecDeque<Batch> {
            let batch = |n: &u32| Batch {
                grant: ShardGrant::new(),
                after: Position::Beginning,
                through: through(*n),
                windows: Vec::new(),
            };
            ends.iter().map(batch).collect()
        };
        for (ends, covered) in
            [([5, 10, 15], 2), ([5, 10, 10], 2), ([5, 10, 5], 2), ([10, 10, 20], 1), ([11, 5, 10], 0)]
        {
            assert_eq!(covered_by(&batches(&ends), through(10)), covered, "{ends:?}");
        }
    }
}
