//! What retention trims, and who is told.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::fake::{Fake, closed, ok, open, read, refuse};
use super::rig::{Run, World, brisk, options, shard};
use crate::checkpoint::{SequenceNumber, ShardEntry};
use crate::clock;
use crate::limits::READ_COST_MAX;
use crate::source::{
    ListedShard, OnDataLoss, SourceOptions, Status, StreamDescription, StreamTarget, oldest_record, overdue,
};

const NEW: ShardEntry = ShardEntry::NEW;

fn hours_ago(hours: i64) -> i64 {
    clock::now_ms() - hours * 3_600_000
}

fn read_until(seen_ms: i64) -> ShardEntry {
    ShardEntry { position: SequenceNumber::parse("5").ok(), seen_ms: Some(seen_ms), ..NEW }
}

fn going_on() -> SourceOptions {
    SourceOptions { on_data_loss: OnDataLoss::Continue, ..options() }
}

#[tokio::test]
async fn a_child_whose_parents_last_record_is_older_than_the_retention_is_no_false_alarm() {
    let fake = Fake::start(vec![closed(0, &[]), open(1, &[0])]).await;
    // The first one is read again: its age is asked for in between.
    fake.script().reads = [read(&["9"]), read(&["9"]), read(&["10"])].into();
    let world = World::new();
    let last_record_ms = hours_ago(25);
    world.knows(shard(0), ShardEntry { ended: true, ..read_until(last_record_ms) });
    world.knows(shard(1), ShardEntry { seen_ms: Some(last_record_ms), ..NEW });
    let run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    world.until_records(2).await;
    assert_eq!(run.count("pintail_data_loss_total", &[]), 0);
    run.stop().await;
}

#[tokio::test]
async fn the_age_of_a_shard_is_asked_for_with_no_memory_in_hand() {
    let fake = Fake::start(vec![closed(0, &[]), open(1, &[0])]).await;
    let world = World::new();
    let last_record_ms = hours_ago(25);
    world.knows(shard(0), ShardEntry { ended: true, ..read_until(last_record_ms) });
    world.knows(shard(1), ShardEntry { seen_ms: Some(last_record_ms), ..NEW });
    // The coordinator's listing, and then none for as long as the test likes.
    let refused = std::iter::repeat_n(refuse("LimitExceededException"), 100_000);
    fake.script().listings =
        [ok(json!({"Shards": [closed(0, &[]), open(1, &[0])]}))].into_iter().chain(refused).collect();
    let run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    run.until_board(|board| board.shards.get(&shard(1)).is_some_and(|shard| shard.behind_ms.is_some())).await;
    let all = tokio::time::timeout(Duration::from_secs(30), run.budget.reserve(run.budget.bytes_max())).await;
    drop(all.expect("other shards read meanwhile"));
    fake.script().reads = [read(&["9"])].into();
    fake.script().listings.clear();
    world.until_records(1).await;
    assert_eq!(run.count("pintail_data_loss_total", &[]), 0);
    run.stop().await;
}

#[tokio::test]
async fn what_descends_from_a_vanished_shard_has_an_alarm_of_its_own_with_its_own_range() {
    let fake = Fake::start(vec![open(3, &[0]), open(5, &[4])]).await;
    let world = World::new();
    let seen_ms = hours_ago(25);
    world.knows(shard(0), read_until(seen_ms));
    let run = Run::start(&fake.kinesis, &world, going_on(), brisk()).await;
    world.until("both are registered", |state| state.view.shards.len() == 3).await;
    fake.script().reads = std::iter::repeat_n(read(&["9"]), 4).collect();
    world.until_records(2).await;
    assert_eq!(world.state().lost, [(shard(0), vec![shard(3), shard(5)])]);
    assert_eq!(run.count("pintail_data_loss_total", &[]), 3);
    let lost = run.board.snapshot().lost;
    for (n, range) in [(0, "positions (after 5, newest]"), (3, "positions (beginning, "), (5, "positions (beginning, ")]
    {
        let text = &lost[&shard(n)];
        assert!(text.contains(range) && text.contains(&format!("arrived in ({seen_ms}, ")), "{text}");
    }
    run.stop().await;
}

#[tokio::test]
async fn a_loss_that_is_gone_on_from_is_shown_and_the_stream_is_ready() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    fake.script().reads = [read(&["9"])].into();
    let world = World::new();
    world.knows(shard(0), read_until(hours_ago(25)));
    let run = Run::start(&fake.kinesis, &world, going_on(), brisk()).await;
    world.until_records(1).await;
    let board = run.board.snapshot();
    assert!(board.lost[&shard(0)].contains("positions (after 5, 9]"), "{:?}", board.lost);
    assert!(!board.trouble.contains_key("data_loss"));
    run.stop().await;
}

