//! The lake's writer, driven without a reader: one batch of one record at a time, each awaited.

use std::sync::Arc;

use anyhow::Context;
use pintail::budget::{Budget, Permit};
use pintail::checkpoint::{LedgerHandle, Position, PositionRange, SequenceNumber, ShardId};
use pintail::clean::Cleaner;
use pintail::contract::{self, Contract};
use pintail::demo::Kind;
use pintail::demo::accepted::AcceptedLog;
use pintail::lake::{LakeStore, Maintainer, MaintenanceOptions, StreamIdentity, StreamLake, Writer, WriterOptions};
use pintail::metrics::Registry;
use pintail::record::{CleanBatch, Probe, RawBatch, RawRecord, ShardGrant, WindowSink};
use pintail::status::StatusBoard;
use pintail::toml_doc::Problems;
use pintail::window::StreamWindows;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Plan, ms};
use crate::scene::Scene;

/// The pipeline of every scene.
const PIPELINE: &str = "e2e";

/// More small files than there will be.
const NEVER: usize = 1 << 40;

/// Hears of commits.
struct Told(watch::Sender<u64>);

impl Probe for Told {
    fn counted(&self, _stream: &str, _range: &PositionRange) {}

    fn committed(&self, _stream: &str, _ranges: &[PositionRange]) {
        self.0.send_modify(|commits| *commits += 1);
    }
}

/// A stream's writer and its maintenance.
pub struct Committing {
    store: LakeStore,
    identity: StreamIdentity,
    contract: Arc<Contract>,
    cleaner: Cleaner,
    windows: Arc<StreamWindows>,
    maintainer: Maintainer,
    followers: Vec<String>,
    shard: ShardId,
    position: Position,
    numbers: std::vec::IntoIter<SequenceNumber>,
    batches: mpsc::Sender<CleanBatch>,
    commits: watch::Receiver<u64>,
    writing: JoinSet<anyhow::Result<()>>,
    _questions: LedgerHandle,
}

impl Committing {
    /// For the stream geo of a scene that has one shard, whose tables exist.
    pub async fn open(scene: &Scene, log: &AcceptedLog, plan: &Plan) -> anyhow::Result<Self> {
        let file = scene.contract(Kind::Geo);
        let (text, problems) = (std::fs::read_to_string(&file)?, Problems::default());
        let contract =
            contract::parse(&file.display().to_string(), text, &problems).context("the contract is right")?;
        let contract = Arc::new(contract);
        let summary = scene.kinesis.client().describe_stream_summary().stream_name("geo").send().await?;
        let created =
            summary.stream_description_summary().context("a stream has a summary")?.stream_creation_timestamp();
        let identity =
            StreamIdentity { pipeline: PIPELINE.to_owned(), stream: "geo".to_owned(), created_at_s: created.secs() };
        let s3 = scene.s3()?;
        let store = LakeStore::with_objects(Arc::new(s3.client()?), s3.lake_url()?.path(), &s3.lake_uri());
        let lake = StreamLake::open(store.clone(), identity.clone(), &contract).await?;
        let (shard, entry) = lake.ledger().shards.first_key_value().context("a shard is registered")?;
        let (shard, position, entry_position) = (shard.clone(), entry.resume(), entry.position);
        let accepted = log.stream("geo");
        let of_shard = accepted.get(&shard).with_context(|| format!("shard {shard} is in the book"))?;
        let mut numbers: Vec<SequenceNumber> = of_shard.iter().map(|one| one.number).collect();
        numbers.sort_unstable();
        numbers.retain(|number| Some(*number) > entry_position);

        let (registry, board) = (Registry::new()?, StatusBoard::default().stream("geo"));
        let windows = Arc::new(StreamWindows::new("geo", Arc::clone(&contract), registry.stream("geo")));
        let (tell, commits) = watch::channel(0);
        let options = WriterOptions { flush_interval: std::time::Duration::ZERO, flush_bytes: 1 << 20 };
        let sink: Arc<dyn WindowSink> = Arc::clone(&windows) as Arc<dyn WindowSink>;
        let budget = Budget::new(256 << 20);
        let writer =
            Writer::new(lake, options, budget, sink, Some(Arc::new(Told(tell))), registry.stream("geo"), board);
        let (batches, queue) = mpsc::channel(1);
        let (questions, asked) = LedgerHandle::channel();
        let mut writing = JoinSet::new();
        writing.spawn(async move { Ok(writer.run(queue, asked, CancellationToken::new()).await?) });
        let defaults = MaintenanceOptions::default();
        let compact_files = if plan.compact { defaults.compact_files } else { NEVER };
        let checkpoint_commits = u64::from(plan.maintain_every);
        let options = MaintenanceOptions { checkpoint_commits, compact_files, ..defaults };
        let mut maintainer = Maintainer::new(store.clone(), options);
        maintainer.add(PIPELINE, "geo", &contract);
        let followers = contract.windows.iter().map(|window| window.partials_table()).collect();
        Ok(Self {
            store,
            identity,
            cleaner: Cleaner::new(Arc::clone(&contract)),
            contract,
            windows,
            maintainer,
            followers,
            shard,
            position,
            numbers: numbers.into_iter(),
            batches,
            commits,
            writing,
            _questions: questions,
        })
    }

    /// Commits one record; how long it took until the commit was answered, in ms.
    pub async fn commit(&mut self) -> anyhow::Result<f64> {
        let number = self.numbers.next().context("there are as many records as commits")?;
        let through = Position::After(number);
        let range = PositionRange { shard: self.shard.clone(), after: self.position, through };
        let now_ms = pintail::clock::now_ms();
        let record = RawRecord {
            data: r#"{"ind":7528,"timestamp":"2020-08-28T03:52:47","latitude":-89.9787,"longitude":-173.293,"country":"Albania"}"#.into(),
            sequence_number: number,
            sub_sequence_number: 0,
            arrived_at_us: now_ms * 1000,
            refused: None,
        };
        let (records, permit) = (vec![record], Permit::default());
        let raw = RawBatch { range, records, seen_ms: Some(now_ms), end: None, grant: ShardGrant::new(), permit };
        let (cleaned, _) = self.cleaner.clean(raw);
        self.windows.observe(&cleaned)?;
        self.position = through;
        self.commits.mark_unchanged();
        let began = Instant::now();
        self.batches.send(cleaned).await.ok().context("the writer has ended")?;
        tokio::select! {
            told = self.commits.changed() => told.context("the writer has ended")?,
            ended = self.writing.join_next() => anyhow::bail!("the writer has ended: {ended:?}"),
        }
        Ok(ms(began.elapsed()))
    }

    /// One round of maintenance.
    pub async fn maintain(&mut self) {
        self.maintainer.round(false, &mut |_, _| {}).await;
    }

    /// The tables that get something with every commit.
    pub fn followers(&self) -> &[String] {
        &self.followers
    }

    /// How long it takes to open the stream's tables, in ms.
    pub async fn opening_ms(&self) -> anyhow::Result<f64> {
        let began = Instant::now();
        StreamLake::open(self.store.clone(), self.identity.clone(), &self.contract).await?;
        Ok(ms(began.elapsed()))
    }

    /// Waits until the tables that follow have followed.
    pub async fn end(mut self) -> anyhow::Result<()> {
        drop(self.batches);
        self.writing.join_next().await.context("the writer was started")??
    }
}
