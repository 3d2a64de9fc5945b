//! Every way in which Kinesis can fail a reader, and what the reader makes of it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::fake::{Answer, Fake, closed, described, last, ok, open, read, record, refuse};
use super::rig::{Run, STREAM, World, brisk, options, shard};
use crate::checkpoint::{Position, SequenceNumber, ShardEntry};
use crate::clock;
use crate::record::Heir;
use crate::source::error::Fault;
use crate::source::{Kinesis, OnDataLoss, SourceError, SourceOptions, StartPosition, StreamTarget, Timing, describe};
use crate::status::StatusBoard;

fn after(number: &str) -> ShardEntry {
    let position = Some(SequenceNumber::parse(number).unwrap());
    ShardEntry { position, seen_ms: Some(clock::now_ms()), ..ShardEntry::NEW }
}

fn starts(fake: &Fake) -> Vec<String> {
    let text = |body: &Value| match body["StartingSequenceNumber"].as_str() {
        Some(number) => format!("after {number}"),
        None => body["ShardIteratorType"].as_str().unwrap().to_owned(),
    };
    fake.script().calls_of("GetShardIterator").iter().map(text).collect()
}

/// Scripted reads of one open shard; returns the payloads (= numbers) once `count` have come.
async fn read_through(reads: Vec<Answer>, count: usize) -> (Vec<String>, Vec<String>, Run) {
    let fake = Fake::start(vec![open(0, &[])]).await;
    fake.script().reads = reads.into();
    let world = World::new();
    let run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    world.until_records(count).await;
    (world.payloads(), starts(&fake), run)
}

#[tokio::test]
async fn a_throttled_read_keeps_its_iterator_and_rests_a_second() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    fake.script().reads = [read(&["1"]), refuse("ProvisionedThroughputExceededException"), read(&["2"])].into();
    let world = World::new();
    let run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    world.until_records(2).await;
    assert_eq!(run.count("pintail_reads_total", &["throttled"]), 1);
    run.stop().await;
    assert_eq!(starts(&fake), ["TRIM_HORIZON"]);
    let script = fake.script();
    let reads: Vec<_> = script.calls.iter().filter(|call| call.0 == "GetRecords").collect();
    assert_eq!(reads[1].1["ShardIterator"], reads[2].1["ShardIterator"]);
    assert!(reads[2].2 - reads[1].2 >= Duration::from_millis(990), "{:?}", reads[2].2 - reads[1].2);
}

#[tokio::test]
async fn an_expired_iterator_is_renewed_after_the_last_number() {
    let reads = vec![read(&["1", "2"]), refuse("ExpiredIteratorException"), read(&["3"])];
    let (payloads, starts, run) = read_through(reads, 3).await;
    assert_eq!((payloads, starts), (texts(&["1", "2", "3"]), texts(&["TRIM_HORIZON", "after 2"])));
    assert_eq!(run.count("pintail_reads_total", &["expired_iterator"]), 1);
    run.stop().await;
}

#[tokio::test]
async fn a_server_error_is_tried_again_with_the_same_iterator() {
    for code in ["InternalFailure", "", "KMSThrottlingException"] {
        let failure = if code.starts_with("KMS") { refuse(code) } else { (500, json!({"__type": code})) };
        let (payloads, starts, run) = read_through(vec![read(&["1"]), failure, read(&["2"])], 2).await;
        assert_eq!((payloads, starts), (texts(&["1", "2"]), texts(&["TRIM_HORIZON"])), "{code}");
        assert_eq!(run.count("pintail_reads_total", &["retried"]), 1, "{code}");
        run.stop().await;
    }
}

#[tokio::test]
async fn what_only_a_person_can_mend_is_tried_slowly_and_shown() {
    for code in ["KMSDisabledException", "KMSAccessDeniedException", "AccessDeniedException", "SomethingNewException"] {
        let fake = Fake::start(vec![open(0, &[])]).await;
        fake.script().reads = [refuse(code), refuse(code), read(&["1"])].into();
        let world = World::new();
        let timing = Timing { retry_slowly: Duration::from_millis(400), ..brisk() };
        let run = Run::start(&fake.kinesis, &world, options(), timing).await;
        run.until_board(|board| board.trouble.get("source").is_some_and(|text| text.contains(code))).await;
        world.until_records(1).await;
        assert_eq!(run.count("pintail_reads_total", &["refused"]), 2, "{code}");
        assert!(!run.board.snapshot().trouble.contains_key("source"), "{code}");
        run.stop().await;
        assert_eq!(starts(&fake), ["TRIM_HORIZON"]);
    }
}

