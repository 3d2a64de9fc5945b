//! Compaction of partials: files become fewer, and the rows of one window and key become one row.
//!
//! A sum of partials is a partial, so this changes no number, whenever it is done and whatever is sealed meanwhile; no
//! record is ever left out. What comes of it is in the order in which sealing reads. A row that cannot be added up
//! exactly as it stands (of another definition, or with columns that the contract does not have) makes its file somebody
//! else's, which stays where it is. A file that cannot be read is left out, and told.

use std::collections::HashSet;

use deltalake::arrow::array::RecordBatch;
use deltalake::arrow::datatypes::Schema;
use deltalake::arrow::error::ArrowError;

use super::choose::Group as Files;
use super::compact::{Compacted, Compactor, MISSING, Removed};
use super::small_files::BrokenFile;
use crate::contract::window::{DEFINITION, RECORDS};
use crate::contract::{DATE, WindowPlan};
use crate::lake::commit::TableLog;
use crate::lake::error::{LakeError, of_the_store};
use crate::lake::merge::{Disordered, Input, Merge, MergeError, MergePlan, Mergeable, Starts, note_disorder};
use crate::lake::output::{Output, OutputPlan};
use crate::lake::schema::without;
use crate::limits::{COMPACT_RESTARTS_MAX, FOLD_FILES_MAX, MERGE_OUTPUT_BYTES, PARTIALS_GROUP_BYTES};
use crate::window::merging::{Cell, Group, Undecodable, decode_current, encode_merged};

/// A cell of a file all of whose rows are cells.
struct Whole(Cell);

impl Mergeable for Whole {
    fn columns(_: &WindowPlan) -> Option<Vec<&str>> {
        None
    }

    fn decode(window: &WindowPlan, rows: &RecordBatch) -> Result<Vec<(Group, Self)>, Undecodable> {
        let cells = decode_current(window, rows)?;
        let known = |name: &String| window.partials_schema.field_with_name(name).is_ok();
        if let Some(field) = rows.schema().fields().iter().find(|field| !known(field.name())) {
            return Err(Undecodable::Column { column: field.name().clone() });
        }
        if cells.len() != rows.num_rows() {
            return Err(Undecodable::Column { column: DEFINITION.to_owned() });
        }
        Ok(cells.into_iter().map(|(group, cell)| (group, Self(cell))).collect())
    }

