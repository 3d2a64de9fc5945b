//! The window room: what is being counted right now, in memory, and what a flush adds to the lake.
//!
//! Everything is additive. A flush writes *partials*: the measures over exactly the records of its commit, per
//! window, key and shard. So there is no window state to checkpoint, late records are just another partial, and
//! the sum of a window's partials is the window.
//!
//! A window that slides is kept in *panes* of the size of its hop, and each record is in one of them, however small
//! the hop is. Windows are sums of panes, made when somebody looks.
//!
//! The live view is two layers and a sum. *Committed*: the cells of what is in the lake. *Pending*: per shard, the
//! cells of batches that no commit covers yet; they are the next partial. A commit moves cells from pending to
//! committed; a fence throws the shard's pending cells away, and what people saw of them stays on show until it was
//! read again. Other processes' commits come from the lake. Nothing is ever subtracted, and after a start nothing is
//! shown before it has caught up with what an earlier process may have shown. Beside it is the history of what is
//! sealed, as the lake has it.

mod aggregate;
mod cell;
mod chosen;
mod committed;
mod dropped;
mod filter;
mod gauges;
mod group;
mod json;
mod known;
mod others;
mod partials;
mod pending;
mod rows;
mod sealed;
mod shared;
mod sketch;
mod slide;
mod view;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use dashmap::DashMap;
use deltalake::arrow::array::RecordBatch;

pub use aggregate::NotTheContracts;
pub use others::{FoundCommit, OthersCells};
pub use partials::Undecodable;
pub use pending::Knowledge;
pub use sealed::{SealedRow, SealedRows, SealedStart, SealedWindow};
pub use view::{Ahead, LiveFilter, LiveRow, LiveStart, LiveWindow};

/// What it takes to add up the rows of a partials table outside of this room: pure, like all that is done to cells.
pub(crate) mod merging {
    pub use super::cell::{Cell, decoded_row_bytes};
    pub use super::group::{Group, KeyValue};
    pub use super::partials::{
        Sealing, Undecodable, decode_current, decode_groups, decode_sealed, encode_merged, encode_sealed,
    };
    pub use super::sealed::SealedCell;
}

use crate::checkpoint::{PositionRange, ShardId};
use crate::contract::{Contract, WindowPlan};
use crate::limits::{LIVE_BYTES_MAX, LIVE_WINDOWS_MAX, LIVE_WINDOWS_RESTORED};
use crate::metrics::StreamMetrics;
use crate::record::{CleanBatch, WindowSink};
use aggregate::{Aggregated, WindowCells, aggregate};
use cell::Cell;
use committed::Committed;
use gauges::ShownKeys;
use pending::{Batch, ShardCells};
use sealed::History;

/// The live windows of one stream. Readers add, the writer moves, anybody looks.
#[derive(Debug)]
pub struct StreamWindows {
    stream: String,
    contract: Arc<Contract>,
    /// Held for reading by whoever looks and for writing by a commit, so that a look never sees a record in both
    /// layers or in none.
    moving: RwLock<()>,
    pending: DashMap<ShardId, ShardCells>,
    committed: Committed,
    shown: Mutex<ShownKeys>,
    /// By window.
    sealed: Mutex<Vec<History>>,
    catching_up: AtomicBool,
    /// By window: why it began without what was committed, or without all of it.
    not_restored: Vec<OnceLock<NotRestored>>,
    /// How late it is by what was read and found, epoch ms. What begins later is ahead of the clock.
    now_ms: AtomicI64,
    /// Since when other processes' commits cannot be looked for, epoch ms.
    blind_since_ms: AtomicI64,
    metrics: StreamMetrics,
}

#[derive(Debug)]
struct NotRestored {
    why: String,
    /// From this start on all is here, epoch us.
    whole_from_us: i64,
}

impl StreamWindows {
    /// Empty windows, as the contract declares them.
    pub fn new(stream: &str, contract: Arc<Contract>, metrics: StreamMetrics) -> Self {
        Self {
            stream: stream.to_owned(),
            committed: Committed::new(starts_max(&contract), LIVE_BYTES_MAX, metrics.clone()),
            sealed: Mutex::new(histories(&contract, 1)),
            not_restored: contract.windows.iter().map(|_| OnceLock::new()).collect(),
            contract,
            moving: RwLock::new(()),
            shown: Mutex::default(),
            pending: DashMap::new(),
            catching_up: AtomicBool::new(false),
            now_ms: AtomicI64::new(i64::MIN),
            blind_since_ms: AtomicI64::new(others::NEVER_MS),
            metrics,
        }
    }

    /// One of so many streams, which share the memory for what people look at.
    pub fn one_of(mut self, streams: usize) -> Self {
        self.committed.hold_at_most(LIVE_BYTES_MAX / streams.max(1));
        self.sealed = Mutex::new(histories(&self.contract, streams));
        self
    }

