//! A checkpoint says what the log before it said.

use super::*;
use crate::lake::log::{Span, entry_path};
use crate::lake::maintenance::checkpoint::Checkpointing;
use crate::lake::tests::faults::Fault;

async fn checkpoint(lake: &Lake, table: &str, tombstones_since_ms: i64) -> Result<Option<u64>, LakeError> {
    let span = Span::of(&lake.store, table).await?.unwrap();
    Checkpointing { store: &lake.store, table, tombstones_since_ms }.write(span).await
}

/// Deletes every entry below this version.
async fn forget(lake: &Lake, table: &str, version: u64) {
    for old in 0..version {
        lake.faults.inner().delete(&entry_path(&lake.store, table, old)).await.unwrap();
    }
}

fn add(path: &str, day: Option<&str>) -> Value {
    json!({ "add": { "path": path, "partitionValues": { "_date": day }, "size": 7, "modificationTime": 1,
        "dataChange": true, "stats": "{\"numRecords\":1}", "tags": { "k": null } } })
}

fn remove(path: &str, deleted_ms: i64) -> Value {
    json!({ "remove": { "path": path, "deletionTimestamp": deleted_ms, "dataChange": true } })
}

fn paths(lines: &[Value]) -> Vec<String> {
    let path = |line: &Value| {
        let (kind, action) = line.as_object().unwrap().iter().next().unwrap();
        format!("{} {}", &kind[..3], action["path"].as_str().unwrap())
    };
    lines.iter().map(path).collect()
}

#[tokio::test]
async fn positions_metadata_and_files_are_what_they_were_when_only_the_checkpoint_is_left() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a", "b"]).await;
    let grant = ShardGrant::new();
    for from in [0, 10, 20] {
        ours.committer
            .flush(micro([batch("a", from, from + 10, &grant), batch("b", from, from + 10, &grant)]))
            .await
            .unwrap();
    }
    let (end, _told) = ending(quiet("b", 30, 99_000, &grant), &["c"]);
    ours.committer.flush(micro([end])).await.unwrap();
    let (before, files) = (read_table(&lake.store, ROWS, "").await.unwrap().unwrap(), file_lines(&lake, ROWS).await);

    let version = checkpoint(&lake, ROWS, 0).await.unwrap().unwrap();
    assert_eq!(version, before.version);
    forget(&lake, ROWS, version).await;
    let after_it = read_table(&lake.store, ROWS, "").await.unwrap().unwrap();
    assert_eq!(
        (&after_it.txns, &after_it.metadata, &after_it.protocol),
        (&before.txns, &before.metadata, &before.protocol)
    );
    assert_eq!(paths(&file_lines(&lake, ROWS).await), paths(&files));
    assert_eq!(lake.open().await.view, ours.committer.view);

    // The writer that knew the log goes on, and the next checkpoint is made of this one.
    ours.committer.flush(micro([batch("a", 30, 40, &grant)])).await.unwrap();
    let version = checkpoint(&lake, ROWS, 0).await.unwrap().unwrap();
    forget(&lake, ROWS, version).await;
    assert_eq!(lake.open().await.view, ours.committer.view);
    assert_eq!(file_lines(&lake, ROWS).await.len(), files.len() + 1);
}

