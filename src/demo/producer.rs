//! Posts an emulation's records with PutRecords, at a rate or at the course's pace.
//!
//! Every record counts as posted when Kinesis has acknowledged it with a shard and a sequence number, and not
//! before. A call may be accepted in part: the failed entries are picked out by index and sent again. The SDK's own
//! retries are off, because a second attempt that we do not see is a second record that we do not know of.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::{BuildError, DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::put_records::{PutRecordsError, PutRecordsOutput};
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use aws_smithy_types::Blob;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::accepted::{Accepted, AcceptedLog};
use super::pinterest::{Action, Kind, Posting};
use crate::checkpoint::{SequenceNumber, SequenceNumberError, ShardId};

/// PutRecords takes no more.
const BATCH_RECORDS_MAX: usize = 500;

/// PutRecords takes 5 MiB with the keys; this leaves room for one more record.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Records are released in slices of this length: short beside every latency that is measured on them.
const SLICE: Duration = Duration::from_millis(20);

/// A schedule that has fallen behind further than this is moved; catching up would be a burst, not a rate.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// Slices that may wait per stream.
const QUEUE_SLICES: usize = 4;

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// A stream that accepts nothing for this long ends the posting.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why posting stopped.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    /// An answer that trying again does not change.
    #[error("PutRecords to stream {stream:?} was refused: {answer}")]
    Refused {
        /// The stream.
        stream: String,
        /// The whole answer.
        answer: String,
        /// The error behind it.
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
    let mut tasks = JoinSet::new();
    let queues = Kind::ALL.map(|kind| {
        let (sender, queue) = mpsc::channel(QUEUE_SLICES);
        let target = Target {
            client: client.clone(),
            stream: plan.streams[kind as usize].clone(),
            kind,
            counters: Arc::clone(counters),
            log: log.map(Arc::clone),
        };
        tasks.spawn(target.put_all(queue));
        sender
    });
    let limit = plan.records.map_or(usize::MAX, |records| usize::try_from(records).unwrap_or(usize::MAX));
    tokio::select! {
        () = stop => {}
        () = deadline(plan.duration) => {}
        _ = feed(actions, plan.pace, limit, &queues) => {}
    }
    drop(queues);
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

// === Pacing ===

/// A stream's task has ended; its result says why.
struct QueueClosed;

type Queues = [mpsc::Sender<Vec<Posting>>; 3];

async fn feed(
    actions: impl Iterator<Item = Action>,
    pace: Pace,
    limit: usize,
    queues: &Queues,
) -> Result<(), QueueClosed> {
    match pace {
        Pace::Rate(rate) => feed_at(rate, actions.flat_map(|action| action.postings).take(limit), queues).await,
        Pace::Course => feed_as_the_course(actions, limit, queues).await,
    }
}

async fn feed_at(rate: f64, mut postings: impl Iterator<Item = Posting>, queues: &Queues) -> Result<(), QueueClosed> {
    let mut schedule = Schedule::new(rate, Instant::now());
    let mut slices = tokio::time::interval(SLICE);
    slices.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        slices.tick().await;
        let due = schedule.due(Instant::now());
        let slice: Vec<Posting> = postings.by_ref().take(due).collect();
        let done = slice.len() < due;
        enqueue(slice, queues).await?;
        if done {
            return Ok(());
        }
    }
}

async fn feed_as_the_course(
    actions: impl Iterator<Item = Action>,
    limit: usize,
    queues: &Queues,
) -> Result<(), QueueClosed> {
    let mut left = limit;
    for mut action in actions {
        tokio::time::sleep(Duration::from_secs(u64::from(action.sleep_s))).await;
        action.postings.truncate(left);
        left -= action.postings.len();
        enqueue(action.postings, queues).await?;
        if left == 0 {
            break;
        }
    }
    Ok(())
}

async fn enqueue(slice: Vec<Posting>, queues: &Queues) -> Result<(), QueueClosed> {
    let mut by_kind = [const { Vec::new() }; 3];
    slice.into_iter().for_each(|posting| by_kind[posting.kind as usize].push(posting));
    for (queue, mut postings) in queues.iter().zip(by_kind) {
        while !postings.is_empty() {
            let rest = postings.split_off(postings.len().min(BATCH_RECORDS_MAX));
            queue.send(postings).await.map_err(|_| QueueClosed)?;
            postings = rest;
        }
    }
    Ok(())
}