#[tokio::test]
async fn a_reply_with_a_bad_or_backward_number_is_counted_and_read_again() {
    let mut timeless = read(&["2"]);
    timeless.1["Records"][0]["SequenceNumber"] = json!("not a number");
    let too_long = read(&[&"9".repeat(73)]);
    for bad in [timeless, too_long, read(&["2", "2"]), read(&["1"])] {
        let (payloads, starts, run) = read_through(vec![read(&["1"]), bad, read(&["2"])], 2).await;
        assert_eq!((payloads, starts), (texts(&["1", "2"]), texts(&["TRIM_HORIZON", "after 1"])));
        assert_eq!(run.count("pintail_reads_total", &["invalid"]), 1);
        run.stop().await;
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_parsed_is_asked_for_again() {
    let with = |field: &str, value: Value| {
        let mut answer = read(&["2"]);
        answer.1["Records"][0][field] = value;
        answer
    };
    let poisoned = [
        ok(json!("not an object")),
        ok(json!({"Records": "none", "NextShardIterator": "n"})),
        with("SequenceNumber", Value::Null),
        with("Data", json!("!!! no base64 !!!")),
        with("Data", json!(17)),
        with("ApproximateArrivalTimestamp", json!("yesterday")),
    ];
    for bad in poisoned {
        let what = bad.1.to_string();
        let (payloads, _, run) = read_through(vec![read(&["1"]), bad.clone(), bad, read(&["2"])], 2).await;
        assert_eq!(payloads, ["1", "2"], "{what}");
        let told = run.count("pintail_reads_total", &["retried"]) + run.count("pintail_reads_total", &["invalid"]);
        assert_eq!(told, 2, "{what}");
        run.stop().await;
    }
}

#[tokio::test]
async fn a_retention_below_zero_is_no_answer() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    fake.script().retention_h = -24;
    let error = fake.kinesis.describe(&StreamTarget::new(STREAM)).await.unwrap_err();
    assert_eq!(error.fault, Fault::InvalidReply);
    assert!(format!("{error:?}").contains("a retention of -24 hours"), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_is_poisoned_for_good_is_told_and_skips_nothing() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    let poisoned = read(&[&"9".repeat(73)]);
    fake.script().reads = std::iter::repeat_n(poisoned, 8).chain([read(&["1"])]).collect();
    let world = World::new();
    let run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    run.until_board(|board| board.trouble.get("source").is_some_and(|text| text.contains("more than 72 digits"))).await;
    world.until_records(1).await;
    assert!(!run.board.snapshot().trouble.contains_key("source"));
    run.stop().await;
    assert!(starts(&fake).iter().all(|start| start == "TRIM_HORIZON"), "{:?}", starts(&fake));
}

#[tokio::test]
async fn records_without_a_partition_key_are_records() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    let mut keyed = record("2");
    keyed["PartitionKey"] = json!("k");
    fake.script().reads = [ok(json!({"Records": [record("1"), keyed], "NextShardIterator": "n"}))].into();
    let world = World::new();
    let run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    world.until_records(2).await;
    run.stop().await;
    let data: Vec<_> = world.state().records.iter().map(|(_, record)| record.data.to_vec()).collect();
    assert_eq!(data, [b"1", b"2"]);
}

#[tokio::test]
async fn arrival_times_that_go_backwards_lose_nothing_and_are_exact_to_the_millisecond() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    let (mut first, mut second) = (record("1"), record("2"));
    let now_s = clock::now_ms() / 1000;
    first["ApproximateArrivalTimestamp"] = json!(now_s as f64 + 0.123);
    second["ApproximateArrivalTimestamp"] = json!(now_s as f64 - 5.0 + 0.001);
    fake.script().reads = [ok(json!({"Records": [first, second], "NextShardIterator": "n"}))].into();
    let world = World::new();
    let run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    world.until_records(2).await;
    run.stop().await;
    let arrived: Vec<i64> = world.state().records.iter().map(|(_, record)| record.arrived_at_us).collect();
    assert_eq!(arrived, [now_s * 1_000_000 + 123_000, (now_s - 5) * 1_000_000 + 1_000]);
}

