//! Cells to rows of a `<window>_partials` table, and back.

use std::sync::Arc;

use deltalake::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray,
};
use deltalake::arrow::datatypes::{Decimal128Type, Float64Type, Int64Type};
use deltalake::arrow::error::ArrowError;

use super::aggregate::WindowCells;
use super::cell::{Cell, Compensated, Measure, Scalar};
use super::group::{Group, KeyValue, integers};
use crate::checkpoint::ShardId;
use crate::contract::window::{DEFINITION, Function, MeasurePlan, RECORDS, WINDOW_START};
use crate::contract::{ColumnType, WindowPlan};

const DAY_US: i64 = 86_400_000_000;

/// One row a cell and shard, sorted by (start, key), so that a later reader merges files with one cursor each.
pub fn encode(plan: &WindowPlan, shards: &[(ShardId, WindowCells)]) -> Result<RecordBatch, ArrowError> {
    let mut rows: Vec<(&Group, &Cell, &ShardId)> =
        shards.iter().flat_map(|(shard, cells)| cells.iter().map(move |(group, cell)| (group, cell, shard))).collect();
    rows.sort_by(|a, b| (a.0, a.2).cmp(&(b.0, b.2)));
    let groups: Vec<&Group> = rows.iter().map(|row| row.0).collect();
    let starts = || groups.iter().map(|group| group.start_us);
    let mut columns: Vec<ArrayRef> =
        vec![timestamps(starts()), timestamps(starts().map(|us| us.saturating_add(plan.every_us)))];
    for (index, key) in plan.keys.iter().enumerate() {
        columns.push(key_column(key.output(), groups.iter().map(|group| &group.key[index])));
    }
    for (index, measure) in plan.measures.iter().enumerate() {
        measure_columns(measure, rows.iter().map(|row| &row.1.measures[index]), &mut columns)?;
    }
    columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1.records as i64))));
    columns.push(Arc::new(StringArray::from_iter_values(rows.iter().map(|_| plan.definition.as_str()))));
    columns.push(Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.2.as_str()))));
    columns.push(Arc::new(Date32Array::from_iter_values(starts().map(|us| us.div_euclid(DAY_US) as i32))));
    RecordBatch::try_new(Arc::clone(&plan.partials_schema), columns)
}

fn timestamps(values_us: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values_us).with_timezone("UTC"))
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
        ColumnType::Timestamp => {
            Arc::new(values.map(integer).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        }
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

/// The columns that [`MeasurePlan::fields`] declares, in its order.
fn measure_columns<'a>(
    plan: &MeasurePlan,
    states: impl Iterator<Item = &'a Measure> + Clone,
    columns: &mut Vec<ArrayRef>,
) -> Result<(), ArrowError> {
    let doubles = |pick: fn(&Measure) -> Option<f64>| -> ArrayRef {
        Arc::new(states.clone().map(pick).collect::<Float64Array>())
    };
    let decimals = |pick: fn(&Measure) -> Option<i128>| -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(states.clone().map(pick).collect::<Decimal128Array>().with_precision_and_scale(38, 0)?))
    };
    let longs =
        |pick: fn(&Measure) -> Option<i64>| -> ArrayRef { Arc::new(states.clone().map(pick).collect::<Int64Array>()) };
    match plan.function {
        Function::Count => columns.push(longs(count)),
        Function::SumInteger(_) => columns.push(decimals(integer_sum)?),
        Function::SumDouble(_) => {
            columns.extend([doubles(|m| double_sum(m).map(|s| s.hi)), doubles(|m| double_sum(m).map(|s| s.lo))])
        }
        Function::MeanInteger(_) => columns.extend([doubles(mean), decimals(integer_sum)?, longs(count)]),
        Function::MeanDouble(_) => columns.extend([
            doubles(mean),
            doubles(|m| double_sum(m).map(|s| s.hi)),
            doubles(|m| double_sum(m).map(|s| s.lo)),
            longs(count),
        ]),
        Function::Min(_, column_type) | Function::Max(_, column_type) => columns.push(extreme(column_type, states)),
    }
    Ok(())
}

fn extreme<'a>(column_type: ColumnType, states: impl Iterator<Item = &'a Measure>) -> ArrayRef {
    let keys: Vec<KeyValue> = states
        .map(|state| match state {
            Measure::Min(Some(Scalar::Integer(value))) | Measure::Max(Some(Scalar::Integer(value))) => {
                KeyValue::Integer(*value)
            }
            Measure::Min(Some(Scalar::Double(value))) | Measure::Max(Some(Scalar::Double(value))) => {
                KeyValue::Double(value.to_bits())
            }
            Measure::Min(None)
            | Measure::Max(None)
            | Measure::Count(_)
            | Measure::SumInteger(_)
            | Measure::SumDouble(_)
            | Measure::MeanInteger(..)
            | Measure::MeanDouble(..) => KeyValue::Null,
        })
        .collect();
    key_column(column_type, keys.iter())
}

fn count(state: &Measure) -> Option<i64> {
    match state {
        Measure::Count(count) | Measure::MeanInteger(_, count) | Measure::MeanDouble(_, count) => Some(*count as i64),
        Measure::SumInteger(_) | Measure::SumDouble(_) | Measure::Min(_) | Measure::Max(_) => None,
    }
}

fn integer_sum(state: &Measure) -> Option<i128> {
    match state {
        Measure::SumInteger(sum) => *sum,
        Measure::MeanInteger(sum, count) => (*count > 0).then_some(*sum),
        Measure::Count(_) | Measure::SumDouble(_) | Measure::Min(_) | Measure::Max(_) | Measure::MeanDouble(..) => None,
    }
}

