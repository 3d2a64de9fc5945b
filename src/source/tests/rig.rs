//! Everything around the source, in memory: a ledger that serves requests, a sink that commits what it is told and
//! notices every gap and every duplicate, and a running coordinator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::checkpoint::{LedgerHandle, LedgerRequest, LedgerView, Position, ShardEntry, ShardId};
use crate::cores::Cores;
use crate::limits::READ_COST_MAX;
use crate::metrics::Registry;
use crate::record::{BatchSink, Delivered, LeftOver, RawBatch, RawRecord, ShardEnd, SinkClosed};
use crate::source::{Coordinator, Kinesis, SourceError, SourceOptions, Timing, describe};
use crate::status::{StatusBoard, StreamBoard, StreamSnapshot};

pub const STREAM: &str = "postings";
const PATIENCE: Duration = Duration::from_secs(60);

/// A world as the source leaves it.
#[derive(Debug, Default)]
pub struct State {
    pub view: LedgerView,
    pub records: Vec<(ShardId, RawRecord)>,
    /// Batches, empty ones included: shard, records, seen.
    pub batches: Vec<(ShardId, usize, Option<i64>)>,
    pub ended: Vec<ShardId>,
    pub lost: Vec<(ShardId, Vec<ShardId>)>,
    pub fenced: Vec<ShardId>,
    /// Ends of these shards are not committed until released.
    pub hold_ends_of: BTreeSet<ShardId>,
    pub held_ends: Vec<(ShardId, ShardEnd)>,
    pub closed: bool,
    /// Nobody takes batches for now.
    pub stuck: bool,
    /// Kinesis records that are taken of a batch, if not all.
    pub takes_max: Option<usize>,
    /// How often the ledger was looked at anew.
    pub looks: u32,
}

/// The world: a sink and a ledger over one [`State`].
#[derive(Debug)]
pub struct World {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

impl World {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: watch::Sender::new(()) })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.send_replace(());
    }

    /// Waits until `done` says so; a minute without it is a failure.
    pub async fn until(&self, what: &str, mut done: impl FnMut(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while !done(&self.state()) {
                changed.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("{what} did not happen: {:?}", Summary(&self.state()));
        }
    }

    pub async fn until_records(&self, count: usize) {
        self.until(&format!("{count} records"), |state| state.records.len() >= count).await;
    }

    /// Payloads of a shard, or of all, in the order of their arrival here.
    pub fn payloads(&self) -> Vec<String> {
        self.state().records.iter().map(|(_, record)| String::from_utf8(record.data.to_vec()).unwrap()).collect()
    }

    /// The ledger has this shard.
    pub fn knows(&self, shard: ShardId, entry: ShardEntry) {
        self.change(|state| state.view.shards.extend([(shard, entry)]));
    }

    pub fn release_ends(&self) {
        self.change(|state| {
            state.hold_ends_of.clear();
            for (shard, end) in std::mem::take(&mut state.held_ends) {
                state.commit_end(&shard, end);
            }
        });
    }
}

/// Payloads may be megabytes; a failure message should not.
struct Summary<'a>(&'a State);

impl std::fmt::Debug for Summary<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut records: BTreeMap<&ShardId, usize> = BTreeMap::new();
        for (shard, _) in &self.0.records {
            *records.entry(shard).or_default() += 1;
        }
        write!(f, "records {records:?}, ledger {:?}, ended {:?}", self.0.view, self.0.ended)
    }
}

impl State {
    fn commit_end(&mut self, shard: &ShardId, end: ShardEnd) {
        let parent = self.view.shards.get_mut(shard).unwrap();
        parent.ended = true;
        let child_entry = ShardEntry { seen_ms: parent.seen_ms, ..NEW };
        self.view.version += 1;
        self.ended.push(shard.clone());
        for child in end.children {
            self.view.shards.entry(child.shard).or_insert(child_entry);
        }
        end.committed.send(()).unwrap_or_default();
    }

    fn serve(&mut self, request: LedgerRequest) {
        match request {
            LedgerRequest::View { refresh, reply } => {
                self.looks += u32::from(refresh);
                reply.send(self.view.clone()).unwrap_or_default();
            }
            LedgerRequest::Register { shards, reply } => {
                for one in shards {
                    let entry = ShardEntry { start_ms: one.start_ms, ended: one.ended, ..NEW };
                    self.view.shards.entry(one.shard).or_insert(entry);
                }
                reply.send(self.view.clone()).unwrap_or_default();
            }
            LedgerRequest::EndLost { shard, expected, descendants, reply } => {
                let entry = self.view.shards.get_mut(&shard).unwrap();
                if entry.resume() == expected {
                    entry.ended = true;
                    let descendant = ShardEntry { seen_ms: entry.seen_ms, ..NEW };
                    for id in &descendants {
                        self.view.shards.entry(id.clone()).or_insert(descendant);
                    }
                    self.lost.push((shard, descendants));
                }
                reply.send(self.view.clone()).unwrap_or_default();
            }
        }
    }

