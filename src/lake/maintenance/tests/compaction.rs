//! Compaction loses no row, whoever else is at work on the table.

use std::sync::Arc;
use std::time::Duration;

use deltalake::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use deltalake::parquet::arrow::ArrowWriter;
use object_store::PutPayload;
use tokio::sync::oneshot;

use super::*;
use crate::lake::commit::TableLog;
use crate::lake::maintenance::Step;
use crate::lake::maintenance::choose::Candidates;
use crate::lake::maintenance::compact::Compactor;
use crate::lake::maintenance::small_files::LeftOut;
use crate::lake::stream::{StreamLake, TableSet};
use crate::lake::table::TableSpec;
use crate::lake::tests::faults::Fault;
use crate::lake::tests::{register, rows_schema};

/// (files before, files after) of each compaction of a table.
pub(super) fn compactions(events: &[(String, Event)], table: &str) -> Vec<(u64, u64)> {
    let files = |(name, event): &(String, Event)| {
        let Event::Compacted { files_in, files_out, .. } = event else { return None };
        (name == table).then_some((*files_in, *files_out))
    };
    events.iter().filter_map(files).collect()
}

#[tokio::test]
async fn small_files_of_every_table_become_one_with_every_row_and_the_positions_stay() {
    let lake = Lake::in_memory();
    let before = lake.committer(&["a"]).await.committer.view.clone();
    flushes(&lake, 0, 4).await;
    let ids = numbers(&lake, ROWS, "id").await;
    assert_eq!((before.shards.len(), ids.len()), (1, 36));
    let view = lake.open().await.view;

    let events = well(&mut maintainer(&lake, OPTIONS), false).await;
    for table in [ROWS, REJECTS, PARTIALS] {
        assert_eq!(compactions(&events, table), [(4, 1)], "{table}");
    }
    assert_eq!(numbers(&lake, ROWS, "id").await, ids);
    let after = lake.open().await.view;
    assert_eq!((&after.shards, after.version), (&view.shards, view.version + 1));

    let entry = lake.entry(ROWS, after.version).await;
    assert_eq!(entry[0]["commitInfo"]["operation"], "OPTIMIZE");
    assert_eq!(entry[0]["commitInfo"]["isBlindAppend"], false);
    let metadata = read_table(&lake.store, ROWS, "").await.unwrap().unwrap().metadata;
    assert_eq!(entry[1]["metaData"]["id"], metadata.id.as_str());
    assert!(entry[2..].iter().all(|action| action.get("remove").or(action.get("add")).unwrap()["dataChange"] == false));
    let add = &entry.last().unwrap()["add"];
    let path = add["path"].as_str().unwrap();
    assert!(path.starts_with("_date=2026-11-22/compact-") && path.ends_with(".zstd.parquet"), "{path}");
    let stats: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
    assert_eq!((&stats["minValues"]["id"], &stats["maxValues"]["id"]), (&json!(1), &json!(39)));
    assert_eq!(stats["nullCount"]["name"], 4);
    assert!(compactions(&well(&mut maintainer(&lake, OPTIONS), true).await, ROWS).is_empty(), "one file is not many");
}

#[tokio::test]
async fn followers_are_compacted_too_and_their_partials_come_back_each_once() {
    let lake = Lake::in_memory();
    lake.committer(&["a"]).await;
    for round in 0..4 {
        flushes(&lake, round * 10, 1).await;
    }
    // A start that knew the tables before: what it finds staged has been applied and compacted since.
    let early = Instance::of(lake.open().await);
    drop(early);
    let mut ours = Instance::of(lake.open().await);
    ours.committer.flush(micro([batch("a", 40, 50, &ShardGrant::new())])).await.unwrap();
    let early = lake.open().await;
    follow_all(ours).await;
    let events = well(&mut maintainer(&lake, OPTIONS), false).await;
    assert_eq!(compactions(&events, PARTIALS), [(5, 1)]);
    assert_eq!(numbers(&lake, PARTIALS, "records").await, [1; 5]);
    for opened in [early, lake.open().await] {
        assert_eq!(rows_of(&opened.recent_partials(0, 0, 9).await.unwrap()).await, 5);
    }
}

