//! The live view beside other processes that commit the same shard: every record at most once, and for good.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::tests::{after, batch, order, range, windows};
use super::*;
use crate::limits::LIVE_OTHERS_CELLS_BYTES_MAX;
use crate::record::CleanBatch;

const RECORDS: u32 = 400;

/// Records (from, through] of a shard, each with a key of its own.
fn read(windows: &StreamWindows, shard: &str, from: u32, through: u32) -> CleanBatch {
    let name = |number: u32| -> &'static str { Box::leak(number.to_string().into_boxed_str()) };
    let orders: Vec<_> = (from..through).map(|number| order(name(number), number as i32, 7)).collect();
    batch(windows, range(shard, from, through), &orders)
}

fn commit(version: u64, shard: &str, from: u32, through: u32) -> FoundCommit {
    FoundCommit { version, at_ms: version as i64 * 1000, ranges: vec![range(shard, from, through)], ended: Vec::new() }
}

/// What another process stages with its commit of these records.
fn staged(windows: &StreamWindows, shard: &str, from: u32, through: u32) -> OthersCells {
    staged_beside(windows, shard, from, through, OthersCells::default())
}

fn staged_beside(windows: &StreamWindows, shard: &str, from: u32, through: u32, mut cells: OthersCells) -> OthersCells {
    let theirs = super::tests::windows();
    theirs.observe(&read(&theirs, shard, from, through)).unwrap();
    for (window, rows) in theirs.partials(&[range(shard, from, through)]).into_iter().enumerate() {
        windows.decode(window, &rows, &mut cells).unwrap();
    }
    cells
}

fn live(windows: &StreamWindows) -> LiveWindow {
    let filter = LiveFilter { window: Some("by_place".to_owned()), ..LiveFilter::default() };
    windows.live(&filter).remove(0)
}

/// The records on show. Each is there once.
fn shown(windows: &StreamWindows) -> BTreeSet<u32> {
    let rows = live(windows).starts.into_iter().flat_map(|start| start.rows);
    let number = |row: LiveRow| {
        assert_eq!(row.records, 1, "{:?} is counted {} times", row.key, row.records);
        row.key[0].as_str().unwrap().parse().unwrap()
    };
    rows.map(number).collect()
}

fn fence(windows: &StreamWindows, shard: &str) {
    if let Some(cells) = windows.pending.get_mut(&ShardId::new(shard)) {
        cells.revoke_all();
    }
    windows.discard(&ShardId::new(shard));
}

/// A shard that this process reads, that others commit as well, and the lake's log of it.
struct World {
    windows: StreamWindows,
    /// What is committed, by whomever.
    ledger: u32,
    log: Vec<(u32, u32)>,
    found: usize,
    /// Where this process's reading began, and where its batches end.
    base: u32,
    ends: Vec<u32>,
    lost: bool,
}

impl World {
    fn new() -> Self {
        let (windows, ends) = (windows(), Vec::new());
        windows.pending.entry(ShardId::new("a")).or_default().begin_at(after(0));
        Self { windows, ledger: 0, log: Vec::new(), found: 0, base: 0, ends, lost: false }
    }

    fn read(&mut self, records: u32) {
        let from = self.ends.last().copied().unwrap_or(self.base);
        self.windows.observe(&read(&self.windows, "a", from, from + records)).unwrap();
        self.ends.push(from + records);
    }

    fn fence(&mut self) {
        fence(&self.windows, "a");
        self.ends.clear();
        self.base = self.ledger;
    }

    /// Of a batch's end. The commit of a process that was overtaken does not land, and fences it.
    fn commit(&mut self, through: u32, found_first: bool) {
        if self.base != self.ledger {
            self.fence();
            return;
        }
        let partials = self.windows.partials(&[range("a", self.base, through)]);
        let records: usize = partials[0].num_rows();
        assert_eq!(records as u32, through - self.base, "the view has taken something off the partials");
        self.log.push((self.base, through));
        self.ledger = through;
        while found_first && self.found < self.log.len() {
            self.find(false);
        }
        self.windows.committed(&[range("a", self.base, through)], self.log.len() as u64);
        self.ends.retain(|end| *end > through);
        self.base = through;
    }

