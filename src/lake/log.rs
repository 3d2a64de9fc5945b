//! Reading a table's log: the hint, one LIST, the latest checkpoint's three small columns, and the JSON tail.
//!
//! One pass gives every position, where asking by application id would replay the log once per id. Memory is
//! proportional to the shards and to the number of entries since the checkpoint, never to the table's files.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::checkpoint;
use super::entry::{Keep, LogEntry, Metadata, Protocol};
use super::error::LakeError;
use super::store::LakeStore;

/// Log entries fetched at a time when a table is opened.
const TAIL_READS_MAX: usize = 16;
/// A table that is cleaned while it is being listed is listed again; a log with a real hole stays one.
const READ_ATTEMPTS: u32 = 3;

/// A table as its log says, at one version. O(application ids).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TableState {
    /// The head.
    pub version: u64,
    /// The head entry's ETag: how a table that was wiped and made again is told from this one.
    pub etag: Option<String>,
    pub protocol: Protocol,
    pub metadata: Metadata,
    /// Application transactions with the prefix that was asked for.
    pub txns: BTreeMap<String, i64>,
}

impl TableState {
    /// Moves on by one entry.
    pub fn absorb(&mut self, version: u64, etag: Option<String>, entry: LogEntry) {
        self.version = version;
        self.etag = etag;
        self.txns.extend(entry.txns);
        if let Some(metadata) = entry.metadata {
            self.metadata = metadata;
        }
        if let Some(protocol) = entry.protocol {
            self.protocol = protocol;
        }
    }
}

/// A log entry's object.
pub(crate) fn entry_path(store: &LakeStore, table: &str, version: u64) -> Path {
    store.path(table, &format!("_delta_log/{version:020}.json"))
}

/// One log entry, parsed, with its ETag; `None` if there is none of this version.
pub(crate) async fn read_entry(
    store: &LakeStore,
    table: &str,
    version: u64,
    keep: Keep<'_>,
) -> Result<Option<(LogEntry, Option<String>)>, LakeError> {
    let Some((bytes, meta)) = store.read(&entry_path(store, table, version)).await? else { return Ok(None) };
    let wrong = |reason| LakeError::Log { table: table.to_owned(), version, reason };
    if bytes.trim_ascii().is_empty() {
        // Nobody commits nothing: a machine that lost power before the file was on its disk. What it said is gone.
        return Err(wrong("the entry is empty (restore it, or remove the file if it is the newest)".to_owned()));
    }
    let entry = LogEntry::parse(&bytes, keep).map_err(wrong)?;
    Ok(Some((entry, meta.e_tag)))
}

/// The table's head and every application transaction whose id starts with `prefix`; `None` if there is no table.
pub(crate) async fn read_table(store: &LakeStore, table: &str, prefix: &str) -> Result<Option<TableState>, LakeError> {
    let mut attempt = 1;
    loop {
        match read_once(store, table, prefix).await {
            Err(LakeError::Log { .. }) if attempt < READ_ATTEMPTS => attempt += 1,
            answer => return answer,
        }
    }
}

/// Where a table's actions lie: the latest checkpoint, and the entries after it.
pub(crate) struct Span {
    pub checkpoint: Option<(u64, Vec<ObjectMeta>)>,
    /// Consecutive versions.
    pub tail: Vec<u64>,
}

impl Span {
    /// The newest version.
    pub fn head(&self) -> u64 {
        self.tail.last().copied().or(self.checkpoint.as_ref().map(|(version, _)| *version)).unwrap_or(0)
    }

    /// As of this version; `None` if so much of the log is not there any more, or not yet.
    async fn at(store: &LakeStore, table: &str, version: u64) -> Result<Option<Self>, LakeError> {
        let mut listing = list_from(store, table, 0).await?;
        listing.checkpoints.retain(|found, _| *found <= version);
        let checkpoint = listing.latest_checkpoint();
        let after = checkpoint.as_ref().map(|(version, _)| *version);
        let first = after.map_or(0, |after| after + 1);
        let tail: Vec<u64> = listing.commits.range(first..).copied().take_while(|found| *found <= version).collect();
        let reaches = tail.last().copied().or(after) == Some(version);
        let whole = tail.iter().copied().eq(first..first + tail.len() as u64);
        Ok((reaches && whole).then_some(Self { checkpoint, tail }))
    }

    /// `None` if there is no table.
    pub async fn of(store: &LakeStore, table: &str) -> Result<Option<Self>, LakeError> {
        let listing = list_log(store, table).await?;
        let checkpoint = listing.latest_checkpoint();
        let after = checkpoint.as_ref().map(|(version, _)| *version);
        let is_later = |version: &u64| after.is_none_or(|after| *version > after);
        let tail: Vec<u64> = listing.commits.iter().copied().filter(is_later).collect();
        if tail.is_empty() && checkpoint.is_none() {
            listing.check_empty(table)?;
            return Ok(None);
        }
        listing.check_tail(table, after, &tail)?;
        Ok(Some(Self { checkpoint, tail }))
    }
}

