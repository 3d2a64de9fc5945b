//! The words that cross rooms: one read's answer, what cleaning made of it, and who is told.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use deltalake::arrow::array::RecordBatch;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::budget::Permit;
use crate::checkpoint::{Position, PositionRange, SequenceNumber, ShardId};

/// One record as its producer sent it: a Kinesis record, or one of those in an aggregated Kinesis record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRecord {
    /// The payload, untouched. Of a read it is a part of memory that it shares with other payloads, and holds all of that.
    pub data: Bytes,
    /// Its number in the shard.
    pub sequence_number: SequenceNumber,
    /// Its index in an aggregated record; 0 for a plain one.
    pub sub_sequence_number: i64,
    /// `ApproximateArrivalTimestamp`, epoch microseconds. May go backwards within a shard.
    pub arrived_at_us: i64,
    /// Set where it was read, if it is to be a reject whatever is in it.
    pub refused: Option<Refusal>,
}

impl RawRecord {
    /// Gives what is left of a read memory of its own, so that it does not hold the payloads of the others.
    pub fn detach(records: &mut [Self]) {
        let mut payloads = Vec::with_capacity(records.iter().map(|record| record.data.len()).sum());
        records.iter().for_each(|record| payloads.extend_from_slice(&record.data));
        let mut payloads = Bytes::from(payloads);
        records.iter_mut().for_each(|record| record.data = payloads.split_to(record.data.len()));
    }
}

/// The right to read one shard, as one reader holds it. Revoking it is how the writer tells a reader that it
/// was fenced; batches that carry a revoked grant are dropped.
#[derive(Debug, Clone, Default)]
pub struct ShardGrant(CancellationToken);

impl ShardGrant {
    /// A right that nobody has taken away yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the right away. Idempotent.
    pub fn revoke(&self) {
        self.0.cancel();
    }

    /// Whether it was taken away.
    pub fn is_revoked(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Returns once it is taken away.
    pub async fn revoked(&self) {
        self.0.cancelled().await;
    }
}

/// A shard that holds what came after its parents were closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heir {
    /// The shard.
    pub shard: ShardId,
    /// All its parents: one (a split) or two (a merge).
    pub parents: Vec<ShardId>,
}

/// The shard is closed and this batch holds its last records.
#[derive(Debug)]
pub struct ShardEnd {
    /// Shards that name it as a parent; the commit that ends it registers them.
    pub children: Vec<Heir>,
    /// Told once `/end` is committed. Dropped untold if the batch was fenced off.
    pub committed: oneshot::Sender<()>,
}

/// One read's answer.
#[derive(Debug)]
pub struct RawBatch {
    /// What the response covers.
    pub range: PositionRange,
    /// Its records, in order. May be empty.
    pub records: Vec<RawRecord>,
    /// Arrival time (epoch ms) up to which the shard is now known to be complete: of the last record, or the
    /// response's own date when it was empty with nothing behind.
    pub seen_ms: Option<i64>,
    /// Set on the last batch of a closed shard.
    pub end: Option<ShardEnd>,
    /// The reader's right to the shard.
    pub grant: ShardGrant,
    /// What the batch costs the budget, until it is committed.
    pub permit: Permit,
}

/// Whole Kinesis records at the end of a read, left alone because those before them had inflated to as much as the
/// read's permit pays for. They are read again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOver {
    /// Kinesis records.
    pub kinesis_records: usize,
    /// User records in them.
    pub records: usize,
}

impl LeftOver {
    /// These, in their order.
    pub fn of(records: &[RawRecord]) -> Self {
        let whole = records.chunk_by(|before, record| before.sequence_number == record.sequence_number);
        Self { kinesis_records: whole.count(), records: records.len() }
    }
}

/// What a sink has taken of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Delivered {
    /// What is behind this was not taken.
    pub through: Position,
    /// See [`RawBatch::seen_ms`].
    pub seen_ms: Option<i64>,
    /// How much that is.
    pub left: LeftOver,
}

/// What cleaning made of one read.
#[derive(Debug)]
pub struct CleanBatch {
    /// What the response covers.
    pub range: PositionRange,
    /// Clean rows in the contract's Arrow schema (data columns, then the bookkeeping columns).
    pub rows: RecordBatch,
    /// Records that could not be cleaned. `rows + rejects` = the records read, but for what is left.
    pub rejects: Vec<Reject>,
    /// See [`RawBatch::seen_ms`].
    pub seen_ms: Option<i64>,
    /// How far event time has come by this batch, epoch ms: the highest min(event time, arrival time) of its records.
    /// Of a batch without records it is what is seen: nothing that arrived before is still to come.
    pub watermark_ms: Option<i64>,
    /// See [`RawBatch::end`].
    pub end: Option<ShardEnd>,
    /// What was not cleaned: whole Kinesis records behind the range.
    pub left: LeftOver,
    /// See [`RawBatch::grant`].
    pub grant: ShardGrant,
    /// See [`RawBatch::permit`].
    pub permit: Permit,
}

/// A record that could not be cleaned, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The record with its untouched bytes, a copy: it may wait for long, and must not hold the read that it was in.
    pub record: RawRecord,
    /// Why, as a closed set that is also a metric label.
    pub reason: RejectReason,
    /// What exactly, for people: the field, the value, the place in the JSON.
    pub detail: String,
}

