//! The cells of whole windows, lowest first, from files of panes.
//!
//! Where windows do not overlap, panes are windows, and merging is all there is to it. Where they do, each window is
//! added up from its panes, key by key, in memory that is bounded: neighbours share most of their panes, which are read
//! once for as many of them as there is room for. When a single window's keys are too many, the largest of them are left
//! for another pass over its panes, however many passes that takes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use deltalake::arrow::array::RecordBatch;

use super::parts::Parts;
use super::tail::Tail;
use crate::contract::WindowPlan;
use crate::contract::window::WINDOW_START;
use crate::lake::merge::{Disordered, MergeError, MergePlan, Mergeable, Starts};
use crate::limits::{SEAL_WINDOW_BYTES, SEAL_WINDOWS_MAX};
use crate::window::merging::{Cell, Group, KeyValue, Undecodable, decode_groups};

/// The panes of the windows that begin within `starts`.
pub(super) fn panes_of(window: &WindowPlan, starts: Starts) -> Starts {
    let to_us = starts.to_us.saturating_sub(window.pane_us).saturating_add(window.every_us);
    Starts { from_us: starts.from_us, to_us }
}

/// The windows that hold the pane that begins then.
pub(super) fn windows_of(window: &WindowPlan, pane_us: i64) -> Starts {
    let from_us = pane_us.saturating_sub(window.every_us).saturating_add(window.pane_us);
    Starts { from_us, to_us: pane_us.saturating_add(window.pane_us) }
}

/// See the file's head.
pub(super) enum Windows<'a> {
    Apart(Parts<'a, Cell>),
    Overlapping(Overlapping<'a>),
}

/// All panes of some neighbouring windows.
struct Together {
    /// The first and the last of these windows.
    starts_us: RangeInclusive<i64>,
    panes: BTreeMap<i64, Vec<(Vec<KeyValue>, Cell)>>,
}

/// Windows that overlap.
pub(super) struct Overlapping<'a> {
    plan: MergePlan<'a>,
    tail: &'a Tail,
    disordered: &'a Disordered,
    /// Windows to be made.
    starts: VecDeque<i64>,
    together: Option<Together>,
    /// Windows that begin before this have too many keys to be read together.
    apart_to_us: i64,
    ready: std::vec::IntoIter<(Group, Cell)>,
    /// The window that is being made, and the first of its keys that are left.
    rest: Option<(i64, Vec<KeyValue>)>,
}

impl<'a> Windows<'a> {
    /// Those that begin within `plan.starts`, or within less if they are very many: the second is the start before
    /// which none is left out.
    pub async fn open(
        plan: MergePlan<'a>,
        tail: &'a Tail,
        disordered: &'a Disordered,
    ) -> Result<(Self, i64), MergeError> {
        if plan.window.panes() == 1 {
            return Ok((Self::Apart(Parts::open(plan, tail, disordered).await?), plan.starts.to_us));
        }
        let (starts, to_us) = starts_with_records(plan, tail, disordered).await?;
        let (ready, rest) = (Vec::new().into_iter(), None);
        let (together, apart_to_us) = (None, i64::MIN);
        let windows = Overlapping { plan, tail, disordered, starts, together, apart_to_us, ready, rest };
        Ok((Self::Overlapping(windows), to_us))
    }

    /// The next window and key; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<(Group, Cell)>, MergeError> {
        match self {
            Self::Apart(parts) => parts.next().await,
            Self::Overlapping(windows) => windows.next().await,
        }
    }
}

