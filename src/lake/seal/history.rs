//! A window's table read back for people: its newest windows, of each key the last revision.
//!
//! The table is asked and not the sealer, so that it does not matter which process sealed, nor when this one started. A
//! look reads the windows whole in which a commit since the last look has put a row, from all files that may have some
//! of them: what it finds replaces what was known, and never has to be added to it. It reads the newest windows first
//! and no more bytes than it may; what lies before is for engines that read the table.

use std::ops::Range;
use std::sync::Arc;

use deltalake::arrow::array::RecordBatch;

use super::SEAL;
use super::parts::Parts;
use super::tail::Tail;
use crate::contract::WindowPlan;
use crate::lake::error::LakeError;
use crate::lake::log::read_table;
use crate::lake::merge::{Disordered, MergeError, MergePlan, Mergeable, Starts, note_disorder};
use crate::lake::moment::MomentClock;
use crate::lake::store::LakeStore;
use crate::lake::stream::StreamLake;
use crate::limits::{SEALED_BYTES_MAX, SEALED_READ_BYTES_MAX, SEALED_STARTS_MAX};
use crate::window::SealedRows;
use crate::window::merging::{Group, SealedCell, Undecodable, decode_sealed};

/// Bytes of windows that are merged side by side, far below what a merge may hold.
const STRETCH_BYTES_MAX: u64 = SEALED_READ_BYTES_MAX / 8;
/// Rows after which others get a turn.
const TURN_ROWS: usize = 256;

/// A window's table, as far as it was looked into.
#[derive(Debug)]
pub struct SealedTable {
    store: LakeStore,
    plan: Arc<WindowPlan>,
    /// How many windows share the memory for what is found.
    windows: usize,
    tail: Option<Tail>,
    disordered: Disordered,
}

/// What a look found.
#[derive(Debug)]
pub struct SealedLook {
    /// Windows that end at or before this are sealed, epoch ms. `None`: none is.
    pub through_ms: Option<i64>,
    /// Windows that begin before this (epoch us) are not read.
    pub since_us: i64,
    /// The windows that changed, by their starts (epoch us), newest first.
    pub read: Vec<(Range<i64>, SealedRows)>,
}

impl Mergeable for SealedCell {
    fn columns(_: &WindowPlan) -> Option<Vec<&str>> {
        None
    }

    fn decode(window: &WindowPlan, rows: &RecordBatch) -> Result<Vec<(Group, Self)>, Undecodable> {
        decode_sealed(window, rows)
    }

    fn add(&mut self, other: &Self) {
        if other.revision > self.revision {
            *self = other.clone();
        }
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.cell.bytes()
    }
}

impl StreamLake {
    /// The table of each window, in the contract's order, not looked into yet.
    pub fn sealed_tables(&self) -> Vec<SealedTable> {
        let plans: Vec<&Arc<WindowPlan>> =
            self.tables.partials.iter().filter_map(|spec| spec.window.as_ref()).collect();
        let windows = plans.len();
        let table = |plan: &Arc<WindowPlan>| SealedTable {
            store: self.store.clone(),
            plan: Arc::clone(plan),
            windows,
            tail: None,
            disordered: Disordered::new(),
        };
        plans.into_iter().map(table).collect()
    }
}

impl SealedTable {
    /// What is new since the last look; everything at the first one and after an error. `None`: there is no table yet.
    /// Can be dropped at any point.
    pub async fn look(&mut self) -> Result<Option<SealedLook>, LakeError> {
        self.try_look().await.map_err(|error| error.of(self.plan.sealed_table()))
    }

    async fn try_look(&mut self) -> Result<Option<SealedLook>, MergeError> {
        // Taken: whatever goes wrong, the next look begins anew.
        let Some((mut tail, changed)) = self.moved_on().await? else { return Ok(None) };
        let Some(through_ms) = self.through_ms(&tail) else {
            self.tail = Some(tail);
            return Ok(Some(SealedLook { through_ms: None, since_us: i64::MIN, read: Vec::new() }));
        };
        let floor_us = self.floor_us(through_ms);
        tail.forget_before(floor_us);
        let (wanted, mut since_us) = self.wanted(&tail, &changed, through_ms);
        let (mut read, mut bytes) = (Vec::new(), 0);
        for starts in wanted {
            let rows = self.read(&tail, starts).await?;
            bytes += rows.bytes();
            read.push((starts.from_us..starts.to_us, rows));
            if bytes > SEALED_BYTES_MAX / self.windows {
                // What is older would not be kept.
                since_us = since_us.max(starts.from_us);
                break;
            }
        }
        self.tail = Some(tail);
        Ok(Some(SealedLook { through_ms: Some(through_ms), since_us, read }))
    }

