//! How far event time has come: per shard in the ledger, for the stream in the tables that follow.

use object_store::ObjectStoreExt;

use super::followers::follow_head;
use super::*;
use crate::checkpoint::{LedgerView, ShardEntry};
use crate::lake::follower::Head;
use crate::lake::ledger;
use crate::record::Heir;

fn watermark(view: &LedgerView, shard: &str) -> Option<i64> {
    view.shards[&ShardId::new(shard)].watermark_ms
}

fn at(watermark_ms: i64, batch: CleanBatch) -> CleanBatch {
    CleanBatch { watermark_ms: Some(watermark_ms), ..batch }
}

/// Ends where `batch` ends; its one child has these parents.
fn merging(mut batch: CleanBatch, parents: &[&str]) -> CleanBatch {
    let (committed, _) = oneshot::channel();
    let parents = parents.iter().map(ShardId::new).collect();
    batch.end = Some(ShardEnd { children: vec![Heir { shard: ShardId::new("child"), parents }], committed });
    batch
}

async fn txns(lake: &Lake, table: &str) -> BTreeMap<String, i64> {
    read_table(&lake.store, table, "").await.unwrap().unwrap().txns
}

#[tokio::test]
async fn a_shards_watermark_is_committed_with_its_position_and_never_goes_back() {
    let lake = Lake::in_memory();
    let (mut ours, grant) = (lake.committer(&["a", "b"]).await, ShardGrant::new());
    assert_eq!(lake.open().await.view.watermark_ms(), None);
    ours.committer.flush(micro([at(-7, batch("a", 0, 10, &grant))])).await.unwrap();
    assert_eq!(lake.open().await.view.watermark_ms(), None, "of the other shard nothing is known");
    ours.committer
        .flush(micro([at(900, batch("a", 10, 20, &grant)), at(50, quiet("b", 0, 50, &grant))]))
        .await
        .unwrap();
    let view = lake.open().await.view;
    assert_eq!((watermark(&view, "a"), watermark(&view, "b"), view.watermark_ms()), (Some(900), Some(50), Some(50)));

    ours.committer
        .flush(micro([at(800, batch("a", 20, 30, &grant)), at(60, quiet("b", 0, 60, &grant))]))
        .await
        .unwrap();
    let view = lake.open().await.view;
    assert_eq!((watermark(&view, "a"), watermark(&view, "b")), (Some(900), Some(60)));
}

#[tokio::test]
async fn a_watermark_of_a_shard_that_somebody_else_moved_is_not_committed() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    let mut theirs = Instance::of(lake.open().await);
    theirs.committer.flush(micro([at(5, batch("a", 0, 10, &ShardGrant::new()))])).await.unwrap();
    // Idle as of a position that is no longer the shard's: of what came after it this says nothing.
    ours.committer.flush(micro([at(1_000, quiet("a", 0, 1_000, &ShardGrant::new()))])).await.unwrap();
    assert_eq!(watermark(&lake.open().await.view, "a"), Some(5));
}

#[tokio::test]
async fn a_child_inherits_the_lowest_of_all_its_parents_as_of_the_version_that_ends_one() {
    let lake = Lake::in_memory();
    let (mut ours, grant) = (lake.committer(&["a", "b"]).await, ShardGrant::new());
    let mut theirs = Instance::of(lake.open().await);
    theirs.committer.flush(micro([at(40, batch("b", 0, 10, &ShardGrant::new()))])).await.unwrap();
    // Built on a view in which nothing is known of the other parent, and rebased.
    let end = merging(at(100, batch("a", 0, 10, &grant)), &["a", "b"]);
    ours.committer.flush(micro([end])).await.unwrap();
    let view = lake.open().await.view;
    assert_eq!(
        (watermark(&view, "child"), view.watermark_ms()),
        (Some(40), Some(40)),
        "not that of the one that ended"
    );

    let end = merging(at(90, batch("b", 10, 20, &grant)), &["a", "b"]);
    ours.committer.flush(micro([end])).await.unwrap();
    let view = lake.open().await.view;
    assert_eq!((watermark(&view, "child"), view.watermark_ms()), (Some(90), Some(90)), "now both have ended");
}

