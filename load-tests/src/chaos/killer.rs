//! Starts processes and kills them, one phase after the other.

use std::collections::{BTreeMap, VecDeque};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use pintail::demo::Kind;
use pintail::demo::accepted::AcceptedLog;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::phase::{self, Phase, name};
use super::report::Deaths;
use super::witness::AGED_BY;
use crate::child::Child;
use crate::s3::{At, Fault, S3Server};
use crate::scene::{Instance, Scene};
use crate::seed::Seed;
use crate::usage::Usage;

/// A phase that is not reached by then is tried again later.
const PHASE_PATIENCE: Duration = Duration::from_secs(25);

/// The same for phases of maintenance, which has the lowest priority on a busy machine.
const MAINTENANCE_PATIENCE: Duration = Duration::from_secs(50);

/// Phases are waited for in vain so often before they are given up.
const TRIES_MAX: u64 = 4;

/// Kills processes on one scene.
pub struct Killer<'a> {
    pub scene: &'a Scene,
    pub s3: &'a S3Server,
    /// The binary that runs as Pintail.
    pub program: &'a str,
    pub seed: Seed,
    /// A process that has this long works, unless the machine is very busy.
    pub work_ms: u64,
    /// No process is frozen for longer.
    pub frozen_max: Duration,
    /// For the progress lines; `None`: silence.
    pub progress: Option<&'a AcceptedLog>,
    pub deaths: Deaths,
}

