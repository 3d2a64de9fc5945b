//! What a running Pintail says over HTTP, held against the tables.

use std::collections::BTreeMap;

use load_tests::{Instance, Poster, Processor, Scene, Seed, Verdict, get, metric, until};
use pintail::demo::Kind;
use serde_json::Value;

const POSTED: u64 = 1_500;

async fn scene() -> anyhow::Result<(Scene, Poster, Processor)> {
    let seed = Seed::announced();
    let scene = Scene::new(2).await?;
    let mut poster = scene.poster(seed.value());
    let mut pintail = scene.start().await?;
    poster.post(POSTED, 6_000.0).await?;
    scene.caught_up(&poster.log, &mut pintail).await?;
    Ok((scene, poster, pintail))
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Records of each window's starts, and how many of them are pending; by (stream, window).
fn totals(windows: &Value) -> BTreeMap<(String, String), (u64, u64)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let sum = |window: &Value, what: &str| {
        array(&window["starts"]).iter().map(|start| start[what].as_u64().unwrap_or_default()).sum::<u64>()
    };
    let windows = array(windows).iter();
    windows
        .map(|window| {
            let totals = (sum(window, "records"), sum(window, "pending"));
            ((text(&window["stream"]), text(&window["window"])), totals)
        })
        .collect()
}

/// Waits until the live windows are what the rows tables hold, with nothing pending.
async fn until_windows_agree(scene: &Scene, pintail: &mut Processor) -> anyhow::Result<()> {
    let mut rows = BTreeMap::new();
    for kind in Kind::ALL {
        rows.insert(kind.name().to_owned(), scene.table(kind.name()).await?.rows());
    }
    until("the live windows hold exactly the rows of the tables", async || {
        pintail.alive()?;
        let windows = totals(&get(pintail.address, "/api/windows").await?.json()?);
        let agree = windows.iter().all(|((stream, _), totals)| *totals == (rows[stream], 0));
        Ok((windows.len() == 5 && agree).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_live_windows_are_the_tables_also_after_a_restart() -> anyhow::Result<()> {
    let (scene, poster, mut first) = scene().await?;
    until_windows_agree(&scene, &mut first).await?;
    first.drain().await?;
    let mut second = scene.start().await?;
    until_windows_agree(&scene, &mut second).await?;
    second.drain().await?;
    scene.verify(&poster.log).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_count_what_the_tables_hold() -> anyhow::Result<()> {
    let (scene, poster, mut pintail) = scene().await?;
    let stable = until("a commit of every stream is counted", async || {
        pintail.alive()?;
        let text = get(pintail.address, "/metrics").await?.body;
        let rows = metric(&text, "pintail_rows_cleaned_total", "").unwrap_or_default();
        let kinds = Kind::ALL.iter().map(|kind| format!("table=\"{}\"", kind.name()));
        let committed = kinds.filter_map(|table| metric(&text, "pintail_rows_committed_total", &table)).sum::<f64>();
        Ok((rows > 0.0 && committed == rows).then_some(text))
    });
    let text = stable.await?;
    pintail.drain().await?;
    assert_counts(&text, &scene.verify(&poster.log).await?);
    Ok(())
}

fn assert_counts(text: &str, verdict: &Verdict) {
    for (kind, found) in verdict {
        let stream = format!("stream=\"{}\"", kind.name());
        let of = |name: &str| metric(text, name, &stream);
        let rejects = found.rejects();
        assert_eq!(of("pintail_records_read_total"), Some(found.reckoning.total().accepted as f64), "{kind:?}");
        assert_eq!(of("pintail_rows_cleaned_total"), Some(found.reckoning.rows as f64), "{kind:?}");
        assert_eq!(of("pintail_rejects_total"), Some(rejects as f64), "{kind:?}");
        assert_eq!(of("pintail_fenced_total"), Some(0.0), "{kind:?}");
        assert_eq!(of("pintail_data_loss_total"), Some(0.0), "{kind:?}");
        assert!(of("pintail_commits_total") > Some(0.0), "{kind:?}");
        assert!(of("pintail_end_to_end_seconds_count") > Some(0.0), "{kind:?}");
    }
    let labelled = [
        ("pintail_records_read_total", "shard=\"shardId-000000000001\""),
        ("pintail_bytes_read_total", "shard=\"shardId-000000000000\""),
        ("pintail_behind_seconds", "shard="),
        ("pintail_record_age_seconds", "shard="),
        ("pintail_retention_headroom_ratio", "shard="),
        ("pintail_reads_total", "result=\"ok\""),
        ("pintail_rejects_total", "reason=\"invalid_json\""),
        ("pintail_nulls_total", "column="),
        ("pintail_repairs_total", "repair="),
        ("pintail_unknown_fields_total", "field=\"downloaded\""),
        ("pintail_rows_committed_total", "table=\"pins_by_category_partials\""),
        ("pintail_files_committed_total", "table=\"user_rejects\""),
        ("pintail_bytes_committed_total", "table=\"geo\""),
        ("pintail_live_cells", "layer=\"committed\""),
        ("pintail_budget_bytes", "stream="),
        ("pintail_last_commit_timestamp_seconds", "stream="),
    ];
    for (name, label) in labelled {
        assert!(metric(text, name, label).is_some(), "no sample of {name} with {label}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_every_page_of_the_api_answer() -> anyhow::Result<()> {
    let (_scene, _poster, mut pintail) = scene().await?;
    let address = pintail.address;
    assert_eq!(get(address, "/livez").await?.status, 200);
    let ready = get(address, "/readyz").await?;
    assert_eq!((ready.status, &ready.json()?["ready"]), (200, &Value::Bool(true)));
    let page = get(address, "/").await?;
    assert!(page.status == 200 && page.body.contains("<html"), "{}", page.body);

    let summary = get(address, "/api/summary").await?.json()?;
    let streams = array(&summary["streams"]);
    let sum = |what: &str| streams.iter().map(|stream| stream[what].as_u64().unwrap_or_default()).sum::<u64>();
    assert_eq!((streams.len(), sum("records")), (3, POSTED));
    let shards = get(address, "/api/shards").await?.json()?;
    assert_eq!(array(&shards["streams"]).iter().map(|stream| array(&stream["shards"]).len()).sum::<usize>(), 6);
    let tables = get(address, "/api/tables").await?.json()?;
    assert_eq!(
        array(&tables["streams"]).iter().map(|stream| array(&stream["tables"]).len()).sum::<usize>(),
        3 + 3 + 5 + 5
    );
    until("a sample of history", async || {
        pintail.alive()?;
        let history = get(address, "/api/history").await?;
        Ok((history.status == 200 && history.json()?.to_string().contains("pin")).then_some(()))
    })
    .await?;

    let one = get(address, "/api/windows?window=posts_by_country&starts=1&rows=2").await?.json()?;
    assert_eq!((array(&one).len(), array(&one[0]["starts"]).len()), (1, 1));
    assert!(array(&one[0]["starts"][0]["rows"]).len() <= 2);
    assert_eq!(get(address, "/api/windows?window=nonsense").await?.status, 404);
    assert_eq!(get(address, "/nowhere").await?.status, 404);
    pintail.drain().await
}
