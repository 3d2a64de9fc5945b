//! Watches the rows tables' logs from beside, commit by commit: what came when.
//!
//! The end result cannot tell in which order records came, since compaction brings files together and log cleanup
//! removes the entries. So every entry is read as soon as it is there, with the files that it brings: a shard's
//! records must come in their order, and a child's after the end of its parents. Then log entries that were read, and
//! uploads that were never committed, are made to look old, so that cleanup and vacuum find something to do within
//! seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use deltalake::arrow::array::{Array, AsArray};
use deltalake::parquet::arrow::ProjectionMask;
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pintail::checkpoint::{SequenceNumber, ShardId};
use pintail::demo::Kind;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::log_entry::{Step, actions, entry_key, step};
use crate::s3::S3Server;

const LOOK_AGAIN: Duration = Duration::from_millis(50);
const AGE_EVERY: Duration = Duration::from_secs(1);

/// Beyond every retention that a table may have.
pub(super) const AGED_BY: Duration = Duration::from_secs(60 * 24 * 60 * 60);

/// What was seen of one shard.
#[derive(Debug, Default)]
struct Course {
    /// The ledger's limbs of its position.
    limbs: [i64; 4],
    /// The first version that brought records of it, and the one that ended it.
    first_records: Option<u64>,
    ended: Option<u64>,
    out_of_order: u64,
}

/// What was seen of one stream.
#[derive(Debug, Default)]
struct Log {
    /// The next version to read.
    next: u64,
    shards: BTreeMap<ShardId, Course>,
}

/// Sees every commit of the rows tables of a lake on S3.
#[derive(Debug, Default)]
pub struct Witness {
    logs: BTreeMap<Kind, Log>,
    /// Data files that a commit named.
    named: BTreeSet<String>,
    /// When each object was first seen; gone once it was made to look old.
    young: BTreeMap<String, Option<Instant>>,
}

