//! Rows, column by column, into Arrow memory.

use std::collections::BTreeSet;
use std::sync::Arc;

use deltalake::arrow::array::{
    Array, ArrayBuilder, ArrayRef, BooleanBuilder, Date32Array, Date32Builder, Float64Builder, Int32Builder,
    Int64Array, Int64Builder, ListBuilder, RecordBatch, StringBuilder, TimestampMicrosecondArray,
    TimestampMicrosecondBuilder,
};
use deltalake::arrow::datatypes::{DataType, SchemaRef};

use super::counts::{NullCounts, NullReason};
use super::fault::Fault;
use super::timestamp::day_of;
use super::value::{self, Fields};
use crate::checkpoint::{SequenceDigits, ShardId};
use crate::contract::{Column, ColumnType, Constant, Contract, EventTime, Source};
use crate::limits::CLEANED_ALONE_BYTES;
use crate::record::{CleanCounts, RawRecord, RejectReason};

/// The rows of the batch at hand.
#[derive(Debug)]
pub(super) struct RowsBuilder {
    columns: Vec<DataColumn>,
    /// Indexes of the required ones, ascending.
    required: Vec<usize>,
    place: PlaceBuilder,
    /// Records of the batch at hand.
    rows_expected: usize,
    /// Payload bytes of the batch at hand; 0 if a record in it is too large to say anything of others.
    payload_bytes: usize,
    /// UTC days since 1970-01-01.
    dates: Vec<i32>,
    /// The times that windows go by, each once.
    window_times: Vec<EventTime>,
    /// How far all of them have come, epoch us.
    watermark_us: Option<i64>,
    joined: String,
}

impl RowsBuilder {
    pub fn new(contract: &Contract) -> Self {
        Self {
            columns: contract.columns.iter().map(|column| DataColumn::new(column.column_type)).collect(),
            required: (0..contract.columns.len()).filter(|index| contract.columns[*index].required).collect(),
            place: PlaceBuilder::default(),
            rows_expected: 0,
            payload_bytes: 0,
            dates: Vec::new(),
            window_times: window_times(contract),
            watermark_us: None,
            joined: String::new(),
        }
    }

    /// From nothing, with room for the rows of these records: what grows is copied again and again, and into new memory each time.
    pub fn begin_batch(&mut self, records: &[RawRecord]) {
        let rows = records.len();
        self.watermark_us = None;
        self.rows_expected = rows;
        let has_large = records.iter().any(|record| record.data.len() > CLEANED_ALONE_BYTES);
        self.payload_bytes = if has_large { 0 } else { records.iter().map(|record| record.data.len()).sum() };
        self.columns.iter_mut().for_each(|column| column.begin_batch(rows, self.payload_bytes));
        self.place = PlaceBuilder::with_capacity(rows);
        self.dates = Vec::with_capacity(rows);
    }

    /// Adds one record, or nothing of it if a required column has no value.
    pub fn append<'a>(
        &mut self,
        contract: &Contract,
        fields: impl Fields<'a>,
        shard: &ShardId,
        record: &RawRecord,
    ) -> Result<(), Fault> {
        let Self { columns, required, joined, .. } = self;
        let missing = |index: usize, null| {
            let said = value::missing(&contract.columns[index], &contract.fields, fields, null);
            Fault::new(RejectReason::RequiredColumn, said)
        };
        let mut put = |index: usize| {
            let DataColumn { builder, nulls, .. } = &mut columns[index];
            builder.append(&contract.columns[index], fields, joined, nulls).map_err(|null| missing(index, null))
        };
        // Required columns are looked at before anything is put in its place. The last is so by being put first, except where
        // that counts what a reject must not count: a join's parts of a wrong type.
        let is_looked_at = |index: &&usize| {
            required.last() != Some(*index) || matches!(contract.columns[**index].source, Source::Join { .. })
        };
        for index in required.iter().filter(is_looked_at) {
            value::usable(&contract.columns[*index], fields).map_err(|null| missing(*index, null))?;
        }
        required.last().map_or(Ok(()), |last| put(*last))?;
        (0..contract.columns.len()).filter(|index| required.last() != Some(index)).try_for_each(put)?;
        self.place.append(shard, record);
        let event_time_us = time_of(contract.event_time, contract, fields, record);
        self.dates.push(day_of(event_time_us));
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
        for (data, column) in self.columns.iter_mut().zip(&contract.columns) {
            for (null, count) in std::mem::take(&mut data.nulls).counted() {
                counts.nulls.insert((column.name.clone(), null.as_str()), count);
            }
            if self.payload_bytes > 0 {
                data.text_share = data.builder.text_bytes() as f64 / self.payload_bytes as f64;
            }
            arrays.push(data.builder.finish());
        }
        arrays.extend(self.place.finish());
        let dates = Date32Array::from(std::mem::take(&mut self.dates));
        // Whoever re-cleans a reject says so afterwards.
        arrays.push(Arc::new(Int64Array::new_null(dates.len())));
        arrays.push(Arc::new(dates));
        // Room that was made for rejects is nobody's.
        if arrays.iter().any(|array| array.len() * 2 < self.rows_expected) {
            arrays.iter_mut().for_each(Array::shrink_to_fit);
        }
        batch_of(&contract.rows_schema, arrays)
    }
}

