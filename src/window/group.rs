//! Which window and which key a record belongs to, a column at a time.
//!
//! Rows are numbered by group: first by window start, then refined key by key, so that a key's text is looked at
//! once a row and copied once a group.

use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;
use std::sync::Arc;

use chrono::{DateTime, Datelike};
use deltalake::arrow::array::{Array, ArrayRef, AsArray};
use deltalake::arrow::datatypes::{Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};

use crate::contract::ColumnType;
use crate::contract::window::{Derive, KeyPlan};

/// One value of a grouping key. Ordered, so that partials are written sorted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyValue {
    /// No value, or one outside the declared bounds.
    Null,
    /// Text, or a bucket's label.
    Text(Arc<str>),
    /// Integer, long, year, timestamp (us) or date (days).
    Integer(i64),
    /// A double by its bits; -0.0 is 0.0.
    Double(u64),
    /// A boolean.
    Boolean(bool),
    /// Keys beyond the live view's memory, folded together. Never in the lake.
    Other,
}

impl KeyValue {
    /// Estimated bytes of heap and stack.
    pub fn bytes(&self) -> usize {
        let heap = match self {
            Self::Text(text) => text.len(),
            Self::Null | Self::Integer(_) | Self::Double(_) | Self::Boolean(_) | Self::Other => 0,
        };
        size_of::<Self>() + heap
    }
}

/// A window start (epoch us) and one value a declared key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group {
    /// Start of the window.
    pub start_us: i64,
    /// Its keys, in declared order.
    pub key: Vec<KeyValue>,
}

/// Every row's group number, and the groups. Cheap to clone while there are few groups.
#[derive(Debug, Clone)]
pub struct Grouping {
    /// Group number by row.
    pub by_row: Rc<[u32]>,
    /// The groups, by number; none is without rows.
    pub groups: Vec<Group>,
}

impl Grouping {
    /// Groups rows by window alone. `times_us` holds every row's event time.
    pub fn by_start(times_us: &[i64], every_us: i64) -> Self {
        let mut start_us = None;
        let starts = times_us.iter().map(|time| match start_us {
            // Records that come together are mostly of one window.
            Some(start_us) if (0..every_us).contains(&time.saturating_sub(start_us)) => start_us,
            _ => *start_us.insert(time.div_euclid(every_us).saturating_mul(every_us)),
        });
        let (by_row, starts) = number(starts);
        let groups = starts.into_iter().map(|start_us| Group { start_us, key: Vec::new() }).collect();
        Self { by_row, groups }
    }

    /// Splits every group by one more key of the same rows, as they were `numbered` together.
    pub fn refine(self, keys: &Keys, numbered: impl FnOnce(&Self, &Keys) -> Numbered) -> Self {
        let Numbered { by_row, pairs } = numbered(&self, keys);
        let group = |(group, value): (u32, u32)| {
            let Group { start_us, key: outer } = &self.groups[group as usize];
            let mut key = Vec::with_capacity(outer.len() + 1);
            key.extend_from_slice(outer);
            key.push(keys.values[value as usize].clone());
            Group { start_us: *start_us, key }
        };
        Self { by_row, groups: pairs.iter().copied().map(group).collect() }
    }
}

/// Every row's pair of a group and a key, as a number, and the pairs. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbered {
    by_row: Rc<[u32]>,
    /// By number; none is without rows.
    pairs: Rc<[(u32, u32)]>,
}

impl Numbered {
    /// Where all rows are in one group, the pairs are the keys.
    pub fn by_one_group(_: &Grouping, keys: &Keys) -> Self {
        let pairs = (0..keys.values.len() as u32).map(|value| (0, value)).collect();
        Self { by_row: Rc::clone(&keys.by_row), pairs }
    }

    /// Of any number of groups.
    pub fn of_pairs(grouping: &Grouping, keys: &Keys) -> Self {
        number_pairs(&grouping.by_row, grouping.groups.len(), &keys.by_row, keys.values.len())
    }
}

/// Every row's value of one key, as a number, and the values.
#[derive(Debug)]
pub struct Keys {
    /// Number by row.
    pub by_row: Rc<[u32]>,
    /// By number; none is without rows.
    values: Vec<KeyValue>,
}

impl Keys {
    /// `None` if the column is not what the plan says.
    pub fn of(plan: &KeyPlan, column: &ArrayRef) -> Option<Self> {
        let (by_row, values) = key_values(plan, column)?;
        Some(Self { by_row, values })
    }
}

/// Numbers distinct items in the order of their first appearance.
fn number<T: Hash + Eq + Copy>(items: impl Iterator<Item = T>) -> (Rc<[u32]>, Vec<T>) {
    let mut numbers: HashMap<T, u32> = HashMap::new();
    let mut distinct = Vec::new();
    let mut last = None;
    let number = |item| match last {
        Some((before, number)) if before == item => number,
        _ => {
            let number = *numbers.entry(item).or_insert_with(|| {
                distinct.push(item);
                distinct.len() as u32 - 1
            });
            last = Some((item, number));
            number
        }
    };
    (items.map(number).collect(), distinct)
}

