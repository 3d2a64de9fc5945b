//! The statistics of an `add`, by which readers skip files: rows, nulls, and bounds of every simple column.
//!
//! Bounds come from the Parquet writer, which has seen every value already. A bound that is not exact may only be
//! wider than the truth: text is cut by the Parquet writer at a character and its maximum rounded up; timestamps
//! have milliseconds in Delta's log, so their minimum is rounded down and their maximum up.

use std::cmp::Ordering;

use chrono::{DateTime, Datelike};
use deltalake::arrow::array::{Array, ArrowPrimitiveType, AsArray, PrimitiveArray, RecordBatch};
use deltalake::arrow::compute::{max, min};
use deltalake::arrow::datatypes::{
    DataType, Date32Type, Float64Type, Int32Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType,
};
use deltalake::parquet::file::metadata::ParquetMetaData;
use deltalake::parquet::file::statistics::Statistics;
use serde_json::{Map, Value, json};

use super::partition::{day_text, is_four_digit_year};

/// A longer text bound is left out: the Parquet writer could not shorten it, and the log is no place for it.
const TEXT_BOUND_BYTES_MAX: usize = 256;

/// Rows and, by column, nulls of what went into a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub rows: usize,
    nulls: Vec<usize>,
}

impl Counts {
    /// Counts another batch; all have the same columns.
    pub fn add(&mut self, batch: &RecordBatch) {
        self.add_nulls(batch.num_rows(), batch.columns().iter().map(|column| column.null_count()));
    }

    /// Counts what was counted elsewhere, of the same columns.
    pub fn add_counts(&mut self, counts: &Self) {
        self.add_nulls(counts.rows, counts.nulls.iter().copied());
    }

    /// Nulls of a column.
    pub fn nulls(&self, column: usize) -> usize {
        self.nulls.get(column).copied().unwrap_or(0)
    }

    fn add_nulls(&mut self, rows: usize, nulls: impl ExactSizeIterator<Item = usize>) {
        self.rows += rows;
        self.nulls.resize(nulls.len(), 0);
        self.nulls.iter_mut().zip(nulls).for_each(|(sum, nulls)| *sum += nulls);
    }
}

/// The `stats` text of a file's `add`.
pub(crate) fn stats_json(schema: &Schema, counts: &Counts, file: &ParquetMetaData) -> String {
    let (mut minima, mut maxima, mut nulls) = (Map::new(), Map::new(), Map::new());
    for (field, count) in schema.fields().iter().zip(&counts.nulls) {
        nulls.insert(field.name().clone(), json!(count));
        if let Some(bounds) = bounds(field.name(), field.data_type(), file) {
            minima.extend(bounds.min.map(|value| (field.name().clone(), value)));
            maxima.extend(bounds.max.map(|value| (field.name().clone(), value)));
        }
    }
    json!({ "numRecords": counts.rows, "minValues": minima, "maxValues": maxima, "nullCount": nulls }).to_string()
}

/// How values stand to the least and the greatest that a footer tells of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// It tells none, or of a type that nobody here compares.
    Untold,
    /// A value is beyond them.
    Exceeded,
    /// None is; whether a value is one of them.
    Kept { least: bool, greatest: bool },
}

/// Holds values against their column's statistics, as far as [`stats_json`] believes these.
pub(crate) fn ends(statistics: &Statistics, values: &dyn Array) -> Ends {
    let Some(span) = span(statistics) else { return Ends::Untold };
    let kept = match span {
        Span::Boolean(min, max) => values.as_boolean_opt().map(|values| within(values.iter().flatten(), min, max)),
        Span::Integer(min, max) => {
            integers(values).map(|(least, greatest)| within(least.into_iter().chain(greatest), min, max))
        }
        // A NaN is neither more nor less.
        Span::Double(min, max) => {
            let doubles = values.as_primitive_opt::<Float64Type>();
            doubles.map(|values| within(values.iter().flatten().filter(|value| !value.is_nan()), min, max))
        }
        Span::Text(min, max) => {
            let texts = values.as_string_opt::<i32>();
            texts.map(|texts| within(texts.iter().flatten().map(str::as_bytes), min.as_slice(), max.as_slice()))
        }
    };
    kept.unwrap_or(Ends::Untold)
}

