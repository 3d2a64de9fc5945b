//! The measures of a window: `function(column)`, and which functions take which columns.

use super::ColumnType::{self, Boolean, Date, Double, Integer, Long, String as Text, Timestamp};
use super::names;
use super::read_column::Columns;
use super::window::{Function, MeasurePlan};
use crate::limits::TOP_VALUES_MAX;
use crate::toml_doc::{At, Cut, Place, Problems, Section, nearest};

const OFFERED: &str = "count, sum(column), min(column), max(column), mean(column), first(column), last(column), \
                       distinct(column), quantiles(column) and top(column, how many)";
const NAMES: [&str; 10] = ["count", "sum", "min", "max", "mean", "first", "last", "distinct", "quantiles", "top"];

const NUMBERS: &[ColumnType] = &[Integer, Long, Double];
const ORDERED: &[ColumnType] = &[Integer, Long, Double, Timestamp, Date];
const SPELT: &[ColumnType] = &[Text, Integer, Long];
const SINGLE: &[ColumnType] = &[Text, Integer, Long, Double, Boolean, Timestamp, Date];

/// Reads `measure` of a `[[window]]`.
pub(super) fn measures(window: &mut Section<'_>, columns: &Columns) -> Option<Vec<MeasurePlan>> {
    let problems = window.problems();
    let Some(mut section) = window.optional_section("measure") else {
        problems.note(&window.place(), "`measure` is missing; expected at least one, like { events = \"count\" }");
        return None;
    };
    let names = section.keys();
    if names.is_empty() {
        problems.note(&section.place(), "`measure` is empty; expected at least one, like { events = \"count\" }");
    }
    let reader = Reader { problems, columns };
    let measures: Vec<Option<MeasurePlan>> = names.into_iter().map(|name| reader.measure(&mut section, name)).collect();
    section.finish();
    measures.into_iter().collect()
}

struct Reader<'a> {
    problems: &'a Problems,
    columns: &'a Columns,
}

impl Reader<'_> {
    fn measure(&self, section: &mut Section<'_>, name: String) -> Option<MeasurePlan> {
        let at = section.optional::<String>(&name)?;
        if let Some(fault) = names::column_fault(&name) {
            self.problems.note(&at.place, format_args!("measure name {:?} {fault}", Cut(&name)));
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
        let known = call.filter(|(function, _)| *function != "count" && NAMES.contains(function));
        let Some((function, argument)) = known else {
            let word = text.split('(').next().unwrap_or_default();
            let near = nearest(word, NAMES.into_iter()).filter(|near| *near != word);
            let hint = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
            let message = format!("measure {:?} is not offered{hint}; offered are {OFFERED}", Cut(text));
            self.problems.note(&at.place, message);
            return None;
        };
        let (argument, shown) = if function == "top" { self.shown(argument, text, &at.place)? } else { (argument, 0) };
        let (column, of) = self.columns.find_for(argument.trim(), text, &at.place, self.problems)?;
        let whole = matches!(of, Integer | Long);
        let (takes, function) = match function {
            "sum" => (NUMBERS, if whole { Function::SumInteger(column) } else { Function::SumDouble(column) }),
            "mean" => (NUMBERS, if whole { Function::MeanInteger(column) } else { Function::MeanDouble(column) }),
            "min" => (ORDERED, Function::Min(column, of)),
            "max" => (ORDERED, Function::Max(column, of)),
            "first" => (SINGLE, Function::First(column, of)),
            "last" => (SINGLE, Function::Last(column, of)),
            "distinct" => (SINGLE, Function::Distinct(column, of)),
            "quantiles" => (NUMBERS, Function::Quantiles(column, of)),
            _ => (SPELT, Function::Top(column, of, shown)),
        };
        if takes.contains(&of) {
            return Some(function);
        }
        let (is, takes) = (of.as_str(), list(takes));
        let message = format!("measure {:?}: the column is {is}; it takes {takes}", Cut(text));
        self.problems.note(&at.place, message);
        None
    }

    /// The arguments of `top(column, how many)`.
    fn shown<'t>(&self, arguments: &'t str, text: &str, place: &Place) -> Option<(&'t str, usize)> {
        let (column, shown) = arguments.rsplit_once(',').unwrap_or((arguments, ""));
        let shown = shown.trim().parse::<i64>().ok().filter(|shown| (1..=TOP_VALUES_MAX).contains(shown));
        if shown.is_none() {
            let message = format!(
                "measure {:?}: expected a column and how many of its values, 1 to {TOP_VALUES_MAX}, like top(colour, 10)",
                Cut(text)
            );
            self.problems.note(place, message);
        }
        Some((column, usize::try_from(shown?).ok()?))
    }
}

/// Names of types, for messages.
pub(super) fn list(types: &[ColumnType]) -> String {
    types.iter().map(|known| known.as_str()).collect::<Vec<_>>().join(", ")
}