    fn others(&mut self, records: u32) {
        self.log.push((self.ledger, self.ledger + records));
        self.ledger += records;
    }

    fn find(&mut self, lost: bool) {
        let Some((from, through)) = self.log.get(self.found).copied() else { return };
        self.found += 1;
        let found = commit(self.found as u64, "a", from, through);
        let is_known = self.windows.knowledge(&found.ranges) == Knowledge::Counted;
        self.lost |= lost && !is_known;
        let cells = (!lost).then(|| staged(&self.windows, "a", from, through));
        self.windows.found(&found, cells);
        self.windows.found(&found, Some(staged(&self.windows, "a", from, through)));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Read(u32),
    Commit(prop::sample::Index, bool),
    Fence,
    Others(u32),
    Find { lost: bool },
}

fn steps(losses: u32) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (1u32..5).prop_map(Step::Read),
        3 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(index, first)| Step::Commit(index, first)),
        1 => Just(Step::Fence),
        2 => (1u32..7).prop_map(Step::Others),
        4 => (0u32..10).prop_map(move |chance| Step::Find { lost: chance < losses }),
    ];
    prop::collection::vec(step, 1..50)
}

fn whatever_happens(steps: Vec<Step>) {
    let mut world = World::new();
    let mut before = BTreeSet::new();
    for step in steps {
        match step.clone() {
            Step::Read(records) => world.read(records),
            Step::Commit(index, first) if !world.ends.is_empty() => world.commit(*index.get(&world.ends), first),
            Step::Commit(..) => {}
            Step::Fence => world.fence(),
            Step::Others(records) => world.others(records),
            Step::Find { lost } => world.find(lost),
        }
        let now = shown(&world.windows);
        assert!(before.is_subset(&now), "{step:?} took {:?} off the view", before.difference(&now));
        before = now;
    }
    // In the end somebody reads on beyond all that was ever on show, and everything is found.
    let read = world.ends.last().copied().unwrap_or_default();
    let end = before.last().map_or(0, |last| last + 1).max(world.ledger).max(read) + 1;
    assert!(end < RECORDS);
    world.others(end - world.ledger);
    while world.found < world.log.len() {
        world.find(false);
    }
    let now = shown(&world.windows);
    assert!(before.is_subset(&now), "the last finds took {:?} off the view", before.difference(&now));
    if !world.lost {
        assert_eq!(now, (0..end).collect(), "everything once");
    }
}

proptest! {
    #[test]
    fn whoever_commits_and_whenever_it_is_found_every_record_is_shown_once_and_for_good(steps in steps(0)) {
        whatever_happens(steps);
    }

    #[test]
    fn commits_that_cannot_be_read_take_nothing_off_the_view_and_count_nothing_twice(steps in steps(3)) {
        whatever_happens(steps);
    }
}

#[test]
fn a_shard_that_another_process_carried_on_loses_nothing_it_showed_and_misses_nothing_of_it() {
    for committed in [0, 4] {
        let mut world = World::new();
        world.read(4);
        if committed > 0 {
            world.commit(4, false);
        }
        world.read(6);
        world.others(8 - committed);
        world.fence();
        let through = world.ends.last().copied().unwrap_or(world.base);
        assert_eq!((through, shown(&world.windows).len()), (8, 10));
        world.read(1);
        world.read(3);
        assert_eq!(shown(&world.windows).len(), 10, "what lies between is not found yet");
        world.find(false);
        world.find(false);
        assert_eq!(shown(&world.windows), (0..12).collect());
        world.commit(12, false);
        assert_eq!(shown(&world.windows), (0..12).collect());
    }
}

#[test]
fn what_a_replay_recovers_is_added_though_nobody_here_ever_read_its_shard() {
    let windows = windows();
    let shard = ShardId::of_replay(1);
    windows.observe(&read(&windows, "a", 0, 3)).unwrap();
    windows.found(&commit(1, shard.as_str(), 10, 14), Some(staged(&windows, shard.as_str(), 10, 14)));
    assert_eq!(shown(&windows), (0..3).chain(10..14).collect());
    assert_eq!(live(&windows).as_of_ms, None, "it is no shard of the stream");
}

