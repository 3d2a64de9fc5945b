//! Replay of rejects: once the contract is mended, what could not be cleaned is cleaned again, and what can be now
//! becomes rows and partials, by the writer that all rows go through.
//!
//! Nothing is taken away: a reject stays where it is, and the row that it became says by `_replayed` which replay
//! made it. So what was read stays rows without `_replayed` plus rejects, whatever is replayed how often. Nothing is
//! begun in the ledger before a reject is known that a replay would recover.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use deltalake::arrow::array::RecordBatch;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::reclean::Recleaner;
use super::rejects_report::{RejectsEnding, RejectsReport, RejectsTally};
use crate::budget::{Budget, Permit};
use crate::checkpoint::{LedgerHandle, Position, PositionRange};
use crate::config::{Config, StreamConfig};
use crate::contract::Contract;
use crate::lake::{
    LakeError, LakeStore, RejectBatch, RejectReader, RejectSet, RejectsReplay, ReplayLook, StreamIdentity, StreamLake,
    Writer, look_at_replays, replayed_through,
};
use crate::limits::{HELD_FACTOR_DEN, HELD_FACTOR_NUM, READ_COST_MAX, WRITER_QUEUE_BATCHES};
use crate::metrics::{Registry, StreamMetrics};
use crate::record::{CleanBatch, LeftOver, ShardEnd, ShardGrant, WindowSink};
use crate::status::{StatusBoard, StreamBoard};
use crate::window::StreamWindows;

/// How often it says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// The replay of one stream's rejects, before it runs.
pub struct RejectsJob {
    config: Config,
    stream: StreamConfig,
    store: LakeStore,
    metrics: StreamMetrics,
    board: StreamBoard,
}

/// What the caller wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RejectsWish {
    /// Only look: write nothing.
    pub dry_run: bool,
    /// End the replay that is under way and begin the next.
    pub anew: bool,
}

impl RejectsJob {
    /// The replay of this stream's rejects.
    pub fn new(config: &Config, stream: &StreamConfig, store: LakeStore) -> anyhow::Result<Self> {
        let metrics = Registry::new().context("metrics cannot be set up")?.stream(stream.name());
        let board = StatusBoard::default().stream(stream.name());
        board.resolved("start");
        Ok(Self { config: config.clone(), stream: stream.clone(), store, metrics, board })
    }

    /// Runs until the rejects are done, or until `stop`; then what is in hand is committed.
    pub async fn run(&self, wish: RejectsWish, stop: CancellationToken) -> anyhow::Result<RejectsReport> {
        let Some(mut look) = self.look().await? else {
            let tally = RejectsTally::default();
            return Ok(RejectsReport { ending: RejectsEnding::NoLedger, total: 0, before: 0, tally });
        };
        // Opened, the tables get the contract's new columns: only if there is something to write.
        if look.is_behind && !wish.dry_run {
            self.apply_staged(&look.identity, &stop).await?;
            look = self.look().await?.unwrap_or(look);
        }
        let given_up = look.under_way.filter(|_| wish.anew).map(|replay| replay.number);
        let (version, done) = match look.under_way.filter(|_| given_up.is_none()) {
            Some(replay) => (replay.rejects_version, replay.done),
            None => (look.rejects_version, 0),
        };
        let set = self.set(version).await?;
        let report = |ending, before, tally| RejectsReport { ending, total: set.total(), before, tally };
        if wish.dry_run {
            let tally = self.clean_only(&set, done, &stop, |_| false).await?;
            return Ok(report(RejectsEnding::DryRun, done, tally));
        }
        if look.under_way.is_none() {
            let tally = self.clean_only(&set, 0, &stop, |tally| tally.recovered > 0).await?;
            if tally.recovered == 0 {
                return Ok(report(RejectsEnding::NothingToRecover, 0, tally));
            }
        }
        let mut lake = self.open(&look.identity).await?;
        let replay = lake.begin_replay(version, given_up).await?;
        // Another process may have begun it in the meantime.
        let set = if replay.rejects_version == version { set } else { self.set(replay.rejects_version).await? };
        let mut tally = RejectsTally::default();
        let ending = self.replay(lake, &set, replay, &mut tally, stop).await?;
        tally.settle(self.committed());
        Ok(RejectsReport { ending, total: set.total(), before: replay.done, tally })
    }

    fn contract(&self) -> &Arc<Contract> {
        &self.stream.contract
    }

    /// Rows that this job has committed: whatever it recovered, and nothing else.
    fn committed(&self) -> u64 {
        self.board.snapshot().tables.get(&self.contract().table).map_or(0, |table| table.rows)
    }

    async fn look(&self) -> Result<Option<ReplayLook>, LakeError> {
        look_at_replays(&self.store, &self.config.pipeline, self.stream.name(), self.contract()).await
    }

    async fn open(&self, identity: &StreamIdentity) -> Result<StreamLake, LakeError> {
        StreamLake::open(self.store.clone(), identity.clone(), self.contract()).await
    }

