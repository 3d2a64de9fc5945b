//! Sealed windows: a row a key that is what a GROUP BY over the rows says, whoever dies on the way.

use std::time::Duration;

use anyhow::{Context, ensure};
use aws_sdk_kinesis::primitives::Blob;
use load_tests::kinesis_proxy::{Fault, Operation, Request as Call};
use load_tests::{At, Instance, PATIENCE, Request, Scene, Seed, get, metric, until};
use pintail::checkpoint::ShardId;
use pintail::clock::now_ms;
use pintail::demo::Kind;
use tokio_util::sync::CancellationToken;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");
const WINDOW: &str = "posts_by_country";

type Step = (&'static str, fn(&Request<'_>) -> bool, At);

/// Every instant of a seal at which what is in the lake is different.
const STEPS: [Step; 4] = [
    ("before sealed rows are uploaded", |r| r.uploads_to(WINDOW), At::Before),
    ("after sealed rows were uploaded", |r| r.uploads_to(WINDOW), At::After),
    ("before windows are sealed", |r| r.commits_to(WINDOW), At::Before),
    ("after windows were sealed, the answer on the way", |r| r.commits_to(WINDOW), At::After),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_step_of_a_seal_and_two_at_once_every_window_is_sealed_once_and_whole() -> anyhow::Result<()> {
    let seed = Seed::announced();
    let mut scene = Scene::on_s3(2).await?;
    scene.settings.streams = vec![Kind::Geo];
    scene.shorten_windows(1)?;
    let mut poster = scene.poster(seed.value());
    for (step, is_it, at) in STEPS {
        let mut held = scene.s3()?.faults().hold(is_it, at);
        let child = scene.spawn(PINTAIL)?;
        poster.post(200, 2_000.0).await?;
        let reached = tokio::time::timeout(PATIENCE, held.reached()).await;
        reached.with_context(|| format!("{step}: not reached; {}", child.story()))?;
        child.kill_9().await?;
    }
    let (mut one, mut other) = (scene.spawn(PINTAIL)?, scene.spawn(PINTAIL)?);
    poster.post(400, 400.0).await?;
    scene.caught_up(&poster.log, &mut one).await?;
    until_all_is_sealed(&scene, &mut [&mut one, &mut other], poster.log.count("geo")).await?;
    assert_eq!(one.terminate().await?.code(), Some(0));
    assert_eq!(other.terminate().await?.code(), Some(0));
    let verdict = scene.verify(&poster.log).await?;
    ensure!(verdict[&Kind::Geo].sealed > 10 && verdict[&Kind::Geo].late == 0, "{verdict:?}");
    let complete = scene.table(WINDOW).await?.nulls("complete")?;
    ensure!(complete.iter().all(|null| !null), "every sealed row says whether it is complete");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_long_as_a_shard_is_behind_nothing_is_sealed_however_empty_its_answers() -> anyhow::Result<()> {
    const AHEAD: &str = "shardId-000000000000";
    const BEHIND: &str = "shardId-000000000001";
    let seed = Seed::announced();
    let mut scene = Scene::new(2).await?;
    scene.settings.streams = vec![Kind::Geo];
    scene.shorten_windows(1)?;
    let proxy = scene.interpose().await?;
    let mut poster = scene.poster(seed.value());
    let mut pintail = scene.start().await?;
    poster.post(200, 400.0).await?;
    scene.caught_up(&poster.log, &mut pintail).await?;
    let some_rows = async || Ok((scene.table(WINDOW).await?.rows() > 0).then_some(()));
    until("a window is sealed", some_rows).await?;

    let of_it = |call: &Call| call.operation == Operation::GetRecords && call.shard == BEHIND;
    let rule = proxy.faults().add(of_it, Fault::Empty { behind_ms: 1 }, None);
    let held_ms = now_ms();
    let stop = CancellationToken::new();
    let reaching = async {
        let reached = until("the other shard has come further than some windows and their grace", async || {
            let ledger = scene.ledger(Kind::Geo).await?;
            let reached_ms = ledger.shards.get(&ShardId::new(AHEAD)).and_then(|entry| entry.watermark_ms);
            Ok(reached_ms.is_some_and(|ms| ms > held_ms + 5_000).then_some(()))
        });
        let reached = reached.await;
        stop.cancel();
        reached
    };
    let (posted, reached) = tokio::join!(poster.post_until(200.0, &stop), reaching);
    reached.and(posted)?;
    let committed = scene.table("geo").await?.rows() + scene.table("geo_rejects").await?.rows();
    ensure!(committed < poster.log.count("geo"), "nothing is held");
    let sealed: Vec<i128> = scene.table(WINDOW).await?.integers("window_start")?.into_iter().flatten().collect();
    let early = sealed.iter().filter(|start_us| **start_us >= i128::from(held_ms) * 1000).count();
    ensure!(early == 0, "{early} of {} rows are of windows that may lack records", sealed.len());

    proxy.faults().remove(rule);
    until_all_is_sealed(&scene, &mut [&mut pintail], poster.log.count("geo")).await?;
    tokio::time::timeout(Duration::from_secs(20), pintail.drain()).await??;
    let verdict = scene.verify(&poster.log).await?;
    ensure!(verdict[&Kind::Geo].late == 0, "{verdict:?}");
    Ok(())
}

/// Waits until the sealed rows have every record that was posted and is no reject.
async fn until_all_is_sealed(scene: &Scene, instances: &mut [&mut dyn Instance], posted: u64) -> anyhow::Result<()> {
    until("everything is sealed", async || {
        instances.iter_mut().try_for_each(|instance| instance.alive())?;
        let rows: i128 = scene.table(WINDOW).await?.integers("records")?.into_iter().flatten().sum();
        let rejects = scene.table("geo_rejects").await?.rows();
        Ok((rows + i128::from(rejects) == i128::from(posted)).then_some(()))
    })
    .await
}

/// Puts a record that happened then.
async fn put(scene: &Scene, country: &str, at_ms: i64) -> anyhow::Result<()> {
    let at = chrono::DateTime::from_timestamp_millis(at_ms).context("a time")?.to_rfc3339();
    let data = format!("{{\"ind\":1,\"country\":\"{country}\",\"timestamp\":\"{at}\"}}");
    let put = scene.kinesis.client().put_record().stream_name("geo").partition_key("k").data(Blob::new(data));
    put.send().await?;
    Ok(())
}

/// By event time, one record in time and two that come when their window was sealed. Returns what is sealed, by
/// (revision, records), and how many records its last row lacks.
async fn with_late_records(policy: &str) -> anyhow::Result<(Vec<(i128, i128)>, i128)> {
    let mut scene = Scene::new(1).await?;
    scene.settings.streams = vec![Kind::Geo];
    scene.shorten_windows(1)?;
    scene.edit_contract(Kind::Geo, "event_time = \"arrival\"", "event_time = \"timestamp\"")?;
    scene.edit_contract(Kind::Geo, "every = \"1s\"", &format!("every = \"1s\"\n{policy}"))?;
    let pintail = scene.start().await?;
    let registered = async || Ok((!scene.ledger(Kind::Geo).await?.shards.is_empty()).then_some(()));
    until("the tables are there", registered).await?;
    let happened_ms = now_ms();
    put(&scene, "Chad", happened_ms).await?;
    let rows = async |count: usize| {
        until("rows are sealed", async || {
            let found = scene.table(WINDOW).await?.integers("records")?;
            Ok((found.len() >= count).then_some(()))
        })
        .await
    };
    rows(1).await?;
    for _ in 0..2 {
        put(&scene, "Chad", happened_ms).await?;
    }
    let address = pintail.address;
    until("they were noticed as late", async || {
        let metrics = get(address, "/metrics").await?.body;
        Ok((metric(&metrics, "pintail_late_records_total", WINDOW) == Some(2.0)).then_some(()))
    })
    .await?;
    if !policy.is_empty() {
        rows(2).await?;
    }
    tokio::time::timeout(Duration::from_secs(20), pintail.drain()).await??;
    let table = scene.table(WINDOW).await?;
    let revisions = table.integers("revision")?.into_iter().flatten();
    let mut found: Vec<(i128, i128)> = revisions.zip(table.integers("records")?.into_iter().flatten()).collect();
    found.sort_unstable();
    let partials: i128 =
        scene.table("posts_by_country_partials").await?.integers("records")?.into_iter().flatten().sum();
    let last = found.last().map_or(0, |(_, records)| *records);
    Ok((found, partials - last))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sealed_once_a_row_lacks_the_late_records_and_the_counter_says_how_many() -> anyhow::Result<()> {
    let (found, lacking) = with_late_records("").await?;
    assert_eq!((found, lacking), (vec![(0, 1)], 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revised_the_last_row_is_all_that_is_in_the_partials() -> anyhow::Result<()> {
    let (found, lacking) = with_late_records("seal = \"revise\"").await?;
    assert_eq!((found[0], lacking), ((0, 1), 0), "{found:?}");
    assert!(found.is_sorted_by(|a, b| a < b) && found.last().is_some_and(|(_, records)| *records == 3), "{found:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_a_window_whose_partials_are_gone_is_in_the_rows_and_counted_as_too_late() -> anyhow::Result<()> {
    let mut scene = Scene::new(1).await?;
    scene.settings.streams = vec![Kind::Geo];
    scene.shorten_windows(1)?;
    scene.edit_contract(Kind::Geo, "event_time = \"arrival\"", "event_time = \"timestamp\"")?;
    scene.edit_contract(Kind::Geo, "every = \"1s\"", "every = \"1s\"\nkeep_partials = \"1d\"")?;
    let pintail = scene.start().await?;
    let registered = async || Ok((!scene.ledger(Kind::Geo).await?.shards.is_empty()).then_some(()));
    until("the tables are there", registered).await?;
    let long_ago_ms = now_ms() - 3 * 86_400_000;
    put(&scene, "Chad", long_ago_ms).await?;
    let sealed = async || Ok((scene.table(WINDOW).await?.rows() == 1).then_some(()));
    until("it is sealed", sealed).await?;
    let mut maintain = scene.call(PINTAIL, &["maintain"])?;
    let (ended, story) = (maintain.ended().await?, maintain.stdout()?);
    ensure!(ended.success() && story.contains("of windows before"), "{story}");
    ensure!(scene.table("posts_by_country_partials").await?.rows() == 0, "{story}");

    put(&scene, "Chad", long_ago_ms).await?;
    let address = pintail.address;
    until("it was noticed as too late", async || {
        let metrics = get(address, "/metrics").await?.body;
        Ok((metric(&metrics, "pintail_too_late_records_total", WINDOW) == Some(1.0)).then_some(()))
    })
    .await?;
    let metrics = get(address, "/metrics").await?.body;
    tokio::time::timeout(Duration::from_secs(20), pintail.drain()).await??;
    assert_eq!(metric(&metrics, "pintail_late_records_total", WINDOW), Some(0.0), "it is counted once");
    assert_eq!((scene.table("geo").await?.rows(), scene.table(WINDOW).await?.rows()), (2, 1));
    Ok(())
}
