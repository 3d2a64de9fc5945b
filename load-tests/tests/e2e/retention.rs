//! Records that retention took before they were read: found before a start, told with the exact range, and the policy
//! decides.

use std::collections::BTreeMap;
use std::process::Output;
use std::time::Duration;

use anyhow::Context;
use load_tests::kinesis_proxy::{Fault, KinesisProxy, Operation, Request};
use load_tests::{Instance, Poster, Scene, Seed, get, metric, until};
use pintail::checkpoint::{SequenceNumber, ShardId};
use pintail::demo::Kind;
use tokio::process::Command;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");
const PIN: &str = "pin";
const SHARD: &str = "shardId-000000000000";

/// A ledger whose positions are beyond the retention.
struct Trimmed {
    scene: Scene,
    _proxy: KinesisProxy,
    poster: Poster,
    shards: BTreeMap<ShardId, Gap>,
    /// Records that were trimmed before they were read.
    trimmed: u64,
}

/// The last number that was read of a shard, and the first that is still there.
struct Gap {
    read: SequenceNumber,
    first: SequenceNumber,
}

/// The first line of a log that raises the alarm for a shard.
fn alarm<'a>(log: &'a str, shard: &ShardId) -> &'a str {
    let of_shard = format!("\"shard\":\"{shard}\"");
    let words = ["records were trimmed before they were read", of_shard.as_str()];
    log.lines().find(|line| words.iter().all(|word| line.contains(word))).unwrap_or_default()
}

type Heads = BTreeMap<ShardId, SequenceNumber>;

/// Posts so many records, and more until each of so many shards of pins has some beyond these; where they end then.
async fn post_beyond(before: &Heads, poster: &mut Poster, shards: u32, records: u64) -> anyhow::Result<Heads> {
    loop {
        poster.post(records, 20_000.0).await?;
        let of_pins = poster.log.heads().into_iter().filter(|((stream, _), _)| stream == PIN);
        let heads: Heads = of_pins.map(|((_, shard), head)| (shard, head)).collect();
        if heads.len() == shards as usize && heads.iter().all(|(shard, head)| before.get(shard) < Some(head)) {
            return Ok(heads);
        }
    }
}

/// Some pins are read of each of so many shards; then retention takes some of each that nobody has read, and leaves
/// some.
async fn trimmed(shards: u32) -> anyhow::Result<Trimmed> {
    let seed = Seed::announced();
    let mut scene = Scene::new(shards).await?;
    scene.settings.streams = vec![Kind::Pin];
    let proxy = scene.interpose().await?;
    let mut poster = scene.poster(seed.value());
    // Few enough that `check`, which reads record by record, is through with them soon.
    let read = post_beyond(&Heads::new(), &mut poster, shards, 24).await?;
    let mut pintail = scene.start().await?;
    scene.caught_up(&poster.log, &mut pintail).await?;
    pintail.drain().await?;
    let count = poster.log.count(PIN);
    let gone = post_beyond(&read, &mut poster, shards, 12).await?;
    let trimmed = poster.log.count(PIN) - count;
    post_beyond(&gone, &mut poster, shards, 150).await?;
    // Nothing that is older than this moment is kept, and nothing up to the last one that is gone is handed out.
    proxy.faults().add(|call| call.operation == Operation::DescribeStreamSummary, Fault::retention(0), None);
    let mut gaps = BTreeMap::new();
    for (shard, records) in poster.log.stream(PIN) {
        let (read, gone) = (read[&shard], gone[&shard]);
        let left = records.iter().map(|record| record.number).filter(|number| *number > gone);
        gaps.insert(shard.clone(), Gap { read, first: left.min().context("nothing is left")? });
        let reads = move |call: &Request| call.operation == Operation::GetRecords && call.shard == shard.as_str();
        proxy.faults().add(reads, without_records_through(gone), None);
    }
    Ok(Trimmed { scene, _proxy: proxy, poster, shards: gaps, trimmed })
}

