//! One stream from end to end: find it, open its tables, then read and write until told to stop.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::others::Others;
use super::pipe::{Pipe, Way};
use super::restore::restore;
use super::sealed::SealedTables;
use crate::budget::Budget;
use crate::checkpoint::{LedgerHandle, LedgerView, ShardId, TimeRange};
use crate::clock::now_ms;
use crate::config::{Config, SourceSection, StreamConfig};
use crate::cores::Cores;
use crate::error_chain::chain;
use crate::lake::{LakeStore, SealBell, StreamIdentity, StreamLake, Turn, Writer, WriterOptions};
use crate::limits::{LIVE_FILES_RESTORED_MAX, WRITER_QUEUE_BATCHES};
use crate::metrics::StreamMetrics;
use crate::record::{ProbeRef, WindowSink};
use crate::source::{self, Coordinator, Kinesis, SourceError, SourceOptions, StreamDescription, Timing};
use crate::status::{ShardStatus, StreamBoard};
use crate::window::StreamWindows;

/// How often the gauges are brought up to date that change without an event of their own.
const TELL_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);
/// How often it is asked whether the live windows have caught up with an earlier process's.
const CATCH_UP_INTERVAL: std::time::Duration = std::time::Duration::from_millis(100);
/// How often it is tried to read what the live windows begin with, and the pause before each further time.
const RESTORE_ATTEMPTS: u32 = 3;
const RESTORE_PAUSE: std::time::Duration = std::time::Duration::from_millis(500);
/// Who is in trouble until the tables are open.
const START: &str = "start";

/// All that one stream needs.
pub struct Stream {
    pub config: StreamConfig,
    pub pipeline: String,
    pub source: SourceSection,
    pub flush: WriterOptions,
    pub budget_bytes: u64,
    pub kinesis: Kinesis,
    pub store: LakeStore,
    pub windows: Arc<StreamWindows>,
    pub metrics: StreamMetrics,
    pub board: StreamBoard,
    pub probe: Option<ProbeRef>,
    /// Only what arrived then, into tables of a replay.
    pub range: Option<TimeRange>,
    /// Rung when a window may be sealed.
    pub bell: SealBell,
    /// Taken for each look at what is sealed.
    pub turn: Turn,
    /// One permit a core, shared by all streams.
    pub cores: Cores,
}

impl Stream {
    /// Everything of one configured stream, without a probe, all of its time, with all cores of the machine and a bell
    /// that nobody hears.
    pub fn new(
        config: &Config,
        stream: StreamConfig,
        kinesis: Kinesis,
        store: LakeStore,
        windows: Arc<StreamWindows>,
        metrics: StreamMetrics,
        board: StreamBoard,
    ) -> Self {
        Self {
            config: stream,
            pipeline: config.pipeline.clone(),
            source: config.source.clone(),
            flush: config.lake.flush,
            budget_bytes: config.budget_share_bytes(),
            kinesis,
            store,
            windows,
            metrics,
            board,
            probe: None,
            range: None,
            bell: SealBell::default(),
            turn: Turn::default(),
            cores: Cores::available(),
        }
    }

    /// Until `reading` is cancelled and everything read is committed, or `cut_off` is.
    pub async fn run(self, reading: CancellationToken, cut_off: CancellationToken) -> anyhow::Result<()> {
        let name = self.config.name().to_owned();
        let tell_readiness = tell_readiness(self.metrics.clone(), self.board.clone());
        tokio::select! {
            biased;
            () = cut_off.cancelled() => Ok(()),
            result = self.work(reading, cut_off.clone()) => result.with_context(|| format!("stream {name}")),
            () = tell_readiness => Ok(()),
        }
    }