/// How many records are due at a steady rate.
struct Schedule {
    rate: f64,
    since: Instant,
    released: f64,
}

impl Schedule {
    fn new(rate: f64, since: Instant) -> Self {
        Self { rate, since, released: 0.0 }
    }

    /// Records to release now.
    fn due(&mut self, now: Instant) -> usize {
        let target = now.saturating_duration_since(self.since).as_secs_f64() * self.rate;
        let behind_max = BEHIND_MAX.as_secs_f64() * self.rate;
        self.released = self.released.max(target - behind_max);
        let due = (target - self.released).floor().max(0.0);
        self.released += due;
        due as usize
    }
}

// === Putting ===

struct Target {
    client: Client,
    stream: String,
    kind: Kind,
    counters: Arc<Counters>,
    log: Option<Arc<AcceptedLog>>,
}

impl Target {
    /// One call at a time, so that records with one key keep their order.
    async fn put_all(self, mut queue: mpsc::Receiver<Vec<Posting>>) -> Result<(), ProducerError> {
        let mut next = None;
        loop {
            let mut batch = match next.take() {
                Some(batch) => batch,
                None => match queue.recv().await {
                    Some(batch) => batch,
                    None => return Ok(()),
                },
            };
            while next.is_none()
                && let Ok(more) = queue.try_recv()
            {
                if fits(&batch, &more) { batch.extend(more) } else { next = Some(more) }
            }
            self.put(batch).await?;
        }
    }

