//! What is deleted, and above all what is not.

use std::time::{Duration, UNIX_EPOCH};

use object_store::path::Path;

use super::*;
use crate::lake::store::{LakeConfig, LakeStore};
use crate::lake::stream::StreamLake;
use crate::lake::tests::faults::Fault;
use crate::lake::tests::{TestClock, identity, register};

const DAYS: Duration = Duration::from_secs(24 * 60 * 60);

fn cleaned(events: &[(String, Event)], table: &str) -> Option<(u64, u64)> {
    events.iter().find_map(|(name, event)| {
        let Event::Cleaned { objects, below } = event else { return None };
        (name == table).then_some((*objects, *below))
    })
}

fn vacuumed(events: &[(String, Event)], table: &str) -> u64 {
    let files = |(name, event): &(String, Event)| {
        let Event::Vacuumed { files, .. } = event else { return None };
        (name == table).then_some(*files)
    };
    events.iter().find_map(files).unwrap_or(0)
}

#[tokio::test]
async fn an_old_log_shrinks_to_the_checkpoint_and_positions_and_rows_are_what_they_were() {
    let lake = Lake::in_memory();
    lake.committer(&["a"]).await;
    flushes(&lake, 0, 12).await;
    let mut maintainer = maintainer(&lake, OPTIONS);
    assert_eq!(cleaned(&well(&mut maintainer, false).await, ROWS), None, "nothing is old");
    let (view, ids) = (lake.open().await.view, numbers(&lake, ROWS, "id").await);
    // An old crash left these.
    let checkpoint = view.version;
    for name in [
        format!("{:020}.crc", 3),
        format!("{:020}.{:020}.compacted.json", 2, 4),
        format!("{:020}.checkpoint.0000000001.0000000002.parquet", 5),
    ] {
        let path = lake.store.path(ROWS, &format!("_delta_log/{name}"));
        lake.faults.put(&path, "x".into()).await.unwrap();
    }
    lake.clock.pass_wall(8 * DAYS);
    let events = well(&mut maintainer, true).await;
    assert_eq!(cleaned(&events, ROWS), Some((checkpoint + 3, checkpoint)));
    assert_eq!(objects(&lake, "orders/_delta_log").await.len(), 3, "the entry of the head, its checkpoint, the hint");
    assert_eq!(lake.open().await.view, view);
    assert_eq!(numbers(&lake, ROWS, "id").await, ids);
    flushes(&lake, 120, 1).await;
    assert_eq!(numbers(&lake, ROWS, "id").await.len(), ids.len() + 9);
}

#[tokio::test]
async fn what_a_partials_table_says_of_time_outlives_compaction_checkpoints_and_its_log() {
    let lake = Lake::in_memory();
    lake.committer(&["a"]).await;
    flushes(&lake, 0, 12).await;
    let txns = async || read_table(&lake.store, PARTIALS, "").await.unwrap().unwrap().txns;
    let said = txns().await;
    assert_eq!((said[&identity().watermark_id()], said[&identity().since_id()]), (120_000, 1));
    flushes(&lake, 120, 1).await;
    let (said, mut maintainer) = (txns().await, maintainer(&lake, OPTIONS));
    well(&mut maintainer, true).await;
    lake.clock.pass_wall(40 * DAYS);
    let events = well(&mut maintainer, true).await;
    assert!(cleaned(&events, PARTIALS).is_some(), "{events:#?}");
    assert_eq!(txns().await, said);
}

