//! The following tables get what was staged for them, once.

use serde_json::json;
use tokio::sync::watch;

use super::faults::Fault;
use super::*;
use crate::lake::alarm::Troubles;
use crate::lake::follower::{Follower, Head};
use crate::lake::plan::plan_set;
use crate::lake::restore::RecentPartials;
use crate::lake::table::open_table;
use object_store::ObjectStoreExt;

/// Follows up to a version and ends.
async fn follow(follower: Follower, version: u64) {
    follow_head(follower, Head { version, watermark_ms: None, begun_ms: 0 }).await;
}

/// Follows up to a version, and waits for the next.
async fn go_on_following(follower: Follower, version: u64) {
    let (head, heads) = watch::channel(Head { version, watermark_ms: None, begun_ms: 0 });
    follower.run(heads).await.unwrap();
    drop(head);
}

pub async fn follow_head(follower: Follower, head: Head) {
    let (head, heads) = watch::channel(head);
    drop(head);
    let ended = tokio::time::timeout(Duration::from_secs(60), follower.run(heads)).await;
    ended.expect("it does not get there").unwrap();
}

pub async fn follow_all(instance: Instance) {
    let head = Head::of(&instance.committer.view);
    for follower in instance.followers {
        follow_head(follower, head).await;
    }
}

async fn applied(lake: &Lake, table: &str) -> i64 {
    read_table(&lake.store, table, "").await.unwrap().unwrap().txns[&identity().applied_id()]
}

#[tokio::test]
async fn what_a_dead_process_staged_is_applied_once_by_the_next() {
    let lake = Lake::in_memory();
    let mut dead = lake.committer(&["a", "b"]).await;
    let grant = ShardGrant::new();
    dead.committer.flush(micro([batch("a", 0, 10, &grant), batch("b", 0, 5, &grant)])).await.unwrap();
    dead.committer.flush(micro([batch("a", 10, 20, &grant)])).await.unwrap();
    assert_eq!((lake.records(REJECTS).await, lake.records(PARTIALS).await), (0, 0));

    for _ in 0..2 {
        follow_all(Instance::of(lake.open().await)).await;
        assert_eq!((lake.records(REJECTS).await, lake.records(PARTIALS).await), (3, 3));
        assert_eq!(applied(&lake, REJECTS).await, lake.version(ROWS).await as i64);
    }
    assert_eq!(lake.version(REJECTS).await, 1, "both versions came in one commit");
}

#[tokio::test]
async fn a_shard_that_is_revoked_while_its_partials_are_made_brings_neither_rows_nor_partials() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a", "b"]).await;
    let (lost, kept) = (ShardGrant::new(), ShardGrant::new());
    *ours.windows.revoke.lock().unwrap() = Some(lost.clone());
    ours.committer.flush(micro([batch("a", 0, 10, &lost), batch("b", 0, 5, &kept)])).await.unwrap();
    follow_all(ours).await;
    let counts = (lake.records(ROWS).await, lake.records(REJECTS).await, lake.records(PARTIALS).await);
    assert_eq!(counts, (4, 1, 1), "those of the other shard");
}

#[tokio::test]
async fn a_start_brings_back_partials_that_were_applied_and_those_that_only_wait_each_once() {
    let lake = Lake::in_memory();
    let grant = ShardGrant::new();
    let mut dead = lake.committer(&["a", "b"]).await;
    dead.committer.flush(micro([batch("a", 0, 10, &grant), batch("b", 0, 5, &grant)])).await.unwrap();
    follow_all(dead).await;
    let mut next = Instance::of(lake.open().await);
    next.committer.flush(micro([batch("a", 10, 20, &grant)])).await.unwrap();

    for _ in 0..2 {
        let recent = lake.open().await.recent_partials(0, 0, 9).await.unwrap();
        assert_eq!((recent.since_us, rows_of(&recent).await), (0, 3));
        let none = lake.open().await.recent_partials(0, 1, 9).await.unwrap();
        assert_eq!(rows_of(&none).await, 0, "their windows start earlier");
        follow_all(Instance::of(lake.open().await)).await;
    }
    assert_eq!(lake.records(PARTIALS).await, 3);
}