#[tokio::test]
async fn the_null_partition_and_files_from_before_a_column_was_added_are_compacted_with_nulls() {
    let lake = Lake::in_memory();
    let narrow = {
        let fields: Vec<_> = rows_schema().fields().iter().filter(|field| field.name() != "id").cloned().collect();
        let schema = Arc::new(deltalake::arrow::datatypes::Schema::new(fields));
        TableSet { rows: TableSet::ledger(&crate::lake::tests::identity(), ROWS.to_owned(), &schema), ..tables() }
    };
    let opened =
        StreamLake::open_tables(lake.store.clone(), crate::lake::tests::identity(), narrow, lake.clock.moments());
    let mut ours = Instance::of(opened.await.unwrap());
    ours.committer.register(&[register("a")]).await.unwrap();
    let mut old = batch("a", 0, 10, &ShardGrant::new());
    old.rows = rows("a", 1..10, |_| 5_000_000);
    old.rows.remove_column(0);
    ours.committer.flush(micro([old])).await.unwrap();

    let mut ours = Instance::of(lake.open().await);
    for from in [10, 20] {
        let mut new = batch("a", from, from + 10, &ShardGrant::new());
        new.rows = rows("a", from as i64 + 1..from as i64 + 10, |_| 5_000_000);
        ours.committer.flush(micro([new])).await.unwrap();
    }
    let events = well(&mut maintainer(&lake, OPTIONS), false).await;
    assert_eq!(compactions(&events, ROWS), [(3, 1)]);
    let files = active(&lake, ROWS).await;
    let (path, add) = files.iter().next().unwrap();
    assert!(path.starts_with("_date=__HIVE_DEFAULT_PARTITION__/"), "{path}");
    assert_eq!(add["partitionValues"], json!({ "_date": null }));
    let ids: Vec<i64> = [-1; 9].into_iter().chain(11..20).chain(21..30).collect();
    assert_eq!(numbers(&lake, ROWS, "id").await, ids);
}

#[tokio::test]
async fn the_stream_goes_on_beside_a_compaction_and_nobody_is_fenced() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    flushes(&lake, 0, 3).await;
    let ((arrived, at_put), (go, go_on)) = (oneshot::channel(), oneshot::channel());
    let mut maintainer = maintainer(&lake, OPTIONS);
    let grant = ShardGrant::new();
    ours.committer.refresh().await.unwrap();
    // The compaction's commit is held while the stream commits.
    lake.faults.next_put("orders/_delta_log", Fault::Hold(arrived, go_on));
    let stream = async {
        at_put.await.unwrap();
        for from in [30, 40] {
            ours.committer.flush(micro([batch("a", from, from + 10, &grant)])).await.unwrap();
        }
        go.send(()).unwrap();
    };
    let (events, ()) = both(well(&mut maintainer, false), stream).await;
    assert_eq!(compactions(&events, ROWS), [(3, 1)]);
    ours.committer.flush(micro([batch("a", 50, 60, &grant)])).await.unwrap();
    assert!(!grant.is_revoked(), "an equal metaData is no obstacle, and positions did not move");
    assert!(!ours.metrics.render().contains("pintail_fenced_total{stream=\"orders\"} 1"));
    assert_eq!(numbers(&lake, ROWS, "id").await.len(), 6 * 9);
    follow_all(ours).await;
    assert_eq!(numbers(&lake, REJECTS, "_sub_sequence_number").await.len(), 6);
}