// === The end of a shard ===

#[tokio::test]
async fn no_next_iterator_on_an_open_shard_is_an_invalid_reply() {
    let reads = vec![read(&["1"]), last(&["2"], Value::Null), read(&["3"])];
    let (payloads, starts, run) = read_through(reads, 3).await;
    assert_eq!((payloads, starts), (texts(&["1", "2", "3"]), texts(&["TRIM_HORIZON", "after 2"])));
    assert_eq!(run.count("pintail_reads_total", &["invalid"]), 1);
    run.stop().await;
}

#[tokio::test]
async fn the_end_of_a_shard_is_believed_when_the_reply_names_children_or_the_listing_has_it_closed() {
    let named = json!([{"ShardId": shard(1).as_str(), "ParentShards": [shard(0).as_str()],
        "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "9"}}]);
    let orphan = json!([{"ShardId": shard(1).as_str(), "ParentShards": [],
        "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "9"}}]);
    for children in [named, orphan, Value::Null] {
        let fake = Fake::start(vec![closed(0, &[]), open(1, &[0])]).await;
        fake.script().reads = [last(&["1"], children.clone()), read(&["2"])].into();
        let world = World::new();
        let run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
        world.until_records(2).await;
        run.stop().await;
        let state = world.state();
        assert_eq!(state.ended, [shard(0)], "{children}");
        assert_eq!(state.records[1].0, shard(1));
    }
}

#[tokio::test]
async fn a_shard_ends_together_with_all_of_its_children_and_not_before_they_are_listed() {
    let half = |n, from: u128, to: u128| {
        let mut child = open(n, &[0]);
        child["HashKeyRange"] = json!({"StartingHashKey": from.to_string(), "EndingHashKey": to.to_string()});
        child
    };
    let (left, right) = (half(1, 0, 99), half(2, 100, u128::MAX));
    let fake = Fake::start(vec![closed(0, &[]), left.clone(), right]).await;
    let some = |shards: &[Value]| ok(json!({ "Shards": shards }));
    fake.script().listings =
        [some(&[closed(0, &[])]), some(&[closed(0, &[])]), some(&[closed(0, &[]), left]), some(&[closed(0, &[])])]
            .into();
    fake.script().reads = [last(&["1"], Value::Null)].into();
    let world = World::new();
    world.change(|state| state.hold_ends_of = [shard(0)].into());
    let run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    world.until("the shard's end", |state| !state.held_ends.is_empty()).await;
    let heirs: Vec<_> = world.state().held_ends[0].1.children.clone();
    assert_eq!(heirs, [1, 2].map(|n| Heir { shard: shard(n), parents: vec![shard(0)] }));
    world.release_ends();
    run.stop().await;
}

#[tokio::test]
async fn a_shard_that_is_far_ahead_of_another_is_not_read_before_that_has_come_near() {
    let fake = Fake::start(vec![open(0, &[]), open(1, &[])]).await;
    let (world, hour_ms) = (World::new(), 3_600_000);
    for (n, hours) in [(0, 1), (1, 10)] {
        let entry = ShardEntry { seen_ms: Some(clock::now_ms() - hours * hour_ms), ..after("5") };
        world.knows(shard(n), entry);
    }
    let options = SourceOptions { align_within: Duration::from_secs(60), ..options() };
    let run = Run::start(&fake.kinesis, &world, options, brisk()).await;
    world.until("both are read", |state| [0, 1].iter().all(|n| state.batches.iter().any(|b| b.0 == shard(*n)))).await;
    let asked: Vec<_> = fake.script().calls_of("GetShardIterator").iter().map(|call| call["ShardId"].clone()).collect();
    assert_eq!(asked, [shard(1), shard(0)].map(|shard| json!(shard.as_str())));
    assert_eq!(run.count("pintail_reads_aligned_total", &[]), 1);
    run.stop().await;
}

#[tokio::test]
async fn an_ended_shard_is_late_with_nothing() {
    let fake = Fake::start(vec![closed(0, &[]), open(1, &[0])]).await;
    let mut late = last(&["1"], Value::Null);
    late.1["MillisBehindLatest"] = json!(43_200_000);
    late.1["Records"][0]["ApproximateArrivalTimestamp"] = json!(clock::now_ms() / 1000 - 43_200);
    fake.script().reads = [late, read(&["2"])].into();
    let world = World::new();
    let run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    world.until_records(2).await;
    let status = run.board.snapshot().shards[&shard(0)].clone();
    assert_eq!((status.state, status.behind_ms), ("ended", Some(0)));
    for (gauge, expected) in [
        ("pintail_behind_seconds", 0.0),
        ("pintail_record_age_seconds", 0.0),
        ("pintail_iterator_age_seconds", 0.0),
        ("pintail_retention_headroom_ratio", 1.0),
    ] {
        assert!((run.gauge(gauge, &shard(0)) - expected).abs() < f64::EPSILON, "{gauge}");
    }
    run.stop().await;
}

#[tokio::test]
async fn the_headroom_shrinks_while_reads_fail() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    fake.script().reads = std::iter::repeat_n(refuse("KMSDisabledException"), 1000).collect();
    let world = World::new();
    let half_a_day_ago = clock::now_ms() - 12 * 3_600_000;
    world.knows(shard(0), ShardEntry { seen_ms: Some(half_a_day_ago), ..after("5") });
    let run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    run.until_board(|board| board.trouble.contains_key("source")).await;
    let headroom = run.gauge("pintail_retention_headroom_ratio", &shard(0));
    assert!((0.49..0.51).contains(&headroom), "{headroom}");
    run.stop().await;
}

// === Lost records ===

fn stale() -> ShardEntry {
    ShardEntry { seen_ms: Some(clock::now_ms() - 25 * 3_600_000), ..after("5") }
}

async fn read_after_a_long_stop(on_data_loss: OnDataLoss) -> (std::sync::Arc<World>, Run) {
    let fake = Fake::start(vec![open(0, &[])]).await;
    fake.script().reads = [read(&["9"]), read(&["10"])].into();
    let world = World::new();
    world.knows(shard(0), stale());
    let run = Run::start(&fake.kinesis, &world, SourceOptions { on_data_loss, ..options() }, brisk()).await;
    if on_data_loss == OnDataLoss::Continue {
        world.until_records(2).await;
        (world, run)
    } else {
        let mut run = run;
        let error = run.outcome().await.unwrap_err();
        let SourceError::DataLoss(range) = error else { panic!("{error}") };
        assert_eq!((range.after.to_string().as_str(), range.first.unwrap().to_string().as_str()), ("after 5", "9"));
        assert_eq!(range.seen_ms, world.state().view.shards[&shard(0)].seen_ms);
        (world, run)
    }
}

#[tokio::test]
async fn a_stop_longer_than_the_retention_is_an_alarm_and_the_end_under_fail() {
    let (world, run) = read_after_a_long_stop(OnDataLoss::Fail).await;
    assert!(world.state().records.is_empty(), "nothing is delivered beyond the gap");
    assert_eq!(run.count("pintail_data_loss_total", &[]), 1);
    assert!(run.board.snapshot().trouble["data_loss"].contains("(after 5, 9]"));
}

#[tokio::test]
async fn a_stop_longer_than_the_retention_is_one_alarm_under_continue() {
    let (world, run) = read_after_a_long_stop(OnDataLoss::Continue).await;
    assert_eq!(world.payloads(), ["9", "10"]);
    assert_eq!(run.count("pintail_data_loss_total", &[]), 1);
    run.stop().await;
}

#[tokio::test]
async fn a_shard_that_was_never_read_within_the_retention_is_an_alarm() {
    let long_ago_ms = clock::now_ms() - 25 * 3_600_000;
    let unread = ShardEntry::NEW;
    let started = ShardEntry { start_ms: long_ago_ms, ..unread };
    let child = ShardEntry { seen_ms: Some(long_ago_ms), ..unread };
    for entry in [started, child] {
        let fake = Fake::start(vec![open(0, &[])]).await;
        fake.script().reads = [read(&["9"])].into();
        let world = World::new();
        world.knows(shard(0), entry);
        let mut run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
        let error = run.outcome().await.unwrap_err();
        let SourceError::DataLoss(range) = error else { panic!("{error}") };
        assert_eq!((range.after, range.seen_ms), (entry.resume(), Some(long_ago_ms)));
    }
}

#[tokio::test]
async fn a_start_beyond_the_retention_is_the_oldest_record_and_no_alarm() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    fake.script().reads = [read(&["1"])].into();
    let world = World::new();
    let start = StartPosition::At(clock::now_ms() - 25 * 3_600_000);
    let run = Run::start(&fake.kinesis, &world, SourceOptions { start, ..options() }, brisk()).await;
    world.until_records(1).await;
    assert_eq!(run.count("pintail_data_loss_total", &[]), 0);
    run.stop().await;
    assert_eq!(starts(&fake), ["TRIM_HORIZON"]);
}

#[tokio::test]
async fn the_last_reply_of_a_closed_shard_says_nothing_of_its_childrens_time() {
    let fake = Fake::start(vec![closed(0, &[]), open(1, &[0])]).await;
    fake.script().reads = [last(&[], Value::Null), read(&["2"])].into();
    let world = World::new();
    let run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    world.until_records(1).await;
    run.stop().await;
    assert_eq!(world.state().view.shards[&shard(0)].seen_ms, None);
}

#[tokio::test]
async fn a_position_that_kinesis_refuses_is_read_from_the_horizon_with_an_alarm() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    fake.script().iterators = [refuse("InvalidArgumentException")].into();
    fake.script().reads = [read(&[]), read(&["9"]), read(&["10"])].into();
    let world = World::new();
    world.knows(shard(0), after("5"));
    let go_on = SourceOptions { on_data_loss: OnDataLoss::Continue, ..options() };
    let run = Run::start(&fake.kinesis, &world, go_on, brisk()).await;
    world.until_records(2).await;
    assert_eq!(run.count("pintail_data_loss_total", &[]), 1);
    run.stop().await;
    assert_eq!(starts(&fake), ["after 5", "TRIM_HORIZON"]);
}

#[tokio::test]
async fn a_refused_position_that_is_still_there_is_no_loss_and_nothing_is_read_twice() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    fake.script().iterators = [refuse("InvalidArgumentException")].into();
    fake.script().reads = [read(&["3"]), read(&[]), read(&["4", "5", "9"]), read(&["10"])].into();
    let world = World::new();
    world.knows(shard(0), after("5"));
    let run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    world.until_records(2).await;
    assert_eq!(run.count("pintail_data_loss_total", &[]), 0);
    assert_eq!(run.count("pintail_reads_total", &["invalid"]), 0);
    run.stop().await;
    assert_eq!(world.payloads(), ["9", "10"]);
    assert_eq!(starts(&fake), ["after 5", "TRIM_HORIZON"]);
}

#[tokio::test]
async fn a_start_in_the_future_is_waited_for() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    fake.script().iterators = [refuse("InvalidArgumentException")].into();
    fake.script().reads = [read(&["1"])].into();
    let world = World::new();
    let future = SourceOptions { start: StartPosition::At(clock::now_ms() - 1), ..options() };
    let run = Run::start(&fake.kinesis, &world, future, brisk()).await;
    world.until_records(1).await;
    assert_eq!(run.count("pintail_data_loss_total", &[]), 0);
    run.stop().await;
    assert_eq!(starts(&fake), ["AT_TIMESTAMP", "AT_TIMESTAMP"]);
}

#[tokio::test]
async fn what_arrived_before_the_start_is_not_read() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    let start_ms = clock::now_ms() - 10_000;
    let mut early = record("1");
    early["ApproximateArrivalTimestamp"] = json!(start_ms as f64 / 1000.0 - 1.0);
    let (on_time, mut backwards) = (record("2"), early.clone());
    backwards["SequenceNumber"] = json!("3");
    fake.script().reads = [ok(json!({"Records": [early, on_time, backwards], "NextShardIterator": "n"}))].into();
    let world = World::new();
    let start = SourceOptions { start: StartPosition::At(start_ms), ..options() };
    let run = Run::start(&fake.kinesis, &world, start, brisk()).await;
    world.until_records(2).await;
    run.stop().await;
    // The third only looks early: arrival times go backwards, numbers do not.
    assert_eq!(world.payloads(), ["2", "1"]);
}

