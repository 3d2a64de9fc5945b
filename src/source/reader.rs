//! One shard's reader: memory first, then the read, then delivery; again and again until something ends it.
//!
//! Its position lives in memory and only ever moves with a delivered batch, so that an iterator can be thrown away
//! at any time and taken anew after the last number: nothing is read twice, nothing is left out. How it ended is
//! its return value. It decides nothing that needs to know of other shards, of the ledger, or of the stream's fate:
//! that is the coordinator's.

mod recovery;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::aggregated::{self, Rules, Taken};
use super::alignment::Lane;
use super::context::{Context, ReaderExit, Stop};
use super::coverage::Coverage;
use super::error::{Call, Fault, ReadError};
use super::loss::{LostRange, alarm};
use super::pacing::{Backoff, Pace};
use super::stream::{ListedShard, ReadReply};
use super::{range, reply, telling, tree};
use crate::budget::Permit;
use crate::checkpoint::{Position, PositionRange, ShardEntry, ShardId};
use crate::clock;
use crate::limits::READ_COST_MAX;
use crate::metrics::ShardMetrics;
use crate::record::{BatchSink, Delivered, Heir, RawBatch, RawRecord, ShardEnd, ShardGrant};

/// See the file's head.
pub(super) struct Reader<S> {
    context: Arc<Context<S>>,
    shard: ShardId,
    stop: Stop,
    /// What becomes of records in aggregates.
    rules: Rules,
    position: Position,
    coverage: Coverage,
    lane: Lane,
    /// When the oldest record arrived that may be unread, epoch ms, as of the last read that worked.
    unread_since_ms: Option<i64>,
    iterator: Option<ShardIterator>,
    /// It has asked for an iterator before.
    has_asked: bool,
    /// Nothing was read from its beginning on, and that may have been too late: no parent is listed that would vouch
    /// for it.
    is_old: bool,
    /// The position was refused: read what is left, which is a loss to be reported with the first record. Until
    /// that record, every new iterator starts at the horizon.
    from_horizon: bool,
    pace: Pace,
    backoff: Backoff,
    /// With what only a person can mend.
    patience: Backoff,
    metrics: ShardMetrics,
}

struct ShardIterator {
    token: String,
    born: Instant,
}

impl<S: BatchSink> Reader<S> {
    /// A reader that goes on where the ledger says; with `from_horizon`, where Kinesis still has records.
    pub fn new(
        context: Arc<Context<S>>,
        shard: ShardId,
        hash_range: Option<(u128, u128)>,
        entry: &ShardEntry,
        from_horizon: bool,
        cancel: CancellationToken,
    ) -> Self {
        let now = Instant::now();
        let pace = match context.timing.read_interval {
            Some(interval) => Pace::unbounded(interval, now),
            None => Pace::new(context.options.reads_per_second, now),
        };
        let coverage = Coverage::of(entry);
        let rules = Rules { foreign_records: context.options.foreign_records, hash_range, counted_through: None };
        Self {
            metrics: context.metrics.shard(&shard),
            stop: Stop { grant: ShardGrant::new(), cancel },
            rules,
            position: entry.resume(),
            unread_since_ms: coverage.seen_ms(),
            lane: context.alignment.join(shard.clone(), coverage.seen_ms()),
            coverage,
            iterator: None,
            is_old: false,
            has_asked: false,
            from_horizon,
            pace,
            backoff: Backoff::default(),
            patience: Backoff::until_mended(context.timing.retry_slowly),
            context,
            shard,
        }
    }

    /// Reads until something ends it.
    pub async fn run(mut self) -> ReaderExit {
        loop {
            if let Err(exit) = self.step().await {
                self.context.troubles.leave(self.shard.as_str());
                if exit == ReaderExit::Ended {
                    telling::no_longer_read(&self.context, &self.shard, "ended");
                }
                return exit;
            }
        }
    }

