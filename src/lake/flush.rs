//! From a micro-batch to a commit of the rows table, and the commits without rows: the one place that moves the
//! ledger.
//!
//! Files first, all tables' at once; then one commit with the rows' files, the positions, and the other tables'
//! files as `commitInfo.staged`. If another writer moved a shard meanwhile, that shard's rows are dropped, the rest
//! is encoded again, and its reader learns it by its grant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use deltalake::arrow::array::{AsArray, BooleanArray, RecordBatch};
use deltalake::arrow::compute::{self, filter_record_batch};
use deltalake::arrow::datatypes::TimestampMicrosecondType;
use deltalake::arrow::error::ArrowError;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::alarm::Alarm;
use super::commit::{Outcome, Proposal, TableLog};
use super::error::LakeError;
use super::ledger::{StreamIdentity, Txns};
use super::micro_batch::{MicroBatch, Part};
use super::moment::{Moment, MomentClock};
use super::parquet::{Staged, TableRows, stage};
use super::rejects::rejects_batches;
use super::staging::{INFO_LEDGER, staging_info};
use super::store::LakeStore;
use super::stream::{TableSet, ledger_of, view_of};
use crate::checkpoint::{LedgerView, Position, Registration, ShardId};
use crate::contract::{ARRIVED_AT, SHARD_ID};
use crate::limits::STAGED_AGE_MS_MAX;
use crate::metrics::StreamMetrics;
use crate::record::{Heir, ProbeRef, WindowSink};
use crate::status::StreamBoard;

/// `commitInfo.operation` of every commit that only appends.
pub(crate) const OPERATION: &str = "STREAMING UPDATE";

/// Owns the rows table.
pub(crate) struct Committer {
    pub store: LakeStore,
    pub clock: MomentClock,
    pub identity: StreamIdentity,
    pub tables: TableSet,
    pub rows: TableLog,
    pub view: LedgerView,
    pub windows: Arc<dyn WindowSink>,
    pub probe: Option<ProbeRef>,
    pub metrics: StreamMetrics,
    pub board: StreamBoard,
    pub alarm: Alarm,
}

/// Why a commit was not made.
#[derive(Debug)]
enum Stop {
    /// These shards are not where the batch began.
    Fenced(Vec<ShardId>),
    /// What was uploaded may be taken for something that nobody will ever name.
    Stale,
    /// The ledger says already, or otherwise, what the commit was to say.
    Settled,
    /// The ledger cannot be read.
    Broken(LakeError),
}

impl Committer {
    /// Brings a micro-batch into the lake, whatever it takes. Shards that were lost on the way are dropped from it.
    pub async fn flush(&mut self, mut batch: MicroBatch) -> Result<(), LakeError> {
        batch.drop_revoked();
        let mut partials = match batch.content_since() {
            Some(_) => self.windows.partials(&batch.ranges()),
            None => Vec::new(),
        };
        // A shard is revoked before its cells are discarded. So whoever is not revoked now was whole a moment ago.
        let revoked = batch.drop_revoked();
        partials = self.without_shards(&partials, &revoked)?;
        while !batch.is_empty() {
            let started = Instant::now();
            let tables = self.rows_of_tables(&batch, &partials)?;
            let staged_at = self.clock.now();
            let staged = stage(&self.store, tables, self.clock.now().wall_ms, &mut self.alarm).await?;
            if !staged.is_empty() {
                self.metrics.flushed(started.elapsed());
            }
            let Some(fenced) = self.commit_batch(&mut batch, &staged, staged_at).await? else { return Ok(()) };
            self.fence(&mut batch, &fenced);
            partials = self.without_shards(&partials, &fenced)?;
        }
        Ok(())
    }

    /// Registers the shards that the ledger does not have.
    pub async fn register(&mut self, shards: &[Registration]) -> Result<(), LakeError> {
        self.commit_without_rows(|view, txns| {
            for registration in shards.iter().filter(|wanted| !view.shards.contains_key(&wanted.shard)) {
                txns.register(view, &registration.shard, registration.start_ms);
                if registration.ended {
                    txns.end(&registration.shard);
                }
            }
        })
        .await
    }

