//! Creates, reshards and deletes streams of any Kinesis, and waits until they are what was asked for: a stream of the
//! embedded one takes milliseconds, one at AWS half a minute.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::SdkError;
use aws_sdk_kinesis::operation::create_stream::CreateStreamError;
use aws_sdk_kinesis::operation::delete_stream::DeleteStreamError;
use aws_sdk_kinesis::operation::describe_stream_summary::DescribeStreamSummaryError;
use aws_sdk_kinesis::operation::list_shards::ListShardsError;
use aws_sdk_kinesis::operation::merge_shards::MergeShardsError;
use aws_sdk_kinesis::operation::split_shard::SplitShardError;
use aws_sdk_kinesis::types::{Shard, StreamStatus};
use tokio::time::Instant;

const LOOK_AGAIN_MIN: Duration = Duration::from_millis(5);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(120);

/// Why a stream is not as it was asked to be.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// CreateStream failed.
    #[error("Kinesis did not create stream {stream:?} with {shards} shards")]
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
    #[error("Kinesis does not describe stream {stream:?}")]
    Describe {
        /// The stream.
        stream: String,
        /// The answer.
        #[source]
        source: Box<SdkError<DescribeStreamSummaryError>>,
    },
    /// Still creating or updating.
    #[error("stream {stream:?} did not become active in {} s", PATIENCE.as_secs())]
    NotActive {
        /// The stream.
        stream: String,
    },
    /// ListShards failed.
    #[error("Kinesis does not list the shards of stream {stream:?}")]
    List {
        /// The stream.
        stream: String,
        /// The answer.
        #[source]
        source: Box<SdkError<ListShardsError>>,
    },
    /// SplitShard failed.
    #[error("Kinesis did not split shard {shard} of stream {stream:?}")]
    Split {
        /// The stream.
        stream: String,
        /// The shard.
        shard: String,
        /// The answer.
        #[source]
        source: Box<SdkError<SplitShardError>>,
    },
    /// MergeShards failed.
    #[error("Kinesis did not merge shards {shards:?} of stream {stream:?}")]
    Merge {
        /// The stream.
        stream: String,
        /// The two shards.
        shards: [String; 2],
        /// The answer.
        #[source]
        source: Box<SdkError<MergeShardsError>>,
    },
    /// DeleteStream failed.
    #[error("Kinesis did not delete stream {stream:?}")]
    Delete {
        /// The stream.
        stream: String,
        /// The answer.
        #[source]
        source: Box<SdkError<DeleteStreamError>>,
    },
}

/// The streams of one Kinesis.
#[derive(Debug, Clone)]
pub struct Streams {
    client: Client,
}

impl Streams {
    /// Those that this client reaches.
    pub fn of(client: Client) -> Self {
        Self { client }
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether there is a stream of this name.
    pub async fn exists(&self, stream: &str) -> Result<bool, AdminError> {
        match self.client.describe_stream_summary().stream_name(stream).send().await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => {
                Ok(false)
            }
            Err(source) => Err(AdminError::Describe { stream: stream.to_owned(), source: Box::new(source) }),
        }
    }

    /// Creates a stream, active when it returns.
    pub async fn create_stream(&self, stream: &str, shards: u32) -> Result<(), AdminError> {
        let count = i32::try_from(shards).unwrap_or(i32::MAX);
        let created = self.client.create_stream().stream_name(stream).shard_count(count).send().await;
        created.map_err(|source| AdminError::Create { stream: stream.to_owned(), shards, source: Box::new(source) })?;
        self.until_active(stream).await
    }

    /// Splits a shard; its two children are listed when it returns.
    pub async fn split(&self, stream: &str, shard: &str, at_hash_key: &str) -> Result<(), AdminError> {
        let call = self.client.split_shard().stream_name(stream).shard_to_split(shard);
        let done = call.new_starting_hash_key(at_hash_key).send().await;
        let failed =
            |source| AdminError::Split { stream: stream.to_owned(), shard: shard.to_owned(), source: Box::new(source) };
        done.map_err(failed)?;
        self.until_active(stream).await
    }

    /// Merges two adjacent shards; their child is listed when it returns.
    pub async fn merge(&self, stream: &str, shard: &str, adjacent: &str) -> Result<(), AdminError> {
        let call = self.client.merge_shards().stream_name(stream).shard_to_merge(shard);
        let done = call.adjacent_shard_to_merge(adjacent).send().await;
        let failed = |source| AdminError::Merge {
            stream: stream.to_owned(),
            shards: [shard.to_owned(), adjacent.to_owned()],
            source: Box::new(source),
        };
        done.map_err(failed)?;
        self.until_active(stream).await
    }

    /// All shards that are listed, closed ones too.
    pub async fn shards(&self, stream: &str) -> Result<Vec<Shard>, AdminError> {
        let mut shards = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let call = self.client.list_shards();
            let call = match next.take() {
                Some(token) => call.next_token(token),
                None => call.stream_name(stream),
            };
            let failed = |source| AdminError::List { stream: stream.to_owned(), source: Box::new(source) };
            let page = call.send().await.map_err(failed)?;
            shards.extend(page.shards.unwrap_or_default());
            next = page.next_token;
            if next.is_none() {
                return Ok(shards);
            }
        }
    }

    /// Deletes a stream with everything in it; one that is not there is no error, and one that is just being created
    /// or resharded is waited for.
    pub async fn delete_stream(&self, stream: &str) -> Result<(), AdminError> {
        let (deadline, mut pause) = (Instant::now() + PATIENCE, LOOK_AGAIN_MIN);
        loop {
            let deleted = self.client.delete_stream().stream_name(stream).enforce_consumer_deletion(true).send().await;
            let Err(error) = deleted else { return Ok(()) };
            let service = error.as_service_error();
            if service.is_some_and(DeleteStreamError::is_resource_not_found_exception) {
                return Ok(());
            }
            let is_busy = service.is_some_and(DeleteStreamError::is_resource_in_use_exception);
            if !is_busy || Instant::now() >= deadline {
                return Err(AdminError::Delete { stream: stream.to_owned(), source: Box::new(error) });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_AGAIN_MAX);
        }
    }

    async fn until_active(&self, stream: &str) -> Result<(), AdminError> {
        let (deadline, mut pause) = (Instant::now() + PATIENCE, LOOK_AGAIN_MIN);
        while Instant::now() < deadline {
            let described = self.client.describe_stream_summary().stream_name(stream).send().await;
            let answer = described
                .map_err(|source| AdminError::Describe { stream: stream.to_owned(), source: Box::new(source) })?;
            if answer.stream_description_summary().is_some_and(|it| *it.stream_status() == StreamStatus::Active) {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_AGAIN_MAX);
        }
        Err(AdminError::NotActive { stream: stream.to_owned() })
    }
}
