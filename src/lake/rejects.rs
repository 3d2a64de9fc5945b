//! Rejected records as rows of the rejects table, their bytes untouched.

use std::sync::Arc;

use deltalake::arrow::array::{
    ArrayRef, BinaryArray, Date32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use deltalake::arrow::datatypes::SchemaRef;
use deltalake::arrow::error::ArrowError;

use crate::checkpoint::ShardId;
use crate::clock::DAY_US;
use crate::contract::{ARRIVED_AT, DATE, DETAIL, PAYLOAD, REASON, SEQUENCE_NUMBER, SHARD_ID, SUB_SEQUENCE_NUMBER};
use crate::record::Reject;

/// The rejects of one shard, in the columns and the order of the rejects table's schema.
pub(crate) fn rejects_batch(
    schema: &SchemaRef,
    shard: &ShardId,
    rejects: &[Reject],
) -> Result<RecordBatch, ArrowError> {
    let columns = schema.fields().iter().map(|field| column(field.name(), shard, rejects));
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)
}

fn column(name: &str, shard: &ShardId, rejects: &[Reject]) -> Result<ArrayRef, ArrowError> {
    let arrived_at_us = || rejects.iter().map(|reject| reject.record.arrived_at_us);
    let column: ArrayRef = match name {
        SHARD_ID => Arc::new(StringArray::from_iter_values(rejects.iter().map(|_| shard.as_str()))),
        SEQUENCE_NUMBER => Arc::new(StringArray::from_iter_values(
            rejects.iter().map(|reject| reject.record.sequence_number.to_string()),
        )),
        SUB_SEQUENCE_NUMBER => {
            Arc::new(Int64Array::from_iter_values(rejects.iter().map(|reject| reject.record.sub_sequence_number)))
        }
        ARRIVED_AT => Arc::new(TimestampMicrosecondArray::from_iter_values(arrived_at_us()).with_timezone("UTC")),
        REASON => Arc::new(StringArray::from_iter_values(rejects.iter().map(|reject| reject.reason.as_str()))),
        DETAIL => Arc::new(StringArray::from_iter_values(rejects.iter().map(|reject| reject.detail.as_str()))),
        PAYLOAD => Arc::new(BinaryArray::from_iter_values(rejects.iter().map(|reject| &reject.record.data))),
        DATE => {
            let days = arrived_at_us().map(|us| i32::try_from(us.div_euclid(DAY_US)).ok());
            Arc::new(days.collect::<Date32Array>())
        }
        other => return Err(ArrowError::SchemaError(format!("a reject has no column {other:?}"))),
    };
    Ok(column)
}
