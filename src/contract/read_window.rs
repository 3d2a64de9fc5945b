//! One `[[window]]`: its size, its time and its keys.

use std::ops::RangeInclusive;

use toml_edit::Value;

use super::definition::{Declared, definition};
use super::names::{self, Taken};
use super::read_column::Columns;
use super::read_measure::{self, list};
use super::window::{
    COMPLETE, Condition, Derive, KeyPlan, MeasurePlan, REVISION, SealPolicy, WindowPlan, partials_schema, sealed_schema,
};
use super::{ColumnType, EventTime, read, read_filter};
use crate::limits::{
    WINDOW_EVERY_MS_MAX, WINDOW_EVERY_MS_MIN, WINDOW_GRACE_MS_DEFAULT, WINDOW_GRACE_MS_MIN, WINDOW_KEEP_MS_MAX,
    WINDOW_KEEP_MS_MIN, WINDOW_PANES_MAX, WINDOW_REVISE_FOR_MS_DEFAULT,
};
use crate::toml_doc::{At, Cut, DurationMs, Place, Section};

/// Reads one `[[window]]`; with it, where it begins. `event_time` is the contract's.
pub(super) fn window(section: Section<'_>, columns: &Columns, event_time: EventTime) -> Option<(WindowPlan, Place)> {
    let mut reader = Reader { section, columns };
    let name = reader.name();
    let every = reader.every();
    let hop = reader.hop(every);
    let grace = reader.grace();
    let time = reader.time();
    let conditions = reader.conditions();
    let seal = reader.seal();
    let keep = reader.keep(seal);
    let keys = reader.keys();
    let measures = read_measure::measures(&mut reader.section, columns);
    let place = reader.section.place();
    if let (Some(keys), Some(measures)) = (&keys, &measures) {
        reader.distinct_outputs(keys, measures);
    }
    // Also of a window that is not whole: what is missing may stand there misspelt.
    reader.section.finish();
    let (every_us, keys, measures) = (every? * 1000, keys?, measures?);
    let (pane_us, time, conditions) = (hop? * 1000, time?, conditions?);
    let declared = Declared { every_us, pane_us, time, conditions: &conditions, keys: &keys, measures: &measures };
    let plan = WindowPlan {
        name: name?,
        every_us,
        pane_us,
        grace_us: grace * 1000,
        definition: definition(&declared, &columns.good),
        partials_schema: partials_schema(&keys, &measures),
        time: time.unwrap_or(event_time),
        conditions,
        seal,
        keep_us: keep.map(|ms| ms * 1000),
        sealed_schema: sealed_schema(&keys, &measures),
        keys,
        measures,
    };
    Some((plan, place))
}

/// Milliseconds, none of them negative, as a contract says them.
fn written(ms: i64) -> DurationMs {
    DurationMs(ms.unsigned_abs())
}

struct Reader<'a, 'c> {
    section: Section<'a>,
    columns: &'c Columns,
}

impl Reader<'_, '_> {
    fn note(&self, place: &Place, message: impl std::fmt::Display) {
        self.section.problems().note(place, message);
    }

    fn name(&mut self) -> Option<String> {
        let at = self.section.required::<String>("name")?;
        if let Some(fault) = names::table_fault(&at.value) {
            self.note(&at.place, format_args!("window name {:?} {fault}", Cut(&at.value)));
        }
        Some(at.value)
    }

    fn every(&mut self) -> Option<i64> {
        let at = self.section.required::<DurationMs>("every")?;
        self.milliseconds("every", &at, WINDOW_EVERY_MS_MIN)
    }

    fn grace(&mut self) -> i64 {
        let at = self.section.optional::<DurationMs>("grace");
        let given = at.and_then(|at| self.milliseconds("grace", &at, WINDOW_GRACE_MS_MIN));
        given.unwrap_or(WINDOW_GRACE_MS_DEFAULT)
    }

    fn seal(&mut self) -> SealPolicy {
        let policy = self.section.optional::<String>("seal");
        let revise_for = self.section.optional::<DurationMs>("revise_for");
        match (policy.as_ref().map_or("once", |at| at.value.as_str()), &revise_for) {
            ("revise", given) => {
                let given = given.as_ref().and_then(|at| self.milliseconds("revise_for", at, WINDOW_EVERY_MS_MIN));
                SealPolicy::Revise { for_us: given.unwrap_or(WINDOW_REVISE_FOR_MS_DEFAULT) * 1000 }
            }
            ("once", None) => SealPolicy::Once,
            ("once", Some(at)) => {
                self.note(&at.place, "`revise_for` goes with `seal = \"revise\"`; sealed once, a row stays as it is");
                SealPolicy::Once
            }
            (other, _) => {
                if let Some(at) = &policy {
                    self.note(&at.place, format_args!("`seal` = {:?}; expected \"once\" or \"revise\"", Cut(other)));
                }
                SealPolicy::Once
            }
        }
    }

