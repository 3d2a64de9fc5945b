//! Processes that are killed without warning, again and again, under load.

use std::time::Duration;

use anyhow::ensure;
use load_tests::{Scene, Seed, until};
use pintail::demo::Kind;
use tokio_util::sync::CancellationToken;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");
const KILLS: u64 = 8;
const RATE: f64 = 500.0;

async fn versions(scene: &Scene) -> anyhow::Result<u64> {
    let mut sum = 0;
    for kind in Kind::ALL {
        sum += scene.ledger(kind).await?.version;
    }
    Ok(sum)
}

/// Starts Pintail and kills it at a moment drawn from the seed: every other time anywhere in its start, otherwise
/// shortly after a commit, so that the lake grows from kill to kill.
async fn start_and_kill(scene: &Scene, seed: &mut Seed, works_first: bool) -> anyhow::Result<()> {
    let before = versions(scene).await?;
    let mut child = scene.spawn(PINTAIL)?;
    if works_first {
        child.address().await?;
        let committed = async || Ok((versions(scene).await? > before + 3).then_some(()));
        until("a child commits before it is killed", committed).await?;
    }
    let moment = Duration::from_millis(seed.below(500));
    println!("killed {moment:?} after its {}", if works_first { "first commits" } else { "start" });
    tokio::time::sleep(moment).await;
    child.kill_9().await
}

async fn kills(scene: &Scene, seed: &mut Seed) -> anyhow::Result<()> {
    for kill in 0..KILLS {
        start_and_kill(scene, seed, kill % 2 == 0).await?;
        if kill == KILLS / 2 {
            let half = (1u128 << 126).to_string();
            scene.kinesis.split(Kind::Pin.name(), "shardId-000000000000", &half).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_instant_it_loses_nothing_and_writes_nothing_twice() -> anyhow::Result<()> {
    let mut seed = Seed::announced();
    let mut scene = Scene::new(2).await?;
    scene.settings.flush_interval_ms = 200 + seed.below(300);
    let mut poster = scene.poster(seed.value());
    let stop = CancellationToken::new();
    let killing = async {
        let result = kills(&scene, &mut seed).await;
        stop.cancel();
        result
    };
    let (posted, killed) = tokio::join!(poster.post_until(RATE, &stop), killing);
    posted.and(killed)?;

    let mut last = scene.spawn(PINTAIL)?;
    scene.caught_up(&poster.log, &mut last).await?;
    let status = last.terminate().await?;
    assert_eq!(status.code(), Some(0), "after SIGTERM it drains and says so");
    scene.verify(&poster.log).await?;
    let files = scene.table(Kind::Pin.name()).await?.files.len();
    ensure!(files as u64 > KILLS / 2, "the pin table has {files} files only: the killed ones hardly worked");
    Ok(())
}