/// The same for pairs of numbers below `lefts` and `rights`: by a table of all pairs, if that is not much larger than
/// the rows are many.
fn number_pairs(left: &[u32], lefts: usize, right: &[u32], rights: usize) -> Numbered {
    const UNSEEN: u32 = u32::MAX;
    let pairs = left.iter().copied().zip(right.iter().copied());
    if lefts.saturating_mul(rights) > 4 * left.len() {
        let (by_row, pairs) = number(pairs);
        return Numbered { by_row, pairs: pairs.into() };
    }
    let mut numbers = vec![UNSEEN; lefts * rights];
    let mut distinct = Vec::new();
    let number = |(left, right): (u32, u32)| {
        let number = &mut numbers[left as usize * rights + right as usize];
        if *number == UNSEEN {
            *number = distinct.len() as u32;
            distinct.push((left, right));
        }
        *number
    };
    Numbered { by_row: pairs.map(number).collect(), pairs: distinct.into() }
}

/// Every row's key as a number, and the keys.
fn key_values(plan: &KeyPlan, column: &ArrayRef) -> Option<(Rc<[u32]>, Vec<KeyValue>)> {
    match (&plan.derive, plan.source) {
        (Derive::Value, ColumnType::String) => {
            let (by_row, texts) = number(column.as_string_opt::<i32>()?.iter());
            Some((
                by_row,
                texts.into_iter().map(|text| text.map_or(KeyValue::Null, |text| KeyValue::Text(text.into()))).collect(),
            ))
        }
        (Derive::Value, ColumnType::Boolean) => {
            let (by_row, flags) = number(column.as_boolean_opt()?.iter());
            Some((by_row, flags.into_iter().map(|flag| flag.map_or(KeyValue::Null, KeyValue::Boolean)).collect()))
        }
        (Derive::Value, ColumnType::Double) => {
            let doubles = column.as_primitive_opt::<Float64Type>()?.iter();
            let (by_row, bits) = number(doubles.map(|value| value.map(|value| (value + 0.0).to_bits())));
            Some((by_row, bits.into_iter().map(|bits| bits.map_or(KeyValue::Null, KeyValue::Double)).collect()))
        }
        (Derive::Value, source) => {
            let (by_row, values) = number(integers(source, column)?.into_iter());
            Some((by_row, values.into_iter().map(|value| value.map_or(KeyValue::Null, KeyValue::Integer)).collect()))
        }
        (Derive::Bucket { bounds, labels }, source) => {
            let buckets =
                doubles(source, column)?.into_iter().map(|value| value.and_then(|v| bucket(bounds, labels.len(), v)));
            let labels: Vec<Arc<str>> = labels.iter().map(|label| label.as_str().into()).collect();
            let (by_row, buckets) = number(buckets);
            let key = |bucket: usize| KeyValue::Text(Arc::clone(&labels[bucket]));
            Some((by_row, buckets.into_iter().map(|bucket| bucket.map_or(KeyValue::Null, key)).collect()))
        }
        (Derive::Year, source) => {
            let (by_row, years) =
                number(integers(source, column)?.into_iter().map(|value| value.and_then(|v| year(source, v))));
            Some((by_row, years.into_iter().map(|year| year.map_or(KeyValue::Null, KeyValue::Integer)).collect()))
        }
    }
}

/// The bucket that holds `value`: the last one is open-ended if there are as many labels as bounds.
fn bucket(bounds: &[f64], labels: usize, value: f64) -> Option<usize> {
    let above = bounds.partition_point(|bound| *bound <= value);
    above.checked_sub(1).filter(|bucket| *bucket < labels)
}

fn year(source: ColumnType, value: i64) -> Option<i64> {
    let instant = if source == ColumnType::Date {
        DateTime::from_timestamp(value.checked_mul(86_400)?, 0)
    } else {
        DateTime::from_timestamp_micros(value)
    };
    instant.map(|instant| i64::from(instant.year()))
}

/// One value of a column that holds no lists, null if it is. `None` if the column is not of that type.
pub fn value_at(source: ColumnType, column: &ArrayRef, row: usize) -> Option<KeyValue> {
    let value = match source {
        ColumnType::String => {
            let texts = column.as_string_opt::<i32>()?;
            texts.is_valid(row).then(|| KeyValue::Text(texts.value(row).into()))
        }
        ColumnType::Boolean => {
            let flags = column.as_boolean_opt()?;
            flags.is_valid(row).then(|| KeyValue::Boolean(flags.value(row)))
        }
        ColumnType::Double => {
            let doubles = column.as_primitive_opt::<Float64Type>()?;
            doubles.is_valid(row).then(|| KeyValue::Double(doubles.value(row).to_bits()))
        }
        ColumnType::Integer
        | ColumnType::Long
        | ColumnType::Timestamp
        | ColumnType::Date
        | ColumnType::StringArray
        | ColumnType::LongArray
        | ColumnType::DoubleArray => integers(source, &column.slice(row, 1))?.pop().flatten().map(KeyValue::Integer),
    };
    Some(value.unwrap_or(KeyValue::Null))
}

