//! Why a record cannot be cleaned. With the record, whole, it is a reject: nothing is skipped silently.

use bytes::Bytes;

use crate::limits::REJECT_DETAIL_BYTES_MAX;
use crate::record::{RawRecord, Reject, RejectReason};

/// Why a record cannot be cleaned; becomes a [`Reject`] together with the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub reason: RejectReason,
    pub detail: String,
    /// Its payload could not be inflated only because of what those before it in the read had inflated to.
    pub is_crowded_out: bool,
}

impl Fault {
    pub fn new(reason: RejectReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), is_crowded_out: false }
    }

    /// Says that this was found inside what `outer` complains about.
    pub fn inside(self, outer: Self) -> Self {
        Self { detail: format!("{}; inside: {}", outer.detail, self.detail), reason: outer.reason, ..self }
    }

    /// With a copy of the payload; see [`Reject::record`].
    pub fn into_reject(self, record: &RawRecord) -> Reject {
        let Self { reason, mut detail, .. } = self;
        detail.truncate(detail.floor_char_boundary(REJECT_DETAIL_BYTES_MAX));
        let data = Bytes::copy_from_slice(&record.data);
        Reject { record: RawRecord { data, ..record.clone() }, reason, detail }
    }
}