#[tokio::test]
async fn of_two_compactors_of_the_same_files_one_gives_way_whichever_is_first() {
    let lake = Lake::in_memory();
    lake.committer(&["a"]).await;
    flushes(&lake, 0, 3).await;
    let ids = numbers(&lake, ROWS, "id").await;
    let ((arrived, at_put), (go, go_on)) = (oneshot::channel(), oneshot::channel());
    lake.faults.next_put("orders/_delta_log", Fault::Hold(arrived, go_on));
    let (mut slow, mut fast) = (maintainer(&lake, OPTIONS), maintainer(&lake, OPTIONS));
    let winner = async {
        at_put.await.unwrap();
        let events = well(&mut fast, false).await;
        go.send(()).unwrap();
        events
    };
    let (lost, won) = both(well(&mut slow, false), winner).await;
    assert_eq!((compactions(&won, ROWS), compactions(&lost, ROWS)), (vec![(3, 1)], vec![]));
    let gave_way =
        |(_, event): &(String, Event)| matches!(event, Event::Overtaken { reason } if reason.contains("removed"));
    assert!(lost.iter().any(gave_way), "{lost:#?}");
    assert_eq!(numbers(&lake, ROWS, "id").await, ids);
    assert_eq!(objects(&lake, "orders/_date=2026-11-22/compact-").await.len(), 2, "one is an orphan, for vacuum");
}

#[tokio::test]
async fn a_foreign_rewrite_or_delete_of_one_of_the_files_ends_the_compaction() {
    let lake = Lake::in_memory();
    lake.committer(&["a"]).await;
    flushes(&lake, 0, 3).await;
    let ((arrived, at_put), (go, go_on)) = (oneshot::channel(), oneshot::channel());
    lake.faults.next_put("orders/_delta_log", Fault::Hold(arrived, go_on));
    let mut maintainer = maintainer(&lake, OPTIONS);
    let foreign = async {
        at_put.await.unwrap();
        let path = active(&lake, ROWS).await.into_keys().next().unwrap();
        let removed = json!({ "remove": { "path": path, "deletionTimestamp": 1, "dataChange": true } });
        lake.foreign(ROWS, &[json!({ "commitInfo": { "operation": "DELETE" } }), removed]).await;
        lake.foreign(ROWS, &[json!({ "commitInfo": { "operation": "WRITE" } })]).await;
        go.send(()).unwrap();
    };
    let (events, ()) = both(well(&mut maintainer, false), foreign).await;
    assert!(compactions(&events, ROWS).is_empty());
    assert_eq!(numbers(&lake, ROWS, "id").await.len(), 2 * 9, "what was deleted stays deleted");
}

#[tokio::test]
async fn a_changed_table_or_one_that_has_to_be_read_anew_ends_the_compaction() {
    for case in ["changed", "asleep"] {
        let lake = Lake::in_memory();
        lake.committer(&["a"]).await;
        flushes(&lake, 0, 3).await;
        let version = lake.version(ROWS).await;
        let ((arrived, at_put), (go, go_on)) = (oneshot::channel(), oneshot::channel());
        lake.faults.next_put("orders/_delta_log", Fault::Hold(arrived, go_on));
        let mut maintainer = maintainer(&lake, OPTIONS);
        let meanwhile = async {
            at_put.await.unwrap();
            if case == "changed" {
                let mut metadata = read_table(&lake.store, ROWS, "").await.unwrap().unwrap().metadata.raw;
                metadata["configuration"]["delta.appendOnly"] = json!("true");
                lake.foreign(ROWS, &[json!({ "metaData": metadata })]).await;
            } else {
                lake.clock.pass_boot(Duration::from_secs(2 * 60 * 60));
            }
            go.send(()).unwrap();
        };
        let (events, ()) = both(well(&mut maintainer, false), meanwhile).await;
        let gave_way = |(_, event): &(String, Event)| matches!(event, Event::Overtaken { .. });
        assert!(events.iter().any(gave_way), "{case}: {events:#?}");
        // Of the sleeper's commit nobody knew that it had landed; it had, once.
        assert_eq!(lake.version(ROWS).await, version + 1);
        assert_eq!(numbers(&lake, ROWS, "id").await.len(), 3 * 9);
    }
}

