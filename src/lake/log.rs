//! Reading a table's log: the hint, one LIST, the latest checkpoint's three small columns, and the JSON tail.
//!
//! One pass gives every position, where asking by application id would replay the log once per id. Memory is
//! proportional to the shards and to the number of entries since the checkpoint, never to the table's files.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;

use super::checkpoint;
use super::entry::{Keep, LogEntry, Metadata, Protocol};
use super::error::LakeError;
use super::listing::Span;
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

/// What to do about an entry that says nothing.
pub(super) const MEND: &str = "restore the entry from a copy or an older version of the object";

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
    let entry = LogEntry::parse(&bytes, keep).map_err(|reason| wrong(format!("{reason} ({MEND})")))?;
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

async fn read_once(store: &LakeStore, table: &str, prefix: &str) -> Result<Option<TableState>, LakeError> {
    let Some(mut span) = Span::of(store, table).await? else { return Ok(None) };
    loop {
        match read_span(store, table, prefix, &span).await {
            Ok(state) => return Ok(Some(state)),
            Err(error) => span = span.without_broken(store, table, error).await?,
        }
    }
}

async fn read_span(store: &LakeStore, table: &str, prefix: &str, span: &Span) -> Result<TableState, LakeError> {
    let version = span.checkpoint.as_ref().map_or(0, |(version, _)| *version);
    let mut building = Building { table, version, etag: None, entry: LogEntry::default() };
    if let Some((version, parts)) = &span.checkpoint {
        building.entry = checkpoint::read(store, parts, prefix).await?;
        if span.tail.is_empty() {
            let head = store.head(&entry_path(store, table, *version)).await?;
            building.etag = head.ok_or_else(|| building.wrong("its JSON entry is gone although it is the head"))?.e_tag;
        }
    }
    let keep = Keep::txns(prefix);
    let mut entries = futures::stream::iter(span.tail.clone())
        .map(|version| async move { Ok::<_, LakeError>((version, read_entry(store, table, version, keep).await?)) })
        .buffered(TAIL_READS_MAX);
    while let Some((version, found)) = entries.try_next().await? {
        building.version = version;
        let (entry, etag) = found.ok_or_else(|| building.wrong("was listed but is gone"))?;
        building.absorb(etag, entry);
    }
    building.finish()
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
    mut span: Span,
    wanted: fn(&str) -> bool,
    mut visit: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), LakeError> {
    while let Err(error) = each_action_in(store, table, &span, wanted, &mut visit).await {
        span = span.without_broken(store, table, error).await?;
    }
    Ok(())
}

async fn each_action_in(
    store: &LakeStore,
    table: &str,
    Span { checkpoint, tail, .. }: &Span,
    wanted: fn(&str) -> bool,
    visit: &mut impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), LakeError> {
    if let Some((_, parts)) = checkpoint {
        let mut batches = checkpoint::lines(store, parts, wanted);
        while let Some(lines) = batches.try_next().await? {
            visit(&lines).map_err(|reason| checkpoint::not_understood(parts, reason))?;
        }
    }
    let mut entries = futures::stream::iter(tail.clone())
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
