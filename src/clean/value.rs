//! One value for one column: a field's JSON through the contract's steps, or the reason why it is null.

use super::counts::{NullCounts, NullReason};
use super::json::{Json, elements};
use super::{number, text, timestamp};
use crate::contract::{Column, ColumnType, Source, SourceFields, Steps};

/// The contract's fields in one record. Whoever reads values is compiled for each form of a record: where a value comes
/// from is asked some ten times a record.
pub(super) trait Fields<'a>: Copy {
    /// A field's value; `None` if its key is absent.
    fn get(self, field: usize) -> Option<Json<'a>>;

    /// Top-level keys that the contract does not name, as often as they occur.
    fn unknown_names(self) -> impl Iterator<Item = &'a str>;
}

/// The value of a column that reads one field.
#[inline]
fn only<'a>(column: &Column, fields: impl Fields<'a>) -> Option<Json<'a>> {
    match &column.source {
        Source::Field(field) => fields.get(*field),
        Source::Join { .. } | Source::Collect(_) => None,
    }
}

// === Texts ===

/// The text of a string column. `joined` is scratch memory.
pub(super) fn text<'a: 'b, 'b>(
    column: &Column,
    fields: impl Fields<'a>,
    joined: &'b mut String,
    nulls: &mut NullCounts,
) -> Result<&'b str, NullReason> {
    let steps = &column.steps;
    let said = match &column.source {
        Source::Field(field) => said(fields.get(*field), steps)?,
        Source::Join { fields: parts, with } => join(parts, with, steps, fields, joined, nulls)?,
        Source::Collect(_) => return Err(NullReason::WrongType),
    };
    let shaped = match steps.strip_prefix.as_deref().and_then(|prefix| said.strip_prefix(prefix)) {
        Some(rest) if text::trim(rest).is_empty() => return Err(NullReason::Empty),
        Some(rest) => rest,
        None => said,
    };
    if !steps.one_of.is_empty() && !steps.one_of.iter().any(|allowed| allowed == shaped) {
        return Err(NullReason::NotOneOf);
    }
    Ok(shaped)
}

/// What a JSON string says, if it says anything.
fn said<'a>(json: Option<Json<'a>>, steps: &Steps) -> Result<&'a str, NullReason> {
    match present(json)? {
        Json::Text(text) => {
            let trimmed = text::trim(text);
            if trimmed.is_empty() {
                return Err(NullReason::Empty);
            }
            let said = if steps.trim { trimmed } else { text };
            if is_sentinel(said, steps) { Err(NullReason::Sentinel) } else { Ok(said) }
        }
        Json::Null | Json::Boolean(_) | Json::Whole(_) | Json::Real(_) | Json::List(_) | Json::Object(_) => {
            Err(NullReason::WrongType)
        }
    }
}

/// The parts that are there. One of a wrong type is left out and counted; without any, the first one's reason.
fn join<'a, 'b>(
    parts: &[usize],
    with: &str,
    steps: &Steps,
    fields: impl Fields<'a>,
    joined: &'b mut String,
    nulls: &mut NullCounts,
) -> Result<&'b str, NullReason> {
    joined.clear();
    let mut missing = None;
    let mut wrong = false;
    for part in parts {
        match said(fields.get(*part), steps) {
            Ok(text) => {
                if !joined.is_empty() {
                    joined.push_str(with);
                }
                joined.push_str(text);
            }
            Err(null) => {
                wrong |= null == NullReason::WrongType;
                // A part that is there but unusable says more than one that is not.
                missing = missing.filter(|first| *first != NullReason::Absent).or(Some(null));
            }
        }
    }
    match missing {
        Some(null) if joined.is_empty() => Err(null),
        Some(_) | None => {
            if wrong {
                nulls.add(NullReason::WrongType);
            }
            Ok(joined)
        }
    }
}

