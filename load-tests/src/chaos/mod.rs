//! `chaos`: processes die under load, in every phase of their life, and nothing may be lost, twice, altered or out of
//! order.
//!
//! Three streams are posted to and resharded all the time. Processes are started on one lake and killed with
//! SIGKILL, at least half of them at a known instant (see [`Phase`]), some while others are frozen or work beside them.
//! At the end one is left to finish, and everything is read back. A [`Report`] without violations is the proof.

mod args;
mod killer;
mod phase;
mod report;
mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use pintail::demo::Kind;
use pintail::demo::accepted::AcceptedLog;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::args::ChaosArgs;
use self::killer::Killer;
pub use self::phase::{AIMED, Phase, name, share_out};
pub use self::report::{Deaths, Report, Seen, Setting};
use self::witness::Witness;
use crate::reshard;
use crate::scene::Scene;
use crate::seed::Seed;

/// Often, of few commits and few files: so that every phase of maintenance comes up within seconds.
const MAINTENANCE: &str = "[maintenance]\ninterval = \"200ms\"\ncheckpoint_commits = 5\ncompact_files = 4\n";

/// Windows are closed while everything else happens.
const WINDOW_S: u64 = 2;

/// What is to happen.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Draws every number, and the records.
    pub seed: Seed,
    /// Where processes die, in this order.
    pub phases: Vec<Phase>,
    /// Records a second over all streams.
    pub rate: f64,
    /// `lake.flush_interval`
    pub flush_interval_ms: u64,
    /// Between two reshards.
    pub reshard_interval: Duration,
    /// Processes work for about so long before they die, unless they die at their start.
    pub work_ms: u64,
    /// Log entries of this age are made to look old enough for cleanup; no process is frozen for more than a fifth
    /// of it.
    pub old_after: Duration,
    /// A line on standard error for each death.
    pub progress: bool,
    /// A folder, made if missing, for logs, configuration and lake as they are in the end.
    pub keep: Option<PathBuf>,
}

/// Runs a plan; `program` is this package's binary. `Err` only if the run itself could not be done.
pub async fn run(program: &str, plan: Plan) -> anyhow::Result<Report> {
    let started = Instant::now();
    let mut scene = Scene::on_s3(2).await?;
    scene.settings.flush_interval_ms = plan.flush_interval_ms;
    scene.shorten_windows(WINDOW_S)?;
    if plan.phases.iter().any(|phase| phase.is_of_maintenance()) {
        scene.settings.sections = MAINTENANCE.to_owned();
    }
    let kept = plan.keep.clone();
    let mut report = play(program, plan, &scene).await;
    if let Some(folder) = kept {
        let saved = save(&scene, &folder).with_context(|| format!("keeping it in {}", folder.display()));
        report = report.and_then(|report| saved.map(|()| report));
    }
    let mut report = report?;
    report.duration_s = started.elapsed().as_secs_f64();
    Ok(report)
}

async fn play(program: &str, plan: Plan, scene: &Scene) -> anyhow::Result<Report> {
    let Plan { mut seed, phases, rate, reshard_interval, work_ms, old_after, progress, .. } = plan;
    let config = Setting {
        kills: phases.len() as u64,
        phases: phases.iter().collect::<BTreeSet<_>>().len() as u64,
        rate,
        flush_interval_ms: plan.flush_interval_ms,
        reshard_interval_ms: reshard_interval.as_millis() as u64,
        sections: scene.settings.sections.clone(),
    };
    let s3 = scene.s3()?;
    let mut poster = scene.poster(seed.value());
    let log = Arc::clone(&poster.log);
    let (posting, watching) = (CancellationToken::new(), CancellationToken::new());
    let reshard_seed = Seed::from(seed.below(u64::MAX));
    let mut killer = Killer {
        scene,
        s3,
        program,
        seed: seed.clone(),
        work_ms,
        frozen_max: old_after / 5,
        progress: progress.then_some(&*log),
        deaths: Deaths::default(),
    };
    let work = async {
        let killing = async {
            let killed = killer.kill_all(phases).await;
            posting.cancel();
            killed
        };
        let names = Kind::ALL.map(Kind::name);
        let resharding = reshard::keep_resharding(&scene.kinesis, &names, reshard_interval, reshard_seed, &posting);
        let (posted, killed, reshards) = tokio::join!(poster.post_until(rate, &posting), killing, resharding);
        let done = posted.and(killed).and(reshards);
        let done = match done {
            Ok(reshards) => finish(&mut killer, &log).await.map(|()| reshards),
            Err(error) => Err(error),
        };
        watching.cancel();
        done
    };
    let (reshards, witness) = tokio::join!(work, Witness::default().watch(s3, old_after, &watching));
    let (reshards, witness) = (reshards?, witness.context("watching the commits")?);
    let verdict = scene.look(&log).await?;
    let mut disorder = BTreeMap::new();
    for kind in Kind::ALL {
        let parents = reshard::parents(&scene.kinesis, kind.name()).await?;
        disorder.insert(kind, witness.out_of_order(kind, &parents).into_values().sum());
    }
    let seen = Seen { disorder, reshards, commits: witness.commits() };
    Ok(Report::new(seed.value(), config, killer.deaths, &verdict, &seen))
}

/// The last one may do its work to the end, and drain.
async fn finish(killer: &mut Killer<'_>, log: &AcceptedLog) -> anyhow::Result<()> {
    let mut last = killer.scene.spawn(killer.program)?;
    killer.scene.caught_up(log, &mut last).await?;
    killer.put_down(last).await
}

/// Writes logs, configuration and the lake's objects into a folder.
fn save(scene: &Scene, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    for entry in std::fs::read_dir(scene.folder())? {
        let path = entry?.path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            std::fs::copy(&path, folder.join(name))?;
        }
    }
    let s3 = scene.s3()?;
    for key in s3.keys("") {
        let file = folder.join("lake").join(&key);
        ensure!(file.starts_with(folder), "{key} is no path below {}", folder.display());
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&file, s3.get(&key).unwrap_or_default())?;
    }
    Ok(())
}
