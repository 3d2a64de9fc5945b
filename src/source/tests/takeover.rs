//! Two processes on one shard, without leases: who waits, and for how long.

use std::time::Duration;

use serde_json::json;

use super::fake::{Fake, open, read};
use super::rig::{Run, World, options, shard};
use crate::checkpoint::SequenceNumber;
use crate::source::{SourceOptions, Timing};

/// Another process has committed up to this number.
fn overtake(world: &World, number: &str) {
    world.change(|state| {
        let entry = state.view.shards.get_mut(&shard(0)).unwrap();
        entry.position = SequenceNumber::parse(number).ok();
    });
}

/// Reads quickly and lists once.
fn timing() -> Timing {
    Timing { read_interval: Some(Duration::from_millis(5)), ..Timing::default() }
}

/// A reader that is fenced at once; `flush_interval` is how often its shard is looked at then.
async fn fenced(flush_interval: Duration) -> (Fake, std::sync::Arc<World>, Run) {
    let fake = Fake::start(vec![open(0, &[])]).await;
    fake.script().reads = [read(&["1"])].into();
    let world = World::new();
    let run = Run::start(&fake.kinesis, &world, SourceOptions { flush_interval, ..options() }, timing()).await;
    world.until_records(1).await;
    overtake(&world, "7");
    let mut late = read(&["2"]);
    late.1["MillisBehindLatest"] = json!(90_000);
    fake.script().reads.push_back(late);
    world.until("the fence", |state| !state.fenced.is_empty()).await;
    (fake, world, run)
}

#[tokio::test]
async fn a_spare_whose_shards_another_process_commits_is_not_ready_until_it_takes_over() {
    let (fake, world, run) = fenced(Duration::from_millis(200)).await;
    run.until_board(|board| board.trouble.contains_key("fenced")).await;
    let board = run.board.snapshot();
    assert!(board.trouble["fenced"].contains("another process commits all 1 open shards"), "{:?}", board.trouble);
    assert_eq!(board.shards[&shard(0)].state, "fenced");
    let told = ["pintail_behind_seconds", "pintail_retention_headroom_ratio"].map(|name| run.gauge(name, &shard(0)));
    assert_eq!(told, [0.0, 1.0], "how late it is is for the other one to say");
    // As long as the other one is alive, nothing changes.
    for number in ["8", "9"] {
        let looks = world.state().looks;
        overtake(&world, number);
        world.until("another look", |state| state.looks > looks + 1).await;
        assert!(run.board.snapshot().trouble.contains_key("fenced"));
    }
    fake.script().reads.push_back(read(&["10"]));
    world.until_records(2).await;
    run.until_board(|board| !board.trouble.contains_key("fenced") && board.shards[&shard(0)].state == "reading").await;
    run.stop().await;
    assert_eq!(world.payloads(), ["1", "10"]);
}

/// Flush intervals until `done`, by a timer on the runtime that the reader runs on: a machine that is slow makes both late.
async fn intervals_until(flush_interval: Duration, done: impl Future<Output = ()>) -> u32 {
    let (mut done, mut intervals) = (std::pin::pin!(done), 0);
    loop {
        tokio::select! {
            biased;
            () = &mut done => return intervals,
            () = tokio::time::sleep(flush_interval) => intervals += 1,
        }
    }
}

#[tokio::test]
async fn a_shard_whose_owner_was_killed_is_taken_at_the_third_look_a_flush_interval_apart() {
    let flush_interval = Duration::from_millis(150);
    let (fake, world, run) = fenced(flush_interval).await;
    run.until_board(|board| board.shards[&shard(0)].state == "fenced").await;
    let (looks, fenced_at) = (world.state().looks, tokio::time::Instant::now());
    fake.script().reads.push_back(read(&["8"]));
    let taken = intervals_until(flush_interval, world.until_records(2)).await;
    assert_eq!(world.state().looks - looks, 3);
    assert!(fenced_at.elapsed() >= flush_interval * 2, "three looks in a row are not three intervals");
    // Three of them pass until it may be read, and reading it is a matter of milliseconds.
    assert!(taken <= 6, "taken after {taken} flush intervals");
    run.stop().await;
}
