//! A stream's whole truth in one file: from JSON field to table column to window.
//!
//! `schemas/<stream>.toml` is read, checked (all errors at once, each with file and line) and compiled into a
//! [`Contract`]: what the cleaner does to each field, the Arrow schemas of the tables, and the windows. The rest of
//! the house knows no stream, column or sentinel by name. `schemas/README.md` documents the format.

mod column;
pub mod window;

use std::path::PathBuf;

use deltalake::arrow::datatypes::SchemaRef;

pub use column::{Column, ColumnType};
pub use window::WindowPlan;

/// Bookkeeping column: the shard that a record came from (string).
pub const SHARD_ID: &str = "_shard_id";
/// Bookkeeping column: the record's sequence number (string).
pub const SEQUENCE_NUMBER: &str = "_sequence_number";
/// Bookkeeping column: its place in an aggregated record (long; 0 for a plain one).
pub const SUB_SEQUENCE_NUMBER: &str = "_sub_sequence_number";
/// Bookkeeping column: its arrival at Kinesis (timestamp).
pub const ARRIVED_AT: &str = "_arrived_at";
/// Bookkeeping column: the day of the event time (date), the partition column of every table.
pub const DATE: &str = "_date";

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
    /// Declared windows, in the file's order.
    pub windows: Vec<WindowPlan>,
    /// The rows table: data columns (nullable, unless required), then the bookkeeping columns.
    pub rows_schema: SchemaRef,
    /// The rejects table.
    pub rejects_schema: SchemaRef,
}

/// What a record's event time is; the partition `_date` is its UTC day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventTime {
    /// Kinesis's arrival time.
    Arrival,
    /// The timestamp column with this index; a record without one uses its arrival time.
    Column(usize),
}
