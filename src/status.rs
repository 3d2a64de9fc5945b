//! What the process is doing right now, for people: readiness, shards, tables. Written by the tasks that know,
//! read by [`crate::serve`] and the demo's progress lines. Nothing is ever decided by it.

mod rejects;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::checkpoint::ShardId;
use crate::record::{CleanCounts, Reject};
pub use rejects::{RejectSample, RejectSamples};

/// The whole process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct StatusBoard(Arc<Mutex<BTreeMap<String, StreamStatus>>>);

impl StatusBoard {
    /// The board of one stream, one for all who ask; created not ready ("starting").
    pub fn stream(&self, stream: &str) -> StreamBoard {
        let mut streams = self.lock();
        let status = streams.entry(stream.to_owned()).or_insert_with(|| {
            let status = StreamStatus::default();
            status.lock().trouble.insert("start", "starting".to_owned());
            status
        });
        StreamBoard { stream: stream.into(), status: status.clone() }
    }

    /// The last rejects, by stream and reason.
    pub fn reject_samples(&self) -> BTreeMap<String, RejectSamples> {
        let streams = self.lock();
        streams.iter().map(|(name, status)| (name.clone(), status.samples().clone())).collect()
    }

    /// A copy of everything but the rejects' samples, by stream.
    pub fn snapshot(&self) -> BTreeMap<String, StreamSnapshot> {
        let streams = self.lock();
        streams.iter().map(|(name, status)| (name.clone(), status.lock().clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, StreamStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone, Default)]
struct StreamStatus {
    snapshot: Arc<Mutex<StreamSnapshot>>,
    /// Apart, since the snapshot is copied often.
    samples: Arc<Mutex<RejectSamples>>,
}

impl StreamStatus {
    fn lock(&self) -> MutexGuard<'_, StreamSnapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn samples(&self) -> MutexGuard<'_, RejectSamples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of one stream.
#[derive(Debug, Clone, Default, Serialize)]
pub struct StreamSnapshot {
    /// Why it is not ready, by who says so (`start`, `source`, `lake`, ...); empty = ready.
    pub trouble: BTreeMap<&'static str, String>,
    /// By shard, the last range that was trimmed before it was read. An alarm, and by itself no reason not to be
    /// ready.
    pub lost: BTreeMap<ShardId, String>,
    /// Every shard that Kinesis lists, or has listed.
    pub shards: BTreeMap<ShardId, ShardStatus>,
    /// Every table, by name.
    pub tables: BTreeMap<String, TableStatus>,
    /// What cleaning made of the records read by this process.
    pub cleaned: CleanTotals,
}

impl StreamSnapshot {
    /// Records read by this process.
    pub fn records(&self) -> u64 {
        self.shards.values().map(|shard| shard.records).sum()
    }

    /// Payload bytes read by this process.
    pub fn bytes(&self) -> u64 {
        self.shards.values().map(|shard| shard.bytes).sum()
    }
}

/// What cleaning made of records, since the process started.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CleanTotals {
    /// Records that became rows.
    pub rows: u64,
    /// Records that became rejects, by reason.
    pub rejects: BTreeMap<&'static str, u64>,
    /// Values that cleaning set to null, by column and reason.
    pub nulls: BTreeMap<String, BTreeMap<&'static str, u64>>,
    /// Transport damage undone before cleaning, by repair.
    pub repairs: BTreeMap<&'static str, u64>,
}

/// One shard.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ShardStatus {
    /// `waiting` (for its parents), `reading`, `parked` (odd: until the next listing), `fenced` (parked because
    /// another process commits it), `ended`, `lost`.
    pub state: &'static str,
    /// Its parents, as Kinesis names them.
    pub parents: Vec<ShardId>,
    /// Its hash key range, two decimals, inclusive.
    pub hash_range: Option<(String, String)>,
    /// The last number read in this process or committed before it; text, since it exceeds every number type.
    pub position: Option<String>,
    /// The last number that the live windows of this process count, with everything before it; text as well.
    pub counted: Option<String>,
    /// MillisBehindLatest of the last read.
    pub behind_ms: Option<i64>,
    /// Arrival of the last record read, epoch ms.
    pub last_arrival_ms: Option<i64>,
    /// How far event time has come in what is committed of it, epoch ms.
    pub watermark_ms: Option<i64>,
    /// Records read by this process.
    pub records: u64,
    /// Payload bytes read by this process.
    pub bytes: u64,
    /// Whether this process has counted all that an earlier one may have read: it has been at the shard's end, or has
    /// read as much as one ever holds.
    pub caught_up: bool,
}

/// One table, as far as this process has written it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TableStatus {
    /// `rows`, `rejects`, `partials` or `sealed`.
    pub kind: &'static str,
    /// Where it is.
    pub location: String,
    /// Version after our last commit.
    pub version: u64,
    /// Rows committed by this process.
    pub rows: u64,
    /// Files committed by this process.
    pub files: u64,
    /// Bytes committed by this process.
    pub bytes: u64,
    /// When our last commit landed, epoch ms.
    pub last_commit_ms: Option<i64>,
    /// When maintenance last looked at it and nothing was in the way, epoch ms.
    pub maintained_ms: Option<i64>,
    /// What is in the way of its maintenance. The stream goes on without.
    pub maintenance_trouble: Option<String>,
    /// What is in the way of its sealed rows, of a window's table.
    pub seal_trouble: Option<String>,
}

