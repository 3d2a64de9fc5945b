//! What could not be cleaned, whole, with the reason: nothing is skipped silently.

use std::sync::Arc;

use deltalake::arrow::array::{ArrayRef, BinaryBuilder, Date32Builder, RecordBatch, StringBuilder};

use super::builder::{PlaceBuilder, batch_of};
use super::timestamp::day_of;
use crate::checkpoint::ShardId;
use crate::contract::Contract;
use crate::limits::REJECT_DETAIL_BYTES_MAX;
use crate::record::{RawRecord, Reject, RejectReason};

/// Why a record cannot be cleaned; becomes a [`Reject`] together with the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub reason: RejectReason,
    pub detail: String,
}

impl Fault {
    pub fn new(reason: RejectReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// Says that this was found inside what `outer` complains about.
    pub fn inside(self, outer: Self) -> Self {
        Self { detail: format!("{}; inside: {}", outer.detail, self.detail), reason: outer.reason }
    }

    pub fn into_reject(self, record: RawRecord) -> Reject {
        let Self { reason, mut detail } = self;
        detail.truncate(detail.floor_char_boundary(REJECT_DETAIL_BYTES_MAX));
        Reject { record, reason, detail }
    }
}

/// The rejects of one shard in the contract's rejects schema. `_date` is the UTC day of arrival.
pub fn rejects_batch(contract: &Contract, shard: &ShardId, rejects: &[Reject]) -> RecordBatch {
    let mut place = PlaceBuilder::default();
    let mut reasons = StringBuilder::new();
    let mut details = StringBuilder::new();
    let mut payloads = BinaryBuilder::with_capacity(rejects.len(), rejects.iter().map(|r| r.record.data.len()).sum());
    let mut dates = Date32Builder::with_capacity(rejects.len());
    for Reject { record, reason, detail } in rejects {
        place.append(shard, record);
        reasons.append_value(reason.as_str());
        details.append_value(detail);
        payloads.append_value(&record.data);
        dates.append_value(day_of(record.arrived_at_us));
    }
    let mut columns: Vec<ArrayRef> = place.finish().to_vec();
    columns.push(Arc::new(reasons.finish()));
    columns.push(Arc::new(details.finish()));
    columns.push(Arc::new(payloads.finish()));
    columns.push(Arc::new(dates.finish()));
    batch_of(&contract.rejects_schema, columns)
}
