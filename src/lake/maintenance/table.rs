//! What is done for one table, in one look at it: compaction, checkpoint, log cleanup, vacuum.
//!
//! In this order, so that the checkpoint has what compaction replaced and cleanup has the checkpoint. A step that
//! fails is told and costs the others nothing. A table that Pintail would not write is left alone.

use std::collections::HashSet;

use super::checkpoint::Checkpointing;
use super::choose::{Candidates, is_needed};
use super::cleanup::Cleanup;
use super::compact::{Compacted, Compactor};
use super::vacuum::Vacuum;
use super::{Ended, Event, MaintenanceOptions, Step};
use crate::error_chain::chain;
use crate::lake::commit::TableLog;
use crate::lake::error::LakeError;
use crate::lake::log::{Span, TableState, each_action, read_table};
use crate::lake::moment::{Moment, MomentClock};
use crate::lake::staging::staged_by;
use crate::lake::store::LakeStore;
use crate::lake::stream::HANDED_OVER;
use crate::lake::table::{Kind, LOG_CLEANUP_PROPERTY, TableSpec, check, file_retention_ms, log_retention_ms};
use crate::limits::{COMPACT_UNFIT_MAX, VACUUM_STAGED_MAX};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Removals stay in checkpoints this much longer than their files, so that vacuum still finds them named.
const TOMBSTONE_GRACE_MS: i64 = 2 * DAY_MS;

/// A table under maintenance, and what is remembered of it from one look to the next.
#[derive(Debug)]
pub(super) struct Table {
    pub spec: TableSpec,
    /// The version at the last look for small files.
    looked_at: Option<u64>,
    /// Since the last cleanup there is a new checkpoint.
    is_cleanable: bool,
    vacuumed: Option<Moment>,
    unfit: HashSet<String>,
}

/// What a look needs beside the table.
pub(super) struct Look<'a> {
    pub store: &'a LakeStore,
    pub clock: &'a MomentClock,
    pub options: MaintenanceOptions,
    /// Do all that can be done, however little there is.
    pub thorough: bool,
    /// The stream's rows table.
    pub rows: &'a str,
    /// The tables that follow it, if this is the rows table.
    pub followers: &'a [String],
}

/// What a look finds worth doing.
struct Due {
    head: u64,
    compaction: bool,
    checkpoint: bool,
    cleanup: bool,
    vacuum: bool,
}

impl Table {
    pub fn new(spec: TableSpec) -> Self {
        // Every application transaction matters: cleanup asks for those of all streams.
        let spec = TableSpec { txn_prefix: String::new(), ..spec };
        Self { spec, looked_at: None, is_cleanable: true, vacuumed: None, unfit: HashSet::new() }
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
        let since_looked = self.looked_at.map_or(u64::MAX, |at| head.saturating_sub(at));
        let checkpoint_commits = if look.thorough { 1 } else { look.options.checkpoint_commits };
        Ok(Some(Due {
            head,
            compaction: look.thorough || since_looked >= look.options.compact_files as u64,
            checkpoint: since_checkpoint >= checkpoint_commits,
            cleanup: look.thorough || self.is_cleanable,
            vacuum: look.thorough || self.vacuumed.is_none_or(|at| look.clock.now().ms_since(at) >= DAY_MS),
        }))
    }

