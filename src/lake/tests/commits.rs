//! One commit, whatever happens on the way.

use std::time::Duration;

use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::faults::Fault;
use super::*;
use crate::checkpoint::ShardEntry;
use crate::lake::commit::{Outcome, Proposal};
use crate::lake::error::LakeError;
use crate::lake::ledger::read_ledgers;

fn entry(position: Position, seen_ms: Option<i64>) -> ShardEntry {
    let Position::After(number) = position else { panic!("no number") };
    ShardEntry { position: Some(number), seen_ms, watermark_ms: seen_ms, ..ShardEntry::NEW }
}

#[tokio::test]
async fn what_was_committed_is_what_the_next_process_reads() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a", "b"]).await;
    let (grant, version) = (ShardGrant::new(), lake.version(ROWS).await);
    ours.committer.flush(micro([batch("a", 0, 10, &grant), batch("b", 0, 5, &grant)])).await.unwrap();
    ours.committer.flush(micro([batch("a", 10, 12, &grant)])).await.unwrap();

    let view = lake.open().await.view;
    assert_eq!(view.version, version + 2);
    assert_eq!(view.shards[&ShardId::new("a")], entry(after(12), Some(12_000)));
    assert_eq!(view.shards[&ShardId::new("b")], entry(after(5), Some(5_000)));
    assert_eq!(ours.committer.view, view);
    assert_eq!(lake.records(ROWS).await, 9 + 4 + 1);

    let info = &lake.entry(ROWS, version + 1).await[0]["commitInfo"];
    assert_eq!(info["isBlindAppend"], true);
    assert_eq!(info["positions"]["b"]["through"], number(5).to_string());
    assert_eq!(info["staged"][REJECTS].as_array().unwrap().len(), 1);
    assert_eq!(info["staged"][PARTIALS].as_array().unwrap().len(), 1);
    let told = ours.windows.committed.lock().unwrap();
    assert_eq!(
        told.iter().map(|(ranges, version)| (ranges.len(), *version)).collect::<Vec<_>>(),
        [(2, version + 1), (1, version + 2)]
    );
}

#[tokio::test]
async fn a_proof_that_grew_old_while_the_entry_was_built_is_made_anew_before_anything_is_written() {
    for pass in [TestClock::pass_wall, TestClock::pass_boot] {
        let lake = Lake::in_memory();
        let mut opened = lake.open().await;
        let (version, puts) = (lake.version(ROWS).await, lake.faults.puts("orders/_delta_log"));
        let mut slept = false;
        let outcome = opened.rows.try_commit(|_| {
            if !std::mem::replace(&mut slept, true) {
                pass(&lake.clock, Duration::from_secs(2 * 60 * 60));
            }
            Ok::<_, ()>(Proposal { operation: "WRITE", ..Proposal::default() })
        });
        assert_eq!(outcome.await.unwrap(), Outcome::Landed(version + 1));
        assert_eq!(lake.faults.puts("orders/_delta_log"), puts + 1, "nothing was sent on the old one");
    }
}

