//! Cells to rows of a `<window>_partials` table, and back.

mod columns;

use std::borrow::Cow;
use std::sync::Arc;

use deltalake::arrow::array::{
    ArrayRef, AsArray, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use deltalake::arrow::compute::{cast, filter_record_batch};
use deltalake::arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimeUnit};
use deltalake::arrow::error::ArrowError;

pub use self::columns::{mean, top_json};
use super::aggregate::WindowCells;
use super::cell::Cell;
use super::group::{Group, KeyValue, integers};
use super::sealed::SealedCell;
use super::sketch::SketchError;
use crate::checkpoint::ShardId;
use crate::clock::DAY_US;
use crate::contract::window::{COMPLETE, DEFINITION, RECORDS, REVISION, WINDOW_START};
use crate::contract::{ColumnType, WindowPlan};

/// One row a group and shard, sorted by (start, key), so that a later reader merges files with one cursor each. A shard
/// may come several times, in the order of its records.
pub fn encode<'a>(
    plan: &WindowPlan,
    shards: impl Iterator<Item = (&'a ShardId, &'a WindowCells)>,
) -> Result<RecordBatch, ArrowError> {
    let mut cells: Vec<(&Group, &ShardId, &Cell)> =
        shards.flat_map(|(shard, cells)| cells.iter().map(move |(group, cell)| (group, shard, cell))).collect();
    cells.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    let of_one_row = cells.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1));
    // A million groups of one batch each are not copied.
    let rows: Vec<(&Group, &ShardId, Cow<'_, Cell>)> = of_one_row
        .map(|cells| {
            let (group, shard, first) = cells[0];
            let mut sum = Cow::Borrowed(first);
            cells[1..].iter().for_each(|(_, _, cell)| sum.to_mut().merge(cell));
            (group, shard, sum)
        })
        .collect();
    let mut columns = shared_columns(plan, plan.pane_us, rows.iter().map(|(group, _, cell)| (*group, &**cell)))?;
    columns.push(Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, shard, _)| shard.as_str()))));
    columns.push(days(rows.iter().map(|(group, ..)| *group)));
    RecordBatch::try_new(Arc::clone(&plan.partials_schema), columns)
}

/// One row a cell, in their order. Cells of several shards were merged into one, so it names none.
pub fn encode_merged(plan: &WindowPlan, cells: &[(Group, Cell)]) -> Result<RecordBatch, ArrowError> {
    let mut columns = shared_columns(plan, plan.pane_us, cells.iter().map(|(group, cell)| (group, cell)))?;
    columns.push(Arc::new(StringArray::new_null(cells.len())));
    columns.push(days(cells.iter().map(|(group, _)| group)));
    RecordBatch::try_new(Arc::clone(&plan.partials_schema), columns)
}

/// What a sealed row says beside its numbers.
#[derive(Debug, Clone, Copy)]
pub struct Sealing {
    /// Windows that began before this (epoch us) are not complete.
    pub since_us: i64,
    /// 0 for the first row of a window's key.
    pub revision: i64,
}

/// One row of the sealed table a cell, in their order.
pub fn encode_sealed(
    plan: &WindowPlan,
    cells: &[(Group, Cell)],
    Sealing { since_us, revision }: Sealing,
) -> Result<RecordBatch, ArrowError> {
    let mut columns = shared_columns(plan, plan.every_us, cells.iter().map(|(group, cell)| (group, cell)))?;
    let complete = cells.iter().map(|(group, _)| Some(group.start_us >= since_us));
    columns.push(Arc::new(complete.collect::<BooleanArray>()));
    columns.push(Arc::new(Int64Array::from_value(revision, cells.len())));
    columns.push(days(cells.iter().map(|(group, _)| group)));
    RecordBatch::try_new(Arc::clone(&plan.sealed_schema), columns)
}

/// The columns that partials and sealed rows begin with.
fn shared_columns<'a>(
    plan: &WindowPlan,
    size_us: i64,
    rows: impl ExactSizeIterator<Item = (&'a Group, &'a Cell)> + Clone,
) -> Result<Vec<ArrayRef>, ArrowError> {
    let starts = rows.clone().map(|(group, _)| group.start_us);
    let ends = starts.clone().map(|us| us.saturating_add(size_us));
    let mut columns: Vec<ArrayRef> = vec![timestamps(starts.map(Some)), timestamps(ends.map(Some))];
    for (index, key) in plan.keys.iter().enumerate() {
        columns.push(key_column(key.output(), rows.clone().map(|(group, _)| &group.key[index])));
    }
    for (index, measure) in plan.measures.iter().enumerate() {
        columns::encode(measure, rows.clone().map(|(_, cell)| &cell.measures[index]), &mut columns)?;
    }
    columns.push(Arc::new(Int64Array::from_iter_values(rows.clone().map(|(_, cell)| cell.records as i64))));
    columns.push(Arc::new(StringArray::from_iter_values(rows.map(|_| plan.definition.as_str()))));
    Ok(columns)
}

fn days<'a>(groups: impl Iterator<Item = &'a Group>) -> ArrayRef {
    let days = groups.map(|group| i32::try_from(group.start_us.div_euclid(DAY_US)).ok());
    Arc::new(days.collect::<Date32Array>())
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
        source: Box<SketchError>,
    },
}

/// The cells in rows of a partials table that have this very definition, each with its group.
pub fn decode_current(plan: &WindowPlan, rows: &RecordBatch) -> Result<Vec<(Group, Cell)>, Undecodable> {
    let rows = of_definition(plan, rows)?;
    if rows.num_rows() == 0 { Ok(Vec::new()) } else { decode(plan, &rows) }
}

