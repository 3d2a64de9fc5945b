//! Shards split and merge while records are posted.

use std::collections::BTreeMap;

use load_tests::{Poster, Scene, Seed, until};
use pintail::checkpoint::{LedgerView, ShardId};
use pintail::clock::now_ms;
use pintail::demo::Kind;
use pintail::demo::accepted::AcceptedLog;
use tokio_util::sync::CancellationToken;

const RATE: f64 = 900.0;

fn shard(number: u32) -> ShardId {
    ShardId::new(format!("shardId-{number:012}"))
}

fn quarter(number: u128) -> String {
    (number << 126).to_string()
}

/// Waits until this shard of every stream has been posted to.
async fn posted_to(log: &AcceptedLog, number: u32) -> anyhow::Result<()> {
    until("every stream has accepted records in a shard", async || {
        let posted = |kind: &Kind| log.stream(kind.name()).contains_key(&shard(number));
        Ok(Kind::ALL.iter().all(posted).then_some(()))
    })
    .await
}

/// Two shards become four, and the middle two of them one: shards 0 to 6.
async fn reshard(scene: &Scene, log: &AcceptedLog) -> anyhow::Result<()> {
    let name = |number| shard(number).to_string();
    posted_to(log, 0).await?;
    for kind in Kind::ALL {
        scene.kinesis.split(kind.name(), &name(0), &quarter(1)).await?;
    }
    posted_to(log, 3).await?;
    for kind in Kind::ALL {
        scene.kinesis.split(kind.name(), &name(1), &quarter(3)).await?;
    }
    posted_to(log, 4).await?;
    for kind in Kind::ALL {
        scene.kinesis.merge(kind.name(), &name(3), &name(4)).await?;
    }
    posted_to(log, 6).await
}

async fn post_while_resharding(scene: &Scene, poster: &mut Poster) -> anyhow::Result<()> {
    let (stop, log) = (CancellationToken::new(), poster.log.clone());
    let resharding = async {
        let result = reshard(scene, &log).await;
        stop.cancel();
        result
    };
    let (posted, resharded) = tokio::join!(poster.post_until(RATE, &stop), resharding);
    posted.and(resharded)
}

fn assert_family(kind: Kind, ledger: &LedgerView, start_ms_of_first: i64) {
    let ended: BTreeMap<u32, bool> =
        (0..7).filter_map(|number| Some((number, ledger.shards.get(&shard(number))?.ended))).collect();
    let expected = [true, true, false, true, true, false, false];
    assert_eq!(ended.into_values().collect::<Vec<_>>(), expected, "{kind:?}: which shards have ended: {ledger:#?}");
    assert_eq!(ledger.shards.len(), 7, "{kind:?}");
    for (id, entry) in &ledger.shards {
        let first = [shard(0), shard(1)].contains(id);
        let start_ms = if first { start_ms_of_first } else { 0 };
        assert_eq!(entry.start_ms, start_ms, "{kind:?} {id}: where it starts");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn splits_and_merges_under_load_lose_nothing_and_double_nothing() -> anyhow::Result<()> {
    let seed = Seed::announced();
    let scene = Scene::new(2).await?;
    let mut poster = scene.poster(seed.value());
    let mut pintail = scene.start().await?;
    post_while_resharding(&scene, &mut poster).await?;
    scene.caught_up(&poster.log, &mut pintail).await?;
    pintail.drain().await?;

    scene.verify(&poster.log).await?;
    for kind in Kind::ALL {
        assert_family(kind, &scene.ledger(kind).await?, 0);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_resharded_while_pintail_was_away_is_read_to_its_end() -> anyhow::Result<()> {
    let seed = Seed::announced();
    let scene = Scene::new(2).await?;
    let mut poster = scene.poster(seed.value());
    poster.post(300, 6_000.0).await?;
    let mut first = scene.start().await?;
    scene.caught_up(&poster.log, &mut first).await?;
    first.drain().await?;

    post_while_resharding(&scene, &mut poster).await?;
    let mut second = scene.start().await?;
    scene.caught_up(&poster.log, &mut second).await?;
    second.drain().await?;

    scene.verify(&poster.log).await?;
    for kind in Kind::ALL {
        assert_family(kind, &scene.ledger(kind).await?, 0);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_at_latest_reads_everything_after_it_through_every_reshard_and_nothing_before() -> anyhow::Result<()> {
    let seed = Seed::announced();
    let mut scene = Scene::new(2).await?;
    let mut before = scene.poster(seed.value());
    before.post(300, 6_000.0).await?;
    // Latest is the whole second in which Pintail starts.
    let second = now_ms() / 1_000;
    until("the next second", async || Ok((now_ms() / 1_000 > second).then_some(()))).await?;

    scene.settings.start = "latest";
    let started_ms = now_ms();
    let mut pintail = scene.start().await?;
    let registered = until("every stream is registered", async || {
        let mut starts = Vec::new();
        for kind in Kind::ALL {
            starts.extend(scene.ledger(kind).await?.shards.get(&shard(0)).map(|entry| entry.start_ms));
        }
        Ok((starts.len() == Kind::ALL.len()).then_some(starts))
    });
    let starts = registered.await?;
    let mut after = scene.poster(seed.value());
    post_while_resharding(&scene, &mut after).await?;
    scene.caught_up(&after.log, &mut pintail).await?;
    pintail.drain().await?;

    scene.verify(&after.log).await?;
    for (kind, start_ms) in Kind::ALL.into_iter().zip(starts) {
        assert!((started_ms - 1_000..=now_ms()).contains(&start_ms), "{kind:?} starts at {start_ms}");
        assert_family(kind, &scene.ledger(kind).await?, start_ms);
    }
    Ok(())
}
