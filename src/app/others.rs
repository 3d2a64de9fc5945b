//! What other processes commit, brought into the live windows while they run: by a second worker, by whoever took a shard
//! over, by a replay of rejects.
//!
//! Nobody waits for it. A lake that is away is looked into again, and meanwhile the live view says as of when it
//! knows; a commit that cannot be read costs the live view its records until the next start, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;

use crate::clock::now_ms;
use crate::error_chain::chain;
use crate::lake::{CommitLog, LakeError, LoggedCommit};
use crate::window::{FoundCommit, OthersCells, StreamWindows};

/// The lake is looked into this often at most, and at least.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(250);
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// Goes through the rows table's log.
pub struct Others {
    log: CommitLog,
    windows: Arc<StreamWindows>,
    stream: String,
    /// By window: the version up to which its rows were restored.
    restored_through: Vec<u64>,
    /// The last look that saw everything.
    looked_ms: i64,
    /// It could not be looked, and that was told.
    blind: bool,
}

impl Others {
    /// After what was restored of each window, up to a version of its own.
    pub fn after(log: CommitLog, windows: Arc<StreamWindows>, stream: &str, restored_through: Vec<u64>) -> Self {
        let stream = stream.to_owned();
        Self { log, windows, stream, restored_through, looked_ms: now_ms(), blind: false }
    }

    /// As often as this stream is flushed, within bounds. Never ends.
    pub async fn follow(mut self, flush_interval: Duration) {
        let mut looks = tokio::time::interval(flush_interval.clamp(LOOK_INTERVAL_MIN, LOOK_INTERVAL_MAX));
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            self.look(u64::MAX).await;
        }
    }

    /// Up to where the rows of all windows were restored, so that they stand for one version before anything is read.
    pub async fn level(&mut self) {
        let through = self.restored_through.iter().copied().max().unwrap_or_default();
        self.look(through).await;
    }

    async fn look(&mut self, through: u64) {
        let begun_ms = now_ms();
        match self.take_all(through).await {
            Ok(()) => {
                self.looked_ms = begun_ms;
                self.windows.looked(None);
                if std::mem::take(&mut self.blind) {
                    tracing::info!(stream = self.stream, "the live view sees other processes' commits again");
                }
            }
            Err(error) => {
                self.windows.looked(Some(self.looked_ms));
                if !std::mem::replace(&mut self.blind, true) {
                    let (stream, error) = (&self.stream, chain(&error));
                    tracing::warn!(stream, error, "the live view cannot look for other processes' commits, for now");
                }
            }
        }
    }

    async fn take_all(&mut self, through: u64) -> Result<(), LakeError> {
        while self.log.version() < through {
            let Some(commit) = self.log.next().await? else { return Ok(()) };
            self.take(&commit).await?;
            self.log.passed(commit);
        }
        Ok(())
    }

    /// `Err` if it can be tried again.
    async fn take(&self, commit: &LoggedCommit) -> Result<(), LakeError> {
        let found = FoundCommit {
            version: commit.version,
            at_ms: commit.at_ms.unwrap_or_else(now_ms),
            ranges: commit.ranges.clone(),
            ended: commit.ended.clone(),
        };
        let cells = if self.windows.knows(&found.ranges) {
            None
        } else {
            match self.cells(commit).await? {
                Ok(cells) => Some(cells),
                Err(error) => {
                    let (stream, version) = (&self.stream, commit.version);
                    tracing::warn!(
                        stream,
                        version,
                        error,
                        "the live view lacks what another process committed, until the next start"
                    );
                    None
                }
            }
        };
        self.windows.found(&found, cells);
        Ok(())
    }

    /// The inner error is for good.
    async fn cells(&self, commit: &LoggedCommit) -> Result<Result<OthersCells, String>, LakeError> {
        let mut cells = OthersCells::default();
        for (window, restored_through) in self.restored_through.iter().enumerate() {
            if commit.version <= *restored_through {
                continue;
            }
            let rows = match self.log.partials(commit, window, self.windows.live_since_us(window)).await {
                Ok(rows) => rows,
                Err(error) if error.is_passing() => return Err(error),
                Err(error) => return Ok(Err(chain(&error))),
            };
            let windows = Arc::clone(&self.windows);
            let decoded = spawn_blocking(move || windows.decode(window, &rows, &mut cells).map(|()| cells));
            cells = match decoded.await {
                Ok(Ok(cells)) => cells,
                Ok(Err(error)) => return Ok(Err(chain(&error))),
                Err(error) => return Ok(Err(error.to_string())),
            };
        }
        Ok(Ok(cells))
    }
}
