//! `keys`: more keys than memory may hold, in windows that are sealed and in one of a day, with every kind of sketch.
//!
//! The promise is that keys cost nothing but files. Memory stays within the byte budget and [`HEADROOM_BYTES`]; the
//! live view alone folds keys, and counts them; rows, partials and sealed rows have every key with every record, also
//! after a SIGKILL half-way.

mod args;
mod flood;
mod report;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::unistd::Pid;
use pintail::demo::Kind;
use pintail::demo::producer::{Counters, Pace, Plan as Posting, client, produce};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

pub use self::args::KeysArgs;
use self::flood::{BRIEF, BY_DAY, Flood, contract};
pub use self::report::{Report, Seen};
use crate::child::Child;
use crate::http::{get, metric};
use crate::scene::{Instance, Scene};
use crate::soak::HEADROOM_BYTES;
use crate::tables::Snapshot;
use crate::usage::Usage;
use crate::wait::until_within;

/// Between two looks at the process.
const LOOK: Duration = Duration::from_millis(500);

/// Between two looks at a table that may have millions of rows.
const COUNT_AGAIN: Duration = Duration::from_secs(2);

/// What was posted is committed and sealed in as long as it took to post, and this.
const RECOVERY: Duration = Duration::from_secs(240);

/// What is to happen.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Different keys.
    pub keys: u32,
    /// Records of each key, one a round.
    pub rounds: u8,
    /// Seconds of the windows that are sealed.
    pub brief_s: u64,
    /// Records a second.
    pub rate: f64,
    /// Shards of the stream.
    pub shards: u32,
    /// Streams without records, with which it shares the memory for what people look at.
    pub idle_streams: &'static [Kind],
    /// Each stream's share of `budget.bytes`.
    pub budget_mib: u64,
    /// A line on standard error now and then.
    pub progress: bool,
}

impl Plan {
    fn records(&self) -> u64 {
        u64::from(self.keys) * u64::from(self.rounds)
    }
}

/// Runs a plan; `program` is this package's binary. `Err` only if the run itself could not be done.
pub async fn run(program: &str, plan: &Plan) -> anyhow::Result<Report> {
    let mut scene = Scene::on_s3(plan.shards).await?;
    scene.settings.streams = [&[Kind::Geo], plan.idle_streams].concat();
    scene.settings.flush_interval_ms = 1_000;
    let budget_mib = plan.budget_mib * scene.settings.streams.len() as u64;
    scene.settings.sections = format!("[budget]\nbytes = \"{budget_mib}MiB\"\n");
    std::fs::write(scene.contract(Kind::Geo), contract(plan.brief_s))?;
    let mut flood = Flood::new(plan.keys, plan.rounds);
    let mut seen = Seen::default();
    let started = Instant::now();

    let first = scene.spawn(program)?;
    let first = watched(plan, first, &mut seen, post(&scene, &mut flood, plan, plan.records() / 2)).await?;
    first.kill_9().await?;
    let again = Instant::now();
    let mut second = scene.spawn(program)?;
    second.ready().await?;
    seen.ready_again_s = again.elapsed().as_secs_f64();
    let rest = plan.records() - plan.records() / 2;
    let lake = scene.lake_url()?;
    let work = async {
        post(&scene, &mut flood, plan, rest).await?;
        let posted_s = started.elapsed();
        sealed(&lake, plan, RECOVERY + posted_s).await?;
        Ok(posted_s)
    };
    let (second, posted_s) = watched_to(plan, second, &mut seen, work).await?;
    seen.posted_s = posted_s.as_secs_f64();
    seen.sealed_s = (started.elapsed() - posted_s).as_secs_f64();
    seen.status = Some(second.terminate().await?);
    let counted = Counted::of(&lake, plan).await?;
    Ok(Report::new(plan, &seen, &counted))
}

/// Puts the next records of the flood.
async fn post(scene: &Scene, flood: &mut Flood, plan: &Plan, records: u64) -> anyhow::Result<()> {
    let posting = Posting {
        streams: Kind::ALL.map(|kind| kind.name().to_owned()),
        pace: Pace::Rate(plan.rate),
        duration: None,
        records: Some(records),
    };
    let counters = Arc::new(Counters::default());
    let client = client(&scene.kinesis.sdk_config());
    produce(&client, flood, &posting, &counters, None, std::future::pending()).await?;
    ensure!(counters.unanswered() == 0, "{} records were put without an answer", counters.unanswered());
    ensure!(counters.acknowledged(Kind::Geo) == records, "not every record was acknowledged");
    Ok(())
}

