//! Rewriting many small files as few large ones, and the commit that puts one in the place of the other.
//!
//! The commit is made by the loop that all our commits go through, with two things added. It is given up when anybody
//! else removed one of its files first: two compactors would otherwise both keep their rows. And it repeats the
//! table's `metaData` unchanged, which makes other engines refuse a rewrite of the same files that they have in
//! flight; they do not look at removals that change no data. A commit that was given up deletes nothing. What it
//! uploaded is named by nobody, and vacuum's.
//!
//! Rows are copied, never understood: large row groups as they lie there, so that on its way through ever larger files a
//! row is decoded and encoded about once. A file whose columns are not exactly the table's (or some of them: those that
//! came later are null) is somebody else's and stays where it is. A file that cannot be read is left out, and told.

use std::collections::HashSet;
use std::sync::Arc;

use deltalake::arrow::array::{RecordBatch, new_null_array};
use deltalake::arrow::compute::cast;
use deltalake::arrow::datatypes::{Schema, SchemaRef};
use deltalake::arrow::error::ArrowError;
use deltalake::parquet::arrow::ArrowSchemaConverter;
use deltalake::parquet::arrow::async_reader::ParquetRecordBatchStream;
use deltalake::parquet::errors::ParquetError;
use deltalake::parquet::schema::types::SchemaDescriptor;
use futures::TryStreamExt;
use object_store::ObjectMeta;
use serde_json::{Value, json};

use super::choose::{Group, SmallFile};
use super::input::{self, Input, Part};
use super::small_files::BrokenFile;
use crate::error_chain::chain;
use crate::lake::ahead::{Ahead, AheadLimits};
use crate::lake::commit::{Outcome, Proposal, TableLog};
use crate::lake::error::{LakeError, of_the_store};
use crate::lake::moment::MomentClock;
use crate::lake::output::{Output, OutputPlan};
use crate::lake::reading::Source;
use crate::lake::schema::file_schema;
use crate::lake::store::LakeStore;
use crate::limits::{COMPACT_GROUP_BYTES, COMPACT_RESTARTS_MAX, READ_WHOLE_BYTES_MAX};

/// `commitInfo.operation`, as other engines call it.
const OPERATION: &str = "OPTIMIZE";

/// The next file is there when the one before it is done.
const READ_AHEAD: AheadLimits = AheadLimits { files: 2, bytes: 2 * READ_WHOLE_BYTES_MAX };
pub(super) const MISSING: &str = "is not there";

/// What one compaction did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Compacted {
    /// The commit's version; `None` if it was not worth one.
    pub version: Option<u64>,
    pub files_in: u64,
    pub files_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Files that are not ours to rewrite.
    pub unfit: Vec<String>,
    /// Files that cannot be read.
    pub broken: Vec<BrokenFile>,
}

/// Rewrites files of one table.
pub(super) struct Compactor<'a> {
    pub store: &'a LakeStore,
    pub clock: &'a MomentClock,
    pub target_bytes: u64,
}

/// What one try at a group came to.
enum Tried {
    Done(Compacted),
    /// A file that could be opened cannot be decoded, and what was written holds rows of it.
    Undecodable(BrokenFile),
}

