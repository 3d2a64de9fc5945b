//! What a contract's `[[column]]` tables compile to: how one JSON field, or several, become one table column.

use std::sync::Arc;

use deltalake::arrow::datatypes::{DataType, Field, TimeUnit};

/// Nanoseconds are not kept: every timestamp is UTC microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// UTF-8 text.
    String,
    /// 32 bit.
    Integer,
    /// 64 bit.
    Long,
    /// 64 bit floating point, always finite.
    Double,
    /// true or false.
    Boolean,
    /// UTC microseconds.
    Timestamp,
    /// Days since 1970-01-01.
    Date,
    /// A list of texts.
    StringArray,
    /// A list of 64 bit integers.
    LongArray,
    /// A list of doubles.
    DoubleArray,
}

impl ColumnType {
    /// Every type, in the order in which messages list them.
    pub const ALL: [Self; 10] = [
        Self::String,
        Self::Integer,
        Self::Long,
        Self::Double,
        Self::Boolean,
        Self::Timestamp,
        Self::Date,
        Self::StringArray,
        Self::LongArray,
        Self::DoubleArray,
    ];

    /// Its name in contracts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Long => "long",
            Self::Double => "double",
            Self::Boolean => "boolean",
            Self::Timestamp => "timestamp",
            Self::Date => "date",
            Self::StringArray => "array<string>",
            Self::LongArray => "array<long>",
            Self::DoubleArray => "array<double>",
        }
    }

    /// Whether a value is a list.
    pub fn is_array(self) -> bool {
        matches!(self, Self::StringArray | Self::LongArray | Self::DoubleArray)
    }

    /// The Arrow type, as written to Parquet.
    pub fn arrow(self) -> DataType {
        let list = |element: DataType| DataType::List(Arc::new(Field::new("element", element, true)));
        match self {
            Self::String => DataType::Utf8,
            Self::Integer => DataType::Int32,
            Self::Long => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Boolean => DataType::Boolean,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Date => DataType::Date32,
            Self::StringArray => list(DataType::Utf8),
            Self::LongArray => list(DataType::Int64),
            Self::DoubleArray => list(DataType::Float64),
        }
    }
}

/// One data column and how it is filled.
#[derive(Debug, Clone)]
pub struct Column {
    /// Output name.
    pub name: String,
    /// Output type.
    pub column_type: ColumnType,
    /// Absent, null or unusable makes the record a reject.
    pub required: bool,
    /// The JSON fields it is made of.
    pub source: Source,
    /// What is done to them.
    pub steps: Steps,
}

/// The JSON fields of a column, as indexes into [`super::SourceFields`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// One field.
    Field(usize),
    /// Texts put together; those that are missing are left out.
    Join {
        /// The texts, in order.
        fields: Vec<usize>,
        /// What stands between them.
        with: String,
    },
    /// A list of fields, all or nothing.
    Collect(Vec<usize>),
}

/// The cleaning steps of a column, in the order in which they are done.
#[derive(Debug, Clone, Default)]
pub struct Steps {
    /// Texts lose white space at both ends before anything else looks at them.
    pub trim: bool,
    /// Texts that mean "nothing".
    pub null_if: Vec<String>,
    /// Cut from the front of a text that has it.
    pub strip_prefix: Option<String>,
    /// Numbers may be written like `51k`.
    pub magnitude: bool,
    /// What numbers must lie in: none, one for all, or one for each collected field.
    pub ranges: Vec<Range>,
    /// What a text must be; empty allows all.
    pub one_of: Vec<String>,
    /// What stands for a record that says nothing.
    pub default: Option<Constant>,
}

impl Steps {
    /// The range of the element at `index` of a list, or of the column's only value (index 0).
    pub fn range(&self, index: usize) -> Option<Range> {
        self.ranges.get(index).or(if self.ranges.len() == 1 { self.ranges.first() } else { None }).copied()
    }
}

/// Both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// Smallest value.
    pub low: f64,
    /// Largest value.
    pub high: f64,
}

impl Range {
    /// Whether it holds the value.
    pub fn contains(self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// A value written in the contract; of its column's type.
#[derive(Debug, Clone, PartialEq)]
pub enum Constant {
    /// For string columns.
    Text(String),
    /// For integer and long columns.
    Whole(i64),
    /// For double columns.
    Double(f64),
    /// For boolean columns.
    Boolean(bool),
}

impl Constant {
    /// The text, of a string column's default.
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The number, of an integer or long column's default.
    pub fn whole(&self) -> Option<i64> {
        if let Self::Whole(value) = self { Some(*value) } else { None }
    }

    /// The number, of a double column's default.
    pub fn double(&self) -> Option<f64> {
        if let Self::Double(value) = self { Some(*value) } else { None }
    }

    /// The truth, of a boolean column's default.
    pub fn boolean(&self) -> Option<bool> {
        if let Self::Boolean(value) = self { Some(*value) } else { None }
    }
}
