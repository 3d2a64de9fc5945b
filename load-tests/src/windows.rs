//! The windows of the shipped contracts, counted again from the rows tables: what the partials must add up to.
//!
//! Written from the contracts' meaning and not with the engine's code, so that both cannot be wrong together. Sketches
//! are left to `load-tests/interop`, which reads them with another implementation.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use chrono::{DateTime, Datelike};
use pintail::demo::Kind;

use crate::tables::Snapshot;

const MINUTE_US: i128 = 60_000_000;
const ARRIVED_AT: &str = "_arrived_at";
const START: &str = "window_start";
const END: &str = "window_end";
const RECORDS: &str = "records";
const SHARD_ID: &str = "_shard_id";
const SEQUENCE_NUMBER: &str = "_sequence_number";
const SUB_SEQUENCE_NUMBER: &str = "_sub_sequence_number";

/// What is compared of a window's key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    records: i128,
    counted: i128,
    sum: Option<i128>,
    chosen: Option<Chosen>,
}

/// A value, and where its record stands: time, shard, sequence number (a longer one is larger) and sub-sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chosen {
    place: (i128, String, usize, String, i128),
    value: String,
}

/// By (window start in microseconds, key).
pub type Cells = BTreeMap<(i128, Option<String>), Totals>;

/// One shipped window.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Its stream.
    pub kind: Kind,
    /// Its name.
    pub name: &'static str,
    key: &'static str,
    of: Key,
    count: &'static str,
    /// A measure `sum(column)`, and the column.
    sum: Option<(&'static str, &'static str)>,
    /// Its size in microseconds.
    every_us: i128,
    /// A measure `first(column)` or `last(column)`.
    choice: Option<Choice>,
}

#[derive(Debug, Clone, Copy)]
struct Choice {
    measure: &'static str,
    column: &'static str,
    last: bool,
    is_text: bool,
}

