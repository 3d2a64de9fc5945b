//! What was measured, turn by turn, and what follows from it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Context;
use pintail::demo::Kind;
use serde::{Serialize, Serializer};

use super::arithmetic::Spread;
use super::ceiling::Ceiling;
use super::compact::Compacted;
use super::compactions::CompactionLine;
use super::data::Lines;
use super::engines::{Engine, LeftOut};
use super::ours::{Job, Work};
use super::parts::OnThreads;
use super::service::{PartsTurn, Served};
use super::services::ServiceLine;
use super::{Plan, table};

/// Which of a stream's two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// The one with lines that are no JSON.
    Whole,
    /// The one without them.
    Valid,
}

impl Input {
    /// The file and how many lines it has.
    pub fn of(self, lines: &Lines) -> (&Path, u64) {
        match self {
            Self::Whole => (&lines.whole, lines.lines),
            Self::Valid => (&lines.valid, lines.records),
        }
    }
}

/// On which terms an engine takes part, by one kind of record.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Terms {
    /// The file that it works on; none if it can do neither.
    pub input: Option<Input>,
    /// Why it does not get the whole file, or none.
    pub excuse: Option<String>,
    /// How its table differs from Pintail's.
    pub differences: Vec<String>,
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.input, &self.excuse) {
            (None, excuse) => return write!(f, "takes no part: {}", excuse.as_deref().unwrap_or_default()),
            (Some(Input::Valid), Some(excuse)) => write!(f, "gets the valid lines only ({excuse}); ")?,
            (Some(_), _) => {}
        }
        match self.differences.as_slice() {
            [] => write!(f, "the same table"),
            some => write!(f, "differs: {}", some.join("; ")),
        }
    }
}

/// One piece of work of one process.
#[derive(Debug, Clone, Serialize)]
pub struct Turn {
    /// From 0.
    pub round: usize,
    /// The records.
    #[serde(serialize_with = "named")]
    pub kind: Kind,
    /// The work.
    pub job: Job,
    /// Pintail if it is nobody else.
    pub who: Option<Engine>,
    /// What it took.
    pub work: Option<Work>,
    /// Why it was not done.
    pub failure: Option<String>,
}

/// Paths 2 to 4 on some threads, in one round.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Threads {
    /// From 0.
    pub round: usize,
    /// The records.
    #[serde(serialize_with = "named")]
    pub kind: Kind,
    /// How many.
    pub threads: usize,
    /// What was found.
    pub found: OnThreads,
}

/// What several threads are to one.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Scaling {
    /// The records.
    #[serde(serialize_with = "named")]
    pub kind: Kind,
    /// How many.
    pub threads: usize,
    /// How many times the records of one thread, by the clock on the wall.
    pub by_wall: Spread,
    /// The same as it would be if every thread had its core to itself: by what a record costs each.
    pub by_cpu: Spread,
}

/// The ceiling of one round.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Ceilings {
    /// From 0.
    pub round: usize,
    /// The records.
    #[serde(serialize_with = "named")]
    pub kind: Kind,
    /// What was found.
    pub ceiling: Ceiling,
}