    /// For how long partials are kept: for as long as something is made of them.
    fn keep(&mut self, seal: SealPolicy) -> Option<i64> {
        let at = self.section.optional::<DurationMs>("keep_partials")?;
        let keep = self.milliseconds_within("keep_partials", &at, WINDOW_KEEP_MS_MIN..=WINDOW_KEEP_MS_MAX)?;
        if let SealPolicy::Revise { for_us } = seal
            && keep < for_us / 1000
        {
            let (keep, revise_for) = (written(keep), written(for_us / 1000));
            let message = format!(
                "`keep_partials` = {keep} is shorter than `revise_for` = {revise_for}: a window is corrected by adding \
                 up its partials"
            );
            self.note(&at.place, message);
        }
        Some(keep)
    }

    fn milliseconds(&self, key: &str, at: &At<DurationMs>, min: i64) -> Option<i64> {
        self.milliseconds_within(key, at, min..=WINDOW_EVERY_MS_MAX)
    }

    fn milliseconds_within(&self, key: &str, at: &At<DurationMs>, within: RangeInclusive<i64>) -> Option<i64> {
        let given = i64::try_from(at.value.0).ok().filter(|ms| within.contains(ms));
        if given.is_none() {
            let (min, max) = (written(*within.start()), written(*within.end()));
            let message = format!("`{key}` = {}; expected {min} to {max}", at.value);
            self.note(&at.place, message);
        }
        given
    }

    /// How far starts are apart; as far as windows are long, if they do not overlap.
    fn hop(&mut self, every: Option<i64>) -> Option<i64> {
        let Some(at) = self.section.optional::<DurationMs>("hop") else {
            // One that is there and cannot be read was noted.
            return if self.section.has("hop") { None } else { every };
        };
        let (hop, every) = (self.milliseconds("hop", &at, WINDOW_EVERY_MS_MIN)?, every?);
        let (hop_is, every_is) = (written(hop), written(every));
        let message = if hop > every {
            format!(
                "`hop` = {hop_is} is longer than `every` = {every_is}: records between two windows would be in none"
            )
        } else if every % hop != 0 {
            // The next longer one: it divides one time less, or two, ...
            let times = (1..=(every / hop).min(WINDOW_PANES_MAX)).rev().find(|times| every % times == 0).unwrap_or(1);
            let near = written(every / times);
            format!("`hop` = {hop_is} does not divide `every` = {every_is}; the next that does is {near}")
        } else if every / hop > WINDOW_PANES_MAX {
            format!(
                "`hop` = {hop_is} is in `every` = {every_is} {} times; expected at most {WINDOW_PANES_MAX} times",
                every / hop
            )
        } else {
            return Some(hop);
        };
        self.note(&at.place, message);
        None
    }

    /// `Some(None)` if the window leaves it to the contract.
    fn time(&mut self) -> Option<Option<EventTime>> {
        let Some(at) = self.section.optional::<String>("time") else {
            return if self.section.has("time") { None } else { Some(None) };
        };
        read::time("time", &at, self.columns, self.section.problems()).map(Some)
    }

    fn conditions(&mut self) -> Option<Vec<Condition>> {
        let Some(at) = self.section.optional::<String>("where") else {
            return if self.section.has("where") { None } else { Some(Vec::new()) };
        };
        match read_filter::conditions(&at.value, self.columns) {
            Ok(conditions) => conditions,
            Err(faults) => {
                for fault in faults {
                    let place = self.section.place_within("where", &at.value, fault.at);
                    self.note(place.as_ref().unwrap_or(&at.place), fault.message);
                }
                None
            }
        }
    }

    // --- keys ---

    fn keys(&mut self) -> Option<Vec<KeyPlan>> {
        let Some(at) = self.section.value("by") else { return Some(Vec::new()) };
        let Some(elements) = at.value.as_array() else {
            self.note(&at.place, "`by` is no list; expected columns and derived keys, like [\"colour\"]");
            return None;
        };
        let keys: Vec<Option<KeyPlan>> = elements.iter().map(|element| self.key(element)).collect();
        keys.into_iter().collect()
    }