    /// Ends a shard that Kinesis no longer lists, if it still stands where the caller saw it.
    pub async fn end_lost(
        &mut self,
        shard: &ShardId,
        expected: Position,
        descendants: &[ShardId],
    ) -> Result<(), LakeError> {
        self.commit_without_rows(|view, txns| {
            let standing = view.shards.get(shard).filter(|entry| !entry.ended && entry.resume() == expected);
            let Some(lost) = standing else { return };
            txns.end(shard);
            for descendant in descendants.iter().filter(|id| !view.shards.contains_key(*id)) {
                // Without a watermark: how far its lost parent had come by the end, nobody knows.
                txns.register(view, descendant, 0);
                // Or nobody would be told what retention has trimmed of it.
                txns.seen(view, descendant, lost.seen_ms);
            }
        })
        .await
    }

    /// Reads what others have committed.
    pub async fn refresh(&mut self) -> Result<(), LakeError> {
        self.commit_without_rows(|_, _| {}).await
    }

    /// Commits the transactions that `fill` makes of the ledger, if it makes any.
    async fn commit_without_rows(&mut self, fill: impl Fn(&LedgerView, &mut Txns)) -> Result<(), LakeError> {
        let started = Instant::now();
        let (identity, table) = (self.identity.clone(), self.rows.name().to_owned());
        let outcome = self.rows.commit(&mut self.alarm, std::future::pending, |state| {
            let view = ledger_of(&identity, &table, state).map_err(Stop::Broken)?;
            let mut txns = Txns::new(&identity.prefix());
            fill(&view, &mut txns);
            let txns = txns.into_set();
            if txns.is_empty() {
                return Err(Stop::Settled);
            }
            let info = vec![(INFO_LEDGER, json!(identity.prefix()))];
            Ok(Proposal { txns, actions: Vec::new(), info, operation: OPERATION })
        });
        let outcome = outcome.await?;
        self.view = view_of(&self.identity, &self.rows)?;
        match outcome {
            Outcome::Landed(version) => {
                self.rows_committed(version, started.elapsed());
                Ok(())
            }
            Outcome::Stopped(Stop::Settled | Stop::Stale | Stop::Fenced(_)) => Ok(()),
            Outcome::Stopped(Stop::Broken(error)) => Err(error),
        }
    }

    /// Makes the commit. `Some`: nothing was committed, for these shards are not ours any more; without any, because
    /// the files have to be uploaded anew.
    async fn commit_batch(
        &mut self,
        batch: &mut MicroBatch,
        staged: &[Staged],
        staged_at: Moment,
    ) -> Result<Option<Vec<ShardId>>, LakeError> {
        let started = Instant::now();
        let (identity, table) = (self.identity.clone(), self.rows.name().to_owned());
        let (actions, info) = (row_adds(&table, staged), commit_info(&identity, &self.tables, batch, staged));
        let (covered, clock): (&MicroBatch, _) = (batch, self.clock.clone());
        let outcome = self.rows.commit(&mut self.alarm, std::future::pending, |state| {
            if !staged.is_empty() && clock.now().ms_since(staged_at) > STAGED_AGE_MS_MAX {
                return Err(Stop::Stale);
            }
            let view = ledger_of(&identity, &table, state).map_err(Stop::Broken)?;
            let txns = batch_txns(&identity, &view, covered)?;
            if txns.is_empty() && actions.is_empty() {
                return Err(Stop::Settled);
            }
            Ok(Proposal { txns, actions: actions.clone(), info: info.clone(), operation: OPERATION })
        });
        let outcome = outcome.await?;
        self.view = view_of(&self.identity, &self.rows)?;
        match outcome {
            Outcome::Landed(version) => {
                self.landed(std::mem::take(batch), staged, version, started.elapsed());
                Ok(None)
            }
            Outcome::Stopped(Stop::Fenced(shards)) => Ok(Some(shards)),
            Outcome::Stopped(Stop::Stale) => Ok(Some(Vec::new())),
            Outcome::Stopped(Stop::Settled) => {
                *batch = MicroBatch::default();
                Ok(None)
            }
            Outcome::Stopped(Stop::Broken(error)) => Err(error),
        }
    }

