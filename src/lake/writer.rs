//! The task that owns a stream's ledger: gathers clean batches, decides when to flush, answers questions.
//!
//! One flight (a flush or an answer that needs the table) is in the air at a time, and while it is, batches keep
//! arriving into the next micro-batch: readers and live windows go on until the byte budget says no. A micro-batch
//! leaves when it is full, old, when a reader waits for its bytes, or when it ends a shard.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::alarm::{Alarm, Troubles};
use super::error::LakeError;
use super::flush::Committer;
use super::follower::{Follower, Head};
use super::micro_batch::MicroBatch;
use super::parquet::joined;
use super::stream::StreamLake;
use crate::budget::Budget;
use crate::checkpoint::{LedgerRequest, LedgerView, Position, ShardEntry, ShardId};
use crate::limits::READ_COST_MAX;
use crate::metrics::StreamMetrics;
use crate::record::{CleanBatch, ProbeRef, ShardGrant, WindowSink};
use crate::status::StreamBoard;

/// A stream on which only positions move is committed this often at most.
const QUIET_COMMIT_INTERVAL: Duration = Duration::from_secs(60);
/// The lake may fail this long before readiness is lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// When a micro-batch is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterOptions {
    /// This long after its first record.
    pub flush_interval: Duration,
    /// When its batches hold this much of the byte budget.
    pub flush_bytes: u64,
}

/// One stream's writer, before it runs.
pub struct Writer {
    committer: Committer,
    followers: Vec<Follower>,
    options: WriterOptions,
    budget: Budget,
}

impl Writer {
    /// A writer of these tables. Beside it only maintenance may commit to them in this process.
    pub fn new(
        lake: StreamLake,
        options: WriterOptions,
        budget: Budget,
        windows: Arc<dyn WindowSink>,
        probe: Option<ProbeRef>,
        metrics: StreamMetrics,
        board: StreamBoard,
    ) -> Self {
        let StreamLake { store, clock, identity, tables, rows, followers, sealed_versions, view, bell } = lake;
        for table in std::iter::once(&rows).chain(&followers) {
            board.table(table.name(), |status| {
                status.kind = table.kind().as_str();
                status.location = store.table_uri(table.name());
                status.version = table.state().version;
            });
        }
        // One that could not be read has no version to show.
        let read = tables.sealed.iter().filter_map(|spec| Some((spec, sealed_versions.get(&spec.name)?)));
        for (spec, version) in read {
            board.table(&spec.name, |status| {
                status.kind = spec.kind.as_str();
                status.location = store.table_uri(&spec.name);
                status.version = *version;
            });
        }
        let behind = Troubles::new(board.clone(), "followers");
        let follow = |table| {
            let (store, metrics, board) = (store.clone(), metrics.clone(), board.clone());
            let follower = Follower::new(store, table, rows.name(), &identity, metrics, board, Arc::clone(&behind));
            follower.ringing(bell.clone())
        };
        let followers = followers.into_iter().map(follow).collect();
        let troubles = Troubles::new(board.clone(), "lake");
        let alarm = Alarm::new(rows.name(), PATIENCE, troubles, Some(metrics.clone()));
        let committer = Committer { store, clock, identity, tables, rows, view, windows, probe, metrics, board, alarm };
        Self { committer, followers, options, budget }
    }

    /// The same, its followers telling people after another time than five minutes.
    #[cfg(test)]
    pub(crate) fn telling_after(mut self, patience: Duration) -> Self {
        let troubles = Troubles::new(self.committer.board.clone(), "followers");
        let tell = |follower: Follower| follower.telling_after(patience, Arc::clone(&troubles));
        self.followers = self.followers.into_iter().map(tell).collect();
        self
    }

    #[cfg(test)]
    pub(crate) fn into_parts(self) -> (Committer, Vec<Follower>) {
        (self.committer, self.followers)
    }

