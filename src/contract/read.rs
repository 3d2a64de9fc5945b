//! The contract file as a whole: its top-level keys, and what its parts must not do to each other.

use std::path::PathBuf;

use super::names::{self, Taken};
use super::read_column::Columns;
use super::{
    ColumnType, Contract, EventTime, Source, WindowPlan, read_column, read_window, rejects_schema, rows_schema,
};
use crate::limits::CONTRACT_ITEMS_MAX;
use crate::toml_doc::{At, Cut, Document, Place, Problems, Section};

/// Compiles a parsed file. `None` if it added to the problems.
pub(super) fn contract(file: PathBuf, document: &Document, problems: &Problems) -> Option<Contract> {
    let noted_before = problems.count();
    let mut root = document.root(problems);
    let table = table_name(&mut root);
    let partition_by = root.optional::<String>("partition_by");
    if let Some(at) = partition_by.filter(|at| at.value != "day") {
        problems.note(&at.place, format_args!("`partition_by` = {:?}; only \"day\" is offered", Cut(&at.value)));
    }
    let sections = limited(root.sections("column"), "column", problems);
    if sections.is_empty() {
        problems.note(&document.place(), "no [[column]]; a table needs at least one");
    }
    let columns = read_column::columns(sections);
    let event_time = event_time(&mut root, &columns);
    // Windows are read also if it is wrong, to tell of all problems at once.
    let default_time = event_time.unwrap_or(EventTime::Arrival);
    let window_sections = limited(root.sections("window"), "window", problems);
    let windows: Vec<(WindowPlan, Place)> = window_sections
        .into_iter()
        .filter_map(|section| read_window::window(section, &columns, default_time))
        .collect();
    root.finish();
    distinct_tables(table.as_deref(), document, &windows, problems);
    if problems.count() != noted_before {
        return None;
    }
    let kind_fields = kind_fields(&columns);
    Some(Contract {
        file,
        table: table?,
        event_time: event_time?,
        kind_fields,
        rows_schema: rows_schema(&columns.good),
        rejects_schema: rejects_schema(),
        columns: columns.good,
        fields: columns.fields,
        windows: windows.into_iter().map(|(window, _)| window).collect(),
    })
}

fn table_name(root: &mut Section<'_>) -> Option<String> {
    let at = root.required::<String>("table")?;
    if let Some(fault) = names::table_fault(&at.value) {
        root.problems().note(&at.place, format_args!("table name {:?} {fault}", Cut(&at.value)));
    }
    Some(at.value)
}

fn limited<'a>(sections: Vec<Section<'a>>, what: &str, problems: &Problems) -> Vec<Section<'a>> {
    if let Some(first_over) = sections.get(CONTRACT_ITEMS_MAX) {
        problems.note(&first_over.place(), format_args!("more than {CONTRACT_ITEMS_MAX} [[{what}]] in one contract"));
    }
    sections.into_iter().take(CONTRACT_ITEMS_MAX).collect()
}

fn event_time(root: &mut Section<'_>, columns: &Columns) -> Option<EventTime> {
    match root.optional::<String>("event_time") {
        Some(at) => time("event_time", &at, columns, root.problems()),
        None => Some(EventTime::Arrival),
    }
}

/// The time that a `key` names. That it is none is noted.
pub(super) fn time(key: &str, at: &At<String>, columns: &Columns, problems: &Problems) -> Option<EventTime> {
    if at.value == "arrival" {
        return Some(EventTime::Arrival);
    }
    let found = columns.find(&at.value).map_err(|unknown| {
        let message = format!("`{key}` = {unknown}; expected \"arrival\" or the name of a timestamp column");
        problems.note(&at.place, message);
    });
    let (index, column_type) = found.ok()??;
    if column_type != ColumnType::Timestamp {
        let is = column_type.as_str();
        let message = format!("`{key}` names `{}`, which is {is}; it must be a timestamp column", Cut(&at.value));
        problems.note(&at.place, message);
        return None;
    }
    Some(EventTime::Column(index))
}

/// Fields that no required column reads. If a record has none of them, it is not one of these records.
fn kind_fields(columns: &Columns) -> Vec<usize> {
    let read_by = |required: bool| {
        let columns = columns.good.iter().filter(move |column| column.required == required);
        columns.flat_map(|column| match &column.source {
            Source::Field(field) => std::slice::from_ref(field),
            Source::Join { fields, .. } | Source::Collect(fields) => fields,
        })
    };
    let mut fields: Vec<usize> = read_by(false).filter(|field| !read_by(true).any(|r| r == *field)).copied().collect();
    fields.sort_unstable();
    fields.dedup();
    fields
}

/// Every table is a folder under the lake's root, so no two may have the same name.
fn distinct_tables(table: Option<&str>, document: &Document, windows: &[(WindowPlan, Place)], problems: &Problems) {
    let mut taken = Taken::default();
    if let Some(table) = table {
        let (place, cut) = (document.place(), Cut(table));
        taken.take("table", table, &format!("is taken by `table = \"{cut}\"`"), &place, problems);
        let by = format!("is taken by the rejects table of `table = \"{cut}\"`");
        taken.take("table", &format!("{table}_rejects"), &by, &place, problems);
    }
    for (window, place) in windows {
        let name = Cut(&window.name);
        let is_free =
            taken.take("window", &window.name, &format!("is taken by the window at {place}"), place, problems);
        // Of two windows of one name the partials would only say the same again.
        if is_free {
            let by = format!("is taken by the partials table of window `{name}` at {place}");
            taken.take("partials table", &window.partials_table(), &by, place, problems);
        }
    }
}
