//! The tables that follow the rows table: each gets the files that were staged for it, once, in order.
//!
//! `txn …/applied` is the rows version up to which the table is complete, compare-and-swapped in the commit that
//! brings the files. So it does not matter who applies them: this process, its successor after a crash, or two of
//! them at once. The files come from the log, not from memory, which makes all three the same. A follower that cannot
//! write says so after a while and goes on trying; it holds up neither the stream nor memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::alarm::{Alarm, Troubles};
use super::commit::{Outcome, Proposal, TableLog, backoff};
use super::error::{Action, LakeError};
use super::flush::OPERATION;
use super::ledger::StreamIdentity;
use super::staging::{Staging, is_bare, staging_of};
use super::store::LakeStore;
use super::stream::as_txn;
use crate::metrics::StreamMetrics;
use crate::status::StreamBoard;

/// Versions that one commit of a follower covers at most; bounds what is held while catching up.
const VERSIONS_PER_COMMIT_MAX: u64 = 64;
const READS_MAX: usize = 8;
/// Versions without files for the table after which it commits its progress all the same, so that the rows log can
/// be cleaned and a restart need not read it all.
const IDLE_VERSIONS_MAX: u64 = 100;
/// A follower may be behind this long before people are told.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
const GONE_WAIT: Duration = Duration::from_secs(30);

/// One following table.
pub(crate) struct Follower {
    store: LakeStore,
    table: TableLog,
    rows_table: String,
    applied_id: String,
    /// Commits of this stream, whenever it was created, start their `ledger` with this.
    ledger_prefix: String,
    /// Up to here the rows log was read and nothing in it waits.
    scanned: u64,
    metrics: StreamMetrics,
    board: StreamBoard,
    alarm: Alarm,
}

enum Followed {
    /// These `add`s, up to this version.
    Through(u64, Vec<Value>),
    /// The next version is one of which the table got nothing, for nobody asked.
    Gap(u64),
}

impl Follower {
    pub fn new(
        store: LakeStore,
        table: TableLog,
        rows_table: &str,
        identity: &StreamIdentity,
        metrics: StreamMetrics,
        board: StreamBoard,
        troubles: Arc<Troubles>,
    ) -> Self {
        let alarm = Alarm::new(table.name(), PATIENCE, troubles, None);
        Self {
            store,
            table,
            rows_table: rows_table.to_owned(),
            applied_id: identity.applied_id(),
            ledger_prefix: identity.any_creation(),
            scanned: 0,
            metrics,
            board,
            alarm,
        }
    }

    /// The same, telling people after another time than five minutes.
    #[cfg(test)]
    pub fn telling_after(mut self, patience: Duration, troubles: Arc<Troubles>) -> Self {
        self.alarm = Alarm::new(self.table.name(), patience, troubles, None);
        self
    }

    /// Follows the head until its sender is gone, then once more. Ends only when the table is complete.
    pub async fn run(mut self, mut head: watch::Receiver<u64>) -> Result<(), LakeError> {
        loop {
            let target = *head.borrow_and_update();
            self.follow(target).await?;
            if head.changed().await.is_err() && *head.borrow() <= self.scanned {
                return Ok(());
            }
        }
    }

    async fn follow(&mut self, target: u64) -> Result<(), LakeError> {
        let mut failures = 0;
        while self.scanned < target {
            let before = self.scanned;
            self.alarm.trying();
            let stepped = self.step(target).await;
            if stepped.is_ok() && self.scanned > before {
                failures = 0;
                continue;
            }
            failures += 1;
            let Err(error) = stepped else {
                self.alarm.struggling(format!("another writer moved `applied`, now at {}", self.scanned));
                tokio::time::sleep(backoff(failures)).await;
                continue;
            };
            match error.action() {
                Action::Fail => return Err(error),
                Action::Retry => {
                    self.alarm.failed(&error);
                    tokio::time::sleep(backoff(failures)).await;
                }
                Action::Wait => {
                    self.alarm.refused(&error);
                    tokio::time::sleep(GONE_WAIT).await;
                }
            }
        }
        self.metrics.follower_lag(self.table.name(), 0);
        Ok(())
    }