fn within<T: PartialOrd>(values: impl Iterator<Item = T>, min: T, max: T) -> Ends {
    let (mut least, mut greatest) = (false, false);
    for value in values {
        match (value.partial_cmp(&min), value.partial_cmp(&max)) {
            (Some(Ordering::Less), _) | (_, Some(Ordering::Greater)) => return Ends::Exceeded,
            (of_min, of_max) => {
                least |= of_min == Some(Ordering::Equal);
                greatest |= of_max == Some(Ordering::Equal);
            }
        }
    }
    Ends::Kept { least, greatest }
}

/// The least and the greatest of whole numbers, days or instants; `None` of other values.
fn integers(values: &dyn Array) -> Option<(Option<i64>, Option<i64>)> {
    fn of<T: ArrowPrimitiveType<Native: Into<i64>>>(values: &PrimitiveArray<T>) -> (Option<i64>, Option<i64>) {
        (min(values).map(Into::into), max(values).map(Into::into))
    }
    let wide = values.as_primitive_opt::<Int64Type>().map(of);
    let instants = || values.as_primitive_opt::<TimestampMicrosecondType>().map(of);
    let narrow = || values.as_primitive_opt::<Int32Type>().map(of);
    wide.or_else(instants).or_else(narrow).or_else(|| values.as_primitive_opt::<Date32Type>().map(of))
}

struct Bounds {
    min: Option<Value>,
    max: Option<Value>,
}

/// Smallest and largest value, in the order in which Parquet and Delta agree.
enum Span {
    Boolean(bool, bool),
    Integer(i64, i64),
    Double(f64, f64),
    Text(Vec<u8>, Vec<u8>),
}

/// The column's bounds over all row groups; none unless every row group that holds values has them.
fn bounds(column: &str, data_type: &DataType, file: &ParquetMetaData) -> Option<Bounds> {
    let mut merged: Option<Span> = None;
    for group in file.row_groups() {
        let chunk = group.columns().iter().find(|chunk| chunk.column_path().parts() == [column])?;
        let found = chunk.statistics()?;
        let only_nulls = found.null_count_opt() == Some(chunk.num_values().unsigned_abs());
        if !only_nulls {
            let span = span(found)?;
            merged = Some(match merged {
                Some(merged) => merged.wider(span)?,
                None => span,
            });
        }
    }
    merged?.bounds(data_type)
}

fn span(statistics: &Statistics) -> Option<Span> {
    match statistics {
        Statistics::Boolean(found) => Some(Span::Boolean(*found.min_opt()?, *found.max_opt()?)),
        Statistics::Int32(found) => Some(Span::Integer((*found.min_opt()?).into(), (*found.max_opt()?).into())),
        Statistics::Int64(found) => Some(Span::Integer(*found.min_opt()?, *found.max_opt()?)),
        Statistics::Double(found) => Some(Span::Double(*found.min_opt()?, *found.max_opt()?)),
        Statistics::ByteArray(found) => {
            Some(Span::Text(found.min_bytes_opt()?.to_vec(), found.max_bytes_opt()?.to_vec()))
        }
        Statistics::Int96(_) | Statistics::Float(_) | Statistics::FixedLenByteArray(_) => None,
    }
}

