//! Replay of a time range: a stream once more from Kinesis, what arrived in the range, into tables of another name.
//!
//! It is the service's own way, with a range, other names and a ledger of its own: so it is as exact, as bounded and
//! as easily continued. What it shares with the service is the stream's reads a second, and nothing in the lake.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::stream::Stream;
use crate::checkpoint::TimeRange;
use crate::config::{Config, StreamConfig};
use crate::lake::{LakeStore, RangeState, StreamIdentity, StreamLake, look_at_range};
use crate::metrics::Registry;
use crate::source::{self, Kinesis, SourceError};
use crate::status::{StatusBoard, StreamBoard};
use crate::window::StreamWindows;

/// How often it says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// The replay of a time range of one stream, before it runs.
pub struct RangeJob {
    config: Config,
    /// Its contract has the names of the replay's tables.
    stream: StreamConfig,
    range: TimeRange,
    kinesis: Kinesis,
    store: LakeStore,
}

/// How the replay of a range came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeEnding {
    /// It was finished before; nothing was written.
    FinishedBefore,
    /// Everything of the range is in the tables, and the ledger says so.
    Finished,
    /// It was told to stop; what was read so far is committed.
    Stopped,
}

/// What this run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeReport {
    /// How it ended.
    pub ending: RangeEnding,
    /// Rows that this run committed.
    pub rows: u64,
    /// Rejects that this run committed.
    pub rejects: u64,
    /// Records that became rejects in this run, by reason: more than were committed if it was cut off, or if another
    /// process was faster.
    pub reasons: BTreeMap<&'static str, u64>,
}

impl RangeJob {
    /// The replay of this range. `stream` has a contract with the names of the tables that it writes.
    pub fn new(config: &Config, stream: StreamConfig, range: TimeRange, kinesis: Kinesis, store: LakeStore) -> Self {
        Self { config: config.clone(), stream, range, kinesis, store }
    }

    /// Runs until the range is whole in its tables, or until `stop`; then what is in hand is committed.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<RangeReport> {
        let board = StatusBoard::default().stream(self.stream.name());
        let report = |ending| {
            let seen = board.snapshot();
            let committed = |table: &str| seen.tables.get(table).map_or(0, |table| table.rows);
            let [rows, rejects] =
                [&self.stream.contract.table, &self.stream.contract.rejects_table()].map(|it| committed(it));
            RangeReport { ending, rows, rejects, reasons: seen.cleaned.rejects }
        };
        let described = source::describe(&self.kinesis, &self.stream.id, &board, &stop).await;
        let stream = match described {
            Ok(stream) => stream,
            Err(SourceError::Cancelled { .. }) => return Ok(report(RangeEnding::Stopped)),
            Err(error) => return Err(error.into()),
        };
        let (pipeline, name) = (self.config.pipeline.clone(), stream.name.clone());
        let identity = StreamIdentity { pipeline, stream: name, created_at_s: stream.created_s }.of_range_replay();
        let contract = Arc::clone(&self.stream.contract);
        let of_stream = || format!("stream {}", self.stream.name());
        let look = look_at_range(&self.store, &identity, &contract, self.range);
        match look.await.with_context(of_stream)? {
            RangeState::New | RangeState::UnderWay => {}
            RangeState::Finished => return Ok(report(RangeEnding::FinishedBefore)),
        }
        let cut_off = CancellationToken::new();
        let work = self.stream_of(board.clone())?.run(stop.clone(), cut_off.clone());
        let work = super::within_grace(work, &stop, &cut_off, self.config.shutdown_grace);
        tokio::select! {
            done = work => done?,
            () = tell(self.stream.name(), &board) => {}
        }
        if stop.is_cancelled() {
            return Ok(report(RangeEnding::Stopped));
        }
        let finish = async {
            StreamLake::open_range(self.store.clone(), identity, &contract, self.range).await?.finish_range().await
        };
        finish.await.with_context(of_stream)?;
        Ok(report(RangeEnding::Finished))
    }

    fn stream_of(&self, board: StreamBoard) -> anyhow::Result<Stream> {
        let metrics = Registry::new().context("metrics cannot be set up")?.stream(self.stream.name());
        let contract = Arc::clone(&self.stream.contract);
        let windows = Arc::new(StreamWindows::new(self.stream.name(), contract, metrics.clone()));
        let (kinesis, store) = (self.kinesis.clone(), self.store.clone());
        let stream = Stream::new(&self.config, self.stream.clone(), kinesis, store, windows, metrics, board);
        Ok(Stream { range: Some(self.range), ..stream })
    }
}

/// Says now and then how far it is, and what is in the way. Never ends.
async fn tell(stream: &str, board: &StreamBoard) {
    loop {
        tokio::time::sleep(PROGRESS_INTERVAL).await;
        let now = board.snapshot();
        let ended = now.shards.values().filter(|shard| shard.state == "ended").count();
        let trouble = now.trouble.values().next();
        tracing::info!(
            stream,
            read = now.records(),
            rows = now.cleaned.rows,
            shards = now.shards.len(),
            ended,
            trouble,
            "reading the range"
        );
    }
}
