//! One `[[column]]`: its keys, and which of them make sense together.

use std::collections::BTreeSet;

use toml_edit::Value;

use super::names::{self, Taken};
use super::{Column, ColumnType, Constant, Range, Source, SourceFields, Steps};
use crate::limits::JSON_DEPTH_MAX;
use crate::toml_doc::{Cut, FromToml, Place, Problems, Section, nearest};

const TEXT: &[ColumnType] = &[ColumnType::String];
const TEXTS: &[ColumnType] = &[ColumnType::String, ColumnType::StringArray];
const WHOLE: &[ColumnType] = &[ColumnType::Integer, ColumnType::Long];
const NUMBERS: &[ColumnType] =
    &[ColumnType::Integer, ColumnType::Long, ColumnType::Double, ColumnType::LongArray, ColumnType::DoubleArray];
const WRITTEN: &[ColumnType] = &[
    ColumnType::String,
    ColumnType::Integer,
    ColumnType::Long,
    ColumnType::Double,
    ColumnType::Timestamp,
    ColumnType::Date,
];
const PLAIN: &[ColumnType] =
    &[ColumnType::String, ColumnType::Integer, ColumnType::Long, ColumnType::Double, ColumnType::Boolean];
const ARRAYS: &[ColumnType] = &[ColumnType::StringArray, ColumnType::LongArray, ColumnType::DoubleArray];

/// The declared columns, as far as they could be read.
#[derive(Debug, Default)]
pub(super) struct Columns {
    /// Those without a fault, in order.
    pub good: Vec<Column>,
    /// The fields that they read.
    pub fields: SourceFields,
    broken: BTreeSet<String>,
}

impl Columns {
    /// Index and type of a column. `Ok(None)`: declared, but its own fault was noted already. `Err`: the name in
    /// quotes with a hint.
    pub fn find(&self, name: &str) -> Result<Option<(usize, ColumnType)>, String> {
        if let Some(index) = self.good.iter().position(|column| column.name == name) {
            return Ok(Some((index, self.good[index].column_type)));
        }
        if self.broken.contains(name) {
            return Ok(None);
        }
        let names = self.good.iter().map(|column| column.name.as_str()).chain(self.broken.iter().map(String::as_str));
        let hint = nearest(name, names).map(|near| format!(" (no such column; did you mean `{}`?)", Cut(near)));
        Err(format!("{:?}{}", Cut(name), hint.unwrap_or_else(|| " (no such column)".to_owned())))
    }

    /// The same; that it is unknown is noted, as named `by_whom`.
    pub fn find_for(
        &self,
        name: &str,
        by_whom: &str,
        place: &Place,
        problems: &Problems,
    ) -> Option<(usize, ColumnType)> {
        match self.find(name) {
            Ok(found) => found,
            Err(unknown) => {
                problems.note(place, format_args!("{} names {unknown}", Cut(by_whom)));
                None
            }
        }
    }
}

/// Reads every `[[column]]`.
pub(super) fn columns(sections: Vec<Section<'_>>) -> Columns {
    let mut columns = Columns::default();
    let mut taken = Taken::default();
    for section in sections {
        let problems = section.problems();
        let noted_before = problems.count();
        let mut reader = Reader { section };
        let name = reader.name(&mut taken);
        let column = reader.column(name.clone(), &mut columns.fields);
        reader.section.finish();
        match column.filter(|_| problems.count() == noted_before) {
            Some(column) => columns.good.push(column),
            None => columns.broken.extend(name),
        }
    }
    columns
}

struct Reader<'a> {
    section: Section<'a>,
}

