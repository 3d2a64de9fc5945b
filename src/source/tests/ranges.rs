//! A range of time: what is taken of a shard, and when everything is taken.

use serde_json::{Value, json};

use super::fake::{Fake, closed, last, ok, open, record};
use super::rig::{Run, World, brisk, options, shard};
use crate::checkpoint::TimeRange;
use crate::clock;
use crate::source::{OnDataLoss, SourceError, SourceOptions};

const MINUTE_MS: i64 = 60_000;

/// From two minutes ago to one minute ago.
fn range() -> TimeRange {
    let now_ms = clock::now_ms() / 1000 * 1000;
    TimeRange { from_ms: now_ms - 2 * MINUTE_MS, to_ms: now_ms - MINUTE_MS }
}

fn only(range: TimeRange) -> SourceOptions {
    SourceOptions { range: Some(range), ..options() }
}

fn arrived(number: &str, at_ms: i64) -> Value {
    let mut record = record(number);
    record["ApproximateArrivalTimestamp"] = json!(at_ms as f64 / 1000.0);
    record
}

fn reply(records: &[Value]) -> (u16, Value) {
    ok(json!({"Records": records, "NextShardIterator": "next", "MillisBehindLatest": 1}))
}

#[tokio::test]
async fn what_arrived_in_the_range_is_taken_however_it_is_ordered_and_then_there_is_an_end() {
    let range = range();
    let fake = Fake::start(vec![open(0, &[])]).await;
    let (from, to) = (range.from_ms, range.to_ms);
    fake.script().reads = [
        reply(&[arrived("1", from - 1), arrived("2", from), arrived("3", from - 1)]),
        reply(&[arrived("4", to - 1), arrived("5", to), arrived("6", to - 1)]),
        reply(&[arrived("7", to + 4_999)]),
        reply(&[arrived("8", to - 1), arrived("9", to + 5_000)]),
        reply(&[arrived("10", to - 1)]),
    ]
    .into();
    let world = World::new();
    let mut run = Run::start(&fake.kinesis, &world, only(range), brisk()).await;
    run.outcome().await.unwrap();
    assert_eq!(world.payloads(), ["2", "4", "6", "8"]);
    let entry = world.state().view.shards[&shard(0)];
    assert!(entry.ended);
    assert_eq!((entry.start_ms, entry.position.unwrap().to_string().as_str()), (from, "9"), "all of a reply is done");
    assert_eq!(fake.script().reads.len(), 1, "and nothing is read beyond it");
}

#[tokio::test]
async fn children_of_shards_in_the_range_are_read_from_their_beginning_and_end_it() {
    let range = range();
    let fake = Fake::start(vec![closed(0, &[]), open(1, &[0])]).await;
    let child = json!([{"ShardId": shard(1).as_str(), "ParentShards": [shard(0).as_str()],
        "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": u128::MAX.to_string()}}]);
    let (status, mut parent) = last(&["1"], child);
    parent["Records"] = json!([arrived("1", range.from_ms + 1)]);
    fake.script().reads = [(status, parent), reply(&[arrived("2", range.to_ms - 1)])].into();
    let world = World::new();
    // The idle answers that follow say by their date that nothing more of the range can come.
    let mut run = Run::start(&fake.kinesis, &world, only(range), brisk()).await;
    run.outcome().await.unwrap();
    assert_eq!(world.payloads(), ["1", "2"]);
    assert_eq!(world.state().ended, [shard(0), shard(1)]);
}

#[tokio::test]
async fn a_listing_without_the_children_of_a_closed_shard_is_not_the_end() {
    let range = range();
    let fake = Fake::start(vec![closed(0, &[]), open(1, &[0])]).await;
    let without = || ok(json!({"Shards": [closed(0, &[])]}));
    // The first look lists twice: all shards, then those that were open after the start.
    fake.script().listings = [without(), without(), without(), without()].into();
    let (status, mut parent) = last(&["1"], Value::Null);
    parent["Records"] = json!([arrived("1", range.from_ms)]);
    fake.script().reads = [(status, parent), reply(&[arrived("2", range.from_ms + 1)])].into();
    let world = World::new();
    let mut run = Run::start(&fake.kinesis, &world, only(range), brisk()).await;
    run.outcome().await.unwrap();
    assert_eq!(world.payloads(), ["1", "2"]);
}

#[tokio::test]
async fn a_range_beyond_the_retention_is_a_loss_by_the_same_rule_as_the_services() {
    let range = TimeRange { from_ms: clock::now_ms() - 25 * 60 * MINUTE_MS, ..range() };
    for on_data_loss in [OnDataLoss::Fail, OnDataLoss::Continue] {
        let fake = Fake::start(vec![open(0, &[])]).await;
        fake.script().reads = [reply(&[arrived("9", range.to_ms - 1)])].into();
        let world = World::new();
        let options = SourceOptions { on_data_loss, ..only(range) };
        let mut run = Run::start(&fake.kinesis, &world, options, brisk()).await;
        let outcome = run.outcome().await;
        assert_eq!(run.count("pintail_data_loss_total", &[]), 1);
        match on_data_loss {
            OnDataLoss::Fail => {
                let Err(SourceError::DataLoss(lost)) = outcome else { panic!("{outcome:?}") };
                assert_eq!((lost.seen_ms, lost.first.unwrap().to_string().as_str()), (Some(range.from_ms), "9"));
                assert!(world.payloads().is_empty());
            }
            OnDataLoss::Continue => {
                outcome.unwrap();
                assert_eq!(world.payloads(), ["9"]);
            }
        }
    }
}

#[tokio::test]
async fn a_range_from_before_the_stream_was_made_begins_with_the_stream_and_nothing_is_lost() {
    let created_ms = clock::now_ms() / 1000 * 1000 - 90 * MINUTE_MS;
    let range = TimeRange { from_ms: created_ms - 48 * 60 * MINUTE_MS, ..range() };
    let fake = Fake::start(vec![open(0, &[])]).await;
    fake.script().created_s = created_ms / 1000;
    fake.script().reads = [reply(&[arrived("1", created_ms + 1)])].into();
    let world = World::new();
    let mut run = Run::start(&fake.kinesis, &world, only(range), brisk()).await;
    run.outcome().await.unwrap();
    assert_eq!((world.payloads(), run.count("pintail_data_loss_total", &[])), (vec!["1".to_owned()], 0));
}
