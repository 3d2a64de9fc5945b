//! Every answer that Kinesis has for a bad day: none of them loses a record, doubles one or stops a shard.

use std::time::Duration;

use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use load_tests::kinesis_proxy::{Fault, Operation, Request};
use load_tests::{Poster, Processor, Scene, Seed, get, metric, until};
use pintail::demo::Kind;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::places::{behind_a_proxy, not_the_first};

const PIN: &str = "pin";

fn is(operation: Operation) -> impl Fn(&Request) -> bool + Send + Sync + 'static {
    move |call| call.operation == operation
}

async fn finish(scene: &Scene, poster: &Poster, mut pintail: Processor) -> anyhow::Result<()> {
    scene.caught_up(&poster.log, &mut pintail).await?;
    pintail.drain().await?;
    scene.verify(&poster.log).await?;
    Ok(())
}

async fn failed_reads(pintail: &Processor) -> anyhow::Result<f64> {
    let text = get(pintail.address, "/metrics").await?.body;
    let of = |result: &str| metric(&text, "pintail_reads_total", &format!("result=\"{result}\"")).unwrap_or_default();
    Ok(of("invalid") + of("retried"))
}

fn each_record(change: impl Fn(usize, &mut Value) + Send + Sync + 'static) -> Fault {
    Fault::edit(move |answer| {
        let records = answer["Records"].as_array_mut().map(Vec::as_mut_slice).unwrap_or_default();
        records.iter_mut().enumerate().for_each(|(index, record)| change(index, record));
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_call_is_answered_no_record_is_lost_or_read_twice() -> anyhow::Result<()> {
    let (scene, proxy, mut poster) = behind_a_proxy(3).await?;
    let faults: [(Operation, Fault); 15] = [
        (Operation::GetShardIterator, Fault::throttled()),
        (Operation::GetShardIterator, Fault::internal_failure()),
        (Operation::GetShardIterator, Fault::AskThenDrop),
        (Operation::GetRecords, Fault::throttled()),
        (Operation::GetRecords, Fault::expired_iterator()),
        (Operation::GetRecords, Fault::internal_failure()),
        (Operation::GetRecords, Fault::Refuse { status: 503, code: "ServiceUnavailable" }),
        (Operation::GetRecords, Fault::Refuse { status: 400, code: "KMSThrottlingException" }),
        (Operation::GetRecords, Fault::kms_disabled()),
        (Operation::GetRecords, Fault::Drop),
        (Operation::GetRecords, Fault::AskThenDrop),
        (Operation::GetRecords, Fault::Delay(Duration::from_millis(300))),
        (Operation::GetRecords, Fault::Empty { behind_ms: 1_000 }),
        (Operation::GetRecords, Fault::no_next()),
        (Operation::ListShards, Fault::limit_exceeded()),
    ];
    let rules = faults.map(|(operation, fault)| proxy.faults().add(is(operation), fault, Some(2)));
    let mut pintail = scene.start().await?;
    poster.post(900, 900.0).await?;
    scene.caught_up(&poster.log, &mut pintail).await?;
    // A fault that replaces the answer hides the ones behind it: each has its turn.
    until("every fault was met", async || Ok(rules.iter().all(|rule| proxy.faults().hits(*rule) == 2).then_some(())))
        .await?;
    poster.post(300, 20_000.0).await?;
    finish(&scene, &poster, pintail).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_answer_is_told_and_never_stops_a_shard_or_costs_a_record() -> anyhow::Result<()> {
    let (scene, proxy, mut poster) = behind_a_proxy(2).await?;
    let pintail = scene.start().await?;
    let poisons = [
        Fault::Body("{\"Records\": [{\"Data\": \""),
        Fault::Body("<html>a proxy's idea of an answer</html>"),
        each_record(|_, record| record["SequenceNumber"] = Value::Null),
        each_record(|index, record| {
            if index == 1 {
                record["SequenceNumber"] = json!("9".repeat(73));
            }
        }),
        each_record(|_, record| record["Data"] = json!("no base64!")),
    ];
    for poison in poisons {
        let before = failed_reads(&pintail).await?;
        let rule = proxy.faults().add(is(Operation::GetRecords), poison, None);
        poster.post(120, 20_000.0).await?;
        until("failed reads are counted", async || Ok((failed_reads(&pintail).await? >= before + 3.0).then_some(())))
            .await?;
        proxy.faults().remove(rule);
    }
    finish(&scene, &poster, pintail).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_shard_is_read_at_its_pace_with_one_iterator_and_so_is_one_that_brings_nothing() -> anyhow::Result<()> {
    let (scene, proxy, mut poster) = behind_a_proxy(2).await?;
    let pintail = scene.start().await?;
    let reads = || proxy.calls(is(Operation::GetRecords));
    for behind in [false, true] {
        if behind {
            proxy.faults().add(is(Operation::GetRecords), Fault::Empty { behind_ms: 60_000 }, None);
        }
        until("both shards are read", async || Ok((reads() >= 4).then_some(()))).await?;
        let (started, before) = (Instant::now(), reads());
        until("some more reads", async || Ok((reads() >= before + 10).then_some(()))).await?;
        let most = 2 + 2 * (started.elapsed().as_secs_f64() * 5.0).ceil() as u64;
        assert!(reads() - before <= most, "{} reads of two idle shards in {:?}", reads() - before, started.elapsed());
    }
    assert_eq!(proxy.calls(is(Operation::GetShardIterator)), 2);
    proxy.faults().clear();
    poster.post(120, 20_000.0).await?;
    finish(&scene, &poster, pintail).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lock_after_an_answer_of_ten_mebibytes_is_respected() -> anyhow::Result<()> {
    let (scene, _proxy, _) = behind_a_proxy(1).await?;
    // Rejects, but records: fifteen of a megabyte, of which one answer holds ten.
    for calls in [5, 5, 5] {
        let entry = |_| PutRecordsRequestEntry::builder().partition_key("k").data(vec![b'x'; 1_000_000].into()).build();
        let entries = (0..calls).map(entry).collect::<Result<Vec<_>, _>>()?;
        let put = scene.kinesis.client().put_records().stream_name(PIN).set_records(Some(entries)).send().await?;
        assert_eq!(put.failed_record_count(), Some(0));
    }
    let pintail = scene.start().await?;
    until("all fifteen are read", async || Ok((pintail.records_read() == 15).then_some(()))).await?;
    let text = get(pintail.address, "/metrics").await?.body;
    assert_eq!(metric(&text, "pintail_reads_total", "result=\"throttled\"").unwrap_or_default(), 0.0);
    pintail.drain().await?;
    assert_eq!(scene.table("pin_rejects").await?.rows(), 15);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_without_a_partition_key_are_rows() -> anyhow::Result<()> {
    let (scene, proxy, mut poster) = behind_a_proxy(2).await?;
    let keyless = each_record(|_, record| {
        if let Some(fields) = record.as_object_mut() {
            fields.remove("PartitionKey");
        }
    });
    let rule = proxy.faults().add(is(Operation::GetRecords), keyless, None);
    poster.post(300, 20_000.0).await?;
    let pintail = scene.start().await?;
    finish(&scene, &poster, pintail).await?;
    assert!(proxy.faults().hits(rule) > 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arrival_times_that_go_backwards_lose_nothing_and_no_window() -> anyhow::Result<()> {
    let (scene, proxy, mut poster) = behind_a_proxy(2).await?;
    let backwards = each_record(|index, record| {
        let arrived = record["ApproximateArrivalTimestamp"].as_f64().unwrap_or_default();
        record["ApproximateArrivalTimestamp"] = json!(arrived - 130.0 * (index % 3) as f64);
    });
    proxy.faults().add(is(Operation::GetRecords), backwards, None);
    let mut pintail = scene.start().await?;
    poster.post(450, 20_000.0).await?;
    scene.caught_up(&poster.log, &mut pintail).await?;
    poster.post(450, 20_000.0).await?;
    finish(&scene, &poster, pintail).await?;
    let partials = scene.table("pins_by_category_partials").await?;
    let mut starts = partials.integers("window_start")?;
    starts.sort_unstable();
    starts.dedup();
    assert!(starts.len() >= 3, "all in the same windows: {starts:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_shard_of_a_listing_of_several_pages_is_read_though_a_page_is_asked_for_too_late() -> anyhow::Result<()> {
    const SHARDS: u32 = 120;
    let seed = Seed::announced();
    let mut scene = Scene::new(1).await?;
    scene.kinesis.client().delete_stream().stream_name(PIN).send().await?;
    until("the small stream is gone", async || {
        Ok(scene.kinesis.client().describe_stream_summary().stream_name(PIN).send().await.err())
    })
    .await?;
    scene.kinesis.create_stream(PIN, SHARDS).await?;
    scene.settings.streams = vec![Kind::Pin];
    scene.settings.reads_per_second = 0.5;
    let proxy = scene.interpose().await?;
    proxy.page_shards(50);
    let listing = |call: &Request| call.operation == Operation::ListShards && call.stream == PIN;
    let expired = proxy.faults().add(not_the_first(listing), Fault::expired_next_token(), Some(1));
    let mut poster = scene.poster(seed.value());
    poster.post(1_500, 20_000.0).await?;
    let pintail = scene.start().await?;
    until("every record is read", async || Ok((pintail.records_read() == poster.log.count(PIN)).then_some(()))).await?;
    finish(&scene, &poster, pintail).await?;
    assert_eq!(scene.ledger(Kind::Pin).await?.shards.len(), SHARDS as usize);
    assert_eq!(proxy.faults().hits(expired), 1);
    assert!(proxy.calls(is(Operation::ListShards)) >= 5, "three pages, of which two were asked for again");
    Ok(())
}