    fn add(&mut self, other: &Self) {
        self.0.merge(&other.0);
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

impl Compactor<'_> {
    /// Replaces a group's files by fewer, with one row a window and key. See [`Self::compact`].
    pub async fn fold(&self, log: &TableLog, group: &Files, window: &WindowPlan) -> Result<Compacted, LakeError> {
        let mut inputs: Vec<Input> =
            group.files.iter().map(|file| Input { path: file.path.clone(), size: file.size }).collect();
        inputs.truncate(FOLD_FILES_MAX);
        let (mut found, mut left) = (Disordered::new(), Compacted::default());
        while inputs.len() > 1 && left.broken.len() <= COMPACT_RESTARTS_MAX {
            let error = match self.try_fold(log, group.day.clone(), &inputs, window, &found).await {
                Ok(compacted) => return Ok(Compacted { broken: left.broken, ..compacted }),
                Err(error) => error,
            };
            let path = match error {
                // What is too much at once is not too much in two.
                MergeError::TooMany if inputs.len() > 2 => {
                    inputs.truncate((inputs.len() / 2).max(2));
                    continue;
                }
                MergeError::Disorder(path) => {
                    let plan = self.merge_plan(log.name(), window);
                    match note_disorder(plan, &inputs, path, &mut found) {
                        Ok(()) => continue,
                        Err(error) => self.left_out(log, &inputs, error, &mut left).await?,
                    }
                }
                error @ (MergeError::Gone(_) | MergeError::TooMany | MergeError::Failed(_)) => {
                    self.left_out(log, &inputs, error, &mut left).await?
                }
            };
            if !left.unfit.is_empty() {
                break;
            }
            inputs.retain(|input| input.path != path);
        }
        Ok(left)
    }

    /// Which file is in the way, told in `left`. One that cannot be added up costs the others nothing at the next look,
    /// one that nobody can read not even at this one; other errors are errors.
    async fn left_out(
        &self,
        log: &TableLog,
        inputs: &[Input],
        error: MergeError,
        left: &mut Compacted,
    ) -> Result<String, LakeError> {
        let path = match error {
            MergeError::Failed(LakeError::Unmergeable { path, source, .. }) => {
                tracing::warn!(table = log.name(), path, %source, "a file of rows that cannot be added up stays as it is");
                path
            }
            MergeError::Disorder(path) => path,
            MergeError::TooMany => inputs.first().map(|input| input.path.clone()).unwrap_or_default(),
            MergeError::Gone(path) => {
                left.broken.push(BrokenFile { path: path.clone(), reason: MISSING.to_owned(), found: None });
                self.check_missing(log, &left.broken).await?;
                return Ok(path);
            }
            MergeError::Failed(LakeError::File { path, source, .. }) if of_the_store(&source).is_none() => {
                let found = self.store.head(&self.store.path(log.name(), &path)).await?;
                let reason = format!("cannot be decoded: {source}");
                left.broken.push(BrokenFile { path: path.clone(), reason, found });
                return Ok(path);
            }
            MergeError::Failed(error) => return Err(error),
        };
        left.unfit.push(path.clone());
        Ok(path)
    }

    fn merge_plan<'a>(&'a self, table: &'a str, window: &'a WindowPlan) -> MergePlan<'a> {
        MergePlan { store: self.store, table, window, starts: Starts::ALL }
    }

    async fn try_fold(
        &self,
        log: &TableLog,
        day: Option<String>,
        inputs: &[Input],
        window: &WindowPlan,
        disordered: &Disordered,
    ) -> Result<Compacted, MergeError> {
        let mut merge = Merge::<Whole>::open(self.merge_plan(log.name(), window), inputs, disordered).await?;
        let plan = OutputPlan {
            table: log.name().to_owned(),
            schema: without(&window.partials_schema, DATE),
            prefix: "compact",
            data_change: false,
            target_bytes: self.target_bytes,
            group_bytes: PARTIALS_GROUP_BYTES,
        };
        let mut output = Output::new(self.store, self.clock, plan, day);
        if let Err(error) = copy(&mut merge, &mut output, window, log.name()).await {
            output.abort().await;
            return Err(error);
        }
        output.finish_file().await?;
        let Output { adds, bytes, .. } = output;
        let removes: Vec<Removed> =
            inputs.iter().map(|input| Removed { path: input.path.clone(), size: input.size }).collect();
        let mut compacted = Compacted {
            files_in: removes.len() as u64,
            files_out: adds.len() as u64,
            bytes_in: inputs.iter().map(|input| input.size).sum(),
            bytes_out: bytes,
            ..Compacted::default()
        };
        if !adds.is_empty() && adds.len() < removes.len() {
            compacted.version = Some(self.commit(log, removes, adds).await?);
        } else {
            self.discard(log.name(), &adds).await?;
        }
        Ok(compacted)
    }
}

async fn copy(
    merge: &mut Merge<'_, Whole>,
    output: &mut Output,
    window: &WindowPlan,
    table: &str,
) -> Result<(), MergeError> {
    let (mut cells, mut bytes) = (Vec::new(), 0);
    loop {
        let next = merge.next().await?;
        let is_last = next.is_none();
        if let Some((group, Whole(cell))) = next {
            bytes += group.bytes() + cell.bytes();
            cells.push((group, cell));
        }
        if (is_last || bytes > MERGE_OUTPUT_BYTES) && !cells.is_empty() {
            let batch = encode(window, &cells);
            let batch = batch.map_err(|source| LakeError::Rows { table: table.to_owned(), source })?;
            output.write(&batch).await?;
            cells.clear();
            bytes = 0;
        }
        if is_last {
            return Ok(());
        }
    }
}

fn encode(window: &WindowPlan, cells: &[(Group, Cell)]) -> Result<RecordBatch, ArrowError> {
    let mut batch = encode_merged(window, cells)?;
    batch.remove_column(batch.schema().index_of(DATE)?);
    Ok(batch)
}

/// Whether a table's files say what is added up, and have no columns but the window's own.
pub(super) fn can_fold(window: &WindowPlan, found: &Schema) -> bool {
    if [RECORDS, DEFINITION].iter().any(|name| found.field_with_name(name).is_err()) {
        return false;
    }
    let ours: HashSet<&String> = window.partials_schema.fields().iter().map(|field| field.name()).collect();
    found.fields().iter().all(|field| ours.contains(field.name()))
}
