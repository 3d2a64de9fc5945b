//! `pintail demo`: everything on this machine, from the first posted record to the reckoning.
//!
//! The processor is handed in as a function that starts it, so that this room knows nothing of how one is built, and
//! the reckoning nothing of what it believes to have done: it compares Kinesis's acknowledgements with the tables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use aws_config::SdkConfig;
use futures::future::BoxFuture;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::accepted::AcceptedLog;
use super::args::DemoArgs;
use super::fingerprint::ExpectedRows;
use super::kinesis::EmbeddedKinesis;
use super::latency::LatencyProbe;
use super::pinterest::{Emulation, Kind, Population};
use super::producer::{Counters, Pace, Plan, client, produce};
use super::progress::{Phase, Processed, Snapshot, StreamProgress, show};
use super::readback::{Reckoning, StreamTables, reckon};
use super::report::{Report, Usage};
use crate::record::ProbeRef;
use crate::say::{complain, say};
use crate::status::{StatusBoard, StreamSnapshot};

/// A processor that commits nothing for this long is not waited for any longer.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);

/// What the demo's processor is started with.
pub struct ProcessorSetup {
    /// Leads to the embedded Kinesis.
    pub sdk_config: SdkConfig,
    /// The streams, named as their kinds; each has its shipped contract ([`super::contracts::shipped`]).
    pub streams: [Kind; 3],
    /// An empty folder.
    pub lake: PathBuf,
    /// Port on 127.0.0.1 for the live page; `None`: any.
    pub port: Option<u16>,
    /// To be told how far records have come.
    pub probe: ProbeRef,
    /// Cancelled when it should drain and end.
    pub shutdown: CancellationToken,
}

/// A processor that has started.
pub struct Processor {
    /// Each stream's tables.
    pub tables: Vec<StreamTables>,
    /// What it is doing, for the progress lines.
    pub board: StatusBoard,
    /// Where the live page is.
    pub page: String,
    /// Repairs so far, by stream and kind.
    pub repairs: Box<dyn Fn() -> BTreeMap<String, BTreeMap<String, u64>> + Send + Sync>,
    /// Ends after `shutdown`, once everything in hand is in the lake.
    pub run: BoxFuture<'static, anyhow::Result<()>>,
}