#[test]
fn the_view_says_as_of_when_it_has_what_others_read() {
    let windows = windows();
    let as_of_ms = || live(&windows).as_of_ms;
    windows.observe(&read(&windows, "a", 0, 3)).unwrap();
    assert_eq!(as_of_ms(), None);
    windows.found(&commit(4, "b", 0, 2), Some(staged(&windows, "b", 0, 2)));
    windows.found(&commit(6, "c", 0, 2), Some(staged(&windows, "c", 0, 2)));
    assert_eq!((as_of_ms(), live(&windows).committed_version), (Some(4_000), 6));
    windows.committed(&[range("b", 2, 5)], 7);
    assert_eq!(as_of_ms(), Some(6_000), "this process has taken the other shard up");
    windows.looked(Some(5_500));
    assert_eq!(as_of_ms(), Some(5_500));
    windows.looked(None);
    windows.found(&FoundCommit { ended: vec![ShardId::new("c")], ranges: Vec::new(), ..commit(8, "c", 2, 2) }, None);
    assert_eq!(as_of_ms(), None, "nothing comes after it");
}

#[test]
fn a_commit_of_which_one_shard_is_told_and_the_next_is_about_to_be_is_still_awaited() {
    let windows = windows();
    windows.observe(&read(&windows, "a", 0, 3)).unwrap();
    windows.observe(&read(&windows, "b", 0, 2)).unwrap();
    let ranges = [range("a", 0, 3), range("b", 0, 2)];
    assert_eq!(windows.knowledge(&ranges), Knowledge::Awaited);
    windows.committed(&ranges[..1], 1);
    assert_eq!(windows.knowledge(&ranges), Knowledge::Awaited);
    windows.committed(&ranges[1..], 1);
    assert_eq!(windows.knowledge(&ranges), Knowledge::Counted);
    assert_eq!(windows.knowledge(&[range("a", 3, 5)]), Knowledge::News);
    assert_eq!(windows.knowledge(&[]), Knowledge::Counted, "it moves nothing");
}

#[test]
fn starts_that_are_no_longer_shown_are_no_part_of_a_huge_commit() {
    let windows = windows();
    let eighth_us = 8 * 60_000_000;
    for window in 0..windows.count() {
        windows.restore_from(window, eighth_us);
    }
    let mut full = OthersCells::default();
    full.bytes = LIVE_OTHERS_CELLS_BYTES_MAX + 1;
    // Of the seventh minute.
    let theirs = staged_beside(&windows, "b", 1, 4, full);
    assert_eq!(theirs.bytes, LIVE_OTHERS_CELLS_BYTES_MAX + 1);
    windows.found(&commit(2, "b", 1, 4), Some(theirs));
    assert_eq!((live(&windows).starts.len(), windows.live_since_us(0)), (0, eighth_us));
}

#[test]
fn keys_of_a_huge_commit_fold_unless_they_are_on_show_and_never_show_a_part() {
    let windows = windows();
    let rows = || {
        let rows = live(&windows).starts.into_iter().flat_map(|start| start.rows);
        rows.map(|row| (row.key[0].as_str().unwrap().to_owned(), row.records)).collect::<Vec<_>>()
    };
    let named = |rows: &[(&str, u64)]| rows.iter().map(|(key, records)| ((*key).to_owned(), *records)).collect();
    let commit_ours = |from, through| {
        windows.observe(&read(&windows, "a", from, through)).unwrap();
        windows.committed(&[range("a", from, through)], 1);
    };
    commit_ours(1, 2);
    let mut full = OthersCells::default();
    full.bytes = LIVE_OTHERS_CELLS_BYTES_MAX + 1;
    let theirs = staged_beside(&windows, "b", 1, 4, full);
    windows.found(&commit(2, "b", 1, 4), Some(theirs));
    let sorted = |mut rows: Vec<(String, u64)>| {
        rows.sort();
        rows
    };
    assert_eq!(sorted(rows()), sorted(named(&[("1", 2), ("__other__", 2)])));
    commit_ours(2, 3);
    assert_eq!(sorted(rows()), sorted(named(&[("1", 2), ("__other__", 3)])), "2 is folded already");
}
