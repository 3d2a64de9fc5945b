//! The committed layer: cells of what is in the lake, as a cache with bounds of its own.
//!
//! The lake holds everything. Memory holds the newest starts of each window and as many ahead of the clock, and beyond a
//! number of bytes new keys, and those whose sketches grow, show as one folded `__other__`, counted. Partials and sealed rows never fold.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;

use super::cell::Cell;
use super::dropped::DroppedStarts;
use super::group::{Group, KeyValue};
use super::merge_cell;
use crate::metrics::StreamMetrics;

/// Cells by (window, start).
#[derive(Debug)]
pub struct Committed {
    /// By window: the oldest start that is wholly in memory, epoch us.
    since_us: Vec<AtomicI64>,
    /// By window: later ones that are not.
    dropped: Vec<DroppedStarts>,
    starts_max: Vec<usize>,
    /// By window: some of its starts had to go because of the bytes.
    crowded: Vec<AtomicBool>,
    starts: DashMap<(usize, i64), Start>,
    bytes: AtomicUsize,
    bytes_max: usize,
    version: AtomicU64,
    metrics: StreamMetrics,
}

#[derive(Debug, Default)]
struct Start {
    cells: HashMap<Vec<KeyValue>, Cell>,
    /// Some key was folded here. Any new one may be that one, and would show a part of its records only.
    folds: bool,
}

impl Start {
    /// Estimated, of its keys and cells.
    fn bytes(&self) -> usize {
        self.cells.iter().map(|(key, cell)| key_bytes(key) + cell.bytes()).sum()
    }

    fn is_keyless(&self) -> bool {
        self.cells.keys().all(Vec::is_empty)
    }
}

impl Committed {
    /// An empty layer, which keeps so many starts of each declared window, and folds keys beyond `bytes_max`.
    pub fn new(starts_max: Vec<usize>, bytes_max: usize, metrics: StreamMetrics) -> Self {
        let since_us = starts_max.iter().map(|_| AtomicI64::new(i64::MIN)).collect();
        let dropped = starts_max.iter().map(|_| DroppedStarts::default()).collect();
        let crowded = starts_max.iter().map(|_| AtomicBool::new(false)).collect();
        let (bytes, version) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { since_us, dropped, starts_max, crowded, starts: DashMap::new(), bytes, bytes_max, version, metrics }
    }

