//! Maintenance against crashes between its steps, other compactors, and the writers it runs beside.

mod checkpoints;
mod compaction;
mod dropping;
mod folding;
mod many_commits;
mod readers;
mod retention;
mod row_groups;
mod service;

use std::collections::BTreeMap;

use deltalake::arrow::array::AsArray;
use deltalake::arrow::datatypes::Int64Type;
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Map, Value, json};

use super::{Ended, Event, Maintainer, MaintenanceOptions};
use crate::lake::error::LakeError;
use crate::lake::log::{each_action, read_table};
use crate::lake::tests::{
    Instance, Lake, PARTIALS, REJECTS, ROWS, batch, both, ending, follow_all, micro, quiet, rows, rows_of, tables,
};
use crate::record::ShardGrant;

const OPTIONS: MaintenanceOptions =
    MaintenanceOptions { checkpoint_commits: 10, compact_files: 3, target_file_bytes: 1 << 20 };

fn maintainer(lake: &Lake, options: MaintenanceOptions) -> Maintainer {
    let mut maintainer = Maintainer::new(lake.store.clone(), options);
    maintainer.clock = lake.clock.moments();
    maintainer.add_tables("orders", tables());
    maintainer
}

/// One look at every table; what happened to which, the beginnings left out.
async fn round(maintainer: &mut Maintainer, thorough: bool) -> Vec<(String, Event)> {
    let mut events = Vec::new();
    maintainer
        .round(thorough, &mut |name, event| {
            if event != Event::Begins {
                events.push((name.table.to_owned(), event));
            }
        })
        .await;
    events
}

/// The same, and nothing may be in the way.
async fn well(maintainer: &mut Maintainer, thorough: bool) -> Vec<(String, Event)> {
    let events = round(maintainer, thorough).await;
    let is_well =
        |event: &Event| !matches!(event, Event::Failed { .. } | Event::Ended(Ended::Refused(_) | Ended::Failed(_)));
    assert!(events.iter().all(|(_, event)| is_well(event)), "{events:#?}");
    events
}

/// Everything that a table's log says of files, in order, each as an action.
async fn file_lines(lake: &Lake, table: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let note = |lines: &[u8]| {
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let action: Map<String, Value> = serde_json::from_slice(line).unwrap();
            let is_file =
                |kind: &String, action: &Value| matches!(kind.as_str(), "add" | "remove") && !action.is_null();
            let files = action.into_iter().filter(|(kind, action)| is_file(kind, action));
            found.extend(files.map(|(kind, action)| json!({ kind: action })));
        }
        Ok(())
    };
    each_action(&lake.store, table, |_| true, note).await.unwrap();
    found
}

/// The table's files, by path.
async fn active(lake: &Lake, table: &str) -> BTreeMap<String, Value> {
    let mut files = BTreeMap::new();
    for line in file_lines(lake, table).await {
        if let Some(add) = line.get("add") {
            let added = files.insert(add["path"].as_str().unwrap().to_owned(), add.clone());
            assert!(added.is_none(), "added twice: {add}");
        } else {
            files.remove(line["remove"]["path"].as_str().unwrap());
        }
    }
    files
}

/// A column of whole numbers over all files of a table, sorted; null as -1.
async fn numbers(lake: &Lake, table: &str, column: &str) -> Vec<i64> {
    let mut found = Vec::new();
    for (path, add) in active(lake, table).await {
        let (bytes, _) = lake.store.read(&lake.store.path(table, &path)).await.unwrap().unwrap();
        assert_eq!(add["size"], bytes.len());
        let mut rows = 0;
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            rows += batch.num_rows();
            let values = batch.column_by_name(column).unwrap().as_primitive::<Int64Type>();
            found.extend(values.iter().map(|value| value.unwrap_or(-1)));
        }
        let stats: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
        assert_eq!(stats["numRecords"], rows);
    }
    found.sort_unstable();
    found
}

/// Every object below this path.
async fn objects(lake: &Lake, part: &str) -> Vec<String> {
    let all: Vec<_> = lake.faults.inner().list(None).try_collect().await.unwrap();
    let mut paths: Vec<String> = all.into_iter().map(|object| object.location.to_string()).collect();
    paths.retain(|path| path.contains(part));
    paths.sort();
    paths
}

/// Flushes nine rows and a reject of shard a, `count` times from this number on, and lets the followers follow.
async fn flushes(lake: &Lake, from: u64, count: u64) {
    let mut ours = Instance::of(lake.open().await);
    for round in 0..count {
        let from = from + round * 10;
        ours.committer.flush(micro([batch("a", from, from + 10, &ShardGrant::new())])).await.unwrap();
    }
    follow_all(ours).await;
}

/// The file with a first page whose header is none, and without checksums: it can be opened and not decoded.
fn without_page(file: &[u8]) -> Vec<u8> {
    let mut file = without_checksums(file);
    file[4..8].fill(0xff);
    file
}

/// The file as another engine might have written it: what it tells of its row groups has another name.
fn without_checksums(file: &[u8]) -> Vec<u8> {
    const KEY: &[u8] = b"pintail.row_groups.crc32";
    let mut file = file.to_vec();
    if let Some(at) = file.windows(KEY.len()).rposition(|bytes| bytes == KEY) {
        file[at] = b'P';
    }
    file
}

async fn delete(lake: &Lake, path: &object_store::path::Path) {
    lake.faults.inner().delete(path).await.unwrap();
}