impl Overlapping<'_> {
    async fn next(&mut self) -> Result<Option<(Group, Cell)>, MergeError> {
        loop {
            if let Some(made) = self.ready.next() {
                return Ok(Some(made));
            }
            let (start_us, first) = match self.rest.take() {
                Some((start_us, first)) => (start_us, Some(first)),
                None => match self.starts.pop_front() {
                    Some(start_us) => (start_us, None),
                    None => return Ok(None),
                },
            };
            if first.is_none() {
                self.read_together(start_us).await?;
            }
            match self.together.as_ref().filter(|_| first.is_none()) {
                Some(together) => self.ready = together.add_up(start_us, self.plan.window).into_iter(),
                None => self.add_up(start_us, first).await?,
            }
        }
    }

    /// Has the panes of this window in memory, with those of the windows that share some with it: if there are any, and
    /// if they have room.
    async fn read_together(&mut self, start_us: i64) -> Result<(), MergeError> {
        if self.together.as_ref().is_some_and(|together| together.starts_us.contains(&start_us)) {
            return Ok(());
        }
        self.together = None;
        let every_us = self.plan.window.every_us;
        let neighbours = self.starts.iter().take_while(|next_us| **next_us < start_us.saturating_add(every_us));
        let Some(last_us) = neighbours.last().copied().filter(|_| start_us >= self.apart_to_us) else { return Ok(()) };
        let starts = Starts { from_us: start_us, to_us: last_us.saturating_add(every_us) };
        let plan = MergePlan { starts, ..self.plan };
        let mut merge = Parts::<Cell>::open(plan, self.tail, self.disordered).await?;
        let (mut panes, mut bytes): (BTreeMap<i64, Vec<_>>, usize) = (BTreeMap::new(), 0);
        while let Some((group, cell)) = merge.next().await? {
            bytes += group.bytes() + cell.bytes();
            // What a window adds up to has as much at most.
            if bytes > SEAL_WINDOW_BYTES / 2 {
                self.apart_to_us = last_us;
                return Ok(());
            }
            panes.entry(group.start_us).or_default().push((group.key, cell));
        }
        self.together = Some(Together { starts_us: start_us..=last_us, panes });
        Ok(())
    }

    /// One window, from this key on, as far as memory goes.
    async fn add_up(&mut self, start_us: i64, first: Option<Vec<KeyValue>>) -> Result<(), MergeError> {
        let starts = Starts { from_us: start_us, to_us: start_us.saturating_add(self.plan.window.every_us) };
        let plan = MergePlan { starts, ..self.plan };
        let mut panes = Parts::<Cell>::open(plan, self.tail, self.disordered).await?;
        let mut cells: BTreeMap<Vec<KeyValue>, Cell> = BTreeMap::new();
        let (mut bytes, mut end): (usize, Option<Vec<KeyValue>>) = (0, None);
        while let Some((group, cell)) = panes.next().await? {
            let is_done = first.as_ref().is_some_and(|first| group.key < *first);
            if is_done || end.as_ref().is_some_and(|end| group.key >= *end) {
                continue;
            }
            match cells.get_mut(&group.key) {
                Some(mine) => {
                    let before = mine.bytes();
                    mine.merge(&cell);
                    bytes = (bytes + mine.bytes()).saturating_sub(before);
                }
                None => {
                    bytes += group.bytes() + cell.bytes();
                    cells.insert(group.key, cell);
                }
            }
            while bytes > SEAL_WINDOW_BYTES
                && cells.len() > 1
                && let Some((key, cell)) = cells.pop_last()
            {
                let group = Group { start_us, key };
                bytes = bytes.saturating_sub(group.bytes() + cell.bytes());
                end = Some(group.key);
            }
        }
        let made = cells.into_iter().map(|(key, cell)| (Group { start_us, key }, cell));
        self.ready = made.collect::<Vec<_>>().into_iter();
        self.rest = end.map(|key| (start_us, key));
        Ok(())
    }
}

impl Together {
    fn add_up(&self, start_us: i64, window: &WindowPlan) -> Vec<(Group, Cell)> {
        let mut cells: BTreeMap<&[KeyValue], Cell> = BTreeMap::new();
        for (key, cell) in
            self.panes.range(start_us..start_us.saturating_add(window.every_us)).flat_map(|(_, pane)| pane)
        {
            match cells.get_mut(key.as_slice()) {
                Some(mine) => mine.merge(cell),
                None => {
                    cells.insert(key, cell.clone());
                }
            }
        }
        cells.into_iter().map(|(key, cell)| (Group { start_us, key: key.to_vec() }, cell)).collect()
    }
}

// === Which windows ===

/// A row of which only the start matters.
struct Seen;

impl Mergeable for Seen {
    fn columns(window: &WindowPlan) -> Option<Vec<&str>> {
        Some(window.keys.iter().map(|key| key.name.as_str()).chain([WINDOW_START]).collect())
    }

    fn decode(window: &WindowPlan, rows: &RecordBatch) -> Result<Vec<(Group, Self)>, Undecodable> {
        Ok(decode_groups(window, rows)?.into_iter().map(|group| (group, Self)).collect())
    }

    fn add(&mut self, _: &Self) {}

    fn bytes(&self) -> usize {
        0
    }
}

/// The windows that hold a pane with records, and the start before which there are no others.
async fn starts_with_records(
    plan: MergePlan<'_>,
    tail: &Tail,
    disordered: &Disordered,
) -> Result<(VecDeque<i64>, i64), MergeError> {
    let (window, wanted) = (plan.window, plan.starts);
    let starts = panes_of(window, wanted);
    let mut panes = Parts::<Seen>::open(MergePlan { starts, ..plan }, tail, disordered).await?;
    let (mut found, mut last): (BTreeSet<i64>, Option<i64>) = (BTreeSet::new(), None);
    while let Some((group, _)) = panes.next().await? {
        let pane_us = group.start_us;
        if last == Some(pane_us) {
            continue;
        }
        if let Some(last_us) = last.filter(|_| found.len() > SEAL_WINDOWS_MAX) {
            // Whatever begins no later than a pane that was looked at is known.
            return Ok((found.into_iter().collect(), last_us.saturating_add(window.pane_us).min(wanted.to_us)));
        }
        last = Some(pane_us);
        let Starts { from_us, to_us } = windows_of(window, pane_us);
        let starts = std::iter::successors(Some(from_us), |start_us| start_us.checked_add(window.pane_us));
        found.extend(starts.take_while(|start_us| *start_us < to_us).filter(|start_us| wanted.hold(*start_us)));
    }
    Ok((found.into_iter().collect(), wanted.to_us))
}
