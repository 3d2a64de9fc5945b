//! How long a record takes from the sending of its Put call to the live window and to the lake.
//!
//! The processor says how far it has come (a number per shard, a moment); the accepted log knows when each record was
//! sent. Putting the two together afterwards costs the running processor one short entry a batch.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::accepted::{Accepted, AcceptedLog, AcceptedShards};
use crate::checkpoint::{Position, PositionRange, SequenceNumber, ShardId};
use crate::record::Probe;

/// Records per shard that "so far" looks at.
const RECENT_RECORDS: usize = 200;

/// p50 and p99 in milliseconds; `None` without a single measurement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct LatencyMs {
    /// To the live window, median.
    pub window_p50: Option<f64>,
    /// To the live window, 99 of 100 records.
    pub window_p99: Option<f64>,
    /// To the lake, median.
    pub lake_p50: Option<f64>,
    /// To the lake, 99 of 100 records.
    pub lake_p99: Option<f64>,
}

/// Writes down how far the processor is, and when.
#[derive(Debug, Default)]
pub struct LatencyProbe {
    shards: Mutex<BTreeMap<String, BTreeMap<ShardId, Timelines>>>,
    moved: Notify,
}

#[derive(Debug, Default)]
struct Timelines {
    counted: Timeline,
    committed: Timeline,
}

/// How far a shard has come, and when: both ascending.
#[derive(Debug, Default)]
pub struct Timeline(Vec<(SequenceNumber, Instant)>);

impl Timeline {
    /// Everything up to this number is there. A range that is read again, after a fence, changes nothing: its records
    /// had been there before.
    pub fn reached(&mut self, through: SequenceNumber, at: Instant) {
        if self.0.last().is_none_or(|(last, _)| *last < through) {
            self.0.push((through, at));
        }
    }

    /// How far it has come.
    pub fn through(&self) -> Option<SequenceNumber> {
        self.0.last().map(|(through, _)| *through)
    }

    /// When this number was there; `None` if it is not.
    pub fn when(&self, number: SequenceNumber) -> Option<Instant> {
        self.0.get(self.0.partition_point(|(through, _)| *through < number)).map(|(_, at)| *at)
    }
}

impl LatencyProbe {
    /// The latencies of every accepted record of these streams that has come through.
    pub fn latencies(&self, log: &AcceptedLog, streams: &[String]) -> LatencyMs {
        let accepted: Vec<_> = streams.iter().map(|stream| (stream, log.stream(stream))).collect();
        self.measure(accepted.iter().map(|(stream, shards)| (stream.as_str(), shards)))
    }

    /// The median to the live window of the latest records that are there.
    pub fn window_p50_so_far(&self, log: &AcceptedLog, streams: &[String]) -> Option<f64> {
        let latest: Vec<_> = streams.iter().map(|stream| (stream, log.latest(stream, RECENT_RECORDS))).collect();
        self.measure(latest.iter().map(|(stream, shards)| (stream.as_str(), shards))).window_p50
    }

    /// Returns once everything accepted so far is committed; `false` if nothing has moved for `patience`.
    pub async fn caught_up(&self, log: &AcceptedLog, patience: Duration) -> bool {
        let heads = log.heads();
        loop {
            let moved = self.moved.notified();
            if self.has_committed(&heads) {
                return true;
            }
            if tokio::time::timeout(patience, moved).await.is_err() {
                return false;
            }
        }
    }

    fn has_committed(&self, heads: &BTreeMap<(String, ShardId), SequenceNumber>) -> bool {
        let streams = self.lock();
        let committed = |stream: &str, shard: &ShardId| streams.get(stream)?.get(shard)?.committed.0.last().copied();
        heads
            .iter()
            .all(|((stream, shard), head)| committed(stream, shard).is_some_and(|(through, _)| through >= *head))
    }