#[tokio::test]
async fn two_followers_of_one_table_apply_everything_once() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    let (grant, theirs) = (ShardGrant::new(), Instance::of(lake.open().await));
    ours.committer.flush(micro([batch("a", 0, 10, &grant)])).await.unwrap();
    let version = ours.committer.view.version;
    let both = ours.followers.into_iter().chain(theirs.followers).map(|follower| follow(follower, version));
    futures::future::join_all(both).await;
    assert_eq!((lake.records(REJECTS).await, lake.records(PARTIALS).await), (1, 1));
}

#[tokio::test]
async fn a_follower_survives_lost_answers_and_failures() {
    for fault in [Fault::LoseAnswer, Fault::ConflictWithItself, Fault::ConflictWithNothing, Fault::Fail] {
        let lake = Lake::in_memory();
        let mut ours = lake.committer(&["a"]).await;
        ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();
        lake.faults.next_put("orders_rejects/_delta_log", fault);
        follow_all(ours).await;
        assert_eq!((lake.faults.waiting(), lake.records(REJECTS).await), (0, 1));
    }
}

#[tokio::test]
async fn a_follower_that_is_denied_says_so_after_its_patience_and_that_it_works_again() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();
    let (board, version) = (ours.board.clone(), ours.committer.view.version);
    let troubles = Troubles::new(board.clone(), "followers");
    let rejects = ours.followers.remove(0).telling_after(Duration::from_millis(50), troubles);
    lake.faults.deny(Some("orders_rejects/_delta_log"));
    let lifted = async {
        let told = loop {
            if let Some(told) = board.snapshot().trouble.remove("followers") {
                break told;
            }
            tokio::task::yield_now().await;
        };
        lake.faults.deny(None);
        told
    };
    let ((), told) = both(follow(rejects, version), lifted).await;
    assert!(told.contains("orders_rejects/_delta_log") && told.contains("403"), "{told}");
    assert_eq!((board.snapshot().trouble.get("followers"), lake.records(REJECTS).await), (None, 1));
}

#[tokio::test]
async fn staged_files_whose_log_entry_is_gone_are_an_alarm_and_never_skipped() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();
    let version = ours.committer.view.version;
    let path = crate::lake::log::entry_path(&lake.store, ROWS, version);
    lake.faults.inner().delete(&path).await.unwrap();
    let (board, rejects) = (ours.board.clone(), ours.followers.remove(0));
    let what = trouble_during(&board, "followers", go_on_following(rejects, version)).await;
    assert!(what.contains("orders_rejects has not applied version 2 of orders, whose log entry is gone"), "{what}");
    assert_eq!(applied(&lake, REJECTS).await, 0);
}

#[tokio::test]
async fn what_a_person_has_to_mend_holds_up_no_end_and_waits_for_the_next_start() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();
    let version = ours.committer.view.version;
    let path = crate::lake::log::entry_path(&lake.store, ROWS, version);
    let (entry, _) = lake.store.read(&path).await.unwrap().unwrap();
    lake.faults.inner().delete(&path).await.unwrap();
    let (head, heads) = watch::channel(Head { version, watermark_ms: None, begun_ms: 0 });
    drop(head);
    let left = ours.followers.remove(0).run(heads).await.unwrap_err().to_string();
    assert!(left.contains("orders_rejects has not applied version 2 of orders"), "{left}");
    assert_eq!(lake.records(REJECTS).await, 0);

    lake.faults.inner().put(&path, entry.into()).await.unwrap();
    follow_all(Instance::of(lake.open().await)).await;
    assert_eq!(lake.records(REJECTS).await, 1);
}

#[tokio::test]
async fn entries_that_another_process_applied_and_then_cleaned_away_are_passed_over() {
    let lake = Lake::in_memory();
    let mut sleeper = lake.committer(&["a"]).await;
    let mut other = Instance::of(lake.open().await);
    other.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();
    let version = other.committer.view.version;
    follow_all(other).await;
    lake.faults.inner().delete(&crate::lake::log::entry_path(&lake.store, ROWS, version)).await.unwrap();
    let (board, rejects) = (sleeper.board.clone(), sleeper.followers.remove(0));
    follow(rejects, version).await;
    assert_eq!(board.snapshot().trouble.get("followers"), None);
    assert_eq!(lake.records(REJECTS).await, 1);
}