#[tokio::test]
async fn entries_that_a_table_has_still_to_apply_are_kept_and_so_are_all_if_nobody_can_say() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    flushes(&lake, 0, 3).await;
    let mut maintainer = maintainer(&lake, OPTIONS);
    well(&mut maintainer, true).await;
    let first = lake.version(ROWS).await;
    ours.committer.refresh().await.unwrap();
    for from in [30, 40, 50] {
        ours.committer.flush(micro([batch("a", from, from + 10, &ShardGrant::new())])).await.unwrap();
    }
    well(&mut maintainer, true).await;
    lake.clock.pass_wall(8 * DAYS);
    let events = well(&mut maintainer, true).await;
    assert_eq!(cleaned(&events, ROWS).unwrap().1, first, "the checkpoint before what the followers need");
    assert!(events.iter().any(|(table, event)| table == ROWS && matches!(event, Event::Waits { .. })));
    follow_all(ours).await;
    assert_eq!(numbers(&lake, REJECTS, "_sub_sequence_number").await.len(), 6, "nothing that was staged is lost");

    // A follower that is gone: nobody knows what it needs.
    let log = objects(&lake, "orders/_delta_log").await;
    let follower: Vec<String> = objects(&lake, "orders_rejects/_delta_log").await;
    for path in follower {
        delete(&lake, &Path::from(path)).await;
    }
    let events = round(&mut maintainer, true).await;
    assert_eq!(cleaned(&events, ROWS), None);
    assert_eq!(objects(&lake, "orders/_delta_log").await, log);
}

#[tokio::test]
async fn a_mark_of_another_pipeline_that_holds_up_the_log_is_named_until_it_is_handed_over() {
    let lake = Lake::in_memory();
    lake.committer(&["a"]).await;
    let stale = "retired/orders@1600000000/applied";
    lake.foreign(REJECTS, &[json!({ "txn": { "appId": stale, "version": 1 } })]).await;
    flushes(&lake, 0, 12).await;
    let mut maintainer = maintainer(&lake, OPTIONS);
    well(&mut maintainer, true).await;
    lake.clock.pass_wall(8 * DAYS);
    let events = well(&mut maintainer, true).await;
    let told = |table: &str, words: &str| {
        events.iter().any(|(name, event)| {
            let Event::Waits { reason } = event else { return false };
            name == table && [words, stale, "orders_rejects", "README"].iter().all(|word| reason.contains(word))
        })
    };
    assert!(told(ROWS, "log entries below") && told(REJECTS, "vacuum has read"), "{events:#?}");
    assert!(!events.iter().any(|(name, event)| name == PARTIALS && matches!(event, Event::Waits { .. })));
    assert_eq!(cleaned(&events, ROWS), None);

    let handed_over = json!({ "txn": { "appId": stale, "version": i64::MAX } });
    lake.foreign(REJECTS, &[handed_over]).await;
    let events = well(&mut maintainer, true).await;
    assert!(cleaned(&events, ROWS).is_some(), "{events:#?}");
    assert!(!events.iter().any(|(_, event)| matches!(event, Event::Waits { .. })), "{events:#?}");
}

#[tokio::test]
async fn versions_younger_than_the_retention_stay_readable() {
    let lake = Lake::in_memory();
    lake.committer(&["a"]).await;
    flushes(&lake, 0, 3).await;
    // Nothing but a checkpoint that is newer than what is old: what lies between would become unreadable.
    lake.clock.pass_wall(8 * DAYS);
    flushes(&lake, 30, 1).await;
    let young = lake.version(ROWS).await;
    let mut maintainer = maintainer(&lake, MaintenanceOptions { compact_files: 1_000, ..OPTIONS });
    flushes(&lake, 40, 1).await;
    let events = well(&mut maintainer, true).await;
    assert_eq!(cleaned(&events, ROWS), None, "{young}");
    assert!(objects(&lake, "orders/_delta_log").await.len() as u64 >= young);
}

