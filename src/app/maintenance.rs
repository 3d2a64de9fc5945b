//! Maintenance beside the streams: started, watched, and never in their way.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;
use crate::config::{Config, StreamConfig};
use crate::lake::{
    MaintenanceEnded, MaintenanceEvent, MaintenancePlan, MaintenanceService, SealBell, SealEvent, TableName, Turn,
};
use crate::metrics::{MaintenanceMetrics, Registry};
use crate::status::{StatusBoard, StreamBoard};
use crate::tell::Tell;

/// Starts it, unless the configuration leaves it to somebody else. A machine that has no thread for it has streams
/// all the same.
pub fn start(
    config: &Config,
    registry: &Registry,
    status: &StatusBoard,
    (bell, turn): (SealBell, Turn),
    stop: CancellationToken,
) -> Option<MaintenanceService> {
    if !config.maintenance.enabled {
        return None;
    }
    let plan = MaintenancePlan {
        location: config.lake.location.clone(),
        pipeline: config.pipeline.clone(),
        streams: config.streams.iter().map(|stream| (stream.name().to_owned(), Arc::clone(&stream.contract))).collect(),
        interval: config.maintenance.interval,
        options: config.maintenance.options,
        bell,
        turn,
    };
    let watcher = |stream: &StreamConfig| {
        let (name, tables) = (stream.name(), stream.contract.tables());
        let (metrics, board) = (registry.maintenance(name, &tables), status.stream(name));
        (name.to_owned(), Watcher { stream: name.to_owned(), metrics, board, began: Instant::now() })
    };
    let mut watchers: BTreeMap<String, Watcher> = config.streams.iter().map(watcher).collect();
    let observe = move |table: TableName<'_>, event| {
        if let Some(watcher) = watchers.get_mut(table.stream) {
            watcher.saw(table.table, event);
        }
    };
    let seal_watcher = |stream: &StreamConfig| {
        let (name, tables) = (stream.name(), stream.contract.tables());
        let (metrics, board) = (registry.maintenance(name, &tables), status.stream(name));
        metrics.windows(stream.contract.windows.iter().map(|window| window.name.as_str()));
        (name.to_owned(), SealWatcher { stream: name.to_owned(), metrics, board, troubles: BTreeMap::new() })
    };
    let mut seals: BTreeMap<String, SealWatcher> = config.streams.iter().map(seal_watcher).collect();
    let observe_seals = move |table: TableName<'_>, event| {
        if let Some(watcher) = seals.get_mut(table.stream) {
            watcher.saw(table.table, event);
        }
    };
    match MaintenanceService::start(plan, stop, observe, observe_seals) {
        Ok(service) => Some(service),
        Err(error) => {
            tracing::error!(%error, "maintenance cannot start; run `pintail maintain` until it can");
            None
        }
    }
}

/// Tells what happens to one stream's tables.
struct Watcher {
    stream: String,
    metrics: MaintenanceMetrics,
    board: StreamBoard,
    began: Instant,
}

impl Watcher {
    fn saw(&mut self, table: &str, event: MaintenanceEvent) {
        let stream = &self.stream;
        match event {
            MaintenanceEvent::Begins => self.began = Instant::now(),
            MaintenanceEvent::Compacted { version, files_in, files_out, bytes_in, bytes_out } => {
                tracing::info!(stream, table, version, files_in, files_out, bytes_in, bytes_out, "compacted");
                self.metrics.compacted(table, (files_in, files_out), (bytes_in, bytes_out));
            }
            MaintenanceEvent::Dropped { version, through_ms, files, bytes } => {
                tracing::info!(stream, table, version, through_ms, files, bytes, "old partials removed");
                self.metrics.dropped(table, files, bytes);
            }
            MaintenanceEvent::Overtaken { reason } => {
                tracing::info!(stream, table, reason, "a rewrite came too late");
                self.metrics.overtaken(table);
            }
            MaintenanceEvent::Checkpointed { version } => {
                tracing::info!(stream, table, version, "log checkpoint written");
                self.metrics.checkpointed(table);
            }
            MaintenanceEvent::Repointed { version } => {
                tracing::warn!(table, version, "_last_checkpoint led nowhere and was written anew");
            }
            MaintenanceEvent::Cleaned { objects, below } => {
                tracing::info!(stream, table, objects, below, "old log objects deleted");
                self.metrics.log_objects_deleted(table, objects);
            }
            MaintenanceEvent::Waits { reason } => tracing::info!(stream, table, reason, "maintenance waits"),
            MaintenanceEvent::Vacuumed { files, bytes } => {
                tracing::debug!(stream, table, files, bytes, "old data files deleted");
                self.metrics.vacuumed(table, files, bytes);
            }
            MaintenanceEvent::Failed { step, reason } => {
                tracing::warn!(stream, table, step = step.as_str(), reason, "maintenance failed, it is tried again");
                self.metrics.failed(table, step.as_str());
            }
            MaintenanceEvent::Ended(ended) => self.ended(table, ended),
        }
    }

