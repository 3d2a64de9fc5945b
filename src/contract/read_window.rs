//! One `[[window]]`: its size and its keys.

use toml_edit::Value;

use super::ColumnType;
use super::definition::definition;
use super::names::{self, Taken};
use super::read_column::Columns;
use super::read_measure::{self, list};
use super::window::{Derive, KeyPlan, MeasurePlan, WindowPlan, partials_schema};
use crate::limits::{WINDOW_EVERY_MS_MAX, WINDOW_EVERY_MS_MIN, WINDOW_GRACE_MS_DEFAULT, WINDOW_GRACE_MS_MIN};
use crate::toml_doc::{At, Cut, DurationMs, Place, Section};

/// Reads one `[[window]]`; with it, where it begins.
pub(super) fn window(section: Section<'_>, columns: &Columns) -> Option<(WindowPlan, Place)> {
    let mut reader = Reader { section, columns };
    let name = reader.name();
    let every = reader.every();
    let grace = reader.grace();
    let keys = reader.keys();
    let measures = read_measure::measures(&mut reader.section, columns);
    reader.not_offered();
    let place = reader.section.place();
    let (every_us, keys, measures) = (every? * 1000, keys?, measures?);
    reader.distinct_outputs(&keys, &measures);
    reader.section.finish();
    let plan = WindowPlan {
        name: name?,
        every_us,
        grace_us: grace * 1000,
        definition: definition(every_us, &keys, &measures, &columns.good),
        partials_schema: partials_schema(&keys, &measures),
        keys,
        measures,
    };
    Some((plan, place))
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

    fn milliseconds(&self, key: &str, at: &At<DurationMs>, min: i64) -> Option<i64> {
        let given = i64::try_from(at.value.0).ok().filter(|ms| (min..=WINDOW_EVERY_MS_MAX).contains(ms));
        if given.is_none() {
            let days = WINDOW_EVERY_MS_MAX / 86_400_000;
            let message = format!("`{key}` = {} ms; expected {} s to {days} days", at.value.0, min / 1000);
            self.note(&at.place, message);
        }
        given
    }

    /// Words of other stream processors that a user may try.
    fn not_offered(&mut self) {
        for (key, instead) in [
            ("hop", "windows do not overlap; declare one with a smaller `every` and add neighbours up when reading"),
            ("where", "a window counts every row; put what you would filter by into `by`"),
        ] {
            if let Some(at) = self.section.value(key) {
                self.note(&at.place, format_args!("`{key}` is not offered: {instead}"));
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
        let place = self.section.place();
        for field in partials_schema(keys, measures).fields() {
            taken.take("window column", field.name(), &place, self.section.problems());
        }
    }
}