#[tokio::test]
async fn a_compaction_that_dies_after_any_step_changes_nothing_and_the_next_one_does_it_all() {
    let faults = [("compact-", Fault::Fail), ("compact-", Fault::LoseAnswer), ("orders/_delta_log", Fault::Fail)];
    for (part, fault) in faults {
        let lake = Lake::in_memory();
        lake.committer(&["a"]).await;
        flushes(&lake, 0, 3).await;
        let version = lake.version(ROWS).await;
        let mut maintainer = maintainer(&lake, OPTIONS);
        lake.faults.next_put(part, fault);
        let events = round(&mut maintainer, false).await;
        assert!(
            matches!(&events.iter().find(|(table, _)| table == ROWS).unwrap().1, Event::Failed { .. }),
            "{events:#?}"
        );
        assert_eq!((lake.version(ROWS).await, numbers(&lake, ROWS, "id").await.len()), (version, 3 * 9));
        let events = well(&mut maintainer, true).await;
        assert_eq!(compactions(&events, ROWS), [(3, 1)]);
        assert_eq!(numbers(&lake, ROWS, "id").await.len(), 3 * 9);
    }
}

#[tokio::test]
async fn a_compaction_commit_whose_answer_is_lost_is_in_the_table_once() {
    for fault in [Fault::LoseAnswer, Fault::ConflictWithItself, Fault::ConflictWithNothing] {
        let lake = Lake::in_memory();
        lake.committer(&["a"]).await;
        flushes(&lake, 0, 3).await;
        let mut maintainer = maintainer(&lake, OPTIONS);
        lake.faults.next_put("orders/_delta_log", fault);
        round(&mut maintainer, false).await;
        well(&mut maintainer, true).await;
        assert_eq!(numbers(&lake, ROWS, "id").await, (1..30).filter(|id| id % 10 != 0).collect::<Vec<_>>());
        assert_eq!(active(&lake, ROWS).await.len(), 1);
    }
}