    fn ended(&self, table: &str, ended: MaintenanceEnded) {
        let (result, trouble) = match ended {
            MaintenanceEnded::Well(_) => ("ok", None),
            MaintenanceEnded::Absent => ("absent", None),
            MaintenanceEnded::Refused(reason) => ("refused", Some(reason)),
            MaintenanceEnded::Failed(reason) => ("failed", Some(reason)),
        };
        self.metrics.looked(table, result, self.began.elapsed());
        let now_ms = now_ms();
        if result == "ok" {
            self.metrics.succeeded(table, now_ms as f64 / 1000.0);
        }
        if result != "absent" {
            self.board.table(table, |status| {
                status.maintained_ms = if trouble.is_none() { Some(now_ms) } else { status.maintained_ms };
                status.maintenance_trouble = trouble;
            });
        }
    }
}

/// Tells what happens to the sealed rows of one stream's windows.
struct SealWatcher {
    stream: String,
    metrics: MaintenanceMetrics,
    board: StreamBoard,
    /// By table.
    troubles: BTreeMap<String, Tell>,
}

impl SealWatcher {
    fn saw(&mut self, table: &str, event: SealEvent) {
        let stream = &self.stream;
        match event {
            SealEvent::Sealed { version, through_ms, rows, files, bytes } => {
                tracing::debug!(stream, table, version, through_ms, rows, files, bytes, "sealed");
                self.grew(table, version, (rows, files, bytes));
            }
            SealEvent::Revised { version, revision, rows, files, bytes } => {
                tracing::debug!(stream, table, version, revision, rows, "sealed rows corrected");
                self.metrics.revised(table, rows);
                self.grew(table, version, (rows, files, bytes));
            }
            SealEvent::Overtaken => {
                tracing::debug!(stream, table, "another process has sealed these windows");
                self.metrics.seal_overtaken(table);
            }
            SealEvent::Late { records } => {
                tracing::debug!(stream, table, records, "records came to sealed windows");
                self.metrics.late(table, records);
            }
            SealEvent::TooLate { records } => {
                tracing::debug!(stream, table, records, "records came to windows whose partials are not kept any more");
                self.metrics.too_late(table, records);
            }
            SealEvent::Waits { table: crowded } => {
                tracing::info!(stream, table, crowded, "many keys: windows are sealed once the files are compacted");
            }
            SealEvent::Failed { reason } => {
                if self.troubles.entry(table.to_owned()).or_default().is_news(&reason, Instant::now()) {
                    tracing::warn!(stream, table, reason, "windows could not be sealed, trying again");
                }
                self.metrics.failed(table, "seal");
                self.board.table(table, |status| status.seal_trouble = Some(reason));
            }
            SealEvent::Recovered => {
                self.troubles.remove(table);
                self.board.table(table, |status| status.seal_trouble = None);
                tracing::info!(stream, table, "windows can be sealed again");
            }
        }
    }

    fn grew(&self, table: &str, version: u64, (rows, files, bytes): (u64, u64, u64)) {
        self.metrics.grew(table, rows, files, bytes);
        let now_ms = now_ms();
        self.board.table(table, |status| {
            status.version = version;
            status.rows += rows;
            status.files += files;
            status.bytes += bytes;
            status.last_commit_ms = Some(now_ms);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::TableStatus;

    #[test]
    fn what_holds_up_sealing_is_on_the_board_until_it_is_over_and_counted_each_time() {
        let (registry, board) = (Registry::new().unwrap(), StatusBoard::default().stream("s"));
        let metrics = registry.maintenance("s", &["w".to_owned()]);
        let mut watcher = SealWatcher { stream: "s".to_owned(), metrics, board, troubles: BTreeMap::new() };
        let trouble = |watcher: &SealWatcher| {
            let tables = watcher.board.snapshot().tables;
            tables.get("w").and_then(|table: &TableStatus| table.seal_trouble.clone())
        };
        assert_eq!(trouble(&watcher), None);
        for _ in 0..3 {
            watcher.saw("w", SealEvent::Failed { reason: "S3 is away".to_owned() });
            assert_eq!(trouble(&watcher).as_deref(), Some("S3 is away"));
        }
        watcher.saw("w", SealEvent::Recovered);
        assert_eq!(trouble(&watcher), None);
        let counted = "pintail_maintenance_failures_total{stream=\"s\",table=\"w\",step=\"seal\"} 3";
        assert!(registry.render().contains(counted), "{}", registry.render());
    }
}