    async fn set(&self, version: u64) -> anyhow::Result<RejectSet> {
        RejectSet::of(&self.store, &self.contract().rejects_table(), version).await.map_err(teach)
    }

    fn writer(&self, lake: StreamLake, budget: &Budget, windows: Arc<StreamWindows>) -> Writer {
        let windows: Arc<dyn WindowSink> = windows;
        let (metrics, board) = (self.metrics.clone(), self.board.clone());
        Writer::new(lake, self.config.lake.flush, budget.clone(), windows, None, metrics, board)
    }

    fn windows(&self) -> Arc<StreamWindows> {
        let (contract, metrics) = (Arc::clone(self.contract()), self.metrics.clone());
        Arc::new(StreamWindows::new(self.stream.name(), contract, metrics))
    }

    /// Rejects that were committed with their rows and have not reached their own table yet belong to it first: a
    /// writer without anything to write does just that.
    async fn apply_staged(&self, identity: &StreamIdentity, stop: &CancellationToken) -> anyhow::Result<()> {
        let (budget, lake) = (Budget::new(self.config.budget_share_bytes()), self.open(identity).await?);
        let (_, batches) = mpsc::channel(1);
        let (_, questions) = LedgerHandle::channel();
        Ok(self.writer(lake, &budget, self.windows()).run(batches, questions, stop.clone()).await?)
    }

    /// Cleans, and forgets the rows, until `enough` says so.
    async fn clean_only(
        &self,
        set: &RejectSet,
        done: u64,
        stop: &CancellationToken,
        enough: impl Fn(&RejectsTally) -> bool,
    ) -> anyhow::Result<RejectsTally> {
        let mut tally = RejectsTally::default();
        let mut recleaner = Recleaner::new(self.contract());
        let mut progress = Progress::new(self.stream.name(), set.total(), done);
        let mut reader = set.read(done, &self.contract().table).await.map_err(teach)?;
        let mut left = None;
        while let Some(mut batch) = next(&mut left, &mut reader).await? {
            if stop.is_cancelled() {
                bail!("stopped before the end of the rejects");
            }
            (tally.recovered_before, tally.unusable) =
                (tally.recovered_before + batch.recovered, tally.unusable + batch.unusable);
            let recleaned;
            (recleaner, recleaned) = recleaner.reclean(std::mem::take(&mut batch.rejects), None).await?;
            tally.add(&recleaned);
            left = batch.rest(recleaned.left);
            progress.tell(left.as_ref().map_or(batch.through, |left| left.after), &tally);
            if enough(&tally) {
                break;
            }
        }
        Ok(tally)
    }

    async fn replay(
        &self,
        lake: StreamLake,
        set: &RejectSet,
        replay: RejectsReplay,
        tally: &mut RejectsTally,
        stop: CancellationToken,
    ) -> anyhow::Result<RejectsEnding> {
        let budget = Budget::new(self.config.budget_share_bytes());
        let windows = self.windows();
        let (batches, batch_queue) = mpsc::channel(WRITER_QUEUE_BATCHES);
        let (_, questions) = LedgerHandle::channel();
        let cut_off = CancellationToken::new();
        let writer = self.writer(lake, &budget, Arc::clone(&windows));
        let feeder = Feeder { set, replay, batches, budget, windows, grant: ShardGrant::new(), stop: stop.clone() };
        tracing::info!(
            stream = self.stream.name(),
            replay = %replay.shard(),
            rejects = set.total(),
            done = replay.done,
            version = replay.rejects_version,
            "replaying rejects"
        );
        // The feeder holds the batches' only sender: when it ends, for whatever reason, the writer drains.
        let fed = feeder.feed(self.stream.name(), self.contract(), tally);
        let written = writer.run(batch_queue, questions, cut_off.clone());
        let both =
            super::within_grace(async { tokio::join!(fed, written) }, &stop, &cut_off, self.config.shutdown_grace);
        let (fed, written) = both.await;
        written?;
        fed
    }
}

/// From the rejects to the writer.
struct Feeder<'a> {
    set: &'a RejectSet,
    replay: RejectsReplay,
    batches: mpsc::Sender<CleanBatch>,
    budget: Budget,
    windows: Arc<StreamWindows>,
    grant: ShardGrant,
    stop: CancellationToken,
}