#[tokio::test]
async fn of_a_child_with_a_parent_of_which_nothing_is_known_nothing_is_known() {
    let lake = Lake::in_memory();
    let (mut ours, grant) = (lake.committer(&["a", "b"]).await, ShardGrant::new());
    let end = merging(at(100, batch("a", 0, 10, &grant)), &["a", "b", "trimmed long ago"]);
    ours.committer.flush(micro([end])).await.unwrap();
    let view = lake.open().await.view;
    assert_eq!((watermark(&view, "child"), view.watermark_ms()), (None, None));
}

#[tokio::test]
async fn descendants_of_a_lost_shard_begin_without_a_watermark() {
    let lake = Lake::in_memory();
    let (mut ours, grant) = (lake.committer(&["a"]).await, ShardGrant::new());
    ours.committer.flush(micro([at(100, batch("a", 0, 10, &grant))])).await.unwrap();
    ours.committer.end_lost(&ShardId::new("a"), after(10), &[ShardId::new("child")]).await.unwrap();
    let view = lake.open().await.view;
    assert_eq!((watermark(&view, "child"), view.watermark_ms()), (None, None));
}

#[test]
fn no_open_shard_is_no_watermark_and_a_replay_of_rejects_is_no_shard_of_the_stream() {
    let entry = |watermark_ms, ended| ShardEntry { watermark_ms, ended, ..ShardEntry::NEW };
    let view = |shards: &[(&str, ShardEntry)]| {
        let shards = shards.iter().map(|(shard, entry)| (ShardId::new(shard), *entry)).collect();
        LedgerView { version: 1, shards }.watermark_ms()
    };
    assert_eq!(view(&[]), None);
    assert_eq!(view(&[("a", entry(Some(5), true))]), None, "what comes after it is not known yet");
    assert_eq!(view(&[("a", entry(Some(5), true)), ("b", entry(Some(9), false))]), Some(9));
    assert_eq!(view(&[("replay-1", entry(None, false)), ("b", entry(Some(9), false))]), Some(9));
}

// === The tables that follow ===

async fn follow_partials(instance: &mut Instance) {
    let head = Head::of(&instance.committer.view);
    follow_head(instance.followers.remove(1), head).await;
}

/// The partials table's watermark at each of its versions is never above that of the rows version that it has applied
/// then; returns the last.
async fn checked_watermark(lake: &Lake) -> Option<i64> {
    let (watermark_id, mut last) = (identity().watermark_id(), None);
    let mut partials = BTreeMap::new();
    for version in 0..=lake.version(PARTIALS).await {
        for action in lake.entry(PARTIALS, version).await {
            if let Some(txn) = action.get("txn") {
                partials.insert(txn["appId"].as_str().unwrap().to_owned(), txn["version"].as_i64().unwrap());
            }
        }
        let (applied, watermark) = (partials[&identity().applied_id()], partials.get(&watermark_id).copied());
        let mut rows = BTreeMap::new();
        for version in 0..=u64::try_from(applied).unwrap() {
            for action in lake.entry(ROWS, version).await {
                if let Some(txn) = action.get("txn") {
                    rows.insert(txn["appId"].as_str().unwrap().to_owned(), txn["version"].as_i64().unwrap());
                }
            }
        }
        let proven = ledger::view(&identity().prefix(), &rows, 0).unwrap().watermark_ms();
        assert!(watermark <= proven, "at version {version}: {watermark:?} is said, {proven:?} is proven");
        assert!(last <= watermark, "at version {version} it went back from {last:?} to {watermark:?}");
        last = watermark;
    }
    last
}

#[tokio::test]
async fn a_partials_table_carries_the_watermark_of_the_rows_version_that_it_has_applied() {
    let lake = Lake::in_memory();
    let (mut ours, grant) = (lake.committer(&["a", "b"]).await, ShardGrant::new());
    // More versions than one commit of a follower covers; the stream's watermark comes with the last.
    for n in 0..70 {
        ours.committer.flush(micro([at(n as i64, batch("a", n * 2, n * 2 + 2, &grant))])).await.unwrap();
    }
    ours.committer.flush(micro([at(33, batch("b", 0, 10, &grant))])).await.unwrap();
    follow_partials(&mut ours).await;
    assert_eq!(checked_watermark(&lake).await, Some(33));
    assert_eq!(lake.version(PARTIALS).await, 2, "two commits");
    assert!(!txns(&lake, REJECTS).await.contains_key(&identity().watermark_id()), "rejects have no windows");
}

