//! Sealing: when no record in time can come any more, a window's partials become one row a key, for good.
//!
//! When the watermark of a partials table has passed a window's end and its grace, every record that came in time is in
//! the table at that version. So a sealer takes one version of it, files and watermark both, merges the files, and
//! appends the result to the window's table in one commit that also moves `…/seal/{window}`, up to where windows are
//! sealed, compare-and-swap. Two sealers at once, or one that dies at any instruction, seal each window once: whoever
//! is second finds it moved and drops its rows.
//!
//! A sealer is a writer like any other and nobody's owner: what it remembers from look to look is a cache.

mod bell;
mod history;
mod late;
mod parts;
mod revise;
mod rows;
mod sealers;
mod tail;
mod windows;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::commit::{Outcome, Proposal, TableLog};
use super::error::LakeError;
use super::flush::OPERATION;
use super::log::{TableState, read_table};
use super::merge::{Disordered, MergeError, MergePlan, Starts, note_disorder};
use super::moment::{Moment, MomentClock};
use super::output::Output;
use super::store::LakeStore;
use super::table::{TableSpec, check};
use crate::contract::WindowPlan;
use crate::limits::STAGED_AGE_MS_MAX;
use crate::window::merging::Sealing;
pub use bell::SealBell;
pub use history::{SealedLook, SealedTable};
use revise::Dirty;
use rows::Rows;
pub use sealers::{SealEvent, Sealers};
use tail::{Clocks, Tail};
use windows::{Windows, panes_of};

/// A file that has gone while it was needed means that the table has to be read anew; not for ever.
const ANEW_MAX: u32 = 3;

/// What a look did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sealed {
    /// Windows got their rows, in this version of their table.
    Rows { version: u64, through_ms: i64, rows: u64, files: u64, bytes: u64 },
    /// Another sealer was faster; nothing was written.
    Overtaken,
    /// Records came to windows that were sealed before.
    Late { records: u64 },
    /// Records came to windows whose partials are not kept any more.
    TooLate { records: u64 },
    /// Keys of sealed windows got a further row, in this version of their table.
    Revised { version: u64, revision: i64, rows: u64, files: u64, bytes: u64 },
}

/// Seals one window's partials.
#[derive(Debug)]
pub(crate) struct Sealer {
    store: LakeStore,
    clock: MomentClock,
    target_bytes: u64,
    plan: Arc<WindowPlan>,
    spec: TableSpec,
    /// The partials table as we know it.
    tail: Option<Tail>,
    /// The window's table as we know it.
    log: Option<TableLog>,
    disordered: Disordered,
    /// Of files of the window's table.
    sealed_disordered: Disordered,
    /// Nothing was found between these starts in this version.
    nothing_in: Option<(u64, Starts)>,
    dirty: Dirty,
    /// How far the window's table was after the last look.
    before: Option<Progress>,
}

/// How far a window's table is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Progress {
    /// Windows that end at or before this are sealed, epoch ms. `None`: none is.
    through_ms: Option<i64>,
    /// The version of the partials table that they were last sealed from.
    from_version: u64,
}

/// Rows that are ready to be committed.
struct Made {
    output: Output,
    through_ms: i64,
    began: Moment,
}

impl Sealer {
    /// Of the window whose sealed rows go to the table of this `spec`.
    pub fn new(
        store: LakeStore,
        clock: MomentClock,
        target_bytes: u64,
        plan: Arc<WindowPlan>,
        spec: TableSpec,
    ) -> Self {
        let (disordered, sealed_disordered) = (Disordered::new(), Disordered::new());
        let (tail, log, nothing_in, dirty, before) = (None, None, None, Dirty::Unknown, None);
        Self {
            store,
            clock,
            target_bytes,
            plan,
            spec,
            tail,
            log,
            disordered,
            sealed_disordered,
            nothing_in,
            dirty,
            before,
        }
    }

    /// The window's table.
    pub fn table(&self) -> &str {
        &self.spec.name
    }

    /// Seals what can be sealed. `false`: one of the tables is not there yet. After an error everything is looked at
    /// anew. Can be dropped at any point.
    pub async fn look(&mut self, tell: &mut dyn FnMut(Sealed)) -> Result<bool, LakeError> {
        let looked = self.try_look(tell).await;
        if looked.is_err() {
            (self.tail, self.log) = (None, None);
        }
        looked
    }

    async fn try_look(&mut self, tell: &mut dyn FnMut(Sealed)) -> Result<bool, LakeError> {
        let mut anew = 0;
        loop {
            let Some(mut log) = self.open_log().await? else { return Ok(false) };
            let Some(mut tail) = self.open_tail(&log).await? else { return Ok(false) };
            let done = self.work(&mut tail, &mut log, tell).await;
            self.log = Some(log);
            match done {
                Ok(()) => {
                    self.tail = Some(tail);
                    return Ok(true);
                }
                Err(MergeError::Gone(_)) if anew < ANEW_MAX => anew += 1,
                Err(error) => return Err(error.of(&self.plan.partials_table())),
            }
        }
    }

