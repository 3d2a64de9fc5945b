//! The wire: with the protocol that it hands to the SDK ([`super::protocol`]) all of the source that names it.
//!
//! Four calls, answered in our own types. The SDK's own retries are off: what to do about an error is decided by
//! one table ([`super::error`]), and a hidden retry would spend the shard's five calls a second behind the pacer's
//! back. `GetRecords` also hands out the response's `Date`: Kinesis's clock, the only one that says up to when an
//! empty shard is known to be empty.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::config::{AppName, Credentials, Region};
use aws_sdk_kinesis::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::RequestId;
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::operation::list_shards::ListShardsOutput;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{
    ChildShard, Record, Shard, ShardFilter, ShardFilterType, ShardIteratorType, StreamStatus,
};

use super::error::{Call, Fault, ReadError};
use super::protocol::{Beside, QuickJson, Spare};
use super::stream::{KinesisConfig, ListedShard, ReadReply, Status, StreamDescription, StreamTarget};
use crate::checkpoint::{Position, SequenceNumber, ShardId};
use crate::record::{Heir, RawRecord};

/// Pages of one listing; at up to 1,000 shards a page far above any account's quota.
const LISTING_PAGES_MAX: usize = 1000;
/// A listing whose token expires this often is too slow to ever finish.
const LISTING_RESTARTS_MAX: usize = 3;
/// Long enough for a TCP and TLS handshake across the world.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A healthy read is answered in well under a second; this only ends a dead connection.
const READ_TIMEOUT: Duration = Duration::from_secs(15);
/// 10 MiB in this time is the slowest link on which reading makes sense.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(60);

/// A client. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Kinesis {
    client: Client,
    /// Where it leads, for the message when it leads nowhere.
    place: Arc<str>,
    has_region: bool,
    /// Memory for the bodies of reads.
    bodies: Spare,
}

/// No answer came. The SDK's error does not say where it asked.
#[derive(Debug, thiserror::Error)]
#[error("{place}")]
struct Unanswered {
    place: Arc<str>,
    #[source]
    source: BoxError,
}