#[tokio::test]
async fn a_shard_found_later_is_read_from_its_beginning_whatever_the_start() {
    let fake = Fake::start(vec![open(7, &[6])]).await;
    fake.script().reads = [read(&["1"])].into();
    let world = World::new();
    world.knows(shard(0), ShardEntry { ended: true, ..after("5") });
    let latest = SourceOptions { start: StartPosition::Latest, ..options() };
    let run = Run::start(&fake.kinesis, &world, latest, brisk()).await;
    world.until_records(1).await;
    run.stop().await;
    assert_eq!(starts(&fake), ["TRIM_HORIZON"]);
}

#[tokio::test]
async fn a_shard_that_vanished_unread_is_ended_with_an_alarm_and_its_children_are_read() {
    let fake = Fake::start(vec![open(3, &[0, 1])]).await;
    fake.script().reads = [read(&["1"])].into();
    let world = World::new();
    world.change(|state| {
        state.view.shards.insert(shard(0), after("5"));
        state.view.shards.insert(shard(1), ShardEntry { ended: true, ..after("6") });
    });
    let go_on = SourceOptions { on_data_loss: OnDataLoss::Continue, ..options() };
    let run = Run::start(&fake.kinesis, &world, go_on, brisk()).await;
    world.until_records(1).await;
    assert_eq!(run.count("pintail_data_loss_total", &[]), 1);
    run.stop().await;
    assert_eq!(world.state().lost, [(shard(0), vec![shard(3)])]);
    assert!(fake.script().calls_of("ListShards").len() >= 2, "one listing is no proof");

    let world = World::new();
    world.knows(shard(0), after("5"));
    let mut run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    assert!(matches!(run.outcome().await, Err(SourceError::DataLoss(_))));
    assert!(!world.state().view.shards[&shard(0)].ended, "under fail the ledger is left as it is");
}

