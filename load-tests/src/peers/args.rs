//! `peers` on the command line, and the two commands that it calls itself by.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use pintail::demo::Kind;

use super::ceiling::Ceiling;
use super::compact;
use super::ours::{self, Job};
use super::{Engine, Plan};
use crate::cli::{check_writable, publish, tell_verdict};

/// From where to where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Path {
    /// JSON lines to cleaned columns in memory
    Clean,
    /// JSON lines to Parquet under zstd 1
    Parquet,
    /// JSON to Parquet and windows in one process, on one core and on all of them
    Cores,
    /// The whole service, from a local Kinesis to commits on a local S3, against a consumer in Python
    Service,
    /// Small files of a Delta table to large ones in a folder, by `pintail maintain` and by delta-rs from Python
    Compact,
}

impl Path {
    fn job(self) -> Option<Job> {
        match self {
            Self::Clean => Some(Job::Clean),
            Self::Parquet => Some(Job::Parquet),
            Self::Cores | Self::Service | Self::Compact => None,
        }
    }
}

/// `peers`
#[derive(Debug, Args)]
pub struct PeersArgs {
    /// How often everybody has a turn; less than five say little
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Only these engines
    #[arg(long, value_name = "ENGINES", value_enum, value_delimiter = ',', default_values_t = Engine::value_variants().iter().copied())]
    only: Vec<Engine>,
    /// Only these paths
    #[arg(long, value_name = "PATHS", value_enum, value_delimiter = ',', default_values_t = Path::value_variants().iter().copied())]
    paths: Vec<Path>,
    /// Only these records
    #[arg(long, value_name = "KINDS", value_delimiter = ',', default_value = "pin,geo,user", value_parser = kind)]
    kinds: Vec<Kind>,
    /// Lines of pins, 700 bytes each
    #[arg(long, value_name = "N", default_value_t = 300_000, value_parser = clap::value_parser!(u32).range(1..))]
    pins: u32,
    /// Lines of geo records, 100 bytes each
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    geos: u32,
    /// Lines of user records, 100 bytes each
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    /// Records of each stream that the whole service gets, and pins that are compacted; not more than there are lines
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    served: u32,
    /// Shards of each of its streams. Pintail takes no more of a shard than Kinesis gives, so few of them leave it idle
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    shards: u32,
    /// Draws the dirt in the records
    #[arg(long, value_name = "N", default_value_t = 7)]
    seed: u64,
    /// The core that everybody works on [default: the last]
    #[arg(long, value_name = "N")]
    core: Option<usize>,
    /// Where engines and records are kept from one run to the next [default: ~/.cache/pintail-peers]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Where the report goes, as JSON
    #[arg(long, value_name = "FILE", default_value = "peers.json")]
    report: PathBuf,
}

impl PeersArgs {
    /// Measures, prints the table and writes the report; whether every promise held.
    pub async fn run(&self, program: &str) -> anyhow::Result<bool> {
        let plan = self.plan()?;
        check_writable(&self.report)?;
        let report = super::run(program, &plan).await?;
        println!("{}", report.table());
        publish(&self.report, &report)?;
        tell_verdict(&report.violations);
        Ok(report.violations.is_empty())
    }

    /// What they ask for.
    fn plan(&self) -> anyhow::Result<Plan> {
        let lines = |kind| match kind {
            Kind::Pin => self.pins,
            Kind::Geo => self.geos,
            Kind::User => self.users,
        };
        let in_home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/pintail-peers"));
        let folder = self.folder.clone().or_else(in_home).context("there is no HOME; say --folder DIR")?;
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        ensure!(!cfg!(debug_assertions), "a debug build says nothing about speed; run it with cargo run --release");
        let paths = without_repeats(&self.paths);
        let kinds = without_repeats(&self.kinds);
        let serves = paths.contains(&Path::Service);
        let fewest = kinds.iter().map(|kind| lines(*kind)).min().unwrap_or_default();
        ensure!(
            !serves || self.served <= fewest,
            "--served {} is more than the {fewest} lines of a stream",
            self.served
        );
        let compacts = paths.contains(&Path::Compact) && kinds.contains(&Kind::Pin);
        ensure!(
            !compacts || (compact::PINS_MIN..=self.pins).contains(&self.served),
            "--served {} makes no table that says something of compaction; expected {} to {} (--pins), or other --paths",
            self.served,
            compact::PINS_MIN,
            self.pins
        );
        Ok(Plan {
            rounds: usize::try_from(self.rounds)?,
            engines: without_repeats(&self.only),
            jobs: paths.iter().copied().filter_map(Path::job).collect(),
            cores: paths.contains(&Path::Cores),
            shards: self.shards,
            served: if serves { u64::from(self.served) } else { 0 },
            compacted: if compacts { u64::from(self.served) } else { 0 },
            lines: kinds.into_iter().map(|kind| (kind, lines(kind))).collect(),
            seed: self.seed,
            core: self.core,
            folder: folder.canonicalize()?,
        })
    }
}

fn without_repeats<T: Copy + Ord>(items: &[T]) -> Vec<T> {
    let mut items = items.to_vec();
    items.sort_unstable();
    items.dedup();
    items
}

/// `peers-room`
#[derive(Debug, Args)]
pub struct PeersRoomArgs {
    #[arg(long, value_parser = kind)]
    kind: Kind,
    #[arg(long, value_enum)]
    job: Job,
    #[arg(long)]
    out: PathBuf,
    input: PathBuf,
}

impl PeersRoomArgs {
    /// Does the work, and prints what it took.
    pub fn run(&self) -> anyhow::Result<()> {
        let work = ours::work(self.kind, self.job, &self.input, &self.out)?;
        println!("{}", serde_json::to_string(&work)?);
        Ok(())
    }
}

/// `peers-ceiling`
#[derive(Debug, Args)]
pub struct PeersCeilingArgs {
    #[arg(long, value_parser = kind)]
    kind: Kind,
    valid: PathBuf,
}

impl PeersCeilingArgs {
    /// Measures, and prints what was found.
    pub fn run(&self) -> anyhow::Result<()> {
        println!("{}", serde_json::to_string(&Ceiling::measure(self.kind, &self.valid)?)?);
        Ok(())
    }
}

/// `peers-maintain`
#[derive(Debug, Args)]
pub struct PeersMaintainArgs {
    config: PathBuf,
}

impl PeersMaintainArgs {
    /// Maintains the tables, and prints what it took.
    pub fn run(&self) -> anyhow::Result<()> {
        println!("{}", serde_json::to_string(&compact::maintain(&self.config)?)?);
        Ok(())
    }
}

pub(super) fn kind(name: &str) -> Result<Kind, String> {
    let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    found.ok_or_else(|| format!("expected one of {}", Kind::ALL.map(Kind::name).join(", ")))
}