    fn measure<'a>(&self, accepted: impl Iterator<Item = (&'a str, &'a AcceptedShards)>) -> LatencyMs {
        let (mut window, mut lake) = (Vec::new(), Vec::new());
        let streams = self.lock();
        for (stream, shards) in accepted {
            for (shard, records) in shards {
                if let Some(timelines) = streams.get(stream).and_then(|shards| shards.get(shard)) {
                    window.extend(durations_ms(&timelines.counted, records));
                    lake.extend(durations_ms(&timelines.committed, records));
                }
            }
        }
        drop(streams);
        window.sort_unstable_by(f64::total_cmp);
        lake.sort_unstable_by(f64::total_cmp);
        LatencyMs {
            window_p50: percentile(&window, 50),
            window_p99: percentile(&window, 99),
            lake_p50: percentile(&lake, 50),
            lake_p99: percentile(&lake, 99),
        }
    }

    fn note(
        &self,
        stream: &str,
        range: &PositionRange,
        at: Instant,
        which: impl FnOnce(&mut Timelines) -> &mut Timeline,
    ) {
        let through = match range.through {
            Position::After(number) => number,
            Position::Beginning | Position::At(_) | Position::End => return,
        };
        let mut streams = self.lock();
        if !streams.contains_key(stream) {
            streams.insert(stream.to_owned(), BTreeMap::new());
        }
        if let Some(shards) = streams.get_mut(stream) {
            which(shards.entry(range.shard.clone()).or_default()).reached(through, at);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<ShardId, Timelines>>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Probe for LatencyProbe {
    fn counted(&self, stream: &str, range: &PositionRange) {
        self.note(stream, range, Instant::now(), |timelines| &mut timelines.counted);
    }

    fn committed(&self, stream: &str, ranges: &[PositionRange]) {
        let now = Instant::now();
        ranges.iter().for_each(|range| self.note(stream, range, now, |timelines| &mut timelines.committed));
        self.moved.notify_waiters();
    }
}

fn durations_ms<'a>(timeline: &'a Timeline, records: &'a [Accepted]) -> impl Iterator<Item = f64> + 'a {
    let duration = |record: &Accepted| Some(timeline.when(record.number)?.saturating_duration_since(record.sent));
    records.iter().filter_map(duration).map(|duration| duration.as_secs_f64() * 1_000.0)
}

/// The smallest value that `percent` of the ascending values do not exceed (nearest rank).
fn percentile(ascending: &[f64], percent: usize) -> Option<f64> {
    let rank = (ascending.len() * percent).div_ceil(100);
    ascending.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: u64) -> SequenceNumber {
        SequenceNumber::parse(&value.to_string()).unwrap()
    }

    fn range(through: u64) -> PositionRange {
        let shard = ShardId::new("shardId-000000000000");
        PositionRange { shard, after: Position::Beginning, through: Position::After(number(through)) }
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&values, 50), Some(100.0));
        assert_eq!(percentile(&values, 99), Some(198.0));
        assert_eq!(percentile(&[7.0], 99), Some(7.0));
        assert_eq!(percentile(&[1.0, 2.0], 50), Some(1.0));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn a_record_is_there_when_the_first_range_that_covers_it_is() {
        let (log, probe) = (AcceptedLog::default(), LatencyProbe::default());
        let streams = ["pin".to_owned()];
        let sent = Instant::now();
        let shard = ShardId::new("shardId-000000000000");
        log.add("pin", (1..=10).map(|value| (shard.clone(), Accepted::new(number(value), sent, 0, b""))));
        let counted = |through, ms| {
            let at = sent + Duration::from_millis(ms);
            probe.note("pin", &range(through), at, |timelines| &mut timelines.counted);
        };
        counted(5, 20);
        counted(3, 50);
        counted(10, 50);
        probe.note("pin", &range(10), sent + Duration::from_secs(1), |timelines| &mut timelines.committed);
        assert_eq!(
            probe.latencies(&log, &streams),
            LatencyMs {
                window_p50: Some(20.0),
                window_p99: Some(50.0),
                lake_p50: Some(1_000.0),
                lake_p99: Some(1_000.0),
            }
        );
        assert_eq!(probe.window_p50_so_far(&log, &streams), Some(20.0));
    }

    #[tokio::test]
    async fn caught_up_means_committed_to_the_last_accepted_record() {
        let (log, probe) = (AcceptedLog::default(), LatencyProbe::default());
        assert!(probe.caught_up(&log, Duration::ZERO).await);
        let accepted = Accepted::new(number(10), Instant::now(), 0, b"");
        log.add("pin", [(ShardId::new("shardId-000000000000"), accepted)]);
        probe.committed("pin", &[range(9)]);
        assert!(!probe.caught_up(&log, Duration::from_millis(1)).await);
        let later = async { probe.committed("pin", &[range(10)]) };
        let (caught_up, ()) = tokio::join!(probe.caught_up(&log, Duration::from_secs(60)), later);
        assert!(caught_up);
    }
}
