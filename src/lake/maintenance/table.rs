//! What is done for one table, in one look at it: retention, compaction, checkpoint, log cleanup, vacuum.
//!
//! In this order, so that the checkpoint has what compaction replaced and cleanup has the checkpoint. A step that
//! fails is told and costs the others nothing; it is tried again after a while. A table that Pintail would not write is left alone.

use std::collections::HashSet;

use super::checkpoint::Checkpointing;
use super::cleanup::Cleanup;
use super::following::{Waiting, needed_after};
use super::retention::Retention;
use super::small_files::SmallFiles;
use super::trouble::Troubles;
use super::vacuum::Vacuum;
use super::{Ended, Event, MaintenanceOptions, Step};
use crate::error_chain::chain;
use crate::lake::commit::TableLog;
use crate::lake::error::LakeError;
use crate::lake::listing::Span;
use crate::lake::log::{TableState, read_table};
use crate::lake::moment::{Moment, MomentClock};
use crate::lake::store::LakeStore;
use crate::lake::table::{Kind, LOG_CLEANUP_PROPERTY, TableSpec, check, file_retention_ms, log_retention_ms};
use crate::limits::{DROP_INTERVAL_MS, ORPHAN_AGE_MS_MIN};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Removals stay in checkpoints this much longer than their files, so that vacuum still finds them named.
const TOMBSTONE_GRACE_MS: i64 = 2 * DAY_MS;

/// A table under maintenance, and what is remembered of it from one look to the next.
#[derive(Debug)]
pub(super) struct Table {
    pub spec: TableSpec,
    small_files: SmallFiles,
    /// Since the last cleanup there is a new checkpoint.
    is_cleanable: bool,
    vacuumed: Option<Moment>,
    /// When old partials were last looked for.
    dropped: Option<Moment>,
    troubles: Troubles,
}

/// What a look needs beside the table.
pub(super) struct Look<'a> {
    pub store: &'a LakeStore,
    pub clock: &'a MomentClock,
    pub options: MaintenanceOptions,
    /// Do all that can be done, however little there is.
    pub thorough: bool,
    /// Somebody waits until there are fewer files.
    pub pressed: bool,
    /// How the stream's own transactions begin, whenever it was created.
    pub ours: &'a str,
    /// The stream's rows table.
    pub rows: &'a str,
    /// The tables that follow it, if this is the rows table.
    pub followers: &'a [String],
}

impl Look<'_> {
    fn checkpoint_commits(&self) -> u64 {
        if self.thorough { 1 } else { self.options.checkpoint_commits }
    }
}

/// What a look finds worth doing.
struct Due {
    head: u64,
    retention: bool,
    compaction: bool,
    checkpoint: bool,
    cleanup: bool,
    vacuum: bool,
}

impl Table {
    pub fn new(spec: TableSpec) -> Self {
        // Every application transaction matters: cleanup asks for those of all streams.
        let spec = TableSpec { txn_prefix: String::new(), ..spec };
        let (small_files, troubles) = (SmallFiles::default(), Troubles::default());
        Self { spec, small_files, is_cleanable: true, vacuumed: None, dropped: None, troubles }
    }

    /// One look, and what there is to do.
    pub async fn maintain(&mut self, look: &Look<'_>, tell: &mut dyn FnMut(Event)) -> Ended {
        match self.due(look).await {
            Ok(Some(due)) => self.work(look, due, tell).await,
            Ok(None) => Ended::Absent,
            Err(error) => Ended::Failed(chain(&error)),
        }
    }