/// Integers, timestamps (us) and dates (days) of a column, row by row.
pub fn integers(source: ColumnType, column: &ArrayRef) -> Option<Vec<Option<i64>>> {
    match source {
        ColumnType::Integer => {
            Some(column.as_primitive_opt::<Int32Type>()?.iter().map(|value| value.map(i64::from)).collect())
        }
        ColumnType::Date => {
            Some(column.as_primitive_opt::<Date32Type>()?.iter().map(|value| value.map(i64::from)).collect())
        }
        ColumnType::Long => Some(column.as_primitive_opt::<Int64Type>()?.iter().collect()),
        ColumnType::Timestamp => Some(column.as_primitive_opt::<TimestampMicrosecondType>()?.iter().collect()),
        ColumnType::String
        | ColumnType::Double
        | ColumnType::Boolean
        | ColumnType::StringArray
        | ColumnType::LongArray
        | ColumnType::DoubleArray => None,
    }
}

/// Numbers of a column as doubles, row by row.
fn doubles(source: ColumnType, column: &ArrayRef) -> Option<Vec<Option<f64>>> {
    match column.as_primitive_opt::<Float64Type>() {
        Some(values) => Some(values.iter().collect()),
        None => Some(integers(source, column)?.into_iter().map(|value| value.map(|value| value as f64)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use deltalake::arrow::array::Int64Array;
    use proptest::prelude::*;

    use super::*;
    use crate::window::shared::Shared;

    #[test]
    fn buckets_hold_their_lower_bound_and_what_is_outside_is_null() {
        let bounds = [18.0, 25.0, 36.0, 51.0];
        let found: Vec<Option<usize>> =
            [17.0, 18.0, 24.9, 25.0, 50.0, 51.0, 99.0].iter().map(|age| bucket(&bounds, 4, *age)).collect();
        assert_eq!(found, [None, Some(0), Some(0), Some(1), Some(2), Some(3), Some(3)]);
        assert_eq!(bucket(&bounds, 3, 51.0), None, "one label fewer than bounds closes the last bucket");
    }

    #[test]
    fn windows_before_1970_start_below_their_records() {
        let grouping = Grouping::by_start(&[-1, 0, 59_999_999, 60_000_000], 60_000_000);
        let starts: Vec<i64> = grouping.groups.iter().map(|group| group.start_us).collect();
        assert_eq!((&*grouping.by_row, starts), (&[0, 1, 1, 2][..], vec![-60_000_000, 0, 60_000_000]));
    }

    proptest! {
        #[test]
        fn pairs_have_the_same_numbers_by_a_table_and_by_a_map(
            rows in prop::collection::vec((0..7u32, 0..5u32), 0..60),
        ) {
            let (left, right): (Vec<u32>, Vec<u32>) = rows.iter().copied().unzip();
            let (by_row, pairs) = number(rows.iter().copied());
            let by_map = Numbered { by_row, pairs: pairs.into() };
            prop_assert_eq!(number_pairs(&left, 7, &right, 5), by_map.clone());
            prop_assert_eq!(number_pairs(&left, 7, &right, usize::MAX), by_map);
        }

        #[test]
        fn every_row_is_in_the_window_of_its_time_and_of_its_keys(
            rows in prop::collection::vec((-200..200i64, prop::option::of(0..4i64), prop::option::of(0..3i64)), 0..60),
        ) {
            let times: Vec<i64> = rows.iter().map(|row| row.0).collect();
            let mut grouping = Grouping::by_start(&times, 60);
            let values = [rows.iter().map(|row| row.1).collect::<Vec<_>>(), rows.iter().map(|row| row.2).collect()];
            for values in values {
                let (derive, source) = (Derive::Value, ColumnType::Long);
                let plan = KeyPlan { name: "k".to_owned(), column: 0, source, derive };
                let column: ArrayRef = Arc::new(Int64Array::from(values));
                grouping = Shared::default().refine(grouping, &Keys::of(&plan, &column).unwrap());
            }
            let key = |value: Option<i64>| value.map_or(KeyValue::Null, KeyValue::Integer);
            for (row, number) in rows.iter().zip(&*grouping.by_row) {
                let expected = Group { start_us: row.0.div_euclid(60) * 60, key: vec![key(row.1), key(row.2)] };
                prop_assert_eq!(&grouping.groups[*number as usize], &expected);
            }
            let distinct: BTreeSet<&Group> = grouping.groups.iter().collect();
            prop_assert_eq!(distinct.len(), grouping.groups.len());
        }
    }

    #[test]
    fn years_are_calendar_years_of_utc() {
        assert_eq!(year(ColumnType::Timestamp, -1), Some(1969));
        assert_eq!(year(ColumnType::Date, 16_801), Some(2016));
    }
}
