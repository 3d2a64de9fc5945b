//! What lies in a table's log, by the names of its objects: the checkpoint to begin with, and the entries after it.
//!
//! A checkpoint that cannot be read is passed over as long as the log before it is whole: a broken file must not stop
//! a stream that does not need it.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::error::LakeError;
use super::log::MEND;
use super::store::LakeStore;
use crate::error_chain::chain;

/// Where a table's actions lie: the latest checkpoint, and the entries after it.
pub(crate) struct Span {
    pub checkpoint: Option<(u64, Vec<ObjectMeta>)>,
    /// Consecutive versions.
    pub tail: Vec<u64>,
    /// `_last_checkpoint` leads nowhere.
    pub is_hint_wrong: bool,
    /// Checkpoints that cannot be read.
    broken: BTreeSet<u64>,
}

impl Span {
    /// The newest version.
    pub fn head(&self) -> u64 {
        self.tail.last().copied().or(self.checkpoint.as_ref().map(|(version, _)| *version)).unwrap_or(0)
    }

    /// As of this version; `None` if so much of the log is not there any more, or not yet.
    pub async fn at(store: &LakeStore, table: &str, version: u64) -> Result<Option<Self>, LakeError> {
        Ok(Self::up_to(list_from(store, table, 0).await?, version, BTreeSet::new()))
    }

    fn up_to(mut listing: Listing, version: u64, broken: BTreeSet<u64>) -> Option<Self> {
        listing.checkpoints.retain(|found, _| *found <= version && !broken.contains(found));
        let checkpoint = listing.latest_checkpoint();
        let after = checkpoint.as_ref().map(|(version, _)| *version);
        let first = after.map_or(0, |after| after + 1);
        let tail: Vec<u64> = listing.commits.range(first..).copied().take_while(|found| *found <= version).collect();
        let reaches = tail.last().copied().or(after) == Some(version);
        let whole = tail.iter().copied().eq(first..first + tail.len() as u64);
        (reaches && whole).then_some(Self { checkpoint, tail, is_hint_wrong: false, broken })
    }

    /// `None` if there is no table.
    pub async fn of(store: &LakeStore, table: &str) -> Result<Option<Self>, LakeError> {
        let (listing, hint) = list_log(store, table).await?;
        let is_hint_wrong = match hint {
            Hint::None => false,
            Hint::Nonsense => true,
            Hint::At(version) => !listing.has_checkpoint(version),
        };
        let checkpoint = listing.latest_checkpoint();
        let after = checkpoint.as_ref().map(|(version, _)| *version);
        let is_later = |version: &u64| after.is_none_or(|after| *version > after);
        let tail: Vec<u64> = listing.commits.iter().copied().filter(is_later).collect();
        if tail.is_empty() && checkpoint.is_none() {
            listing.check_empty(table)?;
            return Ok(None);
        }
        listing.check_tail(table, after, &tail)?;
        Ok(Some(Self { checkpoint, tail, is_hint_wrong, broken: BTreeSet::new() }))
    }

    /// The same up to the same version, by the checkpoint before the one that could not be read, or by the entries
    /// alone. `error` is what reading said; it is returned if it does not mean that, or if nothing can stand in.
    pub async fn without_broken(self, store: &LakeStore, table: &str, error: LakeError) -> Result<Self, LakeError> {
        let is_of = |parts: &[ObjectMeta], path: &str| parts.iter().any(|part| part.location.as_ref() == path);
        let path = error.broken_checkpoint().unwrap_or_default().to_owned();
        let Some((version, _)) = self.checkpoint.as_ref().filter(|(_, parts)| is_of(parts, &path)) else {
            return Err(error);
        };
        let mut broken = self.broken.clone();
        broken.insert(*version);
        let listing = list_from(store, table, 0).await?;
        let Some(rest) = Self::up_to(listing, self.head(), broken) else {
            return Err(LakeError::BrokenCheckpoint { table: table.to_owned(), path, source: Box::new(error) });
        };
        tracing::warn!(table, path, error = chain(&error), "a log checkpoint is broken, the log before it is read");
        Ok(Self { is_hint_wrong: self.is_hint_wrong, ..rest })
    }
}

/// What lies in `_delta_log`, as far as it matters.
#[derive(Debug, Default)]
struct Listing {
    commits: BTreeSet<u64>,
    /// Classic checkpoints: version -> number of parts -> (part -> file).
    checkpoints: BTreeMap<u64, BTreeMap<u32, BTreeMap<u32, ObjectMeta>>>,
    /// Checkpoints of the newer kind, which needs a protocol that is not ours.
    foreign_checkpoints: BTreeSet<u64>,
}

impl Listing {
    /// The newest checkpoint all of whose parts are there.
    fn latest_checkpoint(&self) -> Option<(u64, Vec<ObjectMeta>)> {
        self.checkpoints.iter().rev().find_map(|(version, by_count)| {
            let complete = by_count.iter().find(|(count, parts)| parts.len() == **count as usize);
            complete.map(|(_, parts)| (*version, parts.values().cloned().collect()))
        })
    }

    fn has_checkpoint(&self, version: u64) -> bool {
        let by_count = self.checkpoints.get(&version);
        by_count.is_some_and(|by_count| by_count.iter().any(|(count, parts)| parts.len() == *count as usize))
    }

