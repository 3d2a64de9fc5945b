//! What other processes commit of the stream: taken from the lake, into the committed layer.
//!
//! Every version of the rows table is gone through in order. A range that this process committed itself is known, and
//! passed over; of all others the partials that were staged with them are added. So a version counts once, whoever
//! made it and however late its answer came.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use deltalake::arrow::array::{AsArray, RecordBatch};

use super::aggregate::WindowCells;
use super::cell::Cell;
use super::group::Group;
use super::pending::Knowledge;
use super::{StreamWindows, Undecodable, partials};
use crate::checkpoint::{LedgerView, Position, PositionRange, ShardId};
use crate::contract::SHARD_ID;
use crate::limits::LIVE_OTHERS_CELLS_BYTES_MAX;

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

/// The cells of one commit. Beyond [`LIVE_OTHERS_CELLS_BYTES_MAX`] keys that the committed layer does not have are folded.
#[derive(Debug, Default)]
pub struct OthersCells {
    /// One entry a declared window.
    shards: HashMap<ShardId, Vec<HashMap<Group, Cell>>>,
    pub(super) bytes: usize,
}

impl StreamWindows {
    /// What was restored stands for this ledger: what is committed beyond it is yet to come.
    pub fn begin_after(&self, ledger: &LedgerView) {
        for (shard, entry) in &ledger.shards {
            let through = entry.position.map_or(Position::Beginning, Position::After);
            self.pending.entry(shard.clone()).or_default().begin_at(through);
        }
        self.committed.set_version(ledger.version);
    }

    /// What is known of a commit of these ranges. While it is awaited, shard after shard may be told of it, and there is
    /// no need to read what it holds. If it is not ours after all, its writer is fenced soon and it is news.
    pub fn knowledge(&self, ranges: &[PositionRange]) -> Knowledge {
        let of_range = |range: &PositionRange| {
            let pending = self.pending.get(&range.shard);
            pending.map_or(Knowledge::News, |pending| pending.knowledge(range.after, range.through))
        };
        ranges.iter().map(of_range).max().unwrap_or(Knowledge::Counted)
    }

    /// Starts of the window before this (epoch us) are not in memory, nor will they be.
    pub fn live_since_us(&self, window: usize) -> i64 {
        self.committed.since_us(window)
    }

    /// Adds rows that one commit staged for a window to the cells of that commit.
    pub fn decode(&self, window: usize, rows: &RecordBatch, cells: &mut OthersCells) -> Result<(), Undecodable> {
        let missing = || Undecodable::Column { column: SHARD_ID.to_owned() };
        let plan = &self.contract.windows[window];
        let rows = partials::of_definition(plan, rows)?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let shards = rows.column_by_name(SHARD_ID).and_then(|column| column.as_string_opt::<i32>());
        let shards = shards.ok_or_else(missing)?;
        for ((group, cell), shard) in partials::decode(plan, &rows)?.into_iter().zip(shards) {
            let shard = ShardId::new(shard.ok_or_else(missing)?);
            if !self.committed.is_wanted(window, &group) {
                continue;
            }
            let windows = cells.shards.entry(shard).or_insert_with(|| vec![HashMap::new(); self.count()]);
            let group = self.fitting(window, group, &windows[window], cells.bytes);
            match windows[window].entry(group) {
                Entry::Occupied(mut mine) => mine.get_mut().merge(&cell),
                Entry::Vacant(new) => {
                    cells.bytes += new.key().bytes() + cell.bytes();
                    new.insert(cell);
                }
            }
        }
        Ok(())
    }

    /// The group under which one more cell is kept beside so many bytes of cells.
    fn fitting(&self, window: usize, group: Group, cells: &HashMap<Group, Cell>, bytes: usize) -> Group {
        let fits = bytes <= LIVE_OTHERS_CELLS_BYTES_MAX || cells.contains_key(&group);
        if fits || !self.committed.fold_from_now_on(window, &group) {
            return group;
        }
        self.metrics.live_folded(1);
        group.folded()
    }

    /// A commit was found in the lake, and all before it were. It is added to the committed layer unless it is there
    /// already. `None`: its cells cannot be had, and the live view lacks them until the next start.
    pub fn found(&self, commit: &FoundCommit, cells: Option<OthersCells>) {
        self.is_later_than(commit.at_ms);
        let mut cells = cells.map(|cells| cells.shards);
        {
            let _moving = self.moving.write().unwrap_or_else(PoisonError::into_inner);
            for range in &commit.ranges {
                let none = || vec![HashMap::new(); self.count()];
                let of_shard = cells.as_mut().map(|cells| cells.remove(&range.shard).unwrap_or_else(none));
                let of_shard = of_shard.map(|windows| windows.into_iter().map(WindowCells::from_iter).collect());
                let mut pending = self.pending.entry(range.shard.clone()).or_default();
                let added = pending.found(range.after, range.through, of_shard, commit.at_ms);
                self.add_committed(added.map(Arc::new));
            }
            for shard in &commit.ended {
                self.pending.entry(shard.clone()).or_default().ended();
            }
            self.committed.set_version(commit.version);
        }
        self.evict();
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
}
