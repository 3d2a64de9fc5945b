//! Sealed history: the newest sealed windows as their tables have them, for people who look back.
//!
//! A copy of the end of each table and nobody's source: it is read from the lake, so that it does not matter which
//! process sealed, nor when this one started. Of a key the last revision counts. It is bounded by starts, by keys of
//! each start and by bytes; what goes first is the oldest start, and of a start its smallest keys, which stay counted.

mod view;

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value;

use super::StreamWindows;
use super::cell::Cell;
use super::group::{Group, KeyValue};
use super::json::measure_json;
use crate::contract::WindowPlan;
use crate::limits::{SEALED_BYTES_MAX, SEALED_KEYS_MAX, SEALED_STARTS_MAX};

pub use view::{SealedRow, SealedStart, SealedWindow};

/// A row of a window's table.
#[derive(Debug, Clone)]
pub struct SealedCell {
    /// Its numbers.
    pub cell: Cell,
    /// 0 for the first row of a key.
    pub revision: i64,
    /// Whether no record is missing because the window's definition is younger than its start.
    pub complete: bool,
}

/// Rows of some starts, as far as they are kept.
#[derive(Debug)]
pub struct SealedRows {
    starts: BTreeMap<i64, Start>,
    bytes_max: usize,
    keys_max: usize,
    /// The last start that was not kept, epoch us.
    gone_us: Option<i64>,
}

/// One start of a window.
#[derive(Debug, Clone)]
struct Start {
    records: u64,
    keys: usize,
    revision: i64,
    complete: bool,
    /// The largest.
    rows: Vec<Row>,
    bytes: usize,
    /// Rows of no more records than this are not among the largest.
    floor: Option<u64>,
}

#[derive(Debug, Clone)]
struct Row {
    key: Vec<KeyValue>,
    measures: Vec<Value>,
    records: u64,
    revision: i64,
    bytes: usize,
}

/// What is known of one window's table.
#[derive(Debug)]
pub(super) struct History {
    rows: SealedRows,
    /// Windows that end at or before this are sealed, epoch ms.
    through_ms: Option<i64>,
    /// Sealed windows that begin at or after this (epoch us) are here. `None`: none was found yet.
    since_us: Option<i64>,
    /// Since when the table cannot be looked into, epoch ms.
    blind_since_ms: Option<i64>,
}

impl History {
    /// Nothing yet, of one of so many windows.
    pub fn of_one_in(windows: usize) -> Self {
        Self { rows: SealedRows::of_one_in(windows), through_ms: None, since_us: None, blind_since_ms: None }
    }
}

impl SealedRows {
    /// None yet, of one of so many windows: they share what all of them may hold.
    pub fn of_one_in(windows: usize) -> Self {
        Self::within(SEALED_BYTES_MAX / windows.max(1), SEALED_KEYS_MAX)
    }

    fn within(bytes_max: usize, keys_max: usize) -> Self {
        Self { starts: BTreeMap::new(), bytes_max, keys_max, gone_us: None }
    }

    /// Takes a row. Each group comes once; the oldest start may go for it.
    pub fn push(&mut self, plan: &WindowPlan, group: Group, sealed: &SealedCell) {
        let (keys_max, bytes_max) = (self.keys_max, self.bytes_max);
        let start = self.starts.entry(group.start_us).or_insert_with(Start::new);
        start.push(plan, group.key, sealed);
        if start.rows.len() > 2 * keys_max || start.bytes > bytes_max {
            start.keep_largest(keys_max, bytes_max / 2);
        }
        self.shrink();
    }

    /// What was known of these starts is replaced.
    fn replace(&mut self, starts: Range<i64>, with: Self) {
        self.starts.retain(|start_us, _| !starts.contains(start_us));
        self.starts.extend(with.starts);
        for (_, start) in self.starts.range_mut(starts) {
            start.keep_largest(self.keys_max, self.bytes_max / 2);
        }
        self.gone_us = self.gone_us.max(with.gone_us);
        while self.starts.len() > SEALED_STARTS_MAX {
            self.drop_oldest();
        }
        self.shrink();
    }

    /// The oldest starts go until the rest fits.
    fn shrink(&mut self) {
        let mut bytes = self.bytes();
        while bytes > self.bytes_max && self.starts.len() > 1 {
            bytes -= self.drop_oldest();
        }
    }