#[tokio::test]
async fn a_shard_that_goes_missing_under_its_reader_is_settled_by_a_listing() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    fake.script().reads = [read(&["1"]), refuse("ResourceNotFoundException"), read(&["2"])].into();
    let world = World::new();
    let run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    world.until_records(2).await;
    assert_eq!(run.count("pintail_data_loss_total", &[]), 0, "it is still listed");
    fake.script().shards = vec![open(1, &[0])];
    fake.script().reads = [refuse("ResourceNotFoundException")].into();
    let mut run = run;
    assert!(matches!(run.outcome().await, Err(SourceError::DataLoss(_))));
}

// === The stream ===

#[tokio::test]
async fn a_stream_created_anew_under_the_same_name_is_not_read() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    let world = World::new();
    let mut run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    world.until("a read", |state| !state.batches.is_empty()).await;
    fake.script().created_s = 2_000;
    let error = run.outcome().await.unwrap_err();
    assert!(matches!(error, SourceError::Recreated { known_s: 1_000, found_s: 2_000, .. }), "{error}");
}

#[tokio::test]
async fn an_idle_shard_does_not_go_on_into_a_new_stream_of_the_same_name() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    let world = World::new();
    let far = Timing { read_interval: Some(Duration::from_millis(5)), ..Timing::default() };
    let mut run = Run::start(&fake.kinesis, &world, options(), far).await;
    world.until("a read", |state| !state.batches.is_empty()).await;
    {
        let mut script = fake.script();
        script.created_s = 2_000;
        script.reads = [refuse("ExpiredIteratorException"), read(&["1"])].into();
    }
    let error = run.outcome().await.unwrap_err();
    assert!(matches!(error, SourceError::Recreated { .. }), "{error}");
    assert_eq!(world.payloads(), [""; 0], "records of the new stream under positions of the old one");
}