    /// One read. The permit comes last before it and goes first when it fails: a reader that waits for Kinesis must
    /// not hold memory that others could read into.
    async fn step(&mut self) -> Result<(), ReaderExit> {
        let stop = self.stop.clone();
        stop.or(tokio::time::sleep_until(self.pace.next_read())).await?;
        if stop.or(self.while_telling(self.lane.turn())).await? {
            self.metrics.of_stream().read_aligned();
        }
        let asked = Instant::now();
        let permit = stop.or(self.while_telling(self.context.budget.reserve(READ_COST_MAX))).await?;
        self.metrics.of_stream().budget_waited(asked.elapsed());
        match stop.or(self.read()).await? {
            Ok((reply, took)) => self.accept(reply, took, permit).await,
            Err(error) => {
                drop(permit);
                self.recover(error).await
            }
        }
    }

    /// The reply, and how long it took.
    async fn read(&mut self) -> Result<(ReadReply, Duration), ReadError> {
        let context = Arc::clone(&self.context);
        let fresh = self.iterator.take().filter(|iterator| iterator.born.elapsed() < context.timing.iterator_age_max);
        let iterator = match fresh {
            Some(iterator) => iterator,
            None => self.new_iterator().await?,
        };
        let now = Instant::now();
        self.metrics.iterator_age((now - iterator.born).as_secs_f64());
        self.pace.started(now);
        let limit = self.pace.limit(now);
        let token = &self.iterator.insert(iterator).token;
        let mut reply = context.kinesis.get_records(&context.stream.target, token, limit).await?;
        let replied = Instant::now();
        self.pace.replied(replied, reply.records.len(), reply.bytes, reply.behind());
        if self.from_horizon && reply::skip_read(self.position, &mut reply) {
            self.coverage.is_whole();
        }
        reply::check_order(self.position, &reply.records)?;
        Ok((reply, replied - now))
    }

    async fn new_iterator(&mut self) -> Result<ShardIterator, ReadError> {
        let from = if self.from_horizon { Position::Beginning } else { self.position };
        let context = Arc::clone(&self.context);
        // Another stream of this name refuses a number that it did not give, but not a beginning.
        if self.has_asked && !matches!(from, Position::After(_)) {
            self.check_stream().await?;
        }
        self.has_asked = true;
        let token = context.kinesis.shard_iterator(&context.stream.target, &self.shard, from).await?;
        Ok(ShardIterator { token, born: Instant::now() })
    }

    /// The coordinator has looked at the stream just before it starts a reader; later it may be another one.
    async fn check_stream(&self) -> Result<(), ReadError> {
        let known = &self.context.stream;
        let found = self.context.kinesis.describe(&known.target).await?;
        if found.created_s == known.created_s {
            return Ok(());
        }
        Err(ReadError::new(Call::DescribeStream, Fault::NotFound, "the stream was created anew"))
    }

    // === A read that worked ===

    async fn accept(&mut self, mut reply: ReadReply, took: Duration, permit: Permit) -> Result<(), ReaderExit> {
        self.observe(&reply);
        // What is trimmed by the time of the answer may be missing, and what had come by the time of the question is there.
        let horizon_ms = self.context.horizon_ms(reply.date_ms.unwrap_or_else(clock::now_ms));
        reply::date_back(&mut reply, took);
        if self.may_lack(&reply, horizon_ms) {
            if self.position == Position::Beginning && !self.is_old {
                // The listing may be long in coming. Nobody's memory waits for it: this is read again then.
                drop((reply, permit));
                return self.settle_age().await;
            }
            self.report_loss(&reply, horizon_ms)?;
        }
        reply::skip_earlier(self.position, &mut reply.records);
        let passed = self.context.options.range.is_some_and(|it| range::is_passed(it, &reply, clock::now_ms()));
        let taken = self.take(std::mem::take(&mut reply.records)).await?;
        let (next, children, behind_ms) = (reply.next.clone(), std::mem::take(&mut reply.children), reply.behind_ms);
        let (took, not_taken) = (taken.kinesis_records, taken.left);
        let not_cleaned = self.deliver(reply, taken, permit).await?;
        let left = not_taken + not_cleaned;
        self.pace.took(took - not_cleaned.min(took), left);
        let at_the_end = behind_ms == 0 && left == 0;
        let held_bytes_max = self.context.budget.bytes_max();
        self.context.board.shard(&self.shard, |status| {
            status.caught_up |= at_the_end || status.bytes >= held_bytes_max;
        });
        match next {
            None if left == 0 => return self.finish(children).await,
            // Its children hold what came later: they are looked at in their turn, and have nothing.
            Some(_) if passed && left == 0 => return self.end(Vec::new()).await,
            Some(_) | None => {}
        }
        // With something left to be read again, the next iterator would be behind it.
        let token = next.filter(|_| left == 0);
        self.iterator = token.map(|token| ShardIterator { token, born: Instant::now() });
        self.backoff.reset();
        self.patience.reset();
        self.context.troubles.clear(self.shard.as_str());
        Ok(())
    }

