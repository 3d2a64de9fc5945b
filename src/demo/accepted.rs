//! What Kinesis accepted: the ledger that the final reckoning, and every end-to-end test, holds the tables against.
//! It is written from Kinesis's answers alone, never from our counters.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::fingerprint;
use crate::checkpoint::{SequenceNumber, ShardId};

/// One acknowledged record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its number in the shard.
    pub number: SequenceNumber,
    /// When the call that put it was sent; of a record with a time of its own, when it should have been.
    pub sent: Instant,
    /// The emulation's row that it was made from.
    pub ind: u32,
    /// [`fingerprint::of_payload`] of its bytes.
    pub payload: u32,
}

impl Accepted {
    /// A record of the emulation's row `ind`, with these bytes.
    pub fn new(number: SequenceNumber, sent: Instant, ind: u32, data: &[u8]) -> Self {
        Self { number, sent, ind, payload: fingerprint::of_payload(data) }
    }
}

/// One stream's acknowledged records, by shard, in the order of their acknowledgement.
pub type AcceptedShards = BTreeMap<ShardId, Vec<Accepted>>;

/// Everything acknowledged, by stream. 56 bytes a record, kept until the reckoning.
#[derive(Debug, Default)]
pub struct AcceptedLog(Mutex<BTreeMap<String, AcceptedShards>>);

impl AcceptedLog {
    /// Adds one call's acknowledged records: those of an aggregate one by one, under its number.
    pub fn add(&self, stream: &str, records: impl IntoIterator<Item = (ShardId, Accepted)>) {
        let mut streams = self.lock();
        let shards = streams.entry(stream.to_owned()).or_default();
        for (shard, accepted) in records {
            shards.entry(shard).or_default().push(accepted);
        }
    }

    /// A copy of one stream's records; empty if nothing was accepted.
    pub fn stream(&self, stream: &str) -> AcceptedShards {
        self.lock().get(stream).cloned().unwrap_or_default()
    }

    /// How many records one stream accepted.
    pub fn count(&self, stream: &str) -> u64 {
        self.lock().get(stream).map_or(0, |shards| shards.values().map(|records| records.len() as u64).sum())
    }

    /// The highest number accepted, by stream and shard.
    pub fn heads(&self) -> BTreeMap<(String, ShardId), SequenceNumber> {
        let streams = self.lock();
        let shards = streams.iter().flat_map(|(stream, shards)| shards.iter().map(move |shard| (stream, shard)));
        let head = |records: &[Accepted]| records.iter().map(|record| record.number).max();
        shards
            .filter_map(|(stream, (shard, records))| Some(((stream.clone(), shard.clone()), head(records)?)))
            .collect()
    }

    /// The last `count` records of every shard of a stream.
    pub fn latest(&self, stream: &str, count: usize) -> AcceptedShards {
        let streams = self.lock();
        let shards = streams.get(stream).into_iter().flatten();
        shards
            .map(|(shard, records)| (shard.clone(), records[records.len().saturating_sub(count)..].to_vec()))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, AcceptedShards>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
