//! `pintail replay --rejects`: what a mended contract can clean becomes rows, once, whatever breaks meanwhile.

use std::time::Duration;

use anyhow::{Context, ensure};
use load_tests::{Child, Instance, Poster, Scene, Seed, until};
use pintail::checkpoint::{ShardEntry, ShardId};
use pintail::demo::Kind;
use tokio_util::sync::CancellationToken;

use crate::watching::until_it_shows_the_rows;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");
const REPLAY: [&str; 2] = ["replay", "--rejects"];
/// A contract by which most places cannot be cleaned; taken away, they can.
const STRICT: (&str, &str) = ("required = true", "required = true\nrange = [0, 3000]");
const TABLES: [&str; 3] = ["geo", "geo_rejects", "posts_by_country_partials"];

/// A stream that was read by the strict contract for a while, with a file of rejects for each flush; the contract is
/// mended.
async fn scene(seed: u64, records: u64) -> anyhow::Result<(Scene, Poster)> {
    let mut scene = Scene::new(2).await?;
    scene.settings.streams = vec![Kind::Geo];
    scene.settings.flush_interval_ms = 100;
    scene.edit_contract(Kind::Geo, STRICT.0, STRICT.1)?;
    let mut poster = scene.poster(seed);
    let mut pintail = scene.start().await?;
    poster.post(records, 2_000.0).await?;
    scene.caught_up(&poster.log, &mut pintail).await?;
    pintail.drain().await?;
    scene.verify(&poster.log).await?;
    scene.edit_contract(Kind::Geo, STRICT.1, STRICT.0)?;
    Ok((scene, poster))
}

async fn versions(scene: &Scene) -> anyhow::Result<Vec<u64>> {
    let mut versions = Vec::new();
    for table in TABLES {
        versions.push(scene.table(table).await?.version);
    }
    Ok(versions)
}

/// How many rows each replay has recovered.
async fn recovered(scene: &Scene) -> anyhow::Result<Vec<i128>> {
    Ok(scene.table("geo").await?.integers("_replayed")?.into_iter().flatten().collect())
}

/// Rejects that the mended contract still cannot clean, by what the strict one said of them.
async fn hopeless(scene: &Scene) -> anyhow::Result<u64> {
    let rejects = scene.table("geo_rejects").await?;
    let (reasons, details) = (rejects.texts("reason")?, rejects.texts("detail")?);
    let out_of_range = |detail: &Option<String>| detail.as_ref().is_some_and(|it| it.contains("out_of_range"));
    let mended = reasons
        .iter()
        .zip(&details)
        .filter(|(reason, detail)| reason.as_deref() == Some("required_column") && out_of_range(detail));
    Ok(rejects.rows() - mended.count() as u64)
}

async fn entry(scene: &Scene, replay: u64) -> anyhow::Result<Option<ShardEntry>> {
    Ok(scene.ledger(Kind::Geo).await?.shards.get(&ShardId::of_replay(replay)).copied())
}

async fn finished(mut child: Child) -> anyhow::Result<String> {
    let status = child.ended().await?;
    ensure!(status.code() == Some(0), "it ended with {status}: {}\n{}", child.stdout()?, child.story());
    child.stdout()
}

async fn replay(scene: &Scene) -> anyhow::Result<String> {
    finished(scene.call(PINTAIL, &REPLAY)?).await
}

/// Once it replays, lets it run for moments only, and freezes it beyond the flush interval in between, so that it
/// commits between rejects that would otherwise all be one commit. Until it has committed something, and a few moments
/// more. It is left frozen.
async fn stutter(scene: &Scene, child: &mut Child, seed: &mut Seed) -> anyhow::Result<()> {
    let before = entry(scene, 1).await?.and_then(|entry| entry.position);
    let started = async || Ok(child.stderr()?.contains("replaying rejects").then_some(()));
    until("the replay begins", started).await?;
    let mut more = seed.below(3);
    for _ in 0..60 {
        if child.alive().is_err() {
            break;
        }
        child.freeze()?;
        tokio::time::sleep(Duration::from_millis(110)).await;
        if entry(scene, 1).await?.and_then(|entry| entry.position) != before {
            if more == 0 {
                break;
            }
            more -= 1;
        }
        child.thaw()?;
        tokio::time::sleep(Duration::from_millis(1 + seed.below(6))).await;
    }
    Ok(())
}

