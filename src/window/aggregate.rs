//! One batch to cells: pure, a column at a time.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use deltalake::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use deltalake::arrow::datatypes::{Float64Type, TimestampMicrosecondType};

use super::cell::{Cell, Measure};
use super::chosen::{self, End};
use super::filter;
use super::group::{Group, integers};
use super::rows::Rows;
use super::shared::Shared;
use crate::contract::window::{Function, MeasurePlan};
use crate::contract::{
    ARRIVED_AT, ColumnType, Contract, EventTime, SEQUENCE_NUMBER, SHARD_ID, SUB_SEQUENCE_NUMBER, WindowPlan,
};

/// The cells of one window over some records: each group once, in no order. A list and no table, for it is gone through
/// and hardly ever asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WindowCells(Vec<(Group, Cell)>);

impl WindowCells {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&Group, &Cell)> + Clone {
        self.0.iter().map(|(group, cell)| (group, cell))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Estimated bytes of heap and stack.
    pub fn bytes(&self) -> usize {
        self.iter().map(|(group, cell)| group.bytes() + cell.bytes()).sum()
    }

    /// Adds the cells of further records.
    pub fn merge(&mut self, more: Self) {
        let mut places: HashMap<Group, usize> =
            self.iter().enumerate().map(|(place, (group, _))| (group.clone(), place)).collect();
        for (group, cell) in more.0 {
            match places.get(&group) {
                Some(place) => self.0[*place].1.merge(&cell),
                None => {
                    places.insert(group.clone(), self.0.len());
                    self.0.push((group, cell));
                }
            }
        }
    }
}

impl FromIterator<(Group, Cell)> for WindowCells {
    /// Of groups that come once each.
    fn from_iter<I: IntoIterator<Item = (Group, Cell)>>(cells: I) -> Self {
        Self(cells.into_iter().collect())
    }
}

/// A batch that is not what its contract says. The cleaner builds batches by the contract's schema, so this is a
/// defect and never an input.
#[derive(Debug, thiserror::Error)]
#[error("window {window}: column {column} of the cleaned batch is not of the contract's type")]
pub struct NotTheContracts {
    window: String,
    column: String,
}

/// What a batch adds.
#[derive(Debug)]
pub struct Aggregated {
    /// One entry a declared window, in the contract's order.
    pub windows: Vec<WindowCells>,
    /// By column that is the time of some window: how many records had no value in it, if any.
    pub without_time: Vec<(usize, u64)>,
}

/// Counts a batch in every window.
pub fn aggregate(contract: &Contract, rows: &RecordBatch) -> Result<Aggregated, NotTheContracts> {
    let mut times: BTreeMap<EventTime, Times> = BTreeMap::new();
    let mut windows = Vec::with_capacity(contract.windows.len());
    let mut shared = Shared::default();
    for window in &contract.windows {
        let times = match times.entry(window.time) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(times_of(window.time, contract, rows)?),
        };
        windows.push(aggregate_window(window, rows, &times.us, &mut shared)?);
    }
    let without_time = times.into_iter().filter_map(|(time, times)| match time {
        EventTime::Column(column) if times.missing > 0 => Some((column, times.missing)),
        EventTime::Column(_) | EventTime::Arrival => None,
    });
    Ok(Aggregated { windows, without_time: without_time.collect() })
}

struct Times {
    us: Vec<i64>,
    /// How many of them are arrival times because there is no other.
    missing: u64,
}

/// Every row's time; a row without one has its arrival time.
fn times_of(time: EventTime, contract: &Contract, rows: &RecordBatch) -> Result<Times, NotTheContracts> {
    let wrong = |column: &str| NotTheContracts { window: "(event time)".to_owned(), column: column.to_owned() };
    let arrivals = rows
        .column_by_name(ARRIVED_AT)
        .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
        .ok_or_else(|| wrong(ARRIVED_AT))?;
    match time {
        EventTime::Arrival => Ok(Times { us: arrivals.values().to_vec(), missing: 0 }),
        EventTime::Column(index) => {
            let column = rows.column(index);
            let times = integers(ColumnType::Timestamp, column).ok_or_else(|| wrong(&contract.columns[index].name))?;
            let us = times.into_iter().zip(arrivals.values()).map(|(time, arrival)| time.unwrap_or(*arrival));
            Ok(Times { us: us.collect(), missing: column.null_count() as u64 })
        }
    }
}

/// `shared` is what all windows that count all rows of the batch share.
fn aggregate_window(
    window: &WindowPlan,
    batch: &RecordBatch,
    times_us: &[i64],
    shared: &mut Shared,
) -> Result<WindowCells, NotTheContracts> {
    let wrong = |column: &str| NotTheContracts { window: window.name.clone(), column: column.to_owned() };
    let name_of = |column: usize| batch.schema_ref().field(column).name().as_str();
    let rows = Rows::all(batch, times_us);
    match filter::mask(&window.conditions, batch.columns()).map_err(|column| wrong(name_of(column)))? {
        None => aggregate_rows(window, &rows, shared),
        Some(kept) => {
            let rows = rows.filtered(&kept, |column| reads(window, batch, column)).map_err(|_| wrong("(where)"))?;
            aggregate_rows(window, &rows, &mut Shared::default())
        }
    }
}

