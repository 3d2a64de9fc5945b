//! A stop that takes longer than it may: it is cut off and says so, and the next start goes on from the last commit.

use anyhow::{Context, ensure};
use load_tests::{At, Instance, PATIENCE, Scene};
use pintail::demo::Kind;
use tokio::process::Command;

use crate::places::with_a_commit;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");
const ROWS: &str = "geo";

/// SIGTERM while a commit's answer does not come; `at`: whether it has landed.
async fn cut_off_in_a_commit(at: At) -> anyhow::Result<()> {
    let mut scene = Scene::on_s3(2).await?;
    scene.settings.sections = "[shutdown]\ngrace = \"1s\"\n".to_owned();
    let (mut poster, mut child) = with_a_commit(Command::new(PINTAIL), &[Kind::Geo], &mut scene).await?;
    let before = scene.table(ROWS).await?.rows();
    let mut held = scene.s3()?.faults().hold(|r| r.commits_to(ROWS), at);
    poster.post(300, 6_000.0).await?;
    let reached = tokio::time::timeout(PATIENCE, held.reached()).await;
    reached.with_context(|| child.story())?;
    child.ask_to_end().await?;
    let status = child.ended().await?;
    assert_eq!(status.code(), Some(1), "{}", child.story());
    let last = child.stderr()?.lines().last().unwrap_or_default().to_owned();
    ensure!(last.contains("was cut off") && last.contains("shutdown.grace"), "{last}");
    let has_landed = scene.table(ROWS).await?.rows() > before;
    ensure!(has_landed == (at == At::After), "landed: {has_landed}; {}", child.story());

    drop(held);
    let mut next = scene.spawn(PINTAIL)?;
    next.ready().await?;
    poster.post(300, 6_000.0).await?;
    scene.caught_up(&poster.log, &mut next).await?;
    assert_eq!(next.terminate().await?.code(), Some(0));
    scene.verify(&poster.log).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_is_cut_off_before_its_commit_landed_loses_nothing() -> anyhow::Result<()> {
    cut_off_in_a_commit(At::Before).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_is_cut_off_after_its_commit_landed_writes_nothing_twice() -> anyhow::Result<()> {
    cut_off_in_a_commit(At::After).await
}