    async fn open_log(&mut self) -> Result<Option<TableLog>, LakeError> {
        if let Some(log) = self.log.take() {
            return Ok(Some(log));
        }
        let read_at = self.clock.now();
        let Some(state) = read_table(&self.store, &self.spec.name, &self.spec.txn_prefix).await? else {
            return Ok(None);
        };
        check(&self.spec, &state)?;
        TableLog::new(self.store.clone(), self.spec.clone(), self.clock.clone(), state, read_at).map(Some)
    }

    async fn open_tail(&mut self, log: &TableLog) -> Result<Option<Tail>, LakeError> {
        if let Some(mut tail) = self.tail.take()
            && tail.advance(&self.store, self.clock.now()).await?
        {
            return Ok(Some(tail));
        }
        // Which records are new is not known any more, so that all that is corrected is compared again.
        self.dirty = Dirty::Unknown;
        // What is to be corrected is not known before the table has said how far event time has come.
        let floor_us = self.floor_us(None, self.progress(log.state()).through_us());
        Tail::read(&self.store, &self.plan.partials_table(), floor_us).await
    }

    /// How far the window's table is.
    fn progress(&self, state: &TableState) -> Progress {
        let from_version = said(state, SEALED_FROM, &self.plan.name).and_then(|version| u64::try_from(version).ok());
        Progress { through_ms: sealed_through_ms(state, &self.plan.name), from_version: from_version.unwrap_or(0) }
    }

    async fn work(
        &mut self,
        tail: &mut Tail,
        log: &mut TableLog,
        tell: &mut dyn FnMut(Sealed),
    ) -> Result<(), MergeError> {
        let Some(clocks) = tail.clocks(&self.spec.txn_prefix) else { return Ok(()) };
        if self.is_due(tail, self.progress(log.state()), &clocks) {
            log.catch_up().await?;
        }
        self.tell_late(tail, log, clocks.dropped_us, tell).await?;
        loop {
            let progress = self.progress(log.state());
            tail.forget_before(self.floor_us(Some(&clocks), progress.through_us()));
            self.disordered.retain(|path| tail.has(path));
            if !self.is_due(tail, progress, &clocks) {
                break;
            }
            let Some(made) = self.make(tail, progress, &clocks).await? else {
                self.nothing_in = Some((tail.version, self.closed(progress, &clocks)));
                break;
            };
            let sealed = self.commit(log, tail.version, progress, &clocks, made).await?;
            if sealed == Sealed::Overtaken {
                // What was in time for us was perhaps not for whoever was faster.
                self.dirty = Dirty::Unknown;
            }
            tell(sealed);
        }
        self.before = Some(self.progress(log.state()));
        self.revise(tail, log, &clocks, tell).await
    }

    /// The start of the first window that ends after this.
    fn begins_after(&self, end_us: i64) -> i64 {
        end_us.saturating_sub(self.plan.every_us).saturating_add(self.plan.pane_us)
    }

    /// The starts of windows that can be sealed.
    fn closed(&self, progress: Progress, clocks: &Clocks) -> Starts {
        let closed_us = clocks.watermark_ms.map(|ms| self.plan.closed_through_us(ms.saturating_mul(1000)));
        let to_us = closed_us.map_or(i64::MIN, |closed_us| self.begins_after(closed_us));
        Starts { from_us: self.begins_after(progress.through_us()), to_us }
    }

    fn is_due(&self, tail: &Tail, progress: Progress, clocks: &Clocks) -> bool {
        let closed = self.closed(progress, clocks);
        self.nothing_in != Some((tail.version, closed)) && !tail.files(panes_of(&self.plan, closed)).is_empty()
    }

    // === Merging ===

    /// What is written for the windows that are closed; `None` if they have no records.
    async fn make(&mut self, tail: &Tail, progress: Progress, clocks: &Clocks) -> Result<Option<Made>, MergeError> {
        let starts = self.closed(progress, clocks);
        let since_us = clocks.since_ms.map_or(i64::MAX, |ms| ms.saturating_mul(1000));
        loop {
            match self.try_make(tail, starts, Sealing { since_us, revision: 0 }).await {
                Err(MergeError::Disorder(path)) => self.note_disorder(tail, starts, path)?,
                made => return made,
            }
        }
    }

    /// Of a file of partials that is in disorder; see [`note_disorder`].
    fn note_disorder(&mut self, tail: &Tail, starts: Starts, path: String) -> Result<(), MergeError> {
        let (files, table) = (tail.files(panes_of(&self.plan, starts)), self.plan.partials_table());
        let plan = MergePlan { store: &self.store, table: &table, window: &self.plan, starts };
        note_disorder(plan, &files, path, &mut self.disordered)
    }

