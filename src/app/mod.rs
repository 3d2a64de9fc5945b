//! Config -> App -> run: the one place that knows all rooms, owns every task and their end.
//!
//! Shutdown is an argument. When it resolves, readers finish the batch in hand, their senders drop, writers see
//! the end, flush and commit, and only then does HTTP stop. After the grace period the rest is cut off; the
//! ledger is right either way. The first task that fails ends the others the same way. Maintenance runs beside
//! them, is told to stop before anything drains, and its failures are told and end nothing.

mod maintenance;
mod others;
mod pipe;
mod range;
mod reclean;
mod rejects;
mod rejects_report;
mod restore;
mod sealed;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::stream::Stream;
use crate::clock::now_ms;
use crate::config::Config;
use crate::cores::Cores;
use crate::lake::{LakeStore, SealBell, Turn};
use crate::metrics::Registry;
use crate::record::ProbeRef;
use crate::serve::{GrafanaLive, Server, Sources};
use crate::source::Kinesis;
use crate::status::StatusBoard;
use crate::window::StreamWindows;

pub use range::{RangeEnding, RangeJob, RangeReport};
pub use rejects::{RejectsJob, RejectsWish};
pub use rejects_report::{RejectsEnding, RejectsReport, RejectsTally};

/// How often the metrics registry folds its histograms.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// How long maintenance, told to stop before everything else, may still be busy when all else is done.
const MAINTENANCE_PATIENCE: Duration = Duration::from_secs(1);

/// The processor, bound to its HTTP address and not yet reading.
pub struct App {
    config: Config,
    kinesis: Kinesis,
    store: LakeStore,
    registry: Registry,
    status: StatusBoard,
    windows: Vec<Arc<StreamWindows>>,
    server: Server,
    grafana_live: Option<GrafanaLive>,
    probe: Option<ProbeRef>,
}

impl App {
    /// Binds HTTP and opens the lake's client. Calls neither Kinesis nor the lake yet, so that an endpoint which is
    /// away is waited for and not an error.
    pub async fn build(config: Config, kinesis: Kinesis, probe: Option<ProbeRef>) -> anyhow::Result<Self> {
        let registry = Registry::new().context("metrics cannot be set up")?;
        let status = StatusBoard::default();
        let windows: Vec<Arc<StreamWindows>> = config
            .streams
            .iter()
            .map(|stream| {
                let metrics = registry.stream(stream.name());
                metrics.tables(&stream.contract.tables());
                metrics.flush_interval(config.lake.flush.flush_interval);
                let windows = StreamWindows::new(stream.name(), Arc::clone(&stream.contract), metrics);
                Arc::new(windows.one_of(config.streams.len()))
            })
            .collect();
        windows.iter().for_each(|windows| windows.hold_back());
        let sources = Sources {
            registry: registry.clone(),
            status: status.clone(),
            windows: windows.clone(),
            window_series_max: config.window_series_max,
            pipeline: config.pipeline.clone(),
            started_ms: now_ms(),
        };
        let grafana_live = config
            .grafana_live
            .clone()
            .map(|live| GrafanaLive::new(live, windows.clone(), config.window_series_max, registry.grafana_live()));
        let grafana_live = grafana_live.transpose().context("`grafana_live`: no HTTP client can be made")?;
        let server = Server::bind(config.listen, config.access.clone(), sources).await.context("`serve.listen`")?;
        let store = LakeStore::open(&config.lake.location).await?;
        Ok(Self { config, kinesis, store, registry, status, windows, server, grafana_live, probe })
    }

