//! The stream's coordinator: which shards are read, by whom, and what it means when a reader stops.
//!
//! It owns the readers and nothing of their data. Everything it knows comes from two places that it never mixes up:
//! what Kinesis lists, and what the ledger says. A shard is registered in the ledger before its first read, is read
//! only when its parents' ends are committed, and is given up only by the ledger. Each turn looks at both, lets the
//! family tree decide, and acts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::alignment::Alignment;
use super::context::{Context, ReaderExit};
use super::error::{Action, ReadError, SourceError};
use super::kinesis::Kinesis;
use super::loss::{LostRange, alarm};
use super::pacing::{Backoff, jittered};
use super::parking::Parking;
use super::reader::Reader;
use super::stream::{ListedShard, StreamDescription};
use super::survey::{Survey, first_registrations, survey, unless_final};
use super::telling::{self, Telling};
use super::tree::{self, Flaw};
use super::trouble::Troubles;
use super::{SourceOptions, Timing};
use crate::budget::Budget;
use crate::checkpoint::{LedgerClosed, LedgerHandle, LedgerView, Registration, ShardEntry, ShardId};
use crate::clock;
use crate::cores::Cores;
use crate::metrics::StreamMetrics;
use crate::record::BatchSink;
use crate::status::StreamBoard;

/// Who is in trouble when the listing fails.
const LISTING: &str = "listing";
/// A fenced shard is taken again when nobody has moved its position for this many flushes.
const FENCE_FLUSHES: u32 = 3;
/// A registered shard must be absent from this many listings in a row before it counts as lost.
const LOST_LISTINGS: u32 = 2;

/// All that reading one stream takes. `S` is told every batch.
#[derive(Debug)]
pub struct Coordinator<S> {
    /// The client.
    pub kinesis: Kinesis,
    /// From [`super::describe`].
    pub stream: StreamDescription,
    /// The stream's ledger.
    pub ledger: LedgerHandle,
    /// The stream's share of the memory.
    pub budget: Budget,
    /// Where batches go.
    pub sink: Arc<S>,
    /// One permit a core, shared by all streams: taking aggregates apart is CPU work.
    pub cores: Cores,
    /// The stream's numbers.
    pub metrics: StreamMetrics,
    /// The stream's board.
    pub board: StreamBoard,
    /// The user's choices.
    pub options: SourceOptions,
    /// [`Timing::default`].
    pub timing: Timing,
}

impl<S: BatchSink + 'static> Coordinator<S> {
    /// Reads until cancelled; then waits until every reader has handed on the batch in its hands. An error is
    /// final: the stream cannot or must not be read on.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), SourceError> {
        // The readers outlive a turn of the coordinator, but not the coordinator: whatever ends it stops them.
        let stop = cancel.child_token();
        let mut crew = Crew::new(self, stop.clone());
        let outcome = cancel.run_until_cancelled(crew.work()).await.unwrap_or(Ok(()));
        stop.cancel();
        let mut panicked = Ok(());
        while let Some(left) = crew.readers.join_next().await {
            panicked = panicked.and(left.map(|_| ()));
        }
        match outcome {
            // The writer may be told to stop a moment before us.
            Err(SourceError::Ledger(_)) if cancel.is_cancelled() => Ok(()),
            settled => settled,
        }
        .and(panicked.map_err(SourceError::from))
    }
}

struct Crew<S> {
    context: Arc<Context<S>>,
    ledger: LedgerHandle,
    stop: CancellationToken,
    readers: JoinSet<(ShardId, ReaderExit)>,
    reading: BTreeSet<ShardId>,
    parked: Parking,
    from_horizon: BTreeSet<ShardId>,
    /// In how many listings in a row a shard of the ledger was absent.
    absent: BTreeMap<ShardId, u32>,
    listed: Vec<ListedShard>,
    view: LedgerView,
    /// What `latest` means, for good. Whole seconds, rounded down, since not every server keeps arrival times finer:
    /// at this edge a record too many is right and one too few is not.
    pinned_ms: i64,
    surveyed: bool,
    survey_at: Instant,
    flaw: Option<Flaw>,
    backoff: Backoff,
    /// With what only a person can mend.
    patience: Backoff,
}