/// Answers lack the records up to this number; if that is all of them, there is more behind.
fn without_records_through(last: SequenceNumber) -> Fault {
    Fault::edit(move |answer| {
        let Some(records) = answer["Records"].as_array_mut() else { return };
        let before = records.len();
        records.retain(|record| {
            let number = record["SequenceNumber"].as_str().and_then(|text| SequenceNumber::parse(text).ok());
            number > Some(last)
        });
        if records.is_empty() && before > 0 {
            answer["MillisBehindLatest"] = 1_000.into();
        }
    })
}

impl Trimmed {
    /// What people are told was lost, by shard.
    fn ranges(&self) -> BTreeMap<&ShardId, String> {
        let told =
            |shard: &ShardId, gap: &Gap| format!("stream pin, {shard}, positions (after {}, {}]", gap.read, gap.first);
        self.shards.iter().map(|(shard, gap)| (shard, told(shard, gap))).collect()
    }

    async fn check(&self) -> anyhow::Result<Output> {
        let mut check = Command::new(PINTAIL);
        check.args(["pintail", "check", "--config"]).arg(self.scene.configure()?);
        check.env_clear().envs([("AWS_ACCESS_KEY_ID", "local"), ("AWS_SECRET_ACCESS_KEY", "local")]);
        Ok(check.output().await?)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_beyond_the_retention_is_found_by_check_and_ends_a_run_under_fail() -> anyhow::Result<()> {
    let trimmed = trimmed(1).await?;
    let range = trimmed.ranges().into_values().next().context("one shard")?;
    let before = trimmed.scene.table(PIN).await?.version;
    let check = trimmed.check().await?;
    let said = String::from_utf8(check.stdout)?;
    assert_eq!(check.status.code(), Some(1), "{said}");
    let line = said.lines().find(|line| line.contains("PROBLEM: records were trimmed before they were read"));
    assert!(line.is_some_and(|line| line.contains(&range) && line.contains("on_data_loss")), "{said}");

    let mut child = trimmed.scene.spawn(PINTAIL)?;
    let status = child.ended().await?;
    assert_eq!(status.code(), Some(1), "{}", child.story());
    let last = child.stderr()?.lines().last().unwrap_or_default().to_owned();
    assert!(last.contains(&range) && last.contains("set on_data_loss = \"continue\""), "{last}");
    assert_eq!(trimmed.scene.table(PIN).await?.version, before, "nothing is written beyond the gap");
    Ok(())
}

/// Under `continue`, with a range that was trimmed in each of so many shards.
async fn are_told_everywhere_and_passed_over(shards: u32) -> anyhow::Result<()> {
    let mut trimmed = trimmed(shards).await?;
    trimmed.scene.settings.on_data_loss = "continue";
    let check = trimmed.check().await?;
    let said = String::from_utf8(check.stdout)?;
    assert_eq!(check.status.code(), Some(0), "{said}");
    for range in trimmed.ranges().values() {
        assert!(said.lines().any(|line| line.contains("LOST") && line.contains(range)), "{range} in {said}");
    }

    let mut child = trimmed.scene.spawn(PINTAIL)?;
    let address = child.address().await?;
    trimmed.scene.caught_up(&trimmed.poster.log, &mut child).await?;
    child.ready().await?;
    let ready = get(address, "/readyz").await?;
    let metrics = get(address, "/metrics").await?.body;
    let log = child.stderr()?;
    // A retention of no time at all is overtaken again by every moment in which nothing is read: there may be more.
    assert!(metric(&metrics, "pintail_data_loss_total", "") >= Some(f64::from(shards)), "{log}");
    for (shard, range) in trimmed.ranges() {
        let lost = ready.json()?["streams"][0]["lost"][shard.as_str()].as_str().unwrap_or_default().to_owned();
        assert!(lost.starts_with(&range), "{range} in {}", ready.body);
        let Gap { read, first } = &trimmed.shards[shard];
        let (after, first) = (format!("\"after\":\"after {read}\""), format!("\"first\":\"{first}\""));
        let told = alarm(&log, shard);
        assert!(told.contains(&after) && told.contains(&first), "{range} in {told}");
    }
    child.terminate().await?;

    let (rows, rejects) = (trimmed.scene.table(PIN).await?.rows(), trimmed.scene.table("pin_rejects").await?.rows());
    assert_eq!(
        rows + rejects,
        trimmed.poster.log.count(PIN) - trimmed.trimmed,
        "lost is what was trimmed, and no more"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_continue_the_range_is_told_everywhere_and_all_that_is_left_is_read() -> anyhow::Result<()> {
    are_told_everywhere_and_passed_over(1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_continue_two_shards_that_lose_a_range_at_once_are_told_each_with_its_own() -> anyhow::Result<()> {
    are_told_everywhere_and_passed_over(2).await
}

/// A parent is read to its end and its children are not read at all, for longer than the retention: as far as the
/// first answer's `Date` says.
async fn children_read_a_day_late() -> anyhow::Result<(Scene, KinesisProxy, Poster)> {
    let seed = Seed::announced();
    let mut scene = Scene::new(1).await?;
    scene.settings.streams = vec![Kind::Pin];
    let proxy = scene.interpose().await?;
    let mut poster = scene.poster(seed.value());
    poster.post(150, 20_000.0).await?;
    scene.kinesis.split(PIN, SHARD, &(1u128 << 127).to_string()).await?;
    poster.post(150, 20_000.0).await?;
    let of_a_child = |call: &Request| call.operation == Operation::GetShardIterator && call.shard != SHARD;
    proxy.faults().add(of_a_child, Fault::Stall, None);
    let child = scene.spawn(PINTAIL)?;
    until("the parent has ended and its children are known", async || {
        let shards = scene.ledger(Kind::Pin).await?.shards;
        Ok((shards.len() == 3 && shards.values().any(|entry| entry.ended)).then_some(()))
    })
    .await?;
    child.kill_9().await?;
    proxy.faults().clear();
    // What is read first is read again once the listing has said how old the shard is.
    for number in [1, 2] {
        let shard = format!("shardId-{number:012}");
        let reads = move |call: &Request| call.operation == Operation::GetRecords && call.shard == shard;
        proxy.faults().add(reads, Fault::Ahead(Duration::from_secs(25 * 3_600)), Some(2));
    }
    Ok((scene, proxy, poster))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_of_a_parent_that_is_still_listed_are_no_false_alarm() -> anyhow::Result<()> {
    let (scene, _proxy, poster) = children_read_a_day_late().await?;
    let mut pintail = scene.start().await?;
    scene.caught_up(&poster.log, &mut pintail).await?;
    let metrics = get(pintail.address, "/metrics").await?.body;
    assert_eq!(metric(&metrics, "pintail_data_loss_total", ""), Some(0.0));
    pintail.drain().await?;
    scene.verify(&poster.log).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_of_a_parent_that_is_gone_are_an_alarm_from_their_beginning() -> anyhow::Result<()> {
    let (scene, proxy, _poster) = children_read_a_day_late().await?;
    proxy.faults().add(|call| call.operation == Operation::ListShards, Fault::hide(SHARD), None);
    let mut child = scene.spawn(PINTAIL)?;
    assert_eq!(child.ended().await?.code(), Some(1), "{}", child.story());
    let last = child.stderr()?.lines().last().unwrap_or_default().to_owned();
    assert!(last.contains("positions (beginning, "), "{last}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retention_that_is_cut_while_nothing_is_missed_is_no_loss() -> anyhow::Result<()> {
    let seed = Seed::announced();
    let mut scene = Scene::new(2).await?;
    scene.settings.streams = vec![Kind::Pin];
    let proxy = scene.interpose().await?;
    let mut poster = scene.poster(seed.value());
    poster.post(300, 20_000.0).await?;
    let mut pintail = scene.start().await?;
    scene.caught_up(&poster.log, &mut pintail).await?;
    proxy.faults().add(|call| call.operation == Operation::DescribeStreamSummary, Fault::retention(1), None);
    poster.post(300, 20_000.0).await?;
    until("the second half is read", async || {
        pintail.alive()?;
        Ok((pintail.records_read() == poster.log.count(PIN)).then_some(()))
    })
    .await?;
    scene.caught_up(&poster.log, &mut pintail).await?;
    pintail.drain().await?;
    scene.verify(&poster.log).await?;
    Ok(())
}