impl Kinesis {
    /// A client by the SDK's default chain. Talks to nobody but, maybe, the machine's metadata service.
    pub async fn connect(config: &KinesisConfig) -> Self {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12());
        if let Some(region) = &config.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(endpoint) = &config.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let shared = loader.load().await;
        let place = match (shared.endpoint_url(), shared.region()) {
            (Some(endpoint), _) => format!("endpoint {endpoint}"),
            (None, Some(region)) => format!("region {region}"),
            (None, None) => "no region".to_owned(),
        };
        let has_region = shared.region().is_some();
        Self { has_region, ..Self::from_builder(aws_sdk_kinesis::config::Builder::from(&shared), &place) }
    }

    /// Whether a region is known. Without one no request can be signed.
    pub fn has_region(&self) -> bool {
        self.has_region
    }

    /// A client for an endpoint that takes any credentials: an embedded server.
    pub fn local(endpoint: &str) -> Self {
        let builder = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("local", "local", None, None, "local"))
            .endpoint_url(endpoint);
        Self::from_builder(builder, &format!("endpoint {endpoint}"))
    }

    fn from_builder(builder: aws_sdk_kinesis::config::Builder, place: &str) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .operation_timeout(OPERATION_TIMEOUT)
            .build();
        let protocol = QuickJson::default();
        let mut builder = builder.retry_config(RetryConfig::disabled()).timeout_config(timeouts).protocol(protocol);
        builder.set_app_name(AppName::new("pintail").ok());
        Self {
            client: Client::from_conf(builder.build()),
            place: Arc::from(place),
            has_region: true,
            bodies: Spare::bodies(),
        }
    }

    /// `DescribeStreamSummary`.
    pub async fn describe(&self, stream: &StreamTarget) -> Result<StreamDescription, ReadError> {
        let call = Call::DescribeStream;
        let (name, arn) = stream.split();
        let answer = self.client.describe_stream_summary().set_stream_name(name).set_stream_arn(arn).send().await;
        let summary = answer
            .map_err(|error| self.failure(call, error))?
            .stream_description_summary
            .ok_or_else(|| invalid(call, "no stream in the description"))?;
        let hours = summary.retention_period_hours;
        let retention_h = u64::try_from(hours).map_err(|_| invalid(call, format!("a retention of {hours} hours")))?;
        Ok(StreamDescription {
            target: stream.clone(),
            name: summary.stream_name,
            arn: summary.stream_arn,
            created_s: summary.stream_creation_timestamp.secs(),
            retention: Duration::from_secs(retention_h * 3600),
            open_shards: usize::try_from(summary.open_shard_count).unwrap_or_default(),
            status: status(&summary.stream_status),
        })
    }

    /// `ListShards`, every page. With `open_since_ms` only shards that were open at that time (epoch ms) or later.
    pub async fn list_shards(
        &self,
        stream: &StreamTarget,
        open_since_ms: Option<i64>,
    ) -> Result<Vec<ListedShard>, ReadError> {
        for _ in 0..LISTING_RESTARTS_MAX {
            match self.list_once(stream, open_since_ms).await {
                Err(error) if error.fault == Fault::ExpiredNextToken => {}
                settled => return settled,
            }
        }
        Err(ReadError::new(Call::ListShards, Fault::Busy, "the listing's token expired again and again"))
    }

    async fn list_once(
        &self,
        stream: &StreamTarget,
        open_since_ms: Option<i64>,
    ) -> Result<Vec<ListedShard>, ReadError> {
        let mut shards = BTreeMap::new();
        let mut token = None;
        for _ in 0..LISTING_PAGES_MAX {
            let page = self.list_page(stream, open_since_ms, token).await?;
            for shard in page.shards.unwrap_or_default() {
                let shard = listed(shard)?;
                shards.insert(shard.id.clone(), shard);
            }
            token = page.next_token;
            if token.is_none() {
                return Ok(shards.into_values().collect());
            }
        }
        Err(invalid(Call::ListShards, format!("more than {LISTING_PAGES_MAX} pages")))
    }

    /// One page. A token stands for the stream and the filter and must come alone.
    async fn list_page(
        &self,
        stream: &StreamTarget,
        open_since_ms: Option<i64>,
        token: Option<String>,
    ) -> Result<ListShardsOutput, ReadError> {
        let request = self.client.list_shards();
        let request = if let Some(token) = token {
            request.next_token(token)
        } else {
            let (name, arn) = stream.split();
            let filter = open_since_ms.map(since).transpose()?;
            request.set_stream_name(name).set_stream_arn(arn).set_shard_filter(filter)
        };
        request.send().await.map_err(|error| self.failure(Call::ListShards, error))
    }

    /// `GetShardIterator` for what comes after `from`. `End` has no iterator and is refused.
    pub async fn shard_iterator(
        &self,
        stream: &StreamTarget,
        shard: &ShardId,
        from: Position,
    ) -> Result<String, ReadError> {
        let call = Call::GetShardIterator;
        let (name, arn) = stream.split();
        let request =
            self.client.get_shard_iterator().set_stream_name(name).set_stream_arn(arn).shard_id(shard.as_str());
        let request = match from {
            Position::Beginning => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
            Position::At(ms) => {
                request.shard_iterator_type(ShardIteratorType::AtTimestamp).timestamp(DateTime::from_millis(ms))
            }
            Position::After(number) => request
                .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
                .starting_sequence_number(number.to_string()),
            Position::End => return Err(invalid(call, "a finished shard has no next record")),
        };
        let answer = request.send().await.map_err(|error| self.failure(call, error))?;
        answer.shard_iterator.ok_or_else(|| invalid(call, "no iterator in the answer"))
    }

    /// `GetRecords`.
    pub async fn get_records(&self, stream: &StreamTarget, iterator: &str, limit: i32) -> Result<ReadReply, ReadError> {
        let call = Call::GetRecords;
        let (_, arn) = stream.split();
        let beside = Beside::with(&self.bodies);
        let request = self.client.get_records().shard_iterator(iterator).limit(limit).set_stream_arn(arn);
        let answer = request.customize().interceptor(beside.clone()).send().await;
        let answer = answer.map_err(|error| self.failure(call, error))?;
        read_reply(answer, beside.take_records(), beside.date_ms())
    }
}

// === From the SDK's types to ours ===

fn status(status: &StreamStatus) -> Status {
    if *status == StreamStatus::Creating {
        Status::Creating
    } else if *status == StreamStatus::Deleting {
        Status::Deleting
    } else {
        Status::Readable
    }
}

fn since(ms: i64) -> Result<ShardFilter, ReadError> {
    ShardFilter::builder()
        .r#type(ShardFilterType::FromTimestamp)
        .timestamp(DateTime::from_millis(ms))
        .build()
        .map_err(|error| ReadError::new(Call::ListShards, Fault::NotSent, error))
}

fn listed(shard: Shard) -> Result<ListedShard, ReadError> {
    let id = ShardId::new(&shard.shard_id);
    let hash_range = match shard.hash_key_range {
        None => None,
        Some(range) => Some((hash_key(&id, &range.starting_hash_key)?, hash_key(&id, &range.ending_hash_key)?)),
    };
    let parents = [shard.parent_shard_id, shard.adjacent_parent_shard_id];
    Ok(ListedShard {
        parents: parents.into_iter().flatten().map(ShardId::new).filter(|parent| *parent != id).collect(),
        hash_range,
        closed: shard.sequence_number_range.is_some_and(|range| range.ending_sequence_number.is_some()),
        id,
    })
}

fn hash_key(shard: &ShardId, text: &str) -> Result<u128, ReadError> {
    text.parse().map_err(|error| {
        let what = format!("{shard} has the hash key {text:?}, which is no 128-bit number ({error})");
        invalid(Call::ListShards, what)
    })
}

