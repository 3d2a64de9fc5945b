//! What people see while processes die: numbers that rise, or nothing, and never less than before.

use std::collections::BTreeMap;

use anyhow::ensure;
use load_tests::{At, Child, Scene, Seed, get, until};
use pintail::demo::Kind;
use serde_json::Value;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");
const ROWS: &str = "geo";
const POSTED: u64 = 600;

/// Records by window start and key.
type Shown = BTreeMap<(i64, String), u64>;

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// What the page would show; `None` while it catches up.
async fn shown(pintail: &mut Child) -> anyhow::Result<Option<Shown>> {
    let answer = get(pintail.address().await?, "/api/windows?window=posts_by_country").await?.json()?;
    let window = &answer[0];
    if window["catching_up"] == Value::Bool(true) {
        ensure!(array(&window["starts"]).is_empty(), "it is not known yet, and yet it is shown: {window}");
        return Ok(None);
    }
    let rows = array(&window["starts"]).iter().flat_map(|start| {
        let at = start["start_ms"].as_i64().unwrap_or_default();
        array(&start["rows"])
            .iter()
            .map(move |row| ((at, row["key"].to_string()), row["records"].as_u64().unwrap_or_default()))
    });
    Ok(Some(rows.collect()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_number_that_was_shown_is_smaller_after_a_kill() -> anyhow::Result<()> {
    let seed = Seed::announced();
    let mut scene = Scene::on_s3(2).await?;
    scene.settings.streams = vec![Kind::Geo];
    let mut poster = scene.poster(seed.value());
    poster.post(POSTED, 6_000.0).await?;
    let mut first = scene.spawn(PINTAIL)?;
    first.ready().await?;
    scene.caught_up(&poster.log, &mut first).await?;

    // From now on nothing is committed, and everything is shown.
    let held = scene.s3()?.faults().hold(|request| request.commits_to(ROWS), At::Before);
    poster.post(POSTED, 6_000.0).await?;
    let address = first.address().await?;
    let before = until("everything that was posted is shown", async || {
        let summary = get(address, "/api/summary").await?.json()?;
        let stream = &summary["streams"][0];
        let number = |name: &str| stream[name].as_u64().unwrap_or_default();
        let all = number("records") == poster.log.count(ROWS);
        let now = shown(&mut first).await?.unwrap_or_default();
        Ok((all && now.values().sum::<u64>() == number("rows")).then_some(now))
    });
    let before = before.await?;
    let committed = scene.table(ROWS).await?.rows() as u64;
    ensure!(committed < before.values().sum(), "nothing would be missing: {committed} rows are committed");
    first.kill_9().await?;
    drop(held);

    let mut second = scene.spawn(PINTAIL)?;
    let after = until("the second process shows something", async || shown(&mut second).await).await?;
    for (key, records) in &before {
        let now = after.get(key).copied().unwrap_or_default();
        ensure!(now >= *records, "{key:?} fell from {records} to {now}");
    }
    scene.caught_up(&poster.log, &mut second).await?;
    assert_eq!(shown(&mut second).await?.unwrap_or_default(), before, "the same records, counted once");
    assert_eq!(second.terminate().await?.code(), Some(0));
    scene.verify(&poster.log).await?;
    Ok(())
}
