//! The numbers of one shard.

use metrics::{Counter, Gauge};

use super::StreamMetrics;
use crate::checkpoint::ShardId;

/// How a GetRecords call may end: each has its number before the first one does.
const READ_RESULTS: [&str; 6] = ["ok", "throttled", "expired_iterator", "retried", "invalid", "refused"];

/// The numbers of one shard, for its reader.
#[derive(Debug, Clone)]
pub struct ShardMetrics {
    stream: StreamMetrics,
    shard: String,
    records: Counter,
    bytes: Counter,
    aggregates: Counter,
    again: Counter,
    behind: Gauge,
    record_age: Gauge,
    iterator_age: Gauge,
    headroom: Gauge,
}

impl ShardMetrics {
    pub(super) fn new(stream: &StreamMetrics, shard: &ShardId) -> Self {
        let labels = [("stream", stream.stream()), ("shard", shard.as_str())];
        let registry = &stream.shared.registry;
        let metrics = Self {
            records: registry.counter("pintail_records_read_total", &labels),
            bytes: registry.counter("pintail_bytes_read_total", &labels),
            aggregates: registry.counter("pintail_aggregates_read_total", &labels),
            again: registry.counter("pintail_records_read_again_total", &labels),
            behind: registry.gauge("pintail_behind_seconds", &labels),
            record_age: registry.gauge("pintail_record_age_seconds", &labels),
            iterator_age: registry.gauge("pintail_iterator_age_seconds", &labels),
            headroom: registry.gauge("pintail_retention_headroom_ratio", &labels),
            stream: stream.clone(),
            shard: shard.as_str().to_owned(),
        };
        for result in READ_RESULTS {
            metrics.reads(result).increment(0);
        }
        metrics
    }

    /// The stream's numbers.
    pub fn of_stream(&self) -> &StreamMetrics {
        &self.stream
    }

    /// One GetRecords call ended: `ok`, `throttled`, `expired_iterator`, `retried`, `invalid`, `refused`.
    pub fn read_result(&self, result: &'static str) {
        debug_assert!(READ_RESULTS.contains(&result), "{result} has no number at start");
        self.reads(result).increment(1);
    }

    fn reads(&self, result: &'static str) -> Counter {
        let labels = [("stream", self.stream.stream()), ("shard", self.shard.as_str()), ("result", result)];
        self.stream.shared.registry.counter("pintail_reads_total", &labels)
    }

    /// What was taken of it: user records, payload bytes, and aggregates that records came from.
    pub fn read(&self, records: u64, bytes: u64, aggregates: u64) {
        self.records.increment(records);
        self.bytes.increment(bytes);
        self.aggregates.increment(aggregates);
    }

    /// User records that were read before, and left: what those before them inflate to had taken the read's memory.
    pub fn read_again(&self, records: u64) {
        self.again.increment(records);
    }

    /// `MillisBehindLatest`, in its answer.
    pub fn behind(&self, behind_ms: i64) {
        self.behind.set(behind_ms as f64 / 1e3);
    }

    /// Now minus the last record's arrival.
    pub fn record_age(&self, seconds: f64) {
        self.record_age.set(seconds);
    }

    /// Now minus the iterator's birth.
    pub fn iterator_age(&self, seconds: f64) {
        self.iterator_age.set(seconds);
    }

    /// 1 - (age of what is not read yet / retention).
    pub fn retention_headroom(&self, ratio: f64) {
        self.headroom.set(ratio);
    }
}
