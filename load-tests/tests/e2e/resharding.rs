//! Resharding at its worst moments: parents that end hours apart, shards that live for an instant, and a process that
//! is killed between a parent's end and its children.

use load_tests::kinesis_proxy::{Fault, KinesisProxy, Operation, Request};
use load_tests::{Poster, Scene, until};
use pintail::demo::Kind;

use crate::places::{behind_a_proxy, not_the_first};

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");
const PIN: &str = "pin";

fn shard(number: u32) -> String {
    format!("shardId-{number:012}")
}

/// The hash key at so many sixteenths.
fn sixteenths(number: u128) -> String {
    (number << 124).to_string()
}

fn reads_of(number: u32) -> impl Fn(&Request) -> bool + Send + Sync + 'static {
    let shard = shard(number);
    move |call| call.operation == Operation::GetRecords && call.stream == PIN && call.shard == shard
}

fn asks_for(number: u32) -> impl Fn(&Request) -> bool + Send + Sync + 'static {
    let shard = shard(number);
    move |call| call.operation == Operation::GetShardIterator && call.stream == PIN && call.shard == shard
}

async fn split(scene: &Scene, number: u32, at: u128) -> anyhow::Result<()> {
    Ok(scene.kinesis.split(PIN, &shard(number), &sixteenths(at)).await?)
}

async fn merge(scene: &Scene, a: u32, b: u32) -> anyhow::Result<()> {
    Ok(scene.kinesis.merge(PIN, &shard(a), &shard(b)).await?)
}

async fn post(poster: &mut Poster) -> anyhow::Result<()> {
    poster.post(300, 20_000.0).await
}

/// Which shards of the ledger have ended.
async fn ended(scene: &Scene) -> anyhow::Result<Vec<u32>> {
    let ledger = scene.ledger(Kind::Pin).await?;
    let ended = ledger.shards.iter().filter(|(_, entry)| entry.ended);
    Ok(ended.filter_map(|(id, _)| id.as_str().strip_prefix("shardId-")?.parse().ok()).collect())
}

/// Starts a process, and kills it when it makes this call; the call never reaches Kinesis.
async fn kill_at(
    scene: &Scene,
    proxy: &KinesisProxy,
    call: impl Fn(&Request) -> bool + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let mut held = proxy.faults().hold(call);
    let mut child = scene.spawn(PINTAIL)?;
    tokio::select! {
        reached = held.reached() => {
            reached?;
            child.kill_9().await
        }
        ended = child.ended() => anyhow::bail!("it ended by itself: {ended:?}"),
    }
}

