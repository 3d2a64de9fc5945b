//! Replays of rejects: one at a time in the ledger, over rejects whose order stays, and nothing recovered twice.

use deltalake::arrow::array::{Array, AsArray};
use deltalake::protocol::checkpoints;
use serde_json::json;
use tokio::sync::watch;

use super::readers::{deltalake, on_disk};
use super::*;
use crate::checkpoint::LedgerView;
use crate::contract::REPLAYED;
use crate::lake::error::LakeError;
use crate::lake::follower::Head;
use crate::lake::rejected::{RejectBatch, RejectSet};
use crate::lake::replay::{RejectsReplay, is_behind, replayed_through, same_followers};

const N: u64 = 7;

/// Rows as contracts declare them, with `_replayed` before the day.
fn marked_schema() -> SchemaRef {
    let mut fields = rows_schema().fields().to_vec();
    fields.insert(fields.len() - 1, Arc::new(Field::new(REPLAYED, DataType::Int64, true)));
    Arc::new(Schema::new(fields))
}

fn marked_tables() -> TableSet {
    TableSet { rows: TableSet::ledger(&identity(), ROWS.to_owned(), &marked_schema()), ..tables() }
}

async fn open(lake: &Lake) -> StreamLake {
    let opened = StreamLake::open_tables(lake.store.clone(), identity(), marked_tables(), lake.clock.moments());
    opened.await.unwrap()
}

async fn follow_all(instance: Instance) {
    for follower in instance.followers {
        let (_, heads) = watch::channel(Head::of(&instance.committer.view));
        follower.run(heads).await.unwrap();
    }
}

fn marked(rows: &RecordBatch, replay: Option<i64>, numbers: Option<&[u64]>) -> RecordBatch {
    let mut columns = rows.columns().to_vec();
    if let Some(numbers) = numbers {
        columns[4] = Arc::new(StringArray::from_iter_values(numbers.iter().map(|n| number(*n).to_string())));
    }
    columns.insert(columns.len() - 1, Arc::new(Int64Array::from(vec![replay; rows.num_rows()])));
    RecordBatch::try_new(marked_schema(), columns).unwrap()
}

/// A file of rejects for each flush: numbers 10, 20, ... of shard a.
async fn with_rejects(lake: &Lake, flushes: u64) -> u64 {
    let mut instance = Instance::of(open(lake).await);
    instance.committer.register(&[register("a")]).await.unwrap();
    for flush in 0..flushes {
        let mut batch = batch("a", flush * 10, flush * 10 + 10, &ShardGrant::new());
        batch.rows = marked(&batch.rows, None, None);
        instance.committer.flush(micro([batch])).await.unwrap();
    }
    follow_all(instance).await;
    lake.version(REJECTS).await
}

/// What a replay commits that has done some rejects, recovering those with these numbers.
fn recovered(replay: RejectsReplay, through: u64, numbers: &[u64], grant: &ShardGrant) -> CleanBatch {
    let count = numbers.len() as i64;
    CleanBatch {
        range: PositionRange {
            shard: replay.shard(),
            after: replayed_through(replay.done),
            through: replayed_through(through),
        },
        rows: marked(&rows("a", 0..count, |_| DAY), Some(replay.number as i64), Some(numbers)),
        rejects: Vec::new(),
        seen_ms: None,
        watermark_ms: None,
        end: None,
        left: LeftOver::default(),
        grant: grant.clone(),
        permit: Permit::default(),
    }
}

async fn read(set: &RejectSet, done: u64) -> Vec<RejectBatch> {
    let mut reader = set.read(done, ROWS).await.unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = reader.next().await.unwrap() {
        batches.push(batch);
    }
    batches
}

fn numbers(batches: &[RejectBatch]) -> Vec<String> {
    batches.iter().flat_map(|batch| &batch.rejects).map(|(_, record)| record.sequence_number.to_string()).collect()
}

fn standing(view: &LedgerView, replay: u64) -> Position {
    view.shards[&ShardId::of_replay(replay)].resume()
}