#[tokio::test]
async fn a_position_of_any_length_comes_back_from_the_table_to_the_last_digit() {
    let lake = Lake::in_memory();
    let names: Vec<String> = (1..=72).map(|digits| format!("shard-{digits:02}")).collect();
    let mut ours = lake.committer(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let grant = ShardGrant::new();
    let numbers: Vec<SequenceNumber> = (1..=72)
        .map(|digits| {
            let text: String = (0..digits).map(|place| char::from(b'1' + (place * 7 % 9) as u8)).collect();
            SequenceNumber::parse(&text).unwrap()
        })
        .collect();
    let batches = names.iter().zip(&numbers).map(|(name, number)| {
        let mut batch = batch(name, 0, 1, &grant);
        batch.range.through = Position::After(*number);
        batch
    });
    ours.committer.flush(micro(batches)).await.unwrap();

    let ledgers = read_ledgers(&lake.store, ROWS).await.unwrap().unwrap();
    assert_eq!(ledgers.len(), 1);
    assert_eq!(ledgers[0].identity, identity());
    for (name, number) in names.iter().zip(&numbers) {
        assert_eq!(ledgers[0].view.shards[&ShardId::new(name)].position, Some(*number), "{name}");
    }
    assert_eq!(read_ledgers(&lake.store, "nowhere").await.unwrap(), None);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_lands_once() {
    let faults = [Fault::LoseAnswer, Fault::ConflictWithItself, Fault::Fail, Fault::ConflictWithNothing];
    for fault in faults {
        let lake = Lake::in_memory();
        let mut ours = lake.committer(&["a"]).await;
        let (grant, version) = (ShardGrant::new(), lake.version(ROWS).await);
        lake.faults.next_put("orders/_delta_log", fault);
        ours.committer.flush(micro([batch("a", 0, 10, &grant)])).await.unwrap();

        assert_eq!(lake.faults.waiting(), 0);
        assert_eq!(lake.version(ROWS).await, version + 1);
        assert_eq!(lake.records(ROWS).await, 9);
        assert!(!grant.is_revoked(), "nobody fenced us but ourselves");
        assert_eq!(ours.windows.committed.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn uploads_are_repeated_and_an_orphan_is_never_named() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    lake.faults.next_put(".parquet", Fault::Fail);
    lake.faults.next_put(".parquet", Fault::LoseAnswer);
    ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();
    assert_eq!(lake.faults.waiting(), 0);
    assert_eq!(lake.records(ROWS).await, 9);
    assert!(ours.metrics.render().contains("pintail_commit_failures_total{stream=\"orders\"} 2"));
}

#[tokio::test]
async fn of_two_writers_on_a_shard_one_is_fenced_and_keeps_its_other_shards() {
    let lake = Lake::in_memory();
    let mut winner = lake.committer(&["a", "b"]).await;
    let mut loser = Instance::of(lake.open().await);
    let (lost, kept) = (ShardGrant::new(), ShardGrant::new());

    winner.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();
    loser.committer.flush(micro([batch("a", 0, 8, &lost), batch("b", 0, 5, &kept)])).await.unwrap();

    assert!(lost.is_revoked() && !kept.is_revoked());
    assert_eq!(*loser.windows.discarded.lock().unwrap(), [ShardId::new("a")]);
    assert_eq!(lake.records(ROWS).await, 9 + 4);
    let view = lake.open().await.view;
    assert_eq!(view.shards[&ShardId::new("a")].resume(), after(10));
    assert_eq!(view.shards[&ShardId::new("b")].resume(), after(5));
    assert!(loser.metrics.render().contains("pintail_fenced_total{stream=\"orders\"} 1"));

    // What it staged for the others is of the shard that it kept.
    let info = &lake.entry(ROWS, view.version).await[0]["commitInfo"];
    for (table, rows) in [(REJECTS, 1), (PARTIALS, 1)] {
        let stats: Value = serde_json::from_str(info["staged"][table][0]["stats"].as_str().unwrap()).unwrap();
        assert_eq!((&stats["numRecords"], &stats["minValues"]["_shard_id"]), (&json!(rows), &json!("b")), "{table}");
    }
}

#[tokio::test]
async fn two_writers_of_different_shards_that_write_the_same_version_both_land() {
    let lake = Lake::in_memory();
    let mut one = lake.committer(&["a", "b"]).await;
    let mut other = Instance::of(lake.open().await);
    let (version, mine, theirs) = (lake.version(ROWS).await, ShardGrant::new(), ShardGrant::new());
    let ((arrived, at_put), (go, go_on)) = (oneshot::channel(), oneshot::channel());
    lake.faults.next_put("orders/_delta_log", Fault::Hold(arrived, go_on));
    let overtake = async {
        at_put.await.unwrap();
        other.committer.flush(micro([batch("b", 0, 5, &theirs)])).await.unwrap();
        go.send(()).unwrap();
    };
    let (flushed, ()) = both(one.committer.flush(micro([batch("a", 0, 10, &mine)])), overtake).await;
    flushed.unwrap();
    assert!(!mine.is_revoked() && !theirs.is_revoked());
    assert_eq!((lake.version(ROWS).await, lake.records(ROWS).await), (version + 2, 9 + 4));
    assert_eq!(lake.faults.puts(".parquet"), 2 * 3, "the loser's files are the ones that it had uploaded");
}

#[tokio::test]
async fn a_writer_whose_every_shard_was_taken_commits_nothing() {
    let lake = Lake::in_memory();
    let mut winner = lake.committer(&["a"]).await;
    let mut zombie = Instance::of(lake.open().await);
    winner.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();
    let (version, grant) = (lake.version(ROWS).await, ShardGrant::new());
    zombie.committer.flush(micro([batch("a", 0, 10, &grant)])).await.unwrap();
    assert!(grant.is_revoked());
    assert_eq!(lake.version(ROWS).await, version);
    assert!(zombie.windows.committed.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_foreign_append_is_followed_and_the_commit_rebased() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    let add = json!({ "add": { "path": "x.parquet", "partitionValues": { "_date": null }, "size": 1,
        "modificationTime": 1, "dataChange": true, "stats": "{\"numRecords\":3}" } });
    let theirs = lake.foreign(ROWS, &[json!({ "commitInfo": { "operation": "WRITE" } }), add]).await;
    ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();
    assert_eq!(lake.version(ROWS).await, theirs + 1);
    assert_eq!(lake.records(ROWS).await, 9 + 3);
}

#[tokio::test]
async fn deletes_and_rewrites_of_others_are_followed_and_move_no_position() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    let grant = ShardGrant::new();
    ours.committer.flush(micro([batch("a", 0, 10, &grant)])).await.unwrap();
    for (operation, data_change) in [("DELETE", true), ("OPTIMIZE", false)] {
        let theirs = [
            json!({ "commitInfo": { "operation": operation, "engineInfo": "Somebody/9" } }),
            json!({ "remove": { "path": "old.parquet", "deletionTimestamp": 1, "dataChange": data_change } }),
            json!({ "add": { "path": format!("{operation}.parquet"), "partitionValues": { "_date": null }, "size": 1,
                "modificationTime": 1, "dataChange": data_change, "stats": "{\"numRecords\":0}" } }),
        ];
        let version = lake.foreign(ROWS, &theirs).await;
        let Position::After(at) = ours.committer.view.shards[&ShardId::new("a")].resume() else { panic!("no number") };
        let next = if at == number(10) { (10, 20) } else { (20, 30) };
        ours.committer.flush(micro([batch("a", next.0, next.1, &grant)])).await.unwrap();
        assert_eq!(lake.version(ROWS).await, version + 1);
    }
    assert_eq!(lake.records(ROWS).await, 3 * 9, "what was deleted is not read again");
    assert!(!grant.is_revoked());
}

#[tokio::test]
async fn an_action_that_we_do_not_know_stops_the_stream_and_is_named() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    let theirs = [
        json!({ "commitInfo": { "engineInfo": "Somebody/9" } }),
        json!({ "domainMetadata": { "domain": "d", "configuration": "", "removed": false } }),
    ];
    let version = lake.foreign(ROWS, &theirs).await;
    let board = ours.board.clone();
    let flush = ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())]));
    let what = trouble_during(&board, "lake", flush).await;
    assert!(what.contains("domainMetadata") && what.contains("Somebody/9"), "{what}");
    assert_eq!(lake.version(ROWS).await, version);
}

