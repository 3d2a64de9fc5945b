//! What a contract's `[[window]]` tables compile to. The window room runs these; the lake writes their schemas.

use std::sync::Arc;

use deltalake::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::{ColumnType, Constant, DATE, EventTime, SHARD_ID};
use crate::clock::DAY_US;

/// Partials column: start of the window, or of the pane if windows overlap (timestamp).
pub const WINDOW_START: &str = "window_start";
/// Partials column: end of the window or pane, exclusive (timestamp).
pub const WINDOW_END: &str = "window_end";
/// Partials column: how many records are in it (long).
pub const RECORDS: &str = "records";
/// Partials column: the hash of the window's declaration (string). Only equal ones are ever merged.
pub const DEFINITION: &str = "definition";

/// Sealed column: whether nothing is missing because the window began before it was counted (boolean).
pub const COMPLETE: &str = "complete";
/// Sealed column: which correction of the window's numbers a row is; 0 for the first (long).
pub const REVISION: &str = "revision";

/// What becomes of records that come after their window was sealed. They are in the partials either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealPolicy {
    /// The row stays as it is, and the record counts as late.
    Once,
    /// The key gets another row, with the next revision, if its window ended no longer than this ago (us).
    Revise {
        /// By the stream's watermark.
        for_us: i64,
    },
}

/// One declared window, compiled.
#[derive(Debug, Clone)]
pub struct WindowPlan {
    /// Unique over all contracts of a pipeline; `{name}` is the table of its sealed rows, `{name}_partials` of its
    /// partials.
    pub name: String,
    /// Size in microseconds.
    pub every_us: i64,
    /// How far its starts are apart in microseconds: they are multiples of it since 1970-01-01T00:00Z. Its partials
    /// are of *panes* of this size, and a window is the sum of `every_us / pane_us` of them (1 if windows do not
    /// overlap).
    pub pane_us: i64,
    /// What the time of a record is.
    pub time: EventTime,
    /// Which records it counts: those for which all hold.
    pub conditions: Vec<Condition>,
    /// How long after its end a window waits for stragglers before it is sealed, in microseconds.
    pub grace_us: i64,
    /// Grouping, in declared order.
    pub keys: Vec<KeyPlan>,
    /// Measures, in declared order.
    pub measures: Vec<MeasurePlan>,
    /// Hash (16 hex digits) of `every`, `hop`, `time`, `where`, `by` and `measure`; not of the name, the grace or the
    /// comments.
    pub definition: String,
    /// The partials table: `window_start, window_end, <keys>, <measures>, records, definition, _shard_id, _date`.
    pub partials_schema: SchemaRef,
    /// What becomes of late records.
    pub seal: SealPolicy,
    /// For how long after its end a window's partials are kept, in microseconds; `None`: for ever.
    pub keep_us: Option<i64>,
    /// The sealed table: `window_start, window_end, <keys>, <measures>, records, definition, complete, revision, _date`.
    pub sealed_schema: SchemaRef,
}

impl WindowPlan {
    /// The end of the last window (epoch us) that a watermark closes: its end and the grace after it have passed.
    pub fn closed_through_us(&self, watermark_us: i64) -> i64 {
        watermark_us.saturating_sub(self.grace_us).div_euclid(self.pane_us).saturating_mul(self.pane_us)
    }

    /// Whether a window closes when a watermark goes from here to there, epoch ms.
    pub fn closes(&self, from_ms: Option<i64>, to_ms: i64) -> bool {
        let through_us = |ms: i64| self.closed_through_us(ms.saturating_mul(1000));
        from_ms.is_none_or(|from_ms| through_us(to_ms) > through_us(from_ms))
    }

    /// The first midnight (epoch us) from which on partials are kept when the watermark stands there and all windows
    /// that end at or before `sealed_us` are sealed: all windows that hold a pane before it are sealed, and ended long
    /// enough ago. `None`: all are kept.
    pub fn kept_from_us(&self, watermark_us: i64, sealed_us: i64) -> Option<i64> {
        let ended_us = watermark_us.saturating_sub(self.keep_us?).min(sealed_us);
        // The first window that ends later begins here.
        let begins_us = ended_us.saturating_sub(self.every_us).saturating_add(self.pane_us);
        Some(begins_us.div_euclid(DAY_US).saturating_mul(DAY_US))
    }