impl Killer<'_> {
    /// Goes through the phases, those that were not reached once more at the end.
    pub async fn kill_all(&mut self, phases: Vec<Phase>) -> anyhow::Result<()> {
        let mut left: VecDeque<Phase> = phases.into();
        self.deaths.kills_by_phase = phase::all().map(|phase| (phase, 0)).collect();
        let mut new_lake = left.iter().any(|phase| phase.is_of_a_new_lake());
        while let Some(phase) = left.pop_front() {
            if new_lake && !phase.is_of_a_new_lake() {
                new_lake = false;
                self.complete_the_lake().await?;
            }
            let started = Instant::now();
            let before = self.deaths.kills;
            self.kill_in(phase).await.with_context(|| format!("phase {}", name(phase)))?;
            let reached = self.deaths.kills > before;
            if !reached {
                let vain = self.deaths.waited_in_vain.entry(phase).or_default();
                *vain += 1;
                if *vain < TRIES_MAX {
                    left.push_back(phase);
                }
            }
            self.tell(phase, reached, started, left.len());
        }
        Ok(())
    }

    /// Kills in one phase, if it is reached.
    async fn kill_in(&mut self, phase: Phase) -> anyhow::Result<()> {
        match phase {
            Phase::StartUp => self.kill_after(phase, 500).await,
            Phase::Anywhere => self.kill_after(phase, 2 * self.work_ms).await,
            Phase::Zombie => self.haunt().await,
            Phase::Twins => self.twins().await,
            Phase::Drain => self.drain().await,
            Phase::TableCreation | Phase::FirstCommitBefore | Phase::FirstCommitAfter => {
                self.on_a_new_lake(phase).await
            }
            Phase::DataPut
            | Phase::CommitBefore
            | Phase::CommitAfter
            | Phase::FollowerBefore
            | Phase::FollowerAfter
            | Phase::ShardEndBefore
            | Phase::ShardEndAfter
            | Phase::CheckpointPut
            | Phase::LastCheckpointPut
            | Phase::LogCleanupDelete
            | Phase::CompactionDataPut
            | Phase::CompactionCommitBefore
            | Phase::CompactionCommitAfter
            | Phase::SealDataPut
            | Phase::SealCommitBefore
            | Phase::SealCommitAfter
            | Phase::VacuumDelete => self.aim(phase, Kind::ALL.to_vec()).await,
        }
    }

    // === Aimed ===

    /// Kills one when a request of one of these streams is the phase's instant.
    async fn aim(&mut self, phase: Phase, of: Vec<Kind>) -> anyhow::Result<()> {
        if phase == Phase::VacuumDelete {
            self.plant_an_orphan();
        }
        let mut child = self.spawn()?;
        // Not always the first request of its kind; but vacuum comes once a start, and a table is made once.
        let is_rare = phase.is_of_a_new_lake() || phase.is_of_maintenance();
        sleep(self.moment(if is_rare { 0 } else { self.work_ms })).await;
        let at = phase.at(&mut self.seed);
        let folders: Vec<String> = of.iter().map(|kind| format!("/{}/", kind.name())).collect();
        let any = of.len() == Kind::ALL.len();
        let is_it = move |request: &crate::s3::Request<'_>| {
            phase.is_reached_by(request) && (any || folders.iter().any(|folder| request.key.contains(folder)))
        };
        let mut held = self.s3.faults().hold(is_it, at);
        let patience = if phase.is_of_maintenance() { MAINTENANCE_PATIENCE } else { PHASE_PATIENCE };
        let reached = timeout(patience, held.reached()).await.is_ok();
        if reached {
            self.kill(child, phase).await
        } else {
            self.check(&mut child);
            self.put_down(child).await
        }
    }

    /// As [`Self::aim`] while the tables are being made: stream by stream, with the others held back.
    async fn on_a_new_lake(&mut self, phase: Phase) -> anyhow::Result<()> {
        let nth = self.deaths.kills_by_phase.get(&phase).copied().unwrap_or_default();
        let kind = Kind::ALL[nth as usize % Kind::ALL.len()];
        let folder = format!("/{}/", kind.name());
        let another =
            move |request: &crate::s3::Request<'_>| phase.is_reached_by(request) && !request.key.contains(&folder);
        let others = self.s3.faults().add(another, Fault::Stall, None);
        let killed = self.aim(phase, vec![kind]).await;
        self.s3.faults().remove(others);
        killed
    }

    /// An upload of long ago whose commit never came. Killed processes leave such, but the last vacuum may just have
    /// found them all.
    fn plant_an_orphan(&mut self) {
        let table = Kind::ALL[self.seed.below(Kind::ALL.len() as u64) as usize].name();
        let key = format!("tables/{table}/_date=2026-01-01/part-{:016x}.zstd.parquet", self.seed.below(u64::MAX));
        self.s3.put(&key, Bytes::from_static(b"PAR1"));
        self.s3.age(&key, AGED_BY);
    }

    /// Lets one work until every stream is registered, so that every table is there.
    async fn complete_the_lake(&mut self) -> anyhow::Result<()> {
        let mut child = self.spawn()?;
        let registered = crate::wait::until("every stream is registered", async || {
            child.alive()?;
            for kind in Kind::ALL {
                if self.scene.ledger(kind).await?.shards.is_empty() {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        });
        registered.await.with_context(|| child.story())?;
        self.put_down(child).await
    }

    // === By chance ===

    async fn kill_after(&mut self, phase: Phase, ms_max: u64) -> anyhow::Result<()> {
        let child = self.spawn()?;
        sleep(self.moment(ms_max)).await;
        self.kill(child, phase).await
    }

    /// Freezes one, half of the time while a commit of it is on its way; lets another take over; wakes it up; kills
    /// both.
    async fn haunt(&mut self) -> anyhow::Result<()> {
        let mut zombie = self.spawn()?;
        sleep(self.moment(self.work_ms)).await;
        let commits = [Phase::CommitBefore, Phase::CommitAfter, Phase::FollowerBefore, Phase::CompactionCommitBefore];
        let in_commit = commits.get(self.seed.below(2 * commits.len() as u64) as usize).copied();
        let mut held = None;
        if let Some(phase) = in_commit {
            let at = phase.at(&mut self.seed);
            let hold = held.insert(self.s3.faults().hold(move |request| phase.is_reached_by(request), at));
            // If there is no such commit just now, it is frozen without one.
            timeout(self.frozen_max, hold.reached()).await.ok();
        }
        if !self.check(&mut zombie) {
            return self.put_down(zombie).await;
        }
        zombie.freeze()?;
        let other = self.spawn()?;
        sleep(self.frozen_max / 2 + self.moment(self.frozen_max.as_millis() as u64 / 4)).await;
        // What was on its way arrives while its sender is still frozen.
        drop(held);
        sleep(self.moment(self.frozen_max.as_millis() as u64 / 4)).await;
        zombie.thaw()?;
        self.deaths.frozen += 1;
        sleep(self.moment(self.work_ms)).await;
        self.kill_both(zombie, other, Phase::Zombie).await
    }

    async fn twins(&mut self) -> anyhow::Result<()> {
        let first = self.spawn()?;
        sleep(self.moment(self.work_ms)).await;
        let second = self.spawn()?;
        sleep(Duration::from_millis(self.work_ms) + self.moment(self.work_ms)).await;
        self.kill_both(first, second, Phase::Twins).await
    }

    async fn kill_both(&mut self, one: Child, other: Child, phase: Phase) -> anyhow::Result<()> {
        let (first, second) = if self.seed.below(2) == 0 { (one, other) } else { (other, one) };
        self.kill(first, phase).await?;
        sleep(self.moment(self.work_ms)).await;
        self.kill(second, phase).await
    }

    /// SIGTERM, with enough time to drain for one, and a death in the middle of it for another.
    async fn drain(&mut self) -> anyhow::Result<()> {
        let polite = self.spawn()?;
        sleep(Duration::from_millis(self.work_ms) + self.moment(self.work_ms)).await;
        self.put_down(polite).await?;
        let mut hurried = self.spawn()?;
        let mut works = self.s3.faults().hold(|request| Phase::DataPut.is_reached_by(request), At::Before);
        let has_work = timeout(PHASE_PATIENCE, works.reached()).await.is_ok();
        if !has_work || !self.check(&mut hurried) {
            return self.put_down(hurried).await;
        }
        let steps = [Phase::CommitBefore, Phase::CommitAfter, Phase::FollowerBefore, Phase::FollowerAfter];
        let step = steps[self.seed.below(steps.len() as u64) as usize];
        let at = step.at(&mut self.seed);
        let mut held = self.s3.faults().hold(move |request| step.is_reached_by(request), at);
        hurried.ask_to_end().await?;
        works.release();
        tokio::select! {
            () = held.reached() => self.kill(hurried, Phase::Drain).await,
            // It had nothing left to do.
            status = hurried.ended() => self.has_drained(&hurried, status?),
        }
    }

    // === Processes ===

    fn spawn(&self) -> anyhow::Result<Child> {
        self.scene.spawn(self.program)
    }

    fn moment(&mut self, ms_max: u64) -> Duration {
        Duration::from_millis(self.seed.below(ms_max.max(1)))
    }

    /// SIGKILL, and what is to be written down about it.
    async fn kill(&mut self, mut child: Child, phase: Phase) -> anyhow::Result<()> {
        if self.check(&mut child) {
            self.measure(&child)?;
            child.kill().await?;
            self.deaths.kills += 1;
            self.deaths.aimed_kills += u64::from(phase.is_aimed());
            *self.deaths.kills_by_phase.entry(phase).or_default() += 1;
        }
        self.note(&child)
    }

    /// SIGTERM; it must drain and end with 0.
    pub async fn put_down(&mut self, mut child: Child) -> anyhow::Result<()> {
        if !self.check(&mut child) {
            return self.note(&child);
        }
        self.measure(&child)?;
        child.ask_to_end().await?;
        let status = child.ended().await?;
        self.has_drained(&child, status)
    }

    fn has_drained(&mut self, child: &Child, status: ExitStatus) -> anyhow::Result<()> {
        if status.code() == Some(0) {
            self.deaths.drains += 1;
        } else {
            self.deaths.wrong.push(format!("after SIGTERM a process ended with {status}; {}", child.story()));
        }
        self.note(child)
    }

    fn measure(&mut self, child: &Child) -> anyhow::Result<()> {
        let peak_bytes = Usage::of(child.pid()?)?.rss_peak_bytes;
        self.deaths.rss_peak_bytes = self.deaths.rss_peak_bytes.max(peak_bytes);
        Ok(())
    }

    /// Whether it still runs; nothing that is done to it is a reason to end by itself.
    fn check(&mut self, child: &mut Child) -> bool {
        match child.alive() {
            Ok(()) => true,
            Err(error) => {
                self.deaths.wrong.push(format!("{error:#} by itself; {}", child.story()));
                false
            }
        }
    }

    /// Adds up what its log says.
    fn note(&mut self, child: &Child) -> anyhow::Result<()> {
        self.deaths.fenced += child.lines(&["\"fenced: "])?.len() as u64;
        self.deaths.alarms += child.lines(&["records were trimmed before they were read"])?.len() as u64;
        for line in child.lines(&["\"level\":\"ERROR\""])? {
            let entry: BTreeMap<String, Value> = serde_json::from_str(&line).unwrap_or_default();
            let message = entry.get("message").and_then(Value::as_str).unwrap_or(&line).to_owned();
            *self.deaths.errors_logged.entry(message).or_default() += 1;
        }
        Ok(())
    }

    fn tell(&self, phase: Phase, reached: bool, started: Instant, left: usize) {
        if let Some(log) = self.progress {
            let (kills, seconds) = (self.deaths.kills, started.elapsed().as_secs_f64());
            let records: u64 = Kind::ALL.iter().map(|kind| log.count(kind.name())).sum();
            let outcome = if reached { "killed in" } else { "not reached:" };
            let name = name(phase);
            eprintln!("{kills:>4} kills, {left:>3} phases left  {outcome} {name} ({seconds:.1} s)  {records} records");
        }
    }
}
