//! How long records took, from the moment when each should have been sent: the book against what was seen.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use pintail::demo::Kind;
use pintail::demo::accepted::AcceptedLog;
use pintail::demo::latency::Timeline;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::watch::Timelines;

/// An hour is the longest that is told apart.
const US_MAX: u64 = 3_600_000_000;

/// Three digits of every value are kept.
const DIGITS: u8 = 3;

/// How late so many of a hundred records were at most, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Records measured.
    pub count: u64,
    /// Half of them.
    pub p50: f64,
    /// 90 of 100.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p999: f64,
    /// All of them.
    pub max: f64,
}

/// One way's latencies.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Over all records.
    pub total: Percentiles,
    /// Of the records that were due within each second, from the start of the posting on.
    pub by_second: Vec<Percentiles>,
    /// Records that nobody saw arrive. Nothing is said of them here; the verdict says whether they are there.
    pub unseen: u64,
}

impl Latency {
    /// Of every record in the book.
    pub fn of(log: &AcceptedLog, kinds: &[Kind], seen: &Timelines, started: Instant) -> anyhow::Result<Self> {
        let mut by_second: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let mut unseen = 0;
        for kind in kinds.iter().copied() {
            for (shard, records) in log.stream(kind.name()) {
                let timeline = seen.get(&(kind, shard));
                for record in records {
                    let Some(at) = timeline.and_then(|timeline| Timeline::when(timeline, record.number)) else {
                        unseen += 1;
                        continue;
                    };
                    let us = u64::try_from(at.saturating_duration_since(record.sent).as_micros()).unwrap_or(US_MAX);
                    let second = record.sent.saturating_duration_since(started).as_secs();
                    by_second.entry(second).or_default().push(us.clamp(1, US_MAX));
                }
            }
        }
        // A histogram takes more memory than a second's records: one for all seconds.
        let (mut total, mut of_second) = (histogram()?, histogram()?);
        let seconds = by_second.last_key_value().map_or(0, |(second, _)| second + 1);
        let mut percentiles = Vec::new();
        for second in 0..seconds {
            of_second.reset();
            for us in by_second.get(&second).into_iter().flatten() {
                of_second.record(*us)?;
            }
            total.add(&of_second)?;
            percentiles.push(Percentiles::of(&of_second));
        }
        Ok(Self { total: Percentiles::of(&total), by_second: percentiles, unseen })
    }
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        let ms = |us: u64| us as f64 / 1e3;
        let at = |quantile| ms(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: ms(histogram.max()),
        }
    }
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, US_MAX, DIGITS)?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pintail::checkpoint::{SequenceNumber, ShardId};
    use pintail::demo::accepted::Accepted;

    use super::*;

    #[test]
    fn a_record_is_as_late_as_the_first_sight_of_it_after_it_was_due() {
        let number = |value: u64| SequenceNumber::parse(&value.to_string()).unwrap();
        let (started, shard, log) = (Instant::now(), ShardId::new("s"), AcceptedLog::default());
        // A record every 10 ms; the first hundred is seen at 2 s, the rest at 3 s, the last one never.
        let due = |record: u64| started + Duration::from_millis(10 * record);
        let records = (1..=200).map(|record| (shard.clone(), Accepted::new(number(record), due(record), 0, b"")));
        log.add("pin", records);
        let mut seen = Timelines::new();
        let timeline = seen.entry((Kind::Pin, shard)).or_default();
        timeline.reached(number(100), started + Duration::from_secs(2));
        timeline.reached(number(199), started + Duration::from_secs(3));
        let latency = Latency::of(&log, &Kind::ALL, &seen, started).unwrap();
        assert_eq!((latency.total.count, latency.unseen, latency.by_second.len()), (199, 1, 2));
        let (first, second) = (latency.by_second[0], latency.by_second[1]);
        assert!((first.max - 1_990.0).abs() < 2.0 && (first.p50 - 1_500.0).abs() < 15.0, "{first:?}");
        assert!((second.max - 1_990.0).abs() < 2.0 && second.count == 100, "{second:?}");
    }
}
