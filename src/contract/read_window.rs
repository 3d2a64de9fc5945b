//! One `[[window]]`: its size, its keys, its measures, and the hash that says which partials may be merged.

use toml_edit::Value;

use super::names::{self, Taken};
use super::read_column::Columns;
use super::window::{Derive, Function, KeyPlan, MeasurePlan, WindowPlan, partials_schema};
use super::{Column, ColumnType};
use crate::limits::{WINDOW_EVERY_MS_MAX, WINDOW_EVERY_MS_MIN, WINDOW_GRACE_MS_DEFAULT, WINDOW_GRACE_MS_MIN};
use crate::toml_doc::{At, Cut, DurationMs, Place, Section};

const MEASURES: &str = "count, sum(column), min(column), max(column) and mean(column)";

/// Reads one `[[window]]`; with it, where it begins.
pub(super) fn window(section: Section<'_>, columns: &Columns) -> Option<(WindowPlan, Place)> {
    let mut reader = Reader { section, columns };
    let name = reader.name();
    let every = reader.every();
    let grace = reader.grace();
    let keys = reader.keys();
    let measures = reader.measures();
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

    // --- measures ---

    fn measures(&mut self) -> Option<Vec<MeasurePlan>> {
        let Some(mut section) = self.section.optional_section("measure") else {
            let place = self.section.place();
            self.note(&place, "`measure` is missing; expected at least one, like { events = \"count\" }");
            return None;
        };
        let names = section.keys();
        if names.is_empty() {
            self.note(&section.place(), "`measure` is empty; expected at least one, like { events = \"count\" }");
        }
        let measures: Vec<Option<MeasurePlan>> =
            names.into_iter().map(|name| self.measure(&mut section, name)).collect();
        section.finish();
        measures.into_iter().collect()
    }

    fn measure(&self, section: &mut Section<'_>, name: String) -> Option<MeasurePlan> {
        let at = section.optional::<String>(&name)?;
        if let Some(fault) = names::column_fault(&name) {
            self.note(&at.place, format_args!("measure name {:?} {fault}", Cut(&name)));
        }
        let function = self.function(&at)?;
        Some(MeasurePlan { name, function })
    }

    fn function(&self, at: &At<String>) -> Option<Function> {
        let text = at.value.trim();
        if text == "count" {
            return Some(Function::Count);
        }
        let call = text.strip_suffix(')').and_then(|call| call.split_once('('));
        let known = call.filter(|(function, _)| ["sum", "min", "max", "mean"].contains(function));
        let Some((function, argument)) = known else {
            self.note(&at.place, format_args!("measure {:?} is not offered; offered are {MEASURES}", Cut(text)));
            return None;
        };
        let (column, of) = self.column(argument.trim(), text, &at.place)?;
        let integral = matches!(of, ColumnType::Integer | ColumnType::Long);
        let numeric = integral || of == ColumnType::Double;
        let ordered = numeric || matches!(of, ColumnType::Timestamp | ColumnType::Date);
        match function {
            "sum" if integral => Some(Function::SumInteger(column)),
            "sum" if numeric => Some(Function::SumDouble(column)),
            "mean" if integral => Some(Function::MeanInteger(column)),
            "mean" if numeric => Some(Function::MeanDouble(column)),
            "min" if ordered => Some(Function::Min(column, of)),
            "max" if ordered => Some(Function::Max(column, of)),
            _ => {
                let is = of.as_str();
                let takes = if matches!(function, "sum" | "mean") { "" } else { ", timestamp, date" };
                let message =
                    format!("measure {:?}: the column is {is}; it takes integer, long, double{takes}", Cut(text));
                self.note(&at.place, message);
                None
            }
        }
    }

    // --- both ---

    /// Index and type of a column; `None` if it is unknown (noted) or broken (noted where it is declared).
    fn column(&self, name: &str, by_whom: &str, place: &Place) -> Option<(usize, ColumnType)> {
        match self.columns.find(name) {
            Ok(found) => found,
            Err(unknown) => {
                self.note(place, format_args!("{} names {unknown}", Cut(by_whom)));
                None
            }
        }
    }

    fn distinct_outputs(&self, keys: &[KeyPlan], measures: &[MeasurePlan]) {
        let mut taken = Taken::default();
        let place = self.section.place();
        for field in partials_schema(keys, measures).fields() {
            taken.take("window column", field.name(), &place, self.section.problems());
        }
    }
}

fn list(types: &[ColumnType]) -> String {
    types.iter().map(|known| known.as_str()).collect::<Vec<_>>().join(", ")
}

// === definition ===

/// Sixteen hex digits that differ when partials must not be merged. Texts are written with their length, numbers
/// by their bits, so that no two declarations give the same bytes.
fn definition(every_us: i64, keys: &[KeyPlan], measures: &[MeasurePlan], columns: &[Column]) -> String {
    let mut hash = Fnv::default();
    let column = |hash: &mut Fnv, index: usize| {
        if let Some(column) = columns.get(index) {
            hash.text(&column.name);
            hash.text(column.column_type.as_str());
        }
    };
    hash.number(every_us.cast_unsigned());
    hash.number(keys.len() as u64);
    for key in keys {
        hash.text(&key.name);
        column(&mut hash, key.column);
        match &key.derive {
            Derive::Value => hash.text("value"),
            Derive::Year => hash.text("year"),
            Derive::Bucket { bounds, labels } => {
                hash.text("bucket");
                hash.number(bounds.len() as u64);
                bounds.iter().for_each(|bound| hash.number(bound.to_bits()));
                labels.iter().for_each(|label| hash.text(label));
            }
        }
    }
    for measure in measures {
        hash.text(&measure.name);
        let (function, index) = match measure.function {
            Function::Count => ("count", None),
            Function::SumInteger(index) | Function::SumDouble(index) => ("sum", Some(index)),
            Function::Min(index, _) => ("min", Some(index)),
            Function::Max(index, _) => ("max", Some(index)),
            Function::MeanInteger(index) | Function::MeanDouble(index) => ("mean", Some(index)),
        };
        hash.text(function);
        index.into_iter().for_each(|index| column(&mut hash, index));
    }
    format!("{:016x}", hash.0)
}

/// FNV-1a, 64 bit: written out here because it must give the same digits for ever.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }
}
