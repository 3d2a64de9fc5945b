//! Every metric, in one room, as methods. Names are `pintail_<what>_<unit>[_total]`.
//!
//! Handles are made once, from a recorder that [`crate::app`] owns and passes down: no global, so that two
//! streams, two tests or two apps in one process never share a number. Counted per batch, never per record.
//!
//! A counter whose labels are known is there from the start, with 0: a rule that asks for an increase would not see
//! the first event of a counter that begins with it. Only what records bring along (columns with nulls, unknown
//! fields) cannot be known before.

mod descriptions;
mod grafana_live;
mod maintenance;
mod process;
mod shard;
mod windows;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use self::descriptions::{DESCRIPTIONS, Kind};
pub use self::grafana_live::GrafanaLiveMetrics;
pub use self::maintenance::MaintenanceMetrics;
pub use self::shard::ShardMetrics;
pub use self::windows::{StartGauges, StartState, WindowGauges, WindowValue};
use crate::checkpoint::ShardId;
use crate::limits::{OTHER, UNKNOWN_FIELD_NAME_BYTES_MAX, UNKNOWN_FIELDS_MAX};
use crate::record::{CleanCounts, RejectReason, Repair};

const METADATA: Metadata<'static> = Metadata::new("pintail", Level::INFO, None);

/// Upper bounds (seconds) for latencies: from one poll of an idle stream to an hour behind.
const LATENCY_SECONDS: &[f64] =
    &[0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 300.0, 1800.0, 3600.0];

/// Upper bounds (seconds) for one upload, one commit, one wait.
const DURATION_SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Counters that a stream has one of.
const COUNTERS_OF_A_STREAM: [&str; 8] = [
    "pintail_rows_cleaned_total",
    "pintail_reads_aligned_total",
    "pintail_commit_conflicts_total",
    "pintail_commit_failures_total",
    "pintail_rows_in_null_partition_total",
    "pintail_fenced_total",
    "pintail_data_loss_total",
    "pintail_live_cells_folded_total",
];

/// What may become of a record in an aggregate on a shard not its own.
const FOREIGN_ACTIONS: [&str; 3] = ["kept", "rejected", "dropped"];

/// What the process knows of itself.
#[derive(Debug, Clone, Copy)]
pub struct Scraped<'a> {
    /// Letters, digits, `_`, `-` and `.`, as the configuration has it.
    pub pipeline: &'a str,
    /// When it was started, epoch ms.
    pub started_ms: i64,
}

// === Registry ===

/// Owns the numbers; renders them as Prometheus text. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    recorder: Arc<PrometheusRecorder>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registry")
    }
}

impl Registry {
    /// An empty registry with every description set.
    pub fn new() -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full("pintail_end_to_end_seconds".to_owned()), LATENCY_SECONDS)?
            .set_buckets(DURATION_SECONDS)?
            .build_recorder();
        for (name, kind, description) in DESCRIPTIONS.iter().chain(maintenance::DESCRIPTIONS) {
            let (name, text): (KeyName, SharedString) = ((*name).into(), (*description).into());
            match kind {
                Kind::Counter => recorder.describe_counter(name, None::<Unit>, text),
                Kind::Gauge => recorder.describe_gauge(name, None::<Unit>, text),
                Kind::Histogram => recorder.describe_histogram(name, None::<Unit>, text),
            }
        }
        Ok(Self { recorder: Arc::new(recorder) })
    }

    /// What is counted here, as Prometheus text.
    pub fn render(&self) -> String {
        self.handle().render()
    }

    /// All that Prometheus scrapes: what is counted here, the process, and the windows.
    pub fn scrape(&self, process: Scraped<'_>, windows: &[WindowGauges]) -> String {
        self.render() + &process::render(process) + &windows::render(windows)
    }

    /// For the task that calls `run_upkeep` every few seconds.
    pub fn handle(&self) -> PrometheusHandle {
        self.recorder.handle()
    }

    /// The numbers of one stream.
    pub fn stream(&self, stream: &str) -> StreamMetrics {
        StreamMetrics::new(self.clone(), stream)
    }

    /// The numbers of the maintenance of these tables of one stream.
    pub fn maintenance(&self, stream: &str, tables: &[String]) -> MaintenanceMetrics {
        MaintenanceMetrics::new(self.clone(), stream, tables)
    }

    /// The numbers of the pushes to Grafana Live.
    pub fn grafana_live(&self) -> GrafanaLiveMetrics {
        GrafanaLiveMetrics::new(self)
    }

    /// The names of all counters.
    #[cfg(test)]
    pub fn counters() -> impl Iterator<Item = &'static str> {
        let all = DESCRIPTIONS.iter().chain(maintenance::DESCRIPTIONS);
        all.filter(|(_, kind, _)| matches!(kind, Kind::Counter)).map(|(name, ..)| *name)
    }

    fn counter(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        self.recorder.register_counter(&key(name, labels), &METADATA)
    }

    fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        self.recorder.register_gauge(&key(name, labels), &METADATA)
    }

    fn histogram(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Histogram {
        self.recorder.register_histogram(&key(name, labels), &METADATA)
    }
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<Label> = labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
    Key::from_parts(name, labels)
}