    fn check_empty(&self, table: &str) -> Result<(), LakeError> {
        match self.foreign_checkpoints.last() {
            Some(version) => Err(LakeError::Log {
                table: table.to_owned(),
                version: *version,
                reason: "only a V2 checkpoint is left, which Pintail does not read (write a classic one)".to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// The entries after the checkpoint must follow each other without a hole.
    fn check_tail(&self, table: &str, after: Option<u64>, tail: &[u64]) -> Result<(), LakeError> {
        let first = after.map_or(0, |version| version + 1);
        let hole = tail.iter().zip(first..).find(|(found, expected)| **found != *expected);
        let Some((_, missing)) = hole else { return Ok(()) };
        let hint = match self.foreign_checkpoints.last() {
            Some(version) => format!("; the V2 checkpoint {version} is not read by Pintail (write a classic one)"),
            None => String::new(),
        };
        let reason = format!("the log has a hole here ({MEND}){hint}");
        Err(LakeError::Log { table: table.to_owned(), version: missing, reason })
    }

    fn note(&mut self, meta: ObjectMeta) {
        let Some((version, kind)) = meta.location.filename().and_then(LogObject::of_name) else { return };
        match kind {
            LogObject::Commit => {
                self.commits.insert(version);
            }
            LogObject::Checkpoint { part, count } => self.note_part(version, part, count, meta),
            LogObject::ForeignCheckpoint => {
                self.foreign_checkpoints.insert(version);
            }
            LogObject::Compacted { .. } | LogObject::Checksum => {}
        }
    }

    fn note_part(&mut self, version: u64, part: u32, count: u32, meta: ObjectMeta) {
        self.checkpoints.entry(version).or_default().entry(count).or_default().insert(part, meta);
    }
}

/// What an object in `_delta_log` is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogObject {
    Commit,
    /// A classic checkpoint, or a part of one.
    Checkpoint {
        part: u32,
        count: u32,
    },
    /// A checkpoint of the newer kind.
    ForeignCheckpoint,
    /// Entries from its version through this one, in one file.
    Compacted {
        through: u64,
    },
    Checksum,
}

impl LogObject {
    /// With its version; `None` if it is something else.
    pub fn of_name(name: &str) -> Option<(u64, Self)> {
        let version_of = |digits: &str| digits.parse().ok().filter(|_| digits.len() == 20);
        let mut parts = name.split('.');
        let version = version_of(parts.next()?)?;
        let kind = match parts.collect::<Vec<_>>().as_slice() {
            ["json"] => Self::Commit,
            ["crc"] => Self::Checksum,
            [through, "compacted", "json"] => Self::Compacted { through: version_of(through)? },
            ["checkpoint", "parquet"] => Self::Checkpoint { part: 1, count: 1 },
            ["checkpoint", part, count, "parquet"] => {
                Self::Checkpoint { part: part.parse().ok()?, count: count.parse().ok()? }
            }
            ["checkpoint", ..] => Self::ForeignCheckpoint,
            _ => return None,
        };
        Some((version, kind))
    }
}

/// Also what `_last_checkpoint` says.
async fn list_log(store: &LakeStore, table: &str) -> Result<(Listing, Hint), LakeError> {
    let hint = checkpoint_hint(store, table).await?;
    if let Hint::At(version) = hint {
        let listing = list_from(store, table, version).await?;
        if listing.latest_checkpoint().is_some() {
            return Ok((listing, hint));
        }
    }
    Ok((list_from(store, table, 0).await?, hint))
}

/// What `_last_checkpoint` says. Readers take it for a hint; whatever is wrong with it costs them a longer listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hint {
    /// There is none.
    None,
    /// No JSON, or without a version.
    Nonsense,
    /// The version of a checkpoint.
    At(u64),
}

pub(crate) async fn checkpoint_hint(store: &LakeStore, table: &str) -> Result<Hint, LakeError> {
    let Some((bytes, _)) = store.read(&hint_path(store, table)).await? else { return Ok(Hint::None) };
    let hint: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
    let version = hint.as_ref().and_then(|hint| hint.get("version")?.as_u64());
    Ok(version.map_or(Hint::Nonsense, Hint::At))
}

/// The object that points readers at a checkpoint.
pub(crate) fn hint_path(store: &LakeStore, table: &str) -> Path {
    store.path(table, "_delta_log/_last_checkpoint")
}

async fn list_from(store: &LakeStore, table: &str, version: u64) -> Result<Listing, LakeError> {
    let mut listing = Listing::default();
    let mut objects = log_objects(store, table, version);
    while let Some(meta) = objects.try_next().await? {
        listing.note(meta);
    }
    Ok(listing)
}

/// What lies in `_delta_log` from this version on. Most stores list by name, and so by version; a folder does not.
pub(crate) fn log_objects(
    store: &LakeStore,
    table: &str,
    version: u64,
) -> BoxStream<'static, Result<ObjectMeta, LakeError>> {
    let folder = store.path(table, "_delta_log");
    // A bare version sorts before every name that starts with it, and the offset is exclusive.
    let offset = store.path(table, &format!("_delta_log/{version:020}"));
    let found = store.objects().list_with_offset(Some(&folder), &offset);
    let path = folder.to_string();
    let found = found.map_err(move |source| LakeError::Store { action: "list", path: path.clone(), source });
    let is_in_it = move |meta: &ObjectMeta| meta.location.prefix_match(&folder).is_some_and(|rest| rest.count() == 1);
    found.try_filter(move |meta| std::future::ready(is_in_it(meta))).boxed()
}
