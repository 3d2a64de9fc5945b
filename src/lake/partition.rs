//! Rows by day: one file a day and commit, the partition column left out of it.
//!
//! One commit writes a bounded number of days. Rows of further days share the null partition, so that one record a
//! day over a century does not become 36,500 files; their column values stay readable, only `_date` is null.

use std::collections::{BTreeMap, BTreeSet};

use deltalake::arrow::array::{Array, Date32Array, RecordBatch, UInt32Array};
use deltalake::arrow::compute::take_record_batch;
use deltalake::arrow::error::ArrowError;

use crate::contract::DATE;

/// The rows of one file: its day (since 1970-01-01; `None` = the null partition) and batches without the day.
#[derive(Debug)]
pub(crate) struct Partition {
    pub day: Option<i32>,
    pub batches: Vec<RecordBatch>,
}

impl Partition {
    /// Rows of all its batches.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// The folder of its files.
    pub fn folder(&self) -> String {
        folder(self.day_text().as_deref())
    }

    /// The day as `2026-11-22`.
    pub fn day_text(&self) -> Option<String> {
        day_text(self.day?)
    }
}

/// The folder of a day's files (`2026-11-22`, or `None` for the null partition), as Hive and Delta write it.
pub(crate) fn folder(day: Option<&str>) -> String {
    format!("{DATE}={}", day.unwrap_or("__HIVE_DEFAULT_PARTITION__"))
}

/// A day since 1970-01-01 as `2026-11-22`, if it is one that chrono knows.
pub(crate) fn day_text(day: i32) -> Option<String> {
    const DAYS_BEFORE_1970: i32 = 719_163;
    let date = chrono::NaiveDate::from_num_days_from_ce_opt(day.checked_add(DAYS_BEFORE_1970)?)?;
    Some(date.format("%Y-%m-%d").to_string())
}

/// Splits rows by their day; at most `days_max` days, the fullest first and the most recent of equals. Also returns
/// how many rows of further days went to the null partition.
pub(crate) fn split(batches: &[RecordBatch], days_max: usize) -> Result<(Vec<Partition>, usize), ArrowError> {
    let mut rows_by_day: BTreeMap<Option<i32>, usize> = BTreeMap::new();
    let mut count = |day: Option<i32>, rows: usize| {
        *rows_by_day.entry(day.filter(|day| is_four_digit_year(*day))).or_default() += rows;
    };
    for batch in batches {
        let days = days(batch)?;
        match only_day(days) {
            Some(day) => count(Some(day), days.len()),
            None => days.iter().for_each(|day| count(day, 1)),
        }
    }
    let kept = fullest(&rows_by_day, days_max);
    let beyond = rows_by_day.iter().filter(|(day, _)| day.is_some_and(|day| !kept.contains(&day)));
    let moved = beyond.map(|(_, rows)| rows).sum();

    let mut by_day: BTreeMap<Option<i32>, Vec<RecordBatch>> = BTreeMap::new();
    for batch in batches {
        for (day, part) in split_batch(batch, &kept)? {
            by_day.entry(day).or_default().push(part);
        }
    }
    Ok((by_day.into_iter().map(|(day, batches)| Partition { day, batches }).collect(), moved))
}

/// Other years have no form that every engine reads as a date.
pub(crate) fn is_four_digit_year(day: i32) -> bool {
    const YEAR_0001: i32 = -719_162;
    const YEAR_10000: i32 = 2_932_897;
    (YEAR_0001..YEAR_10000).contains(&day)
}

fn fullest(rows_by_day: &BTreeMap<Option<i32>, usize>, days_max: usize) -> BTreeSet<i32> {
    let mut days: Vec<(usize, i32)> = rows_by_day.iter().filter_map(|(day, rows)| Some((*rows, (*day)?))).collect();
    days.sort_unstable_by(|a, b| b.cmp(a));
    days.into_iter().take(days_max).map(|(_, day)| day).collect()
}

fn split_batch(batch: &RecordBatch, kept: &BTreeSet<i32>) -> Result<Vec<(Option<i32>, RecordBatch)>, ArrowError> {
    let mut without_day = batch.clone();
    without_day.remove_column(batch.schema().index_of(DATE)?);
    let days = days(batch)?;
    if let Some(day) = only_day(days) {
        return Ok(vec![(Some(day).filter(|day| kept.contains(day)), without_day)]);
    }
    let mut rows: BTreeMap<Option<i32>, Vec<u32>> = BTreeMap::new();
    for (row, day) in (0u32..).zip(days.iter()) {
        rows.entry(day.filter(|day| kept.contains(day))).or_default().push(row);
    }
    if rows.len() == 1 {
        return Ok(rows.into_keys().map(|day| (day, without_day.clone())).collect());
    }
    rows.into_iter().map(|(day, rows)| Ok((day, take_record_batch(&without_day, &UInt32Array::from(rows))?))).collect()
}

/// The day of every row, if they share one: so it is with what has just arrived.
fn only_day(days: &Date32Array) -> Option<i32> {
    let first = *days.values().first()?;
    (days.null_count() == 0 && days.values().iter().all(|day| *day == first)).then_some(first)
}

fn days(batch: &RecordBatch) -> Result<&Date32Array, ArrowError> {
    let column = batch.column_by_name(DATE).and_then(|column| column.as_any().downcast_ref());
    column.ok_or_else(|| ArrowError::SchemaError(format!("no date column {DATE:?}")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use deltalake::arrow::array::Int64Array;
    use deltalake::arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn batch(days: Vec<Option<i32>>) -> RecordBatch {
        let schema =
            Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new(DATE, DataType::Date32, true)]);
        let numbers = Int64Array::from_iter_values(0..days.len() as i64);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(numbers), Arc::new(Date32Array::from(days))]).unwrap()
    }

    fn shape(partitions: &[Partition]) -> Vec<(Option<i32>, usize)> {
        partitions.iter().map(|partition| (partition.day, partition.rows())).collect()
    }

    #[test]
    fn rows_go_to_the_file_of_their_day_without_the_day() {
        let (partitions, moved) =
            split(&[batch(vec![Some(1), Some(2), Some(1), None]), batch(vec![Some(2)])], 32).unwrap();
        assert_eq!(shape(&partitions), [(None, 1), (Some(1), 2), (Some(2), 2)]);
        assert_eq!(moved, 0);
        let second: Vec<i64> =
            partitions[1].batches[0].column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec();
        assert_eq!(second, [0, 2]);
        assert!(partitions.iter().all(|partition| partition.batches.iter().all(|batch| batch.num_columns() == 1)));
        assert_eq!(partitions[1].folder(), "_date=1970-01-02");
        assert_eq!(partitions[0].folder(), "_date=__HIVE_DEFAULT_PARTITION__");
    }

    #[test]
    fn beyond_the_limit_the_fullest_and_then_the_latest_days_keep_their_partition() {
        let days = (0..40).map(Some).chain([Some(3), Some(3), Some(5_000_000)]).collect();
        let (partitions, moved) = split(&[batch(days)], 32).unwrap();
        let shape = shape(&partitions);
        assert_eq!(shape.len(), 33);
        assert_eq!(shape[0], (None, 9), "eight days too many and one impossible year");
        assert_eq!(shape[1], (Some(3), 3), "old, but the fullest");
        assert_eq!(shape[2], (Some(9), 1));
        assert_eq!(shape[32], (Some(39), 1));
        assert_eq!(moved, 8);
    }
}