impl Feeder<'_> {
    async fn feed(
        self,
        stream: &str,
        contract: &Arc<Contract>,
        tally: &mut RejectsTally,
    ) -> anyhow::Result<RejectsEnding> {
        let mut recleaner = Recleaner::new(contract);
        let mut progress = Progress::new(stream, self.set.total(), self.replay.done);
        let mut reader = self.set.read(self.replay.done, &contract.table).await.map_err(teach)?;
        let mut after = replayed_through(self.replay.done);
        let mut left = None;
        loop {
            let permit = match self.unless_stopped(self.budget.reserve(READ_COST_MAX)).await {
                Ok(permit) => permit,
                Err(ending) => return Ok(ending),
            };
            let Some(mut batch) = next(&mut left, &mut reader).await? else { break };
            let (rejects, replay) = (std::mem::take(&mut batch.rejects), Some(self.replay.number));
            let mut recleaned;
            (recleaner, recleaned) = recleaner.reclean(rejects, replay).await?;
            tally.recovered_before += batch.recovered;
            tally.unusable += batch.unusable;
            tally.add(&recleaned);
            left = batch.rest(std::mem::take(&mut recleaned.left));
            let done = left.as_ref().map_or(batch.through, |left| left.after);
            let through = replayed_through(done);
            let cleaned = self.counted(recleaned.rows, after, through, permit)?;
            if self.batches.send(cleaned).await.is_err() {
                return Ok(self.interrupted());
            }
            after = through;
            progress.tell(done, tally);
        }
        self.end(RecordBatch::new_empty(Arc::clone(&contract.rows_schema)), after).await
    }

    /// The rows as a batch of the replay's own shard, counted in the windows and paid for.
    fn counted(
        &self,
        rows: RecordBatch,
        after: Position,
        through: Position,
        permit: Permit,
    ) -> anyhow::Result<CleanBatch> {
        let mut cleaned = self.batch(rows, after, through, None, permit);
        let held_bytes = self.windows.observe(&cleaned)? + cleaned.rows.get_array_memory_size();
        cleaned.permit.settle(held_bytes as u64 * HELD_FACTOR_NUM / HELD_FACTOR_DEN);
        Ok(cleaned)
    }

    fn batch(
        &self,
        rows: RecordBatch,
        after: Position,
        through: Position,
        end: Option<ShardEnd>,
        permit: Permit,
    ) -> CleanBatch {
        let range = PositionRange { shard: self.replay.shard(), after, through };
        // A reject that still is one stays where it is: no second copy of it.
        CleanBatch {
            range,
            rows,
            rejects: Vec::new(),
            seen_ms: None,
            watermark_ms: None,
            end,
            left: LeftOver::default(),
            grant: self.grant.clone(),
            permit,
        }
    }

    async fn end(self, no_rows: RecordBatch, at: Position) -> anyhow::Result<RejectsEnding> {
        let (committed, told) = oneshot::channel();
        let end = ShardEnd { children: Vec::new(), committed };
        let last = self.batch(no_rows, at, at, Some(end), Permit::default());
        if self.batches.send(last).await.is_err() {
            return Ok(self.interrupted());
        }
        match self.unless_stopped(told).await {
            Ok(Ok(())) => Ok(RejectsEnding::Finished(self.replay)),
            Ok(Err(_fenced_off)) => Ok(self.interrupted()),
            Err(ending) => Ok(ending),
        }
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, RejectsEnding> {
        tokio::select! {
            biased;
            () = self.grant.revoked() => Err(RejectsEnding::Fenced(self.replay)),
            () = self.stop.cancelled() => Err(RejectsEnding::Stopped(self.replay)),
            done = work => Ok(done),
        }
    }

    /// Nobody takes batches any more: because somebody else has the replay, or because the writer is told to stop.
    /// If it failed, its own error is what is reported.
    fn interrupted(&self) -> RejectsEnding {
        match self.grant.is_revoked() {
            true => RejectsEnding::Fenced(self.replay),
            false => RejectsEnding::Stopped(self.replay),
        }
    }
}

/// What is left of a batch, or else the next one.
async fn next(left: &mut Option<RejectBatch>, reader: &mut RejectReader<'_>) -> anyhow::Result<Option<RejectBatch>> {
    match left.take() {
        Some(left) => Ok(Some(left)),
        None => reader.next().await.map_err(teach),
    }
}

/// Says now and then how far it is.
struct Progress<'a> {
    stream: &'a str,
    total: u64,
    from: u64,
    told_at: Instant,
}

impl<'a> Progress<'a> {
    fn new(stream: &'a str, total: u64, from: u64) -> Self {
        Self { stream, total, from, told_at: Instant::now() }
    }

    fn tell(&mut self, done: u64, tally: &RejectsTally) {
        if self.told_at.elapsed() >= PROGRESS_INTERVAL {
            self.told_at = Instant::now();
            let (stream, total, from, recovered) = (self.stream, self.total, self.from, tally.recovered);
            tracing::info!(stream, done, of = total, from, recovered, "re-cleaning rejects");
        }
    }
}

/// What can be done about rejects that cannot be read as they were.
fn teach(error: LakeError) -> anyhow::Error {
    let is_gone = matches!(error, LakeError::VersionGone { .. });
    let error = anyhow::Error::new(error);
    match is_gone {
        true => error.context(
            "the rejects that this replay began with are gone; `pintail replay --rejects --anew` ends it where it \
             stands and begins the next, over the rejects that are there (what was recovered stays, and is skipped)",
        ),
        false => error,
    }
}