#[tokio::test]
async fn a_cleanup_that_is_cut_off_in_the_middle_leaves_a_table_that_opens() {
    for left in [[0, 1, 2, 3], [1, 3, 5, 7], [9, 10, 11, 12]] {
        let lake = Lake::in_memory();
        lake.committer(&["a"]).await;
        flushes(&lake, 0, 12).await;
        well(&mut maintainer(&lake, MaintenanceOptions { compact_files: 1_000, ..OPTIONS }), true).await;
        let view = lake.open().await.view;
        for version in (0..view.version).filter(|version| !left.contains(version)) {
            delete(&lake, &crate::lake::log::entry_path(&lake.store, ROWS, version)).await;
        }
        for hint in [true, false] {
            if !hint {
                delete(&lake, &lake.store.path(ROWS, "_delta_log/_last_checkpoint")).await;
            }
            assert_eq!(lake.open().await.view, view, "left {left:?}, hint {hint}");
        }
        lake.clock.pass_wall(8 * DAYS);
        let events = well(&mut maintainer(&lake, OPTIONS), true).await;
        assert!(cleaned(&events, ROWS).is_some());
        assert_eq!(objects(&lake, "orders/_delta_log").await.iter().filter(|path| path.ends_with(".json")).count(), 2);
    }
}

#[tokio::test]
async fn files_that_were_replaced_go_when_the_table_says_so_and_no_earlier() {
    let lake = Lake::in_memory();
    lake.committer(&["a"]).await;
    for round in 0..4 {
        flushes(&lake, round * 10, 1).await;
    }
    let mut maintainer = maintainer(&lake, OPTIONS);
    well(&mut maintainer, true).await;
    let (ids, partials) = (numbers(&lake, ROWS, "id").await, numbers(&lake, PARTIALS, "records").await);
    lake.clock.pass_wall(DAYS + Duration::from_secs(60));
    let events = well(&mut maintainer, false).await;
    assert_eq!((vacuumed(&events, ROWS), vacuumed(&events, REJECTS), vacuumed(&events, PARTIALS)), (0, 0, 4));
    lake.clock.pass_wall(Duration::from_secs(60));
    assert_eq!(vacuumed(&well(&mut maintainer, false).await, ROWS), 0, "once a day");
    lake.clock.pass_wall(6 * DAYS);
    let events = well(&mut maintainer, false).await;
    assert_eq!((vacuumed(&events, ROWS), vacuumed(&events, REJECTS), vacuumed(&events, PARTIALS)), (4, 4, 0));
    assert_eq!((numbers(&lake, ROWS, "id").await, numbers(&lake, PARTIALS, "records").await), (ids, partials));
    assert_eq!(objects(&lake, "orders/_date=").await.len(), 1);
}

#[tokio::test]
async fn uploads_that_nobody_names_go_after_the_retention_and_hidden_files_and_other_tables_never() {
    let lake = Lake::in_memory();
    lake.committer(&["a"]).await;
    let mut maintainer = maintainer(&lake, OPTIONS);
    let put = async |path: &str| lake.faults.put(&Path::from(path), "x".into()).await.unwrap();
    for path in [
        "orders/_date=2026-11-22/part-x.parquet",
        "orders/_change_data/c.parquet",
        "orders/.tmp/x",
        "orders2/_date=1/x",
    ] {
        put(&format!("lake/{path}")).await;
    }
    lake.clock.pass_wall(6 * DAYS);
    assert_eq!(vacuumed(&well(&mut maintainer, true).await, ROWS), 0);
    lake.clock.pass_wall(DAYS + Duration::from_secs(60));
    assert_eq!(vacuumed(&well(&mut maintainer, true).await, ROWS), 1);
    assert_eq!(objects(&lake, "orders/_change_data").await.len() + objects(&lake, "orders/.tmp").await.len(), 2);
    assert_eq!(objects(&lake, "orders2").await.len(), 1);
}