#[tokio::test]
async fn a_replay_that_has_begun_is_the_one_that_everybody_goes_on_with_until_it_ends() {
    let lake = Lake::in_memory();
    let version = with_rejects(&lake, 2).await;
    let (mut one, mut other) = (open(&lake).await, open(&lake).await);
    let begun = one.begin_replay(version, None).await.unwrap();
    assert_eq!(begun, RejectsReplay { number: 1, rejects_version: version, done: 0 });
    assert_eq!(other.begin_replay(version + 9, None).await.unwrap(), begun, "with the version of whoever began it");

    let mut instance = Instance::of(one);
    instance.committer.flush(micro([recovered(begun, 1, &[10], &ShardGrant::new())])).await.unwrap();
    let resumed = open(&lake).await.begin_replay(version, None).await.unwrap();
    assert_eq!(resumed, RejectsReplay { done: 1, ..begun });
    let (ending, _told) = ending(recovered(resumed, 2, &[], &ShardGrant::new()), &[]);
    instance.committer.flush(micro([ending])).await.unwrap();
    assert_eq!(standing(&instance.committer.view, 1), Position::End);
    assert_eq!(open(&lake).await.begin_replay(version, None).await.unwrap().number, 2);
}

#[tokio::test]
async fn the_last_partials_of_a_replay_that_was_killed_before_it_applied_them_are_seen_to_wait() {
    let lake = Lake::in_memory();
    let version = with_rejects(&lake, 2).await;
    let waiting = async || {
        let head = lake.version(ROWS).await;
        let mut following = Vec::new();
        let tables = marked_tables();
        for spec in tables.following() {
            following.push((spec.name.as_str(), read_table(&lake.store, &spec.name, "").await.unwrap().unwrap()));
        }
        is_behind(&lake.store, &identity(), &tables, &following, head).await.unwrap()
    };
    assert!(!waiting().await);
    let mut opened = open(&lake).await;
    let replay = opened.begin_replay(version, None).await.unwrap();
    let mut instance = Instance::of(opened);
    let (last, _told) = ending(recovered(replay, 2, &[10, 20], &ShardGrant::new()), &[]);
    instance.committer.flush(micro([last])).await.unwrap();
    assert_eq!(standing(&instance.committer.view, 1), Position::End);
    assert!(waiting().await, "no reject waits, and partials do");
    follow_all(instance).await;
    assert!(!waiting().await);
}

#[tokio::test]
async fn a_replay_that_is_given_up_is_ended_and_whoever_is_still_at_it_is_fenced() {
    let lake = Lake::in_memory();
    let version = with_rejects(&lake, 2).await;
    let mut old = open(&lake).await;
    let first = old.begin_replay(version, None).await.unwrap();
    let second = open(&lake).await.begin_replay(version, Some(first.number)).await.unwrap();
    assert_eq!(second.number, 2);
    let again = open(&lake).await.begin_replay(version, Some(first.number)).await.unwrap();
    assert_eq!(again, second, "only the one that was named is given up");

    let (rows_before, grant) = (lake.records(ROWS).await, ShardGrant::new());
    let mut instance = Instance::of(old);
    instance.committer.flush(micro([recovered(first, 1, &[10], &grant)])).await.unwrap();
    assert!(grant.is_revoked());
    assert_eq!(lake.records(ROWS).await, rows_before);
}

#[tokio::test]
async fn of_two_at_the_same_replay_one_is_fenced_and_nothing_comes_twice() {
    let lake = Lake::in_memory();
    let version = with_rejects(&lake, 2).await;
    let (mut one, mut other) = (open(&lake).await, open(&lake).await);
    let replay = one.begin_replay(version, None).await.unwrap();
    other.begin_replay(version, None).await.unwrap();
    let (won, lost) = (ShardGrant::new(), ShardGrant::new());
    let before = lake.records(ROWS).await;
    Instance::of(one).committer.flush(micro([recovered(replay, 2, &[10, 20], &won)])).await.unwrap();
    Instance::of(other).committer.flush(micro([recovered(replay, 1, &[10], &lost)])).await.unwrap();
    assert_eq!((won.is_revoked(), lost.is_revoked()), (false, true));
    assert_eq!(lake.records(ROWS).await, before + 2);
}