    /// Folds keys beyond so many bytes from now on.
    pub fn hold_at_most(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Starts before `since_us` are in the lake, but not wholly in memory.
    pub fn begin_at(&self, window: usize, since_us: i64) {
        self.since_us[window].store(since_us, Ordering::Relaxed);
    }

    /// What went does not come back.
    fn go_on_from(&self, window: usize, since_us: i64) {
        self.since_us[window].fetch_max(since_us, Ordering::Relaxed);
    }

    /// See [`Self::begin_at`].
    pub fn since_us(&self, window: usize) -> i64 {
        self.since_us[window].load(Ordering::Relaxed)
    }

    /// Whether all that is committed of these panes is in memory.
    pub fn is_whole(&self, window: usize, panes_us: Range<i64>) -> bool {
        panes_us.start >= self.since_us(window) && !self.dropped[window].are_in(panes_us)
    }

    /// Whether a start in this range was ahead of the clock when there was no room for it, or may have been.
    pub fn dropped_any(&self, window: usize, starts_us: Range<i64>) -> bool {
        self.dropped[window].are_in(starts_us)
    }

    /// Whether a cell of this group is kept: what went does not come back in part.
    pub fn is_wanted(&self, window: usize, group: &Group) -> bool {
        self.is_whole(window, group.start_us..group.start_us.saturating_add(1))
    }

    /// Adds a cell.
    pub fn add(&self, window: usize, group: &Group, cell: &Cell) {
        if !self.is_wanted(window, group) {
            return;
        }
        let mut start = self.starts.entry((window, group.start_us)).or_default();
        let Start { cells, folds } = &mut *start;
        if group.key.is_empty() {
            self.put(cells, &group.key, cell);
            return;
        }
        let known = cells.contains_key(&group.key);
        if !known && (*folds || self.is_full(group.bytes() + cell.bytes())) {
            *folds = true;
            self.metrics.live_folded(1);
            self.put(cells, &group.folded().key, cell);
            return;
        }
        let grows = self.put(cells, &group.key, cell);
        if known && grows && self.is_full(0) {
            *folds = true;
            self.metrics.live_folded(1);
            if let Some(grown) = cells.remove(&group.key) {
                self.bytes.fetch_sub(key_bytes(&group.key) + grown.bytes(), Ordering::Relaxed);
                self.put(cells, &group.folded().key, &grown);
            }
        }
    }

    /// Of a cell that is to be added later, and that would better not be kept until then: whether its key may be folded
    /// already. If so, the start folds what is new to it from now on.
    pub fn fold_from_now_on(&self, window: usize, group: &Group) -> bool {
        if group.key.is_empty() {
            return false;
        }
        let mut start = self.starts.entry((window, group.start_us)).or_default();
        let known = start.cells.contains_key(&group.key);
        start.folds |= !known;
        !known
    }

    fn is_full(&self, more_bytes: usize) -> bool {
        self.bytes.load(Ordering::Relaxed) + more_bytes > self.bytes_max
    }

    /// Merges a cell and keeps account of the bytes. Says whether there are more now.
    fn put(&self, cells: &mut HashMap<Vec<KeyValue>, Cell>, key: &[KeyValue], cell: &Cell) -> bool {
        let bytes =
            |cells: &HashMap<Vec<KeyValue>, Cell>| cells.get(key).map_or(0, |cell| key_bytes(key) + cell.bytes());
        let before = bytes(cells);
        merge_cell(cells, key, cell);
        let after = bytes(cells);
        self.bytes.fetch_add(after, Ordering::Relaxed);
        self.bytes.fetch_sub(before, Ordering::Relaxed);
        after > before
    }

    /// Calls `with` for every start of a window, in no order.
    pub fn each_start(&self, window: usize, mut with: impl FnMut(i64, &HashMap<Vec<KeyValue>, Cell>)) {
        for entry in self.starts.iter().filter(|entry| entry.key().0 == window) {
            with(entry.key().1, &entry.value().cells);
        }
    }

    /// The newest of the rows table's versions that this layer has.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// See [`Self::version`].
    pub fn set_version(&self, version: u64) {
        self.version.fetch_max(version, Ordering::Relaxed);
    }

    /// Drops all of a window. It stays in the lake.
    pub fn forget(&self, window: usize) {
        let starts: Vec<i64> =
            self.starts.iter().filter(|entry| entry.key().0 == window).map(|entry| entry.key().1).collect();
        starts.into_iter().for_each(|start_us| self.drop_start(window, start_us));
    }

    fn drop_start(&self, window: usize, start_us: i64) {
        if let Some((_, start)) = self.starts.remove(&(window, start_us)) {
            self.bytes.fetch_sub(start.bytes(), Ordering::Relaxed);
        }
    }

    /// Drops starts of every window that has too many: the oldest of those that have begun by `now_us`, and of those
    /// ahead of it, for which there is as much room again, the farthest. They stay in the lake. Returns the windows of
    /// which starts ahead were dropped for the first time.
    pub fn evict(&self, now_us: i64) -> Vec<usize> {
        let mut first_drops = Vec::new();
        for (window, starts_max) in self.starts_max.iter().enumerate() {
            let mut starts: Vec<i64> =
                self.starts.iter().filter(|entry| entry.key().0 == window).map(|entry| entry.key().1).collect();
            starts.sort_unstable();
            let begun = starts.partition_point(|start_us| *start_us <= now_us);
            let ahead = starts.split_off(starts.len().min(begun + starts_max));
            let old = begun.saturating_sub(*starts_max);
            // A straggler must not bring back an evicted start as if that were all of it.
            if old > 0 {
                self.go_on_from(window, starts[old]);
            }
            if !ahead.is_empty() && self.dropped[window].add(&ahead, self.since_us(window)) {
                first_drops.push(window);
            }
            for start_us in starts[..old].iter().chain(&ahead) {
                self.drop_start(window, *start_us);
            }
            if self.is_full(0) {
                self.crowd_out(window);
            }
        }
        first_drops
    }

    /// A window without keys has none to fold. What its cells take beyond its share of the bytes costs its oldest starts.
    fn crowd_out(&self, window: usize) {
        let of_window = self.starts.iter().filter(|entry| entry.key().0 == window && entry.value().is_keyless());
        let mut starts: Vec<(i64, usize)> = of_window.map(|entry| (entry.key().1, entry.value().bytes())).collect();
        starts.sort_unstable();
        let share = self.bytes_max / self.starts_max.len();
        let mut bytes: usize = starts.iter().map(|(_, bytes)| bytes).sum();
        for pair in starts.windows(2) {
            let [(oldest_us, of_oldest), (next_us, _)] = pair else { continue };
            if bytes <= share || !self.is_full(0) {
                break;
            }
            self.crowded[window].store(true, Ordering::Relaxed);
            self.go_on_from(window, *next_us);
            self.drop_start(window, *oldest_us);
            bytes -= of_oldest;
        }
    }

    /// Whether starts of this window had to go because they took too many bytes.
    pub fn is_crowded(&self, window: usize) -> bool {
        self.crowded[window].load(Ordering::Relaxed)
    }

    /// Tells the metrics how large the layer is.
    pub fn report_sizes(&self) {
        let cells = self.starts.iter().map(|entry| entry.value().cells.len()).sum();
        self.metrics.live("committed", cells, self.bytes.load(Ordering::Relaxed));
    }
}

/// Estimated bytes of a key.
fn key_bytes(key: &[KeyValue]) -> usize {
    size_of::<Group>() + key.iter().map(KeyValue::bytes).sum::<usize>()
}

impl Group {
    /// Estimated bytes of heap and stack.
    pub fn bytes(&self) -> usize {
        key_bytes(&self.key)
    }

