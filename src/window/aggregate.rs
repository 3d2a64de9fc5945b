//! One batch to cells: pure, a column at a time.

use std::collections::HashMap;

use deltalake::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use deltalake::arrow::datatypes::{Float64Type, TimestampMicrosecondType};

use super::cell::{Cell, Measure};
use super::chosen::{self, End};
use super::group::{Group, Grouping, integers};
use super::rows::Rows;
use crate::contract::window::{Function, MeasurePlan};
use crate::contract::{ARRIVED_AT, ColumnType, Contract, EventTime, WindowPlan};

/// The cells of one window over some records.
pub type WindowCells = HashMap<Group, Cell>;

/// A batch that is not what its contract says. The cleaner builds batches by the contract's schema, so this is a
/// defect and never an input.
#[derive(Debug, thiserror::Error)]
#[error("window {window}: column {column} of the cleaned batch is not of the contract's type")]
pub struct NotTheContracts {
    window: String,
    column: String,
}

/// One entry a declared window, in the contract's order.
pub fn aggregate(contract: &Contract, rows: &RecordBatch) -> Result<Vec<WindowCells>, NotTheContracts> {
    let times_us = event_times_us(contract, rows)?;
    contract.windows.iter().map(|window| aggregate_window(window, rows, &times_us)).collect()
}

/// Every row's event time; a row without one has its arrival time.
fn event_times_us(contract: &Contract, rows: &RecordBatch) -> Result<Vec<i64>, NotTheContracts> {
    let wrong = |column: &str| NotTheContracts { window: "(event time)".to_owned(), column: column.to_owned() };
    let arrivals = rows
        .column_by_name(ARRIVED_AT)
        .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
        .ok_or_else(|| wrong(ARRIVED_AT))?;
    match contract.event_time {
        EventTime::Arrival => Ok(arrivals.values().to_vec()),
        EventTime::Column(index) => {
            let column = rows.column(index);
            let times = integers(ColumnType::Timestamp, column).ok_or_else(|| wrong(&contract.columns[index].name))?;
            Ok(times.into_iter().zip(arrivals.values()).map(|(time, arrival)| time.unwrap_or(*arrival)).collect())
        }
    }
}

fn aggregate_window(window: &WindowPlan, rows: &RecordBatch, times_us: &[i64]) -> Result<WindowCells, NotTheContracts> {
    let wrong = |column: &str| NotTheContracts { window: window.name.clone(), column: column.to_owned() };
    let rows = Rows::all(rows, times_us);
    let mut grouping = Grouping::by_start(&rows.times_us, window.every_us);
    for key in &window.keys {
        grouping = grouping.refine(key, rows.column(key.column)).ok_or_else(|| wrong(&key.name))?;
    }
    let mut cells: Vec<Cell> = grouping.groups.iter().map(|_| Cell::empty(&window.measures)).collect();
    for group in &grouping.by_row {
        cells[*group as usize].records += 1;
    }
    for (index, measure) in window.measures.iter().enumerate() {
        observe(measure, index, &rows, &grouping.by_row, &mut cells).ok_or_else(|| wrong(&measure.name))?;
    }
    Ok(grouping.groups.into_iter().zip(cells).collect())
}

/// Runs one measure over all rows.
fn observe(plan: &MeasurePlan, measure: usize, rows: &Rows<'_>, by_row: &[u32], cells: &mut [Cell]) -> Option<()> {
    let (column, source) = match plan.function {
        Function::Count => {
            for cell in cells {
                cell.measures[measure] = Measure::Count(cell.records);
            }
            return Some(());
        }
        Function::First(column, source) => return choose(End::First, column, source, measure, rows, by_row, cells),
        Function::Last(column, source) => return choose(End::Last, column, source, measure, rows, by_row, cells),
        Function::SumDouble(column) | Function::MeanDouble(column) => (column, ColumnType::Double),
        Function::SumInteger(column) | Function::MeanInteger(column) => (column, integer_type(rows.column(column))),
        Function::Min(column, source)
        | Function::Max(column, source)
        | Function::Distinct(column, source)
        | Function::Quantiles(column, source)
        | Function::Top(column, source, _) => (column, source),
    };
    let column = rows.column(column);
    let groups = by_row.iter().map(|group| *group as usize);
    match source {
        ColumnType::Double => {
            for (value, group) in column.as_primitive_opt::<Float64Type>()?.iter().zip(groups) {
                value.into_iter().for_each(|value| cells[group].measures[measure].observe_double(value));
            }
        }
        ColumnType::String => {
            for (text, group) in column.as_string_opt::<i32>()?.iter().zip(groups) {
                text.into_iter().for_each(|text| cells[group].measures[measure].observe_text(text));
            }
        }
        ColumnType::Boolean => {
            for (flag, group) in column.as_boolean_opt()?.iter().zip(groups) {
                flag.into_iter().for_each(|flag| cells[group].measures[measure].observe_integer(flag.into()));
            }
        }
        ColumnType::Integer
        | ColumnType::Long
        | ColumnType::Timestamp
        | ColumnType::Date
        | ColumnType::StringArray
        | ColumnType::LongArray
        | ColumnType::DoubleArray => {
            for (value, group) in integers(source, column)?.into_iter().zip(groups) {
                value.into_iter().for_each(|value| cells[group].measures[measure].observe_integer(value));
            }
        }
    }
    Some(())
}

fn choose(
    end: End,
    column: usize,
    source: ColumnType,
    measure: usize,
    rows: &Rows<'_>,
    by_row: &[u32],
    cells: &mut [Cell],
) -> Option<()> {
    let chosen = chosen::choose(end, source, rows.column(column), rows, by_row, cells.len())?;
    for (cell, chosen) in cells.iter_mut().zip(chosen) {
        cell.measures[measure] = Measure::Chosen(end, chosen);
    }
    Some(())
}

fn integer_type(column: &ArrayRef) -> ColumnType {
    if *column.data_type() == ColumnType::Integer.arrow() { ColumnType::Integer } else { ColumnType::Long }
}