    /// The table at its newest version, and the first and last starts of files that brought rows since the last look.
    async fn moved_on(&mut self) -> Result<Option<(Tail, Vec<(i64, i64)>)>, LakeError> {
        if let Some(mut tail) = self.tail.take()
            && tail.advance(&self.store, MomentClock::system().now()).await?
        {
            let changed = tail.take_fresh().into_iter().map(|fresh| fresh.starts).collect();
            return Ok(Some((tail, changed)));
        }
        self.disordered.clear();
        let table = self.plan.sealed_table();
        let Some(state) = read_table(&self.store, table, "").await? else { return Ok(None) };
        let end = self.seal_id_end();
        let through_ms = state.txns.iter().filter(|(id, _)| id.ends_with(&end)).map(|(_, ms)| *ms).max();
        let floor_us = through_ms.map_or(i64::MIN, |ms| self.floor_us(ms));
        let tail = Tail::read(&self.store, table, floor_us).await?;
        Ok(tail.map(|tail| (tail, vec![(i64::MIN, i64::MAX)])))
    }

    fn seal_id_end(&self) -> String {
        format!("/{SEAL}/{}", self.plan.name)
    }

    fn through_ms(&self, tail: &Tail) -> Option<i64> {
        tail.latest("", &self.seal_id_end())
    }

    fn newest_us(&self, through_ms: i64) -> i64 {
        through_ms.saturating_mul(1000).saturating_sub(self.plan.every_us)
    }

    /// The oldest start that is kept.
    fn floor_us(&self, through_ms: i64) -> i64 {
        let back_us = self.plan.pane_us.saturating_mul(SEALED_STARTS_MAX as i64 - 1);
        self.newest_us(through_ms).saturating_sub(back_us)
    }

    /// What is to be read, newest first, in stretches that can be merged; and the start from which nothing is left out.
    fn wanted(&self, tail: &Tail, changed: &[(i64, i64)], through_ms: i64) -> (Vec<Starts>, i64) {
        let (newest_us, pane_us) = (self.newest_us(through_ms), self.plan.pane_us);
        let (mut wanted, mut bytes): (Vec<Starts>, u64) = (Vec::new(), 0);
        let mut in_stretch: u64 = 0;
        for back in 0..SEALED_STARTS_MAX as i64 {
            let from_us = newest_us.saturating_sub(back.saturating_mul(pane_us));
            let starts = Starts { from_us, to_us: from_us.saturating_add(pane_us) };
            if !changed.iter().any(|changed| starts.meet(*changed)) {
                continue;
            }
            let more = tail.bytes_in(starts);
            bytes = bytes.saturating_add(more);
            if bytes > SEALED_READ_BYTES_MAX {
                return (wanted, starts.to_us);
            }
            in_stretch += more;
            match wanted.last_mut().filter(|last| last.from_us == starts.to_us && in_stretch <= STRETCH_BYTES_MAX) {
                Some(last) => last.from_us = from_us,
                None => {
                    in_stretch = more;
                    wanted.push(starts);
                }
            }
        }
        (wanted, self.floor_us(through_ms))
    }

    async fn read(&mut self, tail: &Tail, starts: Starts) -> Result<SealedRows, MergeError> {
        loop {
            match self.merge(tail, starts).await {
                Err(MergeError::Disorder(path)) => {
                    let (store, table) = (&self.store, self.plan.sealed_table());
                    let plan = MergePlan { store, table, window: &self.plan, starts };
                    note_disorder(plan, &tail.files(starts), path, &mut self.disordered)?;
                }
                merged => return merged,
            }
        }
    }

    async fn merge(&self, tail: &Tail, starts: Starts) -> Result<SealedRows, MergeError> {
        let mut merge = Parts::<SealedCell>::open(self.merge_plan(starts), tail, &self.disordered).await?;
        let (mut rows, mut taken) = (SealedRows::of_one_in(self.windows), 0);
        while let Some((group, cell)) = merge.next().await? {
            rows.push(&self.plan, group, &cell);
            taken += 1;
            if taken % TURN_ROWS == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(rows)
    }

    fn merge_plan(&self, starts: Starts) -> MergePlan<'_> {
        MergePlan { store: &self.store, table: self.plan.sealed_table(), window: &self.plan, starts }
    }
}