#[tokio::test]
async fn a_file_with_columns_that_are_not_the_table_s_stays_as_it_is() {
    let lake = Lake::in_memory();
    lake.committer(&["a"]).await;
    flushes(&lake, 0, 3).await;
    let columns: [(&str, ArrayRef); 2] =
        [("id", Arc::new(StringArray::from(vec!["x"]))), ("extra", Arc::new(Int64Array::from(vec![1])))];
    let parquet = |(name, column)| {
        let batch = RecordBatch::try_from_iter([(name, column)]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        (name, writer.into_inner().unwrap())
    };
    for (name, bytes) in columns.map(parquet) {
        let path = format!("_date=2026-11-22/foreign-{name}.parquet");
        let add = json!({ "add": { "path": path, "partitionValues": { "_date": "2026-11-22" }, "size": bytes.len(),
            "modificationTime": 1, "dataChange": true, "stats": "{\"numRecords\":1}" } });
        lake.faults.inner().put(&lake.store.path(ROWS, &path), PutPayload::from(bytes)).await.unwrap();
        lake.foreign(ROWS, &[add]).await;
    }
    let mut maintainer = maintainer(&lake, OPTIONS);
    assert_eq!(compactions(&well(&mut maintainer, false).await, ROWS), [(3, 1)]);
    let left = active(&lake, ROWS).await;
    assert_eq!(left.len(), 3);
    assert_eq!(left.keys().filter(|path| path.contains("foreign-")).count(), 2);
    assert_eq!(maintainer.streams[0].tables[0].unfit(), 2, "they are not opened again");
}

/// What a table's looks said of compaction: (failures told, the state at the end).
pub(super) fn said(events: &[(String, Event)], table: &str) -> (Vec<String>, Ended) {
    let of_table = events.iter().filter(|(name, _)| name == table).map(|(_, event)| event);
    let failures = of_table.clone().filter_map(|event| {
        let Event::Failed { step: Step::Compaction, reason } = event else { return None };
        Some(reason.clone())
    });
    let Some(Event::Ended(ended)) = of_table.clone().next_back() else { panic!("{events:#?}") };
    (failures.collect(), ended.clone())
}

#[tokio::test]
async fn files_that_cannot_be_read_are_a_failure_that_names_them_until_they_are_back_and_others_are_compacted() {
    let cut = |bytes: &[u8]| Some(bytes[..bytes.len() / 2].to_vec());
    let spoil = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[4..100].iter_mut().for_each(|byte| *byte ^= 0x5a);
        Some(bytes)
    };
    let foreign = |bytes: &[u8]| spoil(&without_checksums(bytes));
    let page = |bytes: &[u8]| Some(without_page(bytes));
    type Damage<'a> = &'a dyn Fn(&[u8]) -> Option<Vec<u8>>;
    let damages: [(&str, Damage<'_>); 5] = [
        ("is not there", &|_| None),
        ("and cannot be opened", &cut),
        ("its checksum is another", &spoil),
        ("cannot be decoded", &foreign),
        ("cannot be decoded", &page),
    ];
    for (words, damage) in damages {
        let lake = Lake::in_memory();
        lake.committer(&["a"]).await;
        flushes(&lake, 0, 4).await;
        let broken = active(&lake, ROWS).await.into_keys().next().unwrap();
        let path = lake.store.path(ROWS, &broken);
        let (whole, _) = lake.store.read(&path).await.unwrap().unwrap();
        match damage(&whole) {
            Some(bytes) => drop(lake.faults.inner().put(&path, bytes.into()).await.unwrap()),
            None => delete(&lake, &path).await,
        }
        let mut maintainer = maintainer(&lake, OPTIONS);
        let events = round(&mut maintainer, false).await;
        assert_eq!(compactions(&events, ROWS), [(3, 1)], "{words}: {events:#?}");
        let (failures, ended) = said(&events, ROWS);
        assert!(failures.len() == 1 && failures[0].contains(&broken) && failures[0].contains(words), "{failures:?}");
        assert!(matches!(&ended, Ended::Failed(reason) if reason.contains(&broken)), "{ended:?}");

        // It stays the state while nobody mends it, is told again after a while, and never again for a look's sake.
        let events = round(&mut maintainer, false).await;
        assert!(matches!(said(&events, ROWS), (told, Ended::Failed(_)) if told.is_empty()), "{events:#?}");
        flushes(&lake, 40, 3).await;
        let events = round(&mut maintainer, false).await;
        assert_eq!(compactions(&events, ROWS), [(4, 1)]);
        assert!(matches!(said(&events, ROWS), (told, Ended::Failed(_)) if told.is_empty()), "{events:#?}");
        lake.clock.pass_boot(Duration::from_secs(3_600));
        assert_eq!(said(&round(&mut maintainer, false).await, ROWS).0.len(), 1);

        lake.faults.inner().put(&path, whole.into()).await.unwrap();
        lake.clock.pass_boot(Duration::from_secs(3_600));
        well(&mut maintainer, false).await;
        assert_eq!(numbers(&lake, ROWS, "id").await.len(), 7 * 9);
    }
}

#[tokio::test]
async fn a_step_that_fails_is_left_alone_for_longer_and_longer_and_the_table_is_not_well_meanwhile() {
    let lake = Lake::in_memory();
    lake.committer(&["a"]).await;
    flushes(&lake, 0, 3).await;
    let mut maintainer = maintainer(&lake, OPTIONS);
    lake.faults.deny(Some("orders/_date="));
    let mut tries = Vec::new();
    for minute in 0..20 {
        let (failures, ended) = said(&round(&mut maintainer, false).await, ROWS);
        assert!(matches!(ended, Ended::Failed(_)), "{ended:?}");
        tries.extend(failures.first().map(|_| minute));
        lake.clock.pass_boot(Duration::from_secs(60));
    }
    assert_eq!(tries, [0, 1, 3, 7, 15]);
    lake.faults.deny(None);
    lake.clock.pass_boot(Duration::from_secs(60 * 60));
    assert_eq!(compactions(&well(&mut maintainer, false).await, ROWS), [(3, 1)]);
    well(&mut maintainer, false).await;
}

#[tokio::test]
async fn a_compaction_that_wins_nothing_leaves_nothing_behind() {
    let lake = Lake::in_memory();
    lake.committer(&["a"]).await;
    flushes(&lake, 0, 3).await;
    let (version, files) = (lake.version(ROWS).await, active(&lake, ROWS).await);
    // Two of three cannot be read, so that the one file would be replaced by one.
    for broken in files.keys().skip(1) {
        let path = lake.store.path(ROWS, broken);
        let (whole, _) = lake.store.read(&path).await.unwrap().unwrap();
        lake.faults.inner().put(&path, without_page(&whole).into()).await.unwrap();
    }
    let events = round(&mut maintainer(&lake, OPTIONS), false).await;
    assert!(said(&events, ROWS).0[0].contains("2 data file(s)"), "{events:#?}");
    assert!(lake.faults.puts("orders/_date=2026-11-22/compact-") > 0, "it was written");
    assert_eq!(objects(&lake, "orders/_date=2026-11-22/compact-").await, [""; 0]);
    assert_eq!((lake.version(ROWS).await, active(&lake, ROWS).await), (version, files));
}

#[tokio::test]
async fn a_file_that_somebody_has_replaced_and_vacuumed_meanwhile_is_no_broken_one() {
    let lake = Lake::in_memory();
    lake.committer(&["a"]).await;
    flushes(&lake, 0, 3).await;
    let path = active(&lake, ROWS).await.into_keys().next().unwrap();
    let state = read_table(&lake.store, ROWS, "").await.unwrap().unwrap();
    let moments = lake.clock.moments();
    let spec = TableSpec { txn_prefix: String::new(), ..tables().rows };
    let log = TableLog::new(lake.store.clone(), spec, moments.clone(), state, moments.now()).unwrap();
    let left_out = LeftOut::default();
    let mut candidates = Candidates::new(OPTIONS, &left_out);
    each_action(&lake.store, ROWS, |_| true, |lines| candidates.note(lines)).await.unwrap();
    let (groups, _) = candidates.groups();
    let removed = json!({ "remove": { "path": path, "deletionTimestamp": 1, "dataChange": true } });
    lake.foreign(ROWS, &[removed]).await;
    delete(&lake, &lake.store.path(ROWS, &path)).await;
    let compactor = Compactor { store: &lake.store, clock: &moments, target_bytes: 1 << 20 };
    let error = compactor.compact(&log, &groups[0]).await.unwrap_err();
    assert!(matches!(error, LakeError::Overtaken { .. }), "{error:?}");
}

#[tokio::test]
async fn files_that_together_exceed_the_target_become_several_of_about_its_size() {
    /// Enough for what is in a file to be more than what is said about it.
    const STEP: u64 = 10_000;
    let lake = Lake::in_memory();
    lake.committer(&["a"]).await;
    let mut ours = Instance::of(lake.open().await);
    for round in 0..8 {
        let large = batch("a", round * STEP, (round + 1) * STEP, &ShardGrant::new());
        ours.committer.flush(micro([large])).await.unwrap();
    }
    let sizes = |files: &BTreeMap<String, Value>| files.values().map(|add| add["size"].as_u64().unwrap()).sum::<u64>();
    let before = sizes(&active(&lake, ROWS).await);
    let options = MaintenanceOptions { target_file_bytes: before / 3, ..OPTIONS };
    well(&mut maintainer(&lake, options), true).await;
    let files = active(&lake, ROWS).await;
    assert!((2..=4).contains(&files.len()), "{} files of {before} bytes", files.len());
    assert_eq!(numbers(&lake, ROWS, "id").await.len() as u64, 8 * (STEP - 1));
}

#[tokio::test]
async fn a_table_that_pintail_would_not_write_is_left_alone() {
    let lake = Lake::in_memory();
    lake.committer(&["a"]).await;
    flushes(&lake, 0, 4).await;
    let mut metadata = read_table(&lake.store, ROWS, "").await.unwrap().unwrap().metadata.raw;
    metadata["configuration"]["delta.setTransactionRetentionDuration"] = json!("interval 1 day");
    let version = lake.foreign(ROWS, &[json!({ "metaData": metadata })]).await;
    let events = round(&mut maintainer(&lake, OPTIONS), true).await;
    let of_rows: Vec<&Event> = events.iter().filter(|(table, _)| table == ROWS).map(|(_, event)| event).collect();
    let Ended::Refused(reason) = (match of_rows.as_slice() {
        [Event::Ended(ended)] => ended,
        other => panic!("{other:#?}"),
    }) else {
        panic!("{of_rows:#?}")
    };
    assert!(reason.contains("lets positions expire"), "{reason}");
    assert_eq!((lake.version(ROWS).await, objects(&lake, "checkpoint").await.len()), (version, 4));
}