    /// Runs until every sender of batches is gone and all that they sent is committed and followed. `cancel` stops
    /// it at once; the ledger is right either way. `Err` only for what no repetition mends: at the end also a following
    /// table that a person has to mend first.
    pub async fn run(
        self,
        batches: mpsc::Receiver<CleanBatch>,
        requests: mpsc::Receiver<LedgerRequest>,
        cancel: CancellationToken,
    ) -> Result<(), LakeError> {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Ok(()),
            result = self.work(batches, requests) => result,
        }
    }

    async fn work(
        self,
        batches: mpsc::Receiver<CleanBatch>,
        requests: mpsc::Receiver<LedgerRequest>,
    ) -> Result<(), LakeError> {
        let (head, heads) = watch::channel(Head::of(&self.committer.view));
        let mut following = JoinSet::new();
        for follower in self.followers {
            following.spawn(follower.run(heads.clone()));
        }
        drop(heads);
        let desk = Desk::new(self.committer, self.options, self.budget, head);
        let mut desk_done = std::pin::pin!(desk.work(batches, requests));
        loop {
            tokio::select! {
                result = &mut desk_done => { result?; break }
                Some(stopped) = following.join_next() => joined(stopped).await?,
            }
        }
        // One that is left behind does not break off the others.
        let mut followed = Ok(());
        while let Some(stopped) = following.join_next().await {
            followed = followed.and(joined(stopped).await);
        }
        followed
    }
}

// === The desk ===

/// Everything on the table between two flights.
struct Desk {
    /// Absent while a flight has it.
    committer: Option<Committer>,
    flight: JoinSet<(Committer, Result<(), LakeError>)>,
    pending: MicroBatch,
    /// Where each shard's uncommitted batches end, in `pending` or in the air.
    tails: HashMap<ShardId, Tail>,
    /// Shards of the micro-batch in the air.
    in_air: BTreeSet<ShardId>,
    /// Shards of the micro-batch in the air whose cells its commit may still need. Nothing of them is taken in until it
    /// has landed.
    forget_after_landing: BTreeSet<ShardId>,
    view: LedgerView,
    /// A question that is next, or waits for a flush.
    question: Option<LedgerRequest>,
    last_flush: Instant,
    windows: Arc<dyn WindowSink>,
    options: WriterOptions,
    budget: Budget,
    metrics: StreamMetrics,
    head: watch::Sender<Head>,
}

struct Tail {
    through: Position,
    grant: ShardGrant,
}

impl Desk {
    fn new(committer: Committer, options: WriterOptions, budget: Budget, head: watch::Sender<Head>) -> Self {
        Self {
            flight: JoinSet::new(),
            pending: MicroBatch::default(),
            tails: HashMap::new(),
            in_air: BTreeSet::new(),
            forget_after_landing: BTreeSet::new(),
            view: committer.view.clone(),
            question: None,
            last_flush: Instant::now(),
            windows: Arc::clone(&committer.windows),
            metrics: committer.metrics.clone(),
            committer: Some(committer),
            options,
            budget,
            head,
        }
    }

    async fn work(
        mut self,
        mut batches: mpsc::Receiver<CleanBatch>,
        mut requests: mpsc::Receiver<LedgerRequest>,
    ) -> Result<(), LakeError> {
        let (mut draining, mut asked) = (false, true);
        loop {
            self.take_off(draining);
            let idle = self.committer.is_some();
            if idle && draining && self.pending.is_empty() {
                return Ok(());
            }
            let deadline = self.deadline();
            tokio::select! {
                Some(landed) = self.flight.join_next() => self.land(joined(landed).await)?,
                batch = batches.recv(), if !draining => match batch {
                    Some(batch) => self.admit(batch),
                    None => draining = true,
                },
                request = requests.recv(), if asked && self.question.is_none() => match request {
                    Some(request) => self.question = Some(request),
                    None => asked = false,
                },
                () = tokio::time::sleep_until(deadline), if idle && !self.pending.is_empty() => {}
                () = self.budget.pressure(), if idle && self.pending.content_since().is_some() => {}
            }
        }
    }

    /// Starts the next flight if there is a reason for one.
    fn take_off(&mut self, draining: bool) {
        let Some(mut committer) = self.committer.take() else { return };
        match self.question.take_if(|question| !waits_for_flush(question, &self.pending)) {
            Some(question) => {
                self.flight.spawn(async move {
                    let result = answer(&mut committer, question).await;
                    (committer, result)
                });
            }
            None if self.is_due(draining) => {
                let batch = std::mem::take(&mut self.pending);
                self.in_air = batch.parts().keys().cloned().collect();
                self.last_flush = Instant::now();
                self.flight.spawn(async move {
                    let result = committer.flush(batch).await;
                    (committer, result)
                });
            }
            None => self.committer = Some(committer),
        }
    }