    async fn work(&mut self, look: &Look<'_>, due: Due, tell: &mut dyn FnMut(Event)) -> Ended {
        if !(due.compaction || due.checkpoint || due.cleanup || due.vacuum) {
            return Ended::Well(due.head);
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
        let mut failed = None;
        let mut settle = |step: Step, done: Result<(), LakeError>, tell: &mut dyn FnMut(Event)| {
            let Err(error) = done else { return };
            let reason = chain(&error);
            failed.get_or_insert(format!("{}: {reason}", step.as_str()));
            tell(Event::Failed { step, reason });
        };
        if due.compaction {
            let done = self.compact(look, &state, read_at, tell).await;
            settle(Step::Compaction, done, tell);
        }
        if due.checkpoint {
            let done = self.checkpoint(look, &state, tell).await;
            settle(Step::Checkpoint, done, tell);
        }
        if due.cleanup || self.is_cleanable {
            let done = self.clean(look, &state, tell).await;
            settle(Step::Cleanup, done, tell);
        }
        if due.vacuum {
            let done = self.vacuum(look, &state, tell).await;
            settle(Step::Vacuum, done, tell);
        }
        failed.map_or(Ended::Well(due.head), Ended::Failed)
    }

    // === Compaction ===

    async fn compact(
        &mut self,
        look: &Look<'_>,
        state: &TableState,
        read_at: Moment,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), LakeError> {
        let (mut state, mut read_at) = (state.clone(), read_at);
        loop {
            self.looked_at = Some(state.version);
            let commits = self.compact_once(look, state, read_at, tell).await?;
            if !look.thorough || commits == 0 {
                return Ok(());
            }
            read_at = look.clock.now();
            let Some(later) = read_table(look.store, &self.spec.name, "").await? else { return Ok(()) };
            state = later;
        }
    }

    /// One listing and what it is good for; returns how many commits that were.
    async fn compact_once(
        &mut self,
        look: &Look<'_>,
        state: TableState,
        read_at: Moment,
        tell: &mut dyn FnMut(Event),
    ) -> Result<u64, LakeError> {
        // Known before the files are listed: so every removal since is one that a commit of ours is told of.
        let log = TableLog::new(look.store.clone(), self.spec.clone(), look.clock.clone(), state, read_at)?;
        let mut candidates = Candidates::new(look.options, &self.unfit);
        let head = each_action(look.store, log.name(), is_needed, |lines| candidates.note(lines)).await?;
        let known = log.state().version;
        if head.is_none_or(|head| head < known) {
            let reason = "the log's listing ends before this version (a store that lists late?)".to_owned();
            return Err(LakeError::Log { table: self.spec.name.clone(), version: known, reason });
        }
        let groups = candidates.groups();
        let target_bytes = look.options.target_file_bytes;
        let compactor = Compactor { store: look.store, clock: look.clock, target_bytes };
        let (mut commits, mut failed) = (0, None);
        for group in groups {
            let compacted = match compactor.compact(&log, &group).await {
                Ok(compacted) => compacted,
                Err(LakeError::Overtaken { reason, .. }) => {
                    tell(Event::Overtaken { reason });
                    continue;
                }
                // The other groups can do without this one.
                Err(error) => {
                    failed = failed.or(Some(error));
                    continue;
                }
            };
            self.remember_unfit(&compacted);
            if let Compacted { version: Some(version), files_in, files_out, bytes_in, bytes_out, unfit: _ } = compacted
            {
                commits += 1;
                tell(Event::Compacted { version, files_in, files_out, bytes_in, bytes_out });
            }
        }
        failed.map_or(Ok(commits), Err)
    }

    fn remember_unfit(&mut self, compacted: &Compacted) {
        if let Some(first) = compacted.unfit.first() {
            let (table, files) = (&self.spec.name, compacted.unfit.len());
            tracing::info!(
                table,
                files,
                first,
                "files that are no Parquet files with the table's columns stay as they are"
            );
        }
        if self.unfit.len() + compacted.unfit.len() > COMPACT_UNFIT_MAX {
            self.unfit.clear();
        }
        self.unfit.extend(compacted.unfit.iter().cloned());
    }

    #[cfg(test)]
    pub fn unfit(&self) -> usize {
        self.unfit.len()
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
        if let Some(version) = checkpointing.write(span).await? {
            self.is_cleanable = true;
            tell(Event::Checkpointed { version });
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
        let old = cleanup.survey().await?;
        let Some(wanted) = old.cut(None) else {
            self.is_cleanable = false;
            return Ok(());
        };
        let (cut, waits) = match self.spec.kind {
            Kind::Rows => match self.needed_after(look).await? {
                Ok(needed_after) => (old.cut(Some(needed_after)), Some(format!("a table has applied {needed_after}"))),
                Err(reason) => (None, Some(reason)),
            },
            Kind::Rejects | Kind::Partials => (Some(wanted), None),
        };
        if let (true, Some(why)) = (cut.is_none_or(|cut| cut < wanted), waits) {
            tell(Event::Waits { reason: format!("log entries below {wanted} are old, but {why}") });
        }
        let Some(cut) = cut else { return Ok(()) };
        let objects = cleanup.delete_below(cut).await?;
        self.is_cleanable = cut < wanted;
        tell(Event::Cleaned { objects, below: cut });
        Ok(())
    }

    /// The version after which some follower still needs the rows log. The inner `Err`: nobody can say.
    async fn needed_after(&self, look: &Look<'_>) -> Result<Result<u64, String>, LakeError> {
        let mut lowest = u64::MAX;
        for follower in look.followers {
            let Some(state) = read_table(look.store, follower, "").await? else {
                return Ok(Err(format!("its follower {follower} is not there")));
            };
            match lowest_applied(&state) {
                Some(applied) => lowest = lowest.min(applied),
                None => return Ok(Err(format!("its follower {follower} does not say how far it has followed"))),
            }
        }
        Ok(Ok(lowest))
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
            Kind::Rows => HashSet::new(),
            Kind::Rejects | Kind::Partials => self.staged(look, state).await?,
        };
        let now = look.clock.now();
        let (store, version, now_ms) = (look.store, state.version, now.wall_ms);
        let vacuum = Vacuum { store, table: &self.spec.name, version, now_ms, retention_ms, staged: &staged };
        let done = vacuum.run().await?;
        self.vacuumed = Some(now);
        tell(Event::Vacuumed { files: done.files, bytes: done.bytes });
        Ok(())
    }

    /// Files that wait in the rows log for this table.
    async fn staged(&self, look: &Look<'_>, state: &TableState) -> Result<HashSet<String>, LakeError> {
        let refused = |reason: String| LakeError::Refused { table: self.spec.name.clone(), reason };
        let applied = lowest_applied(state)
            .ok_or_else(|| refused(format!("it does not say how far it has followed {}", look.rows)))?;
        let rows = Span::of(look.store, look.rows).await?;
        let head = rows.ok_or_else(|| refused(format!("{}, which it follows, is not there", look.rows)))?.head();
        let mut staged = HashSet::new();
        for version in applied.saturating_add(1)..=head {
            for add in staged_by(look.store, look.rows, version, "", &self.spec.name).await? {
                let path = add.get("path").and_then(serde_json::Value::as_str);
                staged.extend(path.map(crate::lake::entry::plain_path));
            }
            if staged.len() > VACUUM_STAGED_MAX {
                return Err(refused(format!("more than {VACUUM_STAGED_MAX} files wait for it in {}", look.rows)));
            }
        }
        Ok(staged)
    }
}

/// The lowest rows version up to which a follower is complete, over all streams that it has followed.
fn lowest_applied(state: &TableState) -> Option<u64> {
    let applied = state.txns.iter().filter(|(id, applied)| id.ends_with("/applied") && **applied != HANDED_OVER);
    applied.map(|(_, applied)| u64::try_from(*applied).unwrap_or(0)).min()
}