/// Why a record is a reject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectReason {
    /// No bytes, or only white space.
    Empty,
    /// Not UTF-8.
    InvalidUtf8,
    /// Not JSON (RFC 8259).
    InvalidJson,
    /// JSON, but no object, nor a list of one, nor text that holds one.
    NotAnObject,
    /// JSON nested deeper than the limit.
    TooDeep,
    /// JSON of more values than the limit.
    TooManyValues,
    /// Repairs nested deeper than the limit.
    TooManyRepairs,
    /// Compressed data that inflates beyond the limit.
    InflatesTooLarge,
    /// Starts like gzip or zstd but does not inflate.
    CorruptCompression,
    /// A record of another kind: every source field but the required ones is absent.
    AnotherKind,
    /// A required column is absent, null or unusable.
    RequiredColumn,
    /// From an aggregate that landed on a shard which does not own its hash key.
    ForeignHashKey,
    /// An aggregate of more records than a read's memory pays for, whole.
    AggregateTooLarge,
}

impl RejectReason {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::Empty,
        Self::InvalidUtf8,
        Self::InvalidJson,
        Self::NotAnObject,
        Self::TooDeep,
        Self::TooManyValues,
        Self::TooManyRepairs,
        Self::InflatesTooLarge,
        Self::CorruptCompression,
        Self::AnotherKind,
        Self::RequiredColumn,
        Self::ForeignHashKey,
        Self::AggregateTooLarge,
    ];

    /// The metric label and the value of the rejects table's `reason` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::InvalidJson => "invalid_json",
            Self::NotAnObject => "not_an_object",
            Self::TooDeep => "too_deep",
            Self::TooManyValues => "too_many_values",
            Self::TooManyRepairs => "too_many_repairs",
            Self::InflatesTooLarge => "inflates_too_large",
            Self::CorruptCompression => "corrupt_compression",
            Self::AnotherKind => "another_kind",
            Self::RequiredColumn => "required_column",
            Self::ForeignHashKey => "foreign_hash_key",
            Self::AggregateTooLarge => "aggregate_too_large",
        }
    }
}

/// Why a record is to be a reject whatever is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// See [`RejectReason::ForeignHashKey`].
    ForeignHashKey,
    /// See [`RejectReason::AggregateTooLarge`].
    AggregateTooLarge,
}

impl Refusal {
    /// The refusal that a rejects table's `reason` names, if it is one: no contract mends it.
    pub fn of_reason(reason: &str) -> Option<Self> {
        [Self::ForeignHashKey, Self::AggregateTooLarge].into_iter().find(|refusal| refusal.reason().as_str() == reason)
    }

    /// The reject's reason.
    pub fn reason(self) -> RejectReason {
        match self {
            Self::ForeignHashKey => RejectReason::ForeignHashKey,
            Self::AggregateTooLarge => RejectReason::AggregateTooLarge,
        }
    }
}

/// A transport damage that was undone before cleaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Repair {
    /// A list that held one object.
    ListOfOne,
    /// A JSON string that held the JSON.
    JsonInString,
    /// Base64 of the JSON.
    Base64,
    /// Gzip, by its magic bytes.
    Gzip,
    /// Zstandard, by its magic bytes.
    Zstd,
}

impl Repair {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::ListOfOne, Self::JsonInString, Self::Base64, Self::Gzip, Self::Zstd];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ListOfOne => "list_of_one",
            Self::JsonInString => "json_in_string",
            Self::Base64 => "base64",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// What cleaning noticed in one batch; counted, never silent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CleanCounts {
    /// Nulls that rows got, by (column, reason); `schemas/README.md` lists the reasons. A list's elements count too.
    pub nulls: BTreeMap<(String, &'static str), u64>,
    /// Transport repairs.
    pub repairs: BTreeMap<Repair, u64>,
    /// Fields that the contract does not name.
    pub unknown_fields: BTreeMap<String, u64>,
}

/// Whoever takes a reader's batches: cleans them, counts them, sends them to the stream's writer.
pub trait BatchSink: Send + Sync {
    /// Takes one batch, or as much of its beginning as memory suffices for. Waits while the writer is behind; batches of
    /// one shard are delivered one after another.
    fn deliver(&self, batch: RawBatch) -> impl Future<Output = Result<Delivered, SinkClosed>> + Send;
}

/// Nobody takes batches any more: the writer failed or is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody takes this stream's batches any more")]
pub struct SinkClosed;

/// The window room, as a stream's writer sees it. All calls are short and never wait.
pub trait WindowSink: Send + Sync {
    /// The partials over exactly these ranges, one entry per declared window in the contract's order. Each batch
    /// is in the window's partials schema; a window without records has an empty one.
    fn partials(&self, ranges: &[PositionRange]) -> Vec<RecordBatch>;
    /// These ranges are in the lake as of the rows table's `version`: move their cells from pending to committed.
    fn committed(&self, ranges: &[PositionRange], version: u64);
    /// This shard's pending cells count for nothing (fenced, or to be read again).
    fn discard(&self, shard: &ShardId);
    /// Whether a window that has records in memory closes when the stream's watermark goes from here to there, epoch
    /// ms. Windows of which nothing is in memory are not known here.
    fn closes(&self, from_ms: Option<i64>, to_ms: i64) -> bool;
}

/// Somebody who wants to know how far records have come (the demo's latency figures). Must not block.
pub trait Probe: Send + Sync {
    /// The range's records are counted in the live windows.
    fn counted(&self, stream: &str, range: &PositionRange);
    /// The ranges' commit was acknowledged.
    fn committed(&self, stream: &str, ranges: &[PositionRange]);
}

/// A shared [`Probe`].
pub type ProbeRef = Arc<dyn Probe>;