    fn land(&mut self, (committer, result): (Committer, Result<(), LakeError>)) -> Result<(), LakeError> {
        result?;
        self.view = committer.view.clone();
        self.committer = Some(committer);
        self.in_air.clear();
        for shard in std::mem::take(&mut self.forget_after_landing) {
            self.windows.discard(&shard);
        }
        self.pending.drop_revoked();
        // What is neither pending nor in the air is where the ledger says.
        self.tails.retain(|shard, _| self.pending.parts().contains_key(shard));
        let head = Head::of(&self.view);
        self.head.send_if_modified(|known| std::mem::replace(known, head) != head);
        Ok(())
    }

    fn is_due(&self, draining: bool) -> bool {
        let urgent = draining
            || self.question.is_some()
            || self.pending.ends_a_shard()
            || self.pending.bytes() >= self.options.flush_bytes
            || self.is_pressed()
            || self.closes_a_window()
            || Instant::now() >= self.deadline();
        urgent && !self.pending.is_empty()
    }

    /// Whether a reader waits because of what is pending. Readers also wait for each other, a moment each, since every
    /// read reserves its worst case; a flush would not help them. The margin is one read for whoever waits and one
    /// for whoever reads.
    fn is_pressed(&self) -> bool {
        let room = self.budget.bytes_max().saturating_sub(2 * READ_COST_MAX);
        self.pending.content_since().is_some() && self.budget.waiting() > 0 && self.pending.bytes() > room
    }

    /// Whether what is pending moves the stream's watermark past the end of a window that somebody waits for. Records
    /// take it along with their own flush.
    fn closes_a_window(&self) -> bool {
        if self.pending.content_since().is_some() {
            return false;
        }
        let pending = |shard: &ShardId| self.pending.parts().get(shard)?.watermark_ms;
        let (from_ms, to_ms) = (self.view.watermark_ms(), self.view.watermark_with(pending));
        to_ms.is_some_and(|to_ms| from_ms.is_none_or(|from_ms| to_ms > from_ms) && self.windows.closes(from_ms, to_ms))
    }

    fn deadline(&self) -> Instant {
        match self.pending.content_since() {
            Some(since) => since + self.options.flush_interval,
            None => self.last_flush + QUIET_COMMIT_INTERVAL,
        }
    }

    /// Takes a batch in if its reader still has the shard and it begins where the last one ended.
    fn admit(&mut self, batch: CleanBatch) {
        if batch.grant.is_revoked() {
            return;
        }
        if self.forget_after_landing.contains(&batch.range.shard) {
            batch.grant.revoke();
            return;
        }
        let shard = batch.range.shard.clone();
        let tail = self.tails.get(&shard).filter(|tail| !tail.grant.is_revoked()).map(|tail| tail.through);
        let ledger = self.view.shards.get(&shard).map(ShardEntry::resume);
        let (expected, after, through) = (tail.or(ledger), batch.range.after, batch.range.through);
        if expected == Some(after) && moves_rightly(&batch) {
            self.tails.insert(shard, Tail { through, grant: batch.grant.clone() });
            self.pending.push(batch, Instant::now());
            return;
        }
        let stream = self.metrics.stream();
        match ledger.filter(|ledger| tail.is_none() && is_beyond(*ledger, after)) {
            Some(ledger) => {
                self.metrics.fenced(1);
                tracing::warn!(stream, %shard, %after, %ledger, "fenced: the ledger is beyond where the shard's reader started");
            }
            None => {
                tracing::error!(stream, %shard, %after, %through, ?expected, "a batch does not follow the last, its shard starts anew");
            }
        }
        batch.grant.revoke();
        self.forget(&shard);
    }

    /// The shard starts anew from the ledger, whoever reads it.
    fn forget(&mut self, shard: &ShardId) {
        if let Some(tail) = self.tails.remove(shard) {
            tail.grant.revoke();
        }
        self.pending.remove(shard);
        if self.in_air.contains(shard) {
            self.forget_after_landing.insert(shard.clone());
        } else {
            self.windows.discard(shard);
        }
    }
}

/// Whether the ledger has gone on from `after`: whoever started there was overtaken.
fn is_beyond(ledger: Position, after: Position) -> bool {
    match (ledger, after) {
        (Position::After(ledger), Position::After(after)) => ledger > after,
        (Position::After(_), Position::Beginning | Position::At(_)) => true,
        (Position::End, after) => after != Position::End,
        (Position::Beginning | Position::At(_) | Position::After(_), _) => false,
    }
}

