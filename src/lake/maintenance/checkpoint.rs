//! A log checkpoint: the table at one version as one file, so that whoever opens it reads that and the few entries
//! since.
//!
//! It is made of the checkpoint before it, streamed past the entries since: memory is proportional to those entries
//! and never to the table. It is read back before anybody is pointed at it, because log cleanup will delete what it
//! stands for, positions among it.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use deltalake::parquet::errors::ParquetError;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStoreExt};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::actions::{ActionsFile, is_taken};
use crate::error_chain::chain;
use crate::lake::checkpoint::{count_rows, is_head, lines, not_understood, read, root};
use crate::lake::error::LakeError;
use crate::lake::listing::{Hint, Span, checkpoint_hint, hint_path};
use crate::lake::log::entry_path;
use crate::lake::schema::{READER_VERSION, WRITER_VERSION};
use crate::lake::store::LakeStore;
use crate::lake::upload::Upload;
use crate::limits::CHECKPOINT_TAIL_BYTES;

/// Entries fetched ahead.
const READS_MAX: usize = 8;

/// A table whose log gets a checkpoint.
pub(super) struct Checkpointing<'a> {
    pub store: &'a LakeStore,
    pub table: &'a str,
    /// Removals before this (epoch ms) are forgotten.
    pub tombstones_since_ms: i64,
}

