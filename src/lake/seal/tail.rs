//! A partials table at one of its versions: its files by their windows, and what it says of time. Both are of the same
//! version by construction, since they come from the same entries; a watermark beside files of another version could
//! seal a window without records that belong in it.
//!
//! Read once from the log, then moved on entry by entry.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::contract::window::WINDOW_START;
use crate::lake::checkpoint::{is_file, root};
use crate::lake::error::LakeError;
use crate::lake::files::Added;
use crate::lake::ledger::{SINCE, StreamIdentity, dropped_through_ms};
use crate::lake::log::{each_action, entry_path};
use crate::lake::merge::{Input, Starts};
use crate::lake::moment::Moment;
use crate::lake::store::LakeStore;
use crate::lake::stream::followed_now;
use crate::limits::SEAL_FILES_MAX;

/// See the file's head.
#[derive(Debug)]
pub(super) struct Tail {
    table: String,
    pub version: u64,
    txns: BTreeMap<String, i64>,
    /// Files that may have a window that begins at or after `floor_us`.
    files: BTreeMap<String, (i64, i64, u64)>,
    floor_us: i64,
    /// Files that brought new rows since they were taken last: (version, first and last start, file).
    fresh: Vec<Fresh>,
    /// There are more files than it may hold.
    is_overfull: bool,
    /// When the log was last known to have the entry of its version.
    joined: Option<Moment>,
}

/// How often whoever finds nothing new looks whether the log was cleaned beyond what it knows.
const GAP_INTERVAL_MS: i64 = 60_000;

/// A file that brought new rows.
#[derive(Debug, Clone)]
pub(super) struct Fresh {
    /// In this version.
    pub version: u64,
    /// The first and the last start of its windows, epoch us.
    pub starts: (i64, i64),
    pub file: Input,
}

/// What the table says of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clocks {
    /// The stream that it follows now.
    pub identity: StreamIdentity,
    pub watermark_ms: Option<i64>,
    /// From when on no record is missing in it.
    pub since_ms: Option<i64>,
    /// Windows that begin before this have no partials any more, or have lost some; epoch us.
    pub dropped_us: i64,
}

impl Tail {
    /// The table as it is. `None` if there is none.
    pub async fn read(store: &LakeStore, table: &str, floor_us: i64) -> Result<Option<Self>, LakeError> {
        let (files, txns) = (BTreeMap::new(), BTreeMap::new());
        let (fresh, is_overfull, joined) = (Vec::new(), false, None);
        let mut tail = Self { table: table.to_owned(), version: 0, txns, files, floor_us, fresh, is_overfull, joined };
        let wanted = |column: &str| is_file(column) || root(column) == "txn";
        let head = each_action(store, table, wanted, |lines| tail.note(lines)).await?;
        let Some(head) = head else { return Ok(None) };
        tail.version = head;
        tail.fresh.clear();
        tail.check_room()?;
        Ok(Some(tail))
    }

    /// Moves on to the newest entry. `false`: it cannot, since the log was cleaned of the entries between.
    pub async fn advance(&mut self, store: &LakeStore, now: Moment) -> Result<bool, LakeError> {
        let before = self.version;
        while let Some((bytes, _)) = store.read(&entry_path(store, &self.table, self.version + 1)).await? {
            self.version += 1;
            let wrong = |reason| LakeError::Log { table: self.table.clone(), version: self.version, reason };
            if bytes.trim_ascii().is_empty() {
                return Err(wrong("the entry is empty".to_owned()));
            }
            if let Err(reason) = self.note(&bytes) {
                return Err(LakeError::Log { table: self.table.clone(), version: self.version, reason });
            }
        }
        self.check_room()?;
        let was_joined = self.joined.is_some_and(|at| now.ms_since(at) < GAP_INTERVAL_MS);
        if self.version == before && was_joined {
            return Ok(true);
        }
        self.joined = Some(now);
        // The newest entry is never cleaned away.
        Ok(self.version > before || store.head(&entry_path(store, &self.table, self.version)).await?.is_some())
    }

    fn check_room(&self) -> Result<(), LakeError> {
        if !self.is_overfull {
            return Ok(());
        }
        let reason = format!("more than {SEAL_FILES_MAX} files have windows that are not sealed (compact the table)");
        Err(LakeError::Refused { table: self.table.clone(), reason })
    }

