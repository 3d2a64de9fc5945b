//! What people see while processes die, and while others write: numbers that rise, or nothing, never less than before
//! and never a record twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use load_tests::{At, Child, Instance, Poster, Scene, Seed, get, metric, until};
use pintail::demo::Kind;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");
const ROWS: &str = "geo";
const POSTED: u64 = 600;

/// Streams whose windows have between them a sum, a mean, a greatest and a last value, and a count of different ones.
const WATCHED: [Kind; 2] = [Kind::Geo, Kind::Pin];

/// Records by window start (epoch ms) and key.
pub type Shown = BTreeMap<(i64, String), u64>;

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

async fn window(pintail: SocketAddr) -> anyhow::Result<Value> {
    Ok(get(pintail, "/api/windows?window=posts_by_country").await?.json()?[0].take())
}

/// What the page would show; `None` while it catches up.
pub async fn shown_at(pintail: SocketAddr) -> anyhow::Result<Option<Shown>> {
    let window = window(pintail).await?;
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

/// Of every window, by its name, start (epoch ms) and key: the records, and by name each measure whose value depends on the
/// records alone.
type Numbers = BTreeMap<(String, i64, String), BTreeMap<String, Value>>;

/// The numbers that grow with every record that counts, or stay.
const GROWING: [&str; 6] = ["records", "posts", "pins", "followers", "max_followers", "posters"];

/// Estimates, which also depend on the order of the records.
const ESTIMATES: [&str; 2] = ["follower_count", "categories"];

/// What the page would show of all windows; `None` while one catches up.
async fn numbers_at(pintail: SocketAddr) -> anyhow::Result<Option<Numbers>> {
    let windows = get(pintail, "/api/windows").await?.json()?;
    if array(&windows).iter().any(|window| window["catching_up"] == Value::Bool(true)) {
        return Ok(None);
    }
    let mut numbers = Numbers::new();
    for window in array(&windows) {
        let name = window["window"].as_str().context("a window has a name")?;
        for start in array(&window["starts"]) {
            let start_ms = start["start_ms"].as_i64().context("a start has a time")?;
            for row in array(&start["rows"]) {
                let named = array(&window["measures"]).iter().zip(array(&row["measures"]));
                let named = named.map(|(name, value)| (name.as_str().unwrap_or_default().to_owned(), value.clone()));
                let exact = named.filter(|(name, _)| !ESTIMATES.contains(&name.as_str()));
                let values = exact.chain([("records".to_owned(), row["records"].clone())]).collect();
                numbers.insert((name.to_owned(), start_ms, row["key"].to_string()), values);
            }
        }
    }
    Ok(Some(numbers))
}

/// Fails if a number that was shown is smaller now.
fn none_fell(before: &Numbers, now: &Numbers) -> anyhow::Result<()> {
    let nothing = BTreeMap::new();
    for (place, was) in before {
        let is = now.get(place).unwrap_or(&nothing);
        for (name, was) in GROWING.into_iter().filter_map(|name| Some((name, was.get(name)?))) {
            let is = is.get(name).unwrap_or(&Value::Null);
            ensure!(size(is) >= size(was), "{name} of {place:?} fell from {was} to {is}");
        }
    }
    Ok(())
}

/// Nothing is smaller than any number.
fn size(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NEG_INFINITY)
}

/// Records on show, by window.
fn records(numbers: &Numbers) -> BTreeMap<&str, u64> {
    let mut records = BTreeMap::new();
    for ((window, ..), values) in numbers {
        *records.entry(window.as_str()).or_default() += values["records"].as_u64().unwrap_or_default();
    }
    records
}

/// The same of the rows: a GROUP BY.
pub async fn grouped(scene: &Scene) -> anyhow::Result<Shown> {
    let rows = scene.table(ROWS).await?;
    let mut grouped = Shown::new();
    for (arrived_us, country) in rows.integers("_arrived_at")?.into_iter().zip(rows.texts("country")?) {
        let minute = i64::try_from(arrived_us.context("every row has an arrival")?)?.div_euclid(60_000_000);
        *grouped.entry((minute * 60_000, json!([country]).to_string())).or_default() += 1;
    }
    Ok(grouped)
}

/// Waits until the live view is what the rows say; they are at rest.
pub async fn until_it_shows_the_rows(scene: &Scene, pintail: SocketAddr) -> anyhow::Result<()> {
    let (rows, mut last) = (grouped(scene).await?, None);
    let same = until("the live view is the GROUP BY of the rows", async || {
        last = shown_at(pintail).await?;
        Ok((last.as_ref() == Some(&rows)).then_some(()))
    });
    same.await.with_context(|| format!("the rows say {rows:?}, it shows {last:?}"))
}

