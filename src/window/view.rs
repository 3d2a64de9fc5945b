//! What people see: committed plus pending, merged at the moment of the question.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta};
use serde::Serialize;
use serde_json::Value;

use super::cell::{Cell, Measure, Scalar};
use super::group::KeyValue;
use super::partials::{mean, top_json};
use super::{StreamWindows, merge_cell, slide};
use crate::contract::window::{MeasurePlan, QUANTILES};
use crate::contract::{ColumnType, WindowPlan};

/// Which windows to show.
#[derive(Debug, Clone, Default)]
pub struct LiveFilter {
    /// Only the window of this name.
    pub window: Option<String>,
    /// Only the newest so many starts of each window, of those between.
    pub starts_max: Option<usize>,
    /// Only the largest so many keys of each start; how many there are is told anyway.
    pub rows_max: Option<usize>,
    /// Only starts at or after this, epoch ms.
    pub since_ms: Option<i64>,
    /// Only starts before this, epoch ms.
    pub until_ms: Option<i64>,
    /// Only rows of these keys, by name and text; empty text = no value. Windows without such a key are left out.
    pub keys: Vec<(String, String)>,
}

impl LiveFilter {
    pub(super) fn wants(&self, plan: &WindowPlan) -> bool {
        let has = |name: &str| plan.keys.iter().any(|key| key.name == name);
        self.window.as_ref().is_none_or(|name| *name == plan.name) && self.keys.iter().all(|(name, _)| has(name))
    }

    pub(super) fn wants_start(&self, start_us: i64) -> bool {
        let start_ms = start_us.div_euclid(1000);
        self.since_ms.is_none_or(|since_ms| start_ms >= since_ms)
            && self.until_ms.is_none_or(|until_ms| start_ms < until_ms)
    }

    pub(super) fn wants_key(&self, plan: &WindowPlan, key: &[KeyValue]) -> bool {
        self.keys.iter().all(|(name, text)| {
            let mut values = plan.keys.iter().zip(key).filter(|(plan, _)| plan.name == *name);
            values.all(|(plan, value)| key_text(&value_json(Some(plan.output()), value)) == *text)
        })
    }
}

/// A key's value as a question names it.
fn key_text(value: &Value) -> String {
    value.as_str().map_or_else(|| if value.is_null() { String::new() } else { value.to_string() }, str::to_owned)
}

/// One declared window, live.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LiveWindow {
    /// The stream.
    pub stream: String,
    /// The window's name.
    pub window: String,
    /// Its size.
    pub every_ms: i64,
    /// How far its starts are apart: its size, unless it slides.
    pub hop_ms: i64,
    /// Names of its keys.
    pub keys: Vec<String>,
    /// Names of its measures.
    pub measures: Vec<String>,
    /// The newest version of the rows table that is in the committed part.
    pub committed_version: u64,
    /// As of when other processes' records are in the numbers, epoch ms; `None` if there are none, or if this process
    /// commits every shard itself: as of now.
    pub as_of_ms: Option<i64>,
    /// Nothing is shown until what an earlier process may have shown was read again.
    pub catching_up: bool,
    /// Newest first. Of one that slides the newest ends with the newest record's pane: it is whole as soon as that
    /// pane is, where one that has just begun would say next to nothing.
    pub starts: Vec<LiveStart>,
}

/// One start of a window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LiveStart {
    /// Start, epoch ms.
    pub start_ms: i64,
    /// End, exclusive, epoch ms.
    pub end_ms: i64,
    /// Records in all its rows.
    pub records: u64,
    /// How many of them no commit covers yet.
    pub pending: u64,
    /// How many keys it has.
    pub keys: usize,
    /// One row a key, most records first.
    pub rows: Vec<LiveRow>,
}

/// One key of a window start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LiveRow {
    /// Its keys, in the window's order. Timestamps and dates as ISO text; `__other__` = folded keys.
    pub key: Vec<Value>,
    /// Its measures, in the window's order. Sums beyond 64 bits as text; quantiles as `{"p50": .., "p90": .., "p99": ..}`;
    /// the most frequent values as `[{"value": .., "count": ..}, ..]`.
    pub measures: Vec<Value>,
    /// Records in it.
    pub records: u64,
    /// How many of them no commit covers yet.
    pub pending: u64,
}

/// By key: its cell, and how many of its records no commit covers yet.
pub(super) type Shown = HashMap<Vec<KeyValue>, (Cell, u64)>;