/// The answer to a read. Its records, unless they stand beside it already.
pub(crate) fn read_reply(
    answer: GetRecordsOutput,
    records: Option<Vec<RawRecord>>,
    date_ms: Option<i64>,
) -> Result<ReadReply, ReadError> {
    let records = match records {
        Some(records) => records,
        None => answer.records.into_iter().map(|record| raw(record, date_ms)).collect::<Result<_, _>>()?,
    };
    let bytes = records.iter().map(|record| record.data.len() as u64).sum();
    let behind_ms = answer.millis_behind_latest.unwrap_or_default().max(0);
    let children = credible(answer.child_shards.unwrap_or_default());
    Ok(ReadReply { records, bytes, next: answer.next_shard_iterator, behind_ms, children, date_ms })
}

fn raw(record: Record, date_ms: Option<i64>) -> Result<RawRecord, ReadError> {
    let sequence_number = SequenceNumber::parse(&record.sequence_number)
        .map_err(|error| ReadError::new(Call::GetRecords, Fault::InvalidReply, error))?;
    let arrived_at_us = match (record.approximate_arrival_timestamp, date_ms) {
        (Some(at), _) => micros(at),
        (None, Some(ms)) => ms * 1000,
        (None, None) => {
            return Err(invalid(Call::GetRecords, format!("record {sequence_number} has no arrival time")));
        }
    };
    Ok(RawRecord {
        data: record.data.into_inner().into(),
        sequence_number,
        sub_sequence_number: 0,
        arrived_at_us,
        refused: None,
    })
}

/// The wire has the time as a double of seconds, whose last bits are below a microsecond: rounding gives back the
/// milliseconds that were sent, truncation would not.
pub(super) fn micros(at: DateTime) -> i64 {
    at.secs().saturating_mul(1_000_000).saturating_add((i64::from(at.subsec_nanos()) + 500) / 1000)
}

/// All of them or none: a child without a name or without parents makes the list worthless.
fn credible(children: Vec<ChildShard>) -> Vec<Heir> {
    if children.iter().any(|child| child.shard_id.is_empty() || child.parent_shards.is_empty()) {
        return Vec::new();
    }
    let heir = |child: ChildShard| {
        let parents = child.parent_shards.into_iter().map(ShardId::new).collect();
        Heir { shard: ShardId::new(child.shard_id), parents }
    };
    children.into_iter().map(heir).collect()
}

// === From the SDK's errors to ours ===

fn invalid(call: Call, what: impl Into<BoxError>) -> ReadError {
    ReadError::new(call, Fault::InvalidReply, what)
}

impl Kinesis {
    /// The SDK's error types differ by call, their codes do not; so the code decides.
    fn failure<E>(&self, call: Call, error: SdkError<E>) -> ReadError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let request_id = error.request_id().unwrap_or_default();
        if let SdkError::ServiceError(refusal) = &error {
            let server_error = refusal.raw().status().is_server_error();
            let fault = fault_of(refusal.err().code().unwrap_or_default(), server_error);
            tracing::debug!(%call, ?fault, request_id, "kinesis refused a call");
            return ReadError::new(call, fault, error);
        }
        let fault = if is_unsent(&error) { Fault::NotSent } else { Fault::Unavailable };
        tracing::debug!(%call, ?fault, request_id, "kinesis did not answer a call");
        ReadError::new(call, fault, Unanswered { place: Arc::clone(&self.place), source: error.into() })
    }
}

/// Not a connection's failure: the request found no credentials, region or endpoint. A connection that was cut is
/// `other` too, but with a kind.
fn is_unsent<E>(error: &SdkError<E>) -> bool {
    matches!(error, SdkError::ConstructionFailure(_))
        || matches!(error, SdkError::DispatchFailure(failure) if failure.is_other() && failure.as_other().is_none())
}

fn fault_of(code: &str, server_error: bool) -> Fault {
    match code {
        "ProvisionedThroughputExceededException" | "ThrottlingException" | "Throttling" | "RequestLimitExceeded" => {
            Fault::Throttled
        }
        "LimitExceededException" | "ResourceInUseException" => Fault::Busy,
        "KMSThrottlingException" => Fault::KmsThrottled,
        "KMSAccessDeniedException"
        | "KMSDisabledException"
        | "KMSNotFoundException"
        | "KMSInvalidStateException"
        | "KMSOptInRequired" => Fault::KmsRefused,
        "ExpiredIteratorException" => Fault::ExpiredIterator,
        "ExpiredNextTokenException" => Fault::ExpiredNextToken,
        "ResourceNotFoundException" => Fault::NotFound,
        "InvalidArgumentException" | "ValidationException" => Fault::InvalidArgument,
        "AccessDeniedException"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "IncompleteSignatureException"
        | "MissingAuthenticationTokenException"
        | "ExpiredTokenException"
        | "InvalidClientTokenId"
        | "OptInRequired"
        | "NotAuthorized" => Fault::AccessDenied,
        "InternalFailure" | "InternalFailureException" | "ServiceUnavailable" => Fault::Unavailable,
        _ if server_error => Fault::Unavailable,
        _ => Fault::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_reads_by_the_quick_protocol() {
        let client = Kinesis::local("http://localhost:1").client;
        let protocol = format!("{:?}", client.config().protocol());
        assert!(protocol.contains("QuickJson"), "{protocol}");
    }
}