#[tokio::test]
async fn a_list_of_staged_files_that_is_none_is_an_alarm_and_never_skipped() {
    for staged in [json!("x.parquet"), json!({ REJECTS: { "path": "x.parquet" } }), json!({ REJECTS: ["x.parquet"] })] {
        let lake = Lake::in_memory();
        let mut ours = Instance::of(lake.open().await);
        let info = json!({ "ledger": identity().prefix(), "staged": staged });
        let version = lake.foreign(ROWS, &[json!({ "commitInfo": info })]).await;
        let (board, rejects) = (ours.board.clone(), ours.followers.remove(0));
        let what = trouble_during(&board, "followers", go_on_following(rejects, version)).await;
        assert!(what.contains("table orders, log version 1: its list of files staged for orders_rejects is"), "{what}");
        assert_eq!(applied(&lake, REJECTS).await, 0);
    }
}

#[tokio::test]
async fn a_table_that_does_not_say_how_far_it_has_followed_is_an_alarm_and_gets_nothing() {
    let lake = Lake::in_memory();
    let table = open_table(&lake.store, &lake.clock.moments(), tables().rejects, BTreeMap::new()).await.unwrap();
    let board = stream_board();
    let troubles = Troubles::new(board.clone(), "followers");
    let rejects = Follower::new(lake.store.clone(), table, ROWS, &identity(), metrics(), board.clone(), troubles);
    let what = trouble_during(&board, "followers", go_on_following(rejects, 3)).await;
    assert!(what.contains("applied is missing, so nobody knows up to which version of orders"), "{what}");
    assert_eq!(lake.version(REJECTS).await, 0);
}

/// A process whose contract does not have the window.
async fn without_the_window(lake: &Lake) -> Instance {
    let set = TableSet { partials: Vec::new(), ..tables() };
    let opened = StreamLake::open_tables(lake.store.clone(), identity(), set, lake.clock.moments());
    Instance::of(opened.await.unwrap())
}

#[tokio::test]
async fn a_window_that_comes_back_after_rows_were_committed_without_it_is_an_alarm_and_not_a_silent_hole() {
    let lake = Lake::in_memory();
    let grant = ShardGrant::new();
    let mut ours = lake.committer(&["a"]).await;
    ours.committer.flush(micro([batch("a", 0, 10, &grant)])).await.unwrap();
    follow_all(ours).await;
    let mut without = without_the_window(&lake).await;
    without.committer.flush(micro([quiet("a", 10, 60_000, &grant)])).await.unwrap();
    without.committer.flush(micro([batch("a", 10, 20, &grant)])).await.unwrap();
    let hole = without.committer.view.version;
    follow_all(without).await;

    let mut back = Instance::of(lake.open().await);
    back.committer.flush(micro([batch("a", 20, 30, &grant)])).await.unwrap();
    let (board, version) = (back.board.clone(), back.committer.view.version);
    let (partials, rejects) = (back.followers.remove(1), back.followers.remove(0));
    let what = trouble_during(&board, "followers", go_on_following(partials, version)).await;
    assert!(what.contains(&format!("version {hole} of orders has rows that were committed without it")), "{what}");
    let planned = plan_set(&lake.store, &identity(), &tables()).await.unwrap_err().to_string();
    assert!(planned.contains(&format!("version {hole} of orders has rows")), "who asks before is told: {planned}");
    assert!(applied(&lake, PARTIALS).await < hole as i64, "it does not say that it is complete");
    assert_eq!(lake.records(PARTIALS).await, 1);
    follow(rejects, version).await;
    assert_eq!(lake.records(REJECTS).await, 3, "its neighbours go on");
}

