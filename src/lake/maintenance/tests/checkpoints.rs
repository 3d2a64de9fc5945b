//! A checkpoint says what the log before it said.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::error_chain::chain;
use crate::lake::listing::{Hint, Span, checkpoint_hint, hint_path};
use crate::lake::log::entry_path;
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

/// Every way in which a file is no checkpoint any more.
fn damages(whole: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut pages = whole.to_vec();
    pages[4..whole.len() / 2].fill(0x5a);
    let cut = whole[..whole.len() - 9].to_vec();
    vec![("empty", Vec::new()), ("cut", cut), ("pages", pages), ("first page", without_page(whole))]
}

fn checkpoint_path(lake: &Lake, version: u64) -> object_store::path::Path {
    lake.store.path(ROWS, &format!("_delta_log/{version:020}.checkpoint.parquet"))
}

#[tokio::test]
async fn a_broken_checkpoint_is_passed_over_while_the_log_before_it_is_whole_and_the_next_one_is_sound() {
    for earlier in [false, true] {
        let lake = Lake::in_memory();
        let mut ours = lake.committer(&["a"]).await;
        let grant = ShardGrant::new();
        for from in [0, 10] {
            ours.committer.flush(micro([batch("a", from, from + 10, &grant)])).await.unwrap();
            if earlier && from == 0 {
                let first = checkpoint(&lake, ROWS, 0).await.unwrap().unwrap();
                forget(&lake, ROWS, first).await;
            }
        }
        let files: BTreeSet<String> = paths(&file_lines(&lake, ROWS).await).into_iter().collect();
        let version = checkpoint(&lake, ROWS, 0).await.unwrap().unwrap();
        let path = checkpoint_path(&lake, version);
        let (whole, _) = lake.store.read(&path).await.unwrap().unwrap();
        for (damage, bytes) in damages(&whole) {
            lake.faults.inner().put(&path, bytes.into()).await.unwrap();
            assert_eq!(lake.open().await.view, ours.committer.view, "{damage}");
            // What a broken one said before it broke is shown again.
            let shown: BTreeSet<String> = paths(&file_lines(&lake, ROWS).await).into_iter().collect();
            assert_eq!(shown, files, "{damage}");
        }
        ours.committer.flush(micro([batch("a", 20, 30, &grant)])).await.unwrap();
        let next = checkpoint(&lake, ROWS, 0).await.unwrap().unwrap();
        assert_eq!(next, version + 1);
        for old in 0..next {
            drop(lake.faults.inner().delete(&entry_path(&lake.store, ROWS, old)).await);
        }
        assert_eq!(lake.open().await.view, ours.committer.view);
    }
}

#[tokio::test]
async fn a_broken_checkpoint_that_nothing_can_stand_in_for_is_named_with_what_to_do() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();
    let version = checkpoint(&lake, ROWS, 0).await.unwrap().unwrap();
    forget(&lake, ROWS, version).await;
    let path = checkpoint_path(&lake, version);
    let (whole, _) = lake.store.read(&path).await.unwrap().unwrap();
    for (damage, bytes) in damages(&whole) {
        lake.faults.inner().put(&path, bytes.into()).await.unwrap();
        let told = chain(&read_table(&lake.store, ROWS, "").await.unwrap_err());
        assert!(told.contains(path.as_ref()) && told.contains("restore that file"), "{damage}: {told}");
    }
    lake.faults.inner().put(&path, whole.into()).await.unwrap();
    assert_eq!(lake.open().await.view, ours.committer.view);
}

#[tokio::test]
async fn a_broken_checkpoint_never_stands_for_entries_that_cleanup_deletes() {
    let lake = Lake::in_memory();
    lake.committer(&["a"]).await;
    flushes(&lake, 0, 12).await;
    let options = MaintenanceOptions { compact_files: 1_000, ..OPTIONS };
    let mut maintainer = maintainer(&lake, options);
    well(&mut maintainer, true).await;
    let view = lake.open().await.view;
    let path = checkpoint_path(&lake, view.version);
    let (whole, _) = lake.store.read(&path).await.unwrap().unwrap();
    let entries = objects(&lake, "orders/_delta_log").await.len();
    lake.clock.pass_wall(Duration::from_secs(8 * 24 * 60 * 60));
    for (damage, bytes) in damages(&whole) {
        lake.faults.inner().put(&path, bytes.into()).await.unwrap();
        let events = round(&mut maintainer, true).await;
        let waits = |(table, event): &(String, Event)| {
            table == ROWS && matches!(event, Event::Waits { reason } if reason.contains(path.as_ref()))
        };
        assert!(events.iter().any(waits), "{damage}: {events:#?}");
        assert_eq!(objects(&lake, "orders/_delta_log").await.len(), entries, "{damage}");
        assert_eq!(lake.open().await.view, view);
    }
    lake.faults.inner().put(&path, whole.into()).await.unwrap();
    well(&mut maintainer, true).await;
    assert_eq!(objects(&lake, "orders/_delta_log").await.len(), 3);
}

#[tokio::test]
async fn a_pointer_to_a_checkpoint_that_is_not_there_is_mended() {
    let hints = [json!({ "version": 900, "size": 3 }).to_string(), json!({ "version": 1, "size": 3 }).to_string()];
    for hint in hints.into_iter().chain(["no JSON".to_owned()]) {
        for has_checkpoint in [true, false] {
            let lake = Lake::in_memory();
            lake.committer(&["a"]).await;
            flushes(&lake, 0, if has_checkpoint { 12 } else { 2 }).await;
            let mut maintainer = maintainer(&lake, OPTIONS);
            well(&mut maintainer, false).await;
            let path = hint_path(&lake.store, ROWS);
            let right = lake.store.read(&path).await.unwrap().map(|(bytes, _)| bytes);
            assert_eq!(right.is_some(), has_checkpoint);
            lake.faults.inner().put(&path, hint.clone().into()).await.unwrap();
            let view = lake.open().await.view;
            let events = well(&mut maintainer, false).await;
            assert!(events.iter().any(|(_, event)| matches!(event, Event::Repointed { .. })), "{hint}: {events:#?}");
            assert_eq!(lake.store.read(&path).await.unwrap().map(|(bytes, _)| bytes), right, "{hint}");
            assert_eq!(lake.open().await.view, view);
        }
    }
    // The next checkpoint mends it, too.
    let lake = Lake::in_memory();
    lake.committer(&["a"]).await;
    let ahead = json!({ "version": 900 }).to_string();
    lake.faults.inner().put(&hint_path(&lake.store, ROWS), ahead.into()).await.unwrap();
    let version = checkpoint(&lake, ROWS, 0).await.unwrap().unwrap();
    assert_eq!(checkpoint_hint(&lake.store, ROWS).await.unwrap(), Hint::At(version));
}
