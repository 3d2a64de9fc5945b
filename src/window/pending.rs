//! What one shard has brought that no commit covers yet, and what of it is on show.
//!
//! A shard may be read a second time: its reader was fenced or left a gap, and what it brought counts for nothing in
//! the next partial. But people have seen it, every record of it exists, and it comes again. So it is *held*: it
//! stays on show until what comes again, by another reading here or by another process's commits, has come as far, and
//! until then that is not shown beside it. Numbers then neither fall nor count a record twice.
//!
//! Another process's commit may also end within a batch that is on show before anybody here is fenced. That is held in
//! the same way, while the batch itself stays where it is: partials are made of batches, and are nobody's view.
//!
//! If a commit cannot be read, what was held is shown for good, and only what comes after it is added: until the next
//! start some records may be missing from the live view, and none is in it twice.
//!
//! | state | on show, beside the committed layer | a commit adds to that layer |
//! |---|---|---|
//! | nothing held | the batches | its batches, or what was found of it |
//! | held, of which all that is committed again could be read | what is held | nothing; in the end what was committed again |
//! | held, of which something could not be read | what is held | nothing; in the end what was held, and nothing that begins before its end |

use std::collections::VecDeque;
use std::sync::Arc;

use super::aggregate::WindowCells;
use super::known::{Known, Mark};
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
    /// One entry a declared window. Shared with whoever makes partials of it while readers go on.
    pub windows: Arc<Vec<WindowCells>>,
}

impl Batch {
    fn marks(&self) -> (Mark, Mark) {
        (self.after.into(), self.through.into())
    }
}

/// What is known of a commit; of several, the greatest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Knowledge {
    /// It has been taken into account.
    Counted,
    /// What was read here ends where it ends, and no commit that was told of covers that: it is most likely ours, and on
    /// its way.
    Awaited,
    /// It is somebody else's, and has not been looked at.
    News,
}

/// One shard's part of the view.
#[derive(Debug, Default)]
pub struct ShardCells {
    /// What the next partials are made of. The view hides some of it and takes nothing away.
    batches: VecDeque<Batch>,
    /// What was committed and has been taken into account.
    known: Known,
    held: Option<Held>,
    /// What begins before this is shown already, as something that was held.
    shown_through: Option<Mark>,
    /// When another process committed the newest of it, epoch ms; `None` if this one did.
    others_ms: Option<i64>,
}

/// What stays on show while it comes again.
#[derive(Debug)]
struct Held {
    after: Mark,
    through: Mark,
    shown: Vec<WindowCells>,
    /// What was committed of it; takes the place of `shown` in the end.
    recommitted: Vec<WindowCells>,
    /// Some of what was committed of it could not be read.
    is_incomplete: bool,
}

impl Held {
    fn overlaps(&self, after: Mark, through: Mark) -> bool {
        after < self.through && self.after < through
    }
}

impl ShardCells {
    /// The committed layer has the shard up to here.
    pub fn begin_at(&mut self, through: Position) {
        self.known.pass(through.into());
    }

    /// Adds a batch. True if [`Self::settle`] has something to do.
    pub fn push(&mut self, batch: Batch) -> bool {
        self.batches.push_back(batch);
        self.is_caught_up()
    }