#[tokio::test]
async fn a_new_window_begins_behind_what_an_older_process_commits_while_it_is_replaced() {
    let lake = Lake::in_memory();
    let grant = ShardGrant::new();
    let mut old = without_the_window(&lake).await;
    old.committer.register(&[register("a")]).await.unwrap();
    let opened = lake.open().await;
    old.committer.flush(micro([batch("a", 0, 10, &grant)])).await.unwrap();
    old.committer.flush(micro([batch("a", 10, 20, &grant)])).await.unwrap();
    let mut new = Instance::of(opened);
    new.committer.refresh().await.unwrap();
    new.committer.flush(micro([batch("a", 20, 30, &ShardGrant::new())])).await.unwrap();
    follow_all(new).await;
    assert_eq!(lake.records(PARTIALS).await, 1, "of the rows that were committed with it");
    let txns = read_table(&lake.store, PARTIALS, "").await.unwrap().unwrap().txns;
    assert!(txns[&identity().since_id()] > 1_700_000_000_000, "what came before now is not promised");
    assert_eq!(applied(&lake, PARTIALS).await, lake.version(ROWS).await as i64);
}

#[tokio::test]
async fn versions_without_files_are_passed_and_written_down_now_and_then() {
    let lake = Lake::in_memory();
    let mut ours = Instance::of(lake.open().await);
    for shard in 0..120 {
        ours.committer.register(&[register(&format!("shard-{shard}"))]).await.unwrap();
    }
    follow_all(ours).await;
    assert_eq!(lake.version(REJECTS).await, 1);
    assert!(applied(&lake, REJECTS).await >= 100);
    assert_eq!(lake.records(REJECTS).await, 0);
}

#[tokio::test]
async fn a_table_that_comes_later_starts_at_the_head() {
    let lake = Lake::in_memory();
    let (without, with) = (TableSet { partials: Vec::new(), ..tables() }, tables());
    let opened = StreamLake::open_tables(lake.store.clone(), identity(), without, lake.clock.moments()).await;
    let mut ours = Instance::of(opened.unwrap());
    ours.committer.register(&[register("a")]).await.unwrap();
    ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();

    let opened = StreamLake::open_tables(lake.store.clone(), identity(), with, lake.clock.moments()).await;
    let mut later = Instance::of(opened.unwrap());
    assert_eq!(applied(&lake, PARTIALS).await, 2);
    later.committer.flush(micro([batch("a", 10, 20, &ShardGrant::new())])).await.unwrap();
    follow_all(later).await;
    assert_eq!((lake.records(REJECTS).await, lake.records(PARTIALS).await), (2, 1));
}

#[tokio::test]
async fn a_stream_that_was_made_again_takes_over_what_its_former_self_left_behind() {
    let lake = Lake::in_memory();
    let mut former = lake.committer(&["a"]).await;
    former.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();

    let again = StreamIdentity { created_at_s: identity().created_at_s + 60, ..identity() };
    let tables = tables_of(&again);
    let opened = StreamLake::open_tables(lake.store.clone(), again.clone(), tables, lake.clock.moments()).await;
    let opened = opened.unwrap();
    assert!(opened.view.shards.is_empty(), "its shards are other shards");
    follow_all(Instance::of(opened)).await;
    assert_eq!(lake.records(REJECTS).await, 1);

    follow_all(former).await;
    assert_eq!(lake.records(REJECTS).await, 1, "the former self has nothing left to do");
}

#[tokio::test]
async fn files_that_another_stream_staged_in_the_same_rows_table_are_not_ours() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    let add = json!({ "path": "x.parquet", "stats": "{\"numRecords\":3}" });
    let info = json!({ "ledger": "shop/other@1/", "staged": { REJECTS: [add] } });
    lake.foreign(ROWS, &[json!({ "commitInfo": info })]).await;
    ours.committer.flush(micro([batch("a", 0, 10, &ShardGrant::new())])).await.unwrap();
    follow_all(ours).await;
    assert_eq!(lake.records(REJECTS).await, 1);
}

/// How many rows a start brings back.
pub async fn rows_of(recent: &RecentPartials) -> usize {
    let mut rows = 0;
    let counted = recent.each(|batch| {
        rows += batch.num_rows();
        Ok(())
    });
    counted.await.unwrap();
    rows
}