impl Span {
    fn wider(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Boolean(a, b), Self::Boolean(c, d)) => Some(Self::Boolean(a & c, b | d)),
            (Self::Integer(a, b), Self::Integer(c, d)) => Some(Self::Integer(a.min(c), b.max(d))),
            (Self::Double(a, b), Self::Double(c, d)) => Some(Self::Double(a.min(c), b.max(d))),
            (Self::Text(a, b), Self::Text(c, d)) => Some(Self::Text(a.min(c), b.max(d))),
            (Self::Boolean(..) | Self::Integer(..) | Self::Double(..) | Self::Text(..), _) => None,
        }
    }

    /// As Delta's log writes values of this type; nothing for types whose bounds we do not write.
    fn bounds(self, data_type: &DataType) -> Option<Bounds> {
        let (min, max) = match (data_type, self) {
            (DataType::Boolean, Self::Boolean(min, max)) => (Some(json!(min)), Some(json!(max))),
            (DataType::Int32 | DataType::Int64, Self::Integer(min, max)) => (Some(json!(min)), Some(json!(max))),
            (DataType::Float64, Self::Double(min, max)) => (finite(min), finite(max)),
            (DataType::Utf8, Self::Text(min, max)) => (short_text(min), short_text(max)),
            (DataType::Date32, Self::Integer(min, max)) => (date(min), date(max)),
            (DataType::Timestamp(TimeUnit::Microsecond, _), Self::Integer(min, max)) => {
                let max_ms = max.div_euclid(1000).checked_add(i64::from(max.rem_euclid(1000) != 0));
                (instant(min.div_euclid(1000)), max_ms.and_then(instant))
            }
            _ => return None,
        };
        Some(Bounds { min, max })
    }
}

fn finite(value: f64) -> Option<Value> {
    value.is_finite().then(|| json!(value))
}

fn short_text(bytes: Vec<u8>) -> Option<Value> {
    let text = String::from_utf8(bytes).ok()?;
    (text.len() <= TEXT_BOUND_BYTES_MAX).then_some(Value::String(text))
}

fn date(day: i64) -> Option<Value> {
    let day = i32::try_from(day).ok().filter(|day| is_four_digit_year(*day))?;
    day_text(day).map(Value::String)
}

