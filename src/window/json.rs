//! Keys and measures as JSON: as a reader of the table would write them.

use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta};
use serde_json::Value;

use super::cell::{Measure, Scalar};
use super::group::KeyValue;
use super::partials::{mean, top_json};
use crate::contract::ColumnType;
use crate::contract::window::{MeasurePlan, QUANTILES};
use crate::limits::OTHER;

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
        KeyValue::Other => Value::from(OTHER),
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
