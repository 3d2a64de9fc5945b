//! Posts the emulation and books what Kinesis acknowledged.

use std::sync::Arc;

use anyhow::ensure;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::Builder;
use aws_sdk_kinesis::config::retry::RetryConfig;
use pintail::demo::Kind;
use pintail::demo::accepted::AcceptedLog;
use pintail::demo::kinesis::EmbeddedKinesis;
use pintail::demo::pinterest::{Emulation, EmulationOptions, Population};
use pintail::demo::producer::{Counters, Pace, Plan, produce};
use tokio_util::sync::CancellationToken;

/// Several times the dirt of the real streams, so that a few thousand records have some of every sort.
pub const DIRT: EmulationOptions =
    EmulationOptions { seed: 0, duplicates: 0.03, orphans: 0.05, garbage: 0.03, damage: 0.06, mixed_timestamps: true };

/// A producer with a memory: each call goes on where the last one stopped.
pub struct Poster {
    pub(crate) client: Client,
    pub(crate) emulation: Emulation,
    counters: Arc<Counters>,
    /// Everything that Kinesis acknowledged to this poster.
    pub log: Arc<AcceptedLog>,
}

impl Poster {
    /// Posts to the three streams that are named as their kinds, with [`DIRT`].
    pub fn new(kinesis: &EmbeddedKinesis, seed: u64) -> Self {
        let options = EmulationOptions { seed, ..DIRT };
        // No retries, which the book would not see; and no limit on a call: a busy machine only takes longer.
        let config = Builder::from(&kinesis.sdk_config()).retry_config(RetryConfig::disabled()).build();
        Self {
            client: Client::from_conf(config),
            emulation: Emulation::new(Arc::new(Population::new()), options),
            counters: Arc::default(),
            log: Arc::default(),
        }
    }

    /// Posts so many records, over all streams, at so many a second.
    pub async fn post(&mut self, records: u64, rate: f64) -> anyhow::Result<()> {
        self.produce(Some(records), rate, std::future::pending()).await
    }

    /// Posts until told to stop.
    pub async fn post_until(&mut self, rate: f64, stop: &CancellationToken) -> anyhow::Result<()> {
        self.produce(None, rate, stop.cancelled()).await
    }

    async fn produce(&mut self, records: Option<u64>, rate: f64, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let plan = Plan {
            streams: Kind::ALL.map(|kind| kind.name().to_owned()),
            pace: Pace::Rate(rate),
            duration: None,
            records,
        };
        let (actions, log) = (self.emulation.by_ref(), Some(&self.log));
        produce(&self.client, actions, &plan, &self.counters, log, stop).await?;
        let unanswered = self.counters.unanswered();
        ensure!(unanswered == 0, "{unanswered} records were put without an answer: the book is not exact any more");
        Ok(())
    }

    /// Records acknowledged so far, over all streams.
    pub fn accepted(&self) -> u64 {
        Kind::ALL.iter().map(|kind| self.counters.acknowledged(*kind)).sum()
    }
}
