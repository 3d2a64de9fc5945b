//! A Kinesis in this process: ferrokinesis behind a port of its own, so that demo and tests need neither an account
//! nor the internet. What it holds, it holds in memory.
//!
//! Ferrokinesis refuses records beyond 1 MiB and answers a read with any number of bytes. The real one takes 10 MiB,
//! if told to, and answers with 10 MiB; so large records come in by [`EmbeddedKinesis::put_large`], and from then on
//! reads are cut.

mod admin;
mod large;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use ferrokinesis::store::StoreOptions;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::admin::{AdminError, Streams};
use self::large::{LargeRecords, cut};
use crate::checkpoint::{SequenceNumber, ShardId};

const REGION: &str = "us-east-1";

/// A PutRecords call of 5 MiB is a third larger as base64; axum's own limit is 2 MB.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Open shards over all streams; Kinesis's own default of 500 is a quota, not a property.
const SHARDS_MAX: u32 = 10_000;

/// Creating and resharding take this long: short, but with the intermediate states that the real one shows.
const TRANSITION_MS: u64 = 5;

const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// Why there is no embedded Kinesis.
#[derive(Debug, thiserror::Error)]
pub enum KinesisError {
    /// No port on the loopback interface.
    #[error("the embedded Kinesis found no free port on 127.0.0.1")]
    Bind(#[source] std::io::Error),
    /// A stream was not created.
    #[error("the embedded Kinesis has not all of its streams")]
    Streams(#[from] AdminError),
    /// A large record was not taken.
    #[error("the embedded Kinesis did not take a record of {bytes} bytes for stream {stream:?}: {reason}")]
    Large {
        /// The stream.
        stream: String,
        /// The record's size.
        bytes: usize,
        /// Its word for it.
        reason: String,
    },
}

/// A running Kinesis. Dropping it stops it at once; [`Self::shutdown`] lets calls in flight finish.
#[derive(Debug)]
pub struct EmbeddedKinesis {
    address: SocketAddr,
    streams: Streams,
    large: Arc<LargeRecords>,
    stop: CancellationToken,
    server: JoinSet<std::io::Result<()>>,
}

impl EmbeddedKinesis {
    /// Starts one on a free port and creates these streams, active when it returns.
    pub async fn start(streams: &[&str], shards: u32) -> Result<Self, KinesisError> {
        let transitions = StoreOptions {
            create_stream_ms: TRANSITION_MS,
            delete_stream_ms: TRANSITION_MS,
            update_stream_ms: TRANSITION_MS,
            shard_limit: SHARDS_MAX,
            ..StoreOptions::default()
        };
        Self::start_with(transitions, streams, shards).await
    }

    /// The same with options of its own: limits, iterator lifetime, retention.
    pub async fn start_with(options: StoreOptions, streams: &[&str], shards: u32) -> Result<Self, KinesisError> {
        let (app, store) = ferrokinesis::create_app(options);
        let large = Arc::new(LargeRecords::new(store));
        let app = app.layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).layer(from_fn_with_state(Arc::clone(&large), cut));
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(KinesisError::Bind)?;
        let address = listener.local_addr().map_err(KinesisError::Bind)?;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, app).with_graceful_shutdown(stopped).await });
        let kinesis = Self {
            address,
            streams: Streams::of(Client::new(&local_config(&format!("http://{address}")))),
            large,
            stop,
            server,
        };
        for stream in streams {
            kinesis.create_stream(stream, shards).await?;
        }
        Ok(kinesis)
    }

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The AWS configuration that leads here, whatever the environment says: endpoint, region, made-up credentials.
    pub fn sdk_config(&self) -> SdkConfig {
        local_config(&self.endpoint())
    }

    /// Puts one record of up to 10 MiB into the shard that holds this hash key.
    pub async fn put_large(
        &self,
        stream: &str,
        partition_key: &str,
        hash_key: u128,
        data: &[u8],
    ) -> Result<(ShardId, SequenceNumber), KinesisError> {
        let put = self.large.put(stream, partition_key, hash_key, data).await;
        put.map_err(|reason| KinesisError::Large { stream: stream.to_owned(), bytes: data.len(), reason })
    }

    /// Stops it; calls that still wait after a second are cut off.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(SHUTDOWN_GRACE, self.server.join_next()).await;
        if let Ok(Some(Ok(Err(error)))) = ended {
            tracing::warn!(%error, "embedded kinesis ended with an error");
        }
        self.server.shutdown().await;
    }
}