#[derive(Debug, Clone, Copy)]
enum Key {
    Text(&'static str),
    AgeGroup(&'static str),
    Year(&'static str),
}

/// All of them.
pub const SHIPPED: [Window; 5] = [
    Window {
        kind: Kind::Pin,
        name: "pins_by_category",
        key: "category",
        of: Key::Text("category"),
        count: "pins",
        sum: Some(("followers", "follower_count")),
        every_us: MINUTE_US,
        choice: None,
    },
    Window {
        kind: Kind::Pin,
        name: "pins_by_media_type",
        key: "is_image_or_video",
        of: Key::Text("is_image_or_video"),
        count: "pins",
        sum: None,
        every_us: MINUTE_US,
        choice: None,
    },
    Window {
        kind: Kind::Geo,
        name: "posts_by_country",
        key: "country",
        of: Key::Text("country"),
        count: "posts",
        sum: None,
        every_us: MINUTE_US,
        choice: Some(Choice { measure: "newest_post", column: "timestamp", last: true, is_text: false }),
    },
    Window {
        kind: Kind::User,
        name: "users_by_age_group",
        key: "age_group",
        of: Key::AgeGroup("age"),
        count: "users",
        sum: None,
        every_us: MINUTE_US,
        choice: Some(Choice { measure: "first_user", column: "user_name", last: false, is_text: true }),
    },
    Window {
        kind: Kind::User,
        name: "users_by_year_joined",
        key: "year_joined",
        of: Key::Year("date_joined"),
        count: "users",
        sum: None,
        every_us: MINUTE_US,
        choice: None,
    },
];

impl Window {
    /// The same with windows of so many seconds.
    pub fn of_seconds(self, seconds: u64) -> Self {
        Self { every_us: i128::from(seconds) * 1_000_000, ..self }
    }

    /// The columns of the rows that [`Self::group_by`] reads.
    pub fn rows_columns(&self) -> Vec<&'static str> {
        let key = match self.of {
            Key::Text(column) | Key::AgeGroup(column) | Key::Year(column) => column,
        };
        let place = [ARRIVED_AT, SHARD_ID, SEQUENCE_NUMBER, SUB_SEQUENCE_NUMBER];
        let choice = self.choice.map(|choice| choice.column);
        let mut columns: Vec<_> =
            place.into_iter().chain([key]).chain(self.sum.map(|(_, column)| column)).chain(choice).collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// Sealed rows, each by its window and key. Two of one window and key are an error.
    pub fn sealed(&self, cells: &mut Cells, sealed: &Snapshot) -> anyhow::Result<u64> {
        let mut found = Cells::new();
        let rows = self.sum_up(&mut found, sealed)?;
        ensure!(rows == found.len() as u64, "{}: a file has two rows of one window and key", self.name);
        for (key, totals) in found {
            ensure!(cells.insert(key.clone(), totals).is_none(), "{}: {key:?} is sealed twice", self.name);
        }
        Ok(rows)
    }

    /// The columns of the partials, and of the sealed rows, that [`Self::sum_up`] reads.
    pub fn partials_columns(&self) -> Vec<String> {
        let sum = self.sum.map(|(measure, _)| measure.to_owned());
        let choice = self.choice.into_iter().flat_map(Choice::columns);
        [START, END, RECORDS, self.key, self.count].map(str::to_owned).into_iter().chain(sum).chain(choice).collect()
    }

    /// GROUP BY over some of the rows, into what is there.
    pub fn group_by(&self, cells: &mut Cells, rows: &Snapshot) -> anyhow::Result<()> {
        let keys = self.of.of_rows(rows)?;
        let summed = self.sum.map(|(_, column)| rows.integers(column)).transpose()?;
        let place = [ARRIVED_AT, SHARD_ID, SEQUENCE_NUMBER, SUB_SEQUENCE_NUMBER];
        let chosen = self.choice.map(|choice| choice.read(rows, choice.column, place)).transpose()?;
        for (row, (arrived, key)) in rows.integers(ARRIVED_AT)?.into_iter().zip(keys).enumerate() {
            let arrived = arrived.context("every row has an arrival")?;
            let start = arrived.div_euclid(self.every_us) * self.every_us;
            let cell = cells.entry((start, key)).or_default();
            cell.add(1, 1, summed.as_ref().and_then(|values| values[row]));
            cell.choose(self.choice, chosen.as_ref().and_then(|values| values[row].clone()));
        }
        Ok(())
    }

    /// The sum of some of the partials, into what is there. Says how many there were.
    pub fn sum_up(&self, cells: &mut Cells, partials: &Snapshot) -> anyhow::Result<u64> {
        let keys = match self.of {
            Key::Text(_) | Key::AgeGroup(_) => partials.texts(self.key)?,
            Key::Year(_) => partials.integers(self.key)?.into_iter().map(|year| Some(year?.to_string())).collect(),
        };
        let (starts, ends) = (partials.integers(START)?, partials.integers(END)?);
        let (records, counts) = (partials.integers(RECORDS)?, partials.integers(self.count)?);
        let sums = self.sum.map(|(measure, _)| partials.integers(measure)).transpose()?;
        let chosen = self.choice.map(|choice| {
            let [value, at, shard, sequence, sub] = choice.columns();
            choice.read(partials, &value, [&at, &shard, &sequence, &sub])
        });
        let chosen = chosen.transpose()?;
        for (row, key) in keys.into_iter().enumerate() {
            let start = starts[row].context("every partial has a start")?;
            ensure!(ends[row] == Some(start + self.every_us), "{}: a window of another size", self.name);
            let cell = cells.entry((start, key)).or_default();
            let sum = sums.as_ref().and_then(|sums| sums[row]);
            cell.add(records[row].unwrap_or_default(), counts[row].unwrap_or_default(), sum);
            cell.choose(self.choice, chosen.as_ref().and_then(|values| values[row].clone()));
        }
        Ok(starts.len() as u64)
    }
}

impl Choice {
    /// The columns of the partials: the value, then where it stands.
    fn columns(self) -> [String; 5] {
        ["", "_at", "_shard_id", "_sequence_number", "_sub_sequence_number"]
            .map(|suffix| format!("{}{suffix}", self.measure))
    }

    /// The value and the place of each row that has a value.
    fn read(self, rows: &Snapshot, value: &str, place: [&str; 4]) -> anyhow::Result<Vec<Option<Chosen>>> {
        let values = if self.is_text {
            rows.texts(value)?
        } else {
            rows.integers(value)?.into_iter().map(|value| Some(value?.to_string())).collect()
        };
        let [at, shard, sequence, sub] = place;
        let (times, shards) = (rows.integers(at)?, rows.texts(shard)?);
        let (sequences, subs) = (rows.texts(sequence)?, rows.integers(sub)?);
        let chosen = values.into_iter().zip(times).zip(shards).zip(sequences).zip(subs);
        let chosen = chosen.map(|((((value, at), shard), sequence), sub)| {
            let Some(value) = value else { return Ok(None) };
            let place = || {
                let sequence = sequence?;
                Some((at?, shard?, sequence.len(), sequence, sub?))
            };
            Ok(Some(Chosen { place: place().context("a value that does not say where it stands")?, value }))
        });
        chosen.collect()
    }
}

impl Totals {
    /// Records in the window.
    pub fn records(&self) -> i128 {
        self.records
    }

    fn choose(&mut self, choice: Option<Choice>, theirs: Option<Chosen>) {
        let (Some(choice), Some(theirs)) = (choice, theirs) else { return };
        let better = |mine: &Chosen| if choice.last { theirs.place > mine.place } else { theirs.place < mine.place };
        if self.chosen.as_ref().is_none_or(better) {
            self.chosen = Some(theirs);
        }
    }

    fn add(&mut self, records: i128, counted: i128, sum: Option<i128>) {
        self.records += records;
        self.counted += counted;
        if let Some(more) = sum {
            self.sum = Some(self.sum.unwrap_or(0) + more);
        }
    }
}

impl Key {
    fn of_rows(self, rows: &Snapshot) -> anyhow::Result<Vec<Option<String>>> {
        match self {
            Self::Text(column) => rows.texts(column),
            Self::AgeGroup(column) => Ok(rows.integers(column)?.into_iter().map(|age| age_group(age?)).collect()),
            Self::Year(column) => Ok(rows.integers(column)?.into_iter().map(|time| year(time?)).collect()),
        }
    }
}

fn age_group(age: i128) -> Option<String> {
    let label = match age {
        18..=24 => "18-24",
        25..=35 => "25-35",
        36..=50 => "36-50",
        51.. => "+50",
        _ => return None,
    };
    Some(label.to_owned())
}

fn year(time_us: i128) -> Option<String> {
    let time = DateTime::from_timestamp_micros(i64::try_from(time_us).ok()?)?;
    Some(time.year().to_string())
}