impl Witness {
    /// Watches until told to stop, then reads what is left. `old_after` is the age at which an object is made to look
    /// older than every retention: no process is ever frozen for so long, or takes so long from an upload to its
    /// commit.
    pub async fn watch(mut self, s3: &S3Server, old_after: Duration, stop: &CancellationToken) -> anyhow::Result<Self> {
        let mut aged_at = Instant::now();
        loop {
            let stopped = stop.is_cancelled();
            self.look(s3)?;
            if stopped {
                return Ok(self);
            }
            if aged_at.elapsed() >= AGE_EVERY {
                aged_at = Instant::now();
                self.age(s3, old_after);
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Records that came after a later one of their shard, or before the end of a parent, by stream and shard.
    pub fn out_of_order(&self, kind: Kind, parents: &BTreeMap<ShardId, Vec<ShardId>>) -> BTreeMap<ShardId, u64> {
        let Some(log) = self.logs.get(&kind) else { return BTreeMap::new() };
        let early = |shard: &ShardId, course: &Course| {
            let Some(first) = course.first_records else { return 0 };
            let known = parents.get(shard).into_iter().flatten().filter_map(|parent| log.shards.get(parent));
            known.filter(|parent| parent.ended.is_none_or(|ended| ended >= first)).count() as u64
        };
        log.shards.iter().map(|(shard, course)| (shard.clone(), course.out_of_order + early(shard, course))).collect()
    }

    /// Commits seen, over all rows tables.
    pub fn commits(&self) -> u64 {
        self.logs.values().map(|log| log.next).sum()
    }

    fn look(&mut self, s3: &S3Server) -> anyhow::Result<()> {
        for kind in Kind::ALL {
            let log = self.logs.entry(kind).or_default();
            while let Some(entry) = s3.get(&entry_key(kind.name(), log.next)) {
                let version = log.next;
                let files = log.read(s3, kind.name(), &entry);
                self.named.extend(files.with_context(|| format!("{}, version {version}", kind.name()))?);
                log.next += 1;
            }
        }
        Ok(())
    }

    fn age(&mut self, s3: &S3Server, old_after: Duration) {
        let now = Instant::now();
        for key in s3.keys("tables/") {
            self.young.entry(key).or_insert(Some(now));
        }
        let Self { logs, named, young } = self;
        let is_done = |key: &str| match key.contains("/_delta_log/") {
            true => logs.iter().all(|(kind, log)| !is_unread(key, kind.name(), log.next)),
            false => key.contains("/part-") && !named.contains(key),
        };
        for (key, since) in young {
            if since.is_some_and(|since| since.elapsed() >= old_after) && is_done(key) {
                s3.age(key, AGED_BY);
                *since = None;
            }
        }
    }
}

fn is_unread(key: &str, table: &str, next: u64) -> bool {
    key.starts_with(&format!("tables/{table}/_delta_log/")) && key >= entry_key(table, next).as_str()
}

impl Log {
    /// Checks an entry, and returns the data files that it brings, those of the tables that follow included.
    fn read(&mut self, s3: &S3Server, table: &str, entry: &[u8]) -> anyhow::Result<Vec<String>> {
        let version = self.next;
        let actions = actions(entry)?;
        let before: BTreeMap<ShardId, [i64; 4]> =
            self.shards.iter().map(|(shard, course)| (shard.clone(), course.limbs)).collect();
        for txn in actions.iter().filter_map(|action| action.get("txn")) {
            self.move_on(version, txn)?;
        }
        let key = |table: &str, add: &Value| Some(format!("tables/{table}/{}", add.get("path")?.as_str()?));
        // A compaction's files bring nothing new.
        let is_new = |add: &&Value| add.get("dataChange") == Some(&Value::Bool(true));
        let adds = actions.iter().filter_map(|action| action.get("add")).filter(is_new);
        let mut brought: Vec<String> = adds.filter_map(|add| key(table, add)).collect();
        let staged = actions.iter().filter_map(|action| action.pointer("/commitInfo/staged")?.as_object()).flatten();
        for (follower, adds) in staged {
            brought.extend(adds.as_array().into_iter().flatten().filter_map(|add| key(follower, add)));
        }
        let of_records = [format!("tables/{table}/"), format!("tables/{table}_rejects/")];
        for key in brought.iter().filter(|key| of_records.iter().any(|folder| key.starts_with(folder))) {
            let bytes = s3.get(key).with_context(|| format!("{key} is in the log and not there"))?;
            self.check(version, bytes, &before).with_context(|| key.clone())?;
        }
        Ok(brought)
    }

    fn move_on(&mut self, version: u64, txn: &Value) -> anyhow::Result<()> {
        let Some((shard, step)) = step(txn)? else { return Ok(()) };
        let course = self.shards.entry(shard).or_default();
        match step {
            Step::Ended => course.ended = course.ended.or(Some(version)),
            Step::Limb(limb, value) => course.limbs[limb] = value,
            Step::Other => {}
        }
        Ok(())
    }

    /// Every record of the file is beyond where its shard stood, up to where it now stands, and after the last one.
    fn check(&mut self, version: u64, file: bytes::Bytes, before: &BTreeMap<ShardId, [i64; 4]>) -> anyhow::Result<()> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
        let columns = ProjectionMask::columns(builder.parquet_schema(), ["_shard_id", "_sequence_number"]);
        let mut last: BTreeMap<ShardId, [i64; 4]> = BTreeMap::new();
        for batch in builder.with_projection(columns).build()? {
            let batch = batch?;
            let texts = |name| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
            let (shards, numbers) = texts("_shard_id").zip(texts("_sequence_number")).context("its columns")?;
            ensure!(shards.null_count() + numbers.null_count() == 0, "a row without shard or number");
            for (shard, number) in shards.iter().flatten().zip(numbers.iter().flatten()) {
                let (shard, number) = (ShardId::new(shard), SequenceNumber::parse(number)?.to_limbs());
                let course = self.shards.entry(shard.clone()).or_default();
                let stood = before.get(&shard).copied().unwrap_or_default();
                let follows = number > last.insert(shard, number).unwrap_or(stood);
                course.first_records = course.first_records.or(Some(version));
                course.out_of_order += u64::from(!follows || number <= stood || number > course.limbs);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use deltalake::arrow::array::{ArrayRef, RecordBatch, StringArray};
    use deltalake::parquet::arrow::ArrowWriter;
    use serde_json::json;

    use super::*;

    const PARENT: &str = "shardId-000000000000";
    const CHILD: &str = "shardId-000000000001";

    /// Puts a commit that brings these numbers of a shard and moves its position to the last limb `through`.
    fn commit(s3: &S3Server, version: u64, shard: &str, numbers: &[u64], through: u64, ends: Option<&str>) {
        let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
        let texts = |texts: Vec<String>| Arc::new(StringArray::from(texts)) as ArrayRef;
        let shards = texts(vec![shard.to_owned(); numbers.len()]);
        let batch = RecordBatch::try_from_iter([("_shard_id", shards), ("_sequence_number", texts(numbers))]).unwrap();
        let mut file = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        s3.put(&format!("tables/pin/part-{version}.parquet"), Bytes::from(file));
        let txn = |id: String, version: u64| json!({ "txn": { "appId": id, "version": version } });
        let mut lines: Vec<Value> =
            (0..4).map(|limb| txn(format!("e2e/pin@1/{shard}/{limb}"), if limb == 3 { through } else { 0 })).collect();
        lines.extend(ends.map(|shard| txn(format!("e2e/pin@1/{shard}/end"), 1)));
        lines.push(json!({ "add": { "path": format!("part-{version}.parquet"), "dataChange": true } }));
        let entry: Vec<String> = lines.iter().map(Value::to_string).collect();
        s3.put(&entry_key("pin", version), Bytes::from(entry.join("\n")));
    }

    async fn disorder(commits: impl Fn(&S3Server)) -> u64 {
        let s3 = S3Server::start().await.unwrap();
        commits(&s3);
        let stop = CancellationToken::new();
        stop.cancel();
        let witness = Witness::default().watch(&s3, Duration::from_secs(60), &stop).await.unwrap();
        assert_eq!(witness.commits(), 2);
        let parents = BTreeMap::from([(ShardId::new(CHILD), vec![ShardId::new(PARENT)])]);
        witness.out_of_order(Kind::Pin, &parents).values().sum()
    }

    #[tokio::test]
    async fn commits_that_follow_each_other_are_in_order() {
        let in_order = |s3: &S3Server| {
            commit(s3, 0, PARENT, &[1, 2, 5], 5, Some(PARENT));
            commit(s3, 1, CHILD, &[3, 4], 9, None);
        };
        assert_eq!(disorder(in_order).await, 0);
    }

    #[tokio::test]
    async fn records_before_and_beyond_the_positions_and_a_child_before_its_parents_end_are_told() {
        let earlier_ones = |s3: &S3Server| {
            commit(s3, 0, PARENT, &[1, 2, 5], 5, None);
            commit(s3, 1, PARENT, &[4, 6], 6, None);
        };
        assert_eq!(disorder(earlier_ones).await, 1);
        let beyond = |s3: &S3Server| {
            commit(s3, 0, PARENT, &[1, 2], 1, None);
            commit(s3, 1, PARENT, &[3], 3, None);
        };
        assert_eq!(disorder(beyond).await, 1);
        let swapped = |s3: &S3Server| {
            commit(s3, 0, PARENT, &[2, 1], 2, None);
            commit(s3, 1, PARENT, &[3], 3, None);
        };
        assert_eq!(disorder(swapped).await, 1);
        let child_first = |s3: &S3Server| {
            commit(s3, 0, CHILD, &[1], 1, None);
            commit(s3, 1, PARENT, &[2], 2, Some(PARENT));
        };
        assert_eq!(disorder(child_first).await, 1);
    }
}
