//! What people see: committed plus pending, merged at the moment of the question.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::PoisonError;

use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta};
use serde::Serialize;
use serde_json::Value;

use super::cell::{Cell, Measure, Scalar};
use super::group::KeyValue;
use super::partials::{mean, top_json};
use super::{StreamWindows, merge_cell};
use crate::contract::window::{MeasurePlan, QUANTILES};
use crate::contract::{ColumnType, WindowPlan};

/// Which windows to show.
#[derive(Debug, Clone, Default)]
pub struct LiveFilter {
    /// Only the window of this name.
    pub window: Option<String>,
    /// Only the newest so many starts of each window.
    pub starts_max: Option<usize>,
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
    /// Names of its keys.
    pub keys: Vec<String>,
    /// Names of its measures.
    pub measures: Vec<String>,
    /// Version of the rows table that the committed part stands for.
    pub committed_version: u64,
    /// Newest first.
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

pub(super) type Merged = BTreeMap<i64, HashMap<Vec<KeyValue>, (Cell, u64)>>;

impl StreamWindows {
    /// The live windows, as one consistent picture of this stream.
    pub fn live(&self, filter: &LiveFilter) -> Vec<LiveWindow> {
        let wanted = |plan: &WindowPlan| filter.window.as_ref().is_none_or(|name| *name == plan.name);
        let windows = self.contract.windows.iter().enumerate().filter(|(_, plan)| wanted(plan));
        windows.map(|(index, plan)| self.live_window(index, plan, filter)).collect()
    }

    /// Names of the declared windows, in the contract's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.contract.windows.iter().map(|plan| plan.name.as_str())
    }

    fn live_window(&self, index: usize, plan: &WindowPlan, filter: &LiveFilter) -> LiveWindow {
        let (merged, committed_version) = {
            let _moving = self.moving.read().unwrap_or_else(PoisonError::into_inner);
            let oldest_us = self.oldest_shown(index, filter.starts_max.unwrap_or(usize::MAX));
            (self.merge_layers(index, oldest_us), self.committed.version())
        };
        let starts = merged.into_iter().rev();
        LiveWindow {
            stream: self.stream.clone(),
            window: plan.name.clone(),
            every_ms: plan.every_us / 1000,
            keys: plan.keys.iter().map(|key| key.name.clone()).collect(),
            measures: plan.measures.iter().map(|measure| measure.name.clone()).collect(),
            committed_version,
            starts: starts.map(|(start_us, cells)| live_start(plan, start_us, cells)).collect(),
        }
    }

    /// The start of the oldest of the newest `starts_max` starts. Found first, so that a page which shows ten does
    /// not copy a hundred while a commit waits.
    fn oldest_shown(&self, window: usize, starts_max: usize) -> i64 {
        let mut starts = BTreeSet::new();
        self.committed.each_start(window, |start_us, _| {
            starts.insert(start_us);
        });
        for shard in &self.pending {
            let cells = shard.value().iter().flat_map(|batch| batch.windows[window].keys());
            starts.extend(cells.map(|group| group.start_us));
        }
        let newest = starts.into_iter().rev().take(starts_max);
        newest.filter(|start_us| *start_us >= self.committed.since_us(window)).last().unwrap_or(i64::MAX)
    }

    pub(super) fn merge_layers(&self, window: usize, oldest_us: i64) -> Merged {
        let mut pending: BTreeMap<i64, HashMap<Vec<KeyValue>, Cell>> = BTreeMap::new();
        for shard in &self.pending {
            let batches = shard.value().iter().flat_map(|batch| &batch.windows[window]);
            for (group, cell) in batches.filter(|(group, _)| group.start_us >= oldest_us) {
                merge_cell(pending.entry(group.start_us).or_default(), &group.key, cell);
            }
        }
        let mut merged = Merged::new();
        self.committed.each_start(window, |start_us, cells| {
            if start_us < oldest_us {
                return;
            }
            let start = merged.entry(start_us).or_default();
            start.extend(cells.iter().map(|(key, cell)| (key.clone(), (cell.clone(), 0))));
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
        merged
    }
}

fn live_start(plan: &WindowPlan, start_us: i64, cells: HashMap<Vec<KeyValue>, (Cell, u64)>) -> LiveStart {
    let mut cells: Vec<_> = cells.into_iter().collect();
    cells.sort_by(|a, b| (b.1.0.records, &a.0).cmp(&(a.1.0.records, &b.0)));
    let rows: Vec<LiveRow> = cells
        .into_iter()
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
        records: rows.iter().map(|row| row.records).sum(),
        pending: rows.iter().map(|row| row.pending).sum(),
        keys: rows.len(),
        rows,
    }
}

fn quantiles_json(values: [f64; QUANTILES.len()]) -> Value {
    let named = QUANTILES.iter().zip(values);
    Value::Object(named.map(|((_, suffix), value)| (suffix[1..].to_owned(), Value::from(value))).collect())
}

fn value_json(column_type: Option<ColumnType>, value: &KeyValue) -> Value {
    match value {
        KeyValue::Null => Value::Null,
        KeyValue::Text(text) => Value::from(text.as_ref()),
        KeyValue::Integer(value) => integer_json(column_type, *value),
        KeyValue::Double(bits) => Value::from(f64::from_bits(*bits)),
        KeyValue::Boolean(flag) => Value::from(*flag),
        KeyValue::Other => Value::from("__other__"),
    }
}

fn measure_json(plan: &MeasurePlan, state: &Measure) -> Value {
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
