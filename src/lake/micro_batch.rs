//! What one commit will bring: everything that arrived since the last one, shard by shard.

use std::collections::BTreeMap;

use deltalake::arrow::array::RecordBatch;
use tokio::time::Instant;

use crate::budget::Permit;
use crate::checkpoint::{Position, PositionRange, ShardId};
use crate::record::{CleanBatch, Reject, ShardEnd, ShardGrant};

/// A micro-batch under construction or on its way.
#[derive(Debug, Default)]
pub(crate) struct MicroBatch {
    parts: BTreeMap<ShardId, Part>,
    content_since: Option<Instant>,
}

/// One shard's part of it. Contiguous: each batch began where the one before it ended.
#[derive(Debug)]
pub(crate) struct Part {
    pub after: Position,
    pub through: Position,
    pub seen_ms: Option<i64>,
    pub watermark_ms: Option<i64>,
    pub grant: ShardGrant,
    pub end: Option<ShardEnd>,
    pub rows: Vec<RecordBatch>,
    pub rejects: Vec<Reject>,
    permits: Vec<Permit>,
}

impl Part {
    fn has_content(&self) -> bool {
        !self.rows.is_empty() || !self.rejects.is_empty()
    }

    fn range(&self, shard: &ShardId) -> PositionRange {
        PositionRange { shard: shard.clone(), after: self.after, through: self.through }
    }
}

impl MicroBatch {
    /// Adds a batch that begins where the shard's part ends. What brings no news is dropped.
    pub fn push(&mut self, batch: CleanBatch, now: Instant) {
        let CleanBatch { range, rows, rejects, seen_ms, watermark_ms, end, grant, permit, left: _ } = batch;
        let has_content = rows.num_rows() > 0 || !rejects.is_empty();
        if !has_content && range.after == range.through && seen_ms.is_none() && end.is_none() {
            return;
        }
        if has_content {
            self.content_since.get_or_insert(now);
        }
        let part = self.parts.entry(range.shard).or_insert_with(|| Part {
            after: range.after,
            through: range.after,
            seen_ms: None,
            watermark_ms: None,
            grant,
            end: None,
            rows: Vec::new(),
            rejects: Vec::new(),
            permits: Vec::new(),
        });
        part.through = range.through;
        part.seen_ms = part.seen_ms.max(seen_ms);
        part.watermark_ms = part.watermark_ms.max(watermark_ms);
        part.end = end.or(part.end.take());
        part.rejects.extend(rejects);
        if rows.num_rows() > 0 {
            part.rows.push(rows);
        }
        if has_content {
            part.permits.push(permit);
        }
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Since when it has rows or rejects; `None` if only positions moved.
    pub fn content_since(&self) -> Option<Instant> {
        self.content_since
    }

    /// Whether a shard ends with it.
    pub fn ends_a_shard(&self) -> bool {
        self.parts.values().any(|part| part.end.is_some())
    }

    /// Bytes of the budget that it holds.
    pub fn bytes(&self) -> u64 {
        self.parts.values().flat_map(|part| &part.permits).map(Permit::bytes).sum()
    }

    /// Its shards.
    pub fn parts(&self) -> &BTreeMap<ShardId, Part> {
        &self.parts
    }

    /// What it covers, one range a shard.
    pub fn ranges(&self) -> Vec<PositionRange> {
        self.parts.iter().map(|(shard, part)| part.range(shard)).collect()
    }

    /// Takes a shard out of it.
    pub fn remove(&mut self, shard: &ShardId) -> Option<Part> {
        let part = self.parts.remove(shard);
        if !self.parts.values().any(Part::has_content) {
            self.content_since = None;
        }
        part
    }

    /// Takes the shards out that were taken from us in the meantime, and names them.
    pub fn drop_revoked(&mut self) -> Vec<ShardId> {
        let revoked: Vec<ShardId> =
            self.parts.iter().filter(|(_, part)| part.grant.is_revoked()).map(|(shard, _)| shard.clone()).collect();
        for shard in &revoked {
            self.remove(shard);
        }
        revoked
    }

    /// Its shards, for good.
    pub fn into_parts(self) -> BTreeMap<ShardId, Part> {
        self.parts
    }
}