    /// Its bytes.
    fn drop_oldest(&mut self) -> usize {
        let Some((start_us, start)) = self.starts.pop_first() else { return 0 };
        self.gone_us = self.gone_us.max(Some(start_us));
        start.bytes
    }

    /// Estimated bytes of heap.
    pub fn bytes(&self) -> usize {
        self.starts.values().map(|start| start.bytes).sum()
    }
}

impl Start {
    fn new() -> Self {
        Self { records: 0, keys: 0, revision: 0, complete: true, rows: Vec::new(), bytes: 0, floor: None }
    }

    fn push(&mut self, plan: &WindowPlan, key: Vec<KeyValue>, sealed: &SealedCell) {
        let (records, revision) = (sealed.cell.records, sealed.revision);
        self.records += records;
        self.keys += 1;
        self.revision = self.revision.max(revision);
        self.complete &= sealed.complete;
        if self.floor.is_some_and(|floor| records <= floor) {
            return;
        }
        let measures: Vec<Value> =
            plan.measures.iter().zip(&sealed.cell.measures).map(|(plan, state)| measure_json(plan, state)).collect();
        let values = key.iter().map(KeyValue::bytes).sum::<usize>() + measures.iter().map(json_bytes).sum::<usize>();
        let bytes = size_of::<Row>() + values;
        self.bytes += bytes;
        self.rows.push(Row { key, measures, records, revision, bytes });
    }

    fn keep_largest(&mut self, keys_max: usize, bytes_max: usize) {
        self.rows.sort_by(|a, b| (b.records, &a.key).cmp(&(a.records, &b.key)));
        let mut bytes = 0;
        let fits = |row: &&Row| {
            bytes += row.bytes;
            bytes <= bytes_max
        };
        let kept = self.rows.iter().take(keys_max).take_while(fits).count();
        self.floor = self.floor.max(self.rows.get(kept).map(|row| row.records));
        self.rows.truncate(kept);
        self.bytes = self.rows.iter().map(|row| row.bytes).sum();
    }
}

impl StreamWindows {
    /// What was found in a window's table: up to where it is sealed (epoch ms), from which start on (epoch us) it was
    /// ever read, and the rows of the starts that changed, which replace what was known of them.
    pub fn sealed_found(
        &self,
        window: usize,
        through_ms: Option<i64>,
        since_us: i64,
        read: Vec<(Range<i64>, SealedRows)>,
    ) {
        let mut histories = self.histories();
        let history = &mut histories[window];
        history.through_ms = through_ms;
        history.blind_since_ms = None;
        let Some(through_ms) = through_ms else { return };
        self.metrics.sealed(&self.contract.windows[window].name, through_ms);
        read.into_iter().for_each(|(starts, rows)| history.rows.replace(starts, rows));
        let gone_us = history.rows.gone_us.map(|gone_us| gone_us.saturating_add(1));
        let bounds_us = [history.since_us, gone_us];
        let since_us = bounds_us.into_iter().flatten().fold(since_us, i64::max);
        history.rows.starts.retain(|start_us, _| *start_us >= since_us);
        history.since_us = Some(since_us);
    }

    /// A window's table could not be looked into since then, epoch ms.
    pub fn sealed_blind(&self, window: usize, since_ms: i64) {
        self.histories()[window].blind_since_ms = Some(since_ms);
    }
}

/// Estimated bytes of heap and stack.
fn json_bytes(value: &Value) -> usize {
    let heap = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(json_bytes).sum(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| size_of::<String>() + name.len() + json_bytes(value)).sum()
        }
    };
    size_of::<Value>() + heap
}

#[cfg(test)]
impl StreamWindows {
    /// As if the windows that end by then were sealed as they are committed now, and read back.
    pub fn seal_committed(&self, window: usize, through_ms: i64, revision: i64) {
        let plan = &self.contract.windows[window];
        let mut cells = BTreeMap::new();
        self.committed.each_start(window, |start_us, of_start| {
            if start_us + plan.every_us <= through_ms * 1000 {
                cells.extend(of_start.iter().map(|(key, cell)| (Group { start_us, key: key.clone() }, cell.clone())));
            }
        });
        let mut rows = SealedRows::of_one_in(self.count());
        for (group, cell) in cells {
            rows.push(plan, group, &SealedCell { cell, revision, complete: true });
        }
        self.sealed_found(window, Some(through_ms), 0, vec![(i64::MIN..i64::MAX, rows)]);
    }
}

#[cfg(test)]
mod tests;
