//! Posts an emulation's records with PutRecords, at a rate or at the course's pace.
//!
//! Every record counts as posted when Kinesis has acknowledged it with a shard and a sequence number, and not
//! before. A call may be accepted in part: the failed entries are picked out by index and sent again. The SDK's own
//! retries are off, because a second attempt that we do not see is a second record that we do not know of.

mod pace;
mod put;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::{BuildError, SdkError};
use aws_sdk_kinesis::operation::put_records::PutRecordsError;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::pace::Queues;
use self::put::Target;
use super::accepted::AcceptedLog;
use super::pinterest::{Action, Kind, Posting};
use crate::checkpoint::SequenceNumberError;

/// PutRecords takes no more.
const BATCH_RECORDS_MAX: usize = 500;

/// PutRecords takes 5 MiB with the keys; this leaves room for one more record.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Slices that may wait per stream.
const QUEUE_SLICES: usize = 4;

const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream that accepts nothing for this long ends the posting.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why posting stopped.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    /// An answer that trying again does not change.
    #[error("PutRecords to stream {stream:?} was refused, and trying again would not help")]
    Refused {
        /// The stream.
        stream: String,
        /// The answer.
        #[source]
        source: Box<SdkError<PutRecordsError>>,
    },
    /// Throttled, unreachable or failing for too long.
    #[error("stream {stream:?} accepted nothing for {} s; the last answer was: {last}", PATIENCE.as_secs())]
    Unavailable {
        /// The stream.
        stream: String,
        /// The last reason.
        last: String,
    },
    /// An entry lacks data or a key.
    #[error("a record for stream {stream:?} cannot be put")]
    Entry {
        /// The stream.
        stream: String,
        /// What is missing.
        #[source]
        source: Box<BuildError>,
    },
    /// An acknowledgement without a usable number.
    #[error("stream {stream:?} acknowledged a record with a number that cannot be used")]
    Number {
        /// The stream.
        stream: String,
        /// What is wrong with it.
        #[source]
        source: SequenceNumberError,
    },
    /// The answer has another number of entries than the call.
    #[error("PutRecords to stream {stream:?} sent {sent} records and was answered for {answered}")]
    Mismatch {
        /// The stream.
        stream: String,
        /// Entries sent.
        sent: usize,
        /// Entries answered.
        answered: usize,
    },
}

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Records a second over all streams.
    Rate(f64),
    /// As the course's emulator: 0 or 1 s between actions.
    Course,
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The streams of pin, geo and user.
    pub streams: [String; 3],
    /// How fast.
    pub pace: Pace,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// Stop after this many records (over all streams).
    pub records: Option<u64>,
}

/// What has happened so far; written by the producer, read by whoever shows progress.
#[derive(Debug, Default)]
pub struct Counters {
    acknowledged: [AtomicU64; 3],
    bytes: AtomicU64,
    again: AtomicU64,
    unanswered: AtomicU64,
    late_us_max: AtomicU64,
}

impl Counters {
    /// Records that Kinesis acknowledged.
    pub fn acknowledged(&self, kind: Kind) -> u64 {
        self.acknowledged[kind as usize].load(Ordering::Relaxed)
    }

    /// Payload bytes that Kinesis acknowledged.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Records that had to be sent again.
    pub fn sent_again(&self) -> u64 {
        self.again.load(Ordering::Relaxed)
    }

    /// Records of calls without an answer: they may be in the stream once more than anybody knows.
    pub fn unanswered(&self) -> u64 {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// By how much a scheduled record was sent after it was due, at most, since this was last asked.
    pub fn take_late_max(&self) -> Duration {
        Duration::from_micros(self.late_us_max.swap(0, Ordering::Relaxed))
    }
}

/// A client for [`produce`]: without the SDK's retries, with a limit on each call.
pub fn client(config: &SdkConfig) -> Client {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(CALL_TIMEOUT).build();
    let config = aws_sdk_kinesis::config::Builder::from(config)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .build();
    Client::from_conf(config)
}

/// A record with a time of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduled {
    /// When it is to be sent, from the start on.
    pub due: Duration,
    /// The record.
    pub posting: Posting,
}

/// How scheduled records are sent.
#[derive(Debug, Clone)]
pub struct Timetable {
    /// The streams of pin, geo and user.
    pub streams: [String; 3],
    /// What `due` counts from.
    pub start: Instant,
    /// How long a record may wait for others that go in the same call.
    pub linger: Duration,
}

