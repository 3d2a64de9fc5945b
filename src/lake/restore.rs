//! What the live windows start with: the recent rows of the partials tables, as of one version of the rows table.
//!
//! That is the files in a partials table plus those that are staged for it and not applied yet, so that a start
//! after a crash shows what was committed and not what a follower happened to have done. Files are chosen by their
//! statistics; only what is recent is read.

use std::collections::BTreeSet;

use bytes::Bytes;
use chrono::DateTime;
use deltalake::arrow::array::RecordBatch;
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use deltalake::parquet::errors::ParquetError;
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;

use super::commit::TableLog;
use super::error::LakeError;
use super::follower::{applied_of, staged_by};
use super::log::each_action;
use super::store::LakeStore;
use super::stream::StreamLake;
use super::table::Kind;
use crate::contract::window::WINDOW_START;

/// Files fetched at a time.
const READS_MAX: usize = 32;

impl StreamLake {
    /// Rows of the `window`th partials table whose window may start at or after `since_us`. The files are chosen by
    /// their statistics, so older rows come along. Empty if the table is new.
    pub async fn recent_partials(&self, window: usize, since_us: i64) -> Result<Vec<RecordBatch>, LakeError> {
        let mut partials = self.followers.iter().filter(|table| table.kind() == Kind::Partials);
        let Some(table) = partials.nth(window) else { return Ok(Vec::new()) };
        let mut files = BTreeSet::new();
        each_action(&self.store, table.name(), &["add", "remove"], |lines| note_files(lines, since_us, &mut files))
            .await?;
        for add in self.staged_for(table).await? {
            note_add(&add, since_us, &mut files);
        }
        let reads = files.into_iter().map(|path| read_file(self.store.clone(), table.name().to_owned(), path));
        let batches: Vec<Vec<RecordBatch>> =
            futures::stream::iter(reads).buffer_unordered(READS_MAX).try_collect().await?;
        Ok(batches.into_iter().flatten().collect())
    }

    /// What was committed with rows and has not reached the table.
    async fn staged_for(&self, table: &TableLog) -> Result<Vec<Value>, LakeError> {
        let (rows, prefix) = (self.rows.name(), self.identity.any_creation());
        let applied = applied_of(table, &self.identity.applied_id(), rows)?;
        let mut staged = Vec::new();
        for version in applied.saturating_add(1)..=self.view.version {
            staged.extend(staged_by(&self.store, rows, version, &prefix, table.name()).await?);
        }
        Ok(staged)
    }
}

async fn read_file(store: LakeStore, table: String, path: String) -> Result<Vec<RecordBatch>, LakeError> {
    // A file that maintenance has replaced in the meantime is read under its new name with the next start.
    let Some((bytes, _)) = store.read(&store.path(&table, &path)).await? else { return Ok(Vec::new()) };
    decode(bytes).map_err(|source| LakeError::Encode { table, source })
}

fn decode(bytes: Bytes) -> Result<Vec<RecordBatch>, ParquetError> {
    let batches = ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()?;
    Ok(batches.collect::<Result<_, _>>()?)
}

fn note_files(lines: &[u8], since_us: i64, files: &mut BTreeSet<String>) {
    for line in lines.split(|byte| *byte == b'\n') {
        let Ok(action) = serde_json::from_slice::<Value>(line) else { continue };
        if let Some(add) = action.get("add") {
            note_add(add, since_us, files);
        } else if let Some(path) = action.pointer("/remove/path").and_then(Value::as_str) {
            files.remove(path);
        }
    }
}

fn note_add(add: &Value, since_us: i64, files: &mut BTreeSet<String>) {
    if let Some(path) = add.get("path").and_then(Value::as_str)
        && newest_start_us(add).is_none_or(|newest| newest >= since_us)
    {
        files.insert(path.to_owned());
    }
}

/// The latest window start in a file, by its statistics. `None` if they do not say.
fn newest_start_us(add: &Value) -> Option<i64> {
    let stats: Value = serde_json::from_str(add.get("stats")?.as_str()?).ok()?;
    let newest = stats.get("maxValues")?.get(WINDOW_START)?.as_str()?;
    Some(DateTime::parse_from_rfc3339(newest).ok()?.timestamp_micros())
}
