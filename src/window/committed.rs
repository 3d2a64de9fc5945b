//! The committed layer: cells of what is in the lake, as a cache with bounds of its own.
//!
//! The lake holds everything. Memory holds the newest starts of each window, and beyond a number of bytes new keys
//! show as one folded `__other__`, counted. Partials and sealed rows never fold.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;

use super::cell::Cell;
use super::group::{Group, KeyValue};
use super::merge_cell;
use crate::limits::{LIVE_BYTES_MAX, LIVE_WINDOWS_MAX};
use crate::metrics::StreamMetrics;

/// Cells by (window, start).
#[derive(Debug)]
pub struct Committed {
    /// By window: the oldest start that is wholly in memory, epoch us.
    since_us: Vec<AtomicI64>,
    starts: DashMap<(usize, i64), HashMap<Vec<KeyValue>, Cell>>,
    bytes: AtomicUsize,
    version: AtomicU64,
    metrics: StreamMetrics,
}

impl Committed {
    /// An empty layer for this many declared windows.
    pub fn new(windows: usize, metrics: StreamMetrics) -> Self {
        let since_us = (0..windows).map(|_| AtomicI64::new(i64::MIN)).collect();
        Self { since_us, starts: DashMap::new(), bytes: AtomicUsize::new(0), version: AtomicU64::new(0), metrics }
    }

    /// Starts before `since_us` are in the lake, but not wholly in memory.
    pub fn begin_at(&self, window: usize, since_us: i64) {
        self.since_us[window].store(since_us, Ordering::Relaxed);
    }

    /// See [`Self::begin_at`].
    pub fn since_us(&self, window: usize) -> i64 {
        self.since_us[window].load(Ordering::Relaxed)
    }

    /// Adds a cell.
    pub fn add(&self, window: usize, group: Group, cell: &Cell) {
        if group.start_us < self.since_us(window) {
            return;
        }
        let mut cells = self.starts.entry((window, group.start_us)).or_default();
        if cells.contains_key(&group.key) {
            merge_cell(&mut cells, &group.key, cell);
            return;
        }
        let bytes = group.bytes() + cell.bytes();
        let full = self.bytes.load(Ordering::Relaxed) + bytes > LIVE_BYTES_MAX;
        if full && !group.key.is_empty() {
            self.metrics.live_folded(1);
            merge_cell(&mut cells, &vec![KeyValue::Other; group.key.len()], cell);
        } else {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            merge_cell(&mut cells, &group.key, cell);
        }
    }

    /// Calls `with` for every start of a window, in no order.
    pub fn each_start(&self, window: usize, mut with: impl FnMut(i64, &HashMap<Vec<KeyValue>, Cell>)) {
        for entry in self.starts.iter().filter(|entry| entry.key().0 == window) {
            with(entry.key().1, entry.value());
        }
    }

    /// The rows table's version that this layer stands for.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// See [`Self::version`].
    pub fn set_version(&self, version: u64) {
        self.version.store(version, Ordering::Relaxed);
    }

    /// Drops the oldest starts of every window that has too many. They stay in the lake.
    pub fn evict(&self) {
        for window in 0..self.since_us.len() {
            let mut starts: Vec<i64> =
                self.starts.iter().filter(|entry| entry.key().0 == window).map(|entry| entry.key().1).collect();
            starts.sort_unstable();
            let surplus = starts.len().saturating_sub(LIVE_WINDOWS_MAX);
            if surplus > 0 {
                // A straggler must not bring back an evicted start as if that were all of it.
                self.begin_at(window, starts[surplus]);
            }
            for start in &starts[..surplus] {
                if let Some((_, cells)) = self.starts.remove(&(window, *start)) {
                    let bytes: usize = cells.iter().map(|(key, cell)| key_bytes(key) + cell.bytes()).sum();
                    // A folded key was never counted, so the sum may exceed what was.
                    self.bytes
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| Some(held.saturating_sub(bytes)))
                        .ok();
                }
            }
        }
    }

    /// Tells the metrics how large the layer is.
    pub fn report_sizes(&self) {
        let cells = self.starts.iter().map(|entry| entry.value().len()).sum();
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
}