/// SIGTERM as soon as it replays: what is in its hands is committed, and its exit code says that it is not the end.
async fn told_to_stop(scene: &Scene, mut child: Child) -> anyhow::Result<Option<i32>> {
    let started = async || Ok(child.stderr()?.contains("replaying rejects").then_some(()));
    until("the replay begins", started).await?;
    let status = if child.alive().is_ok() { child.terminate().await? } else { child.ended().await? };
    let code = status.code();
    let ended = entry(scene, 1).await?.is_some_and(|entry| entry.ended);
    ensure!(code == Some(if ended { 0 } else { 1 }), "exit code {code:?}, and the replay is at its end: {ended}");
    Ok(code)
}

/// Everything there is to say about a stream whose rejects were replayed.
async fn assert_all_recovered(scene: &Scene, poster: &Poster) -> anyhow::Result<()> {
    let verdict = scene.verify(&poster.log).await?;
    let found = verdict.get(&Kind::Geo).context("geo was verified")?;
    assert!(found.reckoning.recovered > 100, "{found:?}");
    assert_eq!(found.reckoning.recovered, found.rejects() - hopeless(scene).await?, "{found:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_mended_contract_can_clean_becomes_rows_beside_a_running_service() -> anyhow::Result<()> {
    let (scene, mut poster) = scene(Seed::announced().value(), 1_500).await?;
    let mut pintail = scene.start().await?;
    let stop = CancellationToken::new();
    let replaying = async {
        let told = replay(&scene).await;
        stop.cancel();
        told
    };
    let (posted, told) = tokio::join!(poster.post_until(600.0, &stop), replaying);
    posted?;
    let told = told?;
    assert!(told.contains("stream geo: replay-1 is finished"), "{told}");

    poster.post(600, 3_000.0).await?;
    scene.caught_up(&poster.log, &mut pintail).await?;
    assert!(pintail.board.snapshot()["geo"].trouble.is_empty(), "{}", pintail.story());
    until_it_shows_the_rows(&scene, pintail.address).await.context("what was recovered is on show")?;
    pintail.drain().await?;
    assert_all_recovered(&scene, &poster).await?;
    assert!(recovered(&scene).await?.iter().all(|replay| *replay == 1));
    assert!(entry(&scene, 1).await?.is_some_and(|entry| entry.ended));

    let before = versions(&scene).await?;
    let told = replay(&scene).await?;
    assert!(told.contains("nothing to recover, nothing was written"), "{told}");
    assert_eq!(versions(&scene).await?, before, "a second run writes nothing");
    let positions = finished(scene.call(PINTAIL, &["positions"])?).await?;
    assert!(positions.contains("replay-1  finished"), "{positions}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_tells_what_would_be_recovered_and_writes_nothing() -> anyhow::Result<()> {
    let (scene, _poster) = scene(Seed::announced().value(), 900).await?;
    let before = versions(&scene).await?;
    let told = finished(scene.call(PINTAIL, &["replay", "--rejects", "--dry-run", "--stream", "geo"])?).await?;
    assert_eq!(versions(&scene).await?, before);
    let rejects = scene.table("geo_rejects").await?.rows();
    let expected = format!("would be recovered  {:>10}", rejects - hopeless(&scene).await?);
    assert!(told.contains("a dry run, nothing was written") && told.contains(&expected), "{expected} in {told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_instant_a_replay_goes_on_and_recovers_nothing_twice() -> anyhow::Result<()> {
    let mut seed = Seed::announced();
    let (scene, poster) = scene(seed.value(), 9_000).await?;
    let mut in_the_middle = 0;
    for attempt in 0..6 {
        let mut child = scene.call(PINTAIL, &REPLAY)?;
        let code = match attempt % 3 {
            0 => {
                stutter(&scene, &mut child, &mut seed).await?;
                child.kill_or_ended().await?
            }
            1 => {
                tokio::time::sleep(Duration::from_millis(seed.below(500))).await;
                child.kill_or_ended().await?
            }
            _ => told_to_stop(&scene, child).await?,
        };
        let at = entry(&scene, 1).await?;
        println!(
            "attempt {attempt}: {}",
            code.map_or_else(|| "killed".to_owned(), |code| format!("ended with {code}"))
        );
        println!("  replay-1: {at:?}, recovered so far: {}", recovered(&scene).await?.len());
        if at.is_some_and(|entry| entry.ended) {
            break;
        }
        in_the_middle += u32::from(at.is_some_and(|entry| entry.position.is_some()));
    }
    ensure!(in_the_middle > 0, "no kill left the replay in the middle of its rejects");
    replay(&scene).await?;
    assert_all_recovered(&scene, &poster).await?;
    assert!(recovered(&scene).await?.iter().all(|replay| *replay == 1));
    assert_eq!(entry(&scene, 2).await?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replays_at_once_recover_everything_once() -> anyhow::Result<()> {
    let (scene, poster) = scene(Seed::announced().value(), 2_400).await?;
    let mut both = [scene.call(PINTAIL, &REPLAY)?, scene.call(PINTAIL, &REPLAY)?];
    let mut codes = Vec::new();
    for child in &mut both {
        codes.push(child.ended().await?.code());
    }
    let story = || format!("{codes:?}: {}\n{}", both[0].story(), both[1].story());
    assert!(codes.contains(&Some(0)), "one of them finishes: {}", story());
    assert!(codes.iter().all(|code| [Some(0), Some(1)].contains(code)), "{}", story());
    assert_all_recovered(&scene, &poster).await?;
    assert!(recovered(&scene).await?.iter().all(|replay| *replay == 1), "{}", story());
    let mut told = 0;
    for child in &both {
        told += told_recovered(&child.stdout()?).unwrap_or(0);
    }
    assert_eq!(told, recovered(&scene).await?.len(), "each tells what it has committed: {}", story());
    Ok(())
}

/// What a replay says it has recovered.
fn told_recovered(stdout: &str) -> Option<usize> {
    let line = stdout.lines().find(|line| line.trim_start().starts_with("recovered  "))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_that_finds_nothing_to_recover_leaves_the_tables_as_they_are_also_for_a_new_column()
-> anyhow::Result<()> {
    let (scene, _poster) = scene(Seed::announced().value(), 300).await?;
    replay(&scene).await?;
    let before = versions(&scene).await?;
    let column = "[[column]]\nname = \"altitude\"\ntype = \"double\"\n\n[[window]]";
    scene.edit_contract(Kind::Geo, "[[window]]", column)?;
    let told = replay(&scene).await?;
    assert!(told.contains("nothing to recover, nothing was written"), "{told}");
    assert_eq!(versions(&scene).await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_replay_recovers_what_a_better_contract_can_and_skips_what_is_recovered() -> anyhow::Result<()> {
    let seed = Seed::announced();
    let (scene, poster) = scene(seed.value(), 1_200).await?;
    scene.edit_contract(Kind::Geo, STRICT.0, "required = true\nrange = [0, 6000]")?;
    replay(&scene).await?;
    let first = recovered(&scene).await?.len();
    scene.edit_contract(Kind::Geo, "required = true\nrange = [0, 6000]", STRICT.0)?;
    let told = replay(&scene).await?;
    assert!(told.contains("replay-2 is finished"), "{told}");
    assert!(told.contains(&format!("recovered earlier   {first:>10}")), "{told}");
    assert_all_recovered(&scene, &poster).await?;
    let second = recovered(&scene).await?;
    assert_eq!(second.iter().filter(|replay| **replay == 1).count(), first);
    assert!(second.contains(&2), "{second:?}");
    Ok(())
}