impl Compactor<'_> {
    /// Replaces a group's files, those that can be read. `log` is the table as it was before it was listed, so that
    /// it is told of every removal since.
    pub async fn compact(&self, log: &TableLog, group: &Group) -> Result<Compacted, LakeError> {
        let (mut group, mut broken) = (group.clone(), Vec::new());
        // Rows fill as many files as they do now.
        let bytes: u64 = group.files.iter().map(|file| file.size).sum();
        if bytes > self.target_bytes.saturating_mul(group.files.len().saturating_sub(1) as u64) {
            return Ok(Compacted::default());
        }
        loop {
            match self.compact_all(log, &group).await? {
                Tried::Done(mut compacted) => {
                    compacted.broken.append(&mut broken);
                    return Ok(compacted);
                }
                Tried::Undecodable(file) => {
                    group.files.retain(|it| it.path != file.path);
                    broken.push(file);
                }
            }
            if broken.len() > COMPACT_RESTARTS_MAX {
                return Ok(Compacted { broken, ..Compacted::default() });
            }
        }
    }

    async fn compact_all(&self, log: &TableLog, group: &Group) -> Result<Tried, LakeError> {
        let metadata = &log.state().metadata;
        let schema = file_schema(&metadata.schema_string, &metadata.partition_columns)
            .map_err(|reason| LakeError::Refused { table: log.name().to_owned(), reason })?;
        let mut merge = Merge::new(self, log.name(), Arc::new(schema), group.day.clone())?;
        let merged = match self.merge(&mut merge, group).await {
            Ok(merged) => merged,
            Err(error) => {
                let (reading, finished) = (merge.reading.take(), std::mem::take(&mut merge.output.adds));
                merge.output.abort().await;
                if let Err(error) = self.discard(log.name(), &finished).await {
                    tracing::debug!(table = log.name(), error = chain(&error), "files of no commit are left to vacuum");
                }
                return match (error, reading) {
                    // It will not be decoded next time either, and others of its day can be.
                    (LakeError::Encode { source, .. }, Some((path, meta))) if of_the_store(&source).is_none() => {
                        let reason = format!("cannot be decoded: {source}");
                        Ok(Tried::Undecodable(BrokenFile { path, reason, found: Some(meta) }))
                    }
                    (error, _) => Err(error),
                };
            }
        };
        let (removes, mut compacted) = merged;
        self.check_missing(log, &compacted.broken).await?;
        // As many files as before, only because rows fill them: nothing is won.
        let Output { adds, bytes, .. } = merge.output;
        if adds.is_empty() || adds.len() >= removes.len() {
            self.discard(log.name(), &adds).await?;
            return Ok(Tried::Done(compacted));
        }
        (compacted.files_out, compacted.bytes_out) = (adds.len() as u64, bytes);
        compacted.version = Some(self.commit(log, removes, adds).await?);
        Ok(Tried::Done(compacted))
    }

    /// Deletes files that were written for a commit that is not made: nobody else knows their names.
    pub(super) async fn discard(&self, table: &str, adds: &[Value]) -> Result<(), LakeError> {
        let paths = adds.iter().filter_map(|add| add["path"].as_str());
        self.store.delete_all(paths.map(|path| self.store.path(table, path)).collect()).await.map(|_| ())
    }

    async fn merge(&self, merge: &mut Merge<'_>, group: &Group) -> Result<(Vec<Removed>, Compacted), LakeError> {
        let (mut removes, mut compacted) = (Vec::new(), Compacted::default());
        let table = merge.table;
        let files = group.files.iter().map(|file| (file.size.min(READ_WHOLE_BYTES_MAX), file.clone())).collect();
        let (store, name) = (self.store.clone(), table.to_owned());
        let mut files = Ahead::new(files, READ_AHEAD, move |file| input::fetch(store.clone(), name.clone(), file));
        while let Some(fetched) = files.next().await {
            let (SmallFile { path, size, .. }, fetched) = fetched?;
            let Some(fetched) = fetched else {
                compacted.broken.push(BrokenFile { path, reason: MISSING.to_owned(), found: None });
                continue;
            };
            let meta = fetched.meta.clone();
            let input = match Input::open(fetched).await {
                Ok(input) => input,
                Err(source) if of_the_store(&source).is_some() => return Err(merge.failed(source)),
                Err(source) => {
                    let reason = format!("has {} bytes of {size} and cannot be opened: {source}", meta.size);
                    compacted.broken.push(BrokenFile { path, reason, found: Some(meta) });
                    continue;
                }
            };
            if !fits(&input.schema(), &merge.schema) {
                match input.is_ours() {
                    true => {
                        let reason = "has columns that the table does not have, or one of them twice".to_owned();
                        compacted.broken.push(BrokenFile { path, reason, found: Some(meta) });
                    }
                    false => compacted.unfit.push(path),
                }
                continue;
            }
            merge.reading = Some((path.clone(), meta));
            merge.append(&path, input).await?;
            merge.reading = None;
            compacted.files_in += 1;
            compacted.bytes_in += size;
            removes.push(Removed { path, size });
        }
        merge.output.finish_file().await?;
        Ok((removes, compacted))
    }

    /// A file that is not there is broken if the table names it still. If not, somebody has replaced and vacuumed it,
    /// and the whole group is yesterday's.
    pub(super) async fn check_missing(&self, log: &TableLog, broken: &[BrokenFile]) -> Result<(), LakeError> {
        let missing = broken.iter().filter(|file| file.found.is_none()).map(|file| file.path.clone());
        let missing: HashSet<String> = missing.collect();
        match missing.is_empty() {
            true => Ok(()),
            false => log.replacing(missing).catch_up().await,
        }
    }

    pub(super) async fn commit(
        &self,
        log: &TableLog,
        removed: Vec<Removed>,
        adds: Vec<Value>,
    ) -> Result<u64, LakeError> {
        let paths: HashSet<String> = removed.iter().map(|file| file.path.clone()).collect();
        let day = adds.first().map_or(Value::Null, |add| add["partitionValues"].clone());
        let metrics = json!({
            "numRemovedFiles": removed.len().to_string(),
            "numAddedFiles": adds.len().to_string(),
        });
        let mut log = log.replacing(paths);
        let outcome = log.try_commit(|state| {
            let deleted_ms = self.clock.now().wall_ms;
            let removes = removed.iter().map(|file| {
                json!({ "remove": {
                    "path": file.path,
                    "deletionTimestamp": deleted_ms,
                    "dataChange": false,
                    "extendedFileMetadata": true,
                    "partitionValues": day,
                    "size": file.size,
                } })
            });
            let mut actions = vec![json!({ "metaData": state.metadata.raw })];
            actions.extend(removes);
            actions.extend(adds.iter().map(|add| json!({ "add": add })));
            let info =
                vec![("operationParameters", json!({ "predicate": "[]" })), ("operationMetrics", metrics.clone())];
            Ok::<_, std::convert::Infallible>(Proposal { actions, info, operation: OPERATION, ..Proposal::default() })
        });
        match outcome.await? {
            Outcome::Landed(version) => Ok(version),
            Outcome::Stopped(never) => match never {},
        }
    }
}

