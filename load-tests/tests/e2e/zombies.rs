//! A process that is frozen in the middle of a commit, declared dead, replaced, and that then wakes up.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use deltalake::DeltaTableBuilder;
use deltalake::protocol::checkpoints;
use load_tests::{At, Child, Held, Instance, PATIENCE, Poster, Request, Scene, get, metric, until};
use pintail::demo::Kind;
use tokio::process::Command;

use crate::places::with_a_commit;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");
const ROWS: &str = "geo";
const LOG: &str = "tables/geo/_delta_log/";

/// A process that has committed something and is then frozen at a step of its next flush, and another that has taken
/// over and committed what it had in hand.
struct Haunted {
    scene: Scene,
    poster: Poster,
    zombie: Child,
    /// The newest version of the rows table that it knows.
    known: u64,
    held: Option<Held>,
    other: Child,
}

async fn freeze_and_replace(is_it: fn(&Request<'_>) -> bool) -> anyhow::Result<Haunted> {
    let mut scene = Scene::on_s3(1).await?;
    let (mut poster, mut zombie) = with_a_commit(Command::new(PINTAIL), &[Kind::Geo], &mut scene).await?;
    let mut held = scene.s3()?.faults().hold(is_it, At::Before);
    poster.post(300, 6_000.0).await?;
    let reached = tokio::time::timeout(PATIENCE, held.reached()).await;
    reached.with_context(|| zombie.story())?;
    zombie.freeze()?;
    let known = scene.ledger(Kind::Geo).await?.version;
    poster.post(300, 6_000.0).await?;
    let mut other = scene.spawn(PINTAIL)?;
    scene.caught_up(&poster.log, &mut other).await?;
    Ok(Haunted { scene, poster, zombie, known, held: Some(held), other })
}

impl Haunted {
    /// What was held goes on.
    fn let_go(&mut self) {
        drop(self.held.take());
    }

    /// Waits until the awakened one says that it was fenced, and has given its shard up.
    async fn until_fenced(&mut self) -> anyhow::Result<()> {
        let address = self.zombie.address().await?;
        let given_up = until("the awakened one is fenced and gives its shard up", async || {
            self.zombie.alive()?;
            let metrics = get(address, "/metrics").await?.body;
            let fenced = metric(&metrics, "pintail_fenced_total", "").unwrap_or_default();
            let ready = get(address, "/readyz").await?.json()?;
            let spare = ready["streams"][0]["trouble"]["fenced"].as_str().unwrap_or_default().to_owned();
            Ok((fenced >= 1.0 && spare.contains("another process commits all 1 open shards")).then_some(()))
        });
        given_up.await.with_context(|| self.zombie.story())?;
        ensure!(!self.zombie.lines(&["fenced"])?.is_empty(), "its log does not say so");
        Ok(())
    }

    /// The other one goes on, both end, and every record is there once.
    async fn end(mut self) -> anyhow::Result<()> {
        self.poster.post(300, 6_000.0).await?;
        self.scene.caught_up(&self.poster.log, &mut self.other).await?;
        self.zombie.alive()?;
        let (zombie, other) = tokio::join!(self.zombie.terminate(), self.other.terminate());
        assert_eq!((zombie?.code(), other?.code()), (Some(0), Some(0)));
        self.scene.verify(&self.poster.log).await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_arrives_after_another_process_took_over_does_not_land() -> anyhow::Result<()> {
    let mut haunted = freeze_and_replace(|r| r.commits_to(ROWS)).await?;
    // Its request goes on while it is still frozen, as one does that was in the network.
    haunted.let_go();
    haunted.zombie.thaw()?;
    haunted.until_fenced().await?;
    haunted.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_was_proven_before_another_process_took_over_is_not_written_on() -> anyhow::Result<()> {
    let mut haunted = freeze_and_replace(|r| r.looks_beyond_the_head_of(ROWS)).await?;
    haunted.zombie.thaw()?;
    haunted.let_go();
    haunted.until_fenced().await?;
    haunted.end().await
}

/// The versions whose entries are in the log of the rows table.
fn entries(scene: &Scene) -> anyhow::Result<BTreeSet<u64>> {
    let keys = scene.s3()?.keys(LOG);
    let names = keys.iter().filter_map(|key| key.strip_prefix(LOG)?.strip_suffix(".json"));
    names.map(|name| name.parse().with_context(|| name.to_owned())).collect()
}

/// Checkpoints the rows table and cleans its log, with deltalake, as if the retention of a week had passed.
async fn clean_the_log(scene: &Scene) -> anyhow::Result<()> {
    let table = DeltaTableBuilder::from_url(scene.lake_url()?.join("geo/")?)?.load().await?;
    checkpoints::create_checkpoint(&table, None).await?;
    let head = table.version().context("a loaded table has a version")?;
    let s3 = scene.s3()?;
    s3.age(LOG, Duration::from_secs(8 * 24 * 60 * 60));
    let before = s3.keys(LOG).len();
    let cutoff_ms = pintail::clock::now_ms() - 7 * 24 * 60 * 60 * 1000;
    checkpoints::cleanup_expired_logs_for(head, table.log_store().as_ref(), cutoff_ms, None).await?;
    ensure!(s3.keys(LOG).len() + 2 < before, "the log was not cleaned: {:?}", s3.keys(LOG));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_slept_through_a_log_cleanup_reads_the_checkpoint_and_is_fenced() -> anyhow::Result<()> {
    let mut haunted = freeze_and_replace(|r| r.uploads_to(ROWS)).await?;
    for _ in 0..3 {
        haunted.poster.post(120, 6_000.0).await?;
        haunted.scene.caught_up(&haunted.poster.log, &mut haunted.other).await?;
    }
    clean_the_log(&haunted.scene).await?;
    let (next, lowest) = (haunted.known + 1, entries(&haunted.scene)?.first().copied());
    ensure!(lowest.is_some_and(|lowest| next < lowest), "what it would write on is not below {lowest:?}: {next}");
    haunted.zombie.thaw()?;
    haunted.let_go();
    haunted.until_fenced().await?;
    let now = entries(&haunted.scene)?;
    ensure!(now.first().copied() == lowest, "it wrote below the checkpoint: {now:?}, cleaned up to {lowest:?}");
    haunted.end().await
}