    fn key(&self, element: &Value) -> Option<KeyPlan> {
        let place = self.section.place_of(element);
        if let Some(name) = element.as_str() {
            let (column, source) = self.column(name, "`by`", &place)?;
            if source.is_array() {
                let is = source.as_str();
                self.note(&place, format_args!("`by` names `{}`, which is {is}; a key is a single value", Cut(name)));
                return None;
            }
            return Some(KeyPlan { name: name.to_owned(), column, source, derive: Derive::Value });
        }
        let Some(section) = self.section.inline("by", element) else {
            let shown = element.to_string();
            let expected = "a column's name, or {name = .., bucket = ..} or {name = .., year = ..}";
            self.note(&place, format_args!("`by` holds {}; expected {expected}", shown.trim()));
            return None;
        };
        self.derived(section)
    }

    fn derived(&self, mut section: Section<'_>) -> Option<KeyPlan> {
        let name = section.required::<String>("name");
        if let Some(at) = &name
            && let Some(fault) = names::column_fault(&at.value)
        {
            self.note(&at.place, format_args!("key name {:?} {fault}", Cut(&at.value)));
        }
        let bucket = section.optional::<String>("bucket");
        let year = section.optional::<String>("year");
        let bounds = section.optional::<Vec<f64>>("bounds");
        let labels = section.optional::<Vec<String>>("labels");
        let place = section.place();
        section.finish();
        let (at, derive, types) = match (bucket, year) {
            (Some(at), None) => {
                let derive = self.buckets(bounds, labels, &place)?;
                (at, derive, &[ColumnType::Integer, ColumnType::Long, ColumnType::Double][..])
            }
            (None, Some(at)) => (at, Derive::Year, &[ColumnType::Timestamp, ColumnType::Date][..]),
            (Some(_), Some(_)) | (None, None) => {
                self.note(&place, "a derived key takes one of `bucket` (with `bounds` and `labels`) and `year`");
                return None;
            }
        };
        let (column, source) = self.column(&at.value, "a derived key", &at.place)?;
        if !types.contains(&source) {
            let (is, expected) = (source.as_str(), list(types));
            self.note(&at.place, format_args!("`{}` is {is}; this key can be made of {expected}", Cut(&at.value)));
            return None;
        }
        Some(KeyPlan { name: name?.value, column, source, derive })
    }

    fn buckets(&self, bounds: Option<At<Vec<f64>>>, labels: Option<At<Vec<String>>>, place: &Place) -> Option<Derive> {
        let (Some(bounds), Some(labels)) = (bounds, labels) else {
            self.note(place, "`bucket` needs `bounds` and `labels`");
            return None;
        };
        if !bounds.value.is_sorted_by(|a, b| a < b) {
            self.note(&bounds.place, "`bounds` must rise from one to the next");
            return None;
        }
        let (bounds, labels, place) = (bounds.value, labels.value, labels.place);
        if labels.is_empty() || !(labels.len() == bounds.len() || labels.len() + 1 == bounds.len()) {
            let message = format!(
                "{} `labels` for {} `bounds`; expected as many (the last is open-ended) or one fewer",
                labels.len(),
                bounds.len()
            );
            self.note(&place, message);
            return None;
        }
        Some(Derive::Bucket { bounds, labels })
    }

    // --- columns ---

    /// Index and type of a column; `None` if it is unknown (noted) or broken (noted where it is declared).
    fn column(&self, name: &str, by_whom: &str, place: &Place) -> Option<(usize, ColumnType)> {
        self.columns.find_for(name, by_whom, place, self.section.problems())
    }

    fn distinct_outputs(&self, keys: &[KeyPlan], measures: &[MeasurePlan]) {
        let mut taken = Taken::default();
        let (place, problems) = (self.section.place(), self.section.problems());
        let mut take = |what: String, name: &str, by: &str| {
            taken.take(&what, name, by, &place, problems);
        };
        let bookkeeping = partials_schema(&[], &[]);
        for name in bookkeeping.fields().iter().map(|field| field.name().as_str()).chain([COMPLETE, REVISION]) {
            take("column".to_owned(), name, "is reserved: every window has a column of this name");
        }
        for KeyPlan { name, .. } in keys {
            take("key".to_owned(), name, "is taken by a key");
        }
        for measure in measures {
            let name = Cut(&measure.name);
            for field in measure.fields() {
                let what = if *field.name() == measure.name {
                    "measure".to_owned()
                } else {
                    format!("measure `{name}` also makes a column, whose name")
                };
                take(what, field.name(), &format!("is taken by measure `{name}`"));
            }
        }
    }
}
