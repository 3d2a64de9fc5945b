//! The proxy does what it is told, and nothing when it is told nothing.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::Builder;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::get_records::{GetRecordsError, GetRecordsOutput};
use aws_sdk_kinesis::types::{Shard, ShardIteratorType};
use pintail::demo::kinesis::EmbeddedKinesis;
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::wait::until;

const STREAM: &str = "postings";
const FIRST: &str = "shardId-000000000000";

/// An embedded Kinesis, a proxy in front of it, and a client that comes through the proxy.
struct Place {
    kinesis: EmbeddedKinesis,
    proxy: KinesisProxy,
    client: Client,
}

impl Place {
    async fn new(shards: u32) -> Self {
        let kinesis = EmbeddedKinesis::start(&[STREAM], shards).await.unwrap();
        let proxy = KinesisProxy::start(&kinesis.endpoint()).await.unwrap();
        let config = Builder::from(&kinesis.sdk_config()).endpoint_url(proxy.endpoint());
        let client = Client::from_conf(config.retry_config(RetryConfig::disabled()).build());
        Self { kinesis, proxy, client }
    }

    async fn put(&self, payload: &str) {
        let put = self.kinesis.client().put_record().stream_name(STREAM).partition_key("k");
        put.data(payload.as_bytes().to_vec().into()).send().await.unwrap();
    }

    async fn iterator(&self) -> String {
        let call = self.client.get_shard_iterator().stream_name(STREAM).shard_id(FIRST);
        let answer = call.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
        answer.shard_iterator.unwrap()
    }

    async fn read(&self, iterator: &str) -> Result<GetRecordsOutput, SdkError<GetRecordsError>> {
        self.client.get_records().shard_iterator(iterator).send().await
    }

    async fn read_from_the_start(&self) -> Result<GetRecordsOutput, SdkError<GetRecordsError>> {
        self.read(&self.iterator().await).await
    }

    async fn refusal(&self) -> String {
        self.read_from_the_start().await.unwrap_err().code().unwrap().to_owned()
    }

    async fn list(&self) -> Vec<Shard> {
        let (mut shards, mut token) = (Vec::new(), None);
        loop {
            let name = token.is_none().then(|| STREAM.to_owned());
            let page = self.client.list_shards().set_stream_name(name).set_next_token(token).send().await.unwrap();
            shards.extend(page.shards.unwrap());
            token = page.next_token;
            if token.is_none() {
                return shards;
            }
        }
    }
}

fn payloads(answer: &GetRecordsOutput) -> Vec<String> {
    answer.records().iter().map(|record| String::from_utf8(record.data().as_ref().to_vec()).unwrap()).collect()
}

fn reads(request: &Request) -> bool {
    request.operation == Operation::GetRecords
}

#[tokio::test]
async fn told_nothing_it_hands_everything_through() {
    let place = Place::new(2).await;
    let put = place.client.put_record().stream_name(STREAM).explicit_hash_key("0").partition_key("k");
    put.data(b"by proxy".to_vec().into()).send().await.unwrap();
    let described = place.client.describe_stream_summary().stream_name(STREAM).send().await.unwrap();
    assert_eq!(described.stream_description_summary().unwrap().open_shard_count(), 2);
    assert_eq!(place.list().await.len(), 2);
    let first = place.read_from_the_start().await.unwrap();
    assert_eq!(payloads(&first), ["by proxy"]);
    let second = place.read(first.next_shard_iterator().unwrap()).await.unwrap();
    assert!(second.records().is_empty() && second.next_shard_iterator().is_some());
    let wrong = place.read("nonsense").await.unwrap_err();
    assert_eq!(wrong.code(), Some("InvalidArgumentException"));
}

#[tokio::test]
async fn a_rule_meets_the_calls_that_match_it_so_often_and_counts_them() {
    let place = Place::new(1).await;
    let faults = place.proxy.faults();
    let twice =
        faults.add(|call| reads(call) && call.stream == STREAM && call.shard == FIRST, Fault::throttled(), Some(2));
    let other = faults.add(|call| reads(call) && call.shard != FIRST, Fault::kms_disabled(), None);
    assert_eq!(place.refusal().await, "ProvisionedThroughputExceededException");
    assert_eq!(place.refusal().await, "ProvisionedThroughputExceededException");
    place.read_from_the_start().await.unwrap();
    assert_eq!((faults.hits(twice), faults.hits(other)), (2, 0));
    let always = faults.add(reads, Fault::internal_failure(), None);
    assert_eq!(place.refusal().await, "InternalFailure");
    faults.remove(always);
    place.read_from_the_start().await.unwrap();
    faults.add(reads, Fault::expired_iterator(), None);
    assert_eq!(place.refusal().await, "ExpiredIteratorException");
    faults.clear();
    place.read_from_the_start().await.unwrap();
    assert_eq!(place.proxy.calls(|call| reads(call) && call.shard == FIRST), 7);
    assert_eq!(place.proxy.calls(|call| call.operation == Operation::GetShardIterator), 7);
    assert_eq!(place.proxy.calls(|call| call.stream != STREAM), 0);
}