#[tokio::test]
async fn what_was_removed_is_gone_what_came_back_is_there_and_a_null_partition_stays_null() {
    let lake = Lake::in_memory();
    lake.open().await;
    let day = Some("2026-11-22");
    lake.foreign(ROWS, &[add("a", day), add("b", None), add("c", day), add("d", day)]).await;
    lake.foreign(ROWS, &[remove("a", 500), remove("d", 2_000)]).await;
    checkpoint(&lake, ROWS, 1_000).await.unwrap();
    let lines = file_lines(&lake, ROWS).await;
    assert_eq!(paths(&lines), ["add b", "add c", "rem d"], "the removal of a is forgotten");
    let partitions: Vec<&Value> = lines[..2].iter().map(|line| &line["add"]["partitionValues"]).collect();
    assert_eq!(partitions, [&json!({ "_date": null }), &json!({ "_date": "2026-11-22" })]);
    assert_eq!(lines[0]["add"]["dataChange"], false);

    lake.foreign(ROWS, &[remove("b", 3_000), add("d", day), add("e", day)]).await;
    checkpoint(&lake, ROWS, 1_000).await.unwrap();
    let lines = file_lines(&lake, ROWS).await;
    assert_eq!(paths(&lines), ["add c", "rem b", "add d", "add e"]);
    assert_eq!(lines[0]["add"]["tags"], json!({ "k": null }));
    checkpoint(&lake, ROWS, 1_000).await.unwrap();
    lake.foreign(ROWS, &[json!({ "txn": { "appId": "x", "version": 1 } })]).await;
    checkpoint(&lake, ROWS, 10_000).await.unwrap();
    assert_eq!(paths(&file_lines(&lake, ROWS).await), ["add c", "add d", "add e"], "a removal is forgotten later, too");
}

#[tokio::test]
async fn a_checkpoint_that_nobody_was_pointed_at_is_found_and_the_next_one_is_made_of_it() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();
    lake.faults.next_put("_last_checkpoint", Fault::Fail);
    checkpoint(&lake, ROWS, 0).await.unwrap_err();
    forget(&lake, ROWS, 2).await;
    assert_eq!(lake.open().await.view, ours.committer.view);
    ours.committer.flush(micro([batch("a", 10, 20, &ShardGrant::new())])).await.unwrap();
    assert_eq!(checkpoint(&lake, ROWS, 0).await.unwrap(), Some(3));
    forget(&lake, ROWS, 3).await;
    assert_eq!(lake.open().await.view, ours.committer.view);
}

#[tokio::test]
async fn a_checkpoint_that_two_write_at_once_or_whose_answer_is_lost_is_one_checkpoint() {
    for fault in [Fault::LoseAnswer, Fault::ConflictWithItself, Fault::ConflictWithNothing, Fault::Fail] {
        let lake = Lake::in_memory();
        let mut ours = lake.committer(&["a"]).await;
        ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();
        lake.faults.next_put("checkpoint.parquet", fault);
        if checkpoint(&lake, ROWS, 0).await.is_err() {
            assert_eq!(checkpoint(&lake, ROWS, 0).await.unwrap(), Some(2));
        }
        forget(&lake, ROWS, 2).await;
        assert_eq!(lake.open().await.view, ours.committer.view);
    }
}

#[tokio::test]
async fn a_log_that_holds_what_cannot_be_carried_on_gets_no_checkpoint() {
    let vector = json!({ "add": { "path": "v", "partitionValues": {}, "size": 1, "modificationTime": 1,
        "dataChange": true, "deletionVector": { "storageType": "u" } } });
    let domain = json!({ "domainMetadata": { "domain": "d", "configuration": "", "removed": false } });
    let newer = json!({ "protocol": { "minReaderVersion": 3, "minWriterVersion": 7 } });
    for (line, word) in [(vector, "deletion vector"), (domain, "domainMetadata"), (newer, "minWriterVersion")] {
        let lake = Lake::in_memory();
        lake.open().await;
        lake.foreign(ROWS, &[line]).await;
        let error = checkpoint(&lake, ROWS, 0).await.unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(lake.faults.puts("checkpoint"), 0);
    }
}

#[tokio::test]
async fn a_checkpoint_that_does_not_read_back_is_deleted_and_nobody_is_pointed_at_it() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();
    lake.faults.next_put("checkpoint.parquet", Fault::Spoil);
    let error = checkpoint(&lake, ROWS, 0).await.unwrap_err();
    assert!(crate::error_chain::chain(&error).contains("deleted again"), "{error:?}");
    assert_eq!(lake.faults.puts("_last_checkpoint"), 0);
    assert_eq!(lake.open().await.view, ours.committer.view);
    let left: Vec<_> = futures::TryStreamExt::try_collect(lake.faults.inner().list(None)).await.unwrap();
    assert!(!left.iter().any(|object: &object_store::ObjectMeta| object.location.as_ref().contains("checkpoint")));
}