fn double_sum(state: &Measure) -> Option<Compensated> {
    match state {
        Measure::SumDouble(sum) => *sum,
        Measure::MeanDouble(sum, count) => (*count > 0).then_some(*sum),
        Measure::Count(_) | Measure::SumInteger(_) | Measure::Min(_) | Measure::Max(_) | Measure::MeanInteger(..) => {
            None
        }
    }
}

/// The readable mean of a state; `None` without values.
pub fn mean(state: &Measure) -> Option<f64> {
    match state {
        Measure::MeanInteger(sum, count) => (*count > 0).then(|| *sum as f64 / *count as f64),
        Measure::MeanDouble(sum, count) => (*count > 0).then(|| sum.value() / *count as f64),
        Measure::Count(_) | Measure::SumInteger(_) | Measure::SumDouble(_) | Measure::Min(_) | Measure::Max(_) => None,
    }
}

// === Back from the table ===

/// The cells in rows of a partials table that have this very definition, each with its group.
pub fn decode_current(plan: &WindowPlan, rows: &RecordBatch) -> Vec<(Group, Cell)> {
    let definitions = rows.column_by_name(DEFINITION).and_then(|column| column.as_string_opt::<i32>());
    let (Some(definitions), Some(cells)) = (definitions, decode(plan, rows)) else { return Vec::new() };
    let current = |row: usize| definitions.is_valid(row) && definitions.value(row) == plan.definition;
    cells.into_iter().enumerate().filter(|(row, _)| current(*row)).map(|(_, cell)| cell).collect()
}

/// The cells in rows of a partials table, each with its group. Rows whose columns are not the plan's are refused
/// as a whole: `None`.
fn decode(plan: &WindowPlan, rows: &RecordBatch) -> Option<Vec<(Group, Cell)>> {
    let starts = integers(ColumnType::Timestamp, rows.column_by_name(WINDOW_START)?)?;
    let records = rows.column_by_name(RECORDS)?.as_primitive_opt::<Int64Type>()?;
    let keys: Vec<Vec<KeyValue>> = plan
        .keys
        .iter()
        .map(|key| decode_keys(key.output(), rows.column_by_name(&key.name)?))
        .collect::<Option<_>>()?;
    let measures: Vec<Vec<Measure>> =
        plan.measures.iter().map(|measure| decode_measure(measure, rows)).collect::<Option<_>>()?;
    let cells = (0..rows.num_rows()).map(|row| {
        let group = Group { start_us: starts[row]?, key: keys.iter().map(|column| column[row].clone()).collect() };
        let measures = measures.iter().map(|column| column[row].clone()).collect();
        Some((group, Cell { records: records.value(row) as u64, measures }))
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

fn decode_measure(plan: &MeasurePlan, rows: &RecordBatch) -> Option<Vec<Measure>> {
    let column = |suffix: &str| rows.column_by_name(&format!("{}{suffix}", plan.name));
    let longs = |suffix: &str| -> Option<Vec<Option<i64>>> {
        Some(column(suffix)?.as_primitive_opt::<Int64Type>()?.iter().collect())
    };
    let doubles = |suffix: &str| -> Option<Vec<Option<f64>>> {
        Some(column(suffix)?.as_primitive_opt::<Float64Type>()?.iter().collect())
    };
    let decimals = |suffix: &str| -> Option<Vec<Option<i128>>> {
        Some(column(suffix)?.as_primitive_opt::<Decimal128Type>()?.iter().collect())
    };
    let pairs = |hi: Vec<Option<f64>>, lo: Vec<Option<f64>>| -> Vec<Option<Compensated>> {
        hi.into_iter().zip(lo).map(|(hi, lo)| hi.map(|hi| Compensated { hi, lo: lo.unwrap_or(0.0) })).collect()
    };
    Some(match plan.function {
        Function::Count => longs("")?.into_iter().map(|count| Measure::Count(count.unwrap_or(0) as u64)).collect(),
        Function::SumInteger(_) => decimals("")?.into_iter().map(Measure::SumInteger).collect(),
        Function::SumDouble(_) => pairs(doubles("")?, doubles("_lo")?).into_iter().map(Measure::SumDouble).collect(),
        Function::MeanInteger(_) => (decimals("_sum")?.into_iter().zip(longs("_count")?))
            .map(|(sum, count)| Measure::MeanInteger(sum.unwrap_or(0), count.unwrap_or(0) as u64))
            .collect(),
        Function::MeanDouble(_) => (pairs(doubles("_sum")?, doubles("_sum_lo")?).into_iter().zip(longs("_count")?))
            .map(|(sum, count)| Measure::MeanDouble(sum.unwrap_or_default(), count.unwrap_or(0) as u64))
            .collect(),
        Function::Min(_, column_type) => scalars(column_type, column("")?)?.into_iter().map(Measure::Min).collect(),
        Function::Max(_, column_type) => scalars(column_type, column("")?)?.into_iter().map(Measure::Max).collect(),
    })
}

fn scalars(column_type: ColumnType, column: &ArrayRef) -> Option<Vec<Option<Scalar>>> {
    if column_type == ColumnType::Double {
        return Some(column.as_primitive_opt::<Float64Type>()?.iter().map(|value| value.map(Scalar::Double)).collect());
    }
    Some(integers(column_type, column)?.into_iter().map(|value| value.map(Scalar::Integer)).collect())
}
