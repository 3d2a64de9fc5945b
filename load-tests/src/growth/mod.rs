//! `growth`: one commit after the other, thousands of them, and what each costs as the log and the table grow.
//!
//! The promise is that nothing grows with them. The commits are made by the lake's own writer in this process, over
//! HTTP, one record each and without pauses, for a stream that a real process registered; after each round of
//! maintenance its log entries look old, so that the log is cleaned on the way. A real process then starts on what
//! they left, and it is measured how soon it reads.

mod args;
mod report;
mod requests;
mod writing;

use std::time::Duration;

use anyhow::{Context, ensure};
use pintail::demo::Kind;
use tokio::time::Instant;

pub use self::args::GrowthArgs;
use self::report::Seen;
pub use self::report::{Report, Tenth};
use self::requests::{Counting, age_logs, followed};
use self::writing::Committing;
use crate::http::{get, metric};
use crate::s3::S3Server;
use crate::scene::{Instance, Scene};
use crate::wait::until;

/// What is to happen.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Commits of the rows table.
    pub commits: u32,
    /// Whether small files are joined on the way; without, the table has a file a commit.
    pub compact: bool,
    /// Between two rounds of maintenance, in commits.
    pub maintain_every: u32,
    /// Draws the records.
    pub seed: u64,
    /// A line on standard error now and then.
    pub progress: bool,
}

/// Runs a plan; `program` is this package's binary. `Err` only if the run itself could not be done.
pub async fn run(program: &str, plan: &Plan) -> anyhow::Result<Report> {
    ensure!(plan.commits >= 10, "{} commits have no tenths; expected at least 10", plan.commits);
    let mut scene = Scene::on_s3(1).await?;
    scene.settings.streams = vec![Kind::Geo];
    scene.settings.sections = "[maintenance]\nenabled = false\n".to_owned();
    let mut poster = scene.poster(plan.seed);

    // A stream that a process knows: its tables, its shard, its first records.
    poster.post(30, 1_000.0).await?;
    let mut child = scene.spawn(program)?;
    child.ready().await?;
    scene.caught_up(&poster.log, &mut child).await?;
    child.terminate().await?;

    // The emulation posts to three streams by turns, and some of it twice.
    while poster.log.count("geo") < u64::from(plan.commits) + 60 {
        poster.post(u64::from(plan.commits), 1e6).await?;
    }
    let mut committing = Committing::open(&scene, &poster.log, plan).await?;
    let mut seen = grow(&mut committing, scene.s3()?, plan).await?;
    committing.end().await?;
    seen.log_objects = scene.s3()?.keys("tables/geo/_delta_log/").len() as u64;
    seen.files = scene.table("geo").await?.files.len() as u64;

    let started = Instant::now();
    let mut child = scene.spawn(program)?;
    let address = child.address().await?;
    until("a record is read", async || {
        child.alive()?;
        let metrics = get(address, "/metrics").await?.body;
        Ok((metric(&metrics, "pintail_records_read_total", "").unwrap_or(0.0) > 0.0).then_some(()))
    })
    .await
    .with_context(|| child.story())?;
    seen.first_read_ms = ms(started.elapsed());
    scene.caught_up(&poster.log, &mut child).await?;
    child.terminate().await?;
    let rows = scene.table("geo").await?.rows() + scene.table("geo_rejects").await?.rows();
    Ok(Report::new(plan, &seen, rows, poster.log.count("geo")))
}

/// The commits, the maintenance between them, and looks at both.
async fn grow(committing: &mut Committing, s3: &S3Server, plan: &Plan) -> anyhow::Result<Seen> {
    let (started, tenth) = (Instant::now(), plan.commits / 10);
    let (mut seen, mut counting) = (Seen::default(), Counting::of(s3, "geo"));
    for commit in 1..=plan.commits {
        seen.commit_ms.push(committing.commit().await?);
        let (is_tenth, is_round) = (commit % tenth == 0, commit.is_multiple_of(plan.maintain_every));
        if !(is_tenth || is_round) {
            continue;
        }
        followed(s3, "geo", committing.followers()).await?;
        counting.pause();
        if is_round {
            committing.maintain().await;
            age_logs(s3);
        }
        if is_tenth {
            seen.requests.push(counting.take() as f64 / f64::from(tenth));
            seen.open_ms.push(committing.opening_ms().await?);
            if plan.progress {
                seen.tell(started.elapsed());
            }
        }
        counting.go_on();
    }
    Ok(seen)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
