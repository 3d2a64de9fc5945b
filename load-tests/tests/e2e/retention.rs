//! Records that retention took before they were read: found before a start, told with the exact range, and the policy
//! decides.

use std::process::Output;
use std::time::Duration;

use load_tests::kinesis_proxy::{Fault, KinesisProxy, Operation, Request};
use load_tests::{Instance, Poster, Scene, Seed, get, metric, until};
use pintail::checkpoint::SequenceNumber;
use pintail::demo::Kind;
use tokio::process::Command;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");
const PIN: &str = "pin";
const SHARD: &str = "shardId-000000000000";

/// A ledger whose position is beyond the retention.
struct Trimmed {
    scene: Scene,
    _proxy: KinesisProxy,
    poster: Poster,
    /// The last number that was read, the last that was trimmed, the first that is still there.
    read: SequenceNumber,
    trimmed: u64,
    first: SequenceNumber,
}

fn numbers(poster: &Poster) -> Vec<SequenceNumber> {
    poster.log.stream(PIN).into_values().flatten().map(|record| record.number).collect()
}

/// Some pins are read; then retention takes some that nobody has read, and leaves some.
async fn trimmed() -> anyhow::Result<Trimmed> {
    let seed = Seed::announced();
    let mut scene = Scene::new(1).await?;
    scene.settings.streams = vec![Kind::Pin];
    let proxy = scene.interpose().await?;
    let mut poster = scene.poster(seed.value());
    // Few enough that `check`, which reads record by record, is through with them soon.
    poster.post(24, 20_000.0).await?;
    let mut pintail = scene.start().await?;
    scene.caught_up(&poster.log, &mut pintail).await?;
    pintail.drain().await?;
    let read = numbers(&poster);
    poster.post(12, 20_000.0).await?;
    let gone = numbers(&poster);
    poster.post(150, 20_000.0).await?;
    let (last_read, last_gone) = (read.iter().copied().max(), gone.iter().copied().max());
    let (Some(read_through), Some(gone_through)) = (last_read, last_gone) else { anyhow::bail!("no pins") };
    let Some(first) = numbers(&poster).into_iter().filter(|number| *number > gone_through).min() else {
        anyhow::bail!("nothing is left")
    };
    // Nothing that is older than this moment is kept, and nothing up to the last one that is gone is handed out.
    proxy.faults().add(|call| call.operation == Operation::DescribeStreamSummary, Fault::retention(0), None);
    let trim = Fault::edit(move |answer| {
        let records = answer["Records"].as_array_mut();
        let before = records.as_ref().map_or(0, |records| records.len());
        let Some(records) = records else { return };
        records.retain(|record| {
            let number = record["SequenceNumber"].as_str().and_then(|text| SequenceNumber::parse(text).ok());
            number > Some(gone_through)
        });
        if records.is_empty() && before > 0 {
            answer["MillisBehindLatest"] = 1_000.into();
        }
    });
    proxy.faults().add(|call| call.operation == Operation::GetRecords, trim, None);
    let trimmed = (gone.len() - read.len()) as u64;
    Ok(Trimmed { scene, _proxy: proxy, poster, read: read_through, trimmed, first })
}

impl Trimmed {
    fn range(&self) -> String {
        format!("stream pin, {SHARD}, positions (after {}, {}]", self.read, self.first)
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
    let trimmed = trimmed().await?;
    let before = trimmed.scene.table(PIN).await?.version;
    let check = trimmed.check().await?;
    let said = String::from_utf8(check.stdout)?;
    assert_eq!(check.status.code(), Some(1), "{said}");
    let line = said.lines().find(|line| line.contains("PROBLEM: records were trimmed before they were read"));
    assert!(line.is_some_and(|line| line.contains(&trimmed.range()) && line.contains("on_data_loss")), "{said}");

    let mut child = trimmed.scene.spawn(PINTAIL)?;
    let status = child.ended().await?;
    assert_eq!(status.code(), Some(1), "{}", child.story());
    let last = child.stderr()?.lines().last().unwrap_or_default().to_owned();
    assert!(last.contains(&trimmed.range()) && last.contains("set on_data_loss = \"continue\""), "{last}");
    assert_eq!(trimmed.scene.table(PIN).await?.version, before, "nothing is written beyond the gap");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_continue_the_range_is_told_everywhere_and_all_that_is_left_is_read() -> anyhow::Result<()> {
    let mut trimmed = trimmed().await?;
    trimmed.scene.settings.on_data_loss = "continue";
    let check = trimmed.check().await?;
    let said = String::from_utf8(check.stdout)?;
    assert_eq!(check.status.code(), Some(0), "{said}");
    assert!(said.lines().any(|line| line.contains("LOST") && line.contains(&trimmed.range())), "{said}");

    let mut child = trimmed.scene.spawn(PINTAIL)?;
    let address = child.address().await?;
    trimmed.scene.caught_up(&trimmed.poster.log, &mut child).await?;
    child.ready().await?;
    let ready = get(address, "/readyz").await?;
    let lost = ready.json()?["streams"][0]["lost"][SHARD].as_str().unwrap_or_default().to_owned();
    assert!(lost.starts_with(&trimmed.range()), "{}", ready.body);
    let metrics = get(address, "/metrics").await?.body;
    let log = child.stderr()?;
    // A retention of no time at all is overtaken again by every moment in which nothing is read: there may be more.
    assert!(metric(&metrics, "pintail_data_loss_total", "") >= Some(1.0), "{log}");
    let told = log.lines().find(|line| line.contains("records were trimmed before they were read"));
    assert!(told.is_some_and(|line| line.contains(&format!("\"first\":\"{}\"", trimmed.first))), "{log}");
    child.terminate().await?;

    let (rows, rejects) = (trimmed.scene.table(PIN).await?.rows(), trimmed.scene.table("pin_rejects").await?.rows());
    assert_eq!(
        rows + rejects,
        trimmed.poster.log.count(PIN) - trimmed.trimmed,
        "lost is what was trimmed, and no more"
    );
    Ok(())
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
    for number in [1, 2] {
        let shard = format!("shardId-{number:012}");
        let reads = move |call: &Request| call.operation == Operation::GetRecords && call.shard == shard;
        proxy.faults().add(reads, Fault::Ahead(Duration::from_secs(25 * 3_600)), Some(1));
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