async fn with_changed_metadata(lake: &Lake, change: impl FnOnce(&mut Value)) -> u64 {
    let mut metadata = read_table(&lake.store, ROWS, "").await.unwrap().unwrap().metadata.raw;
    change(&mut metadata);
    lake.foreign(ROWS, &[json!({ "metaData": metadata })]).await
}

async fn with_changed_schema(lake: &Lake, change: impl Fn(&mut Vec<Value>)) -> u64 {
    with_changed_metadata(lake, |metadata| {
        let mut schema: Value = serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
        change(schema["fields"].as_array_mut().unwrap());
        metadata["schemaString"] = json!(schema.to_string());
    })
    .await
}

async fn with_a_constraint(lake: &Lake) -> u64 {
    with_changed_metadata(lake, |metadata| metadata["configuration"]["delta.constraints.positive"] = json!("id > 0"))
        .await
}

#[tokio::test]
async fn a_constraint_or_a_feature_that_somebody_added_meanwhile_is_refused_and_nothing_is_written() {
    for feature in [false, true] {
        let lake = Lake::in_memory();
        let mut ours = lake.committer(&["a"]).await;
        let (version, word) = match feature {
            false => (with_a_constraint(&lake).await, "delta.constraints.positive"),
            true => {
                let protocol =
                    json!({ "minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["rowTracking"] });
                (lake.foreign(ROWS, &[json!({ "protocol": protocol })]).await, "rowTracking")
            }
        };
        let board = ours.board.clone();
        let flush = ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())]));
        let what = trouble_during(&board, "lake", flush).await;
        assert!(what.contains(word), "{what}");
        assert!(!board.is_ready());
        assert_eq!((lake.version(ROWS).await, lake.records(ROWS).await), (version, 0));
    }
}