async fn watched(
    plan: &Plan,
    child: Child,
    seen: &mut Seen,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Child> {
    watched_to(plan, child, seen, work).await.map(|(child, ())| child)
}

/// Does the work and looks at the process all the while.
async fn watched_to<T>(
    plan: &Plan,
    mut child: Child,
    seen: &mut Seen,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(Child, T)> {
    let address = child.address().await;
    let (address, pid) = (address.with_context(|| child.story())?, child.pid()?);
    let before_s = seen.cpu_seconds;
    let done = CancellationToken::new();
    let looking = async {
        let mut next_line = Instant::now();
        while !done.is_cancelled() {
            child.alive()?;
            look(pid, address, before_s, seen).await?;
            if plan.progress && Instant::now() >= next_line {
                seen.tell();
                next_line += Duration::from_secs(10);
            }
            tokio::select! {
                () = done.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        anyhow::Ok(())
    };
    let working = async {
        let did = work.await;
        done.cancel();
        did
    };
    let (did, ()) = async { tokio::try_join!(working, looking) }.await.with_context(|| child.story())?;
    Ok((child, did))
}

async fn look(pid: Pid, address: std::net::SocketAddr, before_s: f64, seen: &mut Seen) -> anyhow::Result<()> {
    let usage = Usage::of(pid)?;
    seen.rss_bytes = usage.rss_bytes;
    seen.rss_peak_bytes = seen.rss_peak_bytes.max(usage.rss_peak_bytes);
    seen.cpu_seconds = before_s + usage.cpu_seconds;
    let metrics = get(address, "/metrics").await?.body;
    let value = |name: &str, label: &str| metric(&metrics, name, label).unwrap_or(0.0) as u64;
    seen.committed_bytes_max = seen.committed_bytes_max.max(value("pintail_live_bytes", "committed"));
    seen.pending_bytes_max = seen.pending_bytes_max.max(value("pintail_live_bytes", "pending"));
    seen.budget_in_use_bytes_max = seen.budget_in_use_bytes_max.max(value("pintail_budget_in_use_bytes", "geo"));
    seen.folded = value("pintail_live_cells_folded_total", "geo");
    seen.committed_rows = value("pintail_rows_committed_total", "table=\"geo\"");
    Ok(())
}

/// Waits until the sealed rows of the brief windows have every record.
async fn sealed(lake: &Url, plan: &Plan, patience: Duration) -> anyhow::Result<()> {
    let mut looked = None;
    until_within(patience, "every brief window is sealed", async || {
        if looked.is_some_and(|at: Instant| at.elapsed() < COUNT_AGAIN) {
            return Ok(None);
        }
        let mut records = 0;
        Snapshot::each_file(lake, BRIEF, &["records"], |file| {
            records += file.integers("records")?.into_iter().flatten().sum::<i128>();
            Ok(())
        })
        .await?;
        looked = Some(Instant::now());
        Ok((records >= i128::from(plan.records())).then_some(()))
    })
    .await
}

/// What the tables hold.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    rows: Table,
    day_partials: Table,
    brief_partials: Table,
    sealed: Table,
}

/// One of them.
#[derive(Debug, Clone, Copy, Default)]
struct Table {
    rows: u64,
    /// Keys that do not have exactly the records that were put.
    wrong_keys: u64,
}

impl Counted {
    async fn of(lake: &Url, plan: &Plan) -> anyhow::Result<Self> {
        Ok(Self {
            rows: Table::of(lake, "geo", None, plan).await?,
            day_partials: Table::of(lake, &format!("{BY_DAY}_partials"), Some("posts"), plan).await?,
            brief_partials: Table::of(lake, &format!("{BRIEF}_partials"), Some("posts"), plan).await?,
            sealed: Table::of(lake, BRIEF, Some("posts"), plan).await?,
        })
    }
}

impl Table {
    async fn of(lake: &Url, name: &str, count: Option<&str>, plan: &Plan) -> anyhow::Result<Self> {
        let mut records = vec![0_i128; plan.keys as usize];
        let (mut rows, mut unknown) = (0, 0);
        let columns: Vec<&str> = std::iter::once("ind").chain(count).collect();
        Snapshot::each_file(lake, name, &columns, |file| {
            rows += file.rows();
            let keys = file.integers("ind")?;
            let counts = match count {
                Some(count) => file.integers(count)?,
                None => vec![Some(1); keys.len()],
            };
            for (key, count) in keys.into_iter().zip(counts) {
                let known = key.and_then(|key| records.get_mut(usize::try_from(key).ok()?));
                match known.zip(count) {
                    Some((records, count)) => *records += count,
                    None => unknown += 1,
                }
            }
            Ok(())
        })
        .await?;
        let wrong = records.iter().filter(|found| **found != i128::from(plan.rounds)).count() as u64;
        Ok(Self { rows, wrong_keys: wrong + unknown })
    }
}
