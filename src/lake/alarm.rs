//! From failures that repeat to words on the status board: soon enough for a person to act, not at every hiccup.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::error::LakeError;
use crate::error_chain::chain;
use crate::metrics::StreamMetrics;
use crate::status::StreamBoard;
use crate::tell::Tell;

/// The stream's own line on the board for several tables at once: readiness returns when all of them are well.
#[derive(Debug)]
pub(crate) struct Troubles {
    board: StreamBoard,
    who: &'static str,
    by_table: Mutex<BTreeMap<String, String>>,
}

impl Troubles {
    pub fn new(board: StreamBoard, who: &'static str) -> Arc<Self> {
        Arc::new(Self { board, who, by_table: Mutex::default() })
    }

    fn set(&self, table: &str, what: Option<String>) {
        let mut by_table = self.by_table.lock().unwrap_or_else(PoisonError::into_inner);
        match what {
            Some(what) => by_table.insert(table.to_owned(), what),
            None => by_table.remove(table),
        };
        let lines: Vec<&str> = by_table.values().map(String::as_str).collect();
        if lines.is_empty() {
            self.board.resolved(self.who);
        } else {
            self.board.trouble(self.who, lines.join("; "));
        }
    }
}

/// One table's failures in a row.
#[derive(Debug)]
pub(crate) struct Alarm {
    table: String,
    patience: Duration,
    troubles: Option<Arc<Troubles>>,
    metrics: Option<StreamMetrics>,
    /// When the attempt under way began.
    trying_since: Option<Instant>,
    failing_since: Option<Instant>,
    tell: Tell,
    failures: u32,
    raised: bool,
}

impl Alarm {
    /// Raises after `patience` of failures; at once if a person is needed.
    pub fn new(table: &str, patience: Duration, troubles: Arc<Troubles>, metrics: Option<StreamMetrics>) -> Self {
        Self { troubles: Some(troubles), metrics, patience, ..Self::silent(table) }
    }

    /// For callers that return their errors instead.
    pub fn silent(table: &str) -> Self {
        Self {
            table: table.to_owned(),
            patience: Duration::MAX,
            troubles: None,
            metrics: None,
            trying_since: None,
            failing_since: None,
            tell: Tell::default(),
            failures: 0,
            raised: false,
        }
    }

    /// An attempt begins. If it fails, the trouble began now: a store that does not answer takes a minute to fail.
    pub fn trying(&mut self) {
        self.trying_since = Some(Instant::now());
    }

    /// An attempt failed and will be repeated.
    pub fn failed(&mut self, error: &LakeError) {
        if let Some(metrics) = &self.metrics {
            metrics.commit_failed();
        }
        self.struggling(chain(error));
    }

    /// Nothing failed, but nothing gets done either.
    pub fn struggling(&mut self, what: String) {
        let since = *self.failing_since.get_or_insert_with(|| self.trying_since.unwrap_or_else(Instant::now));
        self.failures += 1;
        if self.tell.is_due(Instant::now()) {
            tracing::warn!(
                stream = self.stream(),
                table = self.table,
                attempts = self.failures,
                what,
                "lake attempt failed, repeating it"
            );
        }
        if since.elapsed() >= self.patience {
            self.raise(what);
        }
    }

    /// Nothing is written before a person or another engine has changed something.
    pub fn refused(&mut self, error: &LakeError) {
        self.raise(chain(error));
    }

    /// A version was lost to another writer.
    pub fn conflict(&self) {
        if let Some(metrics) = &self.metrics {
            metrics.commit_conflict();
        }
    }

    /// It worked.
    pub fn well(&mut self) {
        self.failing_since = None;
        self.tell = Tell::default();
        self.failures = 0;
        if std::mem::take(&mut self.raised) {
            tracing::info!(stream = self.stream(), table = self.table, "lake table works again");
            if let Some(troubles) = &self.troubles {
                troubles.set(&self.table, None);
            }
        }
    }

    /// Whose table it is, if somebody is told.
    fn stream(&self) -> Option<&str> {
        self.troubles.as_ref().map(|troubles| troubles.board.stream())
    }

    fn raise(&mut self, what: String) {
        if !self.raised {
            tracing::error!(stream = self.stream(), table = self.table, what, "lake table cannot be written");
        }
        self.raised = true;
        if let Some(troubles) = &self.troubles {
            troubles.set(&self.table, Some(what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::StatusBoard;

    const PATIENCE: Duration = Duration::from_millis(20);

    fn away() -> LakeError {
        let source = object_store::Error::Generic { store: "S3", source: "operation timed out".into() };
        LakeError::Store { action: "write", path: "x".to_owned(), source }
    }

    async fn patience_passes() {
        let since = Instant::now();
        while since.elapsed() <= PATIENCE {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_attempt_that_took_longer_than_our_patience_to_fail_is_told_at_its_first_failure() {
        let board = StatusBoard::default().stream("orders");
        board.resolved("start");
        let mut alarm = Alarm::new("orders", PATIENCE, Troubles::new(board.clone(), "lake"), None);
        alarm.trying();
        alarm.failed(&away());
        assert!(board.is_ready(), "it may pass");
        alarm.well();

        alarm.trying();
        patience_passes().await;
        assert!(board.is_ready(), "nothing has failed yet");
        alarm.failed(&away());
        assert!(board.snapshot().trouble["lake"].contains("operation timed out"));
        alarm.well();
        assert!(board.is_ready());

        patience_passes().await;
        alarm.trying();
        alarm.failed(&away());
        assert!(board.is_ready(), "an attempt of long ago says nothing of this one");
    }
}
