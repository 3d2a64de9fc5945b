//! Puts one stream's records, whatever it takes, and books what Kinesis acknowledged.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::{BuildError, ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::put_records::{PutRecordsError, PutRecordsOutput};
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use aws_smithy_types::Blob;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::pace::{Due, fits};
use super::{Counters, PATIENCE, ProducerError};
use crate::checkpoint::{SequenceNumber, ShardId};
use crate::demo::accepted::{Accepted, AcceptedLog};
use crate::demo::pinterest::Kind;

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// One stream, as its task holds it.
pub(super) struct Target {
    pub(super) client: Client,
    pub(super) stream: String,
    pub(super) kind: Kind,
    pub(super) counters: Arc<Counters>,
    pub(super) log: Option<Arc<AcceptedLog>>,
}

impl Target {
    /// One call at a time, so that records with one key keep their order.
    pub(super) async fn put_all(self, mut queue: mpsc::Receiver<Vec<Due>>) -> Result<(), ProducerError> {
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
    async fn put(&self, mut batch: Vec<Due>) -> Result<(), ProducerError> {
        let mut backoff = BACKOFF_MIN;
        let mut accepted_at = Instant::now();
        loop {
            let sent = Instant::now();
            self.tell_late(&batch, sent);
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
                    let reason = with_causes(&error);
                    match reaction(&error) {
                        Reaction::Again => reason,
                        Reaction::AgainUnanswered => {
                            self.counters.unanswered.fetch_add(batch.len() as u64, Ordering::Relaxed);
                            reason
                        }
                        Reaction::GiveUp => {
                            let (stream, source) = (self.stream.clone(), Box::new(error));
                            return Err(ProducerError::Refused { stream, source });
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

    fn tell_late(&self, batch: &[Due], sent: Instant) {
        let late = batch.iter().filter_map(|record| Some(sent.saturating_duration_since(record.at?))).max();
        let late_us = late.map_or(0, |late| u64::try_from(late.as_micros()).unwrap_or(u64::MAX));
        self.counters.late_us_max.fetch_max(late_us, Ordering::Relaxed);
    }

    fn entries(&self, batch: &[Due]) -> Result<Vec<PutRecordsRequestEntry>, ProducerError> {
        let entry = |Due { posting, .. }: &Due| {
            let entry = PutRecordsRequestEntry::builder().data(Blob::new(posting.data.clone()));
            entry.partition_key(posting.key.to_string()).build()
        };
        let entries: Result<_, BuildError> = batch.iter().map(entry).collect();
        entries.map_err(|source| ProducerError::Entry { stream: self.stream.clone(), source: Box::new(source) })
    }

    /// Books what was acknowledged and leaves the rest in `batch`; says why it was refused.
    fn accept(&self, batch: &mut Vec<Due>, sent: Instant, answer: PutRecordsOutput) -> Result<String, ProducerError> {
        let stream = || self.stream.clone();
        if answer.records.len() != batch.len() {
            let (sent, answered) = (batch.len(), answer.records.len());
            return Err(ProducerError::Mismatch { stream: stream(), sent, answered });
        }
        let mut refused = String::new();
        let mut rest = Vec::new();
        let mut accepted = Vec::with_capacity(batch.len());
        for (record, entry) in batch.drain(..).zip(answer.records) {
            match (entry.sequence_number, entry.shard_id) {
                (Some(number), Some(shard)) if entry.error_code.is_none() => {
                    let number = SequenceNumber::parse(&number)
                        .map_err(|source| ProducerError::Number { stream: stream(), source })?;
                    let posting = &record.posting;
                    let booked = Accepted::new(number, record.at.unwrap_or(sent), posting.ind, &posting.data);
                    accepted.push((ShardId::new(shard), booked));
                    self.counters.bytes.fetch_add(posting.data.len() as u64, Ordering::Relaxed);
                }
                _ => {
                    refused = format!("{:?}: {:?}", entry.error_code, entry.error_message);
                    rest.push(record);
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

/// The SDK's errors say little by themselves; what happened is in their sources.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
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
        SdkError::DispatchFailure(failure) => {
            let of_the_network = failure.is_io() || failure.is_timeout() || failure.as_other().is_some();
            if of_the_network { Reaction::AgainUnanswered } else { Reaction::GiveUp }
        }
        SdkError::ConstructionFailure(_) | _ => Reaction::GiveUp,
    }
}
