//! Cells to rows of a `<window>_partials` table, and back.

mod columns;

use std::sync::Arc;

use deltalake::arrow::array::{
    ArrayRef, AsArray, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use deltalake::arrow::compute::filter_record_batch;
use deltalake::arrow::datatypes::{Float64Type, Int64Type};
use deltalake::arrow::error::ArrowError;

pub use self::columns::{mean, top_json};
use super::aggregate::WindowCells;
use super::cell::Cell;
use super::group::{Group, KeyValue, integers};
use super::sketch::SketchError;
use crate::checkpoint::ShardId;
use crate::contract::window::{DEFINITION, RECORDS, WINDOW_START};
use crate::contract::{ColumnType, WindowPlan};

const DAY_US: i64 = 86_400_000_000;

/// One row a cell and shard, sorted by (start, key), so that a later reader merges files with one cursor each.
pub fn encode(plan: &WindowPlan, shards: &[(ShardId, WindowCells)]) -> Result<RecordBatch, ArrowError> {
    let mut rows: Vec<(&Group, &Cell, &ShardId)> =
        shards.iter().flat_map(|(shard, cells)| cells.iter().map(move |(group, cell)| (group, cell, shard))).collect();
    rows.sort_by(|a, b| (a.0, a.2).cmp(&(b.0, b.2)));
    let groups: Vec<&Group> = rows.iter().map(|row| row.0).collect();
    let starts = || groups.iter().map(|group| group.start_us);
    let ends = starts().map(|us| us.saturating_add(plan.every_us));
    let mut columns: Vec<ArrayRef> = vec![timestamps(starts().map(Some)), timestamps(ends.map(Some))];
    for (index, key) in plan.keys.iter().enumerate() {
        columns.push(key_column(key.output(), groups.iter().map(|group| &group.key[index])));
    }
    for (index, measure) in plan.measures.iter().enumerate() {
        columns::encode(measure, rows.iter().map(|row| &row.1.measures[index]), &mut columns)?;
    }
    columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1.records as i64))));
    columns.push(Arc::new(StringArray::from_iter_values(rows.iter().map(|_| plan.definition.as_str()))));
    columns.push(Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.2.as_str()))));
    columns.push(Arc::new(Date32Array::from_iter_values(starts().map(|us| us.div_euclid(DAY_US) as i32))));
    RecordBatch::try_new(Arc::clone(&plan.partials_schema), columns)
}

fn timestamps(values_us: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values_us.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn key_column<'a>(column_type: ColumnType, values: impl Iterator<Item = &'a KeyValue>) -> ArrayRef {
    let integer = |value: &KeyValue| match value {
        KeyValue::Integer(value) => Some(*value),
        KeyValue::Null | KeyValue::Text(_) | KeyValue::Double(_) | KeyValue::Boolean(_) | KeyValue::Other => None,
    };
    match column_type {
        ColumnType::Integer => Arc::new(values.map(|value| integer(value).map(|v| v as i32)).collect::<Int32Array>()),
        ColumnType::Date => Arc::new(values.map(|value| integer(value).map(|v| v as i32)).collect::<Date32Array>()),
        ColumnType::Long => Arc::new(values.map(integer).collect::<Int64Array>()),
        ColumnType::Timestamp => timestamps(values.map(integer)),
        ColumnType::Double => Arc::new(
            values
                .map(|value| if let KeyValue::Double(bits) = value { Some(f64::from_bits(*bits)) } else { None })
                .collect::<Float64Array>(),
        ),
        ColumnType::Boolean => Arc::new(
            values
                .map(|value| if let KeyValue::Boolean(flag) = value { Some(*flag) } else { None })
                .collect::<BooleanArray>(),
        ),
        ColumnType::String | ColumnType::StringArray | ColumnType::LongArray | ColumnType::DoubleArray => Arc::new(
            values
                .map(|value| if let KeyValue::Text(text) = value { Some(text.as_ref()) } else { None })
                .collect::<StringArray>(),
        ),
    }
}

// === Back from the table ===