    /// What the read's permit pays for of these, and of that what was asked for. Told of.
    async fn take(&mut self, records: Vec<RawRecord>) -> Result<Taken, ReaderExit> {
        let taken = aggregated::on_cpu(&self.context.cores, records, self.rules).await;
        let mut taken = taken.ok_or(ReaderExit::Stopped)?;
        if let Some(range) = self.context.options.range {
            taken.records.retain(|record| range.holds(record.arrived_at_us));
        }
        telling::taken(&self.context, &self.shard, &self.metrics, &taken, self.rules);
        if taken.foreign > 0 {
            telling::foreign(&self.context, &self.shard, self.rules, self.position, &taken);
        }
        self.rules.counted_through = self.rules.counted_through.max(taken.last.map(|(number, _)| number));
        Ok(taken)
    }

    fn observe(&mut self, reply: &ReadReply) {
        let behind_ms = reply.behind_ms;
        self.metrics.read_result("ok");
        self.metrics.behind(behind_ms);
        self.unread_since_ms = Some(clock::now_ms() - behind_ms);
        self.tell_headroom();
        self.context.board.shard(&self.shard, |status| status.behind_ms = Some(behind_ms));
    }

    /// What `work` gives. Until then the headroom is told: a lake that is away must not make it stand still.
    async fn while_telling<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            match tokio::time::timeout(self.context.timing.tell_headroom, &mut work).await {
                Ok(done) => return done,
                Err(_elapsed) => self.tell_headroom(),
            }
        }
    }

    /// Shrinks while nothing can be read: that is when somebody must know how much time is left.
    fn tell_headroom(&self) {
        if let Some(since_ms) = self.unread_since_ms {
            let retention_ms = self.context.retention_ms().max(1) as f64;
            self.metrics.retention_headroom(1.0 - (clock::now_ms() - since_ms) as f64 / retention_ms);
        }
    }

    /// Records may be missing if and only if the shard was last known to be complete at a time that the retention
    /// no longer covers. Waits for a reply that can name the other end of the range.
    fn may_lack(&mut self, reply: &ReadReply, horizon_ms: i64) -> bool {
        let names_the_other_end = !reply.records.is_empty() || reply.behind_ms <= 0;
        self.coverage.is_suspect(horizon_ms, self.from_horizon) && names_the_other_end
    }

    fn report_loss(&mut self, reply: &ReadReply, horizon_ms: i64) -> Result<(), ReaderExit> {
        let range = LostRange {
            stream: self.context.stream.name.clone(),
            shard: self.shard.clone(),
            after: self.position,
            first: reply.records.first().map(|record| record.sequence_number),
            seen_ms: self.coverage.seen_ms(),
            horizon_ms,
        };
        self.coverage.alarmed();
        if alarm(&range, self.context.options.on_data_loss, &self.context.metrics, &self.context.board) {
            Ok(())
        } else {
            Err(ReaderExit::Lost(Box::new(range)))
        }
    }

    /// A child is only known to be complete up to its parent's last record, which may have come long before the
    /// parent was closed. But see [`tree::is_young`].
    async fn settle_age(&mut self) -> Result<(), ReaderExit> {
        let listed = self.listing().await?;
        if tree::is_young(&listed, &self.shard) {
            self.coverage.is_whole();
        } else {
            self.is_old = true;
        }
        Ok(())
    }

    /// Hands on what was taken; says how many Kinesis records of it were left.
    async fn deliver(&mut self, reply: ReadReply, taken: Taken, permit: Permit) -> Result<usize, ReaderExit> {
        // The last reply of a shard says nothing of the time since it was closed, which is its children's.
        let caught_up = taken.last.is_none() && reply.behind_ms == 0 && reply.next.is_some();
        let (through, seen_ms) = match taken.last {
            Some((number, arrived_at_us)) => (Position::After(number), Some(arrived_at_us / 1000)),
            None => (self.position, reply.date_ms.filter(|_| caught_up)),
        };
        // An answer without records has walked over a stretch without any.
        let walked_to_ms = || reply.date_ms.unwrap_or_else(clock::now_ms) - reply.behind_ms;
        let reached_ms = taken.last.map_or_else(walked_to_ms, |(_, arrived_at_us)| arrived_at_us / 1000);
        self.lane.reached(reached_ms, reply.behind_ms);
        // Dropped aggregates leave no record, but the position is behind them all the same.
        if through == self.position && !self.coverage.is_news(seen_ms) {
            self.coverage.read_up_to(seen_ms);
            return Ok(0);
        }
        let delivered = self.send(through, taken.records, seen_ms, None, permit).await?;
        self.coverage.read_up_to(delivered.seen_ms);
        self.coverage.told();
        Ok(delivered.left.kinesis_records)
    }

    /// Not to be interrupted: what was read is handed on, even when the shard was taken away (the writer then
    /// drops it) or the stream is stopping.
    async fn send(
        &mut self,
        through: Position,
        records: Vec<RawRecord>,
        seen_ms: Option<i64>,
        end: Option<ShardEnd>,
        permit: Permit,
    ) -> Result<Delivered, ReaderExit> {
        let range = PositionRange { shard: self.shard.clone(), after: self.position, through };
        let batch = RawBatch { range, records, seen_ms, end, grant: self.stop.grant.clone(), permit };
        let delivered = self.while_telling(self.context.sink.deliver(batch)).await.map_err(|_| ReaderExit::Stopped)?;
        if delivered.through != self.position {
            self.from_horizon = false;
            self.coverage.moved();
        }
        self.position = delivered.through;
        Ok(delivered)
    }

    // === The shard's end ===

    /// The reply had no next iterator. Believed if it names the children; otherwise the listing decides.
    async fn finish(&mut self, told: Vec<Heir>) -> Result<(), ReaderExit> {
        let children = if told.is_empty() { self.settle_end().await? } else { Some(told) };
        let Some(children) = children else {
            let what = "no next iterator, though the shard is open";
            return self.recover(ReadError::new(Call::GetRecords, Fault::InvalidReply, what)).await;
        };
        self.end(children).await
    }

    /// Nothing more of this shard is wanted. Returns once that is committed.
    async fn end(&mut self, children: Vec<Heir>) -> Result<(), ReaderExit> {
        let (committed, answer) = oneshot::channel();
        let end = ShardEnd { children, committed };
        self.send(self.position, Vec::new(), None, Some(end), Permit::default()).await?;
        match self.stop.clone().or(self.while_telling(answer)).await? {
            Ok(()) => Err(ReaderExit::Ended),
            Err(_) => Err(ReaderExit::Fenced),
        }
    }

    /// The children of this shard if the listing says that it is closed; a shard that is no longer listed is. Waits for
    /// a listing that has them all: one that is registered later would have no part in the stream's watermark until
    /// then, and windows would be sealed without its records.
    async fn settle_end(&mut self) -> Result<Option<Vec<Heir>>, ReaderExit> {
        loop {
            let listed = self.listing().await?;
            if listed.iter().any(|shard| shard.id == self.shard && !shard.closed) {
                return Ok(None);
            }
            if let Some(heirs) = tree::heirs(&listed, &self.shard) {
                return Ok(Some(heirs));
            }
            let what = "a closed shard, and not all of its children";
            self.wait(&ReadError::new(Call::ListShards, Fault::InvalidReply, what)).await?;
        }
    }

    /// The stream's shards, however long it takes.
    async fn listing(&mut self) -> Result<Vec<ListedShard>, ReaderExit> {
        loop {
            let context = Arc::clone(&self.context);
            let listing = context.kinesis.list_shards(&context.stream.target, None);
            match self.stop.clone().or(listing).await? {
                Ok(listed) => return Ok(listed),
                Err(error) => self.recover(error).await?,
            }
        }
    }
}