impl Reader<'_> {
    fn note(&self, place: &Place, message: impl std::fmt::Display) {
        self.section.problems().note(place, message);
    }

    fn name(&mut self, taken: &mut Taken) -> Option<String> {
        let at = self.section.required::<String>("name")?;
        if let Some(fault) = names::column_fault(&at.value) {
            self.note(&at.place, format_args!("column name {:?} {fault}", Cut(&at.value)));
        }
        let by = format!("is taken by the column at {}", at.place);
        taken.take("column", &at.value, &by, &at.place, self.section.problems());
        Some(at.value)
    }

    /// Reads every key, also after a fault, so that no key is called unknown.
    fn column(&mut self, name: Option<String>, fields: &mut SourceFields) -> Option<Column> {
        let column_type = self.column_type();
        let required = self.section.optional::<bool>("required").is_some_and(|at| at.value);
        let source = self.source(name.as_deref(), column_type, fields);
        let collected = match &source {
            Some(Source::Collect(fields)) => Some(fields.len()),
            Some(Source::Field(_) | Source::Join { .. }) | None => None,
        };
        let mut steps = Steps {
            trim: self.step::<bool>("trim", TEXTS, column_type).unwrap_or(true),
            null_if: self.step("null_if", WRITTEN, column_type).unwrap_or_default(),
            strip_prefix: self.step("strip_prefix", TEXT, column_type),
            magnitude: self.magnitude(column_type),
            ranges: self.ranges(column_type, collected),
            one_of: self.step("one_of", TEXT, column_type).unwrap_or_default(),
            default: None,
        };
        steps.default = self.default(column_type, required, &steps);
        Some(Column { name: name?, column_type: column_type?, required, source: source?, steps })
    }

    fn column_type(&mut self) -> Option<ColumnType> {
        let at = self.section.required::<String>("type")?;
        let found = ColumnType::ALL.into_iter().find(|known| known.as_str() == at.value);
        if found.is_none() {
            let near = nearest(&at.value, ColumnType::ALL.into_iter().map(ColumnType::as_str));
            let hint = near.map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"));
            let message =
                format!("type {:?} is not offered{hint} (offered: {})", Cut(&at.value), list(&ColumnType::ALL));
            self.note(&at.place, message);
        }
        found
    }

    /// Whether a key is offered for this column; noted if not. A column whose type is unknown offers everything.
    fn offered(&self, key: &str, place: &Place, types: &[ColumnType], column_type: Option<ColumnType>) -> bool {
        let Some(column_type) = column_type.filter(|column_type| !types.contains(column_type)) else { return true };
        let (is, offered) = (column_type.as_str(), list(types));
        self.note(place, format_args!("`{key}` is not offered for a column of type {is}; it is for {offered}"));
        false
    }

    fn step<T: FromToml>(&mut self, key: &str, types: &[ColumnType], column_type: Option<ColumnType>) -> Option<T> {
        let at = self.section.optional::<T>(key)?;
        self.offered(key, &at.place, types, column_type).then_some(at.value)
    }

    fn magnitude(&mut self, column_type: Option<ColumnType>) -> bool {
        let Some(at) = self.section.optional::<String>("parse") else { return false };
        if at.value != "magnitude" {
            self.note(&at.place, format_args!("`parse` = {:?}; only \"magnitude\" is offered", Cut(&at.value)));
        }
        self.offered("parse", &at.place, WHOLE, column_type)
    }

    // --- where values come from ---

    fn source(&mut self, name: Option<&str>, of: Option<ColumnType>, fields: &mut SourceFields) -> Option<Source> {
        let from = self.section.optional::<String>("from");
        let join = self.section.optional_section("join");
        let collect = self.section.optional::<Vec<String>>("collect");
        let given = usize::from(from.is_some()) + usize::from(join.is_some()) + usize::from(collect.is_some());
        if given > 1 {
            self.note(&self.section.place(), "more than one of `from`, `join` and `collect`; a column has one source");
        }
        if let Some(join) = join {
            self.offered("join", &join.place(), TEXT, of);
            return self.join(join, fields);
        }
        if let Some(at) = collect {
            self.offered("collect", &at.place, ARRAYS, of);
            if at.value.len() < 2 {
                self.note(&at.place, "`collect` needs at least two fields, like [\"x\", \"y\"]");
            }
            return self.numbers(&at.value, &at.place, fields).map(Source::Collect);
        }
        match from {
            Some(at) => Some(Source::Field(self.number(&at.value, &at.place, fields)?)),
            None => Some(Source::Field(fields.number(name?))),
        }
    }

    fn join(&self, mut join: Section<'_>, fields: &mut SourceFields) -> Option<Source> {
        let from = join.required::<Vec<String>>("from");
        let with = join.required::<String>("with");
        join.finish();
        let from = from?;
        if from.value.len() < 2 {
            self.note(&from.place, "`join.from` needs at least two fields, like [\"first\", \"last\"]");
        }
        let fields = self.numbers(&from.value, &from.place, fields)?;
        Some(Source::Join { fields, with: with?.value })
    }

    fn numbers(&self, paths: &[String], place: &Place, fields: &mut SourceFields) -> Option<Vec<usize>> {
        paths.iter().map(|path| self.number(path, place, fields)).collect()
    }

    fn number(&self, path: &str, place: &Place, fields: &mut SourceFields) -> Option<usize> {
        if path.split('.').any(str::is_empty) || path.split('.').count() > JSON_DEPTH_MAX {
            self.note(place, format_args!("{:?} is no JSON field; expected a name, or names like \"a.b\"", Cut(path)));
            return None;
        }
        Some(fields.number(path))
    }

    // --- steps that take several forms ---

    fn ranges(&mut self, column_type: Option<ColumnType>, collected: Option<usize>) -> Vec<Range> {
        let Some(at) = self.section.value("range") else { return Vec::new() };
        if !self.offered("range", &at.place, NUMBERS, column_type) {
            return Vec::new();
        }
        let elements = at.value.as_array().into_iter().flatten();
        let ranges: Option<Vec<Range>> = match range(at.value) {
            Some(range) => Some(vec![range]),
            None => elements.map(range).collect::<Option<_>>().filter(|ranges: &Vec<Range>| !ranges.is_empty()),
        };
        let one_each = ranges.as_ref().is_none_or(|ranges| ranges.len() == 1 || Some(ranges.len()) == collected);
        if let Some(ranges) = ranges.filter(|_| one_each) {
            return ranges;
        }
        let expected = match collected {
            Some(count) => format!("[lowest, highest], or {count} of these, one for each collected field"),
            None => "[lowest, highest]".to_owned(),
        };
        let shown = at.value.to_string();
        self.note(&at.place, format_args!("`range` = {}; expected {expected}", shown.trim()));
        Vec::new()
    }

    fn default(&mut self, column_type: Option<ColumnType>, required: bool, steps: &Steps) -> Option<Constant> {
        let at = self.section.value("default")?;
        if !self.offered("default", &at.place, PLAIN, column_type) {
            return None;
        }
        if required {
            self.note(&at.place, "`default` on a required column: a record without a value is a reject; drop one");
        }
        let column_type = column_type?;
        let constant = constant(column_type, at.value);
        let Some(constant) = constant else {
            let shown = at.value.to_string();
            let is = column_type.as_str();
            self.note(&at.place, format_args!("`default` = {} is no value of type {is}", shown.trim()));
            return None;
        };
        if !allowed(&constant, steps) {
            let shown = at.value.to_string();
            let message = format!("`default` = {} is not what `range` or `one_of` allow", shown.trim());
            self.note(&at.place, message);
        }
        Some(constant)
    }
}

