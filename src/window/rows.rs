//! The rows of a batch as one window sees them: their columns and their times.

use std::borrow::Cow;

use deltalake::arrow::array::{ArrayRef, AsArray, PrimitiveArray, RecordBatch, StringArray};
use deltalake::arrow::datatypes::{ArrowPrimitiveType, Schema};

/// Columns of one length, found by index or name.
#[derive(Debug)]
pub struct Rows<'a> {
    schema: &'a Schema,
    columns: Cow<'a, [ArrayRef]>,
    /// The time of each row, epoch us.
    pub times_us: Cow<'a, [i64]>,
}

impl<'a> Rows<'a> {
    /// All rows of a batch.
    pub fn all(batch: &'a RecordBatch, times_us: &'a [i64]) -> Self {
        Self { schema: batch.schema_ref(), columns: batch.columns().into(), times_us: times_us.into() }
    }

    /// The data column of this index in the contract.
    pub fn column(&self, index: usize) -> &ArrayRef {
        &self.columns[index]
    }

    /// A bookkeeping column of texts.
    pub fn texts(&self, name: &str) -> Option<&StringArray> {
        self.columns[self.schema.index_of(name).ok()?].as_string_opt()
    }

    /// A bookkeeping column of numbers.
    pub fn numbers<T: ArrowPrimitiveType>(&self, name: &str) -> Option<&PrimitiveArray<T>> {
        self.columns[self.schema.index_of(name).ok()?].as_primitive_opt()
    }
}