    /// Everybody learns that a micro-batch is in the lake. The permits go last, with the parts.
    fn landed(&self, batch: MicroBatch, staged: &[Staged], version: u64, took: Duration) {
        let now_ms = self.clock.now().wall_ms;
        let ranges = batch.ranges();
        self.windows.committed(&ranges, version);
        if let Some(probe) = &self.probe {
            probe.committed(&self.identity.stream, &ranges);
        }
        self.rows_committed(version, took);
        for staged in staged {
            let files = staged.adds.len() as u64;
            self.metrics.table_grew(&staged.table, staged.rows, files, staged.bytes);
            let mut is_first = false;
            self.board.table(&staged.table, |table| {
                is_first = table.files == 0;
                table.rows += staged.rows;
                table.files += files;
                table.bytes += staged.bytes;
            });
            if is_first {
                let (stream, table, rows) = (self.board.stream(), &staged.table, staged.rows);
                tracing::info!(stream, table, version, rows, "first rows of this process are committed");
            }
            if staged.null_partition_rows > 0 {
                self.metrics.null_partition(staged.null_partition_rows);
                let rows = staged.null_partition_rows;
                tracing::warn!(
                    stream = self.board.stream(),
                    table = staged.table,
                    rows,
                    "rows of too many days went to the null partition"
                );
            }
        }
        for part in batch.into_parts().into_values() {
            for arrived_at_us in oldest_arrivals(&part) {
                let waited_us = (now_ms * 1000).saturating_sub(arrived_at_us).max(0);
                self.metrics.end_to_end(Duration::from_micros(waited_us.unsigned_abs()));
            }
            if let Some(end) = part.end
                && end.committed.send(()).is_err()
            {
                tracing::debug!(stream = self.board.stream(), "a shard's end is committed and its reader has gone");
            }
        }
    }

    fn fence(&self, batch: &mut MicroBatch, shards: &[ShardId]) {
        self.metrics.fenced(shards.len() as u64);
        for shard in shards {
            let stream = self.board.stream();
            tracing::warn!(stream, %shard, "fenced: another writer moved the shard's position, its rows are dropped");
            if let Some(part) = batch.remove(shard) {
                part.grant.revoke();
            }
            self.windows.discard(shard);
        }
    }

    fn without_shards(&self, partials: &[RecordBatch], shards: &[ShardId]) -> Result<Vec<RecordBatch>, LakeError> {
        without_shards(partials, shards)
            .map_err(|source| LakeError::Rows { table: self.rows.name().to_owned(), source })
    }

    /// The rows of every table, in the order rows, rejects, partials.
    fn rows_of_tables(&self, batch: &MicroBatch, partials: &[RecordBatch]) -> Result<Vec<TableRows>, LakeError> {
        let TableSet { rows, rejects, partials: windows, sealed: _ } = &self.tables;
        let mut rejected = Vec::new();
        for (shard, part) in batch.parts().iter().filter(|(_, part)| !part.rejects.is_empty()) {
            let batches = rejects_batches(&rejects.schema, shard, &part.rejects)
                .map_err(|source| LakeError::Rows { table: rejects.name.clone(), source })?;
            rejected.extend(batches);
        }
        let clean = batch.parts().values().flat_map(|part| part.rows.iter().cloned()).collect();
        let mut tables = vec![
            TableRows { table: rows.name.clone(), batches: clean },
            TableRows { table: rejects.name.clone(), batches: rejected },
        ];
        tables.extend(
            windows
                .iter()
                .zip(partials)
                .map(|(window, partial)| TableRows { table: window.name.clone(), batches: vec![partial.clone()] }),
        );
        Ok(tables)
    }

    fn rows_committed(&self, version: u64, took: Duration) {
        let now_ms = self.clock.now().wall_ms;
        self.metrics.commit_landed(took, now_ms as f64 / 1000.0);
        if let Some(watermark_ms) = self.view.watermark_ms() {
            self.metrics.watermark(watermark_ms);
        }
        for (shard, entry) in &self.view.shards {
            self.board.shard_if_known(shard, |status| status.watermark_ms = entry.watermark_ms);
        }
        self.board.table(self.rows.name(), |table| {
            table.version = version;
            table.last_commit_ms = Some(now_ms);
        });
    }
}