    async fn try_make(&self, tail: &Tail, starts: Starts, sealing: Sealing) -> Result<Option<Made>, MergeError> {
        let partials = self.plan.partials_table();
        let plan = MergePlan { store: &self.store, table: &partials, window: &self.plan, starts };
        let began = self.clock.now();
        let (mut windows, known_to_us) = Windows::open(plan, tail, &self.disordered).await?;
        let mut rows = Rows::new(self, sealing);
        let full_at_us = match fill(&mut rows, &mut windows).await {
            Ok(full_at_us) => full_at_us,
            Err(error) => {
                rows.output.abort().await;
                return Err(error);
            }
        };
        let Some(output) = rows.finish().await? else { return Ok(None) };
        let to_us = full_at_us.unwrap_or(known_to_us);
        // The last window that begins before.
        let through_us = to_us.saturating_sub(self.plan.pane_us).saturating_add(self.plan.every_us);
        Ok(Some(Made { output, through_ms: through_us.div_euclid(1000), began }))
    }

    // === The commit ===

    async fn commit(
        &self,
        log: &mut TableLog,
        from_version: u64,
        progress: Progress,
        clocks: &Clocks,
        made: Made,
    ) -> Result<Sealed, LakeError> {
        let (through_ms, prefix) = (made.through_ms, clocks.identity.prefix());
        let id = |kind: &str| format!("{prefix}{kind}/{}", self.plan.name);
        let txns = BTreeMap::from([
            (id(SEAL), through_ms),
            (id(SEALED_FROM), i64::try_from(from_version).unwrap_or(i64::MAX)),
        ]);
        let info = vec![
            ("sealedThroughMs", json!(through_ms)),
            ("partialsVersion", json!(from_version)),
            ("watermarkMs", json!(clocks.watermark_ms)),
        ];
        let (rows, files, bytes) = (made.output.rows, made.output.adds.len() as u64, made.output.bytes);
        let landed = self.commit_rows(log, made, txns, info, |state| self.progress(state) == progress).await?;
        Ok(landed.map_or(Sealed::Overtaken, |version| Sealed::Rows { version, through_ms, rows, files, bytes }))
    }

    /// Appends rows together with these transactions, if `is_so` still holds; `None`: somebody was faster.
    async fn commit_rows(
        &self,
        log: &mut TableLog,
        Made { output, began, .. }: Made,
        txns: BTreeMap<String, i64>,
        info: Vec<(&'static str, Value)>,
        is_so: impl Fn(&TableState) -> bool,
    ) -> Result<Option<u64>, LakeError> {
        let actions: Vec<Value> = output.adds.into_iter().map(|add| json!({ "add": add })).collect();
        let proposal = Proposal { txns, actions, info, operation: OPERATION };
        let outcome = log.try_commit(|state| {
            // Files that were uploaded too long ago may be taken for some that nobody will ever name.
            let is_stale = self.clock.now().ms_since(began) > STAGED_AGE_MS_MAX;
            if is_so(state) && !is_stale { Ok(proposal.clone()) } else { Err(()) }
        });
        Ok(match outcome.await? {
            Outcome::Landed(version) => Some(version),
            Outcome::Stopped(()) => None,
        })
    }
}

/// Takes in windows until a commit has enough; the start of the first that is left, if one is.
async fn fill(rows: &mut Rows<'_>, windows: &mut Windows<'_>) -> Result<Option<i64>, MergeError> {
    while let Some((group, cell)) = windows.next().await? {
        if rows.is_full_before(&group) {
            return Ok(Some(group.start_us));
        }
        rows.push(group, cell).await?;
    }
    Ok(None)
}

/// Application ids of a window's table: `{pipeline}/{stream}@{creation}/{this}/{window}`.
const SEAL: &str = "seal";
const SEALED_FROM: &str = "sealed_from";
const REVISIONS: &str = "revisions";

/// What a window's table says under this, whichever stream of this name it was of.
fn said(state: &TableState, kind: &str, window: &str) -> Option<i64> {
    let end = format!("/{kind}/{window}");
    state.txns.iter().filter(|(id, _)| id.ends_with(&end)).map(|(_, value)| *value).max()
}

/// All windows that end at or before this (epoch ms) are sealed, by the word of the window's table. `None`: none is.
pub(crate) fn sealed_through_ms(state: &TableState, window: &str) -> Option<i64> {
    said(state, SEAL, window)
}

impl Progress {
    fn through_us(self) -> i64 {
        self.through_ms.map_or(i64::MIN, |ms| ms.saturating_mul(1000))
    }
}