#[tokio::test]
async fn a_table_that_was_refused_is_written_again_once_somebody_has_mended_it() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    with_a_constraint(&lake).await;
    let board = ours.board.clone();
    let refused = ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())]));
    trouble_during(&board, "lake", refused).await;
    let mended = with_changed_metadata(&lake, |metadata| {
        metadata["configuration"].as_object_mut().unwrap().remove("delta.constraints.positive");
    })
    .await;
    ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();
    assert_eq!((lake.version(ROWS).await, lake.records(ROWS).await), (mended + 1, 9));
    assert!(board.is_ready());
}

#[tokio::test]
async fn a_nullable_column_that_somebody_added_meanwhile_is_no_obstacle() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    let extra = json!({ "name": "extra", "type": "string", "nullable": true, "metadata": {} });
    let theirs = with_changed_schema(&lake, |fields| fields.insert(0, extra.clone())).await;
    ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();
    assert_eq!(lake.version(ROWS).await, theirs + 1);
}

#[tokio::test]
async fn a_type_that_somebody_changed_meanwhile_is_refused_with_both_printed() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    let version = with_changed_schema(&lake, |fields| fields[0]["type"] = json!("string")).await;
    let board = ours.board.clone();
    let flush = ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())]));
    let what = trouble_during(&board, "lake", flush).await;
    assert!(what.contains("\"id\" is \"string\" in the table and \"long\" in the contract"), "{what}");
    assert_eq!(lake.version(ROWS).await, version);
}

/// Deletes the lake and makes its tables again, with as many versions as `registrations` are made one by one.
async fn made_again(lake: &Lake, registrations: &[&str]) {
    let objects: Vec<_> = lake.faults.inner().list(None).try_collect().await.unwrap();
    for object in objects {
        lake.faults.inner().delete(&object.location).await.unwrap();
    }
    let mut other = Instance::of(lake.open().await);
    for shard in registrations {
        other.committer.register(&[register(shard)]).await.unwrap();
    }
}

#[tokio::test]
async fn a_table_that_was_made_again_under_us_is_refused_whatever_its_length() {
    for (registrations, word) in
        [(&[][..], "its head is version 0"), (&["a"], "replaced"), (&["a", "b", "c"], "replaced")]
    {
        let lake = Lake::in_memory();
        let mut ours = lake.committer(&["a"]).await;
        made_again(&lake, registrations).await;
        let (version, board) = (lake.version(ROWS).await, ours.board.clone());
        let flush = ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())]));
        let what = trouble_during(&board, "lake", flush).await;
        assert!(what.contains(word), "{what}");
        assert_eq!(lake.version(ROWS).await, version);
    }
}

