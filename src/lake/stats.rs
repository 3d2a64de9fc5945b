//! The statistics of an `add`, by which readers skip files: rows, nulls, and bounds of every simple column.
//!
//! Bounds come from the Parquet writer, which has seen every value already. A bound that is not exact may only be
//! wider than the truth: text is cut by the Parquet writer at a character and its maximum rounded up; timestamps
//! have milliseconds in Delta's log, so their minimum is rounded down and their maximum up.

use chrono::{DateTime, Datelike};
use deltalake::arrow::array::{Array, RecordBatch};
use deltalake::arrow::datatypes::{DataType, Schema, TimeUnit};
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
    /// `None` where they were not counted.
    nulls: Vec<Option<usize>>,
}

impl Counts {
    /// Counts another batch; all have the same columns.
    pub fn add(&mut self, batch: &RecordBatch) {
        self.add_stored(batch.num_rows(), batch.columns().iter().map(|column| Some(column.null_count())).collect());
    }

    /// Counts what others have counted, as far as they have.
    pub fn add_stored(&mut self, rows: usize, nulls: Vec<Option<usize>>) {
        self.rows += rows;
        self.nulls.resize(nulls.len(), Some(0));
        self.nulls.iter_mut().zip(nulls).for_each(|(sum, more)| *sum = sum.zip(more).map(|(sum, more)| sum + more));
    }
}

/// The `stats` text of a file's `add`.
pub(crate) fn stats_json(schema: &Schema, counts: &Counts, file: &ParquetMetaData) -> String {
    let (mut minima, mut maxima, mut nulls) = (Map::new(), Map::new(), Map::new());
    for (field, count) in schema.fields().iter().zip(&counts.nulls) {
        nulls.extend(count.map(|count| (field.name().clone(), json!(count))));
        if let Some(bounds) = bounds(field.name(), field.data_type(), file) {
            minima.extend(bounds.min.map(|value| (field.name().clone(), value)));
            maxima.extend(bounds.max.map(|value| (field.name().clone(), value)));
        }
    }
    json!({ "numRecords": counts.rows, "minValues": minima, "maxValues": maxima, "nullCount": nulls }).to_string()
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
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Float64Array, Int32Array, StringArray,
        TimestampMicrosecondArray,
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