    /// From the names in the log alone. `None` if there is no table.
    async fn due(&self, look: &Look<'_>) -> Result<Option<Due>, LakeError> {
        let Some(span) = Span::of(look.store, &self.spec.name).await? else { return Ok(None) };
        let head = span.head();
        let since_checkpoint = span.checkpoint.as_ref().map_or(head + 1, |(version, _)| head - version);
        let is_grown = look.pressed || self.small_files.commits_since(head) >= look.options.compact_files as u64;
        let is_long = since_checkpoint >= look.checkpoint_commits();
        let is_vacuum_time = self.vacuumed.is_none_or(|at| look.clock.now().ms_since(at) >= DAY_MS);
        let is_drop_time = self.dropped.is_none_or(|at| look.clock.now().ms_since(at) >= DROP_INTERVAL_MS);
        let drops = self.spec.window.as_ref().is_some_and(|window| window.keep_us.is_some());
        Ok(Some(Due {
            head,
            retention: drops && self.allows(Step::Retention, look, is_drop_time),
            compaction: self.allows(Step::Compaction, look, is_grown),
            checkpoint: (is_long || span.is_hint_wrong) && self.allows(Step::Checkpoint, look, true),
            cleanup: self.allows(Step::Cleanup, look, self.is_cleanable),
            vacuum: self.allows(Step::Vacuum, look, is_vacuum_time),
        }))
    }

    async fn work(&mut self, look: &Look<'_>, due: Due, tell: &mut dyn FnMut(Event)) -> Ended {
        if !(due.retention || due.compaction || due.checkpoint || due.cleanup || due.vacuum) {
            return self.ended(due.head);
        }
        let read_at = look.clock.now();
        let state = match read_table(look.store, &self.spec.name, "").await {
            Ok(Some(state)) => state,
            Ok(None) => return Ended::Absent,
            Err(error) => return Ended::Failed(chain(&error)),
        };
        if let Err(error) = check(&self.spec, &state) {
            return Ended::Refused(chain(&error));
        }
        if due.retention {
            let done = self.drop_old(look, &state, read_at, tell).await;
            self.settle(Step::Retention, look, done, tell);
        }
        if due.compaction {
            let done = self.small_files.compact(&self.spec, look, &state, read_at, tell).await;
            self.settle(Step::Compaction, look, done, tell);
        }
        if due.checkpoint {
            let done = self.checkpoint(look, &state, tell).await;
            self.settle(Step::Checkpoint, look, done, tell);
        }
        if due.cleanup || self.allows(Step::Cleanup, look, self.is_cleanable) {
            let done = self.clean(look, &state, tell).await;
            self.settle(Step::Cleanup, look, done, tell);
        }
        if due.vacuum {
            let done = self.vacuum(look, &state, tell).await;
            self.settle(Step::Vacuum, look, done, tell);
        }
        self.ended(due.head)
    }

    fn allows(&self, step: Step, look: &Look<'_>, wanted: bool) -> bool {
        look.thorough || self.troubles.allow(step, wanted, look.clock.now())
    }

    fn settle(&mut self, step: Step, look: &Look<'_>, done: Result<(), LakeError>, tell: &mut dyn FnMut(Event)) {
        match done {
            Ok(()) => self.troubles.worked(step),
            Err(error) => {
                let (reason, is_partial) = (chain(&error), matches!(error, LakeError::BrokenFiles { .. }));
                if self.troubles.failed(step, reason.clone(), is_partial, look.clock.now()) || look.thorough {
                    tell(Event::Failed { step, reason });
                }
            }
        }
    }

    fn ended(&self, head: u64) -> Ended {
        self.troubles.told().map_or(Ended::Well(head), Ended::Failed)
    }

    #[cfg(test)]
    pub fn unfit(&self) -> usize {
        self.small_files.unfit()
    }

    // === Old partials ===

    async fn drop_old(
        &mut self,
        look: &Look<'_>,
        state: &TableState,
        read_at: Moment,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), LakeError> {
        let Some(window) = self.spec.window.clone() else { return Ok(()) };
        let (store, clock) = (look.store.clone(), look.clock.clone());
        let log = TableLog::new(store, self.spec.clone(), clock, state.clone(), read_at)?;
        match (Retention { look, window: &window }).run(log, tell).await {
            Err(LakeError::Overtaken { reason, .. }) => tell(Event::Overtaken { reason }),
            done => {
                done?;
                self.dropped = Some(look.clock.now());
            }
        }
        Ok(())
    }

