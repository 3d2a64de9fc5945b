//! Aggregated records on their way through a reader: places, positions, cuts and policies.

use std::sync::Arc;

use serde_json::{Value, json};

use super::fake::{Answer, Fake, closed, ok, open, record};
use super::rig::{Run, World, brisk, options, shard};
use crate::checkpoint::SequenceNumber;
use crate::demo::aggregate;
use crate::record::{RawRecord, Refusal};
use crate::source::{ForeignRecords, SourceOptions};

fn holding(number: &str, payload: &[u8]) -> Value {
    let mut record = record(number);
    record["Data"] = json!(base64_simd::STANDARD.encode_to_string(payload));
    record
}

/// An aggregate of these texts, each under a hash key of its own.
fn aggregated(number: &str, records: &[(u128, &str)]) -> Value {
    holding(number, &aggregate(records.iter().map(|(hash_key, text)| ("k", Some(*hash_key), text.as_bytes()))))
}

/// One that takes a third of what a read may hold.
fn crowded(number: &str) -> Value {
    holding(number, &aggregate(std::iter::repeat_n(("k", None, number.as_bytes()), 10_000)))
}

fn answer(records: &[Value], next: Option<&str>) -> Answer {
    ok(json!({"Records": records, "NextShardIterator": next, "MillisBehindLatest": 0}))
}

/// (number, sub-sequence number, payload) of everything that was delivered.
fn places(world: &World) -> Vec<(String, i64, String)> {
    let place = |record: &RawRecord| {
        let text = String::from_utf8_lossy(&record.data).into_owned();
        (record.sequence_number.to_string(), record.sub_sequence_number, text)
    };
    world.state().records.iter().map(|(_, record)| place(record)).collect()
}

fn place(number: &str, sub: i64, text: &str) -> (String, i64, String) {
    (number.to_owned(), sub, text.to_owned())
}

#[tokio::test]
async fn user_records_are_what_is_read_and_counted_and_the_position_is_the_kinesis_record() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    let records =
        [record("1"), aggregated("2", &[(0, "a"), (1, "b"), (2, "c")]), record("3"), aggregated("4", &[(3, "d")])];
    fake.script().reads = [answer(&records, Some("next"))].into();
    let world = World::new();
    let run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    world.until_records(6).await;
    let expected = [("1", 0, "1"), ("2", 0, "a"), ("2", 1, "b"), ("2", 2, "c"), ("3", 0, "3"), ("4", 0, "d")];
    assert_eq!(places(&world), expected.map(|(number, sub, text)| place(number, sub, text)));
    assert_eq!(world.state().view.shards[&shard(0)].position, Some(SequenceNumber::parse("4").unwrap()));
    assert_eq!(run.count("pintail_records_read_total", &[]), 6);
    assert_eq!(run.count("pintail_aggregates_read_total", &[]), 2);
    assert_eq!(run.board.snapshot().records(), 6);
    run.stop().await;
}

#[tokio::test]
async fn what_the_permit_does_not_pay_for_is_read_again_also_at_the_end_of_a_shard() {
    let fake = Fake::start(vec![closed(0, &[]), open(1, &[0])]).await;
    let all = ["1", "2", "3", "4", "5", "6", "7"].map(crowded);
    // Replies that must be cut are also the shard's last ones, which only counts for the last of them.
    fake.script().reads = [answer(&all, None), answer(&all[3..], None), answer(&all[6..], None)].into();
    let world = World::new();
    let run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    world.until("the shard's end", |state| state.ended == [shard(0)]).await;

    let expected = (1..=7).flat_map(|number: u64| (0..10_000).map(move |sub| (number.to_string(), sub)));
    assert!(places(&world).into_iter().map(|(number, sub, _)| (number, sub)).eq(expected));
    assert_eq!(run.count("pintail_records_read_total", &[]), 7 * 10_000);
    run.stop().await;
    let script = fake.script();
    let from: Vec<_> =
        script.calls_of("GetShardIterator").iter().map(|call| call["StartingSequenceNumber"].clone()).collect();
    assert_eq!(from[..3], [Value::Null, json!("3"), json!("6")]);
    let limits: Vec<_> = script.calls_of("GetRecords").iter().map(|call| call["Limit"].as_u64().unwrap()).collect();
    assert_eq!(limits[1..3], [3, 3], "the next reads ask for what can be taken");
}

