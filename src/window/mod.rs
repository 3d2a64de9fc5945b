//! The window room: what is being counted right now, in memory, and what a flush adds to the lake.
//!
//! Everything is additive. A flush writes *partials*: the measures over exactly the records of its commit, per
//! window, key and shard. So there is no window state to checkpoint, late records are just another partial, and
//! the sum of a window's partials is the window.
//!
//! The live view is two layers and a sum. *Committed*: the cells of what is in the lake. *Pending*: per shard, the
//! cells of batches that no commit covers yet; they are the next partial. A commit moves cells from pending to
//! committed; a fence throws the shard's pending cells away. Nothing is ever subtracted.

mod aggregate;
mod cell;
mod chosen;
mod committed;
mod gauges;
mod group;
mod partials;
mod rows;
mod sketch;
mod view;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use dashmap::DashMap;
use deltalake::arrow::array::RecordBatch;

pub use aggregate::NotTheContracts;
pub use partials::Undecodable;
pub use view::{LiveFilter, LiveRow, LiveStart, LiveWindow};

use crate::checkpoint::{Position, PositionRange, ShardId};
use crate::contract::Contract;
use crate::limits::{LIVE_BYTES_MAX, LIVE_WINDOWS_RESTORED};
use crate::metrics::StreamMetrics;
use crate::record::{CleanBatch, ShardGrant, WindowSink};
use aggregate::{WindowCells, aggregate};
use cell::Cell;
use committed::Committed;
use gauges::ShownKeys;

/// The live windows of one stream. Readers add, the writer moves, anybody looks.
#[derive(Debug)]
pub struct StreamWindows {
    stream: String,
    contract: Arc<Contract>,
    /// Held for reading by whoever looks and for writing by a commit, so that a look never sees a record in both
    /// layers or in none.
    moving: RwLock<()>,
    pending: DashMap<ShardId, VecDeque<Pending>>,
    committed: Committed,
    shown: Mutex<ShownKeys>,
    metrics: StreamMetrics,
}

/// The cells of one batch that no commit covers yet.
#[derive(Debug)]
struct Pending {
    grant: ShardGrant,
    through: Position,
    windows: Vec<WindowCells>,
}

impl StreamWindows {
    /// Empty windows, as the contract declares them.
    pub fn new(stream: &str, contract: Arc<Contract>, metrics: StreamMetrics) -> Self {
        Self {
            stream: stream.to_owned(),
            committed: Committed::new(contract.windows.len(), LIVE_BYTES_MAX, metrics.clone()),
            contract,
            moving: RwLock::new(()),
            shown: Mutex::default(),
            pending: DashMap::new(),
            metrics,
        }
    }

    /// Counts a batch. Its reader calls this before it hands the batch on, so that no commit can cover records
    /// that are not counted. A batch whose grant was revoked is left out. Says how many bytes the cells hold.
    pub fn observe(&self, batch: &CleanBatch) -> Result<usize, NotTheContracts> {
        if batch.range.after == batch.range.through {
            return Ok(0);
        }
        let windows = aggregate(&self.contract, &batch.rows)?;
        let bytes = windows.iter().map(cells_bytes).sum();
        let mut pending = self.pending.entry(batch.range.shard.clone()).or_default();
        // Asked under the shard's lock: a fence first revokes, then discards under the same lock.
        if !batch.grant.is_revoked() {
            pending.push_back(Pending { grant: batch.grant.clone(), through: batch.range.through, windows });
        }
        Ok(bytes)
    }

    /// The oldest start that a restart brings back, epoch us: [`LIVE_WINDOWS_RESTORED`] starts before `now_us`.
    /// `window` is the index in the contract.
    pub fn restored_since_us(&self, window: usize, now_us: i64) -> i64 {
        let every_us = self.contract.windows[window].every_us;
        now_us.div_euclid(every_us).saturating_sub(LIVE_WINDOWS_RESTORED - 1).saturating_mul(every_us)
    }

    /// Adds rows of a partials table, read at start, to the committed layer. Starts before `since_us` are not shown
    /// from now on: their rows are not all in memory. Rows of another definition are left out. Nothing is added if one
    /// row cannot be decoded: less than all of them would be wrong numbers.
    pub fn restore(&self, window: usize, since_us: i64, rows: &[RecordBatch]) -> Result<(), Undecodable> {
        let cells = rows.iter().map(|rows| partials::decode_current(&self.contract.windows[window], rows));
        let cells: Vec<_> = cells.collect::<Result<_, _>>()?;
        self.committed.begin_at(window, since_us);
        for (group, cell) in cells.into_iter().flatten() {
            self.committed.add(window, group, &cell);
        }
        Ok(())
    }

    /// Shows the window from the first start that is wholly ahead of `now_us` (epoch us): what is shown when nothing
    /// could be restored.
    pub fn restore_nothing(&self, window: usize, now_us: i64) {
        let every_us = self.contract.windows[window].every_us;
        self.committed.begin_at(window, now_us.div_euclid(every_us).saturating_add(1).saturating_mul(every_us));
    }

    /// The committed layer now stands for this version of the rows table.
    pub fn restored(&self, version: u64) {
        self.committed.set_version(version);
    }