/// Whether the range goes forward, or stands still without a record. A shard's end stands still too: it is said by
/// the batch, so that the last number stays in the ledger.
fn moves_rightly(batch: &CleanBatch) -> bool {
    let is_empty = batch.rows.num_rows() == 0 && batch.rejects.is_empty();
    match (batch.range.after, batch.range.through) {
        (Position::After(after), Position::After(through)) if through > after => true,
        (Position::Beginning | Position::At(_), Position::After(_)) => true,
        (after, through) => after == through && is_empty,
    }
}

/// Ending a shard must not overtake batches of it that are already here.
fn waits_for_flush(question: &LedgerRequest, pending: &MicroBatch) -> bool {
    match question {
        LedgerRequest::EndLost { shard, .. } => pending.parts().contains_key(shard),
        LedgerRequest::View { .. } | LedgerRequest::Register { .. } => false,
    }
}

/// Answers one question; the asker may have gone.
async fn answer(committer: &mut Committer, question: LedgerRequest) -> Result<(), LakeError> {
    let reply = match question {
        LedgerRequest::View { refresh, reply } => {
            if refresh {
                committer.refresh().await?;
            }
            reply
        }
        LedgerRequest::Register { shards, reply } => {
            committer.register(&shards).await?;
            reply
        }
        LedgerRequest::EndLost { shard, expected, descendants, reply } => {
            committer.end_lost(&shard, expected, &descendants).await?;
            reply
        }
    };
    if reply.send(committer.view.clone()).is_err() {
        tracing::debug!("the asker of a ledger question has gone");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::tests::{Instance, Lake, after, batch, quiet};

    async fn desk(lake: &Lake, flush_interval: Duration) -> Desk {
        desk_of(lake.committer(&["a"]).await.committer, flush_interval)
    }

    fn desk_of(committer: Committer, flush_interval: Duration) -> Desk {
        let options = WriterOptions { flush_interval, flush_bytes: u64::MAX };
        let head = watch::channel(Head::of(&committer.view)).0;
        Desk::new(committer, options, Budget::new(1 << 20), head)
    }

    #[tokio::test]
    async fn a_stream_on_which_only_positions_move_is_committed_once_a_minute() {
        let lake = Lake::in_memory();
        let mut desk = desk(&lake, Duration::ZERO).await;
        let grant = ShardGrant::new();
        desk.admit(quiet("a", 0, 5, &grant));
        assert!(!desk.is_due(false), "no row, no hurry");
        desk.last_flush -= QUIET_COMMIT_INTERVAL;
        assert!(desk.is_due(false));
        desk.last_flush += QUIET_COMMIT_INTERVAL;
        assert!(desk.is_due(true), "unless this is the end");
        desk.admit(batch("a", 0, 10, &grant));
        assert!(desk.is_due(false), "a row waits for the flush interval only");
    }

    #[tokio::test]
    async fn an_idle_stream_is_committed_at_once_when_that_closes_a_window_and_not_at_every_answer() {
        let lake = Lake::in_memory();
        let mut desk = desk_of(lake.committer(&["a", "b"]).await.committer, Duration::ZERO);
        let grant = ShardGrant::new();
        desk.admit(quiet("a", 0, 25_000, &grant));
        assert!(!desk.is_due(false), "of the other shard nothing is known");
        desk.admit(quiet("b", 0, 9_000, &grant));
        assert!(!desk.is_due(false), "no window ends");
        desk.admit(quiet("b", 0, 10_000, &grant));
        assert!(desk.is_due(false));
        desk.take_off(false);
        let landed = desk.flight.join_next().await.unwrap().unwrap();
        desk.land(landed).unwrap();
        assert_eq!((desk.view.watermark_ms(), *desk.head.borrow()), (Some(10_000), Head::of(&desk.view)));
        desk.admit(quiet("b", 0, 19_999, &grant));
        assert!(!desk.is_due(false), "that window is closed already");
    }

    #[tokio::test]
    async fn readers_that_wait_for_each_other_are_no_reason_to_flush_and_pending_bytes_are() {
        let lake = Lake::in_memory();
        let mut desk = desk(&lake, Duration::from_secs(3600)).await;
        let budget = Budget::new(6 * READ_COST_MAX);
        desk.budget = budget.clone();
        let grant = ShardGrant::new();
        let mut first = batch("a", 0, 10, &grant);
        first.permit = budget.reserve(READ_COST_MAX).await;
        let mut second = batch("a", 10, 20, &grant);
        second.permit = budget.reserve(4 * READ_COST_MAX).await;
        let (_reading, waits) = (budget.reserve(READ_COST_MAX).await, budget.reserve(READ_COST_MAX));
        tokio::pin!(waits);
        assert!(futures::poll!(&mut waits).is_pending());
        desk.admit(first);
        assert!(!desk.is_due(false), "the bytes are elsewhere");
        desk.admit(second);
        assert!(desk.is_due(false), "the bytes are here");
        drop(std::mem::take(&mut desk.pending));
        assert!(futures::poll!(&mut waits).is_ready());
    }

    #[tokio::test]
    async fn a_seen_that_is_no_news_is_not_committed() {
        let lake = Lake::in_memory();
        let mut ours: Instance = lake.committer(&["a"]).await;
        let grant = ShardGrant::new();
        let mut pending = MicroBatch::default();
        pending.push(batch("a", 0, 10, &grant), Instant::now());
        ours.committer.flush(pending).await.unwrap();
        let version = ours.committer.view.version;
        let mut pending = MicroBatch::default();
        pending.push(quiet("a", 10, 10_000, &grant), Instant::now());
        ours.committer.flush(pending).await.unwrap();
        assert_eq!(ours.committer.view.version, version);
    }

    #[tokio::test]
    async fn the_cells_of_a_shard_that_is_forgotten_in_the_air_stay_until_its_commit_has_landed() {
        let lake = Lake::in_memory();
        let ours = lake.committer(&["a"]).await;
        let (windows, mut desk) = (Arc::clone(&ours.windows), desk_of(ours.committer, Duration::ZERO));
        let (grant, newcomer) = (ShardGrant::new(), ShardGrant::new());
        desk.admit(batch("a", 0, 10, &grant));
        desk.take_off(true);
        let landed = desk.flight.join_next().await.unwrap().unwrap();
        assert_eq!(windows.committed.lock().unwrap().len(), 1);
        desk.admit(batch("a", 11, 20, &grant));
        desk.admit(batch("a", 0, 10, &newcomer));
        assert!(grant.is_revoked() && newcomer.is_revoked() && desk.pending.is_empty());
        assert!(windows.discarded.lock().unwrap().is_empty(), "the commit needs them");
        desk.land(landed).unwrap();
        assert_eq!(*windows.discarded.lock().unwrap(), [ShardId::new("a")]);
        let anew = ShardGrant::new();
        desk.admit(batch("a", 10, 20, &anew));
        assert!(!anew.is_revoked());
    }

    #[tokio::test]
    async fn a_reader_that_the_ledger_has_overtaken_is_fenced_and_one_beyond_it_left_a_gap() {
        let lake = Lake::in_memory();
        let ours = lake.committer(&["a"]).await;
        let mut desk = desk_of(ours.committer, Duration::ZERO);
        let mut other = Instance::of(lake.open().await);
        let mut theirs = MicroBatch::default();
        theirs.push(batch("a", 0, 10, &ShardGrant::new()), Instant::now());
        other.committer.flush(theirs).await.unwrap();
        desk.view = other.committer.view.clone();
        let (behind, beyond) = (ShardGrant::new(), ShardGrant::new());
        desk.admit(batch("a", 11, 12, &beyond));
        assert!(
            beyond.is_revoked() && ours.metrics.render().contains("pintail_fenced_total{stream=\"orders\"} 0"),
            "{}",
            ours.metrics.render()
        );
        desk.admit(batch("a", 0, 8, &behind));
        assert!(
            behind.is_revoked() && ours.metrics.render().contains("pintail_fenced_total{stream=\"orders\"} 1"),
            "{}",
            ours.metrics.render()
        );
    }

    #[tokio::test]
    async fn records_that_move_no_position_or_move_it_back_are_refused() {
        let lake = Lake::in_memory();
        let mut desk = desk(&lake, Duration::ZERO).await;
        let (still, back) = (ShardGrant::new(), ShardGrant::new());
        let mut batch_still = batch("a", 0, 10, &still);
        batch_still.range.through = after(0);
        desk.admit(batch_still);
        assert!(still.is_revoked() && desk.pending.is_empty());
        desk.admit(batch("a", 0, 10, &back));
        let mut batch_back = quiet("a", 10, 1, &back);
        batch_back.range.through = after(9);
        desk.admit(batch_back);
        assert!(back.is_revoked() && desk.pending.is_empty());
    }
}