impl StreamWindows {
    /// The live windows, as one consistent picture of this stream.
    pub fn live(&self, filter: &LiveFilter) -> Vec<LiveWindow> {
        let windows = self.contract.windows.iter().enumerate().filter(|(_, plan)| filter.wants(plan));
        windows.map(|(index, plan)| self.live_window(index, plan, filter)).collect()
    }

    /// Names of the declared windows, in the contract's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.contract.windows.iter().map(|plan| plan.name.as_str())
    }

    /// Names of the keys of the windows that are asked for, each once.
    pub fn key_names(&self, window: Option<&str>) -> BTreeSet<&str> {
        let windows = self.contract.windows.iter().filter(|plan| window.is_none_or(|name| name == plan.name));
        windows.flat_map(|plan| &plan.keys).map(|key| key.name.as_str()).collect()
    }

    pub(super) fn live_window(&self, index: usize, plan: &WindowPlan, filter: &LiveFilter) -> LiveWindow {
        let catching_up = self.catching_up.load(Ordering::Relaxed);
        let (starts, panes, committed_version, as_of_ms) = {
            let _moving = self.moving.read().unwrap_or_else(PoisonError::into_inner);
            let starts = if catching_up { Vec::new() } else { self.shown_starts(index, plan, filter) };
            let panes = self.merge_layers(index, plan, &starts, filter);
            (starts, panes, self.committed.version(), self.as_of_ms())
        };
        let rows_max = filter.rows_max.unwrap_or(usize::MAX);
        let shown = |start_us, cells| live_start(plan, start_us, cells, rows_max);
        let mut starts: Vec<LiveStart> = if plan.panes() == 1 {
            panes.into_iter().map(|(start_us, cells)| shown(start_us, cells)).collect()
        } else {
            slide::windows(&panes, &starts, plan.every_us, shown)
        };
        starts.reverse();
        LiveWindow {
            stream: self.stream.clone(),
            window: plan.name.clone(),
            every_ms: plan.every_us / 1000,
            hop_ms: plan.pane_us / 1000,
            keys: plan.keys.iter().map(|key| key.name.clone()).collect(),
            measures: plan.measures.iter().map(|measure| measure.name.clone()).collect(),
            committed_version,
            as_of_ms,
            catching_up,
            starts,
        }
    }

    /// The newest starts that are wanted, oldest first. Found first, so that a page which shows ten does not copy a
    /// hundred while a commit waits.
    fn shown_starts(&self, window: usize, plan: &WindowPlan, filter: &LiveFilter) -> Vec<i64> {
        let mut panes = BTreeSet::new();
        self.committed.each_start(window, |start_us, _| {
            panes.insert(start_us);
        });
        for shard in &self.pending {
            let cells = shard.value().shown().flat_map(|windows| windows[window].keys());
            panes.extend(cells.map(|group| group.start_us));
        }
        let since_us = self.committed.since_us(window);
        let whole = slide::starts(&panes, plan).take_while(|start_us| *start_us >= since_us);
        let wanted = whole.filter(|start_us| filter.wants_start(*start_us));
        let mut starts: Vec<i64> = wanted.take(filter.starts_max.unwrap_or(usize::MAX)).collect();
        starts.reverse();
        starts
    }

    /// The panes of these starts (oldest first), with the keys that are wanted.
    pub(super) fn merge_layers(
        &self,
        window: usize,
        plan: &WindowPlan,
        starts: &[i64],
        filter: &LiveFilter,
    ) -> BTreeMap<i64, Shown> {
        let (Some(oldest_us), Some(newest_us)) = (starts.first(), starts.last()) else { return BTreeMap::new() };
        let wanted_us = *oldest_us..newest_us.saturating_add(plan.every_us);
        let wanted = |start_us: i64| wanted_us.contains(&start_us);
        let mut pending: BTreeMap<i64, HashMap<Vec<KeyValue>, Cell>> = BTreeMap::new();
        for shard in &self.pending {
            let cells = shard.value().shown().flat_map(|windows| &windows[window]);
            let cells = cells.filter(|(group, _)| wanted(group.start_us) && filter.wants_key(plan, &group.key));
            for (group, cell) in cells {
                merge_cell(pending.entry(group.start_us).or_default(), &group.key, cell);
            }
        }
        let mut merged: BTreeMap<i64, Shown> = BTreeMap::new();
        self.committed.each_start(window, |start_us, cells| {
            if !wanted(start_us) {
                return;
            }
            let start = merged.entry(start_us).or_default();
            let cells = cells.iter().filter(|(key, _)| filter.wants_key(plan, key));
            start.extend(cells.map(|(key, cell)| (key.clone(), (cell.clone(), 0))));
        });
        for (start_us, cells) in pending {
            let start = merged.entry(start_us).or_default();
            for (key, cell) in cells {
                match start.get_mut(&key) {
                    Some((mine, pending)) => {
                        mine.merge(&cell);
                        *pending += cell.records;
                    }
                    None => {
                        let records = cell.records;
                        start.insert(key, (cell, records));
                    }
                }
            }
        }
        merged.retain(|_, cells| !cells.is_empty());
        merged
    }
}

