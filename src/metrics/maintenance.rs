//! The numbers of maintenance, by table.

use std::time::Duration;

use metrics::Counter;

use super::{Kind, Registry};

pub(super) const DESCRIPTIONS: &[(&str, Kind, &str)] = &[
    ("pintail_maintenance_rounds_total", Kind::Counter, "Looks at a table, by result: ok, absent, refused, failed"),
    ("pintail_maintenance_seconds", Kind::Histogram, "One look at a table and what there was to do"),
    ("pintail_maintenance_failures_total", Kind::Counter, "Steps that failed and are tried again, by step"),
    ("pintail_maintenance_last_success_timestamp_seconds", Kind::Gauge, "End of the last look without a failure"),
    ("pintail_log_checkpoints_total", Kind::Counter, "Log checkpoints written"),
    ("pintail_log_objects_deleted_total", Kind::Counter, "Old log objects deleted"),
    ("pintail_compactions_total", Kind::Counter, "Commits that put few files in the place of many"),
    ("pintail_compactions_overtaken_total", Kind::Counter, "Compactions given up because another writer was faster"),
    ("pintail_files_compacted_total", Kind::Counter, "Files that compaction replaced (in) and wrote (out)"),
    ("pintail_bytes_compacted_total", Kind::Counter, "Bytes that compaction replaced (in) and wrote (out)"),
    ("pintail_sealed_through_timestamp_seconds", Kind::Gauge, "End of the last windows that were sealed, by window"),
    ("pintail_seals_overtaken_total", Kind::Counter, "Seals given up because another process was faster"),
    ("pintail_revised_rows_total", Kind::Counter, "Rows that correct sealed ones, by window"),
    (
        "pintail_late_records_total",
        Kind::Counter,
        "Records that came after their window was sealed, by window; each process counts all that it sees come",
    ),
    (
        "pintail_too_late_records_total",
        Kind::Counter,
        "Records that came after their window's partials were dropped, by window",
    ),
    ("pintail_partials_files_dropped_total", Kind::Counter, "Files of old partials removed from their table"),
    ("pintail_partials_bytes_dropped_total", Kind::Counter, "Bytes of files of old partials removed from their table"),
    ("pintail_files_vacuumed_total", Kind::Counter, "Old data files deleted"),
    ("pintail_bytes_vacuumed_total", Kind::Counter, "Bytes of old data files deleted"),
];

/// How a look at a table may end.
const RESULTS: [&str; 4] = ["ok", "absent", "refused", "failed"];

/// What may fail in one.
const STEPS: [&str; 6] = ["retention", "compaction", "checkpoint", "cleanup", "vacuum", "seal"];

/// The maintenance of one stream's tables. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MaintenanceMetrics {
    registry: Registry,
    stream: String,
}

impl MaintenanceMetrics {
    /// Every number of these tables, at 0.
    pub(super) fn new(registry: Registry, stream: &str, tables: &[String]) -> Self {
        let metrics = Self { registry, stream: stream.to_owned() };
        for table in tables {
            RESULTS.iter().for_each(|result| metrics.looks(table, result).increment(0));
            STEPS.iter().for_each(|step| metrics.failures(table, step).increment(0));
            metrics.add("pintail_log_checkpoints_total", table, 0);
            metrics.log_objects_deleted(table, 0);
            metrics.add("pintail_compactions_total", table, 0);
            metrics.replaced(table, (0, 0), (0, 0));
            metrics.add("pintail_compactions_overtaken_total", table, 0);
            metrics.dropped(table, 0, 0);
            metrics.vacuumed(table, 0, 0);
        }
        metrics
    }