/// A reader that is half a day behind with one record in its hands, which nobody takes.
async fn half_a_day_behind() -> (Fake, Arc<World>, Run) {
    let fake = Fake::start(vec![open(0, &[])]).await;
    let mut behind = read(&["6"]);
    behind.1["MillisBehindLatest"] = (12 * 3_600_000).into();
    fake.script().reads = [behind].into();
    let world = World::new();
    world.change(|state| state.stuck = true);
    let run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    run.until_board(|board| board.shards.get(&shard(0)).is_some_and(|shard| shard.records == 1)).await;
    (fake, world, run)
}

#[tokio::test]
async fn a_retention_that_is_changed_counts_from_the_next_look_at_the_stream_on() {
    let (fake, world, run) = half_a_day_behind().await;
    fake.script().retention_h = 48;
    let grows = async {
        while run.gauge("pintail_retention_headroom_ratio", &shard(0)) < 0.7 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), grows).await.expect("12 hours of 48 leave three quarters");
    world.change(|state| state.stuck = false);
    world.until_records(1).await;
    run.stop().await;
}

/// The headroom of the one shard is told anew though nothing is read.
async fn assert_headroom_shrinks(run: &Run) {
    let told = run.gauge("pintail_retention_headroom_ratio", &shard(0));
    assert!((0.4..0.6).contains(&told), "{told}");
    let shrinks = async {
        while run.gauge("pintail_retention_headroom_ratio", &shard(0)) >= told {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), shrinks).await.expect("the headroom stands still");
}

#[tokio::test]
async fn the_headroom_shrinks_while_a_reader_waits_for_memory() {
    let (_fake, world, run) = half_a_day_behind().await;
    // The reader has one read's worth in its hands; now nothing is left for the next.
    let _all = run.budget.reserve(READ_COST_MAX).await;
    assert_headroom_shrinks(&run).await;
    world.change(|state| state.stuck = false);
    world.until_records(1).await;
    run.stop().await;
}

#[tokio::test]
async fn the_headroom_shrinks_while_a_reader_waits_for_the_writer() {
    let (_fake, world, run) = half_a_day_behind().await;
    assert_headroom_shrinks(&run).await;
    world.change(|state| state.stuck = false);
    world.until_records(1).await;
    run.stop().await;
}

#[test]
fn what_is_overdue_is_known_before_anything_is_read() {
    let hour_ms = 3_600_000;
    let stream = StreamDescription {
        target: StreamTarget::new("s"),
        name: "s".to_owned(),
        arn: String::new(),
        created_s: 1,
        retention: Duration::from_secs(24 * 3_600),
        open_shards: 1,
        status: Status::Readable,
    };
    let listed: Vec<ListedShard> = [(1, vec![]), (2, vec![1]), (3, vec![0]), (4, vec![]), (5, vec![])]
        .into_iter()
        .map(|(n, parents)| ListedShard {
            id: shard(n),
            parents: parents.into_iter().map(shard).collect(),
            hash_range: None,
            closed: false,
        })
        .collect();
    let world = World::new();
    for (n, entry) in [
        (0, read_until(30 * hour_ms)),
        (1, read_until(5 * hour_ms)),
        (2, ShardEntry { seen_ms: Some(5 * hour_ms), ..NEW }),
        (3, ShardEntry { seen_ms: Some(5 * hour_ms), ..NEW }),
        (4, ShardEntry { ended: true, ..read_until(5 * hour_ms) }),
        (5, NEW),
    ] {
        world.knows(shard(n), entry);
    }
    let ranges = overdue(&stream, &listed, &world.state().view, 30 * hour_ms);
    let told: Vec<_> = ranges.iter().map(|range| (range.shard.clone(), range.seen_ms, range.horizon_ms)).collect();
    // 0 has vanished, 1 and 3 are beyond the retention; 2 is a child of a listed parent, 4 has ended, 5 was never read.
    let horizon_ms = 6 * hour_ms;
    let expected = [(0, 30), (1, 5), (3, 5)].map(|(n, hours)| (shard(n), Some(hours * hour_ms), horizon_ms));
    assert_eq!(told, expected);
}

#[tokio::test]
async fn the_oldest_record_is_found_behind_empty_answers() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    let nothing_yet = ok(json!({"Records": [], "NextShardIterator": "n", "MillisBehindLatest": 9}));
    fake.script().reads = [nothing_yet, read(&["7"])].into();
    let target = StreamTarget::new("s");
    let found = oldest_record(&fake.kinesis, &target, &shard(0)).await.unwrap();
    assert_eq!(found, SequenceNumber::parse("7").ok());
    assert_eq!(oldest_record(&fake.kinesis, &target, &shard(0)).await.unwrap(), None, "nothing is behind");
}