/// What is in sealed rows that have this very definition, each with its group.
pub fn decode_sealed(plan: &WindowPlan, rows: &RecordBatch) -> Result<Vec<(Group, SealedCell)>, Undecodable> {
    let rows = of_definition(plan, rows)?;
    if rows.num_rows() == 0 {
        return Ok(Vec::new());
    }
    let missing = |column: &str| Undecodable::Column { column: column.to_owned() };
    let complete = rows.column_by_name(COMPLETE).and_then(|column| column.as_boolean_opt());
    let revisions = rows.column_by_name(REVISION).and_then(|column| column.as_primitive_opt::<Int64Type>());
    let (complete, revisions) =
        (complete.ok_or_else(|| missing(COMPLETE))?, revisions.ok_or_else(|| missing(REVISION))?);
    let cells = decode(plan, &rows)?.into_iter().zip(complete.iter().zip(revisions));
    let sealed = cells.map(|((group, cell), (complete, revision))| {
        (group, SealedCell { cell, revision: revision.unwrap_or(0), complete: complete.unwrap_or(false) })
    });
    Ok(sealed.collect())
}

/// The rows that have this very definition. The columns of another one need not be these.
pub fn of_definition(plan: &WindowPlan, rows: &RecordBatch) -> Result<RecordBatch, Undecodable> {
    let wrong = || Undecodable::Column { column: DEFINITION.to_owned() };
    let definitions = rows.column_by_name(DEFINITION).and_then(|column| column.as_string_opt::<i32>());
    let definitions = definitions.ok_or_else(wrong)?;
    let current: BooleanArray = definitions.iter().map(|found| Some(found == Some(&plan.definition))).collect();
    if current.true_count() == rows.num_rows() {
        return Ok(rows.clone());
    }
    filter_record_batch(rows, &current).map_err(|_| wrong())
}

/// The same rows with all times in microseconds. Engines that have rewritten a file write what theirs are: Spark writes
/// nanoseconds (INT96) unless told otherwise.
fn in_microseconds(rows: &RecordBatch) -> Result<Cow<'_, RecordBatch>, Undecodable> {
    let schema = rows.schema();
    if schema.fields().iter().all(|field| of_another_unit(field).is_none()) {
        return Ok(Cow::Borrowed(rows));
    }
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in schema.fields().iter().zip(rows.columns()) {
        let in_us = of_another_unit(field).map(|zone| DataType::Timestamp(TimeUnit::Microsecond, zone.cloned()));
        let to = in_us.unwrap_or_else(|| field.data_type().clone());
        let unusable = |_| Undecodable::Column { column: field.name().clone() };
        columns.push(cast(column, &to).map_err(unusable)?);
        fields.push(field.as_ref().clone().with_data_type(to));
    }
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
    Ok(Cow::Owned(rows.map_err(|_| Undecodable::Column { column: WINDOW_START.to_owned() })?))
}

/// The zone of a column of times that are not in microseconds.
fn of_another_unit(field: &Field) -> Option<Option<&Arc<str>>> {
    let DataType::Timestamp(unit, zone) = field.data_type() else { return None };
    (*unit != TimeUnit::Microsecond).then_some(zone.as_ref())
}

/// The groups of these rows, whatever their definition, one each.
pub fn decode_groups(plan: &WindowPlan, rows: &RecordBatch) -> Result<Vec<Group>, Undecodable> {
    groups(plan, in_microseconds(rows)?.as_ref())
}

fn groups(plan: &WindowPlan, rows: &RecordBatch) -> Result<Vec<Group>, Undecodable> {
    let missing = |name: &str| Undecodable::Column { column: name.to_owned() };
    let column = |name: &str| rows.column_by_name(name).ok_or_else(|| missing(name));
    let starts = integers(ColumnType::Timestamp, column(WINDOW_START)?).ok_or_else(|| missing(WINDOW_START))?;
    let keys =
        plan.keys.iter().map(|key| decode_keys(key.output(), column(&key.name)?).ok_or_else(|| missing(&key.name)));
    let mut keys: Vec<_> = keys.map(|keys| keys.map(Vec::into_iter)).collect::<Result<_, _>>()?;
    let group = |start_us: Option<i64>| {
        let key = keys.iter_mut().filter_map(Iterator::next).collect();
        Ok(Group { start_us: start_us.ok_or_else(|| missing(WINDOW_START))?, key })
    };
    starts.into_iter().map(group).collect()
}

/// The cells in these rows, each with its group.
pub fn decode(plan: &WindowPlan, rows: &RecordBatch) -> Result<Vec<(Group, Cell)>, Undecodable> {
    let rows = in_microseconds(rows)?;
    let rows = rows.as_ref();
    let missing = |name: &str| Undecodable::Column { column: name.to_owned() };
    let column = |name: &str| rows.column_by_name(name).ok_or_else(|| missing(name));
    let records = column(RECORDS)?.as_primitive_opt::<Int64Type>().ok_or_else(|| missing(RECORDS))?;
    let groups = groups(plan, rows)?;
    let measures = plan.measures.iter().map(|measure| columns::decode(measure, rows).map(Vec::into_iter));
    let mut measures: Vec<_> = measures.collect::<Result<_, _>>()?;
    let cells = groups.into_iter().zip(records.iter()).map(|(group, records)| {
        let records = records.ok_or_else(|| missing(RECORDS))? as u64;
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