    /// Puts one batch, whatever it takes.
    async fn put(&self, mut batch: Vec<Posting>) -> Result<(), ProducerError> {
        let mut backoff = BACKOFF_MIN;
        let mut accepted_at = Instant::now();
        loop {
            let sent = Instant::now();
            let answer = self.client.put_records().stream_name(&self.stream).set_records(Some(self.entries(&batch)?));
            let trouble = match answer.send().await {
                Ok(answer) => {
                    let before = batch.len();
                    let refused = self.accept(&mut batch, sent, answer)?;
                    if batch.is_empty() {
                        return Ok(());
                    }
                    if batch.len() < before {
                        accepted_at = Instant::now();
                    }
                    refused
                }
                Err(error) => {
                    let reason = DisplayErrorContext(&error).to_string();
                    match reaction(&error) {
                        Reaction::Again => reason,
                        Reaction::AgainUnanswered => {
                            self.counters.unanswered.fetch_add(batch.len() as u64, Ordering::Relaxed);
                            reason
                        }
                        Reaction::GiveUp => {
                            let (stream, source) = (self.stream.clone(), Box::new(error));
                            return Err(ProducerError::Refused { stream, answer: reason, source });
                        }
                    }
                }
            };
            self.counters.again.fetch_add(batch.len() as u64, Ordering::Relaxed);
            tracing::debug!(stream = self.stream, records = batch.len(), reason = trouble, "put again");
            if accepted_at.elapsed() > PATIENCE {
                return Err(ProducerError::Unavailable { stream: self.stream.clone(), last: trouble });
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    fn entries(&self, batch: &[Posting]) -> Result<Vec<PutRecordsRequestEntry>, ProducerError> {
        let entry = |posting: &Posting| {
            let entry = PutRecordsRequestEntry::builder().data(Blob::new(posting.data.clone()));
            entry.partition_key(posting.ind.to_string()).build()
        };
        let entries: Result<_, BuildError> = batch.iter().map(entry).collect();
        entries.map_err(|source| ProducerError::Entry { stream: self.stream.clone(), source: Box::new(source) })
    }

    /// Books what was acknowledged and leaves the rest in `batch`; says why it was refused.
    fn accept(
        &self,
        batch: &mut Vec<Posting>,
        sent: Instant,
        answer: PutRecordsOutput,
    ) -> Result<String, ProducerError> {
        let stream = || self.stream.clone();
        if answer.records.len() != batch.len() {
            let (sent, answered) = (batch.len(), answer.records.len());
            return Err(ProducerError::Mismatch { stream: stream(), sent, answered });
        }
        let mut refused = String::new();
        let mut rest = Vec::new();
        let mut accepted = Vec::with_capacity(batch.len());
        for (posting, entry) in batch.drain(..).zip(answer.records) {
            match (entry.sequence_number, entry.shard_id) {
                (Some(number), Some(shard)) if entry.error_code.is_none() => {
                    let number = SequenceNumber::parse(&number)
                        .map_err(|source| ProducerError::Number { stream: stream(), source })?;
                    accepted.push((ShardId::new(shard), Accepted { number, sent }));
                    self.counters.bytes.fetch_add(posting.data.len() as u64, Ordering::Relaxed);
                }
                _ => {
                    refused = format!("{:?}: {:?}", entry.error_code, entry.error_message);
                    rest.push(posting);
                }
            }
        }
        *batch = rest;
        self.counters.acknowledged[self.kind as usize].fetch_add(accepted.len() as u64, Ordering::Relaxed);
        if let Some(log) = &self.log {
            log.add(&self.stream, accepted);
        }
        Ok(refused)
    }
}

fn fits(batch: &[Posting], more: &[Posting]) -> bool {
    let bytes = |postings: &[Posting]| postings.iter().map(|posting| posting.data.len()).sum::<usize>();
    batch.len() + more.len() <= BATCH_RECORDS_MAX && bytes(batch) + bytes(more) <= BATCH_BYTES_MAX
}

/// What an error of a whole call asks for.
enum Reaction {
    /// Nothing was stored.
    Again,
    /// Something may have been stored.
    AgainUnanswered,
    GiveUp,
}

fn reaction(error: &SdkError<PutRecordsError>) -> Reaction {
    match error {
        SdkError::ServiceError(answer) => {
            let throttled = error.code().is_some_and(|code| code.contains("Throughput") || code.contains("Throttl"));
            match answer.raw().status().as_u16() {
                _ if throttled => Reaction::Again,
                500.. => Reaction::AgainUnanswered,
                _ => Reaction::GiveUp,
            }
        }
        SdkError::TimeoutError(_) | SdkError::ResponseError(_) => Reaction::AgainUnanswered,
        SdkError::DispatchFailure(failure) if failure.is_user() => Reaction::GiveUp,
        SdkError::DispatchFailure(_) => Reaction::AgainUnanswered,
        _ => Reaction::GiveUp,
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
        produce(&client, emulation(), &plan(100_000.0, 4_200), &counters, Some(&log), never).await.unwrap();
        assert!(counters.sent_again() > 0, "the limit of a shard was never met");
        assert_eq!(assert_log_is_what_is_stored(&kinesis, &log, &counters).await, 4_200);
    }

    #[tokio::test]
    async fn a_missing_stream_ends_the_posting_and_is_named() {
        let kinesis = EmbeddedKinesis::start(&["pin", "geo"], 1).await.unwrap();
        let client = client(&kinesis.sdk_config());
        let never = std::future::pending();
        let ended = produce(&client, emulation(), &plan(1_000.0, 90_000), &Arc::default(), None, never).await;
        let error = ended.unwrap_err();
        assert!(matches!(&error, ProducerError::Refused { stream, .. } if stream == "user"), "{error}");
    }

    #[test]
    fn a_rate_is_kept_and_a_gap_is_not_made_up_for() {
        let start = Instant::now();
        let mut schedule = Schedule::new(500.0, start);
        assert_eq!(schedule.due(start + Duration::from_millis(100)), 50);
        assert_eq!(schedule.due(start + Duration::from_millis(100)), 0);
        assert_eq!(schedule.due(start + Duration::from_secs(60)), 500);
    }

    #[tokio::test]
    async fn the_courses_pace_sleeps_before_each_action() {
        let (sender, mut queue) = mpsc::channel(100);
        let queues = [sender.clone(), sender.clone(), sender];
        let actions = Emulation::new(Arc::new(Population::new()), EmulationOptions::clean(100));
        let start = Instant::now();
        assert!(feed_as_the_course(actions, 4, &queues).await.is_ok());
        assert!(start.elapsed() >= Duration::from_secs(1), "the second action of seed 100 comes after a second");
        drop(queues);
        let mut posted = Vec::new();
        while let Some(slice) = queue.recv().await {
            posted.extend(slice.into_iter().map(|posting| posting.ind));
        }
        assert_eq!(posted, [7528, 7528, 7528, 2863]);
    }
}