/// There is one watermark for all windows of a stream, so it must be true of each.
fn window_times(contract: &Contract) -> Vec<EventTime> {
    let times: BTreeSet<EventTime> = contract.windows.iter().map(|window| window.time).collect();
    times.into_iter().collect()
}

fn time_of<'a>(time: EventTime, contract: &Contract, fields: impl Fields<'a>, record: &RawRecord) -> i64 {
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

// === DataColumn ===

/// One data column under construction.
#[derive(Debug)]
struct DataColumn {
    builder: ColumnBuilder,
    nulls: NullCounts,
    /// The part of the payloads that its texts were in the batch before.
    text_share: f64,
}

impl DataColumn {
    fn new(column_type: ColumnType) -> Self {
        let builder = ColumnBuilder::new(column_type, 0, 0);
        Self { builder, nulls: NullCounts::default(), text_share: 0.0 }
    }

    /// The texts of a batch are the share of its payloads that they were in the batch before, and a bit; so all columns
    /// together never ask for much more than the payloads have.
    fn begin_batch(&mut self, rows: usize, payload_bytes: usize) {
        let text_bytes = (self.text_share * SPARE * payload_bytes as f64) as usize;
        self.builder = ColumnBuilder::new(self.builder.column_type(), rows, text_bytes.min(payload_bytes));
        self.nulls = NullCounts::default();
    }
}

/// How much more room than last time.
const SPARE: f64 = 1.06;

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
    fn new(column_type: ColumnType, rows: usize, text_bytes: usize) -> Self {
        let data_type = column_type.arrow();
        match column_type {
            ColumnType::String => Self::String(StringBuilder::with_capacity(rows, text_bytes)),
            ColumnType::Integer => Self::Integer(Int32Builder::with_capacity(rows)),
            ColumnType::Long => Self::Long(Int64Builder::with_capacity(rows)),
            ColumnType::Double => Self::Double(Float64Builder::with_capacity(rows)),
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            ColumnType::Timestamp => Self::Timestamp(times(rows)),
            ColumnType::Date => Self::Date(Date32Builder::with_capacity(rows)),
            ColumnType::StringArray => Self::StringArray(list_builder(StringBuilder::new(), rows, data_type)),
            ColumnType::LongArray => Self::LongArray(list_builder(Int64Builder::new(), rows, data_type)),
            ColumnType::DoubleArray => Self::DoubleArray(list_builder(Float64Builder::new(), rows, data_type)),
        }
    }

    fn column_type(&self) -> ColumnType {
        match self {
            Self::String(_) => ColumnType::String,
            Self::Integer(_) => ColumnType::Integer,
            Self::Long(_) => ColumnType::Long,
            Self::Double(_) => ColumnType::Double,
            Self::Boolean(_) => ColumnType::Boolean,
            Self::Timestamp(_) => ColumnType::Timestamp,
            Self::Date(_) => ColumnType::Date,
            Self::StringArray(_) => ColumnType::StringArray,
            Self::LongArray(_) => ColumnType::LongArray,
            Self::DoubleArray(_) => ColumnType::DoubleArray,
        }
    }

    /// Bytes of the texts so far, of a column of texts.
    fn text_bytes(&self) -> usize {
        if let Self::String(builder) = self { builder.values_slice().len() } else { 0 }
    }

    /// Adds a value or null; nothing if the column is required and has no value.
    fn append<'a>(
        &mut self,
        column: &Column,
        fields: impl Fields<'a>,
        joined: &mut String,
        nulls: &mut NullCounts,
    ) -> Result<(), NullReason> {
        let default = column.steps.default.as_ref();
        match self {
            Self::String(builder) => {
                let text = value::text(column, fields, joined, nulls);
                builder.append_option(settle(column, text, default.and_then(Constant::text), nulls)?);
            }
            Self::Integer(builder) => {
                let default = default.and_then(Constant::whole).and_then(|whole| i32::try_from(whole).ok());
                builder.append_option(settle(column, value::integer(column, fields), default, nulls)?);
            }
            Self::Long(builder) => {
                let default = default.and_then(Constant::whole);
                builder.append_option(settle(column, value::whole(column, fields), default, nulls)?);
            }
            Self::Double(builder) => {
                let default = default.and_then(Constant::double);
                builder.append_option(settle(column, value::double(column, fields), default, nulls)?);
            }
            Self::Boolean(builder) => {
                let default = default.and_then(Constant::boolean);
                builder.append_option(settle(column, value::boolean(column, fields), default, nulls)?);
            }
            Self::Timestamp(builder) => {
                builder.append_option(settle(column, value::time(column, fields), None, nulls)?);
            }
            Self::Date(builder) => builder.append_option(settle(column, value::date(column, fields), None, nulls)?),
            Self::StringArray(builder) => {
                let push = |text| builder.values().append_option(or_null(text, nulls));
                let list = value::texts(column, fields, push);
                builder.append(settle(column, list, None, nulls)?.is_some());
            }
            Self::LongArray(builder) => {
                let push = |whole| builder.values().append_option(or_null(whole, nulls));
                let list = value::wholes(column, fields, push);
                builder.append(settle(column, list, None, nulls)?.is_some());
            }
            Self::DoubleArray(builder) => {
                let push = |double| builder.values().append_option(or_null(double, nulls));
                let list = value::doubles(column, fields, push);
                builder.append(settle(column, list, None, nulls)?.is_some());
            }
        }
        Ok(())
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

fn times(rows: usize) -> TimestampMicrosecondBuilder {
    TimestampMicrosecondBuilder::with_capacity(rows).with_data_type(ColumnType::Timestamp.arrow())
}

/// A list builder whose element field is named as the schema's.
fn list_builder<B: ArrayBuilder>(values: B, rows: usize, list: DataType) -> ListBuilder<B> {
    let builder = ListBuilder::with_capacity(values, rows);
    if let DataType::List(element) = list { builder.with_field(element) } else { builder }
}

/// The value; or the default, if the record says nothing; or a counted null. What is required has a value or none of these.
fn settle<T>(
    column: &Column,
    value: Result<T, NullReason>,
    default: Option<T>,
    nulls: &mut NullCounts,
) -> Result<Option<T>, NullReason> {
    match value {
        Err(null) if column.required => Err(null),
        Err(null) if null.says_nothing() && default.is_some() => Ok(default),
        value => Ok(or_null(value, nulls)),
    }
}

/// The value or a counted null.
fn or_null<T>(value: Result<T, NullReason>, nulls: &mut NullCounts) -> Option<T> {
    value.map_err(|null| nulls.add(null)).ok()
}

// === PlaceBuilder ===

/// The bookkeeping columns that say where a record stood: shard, sequence number, sub-sequence number, arrival.
#[derive(Debug)]
struct PlaceBuilder {
    shards: StringBuilder,
    sequence_numbers: StringBuilder,
    digits: SequenceDigits,
    sub_sequence_numbers: Vec<i64>,
    arrivals_us: Vec<i64>,
}

impl Default for PlaceBuilder {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl PlaceBuilder {
    fn with_capacity(rows: usize) -> Self {
        /// Of Kinesis's names of shards, and of its numbers.
        const SHARD_BYTES: usize = 20;
        const NUMBER_BYTES: usize = 56;
        Self {
            shards: StringBuilder::with_capacity(rows, rows * SHARD_BYTES),
            sequence_numbers: StringBuilder::with_capacity(rows, rows * NUMBER_BYTES),
            digits: SequenceDigits::default(),
            sub_sequence_numbers: Vec::with_capacity(rows),
            arrivals_us: Vec::with_capacity(rows),
        }
    }

    fn append(&mut self, shard: &ShardId, record: &RawRecord) {
        self.shards.append_value(shard.as_str());
        self.sequence_numbers.append_value(self.digits.of(record.sequence_number));
        self.sub_sequence_numbers.push(record.sub_sequence_number);
        self.arrivals_us.push(record.arrived_at_us);
    }

    fn finish(&mut self) -> [ArrayRef; 4] {
        let arrivals = TimestampMicrosecondArray::from(std::mem::take(&mut self.arrivals_us));
        [
            Arc::new(self.shards.finish()),
            Arc::new(self.sequence_numbers.finish()),
            Arc::new(Int64Array::from(std::mem::take(&mut self.sub_sequence_numbers))),
            Arc::new(arrivals.with_data_type(ColumnType::Timestamp.arrow())),
        ]
    }
}