#[tokio::test]
async fn aggregates_that_were_left_and_are_read_again_are_counted_once() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    let all = [record("1"), aggregated("2", &[(0, "a"), (1, "b")]), aggregated("3", &[(2, "c")]), record("4")];
    fake.script().reads = [answer(&all, Some("next")), answer(&all[2..], Some("next"))].into();
    let world = World::new();
    world.change(|state| state.takes_max = Some(3));
    let run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    world.until_records(5).await;
    let counts = ["records_read", "aggregates_read", "records_read_again"]
        .map(|name| run.count(&format!("pintail_{name}_total"), &[]));
    assert_eq!(counts, [5, 2, 2]);
    let bytes: usize = all.iter().map(|record| record["Data"].as_str().unwrap().len() / 4 * 3).sum();
    assert!(run.count("pintail_bytes_read_total", &[]).abs_diff(bytes as u64) < 8, "paddings of base64 apart");
    run.stop().await;
}

/// A shard that owns the hash keys 0 to 9, which gets a mixed aggregate and one that belongs to it.
async fn mixed(foreign_records: ForeignRecords) -> (Fake, Arc<World>, Run) {
    let mut narrow = open(0, &[]);
    narrow["HashKeyRange"]["EndingHashKey"] = json!("9");
    let fake = Fake::start(vec![narrow]).await;
    let first = [aggregated("1", &[(9, "ours"), (10, "theirs")])];
    let second = [aggregated("2", &[(0, "ours too")])];
    fake.script().reads = [answer(&first, Some("a")), answer(&second, Some("b"))].into();
    let world = World::new();
    let run = Run::start(&fake.kinesis, &world, SourceOptions { foreign_records, ..options() }, brisk()).await;
    (fake, world, run)
}

#[tokio::test]
async fn foreign_records_are_kept_unless_told_otherwise_and_counted() {
    assert_eq!(options().foreign_records, ForeignRecords::Keep);
    let (_fake, world, run) = mixed(ForeignRecords::Keep).await;
    world.until_records(3).await;
    assert!(world.state().records.iter().all(|(_, record)| record.refused.is_none()));
    assert_eq!(run.count("pintail_foreign_records_total", &["action=\"kept\""]), 1);
    run.stop().await;
}

#[tokio::test]
async fn foreign_records_are_handed_on_as_rejects_if_told_so() {
    let (_fake, world, run) = mixed(ForeignRecords::Reject).await;
    world.until_records(3).await;
    let refused: Vec<_> = world.state().records.iter().map(|(_, record)| record.refused).collect();
    assert_eq!(refused, [None, Some(Refusal::ForeignHashKey), None]);
    assert_eq!(run.count("pintail_foreign_records_total", &["action=\"rejected\""]), 1);
    run.stop().await;
}

#[tokio::test]
async fn a_dropped_aggregate_is_counted_and_the_position_moves_past_it() {
    let (_fake, world, run) = mixed(ForeignRecords::Strict).await;
    world.until_records(1).await;
    assert_eq!(places(&world), [place("2", 0, "ours too")]);
    // The first batch was empty, and yet it said how far the shard was read.
    let batches: Vec<usize> = world.state().batches.iter().map(|(_, records, _)| *records).collect();
    assert_eq!(batches[..2], [0, 1]);
    assert_eq!(run.count("pintail_foreign_records_total", &["action=\"dropped\""]), 2);
    assert_eq!(run.count("pintail_records_read_total", &[]), 1);
    run.stop().await;
}