#[tokio::test]
async fn the_rejects_of_a_version_come_in_one_order_from_every_position_however_the_table_goes_on() {
    let lake = Lake::in_memory();
    let version = with_rejects(&lake, N).await;
    let set = RejectSet::of(&lake.store, REJECTS, version).await.unwrap();
    assert_eq!(set.total(), N);
    let all = numbers(&read(&set, 0).await);
    let sorted: std::collections::BTreeSet<&String> = all.iter().collect();
    assert_eq!(sorted.len() as u64, N, "each once");

    // The table goes on, and somebody rewrites it.
    let entries: Vec<Value> = lake.entry(REJECTS, version).await;
    let paths = entries.iter().filter_map(|action| action.pointer("/add/path")?.as_str());
    let removes: Vec<Value> =
        paths.map(|path| json!({ "remove": { "path": path, "dataChange": false, "deletionTimestamp": 1 } })).collect();
    assert_eq!(removes.len() as u64, N);
    lake.foreign(REJECTS, &removes).await;
    let pinned = RejectSet::of(&lake.store, REJECTS, version).await.unwrap();
    for done in 0..=N {
        let rest = read(&pinned, done).await;
        assert_eq!(numbers(&rest), all[done as usize..], "from {done} on");
        assert_eq!(rest.first().map_or(done, |first| first.after), done);
        assert_eq!(rest.last().map_or(done, |last| last.through), N);
    }
    let beyond = pinned.read(N + 1, ROWS).await.unwrap_err().to_string();
    assert!(beyond.contains("has 7 rejects, and 8 of them are said to be done"), "{beyond}");
    assert_eq!(RejectSet::of(&lake.store, REJECTS, version + 1).await.unwrap().total(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_version_is_found_before_at_and_after_a_checkpoint_as_long_as_its_log_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let lake = on_disk(&folder);
    let pinned = with_rejects(&lake, 2).await;
    let entries = lake.entry(REJECTS, pinned).await;
    let path = entries.iter().find_map(|action| action.pointer("/add/path")?.as_str()).unwrap();
    let remove = json!({ "remove": { "path": path, "dataChange": true, "deletionTimestamp": 1 } });
    let checkpointed = lake.foreign(REJECTS, &[remove]).await;
    checkpoints::create_checkpoint(&deltalake(&folder, REJECTS).await, None).await.unwrap();
    let later = lake.foreign(REJECTS, &[json!({ "commitInfo": {} })]).await;
    let totals = async || {
        let mut totals = Vec::new();
        for version in [pinned, checkpointed, later, later + 1] {
            totals.push(match RejectSet::of(&lake.store, REJECTS, version).await {
                Ok(set) => Some(set.total()),
                Err(LakeError::VersionGone { .. }) => None,
                Err(error) => panic!("{error}"),
            });
        }
        totals
    };
    assert_eq!(totals().await, [Some(2), Some(1), Some(1), None]);
    for version in 0..checkpointed {
        std::fs::remove_file(folder.path().join(format!("{REJECTS}/_delta_log/{version:020}.json"))).unwrap();
    }
    assert_eq!(totals().await, [None, Some(1), Some(1), None]);
}

#[tokio::test]
async fn a_version_whose_log_or_files_were_cleaned_up_is_told_as_gone() {
    for victim in ["_delta_log/00000000000000000000.json", "part-"] {
        let lake = Lake::in_memory();
        let version = with_rejects(&lake, 2).await;
        let found = futures::TryStreamExt::try_collect::<Vec<_>>(object_store::ObjectStore::list(
            lake.faults.inner(),
            Some(&"lake/orders_rejects".into()),
        ));
        let objects = found.await.unwrap();
        let victim = objects.iter().find(|object| object.location.as_ref().contains(victim)).unwrap();
        lake.faults.inner().delete(&victim.location).await.unwrap();
        let error = match RejectSet::of(&lake.store, REJECTS, version).await {
            Err(error) => error,
            Ok(set) => {
                let mut reader = set.read(0, ROWS).await.unwrap();
                loop {
                    match reader.next().await {
                        Ok(batch) => assert!(batch.is_some(), "the end, without a word"),
                        Err(error) => break error,
                    }
                }
            }
        };
        assert!(matches!(error, LakeError::VersionGone { version: gone, .. } if gone == version), "{error}");
    }
}

#[tokio::test]
async fn a_file_that_holds_other_than_what_the_log_counts_is_an_error_since_positions_would_lie() {
    let lake = Lake::in_memory();
    let version = with_rejects(&lake, 2).await;
    let path = crate::lake::log::entry_path(&lake.store, REJECTS, version);
    let (entry, _) = lake.store.read(&path).await.unwrap().unwrap();
    let lying = String::from_utf8(entry.to_vec()).unwrap().replace(r#"numRecords\":1"#, r#"numRecords\":2"#);
    lake.faults.inner().put(&path, lying.into()).await.unwrap();
    let set = RejectSet::of(&lake.store, REJECTS, version).await.unwrap();
    let error = set.read(0, ROWS).await.unwrap().next().await.unwrap_err().to_string();
    assert!(error.contains("has 1 rows; the log counts 2"), "{error}");
}

#[tokio::test]
async fn what_an_earlier_replay_recovered_is_skipped_and_only_files_with_recovered_rows_are_read_for_it() {
    let lake = Lake::in_memory();
    let version = with_rejects(&lake, N).await;
    let mut opened = open(&lake).await;
    let replay = opened.begin_replay(version, None).await.unwrap();
    let mut instance = Instance::of(opened);
    instance.committer.flush(micro([recovered(replay, 4, &[10, 30, 40], &ShardGrant::new())])).await.unwrap();

    // Every file of rows that has no recovered one may as well not be there.
    for version in 0..=lake.version(ROWS).await {
        for action in lake.entry(ROWS, version).await {
            let Some(path) = action.pointer("/add/path").and_then(Value::as_str) else { continue };
            let location = lake.store.path(ROWS, path);
            let (bytes, _) = lake.store.read(&location).await.unwrap().unwrap();
            let builder = deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes);
            let batch = builder.unwrap().build().unwrap().next().unwrap().unwrap();
            if batch
                .column_by_name(REPLAYED)
                .unwrap()
                .as_primitive::<deltalake::arrow::datatypes::Int64Type>()
                .null_count()
                > 0
            {
                lake.faults.inner().delete(&location).await.unwrap();
            }
        }
    }
    let set = RejectSet::of(&lake.store, REJECTS, version).await.unwrap();
    let batches = read(&set, 0).await;
    assert_eq!(batches.iter().map(|batch| batch.recovered).sum::<u64>(), 3);
    let mut left = numbers(&batches);
    left.sort();
    assert_eq!(left, [20, 50, 60, 70].map(|n| number(n).to_string()));
    assert_eq!(batches.last().unwrap().through, N, "positions count those that are skipped");
}

#[tokio::test]
async fn a_reject_that_somebody_doubled_is_one_record_and_is_recovered_once() {
    for recovered_before in [false, true] {
        let lake = Lake::in_memory();
        let mut instance = Instance::of(open(&lake).await);
        instance.committer.register(&[register("a")]).await.unwrap();
        let mut batch = batch("a", 0, 10, &ShardGrant::new());
        batch.rows = marked(&batch.rows, None, None);
        batch.rejects = [10, 9, 10, 10].map(reject).into();
        instance.committer.flush(micro([batch])).await.unwrap();
        follow_all(instance).await;
        let version = lake.version(REJECTS).await;
        if recovered_before {
            let mut opened = open(&lake).await;
            let replay = opened.begin_replay(version, None).await.unwrap();
            let mut instance = Instance::of(opened);
            instance.committer.flush(micro([recovered(replay, 4, &[10], &ShardGrant::new())])).await.unwrap();
        }
        let set = RejectSet::of(&lake.store, REJECTS, version).await.unwrap();
        let batches = read(&set, 0).await;
        let wanted: &[u64] = if recovered_before { &[9] } else { &[10, 9] };
        assert_eq!(numbers(&batches), wanted.iter().map(|n| number(*n).to_string()).collect::<Vec<_>>());
        let skipped = batches.iter().map(|batch| batch.recovered).sum::<u64>();
        assert_eq!((skipped, batches.last().unwrap().through), (4 - wanted.len() as u64, 4));
    }
}

#[tokio::test]
async fn what_is_left_of_a_batch_begins_where_its_first_reject_stands_and_ends_where_the_batch_ends() {
    let lake = Lake::in_memory();
    let mut instance = Instance::of(open(&lake).await);
    instance.committer.register(&[register("a")]).await.unwrap();
    let mut batch = batch("a", 0, 10, &ShardGrant::new());
    batch.rows = marked(&batch.rows, None, None);
    // The third is no record of its own, so places are not just indices.
    batch.rejects = [7, 8, 7, 9, 10].map(reject).into();
    instance.committer.flush(micro([batch])).await.unwrap();
    follow_all(instance).await;
    let set = RejectSet::of(&lake.store, REJECTS, lake.version(REJECTS).await).await.unwrap();
    let mut whole = read(&set, 1).await.remove(0);
    let mut left = std::mem::take(&mut whole.rejects);
    assert!(whole.rest(Default::default()).is_none());
    left.drain(..2);
    let rest = whole.rest(left).unwrap();
    assert_eq!((rest.after, rest.through, rest.rejects.len()), (3, 5, 2));
    let last = rest.rest(rest.rejects.iter().skip(1).cloned().collect()).unwrap();
    assert_eq!((last.after, last.through), (4, 5));
}

#[tokio::test]
async fn a_service_that_runs_while_the_first_replay_adds_the_column_goes_on() {
    let lake = Lake::in_memory();
    let mut service = lake.committer(&["a"]).await;
    let grant = ShardGrant::new();
    service.committer.flush(micro([batch("a", 0, 10, &grant)])).await.unwrap();
    let metadata = async || {
        let state = read_table(&lake.store, ROWS, "").await.unwrap().unwrap();
        state.metadata.schema_string.contains(REPLAYED)
    };
    assert!(!metadata().await, "a table from before there was the column");

    let mut replaying = open(&lake).await;
    let replay = replaying.begin_replay(lake.version(REJECTS).await, None).await.unwrap();
    let mut instance = Instance::of(replaying);
    service.committer.flush(micro([batch("a", 10, 20, &grant)])).await.unwrap();
    instance.committer.flush(micro([recovered(replay, 1, &[10], &ShardGrant::new())])).await.unwrap();
    service.committer.flush(micro([batch("a", 20, 30, &grant)])).await.unwrap();
    assert!(metadata().await && !grant.is_revoked());
    assert_eq!(lake.records(ROWS).await, 27 + 1);
    let view = lake.open().await.view;
    assert_eq!((standing(&view, 1), view.shards[&ShardId::new("a")].resume()), (replayed_through(1), after(30)));
}

#[tokio::test]
async fn a_replay_has_the_windows_of_the_service_or_does_not_begin() {
    let lake = Lake::in_memory();
    let grant = ShardGrant::new();
    let without = TableSet { partials: Vec::new(), ..tables() };
    let opens = |set| StreamLake::open_tables(lake.store.clone(), identity(), set, lake.clock.moments());
    let checked = async |set: &TableSet| {
        let same = same_followers(&lake.store, &identity(), set, lake.version(ROWS).await).await;
        same.map_err(|error| error.to_string())
    };
    let mut old = Instance::of(opens(without.clone()).await.unwrap());
    old.committer.register(&[register("a")]).await.unwrap();
    old.committer.flush(micro([batch("a", 0, 10, &grant)])).await.unwrap();
    let mut service = Instance::of(lake.open().await);
    assert_eq!(checked(&tables()).await, Ok(()), "a table that has nothing yet may begin with the replay");
    assert_eq!(checked(&without).await, Ok(()), "nothing was committed for it");

    service.committer.flush(micro([batch("a", 10, 20, &grant)])).await.unwrap();
    service.committer.flush(micro([quiet("a", 20, 60_000, &grant)])).await.unwrap();
    assert_eq!(checked(&tables()).await, Ok(()));
    let refused = checked(&without).await.unwrap_err();
    assert!(refused.contains("committed for orders_by_kind_partials as well"), "{refused}");
    follow_all(service).await;

    old.committer.refresh().await.unwrap();
    old.committer.flush(micro([batch("a", 20, 30, &grant)])).await.unwrap();
    let refused = checked(&tables()).await.unwrap_err();
    assert!(refused.contains("were committed without orders_by_kind_partials"), "{refused}");
}
