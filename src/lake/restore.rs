//! What the live windows start with: the recent rows of the partials tables, as of one version of the rows table.
//!
//! That is the files in a partials table plus those that are staged for it and not applied yet, so that a start
//! after a crash shows what was committed and not what a follower happened to have done. Files are chosen by their
//! statistics; only what is recent is read.

use std::collections::BTreeMap;

use chrono::DateTime;
use deltalake::arrow::array::RecordBatch;
use deltalake::parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use futures::TryStreamExt;
use serde_json::Value;

use super::ahead::{Ahead, AheadLimits};
use super::checkpoint::{is_file, root};
use super::commit::TableLog;
use super::error::LakeError;
use super::follower::applied_of;
use super::log::each_action;
use super::reading::{Source, reader_of};
use super::staging::staged_by;
use super::store::LakeStore;
use super::stream::StreamLake;
use super::table::Kind;
use crate::contract::window::WINDOW_START;
use crate::limits::{READ_WHOLE_BYTES_MAX, RESTORE_BATCH_ROWS};
use crate::window::merging::Undecodable;

/// A store answers within tens of milliseconds, and there may be thousands of files.
const READ_AHEAD: AheadLimits = AheadLimits { files: 64, bytes: 2 * READ_WHOLE_BYTES_MAX };

/// Files of a table by path.
type Files = BTreeMap<String, Found>;

/// What a log says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    /// The newest window start in it, epoch us; `None` if its statistics do not say.
    newest_us: Option<i64>,
    size: u64,
}

/// Where the recent rows of a partials table are.
#[derive(Debug)]
pub struct RecentPartials {
    /// From this start on (epoch us) they are complete.
    pub since_us: i64,
    /// Why not from the one that was asked for, if they are not.
    pub left_out: Option<String>,
    /// Up to this version of the rows table: that of the opened ledger, or a later one that somebody has applied since.
    pub through: u64,
    pub(super) store: LakeStore,
    pub(super) table: String,
    pub(super) files: Vec<(String, u64)>,
}

impl RecentPartials {
    /// Hands over the rows, some at a time: a day of a million keys is many times what memory may hold. While a file is
    /// decoded the next ones are on their way. Stops at the first rows that are not taken.
    pub async fn each(&self, mut take: impl FnMut(&RecordBatch) -> Result<(), Undecodable>) -> Result<(), LakeError> {
        let files = self.files.iter().map(|file| (held(file.1), file.clone())).collect();
        let (store, table) = (self.store.clone(), self.table.clone());
        let mut files =
            Ahead::new(files, READ_AHEAD, move |(path, size)| fetch(store.clone(), table.clone(), path, size));
        while let Some(fetched) = files.next().await {
            let (path, source) = fetched?;
            self.decode(&path, source, &mut take).await?;
        }
        Ok(())
    }

    async fn decode(
        &self,
        path: &str,
        source: Source,
        take: &mut impl FnMut(&RecordBatch) -> Result<(), Undecodable>,
    ) -> Result<(), LakeError> {
        let failed = |source| LakeError::Encode { table: self.table.clone(), source };
        let mut source = source;
        let reader = source.get_metadata(None).await.and_then(reader_of).map_err(failed)?;
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(source, reader);
        let mut batches = builder.with_batch_size(RESTORE_BATCH_ROWS).build().map_err(failed)?;
        while let Some(rows) = batches.try_next().await.map_err(failed)? {
            take(&rows).map_err(|source| LakeError::Unmergeable {
                table: self.table.clone(),
                path: path.to_owned(),
                source: Box::new(source),
            })?;
        }
        Ok(())
    }
}

async fn fetch(store: LakeStore, table: String, path: String, size: u64) -> Result<(String, Source), LakeError> {
    match Source::of(&store, &table, &path, size).await? {
        Some((source, _)) => Ok((path, source)),
        None => Err(LakeError::FileGone { table, path }),
    }
}

/// What a file takes while it is fetched and decoded; one that is read by ranges about as much as the largest that is not.
fn held(size: u64) -> u64 {
    size.min(READ_WHOLE_BYTES_MAX)
}

/// How far a table had followed when its log was read.
struct Applied {
    id: String,
    through: u64,
}

