//! Deleting log entries that nobody needs any more.
//!
//! What is kept: every version that is younger than the table's log retention can be read, which takes a checkpoint
//! at or before the oldest of them; the newest checkpoint and every entry from it on; the entry of each checkpoint,
//! the head's among them, by which writers know their table. And of a rows table every entry that one of its
//! followers has still to apply. A crash in the middle leaves some old entries for the next time.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use object_store::ObjectMeta;

use crate::error_chain::chain;
use crate::lake::checkpoint::check_whole;
use crate::lake::error::LakeError;
use crate::lake::listing::{LogObject, Span, log_objects};
use crate::lake::store::LakeStore;
use crate::limits::DELETE_BATCH_MAX;

/// A store that has listed so many objects by name will go on so.
const ORDERED_MIN: usize = 1_000;

/// One table's log.
pub(super) struct Cleanup<'a> {
    pub store: &'a LakeStore,
    pub table: &'a str,
    /// Objects that were written before this (epoch ms) are old.
    pub before_ms: i64,
}

/// The old part of a log.
#[derive(Debug, Default)]
pub(super) struct OldLog {
    lowest: Option<u64>,
    /// The lowest version that is not old.
    first_kept: Option<u64>,
    checkpoints: BTreeSet<u64>,
}

impl OldLog {
    /// The version below which everything may go if entries after `needed_after` are needed; `None` if there is
    /// nothing below.
    pub fn cut(&self, needed_after: Option<u64>) -> Option<u64> {
        let kept =
            self.first_kept.unwrap_or(u64::MAX).min(needed_after.map_or(u64::MAX, |after| after.saturating_add(1)));
        let cut = self.checkpoints.range(..=kept).next_back().copied()?;
        (self.lowest? < cut).then_some(cut)
    }

    /// A checkpoint that nothing may rely on.
    pub fn forget_checkpoint(&mut self, version: u64) {
        self.checkpoints.remove(&version);
    }
}

impl Cleanup<'_> {
    /// Looks at the log from its beginning to where it is not old any more.
    pub async fn survey(&self) -> Result<OldLog, LakeError> {
        let mut old = OldLog::default();
        let mut parts: BTreeMap<(u64, u32), BTreeSet<u32>> = BTreeMap::new();
        let mut objects = log_objects(self.store, self.table, 0);
        let mut order = Order::default();
        while let Some(meta) = objects.try_next().await? {
            let Some((version, kind)) = meta.location.filename().and_then(LogObject::of_name) else { continue };
            order.note(version);
            match kind {
                LogObject::Checkpoint { part, count } => {
                    let found = parts.entry((version, count)).or_default();
                    found.insert(part);
                    if found.len() == count as usize {
                        old.checkpoints.insert(version);
                    }
                }
                LogObject::Commit => {
                    old.lowest = Some(old.lowest.map_or(version, |lowest| lowest.min(version)));
                    if !self.is_old(&meta) {
                        old.first_kept = Some(old.first_kept.map_or(version, |first| first.min(version)));
                        if order.is_reliable() {
                            break;
                        }
                    }
                }
                LogObject::ForeignCheckpoint | LogObject::Compacted { .. } | LogObject::Checksum => {}
            }
        }
        Ok(old)
    }

    /// Why the checkpoint of this version cannot stand for the entries before it: it is read whole before they go, as
    /// nothing else will hold what they say. `None`: it can.
    pub async fn broken_checkpoint(&self, version: u64) -> Result<Option<String>, LakeError> {
        let span = Span::at(self.store, self.table, version).await?;
        let parts = span.and_then(|span| span.checkpoint).filter(|(found, _)| *found == version);
        let Some((_, parts)) = parts else { return Ok(Some(format!("checkpoint {version} has gone"))) };
        match check_whole(self.store, &parts).await {
            Ok(()) => Ok(None),
            Err(error) if error.broken_checkpoint().is_some() => Ok(Some(chain(&error))),
            Err(error) => Err(error),
        }
    }

    /// Deletes what is old below this version; returns how many objects that were.
    pub async fn delete_below(&self, cut: u64) -> Result<u64, LakeError> {
        let mut objects = log_objects(self.store, self.table, 0);
        let (mut order, mut batch, mut deleted) = (Order::default(), Vec::new(), 0);
        while let Some(meta) = objects.try_next().await? {
            let Some((version, kind)) = meta.location.filename().and_then(LogObject::of_name) else { continue };
            order.note(version);
            if version >= cut {
                if order.is_reliable() {
                    break;
                }
                continue;
            }
            let last_version = if let LogObject::Compacted { through } = kind { through } else { version };
            if last_version < cut && self.is_old(&meta) {
                batch.push(meta.location);
            }
            if batch.len() >= DELETE_BATCH_MAX {
                deleted += self.store.delete_all(std::mem::take(&mut batch)).await?;
            }
        }
        Ok(deleted + self.store.delete_all(batch).await?)
    }

    fn is_old(&self, meta: &ObjectMeta) -> bool {
        meta.last_modified.timestamp_millis() < self.before_ms
    }
}

/// Whether a listing comes by version.
#[derive(Default)]
struct Order {
    seen: usize,
    last: u64,
    broken: bool,
}

impl Order {
    fn note(&mut self, version: u64) {
        self.broken |= version < self.last;
        self.last = version;
        self.seen += 1;
    }

    fn is_reliable(&self) -> bool {
        !self.broken && self.seen >= ORDERED_MIN
    }
}
