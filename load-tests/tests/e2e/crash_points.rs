//! Processes that die at a known step of a flush, with S3 as the witness of which step it was.

use anyhow::{Context, ensure};
use load_tests::{At, Fault, Instance, PATIENCE, Request, Scene, Seed, get, metric, until};
use pintail::clock::now_ms;
use pintail::demo::Kind;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");
const ROWS: &str = "geo";
const REJECTS: &str = "geo_rejects";
const PARTIALS: &str = "posts_by_country_partials";

type Step = (&'static str, fn(&Request<'_>) -> bool, At);

/// Every instant of a flush at which what is in the lake is different.
const STEPS: [Step; 8] = [
    ("before the shards are registered", |r| r.commits_only_positions_to(ROWS), At::Before),
    ("before the first upload", |r| r.uploads_to(ROWS), At::Before),
    ("between the tables' uploads", |r| r.uploads_to(PARTIALS), At::Before),
    ("before the rows commit", |r| r.commits_to(ROWS), At::Before),
    ("after the rows commit, its answer on the way", |r| r.commits_to(ROWS), At::After),
    ("before a follower's commit", |r| r.commits_to(REJECTS), At::Before),
    ("after one follower's commit", |r| r.commits_to(REJECTS), At::After),
    ("after the other follower's commit", |r| r.commits_to(PARTIALS), At::After),
];

/// One stream, so that what is held is a step of the flush that is waited for.
async fn scene() -> anyhow::Result<Scene> {
    let mut scene = Scene::on_s3(2).await?;
    scene.settings.streams = vec![Kind::Geo];
    Ok(scene)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_step_of_a_flush_the_next_start_makes_it_whole() -> anyhow::Result<()> {
    let seed = Seed::announced();
    let scene = scene().await?;
    let mut poster = scene.poster(seed.value());
    for (step, is_it, at) in STEPS {
        poster.post(300, 6_000.0).await?;
        let mut held = scene.s3()?.faults().hold(is_it, at);
        let child = scene.spawn(PINTAIL)?;
        let reached = tokio::time::timeout(PATIENCE, held.reached()).await;
        reached.with_context(|| format!("{step}: not reached; {}", child.story()))?;
        child.kill_9().await?;
    }
    let mut last = scene.spawn(PINTAIL)?;
    last.ready().await?;
    scene.caught_up(&poster.log, &mut last).await?;
    assert_eq!(last.terminate().await?.code(), Some(0));
    let verdict = scene.verify(&poster.log).await?;
    ensure!(verdict[&Kind::Geo].reckoning.rejects.len() > 1, "hardly anything was rejected: {verdict:?}");
    Ok(())
}

/// Contracts that sort the same records differently. The columns and windows stay, so the tables fit all of them.
const CONTRACTS: [(&str, &str); 3] = [
    ("name = \"country\"\ntype = \"string\"", "name = \"country\"\ntype = \"string\"\nrequired = true"),
    ("name = \"ind\"\ntype = \"integer\"", "name = \"ind\"\ntype = \"integer\"\nrange = [0, 5000]"),
    ("range = [0, 5000]", "range = [5000, 100000]"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_rows_and_followers_under_changing_contracts_a_record_is_in_exactly_one_table()
-> anyhow::Result<()> {
    let seed = Seed::announced();
    let scene = scene().await?;
    let mut poster = scene.poster(seed.value());
    let busy = Fault::Status { code: 503, s3_code: "SlowDown" };
    let followers = scene.s3()?.faults().add(|r| r.commits_to(REJECTS) || r.commits_to(PARTIALS), busy, None);
    for (from, to) in CONTRACTS {
        poster.post(600, 6_000.0).await?;
        let mut child = scene.spawn(PINTAIL)?;
        scene.caught_up(&poster.log, &mut child).await?;
        child.kill_9().await?;
        scene.edit_contract(Kind::Geo, from, to)?;
    }
    ensure!(scene.table(REJECTS).await?.rows() == 0, "the followers were not held up");
    scene.s3()?.faults().remove(followers);
    poster.post(600, 6_000.0).await?;
    let mut last = scene.spawn(PINTAIL)?;
    last.ready().await?;
    scene.caught_up(&poster.log, &mut last).await?;
    assert_eq!(last.terminate().await?.code(), Some(0));
    scene.verify(&poster.log).await?;
    let detail = scene.table(REJECTS).await?.texts("reason")?;
    let required = detail.iter().flatten().filter(|reason| *reason == "required_column").count();
    ensure!(required > 20, "the contracts hardly differed: {required} records lacked a required column");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_its_first_flush_a_start_at_latest_still_holds() -> anyhow::Result<()> {
    let seed = Seed::announced();
    let mut scene = scene().await?;
    scene.settings.start = "latest";
    let mut poster = scene.poster(seed.value());
    // Nobody's book has these: they were put before the start, which is the whole second in which Pintail starts.
    scene.poster(seed.value() + 1).post(300, 6_000.0).await?;
    let second = now_ms() / 1_000;
    until("the next second", async || Ok((now_ms() / 1_000 > second).then_some(()))).await?;

    scene.settings.flush_interval_ms = 3_600_000;
    let mut child = scene.spawn(PINTAIL)?;
    let address = child.address().await?;
    let registered = async || Ok((scene.ledger(Kind::Geo).await?.shards.len() == 2).then_some(()));
    until("both shards are registered", registered).await?;
    poster.post(300, 6_000.0).await?;
    until("it has read what was posted", async || {
        let metrics = get(address, "/metrics").await?.body;
        let read = metric(&metrics, "pintail_records_read_total", "").unwrap_or_default();
        Ok((read >= poster.log.count("geo") as f64).then_some(()))
    })
    .await
    .with_context(|| child.story())?;
    child.kill_9().await?;
    ensure!(scene.s3()?.keys("tables/geo/_date").is_empty(), "it has flushed");

    poster.post(300, 6_000.0).await?;
    scene.settings.flush_interval_ms = 250;
    let mut next = scene.spawn(PINTAIL)?;
    next.ready().await?;
    scene.caught_up(&poster.log, &mut next).await?;
    assert_eq!(next.terminate().await?.code(), Some(0));
    scene.verify(&poster.log).await?;
    Ok(())
}
