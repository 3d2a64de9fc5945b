//! Rows, column by column, into Arrow memory.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use deltalake::arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Float64Builder, Int32Builder, Int64Array, Int64Builder, ListBuilder,
    RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use deltalake::arrow::datatypes::{DataType, SchemaRef};

use super::counts::{NullCounts, NullReason};
use super::fault::Fault;
use super::timestamp::day_of;
use super::value::{self, Fields};
use crate::checkpoint::ShardId;
use crate::contract::{Column, ColumnType, Constant, Contract, EventTime};
use crate::record::{CleanCounts, RawRecord, RejectReason};

/// The rows of the batch at hand.
#[derive(Debug)]
pub(super) struct RowsBuilder {
    columns: Vec<(ColumnBuilder, NullCounts)>,
    place: PlaceBuilder,
    dates: Date32Builder,
    /// The times that windows go by, each once.
    window_times: Vec<EventTime>,
    /// How far all of them have come, epoch us.
    watermark_us: Option<i64>,
    joined: String,
}

impl RowsBuilder {
    pub fn new(contract: &Contract) -> Self {
        let columns =
            contract.columns.iter().map(|column| (ColumnBuilder::new(column.column_type), NullCounts::default()));
        Self {
            columns: columns.collect(),
            place: PlaceBuilder::default(),
            dates: Date32Builder::new(),
            window_times: window_times(contract),
            watermark_us: None,
            joined: String::new(),
        }
    }

    /// Adds one record, or nothing of it if a required column has no value.
    pub fn append(
        &mut self,
        contract: &Contract,
        fields: Fields<'_>,
        shard: &ShardId,
        record: &RawRecord,
    ) -> Result<(), Fault> {
        for column in contract.columns.iter().filter(|column| column.required) {
            value::usable(column, fields).map_err(|null| {
                Fault::new(RejectReason::RequiredColumn, value::missing(column, &contract.fields, fields, null))
            })?;
        }
        for ((builder, nulls), column) in self.columns.iter_mut().zip(&contract.columns) {
            builder.append(column, fields, &mut self.joined, nulls);
        }
        self.place.append(shard, record);
        let event_time_us = time_of(contract.event_time, contract, fields, record);
        self.dates.append_value(day_of(event_time_us));
        // A clock that is ahead of Kinesis's proves nothing.
        let times = self.window_times.iter().map(|time| match *time {
            time if time == contract.event_time => event_time_us,
            time => time_of(time, contract, fields, record),
        });
        let come_to_us = times.fold(record.arrived_at_us, i64::min);
        self.watermark_us = self.watermark_us.max(Some(come_to_us));
        Ok(())
    }

    /// The highest min(times of windows, arrival time) of the rows since it was asked last, epoch us.
    pub fn take_watermark_us(&mut self) -> Option<i64> {
        self.watermark_us.take()
    }

    /// The batch in the contract's rows schema; the next one starts empty.
    pub fn finish(&mut self, contract: &Contract, counts: &mut CleanCounts) -> RecordBatch {
        let mut arrays = Vec::with_capacity(contract.rows_schema.fields().len());
        for ((builder, nulls), column) in self.columns.iter_mut().zip(&contract.columns) {
            for (null, count) in std::mem::take(nulls).counted() {
                counts.nulls.insert((column.name.clone(), null.as_str()), count);
            }
            arrays.push(builder.finish());
        }
        arrays.extend(self.place.finish());
        let dates = self.dates.finish();
        // Whoever re-cleans a reject says so afterwards.
        arrays.push(Arc::new(Int64Array::new_null(dates.len())));
        arrays.push(Arc::new(dates));
        batch_of(&contract.rows_schema, arrays)
    }
}

/// There is one watermark for all windows of a stream, so it must be true of each.
fn window_times(contract: &Contract) -> Vec<EventTime> {
    let times: BTreeSet<EventTime> = contract.windows.iter().map(|window| window.time).collect();
    times.into_iter().collect()
}

fn time_of(time: EventTime, contract: &Contract, fields: Fields<'_>, record: &RawRecord) -> i64 {
    match time {
        EventTime::Arrival => record.arrived_at_us,
        EventTime::Column(index) => {
            let column = contract.columns.get(index);
            column.and_then(|column| value::time(column, fields).ok()).unwrap_or(record.arrived_at_us)
        }
    }
}

/// Puts columns that were built for this very schema together.
#[expect(clippy::expect_used, reason = "builders come from the same contract as the schema and grow row by row")]
pub(super) fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(Arc::clone(schema), columns).expect("columns of the schema's types and of one length")
}

// === ColumnBuilder ===

