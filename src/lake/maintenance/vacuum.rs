//! Deleting data files that no version within the table's retention names.
//!
//! Old objects are listed first and then held against the log, a bounded number at a time. A file that the log says
//! was removed goes when that is long enough ago. One that the log does not name goes when it was uploaded long
//! enough ago; a writer names its files within a quarter of that time or uploads them anew. And one that waits in
//! the rows log for a table that follows belongs to that table, however far behind it is.

use std::collections::{HashMap, HashSet};

use futures::TryStreamExt;
use object_store::ObjectMeta;
use object_store::path::Path;
use serde::Deserialize;

use crate::lake::entry::plain_path;
use crate::lake::error::LakeError;
use crate::lake::log::each_action;
use crate::lake::store::LakeStore;
use crate::limits::{DELETE_BATCH_MAX, ORPHAN_AGE_MS_MIN, REMOVED_AGE_MS_MIN, VACUUM_CANDIDATES_MAX};

/// One table's folder.
pub(super) struct Vacuum<'a> {
    pub store: &'a LakeStore,
    pub table: &'a str,
    /// A version that the table is known to have had.
    pub version: u64,
    pub now_ms: i64,
    /// The table's retention of removed files.
    pub retention_ms: i64,
    /// Paths of files that the table will get.
    pub staged: &'a HashSet<String>,
}

/// What was deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Vacuumed {
    pub files: u64,
    pub bytes: u64,
}

/// An old object, and what the log says of it.
struct Candidate {
    object: ObjectMeta,
    word: Word,
}

enum Word {
    /// None. An upload whose commit never came, or a removal so long ago that it is forgotten.
    Unnamed,
    Active,
    Removed {
        at_ms: i64,
    },
}

#[derive(Deserialize)]
struct Line {
    add: Option<File>,
    remove: Option<File>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    path: String,
    deletion_timestamp: Option<i64>,
}

fn is_needed(column: &str) -> bool {
    matches!(column, "add.path" | "remove.path" | "remove.deletionTimestamp")
}

impl Vacuum<'_> {
    pub async fn run(&self) -> Result<Vacuumed, LakeError> {
        let mut done = Vacuumed::default();
        let mut candidates = HashMap::new();
        for folder in self.folders().await? {
            let failed = |source| LakeError::Store { action: "list", path: folder.to_string(), source };
            let mut objects = self.store.objects().list(Some(&folder));
            while let Some(object) = objects.try_next().await.map_err(failed)? {
                let age_ms = self.now_ms - object.last_modified.timestamp_millis();
                let Some(path) = self.path_in_table(&object).filter(|_| age_ms > self.removed_age_ms()) else {
                    continue;
                };
                candidates.insert(path, Candidate { object, word: Word::Unnamed });
                if candidates.len() >= VACUUM_CANDIDATES_MAX {
                    self.delete_useless(std::mem::take(&mut candidates), &mut done).await?;
                }
            }
        }
        self.delete_useless(candidates, &mut done).await?;
        Ok(done)
    }

    /// The folders of data: partitions, and whatever is not hidden by an underscore or a dot.
    async fn folders(&self) -> Result<Vec<Path>, LakeError> {
        let root = self.store.path(self.table, "");
        let failed = |source| LakeError::Store { action: "list", path: root.to_string(), source };
        let found = self.store.objects().list_with_delimiter(Some(&root)).await.map_err(failed)?;
        let is_data = |folder: &Path| {
            folder
                .filename()
                .is_some_and(|name| name.contains('=') || !(name.starts_with('_') || name.starts_with('.')))
        };
        Ok(found.common_prefixes.into_iter().filter(is_data).collect())
    }

    fn path_in_table(&self, object: &ObjectMeta) -> Option<String> {
        let root = self.store.path(self.table, "");
        let parts: Vec<String> = object.location.prefix_match(&root)?.map(|part| part.as_ref().to_owned()).collect();
        Some(plain_path(&parts.join("/")))
    }

    async fn delete_useless(
        &self,
        mut candidates: HashMap<String, Candidate>,
        done: &mut Vacuumed,
    ) -> Result<(), LakeError> {
        if candidates.is_empty() {
            return Ok(());
        }
        let seen = each_action(self.store, self.table, is_needed, |lines| note(lines, &mut candidates)).await?;
        if seen.is_none_or(|head| head < self.version) {
            let reason = format!("its log is gone or ends before version {}: nothing is deleted", self.version);
            return Err(LakeError::Refused { table: self.table.to_owned(), reason });
        }
        let useless = candidates.into_iter().filter(|(path, candidate)| self.is_useless(path, candidate));
        let useless: Vec<ObjectMeta> = useless.map(|(_, candidate)| candidate.object).collect();
        for batch in useless.chunks(DELETE_BATCH_MAX) {
            self.store.delete_all(batch.iter().map(|object| object.location.clone()).collect()).await?;
            done.files += batch.len() as u64;
            done.bytes += batch.iter().map(|object| object.size).sum::<u64>();
        }
        Ok(())
    }

    fn is_useless(&self, path: &str, candidate: &Candidate) -> bool {
        if self.staged.contains(path) {
            return false;
        }
        match candidate.word {
            Word::Active => false,
            Word::Removed { at_ms } => self.now_ms - at_ms > self.removed_age_ms(),
            Word::Unnamed => {
                let age_ms = self.now_ms - candidate.object.last_modified.timestamp_millis();
                age_ms > self.retention_ms.max(ORPHAN_AGE_MS_MIN)
            }
        }
    }

    fn removed_age_ms(&self) -> i64 {
        self.retention_ms.max(REMOVED_AGE_MS_MIN)
    }
}

fn note(lines: &[u8], candidates: &mut HashMap<String, Candidate>) -> Result<(), String> {
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let added = line.add.map(|file| (file.path, Word::Active));
        let removed =
            line.remove.map(|file| (file.path, Word::Removed { at_ms: file.deletion_timestamp.unwrap_or(0) }));
        for (path, word) in added.into_iter().chain(removed) {
            if let Some(candidate) = candidates.get_mut(&plain_path(&path)) {
                candidate.word = word;
            }
        }
    }
    Ok(())
}