    /// Reads some versions and applies what they staged for this table.
    async fn step(&mut self, target: u64) -> Result<(), LakeError> {
        if self.applied().is_err() {
            // Perhaps somebody has mended it.
            self.table.catch_up().await?;
        }
        let applied = self.applied()?;
        self.scanned = self.scanned.max(applied);
        if self.scanned >= target {
            return Ok(());
        }
        self.metrics.follower_lag(self.table.name(), target - self.scanned);
        let upto = target.min(self.scanned + VERSIONS_PER_COMMIT_MAX);
        let staged = match self.staged(self.scanned + 1, upto).await {
            Ok(staged) => staged,
            Err(gone @ LakeError::StagedGone { .. }) => return self.pass_over(gone).await,
            Err(error) => return Err(error),
        };
        let (upto, adds) = match self.followed(staged) {
            Followed::Through(upto, adds) => (upto, adds),
            Followed::Gap(version) => return self.begin_after(version).await,
        };
        if adds.is_empty() && upto.saturating_sub(applied) < IDLE_VERSIONS_MAX {
            self.scanned = upto;
            self.alarm.well();
            return Ok(());
        }
        let txns = BTreeMap::from([(self.applied_id.clone(), as_txn(upto))]);
        let actions: Vec<Value> = adds.into_iter().map(|add| json!({ "add": add })).collect();
        let info = vec![("appliedThrough", json!(upto))];
        let proposal = Proposal { txns, actions, info, operation: OPERATION };
        let applied_id = &self.applied_id;
        let outcome = self.table.commit(&mut self.alarm, |state| match state.txns.get(applied_id).copied() {
            Some(now) if now == as_txn(applied) => Ok(proposal.clone()),
            // Somebody else applied some of it: read again from there.
            _ => Err(()),
        });
        match outcome.await? {
            Outcome::Landed(version) => self.board.table(self.table.name(), |table| {
                table.version = version;
                table.last_commit_ms = Some(crate::clock::now_ms());
            }),
            Outcome::Stopped(()) => {}
        }
        self.scanned = self.applied()?;
        Ok(())
    }

    /// An entry that is gone was cleaned away because somebody has applied it while we slept, or it is an error.
    async fn pass_over(&mut self, gone: LakeError) -> Result<(), LakeError> {
        self.table.catch_up().await?;
        let applied = self.applied()?;
        if applied <= self.scanned {
            return Err(gone);
        }
        self.scanned = applied;
        Ok(())
    }

    /// What can be applied of these versions, which begin behind what was read: up to the first that brought rows
    /// without this table.
    fn followed(&self, staged: Vec<Staging>) -> Followed {
        let (mut upto, mut adds) = (self.scanned, Vec::new());
        for (version, staging) in (self.scanned + 1..).zip(staged) {
            match staging {
                Staging::Files(files) => adds.extend(files),
                Staging::NotFollowed if upto == self.scanned => return Followed::Gap(version),
                Staging::NotFollowed => break,
            }
            upto = version;
        }
        Followed::Through(upto, adds)
    }

    /// A table that has nothing yet begins a little later. One that has something would have a hole, which nobody
    /// would see in its sums.
    async fn begin_after(&mut self, version: u64) -> Result<(), LakeError> {
        let (table, rows) = (self.table.name(), &self.rows_table);
        if is_bare(&self.store, table).await? {
            tracing::info!(table, %rows, version, "begins later: rows were committed by a process that does not follow it");
            self.scanned = version;
            return Ok(());
        }
        let reason = format!(
            "version {version} of {rows} has rows that were committed without it, by a process whose contract did not \
             have this window, so its sums would miss them (stop that process if it still runs; then give the window \
             another name, whose table starts at the head)"
        );
        Err(LakeError::Refused { table: table.to_owned(), reason })
    }

    fn applied(&self) -> Result<u64, LakeError> {
        applied_of(&self.table, &self.applied_id, &self.rows_table)
    }

    /// What each of the rows versions `from..=through` staged for this table.
    async fn staged(&self, from: u64, through: u64) -> Result<Vec<Staging>, LakeError> {
        let reads = futures::stream::iter(from..=through)
            .map(|version| staging_of(&self.store, &self.rows_table, version, &self.ledger_prefix, self.table.name()));
        reads.buffered(READS_MAX).try_collect().await
    }
}

/// The rows version up to which a following table is complete, by its own word.
pub(crate) fn applied_of(table: &TableLog, applied_id: &str, rows: &str) -> Result<u64, LakeError> {
    let refused = |found: &str| LakeError::Refused {
        table: table.name().to_owned(),
        reason: format!(
            "its transaction {applied_id} {found}, so nobody knows up to which version of {rows} it is complete \
             (restore its log, or remove the table and rebuild it from {rows})"
        ),
    };
    match table.state().txns.get(applied_id).copied() {
        Some(version) => u64::try_from(version).map_err(|_| refused(&format!("is {version}"))),
        None => Err(refused("is missing")),
    }
}
