//! The rows of a batch as one window sees them: those that it counts, and their times.

use std::borrow::Cow;

use deltalake::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray, RecordBatch, StringArray};
use deltalake::arrow::compute::filter;
use deltalake::arrow::datatypes::{ArrowPrimitiveType, Schema};
use deltalake::arrow::error::ArrowError;

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

    /// Those that `kept` is true for. Only the columns that are `read` (by index) are there afterwards.
    pub fn filtered(self, kept: &BooleanArray, read: impl Fn(usize) -> bool) -> Result<Self, ArrowError> {
        let columns = self.columns.iter().enumerate();
        let columns: Result<Vec<ArrayRef>, ArrowError> = columns
            .map(|(index, column)| if read(index) { filter(column, kept) } else { Ok(column.slice(0, 0)) })
            .collect();
        let times_us = self.times_us.iter().zip(kept.values()).filter(|(_, kept)| *kept).map(|(time, _)| *time);
        let times_us = times_us.collect::<Vec<_>>().into();
        Ok(Self { schema: self.schema, columns: columns?.into(), times_us })
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