impl<S: BatchSink + 'static> Crew<S> {
    fn new(parts: Coordinator<S>, stop: CancellationToken) -> Self {
        let troubles = Troubles::new(parts.board.clone());
        let patience = Backoff::until_mended(parts.timing.retry_slowly);
        let context = Context {
            kinesis: parts.kinesis,
            retention_ms: AtomicI64::new(parts.stream.retention_ms()),
            stream: parts.stream,
            budget: parts.budget,
            sink: parts.sink,
            cores: parts.cores,
            metrics: parts.metrics,
            board: parts.board,
            troubles,
            alignment: Alignment::within(parts.options.align_within),
            options: parts.options,
            timing: parts.timing,
        };
        Self {
            context: Arc::new(context),
            ledger: parts.ledger,
            stop,
            readers: JoinSet::new(),
            reading: BTreeSet::new(),
            parked: Parking::default(),
            from_horizon: BTreeSet::new(),
            absent: BTreeMap::new(),
            listed: Vec::new(),
            view: LedgerView::default(),
            pinned_ms: clock::now_ms() / 1000 * 1000,
            surveyed: false,
            survey_at: Instant::now(),
            flaw: None,
            backoff: Backoff::default(),
            patience,
        }
    }

    async fn work(&mut self) -> Result<(), SourceError> {
        loop {
            let fence_check = tokio::time::sleep(self.context.options.flush_interval);
            tokio::select! {
                Some(left) = self.readers.join_next(), if !self.readers.is_empty() => {
                    let (shard, exit) = left?;
                    self.left(shard, exit).await?;
                }
                () = tokio::time::sleep_until(self.survey_at) => {
                    if self.look().await? {
                        return Ok(());
                    }
                }
                () = fence_check, if self.parked.any_fenced() => self.check_fences().await?,
            }
        }
    }

    // === Looking ===

    /// Looks at the stream and the ledger, and acts on both. Whether nothing is left to do for good.
    async fn look(&mut self) -> Result<bool, SourceError> {
        match self.try_look().await {
            Ok(Some(survey)) => {
                self.same_stream(&survey)?;
                self.context.described(&survey.description);
                self.listed = survey.listed;
                self.surveyed = true;
                self.backoff.reset();
                self.patience.reset();
                self.context.troubles.clear(LISTING);
                self.parked.surveyed();
                self.free_fenced();
                self.survey_at = Instant::now() + jittered(self.context.timing.relist);
                self.audit();
                self.count_absent();
                self.act().await?;
                Ok(self.is_done())
            }
            Ok(None) => Err(LedgerClosed.into()),
            Err(error) => self.look_again(error).map(|()| false),
        }
    }

    /// A range of time is over when every shard has ended, in a listing that is whole. Otherwise there is no end.
    fn is_done(&self) -> bool {
        let tree::Plan { register, start, waiting, ended: _, lost } = tree::plan(&self.listed, &self.view);
        let left = [register, start, waiting, lost];
        self.context.options.range.is_some()
            && self.flaw.is_none()
            && self.reading.is_empty()
            && left.iter().all(Vec::is_empty)
    }

    /// The survey, and a first registration if the ledger knows no shard yet. `None`: the ledger is closed.
    async fn try_look(&mut self) -> Result<Option<Survey>, ReadError> {
        let context = Arc::clone(&self.context);
        let survey = survey(&context.kinesis, &context.stream.target).await?;
        let Ok(view) = self.ledger.view(true).await else { return Ok(None) };
        self.view = view;
        if tree::known(&self.view).next().is_none() && survey.description.created_s == context.stream.created_s {
            let start_ms = self.context.start_ms(self.pinned_ms);
            let shards =
                first_registrations(&context.kinesis, &context.stream.target, &survey.listed, start_ms).await?;
            let Ok(view) = self.ledger.register(shards).await else { return Ok(None) };
            self.view = view;
        }
        Ok(Some(survey))
    }

    fn same_stream(&self, survey: &Survey) -> Result<(), SourceError> {
        let (known_s, found_s) = (self.context.stream.created_s, survey.description.created_s);
        if known_s == found_s {
            return Ok(());
        }
        Err(SourceError::Recreated { stream: self.context.stream.name.clone(), known_s, found_s })
    }

    /// At the start, what cannot be mended by waiting is an error; later everything is waited for.
    fn look_again(&mut self, error: ReadError) -> Result<(), SourceError> {
        let error = if self.surveyed { error } else { unless_final(&self.context.stream.name, error)? };
        self.context.troubles.raise(LISTING, &error);
        let wait = match error.action() {
            Action::RetrySlowly | Action::StreamMissing => self.patience.next_wait(),
            Action::AwaitPace
            | Action::Backoff
            | Action::RenewIterator
            | Action::RenewIteratorAfterBackoff
            | Action::SettleShard
            | Action::SettleStart
            | Action::RestartListing => self.backoff.next_wait(),
        };
        self.survey_at = Instant::now() + wait;
        Ok(())
    }

    fn look_within(&mut self, wait: Duration) {
        self.survey_at = self.survey_at.min(Instant::now() + wait);
    }

    fn audit(&mut self) {
        let flaw = tree::audit(&self.listed);
        if let Some(flaw) = flaw {
            if self.flaw != Some(flaw) {
                let stream = &self.context.stream.name;
                tracing::warn!(stream, %flaw, "the listing is not whole, will list again");
            }
            self.look_within(self.context.timing.relist_soon);
        }
        self.flaw = flaw;
    }

    fn count_absent(&mut self) {
        let lost = tree::plan(&self.listed, &self.view).lost;
        self.absent.retain(|shard, _| lost.contains(shard));
        for shard in lost {
            *self.absent.entry(shard).or_default() += 1;
        }
        if self.absent.values().any(|count| *count < LOST_LISTINGS) {
            self.look_within(self.context.timing.relist_soon);
        }
    }

    // === Acting ===

    /// Registers, ends and starts what the family tree says.
    async fn act(&mut self) -> Result<(), SourceError> {
        let mut found = tree::plan(&self.listed, &self.view).register;
        if !self.absent.is_empty() {
            // Those are registered by the commit that ends the shard they descend from, as complete as it was.
            let orphans = tree::orphans(&self.listed, &self.view);
            found.retain(|shard| !orphans.contains(shard));
        }
        if !found.is_empty() {
            // Found later, so nothing of them has been read: from their beginning, or a reshard would lose records.
            let shards = found.into_iter().map(|shard| Registration { shard, start_ms: 0, ended: false }).collect();
            self.view = self.ledger.register(shards).await?;
        }
        self.end_lost().await?;
        let plan = tree::plan(&self.listed, &self.view);
        for shard in &plan.start {
            if self.may_read(shard)
                && let Some(entry) = self.view.shards.get(shard).copied()
            {
                self.start(shard, &entry);
            }
        }
        let (listed, view, reading, parked) = (&self.listed, &self.view, &self.reading, &self.parked);
        Telling { listed, view, reading, parked, plan: &plan }.tell(&self.context);
        Ok(())
    }

    /// The one place that decides whether a shard whose turn it is may be read by this process. Leases, if there
    /// are any, are asked here.
    fn may_read(&self, shard: &ShardId) -> bool {
        !self.reading.contains(shard) && !self.parked.holds(shard)
    }

    fn start(&mut self, shard: &ShardId, entry: &ShardEntry) {
        tracing::info!(stream = self.context.stream.name, %shard, position = %entry.resume(), "reading shard");
        let from_horizon = self.from_horizon.remove(shard);
        let context = Arc::clone(&self.context);
        let hash_range = self.listed.iter().find(|listed| listed.id == *shard).and_then(|listed| listed.hash_range);
        let reader = Reader::new(context, shard.clone(), hash_range, entry, from_horizon, self.stop.clone());
        let name = shard.clone();
        self.reading.insert(shard.clone());
        self.readers.spawn(async move { (name, reader.run().await) });
    }

    /// Ends shards that are gone for good, so that their children can be read.
    async fn end_lost(&mut self) -> Result<(), SourceError> {
        let mut gone: Vec<ShardId> = self
            .absent
            .iter()
            .filter(|(shard, count)| **count >= LOST_LISTINGS && self.may_read(shard))
            .map(|(shard, _)| shard.clone())
            .collect();
        // What descends from several is as complete as the one that was read the least.
        gone.sort_by_key(|shard| self.view.shards.get(shard).and_then(|entry| entry.seen_ms));
        for shard in gone {
            self.absent.remove(&shard);
            let Some(entry) = self.view.shards.get(&shard).copied().filter(|entry| !entry.ended) else { continue };
            let range = LostRange {
                stream: self.context.stream.name.clone(),
                shard: shard.clone(),
                after: entry.resume(),
                first: None,
                seen_ms: entry.seen_ms,
                horizon_ms: self.context.horizon_ms(clock::now_ms()),
            };
            self.context.board.shard(&shard, |status| status.state = "lost");
            if !alarm(&range, self.context.options.on_data_loss, &self.context.metrics, &self.context.board) {
                return Err(SourceError::DataLoss(Box::new(range)));
            }
            let mut descendants = tree::children(&self.listed, &shard);
            descendants.extend(tree::orphans(&self.listed, &self.view));
            self.view = self.ledger.end_lost(shard.clone(), entry.resume(), descendants).await?;
            telling::no_longer_read(&self.context, &shard, "lost");
        }
        Ok(())
    }

    // === A reader stopped ===

    async fn left(&mut self, shard: ShardId, exit: ReaderExit) -> Result<(), SourceError> {
        self.reading.remove(&shard);
        tracing::info!(stream = self.context.stream.name, %shard, ?exit, "shard reader stopped");
        match exit {
            ReaderExit::Ended => self.look_within(Duration::ZERO),
            ReaderExit::Stopped if self.stop.is_cancelled() => {}
            // Nobody told it to: whoever takes the batches has gone.
            ReaderExit::Stopped => return Err(LedgerClosed.into()),
            ReaderExit::Fenced => self.park_fenced(shard).await?,
            ReaderExit::Missing => {
                self.park_odd(shard);
                self.look_within(self.context.timing.relist_soon);
            }
            ReaderExit::Refused => {
                self.from_horizon.insert(shard.clone());
                self.park_odd(shard);
                self.look_within(Duration::ZERO);
            }
            ReaderExit::Lost(range) => return Err(SourceError::DataLoss(range)),
        }
        Ok(())
    }

    fn park_odd(&mut self, shard: ShardId) {
        self.parked.until_survey(shard.clone());
        telling::parked(&self.context, &shard, &self.parked);
    }

    async fn park_fenced(&mut self, shard: ShardId) -> Result<(), SourceError> {
        self.view = self.ledger.view(true).await?;
        self.parked.fenced(shard.clone(), &self.view, Instant::now());
        telling::parked(&self.context, &shard, &self.parked);
        Ok(())
    }

    async fn check_fences(&mut self) -> Result<(), SourceError> {
        self.view = self.ledger.view(true).await?;
        self.free_fenced();
        self.act().await
    }

    fn free_fenced(&mut self) {
        let rest = self.context.options.flush_interval * FENCE_FLUSHES;
        self.parked.free_still(&self.view, rest, Instant::now());
    }
}