    /// The one of this start into which others are folded.
    pub fn folded(&self) -> Self {
        Self { start_us: self.start_us, key: vec![KeyValue::Other; self.key.len()] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::ColumnType;
    use crate::contract::window::{Function, MeasurePlan};
    use crate::metrics::Registry;

    fn committed(bytes_max: usize) -> Committed {
        Committed::new(vec![120], bytes_max, Registry::new().unwrap().stream("orders"))
    }

    /// A cell with these distinct values.
    fn cell(values: std::ops::Range<i64>) -> Cell {
        let plan = MeasurePlan { name: "d".to_owned(), function: Function::Distinct(0, ColumnType::Long) };
        let mut cell = Cell::empty(&[plan]);
        for value in values {
            cell.records += 1;
            cell.measures[0].observe_integer(value);
        }
        cell
    }

    fn group(start_us: i64, key: &str) -> Group {
        Group { start_us, key: vec![KeyValue::Text(key.into())] }
    }

    fn records(committed: &Committed) -> Vec<(i64, KeyValue, u64)> {
        let mut records = Vec::new();
        committed.each_start(0, |start_us, cells| {
            records.extend(cells.iter().map(|(key, cell)| (start_us, key[0].clone(), cell.records)));
        });
        records.sort();
        records
    }

    #[test]
    fn sketches_are_charged_as_they_grow_and_what_is_evicted_is_taken_off() {
        let committed = committed(usize::MAX);
        committed.add(0, &group(0, "x"), &cell(0..1));
        let small = committed.bytes.load(Ordering::Relaxed);
        committed.add(0, &group(0, "x"), &cell(1..5_000));
        let grown = committed.bytes.load(Ordering::Relaxed);
        assert!(grown >= small + 4_000, "{small} {grown}");
        for start in 1..=120 {
            committed.add(0, &Group { start_us: start, key: Vec::new() }, &cell(0..0));
        }
        committed.evict(i64::MAX);
        let left: usize = 120 * (key_bytes(&[]) + cell(0..0).bytes());
        assert_eq!(committed.bytes.load(Ordering::Relaxed), left);
    }

    #[test]
    fn a_window_without_keys_gives_up_its_oldest_starts_beyond_its_share_of_the_bytes() {
        let committed = Committed::new(vec![120, 120], 40_000, Registry::new().unwrap().stream("orders"));
        for start_us in 0..20 {
            committed.add(0, &Group { start_us, key: Vec::new() }, &cell(0..1_000));
            committed.add(1, &Group { start_us, key: Vec::new() }, &cell(0..1));
        }
        committed.evict(i64::MAX);
        assert!(committed.bytes.load(Ordering::Relaxed) <= 40_000);
        let starts = |window: usize| {
            let mut starts = Vec::new();
            committed.each_start(window, |start_us, _| starts.push(start_us));
            starts.sort_unstable();
            starts
        };
        let kept = starts(0);
        assert!(kept.len() > 2 && kept.len() < 20 && kept.last() == Some(&19), "{kept:?}");
        assert_eq!(committed.since_us(0), kept[0]);
        assert_eq!((committed.is_crowded(0), committed.is_crowded(1), starts(1).len()), (true, false, 20));
        committed.add(0, &Group { start_us: 0, key: Vec::new() }, &cell(0..1));
        assert_eq!(starts(0), kept, "what went does not come back in part");
    }

    #[test]
    fn keys_whose_sketches_outgrow_memory_fold_and_never_come_back_with_a_part_of_their_records() {
        let text = |text: &str| KeyValue::Text(text.into());
        let committed = committed(4_000);
        committed.add(0, &group(0, "x"), &cell(0..3));
        committed.add(0, &group(0, "y"), &cell(0..2));
        committed.add(0, &group(7, "z"), &cell(0..1));
        committed.add(0, &group(0, "y"), &cell(0..5_000));
        committed.add(0, &group(0, "y"), &cell(5_000..10_000));
        assert_eq!(records(&committed), [(0, text("x"), 3), (0, KeyValue::Other, 10_002), (7, text("z"), 1)]);
        committed.add(0, &group(7, "z"), &cell(0..1));
        assert_eq!(records(&committed)[2], (7, text("z"), 2), "what does not grow stays");
    }
}
