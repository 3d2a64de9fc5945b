//! The last two minutes of totals, one sample a second, so that a page opened now can draw what it did not see.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::clock::now_ms;
use crate::limits::SERVE_HISTORY_SAMPLES;
use crate::status::{StatusBoard, StreamSnapshot};

const EVERY: Duration = Duration::from_secs(1);

/// The samples of every stream. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct History(Arc<Mutex<BTreeMap<String, VecDeque<Sample>>>>);

/// One stream at one moment: epoch ms, records read, payload bytes read; a list of three in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sample(pub i64, pub u64, pub u64);

/// `/api/history`.
#[derive(Debug, Serialize)]
pub struct Samples {
    pub now_ms: i64,
    pub streams: Vec<StreamSamples>,
}

/// One stream's part of it, oldest first.
#[derive(Debug, Serialize)]
pub struct StreamSamples {
    pub stream: String,
    pub samples: Vec<Sample>,
}

impl History {
    /// Samples the board until dropped.
    pub async fn keep(&self, status: &StatusBoard) -> ! {
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            ticks.tick().await;
            self.sample(now_ms(), &status.snapshot());
        }
    }

    fn sample(&self, now_ms: i64, board: &BTreeMap<String, StreamSnapshot>) {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|stream, _| board.contains_key(stream));
        for (stream, at) in board {
            let samples = streams.entry(stream.clone()).or_default();
            if samples.len() == SERVE_HISTORY_SAMPLES {
                samples.pop_front();
            }
            samples.push_back(Sample(now_ms, at.records(), at.bytes()));
        }
    }

    /// Everything kept.
    pub fn samples(&self, now_ms: i64) -> Samples {
        let streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let streams = streams.iter().map(|(stream, samples)| StreamSamples {
            stream: stream.clone(),
            samples: samples.iter().copied().collect(),
        });
        Samples { now_ms, streams: streams.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::ShardId;

    #[test]
    fn the_oldest_samples_and_vanished_streams_are_forgotten() {
        let (history, status) = (History::default(), StatusBoard::default());
        history.sample(0, &BTreeMap::from([("gone".to_owned(), StreamSnapshot::default())]));
        let board = status.stream("a");
        for second in 1..=SERVE_HISTORY_SAMPLES as i64 + 5 {
            board.shard(&ShardId::new("shardId-0"), |shard| (shard.records, shard.bytes) = (second as u64, 7));
            history.sample(second * 1000, &status.snapshot());
        }
        let kept = history.samples(0).streams;
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].stream.as_str(), kept[0].samples.len()), ("a", SERVE_HISTORY_SAMPLES));
        assert_eq!(kept[0].samples[0], Sample(6000, 6, 7));
    }
}
