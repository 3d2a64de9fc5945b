//! A Kinesis in this process: ferrokinesis behind a port of its own, so that demo and tests need neither an account
//! nor the internet. What it holds, it holds in memory.
//!
//! Ferrokinesis refuses records beyond 1 MiB and answers a read with any number of bytes. The real one takes 10 MiB,
//! if told to, and answers with 10 MiB; so large records come in by [`EmbeddedKinesis::put_large`], and from then on
//! reads are cut.

mod large;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use aws_sdk_kinesis::error::SdkError;
use aws_sdk_kinesis::operation::create_stream::CreateStreamError;
use aws_sdk_kinesis::operation::describe_stream_summary::DescribeStreamSummaryError;
use aws_sdk_kinesis::operation::merge_shards::MergeShardsError;
use aws_sdk_kinesis::operation::split_shard::SplitShardError;
use aws_sdk_kinesis::types::StreamStatus;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use ferrokinesis::store::StoreOptions;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::large::{LargeRecords, cut};
use crate::checkpoint::{SequenceNumber, ShardId};

const REGION: &str = "us-east-1";

/// A PutRecords call of 5 MiB is a third larger as base64; axum's own limit is 2 MB.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Open shards over all streams; Kinesis's own default of 500 is a quota, not a property.
const SHARDS_MAX: u32 = 10_000;

/// Creating and resharding take this long: short, but with the intermediate states that the real one shows.
const TRANSITION_MS: u64 = 5;

const ACTIVE_POLL: Duration = Duration::from_millis(5);
const ACTIVE_POLLS_MAX: u32 = 2_000;
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// Why there is no embedded Kinesis.
#[derive(Debug, thiserror::Error)]
pub enum KinesisError {
    /// No port on the loopback interface.
    #[error("the embedded Kinesis found no free port on 127.0.0.1")]
    Bind(#[source] std::io::Error),
    /// CreateStream failed.
    #[error("the embedded Kinesis did not create stream {stream:?} with {shards} shards")]
    Create {
        /// The stream.
        stream: String,
        /// Shards asked for.
        shards: u32,
        /// The answer.
        #[source]
        source: Box<SdkError<CreateStreamError>>,
    },
    /// DescribeStreamSummary failed.
    #[error("the embedded Kinesis does not describe stream {stream:?}")]
    Describe {
        /// The stream.
        stream: String,
        /// The answer.
        #[source]
        source: Box<SdkError<DescribeStreamSummaryError>>,
    },
    /// Still creating or updating.
    #[error("stream {0:?} of the embedded Kinesis did not become active")]
    NotActive(String),
    /// SplitShard failed.
    #[error("the embedded Kinesis did not split shard {shard} of stream {stream:?}")]
    Split {
        /// The stream.
        stream: String,
        /// The shard.
        shard: String,
        /// The answer.
        #[source]
        source: Box<SdkError<SplitShardError>>,
    },
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
    /// MergeShards failed.
    #[error("the embedded Kinesis did not merge shards {shards:?} of stream {stream:?}")]
    Merge {
        /// The stream.
        stream: String,
        /// The two shards.
        shards: [String; 2],
        /// The answer.
        #[source]
        source: Box<SdkError<MergeShardsError>>,
    },
}

/// A running Kinesis. Dropping it stops it at once; [`Self::shutdown`] lets calls in flight finish.
#[derive(Debug)]
pub struct EmbeddedKinesis {
    address: SocketAddr,
    client: Client,
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
        let kinesis = Self { address, client: Client::new(&sdk_config(address)), large, stop, server };
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
        sdk_config(self.address)
    }

    /// A client of it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Creates one more stream, active when it returns.
    pub async fn create_stream(&self, stream: &str, shards: u32) -> Result<(), KinesisError> {
        let count = i32::try_from(shards).unwrap_or(i32::MAX);
        let created = self.client.create_stream().stream_name(stream).shard_count(count).send().await;
        created.map_err(|source| KinesisError::Create {
            stream: stream.to_owned(),
            shards,
            source: Box::new(source),
        })?;
        self.until_active(stream).await
    }

    /// Splits a shard; its two children are listed when it returns.
    pub async fn split(&self, stream: &str, shard: &str, at_hash_key: &str) -> Result<(), KinesisError> {
        let call = self.client.split_shard().stream_name(stream).shard_to_split(shard);
        let done = call.new_starting_hash_key(at_hash_key).send().await;
        let failed = |source| KinesisError::Split {
            stream: stream.to_owned(),
            shard: shard.to_owned(),
            source: Box::new(source),
        };
        done.map_err(failed)?;
        self.until_active(stream).await
    }

    /// Merges two adjacent shards; their child is listed when it returns.
    pub async fn merge(&self, stream: &str, shard: &str, adjacent: &str) -> Result<(), KinesisError> {
        let call = self.client.merge_shards().stream_name(stream).shard_to_merge(shard);
        let done = call.adjacent_shard_to_merge(adjacent).send().await;
        let failed = |source| KinesisError::Merge {
            stream: stream.to_owned(),
            shards: [shard.to_owned(), adjacent.to_owned()],
            source: Box::new(source),
        };
        done.map_err(failed)?;
        self.until_active(stream).await
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

    async fn until_active(&self, stream: &str) -> Result<(), KinesisError> {
        for _ in 0..ACTIVE_POLLS_MAX {
            let described = self.client.describe_stream_summary().stream_name(stream).send().await;
            let answer = described
                .map_err(|source| KinesisError::Describe { stream: stream.to_owned(), source: Box::new(source) })?;
            if answer.stream_description_summary().is_some_and(|it| *it.stream_status() == StreamStatus::Active) {
                return Ok(());
            }
            tokio::time::sleep(ACTIVE_POLL).await;
        }
        Err(KinesisError::NotActive(stream.to_owned()))
    }
}

fn sdk_config(address: SocketAddr) -> SdkConfig {
    let credentials = Credentials::new("embedded", "embedded", None, None, "embedded Kinesis");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static(REGION))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(format!("http://{address}"))
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