    /// The name of the table that holds its sealed rows.
    pub fn sealed_table(&self) -> &str {
        &self.name
    }

    /// The name of the table that holds its partials.
    pub fn partials_table(&self) -> String {
        format!("{}_partials", self.name)
    }

    /// How many panes a window is made of.
    pub fn panes(&self) -> i64 {
        self.every_us / self.pane_us
    }
}

/// A comparison that a record must meet to be counted. A null meets none but [`Test::Null`].
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Index of the column among the contract's data columns.
    pub column: usize,
    /// Its type.
    pub of: ColumnType,
    /// What must be true of its value.
    pub test: Test,
}

/// What must be true of a value. Constants are of the column's type; timestamps (us) and dates (days) are whole.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// It is null.
    Null,
    /// It is not.
    NotNull,
    /// It stands so to this one. Texts are compared byte by byte.
    Compare(Comparison, Constant),
    /// It is one of these.
    OneOf(Vec<Constant>),
}

/// How a value stands to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

/// One grouping key.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyPlan {
    /// Output column.
    pub name: String,
    /// Index of the source column among the contract's data columns.
    pub column: usize,
    /// The source column's type (no arrays).
    pub source: ColumnType,
    /// What is made of it.
    pub derive: Derive,
}

/// What a key makes of its source column. A null value, or one outside the bounds, is the null key.
#[derive(Debug, Clone, PartialEq)]
pub enum Derive {
    /// The value itself.
    Value,
    /// `bounds = [18, 25, 36]`, `labels = ["18-24", "25-35", "36+"]`: label i for bounds[i] <= v < bounds[i+1]; with
    /// as many labels as bounds the last one is open-ended, with one fewer it ends at the last bound.
    Bucket {
        /// Ascending lower bounds.
        bounds: Vec<f64>,
        /// One label a bucket.
        labels: Vec<String>,
    },
    /// The calendar year of a timestamp or date, as an integer.
    Year,
}

impl KeyPlan {
    /// The output column's type.
    pub fn output(&self) -> ColumnType {
        match self.derive {
            Derive::Value => self.source,
            Derive::Bucket { .. } => ColumnType::String,
            Derive::Year => ColumnType::Integer,
        }
    }
}

/// One measure.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasurePlan {
    /// Output column.
    pub name: String,
    /// What is computed.
    pub function: Function,
}

/// What a measure computes. `usize` is the index of its column among the contract's data columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// Records in the window, whatever they hold.
    Count,
    /// Sum of an integer or long column: exact, decimal(38,0).
    SumInteger(usize),
    /// Sum of a double column, compensated: two columns, `name` and `name_lo`.
    SumDouble(usize),
    /// Smallest value of an integer, long, double, timestamp or date column.
    Min(usize, ColumnType),
    /// Largest value of such a column.
    Max(usize, ColumnType),
    /// Mean of an integer or long column: `name` (double), `name_sum` (decimal(38,0)), `name_count` (long).
    MeanInteger(usize),
    /// Mean of a double column: `name` (double), `name_sum` and `name_sum_lo` (double), `name_count` (long).
    MeanDouble(usize),
    /// The value of the earliest record that has one: `name`, and the record's place in [`PLACE_SUFFIXES`].
    First(usize, ColumnType),
    /// The value of the latest record that has one: as [`Self::First`].
    Last(usize, ColumnType),
    /// How many different values: `name` (long), `name_sketch` (binary: HLL).
    Distinct(usize, ColumnType),
    /// Quantiles of numbers: one double for each of [`QUANTILES`], `name_sketch` (binary: KLL of doubles).
    Quantiles(usize, ColumnType),
    /// The most frequent values: `name` (string: a JSON list of this many), `name_error` (long: how much too large
    /// any count in it may be), `name_sketch` (binary: frequent strings).
    Top(usize, ColumnType, usize),
}

/// Ranks of a `quantiles` measure, and the suffixes of their columns.
pub const QUANTILES: [(f64, &str); 3] = [(0.5, "_p50"), (0.9, "_p90"), (0.99, "_p99")];

/// Suffixes of the columns that order the values of a `first` or `last` measure: the record's event time
/// (timestamp), shard (string), sequence number (string) and sub-sequence number (long).
pub const PLACE_SUFFIXES: [&str; 4] = ["_at", "_shard_id", "_sequence_number", "_sub_sequence_number"];

/// Suffix of the column that holds a sketch.
pub const SKETCH_SUFFIX: &str = "_sketch";

