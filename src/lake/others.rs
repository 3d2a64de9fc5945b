//! What is committed to the rows table, whoever commits it, version by version: for the live windows, which know what
//! this process brought and lack what others did.
//!
//! Beside the committer and behind it: it reads, holds nobody up, and a version is passed when its reader says so.
//! Of the files that a commit stages for a window, those that may hold recent starts are read, and never more than fit
//! in memory.

use std::collections::BTreeMap;

use serde_json::Value;

use super::entry::{Keep, LogEntry};
use super::error::LakeError;
use super::ledger::{self, StreamIdentity};
use super::log::{entry_path, read_entry, read_table};
use super::restore::{RecentPartials, newest_start_us, path_of, size_of};
use super::staging::staged_in;
use super::store::LakeStore;
use super::stream::StreamLake;
use crate::checkpoint::{LedgerView, Position, PositionRange, ShardId};
use crate::error_chain::chain;
use crate::limits::{LIVE_OTHERS_BYTES_MAX, LIVE_OTHERS_FILES_MAX};

/// The log of a rows table, as far as it was gone through.
#[derive(Debug)]
pub struct CommitLog {
    store: LakeStore,
    identity: StreamIdentity,
    rows: String,
    /// By window.
    partials: Vec<String>,
    txns: BTreeMap<String, i64>,
    view: LedgerView,
}

/// What a version of the rows table says.
#[derive(Debug, Clone)]
pub struct LoggedCommit {
    /// The version.
    pub version: u64,
    /// When it was made, epoch ms, if it says so.
    pub at_ms: Option<i64>,
    /// By shard: what it covers. Shards that it does not move are left out.
    pub ranges: Vec<PositionRange>,
    /// Shards that it ends.
    pub ended: Vec<ShardId>,
    /// By window: the `add`s that it stages. `None`: it stands for versions of which nobody knows any more.
    staged: Option<Vec<Vec<Value>>>,
    txns: BTreeMap<String, i64>,
    view: LedgerView,
}

impl StreamLake {
    /// The log of the rows table, from the next version on.
    pub fn commit_log(&self) -> CommitLog {
        CommitLog {
            store: self.store.clone(),
            identity: self.identity.clone(),
            rows: self.rows.name().to_owned(),
            partials: self.tables.partials.iter().map(|spec| spec.name.clone()).collect(),
            txns: self.rows.state().txns.clone(),
            view: self.view.clone(),
        }
    }
}

impl CommitLog {
    /// The version up to which it was gone through.
    pub fn version(&self) -> u64 {
        self.view.version
    }

    /// The next version; `None` if there is none yet. The same one until it is [`Self::passed`].
    pub async fn next(&self) -> Result<Option<LoggedCommit>, LakeError> {
        let version = self.view.version + 1;
        let prefix = self.identity.prefix();
        match read_entry(&self.store, &self.rows, version, Keep::txns(&prefix)).await? {
            Some((entry, _)) => self.logged(version, entry).map(Some),
            None => self.beyond_the_gap().await,
        }
    }

    /// It has been dealt with.
    pub fn passed(&mut self, commit: LoggedCommit) {
        (self.txns, self.view) = (commit.txns, commit.view);
    }

    /// The recent rows that a commit stages for a window: of files that may hold a start at or after `since_us` (epoch
    /// us), by their statistics.
    pub fn partials(&self, commit: &LoggedCommit, window: usize, since_us: i64) -> Result<RecentPartials, LakeError> {
        let table = &self.partials[window];
        let wrong = |reason| LakeError::Log { table: self.rows.clone(), version: commit.version, reason };
        let Some(staged) = &commit.staged else {
            return Err(wrong("its entries up to there were cleaned away before they were read".to_owned()));
        };
        let is_recent = |add: &&Value| newest_start_us(add).is_none_or(|newest_us| newest_us >= since_us);
        let adds: Vec<&Value> = staged[window].iter().filter(is_recent).collect();
        let bytes = adds.iter().map(|add| size_of(add)).fold(0, u64::saturating_add);
        if adds.len() > LIVE_OTHERS_FILES_MAX || bytes > LIVE_OTHERS_BYTES_MAX {
            let files = adds.len();
            return Err(wrong(format!(
                "it stages {files} files of {bytes} bytes for {table}, too many to be shown live"
            )));
        }
        let files = adds.into_iter().map(|add| Ok((path_of(add)?.to_owned(), size_of(add))));
        let files = files.collect::<Result<_, String>>().map_err(wrong)?;
        let (store, table, version) = (self.store.clone(), table.clone(), commit.version);
        Ok(RecentPartials { since_us, left_out: None, through: version, store, table, files })
    }

    fn logged(&self, version: u64, mut entry: LogEntry) -> Result<LoggedCommit, LakeError> {
        let time = entry.commit_info.as_ref().and_then(|info| info.get("timestamp")).and_then(Value::as_i64);
        let prefix = self.identity.any_creation();
        let staged = staged_in(&mut entry, &self.rows, version, &prefix, &self.partials)?;
        let mut txns = self.txns.clone();
        txns.extend(entry.txns);
        self.moved(version, time, Some(staged), txns)
    }

    fn moved(
        &self,
        version: u64,
        at_ms: Option<i64>,
        staged: Option<Vec<Vec<Value>>>,
        txns: BTreeMap<String, i64>,
    ) -> Result<LoggedCommit, LakeError> {
        let wrong = |error| LakeError::Log { table: self.rows.clone(), version, reason: chain(&error) };
        let view = ledger::view(&self.identity.prefix(), &txns, version).map_err(wrong)?;
        let (mut ranges, mut ended) = (Vec::new(), Vec::new());
        for (shard, entry) in &view.shards {
            let before = self.view.shards.get(shard);
            let after = before.and_then(|before| before.position);
            if let Some(through) = entry.position.filter(|_| entry.position != after) {
                let (after, through) = (after.map_or(Position::Beginning, Position::After), Position::After(through));
                ranges.push(PositionRange { shard: shard.clone(), after, through });
            }
            if entry.ended && before.is_none_or(|before| !before.ended) {
                ended.push(shard.clone());
            }
        }
        Ok(LoggedCommit { version, at_ms, ranges, ended, staged, txns, view })
    }

    /// The next version is not there. If the one before it is gone as well, the log was cleaned while nobody looked.
    async fn beyond_the_gap(&self) -> Result<Option<LoggedCommit>, LakeError> {
        if self.store.head(&entry_path(&self.store, &self.rows, self.version())).await?.is_some() {
            return Ok(None);
        }
        let state = read_table(&self.store, &self.rows, &self.identity.prefix()).await?;
        match state.filter(|state| state.version > self.version()) {
            Some(state) => self.moved(state.version, None, None, state.txns).map(Some),
            None => Ok(None),
        }
    }
}