fn live_start(plan: &WindowPlan, start_us: i64, cells: Shown, rows_max: usize) -> LiveStart {
    let mut cells: Vec<_> = cells.into_iter().collect();
    cells.sort_by(|a, b| (b.1.0.records, &a.0).cmp(&(a.1.0.records, &b.0)));
    let (keys, records) = (cells.len(), cells.iter().map(|(_, (cell, _))| cell.records).sum());
    let pending = cells.iter().map(|(_, (_, pending))| pending).sum();
    let rows: Vec<LiveRow> = cells
        .into_iter()
        .take(rows_max)
        .map(|(key, (cell, pending))| LiveRow {
            key: plan.keys.iter().zip(&key).map(|(plan, value)| value_json(Some(plan.output()), value)).collect(),
            measures: plan.measures.iter().zip(&cell.measures).map(|(plan, state)| measure_json(plan, state)).collect(),
            records: cell.records,
            pending,
        })
        .collect();
    LiveStart {
        start_ms: start_us.div_euclid(1000),
        end_ms: start_us.saturating_add(plan.every_us).div_euclid(1000),
        records,
        pending,
        keys,
        rows,
    }
}

fn quantiles_json(values: [f64; QUANTILES.len()]) -> Value {
    let named = QUANTILES.iter().zip(values);
    Value::Object(named.map(|((_, suffix), value)| (suffix[1..].to_owned(), Value::from(value))).collect())
}

pub(super) fn value_json(column_type: Option<ColumnType>, value: &KeyValue) -> Value {
    match value {
        KeyValue::Null => Value::Null,
        KeyValue::Text(text) => Value::from(text.as_ref()),
        KeyValue::Integer(value) => integer_json(column_type, *value),
        KeyValue::Double(bits) => Value::from(f64::from_bits(*bits)),
        KeyValue::Boolean(flag) => Value::from(*flag),
        KeyValue::Other => Value::from("__other__"),
    }
}

pub(super) fn measure_json(plan: &MeasurePlan, state: &Measure) -> Value {
    match state {
        Measure::Count(count) => Value::from(*count),
        Measure::SumInteger(sum) => sum.map_or(Value::Null, big_json),
        Measure::SumDouble(sum) => sum.map_or(Value::Null, |sum| Value::from(sum.value())),
        Measure::MeanInteger(..) | Measure::MeanDouble(..) => mean(state).map_or(Value::Null, Value::from),
        Measure::Chosen(_, chosen) => {
            chosen.as_ref().map_or(Value::Null, |chosen| value_json(plan.value_type(), &chosen.value))
        }
        Measure::Distinct(sketch) => Value::from(sketch.count()),
        Measure::Quantiles(sketch) => sketch.values().map_or(Value::Null, quantiles_json),
        Measure::Top(sketch) => sketch.error().map_or(Value::Null, |_| Value::from_iter(top_json(sketch))),
        Measure::Min(value) | Measure::Max(value) => match value {
            None => Value::Null,
            Some(Scalar::Double(value)) => Value::from(*value),
            Some(Scalar::Integer(value)) => integer_json(plan.value_type(), *value),
        },
    }
}

pub(super) fn integer_json(column_type: Option<ColumnType>, value: i64) -> Value {
    let text = if column_type == Some(ColumnType::Timestamp) {
        DateTime::from_timestamp_micros(value).map(|at| at.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    } else if column_type == Some(ColumnType::Date) {
        let days = TimeDelta::try_days(value);
        days.and_then(|days| NaiveDate::default().checked_add_signed(days)).map(|day| day.to_string())
    } else {
        None
    };
    text.map_or_else(|| Value::from(value), Value::from)
}

fn big_json(value: i128) -> Value {
    i64::try_from(value).map_or_else(|_| Value::from(value.to_string()), Value::from)
}
