//! A stream's whole truth in one file: from JSON field to table column to window.
//!
//! `schemas/<stream>.toml` is read, checked (all errors at once, each with file and line) and compiled into a
//! [`Contract`]: what the cleaner does to each field, the Arrow schemas of the tables, and the windows. The rest of
//! the house knows no stream, column or sentinel by name. `schemas/README.md` documents the format.

mod column;
mod definition;
mod fields;
mod names;
mod read;
mod read_column;
mod read_filter;
mod read_measure;
mod read_window;
#[cfg(test)]
mod tests;
pub mod window;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use deltalake::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

pub use column::{Column, ColumnType, Constant, Range, Source, Steps};
pub use fields::{FieldEntry, FieldTable, SourceFields};
pub use window::WindowPlan;

use crate::toml_doc::{Document, Place, Problems};

/// Bookkeeping column: the shard that a record came from (string).
pub const SHARD_ID: &str = "_shard_id";
/// Bookkeeping column: the record's sequence number (string).
pub const SEQUENCE_NUMBER: &str = "_sequence_number";
/// Bookkeeping column: its index in an aggregated record (long; 0 for a plain one).
pub const SUB_SEQUENCE_NUMBER: &str = "_sub_sequence_number";
/// Bookkeeping column: its arrival at Kinesis (timestamp).
pub const ARRIVED_AT: &str = "_arrived_at";
/// Bookkeeping column of rows: the number of the replay that recovered the record from a reject (long); null for a
/// record that was clean when it was read.
pub const REPLAYED: &str = "_replayed";
/// Bookkeeping column: the day of the event time (date), the partition column of every table.
pub const DATE: &str = "_date";
/// Rejects column: why (string, one of [`crate::record::RejectReason`]).
pub const REASON: &str = "reason";
/// Rejects column: what exactly, for people (string).
pub const DETAIL: &str = "detail";
/// Rejects column: the record's untouched bytes (binary).
pub const PAYLOAD: &str = "payload";

/// One stream's compiled contract.
#[derive(Debug, Clone)]
pub struct Contract {
    /// Where it was read from, for messages.
    pub file: PathBuf,
    /// The rows table's name; `{table}_rejects` is its rejects table.
    pub table: String,
    /// What a record's event time is.
    pub event_time: EventTime,
    /// Data columns, in the table's order.
    pub columns: Vec<Column>,
    /// The JSON fields that the columns read.
    pub fields: SourceFields,
    /// Indexes of the fields that no required column reads: a record without any of them is of another kind.
    pub kind_fields: Vec<usize>,
    /// Declared windows, in the file's order.
    pub windows: Vec<WindowPlan>,
    /// The rows table: data columns, then the bookkeeping columns. All nullable: what a required column promises is
    /// kept by the cleaner, and every engine can append to a table that does not ask for it.
    pub rows_schema: SchemaRef,
    /// The rejects table.
    pub rejects_schema: SchemaRef,
}

/// What a record's event time is; the partition `_date` is its UTC day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventTime {
    /// Kinesis's arrival time.
    Arrival,
    /// The timestamp column with this index; a record without one uses its arrival time.
    Column(usize),
}

impl Contract {
    /// Every table that it asks for: rows, rejects, two a window.
    pub fn tables(&self) -> Vec<String> {
        let windows = self.windows.iter().flat_map(|window| [window.partials_table(), window.name.clone()]);
        [self.table.clone(), self.rejects_table()].into_iter().chain(windows).collect()
    }

    /// The same for tables of another name: rows `name`, windows `{name}_{window}`. `Err` says why the name will not
    /// do.
    pub fn renamed(&self, name: &str) -> Result<Self, &'static str> {
        let mut renamed = Self { table: name.to_owned(), ..self.clone() };
        for window in &mut renamed.windows {
            window.name = format!("{name}_{}", window.name);
        }
        match renamed.tables().iter().find_map(|table| names::table_fault(table)) {
            Some(fault) => Err(fault),
            None => Ok(renamed),
        }
    }

    /// The rejects table's name.
    pub fn rejects_table(&self) -> String {
        format!("{}_rejects", self.table)
    }
}

/// Reads and compiles a contract file. `None` if anything is wrong with it; every problem is noted, and that it
/// cannot be read at all where it was `declared`, if anywhere.
pub fn load(path: &Path, declared: Option<&Place>, problems: &Problems) -> Option<Contract> {
    let document = Document::read(path, declared.map(|place| ("contract", place)), problems)?;
    read::contract(path.to_owned(), &document, problems)
}

/// Compiles a text that stands for `file` in messages. `None` if anything is wrong with it; every problem is noted.
pub fn parse(file: &str, text: String, problems: &Problems) -> Option<Contract> {
    let document = Document::parse(file, text, problems)?;
    read::contract(PathBuf::from(file), &document, problems)
}

fn rows_schema(columns: &[Column]) -> SchemaRef {
    let data = columns.iter().map(|column| Field::new(&column.name, column.column_type.arrow(), true));
    let replayed = Field::new(REPLAYED, DataType::Int64, true);
    Arc::new(Schema::new(data.chain(place_fields()).chain([replayed, date_field()]).collect::<Vec<_>>()))
}

fn rejects_schema() -> SchemaRef {
    let said = [(REASON, DataType::Utf8), (DETAIL, DataType::Utf8), (PAYLOAD, DataType::Binary)];
    let said = said.map(|(name, data_type)| Field::new(name, data_type, true));
    Arc::new(Schema::new(place_fields().into_iter().chain(said).chain([date_field()]).collect::<Vec<_>>()))
}

/// Where a record stood in the stream.
fn place_fields() -> [Field; 4] {
    [
        Field::new(SHARD_ID, DataType::Utf8, true),
        Field::new(SEQUENCE_NUMBER, DataType::Utf8, true),
        Field::new(SUB_SEQUENCE_NUMBER, DataType::Int64, true),
        Field::new(ARRIVED_AT, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
    ]
}

fn date_field() -> Field {
    Field::new(DATE, DataType::Date32, true)
}