/// Who was how fast at one job.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// The records.
    #[serde(serialize_with = "named")]
    pub kind: Kind,
    /// The work.
    pub job: Job,
    /// Pintail if it is nobody else.
    pub who: Option<Engine>,
    /// Its version.
    pub version: String,
    /// The file that it worked on.
    pub input: Input,
    /// Lines in a second of CPU.
    pub lines_per_cpu_s: Spread,
    /// How many times Pintail's CPU it needs a line.
    pub times_pintail: Option<Spread>,
    /// The most that was resident at once, in any round.
    pub rss_peak_bytes: u64,
    /// Of Pintail: which part of the component ceiling's speed it has.
    pub of_ceiling: Option<Spread>,
    /// Of Pintail: the component ceiling, lines in a second of CPU.
    pub ceiling_lines_per_cpu_s: Option<Spread>,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The processor.
    pub machine: String,
    /// Processors that are there; the work has one.
    pub cores: usize,
    /// The one that everybody worked on.
    pub core: usize,
    /// How many others wanted a processor over the last minute, at the begin and at the end.
    pub load: (f64, f64),
    /// What was asked for.
    pub rounds: usize,
    /// Shards of each stream of the service.
    pub shards: u32,
    /// Draws the dirt.
    pub seed: u64,
    /// By the name of the records.
    pub files: BTreeMap<&'static str, Lines>,
    /// On which terms everybody took part.
    #[serde(serialize_with = "terms")]
    pub terms: BTreeMap<(Kind, Engine), Terms>,
    /// Who took no part because this machine has not what it needs.
    pub left_out: Vec<LeftOut>,
    /// Every turn.
    pub turns: Vec<Turn>,
    /// Every round's ceilings.
    pub ceilings: Vec<Ceilings>,
    /// Every turn of the whole service.
    pub served: Vec<Served>,
    /// The parts of the service, in every round.
    pub parts: Vec<PartsTurn>,
    /// What is done in process, on one thread and on several, in every round.
    pub threads: Vec<Threads>,
    /// Every turn of the compactors.
    pub compacted: Vec<Compacted>,
    /// What follows.
    pub lines: Vec<Line>,
    /// What follows of the service.
    pub services: Vec<ServiceLine>,
    /// What follows of the threads.
    pub scalings: Vec<Scaling>,
    /// What follows of the compactors.
    pub compactions: Vec<CompactionLine>,
    /// Everything that must not be, in words.
    pub violations: Vec<String>,
}

impl Report {
    /// Before the first turn.
    pub fn new(plan: &Plan, core: usize, files: &BTreeMap<Kind, Lines>) -> anyhow::Result<Self> {
        let load = load()?;
        Ok(Self {
            machine: processor()?,
            cores: std::thread::available_parallelism()?.get(),
            core,
            load: (load, load),
            rounds: plan.rounds,
            shards: plan.shards,
            seed: plan.seed,
            files: files.iter().map(|(kind, lines)| (kind.name(), lines.clone())).collect(),
            terms: BTreeMap::new(),
            left_out: Vec::new(),
            turns: Vec::new(),
            ceilings: Vec::new(),
            served: Vec::new(),
            parts: Vec::new(),
            threads: Vec::new(),
            compacted: Vec::new(),
            lines: Vec::new(),
            services: Vec::new(),
            scalings: Vec::new(),
            compactions: Vec::new(),
            violations: Vec::new(),
        })
    }

    /// The file that an engine works on.
    pub fn input_of(&self, kind: Kind, engine: Engine) -> Option<Input> {
        self.terms.get(&(kind, engine)).and_then(|terms| terms.input)
    }

    /// After the last turn.
    pub fn conclude(&mut self, plan: &Plan) -> anyhow::Result<()> {
        self.load.1 = load()?;
        let everybody = || std::iter::once(None).chain(plan.engines.iter().copied().map(Some));
        for (kind, _) in &plan.lines {
            for job in &plan.jobs {
                let lines: Vec<Line> = everybody().filter_map(|who| self.line(*kind, *job, who)).collect();
                self.lines.extend(lines);
            }
        }
        self.services = self.service_lines();
        self.compactions = self.compaction_lines();
        self.violations.extend(self.compaction_violations());
        self.scalings = plan.lines.iter().filter_map(|(kind, _)| self.scaling(*kind)).collect();
        for ((kind, engine), terms) in self.terms.iter().filter(|(_, terms)| terms.input.is_none()) {
            self.violations.push(format!("{} {}: {terms}", engine.name(), kind.name()));
        }
        for turn in &self.turns {
            if let (Some(engine), Some(failure)) = (turn.who, &turn.failure) {
                let (who, kind, job) = (engine.name(), turn.kind.name(), turn.job.as_str());
                self.violations.push(format!("{who} {kind} {job}, round {}: {failure}", turn.round + 1));
            }
        }
        Ok(())
    }