fn list(types: &[ColumnType]) -> String {
    types.iter().map(|known| known.as_str()).collect::<Vec<_>>().join(", ")
}

fn range(value: &Value) -> Option<Range> {
    match Vec::<f64>::from_value(value)?[..] {
        [low, high] if low <= high => Some(Range { low, high }),
        _ => None,
    }
}

fn constant(column_type: ColumnType, value: &Value) -> Option<Constant> {
    match column_type {
        ColumnType::String => value.as_str().map(|text| Constant::Text(text.to_owned())),
        ColumnType::Integer => value.as_integer().filter(|whole| i32::try_from(*whole).is_ok()).map(Constant::Whole),
        ColumnType::Long => value.as_integer().map(Constant::Whole),
        ColumnType::Double => f64::from_value(value).map(Constant::Double),
        ColumnType::Boolean => value.as_bool().map(Constant::Boolean),
        ColumnType::Timestamp
        | ColumnType::Date
        | ColumnType::StringArray
        | ColumnType::LongArray
        | ColumnType::DoubleArray => None,
    }
}

fn allowed(constant: &Constant, steps: &Steps) -> bool {
    let in_range = |value: f64| steps.range(0).is_none_or(|range| range.contains(value));
    match constant {
        Constant::Text(text) => steps.one_of.is_empty() || steps.one_of.contains(text),
        Constant::Whole(whole) => in_range(*whole as f64),
        Constant::Double(value) => in_range(*value),
        Constant::Boolean(_) => true,
    }
}