/// One data column under construction.
#[derive(Debug)]
enum ColumnBuilder {
    String(StringBuilder),
    Integer(Int32Builder),
    Long(Int64Builder),
    Double(Float64Builder),
    Boolean(BooleanBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Date(Date32Builder),
    StringArray(ListBuilder<StringBuilder>),
    LongArray(ListBuilder<Int64Builder>),
    DoubleArray(ListBuilder<Float64Builder>),
}

impl ColumnBuilder {
    fn new(column_type: ColumnType) -> Self {
        let data_type = column_type.arrow();
        match column_type {
            ColumnType::String => Self::String(StringBuilder::new()),
            ColumnType::Integer => Self::Integer(Int32Builder::new()),
            ColumnType::Long => Self::Long(Int64Builder::new()),
            ColumnType::Double => Self::Double(Float64Builder::new()),
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::new()),
            ColumnType::Timestamp => Self::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(data_type)),
            ColumnType::Date => Self::Date(Date32Builder::new()),
            ColumnType::StringArray => Self::StringArray(list_builder(StringBuilder::new(), data_type)),
            ColumnType::LongArray => Self::LongArray(list_builder(Int64Builder::new(), data_type)),
            ColumnType::DoubleArray => Self::DoubleArray(list_builder(Float64Builder::new(), data_type)),
        }
    }

    fn append(&mut self, column: &Column, fields: Fields<'_>, joined: &mut String, nulls: &mut NullCounts) {
        let default = column.steps.default.as_ref();
        match self {
            Self::String(builder) => {
                let text = value::text(column, fields, joined, nulls);
                builder.append_option(settle(text, default.and_then(Constant::text), nulls));
            }
            Self::Integer(builder) => {
                let default = default.and_then(Constant::whole).and_then(|whole| i32::try_from(whole).ok());
                builder.append_option(settle(value::integer(column, fields), default, nulls));
            }
            Self::Long(builder) => {
                let default = default.and_then(Constant::whole);
                builder.append_option(settle(value::whole(column, fields), default, nulls));
            }
            Self::Double(builder) => {
                let default = default.and_then(Constant::double);
                builder.append_option(settle(value::double(column, fields), default, nulls));
            }
            Self::Boolean(builder) => {
                let default = default.and_then(Constant::boolean);
                builder.append_option(settle(value::boolean(column, fields), default, nulls));
            }
            Self::Timestamp(builder) => builder.append_option(settle(value::time(column, fields), None, nulls)),
            Self::Date(builder) => builder.append_option(settle(value::date(column, fields), None, nulls)),
            Self::StringArray(builder) => {
                let push = |text| builder.values().append_option(settle(text, None, nulls));
                let list = value::texts(column, fields, push);
                builder.append(settle(list, None, nulls).is_some());
            }
            Self::LongArray(builder) => {
                let push = |whole| builder.values().append_option(settle(whole, None, nulls));
                let list = value::wholes(column, fields, push);
                builder.append(settle(list, None, nulls).is_some());
            }
            Self::DoubleArray(builder) => {
                let push = |double| builder.values().append_option(settle(double, None, nulls));
                let list = value::doubles(column, fields, push);
                builder.append(settle(list, None, nulls).is_some());
            }
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::String(builder) => Arc::new(builder.finish()),
            Self::Integer(builder) => Arc::new(builder.finish()),
            Self::Long(builder) => Arc::new(builder.finish()),
            Self::Double(builder) => Arc::new(builder.finish()),
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::StringArray(builder) => Arc::new(builder.finish()),
            Self::LongArray(builder) => Arc::new(builder.finish()),
            Self::DoubleArray(builder) => Arc::new(builder.finish()),
        }
    }
}

/// A list builder whose element field is named as the schema's.
fn list_builder<B: deltalake::arrow::array::ArrayBuilder>(values: B, list: DataType) -> ListBuilder<B> {
    let builder = ListBuilder::new(values);
    if let DataType::List(element) = list { builder.with_field(element) } else { builder }
}

/// The value; or the default, if the record says nothing; or a counted null.
fn settle<T>(value: Result<T, NullReason>, default: Option<T>, nulls: &mut NullCounts) -> Option<T> {
    match value {
        Ok(value) => Some(value),
        Err(null) if null.says_nothing() && default.is_some() => default,
        Err(null) => {
            nulls.add(null);
            None
        }
    }
}

// === PlaceBuilder ===

/// The bookkeeping columns that say where a record stood: shard, sequence number, sub-sequence number, arrival.
#[derive(Debug)]
pub(super) struct PlaceBuilder {
    shards: StringBuilder,
    sequence_numbers: StringBuilder,
    sub_sequence_numbers: Int64Builder,
    arrivals: TimestampMicrosecondBuilder,
}

impl Default for PlaceBuilder {
    fn default() -> Self {
        Self {
            shards: StringBuilder::new(),
            sequence_numbers: StringBuilder::new(),
            sub_sequence_numbers: Int64Builder::new(),
            arrivals: TimestampMicrosecondBuilder::new().with_data_type(ColumnType::Timestamp.arrow()),
        }
    }
}

impl PlaceBuilder {
    pub fn append(&mut self, shard: &ShardId, record: &RawRecord) {
        self.shards.append_value(shard.as_str());
        // Writing into a builder cannot fail; what is written becomes the value with the empty one after it.
        if write!(self.sequence_numbers, "{}", record.sequence_number).is_ok() {
            self.sequence_numbers.append_value("");
        } else {
            self.sequence_numbers.append_null();
        }
        self.sub_sequence_numbers.append_value(record.sub_sequence_number);
        self.arrivals.append_value(record.arrived_at_us);
    }

    pub fn finish(&mut self) -> [ArrayRef; 4] {
        [
            Arc::new(self.shards.finish()),
            Arc::new(self.sequence_numbers.finish()),
            Arc::new(self.sub_sequence_numbers.finish()),
            Arc::new(self.arrivals.finish()),
        ]
    }
}
