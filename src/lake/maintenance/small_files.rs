//! What compaction does in one look at a table, and what it remembers of it until the next.
//!
//! Two kinds of files are left out, and remembered so that they are not opened every time: those that are not ours to
//! rewrite, which is no trouble, and those that cannot be read, which is: their rows are missing to every reader. The
//! latter are told at every try until the table names them no more or somebody has put them back. Both cost the
//! other files nothing.

use std::collections::{BTreeMap, HashSet};

use object_store::ObjectMeta;

use super::Event;
use super::choose::{Candidates, Group, is_needed};
use super::compact::{Compacted, Compactor};
use super::fold::can_fold;
use super::table::Look;
use crate::contract::WindowPlan;
use crate::lake::commit::TableLog;
use crate::lake::error::LakeError;
use crate::lake::log::{TableState, each_action, read_table};
use crate::lake::moment::Moment;
use crate::lake::schema::file_schema;
use crate::lake::store::LakeStore;
use crate::lake::table::TableSpec;
use crate::limits::{COMPACT_BROKEN_MAX, COMPACT_UNFIT_MAX};

/// Broken files that are told by name.
const TOLD_MAX: usize = 3;

/// A file that the table names and that nobody can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BrokenFile {
    pub path: String,
    pub reason: String,
    /// What was found in its place: once that is something else, it is worth another look.
    pub found: Option<ObjectMeta>,
}

/// Files that are not opened again.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    /// Not ours to rewrite.
    pub unfit: HashSet<String>,
    /// By path.
    pub broken: BTreeMap<String, BrokenFile>,
}

/// A table's small files.
#[derive(Debug, Default)]
pub(super) struct SmallFiles {
    /// The version at the last look.
    looked_at: Option<u64>,
    left_out: LeftOut,
}

impl SmallFiles {
    /// Commits since the last look, which this is the head of.
    pub fn commits_since(&self, head: u64) -> u64 {
        self.looked_at.map_or(u64::MAX, |at| head.saturating_sub(at))
    }

    /// Compacts what is worth it, once; `thorough` or `pressed`: until nothing is.
    pub async fn compact(
        &mut self,
        spec: &TableSpec,
        look: &Look<'_>,
        state: &TableState,
        read_at: Moment,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), LakeError> {
        self.forget_mended(look.store, &spec.name).await?;
        let (mut state, mut read_at) = (state.clone(), read_at);
        loop {
            self.looked_at = Some(state.version);
            // Known before the files are listed: so every removal since is one that a commit of ours is told of.
            let log = TableLog::new(look.store.clone(), spec.clone(), look.clock.clone(), state, read_at)?;
            let groups = self.choose(look, &log).await?;
            let (commits, failed) = self.compact_each(look, &log, &groups, tell).await;
            if !(look.thorough || look.pressed) || commits == 0 {
                return failed.or_else(|| self.told(&spec.name)).map_or(Ok(()), Err);
            }
            read_at = look.clock.now();
            let Some(later) = read_table(look.store, &spec.name, "").await? else { return Ok(()) };
            state = later;
        }
    }

    /// Files that somebody has put back, or only touched, are files like any other.
    async fn forget_mended(&mut self, store: &LakeStore, table: &str) -> Result<(), LakeError> {
        let mut mended = Vec::new();
        for broken in self.left_out.broken.values() {
            if store.head(&store.path(table, &broken.path)).await? != broken.found {
                mended.push(broken.path.clone());
            }
        }
        self.left_out.broken.retain(|path, _| !mended.contains(path));
        Ok(())
    }

    async fn choose(&mut self, look: &Look<'_>, log: &TableLog) -> Result<Vec<Group>, LakeError> {
        let mut candidates = Candidates::new(look.options, &self.left_out);
        let head = each_action(look.store, log.name(), is_needed, |lines| candidates.note(lines)).await?;
        let known = log.state().version;
        if head.is_none_or(|head| head < known) {
            let reason = "the log's listing ends before this version (a store that lists late?)".to_owned();
            return Err(LakeError::Log { table: log.name().to_owned(), version: known, reason });
        }
        let (groups, still_named) = candidates.groups();
        self.left_out.broken.retain(|path, _| still_named.contains(path));
        Ok(groups)
    }

    /// Returns how many commits it came to, and what was in the way of a group: the others can do without it.
    async fn compact_each(
        &mut self,
        look: &Look<'_>,
        log: &TableLog,
        groups: &[Group],
        tell: &mut dyn FnMut(Event),
    ) -> (u64, Option<LakeError>) {
        let target_bytes = look.options.target_file_bytes;
        let compactor = Compactor { store: look.store, clock: look.clock, target_bytes };
        let (mut commits, mut failed) = (0, None);
        let window = log.window().filter(|window| folds(window, log));
        for group in groups {
            let compacted = match window {
                Some(window) => compactor.fold(log, group, window).await,
                None => compactor.compact(log, group).await,
            };
            let compacted = match compacted {
                Ok(compacted) => compacted,
                Err(LakeError::Overtaken { reason, .. }) => {
                    tell(Event::Overtaken { reason });
                    continue;
                }
                Err(error) => {
                    failed = failed.or(Some(error));
                    continue;
                }
            };
            let Compacted { version, files_in, files_out, bytes_in, bytes_out, unfit, broken } = compacted;
            self.leave_out(log.name(), unfit, broken);
            if let Some(version) = version {
                commits += 1;
                tell(Event::Compacted { version, files_in, files_out, bytes_in, bytes_out });
            }
        }
        (commits, failed)
    }

    fn leave_out(&mut self, table: &str, unfit: Vec<String>, broken: Vec<BrokenFile>) {
        if let Some(first) = unfit.first() {
            tracing::info!(table, files = unfit.len(), first, "files without the table's columns stay as they are");
        }
        if self.left_out.unfit.len() + unfit.len() > COMPACT_UNFIT_MAX {
            self.left_out.unfit.clear();
        }
        self.left_out.unfit.extend(unfit);
        for file in broken {
            tracing::warn!(table, path = file.path, reason = file.reason, "a data file cannot be read");
            if self.left_out.broken.len() < COMPACT_BROKEN_MAX {
                self.left_out.broken.insert(file.path.clone(), file);
            }
        }
    }

    fn told(&self, table: &str) -> Option<LakeError> {
        let broken = &self.left_out.broken;
        let files = broken.values().take(TOLD_MAX).map(|file| format!("{} {}", file.path, file.reason));
        let table = table.to_owned();
        (!broken.is_empty()).then(|| LakeError::BrokenFiles { table, count: broken.len(), files: files.collect() })
    }

    #[cfg(test)]
    pub fn unfit(&self) -> usize {
        self.left_out.unfit.len()
    }
}

/// Whether the table's rows can be added up without losing a column.
fn folds(window: &WindowPlan, log: &TableLog) -> bool {
    let metadata = &log.state().metadata;
    let found = file_schema(&metadata.schema_string, &metadata.partition_columns);
    found.is_ok_and(|found| can_fold(window, &found))
}
