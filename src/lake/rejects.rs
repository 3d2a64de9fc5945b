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
use crate::limits::ROW_GROUP_BYTES_MAX;
use crate::record::Reject;

/// The rejects of one shard, in the columns and the order of the rejects table's schema. Some at a time: after a long outage
/// there may be more of them than the 2 GiB that a column of one batch holds.
pub(crate) fn rejects_batches(
    schema: &SchemaRef,
    shard: &ShardId,
    rejects: &[Reject],
) -> Result<Vec<RecordBatch>, ArrowError> {
    let mut bytes = 0;
    let together = |_: &Reject, next: &Reject| {
        let batch = bytes / ROW_GROUP_BYTES_MAX;
        bytes += next.record.data.len();
        bytes / ROW_GROUP_BYTES_MAX == batch
    };
    rejects.chunk_by(together).map(|some| rejects_batch(schema, shard, some)).collect()
}

fn rejects_batch(schema: &SchemaRef, shard: &ShardId, rejects: &[Reject]) -> Result<RecordBatch, ArrowError> {
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

#[cfg(test)]
mod tests {
    use deltalake::arrow::array::AsArray;
    use deltalake::arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::lake::tests::reject;

    #[test]
    fn rejects_come_in_their_order_and_in_batches_that_no_column_is_too_large_for() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new(PAYLOAD, DataType::Binary, true)]));
        let sizes = [10, 20 << 20, 20 << 20, 7, 70 << 20, 0, 30 << 20];
        let rejects: Vec<Reject> = sizes
            .iter()
            .map(|size| {
                let mut reject = reject(1);
                reject.record.data = vec![0; *size].into();
                reject
            })
            .collect();
        let batches = rejects_batches(&schema, &ShardId::new("a"), &rejects).unwrap();
        let found: Vec<Vec<usize>> = batches
            .iter()
            .map(|batch| batch.column(0).as_binary::<i32>().iter().map(|data| data.unwrap().len()).collect())
            .collect();
        assert_eq!(found.concat(), sizes);
        assert!(found.len() > 2 && found.iter().all(|sizes| sizes.iter().sum::<usize>() < 110 << 20), "{found:?}");
        assert!(rejects_batches(&schema, &ShardId::new("a"), &[]).unwrap().is_empty());
    }
}