#[tokio::test]
async fn answers_are_changed_and_their_date_too() {
    let place = Place::new(1).await;
    place.put("kept").await;
    let faults = place.proxy.faults();
    faults.add(reads, Fault::behind(7_000), Some(1));
    faults.add(reads, Fault::edit(|answer| answer["Records"][0]["Data"] = json!("Y2hhbmdlZA==")), Some(1));
    let edited = place.read_from_the_start().await.unwrap();
    assert_eq!((edited.millis_behind_latest(), payloads(&edited)), (Some(7_000), vec!["changed".to_owned()]));
    faults.add(reads, Fault::Empty { behind_ms: 9_000 }, Some(1));
    let iterator = place.iterator().await;
    let empty = place.read(&iterator).await.unwrap();
    assert!(empty.records().is_empty() && empty.millis_behind_latest() == Some(9_000));
    assert_eq!(empty.next_shard_iterator(), Some(iterator.as_str()), "the same position");
    faults.add(reads, Fault::no_next(), Some(1));
    assert_eq!(place.read_from_the_start().await.unwrap().next_shard_iterator(), None);
    faults.add(reads, Fault::Body("{\"Records\": [{"), Some(1));
    assert!(matches!(place.read_from_the_start().await, Err(SdkError::ResponseError(_))));
    faults.add(|call| call.operation == Operation::DescribeStreamSummary, Fault::retention(2), Some(1));
    let described = place.client.describe_stream_summary().stream_name(STREAM).send().await.unwrap();
    assert_eq!(described.stream_description_summary().unwrap().retention_period_hours(), 2);

    let date = async || {
        let answer = reqwest::Client::new().post(place.proxy.endpoint()).send().await.unwrap();
        let text = answer.headers()["date"].to_str().unwrap().to_owned();
        chrono::DateTime::parse_from_rfc2822(&text).unwrap().timestamp()
    };
    let today = date().await;
    faults.add(|_| true, Fault::Ahead(Duration::from_secs(86_400)), Some(1));
    assert!((86_400..86_500).contains(&(date().await - today)));
}

#[tokio::test]
async fn connections_are_cut_before_and_after_the_kinesis_behind_is_asked() {
    let place = Place::new(1).await;
    for (fault, landed) in [(Fault::Drop, 0), (Fault::AskThenDrop, 1)] {
        place.proxy.faults().add(|call| call.operation == Operation::Other, fault, Some(1));
        let put = place.client.put_record().stream_name(STREAM).partition_key("k").data(b"x".to_vec().into());
        assert!(matches!(put.send().await, Err(SdkError::DispatchFailure(_))));
        assert_eq!(place.read_from_the_start().await.unwrap().records().len(), landed);
    }
}

#[tokio::test]
async fn answers_are_late_or_never_come() {
    let place = Place::new(1).await;
    let (started, delay) = (Instant::now(), Duration::from_millis(50));
    place.proxy.faults().add(reads, Fault::Delay(delay), Some(1));
    place.read_from_the_start().await.unwrap();
    assert!(started.elapsed() >= delay);
    let stalled = place.proxy.faults().add(reads, Fault::Stall, Some(1));
    let stalls = async {
        until("a call that stalls", async || Ok((place.proxy.faults().hits(stalled) == 1).then_some(())))
            .await
            .unwrap();
        tokio::time::sleep(delay).await;
    };
    tokio::select! {
        answer = place.read_from_the_start() => panic!("{answer:?}"),
        () = stalls => {}
    }
}

#[tokio::test]
async fn a_held_call_goes_on_when_it_is_released_and_no_other_is_held() {
    let place = Place::new(1).await;
    let mut held = place.proxy.faults().hold(reads);
    let ((), parked) = tokio::join!(
        async {
            held.reached().await.unwrap();
            place.read_from_the_start().await.unwrap();
            place.put("while it is parked").await;
            held.release();
        },
        place.read_from_the_start(),
    );
    assert_eq!(payloads(&parked.unwrap()), ["while it is parked"]);
}