/// The batch's transactions, or the shards that are not where it began.
fn batch_txns(identity: &StreamIdentity, view: &LedgerView, batch: &MicroBatch) -> Result<BTreeMap<String, i64>, Stop> {
    let resume = |shard: &ShardId| view.shards.get(shard).map(crate::checkpoint::ShardEntry::resume);
    let moved = batch.parts().iter().filter(|(shard, part)| resume(shard) != Some(part.after));
    let fenced: Vec<ShardId> = moved.map(|(shard, _)| shard.clone()).collect();
    if !fenced.is_empty() {
        return Err(Stop::Fenced(fenced));
    }
    let mut txns = Txns::new(&identity.prefix());
    for (shard, part) in batch.parts() {
        if part.through != part.after {
            txns.position(shard, part.through);
        }
        txns.seen(view, shard, part.seen_ms);
        txns.watermark(view, shard, part.watermark_ms);
        if let Some(end) = &part.end {
            txns.end(shard);
            // A child holds only what came after its parent: what the parent is known to cover is a loss of neither.
            // One that is known already, from the first listing or by its other parent, has not been read yet.
            let seen_ms = part.seen_ms.max(view.shards.get(shard).and_then(|entry| entry.seen_ms));
            for child in &end.children {
                txns.register(view, &child.shard, 0);
                txns.seen(view, &child.shard, seen_ms);
                txns.watermark(view, &child.shard, inherited_watermark(view, batch, shard, child));
            }
        }
    }
    Ok(txns.into_set())
}

/// How far event time has come in all parents of a shard that nobody has read: the one that ends now, and those that
/// the ledger knows. A parent that was trimmed before the ledger began has left nothing.
fn inherited_watermark(view: &LedgerView, batch: &MicroBatch, ended: &ShardId, heir: &Heir) -> Option<i64> {
    let come_to = |shard: &ShardId| {
        let known = view.shards.get(shard)?;
        Some(known.watermark_ms.max(batch.parts().get(shard).and_then(|part| part.watermark_ms)))
    };
    heir.parents.iter().chain([ended]).filter_map(come_to).min().flatten()
}

fn row_adds(table: &str, staged: &[Staged]) -> Vec<Value> {
    let rows = staged.iter().filter(|staged| staged.table == table);
    rows.flat_map(|staged| &staged.adds).map(|add| json!({ "add": add })).collect()
}

/// What a rows commit says beside its actions: whose it is, its positions for people, its files for the followers.
fn commit_info(
    identity: &StreamIdentity,
    tables: &TableSet,
    batch: &MicroBatch,
    staged: &[Staged],
) -> Vec<(&'static str, Value)> {
    let position = |(shard, part): (&ShardId, &Part)| {
        let through = match part.through {
            Position::After(number) => number.to_string(),
            other @ (Position::Beginning | Position::At(_) | Position::End) => other.to_string(),
        };
        let (seen_ms, watermark_ms, ended) = (part.seen_ms, part.watermark_ms, part.end.is_some());
        let said = json!({ "through": through, "seenMs": seen_ms, "watermarkMs": watermark_ms, "ended": ended });
        (shard.to_string(), said)
    };
    let positions: Map<String, Value> = batch.parts().iter().map(position).collect();
    let mut info = vec![(INFO_LEDGER, json!(identity.prefix())), ("positions", Value::Object(positions))];
    info.extend(staging_info(tables, staged));
    info
}

/// The partials of the remaining shards: a partial is of one shard, which it names.
fn without_shards(partials: &[RecordBatch], gone: &[ShardId]) -> Result<Vec<RecordBatch>, ArrowError> {
    let gone: BTreeSet<&str> = gone.iter().map(ShardId::as_str).collect();
    let keep = |batch: &RecordBatch| {
        let shards = batch.column_by_name(SHARD_ID).and_then(|column| column.as_string_opt::<i32>());
        let shards = shards.ok_or_else(|| ArrowError::SchemaError(format!("a partial without text {SHARD_ID:?}")))?;
        let mask: BooleanArray = shards.iter().map(|shard| Some(!shard.is_some_and(|id| gone.contains(id)))).collect();
        filter_record_batch(batch, &mask)
    };
    partials.iter().map(keep).collect()
}

/// Arrival (epoch us) of the oldest record of each batch, rejects counting as one batch.
fn oldest_arrivals(part: &Part) -> Vec<i64> {
    let of_rows = part.rows.iter().filter_map(|rows| {
        let arrived = rows.column_by_name(ARRIVED_AT)?.as_primitive_opt::<TimestampMicrosecondType>()?;
        compute::min(arrived)
    });
    let of_rejects = part.rejects.iter().map(|reject| reject.record.arrived_at_us).min();
    of_rows.chain(of_rejects).collect()
}
