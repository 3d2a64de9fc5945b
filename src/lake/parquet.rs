//! From record batches to uploaded Parquet files and the `add` actions that name them.
//!
//! Encoding is ours, on the blocking pool with one file a core, so that no reader's task waits for zstd. A file's
//! name is new every time it is written: an upload that is repeated, or whose commit never comes, can at worst
//! leave an orphan for vacuum, never change what a committed name means.

use std::num::NonZeroUsize;
use std::sync::Arc;

use deltalake::arrow::array::RecordBatch;
use deltalake::parquet::errors::ParquetError;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

use super::alarm::Alarm;
use super::backoff::backoff;
use super::encode::{Encoded, encode};
use super::error::LakeError;
use super::partition::{Partition, split};
use super::store::LakeStore;
use crate::limits::PARTITIONS_PER_COMMIT_MAX;

/// The rows that one commit brings to one table.
#[derive(Debug, Clone)]
pub(crate) struct TableRows {
    pub table: String,
    pub batches: Vec<RecordBatch>,
}

/// Files that are in the store and in no table yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Staged {
    pub table: String,
    /// The bodies of their `add` actions.
    pub adds: Vec<Value>,
    pub rows: u64,
    pub bytes: u64,
    /// Rows that the partition limit sent to the null partition.
    pub null_partition_rows: u64,
}

/// Encodes and uploads all files side by side, repeating uploads until they work. Tables without rows have no entry
/// in the answer.
pub(crate) async fn stage(
    store: &LakeStore,
    tables: Vec<TableRows>,
    now_ms: i64,
    alarm: &mut Alarm,
) -> Result<Vec<Staged>, LakeError> {
    let mut staged = Vec::new();
    let mut files = JoinSet::new();
    alarm.trying();
    let cores = Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, NonZeroUsize::get)));
    for TableRows { table, batches } in tables {
        let failed = |source| LakeError::Rows { table: table.clone(), source };
        let (partitions, moved) = split(&batches, PARTITIONS_PER_COMMIT_MAX).map_err(failed)?;
        for partition in partitions.into_iter().filter(|partition| partition.rows() > 0) {
            let (store, cores, table, index) = (store.clone(), Arc::clone(&cores), table.clone(), staged.len());
            files.spawn(async move {
                let encoded = encode_on_a_core(&cores, partition).await;
                let file = encoded.map_err(|source| LakeError::Encode { table: table.clone(), source })?;
                Ok(upload(store, Upload { table, index, file, attempt: 0 }).await)
            });
        }
        staged.push(Staged { table, null_partition_rows: moved as u64, ..Staged::default() });
    }
    while let Some(done) = files.join_next().await {
        let (upload_done, failure) = joined(done).await?;
        if let Some(error) = failure {
            alarm.failed(&error);
            let store = store.clone();
            files.spawn(async move { Ok(upload(store, upload_done).await) });
            continue;
        }
        let staged: &mut Staged = &mut staged[upload_done.index];
        staged.rows += upload_done.file.rows;
        staged.bytes += upload_done.file.bytes.len() as u64;
        staged.adds.push(add(&upload_done.file, now_ms));
    }
    alarm.well();
    staged.retain(|staged| !staged.adds.is_empty());
    Ok(staged)
}

struct Upload {
    table: String,
    index: usize,
    file: Encoded,
    attempt: u32,
}

/// One attempt, after a pause if it is not the first. Gives the file back with what went wrong.
async fn upload(store: LakeStore, mut upload: Upload) -> (Upload, Option<LakeError>) {
    if upload.attempt > 0 {
        tokio::time::sleep(backoff(upload.attempt)).await;
    }
    upload.attempt += 1;
    let path = store.path(&upload.table, &upload.file.path);
    let mut written = store.write(&path, upload.file.bytes.clone()).await;
    if written.is_ok() {
        written = store.check_landed(&upload.table, &path).await;
    }
    (upload, written.err())
}

async fn encode_on_a_core(cores: &Arc<Semaphore>, partition: Partition) -> Result<Encoded, ParquetError> {
    let _core = Arc::clone(cores).acquire_owned().await;
    joined(tokio::task::spawn_blocking(move || encode(&partition)).await).await
}

/// What a task returned. Its panic goes on in ours; cancelled, it goes with the runtime, and so do we.
pub(crate) async fn joined<T>(done: Result<T, JoinError>) -> T {
    match done.map_err(JoinError::try_into_panic) {
        Ok(value) => value,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_cancelled)) => std::future::pending().await,
    }
}

/// Paths are made of characters that an URI needs not escape, so they are written as they are.
fn add(file: &Encoded, now_ms: i64) -> Value {
    json!({
        "path": file.path,
        "partitionValues": { crate::contract::DATE: file.partition },
        "size": file.bytes.len(),
        "modificationTime": now_ms,
        "dataChange": true,
        "stats": file.stats,
    })
}