    async fn work(self, reading: CancellationToken, cut_off: CancellationToken) -> anyhow::Result<()> {
        let description = match source::describe(&self.kinesis, &self.config.id, &self.board, &reading).await {
            Ok(description) => description,
            // Told to stop before the stream could be reached: there is nothing to drain.
            Err(SourceError::Cancelled { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let Some(lake) = self.open_lake(&description, &reading).await? else { return Ok(()) };
        let others = self.restore_windows(&lake, &reading).await;
        self.board.resolved(START);
        match lake.ledger().shards.len() {
            0 => tracing::info!(stream = self.config.name(), "reading for the first time"),
            shards => tracing::info!(stream = self.config.name(), shards, "reading on where the ledger stands"),
        }
        self.read_and_write(description, lake, others, reading, cut_off).await
    }

    /// `None` if told to stop while the lake was away.
    async fn open_lake(
        &self,
        description: &StreamDescription,
        reading: &CancellationToken,
    ) -> anyhow::Result<Option<StreamLake>> {
        let identity = StreamIdentity {
            pipeline: self.pipeline.clone(),
            stream: description.name.clone(),
            created_at_s: description.created_s,
        };
        let contract = &self.config.contract;
        let opening = async {
            match self.range {
                None => StreamLake::open_patiently(&self.store, &identity, contract, &self.board).await,
                Some(range) => {
                    StreamLake::open_range(self.store.clone(), identity.of_range_replay(), contract, range).await
                }
            }
        };
        let opened = reading.run_until_cancelled(opening).await.transpose()?;
        Ok(opened)
    }

    /// Brings the live windows back to what is committed, and says who goes on from there with what others commit. They
    /// are a view, so a lake that cannot be read right now costs the numbers of the last minutes and not the start.
    /// `None`: nobody does, for these are tables of a replay, or there is no window.
    async fn restore_windows(&self, lake: &StreamLake, reading: &CancellationToken) -> Option<Others> {
        if self.range.is_some() || self.windows.count() == 0 {
            return None;
        }
        self.windows.begin_after(lake.ledger());
        let mut restored_through = vec![lake.ledger().version; self.windows.count()];
        if !lake.ledger().shards.is_empty() {
            let now_us = now_ms().saturating_mul(1000);
            self.windows.is_later_than(now_us / 1000);
            for (window, through) in restored_through.iter_mut().enumerate() {
                *through = reading.run_until_cancelled(self.restore_window(lake, window, now_us)).await?;
            }
        }
        let windows = Arc::clone(&self.windows);
        let mut others = Others::after(lake.commit_log(), windows, self.config.name(), restored_through);
        reading.run_until_cancelled(others.level()).await?;
        Some(others)
    }

    /// The version of the rows table up to which the window was restored. Tried more than once: a file that is gone may
    /// have been compacted while its neighbours were read.
    async fn restore_window(&self, lake: &StreamLake, window: usize, now_us: i64) -> u64 {
        let (stream, name) = (self.config.name(), &self.config.contract.windows[window].name);
        let mut attempt = 1;
        let why = loop {
            match restore(&self.windows, lake, window, now_us, LIVE_FILES_RESTORED_MAX).await {
                Ok(through) => return through,
                Err(error) if attempt == RESTORE_ATTEMPTS || !error.may_pass() => break chain(&error),
                Err(error) => tracing::info!(stream, window = name, error = chain(&error), "reading it once more"),
            }
            self.windows.forget_restored(window);
            attempt += 1;
            tokio::time::sleep(RESTORE_PAUSE).await;
        };
        tracing::warn!(stream, window = name, error = why, "live window starts empty");
        self.windows.restore_nothing(window, now_us, why);
        lake.ledger().version
    }

    async fn read_and_write(
        self,
        description: StreamDescription,
        lake: StreamLake,
        others: Option<Others>,
        reading: CancellationToken,
        cut_off: CancellationToken,
    ) -> anyhow::Result<()> {
        let sealed = SealedTables::of(&lake, Arc::clone(&self.windows), self.config.name(), self.turn.clone());
        let budget = Budget::new(self.budget_bytes);
        let open_before = open_shards(lake.ledger());
        let (batches, batch_queue) = mpsc::channel(WRITER_QUEUE_BATCHES);
        let (ledger, questions) = LedgerHandle::channel();
        let windows: Arc<dyn WindowSink> = Arc::clone(&self.windows) as Arc<dyn WindowSink>;
        let (metrics, board, probe) = (self.metrics.clone(), self.board.clone(), self.probe.clone());
        let lake = lake.ringing(self.bell.clone());
        let writer = Writer::new(lake, self.flush, budget.clone(), windows, probe, metrics, board);
        let telling = tell_budget(budget.clone(), self.metrics.clone());
        let looking_on = look_on(others, sealed, self.flush.flush_interval);
        let caught_up = show_when_caught_up(Arc::clone(&self.windows), self.board.clone(), open_before);
        let coordinator = self.coordinator(description, ledger, budget, batches);
        // The coordinator holds the batches' only sender: when it ends, for whatever reason, the writer drains.
        let stop_reading = reading.child_token();
        let read = async {
            let result = coordinator.run(stop_reading.clone()).await;
            result.map_err(anyhow::Error::from)
        };
        let write = async {
            let result = writer.run(batch_queue, questions, cut_off).await;
            stop_reading.cancel();
            result.map_err(anyhow::Error::from)
        };
        tokio::select! {
            (read, written) = async { tokio::join!(read, write) } => written.and(read),
            ((), (), ()) = async { tokio::join!(telling, caught_up, looking_on) } => Ok(()),
        }
    }

    fn coordinator(
        self,
        stream: StreamDescription,
        ledger: LedgerHandle,
        budget: Budget,
        writer: mpsc::Sender<crate::record::CleanBatch>,
    ) -> Coordinator<Pipe> {
        let options = SourceOptions {
            start: self.config.start,
            on_data_loss: self.source.on_data_loss,
            foreign_records: self.config.foreign_records,
            reads_per_second: self.source.reads_per_second,
            align_within: self.source.align_within,
            flush_interval: self.flush.flush_interval,
            range: self.range,
        };
        let way = Way {
            contract: Arc::clone(&self.config.contract),
            windows: self.windows,
            metrics: self.metrics.clone(),
            board: self.board.clone(),
            probe: self.probe,
            cleaners: Mutex::default(),
        };
        let pipe = Pipe { way: Arc::new(way), writer, cores: self.cores.clone() };
        Coordinator {
            kinesis: self.kinesis,
            stream,
            ledger,
            budget,
            sink: Arc::new(pipe),
            cores: self.cores,
            metrics: self.metrics,
            board: self.board,
            options,
            timing: Timing::default(),
        }
    }
}

/// Goes on with what the lake tells the windows. Without others this process is on its own, with tables of a replay or
/// without windows.
async fn look_on(others: Option<Others>, sealed: SealedTables, flush_interval: std::time::Duration) {
    if let Some(others) = others {
        tokio::join!(others.follow(flush_interval), sealed.follow());
    }
}

/// The shards that an earlier process may have read beyond what it committed.
fn open_shards(ledger: &LedgerView) -> BTreeSet<ShardId> {
    // A replay is no shard that anybody reads.
    let open = ledger.shards.iter().filter(|(shard, entry)| !entry.ended && shard.replay().is_none());
    open.map(|(shard, _)| shard.clone()).collect()
}

/// Shows the live windows once everything that an earlier process may have shown was read again, so that no number
/// is smaller after a start than before. Of a shard that another process commits nothing is known here.
async fn show_when_caught_up(windows: Arc<StreamWindows>, board: StreamBoard, open_before: BTreeSet<ShardId>) {
    let mut ticks = tokio::time::interval(CATCH_UP_INTERVAL);
    loop {
        ticks.tick().await;
        let shards = board.snapshot().shards;
        if open_before.iter().all(|shard| shards.get(shard).is_some_and(|status| is_known(status, &open_before))) {
            windows.show();
            return;
        }
    }
}

fn is_known(status: &ShardStatus, open_before: &BTreeSet<ShardId>) -> bool {
    match status.state {
        "ended" | "lost" | "fenced" => true,
        // Nobody has read it yet.
        "waiting" => status.parents.iter().any(|parent| open_before.contains(parent)),
        _reading => status.caught_up,
    }
}

/// Never ends.
async fn tell_budget(budget: Budget, metrics: StreamMetrics) {
    let mut ticks = tokio::time::interval(TELL_INTERVAL);
    loop {
        ticks.tick().await;
        metrics.budget(budget.bytes_max(), budget.in_use_bytes(), budget.waiting());
    }
}

/// Also while the stream and its tables are being looked for, which is when nothing else can raise an alarm. Never ends.
async fn tell_readiness(metrics: StreamMetrics, board: StreamBoard) {
    let mut ticks = tokio::time::interval(TELL_INTERVAL);
    loop {
        ticks.tick().await;
        metrics.ready(board.is_ready());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::ShardEntry;

    fn shard(state: &'static str, caught_up: bool, parents: &[&str]) -> ShardStatus {
        let parents = parents.iter().map(|parent| ShardId::new(*parent)).collect();
        ShardStatus { state, caught_up, parents, ..ShardStatus::default() }
    }

    #[test]
    fn what_an_earlier_process_read_of_a_shard_is_known_once_its_end_was_seen() {
        let open_before = BTreeSet::from([ShardId::new("a"), ShardId::new("b")]);
        let known = |status| is_known(&status, &open_before);
        assert!(!known(shard("reading", false, &[])) && known(shard("reading", true, &[])));
        assert!(!known(shard("parked", false, &[])), "it goes on in a moment");
        assert!(known(shard("fenced", false, &[])) && known(shard("ended", false, &[])));
        assert!(known(shard("waiting", false, &["a"])), "nobody reads it before its parent's end");
        assert!(!known(shard("waiting", false, &["gone"])) && !known(shard("waiting", false, &[])));
    }

    #[test]
    fn a_replay_that_has_not_ended_is_no_shard_to_be_waited_for() {
        let (open, ended) = (ShardEntry::NEW, ShardEntry { ended: true, ..ShardEntry::NEW });
        let shards = [(ShardId::new("a"), open), (ShardId::new("b"), ended), (ShardId::of_replay(1), open)];
        let ledger = LedgerView { shards: shards.into(), ..LedgerView::default() };
        assert_eq!(open_shards(&ledger), BTreeSet::from([ShardId::new("a")]));
    }
}