/// A file that is replaced.
pub(super) struct Removed {
    pub path: String,
    pub size: u64,
}

/// Whether a file's columns are the table's, by name and type, and each is there once; it may lack some.
fn fits(found: &Schema, wanted: &Schema) -> bool {
    let mut names = HashSet::new();
    found.fields().iter().all(|field| {
        let column = wanted.field_with_name(field.name());
        names.insert(field.name()) && column.is_ok_and(|column| column.data_type().equals_datatype(field.data_type()))
    })
}

/// A file's rows in the table's columns.
fn arrange(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        // Nothing but the names inside a list can differ.
        Some(column) => cast(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)
}

// === Writing ===

/// The files that a group becomes.
struct Merge<'a> {
    table: &'a str,
    schema: SchemaRef,
    /// The same as Parquet has them.
    columns: SchemaDescriptor,
    output: Output,
    /// The file whose rows are being copied.
    reading: Option<(String, ObjectMeta)>,
}

impl<'a> Merge<'a> {
    fn new(
        compactor: &Compactor<'_>,
        table: &'a str,
        schema: SchemaRef,
        day: Option<String>,
    ) -> Result<Self, LakeError> {
        let columns = ArrowSchemaConverter::new().convert(&schema);
        let columns = columns.map_err(|source| LakeError::Encode { table: table.to_owned(), source })?;
        let plan = OutputPlan {
            table: table.to_owned(),
            schema: Arc::clone(&schema),
            prefix: "compact",
            data_change: false,
            target_bytes: compactor.target_bytes,
            group_bytes: COMPACT_GROUP_BYTES,
        };
        let output = Output::new(compactor.store, compactor.clock, plan, day);
        Ok(Self { table, schema, columns, output, reading: None })
    }

    fn failed(&self, source: ParquetError) -> LakeError {
        LakeError::Encode { table: self.table.to_owned(), source }
    }

    /// Copies a file's rows, all of them.
    async fn append(&mut self, path: &str, mut file: Input) -> Result<(), LakeError> {
        let (expected, mut rows) = (file.rows(), 0);
        for part in file.parts(&self.columns) {
            rows += match part {
                Part::Stored(index) => {
                    let group = file.stored(index).await.map_err(|source| self.failed(source))?;
                    let rows = group.counts.rows;
                    self.output.copy(group).await?;
                    rows
                }
                Part::Rows(groups) => {
                    let batches = file.batches(groups).map_err(|source| self.failed(source))?;
                    self.append_rows(batches).await?
                }
            };
        }
        if rows != expected {
            let reason = format!("{path} holds {expected} rows by its footer, and {rows} were read");
            return Err(self.failed(ParquetError::General(reason)));
        }
        Ok(())
    }

    async fn append_rows(&mut self, mut batches: ParquetRecordBatchStream<Source>) -> Result<usize, LakeError> {
        let mut rows = 0;
        while let Some(batch) = batches.try_next().await.map_err(|source| self.failed(source))? {
            rows += batch.num_rows();
            let batch = arrange(&batch, &self.schema)
                .map_err(|source| LakeError::Rows { table: self.table.to_owned(), source })?;
            self.output.write(&batch).await?;
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use deltalake::arrow::datatypes::{DataType, Field};

    use super::*;

    #[test]
    fn a_file_fits_with_some_of_the_columns_each_once() {
        let schema = |names: &[&str]| {
            Schema::new(names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect::<Vec<_>>())
        };
        let wanted = schema(&["a", "b", "c"]);
        assert!(fits(&schema(&["a", "b", "c"]), &wanted) && fits(&schema(&["c", "a"]), &wanted));
        assert!(!fits(&schema(&["a", "d"]), &wanted) && !fits(&schema(&["a", "b", "b"]), &wanted));
        assert!(!fits(&Schema::new(vec![Field::new("a", DataType::Int32, true)]), &wanted));
    }
}