    /// How many windows the contract declares.
    pub fn count(&self) -> usize {
        self.contract.windows.len()
    }

    fn cells_through(&self, ranges: &[PositionRange]) -> Vec<Vec<(ShardId, WindowCells)>> {
        let mut by_window: Vec<Vec<(ShardId, WindowCells)>> =
            self.contract.windows.iter().map(|_| Vec::new()).collect();
        for range in ranges {
            let Some(pending) = self.pending.get(&range.shard) else { continue };
            let covered = pending.iter().take(covered_by(&pending, range.through));
            let mut merged: Vec<WindowCells> = self.contract.windows.iter().map(|_| WindowCells::new()).collect();
            for batch in covered {
                merged.iter_mut().zip(&batch.windows).for_each(|(into, from)| merge_cells(into, from));
            }
            for (window, cells) in by_window.iter_mut().zip(merged) {
                window.push((range.shard.clone(), cells));
            }
        }
        by_window
    }

    fn report_sizes(&self) {
        let (mut cells, mut bytes) = (0, 0);
        for shard in &self.pending {
            for windows in shard.value().iter().flat_map(|batch| &batch.windows) {
                cells += windows.len();
                bytes += cells_bytes(windows);
            }
        }
        self.metrics.live("pending", cells, bytes);
        self.committed.report_sizes();
    }
}

impl WindowSink for StreamWindows {
    fn partials(&self, ranges: &[PositionRange]) -> Vec<RecordBatch> {
        let encoded = self.cells_through(&last_by_shard(ranges)).into_iter().zip(&self.contract.windows);
        encoded
            .map(|(shards, plan)| {
                partials::encode(plan, &shards).unwrap_or_else(|error| {
                    // The columns are built from the same plan as the schema: only a defect gets here, and writing
                    // rows without their partials would break the tables' agreement for good.
                    panic!("partials of {} do not fit their own schema: {error}", plan.name)
                })
            })
            .collect()
    }

    fn committed(&self, ranges: &[PositionRange], version: u64) {
        {
            let _moving = self.moving.write().unwrap_or_else(PoisonError::into_inner);
            for range in last_by_shard(ranges) {
                let Some(mut pending) = self.pending.get_mut(&range.shard) else { continue };
                let covered = covered_by(&pending, range.through);
                for batch in pending.drain(..covered) {
                    for (window, cells) in batch.windows.into_iter().enumerate() {
                        cells.into_iter().for_each(|(group, cell)| self.committed.add(window, group, &cell));
                    }
                }
            }
            self.committed.set_version(version);
        }
        self.committed.evict();
        self.report_sizes();
    }

    fn discard(&self, shard: &ShardId) {
        let _moving = self.moving.write().unwrap_or_else(PoisonError::into_inner);
        // Not those of a reader that has taken the shard up again in the meantime.
        if let Some(mut pending) = self.pending.get_mut(shard) {
            pending.retain(|batch| !batch.grant.is_revoked());
        }
    }
}

/// Estimated bytes of heap and stack.
fn cells_bytes(cells: &WindowCells) -> usize {
    cells.iter().map(|(group, cell)| group.bytes() + cell.bytes()).sum()
}

/// How many batches, from the first, a commit through `through` covers. One that does not go beyond the one before it
/// was read a second time; it is of no commit, and is about to be discarded.
fn covered_by(pending: &VecDeque<Pending>, through: Position) -> usize {
    let mut last = None;
    let covered = pending.iter().take_while(|batch| {
        let repeats = last.replace(batch.through).is_some_and(|last| reached(batch.through, last));
        reached(batch.through, through) && !repeats
    });
    covered.count()
}

/// Whether a batch that ends at `batch` is covered by a commit that goes through `through`.
fn reached(batch: Position, through: Position) -> bool {
    match (batch, through) {
        (Position::After(batch), Position::After(through)) => batch <= through,
        // A batch with records ends after a number, and so does a commit that covers it.
        (Position::Beginning | Position::At(_) | Position::After(_) | Position::End, _) => false,
    }
}

/// A commit may list several ranges of one shard, in order; its last one says how far the commit goes.
fn last_by_shard(ranges: &[PositionRange]) -> Vec<PositionRange> {
    let mut last: HashMap<&ShardId, &PositionRange> = HashMap::new();
    for range in ranges {
        last.insert(&range.shard, range);
    }
    let mut last: Vec<PositionRange> = last.into_values().cloned().collect();
    last.sort_by(|a, b| a.shard.cmp(&b.shard));
    last
}

fn merge_cells(into: &mut WindowCells, from: &WindowCells) {
    for (group, cell) in from {
        match into.get_mut(group) {
            Some(mine) => mine.merge(cell),
            None => {
                into.insert(group.clone(), cell.clone());
            }
        }
    }
}

fn merge_cell(into: &mut HashMap<Vec<group::KeyValue>, Cell>, key: &[group::KeyValue], cell: &Cell) {
    match into.get_mut(key) {
        Some(mine) => mine.merge(cell),
        None => {
            into.insert(key.to_vec(), cell.clone());
        }
    }
}

#[cfg(test)]
mod measures_tests;
#[cfg(test)]
mod tests;
