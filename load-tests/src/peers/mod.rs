//! `peers`: Pintail and other engines at the same work, in turns, in one sitting.
//!
//! A figure of one day and a figure of another cannot be compared, nor two that were taken while the machine did
//! something else. So everybody works on the same records on the same core, one after the other, round after round, and
//! what is told are ratios within a round. Nobody's work counts before it was looked at: rows, nulls and sums of each column
//! are held against Pintail's, which is held against the number of records that were written.

pub mod args;
pub mod arithmetic;
pub mod ceiling;
mod clock;
pub mod compact;
mod compactions;
pub mod data;
mod engines;
mod java;
pub mod ours;
pub mod parts;
mod process;
pub mod profile;
mod report;
pub mod service;
mod services;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use pintail::demo::Kind;
use tempfile::TempDir;

use self::ceiling::Ceiling;
use self::data::Lines;
pub use self::engines::Engine;
use self::ours::{Job, Work};
use self::profile::Profile;
use self::report::{Ceilings, Threads, Turn};
pub use self::report::{Input, Report, Terms};
use self::service::{Mix, Sittings};

/// Each thread has so many lines at most; what it is given is in memory before the clock starts.
const THREAD_LINES: u64 = 1_000_000;

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How often everybody has a turn.
    pub rounds: usize,
    /// Against whom.
    pub engines: Vec<Engine>,
    /// At what, from a file of records.
    pub jobs: Vec<Job>,
    /// Of how many records a stream the whole service is measured; not at all of none.
    pub served: u64,
    /// Of how many pins the tables are that are compacted; not at all of none.
    pub compacted: u64,
    /// How many shards each of its streams has.
    pub shards: u32,
    /// Whether what is done in process is measured on one core and on all of them.
    pub cores: bool,
    /// On which records, and how many lines of them.
    pub lines: Vec<(Kind, u32)>,
    /// Draws the dirt.
    pub seed: u64,
    /// The core; the last one if none is named.
    pub core: Option<usize>,
    /// Keeps records and engines from one run to the next.
    pub folder: PathBuf,
}

impl Plan {
    /// Whether the whole service is measured with these streams.
    fn serves(&self, mix: Mix) -> bool {
        self.served > 0 && mix.kinds().iter().all(|kind| self.lines.iter().any(|(wanted, _)| wanted == kind))
    }
}

/// Runs a plan; `program` is this package's binary. `Err` only if the run itself could not be done.
pub async fn run(program: &str, plan: &Plan) -> anyhow::Result<Report> {
    let core = plan.core.map_or_else(process::last_core, Ok)?;
    let alone = plan.jobs.is_empty() && plan.served == 0 && plan.compacted == 0;
    let wanted = if plan.jobs.is_empty() { &[] } else { plan.engines.as_slice() };
    let (engines, left_out) = engines::able(wanted).await;
    left_out.iter().for_each(|engine| eprintln!("{engine}"));
    let plan = &Plan { engines, ..plan.clone() };
    let python = if alone { String::new() } else { engines::install(&plan.folder).await? };
    let sitting = Sitting { program, python, core, scratch: tempfile::tempdir_in(&plan.folder)? };
    let mut files = BTreeMap::new();
    for (kind, count) in &plan.lines {
        files.insert(*kind, data::lines(&plan.folder.join("records"), *kind, *count, plan.seed)?);
    }
    let mut report = Report::new(plan, core, &files)?;
    report.left_out = left_out;
    for (kind, lines) in files.iter().filter(|_| !plan.jobs.is_empty()) {
        let truth = sitting.truth(*kind, lines).await?;
        for engine in &plan.engines {
            let terms = sitting.terms(*engine, *kind, lines, &truth).await;
            eprintln!("{} {}: {terms}", engine.name(), kind.name());
            report.terms.insert((*kind, *engine), terms);
        }
    }
    for round in (0..plan.rounds).filter(|_| !plan.jobs.is_empty()) {
        for (kind, lines) in &files {
            for job in &plan.jobs {
                let turns = sitting.round(plan, round, (*kind, *job), lines, &report).await?;
                report.turns.extend(turns);
            }
            let ceiling = sitting.ceiling(*kind, lines).await?;
            report.ceilings.push(Ceilings { round, kind: *kind, ceiling });
        }
        eprintln!("round {} of {} done", round + 1, plan.rounds);
    }
    for round in (0..plan.rounds).filter(|_| plan.cores) {
        for (kind, lines) in &files {
            report.threads.extend(sitting.threads(round, *kind, lines).await?);
        }
        eprintln!("one core and all of them: round {} of {} done", round + 1, plan.rounds);
    }
    sitting.services(plan, &files, &mut report).await;
    sitting.compaction(plan, &files, &mut report).await;
    report.conclude(plan)?;
    Ok(report)
}