/// Suffix of the column that says how far the counts of a `top` measure may be off.
pub const ERROR_SUFFIX: &str = "_error";

impl Function {
    /// The index of the column that it reads, among the contract's data columns.
    pub fn column(self) -> Option<usize> {
        match self {
            Self::Count => None,
            Self::SumInteger(column)
            | Self::SumDouble(column)
            | Self::MeanInteger(column)
            | Self::MeanDouble(column)
            | Self::Min(column, _)
            | Self::Max(column, _)
            | Self::First(column, _)
            | Self::Last(column, _)
            | Self::Distinct(column, _)
            | Self::Quantiles(column, _)
            | Self::Top(column, _, _) => Some(column),
        }
    }
}

impl MeasurePlan {
    /// The type of its values, if they are values of a column.
    pub fn value_type(&self) -> Option<ColumnType> {
        let (Function::Min(_, of) | Function::Max(_, of) | Function::First(_, of) | Function::Last(_, of)) =
            self.function
        else {
            return None;
        };
        Some(of)
    }

    /// The partials columns that hold it. All nullable: a window without a non-null value has none.
    pub fn fields(&self) -> Vec<Field> {
        let field = |suffix: &str, data_type: DataType| Field::new(format!("{}{suffix}", self.name), data_type, true);
        match self.function {
            Function::Count => vec![field("", DataType::Int64)],
            Function::SumInteger(_) => vec![field("", DataType::Decimal128(38, 0))],
            Function::SumDouble(_) => vec![field("", DataType::Float64), field("_lo", DataType::Float64)],
            Function::Min(_, column) | Function::Max(_, column) => vec![field("", column.arrow())],
            Function::MeanInteger(_) => vec![
                field("", DataType::Float64),
                field("_sum", DataType::Decimal128(38, 0)),
                field("_count", DataType::Int64),
            ],
            Function::MeanDouble(_) => vec![
                field("", DataType::Float64),
                field("_sum", DataType::Float64),
                field("_sum_lo", DataType::Float64),
                field("_count", DataType::Int64),
            ],
            Function::First(_, column) | Function::Last(_, column) => {
                let [at, shard, sequence, sub] = PLACE_SUFFIXES;
                vec![
                    field("", column.arrow()),
                    field(at, instant()),
                    field(shard, DataType::Utf8),
                    field(sequence, DataType::Utf8),
                    field(sub, DataType::Int64),
                ]
            }
            Function::Distinct(..) => vec![field("", DataType::Int64), field(SKETCH_SUFFIX, DataType::Binary)],
            Function::Quantiles(..) => {
                let quantiles = QUANTILES.iter().map(|(_, suffix)| field(suffix, DataType::Float64));
                quantiles.chain([field(SKETCH_SUFFIX, DataType::Binary)]).collect()
            }
            Function::Top(..) => vec![
                field("", DataType::Utf8),
                field(ERROR_SUFFIX, DataType::Int64),
                field(SKETCH_SUFFIX, DataType::Binary),
            ],
        }
    }
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The partials schema of a window with these keys and measures.
pub fn partials_schema(keys: &[KeyPlan], measures: &[MeasurePlan]) -> SchemaRef {
    schema_with(keys, measures, [Field::new(SHARD_ID, DataType::Utf8, true)])
}

/// The sealed schema of a window with these keys and measures.
pub fn sealed_schema(keys: &[KeyPlan], measures: &[MeasurePlan]) -> SchemaRef {
    let own = [Field::new(COMPLETE, DataType::Boolean, true), Field::new(REVISION, DataType::Int64, true)];
    schema_with(keys, measures, own)
}

fn schema_with(keys: &[KeyPlan], measures: &[MeasurePlan], own: impl IntoIterator<Item = Field>) -> SchemaRef {
    let mut fields = vec![Field::new(WINDOW_START, instant(), true), Field::new(WINDOW_END, instant(), true)];
    fields.extend(keys.iter().map(|key| Field::new(&key.name, key.output().arrow(), true)));
    fields.extend(measures.iter().flat_map(MeasurePlan::fields));
    fields.push(Field::new(RECORDS, DataType::Int64, true));
    fields.push(Field::new(DEFINITION, DataType::Utf8, true));
    fields.extend(own);
    fields.push(Field::new(DATE, DataType::Date32, true));
    Arc::new(Schema::new(fields))
}
