//! What other processes commit of the stream: taken from the lake, into the committed layer.
//!
//! Every version of the rows table is gone through in order. A range that this process committed itself is known, and
//! passed over; of all others the partials that were staged with them are added. So a version counts once, whoever
//! made it and however late its answer came.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use deltalake::arrow::array::{AsArray, RecordBatch};

use super::aggregate::WindowCells;
use super::{StreamWindows, Undecodable, merge_cells, partials};
use crate::checkpoint::{LedgerView, Position, PositionRange, ShardId};
use crate::contract::SHARD_ID;

/// Of a time that never comes.
pub(super) const NEVER_MS: i64 = i64::MAX;

/// A commit as the lake has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCommit {
    /// The rows table's version.
    pub version: u64,
    /// When it was made, epoch ms.
    pub at_ms: i64,
    /// By shard: what it covers. Shards that it does not move are left out.
    pub ranges: Vec<PositionRange>,
    /// Shards of which nothing comes after it.
    pub ended: Vec<ShardId>,
}

/// The cells of one commit: by shard, one entry a declared window.
#[derive(Debug, Default)]
pub struct OthersCells(HashMap<ShardId, Vec<WindowCells>>);

impl StreamWindows {
    /// What was restored stands for this ledger: what is committed beyond it is yet to come.
    pub fn begin_after(&self, ledger: &LedgerView) {
        for (shard, entry) in &ledger.shards {
            let through = entry.position.map_or(Position::Beginning, Position::After);
            self.pending.entry(shard.clone()).or_default().begin_at(through);
        }
        self.committed.set_version(ledger.version);
    }

    /// Whether a commit of these ranges is in the committed layer: this process made it.
    pub fn knows(&self, ranges: &[PositionRange]) -> bool {
        let known =
            |range: &PositionRange| self.pending.get(&range.shard).map(|it| it.knows(range.after, range.through));
        ranges.iter().all(|range| known(range) == Some(true))
    }

    /// Whether a commit of these ranges is most likely this process's own, whose writer has not been told yet: then there
    /// is no need to read what it holds. If it is not, the writer is fenced soon, and this is not so any more.
    pub fn await_commit_of(&self, ranges: &[PositionRange]) -> bool {
        let awaited = |range: &PositionRange| self.pending.get(&range.shard).is_some_and(|it| it.awaits(range.through));
        !ranges.is_empty() && ranges.iter().all(awaited)
    }

    /// Starts of the window before this (epoch us) are not in memory, nor will they be.
    pub fn live_since_us(&self, window: usize) -> i64 {
        self.committed.since_us(window)
    }

    /// The cells in rows that were staged for a window by one commit, added to those of its other windows.
    pub fn decode(&self, window: usize, rows: &[RecordBatch], cells: &mut OthersCells) -> Result<(), Undecodable> {
        let missing = || Undecodable::Column { column: SHARD_ID.to_owned() };
        let plan = &self.contract.windows[window];
        for rows in rows {
            let rows = partials::of_definition(plan, rows)?;
            if rows.num_rows() == 0 {
                continue;
            }
            let shards = rows.column_by_name(SHARD_ID).and_then(|column| column.as_string_opt::<i32>());
            let shards = shards.ok_or_else(missing)?;
            for ((group, cell), shard) in partials::decode(plan, &rows)?.into_iter().zip(shards) {
                let shard = ShardId::new(shard.ok_or_else(missing)?);
                let windows = cells.0.entry(shard).or_insert_with(|| self.no_cells());
                merge_cells(&mut windows[window], &HashMap::from([(group, cell)]));
            }
        }
        Ok(())
    }

    /// A commit was found in the lake, and all before it were. It is added to the committed layer unless it is there
    /// already. `None`: its cells cannot be had, and the live view lacks them until the next start.
    pub fn found(&self, commit: &FoundCommit, cells: Option<OthersCells>) {
        let mut cells = cells.map(|cells| cells.0);
        {
            let _moving = self.moving.write().unwrap_or_else(PoisonError::into_inner);
            for range in &commit.ranges {
                let of_shard =
                    cells.as_mut().map(|cells| cells.remove(&range.shard).unwrap_or_else(|| self.no_cells()));
                let mut pending = self.pending.entry(range.shard.clone()).or_default();
                let added = pending.found(range.after, range.through, of_shard, commit.at_ms);
                self.add_committed(added.into_iter().collect());
            }
            for shard in &commit.ended {
                self.pending.entry(shard.clone()).or_default().ended();
            }
            self.committed.set_version(commit.version);
        }
        self.committed.evict();
        self.report_sizes();
    }

    /// The lake was looked into: everything that was committed by then was found. Or it could not be, since then (epoch
    /// ms).
    pub fn looked(&self, blind_since_ms: Option<i64>) {
        self.blind_since_ms.store(blind_since_ms.unwrap_or(NEVER_MS), Ordering::Relaxed);
    }

    /// As of when the numbers hold what other processes have read, epoch ms: of the shards that others commit, the
    /// earliest of their newest commits. `None` if this process commits every shard itself: as of now.
    pub(super) fn as_of_ms(&self) -> Option<i64> {
        // A replay of rejects is no shard of the stream, and may lie unfinished for ever.
        let shards = self.pending.iter().filter(|shard| shard.key().replay().is_none());
        let others_ms = shards.filter_map(|shard| shard.value().others_ms()).min();
        let blind_ms = Some(self.blind_since_ms.load(Ordering::Relaxed)).filter(|ms| *ms != NEVER_MS);
        others_ms.into_iter().chain(blind_ms).min()
    }

    fn no_cells(&self) -> Vec<WindowCells> {
        self.contract.windows.iter().map(|_| WindowCells::new()).collect()
    }
}