impl Checkpointing<'_> {
    /// Writes a checkpoint of the head; returns its version. Of a log that was left alone for long, several on the
    /// way there. One that cannot be read is passed over: what stands before it is what it was made of.
    pub async fn write(&self, mut span: Span) -> Result<Option<u64>, LakeError> {
        loop {
            match self.write_after(&span).await {
                Err(error) => span = span.without_broken(self.store, self.table, error).await?,
                written => return written,
            }
        }
    }

    async fn write_after(&self, span: &Span) -> Result<Option<u64>, LakeError> {
        let (mut checkpoint, mut tail) = (span.checkpoint.clone(), span.tail.as_slice());
        while !tail.is_empty() {
            let since = self.read_since(&mut tail).await?;
            checkpoint = Some((since.version, vec![self.write_one(checkpoint.as_ref(), since).await?]));
        }
        Ok(checkpoint.map(|(version, _)| version))
    }

    /// The next entries, as many as may be held.
    async fn read_since(&self, tail: &mut &[u64]) -> Result<Since, LakeError> {
        let mut since = Since::default();
        let mut entries = futures::stream::iter(tail.to_vec())
            .map(
                |version| async move { (version, self.store.read(&entry_path(self.store, self.table, version)).await) },
            )
            .buffered(READS_MAX);
        let mut bytes_held = 0;
        let mut taken = 0;
        while bytes_held < CHECKPOINT_TAIL_BYTES
            && let Some((version, entry)) = entries.next().await
        {
            let wrong = |reason| LakeError::Log { table: self.table.to_owned(), version, reason };
            let (bytes, _) = entry?.ok_or_else(|| wrong("was listed but is gone".to_owned()))?;
            since.absorb(&bytes).map_err(wrong)?;
            since.version = version;
            bytes_held += bytes.len();
            taken += 1;
        }
        drop(entries);
        *tail = &tail[taken..];
        Ok(since)
    }

    async fn write_one(&self, base: Option<&(u64, Vec<ObjectMeta>)>, since: Since) -> Result<ObjectMeta, LakeError> {
        let path = self.store.path(self.table, &format!("_delta_log/{:020}.checkpoint.parquet", since.version));
        let failed = |reason: &'static str| {
            let path = path.to_string();
            move |source| LakeError::Checkpoint { path, reason, source }
        };
        let parts = base.map_or(&[][..], |(_, parts)| parts);
        let mut head = Head::default();
        let mut batches = lines(self.store, parts, is_head);
        while let Some(some) = batches.try_next().await? {
            head.absorb(&some).map_err(|reason| not_understood(parts, reason))?;
        }
        head.merge(since.head);
        self.check(since.version, &head)?;
        let upload = Upload::unless_it_exists(self.store.clone(), path.clone());
        let mut file = ActionsFile::begin(upload).map_err(failed("beginning it"))?;
        let written = match self.write_actions(&mut file, parts, &head, &since.files).await {
            Ok(()) => file.finish().await.map_err(failed("writing it")),
            Err(error) => {
                file.abort().await;
                Err(error)
            }
        };
        let size = match written {
            Ok(size) => Some(size),
            Err(LakeError::Checkpoint { source, .. }) if is_taken(&source) => None,
            Err(error) => return Err(error),
        };
        let Some(meta) = self.store.head(&path).await? else {
            return Err(failed("finding it again")(ParquetError::General("it is not there".to_owned())));
        };
        self.verify(&meta, &head).await?;
        if let Some((actions, bytes)) = size {
            self.point_at(since.version, actions, bytes).await?;
        }
        Ok(meta)
    }

    async fn write_actions(
        &self,
        file: &mut ActionsFile,
        base: &[ObjectMeta],
        head: &Head,
        since: &HashMap<String, FileState>,
    ) -> Result<(), LakeError> {
        let failed = |source| LakeError::Checkpoint { path: self.table.to_owned(), reason: "writing it", source };
        for action in head.actions() {
            file.push(action.to_string().as_bytes()).await.map_err(failed)?;
        }
        let mut batches = lines(self.store, base, is_carried);
        while let Some(batch) = batches.try_next().await? {
            let kept = self.still_true(&batch, since).map_err(|reason| not_understood(base, reason))?;
            file.push(&kept).await.map_err(failed)?;
        }
        let mut files: Vec<&FileState> = since.values().collect();
        files.sort_unstable_by_key(|file| file.order);
        for state in files {
            if state.removed_ms.is_none_or(|removed_ms| removed_ms >= self.tombstones_since_ms) {
                file.push(state.line.as_bytes()).await.map_err(failed)?;
            }
        }
        Ok(())
    }

    /// The lines of a checkpoint that the entries since say nothing else about.
    fn still_true(&self, batch: &[u8], since: &HashMap<String, FileState>) -> Result<Vec<u8>, String> {
        let mut kept = Vec::with_capacity(batch.len());
        for line in action_lines(batch) {
            let peeks: HashMap<String, Option<Peek>> =
                serde_json::from_slice(line).map_err(|error| error.to_string())?;
            for (kind, peek) in peeks.into_iter().filter_map(|(kind, peek)| Some((kind, peek?))) {
                let expired = match kind.as_str() {
                    "add" => false,
                    "remove" => peek.deletion_timestamp.unwrap_or(0) < self.tombstones_since_ms,
                    _ => return Err(format!("it has an action {kind:?}, which Pintail cannot carry on")),
                };
                let path = peek.usable_path()?;
                if !expired && !since.contains_key(&path) {
                    kept.extend_from_slice(line);
                    kept.push(b'\n');
                }
            }
        }
        Ok(kept)
    }

    fn check(&self, version: u64, head: &Head) -> Result<(), LakeError> {
        let wrong = |reason: &str| LakeError::Log { table: self.table.to_owned(), version, reason: reason.to_owned() };
        let protocol = head.protocol.as_ref().ok_or_else(|| wrong("no `protocol` up to here"))?;
        head.metadata.as_ref().ok_or_else(|| wrong("no `metaData` up to here"))?;
        let above = |key: &str, max: i64| protocol.get(key).and_then(Value::as_i64).is_none_or(|found| found > max);
        if above("minReaderVersion", READER_VERSION) || above("minWriterVersion", WRITER_VERSION) {
            return Err(LakeError::Refused {
                table: self.table.to_owned(),
                reason: format!(
                    "its protocol is {protocol}; Pintail writes checkpoints of reader {READER_VERSION}, writer \
                     {WRITER_VERSION} (let the engine that raised it write them)"
                ),
            });
        }
        Ok(())
    }

    /// Reads back what nobody can do without. A checkpoint that says something else is worse than none.
    async fn verify(&self, meta: &ObjectMeta, head: &Head) -> Result<(), LakeError> {
        let found = read(self.store, std::slice::from_ref(meta), "").await;
        let problem = match &found {
            Ok(found) => {
                let txns: BTreeMap<&str, i64> =
                    found.txns.iter().map(|(id, version)| (id.as_str(), *version)).collect();
                let schema = found.metadata.as_ref().map(|metadata| metadata.schema_string.as_str());
                let expected = head.metadata.as_ref().and_then(|metadata| metadata.get("schemaString")?.as_str());
                (txns != head.versions() || schema != expected).then(|| "it says something else".to_owned())
            }
            Err(error) if error.broken_checkpoint().is_some() => Some(chain(error)),
            Err(_) => None,
        };
        let Some(problem) = problem else { return found.map(|_| ()) };
        // Another maintainer may have written its own over ours meanwhile, and may already rely on it.
        let unchanged = self.store.head(&meta.location).await?.is_some_and(|now| now.e_tag == meta.e_tag);
        let gone = unchanged && self.store.objects().delete(&meta.location).await.is_ok();
        let deleted = match (unchanged, gone) {
            (true, true) => "deleted again",
            (true, false) => "still there: delete it",
            (false, _) => "somebody has replaced it since",
        };
        let source = ParquetError::General(format!("{problem} ({deleted})"));
        Err(LakeError::Checkpoint { path: meta.location.to_string(), reason: "reading it back", source })
    }

    /// Points readers at it, unless they are pointed at a later one. Only a hint, so a race for it costs a longer
    /// listing.
    async fn point_at(&self, version: u64, actions: u64, bytes: u64) -> Result<(), LakeError> {
        if let Hint::At(known) = checkpoint_hint(self.store, self.table).await?
            && known > version
            && Span::of(self.store, self.table).await?.is_some_and(|span| !span.is_hint_wrong)
        {
            return Ok(());
        }
        let hint = json!({ "version": version, "size": actions, "sizeInBytes": bytes });
        self.store.write(&hint_path(self.store, self.table), Bytes::from(hint.to_string())).await
    }

    /// Points readers at the newest checkpoint, or nowhere if there is none. Returns its version.
    pub async fn point_anew(&self, span: &Span) -> Result<Option<u64>, LakeError> {
        let path = hint_path(self.store, self.table);
        let Some((version, parts)) = &span.checkpoint else {
            self.store.delete_all(vec![path]).await?;
            return Ok(None);
        };
        let actions = count_rows(self.store, parts).await?;
        let bytes: u64 = parts.iter().map(|part| part.size).sum();
        let mut hint = json!({ "version": version, "size": actions, "sizeInBytes": bytes });
        if parts.len() > 1 {
            hint["parts"] = json!(parts.len());
        }
        self.store.write(&path, Bytes::from(hint.to_string())).await?;
        Ok(Some(*version))
    }
}