    /// Counts a batch. Its reader calls this before it hands the batch on, so that no commit can cover records
    /// that are not counted. A batch whose grant was revoked is left out. Says how many bytes the cells hold.
    pub fn observe(&self, batch: &CleanBatch) -> Result<usize, NotTheContracts> {
        if let Some(seen_ms) = batch.seen_ms {
            self.is_later_than(seen_ms);
        }
        if batch.range.after == batch.range.through {
            return Ok(0);
        }
        let Aggregated { windows, without_time } = aggregate(&self.contract, &batch.rows)?;
        for (column, records) in without_time {
            self.metrics.without_time(&self.contract.columns[column].name, records);
        }
        let bytes = windows.iter().map(WindowCells::bytes).sum();
        let settles = {
            let mut pending = self.pending.entry(batch.range.shard.clone()).or_default();
            let (grant, after, through) = (batch.grant.clone(), batch.range.after, batch.range.through);
            // Asked under the shard's lock: a fence first revokes, then discards under the same lock.
            !grant.is_revoked() && pending.push(Batch { grant, after, through, windows: Arc::new(windows) })
        };
        if settles {
            let _moving = self.moving.write().unwrap_or_else(PoisonError::into_inner);
            let settled = self.pending.get_mut(&batch.range.shard).and_then(|mut pending| pending.settle());
            self.add_committed(settled.map(Arc::new));
        }
        Ok(bytes)
    }

    /// From now on nothing is shown: an earlier process may have shown more than is known here.
    pub fn hold_back(&self) {
        self.catching_up.store(true, Ordering::Relaxed);
    }

    /// Everything that an earlier process may have shown is known again.
    pub fn show(&self) {
        self.catching_up.store(false, Ordering::Relaxed);
    }

    fn is_held_back(&self) -> bool {
        self.catching_up.load(Ordering::Relaxed)
    }

    fn add_committed(&self, batches: impl IntoIterator<Item = Arc<Vec<WindowCells>>>) {
        for windows in batches {
            for (window, cells) in windows.iter().enumerate() {
                cells.iter().for_each(|(group, cell)| self.committed.add(window, group, cell));
            }
        }
    }

    /// The oldest start that a restart brings back, epoch us: [`LIVE_WINDOWS_RESTORED`] starts before `now_us`, the
    /// oldest of them whole. `window` is the index in the contract.
    pub fn restored_since_us(&self, window: usize, now_us: i64) -> i64 {
        let plan = &self.contract.windows[window];
        let panes = LIVE_WINDOWS_RESTORED + plan.panes() - 2;
        now_us.div_euclid(plan.pane_us).saturating_sub(panes).saturating_mul(plan.pane_us)
    }

    /// Starts before `since_us` are not shown from now on: their rows will not all be in memory. What
    /// [`Self::restore`] comes before.
    pub fn restore_from(&self, window: usize, since_us: i64) {
        self.committed.begin_at(window, since_us);
    }

    /// Adds rows of a partials table, read at start, to the committed layer. Rows of another definition are left out. If
    /// one row cannot be decoded, none of the window may be shown: less than all of them would be wrong numbers.
    pub fn restore(&self, window: usize, rows: &RecordBatch) -> Result<(), Undecodable> {
        for (group, cell) in partials::decode_current(&self.contract.windows[window], rows)? {
            self.committed.add(window, &group, &cell);
        }
        Ok(())
    }

    /// Shows the window from the first start that is wholly ahead of `now_us` (epoch us), and why: what is shown when
    /// not everything could be restored.
    pub fn restore_nothing(&self, window: usize, now_us: i64, why: String) {
        self.forget_restored(window);
        let pane_us = self.contract.windows[window].pane_us;
        self.committed.begin_at(window, now_us.div_euclid(pane_us).saturating_add(1).saturating_mul(pane_us));
        self.restored_in_part(window, why);
    }

    /// Tells why [`Self::restore_from`] was given a later start than [`Self::restored_since_us`]: for as long as another
    /// restart would bring back a start that is not here.
    pub fn restored_in_part(&self, window: usize, why: String) {
        let whole_from_us = self.committed.since_us(window);
        self.not_restored[window].get_or_init(|| NotRestored { why, whole_from_us });
    }

    /// Takes back what [`Self::restore`] added, which was not all there is.
    pub fn forget_restored(&self, window: usize) {
        self.committed.forget(window);
    }

    /// How many windows the contract declares.
    pub fn count(&self) -> usize {
        self.contract.windows.len()
    }

    /// The cells of the batches that a commit of these ranges covers.
    fn covered(&self, ranges: &[PositionRange]) -> Vec<(ShardId, Arc<Vec<WindowCells>>)> {
        let mut covered = Vec::new();
        for range in ranges {
            let Some(pending) = self.pending.get(&range.shard) else { continue };
            let batches = pending.covered(range.through);
            covered.extend(batches.map(|batch| (range.shard.clone(), Arc::clone(&batch.windows))));
        }
        covered
    }