/// Rows of a partials table that are not what the contract says, though they have its definition.
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    /// No such column, or of another type.
    #[error("column {column} is missing, of another type or null (restore the table's files)")]
    Column {
        /// Its name.
        column: String,
    },
    /// A first or last value that does not say where it stood.
    #[error("a value of {measure} does not say which record it is of (restore the table's files)")]
    Place {
        /// The measure.
        measure: String,
    },
    /// Bytes that are no sketch.
    #[error("column {column} holds no sketch of this measure (restore the table's files)")]
    Sketch {
        /// Its name.
        column: String,
        /// What is wrong with it.
        #[source]
        source: SketchError,
    },
}

/// The cells in rows of a partials table that have this very definition, each with its group.
pub fn decode_current(plan: &WindowPlan, rows: &RecordBatch) -> Result<Vec<(Group, Cell)>, Undecodable> {
    let definitions = rows.column_by_name(DEFINITION).and_then(|column| column.as_string_opt::<i32>());
    let definitions = definitions.ok_or_else(|| Undecodable::Column { column: DEFINITION.to_owned() })?;
    let current: BooleanArray = definitions.iter().map(|found| Some(found == Some(&plan.definition))).collect();
    if current.true_count() == rows.num_rows() {
        return decode(plan, rows);
    }
    // The columns of another definition need not be these.
    let rows =
        filter_record_batch(rows, &current).map_err(|_| Undecodable::Column { column: DEFINITION.to_owned() })?;
    if rows.num_rows() == 0 { Ok(Vec::new()) } else { decode(plan, &rows) }
}

fn decode(plan: &WindowPlan, rows: &RecordBatch) -> Result<Vec<(Group, Cell)>, Undecodable> {
    let missing = |name: &str| Undecodable::Column { column: name.to_owned() };
    let column = |name: &str| rows.column_by_name(name).ok_or_else(|| missing(name));
    let starts = integers(ColumnType::Timestamp, column(WINDOW_START)?).ok_or_else(|| missing(WINDOW_START))?;
    let records = column(RECORDS)?.as_primitive_opt::<Int64Type>().ok_or_else(|| missing(RECORDS))?;
    let keys =
        plan.keys.iter().map(|key| decode_keys(key.output(), column(&key.name)?).ok_or_else(|| missing(&key.name)));
    let mut keys: Vec<_> = keys.map(|keys| keys.map(Vec::into_iter)).collect::<Result<_, _>>()?;
    let measures = plan.measures.iter().map(|measure| columns::decode(measure, rows).map(Vec::into_iter));
    let mut measures: Vec<_> = measures.collect::<Result<_, _>>()?;
    let cells = starts.into_iter().zip(records.iter()).map(|(start_us, records)| {
        let start_us = start_us.ok_or_else(|| missing(WINDOW_START))?;
        let records = records.ok_or_else(|| missing(RECORDS))? as u64;
        let group = Group { start_us, key: keys.iter_mut().filter_map(Iterator::next).collect() };
        Ok((group, Cell { records, measures: measures.iter_mut().filter_map(Iterator::next).collect() }))
    });
    cells.collect()
}

fn decode_keys(column_type: ColumnType, column: &ArrayRef) -> Option<Vec<KeyValue>> {
    let or_null = |value: Option<KeyValue>| value.unwrap_or(KeyValue::Null);
    Some(match column_type {
        ColumnType::String => column
            .as_string_opt::<i32>()?
            .iter()
            .map(|text| or_null(text.map(|text| KeyValue::Text(text.into()))))
            .collect(),
        ColumnType::Boolean => {
            column.as_boolean_opt()?.iter().map(|flag| or_null(flag.map(KeyValue::Boolean))).collect()
        }
        ColumnType::Double => column
            .as_primitive_opt::<Float64Type>()?
            .iter()
            .map(|value| or_null(value.map(|value| KeyValue::Double(value.to_bits()))))
            .collect(),
        ColumnType::Integer
        | ColumnType::Long
        | ColumnType::Timestamp
        | ColumnType::Date
        | ColumnType::StringArray
        | ColumnType::LongArray
        | ColumnType::DoubleArray => {
            let values = integers(column_type, column)?.into_iter();
            values.map(|value| or_null(value.map(KeyValue::Integer))).collect()
        }
    })
}
