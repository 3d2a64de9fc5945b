//! Where several tests begin.

use std::sync::atomic::{AtomicBool, Ordering};

use load_tests::kinesis_proxy::{KinesisProxy, Request};
use load_tests::{Child, Poster, Scene, Seed};
use pintail::demo::Kind;
use tokio::process::Command;

/// A place with a proxy, where only the pins are read.
pub async fn behind_a_proxy(shards: u32) -> anyhow::Result<(Scene, KinesisProxy, Poster)> {
    let seed = Seed::announced();
    let mut scene = Scene::new(shards).await?;
    scene.settings.streams = vec![Kind::Pin];
    let proxy = scene.interpose().await?;
    let poster = scene.poster(seed.value());
    Ok((scene, proxy, poster))
}

/// Calls that match, but for the first of them.
pub fn not_the_first(
    matches: impl Fn(&Request) -> bool + Send + Sync + 'static,
) -> impl Fn(&Request) -> bool + Send + Sync + 'static {
    let matched = AtomicBool::new(false);
    move |call| matches(call) && matched.swap(true, Ordering::Relaxed)
}

/// A process, by this command, that has committed something of each of these streams.
pub async fn with_a_commit(program: Command, streams: &[Kind], scene: &mut Scene) -> anyhow::Result<(Poster, Child)> {
    let seed = Seed::announced();
    scene.settings.streams = streams.to_vec();
    let mut poster = scene.poster(seed.value());
    poster.post(300, 6_000.0).await?;
    let mut child = scene.spawn_by(program)?;
    scene.caught_up(&poster.log, &mut child).await?;
    Ok((poster, child))
}