/// It is a Kinesis like any other.
impl std::ops::Deref for EmbeddedKinesis {
    type Target = Streams;

    fn deref(&self) -> &Streams {
        &self.streams
    }
}

/// The AWS configuration that leads to an endpoint on this machine, whatever the environment says: region, made-up
/// credentials.
pub fn local_config(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("embedded", "embedded", None, None, "embedded Kinesis");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static(REGION))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(endpoint)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shards(kinesis: &EmbeddedKinesis) -> Vec<(String, Option<String>, Option<String>)> {
        let listed = kinesis.client().list_shards().stream_name("pin").send().await.unwrap();
        let shown = |shard: &aws_sdk_kinesis::types::Shard| {
            let parent = shard.parent_shard_id().map(str::to_owned);
            (shard.shard_id().to_owned(), parent, shard.adjacent_parent_shard_id().map(str::to_owned))
        };
        listed.shards().iter().map(shown).collect()
    }

    #[tokio::test]
    async fn streams_are_there_and_can_be_resharded() {
        let kinesis = EmbeddedKinesis::start(&["pin"], 1).await.unwrap();
        let half = (1u128 << 127).to_string();
        kinesis.split("pin", "shardId-000000000000", &half).await.unwrap();
        kinesis.merge("pin", "shardId-000000000001", "shardId-000000000002").await.unwrap();
        let listed = shards(&kinesis).await;
        let id = |number: u32| format!("shardId-{number:012}");
        assert_eq!(
            listed,
            [
                (id(0), None, None),
                (id(1), Some(id(0)), None),
                (id(2), Some(id(0)), None),
                (id(3), Some(id(1)), Some(id(2))),
            ]
        );
        kinesis.shutdown().await;
    }

    #[tokio::test]
    async fn a_call_of_five_mebibytes_fits() {
        let kinesis = EmbeddedKinesis::start(&["pin"], 1).await.unwrap();
        let entry = |_| {
            aws_sdk_kinesis::types::PutRecordsRequestEntry::builder()
                .data(vec![b'x'; 1_000_000].into())
                .partition_key("1")
                .build()
                .unwrap()
        };
        let put = kinesis.client().put_records().stream_name("pin").set_records(Some((0..5).map(entry).collect()));
        assert_eq!(put.send().await.unwrap().failed_record_count(), Some(0));
    }

    #[tokio::test]
    async fn records_of_ten_mebibytes_are_taken_and_read_one_at_a_time() {
        let kinesis = EmbeddedKinesis::start(&["pin"], 2).await.unwrap();
        let data = vec![b'x'; 10 << 20];
        let mut put = Vec::new();
        for key in ["1", "2"] {
            put.push(kinesis.put_large("pin", key, u128::MAX, &data).await.unwrap());
        }
        let shard = "shardId-000000000001";
        assert!(put.iter().all(|(of, _)| of.as_str() == shard), "{put:?}");
        let start = kinesis.client().get_shard_iterator().stream_name("pin").shard_id(shard);
        let start = start.shard_iterator_type(aws_sdk_kinesis::types::ShardIteratorType::TrimHorizon).send().await;
        let mut iterator = start.unwrap().shard_iterator;
        for (_, number) in put {
            let read = kinesis.client().get_records().set_shard_iterator(iterator).send().await.unwrap();
            let found: Vec<_> = read.records.iter().map(|record| (record.sequence_number(), record.data())).collect();
            assert_eq!(found.len(), 1);
            assert_eq!((found[0].0, found[0].1.as_ref()), (number.to_string().as_str(), data.as_slice()));
            iterator = read.next_shard_iterator;
        }
    }
}