fn aggregate_rows(window: &WindowPlan, rows: &Rows<'_>, shared: &mut Shared) -> Result<WindowCells, NotTheContracts> {
    let wrong = |column: &str| NotTheContracts { window: window.name.clone(), column: column.to_owned() };
    let mut grouping = shared.starts(window.time, window.pane_us, &rows.times_us);
    for key in &window.keys {
        let keys = shared.keys(key, rows.column(key.column)).ok_or_else(|| wrong(&key.name))?;
        grouping = shared.refine(grouping, &keys);
    }
    let records = shared.records(&grouping);
    let mut cells: Vec<Cell> = records
        .iter()
        .map(|records| Cell { records: *records, measures: Vec::with_capacity(window.measures.len()) })
        .collect();
    for measure in &window.measures {
        let states = match shared.measured(&grouping, window.time, measure.function) {
            Some(known) => known,
            None => {
                let states = observe(measure, rows, &grouping.by_row, &cells, shared);
                let states = states.ok_or_else(|| wrong(&measure.name))?;
                shared.keep(&grouping, window.time, measure.function, &states);
                states
            }
        };
        cells.iter_mut().zip(states).for_each(|(cell, state)| cell.measures.push(state));
    }
    Ok(grouping.groups.into_iter().zip(cells).collect())
}

/// Whether a window looks at this column of its rows, or may: what orders first and last values is not told apart.
fn reads(window: &WindowPlan, batch: &RecordBatch, column: usize) -> bool {
    window.keys.iter().any(|key| key.column == column)
        || window.measures.iter().any(|measure| measure.function.column() == Some(column))
        || [SHARD_ID, SEQUENCE_NUMBER, SUB_SEQUENCE_NUMBER].contains(&batch.schema_ref().field(column).name().as_str())
}

/// Runs one measure over all rows: its state by group. The cells know how many records are in each.
fn observe(
    plan: &MeasurePlan,
    rows: &Rows<'_>,
    by_row: &[u32],
    cells: &[Cell],
    shared: &mut Shared,
) -> Option<Vec<Measure>> {
    let (index, source) = match plan.function {
        Function::Count => return Some(cells.iter().map(|cell| Measure::Count(cell.records)).collect()),
        Function::First(column, source) => return choose(End::First, column, source, rows, by_row, cells.len()),
        Function::Last(column, source) => return choose(End::Last, column, source, rows, by_row, cells.len()),
        Function::SumDouble(column) | Function::MeanDouble(column) => (column, ColumnType::Double),
        Function::SumInteger(column) | Function::MeanInteger(column) => (column, integer_type(rows.column(column))),
        Function::Min(column, source)
        | Function::Max(column, source)
        | Function::Distinct(column, source)
        | Function::Quantiles(column, source)
        | Function::Top(column, source, _) => (column, source),
    };
    let mut states: Vec<Measure> = cells.iter().map(|_| Measure::empty(plan.function)).collect();
    let column = rows.column(index);
    let groups = by_row.iter().map(|group| *group as usize);
    match source {
        ColumnType::Double => {
            for (value, group) in column.as_primitive_opt::<Float64Type>()?.iter().zip(groups) {
                value.into_iter().for_each(|value| states[group].observe_double(value));
            }
        }
        ColumnType::String => {
            for (text, group) in column.as_string_opt::<i32>()?.iter().zip(groups) {
                text.into_iter().for_each(|text| states[group].observe_text(text));
            }
        }
        ColumnType::Boolean => {
            for (flag, group) in column.as_boolean_opt()?.iter().zip(groups) {
                flag.into_iter().for_each(|flag| states[group].observe_integer(flag.into()));
            }
        }
        ColumnType::Integer
        | ColumnType::Long
        | ColumnType::Timestamp
        | ColumnType::Date
        | ColumnType::StringArray
        | ColumnType::LongArray
        | ColumnType::DoubleArray => {
            for (value, group) in shared.integers(source, index, column)?.iter().zip(groups) {
                value.iter().for_each(|value| states[group].observe_integer(*value));
            }
        }
    }
    Some(states)
}

fn choose(
    end: End,
    column: usize,
    source: ColumnType,
    rows: &Rows<'_>,
    by_row: &[u32],
    groups: usize,
) -> Option<Vec<Measure>> {
    let chosen = chosen::choose(end, source, rows.column(column), rows, by_row, groups)?;
    Some(chosen.into_iter().map(|chosen| Measure::Chosen(end, chosen)).collect())
}

fn integer_type(column: &ArrayRef) -> ColumnType {
    if *column.data_type() == ColumnType::Integer.arrow() { ColumnType::Integer } else { ColumnType::Long }
}