    fn line(&self, kind: Kind, job: Job, who: Option<Engine>) -> Option<Line> {
        let input = who.map_or(Some(Input::Whole), |engine| self.input_of(kind, engine))?;
        let works: Vec<&Work> = self.turns_of(kind, job, who).filter_map(|turn| turn.work.as_ref()).collect();
        let each_s = self.cpu_s_a_line(kind, job, who, false);
        let rates: Vec<f64> = each_s.iter().flatten().map(|each_s| 1.0 / each_s).collect();
        let ceilings_s = self.ceilings_s(kind, job);
        let ours_alone = || self.cpu_s_a_line(kind, job, None, true);
        let is_ours = who.is_none();
        Some(Line {
            kind,
            job,
            who,
            version: works.first()?.version.clone(),
            input,
            lines_per_cpu_s: Spread::of(&rates)?,
            times_pintail: (!is_ours)
                .then(|| Spread::of_ratios(&each_s, &self.cpu_s_a_line(kind, job, None, false)))
                .flatten(),
            rss_peak_bytes: works.iter().map(|work| work.rss_peak_bytes).max()?,
            of_ceiling: is_ours.then(|| Spread::of_ratios(&ceilings_s, &ours_alone())).flatten(),
            ceiling_lines_per_cpu_s: is_ours
                .then(|| Spread::of(&ceilings_s.iter().flatten().map(|each_s| 1.0 / each_s).collect::<Vec<f64>>()))
                .flatten(),
        })
    }

    fn scaling(&self, kind: Kind) -> Option<Scaling> {
        let of_kind = || self.threads.iter().filter(move |turn| turn.kind == kind);
        let threads = of_kind().map(|turn| turn.threads).max().filter(|threads| *threads > 1)?;
        let by_round = |threads: usize, of: fn(&OnThreads) -> f64| -> Vec<Option<f64>> {
            let found = |round| of_kind().find(|turn| (turn.round, turn.threads) == (round, threads));
            (0..self.rounds).map(|round| found(round).map(|turn| of(&turn.found))).collect()
        };
        let wall = |threads| by_round(threads, |found| found.records_per_s);
        let cores = threads as f64;
        let cpu = by_round(1, |found| found.cpu_ns).into_iter().map(|ns| ns.map(|ns| ns * cores)).collect::<Vec<_>>();
        let by_wall = Spread::of_ratios(&wall(threads), &wall(1))?;
        let by_cpu = Spread::of_ratios(&cpu, &by_round(threads, |found| found.cpu_ns))?;
        Some(Scaling { kind, threads, by_wall, by_cpu })
    }

    fn turns_of(&self, kind: Kind, job: Job, who: Option<Engine>) -> impl Iterator<Item = &Turn> {
        self.turns.iter().filter(move |turn| (turn.kind, turn.job, turn.who) == (kind, job, who))
    }

    /// By round. Without the reading of the file, if that is wanted: the ceiling has none.
    pub(super) fn cpu_s_a_line(
        &self,
        kind: Kind,
        job: Job,
        who: Option<Engine>,
        without_reading: bool,
    ) -> Vec<Option<f64>> {
        let input = who.map_or(Some(Input::Whole), |engine| self.input_of(kind, engine));
        let lines = input.and_then(|input| Some(input.of(self.files.get(kind.name())?).1));
        let mut each_s = vec![None; self.rounds];
        for turn in self.turns_of(kind, job, who) {
            if let (Some(slot), Some(work), Some(lines)) = (each_s.get_mut(turn.round), &turn.work, lines) {
                let reading_s = work.reading_s.filter(|_| without_reading).unwrap_or_default();
                *slot = Some((work.cpu_s - reading_s) / lines as f64);
            }
        }
        each_s
    }

    fn ceilings_s(&self, kind: Kind, job: Job) -> Vec<Option<f64>> {
        let of_round = |round| self.ceilings.iter().find(|found| (found.round, found.kind) == (round, kind));
        (0..self.rounds).map(|round| of_round(round)?.ceiling.ns(kind, job).map(|ns| ns / 1e9)).collect()
    }

    /// For people.
    pub fn table(&self) -> String {
        table::render(self)
    }
}

/// The one-minute load average.
fn load() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").context("/proc/loadavg")?;
    text.split_whitespace()
        .next()
        .and_then(|load| load.parse().ok())
        .with_context(|| format!("/proc/loadavg: {text:?}"))
}

fn processor() -> anyhow::Result<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Ok(model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned()))
}

fn named<S: Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

fn terms<S: Serializer>(terms: &BTreeMap<(Kind, Engine), Terms>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer
        .collect_map(terms.iter().map(|((kind, engine), terms)| (format!("{} {}", engine.name(), kind.name()), terms)))
}