/// A last process brings everything into the tables.
async fn finish(scene: &Scene, poster: &Poster) -> anyhow::Result<()> {
    let mut pintail = scene.start().await?;
    scene.caught_up(&poster.log, &mut pintail).await?;
    pintail.drain().await?;
    scene.verify(&poster.log).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merged_shard_waits_for_the_parent_that_ends_much_later() -> anyhow::Result<()> {
    let (scene, proxy, mut poster) = behind_a_proxy(2).await?;
    post(&mut poster).await?;
    merge(&scene, 0, 1).await?;
    post(&mut poster).await?;
    // The second parent is behind, and brings nothing.
    let behind = proxy.faults().add(reads_of(1), Fault::Empty { behind_ms: 3_600_000 }, None);
    let mut pintail = scene.start().await?;
    until("the first parent has ended", async || Ok((ended(&scene).await? == [0]).then_some(()))).await?;
    let reads = proxy.faults().hits(behind);
    until("the second one was read on", async || Ok((proxy.faults().hits(behind) > reads + 5).then_some(()))).await?;
    assert_eq!(proxy.calls(asks_for(2)), 0, "the child is read before both parents have ended");
    proxy.faults().remove(behind);
    scene.caught_up(&poster.log, &mut pintail).await?;
    pintail.drain().await?;
    assert_eq!(ended(&scene).await?, [0, 1]);
    scene.verify(&poster.log).await?;
    Ok(())
}

/// What UpdateShardCount does: shards 0 and 1 become three by way of shards that are split and merged again at once.
async fn two_to_three(scene: &Scene) -> anyhow::Result<()> {
    split(scene, 0, 5).await?;
    split(scene, 1, 10).await?;
    merge(scene, 3, 4).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_that_live_for_an_instant_on_the_way_to_another_count_are_read_through() -> anyhow::Result<()> {
    let (scene, proxy, mut poster) = behind_a_proxy(2).await?;
    let mut pintail = scene.start().await?;
    post(&mut poster).await?;
    two_to_three(&scene).await?;
    post(&mut poster).await?;
    scene.caught_up(&poster.log, &mut pintail).await?;
    until("all intermediate shards have ended", async || Ok((ended(&scene).await? == [0, 1, 3, 4]).then_some(())))
        .await?;
    // And back, by shards that never see a record; nobody names children this time.
    proxy.faults().add(|call| call.operation == Operation::GetRecords, Fault::without_children(), None);
    merge(&scene, 2, 6).await?;
    merge(&scene, 7, 5).await?;
    split(&scene, 8, 8).await?;
    post(&mut poster).await?;
    scene.caught_up(&poster.log, &mut pintail).await?;
    until("all of them have ended", async || Ok((ended(&scene).await? == [0, 1, 2, 3, 4, 5, 6, 7, 8]).then_some(())))
        .await?;
    pintail.drain().await?;
    scene.verify(&poster.log).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_at_latest_while_the_reader_is_behind_leaves_no_gap() -> anyhow::Result<()> {
    let (mut scene, proxy, mut poster) = behind_a_proxy(1).await?;
    scene.settings.start = "latest";
    let behind = proxy.faults().add(reads_of(0), Fault::Empty { behind_ms: 30_000 }, None);
    let mut pintail = scene.start().await?;
    until("the shard is read", async || Ok((proxy.faults().hits(behind) > 0).then_some(()))).await?;
    post(&mut poster).await?;
    split(&scene, 0, 8).await?;
    post(&mut poster).await?;
    split(&scene, 1, 4).await?;
    merge(&scene, 4, 2).await?;
    post(&mut poster).await?;
    proxy.faults().remove(behind);
    scene.caught_up(&poster.log, &mut pintail).await?;
    pintail.drain().await?;
    scene.verify(&poster.log).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_a_parents_end_and_its_children_it_loses_nothing() -> anyhow::Result<()> {
    let (scene, proxy, mut poster) = behind_a_proxy(1).await?;
    post(&mut poster).await?;
    split(&scene, 0, 8).await?;
    post(&mut poster).await?;
    // A start on closed parents that hold unread data; killed before the parent is read, before it is read to its
    // end, and when its end is committed and its children are not read.
    kill_at(&scene, &proxy, reads_of(0)).await?;
    kill_at(&scene, &proxy, not_the_first(reads_of(0))).await?;
    kill_at(&scene, &proxy, asks_for(1)).await?;
    assert_eq!(ended(&scene).await?, [0]);
    kill_at(&scene, &proxy, asks_for(2)).await?;
    finish(&scene, &poster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_the_ends_of_a_merges_parents_it_loses_nothing() -> anyhow::Result<()> {
    let (scene, proxy, mut poster) = behind_a_proxy(2).await?;
    post(&mut poster).await?;
    merge(&scene, 0, 1).await?;
    post(&mut poster).await?;
    let behind = proxy.faults().add(reads_of(1), Fault::Empty { behind_ms: 3_600_000 }, None);
    let child = scene.spawn(PINTAIL)?;
    until("one parent has ended", async || Ok((ended(&scene).await? == [0]).then_some(()))).await?;
    child.kill_9().await?;
    proxy.faults().remove(behind);
    kill_at(&scene, &proxy, asks_for(2)).await?;
    assert_eq!(ended(&scene).await?, [0, 1]);
    finish(&scene, &poster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_among_shards_that_live_for_an_instant_it_loses_nothing() -> anyhow::Result<()> {
    let (scene, proxy, mut poster) = behind_a_proxy(2).await?;
    post(&mut poster).await?;
    two_to_three(&scene).await?;
    post(&mut poster).await?;
    for number in [3, 4, 6] {
        kill_at(&scene, &proxy, asks_for(number)).await?;
    }
    finish(&scene, &poster).await
}
