//! `pintail replay --from --to --into`: a time range once more, into tables of its own, whatever breaks meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::{DateTime, SecondsFormat};
use load_tests::{Child, Instance, SHIPPED, Scene, Seed, Snapshot, partials_differing, until};
use pintail::demo::Kind;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");
const LIVE: [&str; 3] = ["geo", "geo_rejects", "posts_by_country_partials"];

/// Shard and sequence number of a record, and when it arrived (epoch ms).
type Place = (Option<String>, Option<String>, i128);

fn places(table: &Snapshot) -> anyhow::Result<Vec<Place>> {
    let (shards, numbers) = (table.texts("_shard_id")?, table.texts("_sequence_number")?);
    let arrivals = table.integers("_arrived_at")?.into_iter().map(Option::unwrap_or_default);
    Ok(shards.into_iter().zip(numbers).zip(arrivals).map(|((shard, number), us)| (shard, number, us / 1000)).collect())
}

/// Every record in a rows table and its rejects table; each must be there once.
async fn records(scene: &Scene, table: &str) -> anyhow::Result<BTreeSet<Place>> {
    let mut all = places(&scene.table(table).await?)?;
    all.extend(places(&scene.table(&format!("{table}_rejects")).await?)?);
    let distinct: BTreeSet<Place> = all.iter().cloned().collect();
    ensure!(distinct.len() == all.len(), "{table} holds records twice: {} of {}", distinct.len(), all.len());
    Ok(distinct)
}

async fn versions(scene: &Scene) -> anyhow::Result<Vec<u64>> {
    let mut versions = Vec::new();
    for table in LIVE {
        versions.push(scene.table(table).await?.version);
    }
    Ok(versions)
}

