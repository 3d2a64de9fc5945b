//! Pintail in this process.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, bail};
use pintail::app::App;
use pintail::config::Config;
use pintail::source::Kinesis;
use pintail::status::StatusBoard;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::scene::Instance;
use crate::wait::PATIENCE;

/// A running one. Dropping it cuts it off, as a crash would.
pub struct Processor {
    /// What it says of itself.
    pub board: StatusBoard,
    /// Where it serves HTTP.
    pub address: SocketAddr,
    stop: CancellationToken,
    running: JoinSet<anyhow::Result<()>>,
}

impl Processor {
    /// Starts one with this configuration file and made-up credentials.
    pub async fn start(config: &Path) -> anyhow::Result<Self> {
        show_logs();
        let config = Config::load(config, std::iter::empty())?;
        let endpoint = config.aws.endpoint.clone().context("a scene's configuration has an endpoint")?;
        let app = App::build(config, Kinesis::local(&endpoint), None).await?;
        let (board, address, stop) = (app.status(), app.listening_on(), CancellationToken::new());
        let mut running = JoinSet::new();
        running.spawn(app.run(stop.clone().cancelled_owned()));
        Ok(Self { board, address, stop, running })
    }

    /// Tells it to drain and waits for its end.
    pub async fn drain(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        match tokio::time::timeout(PATIENCE, self.running.join_next()).await.context("the drain does not end")? {
            Some(ended) => ended?,
            None => bail!("it has ended before"),
        }
    }

    /// Records read since it started, over all streams, as it says.
    pub fn records_read(&self) -> u64 {
        self.board.snapshot().values().map(|stream| stream.records()).sum()
    }

    /// Whether every shard that it reads has been read to its head at least once since it started.
    pub fn has_read_to_the_heads(&self) -> bool {
        let streams = self.board.snapshot();
        let reading = streams.values().flat_map(|stream| stream.shards.values());
        let mut reading = reading.filter(|shard| shard.state == "reading").peekable();
        reading.peek().is_some() && reading.all(|shard| shard.behind_ms == Some(0))
    }
}

impl Instance for Processor {
    fn alive(&mut self) -> anyhow::Result<()> {
        match self.running.try_join_next() {
            None => Ok(()),
            Some(Ok(Err(error))) => Err(error.context("Pintail has failed")),
            Some(Ok(Ok(()))) => bail!("Pintail has ended"),
            Some(Err(error)) => bail!("Pintail's task has ended: {error}"),
        }
    }

    fn story(&self) -> String {
        let streams = self.board.snapshot();
        let troubles = streams.iter().map(|(name, stream)| format!("{name}: {:?}", stream.trouble));
        format!("Pintail's troubles: {}", troubles.collect::<Vec<_>>().join("; "))
    }
}

/// `PINTAIL_LOG=debug cargo test -p load-tests --test e2e NAME -- --nocapture` shows what it logs.
fn show_logs() {
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("PINTAIL_LOG") {
        // Tests of one binary share the process: the first one's setting is everybody's.
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init().ok();
    }
}