#[tokio::test]
async fn a_stream_that_vanishes_in_flight_is_trouble_until_it_is_back() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    let world = World::new();
    let run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    world.until("a read", |state| !state.batches.is_empty()).await;
    let missing = || refuse("ResourceNotFoundException");
    {
        let mut script = fake.script();
        script.reads = [missing()].into();
        script.describes = [missing(), missing(), missing(), described(1_000)].into();
    }
    run.until_board(|board| board.trouble.contains_key("source") && board.shards[&shard(0)].state == "parked").await;
    fake.script().reads.push_back(read(&["1"]));
    world.until_records(1).await;
    assert!(!run.board.snapshot().trouble.contains_key("source"));
    run.stop().await;
}

#[tokio::test]
async fn a_stream_that_does_not_exist_or_may_not_be_read_is_an_error_at_the_start() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    let board = StatusBoard::default().stream(STREAM);
    for (code, expected) in [
        ("ResourceNotFoundException", "does not exist"),
        ("AccessDeniedException", "access denied"),
        ("UnrecognizedClientException", "access denied"),
    ] {
        fake.script().describes = [refuse(code)].into();
        let error = describe(&fake.kinesis, STREAM, &board, &CancellationToken::new()).await.unwrap_err();
        let line = format!("{:#}", anyhow::Error::from(error));
        assert!(line.contains(expected) && line.contains(STREAM), "{line}");
    }
    fake.script().listings = [refuse("AccessDeniedException")].into();
    let mut run = Run::start(&fake.kinesis, &World::new(), options(), brisk()).await;
    assert!(matches!(run.outcome().await, Err(SourceError::Refused { .. })));
}