// === StreamMetrics ===

/// The numbers of one stream. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StreamMetrics {
    shared: Arc<StreamShared>,
}

#[derive(Debug)]
struct StreamShared {
    registry: Registry,
    stream: String,
    unknown_fields: Mutex<BTreeSet<String>>,
    budget_wait: Histogram,
    flush: Histogram,
    commit: Histogram,
    end_to_end: Histogram,
    commits: Counter,
    last_commit: Gauge,
}

impl StreamMetrics {
    fn new(registry: Registry, stream: &str) -> Self {
        let labels: &[(&'static str, &str)] = &[("stream", stream)];
        let metrics = Self {
            shared: Arc::new(StreamShared {
                budget_wait: registry.histogram("pintail_budget_wait_seconds", labels),
                flush: registry.histogram("pintail_flush_seconds", labels),
                commit: registry.histogram("pintail_commit_seconds", labels),
                end_to_end: registry.histogram("pintail_end_to_end_seconds", labels),
                commits: registry.counter("pintail_commits_total", labels),
                last_commit: registry.gauge("pintail_last_commit_timestamp_seconds", labels),
                unknown_fields: Mutex::default(),
                stream: stream.to_owned(),
                registry,
            }),
        };
        for reason in RejectReason::ALL {
            metrics.counter_with("pintail_rejects_total", "reason", reason.as_str()).increment(0);
        }
        for repair in Repair::ALL {
            metrics.counter_with("pintail_repairs_total", "repair", repair.as_str()).increment(0);
        }
        for action in FOREIGN_ACTIONS {
            metrics.foreign_records(action, 0);
        }
        for name in COUNTERS_OF_A_STREAM {
            metrics.counter(name).increment(0);
        }
        metrics.ready(false);
        metrics
    }

    /// These tables begin with nothing committed.
    pub fn tables(&self, tables: &[String]) {
        tables.iter().for_each(|table| self.table_grew(table, 0, 0, 0));
    }

    /// The stream's name.
    pub fn stream(&self) -> &str {
        &self.shared.stream
    }

    /// The numbers of one of its shards.
    pub fn shard(&self, shard: &ShardId) -> ShardMetrics {
        ShardMetrics::new(self, shard)
    }

    /// A batch was cleaned.
    pub fn cleaned(&self, rows: u64, rejects: impl IntoIterator<Item = RejectReason>, counts: &CleanCounts) {
        self.counter("pintail_rows_cleaned_total").increment(rows);
        for reason in rejects {
            self.counter_with("pintail_rejects_total", "reason", reason.as_str()).increment(1);
        }
        for ((column, reason), count) in &counts.nulls {
            let labels = [("stream", self.stream()), ("column", column.as_str()), ("reason", reason)];
            self.shared.registry.counter("pintail_nulls_total", &labels).increment(*count);
        }
        for (repair, count) in &counts.repairs {
            self.counter_with("pintail_repairs_total", "repair", repair.as_str()).increment(*count);
        }
        for (field, count) in &counts.unknown_fields {
            let field = self.bounded_field(field);
            self.counter_with("pintail_unknown_fields_total", "field", &field).increment(*count);
        }
    }

    /// A sender of random field names must not grow the registry: the first names keep their own, the rest share one.
    fn bounded_field(&self, field: &str) -> String {
        let cut = field.floor_char_boundary(UNKNOWN_FIELD_NAME_BYTES_MAX);
        let field = &field[..cut];
        let mut known = self.shared.unknown_fields.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(field) || known.len() < UNKNOWN_FIELDS_MAX {
            known.insert(field.to_owned());
            field.to_owned()
        } else {
            OTHER.to_owned()
        }
    }

    /// The state of the stream's share of the byte budget.
    pub fn budget(&self, bytes_max: u64, in_use_bytes: u64, waiting: u64) {
        self.gauge("pintail_budget_bytes").set(bytes_max as f64);
        self.gauge("pintail_budget_in_use_bytes").set(in_use_bytes as f64);
        self.gauge("pintail_budget_waiting_readers").set(waiting as f64);
    }

    /// Records of aggregates whose hash key belongs to another shard were `kept`, `rejected` or `dropped`.
    pub fn foreign_records(&self, action: &'static str, records: u64) {
        self.counter_with("pintail_foreign_records_total", "action", action).increment(records);
    }

    /// How long a read waited for its permit.
    pub fn budget_waited(&self, waited: Duration) {
        self.shared.budget_wait.record(waited);
    }

    /// Shards by state: `waiting`, `reading`, `parked` (fenced, or odd), `ended`, `lost`.
    pub fn shards(&self, state: &'static str, count: usize) {
        let labels = [("stream", self.stream()), ("state", state)];
        self.shared.registry.gauge("pintail_shards", &labels).set(count as f64);
    }

    /// How often it is flushed when little comes.
    pub fn flush_interval(&self, interval: Duration) {
        self.gauge("pintail_flush_interval_seconds").set(interval.as_secs_f64());
    }

    /// A read waited for slower shards.
    pub fn read_aligned(&self) {
        self.counter("pintail_reads_aligned_total").increment(1);
    }

    /// A micro-batch was encoded and uploaded.
    pub fn flushed(&self, took: Duration) {
        self.shared.flush.record(took);
    }

    /// A commit of the rows table landed, at `now_s` epoch seconds.
    pub fn commit_landed(&self, took: Duration, now_s: f64) {
        self.shared.commit.record(took);
        self.shared.commits.increment(1);
        self.shared.last_commit.set(now_s);
    }

    /// A table got files, as staged by one commit.
    pub fn table_grew(&self, table: &str, rows: u64, files: u64, bytes: u64) {
        let labels = [("stream", self.stream()), ("table", table)];
        let registry = &self.shared.registry;
        registry.counter("pintail_rows_committed_total", &labels).increment(rows);
        registry.counter("pintail_files_committed_total", &labels).increment(files);
        registry.counter("pintail_bytes_committed_total", &labels).increment(bytes);
    }

    /// A commit lost a version to another writer and is rebased.
    pub fn commit_conflict(&self) {
        self.counter("pintail_commit_conflicts_total").increment(1);
    }

    /// A commit attempt failed and will be retried.
    pub fn commit_failed(&self) {
        self.counter("pintail_commit_failures_total").increment(1);
    }

    /// Rows of days beyond the commit's partition limit.
    pub fn null_partition(&self, rows: u64) {
        self.counter("pintail_rows_in_null_partition_total").increment(rows);
    }

    /// How many versions of the rows table a follower has still to apply.
    pub fn follower_lag(&self, table: &str, versions: u64) {
        let labels = [("stream", self.stream()), ("table", table)];
        self.shared.registry.gauge("pintail_follower_lag_versions", &labels).set(versions as f64);
    }

    /// Shards were taken from us.
    pub fn fenced(&self, shards: u64) {
        self.counter("pintail_fenced_total").increment(shards);
    }

    /// A range was trimmed before it was read.
    pub fn data_loss(&self) {
        self.counter("pintail_data_loss_total").increment(1);
    }

    /// Arrival at Kinesis to commit.
    pub fn end_to_end(&self, took: Duration) {
        self.shared.end_to_end.record(took);
    }

    /// How far event time has come in all open shards, epoch ms.
    pub fn watermark(&self, watermark_ms: i64) {
        self.gauge("pintail_watermark_timestamp_seconds").set(watermark_ms as f64 / 1000.0);
    }

    /// Whether the stream reads and commits.
    pub fn ready(&self, ready: bool) {
        self.gauge("pintail_ready").set(if ready { 1.0 } else { 0.0 });
    }

    /// Cells in memory in a layer (`pending` or `committed`).
    pub fn live(&self, layer: &'static str, cells: usize, bytes: usize) {
        let labels = [("stream", self.stream()), ("layer", layer)];
        self.shared.registry.gauge("pintail_live_cells", &labels).set(cells as f64);
        self.shared.registry.gauge("pintail_live_bytes", &labels).set(bytes as f64);
    }

    /// All of a window's starts that end at or before this are sealed, whoever sealed them.
    pub fn sealed(&self, window: &str, through_ms: i64) {
        let labels = [("stream", self.stream()), ("window", window)];
        let gauge = self.shared.registry.gauge("pintail_sealed_through_timestamp_seconds", &labels);
        gauge.set(through_ms as f64 / 1000.0);
    }

    /// Records that have no value in a column that is the time of a window; their arrival was used.
    pub fn without_time(&self, column: &str, records: u64) {
        self.counter_with("pintail_records_without_time_total", "column", column).increment(records);
    }

    /// Cells folded into `__other__` in the live view.
    pub fn live_folded(&self, cells: u64) {
        self.counter("pintail_live_cells_folded_total").increment(cells);
    }

    fn counter(&self, name: &'static str) -> Counter {
        self.shared.registry.counter(name, &[("stream", self.stream())])
    }

    fn counter_with(&self, name: &'static str, label: &'static str, value: &str) -> Counter {
        self.shared.registry.counter(name, &[("stream", self.stream()), (label, value)])
    }

    fn gauge(&self, name: &'static str) -> Gauge {
        self.shared.registry.gauge(name, &[("stream", self.stream())])
    }
}

#[cfg(test)]
mod tests;