#[tokio::test]
async fn a_table_that_vanished_is_refused() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    let log: Vec<_> = lake.faults.inner().list(None).try_collect().await.unwrap();
    for object in log.iter().filter(|object| object.location.as_ref().contains("orders/_delta_log")) {
        lake.faults.inner().delete(&object.location).await.unwrap();
    }
    let board = ours.board.clone();
    let flush = ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())]));
    let what = trouble_during(&board, "lake", flush).await;
    assert!(what.contains("it has vanished"), "{what}");
    assert_eq!(read_table(&lake.store, ROWS, "").await.unwrap(), None);
}

#[tokio::test]
async fn an_answer_that_came_too_late_is_not_believed_but_looked_for() {
    for pass in [TestClock::pass_wall, TestClock::pass_boot] {
        let lake = Lake::in_memory();
        let mut ours = lake.committer(&["a"]).await;
        let (version, grant) = (lake.version(ROWS).await, ShardGrant::new());
        let ((arrived, at_put), (go, go_on)) = (oneshot::channel(), oneshot::channel());
        lake.faults.next_put("orders/_delta_log", Fault::Hold(arrived, go_on));
        let sleep = async {
            at_put.await.unwrap();
            pass(&lake.clock, Duration::from_secs(2 * 60 * 60));
            go.send(()).unwrap();
        };
        let flush = ours.committer.flush(micro([batch("a", 0, 10, &grant)]));
        let (flushed, ()) = both(flush, sleep).await;
        flushed.unwrap();
        assert_eq!(lake.version(ROWS).await, version + 1);
        assert_eq!(lake.records(ROWS).await, 9);
        assert!(!grant.is_revoked());
    }
}

#[tokio::test]
async fn of_two_first_commits_the_loser_takes_the_winner_s_start() {
    let lake = Lake::in_memory();
    let mut winner = Instance::of(lake.open().await);
    let mut loser = Instance::of(lake.open().await);
    let at = |start_ms| Registration { shard: ShardId::new("a"), start_ms, ended: false };
    winner.committer.register(&[at(17)]).await.unwrap();
    loser.committer.register(&[at(99), register("b")]).await.unwrap();
    for view in [&loser.committer.view, &lake.open().await.view] {
        assert_eq!(view.shards[&ShardId::new("a")].resume(), Position::At(17));
        assert_eq!(view.shards[&ShardId::new("b")].resume(), Position::Beginning);
    }
    let version = lake.version(ROWS).await;
    loser.committer.register(&[at(99)]).await.unwrap();
    assert_eq!(lake.version(ROWS).await, version, "nothing to say, nothing written");
}

#[tokio::test]
async fn the_commit_that_ends_a_shard_registers_its_children() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    let (last, told) = ending(batch("a", 0, 10, &ShardGrant::new()), &["b", "c"]);
    let version = lake.version(ROWS).await;
    ours.committer.flush(micro([last])).await.unwrap();
    told.await.unwrap();
    let view = lake.open().await.view;
    assert_eq!(view.version, version + 1);
    assert_eq!(view.shards[&ShardId::new("a")].resume(), Position::End);
    assert_eq!(view.shards[&ShardId::new("a")].position, Some(number(10)));
    for child in ["b", "c"] {
        assert_eq!(view.shards[&ShardId::new(child)].resume(), Position::Beginning);
    }
}

#[tokio::test]
async fn a_child_is_complete_up_to_where_its_parent_was() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a", "b", "known"]).await;
    let (last, _told) = ending(batch("a", 0, 10, &ShardGrant::new()), &["told", "known"]);
    ours.committer.flush(micro([last, batch("b", 0, 20, &ShardGrant::new())])).await.unwrap();
    // The end may come in a batch of its own, which has seen nothing.
    let (end, _told) = ending(quiet("b", 20, 0, &ShardGrant::new()), &["found"]);
    ours.committer.flush(micro([CleanBatch { seen_ms: None, ..end }])).await.unwrap();
    let view = lake.open().await.view;
    let seen = |shard| view.shards[&ShardId::new(shard)].seen_ms;
    assert_eq!([seen("told"), seen("found"), seen("known")], [Some(10_000), Some(20_000), Some(10_000)]);
}