    /// These windows begin with nothing late, nothing corrected and no seal given up.
    pub fn windows<'a>(&self, windows: impl IntoIterator<Item = &'a str>) {
        for window in windows {
            self.late(window, 0);
            self.too_late(window, 0);
            self.revised(window, 0);
            self.seals_overtaken(window).increment(0);
        }
    }

    /// A look at a table ended, as `ok`, `absent`, `refused` or `failed`.
    pub fn looked(&self, table: &str, result: &'static str, took: Duration) {
        debug_assert!(RESULTS.contains(&result), "{result} has no number at start");
        self.looks(table, result).increment(1);
        self.registry.histogram("pintail_maintenance_seconds", &self.labels(table)).record(took);
    }

    /// A look ended well, at `now_s` epoch seconds.
    pub fn succeeded(&self, table: &str, now_s: f64) {
        self.registry.gauge("pintail_maintenance_last_success_timestamp_seconds", &self.labels(table)).set(now_s);
    }

    /// A step failed.
    pub fn failed(&self, table: &str, step: &'static str) {
        debug_assert!(STEPS.contains(&step), "{step} has no number at start");
        self.failures(table, step).increment(1);
    }

    /// A log got a checkpoint.
    pub fn checkpointed(&self, table: &str) {
        self.add("pintail_log_checkpoints_total", table, 1);
    }

    /// Old log objects were deleted.
    pub fn log_objects_deleted(&self, table: &str, objects: u64) {
        self.add("pintail_log_objects_deleted_total", table, objects);
    }

    /// A compaction was committed: (before, after).
    pub fn compacted(&self, table: &str, files: (u64, u64), bytes: (u64, u64)) {
        self.add("pintail_compactions_total", table, 1);
        self.replaced(table, files, bytes);
    }

    fn replaced(&self, table: &str, files: (u64, u64), bytes: (u64, u64)) {
        for (direction, files, bytes) in [("in", files.0, bytes.0), ("out", files.1, bytes.1)] {
            let labels = [("stream", self.stream.as_str()), ("table", table), ("direction", direction)];
            self.registry.counter("pintail_files_compacted_total", &labels).increment(files);
            self.registry.counter("pintail_bytes_compacted_total", &labels).increment(bytes);
        }
    }

    /// A compaction was given up.
    pub fn overtaken(&self, table: &str) {
        self.add("pintail_compactions_overtaken_total", table, 1);
    }

    /// Old partials were removed from their table.
    pub fn dropped(&self, table: &str, files: u64, bytes: u64) {
        self.add("pintail_partials_files_dropped_total", table, files);
        self.add("pintail_partials_bytes_dropped_total", table, bytes);
    }

    /// Old data files were deleted.
    pub fn vacuumed(&self, table: &str, files: u64, bytes: u64) {
        self.add("pintail_files_vacuumed_total", table, files);
        self.add("pintail_bytes_vacuumed_total", table, bytes);
    }

    fn looks(&self, table: &str, result: &str) -> Counter {
        let labels = [("stream", self.stream.as_str()), ("table", table), ("result", result)];
        self.registry.counter("pintail_maintenance_rounds_total", &labels)
    }

    fn failures(&self, table: &str, step: &str) -> Counter {
        let labels = [("stream", self.stream.as_str()), ("table", table), ("step", step)];
        self.registry.counter("pintail_maintenance_failures_total", &labels)
    }

    /// Keys of sealed windows were corrected.
    pub fn revised(&self, window: &str, rows: u64) {
        let labels = [("stream", self.stream.as_str()), ("window", window)];
        self.registry.counter("pintail_revised_rows_total", &labels).increment(rows);
    }

    /// A table got rows that were not staged for it.
    pub fn grew(&self, table: &str, rows: u64, files: u64, bytes: u64) {
        self.add("pintail_rows_committed_total", table, rows);
        self.add("pintail_files_committed_total", table, files);
        self.add("pintail_bytes_committed_total", table, bytes);
    }

    /// A seal was given up.
    pub fn seal_overtaken(&self, window: &str) {
        self.seals_overtaken(window).increment(1);
    }

    fn seals_overtaken(&self, window: &str) -> Counter {
        let labels = [("stream", self.stream.as_str()), ("window", window)];
        self.registry.counter("pintail_seals_overtaken_total", &labels)
    }

    /// Records came too late for their windows' first rows.
    pub fn late(&self, window: &str, records: u64) {
        let labels = [("stream", self.stream.as_str()), ("window", window)];
        self.registry.counter("pintail_late_records_total", &labels).increment(records);
    }

    /// Records came too late even for their windows' partials.
    pub fn too_late(&self, window: &str, records: u64) {
        let labels = [("stream", self.stream.as_str()), ("window", window)];
        self.registry.counter("pintail_too_late_records_total", &labels).increment(records);
    }

    fn add(&self, name: &'static str, table: &str, count: u64) {
        self.registry.counter(name, &self.labels(table)).increment(count);
    }

    fn labels<'a>(&'a self, table: &'a str) -> [(&'static str, &'a str); 2] {
        [("stream", &self.stream), ("table", table)]
    }
}