fn present(json: Option<Json<'_>>) -> Result<Json<'_>, NullReason> {
    match json {
        None => Err(NullReason::Absent),
        Some(Json::Null) => Err(NullReason::Null),
        Some(
            json
            @ (Json::Boolean(_) | Json::Whole(_) | Json::Real(_) | Json::Text(_) | Json::List(_) | Json::Object(_)),
        ) => Ok(json),
    }
}

fn is_sentinel(text: &str, steps: &Steps) -> bool {
    steps.null_if.iter().any(|sentinel| sentinel == text)
}

// === Numbers, times, truth ===

/// The number of an integer or long column.
pub(super) fn whole<'a>(column: &Column, fields: impl Fields<'a>) -> Result<i64, NullReason> {
    whole_of(column, only(column, fields), 0)
}

/// The number of an integer column.
pub(super) fn integer<'a>(column: &Column, fields: impl Fields<'a>) -> Result<i32, NullReason> {
    i32::try_from(whole(column, fields)?).map_err(|_| NullReason::OutOfRange)
}

/// The number of a double column.
pub(super) fn double<'a>(column: &Column, fields: impl Fields<'a>) -> Result<f64, NullReason> {
    double_of(column, only(column, fields), 0)
}

/// The truth of a boolean column.
pub(super) fn boolean<'a>(column: &Column, fields: impl Fields<'a>) -> Result<bool, NullReason> {
    match present(only(column, fields))? {
        Json::Boolean(truth) => Ok(truth),
        Json::Null | Json::Whole(_) | Json::Real(_) | Json::Text(_) | Json::List(_) | Json::Object(_) => {
            Err(NullReason::WrongType)
        }
    }
}

/// The UTC microseconds of a timestamp column.
pub(super) fn time<'a>(column: &Column, fields: impl Fields<'a>) -> Result<i64, NullReason> {
    timestamp::timestamp(written(only(column, fields), &column.steps)?)
}

/// The days since 1970-01-01 of a date column.
pub(super) fn date<'a>(column: &Column, fields: impl Fields<'a>) -> Result<i32, NullReason> {
    timestamp::date(written(only(column, fields), &column.steps)?)
}

/// A value that may be written as a text, and is then trimmed and said to mean something.
fn written<'a>(json: Option<Json<'a>>, steps: &Steps) -> Result<Json<'a>, NullReason> {
    match present(json)? {
        Json::Text(text) => {
            let trimmed = text::trim(text);
            match trimmed {
                "" => Err(NullReason::Empty),
                _ if is_sentinel(trimmed, steps) => Err(NullReason::Sentinel),
                _ => Ok(Json::Text(trimmed)),
            }
        }
        json @ (Json::Null | Json::Boolean(_) | Json::Whole(_) | Json::Real(_) | Json::List(_) | Json::Object(_)) => {
            Ok(json)
        }
    }
}

fn whole_of(column: &Column, json: Option<Json<'_>>, index: usize) -> Result<i64, NullReason> {
    let json = written(json, &column.steps)?;
    let whole = if column.steps.magnitude { number::magnitude(json)? } else { number::whole(json)? };
    within(column, index, whole as f64).map(|()| whole)
}

fn double_of(column: &Column, json: Option<Json<'_>>, index: usize) -> Result<f64, NullReason> {
    let double = number::double(written(json, &column.steps)?)?;
    within(column, index, double).map(|()| double)
}

#[inline]
fn within(column: &Column, index: usize, value: f64) -> Result<(), NullReason> {
    let inside = column.steps.range(index).is_none_or(|range| range.contains(value));
    if inside { Ok(()) } else { Err(NullReason::OutOfRange) }
}

// === Lists ===

/// The texts of an `array<string>` column; see [`each`].
pub(super) fn texts<'a>(
    column: &Column,
    fields: impl Fields<'a>,
    push: impl FnMut(Result<&'a str, NullReason>),
) -> Result<(), NullReason> {
    each(column, fields, |json, _| said(json, &column.steps), push)
}

/// The numbers of an `array<long>` column; see [`each`].
pub(super) fn wholes<'a>(
    column: &Column,
    fields: impl Fields<'a>,
    push: impl FnMut(Result<i64, NullReason>),
) -> Result<(), NullReason> {
    each(column, fields, |json, index| whole_of(column, json, index), push)
}

/// The numbers of an `array<double>` column; see [`each`].
pub(super) fn doubles<'a>(
    column: &Column,
    fields: impl Fields<'a>,
    push: impl FnMut(Result<f64, NullReason>),
) -> Result<(), NullReason> {
    each(column, fields, |json, index| double_of(column, json, index), push)
}