#[tokio::test]
async fn a_listing_is_paged_by_tokens_that_come_alone_and_shards_can_be_hidden() {
    let place = Place::new(7).await;
    place.proxy.page_shards(3);
    assert_eq!(place.list().await.len(), 7);
    assert_eq!(place.proxy.calls(|call| call.operation == Operation::ListShards && call.stream == STREAM), 3);
    let page = place.client.list_shards().stream_name(STREAM).send().await.unwrap();
    assert_eq!(page.shards().len(), 3);
    let both = place.client.list_shards().stream_name(STREAM).set_next_token(page.next_token).send().await;
    assert_eq!(both.unwrap_err().code(), Some("InvalidArgumentException"));
    place.proxy.faults().add(|_| true, Fault::hide("shardId-000000000004"), None);
    assert!(place.list().await.iter().all(|shard| shard.shard_id() != "shardId-000000000004"));
    assert_eq!(place.list().await.len(), 6);
}

#[tokio::test]
async fn an_answer_that_is_cut_for_its_size_locks_the_shard_and_loses_nothing() {
    let place = Place::new(1).await;
    for payload in ["aaaa", "bbbb", "ccccccccccccccc", "d"] {
        place.put(payload).await;
    }
    let lock = Duration::from_millis(100);
    place.proxy.reply_bytes(8, lock);
    let mut answer = place.read_from_the_start().await.unwrap();
    let mut read = vec![payloads(&answer)];
    while !answer.records().is_empty() {
        let next = answer.next_shard_iterator().unwrap().to_owned();
        let locked_at = Instant::now();
        answer = match place.read(&next).await {
            Ok(answer) => answer,
            Err(refused) => {
                assert_eq!(refused.code(), Some("ProvisionedThroughputExceededException"));
                tokio::time::sleep_until(locked_at + lock).await;
                place.read(&next).await.unwrap()
            }
        };
        read.push(payloads(&answer));
    }
    let expected: [&[&str]; 4] = [&["aaaa", "bbbb"], &["ccccccccccccccc"], &["d"], &[]];
    assert_eq!(read, expected);
    place.proxy.reply_bytes(8, Duration::from_secs(60));
    place.read_from_the_start().await.unwrap();
    assert_eq!(place.refusal().await, "ProvisionedThroughputExceededException");
}

#[tokio::test]
async fn the_last_answer_of_a_shard_names_its_children_unless_told_not_to() {
    let place = Place::new(1).await;
    place.put("last").await;
    place.kinesis.split(STREAM, FIRST, &(1u128 << 127).to_string()).await.unwrap();
    let last = async || {
        let mut answer = place.read_from_the_start().await.unwrap();
        while let Some(next) = answer.next_shard_iterator() {
            answer = place.read(next).await.unwrap();
        }
        answer
    };
    let children = last().await.child_shards.unwrap();
    let ids: Vec<&str> = children.iter().map(|child| child.shard_id()).collect();
    assert_eq!(ids, ["shardId-000000000001", "shardId-000000000002"]);
    assert!(children.iter().all(|child| child.parent_shards() == [FIRST] && child.hash_key_range().is_some()));
    place.proxy.faults().add(reads, Fault::without_children(), None);
    assert_eq!(last().await.child_shards, None);
}

#[tokio::test]
async fn a_shard_gives_its_quota_to_all_its_readers_says_what_it_gave_and_how_far_they_are_behind() {
    let place = Place::new(1).await;
    for payload in ["aaaa", "bbbb", "cccc"] {
        place.put(payload).await;
    }
    let two = async || {
        let iterator = place.iterator().await;
        place.client.get_records().shard_iterator(iterator).limit(2).send().await
    };
    assert_eq!(two().await.unwrap().millis_behind_latest(), Some(0), "so says the Kinesis behind");
    place.proxy.limit(Quota { bytes_per_second: 1e-3, calls_per_second: 1e9 });
    let first = two().await.unwrap();
    assert!(first.millis_behind_latest() > Some(0) && first.records().len() == 2);
    assert_eq!(two().await.unwrap_err().code(), Some("ProvisionedThroughputExceededException"));
    assert_eq!(place.refusal().await, "ProvisionedThroughputExceededException");
    let asked = reqwest::get(format!("{}{USAGE}", place.proxy.endpoint())).await.unwrap().bytes().await.unwrap();
    let usage: Vec<Usage> = serde_json::from_slice(&asked).unwrap();
    assert_eq!(usage, place.proxy.usage());
    let [shard] = usage.as_slice() else { panic!("one shard was read: {usage:?}") };
    assert_eq!((shard.stream.as_str(), shard.shard.as_str()), (STREAM, FIRST));
    assert_eq!((shard.calls, shard.refused, shard.bytes, shard.caught_up), (1, 2, 8, false));

    let place = Place::new(1).await;
    place.put("aaaa").await;
    place.proxy.limit(Quota { bytes_per_second: 1e9, calls_per_second: 1e-3 });
    assert_eq!(place.read_from_the_start().await.unwrap().millis_behind_latest(), Some(0));
    assert_eq!(place.refusal().await, "ProvisionedThroughputExceededException");
    assert!(place.proxy.usage()[0].caught_up);
}