fn instant(ms: i64) -> Option<Value> {
    let instant = DateTime::from_timestamp_millis(ms)?;
    let four_digits = (1..10_000).contains(&instant.year());
    four_digits.then(|| Value::String(instant.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use deltalake::arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
        StringArray, TimestampMicrosecondArray,
    };
    use deltalake::parquet::arrow::ArrowWriter;
    use deltalake::parquet::file::properties::WriterProperties;

    use super::*;

    fn stats(columns: Vec<(&str, ArrayRef)>, group_rows: usize) -> Value {
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        let file = writer.close().unwrap();
        let mut counts = Counts::default();
        counts.add(&batch);
        serde_json::from_str(&stats_json(&batch.schema(), &counts, &file)).unwrap()
    }

    #[test]
    fn values_are_within_their_ends_or_not_whatever_their_type() {
        let kept = |least, greatest| Ends::Kept { least, greatest };
        let days: ArrayRef = Arc::new(Date32Array::from(vec![Some(-1), None, Some(7)]));
        let instants: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![-1, 7]).with_timezone("UTC"));
        let integers: [ArrayRef; 2] =
            [Arc::new(Int32Array::from(vec![7, -1])), Arc::new(Int64Array::from(vec![-1, 7]))];
        for values in integers.iter().chain([&days, &instants]) {
            for (min, max, expected) in [
                (-1, 7, kept(true, true)),
                (-2, 7, kept(false, true)),
                (-1, 8, kept(true, false)),
                (0, 7, Ends::Exceeded),
                (-1, 6, Ends::Exceeded),
            ] {
                let narrow = Statistics::int32(Some(min), Some(max), None, Some(0), false);
                let wide = Statistics::int64(Some(min.into()), Some(max.into()), None, Some(0), false);
                assert_eq!([ends(&narrow, values), ends(&wide, values)], [expected; 2], "{min} {max} {values:?}");
            }
        }
        let truths = BooleanArray::from(vec![Some(true), None]);
        let of_truths = |min, max| ends(&Statistics::boolean(Some(min), Some(max), None, Some(1), false), &truths);
        assert_eq!(
            [of_truths(false, true), of_truths(true, true), of_truths(false, false)],
            [kept(false, true), kept(true, true), Ends::Exceeded]
        );
        let doubles = Float64Array::from(vec![Some(f64::NAN), Some(-0.0), None, Some(2.5)]);
        let of_doubles = |min, max| ends(&Statistics::double(Some(min), Some(max), None, Some(1), false), &doubles);
        assert_eq!([of_doubles(0.0, 2.5), of_doubles(0.5, 2.5)], [kept(true, true), Ends::Exceeded]);
        let texts = StringArray::from(vec![Some("b"), None, Some("bc")]);
        let of_texts = |min: &str, max: &str| {
            ends(&Statistics::byte_array(Some(min.into()), Some(max.into()), None, Some(1), false), &texts)
        };
        assert_eq!([of_texts("b", "bd"), of_texts("b", "bb")], [kept(true, false), Ends::Exceeded]);
        let nothing = Int64Array::from(vec![None, None]);
        assert_eq!(ends(&Statistics::int64(None, None, None, Some(2), false), &nothing), Ends::Untold);
        let half = Statistics::int64(Some(1), None, None, Some(0), false);
        assert_eq!(ends(&half, &Int64Array::from(vec![0])), Ends::Untold);
        let sums = Decimal128Array::from_iter_values([5]);
        assert_eq!(ends(&Statistics::int64(Some(9), Some(9), None, Some(0), false), &sums), Ends::Untold);
    }

    #[test]
    fn bounds_are_as_wide_as_the_values_and_in_the_log_s_form() {
        let us = |values: Vec<Option<i64>>| Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"));
        let found = stats(
            vec![
                ("i", Arc::new(Int32Array::from(vec![Some(3), None, Some(-2)])) as ArrayRef),
                ("d", Arc::new(Float64Array::from(vec![Some(0.5), Some(-1.5), None]))),
                ("inf", Arc::new(Float64Array::from(vec![Some(f64::INFINITY), Some(1.0), None]))),
                ("b", Arc::new(BooleanArray::from(vec![Some(true), Some(true), None]))),
                ("t", us(vec![Some(-1), Some(1_001), Some(0)])),
                ("day", Arc::new(Date32Array::from(vec![Some(20_779), Some(-1), None]))),
                ("s", Arc::new(StringArray::from(vec![Some("b"), Some("a"), None]))),
                ("none", Arc::new(StringArray::from(vec![None::<&str>; 3]))),
                ("bytes", Arc::new(BinaryArray::from_opt_vec(vec![Some(b"x"), None, None]))),
            ],
            1,
        );
        let expected = json!({
            "numRecords": 3,
            "minValues": { "i": -2, "d": -1.5, "inf": 1.0, "b": true, "t": "1969-12-31T23:59:59.999Z", "day": "1969-12-31", "s": "a" },
            "maxValues": { "i": 3, "d": 0.5, "b": true, "t": "1970-01-01T00:00:00.002Z", "day": "2026-11-22", "s": "b" },
            "nullCount": { "i": 1, "d": 1, "inf": 1, "b": 1, "t": 0, "day": 1, "s": 1, "none": 3, "bytes": 2 },
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn long_text_is_cut_at_a_character_and_the_maximum_is_rounded_up() {
        let long = format!("{}\u{e9}\u{e9}", "a".repeat(63));
        let highest = char::MAX.to_string().repeat(100);
        let found = stats(
            vec![
                ("s", Arc::new(StringArray::from(vec![long.as_str()])) as ArrayRef),
                ("high", Arc::new(StringArray::from(vec![highest.as_str()]))),
            ],
            10,
        );
        let (min, max) = (found["minValues"]["s"].as_str().unwrap(), found["maxValues"]["s"].as_str().unwrap());
        assert!(min.len() <= 64 && max.len() <= 64, "{min} {max}");
        assert!(min <= long.as_str() && max > long.as_str(), "{min} {max}");
        assert!(found["maxValues"].get("high").is_none(), "no text of 64 bytes is above it");
    }
}