#[tokio::test]
async fn an_endpoint_that_nobody_answers_at_is_shown_and_tried_until_cancelled() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let kinesis = Kinesis::local(&format!("http://{}", silent.local_addr().unwrap()));
    drop(silent);
    let (board, cancel) = (StatusBoard::default().stream(STREAM), CancellationToken::new());
    let watch = async {
        while !board.snapshot().trouble.get("source").is_some_and(|text| text.contains("cannot be reached")) {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (answer, ()) = tokio::join!(describe(&kinesis, STREAM, &board, &cancel), watch);
    assert!(matches!(answer, Err(SourceError::Cancelled { .. })));
}

#[tokio::test]
async fn a_listing_is_paged_by_its_token_alone_and_starts_over_when_the_token_expires() {
    let fake = Fake::start(vec![]).await;
    let page = |shards: Vec<Value>, token: &str| ok(json!({"Shards": shards, "NextToken": token}));
    fake.script().listings = [
        page(vec![closed(0, &[])], "t1"),
        refuse("ExpiredNextTokenException"),
        page(vec![closed(0, &[])], "t2"),
        page(vec![closed(1, &[])], "t3"),
        ok(json!({"Shards": [open(2, &[0, 1])]})),
    ]
    .into();
    let listed = fake.kinesis.list_shards(&crate::source::StreamTarget::new(STREAM), Some(5_000)).await.unwrap();
    assert_eq!(listed.iter().map(|shard| shard.id.clone()).collect::<Vec<_>>(), [shard(0), shard(1), shard(2)]);
    assert_eq!((listed[1].closed, listed[2].closed, listed[2].parents.len()), (true, false, 2));
    let calls = fake.script().calls_of("ListShards");
    assert_eq!(calls[0]["StreamName"], STREAM);
    assert_eq!(calls[0]["ShardFilter"]["Type"], "FROM_TIMESTAMP");
    for token in [(1, "t1"), (3, "t2"), (4, "t3")] {
        assert_eq!(calls[token.0], json!({"NextToken": token.1}));
    }
}

#[tokio::test]
async fn more_than_a_thousand_shards_are_listed_to_the_last_page() {
    let (closed_shards, third) = (1_200, u128::MAX / 3);
    let mut shards: Vec<Value> = (0..closed_shards).map(|n| closed(n, &[])).collect();
    for n in 0..3 {
        let (mut shard, from) = (open(closed_shards + n, &[n]), third * n as u128);
        let to = if n == 2 { u128::MAX } else { from + third - 1 };
        shard["HashKeyRange"] = json!({"StartingHashKey": from.to_string(), "EndingHashKey": to.to_string()});
        shards.push(shard);
    }
    let fake = Fake::start(shards).await;
    fake.script().page_shards = 1_000;
    fake.script().reads = [read(&["1"]), read(&["1"]), read(&["1"])].into();
    let world = World::new();
    let ended = |n| (shard(n), ShardEntry { ended: true, ..after("5") });
    world.change(|state| state.view.shards.extend((0..closed_shards).map(ended)));
    let run = Run::start(&fake.kinesis, &world, options(), Timing::default()).await;
    world.until_records(3).await;
    run.stop().await;
    let mut read: Vec<_> = world.state().records.iter().map(|(id, _)| id.clone()).collect();
    read.sort();
    assert_eq!(read, [1_200, 1_201, 1_202].map(shard));
    assert_eq!(fake.script().calls_of("ListShards").len(), 2, "one listing of two pages");
}

#[tokio::test]
async fn shards_closed_before_the_start_are_finished_unread() {
    let fake = Fake::start(vec![closed(0, &[]), closed(1, &[0]), open(2, &[1])]).await;
    let (all, since) = (fake.script().shards.clone(), vec![closed(1, &[0]), open(2, &[1])]);
    fake.script().listings = [ok(json!({"Shards": all})), ok(json!({"Shards": since}))].into();
    fake.script().reads = [last(&["1"], Value::Null), read(&["2"])].into();
    let world = World::new();
    let start = SourceOptions { start: StartPosition::At(clock::now_ms() - 3_600_000), ..options() };
    let run = Run::start(&fake.kinesis, &world, start, brisk()).await;
    world.until_records(2).await;
    run.stop().await;
    let state = world.state();
    assert_eq!(state.view.shards[&shard(0)].resume(), Position::End);
    assert_eq!(state.ended, [shard(1)]);
    let read: Vec<Value> =
        fake.script().calls_of("GetShardIterator").iter().map(|body| body["ShardId"].clone()).collect();
    assert_eq!(read, [shard(1).as_str(), shard(2).as_str()]);
}

#[tokio::test]
async fn an_idle_shard_is_asked_four_times_a_second_and_no_more() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    let behind = ok(json!({"Records": [], "NextShardIterator": "n", "MillisBehindLatest": 5_000}));
    fake.script().reads = [behind.clone(), behind, read(&[]), read(&[]), read(&["1"])].into();
    let world = World::new();
    let run = Run::start(&fake.kinesis, &world, options(), Timing::default()).await;
    world.until_records(1).await;
    run.stop().await;
    let script = fake.script();
    let reads: Vec<_> = script.calls.iter().filter(|call| call.0 == "GetRecords").map(|call| call.2).collect();
    assert!(reads[4] - reads[0] >= Duration::from_millis(900), "{:?}", reads[4] - reads[0]);
    assert_eq!(script.calls_of("GetShardIterator").len(), 1);
}

