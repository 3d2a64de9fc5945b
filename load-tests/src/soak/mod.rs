//! `soak`: one process under a steady load, its memory measured, for as long as one likes; and what it does when S3
//! stops answering.
//!
//! The promise is about memory: whatever S3 does and however large records are, a process stays within its byte budget
//! and [`HEADROOM_BYTES`] for everything that the budget does not count. Then everything is read back, as always.

mod args;
mod large;
mod report;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nix::unistd::Pid;
use pintail::demo::Kind;
use pintail::demo::accepted::AcceptedLog;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::args::{SoakArgs, StallArgs};
pub use self::large::Filling;
use self::large::Large;
pub use self::large::Maker;
use self::report::Seen;
pub use self::report::{Report, Sample, Setting, Stall};
use crate::s3::{Fault, S3Server};
use crate::scene::{Instance, Scene};
use crate::seed::Seed;
use crate::usage::Usage;

/// What a process may have resident beside its byte budget.
pub const HEADROOM_BYTES: u64 = 200 << 20;

/// Time between two records of 10 MiB for one shard: what Kinesis lets one consumer read of it.
const LARGE_INTERVAL: Duration = Duration::from_secs(5);

/// A process that has S3 back, or no more input, gets so long for what has gathered, and as long as it took to gather.
const RECOVERY: Duration = Duration::from_secs(60);

/// What is to happen.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Draws the records.
    pub seed: Seed,
    /// The streams that are posted to and read; at least one.
    pub streams: Vec<Kind>,
    /// Shards of each stream.
    pub shards: u32,
    /// How long is posted.
    pub duration: Duration,
    /// Records a second over all streams.
    pub rate: f64,
    /// `budget.bytes`
    pub budget_mib: u64,
    /// `lake.flush_bytes`
    pub flush_mib: u64,
    /// The size of all windows.
    pub window_s: u64,
    /// S3 does not answer from here on, for so long.
    pub stall: Option<(Duration, Duration)>,
    /// So many records of 10 MiB for every shard, one every five seconds.
    pub large: u64,
    /// What fills them.
    pub filling: Filling,
    /// Between two looks at the process.
    pub sample_interval: Duration,
    /// A line on standard error now and then.
    pub progress: bool,
}

/// Runs a plan; `program` is this package's binary. `Err` only if the run itself could not be done.
pub async fn run(program: &str, plan: &Plan) -> anyhow::Result<Report> {
    let mut scene = Scene::on_s3(plan.shards).await?;
    scene.settings.streams = plan.streams.clone();
    scene.settings.flush_interval_ms = 1_000;
    scene.settings.flush_bytes = Some(format!("{}MiB", plan.flush_mib));
    scene.settings.sections = format!("[budget]\nbytes = \"{}MiB\"\n", plan.budget_mib);
    if plan.window_s != scene.settings.window_s {
        scene.shorten_windows(plan.window_s)?;
    }
    let mut poster = scene.poster(plan.seed.value());
    let log = Arc::clone(&poster.log);
    let mut child = scene.spawn(program)?;
    child.address().await?;
    let mut watch = Watch { plan, pid: child.pid()?, started: Instant::now(), samples: Vec::new(), told: 0 };
    let stop = CancellationToken::new();
    let watching = async {
        let watched = watch.through(scene.s3()?, &log).await;
        stop.cancel();
        watched
    };
    let putting = keep_putting(&scene, &log, plan, &stop);
    let (posted, put, watched) = tokio::join!(poster.post_until(plan.rate, &stop), putting, watching);
    watched.with_context(|| child.story())?;
    posted.and(put)?;
    let posted_s = watch.started.elapsed();
    let patience = RECOVERY + 2 * posted_s;
    let caught_up = scene.caught_up_within(patience, &log, &mut child);
    tokio::select! {
        caught_up = caught_up => caught_up?,
        error = watch.for_ever() => return Err(error.context(child.story())),
    }
    let recovered_s = (watch.started.elapsed() - posted_s).as_secs_f64();
    let usage = Usage::of(watch.pid)?;
    child.ask_to_end().await?;
    let status = child.ended().await?;
    let verdict = scene.look(&log).await?;
    let mut commits = 0;
    for kind in &plan.streams {
        commits += scene.ledger(*kind).await?.version;
    }
    let seen = Seen { samples: watch.samples, usage, posted_s: posted_s.as_secs_f64(), recovered_s, commits, status };
    Report::new(plan, seen, &child, &verdict)
}

/// Puts records of 10 MiB, round after round, until there were enough or it is told to stop.
async fn keep_putting(scene: &Scene, log: &AcceptedLog, plan: &Plan, stop: &CancellationToken) -> anyhow::Result<()> {
    if plan.large == 0 {
        return Ok(());
    }
    let mut large = Large::new(plan.filling, plan.seed.clone()).await?;
    for _ in 0..plan.large {
        let round = Instant::now();
        large.put_everywhere(&scene.kinesis, log, &plan.streams).await?;
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep_until(round + LARGE_INTERVAL) => {}
        }
    }
    Ok(())
}

/// Looks at the process at a steady pace.
struct Watch<'a> {
    plan: &'a Plan,
    pid: Pid,
    started: Instant,
    samples: Vec<Sample>,
    told: usize,
}

impl Watch<'_> {
    /// While records are posted; S3 stops answering on the way, if that is planned.
    async fn through(&mut self, s3: &S3Server, log: &AcceptedLog) -> anyhow::Result<()> {
        let stall = self.plan.stall.map(|(from, time)| (from, from + time));
        let mut stalled = None;
        while self.started.elapsed() < self.plan.duration {
            let now = self.started.elapsed();
            let is_due = stall.is_some_and(|(from, until)| from <= now && now < until);
            match stalled {
                None if is_due => stalled = Some(s3.faults().add(|_| true, Fault::Stall, None)),
                Some(rule) if !is_due => {
                    s3.faults().remove(rule);
                    stalled = None;
                }
                None | Some(_) => {}
            }
            self.sample(is_due)?;
            self.tell(log);
            tokio::time::sleep(self.plan.sample_interval).await;
        }
        if let Some(rule) = stalled {
            s3.faults().remove(rule);
        }
        Ok(())
    }

    /// Until it is dropped; ends only if the process does.
    async fn for_ever(&mut self) -> anyhow::Error {
        loop {
            if let Err(error) = self.sample(false) {
                return error;
            }
            tokio::time::sleep(self.plan.sample_interval).await;
        }
    }

    fn sample(&mut self, stalled: bool) -> anyhow::Result<()> {
        let rss_bytes = Usage::of(self.pid)?.rss_bytes;
        self.samples.push(Sample { seconds: self.started.elapsed().as_secs_f64(), rss_bytes, stalled });
        Ok(())
    }

    fn tell(&mut self, log: &AcceptedLog) {
        let seconds = self.started.elapsed().as_secs() as usize;
        if let Some(last) = self.samples.last().filter(|_| self.plan.progress && seconds >= self.told) {
            let records: u64 = self.plan.streams.iter().map(|kind| log.count(kind.name())).sum();
            let (rss_mib, total_s) = (last.rss_bytes >> 20, self.plan.duration.as_secs());
            let stalled = if last.stalled { ", S3 does not answer" } else { "" };
            eprintln!("{seconds:>5} of {total_s} s  {records} records  {rss_mib} MiB resident{stalled}");
            self.told = seconds + 10;
        }
    }
}
