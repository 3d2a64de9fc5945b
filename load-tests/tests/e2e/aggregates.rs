//! Aggregated records, as the Kinesis Producer Library sends them: each record in them is a row or a reject, once.

use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use load_tests::{Processor, Scene, Seed, get, metric, until};
use pintail::demo::{Kind, aggregate};
use tokio_util::sync::CancellationToken;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");
const KILLS: u64 = 4;

async fn versions(scene: &Scene) -> anyhow::Result<u64> {
    let mut sum = 0;
    for kind in Kind::ALL {
        sum += scene.ledger(kind).await?.version;
    }
    Ok(sum)
}

/// Each child commits something before it is killed, at a moment drawn from the seed.
async fn kills(scene: &Scene, seed: &mut Seed) -> anyhow::Result<()> {
    for _ in 0..KILLS {
        let before = versions(scene).await?;
        let child = scene.spawn(PINTAIL)?;
        let committed = async || Ok((versions(scene).await? > before + 3).then_some(()));
        until("a child commits before it is killed", committed).await?;
        tokio::time::sleep(Duration::from_millis(seed.below(300))).await;
        child.kill_9().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_of_every_aggregate_is_in_the_tables_once_however_often_it_is_killed() -> anyhow::Result<()> {
    let mut seed = Seed::announced();
    let mut scene = Scene::new(2).await?;
    scene.settings.flush_interval_ms = 200 + seed.below(200);
    let mut poster = scene.poster(seed.value());
    let (stop, mut moments) = (CancellationToken::new(), seed.clone());
    let killing = async {
        let result = kills(&scene, &mut moments).await;
        stop.cancel();
        result
    };
    let (posted, killed) = tokio::join!(poster.post_aggregated_until(&mut seed, &stop), killing);
    posted.and(killed)?;

    let mut last = scene.spawn(PINTAIL)?;
    last.ready().await?;
    scene.caught_up(&poster.log, &mut last).await?;
    assert_eq!(last.terminate().await?.code(), Some(0));
    let verdict = scene.verify(&poster.log).await?;
    for (kind, found) in verdict {
        let subs = scene.table(kind.name()).await?.integers("_sub_sequence_number")?;
        let inside = subs.iter().filter(|sub| sub.is_some_and(|sub| sub > 0)).count();
        assert!(inside * 2 > subs.len(), "{kind:?}: only {inside} of {} rows were in aggregates", subs.len());
        assert!(found.reckoning.rows > 500 && found.rejects() > 0, "{kind:?}: {found:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_an_aggregate_that_belong_to_another_shard_can_be_rejects_and_are_counted() -> anyhow::Result<()> {
    let mut scene = Scene::new(2).await?;
    scene.settings.streams = vec![Kind::Geo];
    let config = std::fs::read_to_string(scene.configure()?)?;
    let config =
        scene.write("rejecting.toml", &config.replace("[source]", "[source]\nforeign_records = \"reject\""))?;
    let payloads = [1, 2, 3].map(|ind| format!("{{\"ind\":{ind},\"country\":\"Albania\"}}"));
    let hash_keys = [0, u128::MAX, 5];
    let records = payloads.iter().zip(hash_keys).map(|(payload, hash)| ("k", Some(hash), payload.as_bytes()));
    let put = scene.kinesis.client().put_record().stream_name("geo").partition_key("k").explicit_hash_key("0");
    put.data(Blob::new(aggregate(records))).send().await?;

    let pintail = Processor::start(&config).await?;
    let rows = async || Ok(scene.ledger(Kind::Geo).await?.shards.values().any(|s| s.position.is_some()).then_some(()));
    until("the aggregate is committed", rows).await?;
    let metrics = get(pintail.address, "/metrics").await?.body;
    assert_eq!(metric(&metrics, "pintail_foreign_records_total", "action=\"rejected\""), Some(1.0));
    assert_eq!(metric(&metrics, "pintail_records_read_total", "geo"), Some(3.0));
    pintail.drain().await?;

    let (rows, rejects) = (scene.table("geo").await?, scene.table("geo_rejects").await?);
    assert_eq!(rows.integers("ind")?, [Some(1), Some(3)]);
    assert_eq!(rows.integers("_sub_sequence_number")?, [Some(0), Some(2)]);
    assert_eq!(rejects.texts("reason")?, [Some("foreign_hash_key".to_owned())]);
    assert_eq!(rejects.integers("_sub_sequence_number")?, [Some(1)]);
    Ok(())
}