#[tokio::test]
async fn a_write_into_a_folder_that_a_crash_cut_off_a_day_ago_is_deleted_and_one_under_way_is_not() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::default());
    let config = LakeConfig { uri: folder.path().display().to_string(), ..LakeConfig::default() };
    let store = LakeStore::open(&config).await.unwrap();
    StreamLake::open_tables(store.clone(), identity(), tables(), clock.moments()).await.unwrap();
    let mut maintainer = Maintainer::new(store, OPTIONS);
    maintainer.clock = clock.moments();
    maintainer.add_tables("orders", tables());
    let now = UNIX_EPOCH + Duration::from_millis(clock.moments().now().wall_ms as u64);
    for (name, age) in [("old.json#1", DAYS + Duration::from_secs(1)), ("young.json#1", DAYS)] {
        let path = folder.path().join("orders/_delta_log").join(name);
        std::fs::write(&path, "x").unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(now - age).unwrap();
    }
    let events = well(&mut maintainer, false).await;
    assert_eq!((vacuumed(&events, ROWS), vacuumed(&events, REJECTS)), (1, 0));
    assert!(folder.path().join("orders/_delta_log/young.json#1").exists());
}

#[tokio::test]
async fn a_file_that_waits_for_a_table_that_is_behind_is_never_deleted() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();
    lake.clock.pass_wall(60 * DAYS);
    let mut maintainer = maintainer(&lake, OPTIONS);
    let events = well(&mut maintainer, true).await;
    assert_eq!((vacuumed(&events, REJECTS), vacuumed(&events, PARTIALS)), (0, 0));
    follow_all(ours).await;
    assert_eq!(numbers(&lake, PARTIALS, "records").await, [1]);
    assert_eq!(vacuumed(&well(&mut maintainer, true).await, PARTIALS), 0, "and now the table names it");

    // A rows table that cannot be read may name anything.
    let orphan = Path::from("lake/orders_by_kind_partials/_date=2026-11-22/part-x.parquet");
    lake.faults.put(&orphan, "x".into()).await.unwrap();
    for path in objects(&lake, "orders/_delta_log").await {
        delete(&lake, &Path::from(path)).await;
    }
    lake.clock.pass_wall(60 * DAYS);
    let events = round(&mut maintainer, true).await;
    assert_eq!(vacuumed(&events, PARTIALS), 0);
    assert!(events.iter().any(|(table, event)| table == PARTIALS && matches!(event, Event::Failed { .. })));
    assert_eq!(objects(&lake, "part-x").await.len(), 1);
}

#[tokio::test]
async fn a_path_that_the_log_escapes_is_the_file_that_the_store_lists() {
    let lake = Lake::in_memory();
    lake.open().await;
    let path = "_date=2026-11-22/part%20a%2525.parquet";
    let add = json!({ "add": { "path": path, "partitionValues": { "_date": "2026-11-22" }, "size": 1,
        "modificationTime": 1, "dataChange": true } });
    lake.foreign(ROWS, &[add]).await;
    let stored = lake.store.path(ROWS, "_date=2026-11-22").join("part a%25.parquet");
    lake.faults.put(&stored, "x".into()).await.unwrap();
    lake.clock.pass_wall(60 * DAYS);
    assert_eq!(vacuumed(&well(&mut maintainer(&lake, OPTIONS), true).await, ROWS), 0);
    assert_eq!(objects(&lake, "orders/_date=").await.len(), 1);
}

#[tokio::test]
async fn files_that_waited_too_long_for_their_commit_are_uploaded_anew() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    let clock = lake.clock.clone();
    // The commit fails, and when it is tried again vacuum might have taken the files.
    lake.faults.next_put("orders/_delta_log", Fault::Fail);
    lake.faults.on_fault(move || clock.pass_wall(Duration::from_secs(7 * 60 * 60)));
    ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();
    assert_eq!(lake.faults.puts("orders/_date="), 2);
    assert_eq!(numbers(&lake, ROWS, "id").await.len(), 9);
    let named = active(&lake, ROWS).await.into_keys().next().unwrap();
    assert_eq!(objects(&lake, "orders/_date=").await.len(), 2);
    let version = lake.version(ROWS).await;
    let info = &lake.entry(ROWS, version).await[0]["commitInfo"];
    assert!(lake.faults.last_put("orders/_date=").unwrap().ends_with(&named));
    assert_eq!(info["ledger"], identity().prefix());
    ours.committer.register(&[register("b")]).await.unwrap();
}