#[tokio::test]
async fn a_lost_shard_is_ended_only_where_the_caller_saw_it() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    let a = ShardId::new("a");
    ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();
    ours.committer.end_lost(&a, after(9), &[ShardId::new("d")]).await.unwrap();
    assert_eq!(ours.committer.view.shards[&a].resume(), after(10), "it has moved since");
    ours.committer.end_lost(&a, after(10), &[ShardId::new("d")]).await.unwrap();
    assert_eq!(ours.committer.view.shards[&a].resume(), Position::End);
    let descendant = ours.committer.view.shards[&ShardId::new("d")];
    assert_eq!((descendant.resume(), descendant.seen_ms), (Position::Beginning, Some(10_000)));
}

#[tokio::test]
async fn days_beyond_the_limit_share_the_null_partition_and_are_counted() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    let mut centuries = batch("a", 0, 101, &ShardGrant::new());
    centuries.rows = rows("a", 0..100, |id| DAY - (id as i32 % 40));
    ours.committer.flush(micro([centuries])).await.unwrap();
    let adds: Vec<Value> = lake
        .entry(ROWS, lake.version(ROWS).await)
        .await
        .into_iter()
        .filter_map(|action| action.get("add").cloned())
        .collect();
    assert_eq!(adds.len(), 33);
    let null: Vec<_> = adds.iter().filter(|add| add["partitionValues"]["_date"].is_null()).collect();
    assert_eq!(null.len(), 1);
    assert!(null[0]["path"].as_str().unwrap().starts_with("_date=__HIVE_DEFAULT_PARTITION__/part-"));
    assert!(adds.iter().any(|add| add["partitionValues"]["_date"] == "2026-11-22"));
    assert_eq!(lake.records(ROWS).await, 100);
    assert!(ours.metrics.render().contains("pintail_rows_in_null_partition_total{stream=\"orders\"} 16"));
}

#[tokio::test]
async fn event_times_over_thousands_of_days_make_files_within_the_limit_and_the_rest_is_counted() {
    const COMMITS: u64 = 8;
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    *ours.windows.more_days.lock().unwrap() = 500;
    let (grant, mut in_null) = (ShardGrant::new(), 0);
    for commit in 0..COMMITS {
        let mut scattered = batch("a", commit * 400, (commit + 1) * 400, &grant);
        scattered.rows = rows("a", 0..399, |id| DAY - ((id * 7_919 + commit as i64 * 104_729) % 9_973) as i32);
        ours.committer.flush(micro([scattered])).await.unwrap();
        let actions = lake.entry(ROWS, lake.version(ROWS).await).await;
        let of_rows: Vec<Value> = actions.iter().filter_map(|action| action.get("add").cloned()).collect();
        let of_partials = actions[0]["commitInfo"]["staged"][PARTIALS].as_array().unwrap().clone();
        for adds in [of_rows, of_partials] {
            assert_eq!(adds.len(), 33, "32 days and the null partition");
            let null = adds.iter().find(|add| add["partitionValues"]["_date"].is_null()).unwrap();
            let stats: Value = serde_json::from_str(null["stats"].as_str().unwrap()).unwrap();
            in_null += stats["numRecords"].as_u64().unwrap();
        }
    }
    assert_eq!(lake.records(ROWS).await, COMMITS * 399);
    assert_eq!(in_null, COMMITS * (399 - 32 + 501 - 32));
    let counted = format!("pintail_rows_in_null_partition_total{{stream=\"orders\"}} {in_null}\n");
    assert!(ours.metrics.render().contains(&counted), "{counted}");
}

#[tokio::test]
async fn a_torn_ledger_is_an_error_and_never_a_position() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    let limb = json!({ "txn": { "appId": format!("{}a/2", identity().prefix()), "version": 5 } });
    lake.foreign(ROWS, &[limb]).await;
    let torn = ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await;
    assert!(matches!(torn, Err(LakeError::Log { .. })), "{torn:?}");
}