#[tokio::test]
async fn a_shard_that_is_behind_is_not_complete_however_empty_its_answers() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    let behind = ok(json!({"Records": [], "NextShardIterator": "n", "MillisBehindLatest": 1}));
    fake.script().reads = std::iter::repeat_n(behind, 50).collect();
    let world = World::new();
    let run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    world.until("it is known to be complete", |state| !state.batches.is_empty()).await;
    let waiting = fake.script().reads.len();
    assert_eq!(waiting, 0, "told before the first answer with nothing behind");
    assert!(matches!(world.state().batches[0], (_, 0, Some(_))));
    run.stop().await;
}

#[tokio::test]
async fn a_writer_that_has_gone_ends_the_reading() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    fake.script().reads = [read(&["1"])].into();
    let world = World::new();
    world.change(|state| state.closed = true);
    let mut run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    assert!(matches!(run.outcome().await, Err(SourceError::Ledger(_))));
}

fn texts(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

#[tokio::test]
async fn what_a_sink_leaves_of_a_read_is_read_again_and_counted_once() {
    let fake = Fake::start(vec![open(0, &[])]).await;
    fake.script().reads = [read(&["1", "2", "3"]), read(&["2"]), read(&["3", "4"])].into();
    let world = World::new();
    world.change(|state| state.takes_max = Some(1));
    let run = Run::start(&fake.kinesis, &world, options(), brisk()).await;
    world.until_records(3).await;
    fake.script().reads.push_back(read(&["4"]));
    world.until_records(4).await;
    assert_eq!(world.payloads(), ["1", "2", "3", "4"]);
    let from: Vec<Value> = fake.script().calls_of("GetShardIterator");
    let from: Vec<&str> = from.iter().filter_map(|call| call["StartingSequenceNumber"].as_str()).collect();
    assert_eq!(from, ["1", "3"], "the iterator that goes on behind what was left is not used");
    assert_eq!(run.count("pintail_records_read_total", &[]), 4);
    let after = world.state().batches.iter().map(|(_, records, _)| *records).filter(|records| *records > 0).count();
    assert_eq!(after, 4);
    run.stop().await;
}