async fn read_once(store: &LakeStore, table: &str, prefix: &str) -> Result<Option<TableState>, LakeError> {
    let Some(Span { checkpoint, tail }) = Span::of(store, table).await? else { return Ok(None) };
    let version = checkpoint.as_ref().map_or(0, |(version, _)| *version);
    let mut building = Building { table, version, etag: None, entry: LogEntry::default() };
    if let Some((version, parts)) = checkpoint {
        building.entry = checkpoint::read(store, &parts, prefix).await?;
        if tail.is_empty() {
            let head = store.head(&entry_path(store, table, version)).await?;
            building.etag = head.ok_or_else(|| building.wrong("its JSON entry is gone although it is the head"))?.e_tag;
        }
    }
    let keep = Keep::txns(prefix);
    let mut entries = futures::stream::iter(tail)
        .map(|version| async move { Ok::<_, LakeError>((version, read_entry(store, table, version, keep).await?)) })
        .buffered(TAIL_READS_MAX);
    while let Some((version, found)) = entries.try_next().await? {
        building.version = version;
        let (entry, etag) = found.ok_or_else(|| building.wrong("was listed but is gone"))?;
        building.absorb(etag, entry);
    }
    building.finish().map(Some)
}

/// Shows `visit` every action up to the head, oldest first, as JSON lines; of what lies in the checkpoint, the columns
/// that are `wanted` (dotted paths). Returns the head; `None` if there is no table, and nothing was shown. A table whose
/// files are counted this way is never held whole.
pub(crate) async fn each_action(
    store: &LakeStore,
    table: &str,
    wanted: fn(&str) -> bool,
    visit: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<Option<u64>, LakeError> {
    let Some(span) = Span::of(store, table).await? else { return Ok(None) };
    let head = span.head();
    each_action_of(store, table, span, wanted, visit).await?;
    Ok(Some(head))
}

/// As [`each_action`], up to an older version instead of the head.
pub(crate) async fn each_action_at(
    store: &LakeStore,
    table: &str,
    version: u64,
    wanted: fn(&str) -> bool,
    visit: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), LakeError> {
    match Span::at(store, table, version).await? {
        Some(span) => each_action_of(store, table, span, wanted, visit).await,
        None => Err(LakeError::VersionGone { table: table.to_owned(), version }),
    }
}

async fn each_action_of(
    store: &LakeStore,
    table: &str,
    Span { checkpoint, tail }: Span,
    wanted: fn(&str) -> bool,
    mut visit: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), LakeError> {
    if let Some((_, parts)) = checkpoint {
        let mut batches = checkpoint::lines(store, &parts, wanted);
        while let Some(lines) = batches.try_next().await? {
            visit(&lines).map_err(|reason| checkpoint::not_understood(&parts, reason))?;
        }
    }
    let mut entries = futures::stream::iter(tail)
        .map(|version| async move { (version, store.read(&entry_path(store, table, version)).await) })
        .buffered(TAIL_READS_MAX);
    while let Some((version, entry)) = entries.next().await {
        let wrong = |reason| LakeError::Log { table: table.to_owned(), version, reason };
        let (bytes, _) = entry?.ok_or_else(|| wrong("was listed but is gone".to_owned()))?;
        visit(&bytes).map_err(wrong)?;
    }
    Ok(())
}

/// A table state before `metaData` and `protocol` have been seen.
struct Building<'a> {
    table: &'a str,
    version: u64,
    etag: Option<String>,
    entry: LogEntry,
}

impl Building<'_> {
    fn wrong(&self, reason: &str) -> LakeError {
        LakeError::Log { table: self.table.to_owned(), version: self.version, reason: reason.to_owned() }
    }

    fn absorb(&mut self, etag: Option<String>, entry: LogEntry) {
        self.etag = etag;
        self.entry.txns.extend(entry.txns);
        self.entry.metadata = entry.metadata.or(self.entry.metadata.take());
        self.entry.protocol = entry.protocol.or(self.entry.protocol.take());
    }

    fn finish(self) -> Result<TableState, LakeError> {
        let protocol = self.entry.protocol.clone().ok_or_else(|| self.wrong("no `protocol` up to here"))?;
        let metadata = self.entry.metadata.clone().ok_or_else(|| self.wrong("no `metaData` up to here"))?;
        let txns = self.entry.txns.into_iter().collect();
        Ok(TableState { version: self.version, etag: self.etag, protocol, metadata, txns })
    }
}

// === The listing ===

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
        let reason = format!("the log has a hole here{hint}");
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

async fn list_log(store: &LakeStore, table: &str) -> Result<Listing, LakeError> {
    if let Some(hint) = checkpoint_hint(store, table).await? {
        let listing = list_from(store, table, hint).await?;
        if listing.latest_checkpoint().is_some() {
            return Ok(listing);
        }
    }
    list_from(store, table, 0).await
}

/// The version in `_last_checkpoint`. Only a hint: anything unreadable is no hint.
pub(crate) async fn checkpoint_hint(store: &LakeStore, table: &str) -> Result<Option<u64>, LakeError> {
    let found = store.read(&store.path(table, "_delta_log/_last_checkpoint")).await?;
    Ok(found.and_then(|(bytes, _): (Bytes, _)| {
        let hint: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        hint.get("version")?.as_u64()
    }))
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