    fn note(&mut self, lines: &[u8]) -> Result<(), String> {
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            let action: Value =
                serde_json::from_slice(line).map_err(|error| format!("a line is no action: {error}"))?;
            let of = |kind: &str| action.get(kind).filter(|action| !action.is_null());
            if let Some(add) = of("add") {
                self.note_add(add)?;
            } else if let Some(remove) = of("remove") {
                let path = remove.get("path").and_then(Value::as_str);
                self.files.remove(path.ok_or_else(|| format!("no text \"path\" in {remove}"))?);
            } else if let Some(txn) = of("txn") {
                let (id, version) = (txn["appId"].as_str(), txn["version"].as_i64());
                let (id, version) = id.zip(version).ok_or_else(|| format!("no application id and version in {txn}"))?;
                self.txns.insert(id.to_owned(), version);
            }
        }
        // Only now: a compaction may name its new files before those that they replace.
        while self.files.len() > SEAL_FILES_MAX {
            self.files.pop_last();
            self.is_overfull = true;
        }
        Ok(())
    }

    fn note_add(&mut self, add: &Value) -> Result<(), String> {
        let added = Added::of(add)?;
        let (first_us, last_us) = added.times_us(WINDOW_START);
        let (path, size) = (added.file.path, added.file.size);
        if add["dataChange"] != Value::Bool(false) {
            let file = Input { path: path.clone(), size };
            self.fresh.push(Fresh { version: self.version, starts: (first_us, last_us), file });
        }
        if last_us >= self.floor_us {
            self.files.insert(path, (first_us, last_us, size));
        }
        Ok(())
    }

    /// Files that end before this have been of use.
    pub fn forget_before(&mut self, floor_us: i64) {
        self.floor_us = self.floor_us.max(floor_us);
        let floor_us = self.floor_us;
        self.files.retain(|_, (_, last_us, _)| *last_us >= floor_us);
    }

    /// Whether it has this file.
    pub fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// Files that may have a window of these starts.
    pub fn files(&self, starts: Starts) -> Vec<Input> {
        let met = self.files.iter().filter(|(_, (first_us, last_us, _))| starts.meet((*first_us, *last_us)));
        met.map(|(path, (_, _, size))| Input { path: path.clone(), size: *size }).collect()
    }

    /// The oldest and the newest start in files that may have a window of these starts, of those that are among them.
    pub fn span_us(&self, starts: Starts) -> Option<(i64, i64)> {
        let met = self.files.values().filter(|(first_us, last_us, _)| starts.meet((*first_us, *last_us)));
        let within = met.map(|(first_us, last_us, _)| {
            ((*first_us).max(starts.from_us), (*last_us).min(starts.to_us.saturating_sub(1)))
        });
        within.reduce(|(first_us, last_us), (from_us, to_us)| (first_us.min(from_us), last_us.max(to_us)))
    }

    /// About how many bytes of its files are of these windows.
    pub fn bytes_in(&self, starts: Starts) -> u64 {
        let met = self.files.values().filter(|(first_us, last_us, _)| starts.meet((*first_us, *last_us)));
        let share = |(first_us, last_us, size): &(i64, i64, u64)| {
            let windows_us = i128::from(starts.to_us) - i128::from(starts.from_us);
            let file_us = i128::from(*last_us) - i128::from(*first_us) + windows_us;
            u64::try_from(i128::from(*size) * windows_us / file_us.max(1)).unwrap_or(*size).max(1)
        };
        met.map(share).sum()
    }

    /// Files that brought new rows since this was asked last.
    pub fn take_fresh(&mut self) -> Vec<Fresh> {
        std::mem::take(&mut self.fresh)
    }

    /// The largest value of the transactions whose ids begin and end so.
    pub fn latest(&self, begin: &str, end: &str) -> Option<i64> {
        self.txns.iter().filter(|(id, _)| id.starts_with(begin) && id.ends_with(end)).map(|(_, value)| *value).max()
    }

    /// `None` if the table follows no stream of this name (`{pipeline}/{stream}@`) yet.
    pub fn clocks(&self, any_creation: &str) -> Option<Clocks> {
        let ours = || self.txns.iter().filter(|(id, _)| id.starts_with(any_creation));
        let identity = followed_now(&self.txns, any_creation)?;
        let watermark_ms = self.txns.get(&identity.watermark_id()).copied();
        let since_ms = ours().filter(|(id, _)| id.ends_with(SINCE)).map(|(_, ms)| *ms).min();
        let dropped_us = dropped_through_ms(&self.txns).map_or(i64::MIN, |ms| ms.saturating_mul(1000));
        Some(Clocks { identity, watermark_ms, since_ms, dropped_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_at_its_limit_of_files_is_compacted_in_whichever_order_the_entry_names_them() {
        let (txns, fresh, joined) = (BTreeMap::new(), Vec::new(), None);
        let files = (0..SEAL_FILES_MAX).map(|n| (format!("{n:06}"), (0, 0, 1))).collect();
        let (table, version, floor_us, is_overfull) = ("by_place_partials".to_owned(), 7, i64::MIN, false);
        let mut tail = Tail { table, version, txns, files, floor_us, fresh, is_overfull, joined };
        let add = br#"{"add": {"path": "@", "size": 2, "dataChange": false}}"#;
        let removes = b"{\"remove\": {\"path\": \"000000\"}}\n{\"remove\": {\"path\": \"000001\"}}\n";
        tail.note(&[&add[..], b"\n", removes].concat()).unwrap();
        assert!(tail.has("@") && !tail.has("000000") && tail.has("000002"));
        tail.check_room().unwrap();
        tail.note(&add.map(|byte| if byte == b'@' { b'+' } else { byte })).unwrap();
        tail.check_room().unwrap();
        tail.note(&add.map(|byte| if byte == b'@' { b'-' } else { byte })).unwrap();
        let error = tail.check_room().unwrap_err().to_string();
        assert!(error.contains("more than 200000 files") && error.contains("compact the table"), "{error}");
    }
}