    /// Whether memory has records of a window that closes when the watermark goes from here to there.
    fn has_records_in(&self, window: usize, plan: &WindowPlan, from_ms: Option<i64>, to_ms: i64) -> bool {
        let through_us = |ms: i64| plan.closed_through_us(ms.saturating_mul(1000));
        let (after_us, through_us) = (from_ms.map_or(i64::MIN, through_us), through_us(to_ms));
        // The first window that a pane belongs to ends with it, the last one begins with it.
        let closes = |pane_us: i64| {
            after_us < pane_us.saturating_add(plan.every_us) && pane_us.saturating_add(plan.pane_us) <= through_us
        };
        let mut found = false;
        self.committed.each_start(window, |start_us, _| found |= closes(start_us));
        let closing_us = after_us.saturating_sub(plan.every_us).saturating_add(1)
            ..through_us.saturating_sub(plan.pane_us).saturating_add(1);
        found |= self.committed.dropped_any(window, closing_us);
        let is_pending = |batch: &Batch| batch.windows[window].iter().any(|(group, _)| closes(group.start_us));
        found || self.pending.iter().any(|shard| shard.value().batches().any(is_pending))
    }

    /// It is later than this, epoch ms: what begins after it is ahead of the clock.
    pub fn is_later_than(&self, ms: i64) {
        self.now_ms.fetch_max(ms, Ordering::Relaxed);
    }

    /// Keeps the committed layer within its bounds. As long as nobody knows how late it is, nothing is ahead.
    fn evict(&self) {
        let now_ms = Some(self.now_ms.load(Ordering::Relaxed)).filter(|ms| *ms != i64::MIN);
        for window in self.committed.evict(now_ms.map_or(i64::MAX, |now_ms| now_ms.saturating_mul(1000))) {
            tracing::warn!(
                stream = self.stream,
                window = self.contract.windows[window].name,
                "records are so far ahead of the clock that their starts are not kept: they are in the lake, and not in \
                 the live view when their time comes"
            );
        }
    }

    fn report_sizes(&self) {
        let (mut cells, mut bytes) = (0, 0);
        for shard in &self.pending {
            let of_shard = shard.value().size();
            (cells, bytes) = (cells + of_shard.0, bytes + of_shard.1);
        }
        self.metrics.live("pending", cells, bytes);
        self.committed.report_sizes();
    }
}

impl WindowSink for StreamWindows {
    fn partials(&self, ranges: &[PositionRange]) -> Vec<RecordBatch> {
        let covered = self.covered(&spans_by_shard(ranges));
        let windows = self.contract.windows.iter().enumerate();
        windows
            .map(|(window, plan)| {
                let cells = covered.iter().map(|(shard, windows)| (shard, &windows[window]));
                partials::encode(plan, cells).unwrap_or_else(|error| {
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
            for range in spans_by_shard(ranges) {
                let mut pending = self.pending.entry(range.shard).or_default();
                self.add_committed(pending.commit(range.after, range.through));
            }
            self.committed.set_version(version);
        }
        self.evict();
        self.report_sizes();
    }

    fn discard(&self, shard: &ShardId) {
        let _moving = self.moving.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut pending) = self.pending.get_mut(shard) {
            pending.discard();
            self.add_committed(pending.settle().map(Arc::new));
        }
    }

    fn closes(&self, from_ms: Option<i64>, to_ms: i64) -> bool {
        let mut windows = self.contract.windows.iter().enumerate();
        windows.any(|(window, plan)| plan.closes(from_ms, to_ms) && self.has_records_in(window, plan, from_ms, to_ms))
    }
}

/// By window: how many starts of its cells are kept, so that [`LIVE_WINDOWS_MAX`] windows are whole.
fn starts_max(contract: &Contract) -> Vec<usize> {
    let panes = contract.windows.iter().map(|plan| usize::try_from(plan.panes()).unwrap_or(1));
    panes.map(|panes| LIVE_WINDOWS_MAX + panes - 1).collect()
}

fn histories(contract: &Contract, streams: usize) -> Vec<History> {
    contract.windows.iter().map(|_| History::of_one_in(contract.windows.len() * streams)).collect()
}

/// A commit may list several ranges of one shard, in order: here they are one.
fn spans_by_shard(ranges: &[PositionRange]) -> Vec<PositionRange> {
    let mut spans: BTreeMap<&ShardId, PositionRange> = BTreeMap::new();
    for range in ranges {
        spans.entry(&range.shard).or_insert_with(|| range.clone()).through = range.through;
    }
    spans.into_values().collect()
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
mod others_tests;
#[cfg(test)]
mod tests;