fn shown(ms: i128) -> anyhow::Result<String> {
    let time = DateTime::from_timestamp_millis(i64::try_from(ms)?).context("a time")?;
    Ok(time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// A stream that was split and merged while it was posted to, and read by a Pintail that has drained.
async fn scene(seed: u64) -> anyhow::Result<Scene> {
    let mut scene = Scene::new(2).await?;
    scene.settings.streams = vec![Kind::Geo];
    scene.settings.flush_interval_ms = 100;
    let mut poster = scene.poster(seed);
    let mut pintail = scene.start().await?;
    poster.post(1_500, 1_500.0).await?;
    scene.kinesis.split("geo", "shardId-000000000000", &(1u128 << 126).to_string()).await?;
    poster.post(1_500, 1_500.0).await?;
    scene.kinesis.merge("geo", "shardId-000000000003", "shardId-000000000001").await?;
    poster.post(1_500, 1_500.0).await?;
    scene.caught_up(&poster.log, &mut pintail).await?;
    pintail.drain().await?;
    scene.verify(&poster.log).await?;
    Ok(scene)
}

/// Arrivals between which the middle three quarters of the records lie.
async fn middle(scene: &Scene) -> anyhow::Result<(i128, i128)> {
    let mut arrivals: Vec<i128> = records(scene, "geo").await?.into_iter().map(|(_, _, ms)| ms).collect();
    arrivals.sort_unstable();
    Ok((arrivals[arrivals.len() / 8], arrivals[arrivals.len() * 7 / 8]))
}

fn replay(scene: &Scene, from_ms: i128, to_ms: i128, into: &str) -> anyhow::Result<Child> {
    let (from, to) = (shown(from_ms)?, shown(to_ms)?);
    scene.call(PINTAIL, &["replay", "--from", &from, "--to", &to, "--into", into, "--stream", "geo"])
}

/// Its exit code, and all that it said.
async fn ended(mut child: Child) -> anyhow::Result<(Option<i32>, String)> {
    let status = child.ended().await?;
    Ok((status.code(), format!("{}{}", child.stdout()?, child.stderr()?)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_with_reshards_in_it_is_whole_and_once_in_its_own_tables_however_often_it_is_killed()
-> anyhow::Result<()> {
    let mut seed = Seed::announced();
    let scene = scene(seed.value()).await?;
    let (from_ms, to_ms) = middle(&scene).await?;
    let live = versions(&scene).await?;
    for kill in 0..3 {
        let before = scene.ledger_of("again").await?.version;
        let child = replay(&scene, from_ms, to_ms, "again")?;
        let moved = async || Ok((scene.ledger_of("again").await?.version > before + kill % 2).then_some(()));
        until("the replay commits", moved).await?;
        tokio::time::sleep(Duration::from_millis(seed.below(200))).await;
        let code = child.kill_or_ended().await?;
        println!("kill {kill}: {code:?}, {:?}", scene.ledger_of("again").await?);
    }
    let (code, said) = ended(replay(&scene, from_ms, to_ms, "again")?).await?;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("stream geo: again holds all of"), "{said}");

    let expected: BTreeSet<Place> = records(&scene, "geo").await?;
    let expected: BTreeSet<Place> = expected.into_iter().filter(|(_, _, ms)| (from_ms..to_ms).contains(ms)).collect();
    assert_eq!(records(&scene, "again").await?, expected);
    let shards: BTreeSet<&Option<String>> = expected.iter().map(|(shard, ..)| shard).collect();
    assert!(expected.len() > 500 && shards.len() > 3, "{} records of {shards:?}", expected.len());
    for window in SHIPPED.iter().filter(|window| window.kind == Kind::Geo) {
        let partials = format!("again_{}_partials", window.name);
        let (_, differing) = partials_differing(&scene.lake_url()?, window, "again", &partials).await?;
        assert!(differing.is_empty(), "{differing:?}");
    }
    assert_eq!(versions(&scene).await?, live, "the service's own tables");

    let finished = scene.table("again").await?.version;
    let (code, said) = ended(replay(&scene, from_ms, to_ms, "again")?).await?;
    assert!(code == Some(0) && said.contains("already, nothing was written"), "{code:?} {said}");
    assert_eq!(scene.table("again").await?.version, finished);
    let (code, said) = ended(replay(&scene, from_ms, to_ms - 1, "again")?).await?;
    assert!(code == Some(1) && said.contains("table again is refused: it holds"), "{code:?} {said}");
    assert_eq!(scene.table("again").await?.version, finished);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_is_replayed_beside_a_running_service_and_never_into_its_tables() -> anyhow::Result<()> {
    let mut scene = Scene::new(1).await?;
    scene.settings.streams = vec![Kind::Geo, Kind::Pin];
    scene.settings.flush_interval_ms = 100;
    let mut poster = scene.poster(Seed::announced().value());
    let mut pintail = scene.start().await?;
    poster.post(900, 3_000.0).await?;
    scene.caught_up(&poster.log, &mut pintail).await?;
    let all = records(&scene, "geo").await?;
    let last_ms = all.iter().map(|(_, _, ms)| *ms).max().context("records")?;

    let refusals = [
        ("geo", 1_000, last_ms, 64, "geo is a table of the configuration"),
        ("GEO", 1_000, last_ms, 64, "GEO is a table of the configuration"),
        ("a/b", 1_000, last_ms, 64, "--into a/b: the names of its tables must be ASCII letters"),
        ("again", last_ms, last_ms, 64, "--from is not before --to"),
        ("again", 1_000, last_ms + 86_400_000, 64, "--to is still to come"),
    ];
    for (into, from_ms, to_ms, expected, saying) in refusals {
        let (code, said) = ended(replay(&scene, from_ms, to_ms, into)?).await?;
        assert!(code == Some(expected) && said.contains(saying), "{into}: {code:?} {said}");
    }
    // Somebody else's table, which happens to have the name of the replay's rejects.
    std::fs::create_dir_all(scene.lake().join("again_rejects/_delta_log"))?;
    let log = "_delta_log/00000000000000000000.json";
    std::fs::copy(scene.lake().join("pin").join(log), scene.lake().join("again_rejects").join(log))?;
    let (code, said) = ended(replay(&scene, 1_000, last_ms + 1, "again")?).await?;
    assert!(code == Some(1) && said.contains("table again_rejects is refused: it is there"), "{code:?} {said}");
    ensure!(!scene.lake().join("again").exists(), "nothing was made");
    std::fs::remove_dir_all(scene.lake().join("again_rejects"))?;

    let child = replay(&scene, 1_000, last_ms + 1, "again")?;
    let (posted, replayed) = tokio::join!(poster.post(900, 300.0), ended(child));
    posted?;
    let (code, said) = replayed?;
    assert_eq!(code, Some(0), "{said}");
    scene.caught_up(&poster.log, &mut pintail).await?;
    // The emulator's arrival times are whole seconds: what was posted beside the replay may share the last one.
    let (again, live) = (records(&scene, "again").await?, records(&scene, "geo").await?);
    assert!(again.is_superset(&all), "{:?}", all.difference(&again).next());
    let beyond = again.iter().find(|record| !live.contains(*record) || record.2 > last_ms);
    assert_eq!(beyond, None);
    assert!(pintail.board.snapshot()["geo"].trouble.is_empty(), "{}", pintail.story());
    pintail.drain().await?;
    scene.verify(&poster.log).await?;
    Ok(())
}