    /// Leaves what is more than may be taken.
    fn cut(&self, batch: &mut RawBatch) -> Delivered {
        let taken = self.takes_max.unwrap_or(usize::MAX).min(batch.records.len());
        let rest = batch.records.split_off(taken);
        let mut left = LeftOver::default();
        if let Some(last) = batch.records.last().filter(|_| !rest.is_empty()) {
            batch.range.through = Position::After(last.sequence_number);
            batch.seen_ms = Some(last.arrived_at_us / 1000);
            left = LeftOver::of(&rest);
        }
        Delivered { through: batch.range.through, seen_ms: batch.seen_ms, left }
    }

    fn take(&mut self, batch: RawBatch) {
        let shard = batch.range.shard.clone();
        if batch.grant.is_revoked() {
            return;
        }
        let entry = self.view.shards.get_mut(&shard).expect("registered before it is read");
        if entry.resume() != batch.range.after {
            self.fenced.push(shard);
            batch.grant.revoke();
            return;
        }
        if let Position::After(number) = batch.range.through {
            entry.position = Some(number);
        }
        entry.seen_ms = batch.seen_ms.or(entry.seen_ms);
        self.batches.push((shard.clone(), batch.records.len(), batch.seen_ms));
        self.records.extend(batch.records.into_iter().map(|record| (shard.clone(), record)));
        assert_ne!(batch.range.through, Position::End, "a range ends at a number; the end is said beside it");
        match batch.end {
            Some(end) if self.hold_ends_of.contains(&shard) => self.held_ends.push((shard, end)),
            Some(end) => self.commit_end(&shard, end),
            None => {}
        }
    }
}

const NEW: ShardEntry = ShardEntry::NEW;

impl BatchSink for World {
    async fn deliver(&self, mut batch: RawBatch) -> Result<Delivered, SinkClosed> {
        let mut changed = self.changed.subscribe();
        while self.state().stuck {
            changed.changed().await.unwrap();
        }
        if self.state().closed {
            return Err(SinkClosed);
        }
        let delivered = self.state().cut(&mut batch);
        self.change(|state| state.take(batch));
        Ok(delivered)
    }
}

async fn serve(world: Arc<World>, mut requests: mpsc::Receiver<LedgerRequest>) {
    while let Some(request) = requests.recv().await {
        world.change(|state| state.serve(request));
    }
}

/// Waits that suit an embedded server.
pub fn brisk() -> Timing {
    Timing {
        read_interval: Some(Duration::from_millis(5)),
        relist: Duration::from_millis(200),
        relist_soon: Duration::from_millis(10),
        retry_slowly: Duration::from_millis(20),
        tell_headroom: Duration::from_millis(10),
        ..Timing::default()
    }
}

pub fn options() -> SourceOptions {
    SourceOptions { flush_interval: Duration::from_millis(20), ..SourceOptions::default() }
}

/// One coordinator at work.
pub struct Run {
    pub board: StreamBoard,
    pub registry: Registry,
    pub budget: Budget,
    cancel: CancellationToken,
    tasks: JoinSet<Result<(), SourceError>>,
    ledger: JoinSet<()>,
}

impl Run {
    /// Describes the stream and starts reading it into `world`. The budget is two reads' worth.
    pub async fn start(kinesis: &Kinesis, world: &Arc<World>, options: SourceOptions, timing: Timing) -> Self {
        let (cancel, board) = (CancellationToken::new(), StatusBoard::default().stream(STREAM));
        let (registry, budget) = (Registry::new().unwrap(), Budget::new(2 * READ_COST_MAX));
        let stream = describe(kinesis, STREAM, &board, &cancel).await.unwrap();
        let (ledger, requests) = LedgerHandle::channel();
        let mut server = JoinSet::new();
        server.spawn(serve(Arc::clone(world), requests));
        let coordinator = Coordinator {
            kinesis: kinesis.clone(),
            stream,
            ledger,
            budget: budget.clone(),
            sink: Arc::clone(world),
            cores: Cores::of(2),
            metrics: registry.stream(STREAM),
            board: board.clone(),
            options,
            timing,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(coordinator.run(cancel.clone()));
        Self { board, registry, budget, cancel, tasks, ledger: server }
    }

    /// Waits until the status board looks like this.
    pub async fn until_board(&self, mut looks: impl FnMut(&StreamSnapshot) -> bool) {
        let wait = async {
            while !looks(&self.board.snapshot()) {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("the board never got there: {:?}", self.board.snapshot());
        }
    }

    /// What the coordinator returns by itself.
    pub async fn outcome(&mut self) -> Result<(), SourceError> {
        tokio::time::timeout(PATIENCE, self.tasks.join_next()).await.expect("it ends").unwrap().unwrap()
    }

    /// Told to stop, it does.
    pub async fn stop(mut self) {
        self.cancel.cancel();
        self.outcome().await.unwrap();
        self.ledger.shutdown().await;
    }

    /// A shard's gauge.
    pub fn gauge(&self, name: &str, shard: &ShardId) -> f64 {
        let text = self.registry.render();
        let line = text.lines().find(|line| line.starts_with(name) && line.contains(shard.as_str()));
        line.expect("registered").rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// The sum of a counter's lines that contain every one of `labels`.
    pub fn count(&self, name: &str, labels: &[&str]) -> u64 {
        let text = self.registry.render();
        let lines = text.lines().filter(|line| line.starts_with(name) && labels.iter().all(|l| line.contains(l)));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
    }
}

pub fn shard(n: usize) -> ShardId {
    ShardId::new(format!("shardId-{n:012}"))
}