/// Runs the demo until its time is over or `shutdown` resolves, prints the reckoning and writes the report file.
/// `Ok` says that the demo ran; whether anything was lost is for [`Report::is_clean`] to say.
pub async fn run<Started>(
    args: DemoArgs,
    start: impl FnOnce(ProcessorSetup) -> Started,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<Report>
where
    Started: Future<Output = anyhow::Result<Processor>>,
{
    let lake = empty_lake(args.lake.as_deref())?;
    // Before the demo, and not after it.
    if let Some(folder) = args.report.as_deref().and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty())
    {
        ensure!(folder.is_dir(), "--report: there is no folder {}", folder.display());
    }
    let names = Kind::ALL.map(Kind::name);
    let kinesis = EmbeddedKinesis::start(&names, args.shards).await?;
    let probe = Arc::new(LatencyProbe::default());
    let stop = CancellationToken::new();
    let setup = ProcessorSetup {
        sdk_config: kinesis.sdk_config(),
        streams: Kind::ALL,
        lake: lake.clone(),
        port: args.port,
        probe: Arc::clone(&probe) as ProbeRef,
        shutdown: stop.clone(),
    };
    let processor = start(setup).await.context("the demo's processor did not start")?;
    complain!("live page {}   tables {}", processor.page, lake.display());
    complain!("embedded Kinesis {} (streams {})", kinesis.endpoint(), names.join(", "));
    let demo = Demo {
        args,
        lake,
        probe,
        log: Arc::default(),
        counters: Arc::default(),
        board: processor.board,
        phase: AtomicU8::new(Phase::Posting as u8),
        started: Instant::now(),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(processor.run);
    let shown = CancellationToken::new();
    let work = async {
        let worked = demo.work(&kinesis, &mut tasks, &stop, &processor.tables, shutdown).await;
        shown.cancel();
        worked
    };
    let (report, ()) = tokio::join!(work, show(|| demo.snapshot(), shown.clone()));
    kinesis.shutdown().await;
    let report = Report { repairs: (processor.repairs)(), ..report? };
    demo.publish(&report)?;
    Ok(report)
}

struct Demo {
    args: DemoArgs,
    lake: PathBuf,
    probe: Arc<LatencyProbe>,
    log: Arc<AcceptedLog>,
    counters: Arc<Counters>,
    board: StatusBoard,
    phase: AtomicU8,
    started: Instant,
}

impl Demo {
    /// Post, wait for the lake, stop the processor, read back.
    async fn work(
        &self,
        kinesis: &EmbeddedKinesis,
        processor: &mut JoinSet<anyhow::Result<()>>,
        stop: &CancellationToken,
        tables: &[StreamTables],
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<Report> {
        let client = client(&kinesis.sdk_config());
        let plan = Plan {
            streams: Kind::ALL.map(|kind| kind.name().to_owned()),
            pace: Pace::Rate(self.args.rate),
            duration: Some(self.args.duration),
            records: None,
        };
        let actions = Emulation::new(Arc::new(Population::new()), self.args.emulation.options());
        let posting = produce(&client, actions, &plan, &self.counters, Some(&self.log), shutdown);
        tokio::select! {
            posted = posting => posted.context("posting failed")?,
            ended = processor.join_next() => bail!(too_early(ended)),
        }
        let posted_s = self.started.elapsed().as_secs_f64();
        self.enter(Phase::Draining);
        let caught_up = tokio::select! {
            caught_up = self.probe.caught_up(&self.log, DRAIN_PATIENCE) => caught_up,
            ended = processor.join_next() => bail!(too_early(ended)),
        };
        stop.cancel();
        match processor.join_next().await {
            Some(Ok(ended)) => ended.context("the processor failed while draining")?,
            Some(Err(panicked)) => bail!(panicked),
            None => bail!("the processor is gone"),
        }
        self.enter(Phase::ReadingBack);
        self.reckoned(tables, posted_s, caught_up).await
    }

    async fn reckoned(&self, tables: &[StreamTables], posted_s: f64, caught_up: bool) -> anyhow::Result<Report> {
        let Ok(root) = Url::from_directory_path(&self.lake) else {
            bail!("{} is no absolute path", self.lake.display());
        };
        let mut expected = ExpectedRows::new(Arc::new(Population::new()));
        let mut streams: Vec<(StreamTables, Reckoning)> = Vec::new();
        for tables in tables {
            let reckoning = reckon(&root, tables, self.log.stream(&tables.stream), &mut expected).await?;
            streams.push((tables.clone(), reckoning));
        }
        let names: Vec<String> = tables.iter().map(|tables| tables.stream.clone()).collect();
        Ok(Report {
            lake: self.lake.clone(),
            streams,
            repairs: BTreeMap::new(),
            latency_ms: self.probe.latencies(&self.log, &names),
            posted_s,
            caught_up,
            usage: Usage::of_this_process().context("the kernel does not say what this process used")?,
        })
    }

    fn publish(&self, report: &Report) -> anyhow::Result<()> {
        say!("{report}");
        if let Some(file) = &self.args.report {
            let json = serde_json::to_vec_pretty(&report.to_json())?;
            std::fs::write(file, json).with_context(|| format!("the report {} cannot be written", file.display()))?;
        }
        Ok(())
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn snapshot(&self) -> Snapshot {
        let boards = self.board.snapshot();
        let names = Kind::ALL.map(|kind| kind.name().to_owned());
        let phases = [Phase::Posting, Phase::Draining, Phase::ReadingBack];
        Snapshot {
            phase: phases[usize::from(self.phase.load(Ordering::Relaxed)).min(phases.len() - 1)],
            elapsed: self.started.elapsed(),
            total: Some(self.args.duration),
            window_p50_ms: self.probe.window_p50_so_far(&self.log, &names),
            streams: Kind::ALL
                .map(|kind| StreamProgress {
                    stream: kind.name().to_owned(),
                    posted: self.counters.acknowledged(kind),
                    processed: boards.get(kind.name()).map(processed),
                })
                .to_vec(),
        }
    }
}

fn processed(stream: &StreamSnapshot) -> Processed {
    let rows_of = |kind| stream.tables.values().filter(|table| table.kind == kind).map(|table| table.rows).sum();
    Processed {
        read: stream.shards.values().map(|shard| shard.records).sum(),
        rows: rows_of("rows"),
        rejects: rows_of("rejects"),
        behind_ms: stream.shards.values().filter_map(|shard| shard.behind_ms).max(),
    }
}

fn too_early(ended: Option<Result<anyhow::Result<()>, tokio::task::JoinError>>) -> anyhow::Error {
    match ended {
        Some(Ok(Err(error))) => error.context("the processor failed"),
        Some(Err(panicked)) => anyhow::Error::new(panicked).context("the processor failed"),
        Some(Ok(Ok(()))) | None => anyhow::anyhow!("the processor ended before it was told to"),
    }
}

/// `--lake` names a folder that is in use.
#[derive(Debug, thiserror::Error)]
#[error("--lake {}: the folder is not empty; name another one, or none for a fresh one", .0.display())]
pub struct NotEmpty(PathBuf);

/// A fresh folder, or the given one if there is nothing in it: a demo never writes into tables that exist.
fn empty_lake(asked: Option<&Path>) -> anyhow::Result<PathBuf> {
    let folder = match asked {
        Some(folder) => folder.to_owned(),
        None => std::env::temp_dir().join(format!("pintail-demo-{}", uuid::Uuid::new_v4().simple())),
    };
    let cannot = || format!("--lake {}: cannot be used", folder.display());
    std::fs::create_dir_all(&folder).with_context(cannot)?;
    if std::fs::read_dir(&folder).with_context(cannot)?.next().is_some() {
        return Err(NotEmpty(folder).into());
    }
    folder.canonicalize().with_context(cannot)
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;
    use crate::checkpoint::{Position, PositionRange, SequenceNumber, ShardId};

    fn args(line: &str) -> DemoArgs {
        let command = <DemoArgs as clap::Args>::augment_args(Command::new("demo").no_binary_name(true));
        DemoArgs::from_arg_matches(&command.get_matches_from(line.split_whitespace())).unwrap()
    }

    /// Says that it has committed everything, and has committed nothing.
    fn liar(setup: ProcessorSetup) -> impl Future<Output = anyhow::Result<Processor>> {
        let tables = setup.streams.map(|kind| StreamTables {
            stream: kind.name().to_owned(),
            kind,
            rows: kind.name().to_owned(),
            rejects: format!("{}_rejects", kind.name()),
        });
        let run = async move {
            setup.shutdown.cancelled().await;
            Ok(())
        };
        let claim = Position::After(SequenceNumber::parse(&"9".repeat(60)).unwrap());
        for kind in setup.streams {
            for shard in ["shardId-000000000000", "shardId-000000000001"] {
                let shard = ShardId::new(shard);
                let after = Position::Beginning;
                let range = PositionRange { shard, after, through: claim };
                setup.probe.committed(kind.name(), &[range]);
            }
        }
        std::future::ready(Ok(Processor {
            tables: tables.to_vec(),
            board: StatusBoard::default(),
            page: String::new(),
            repairs: Box::new(BTreeMap::new),
            run: Box::pin(run),
        }))
    }

    #[tokio::test]
    async fn a_processor_that_claims_what_it_did_not_do_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let (lake, file) = (folder.path().join("lake"), folder.path().join("report.json"));
        let line = format!("--duration 300ms --rate 2000/s --lake {} --report {}", lake.display(), file.display());
        let report = run(args(&line), liar, std::future::pending()).await.unwrap();
        assert!(!report.is_clean());
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let posted: u64 = json["posted"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
        assert!(posted > 100, "{json}");
        assert_eq!(json["lost"].as_u64(), Some(posted));
    }

    #[test]
    fn a_folder_with_something_in_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
        let refused = empty_lake(Some(folder.path())).unwrap_err().to_string();
        assert!(refused.contains("not empty"), "{refused}");
    }
}