    /// All batches that no commit covers yet.
    pub fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.batches.iter()
    }

    /// The batches that a commit through `through` covers.
    pub fn covered(&self, through: Position) -> impl Iterator<Item = &Batch> {
        self.batches.iter().take(covered_by(&self.batches, through.into()))
    }

    /// A commit of this process landed. Returns the cells that pass into the committed layer.
    pub fn commit(&mut self, after: Position, through: Position) -> Vec<Arc<Vec<WindowCells>>> {
        let (after, through) = (after.into(), through.into());
        let covered = covered_by(&self.batches, through);
        let landed: Vec<Batch> = self.batches.drain(..covered).collect();
        self.others_ms = None;
        if self.known.has(after, through) {
            // It was found in the lake before its writer was told.
            return Vec::new();
        }
        self.known.insert(after, through);
        let shown_through = self.shown_through;
        let (shown, counted): (Vec<Batch>, Vec<Batch>) =
            landed.into_iter().partition(|batch| begins_before(batch.after, shown_through));
        let counted: Vec<_> = counted.into_iter().map(|batch| batch.windows).collect();
        let Some(held) = self.held.as_mut().filter(|held| held.overlaps(after, through)) else { return counted };
        held.is_incomplete |= !shown.is_empty();
        counted.into_iter().for_each(|windows| merge_windows(&mut held.recommitted, Arc::unwrap_or_clone(windows)));
        self.settle().into_iter().map(Arc::new).collect()
    }

    /// What is known of a commit of this range.
    pub fn knowledge(&self, after: Position, through: Position) -> Knowledge {
        let ends_there = |batch: &Batch| !batch.grant.is_revoked() && batch.through == through;
        if self.known.has(after.into(), through.into()) {
            Knowledge::Counted
        } else if self.batches.iter().any(ends_there) {
            Knowledge::Awaited
        } else {
            Knowledge::News
        }
    }

    /// A commit was found in the lake, and all before it were. Nothing happens if it is this process's own. `None`: its
    /// cells cannot be had, so what was on show of it stays. Returns the cells that pass into the committed layer.
    pub fn found(
        &mut self,
        after: Position,
        through: Position,
        cells: Option<Vec<WindowCells>>,
        at_ms: i64,
    ) -> Option<Vec<WindowCells>> {
        let (from, to) = (after.into(), through.into());
        if self.known.has(from, to) {
            self.known.pass(to);
            return None;
        }
        // Some of it is shown already, and nobody can tell which.
        let cells = cells.filter(|_| !begins_before(after, self.shown_through));
        if self.held.is_none() {
            self.held = self.cut_by(from, to, cells.is_none());
        }
        self.known.pass(to);
        self.others_ms = Some(at_ms);
        let Some(held) = self.held.as_mut().filter(|held| held.overlaps(from, to)) else { return cells };
        match cells {
            Some(cells) => merge_windows(&mut held.recommitted, cells),
            None => held.is_incomplete = true,
        }
        self.settle()
    }

    /// What is on show from where somebody else's commit begins, if that ends within a batch or cannot be read: it
    /// cannot be told apart from that commit's records any more.
    fn cut_by(&self, after: Mark, through: Mark, is_lost: bool) -> Option<Held> {
        let shown = self.batches_shown();
        let overlaps = |batch: &Batch| batch.marks().0 < through && after < batch.marks().1;
        let first = shown.iter().position(|batch| overlaps(batch))?;
        let is_cut = shown.iter().any(|batch| batch.marks().0 < through && through < batch.marks().1);
        (is_lost || is_cut).then(|| {
            let mut cells = Vec::new();
            shown[first..].iter().for_each(|batch| merge_windows(&mut cells, Vec::clone(&batch.windows)));
            let end = shown.last().map_or(through, |last| last.marks().1);
            Held {
                after: shown[first].marks().0,
                through: end,
                shown: cells,
                recommitted: Vec::new(),
                is_incomplete: false,
            }
        })
    }

    /// When another process committed the newest of the shard, epoch ms; `None` if this one did.
    pub fn others_ms(&self) -> Option<i64> {
        self.others_ms
    }

    /// Nobody will commit any more of it.
    pub fn ended(&mut self) {
        self.others_ms = None;
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
        for batch in revoked {
            let (after, through) = batch.marks();
            if !self.is_counted(&batch) {
                continue;
            }
            let held = self.held.get_or_insert_with(|| Held {
                after,
                through: after,
                shown: Vec::new(),
                recommitted: Vec::new(),
                is_incomplete: false,
            });
            if held.through == after {
                held.through = through;
                merge_windows(&mut held.shown, Arc::unwrap_or_clone(batch.windows));
            }
        }
    }

    /// Ends the holding once what was committed and what is being read have come as far. Returns the cells that pass
    /// into the committed layer; the caller keeps lookers out until they are there.
    pub fn settle(&mut self) -> Option<Vec<WindowCells>> {
        let held = if self.is_caught_up() { self.held.take()? } else { return None };
        if held.is_incomplete {
            self.shown_through = Some(held.through);
            return Some(held.shown);
        }
        Some(held.recommitted)
    }

    fn is_caught_up(&self) -> bool {
        let Some(held) = &self.held else { return false };
        let mut end = self.known.reach(held.after);
        for batch in self.batches.iter().filter(|batch| !batch.grant.is_revoked()) {
            let (after, through) = batch.marks();
            if after == end {
                end = through;
            }
        }
        held.through <= end
    }

    /// The cells on show that are not in the committed layer, one entry a declared window each.
    pub fn shown(&self) -> impl Iterator<Item = &Vec<WindowCells>> {
        let held = self.held.as_ref();
        let batches = if held.is_some() { Vec::new() } else { self.batches_shown() };
        held.map(|held| &held.shown).into_iter().chain(batches.into_iter().map(|batch| &*batch.windows))
    }

    fn is_counted(&self, batch: &Batch) -> bool {
        let (after, through) = batch.marks();
        !begins_before(batch.after, self.shown_through) && !self.known.overlaps(after, through)
    }

    /// Of two readings that overlap only the longer one, and nothing that is shown already.
    fn batches_shown(&self) -> Vec<&Batch> {
        let (revoked, live): (Vec<&Batch>, Vec<&Batch>) =
            self.batches.iter().filter(|batch| self.is_counted(batch)).partition(|batch| batch.grant.is_revoked());
        match (revoked.last(), live.last()) {
            (Some(revoked_last), Some(live_last)) if revoked_last.marks().1 > live_last.marks().1 => revoked,
            (Some(_), None) => revoked,
            (Some(_) | None, Some(_)) | (None, None) => live,
        }
    }

    /// How many cells, and their estimated bytes.
    pub fn size(&self) -> (usize, usize) {
        let held = self.held.iter().flat_map(|held| held.shown.iter().chain(&held.recommitted));
        let windows = self.batches.iter().flat_map(|batch| batch.windows.iter()).chain(held);
        windows.fold((0, 0), |(cells, bytes), window| (cells + window.len(), bytes + window.bytes()))
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
        into.iter_mut().zip(from).for_each(|(into, from)| into.merge(from));
    }
}

/// How many batches, from the first, a commit through `through` covers. One that does not go beyond the one before it
/// was read a second time; it is of no commit, and is about to be discarded.
fn covered_by(batches: &VecDeque<Batch>, through: Mark) -> usize {
    let mut last = None;
    let covered = batches.iter().map(|batch| batch.marks().1).take_while(|end| {
        let repeats = last.replace(*end).is_some_and(|last| *end <= last);
        *end <= through && !repeats
    });
    covered.count()
}

/// Whether a batch that begins at `after` may hold records before `mark`.
fn begins_before(after: Position, mark: Option<Mark>) -> bool {
    mark.is_some_and(|mark| Mark::from(after) < mark)
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
                windows: Arc::default(),
            };
            ends.iter().map(batch).collect()
        };
        for (ends, covered) in
            [([5, 10, 15], 2), ([5, 10, 10], 2), ([5, 10, 5], 2), ([10, 10, 20], 1), ([11, 5, 10], 0)]
        {
            assert_eq!(covered_by(&batches(&ends), through(10).into()), covered, "{ends:?}");
        }
    }
}
