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

/// One data column. (The cleaning plan is the clean room's business; see `clean`.)
#[derive(Debug, Clone)]
pub struct Column {
    /// Output name.
    pub name: String,
    /// Output type.
    pub column_type: ColumnType,
    /// Absent, null or unusable makes the record a reject.
    pub required: bool,
}
