//! Looking at a stream: does it exist, is it the one we know, and which shards does it have?
//!
//! Every listing comes with a description, because a stream that was deleted and created again has shards of the
//! same names: only its creation time tells that the ledger's positions mean nothing in it.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::error::{Action, Call, Fault, ReadError, SourceError};
use super::kinesis::Kinesis;
use super::pacing::Backoff;
use super::stream::{ListedShard, Status, StreamDescription, StreamTarget};
use super::trouble::Troubles;
use crate::checkpoint::{Position, Registration, SequenceNumber, ShardId};
use crate::limits::SHARD_READS_PER_SECOND;
use crate::status::StreamBoard;

/// Reads in search of a shard's oldest record: an empty answer does not mean that nothing follows.
const OLDEST_READS_MAX: usize = 20;

/// Finds a stream by name or ARN. A stream that does not exist or may not be read is an error; one that is being
/// created, or that cannot be reached, is waited for, visibly, until cancelled.
pub async fn describe(
    kinesis: &Kinesis,
    stream: &str,
    board: &StreamBoard,
    cancel: &CancellationToken,
) -> Result<StreamDescription, SourceError> {
    let troubles = Troubles::new(board.clone());
    let target = StreamTarget::new(stream);
    let mut backoff = Backoff::default();
    loop {
        let answer = cancel.run_until_cancelled(readable(kinesis, &target)).await;
        match answer.ok_or_else(|| SourceError::Cancelled { stream: stream.to_owned() })? {
            Ok(Some(description)) => {
                troubles.clear(stream);
                return Ok(description);
            }
            Ok(None) => {
                troubles
                    .raise(stream, &ReadError::new(Call::DescribeStream, Fault::Busy, "the stream is being created"));
            }
            Err(error) => {
                let error = unless_final(stream, error)?;
                troubles.raise(stream, &error);
            }
        }
        // Cancelled in this sleep, the next turn says so.
        cancel.run_until_cancelled(tokio::time::sleep(backoff.next_wait())).await;
    }
}

/// At the start, what no wait can mend ends the program; the rest is given back.
pub(super) fn unless_final(stream: &str, error: ReadError) -> Result<ReadError, SourceError> {
    let stream = stream.to_owned();
    match error.action() {
        Action::StreamMissing | Action::SettleShard => Err(SourceError::NotFound { stream, source: error }),
        Action::RetrySlowly => Err(SourceError::Refused { stream, source: error }),
        Action::AwaitPace
        | Action::Backoff
        | Action::RenewIterator
        | Action::RenewIteratorAfterBackoff
        | Action::SettleStart
        | Action::RestartListing => Ok(error),
    }
}

/// The stream, if it can be read now; a stream on its way out is already gone.
async fn readable(kinesis: &Kinesis, target: &StreamTarget) -> Result<Option<StreamDescription>, ReadError> {
    let description = kinesis.describe(target).await?;
    match description.status {
        Status::Creating => Ok(None),
        Status::Readable => Ok(Some(description)),
        Status::Deleting => Err(ReadError::new(Call::DescribeStream, Fault::NotFound, "the stream is being deleted")),
    }
}

/// The stream and its shards, as of now.
#[derive(Debug)]
pub(super) struct Survey {
    pub description: StreamDescription,
    pub listed: Vec<ListedShard>,
}

/// Looks at a stream that is being read.
pub(super) async fn survey(kinesis: &Kinesis, target: &StreamTarget) -> Result<Survey, ReadError> {
    match readable(kinesis, target).await? {
        Some(description) => Ok(Survey { description, listed: kinesis.list_shards(target, None).await? }),
        None => Err(ReadError::new(Call::DescribeStream, Fault::Busy, "the stream is being created")),
    }
}

/// The number of the oldest record that is still there, as far as some reads at a shard's pace can tell.
pub async fn oldest_record(
    kinesis: &Kinesis,
    target: &StreamTarget,
    shard: &ShardId,
) -> Result<Option<SequenceNumber>, ReadError> {
    let mut iterator = kinesis.shard_iterator(target, shard, Position::Beginning).await?;
    for _ in 0..OLDEST_READS_MAX {
        let reply = kinesis.get_records(target, &iterator, 1).await?;
        match (reply.records.first(), reply.next) {
            (Some(record), _) => return Ok(Some(record.sequence_number)),
            (None, Some(next)) if reply.behind_ms > 0 => iterator = next,
            (None, _) => return Ok(None),
        }
        tokio::time::sleep(Duration::from_secs_f64(1.0 / SHARD_READS_PER_SECOND)).await;
    }
    Ok(None)
}

/// Every listed shard, from `start_ms` (epoch ms, 0 = from the beginning). One that was closed before that time is
/// finished without being read.
pub(super) async fn first_registrations(
    kinesis: &Kinesis,
    target: &StreamTarget,
    listed: &[ListedShard],
    start_ms: i64,
) -> Result<Vec<Registration>, ReadError> {
    let mut before: BTreeSet<ShardId> = BTreeSet::new();
    if start_ms > 0 {
        before.extend(listed.iter().filter(|shard| shard.closed).map(|shard| shard.id.clone()));
    }
    if !before.is_empty() {
        for shard in kinesis.list_shards(target, Some(start_ms)).await? {
            before.remove(&shard.id);
        }
    }
    let registration = |id: &ShardId| Registration { shard: id.clone(), start_ms, ended: before.contains(id) };
    Ok(listed.iter().map(|shard| registration(&shard.id)).collect())
}
