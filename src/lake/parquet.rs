//! From record batches to uploaded Parquet files and the `add` actions that name them.
//!
//! Encoding is ours, on the blocking pool with one file a core, so that no reader's task waits for zstd. A file's
//! name is new every time it is written: an upload that is repeated, or whose commit never comes, can at worst
//! leave an orphan for vacuum, never change what a committed name means.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use deltalake::arrow::array::{Array, AsArray, RecordBatch};
use deltalake::arrow::datatypes::{DataType, SchemaRef};
use deltalake::parquet::arrow::ArrowWriter;
use deltalake::parquet::basic::{Compression, ZstdLevel};
use deltalake::parquet::errors::ParquetError;
use deltalake::parquet::file::properties::{EnabledStatistics, WriterProperties};
use deltalake::parquet::schema::types::ColumnPath;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use uuid::Uuid;

use super::alarm::Alarm;
use super::backoff::backoff;
use super::error::LakeError;
use super::partition::{Partition, split};
use super::stats::{Counts, stats_json};
use super::store::LakeStore;
use crate::limits::{PARTITIONS_PER_COMMIT_MAX, ROW_GROUP_BYTES_MAX};

/// Rows looked at to guess whether a text column repeats itself.
const DICTIONARY_SAMPLE_ROWS: usize = 1000;

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

struct Encoded {
    path: String,
    partition: Option<String>,
    bytes: Bytes,
    stats: String,
    rows: u64,
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

/// The files that a commit would upload for these rows, for whoever measures what they cost.
pub fn encoded_files(rows: &[RecordBatch]) -> Result<Vec<Bytes>, ParquetError> {
    let (partitions, _) = split(rows, PARTITIONS_PER_COMMIT_MAX)?;
    let filled = partitions.iter().filter(|partition| partition.rows() > 0);
    filled.map(|partition| encode(partition).map(|file| file.bytes)).collect()
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
    let failure = store.write(&path, upload.file.bytes.clone()).await.err();
    (upload, failure)
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

fn encode(partition: &Partition) -> Result<Encoded, ParquetError> {
    let schema = partition.batches.first().map(RecordBatch::schema);
    let schema: SchemaRef = schema.ok_or_else(|| ParquetError::General("a partition without batches".to_owned()))?;
    let properties = properties(&schema, partition.batches.first())?;
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, Arc::clone(&schema), Some(properties))?;
    let mut counts = Counts::default();
    let mut groups = RowGroups::default();
    for batch in &partition.batches {
        for (ends_group, piece) in groups.cut(batch) {
            if ends_group {
                writer.flush()?;
            }
            writer.write(&piece)?;
        }
        counts.add(batch);
    }
    let file = writer.close()?;
    let stats = stats_json(&schema, &counts, &file);
    Ok(Encoded {
        path: format!("{}/part-{}.zstd.parquet", partition.folder(), Uuid::new_v4()),
        partition: partition.day_text(),
        bytes: Bytes::from(bytes),
        stats,
        rows: counts.rows as u64,
    })
}

/// Where row groups end: by decoded bytes, which the writer's own settings do not count.
#[derive(Debug, Default)]
pub(crate) struct RowGroups {
    bytes: usize,
}

impl RowGroups {
    /// The rows in pieces, each with whether a row group has to end before it.
    pub fn cut(&mut self, batch: &RecordBatch) -> Vec<(bool, RecordBatch)> {
        let bytes = batch.columns().iter().map(|column| decoded_bytes(column)).sum::<usize>();
        if bytes > ROW_GROUP_BYTES_MAX && batch.num_rows() > 1 {
            let half = batch.num_rows() / 2;
            let mut pieces = self.cut(&batch.slice(0, half));
            pieces.extend(self.cut(&batch.slice(half, batch.num_rows() - half)));
            return pieces;
        }
        let ends_group = self.bytes > 0 && self.bytes + bytes > ROW_GROUP_BYTES_MAX;
        self.bytes = if ends_group { bytes } else { self.bytes + bytes };
        vec![(ends_group, batch.clone())]
    }
}

/// What the values take, and not what the buffers do that they lie in.
fn decoded_bytes(column: &dyn Array) -> usize {
    if let Some(list) = column.as_list_opt::<i32>() {
        let (first, end) = (list.value_offsets()[0] as usize, list.value_offsets()[list.len()] as usize);
        return decoded_bytes(&list.values().slice(first, end - first));
    }
    column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
}

/// How files are written; the first batch is a sample of their columns.
pub(crate) fn properties(schema: &SchemaRef, first: Option<&RecordBatch>) -> Result<WriterProperties, ParquetError> {
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("pintail ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for (index, field) in schema.fields().iter().enumerate() {
        let is_text = field.data_type() == &DataType::Utf8;
        // Payloads of rejects: a dictionary of them would be a copy of megabytes beside the page.
        let is_payload = field.data_type() == &DataType::Binary;
        if is_payload || (is_text && first.is_some_and(|batch| rarely_repeats(batch.column(index)))) {
            builder = builder.set_column_dictionary_enabled(ColumnPath::from(field.name().as_str()), false);
        }
    }
    Ok(builder.build())
}

/// Whether most of the first values are different: a dictionary of them would cost time and save nothing.
fn rarely_repeats(column: &dyn Array) -> bool {
    let values = column.as_string::<i32>();
    let sample: Vec<&str> = values.iter().take(DICTIONARY_SAMPLE_ROWS).flatten().collect();
    let distinct: HashSet<&str> = sample.iter().copied().collect();
    distinct.len() > sample.len() / 2
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use deltalake::arrow::array::{ArrayRef, BinaryArray, Int64Array, ListArray};
    use deltalake::arrow::datatypes::Int64Type;
    use deltalake::parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;

    fn rows_of_groups(batches: Vec<RecordBatch>) -> Vec<i64> {
        let encoded = encode(&Partition { day: None, batches }).unwrap();
        let reader = SerializedFileReader::new(encoded.bytes).unwrap();
        reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect()
    }

    #[test]
    fn a_row_group_holds_few_huge_payloads_however_small_they_are_compressed() {
        let payloads = |count: usize| {
            let payload = vec![b'x'; 10 << 20];
            let column: ArrayRef = Arc::new(BinaryArray::from_iter_values((0..count).map(|_| &payload)));
            RecordBatch::try_from_iter([("payload", column)]).unwrap()
        };
        let groups = rows_of_groups(vec![payloads(2), payloads(5)]);
        assert!(groups.iter().all(|rows| *rows <= 3) && groups.len() <= 4, "{groups:?}");
        assert_eq!(groups.iter().sum::<i64>(), 7);
    }

    #[test]
    fn rows_of_usual_size_and_slices_of_lists_share_a_row_group() {
        let whole: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>((0..100_000).map(|n| Some(vec![Some(n); 30])));
        let batch = RecordBatch::try_from_iter([("n", whole), ("list", Arc::new(lists) as ArrayRef)]).unwrap();
        // Each slice lies in the 24 MB that all of them share.
        let slices = (0..100).map(|index| batch.slice(index * 1_000, 1_000));
        assert_eq!(rows_of_groups(slices.collect()), [100_000]);
    }
}
