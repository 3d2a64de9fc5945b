//! Real HTTP, real resharding: what a stream's reader must get right on any Kinesis.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use ferrokinesis::actions::{Operation, dispatch};
use ferrokinesis::store::{Store, StoreOptions};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::rig::{Run, STREAM, World, brisk, options, shard};
use crate::checkpoint::{Position, ShardEntry};
use crate::clock;
use crate::limits::READ_COST_MAX;
use crate::source::{Kinesis, SourceError, SourceOptions, StartPosition, Timing, describe};
use crate::status::StatusBoard;

/// An embedded Kinesis with one stream; stops when dropped.
struct Emulator {
    kinesis: Kinesis,
    store: Store,
    _server: JoinSet<()>,
}

impl Emulator {
    async fn start(shards: usize) -> Self {
        Self::with(shards, 300).await
    }

    async fn with(shards: usize, iterator_ttl_seconds: u64) -> Self {
        let (app, store) = ferrokinesis::create_app(StoreOptions {
            create_stream_ms: 0,
            delete_stream_ms: 0,
            update_stream_ms: 0,
            shard_limit: 500,
            iterator_ttl_seconds,
            ..StoreOptions::default()
        });
        let app = app.layer(DefaultBodyLimit::max(64 << 20));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, app).await.unwrap() });
        let emulator = Self { kinesis: Kinesis::local(&endpoint), store, _server: server };
        emulator.ask(Operation::CreateStream, json!({"StreamName": STREAM, "ShardCount": shards})).await;
        emulator.active().await;
        emulator
    }

    async fn ask(&self, operation: Operation, body: Value) -> Value {
        dispatch(&self.store, operation, body)
            .await
            .map_err(|e| format!("{:?}", e.body.message))
            .unwrap()
            .unwrap_or_default()
    }

    /// Waits until the stream has settled after a change.
    async fn active(&self) {
        loop {
            let body = self.ask(Operation::DescribeStreamSummary, json!({"StreamName": STREAM})).await;
            if body["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE" {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn put(&self, payload: &[u8], hash_key: u128) {
        let data = base64_simd::STANDARD.encode_to_string(payload);
        let body = json!({
            "StreamName": STREAM, "PartitionKey": "k", "ExplicitHashKey": hash_key.to_string(), "Data": data,
        });
        self.ask(Operation::PutRecord, body).await;
    }

    /// Records `{prefix}{0..count}`, spread over the hash keys.
    async fn put_many(&self, prefix: &str, count: usize) -> Vec<String> {
        let mut names = Vec::new();
        for n in 0..count {
            let name = format!("{prefix}{n}");
            let spread = (n as u128).wrapping_mul(u128::MAX / 7 * 3 + 11);
            self.put(name.as_bytes(), spread).await;
            names.push(name);
        }
        names
    }

    async fn split(&self, n: usize, at: u128) {
        let body = json!({
            "StreamName": STREAM, "ShardToSplit": shard(n).as_str(), "NewStartingHashKey": at.to_string(),
        });
        self.ask(Operation::SplitShard, body).await;
        self.active().await;
    }

    async fn merge(&self, a: usize, b: usize) {
        let body = json!({
            "StreamName": STREAM, "ShardToMerge": shard(a).as_str(), "AdjacentShardToMerge": shard(b).as_str(),
        });
        self.ask(Operation::MergeShards, body).await;
        self.active().await;
    }
}

fn sorted(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.into_iter().collect();
    names.sort();
    names
}

/// Every name once, and each shard's records in the order of their numbers.
fn assert_each_once(world: &World, names: Vec<String>) {
    assert_eq!(sorted(world.payloads()), sorted(names));
    let mut last = BTreeMap::new();
    for (shard, record) in &world.state().records {
        if let Some(before) = last.insert(shard.clone(), record.sequence_number) {
            assert!(before < record.sequence_number, "{shard}: {} after {before}", record.sequence_number);
        }
    }
}

#[tokio::test]
async fn everything_is_read_once_and_in_order_from_the_trim_horizon() {
    let emulator = Emulator::start(3).await;
    let mut names = emulator.put_many("before-", 60).await;
    let world = World::new();
    let run = Run::start(&emulator.kinesis, &world, options(), brisk()).await;
    names.extend(emulator.put_many("during-", 60).await);
    world.until_records(120).await;
    assert_each_once(&world, names);
    assert_eq!(run.count("pintail_records_read_total", &[]), 120);
    let status = run.board.snapshot();
    assert_eq!(status.shards.len(), 3);
    assert!(status.shards.values().all(|shard| shard.state == "reading" && shard.position.is_some()), "{status:?}");
    assert!(!status.trouble.contains_key("source"));
    run.stop().await;
}

#[tokio::test]
async fn a_restart_goes_on_where_the_ledger_is() {
    let emulator = Emulator::start(2).await;
    let mut names = emulator.put_many("a-", 20).await;
    let world = World::new();
    let run = Run::start(&emulator.kinesis, &world, options(), brisk()).await;
    world.until_records(20).await;
    run.stop().await;
    names.extend(emulator.put_many("b-", 20).await);
    // What the configuration says now does not matter any more.
    let latest = SourceOptions { start: StartPosition::Latest, ..options() };
    let run = Run::start(&emulator.kinesis, &world, latest, brisk()).await;
    world.until_records(40).await;
    run.stop().await;
    assert_each_once(&world, names);
}

#[tokio::test]
async fn a_writer_that_fails_skips_no_record() {
    let emulator = Emulator::start(2).await;
    let mut names = emulator.put_many("a-", 10).await;
    let world = World::new();
    let mut run = Run::start(&emulator.kinesis, &world, options(), brisk()).await;
    world.until_records(10).await;
    world.change(|state| state.closed = true);
    names.extend(emulator.put_many("b-", 10).await);
    assert!(matches!(run.outcome().await, Err(SourceError::Ledger(_))), "it ends instead of reading on");
    names.extend(emulator.put_many("c-", 10).await);
    world.change(|state| state.closed = false);
    let run = Run::start(&emulator.kinesis, &world, options(), brisk()).await;
    world.until_records(30).await;
    run.stop().await;
    assert_each_once(&world, names);
}

#[tokio::test]
async fn closed_unread_parents_come_before_their_children() {
    let emulator = Emulator::start(1).await;
    let mut names = emulator.put_many("parent-", 20).await;
    emulator.split(0, u128::MAX / 2).await;
    names.extend(emulator.put_many("child-", 20).await);
    emulator.split(1, u128::MAX / 4).await;
    names.extend(emulator.put_many("grandchild-", 20).await);
    let world = World::new();
    let run = Run::start(&emulator.kinesis, &world, options(), brisk()).await;
    world.until_records(60).await;
    run.stop().await;
    assert_each_once(&world, names);
    let state = world.state();
    assert_eq!(state.ended, [shard(0), shard(1)]);
    let first = |n: usize| state.records.iter().position(|(id, _)| *id == shard(n)).unwrap();
    let last = |n: usize| state.records.iter().rposition(|(id, _)| *id == shard(n)).unwrap();
    assert!(last(0) < first(1) && last(0) < first(2), "children after shard 0");
    assert!(last(1) < first(3) && last(1) < first(4), "children after shard 1");
}

#[tokio::test]
async fn started_at_latest_nothing_is_lost_across_a_split_before_the_reader_catches_up() {
    let emulator = Emulator::start(1).await;
    emulator.put_many("too early ", 5).await;
    // The emulator keeps arrival times in whole seconds: let the second pass.
    let put_at = clock::now_ms() / 1000;
    while clock::now_ms() / 1000 == put_at {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let world = World::new();
    let latest = SourceOptions { start: StartPosition::Latest, ..options() };
    let run = Run::start(&emulator.kinesis, &world, latest.clone(), brisk()).await;
    world.until("registration", |state| !state.view.shards.is_empty()).await;
    run.stop().await;
    let before = world.payloads().len();
    let mut names = emulator.put_many("parent-", 20).await;
    emulator.split(0, u128::MAX / 2).await;
    names.extend(emulator.put_many("child-", 20).await);
    emulator.merge(1, 2).await;
    names.extend(emulator.put_many("grandchild-", 20).await);
    let run = Run::start(&emulator.kinesis, &world, latest, brisk()).await;
    world.until_records(60).await;
    run.stop().await;
    assert_eq!(before, 0, "{:?}", world.payloads());
    assert_each_once(&world, names);
    let state = world.state();
    assert!(state.view.shards[&shard(0)].start_ms > 0, "pinned");
    assert_eq!(state.view.shards[&shard(1)].start_ms, 0, "a shard found later is read from its beginning");
}

#[tokio::test]
async fn a_merged_shard_waits_until_the_ends_of_both_parents_are_committed() {
    let emulator = Emulator::start(2).await;
    let mut names = emulator.put_many("parents-", 20).await;
    emulator.merge(0, 1).await;
    names.extend(emulator.put_many("merged-", 20).await);
    let world = World::new();
    world.change(|state| state.hold_ends_of = [shard(1)].into());
    let run = Run::start(&emulator.kinesis, &world, options(), brisk()).await;
    // Shard 0 has ended and was looked at since; the other parent's end is not committed.
    let looked_at = |run: &Run| {
        let states: Vec<_> = run.board.snapshot().shards.values().map(|shard| shard.state).collect();
        states == ["ended", "reading", "waiting"]
    };
    world.until("the second end", |state| state.held_ends.len() == 1).await;
    run.until_board(|_| looked_at(&run)).await;
    assert!(world.state().records.iter().all(|(id, _)| *id != shard(2)), "read before both parents ended");
    // Even a restart does not start it.
    run.stop().await;
    world.change(|state| state.held_ends.clear());
    let run = Run::start(&emulator.kinesis, &world, options(), brisk()).await;
    world.until("the second end again", |state| state.held_ends.len() == 1).await;
    run.until_board(|_| looked_at(&run)).await;
    assert!(world.state().records.iter().all(|(id, _)| *id != shard(2)), "read before both parents ended");
    world.release_ends();
    world.until_records(40).await;
    run.stop().await;
    assert_each_once(&world, names);
}

#[tokio::test]
async fn an_iterator_that_expires_while_memory_is_short_costs_neither_a_gap_nor_a_duplicate() {
    let emulator = Emulator::with(1, 1).await;
    let mut names = emulator.put_many("a-", 10).await;
    let world = World::new();
    let run = Run::start(&emulator.kinesis, &world, options(), brisk()).await;
    world.until_records(10).await;
    // All memory is taken: the reader must wait, and its iterator, good for one second, grows old.
    let all = run.budget.reserve(2 * READ_COST_MAX).await;
    names.extend(emulator.put_many("b-", 10).await);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(world.payloads().len(), 10, "no memory, no read");
    drop(all);
    world.until_records(20).await;
    assert!(run.count("pintail_reads_total", &["expired_iterator"]) > 0);
    run.stop().await;
    assert_each_once(&world, names);
}

#[tokio::test]
async fn an_iterator_too_old_to_try_is_renewed_without_a_gap_or_a_duplicate() {
    let emulator = Emulator::start(1).await;
    let mut names = emulator.put_many("a-", 10).await;
    let world = World::new();
    let timing = Timing { iterator_age_max: Duration::ZERO, ..brisk() };
    let run = Run::start(&emulator.kinesis, &world, options(), timing).await;
    world.until_records(10).await;
    names.extend(emulator.put_many("b-", 10).await);
    world.until_records(20).await;
    assert_eq!(run.count("pintail_reads_total", &["expired_iterator"]), 0);
    run.stop().await;
    assert_each_once(&world, names);
}

#[tokio::test]
async fn a_fenced_reader_stops_and_its_shard_is_taken_again_where_the_ledger_is() {
    let emulator = Emulator::start(1).await;
    emulator.put_many("a-", 10).await;
    let world = World::new();
    let run = Run::start(&emulator.kinesis, &world, options(), brisk()).await;
    world.until_records(10).await;
    // Another process commits the next five: its position is in the ledger before ours.
    let other = World::new();
    let elsewhere = Run::start(&emulator.kinesis, &other, options(), brisk()).await;
    other.until_records(10).await;
    let ours = world.state().view.shards[&shard(0)];
    world.change(|state| {
        state.view.shards.insert(shard(0), ShardEntry { position: None, start_ms: 1, ..ours });
    });
    emulator.put_many("b-", 5).await;
    other.until_records(15).await;
    world.until("the fence", |state| !state.fenced.is_empty()).await;
    let theirs = other.state().view.shards[&shard(0)];
    world.change(|state| {
        state.view.shards.insert(shard(0), theirs);
    });
    emulator.put_many("c-", 5).await;
    world.until_records(15).await;
    elsewhere.stop().await;
    run.stop().await;
    let names: Vec<String> = world.payloads();
    assert_eq!(names[10..], ["c-0", "c-1", "c-2", "c-3", "c-4"], "taken again after what the other one committed");
}

#[tokio::test]
async fn the_largest_records_come_through() {
    let emulator = Emulator::start(1).await;
    let sizes = [1 << 20, 10 << 20, 3];
    for (n, size) in sizes.into_iter().enumerate() {
        emulator.put(&vec![b'a' + n as u8; size], 0).await;
    }
    let world = World::new();
    let run = Run::start(&emulator.kinesis, &world, options(), brisk()).await;
    world.until_records(3).await;
    run.stop().await;
    let state = world.state();
    for ((_, record), (n, size)) in state.records.iter().zip(sizes.into_iter().enumerate()) {
        assert_eq!(record.data.len(), size);
        assert!(record.data.iter().all(|byte| *byte == b'a' + n as u8));
    }
}

#[tokio::test]
async fn a_stream_of_many_shards_is_read_whole() {
    let emulator = Emulator::start(120).await;
    let width = u128::MAX / 120;
    let mut names = Vec::new();
    for n in 0..120 {
        let name = format!("of shard {n}");
        emulator.put(name.as_bytes(), width * n as u128 + width / 2).await;
        names.push(name);
    }
    let world = World::new();
    let timing = Timing { read_interval: Some(Duration::from_millis(200)), ..brisk() };
    let run = Run::start(&emulator.kinesis, &world, options(), timing).await;
    world.until_records(120).await;
    run.stop().await;
    assert_each_once(&world, names);
    let shards: BTreeSet<_> = world.state().records.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(shards.len(), 120);
}

#[tokio::test]
async fn an_idle_shard_is_known_to_be_complete_until_now_and_the_writer_is_not_flooded() {
    let emulator = Emulator::start(1).await;
    let world = World::new();
    let started_ms = clock::now_ms() / 1000 * 1000;
    let run = Run::start(&emulator.kinesis, &world, options(), brisk()).await;
    world.until("two empty batches", |state| state.batches.len() >= 2).await;
    run.stop().await;
    let state = world.state();
    let seen: Vec<i64> =
        state.batches.iter().map(|(_, records, seen)| seen.filter(|_| *records == 0).unwrap()).collect();
    // However often it was asked in between: a second between two batches.
    assert!(seen[0] >= started_ms && seen[1] >= seen[0] + 1000, "{seen:?}");
    assert_eq!(state.view.shards[&shard(0)].resume(), Position::Beginning);
}

#[tokio::test]
async fn a_stream_is_described_by_its_name_and_awaited_while_it_is_created() {
    let emulator = Emulator::start(4).await;
    let board = StatusBoard::default().stream(STREAM);
    let stream = describe(&emulator.kinesis, STREAM, &board, &CancellationToken::new()).await.unwrap();
    assert_eq!((stream.name.as_str(), stream.open_shards), (STREAM, 4));
    assert_eq!(stream.retention, Duration::from_secs(24 * 3600));
    assert!((clock::now_ms() / 1000 - stream.created_s).abs() < 60);
    assert!(stream.arn.ends_with("stream/postings"), "{}", stream.arn);
}
