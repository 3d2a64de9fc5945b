//! Files of a table that are written row by row as their rows come, a day at a time, each with its `add`.
//!
//! What is in memory is the row group that is being filled and one part of the upload. A file that is not finished is
//! visible to nobody; one that is finished and not committed is named by nobody, and vacuum's.

use std::sync::Arc;

use deltalake::arrow::array::RecordBatch;
use deltalake::arrow::datatypes::SchemaRef;
use deltalake::parquet::arrow::AsyncArrowWriter;
use deltalake::parquet::errors::ParquetError;
use serde_json::{Value, json};
use uuid::Uuid;

use super::encode::{RowGroups, properties};
use super::error::LakeError;
use super::moment::MomentClock;
use super::partition::folder;
use super::stats::{Counts, stats_json};
use super::store::LakeStore;
use super::upload::Upload;
use crate::contract::DATE;

/// What is written, and how.
#[derive(Debug, Clone)]
pub(crate) struct OutputPlan {
    pub table: String,
    /// The table's columns without the day.
    pub schema: SchemaRef,
    /// What the files' names begin with.
    pub prefix: &'static str,
    /// Whether the rows are new to the table.
    pub data_change: bool,
    /// What a file should grow to.
    pub target_bytes: u64,
    /// Rows, encoded, before they are sent off as a row group.
    pub group_bytes: usize,
}

/// Files on their way into a table.
pub(crate) struct Output {
    store: LakeStore,
    clock: MomentClock,
    plan: OutputPlan,
    day: Option<String>,
    open: Option<OpenFile>,
    /// One for each finished file.
    pub adds: Vec<Value>,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Rows of all of them.
    pub rows: u64,
}

struct OpenFile {
    path: String,
    writer: AsyncArrowWriter<Upload>,
    counts: Counts,
    groups: RowGroups,
    rows: u64,
}

impl Output {
    /// Nothing yet; what comes first is of this day (`2026-11-22`; `None` = the null partition).
    pub fn new(store: &LakeStore, clock: &MomentClock, plan: OutputPlan, day: Option<String>) -> Self {
        let (store, clock, adds) = (store.clone(), clock.clone(), Vec::new());
        Self { store, clock, plan, day, open: None, adds, bytes: 0, rows: 0 }
    }

    fn failed(&self, source: ParquetError) -> LakeError {
        LakeError::Encode { table: self.plan.table.clone(), source }
    }

    /// What comes now is of this day.
    pub async fn turn_to(&mut self, day: Option<String>) -> Result<(), LakeError> {
        if day != self.day {
            self.finish_file().await?;
            self.day = day;
        }
        Ok(())
    }

    /// Adds rows; ends the file if it is large enough.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        self.append(batch).await.map_err(|source| self.failed(source))?;
        self.end_full_file().await
    }

    async fn append(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        let open = match self.open.as_mut() {
            Some(open) => open,
            None => {
                let OutputPlan { table, schema, prefix, .. } = &self.plan;
                let path = format!("{}/{prefix}-{}.zstd.parquet", folder(self.day.as_deref()), Uuid::new_v4());
                let upload = Upload::of_new_name(self.store.clone(), self.store.path(table, &path));
                let properties = properties(schema, Some(batch))?;
                let writer = AsyncArrowWriter::try_new(upload, Arc::clone(schema), Some(properties))?;
                self.open.insert(OpenFile {
                    path,
                    writer,
                    counts: Counts::default(),
                    groups: RowGroups::default(),
                    rows: 0,
                })
            }
        };
        for (ends_group, piece) in open.groups.cut(batch) {
            if ends_group {
                open.writer.flush().await?;
            }
            open.writer.write(&piece).await?;
        }
        open.counts.add(batch);
        open.rows += batch.num_rows() as u64;
        if open.writer.in_progress_size() > self.plan.group_bytes {
            open.writer.flush().await?;
        }
        Ok(())
    }

    async fn end_full_file(&mut self) -> Result<(), LakeError> {
        let target = self.plan.target_bytes;
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        if ((open.writer.bytes_written() + open.writer.in_progress_size()) as u64) < target {
            return Ok(());
        }
        // What is in progress is only an estimate, and a high one.
        let flushed = open.writer.flush().await;
        let is_full = is_full(open.writer.bytes_written() as u64, target);
        flushed.map_err(|source| self.failed(source))?;
        if is_full { self.finish_file().await } else { Ok(()) }
    }

    /// Ends the file that is open, if one is.
    pub async fn finish_file(&mut self) -> Result<(), LakeError> {
        let Some(OpenFile { path, mut writer, counts, groups: _, rows }) = self.open.take() else { return Ok(()) };
        let finished = writer.finish().await;
        let upload = writer.into_inner();
        let size = upload.bytes();
        let file = match finished {
            Ok(file) => file,
            Err(error) => {
                upload.abort().await;
                return Err(self.failed(error));
            }
        };
        let table = &self.plan.table;
        self.store.check_landed(table, &self.store.path(table, &path)).await?;
        self.bytes += size;
        self.rows += rows;
        self.adds.push(json!({
            "path": path,
            "partitionValues": { DATE: self.day },
            "size": size,
            "modificationTime": self.clock.now().wall_ms,
            "dataChange": self.plan.data_change,
            "stats": stats_json(&self.plan.schema, &counts, &file),
        }));
        Ok(())
    }

    /// Gives up the file that is open.
    pub async fn abort(self) {
        if let Some(open) = self.open {
            open.writer.into_inner().abort().await;
        }
    }
}

/// Whether a file has grown enough. A little less than the target is the target: it would only just fit once.
pub(crate) fn is_full(size: u64, target_bytes: u64) -> bool {
    size >= target_bytes / 4 * 3
}
