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
use super::backoff::backoff;
use super::commit::{Outcome, Proposal, TableLog};
use super::error::{Action, LakeError};
use super::files::Added;
use super::flush::OPERATION;
use super::ledger::{SINCE, StreamIdentity};
use super::log::TableState;
use super::seal::SealBell;
use super::staging::{Staging, committed_without, is_bare, staging_of};
use super::store::LakeStore;
use super::stream::as_txn;
use crate::checkpoint::LedgerView;
use crate::contract::WindowPlan;
use crate::contract::window::WINDOW_START;
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

/// The rows table, as far as its followers need to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub version: u64,
    /// The stream's watermark as of this version.
    pub watermark_ms: Option<i64>,
    /// When the stream's reading was begun; see [`LedgerView::begun_ms`].
    pub begun_ms: i64,
}

impl Head {
    pub fn of(view: &LedgerView) -> Self {
        Self { version: view.version, watermark_ms: view.watermark_ms(), begun_ms: view.begun_ms() }
    }
}

/// One following table.
pub(crate) struct Follower {
    store: LakeStore,
    table: TableLog,
    rows_table: String,
    applied_id: String,
    watermark_id: String,
    since_id: String,
    /// A partials table's.
    window: Option<Arc<WindowPlan>>,
    /// Commits of this stream, whenever it was created, start their `ledger` with this.
    ledger_prefix: String,
    /// Up to here the rows log was read and nothing in it waits.
    scanned: u64,
    metrics: StreamMetrics,
    board: StreamBoard,
    alarm: Alarm,
    bell: SealBell,
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
            window: table.window().cloned(),
            table,
            rows_table: rows_table.to_owned(),
            applied_id: identity.applied_id(),
            watermark_id: identity.watermark_id(),
            since_id: identity.since_id(),
            ledger_prefix: identity.any_creation(),
            scanned: 0,
            metrics,
            board,
            alarm,
            bell: SealBell::default(),
        }
    }

    /// Rings when a window of the table closes, or gets records after that.
    pub fn ringing(mut self, bell: SealBell) -> Self {
        self.bell = bell;
        self
    }

    /// The same, telling people after another time than five minutes.
    #[cfg(test)]
    pub fn telling_after(mut self, patience: Duration, troubles: Arc<Troubles>) -> Self {
        self.alarm = Alarm::new(self.table.name(), patience, troubles, None);
        self
    }

    /// Follows the head until its sender is gone, then once more. `Ok` only when the table is complete. When the sender
    /// is gone and a person has to change something first, that is an error: what is staged waits for the next start.
    pub async fn run(mut self, mut head: watch::Receiver<Head>) -> Result<(), LakeError> {
        let rows = head.clone();
        loop {
            let target = *head.borrow_and_update();
            self.follow(target, || sender_gone(rows.clone())).await?;
            if head.changed().await.is_err() && head.borrow().version <= self.scanned {
                return Ok(());
            }
        }
    }

    /// Until the table has what the rows table had then. What a person has to change first is waited for until `end`.
    pub async fn follow<E: Future<Output = ()>>(&mut self, target: Head, end: impl Fn() -> E) -> Result<(), LakeError> {
        let mut failures = 0;
        while self.scanned < target.version {
            let before = self.scanned;
            self.alarm.trying();
            let stepped = self.step(target, &end).await;
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
                    if tokio::time::timeout(GONE_WAIT, end()).await.is_ok() {
                        return Err(error);
                    }
                }
            }
        }
        self.metrics.follower_lag(self.table.name(), 0);
        Ok(())
    }

    /// Reads some versions and applies what they staged for this table.
    async fn step<E: Future<Output = ()>>(&mut self, target: Head, end: &impl Fn() -> E) -> Result<(), LakeError> {
        if self.applied().is_err() {
            // Perhaps somebody has mended it.
            self.table.catch_up().await?;
        }
        let applied = self.applied()?;
        self.scanned = self.scanned.max(applied);
        if self.scanned >= target.version {
            return Ok(());
        }
        self.metrics.follower_lag(self.table.name(), target.version - self.scanned);
        let upto = target.version.min(self.scanned + VERSIONS_PER_COMMIT_MAX);
        let staged = match self.staged(self.scanned + 1, upto).await {
            Ok(staged) => staged,
            Err(gone @ LakeError::StagedGone { .. }) => return self.pass_over(gone).await,
            Err(error) => return Err(error),
        };
        let (upto, adds) = match self.followed(staged) {
            Followed::Through(upto, adds) => (upto, adds),
            Followed::Gap(version) => return self.begin_after(applied, version, end).await,
        };
        let first_us = first_start_us(&adds);
        let times = Times {
            // As of an earlier version it is not known here, and what the table says is true of a later one too.
            watermark_ms: target.watermark_ms.filter(|_| upto == target.version),
            since_ms: first_us.map(|us| target.begun_ms.max(us.div_euclid(1000).saturating_add(1))),
        };
        let closes = self.closes_a_window(times.watermark_ms);
        let is_idle = adds.is_empty() && upto.saturating_sub(applied) < IDLE_VERSIONS_MAX;
        if is_idle && !closes {
            self.scanned = upto;
            self.alarm.well();
            return Ok(());
        }
        let actions: Vec<Value> = adds.into_iter().map(|add| json!({ "add": add })).collect();
        let info = vec![("appliedThrough", json!(upto))];
        let (applied_id, window) = (&self.applied_id, self.window.is_some());
        let (watermark_id, since_id) = (&self.watermark_id, &self.since_id);
        let outcome = self.table.commit(&mut self.alarm, end, |state| match state.txns.get(applied_id).copied() {
            Some(now) if now == as_txn(applied) => {
                let mut txns = BTreeMap::from([(applied_id.clone(), as_txn(upto))]);
                if window {
                    txns.extend(times.watermark(state, watermark_id));
                    txns.extend(times.since(state, since_id));
                }
                Ok(Proposal { txns, actions: actions.clone(), info: info.clone(), operation: OPERATION })
            }
            // Somebody else applied some of it: read again from there.
            _ => Err(()),
        });
        match outcome.await? {
            Outcome::Landed(version) => {
                self.board.table(self.table.name(), |table| {
                    table.version = version;
                    table.last_commit_ms = Some(crate::clock::now_ms());
                });
                if closes || self.is_late(first_us) {
                    self.bell.ring(self.table.name());
                }
            }
            Outcome::Stopped(()) => {}
        }
        self.scanned = self.applied()?;
        Ok(())
    }

    /// Whether a window of the table closes, as far as its own watermark says.
    fn closes_a_window(&self, watermark_ms: Option<i64>) -> bool {
        let Some((window, to_ms)) = self.window.as_ref().zip(watermark_ms) else { return false };
        window.closes(self.table.state().txns.get(&self.watermark_id).copied(), to_ms)
    }

    /// Whether a window that begins then is closed, as far as the table's watermark says.
    fn is_late(&self, first_start_us: Option<i64>) -> bool {
        let Some((window, first_us)) = self.window.as_ref().zip(first_start_us) else { return false };
        let watermark_ms = self.table.state().txns.get(&self.watermark_id);
        watermark_ms.is_some_and(|ms| first_us < window.closed_through_us(ms.saturating_mul(1000)))
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
    async fn begin_after<E: Future<Output = ()>>(
        &mut self,
        applied: u64,
        version: u64,
        end: &impl Fn() -> E,
    ) -> Result<(), LakeError> {
        let (table, rows) = (self.table.name().to_owned(), &self.rows_table);
        if !is_bare(&self.store, &table).await? {
            return Err(LakeError::Refused { table, reason: committed_without(rows, version) });
        }
        tracing::info!(table, %rows, version, "begins later: rows were committed by a process that does not follow it");
        let (applied_id, since) = (&self.applied_id, self.window.as_ref().map(|_| self.since_id.clone()));
        let outcome = self.table.commit(&mut self.alarm, end, |state| match state.txns.get(applied_id).copied() {
            Some(now) if now == as_txn(applied) => {
                // What it misses had come by now.
                let since = since.clone().map(|id| (id, crate::clock::now_ms()));
                let txns = std::iter::once((applied_id.clone(), as_txn(version))).chain(since).collect();
                Ok(Proposal { txns, operation: OPERATION, ..Proposal::default() })
            }
            _ => Err(()),
        });
        match outcome.await? {
            Outcome::Landed(_) | Outcome::Stopped(()) => self.scanned = self.applied()?,
        }
        Ok(())
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

/// When nobody will say any more how far the rows table is.
async fn sender_gone(mut head: watch::Receiver<Head>) {
    while head.changed().await.is_ok() {}
}

/// What a commit of a partials table says beside its files.
#[derive(Debug, Clone, Copy)]
struct Times {
    watermark_ms: Option<i64>,
    since_ms: Option<i64>,
}

impl Times {
    /// A watermark never goes back, also if a shard was found of which nothing is known yet.
    fn watermark(self, state: &TableState, id: &str) -> Option<(String, i64)> {
        let news = self.watermark_ms.filter(|ms| state.txns.get(id).is_none_or(|known| ms > known));
        news.map(|ms| (id.to_owned(), ms))
    }

    /// The first word holds, whichever stream of this name said it.
    fn since(self, state: &TableState, id: &str) -> Option<(String, i64)> {
        let is_said = state.txns.keys().any(|id| id.ends_with(SINCE));
        self.since_ms.filter(|_| !is_said).map(|ms| (id.to_owned(), ms))
    }
}

/// The earliest window start in these files, by their statistics.
fn first_start_us(adds: &[Value]) -> Option<i64> {
    let first = |add| Added::of(add).ok().map(|added| added.times_us(WINDOW_START).0);
    adds.iter().filter_map(first).min()
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