/// A process that has committed all that was posted, to an S3.
async fn caught_up() -> anyhow::Result<(Scene, Poster, Child)> {
    let seed = Seed::announced();
    let mut scene = Scene::on_s3(2).await?;
    scene.settings.streams = WATCHED.to_vec();
    let mut poster = scene.poster(seed.value());
    poster.post(POSTED, 6_000.0).await?;
    let mut first = scene.spawn(PINTAIL)?;
    first.ready().await?;
    scene.caught_up(&poster.log, &mut first).await?;
    Ok((scene, poster, first))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_number_that_was_shown_is_smaller_after_a_kill() -> anyhow::Result<()> {
    let (scene, mut poster, mut first) = caught_up().await?;

    // From now on nothing is committed, and everything is shown.
    let faults = scene.s3()?.faults();
    let held = WATCHED.map(|kind| faults.hold(move |request| request.commits_to(kind.name()), At::Before));
    poster.post(POSTED, 6_000.0).await?;
    let address = first.address().await?;
    let before = until("everything that was posted is shown", async || {
        let summary = get(address, "/api/summary").await?.json()?;
        let mut rows = BTreeMap::new();
        for stream in array(&summary["streams"]) {
            let name = stream["stream"].as_str().context("a stream has a name")?;
            if stream["records"].as_u64() != Some(poster.log.count(name)) {
                return Ok(None);
            }
            let windows =
                if name == ROWS { &["posts_by_country"][..] } else { &["pins_by_category", "pins_by_media_type"] };
            rows.extend(windows.iter().map(|window| (*window, stream["rows"].as_u64().unwrap_or_default())));
        }
        let now = numbers_at(address).await?.unwrap_or_default();
        Ok((records(&now) == rows).then_some(now))
    });
    let before = before.await?;
    let committed = scene.table(ROWS).await?.rows();
    ensure!(
        committed < records(&before)["posts_by_country"],
        "nothing would be missing: {committed} rows are committed"
    );
    first.kill_9().await?;
    drop(held);

    let mut second = scene.spawn(PINTAIL)?;
    let address = second.address().await?;
    let after = until("the second process shows something", async || numbers_at(address).await).await?;
    none_fell(&before, &after)?;
    scene.caught_up(&poster.log, &mut second).await?;
    assert_eq!(numbers_at(address).await?.unwrap_or_default(), before, "the same records, counted once");
    assert_eq!(second.terminate().await?.code(), Some(0));
    scene.verify(&poster.log).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_whose_partials_cannot_be_read_says_so_and_does_not_look_empty() -> anyhow::Result<()> {
    let (scene, _poster, first) = caught_up().await?;
    assert_eq!(first.terminate().await?.code(), Some(0));

    let files = scene.s3()?.keys("tables/posts_by_country_partials/_date");
    let copies: Vec<_> = files.iter().filter_map(|key| Some((key, scene.s3().ok()?.get(key)?))).collect();
    ensure!(!copies.is_empty(), "no partials were written");
    scene.s3()?.remove_prefix("tables/posts_by_country_partials/_date");
    let mut blind = scene.spawn(PINTAIL)?;
    blind.ready().await?;
    let address = blind.address().await?;
    let why = window(address).await?["not_shown"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("posts_by_country_partials") && why.contains(".parquet is gone (restore it"), "{why:?}");
    blind.kill_9().await?;

    copies.iter().for_each(|(key, bytes)| scene.s3().into_iter().for_each(|s3| s3.put(key, bytes.clone())));
    let mut seeing = scene.spawn(PINTAIL)?;
    seeing.ready().await?;
    let address = seeing.address().await?;
    until_it_shows_the_rows(&scene, address).await?;
    assert_eq!(window(address).await?["not_shown"], Value::Null);
    assert_eq!(seeing.terminate().await?.code(), Some(0));
    Ok(())
}

/// Looks at a live view again and again until told to stop: no number falls.
async fn never_falls(pintail: SocketAddr, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut before = Numbers::new();
    while !stop.is_cancelled() {
        let now = numbers_at(pintail).await?.unwrap_or_default();
        none_fell(&before, &now)?;
        before = now;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_both_show_what_is_in_the_rows_while_both_run() -> anyhow::Result<()> {
    let seed = Seed::announced();
    let mut scene = Scene::new(4).await?;
    scene.settings.streams = WATCHED.to_vec();
    let mut poster = scene.poster(seed.value());
    let mut twins = [scene.spawn(PINTAIL)?, scene.spawn(PINTAIL)?];
    let [first, second] = &mut twins;
    let addresses = [first.address().await?, second.address().await?];
    let (stop, log) = (CancellationToken::new(), poster.log.clone());
    let meeting = async {
        let met = until("one of the two was fenced, after something was committed", async || {
            let mut fenced = 0.0;
            for address in addresses {
                let metrics = get(address, "/metrics").await?.body;
                fenced += metric(&metrics, "pintail_fenced_total", "").unwrap_or_default();
            }
            Ok((fenced > 0.0 && log.count(ROWS) > 1_500).then_some(()))
        });
        let met = met.await;
        stop.cancel();
        met
    };
    let looking = async {
        let looks = async { tokio::try_join!(never_falls(addresses[0], &stop), never_falls(addresses[1], &stop)) };
        let looked = looks.await;
        stop.cancel();
        looked
    };
    let (posted, met, looked) = tokio::join!(poster.post_until(1_000.0, &stop), meeting, looking);
    looked.map(|_| ()).and(met).and(posted)?;
    scene.caught_up(&poster.log, &mut twins[0]).await?;
    for (twin, address) in twins.iter_mut().zip(addresses) {
        until_it_shows_the_rows(&scene, address).await.with_context(|| twin.story())?;
    }
    let now_ms = pintail::clock::now_ms();
    let as_of_ms = [window(addresses[0]).await?["as_of_ms"].as_i64(), window(addresses[1]).await?["as_of_ms"].as_i64()];
    let others: Vec<i64> = as_of_ms.into_iter().flatten().collect();
    assert!(!others.is_empty(), "each shard is committed by one of them, and the other says so: {as_of_ms:?}");
    assert!(others.iter().all(|ms| (now_ms - 120_000..=now_ms).contains(ms)), "{as_of_ms:?} at {now_ms}");
    for mut twin in twins {
        twin.alive()?;
        assert_eq!(twin.terminate().await?.code(), Some(0));
    }
    scene.verify(&poster.log).await?;
    Ok(())
}
