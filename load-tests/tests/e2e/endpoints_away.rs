//! A Kinesis that cannot be reached: at the start, and in the middle.

use load_tests::{Gate, Instance, Processor, Scene, Seed, get, until};
use pintail::demo::Kind;

/// Waits until `/readyz` says that every stream is ready, or that none is and that Kinesis is why.
async fn until_ready(pintail: &mut Processor, ready: bool) -> anyhow::Result<()> {
    until(if ready { "it is ready" } else { "it is not ready and says why" }, async || {
        pintail.alive()?;
        let answer = get(pintail.address, "/readyz").await?;
        let streams = answer.json()?["streams"].as_array().cloned().unwrap_or_default();
        let as_wanted = |stream: &serde_json::Value| {
            let reason = stream["trouble"].to_string();
            stream["ready"] == ready && (ready || reason.contains("Kinesis cannot be reached"))
        };
        let all = streams.len() == Kind::ALL.len() && streams.iter().all(as_wanted);
        Ok((all && answer.status == if ready { 200 } else { 503 }).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kinesis_that_is_away_at_the_start_is_waited_for_visibly() -> anyhow::Result<()> {
    let seed = Seed::announced();
    let mut scene = Scene::new(2).await?;
    let mut gate = Gate::closed()?;
    scene.settings.endpoint = Some(gate.endpoint());
    let mut pintail = scene.start().await?;
    until_ready(&mut pintail, false).await?;
    assert_eq!(get(pintail.address, "/livez").await?.status, 200);

    let mut poster = scene.poster(seed.value());
    poster.post(600, 6_000.0).await?;
    gate.open(&scene.kinesis.endpoint())?;
    until_ready(&mut pintail, true).await?;
    scene.caught_up(&poster.log, &mut pintail).await?;
    pintail.drain().await?;
    scene.verify(&poster.log).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kinesis_that_goes_away_and_comes_back_costs_no_record() -> anyhow::Result<()> {
    let seed = Seed::announced();
    let mut scene = Scene::new(2).await?;
    let mut gate = Gate::closed()?;
    gate.open(&scene.kinesis.endpoint())?;
    scene.settings.endpoint = Some(gate.endpoint());
    let mut pintail = scene.start().await?;
    let mut poster = scene.poster(seed.value());
    poster.post(600, 6_000.0).await?;
    scene.caught_up(&poster.log, &mut pintail).await?;

    gate.close().await?;
    poster.post(600, 6_000.0).await?;
    until_ready(&mut pintail, false).await?;
    gate.open(&scene.kinesis.endpoint())?;
    scene.caught_up(&poster.log, &mut pintail).await?;
    until_ready(&mut pintail, true).await?;
    pintail.drain().await?;
    scene.verify(&poster.log).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_while_kinesis_is_away_it_stops() -> anyhow::Result<()> {
    let mut scene = Scene::new(1).await?;
    let gate = Gate::closed()?;
    scene.settings.endpoint = Some(gate.endpoint());
    let mut pintail = scene.start().await?;
    until_ready(&mut pintail, false).await?;
    pintail.drain().await
}