/// Pushes the elements of a list column. In a JSON list an element that does not fit is a null element; collected
/// fields are all or nothing, and nothing is pushed unless every one fits.
fn each<'a, T>(
    column: &Column,
    fields: impl Fields<'a>,
    element: impl Fn(Option<Json<'a>>, usize) -> Result<T, NullReason>,
    mut push: impl FnMut(Result<T, NullReason>),
) -> Result<(), NullReason> {
    match &column.source {
        Source::Field(field) => match present(fields.get(*field))? {
            Json::List(inside) => {
                elements(inside).enumerate().for_each(|(index, json)| push(element(Some(json), index)));
                Ok(())
            }
            Json::Null | Json::Boolean(_) | Json::Whole(_) | Json::Real(_) | Json::Text(_) | Json::Object(_) => {
                Err(NullReason::WrongType)
            }
        },
        Source::Collect(parts) => {
            if parts.iter().all(|part| fields.get(*part).is_none()) {
                return Err(NullReason::Absent);
            }
            for (index, part) in parts.iter().enumerate() {
                element(fields.get(*part), index)
                    .map_err(|null| if null.says_nothing() { NullReason::Incomplete } else { null })?;
            }
            parts.iter().enumerate().for_each(|(index, part)| push(element(fields.get(*part), index)));
            Ok(())
        }
        Source::Join { .. } => Err(NullReason::WrongType),
    }
}

// === Required columns ===

/// Whether the column has a value in this record.
pub(super) fn usable<'a>(column: &Column, fields: impl Fields<'a>) -> Result<(), NullReason> {
    match column.column_type {
        ColumnType::String => text(column, fields, &mut String::new(), &mut NullCounts::default()).map(drop),
        ColumnType::Integer => integer(column, fields).map(drop),
        ColumnType::Long => whole(column, fields).map(drop),
        ColumnType::Double => double(column, fields).map(drop),
        ColumnType::Boolean => boolean(column, fields).map(drop),
        ColumnType::Timestamp => time(column, fields).map(drop),
        ColumnType::Date => date(column, fields).map(drop),
        ColumnType::StringArray => texts(column, fields, drop),
        ColumnType::LongArray => wholes(column, fields, drop),
        ColumnType::DoubleArray => doubles(column, fields, drop),
    }
}

/// Why a column has no value, for people: the column, the fields that it is read from unless they are called the same,
/// the reason, and what the record says unless the reason does.
pub(super) fn missing<'a>(column: &Column, paths: &SourceFields, fields: impl Fields<'a>, null: NullReason) -> String {
    let read = match &column.source {
        Source::Field(field) => std::slice::from_ref(field),
        Source::Join { fields, .. } | Source::Collect(fields) => fields,
    };
    let from: Vec<String> = read.iter().map(|field| format!("{:?}", paths.path(*field))).collect();
    let from = match read {
        [field] if paths.path(*field) == column.name => String::new(),
        _ => format!(" (from {})", from.join(", ")),
    };
    let says: Vec<String> = read.iter().map(|field| shown(fields.get(*field))).collect();
    let says = match null {
        NullReason::Absent | NullReason::Null | NullReason::Empty => String::new(),
        NullReason::Sentinel
        | NullReason::WrongType
        | NullReason::Unparsable
        | NullReason::OutOfRange
        | NullReason::NotOneOf
        | NullReason::Incomplete => format!(": {}", says.join(", ")),
    };
    format!("{}{from}: {}{says}", column.name, null.as_str())
}

fn shown(said: Option<Json<'_>>) -> String {
    match said {
        None => "absent".to_owned(),
        Some(Json::Null) => "null".to_owned(),
        Some(Json::Boolean(truth)) => truth.to_string(),
        Some(Json::Whole(whole)) => whole.to_string(),
        Some(Json::Real(real)) => real.to_string(),
        Some(Json::Text(said)) => text::shown(said),
        Some(Json::List(_)) => "a list".to_owned(),
        Some(Json::Object(_)) => "an object".to_owned(),
    }
}
