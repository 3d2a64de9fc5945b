//! Files of a table that are written as their rows come, a day at a time, each with its `add`.
//!
//! A file that is not finished is visible to nobody; one that is finished and not committed is named by nobody, and
//! vacuum's.

use deltalake::arrow::array::RecordBatch;
use deltalake::arrow::datatypes::SchemaRef;
use deltalake::parquet::errors::ParquetError;
use serde_json::{Value, json};
use uuid::Uuid;

use super::error::LakeError;
use super::file_writer::FileWriter;
use super::moment::MomentClock;
use super::partition::folder;
use super::stats::stats_json;
use super::store::LakeStore;
use super::stored_group::StoredGroup;
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
    writer: FileWriter,
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

    /// Adds a row group of a file of the same columns; ends the file if it is large enough.
    pub async fn copy(&mut self, group: StoredGroup) -> Result<(), LakeError> {
        self.append_stored(group).await.map_err(|source| self.failed(source))?;
        self.end_full_file().await
    }

    async fn append(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        let group_bytes = self.plan.group_bytes;
        let open = self.opened()?;
        open.writer.write(batch).await?;
        match open.writer.unfinished_bytes() > group_bytes {
            true => open.writer.end_group().await,
            false => Ok(()),
        }
    }

    async fn append_stored(&mut self, group: StoredGroup) -> Result<(), ParquetError> {
        self.opened()?.writer.copy(group).await
    }

    fn opened(&mut self) -> Result<&mut OpenFile, ParquetError> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let OutputPlan { table, schema, prefix, .. } = &self.plan;
                let path = format!("{}/{prefix}-{}.zstd.parquet", folder(self.day.as_deref()), Uuid::new_v4());
                let upload = Upload::of_new_name(self.store.clone(), self.store.path(table, &path));
                OpenFile { path, writer: FileWriter::new(upload, schema)? }
            }
        };
        Ok(self.open.insert(open))
    }

    async fn end_full_file(&mut self) -> Result<(), LakeError> {
        let target = self.plan.target_bytes;
        let Some(OpenFile { writer, .. }) = self.open.as_mut() else { return Ok(()) };
        if ((writer.finished_bytes() + writer.unfinished_bytes()) as u64) < target {
            return Ok(());
        }
        // What is unfinished is only an estimate, and a high one.
        let ended = writer.end_group().await;
        let is_full = is_full(writer.finished_bytes() as u64, target);
        ended.map_err(|source| self.failed(source))?;
        if is_full { self.finish_file().await } else { Ok(()) }
    }

    /// Ends the file that is open, if one is.
    pub async fn finish_file(&mut self) -> Result<(), LakeError> {
        let Some(OpenFile { path, mut writer }) = self.open.take() else { return Ok(()) };
        let finished = writer.finish().await;
        let (upload, counts) = writer.into_parts();
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
        self.rows += counts.rows as u64;
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
            open.writer.into_parts().0.abort().await;
        }
    }
}

/// Whether a file has grown enough. A little less than the target is the target: it would only just fit once.
pub(crate) fn is_full(size: u64, target_bytes: u64) -> bool {
    size >= target_bytes / 4 * 3
}