/// Where and with what everybody works.
struct Sitting<'a> {
    program: &'a str,
    python: String,
    core: usize,
    scratch: TempDir,
}

impl Sitting<'_> {
    /// Pintail's table, which has every record as a row, and nothing else.
    async fn truth(&self, kind: Kind, lines: &Lines) -> anyhow::Result<Profile> {
        let out = self.scratch.path().join("pintail");
        self.ours(kind, Job::Parquet, &lines.whole, &out).await?;
        let truth = profile_of(&out)?;
        ensure!(
            truth.rows == lines.records,
            "Pintail made {} rows of the {} {} records",
            truth.rows,
            lines.records,
            kind.name()
        );
        Ok(truth)
    }

    /// On what an engine can be measured, and whether its table is the same.
    async fn terms(&self, engine: Engine, kind: Kind, lines: &Lines, truth: &Profile) -> Terms {
        let on_whole = self.differences(engine, kind, &lines.whole, truth).await;
        let excuse = match on_whole {
            Ok(differences) if truth_has_its_rows(&differences) => {
                return Terms { input: Some(Input::Whole), excuse: None, differences };
            }
            Ok(differences) => differences.first().cloned().unwrap_or_default(),
            Err(error) => format!("{error:#}"),
        };
        match self.differences(engine, kind, &lines.valid, truth).await {
            Ok(differences) => Terms { input: Some(Input::Valid), excuse: Some(excuse), differences },
            Err(error) => Terms { input: None, excuse: Some(format!("{error:#}")), differences: Vec::new() },
        }
    }

    async fn differences(
        &self,
        engine: Engine,
        kind: Kind,
        input: &Path,
        truth: &Profile,
    ) -> anyhow::Result<Vec<String>> {
        let out = self.scratch.path().join("theirs.parquet");
        self.theirs(engine, kind, Job::Parquet, input, &out).await?;
        Ok(truth.differences(&profile_of(&out)?))
    }

    /// Everybody's turn at one job, each round beginning with another one.
    async fn round(
        &self,
        plan: &Plan,
        round: usize,
        (kind, job): (Kind, Job),
        lines: &Lines,
        report: &Report,
    ) -> anyhow::Result<Vec<Turn>> {
        let mut order: Vec<Option<Engine>> =
            std::iter::once(None).chain(plan.engines.iter().copied().map(Some)).collect();
        let first = round % order.len();
        order.rotate_left(first);
        let mut turns = Vec::new();
        for who in order {
            let out = self.scratch.path().join("turn.parquet");
            let done = match who {
                None => Ok(self.ours(kind, job, &lines.whole, &out).await?),
                Some(engine) => match report.input_of(kind, engine).map(|input| input.of(lines)) {
                    None => continue,
                    Some((input, _)) => self.theirs(engine, kind, job, input, &out).await,
                },
            };
            remove(&out)?;
            let (work, failure) = match done {
                Ok(work) => (Some(work), None),
                Err(error) => (None, Some(format!("{error:#}"))),
            };
            turns.push(Turn { round, kind, job, who, work, failure });
        }
        Ok(turns)
    }

    async fn ours(&self, kind: Kind, job: Job, input: &Path, out: &Path) -> anyhow::Result<Work> {
        let words = ["peers-room", "--kind", kind.name(), "--job", job.as_str()].map(AsRef::as_ref);
        let files = [Path::new("--out"), out, input].map(AsRef::as_ref);
        process::work(
            process::command::<&std::ffi::OsStr>(self.program, words.into_iter().chain(files)),
            Some(self.core),
        )
        .await
        .context("Pintail's rooms")
    }

    async fn theirs(&self, engine: Engine, kind: Kind, job: Job, input: &Path, out: &Path) -> anyhow::Result<Work> {
        let script = engine.script();
        let words = [script.as_os_str(), kind.name().as_ref(), job.as_str().as_ref(), input.as_ref(), out.as_ref()];
        remove(out)?;
        process::work(process::command(&self.python, words), Some(self.core)).await
    }

    /// Paths 2 to 4 on one core and on all of them, each round beginning with the other.
    async fn threads(&self, round: usize, kind: Kind, lines: &Lines) -> anyhow::Result<[Threads; 2]> {
        let mut counts = [1, std::thread::available_parallelism()?.get()];
        counts.rotate_left(round % 2);
        let count = lines.lines.min(THREAD_LINES);
        let mut turns = Vec::new();
        for threads in counts {
            let words = ["peers-parts", "--kind", kind.name(), "--threads", &threads.to_string()].map(str::to_owned);
            let counted = ["--count".to_owned(), count.to_string(), lines.whole.display().to_string()];
            let command = process::command(self.program, words.into_iter().chain(counted));
            let said = process::said(command, None).await.context("the rooms on several threads")?;
            turns.push(Threads { round, kind, threads, found: serde_json::from_str(&said)? });
        }
        <[Threads; 2]>::try_from(turns).map_err(|turns| anyhow::anyhow!("{} turns instead of two", turns.len()))
    }

    /// The whole service. What the others took all that time to show is not lost with it.
    async fn services(&self, plan: &Plan, files: &BTreeMap<Kind, Lines>, report: &mut Report) {
        let lines: Vec<(Kind, &Lines)> = files.iter().map(|(kind, lines)| (*kind, lines)).collect();
        for mix in Mix::ALL.into_iter().filter(|mix| plan.serves(*mix)) {
            let (rounds, lines) = ((mix, plan.shards, plan.rounds), (lines.as_slice(), plan.served));
            let mut sittings = Sittings::default();
            if let Err(error) = service::rounds(self.program, &self.python, rounds, lines, &mut sittings).await {
                report.violations.push(format!("the service, {}: {error:#}", mix.name()));
            }
            report.served.extend(sittings.served);
            report.parts.extend(sittings.parts);
        }
    }

    /// Small files into large ones, if there are pins; nothing is lost with it either.
    async fn compaction(&self, plan: &Plan, files: &BTreeMap<Kind, Lines>, report: &mut Report) {
        let Some(pins) = files.get(&Kind::Pin).filter(|_| plan.compacted > 0) else { return };
        let (programs, rounds) = ((self.program, self.python.as_str()), (plan.shards, plan.rounds));
        let done = compact::rounds(programs, rounds, (pins, plan.compacted), &mut report.compacted).await;
        if let Err(error) = done {
            report.violations.push(format!("compaction: {error:#}"));
        }
    }

    async fn ceiling(&self, kind: Kind, lines: &Lines) -> anyhow::Result<Ceiling> {
        let words = ["peers-ceiling", "--kind", kind.name()].map(AsRef::as_ref);
        let command =
            process::command::<&std::ffi::OsStr>(self.program, words.into_iter().chain([lines.valid.as_ref()]));
        Ok(serde_json::from_str(&process::said(command, Some(self.core)).await.context("the ceiling")?)?)
    }
}

/// Whether the differences are such that the table still has the rows that it should.
fn truth_has_its_rows(differences: &[String]) -> bool {
    differences.iter().all(|difference| !difference.contains(" rows instead of "))
}

/// Of what was written, which is removed.
fn profile_of(out: &Path) -> anyhow::Result<Profile> {
    let profile = Profile::of(out)?;
    remove(out)?;
    Ok(profile)
}

fn remove(out: &Path) -> anyhow::Result<()> {
    let removed = if out.is_dir() { std::fs::remove_dir_all(out) } else { std::fs::remove_file(out) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| out.display().to_string())
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