/// One stream's board. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StreamBoard {
    stream: Arc<str>,
    status: StreamStatus,
}

impl StreamBoard {
    /// The stream's name, for the log.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// `who` cannot work because of `what`; readiness is false until [`Self::resolved`].
    pub fn trouble(&self, who: &'static str, what: impl Into<String>) {
        self.status.lock().trouble.insert(who, what.into());
    }

    /// `who` works again.
    pub fn resolved(&self, who: &'static str) {
        self.status.lock().trouble.remove(who);
    }

    /// Records of this shard were trimmed before they were read.
    pub fn lost(&self, shard: &ShardId, range: String) {
        self.status.lock().lost.insert(shard.clone(), range);
    }

    /// Changes one shard's entry, creating it if need be.
    pub fn shard(&self, shard: &ShardId, change: impl FnOnce(&mut ShardStatus)) {
        change(self.status.lock().shards.entry(shard.clone()).or_default());
    }

    /// Changes the entry of a shard that is on the board.
    pub fn shard_if_known(&self, shard: &ShardId, change: impl FnOnce(&mut ShardStatus)) {
        if let Some(status) = self.status.lock().shards.get_mut(shard) {
            change(status);
        }
    }

    /// Adds a batch of this shard that was cleaned.
    pub fn cleaned(&self, shard: &ShardId, rows: u64, rejects: &[Reject], counts: &CleanCounts) {
        if !rejects.is_empty() {
            rejects::keep(&mut self.status.samples(), shard, rejects);
        }
        let totals = &mut self.status.lock().cleaned;
        totals.rows += rows;
        for reject in rejects {
            *totals.rejects.entry(reject.reason.as_str()).or_default() += 1;
        }
        for ((column, reason), count) in &counts.nulls {
            let by_reason = totals.nulls.entry(column.clone()).or_default();
            *by_reason.entry(reason).or_default() += count;
        }
        for (repair, count) in &counts.repairs {
            *totals.repairs.entry(repair.as_str()).or_default() += count;
        }
    }

    /// Changes one table's entry, creating it if need be.
    pub fn table(&self, table: &str, change: impl FnOnce(&mut TableStatus)) {
        change(self.status.lock().tables.entry(table.to_owned()).or_default());
    }

    /// Whether nobody is in trouble.
    pub fn is_ready(&self) -> bool {
        self.status.lock().trouble.is_empty()
    }

    /// A copy.
    pub fn snapshot(&self) -> StreamSnapshot {
        self.status.lock().clone()
    }
}