/// Columns that go from one checkpoint to the next: all but the head, which is merged, and the copies that some
/// engines make of statistics and partitions.
fn is_carried(column: &str) -> bool {
    !is_head(column)
        && !matches!(root(column), "commitInfo" | "checkpointMetadata")
        && !column.starts_with("add.stats_parsed")
        && !column.starts_with("add.partitionValues_parsed")
}

fn action_lines(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    lines.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty())
}

/// As much of an action as it takes to know whether it still holds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Peek {
    path: Option<String>,
    deletion_timestamp: Option<i64>,
    deletion_vector: Option<Value>,
}

impl Peek {
    fn usable_path(self) -> Result<String, String> {
        let path = self.path.ok_or("a file without a path")?;
        match self.deletion_vector {
            None => Ok(path),
            Some(_) => Err(format!("the file {path} has a deletion vector, which Pintail cannot carry on")),
        }
    }
}

// === What entries say together ===

/// What the entries since a checkpoint say. O(entries).
#[derive(Default)]
struct Since {
    version: u64,
    head: Head,
    files: HashMap<String, FileState>,
    said: u64,
}

/// The last word on one file.
struct FileState {
    /// When it was said, so that files stay in the order in which they came.
    order: u64,
    line: String,
    /// Epoch ms; `None` if it is in the table.
    removed_ms: Option<i64>,
}

impl Since {
    fn absorb(&mut self, entry: &[u8]) -> Result<(), String> {
        for line in action_lines(entry) {
            let actions: Map<String, Value> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
            for (kind, action) in actions.into_iter().filter(|(_, action)| !action.is_null()) {
                match kind.as_str() {
                    "add" | "remove" => self.file(&kind, action)?,
                    "commitInfo" | "cdc" => {}
                    "txn" | "metaData" | "protocol" => self.head.take(&kind, action)?,
                    _ => return Err(format!("it has an action {kind:?}, which Pintail cannot carry on")),
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, kind: &str, mut action: Value) -> Result<(), String> {
        let peek = Peek::deserialize(&action).map_err(|error| error.to_string())?;
        let removed_ms = (kind == "remove").then(|| peek.deletion_timestamp.unwrap_or(0));
        let path = peek.usable_path()?;
        // What a checkpoint holds is no change.
        action["dataChange"] = Value::Bool(false);
        let line = format!("{}\n", json!({ kind: action }));
        self.said += 1;
        self.files.insert(path, FileState { order: self.said, line, removed_ms });
        Ok(())
    }
}

/// What the table is, and its application transactions, as whole actions.
#[derive(Default)]
struct Head {
    protocol: Option<Value>,
    metadata: Option<Value>,
    txns: BTreeMap<String, Value>,
}

impl Head {
    fn absorb(&mut self, lines: &[u8]) -> Result<(), String> {
        for line in action_lines(lines) {
            let actions: Map<String, Value> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
            for (kind, action) in actions.into_iter().filter(|(_, action)| !action.is_null()) {
                self.take(&kind, action)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, kind: &str, action: Value) -> Result<(), String> {
        match kind {
            "protocol" => self.protocol = Some(action),
            "metaData" => self.metadata = Some(action),
            _ => {
                let app_id = action.get("appId").and_then(Value::as_str).ok_or("a `txn` without `appId`")?;
                action.get("version").and_then(Value::as_i64).ok_or("a `txn` without `version`")?;
                self.txns.insert(app_id.to_owned(), action);
            }
        }
        Ok(())
    }

    fn merge(&mut self, later: Self) {
        self.protocol = later.protocol.or(self.protocol.take());
        self.metadata = later.metadata.or(self.metadata.take());
        self.txns.extend(later.txns);
    }

    fn actions(&self) -> impl Iterator<Item = Value> {
        let protocol = self.protocol.iter().map(|action| json!({ "protocol": action }));
        let metadata = self.metadata.iter().map(|action| json!({ "metaData": action }));
        protocol.chain(metadata).chain(self.txns.values().map(|action| json!({ "txn": action })))
    }

    fn versions(&self) -> BTreeMap<&str, i64> {
        let version = |action: &Value| action.get("version").and_then(Value::as_i64);
        self.txns.iter().filter_map(|(id, action)| Some((id.as_str(), version(action)?))).collect()
    }
}