/// Posts until the plan is done or `stop` resolves, then waits for the answers to what was sent. With `log`, writes
/// down every acknowledged record; without, memory is bounded.
pub async fn produce(
    client: &Client,
    actions: impl Iterator<Item = Action>,
    plan: &Plan,
    counters: &Arc<Counters>,
    log: Option<&Arc<AcceptedLog>>,
    stop: impl Future<Output = ()>,
) -> Result<(), ProducerError> {
    let (queues, tasks) = open(client, &plan.streams, counters, log);
    let limit = plan.records.map_or(usize::MAX, |records| usize::try_from(records).unwrap_or(usize::MAX));
    tokio::select! {
        () = stop => {}
        () = deadline(plan.duration) => {}
        _ = pace::feed(actions, plan.pace, limit, &queues) => {}
    }
    drop(queues);
    finish(tasks).await
}

/// Posts each record when it is due, in the order in which they come, until there are no more or `stop` resolves. What
/// could not be sent in time is sent as soon as it can be and stays booked under the time when it was due: a slow
/// Kinesis makes records late and never fewer.
pub async fn produce_on_time(
    client: &Client,
    records: impl Iterator<Item = Scheduled>,
    timetable: &Timetable,
    counters: &Arc<Counters>,
    log: &Arc<AcceptedLog>,
    stop: impl Future<Output = ()>,
) -> Result<(), ProducerError> {
    let (queues, tasks) = open(client, &timetable.streams, counters, Some(log));
    tokio::select! {
        () = stop => {}
        _ = pace::feed_on_time(records, timetable, &queues) => {}
    }
    drop(queues);
    finish(tasks).await
}

type Tasks = JoinSet<Result<(), ProducerError>>;

fn open(
    client: &Client,
    streams: &[String; 3],
    counters: &Arc<Counters>,
    log: Option<&Arc<AcceptedLog>>,
) -> (Queues, Tasks) {
    let mut tasks = JoinSet::new();
    let queues = Kind::ALL.map(|kind| {
        let (sender, queue) = mpsc::channel(QUEUE_SLICES);
        let target = Target {
            client: client.clone(),
            stream: streams[kind as usize].clone(),
            kind,
            counters: Arc::clone(counters),
            log: log.map(Arc::clone),
        };
        tasks.spawn(target.put_all(queue));
        sender
    });
    (queues, tasks)
}

async fn finish(mut tasks: Tasks) -> Result<(), ProducerError> {
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(result) => result?,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
    Ok(())
}