impl StreamLake {
    /// Finds the rows of the `window`th partials table whose window may start at or after `since_us` (epoch us), and
    /// the start from which they are complete: `since_us`, or later if there are more than `files_max` files to read. The
    /// files are chosen by their statistics, so older rows come along. None if the table is new.
    pub async fn recent_partials(
        &self,
        window: usize,
        since_us: i64,
        files_max: usize,
    ) -> Result<RecentPartials, LakeError> {
        let mut partials = self.followers.iter().filter(|table| table.kind() == Kind::Partials);
        let Some(table) = partials.nth(window) else {
            let (store, through) = (self.store.clone(), self.view.version);
            let (table, files) = (String::new(), Vec::new());
            return Ok(RecentPartials { since_us, left_out: None, through, store, table, files });
        };
        let mut applied = Applied { id: self.identity.applied_id(), through: self.view.version };
        let mut files = Files::new();
        let wrong = |reason| LakeError::Log { table: table.name().to_owned(), version: table.state().version, reason };
        // Before the log: what was applied and compacted since the table was opened is removed by it again.
        for add in self.staged_for(table).await? {
            note_add(&add, since_us, &mut files).map_err(wrong)?;
        }
        let wanted = |column: &str| is_file(column) || root(column) == "txn";
        each_action(&self.store, table.name(), wanted, |lines| note_files(lines, since_us, &mut files, &mut applied))
            .await?;
        let found = files.len();
        let (complete_us, files) = newest(files, since_us, files_max).map_err(wrong)?;
        let (store, table) = (self.store.clone(), table.name().to_owned());
        let left_out = (complete_us > since_us).then(|| {
            format!(
                "what was committed before this process began is in {found} files of {table}, of which a start reads the \
                 newest {files_max} (`pintail maintain` makes few of many, for the next start)"
            )
        });
        Ok(RecentPartials { since_us: complete_us, left_out, through: applied.through, store, table, files })
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

fn note_files(lines: &[u8], since_us: i64, files: &mut Files, applied: &mut Applied) -> Result<(), String> {
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        let action: Value = serde_json::from_slice(line).map_err(|error| format!("a line is no action: {error}"))?;
        if let Some(add) = action.get("add").filter(|add| !add.is_null()) {
            note_add(add, since_us, files)?;
        } else if let Some(remove) = action.get("remove").filter(|remove| !remove.is_null()) {
            files.remove(path_of(remove)?);
        } else if let Some(txn) = action.get("txn").filter(|txn| txn["appId"] == applied.id.as_str()) {
            applied.through = applied.through.max(txn["version"].as_u64().unwrap_or_default());
        }
    }
    Ok(())
}

fn note_add(add: &Value, since_us: i64, files: &mut Files) -> Result<(), String> {
    let (path, newest_us) = (path_of(add)?, newest_start_us(add));
    if newest_us.is_none_or(|newest| newest >= since_us) {
        files.insert(path.to_owned(), Found { newest_us, size: size_of(add) });
    }
    Ok(())
}

pub(super) fn path_of(action: &Value) -> Result<&str, String> {
    action.get("path").and_then(Value::as_str).ok_or_else(|| format!("no text \"path\" in {action}"))
}

/// What is of unknown size is read by ranges.
pub(super) fn size_of(add: &Value) -> u64 {
    add.get("size").and_then(Value::as_u64).unwrap_or(u64::MAX)
}

/// The newest `max` files, and the start from which nothing is missing without the others.
fn newest(files: Files, since_us: i64, max: usize) -> Result<(i64, Vec<(String, u64)>), String> {
    let mut files: Vec<(String, Found)> = files.into_iter().collect();
    // Without statistics a file may hold anything, so it is read before all others.
    files.sort_by_key(|(_, found)| std::cmp::Reverse(found.newest_us.unwrap_or(i64::MAX)));
    let complete_us = match files.get(max).map(|(_, found)| found.newest_us) {
        None => since_us,
        Some(Some(left_out)) => since_us.max(left_out.saturating_add(1)),
        Some(None) => {
            return Err(format!("more than {max} files have no statistics of {WINDOW_START:?} (rewrite them with)"));
        }
    };
    files.truncate(max);
    Ok((complete_us, files.into_iter().map(|(path, found)| (path, found.size)).collect()))
}

/// The latest window start in a file, by its statistics. `None` if they do not say.
pub(super) fn newest_start_us(add: &Value) -> Option<i64> {
    let stats: Value = serde_json::from_str(add.get("stats")?.as_str()?).ok()?;
    let newest = stats.get("maxValues")?.get(WINDOW_START)?.as_str()?;
    Some(DateTime::parse_from_rfc3339(newest).ok()?.timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(newest: &[Option<i64>]) -> Files {
        let found = |newest_us: &Option<i64>| Found { newest_us: *newest_us, size: 1 };
        newest.iter().enumerate().map(|(index, newest)| (format!("f{index}"), found(newest))).collect()
    }

    #[test]
    fn of_too_many_files_the_newest_are_read_and_what_is_incomplete_is_not_promised() {
        let some = files(&[Some(10), Some(40), None, Some(30), Some(30)]);
        assert_eq!(newest(some.clone(), 5, 5).unwrap().0, 5);
        let (since_us, chosen) = newest(some, 5, 3).unwrap();
        assert_eq!((since_us, chosen.len()), (31, 3), "one of the files of 30 is left out");
        assert_eq!(chosen[..2], [("f2".to_owned(), 1), ("f1".to_owned(), 1)]);
        assert!(newest(files(&[None, None]), 5, 1).unwrap_err().contains("have no statistics"));
    }

    #[test]
    fn a_line_that_is_no_action_or_names_no_file_is_an_error() {
        let mut applied = Applied { id: "a/applied".to_owned(), through: 3 };
        for wrong in ["{\"add\":{\"path\":\"x\"}}\nnonsense", "{\"add\":{}}", "{\"remove\":{\"path\":1}}"] {
            assert!(note_files(wrong.as_bytes(), 0, &mut Files::new(), &mut applied).is_err(), "{wrong}");
        }
        let mut noted = Files::new();
        let lines = b"{\"add\":{\"path\":\"x\"},\"remove\":null}\n\n{\"txn\":{}}\n";
        note_files(lines, 0, &mut noted, &mut applied).unwrap();
        assert_eq!(
            (noted, applied.through),
            (BTreeMap::from([("x".to_owned(), Found { newest_us: None, size: u64::MAX })]), 3)
        );
    }

    #[test]
    fn what_somebody_applied_since_the_table_was_opened_is_told() {
        let mut applied = Applied { id: "a/applied".to_owned(), through: 3 };
        for (version, through) in [(2, 3), (7, 7)] {
            let lines = format!("{{\"txn\":{{\"appId\":\"a/applied\",\"version\":{version}}}}}");
            note_files(lines.as_bytes(), 0, &mut Files::new(), &mut applied).unwrap();
            assert_eq!(applied.through, through);
        }
        let lines = b"{\"txn\":{\"appId\":\"b/applied\",\"version\":9}}";
        note_files(lines, 0, &mut Files::new(), &mut applied).unwrap();
        assert_eq!(applied.through, 7, "another stream's");
    }
}