    // === Checkpoint and log ===

    async fn checkpoint(
        &mut self,
        look: &Look<'_>,
        state: &TableState,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), LakeError> {
        let Some(span) = Span::of(look.store, &self.spec.name).await? else { return Ok(()) };
        let kept_ms = file_retention_ms(&self.spec.name, &state.metadata)?.saturating_add(TOMBSTONE_GRACE_MS);
        let tombstones_since_ms = look.clock.now().wall_ms.saturating_sub(kept_ms);
        let checkpointing = Checkpointing { store: look.store, table: &self.spec.name, tombstones_since_ms };
        if span.tail.len() as u64 >= look.checkpoint_commits() {
            if let Some(version) = checkpointing.write(span).await? {
                self.is_cleanable = true;
                tell(Event::Checkpointed { version });
            }
        } else if span.is_hint_wrong {
            tell(Event::Repointed { version: checkpointing.point_anew(&span).await? });
        }
        Ok(())
    }

    async fn clean(
        &mut self,
        look: &Look<'_>,
        state: &TableState,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), LakeError> {
        // On rows we have set it ourselves, to keep others away.
        let kept = state.metadata.configuration.get(LOG_CLEANUP_PROPERTY).is_some_and(|value| value == "false");
        if self.spec.kind != Kind::Rows && kept {
            self.is_cleanable = false;
            return Ok(());
        }
        let before_ms = look.clock.now().wall_ms - log_retention_ms(&self.spec.name, &state.metadata)?;
        let cleanup = Cleanup { store: look.store, table: &self.spec.name, before_ms };
        let mut old = cleanup.survey().await?;
        let Some(wanted) = old.cut(None) else {
            self.is_cleanable = false;
            return Ok(());
        };
        let (mut cut, needed_after, mut waits) = match self.spec.kind {
            Kind::Rows => match needed_after(look).await? {
                Ok((needed_after, why)) => (old.cut(Some(needed_after)), Some(needed_after), Some(why)),
                Err(reason) => (None, None, Some(reason)),
            },
            Kind::Rejects | Kind::Partials | Kind::Sealed => (Some(wanted), None, None),
        };
        while let Some(version) = cut
            && let Some(reason) = cleanup.broken_checkpoint(version).await?
        {
            waits = Some(reason);
            old.forget_checkpoint(version);
            cut = old.cut(needed_after);
        }
        if let (true, Some(why)) = (cut.is_none_or(|cut| cut < wanted), waits) {
            tell(Event::Waits { reason: format!("log entries below {wanted} are old, but {why}") });
        }
        let Some(cut) = cut else { return Ok(()) };
        let objects = cleanup.delete_below(cut).await?;
        self.is_cleanable = cut < wanted;
        tell(Event::Cleaned { objects, below: cut });
        Ok(())
    }

    // === Vacuum ===

    async fn vacuum(
        &mut self,
        look: &Look<'_>,
        state: &TableState,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), LakeError> {
        let retention_ms = file_retention_ms(&self.spec.name, &state.metadata)?;
        // In this order: what leaves the staged files is named by the log when that is read.
        let staged = match self.spec.kind {
            Kind::Rows | Kind::Sealed => HashSet::new(),
            Kind::Rejects | Kind::Partials => {
                let waiting = Waiting::of(look, &self.spec.name, state).await?;
                waiting.slowed.into_iter().for_each(|reason| tell(Event::Waits { reason }));
                waiting.files
            }
        };
        let now = look.clock.now();
        let (store, version, now_ms) = (look.store, state.version, now.wall_ms);
        let vacuum = Vacuum { store, table: &self.spec.name, version, now_ms, retention_ms, staged: &staged };
        let done = vacuum.run().await?;
        let (files, bytes) = store.delete_cut_off_writes(&self.spec.name, now_ms - ORPHAN_AGE_MS_MIN).await?;
        self.vacuumed = Some(now);
        tell(Event::Vacuumed { files: done.files + files, bytes: done.bytes + bytes });
        Ok(())
    }
}