async fn deadline(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aws_sdk_kinesis::types::ShardIteratorType;
    use ferrokinesis::store::StoreOptions;

    use super::super::kinesis::EmbeddedKinesis;
    use super::super::pinterest::{Emulation, EmulationOptions, Population};
    use super::*;
    use crate::checkpoint::{SequenceNumber, ShardId};

    const STREAMS: [&str; 3] = ["pin", "geo", "user"];

    fn plan(rate: f64, records: u64) -> Plan {
        let streams = STREAMS.map(str::to_owned);
        Plan { streams, pace: Pace::Rate(rate), duration: None, records: Some(records) }
    }

    fn emulation() -> Emulation {
        Emulation::new(Arc::new(Population::new()), EmulationOptions::default())
    }

    async fn stored(kinesis: &EmbeddedKinesis, stream: &str) -> Vec<(ShardId, SequenceNumber)> {
        let client = kinesis.client();
        let mut stored = Vec::new();
        for shard in client.list_shards().stream_name(stream).send().await.unwrap().shards() {
            let start = client.get_shard_iterator().stream_name(stream).shard_id(shard.shard_id());
            let start = start.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
            let mut iterator = start.shard_iterator;
            loop {
                let read = client.get_records().set_shard_iterator(iterator).send().await.unwrap();
                if read.records.is_empty() {
                    break;
                }
                let numbers =
                    read.records.iter().map(|record| SequenceNumber::parse(record.sequence_number()).unwrap());
                stored.extend(numbers.map(|number| (ShardId::new(shard.shard_id()), number)));
                iterator = read.next_shard_iterator;
            }
        }
        stored
    }

    async fn assert_log_is_what_is_stored(kinesis: &EmbeddedKinesis, log: &AcceptedLog, counters: &Counters) -> u64 {
        let mut total = 0;
        for kind in Kind::ALL {
            let stored = stored(kinesis, kind.name()).await;
            let distinct: BTreeSet<_> = stored.iter().cloned().collect();
            assert_eq!(distinct.len(), stored.len());
            let logged = log.stream(kind.name());
            let pairs = logged.iter().flat_map(|(shard, all)| all.iter().map(|one| (shard.clone(), one.number)));
            assert_eq!(pairs.collect::<BTreeSet<_>>(), distinct);
            assert_eq!(log.count(kind.name()), stored.len() as u64);
            assert_eq!(counters.acknowledged(kind), stored.len() as u64);
            total += stored.len() as u64;
        }
        total
    }

    #[tokio::test]
    async fn the_log_is_exactly_what_the_streams_hold() {
        let kinesis = EmbeddedKinesis::start(&STREAMS, 2).await.unwrap();
        let (log, counters) = (Arc::new(AcceptedLog::default()), Arc::new(Counters::default()));
        let client = client(&kinesis.sdk_config());
        let never = std::future::pending();
        produce(&client, emulation(), &plan(10_000.0, 1_500), &counters, Some(&log), never).await.unwrap();
        assert_eq!(assert_log_is_what_is_stored(&kinesis, &log, &counters).await, 1_500);
    }

    #[tokio::test]
    async fn partly_refused_calls_are_completed_without_losing_or_doubling_a_record() {
        let limited = StoreOptions { enforce_limits: true, create_stream_ms: 1, ..StoreOptions::default() };
        let kinesis = EmbeddedKinesis::start_with(limited, &STREAMS, 1).await.unwrap();
        let (log, counters) = (Arc::new(AcceptedLog::default()), Arc::new(Counters::default()));
        let client = client(&kinesis.sdk_config());
        let never = std::future::pending();
        // A shard takes 1 MiB a second: large records meet that within one call, however slow the machine is.
        let large = emulation().map(|mut action| {
            action.postings.iter_mut().for_each(|posting| posting.data.resize(10_000, b' '));
            action
        });
        produce(&client, large, &plan(100_000.0, 600), &counters, Some(&log), never).await.unwrap();
        assert!(counters.sent_again() > 0, "the limit of a shard was never met");
        assert_eq!(assert_log_is_what_is_stored(&kinesis, &log, &counters).await, 600);
    }

    #[tokio::test]
    async fn what_is_sent_late_is_booked_under_the_time_when_it_was_due() {
        let kinesis = EmbeddedKinesis::start(&STREAMS, 1).await.unwrap();
        let (log, counters) = (Arc::new(AcceptedLog::default()), Arc::new(Counters::default()));
        let client = client(&kinesis.sdk_config());
        // All of them were due long ago, and together they are more than several calls take.
        let postings = emulation().flat_map(|action| action.postings).filter(|posting| posting.kind == Kind::Pin);
        let records = postings.take(12).enumerate().map(|(at, mut posting)| {
            posting.data.resize(900_000, b' ');
            Scheduled { due: Duration::from_millis(100 * at as u64), posting }
        });
        let start = Instant::now() - Duration::from_secs(5);
        let timetable = Timetable { streams: STREAMS.map(str::to_owned), start, linger: Duration::from_millis(1) };
        let never = std::future::pending();
        produce_on_time(&client, records, &timetable, &counters, &log, never).await.unwrap();
        let booked: Vec<Duration> =
            log.stream("pin").values().flatten().map(|record| record.sent - timetable.start).collect();
        assert_eq!(booked, (0..12).map(|at| Duration::from_millis(100 * at)).collect::<Vec<_>>());
        assert!(counters.take_late_max() >= Duration::from_secs(5), "the first one is five seconds late");
        assert_eq!(counters.take_late_max(), Duration::ZERO, "it is told once");
        assert_log_is_what_is_stored(&kinesis, &log, &counters).await;
    }

    #[tokio::test]
    async fn nothing_is_sent_before_it_is_due() {
        let kinesis = EmbeddedKinesis::start(&STREAMS, 1).await.unwrap();
        let (log, counters) = (Arc::new(AcceptedLog::default()), Arc::new(Counters::default()));
        let client = client(&kinesis.sdk_config());
        let due = |at: u64| Duration::from_millis(300 * at);
        let postings = emulation().flat_map(|action| action.postings);
        let records = postings.zip(0..).map(|(posting, at)| Scheduled { due: due(at), posting });
        let start = Instant::now();
        let timetable = Timetable { streams: STREAMS.map(str::to_owned), start, linger: Duration::ZERO };
        let acknowledged = || Kind::ALL.iter().map(|kind| counters.acknowledged(*kind)).sum::<u64>();
        let some = async {
            while acknowledged() < 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        produce_on_time(&client, records, &timetable, &counters, &log, some).await.unwrap();
        let passed = start.elapsed();
        let there = acknowledged();
        assert!(there >= 3 && due(there - 1) <= passed, "{there} records after {passed:?}");
    }

    #[tokio::test]
    async fn a_missing_stream_ends_the_posting_and_is_named() {
        let kinesis = EmbeddedKinesis::start(&["pin", "geo"], 1).await.unwrap();
        let client = client(&kinesis.sdk_config());
        let never = std::future::pending();
        let ended = produce(&client, emulation(), &plan(1_000.0, 90_000), &Arc::default(), None, never).await;
        let error = anyhow::Error::new(ended.unwrap_err());
        let shown = format!("{error:#}");
        assert!(shown.contains("\"user\"") && shown.contains("ResourceNotFoundException"), "{shown}");
    }
}