#[tokio::test]
async fn rows_versions_without_files_move_a_partials_table_when_a_window_closes_and_only_then() {
    let lake = Lake::in_memory();
    let (mut ours, grant) = (lake.committer(&["a"]).await, ShardGrant::new());
    ours.committer.flush(micro([at(2_000, batch("a", 0, 10, &grant))])).await.unwrap();
    for (watermark_ms, version, said) in
        [(2_000, 1, 2_000), (11_999, 1, 2_000), (12_000, 2, 12_000), (21_999, 2, 12_000), (22_000, 3, 22_000)]
    {
        ours.committer.flush(micro([quiet("a", 10, watermark_ms, &grant)])).await.unwrap();
        follow_partials(&mut Instance::of(lake.open().await)).await;
        assert_eq!((lake.version(PARTIALS).await, checked_watermark(&lake).await), (version, Some(said)));
    }
}

#[tokio::test]
async fn a_shard_that_was_found_late_does_not_take_the_tables_watermark_back() {
    let lake = Lake::in_memory();
    let (mut ours, grant) = (lake.committer(&["a"]).await, ShardGrant::new());
    ours.committer.flush(micro([at(50_000, batch("a", 0, 10, &grant))])).await.unwrap();
    let mut follower = Instance::of(lake.open().await);
    follow_partials(&mut follower).await;
    ours.committer.register(&[register("found")]).await.unwrap();
    ours.committer.flush(micro([at(70_000, batch("a", 10, 20, &grant))])).await.unwrap();
    follow_partials(&mut ours).await;
    assert_eq!(txns(&lake, PARTIALS).await[&identity().watermark_id()], 50_000);
    assert_eq!(lake.records(PARTIALS).await, 2);
}

#[tokio::test]
async fn a_partials_table_says_from_when_on_it_is_complete() {
    let since = async |lake: &Lake| txns(lake, PARTIALS).await.get(&identity().since_id()).copied();
    // With a new stream: after the window of the first partial, which had begun before it.
    let lake = Lake::in_memory();
    let (mut ours, grant) = (lake.committer(&["a"]).await, ShardGrant::new());
    assert_eq!(since(&lake).await, None);
    ours.committer.flush(micro([batch("a", 0, 10, &grant)])).await.unwrap();
    follow_partials(&mut ours).await;
    assert_eq!(since(&lake).await, Some(1));

    // With a stream that was not read from its beginning: not before its start.
    let lake = Lake::in_memory();
    let mut ours = Instance::of(lake.open().await);
    let started = Registration { start_ms: 77_000, ..register("a") };
    ours.committer.register(&[started]).await.unwrap();
    let mut from_start = batch("a", 0, 10, &grant);
    from_start.range.after = Position::At(77_000);
    ours.committer.flush(micro([from_start])).await.unwrap();
    follow_partials(&mut ours).await;
    assert_eq!(since(&lake).await, Some(77_000));

    // A window that was declared later: after all that had been read by then.
    let lake = Lake::in_memory();
    let without = TableSet { partials: Vec::new(), ..tables() };
    let opened = StreamLake::open_tables(lake.store.clone(), identity(), without, lake.clock.moments()).await;
    let mut ours = Instance::of(opened.unwrap());
    ours.committer.register(&[register("a"), register("b")]).await.unwrap();
    ours.committer.flush(micro([batch("a", 0, 10, &grant), batch("b", 0, 5, &grant)])).await.unwrap();
    let mut later = Instance::of(lake.open().await);
    assert_eq!(since(&lake).await, Some(10_000));
    later.committer.flush(micro([batch("a", 10, 20, &grant)])).await.unwrap();
    follow_partials(&mut later).await;
    assert_eq!(since(&lake).await, Some(10_000));
}

#[tokio::test]
async fn a_lost_answer_of_a_watermarks_commit_does_no_harm() {
    let lake = Lake::in_memory();
    let (mut ours, grant) = (lake.committer(&["a"]).await, ShardGrant::new());
    ours.committer.flush(micro([at(50_000, batch("a", 0, 10, &grant))])).await.unwrap();
    lake.faults.next_put("partials/_delta_log", super::faults::Fault::LoseAnswer);
    follow_partials(&mut ours).await;
    assert_eq!((lake.version(PARTIALS).await, checked_watermark(&lake).await), (1, Some(50_000)));
    let entry = crate::lake::log::entry_path(&lake.store, PARTIALS, 1);
    assert!(lake.faults.inner().head(&entry).await.is_ok());
}