    /// Where HTTP listens (port 0 is resolved).
    pub fn listening_on(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// What is going on, for progress lines.
    pub fn status(&self) -> StatusBoard {
        self.status.clone()
    }

    /// Reads, cleans, counts and commits until `shutdown` resolves, then drains. An error is why it ended early.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
        let (reading, serving, cut_off) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let grace = self.config.shutdown_grace;
        let mut around = JoinSet::new();
        around.spawn(keep_up(self.registry.clone(), serving.clone()));
        if let Some(live) = self.grafana_live {
            let stop = serving.clone();
            around.spawn(async move {
                live.run(stop).await;
                Ok(())
            });
        }
        let (bell, turn) = (SealBell::default(), Turn::default());
        let (stop, theirs) = (reading.child_token(), (bell.clone(), turn.clone()));
        let maintenance = maintenance::start(&self.config, &self.registry, &self.status, theirs, stop);
        let cores = Cores::available();
        let mut streams = JoinSet::new();
        for (config, windows) in self.config.streams.iter().zip(&self.windows) {
            let (metrics, board) = (self.registry.stream(config.name()), self.status.stream(config.name()));
            let (kinesis, store, windows) = (self.kinesis.clone(), self.store.clone(), Arc::clone(windows));
            let stream = Stream::new(&self.config, config.clone(), kinesis, store, windows, metrics, board);
            let (probe, bell, turn, cores) = (self.probe.clone(), bell.clone(), turn.clone(), cores.clone());
            let stream = Stream { probe, bell, turn, cores, ..stream };
            let (name, reading, cut_off) = (config.name().to_owned(), reading.clone(), cut_off.clone());
            streams.spawn(async move { (name, stream.run(reading, cut_off).await) });
        }
        let server = self.server.run(serving.clone());
        around.spawn(async move { server.await.context("HTTP") });
        let mut result = tokio::select! {
            result = supervise(&mut streams, shutdown, &reading, grace) => result,
            // HTTP or upkeep end only by failing: without them nobody sees what the rest does.
            ended = around.join_next() => flatten(ended),
        };
        cut_off.cancel();
        streams.shutdown().await;
        reading.cancel();
        if let Some(maintenance) = maintenance
            && !maintenance.ended(MAINTENANCE_PATIENCE).await
        {
            tracing::warn!("maintenance is still busy and is left behind; nothing of it is lost");
        }
        serving.cancel();
        while let Some(ended) = around.join_next().await {
            result = result.and(flatten(Some(ended)));
        }
        result
    }
}

/// Waits for the end: told to, or because a stream failed. Then for the drain, for at most `grace`.
async fn supervise(
    streams: &mut JoinSet<(String, anyhow::Result<()>)>,
    shutdown: impl Future<Output = ()> + Send,
    reading: &CancellationToken,
    grace: Duration,
) -> anyhow::Result<()> {
    let first = tokio::select! {
        () = shutdown => Ok(()),
        ended = streams.join_next() => outcome(ended).1,
    };
    reading.cancel();
    tracing::info!(grace_s = grace.as_secs(), "draining");
    let drain = async {
        let mut result = first;
        while let Some(ended) = streams.join_next().await {
            let (stream, ended) = outcome(Some(ended));
            if let (Err(error), Err(first)) = (&ended, &result) {
                if is_of_one_cause(error, first) {
                    tracing::error!(stream, like = %first, "failed for the same reason");
                } else {
                    tracing::error!(stream, error = format!("{error:#}"), "a second stream failed");
                }
            }
            result = result.and(ended);
        }
        result
    };
    match tokio::time::timeout(grace, drain).await {
        Ok(result) => result,
        Err(_elapsed) => bail!(
            "the drain took longer than {} s (`shutdown.grace`) and was cut off; nothing is lost, the next start \
             goes on from the last commit",
            grace.as_secs()
        ),
    }
}

/// Which stream ended, and how.
fn outcome(
    ended: Option<Result<(String, anyhow::Result<()>), tokio::task::JoinError>>,
) -> (Option<String>, anyhow::Result<()>) {
    match ended {
        Some(Ok((stream, result))) => (Some(stream), result),
        Some(Err(error)) => (None, flatten(Some(Err(error)))),
        None => (None, flatten(None)),
    }
}

/// Missing credentials befall every stream, in many words: once is enough. The two outer errors name the stream.
fn is_of_one_cause(one: &anyhow::Error, other: &anyhow::Error) -> bool {
    let causes = |error: &anyhow::Error| error.chain().skip(2).map(ToString::to_string).collect::<Vec<_>>();
    let cause = causes(one);
    !cause.is_empty() && cause == causes(other)
}

/// Runs `work` to its end; `cut_off` tells it to give up `grace` after `stop`.
async fn within_grace<T>(
    work: impl Future<Output = T>,
    stop: &CancellationToken,
    cut_off: &CancellationToken,
    grace: Duration,
) -> T {
    let mut work = std::pin::pin!(work);
    let too_late = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        done = &mut work => return done,
        () = too_late => cut_off.cancel(),
    }
    work.await
}

fn flatten(ended: Option<Result<anyhow::Result<()>, tokio::task::JoinError>>) -> anyhow::Result<()> {
    match ended {
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(anyhow::Error::new(error).context("a task panicked")),
        None => bail!("nothing to run"),
    }
}

/// Histograms gather raw values until somebody folds them; without scrapes that would grow.
async fn keep_up(registry: Registry, stop: CancellationToken) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => registry.handle().run_upkeep(),
            () = stop.cancelled() => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
