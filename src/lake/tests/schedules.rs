//! No schedule seals a window without a record that came in time.
//!
//! A stream with splits and merges, two processes without leases, and a scheduler that decides which of their commits,
//! followers, sealers and compactors makes its next request of the store, when one of them dies between two requests, and what is
//! put, read and left waiting meanwhile. Cleaner, windows, committer, follower, sealer and maintenance are the service's own.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use proptest::prelude::*;

use super::seal::{House, Order, SEALED, SEALED_PARTIALS, contract_with, rows_of};
use super::*;
use crate::checkpoint::LedgerView;
use crate::contract::Contract;
use crate::lake::follower::{Follower, Head};
use crate::lake::seal::{SealEvent, Sealers};
use crate::lake::{Maintainer, MaintenanceEvent, MaintenanceOptions};
use crate::record::Heir;
use crate::window::StreamWindows;

const EVERY_MS: i64 = 10_000;
const GRACE_MS: i64 = 2_000;
const WORKERS: usize = 2;
/// Of a process: committer, follower, sealer, maintenance.
const TASKS: usize = 4;

/// Two files are worth a compaction, so that there is one behind every other commit.
const MAINTENANCE: MaintenanceOptions =
    MaintenanceOptions { checkpoint_commits: 10, compact_files: 2, target_file_bytes: 1 << 20 };

// === A store that is asked one request at a time ===

/// Each request waits for the next poll.
#[derive(Debug)]
struct Stepped {
    inner: Arc<InMemory>,
    waits: Arc<AtomicBool>,
}

impl Stepped {
    fn gate(&self) -> impl Future<Output = ()> + Send + 'static {
        let (waits, mut passed) = (Arc::clone(&self.waits), false);
        std::future::poll_fn(move |context: &mut Context<'_>| {
            if std::mem::replace(&mut passed, true) {
                return Poll::Ready(());
            }
            waits.store(true, Ordering::SeqCst);
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }
}

impl fmt::Display for Stepped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stepped")
    }
}

#[async_trait]
impl ObjectStore for Stepped {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        self.gate().await;
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.gate().await;
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        self.gate().await;
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let (gate, listed) = (self.gate(), self.inner.list(prefix));
        futures::stream::once(gate).filter_map(|()| async { None }).chain(listed).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

// === The stream ===

#[derive(Debug, Default)]
struct Shard {
    parents: Vec<usize>,
    children: Vec<usize>,
    orders: Vec<Order>,
    closed: bool,
}

/// A Kinesis with a clock of its own.
#[derive(Debug)]
struct Stream {
    now_ms: i64,
    shards: Vec<Shard>,
    ids: u64,
}

fn name(shard: usize) -> String {
    format!("shardId-{shard:03}")
}

impl Stream {
    fn open(&self) -> Vec<usize> {
        (0..self.shards.len()).filter(|shard| !self.shards[*shard].closed).collect()
    }

    fn put(&mut self, pick: usize, late_ms: i64) {
        let open = self.open();
        self.ids += 1;
        let (arrived_ms, at_ms) = (self.now_ms, self.now_ms - late_ms);
        let kind = if pick.is_multiple_of(2) { "even" } else { "odd" };
        self.shards[open[pick % open.len()]].orders.push(Order { id: self.ids, at_ms, arrived_ms, kind });
    }

    fn child(&mut self, parents: &[usize]) {
        let child = self.shards.len();
        self.shards.push(Shard { parents: parents.to_vec(), ..Shard::default() });
        for parent in parents {
            self.shards[*parent].closed = true;
            self.shards[*parent].children.push(child);
        }
    }

    fn split(&mut self, pick: usize) {
        let open = self.open();
        let parent = open[pick % open.len()];
        self.child(&[parent]);
        self.child(&[parent]);
    }

    fn merge(&mut self, pick: usize) {
        let open = self.open();
        if open.len() > 1 {
            self.child(&[open[pick % open.len()], open[(pick + 1) % open.len()]]);
        }
    }
}

// === One process ===

type Work<T> = Pin<Box<dyn Future<Output = T>>>;

/// Something that is idle, or in the middle of a request.
enum Task<T> {
    Idle(T),
    Busy(Work<T>),
    /// For the moment in which it changes.
    Gone,
}

impl<T> Task<T> {
    fn start(&mut self, work: impl FnOnce(T) -> Work<T>) {
        match std::mem::replace(self, Self::Gone) {
            Self::Idle(worker) => *self = Self::Busy(work(worker)),
            busy @ (Self::Busy(_) | Self::Gone) => *self = busy,
        }
    }

    fn idle(&self) -> Option<&T> {
        if let Self::Idle(worker) = self { Some(worker) } else { None }
    }

    /// Up to its next request, or its end.
    async fn step(&mut self, waits: &AtomicBool) {
        let Self::Busy(work) = self else { return };
        waits.store(false, Ordering::SeqCst);
        loop {
            if let Poll::Ready(worker) = futures::poll!(work.as_mut()) {
                *self = Self::Idle(worker);
                return;
            }
            if waits.load(Ordering::SeqCst) {
                return;
            }
            // It encodes, or waits before it tries again.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn finish(&mut self, waits: &AtomicBool) {
        while let Self::Busy(_) = self {
            self.step(waits).await;
        }
    }
}

struct Process {
    contract: Arc<Contract>,
    windows: Arc<StreamWindows>,
    committer: Task<Committer>,
    follower: Task<Follower>,
    sealers: Task<Sealers>,
    maintainer: Task<Maintainer>,
    /// As of its last commit.
    view: LedgerView,
    pending: MicroBatch,
    /// Where each of its readers is, and whether it has handed on the shard's end.
    readers: BTreeMap<usize, Reader>,
}

struct Reader {
    at: Position,
    grant: ShardGrant,
    ended: bool,
}

impl Process {
    fn new((house, maintainer): (House, Maintainer)) -> Self {
        let House { contract, windows, committer, follower, sealers } = house;
        Self {
            contract,
            windows,
            view: committer.view.clone(),
            committer: Task::Idle(committer),
            follower: Task::Idle(follower),
            sealers: Task::Idle(sealers),
            maintainer: Task::Idle(maintainer),
            pending: MicroBatch::default(),
            readers: BTreeMap::new(),
        }
    }

    fn look(&mut self) {
        if let Some(committer) = self.committer.idle() {
            self.view = committer.view.clone();
        }
        self.readers.retain(|_, reader| !reader.grant.is_revoked());
        self.pending.drop_revoked();
    }

    /// Reads up to so many records of a shard that may be read.
    fn read(&mut self, stream: &Stream, shard: usize, count: usize) {
        self.look();
        let ended = |shard: usize| self.view.shards.get(&ShardId::new(name(shard))).is_some_and(|entry| entry.ended);
        let Some(entry) = self.view.shards.get(&ShardId::new(name(shard))) else { return };
        let source = &stream.shards[shard];
        if entry.ended || !source.parents.iter().all(|parent| ended(*parent)) {
            return;
        }
        let resume = entry.resume();
        let fresh = || Reader { at: resume, grant: ShardGrant::new(), ended: false };
        let reader = self.readers.entry(shard).or_insert_with(fresh);
        if reader.ended {
            return;
        }
        let is_read = |order: &&Order| match reader.at {
            Position::After(read) => number(order.id) > read,
            Position::Beginning | Position::At(_) | Position::End => true,
        };
        let unread: Vec<Order> = source.orders.iter().filter(is_read).copied().collect();
        let orders = &unread[..count.min(unread.len())];
        // Whole seconds, as Kinesis says it.
        let idle_ms = (unread.is_empty() && !source.closed).then_some(stream.now_ms / 1000 * 1000);
        let mut batch = batch_of(&self.contract, &self.windows, shard, reader, orders, idle_ms);
        if source.closed && orders.len() == unread.len() {
            let heirs = source.children.iter().map(|child| Heir {
                shard: ShardId::new(name(*child)),
                parents: stream.shards[*child].parents.iter().map(|parent| ShardId::new(name(*parent))).collect(),
            });
            let (committed, _) = oneshot::channel();
            batch.end = Some(ShardEnd { children: heirs.collect(), committed });
            reader.ended = true;
        }
        reader.at = batch.range.through;
        self.pending.push(batch, tokio::time::Instant::now());
    }

    fn commit(&mut self) {
        self.look();
        if self.committer.idle().is_none() || self.pending.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.pending);
        self.committer.start(|mut committer| {
            Box::pin(async move {
                committer.flush(batch).await.unwrap();
                committer
            })
        });
    }

    fn follow(&mut self) {
        self.look();
        let head = Head::of(&self.view);
        self.follower.start(|mut follower| {
            Box::pin(async move {
                follower.follow(head, std::future::pending).await.unwrap();
                follower
            })
        });
    }

    fn seal(&mut self) {
        self.sealers.start(|mut sealers| {
            Box::pin(async move {
                let mut failed = None;
                let mut note = |_: crate::lake::TableName<'_>, event| {
                    if let SealEvent::Failed { reason } = event {
                        failed = Some(reason);
                    }
                };
                sealers.look(None, &mut note).await;
                assert_eq!(failed, None);
                sealers
            })
        });
    }

    fn maintain(&mut self) {
        self.maintainer.start(|mut maintainer| {
            Box::pin(async move {
                let mut failed = None;
                let mut note = |_: crate::lake::TableName<'_>, event| {
                    if let MaintenanceEvent::Failed { reason, .. } = event {
                        failed = Some(reason);
                    }
                };
                maintainer.round(false, &mut note).await;
                assert_eq!(failed, None);
                maintainer
            })
        });
    }

    async fn step(&mut self, which: usize, waits: &AtomicBool) {
        match which {
            0 => self.committer.step(waits).await,
            1 => self.follower.step(waits).await,
            2 => self.sealers.step(waits).await,
            _ => self.maintainer.step(waits).await,
        }
    }

    async fn finish(&mut self, which: usize, waits: &AtomicBool) {
        match which {
            0 => self.committer.finish(waits).await,
            1 => self.follower.finish(waits).await,
            2 => self.sealers.finish(waits).await,
            _ => self.maintainer.finish(waits).await,
        }
    }
}

fn batch_of(
    contract: &Arc<Contract>,
    windows: &Arc<StreamWindows>,
    shard: usize,
    reader: &Reader,
    orders: &[Order],
    idle_ms: Option<i64>,
) -> CleanBatch {
    super::seal::read(contract, windows, &name(shard), reader.at, orders, idle_ms, &reader.grant)
}

// === The schedule ===

#[derive(Debug, Clone)]
enum Act {
    /// To some shard, so late by its own clock.
    Put(usize, i64),
    Pass(i64),
    Split(usize),
    Merge(usize),
    Read {
        process: usize,
        shard: usize,
        count: usize,
    },
    /// A task of a process begins, and is the only one that makes requests until it is done, or waits for its turns.
    Begin {
        process: usize,
        task: usize,
        at_once: bool,
    },
    /// The task of a process makes so many requests.
    Step {
        process: usize,
        task: usize,
        requests: usize,
    },
    Kill(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let process = || 0..WORKERS;
    let late = prop_oneof![4 => 0..=GRACE_MS, 1 => GRACE_MS + 1..40_000, 1 => -30_000..0i64];
    let act = prop_oneof![
        10 => (any::<usize>(), late).prop_map(|(pick, late_ms)| Act::Put(pick, late_ms)),
        5 => (1..20_000i64).prop_map(Act::Pass),
        1 => any::<usize>().prop_map(Act::Split),
        1 => any::<usize>().prop_map(Act::Merge),
        14 => (process(), 0..8usize, 1..6usize).prop_map(|(process, shard, count)| Act::Read { process, shard, count }),
        24 => (process(), 0..TASKS, prop::bool::weighted(0.6))
            .prop_map(|(process, task, at_once)| Act::Begin { process, task, at_once }),
        14 => (process(), 0..TASKS, 1..16usize)
            .prop_map(|(process, task, requests)| Act::Step { process, task, requests }),
        1 => process().prop_map(Act::Kill),
    ];
    prop::collection::vec(act, 20..160)
}

struct World {
    store: LakeStore,
    clock: TestClock,
    waits: Arc<AtomicBool>,
    stream: Stream,
    processes: Vec<Process>,
    contract: Arc<Contract>,
}

impl World {
    async fn begin(shards: usize, contract: Arc<Contract>) -> (Self, Lake) {
        let (objects, waits, clock) =
            (Arc::new(InMemory::new()), Arc::new(AtomicBool::new(false)), TestClock::default());
        let stepped = Stepped { inner: Arc::clone(&objects), waits: Arc::clone(&waits) };
        let store = LakeStore::with_objects(Arc::new(stepped), "lake", "memory://lake");
        let faults = Arc::new(Faulty::over(objects));
        let plain = LakeStore::with_objects(Arc::clone(&faults) as Arc<_>, "lake", "memory://lake");
        let lake = Lake { faults, store: plain, clock: clock.clone() };
        let shards = (0..shards).map(|_| Shard::default()).collect();
        let stream = Stream { now_ms: 1_000_000, shards, ids: 0 };
        let mut world = Self { store, clock, waits, stream, processes: Vec::new(), contract };
        let (mut first, maintainer) = world.house().await;
        let all: Vec<Registration> = (0..world.stream.shards.len()).map(|shard| register(&name(shard))).collect();
        first.committer.register(&all).await.unwrap();
        world.processes.push(Process::new((first, maintainer)));
        while world.processes.len() < WORKERS {
            let house = world.house().await;
            world.processes.push(Process::new(house));
        }
        (world, lake)
    }

    fn hop_ms(&self) -> i64 {
        self.contract.windows[0].pane_us / 1000
    }

    async fn house(&self) -> (House, Maintainer) {
        let mut maintainer = Maintainer::new(self.store.clone(), MAINTENANCE).timed_by(self.clock.moments());
        maintainer.add_tables("orders", TableSet::of(&self.contract, &identity()));
        (House::open(&self.store, self.clock.moments(), &self.contract).await, maintainer)
    }

    async fn act(&mut self, act: Act) {
        match act {
            Act::Put(pick, late_ms) => self.stream.put(pick, late_ms),
            Act::Pass(ms) => self.stream.now_ms += ms,
            Act::Split(pick) => self.stream.split(pick),
            Act::Merge(pick) => self.stream.merge(pick),
            Act::Read { process, shard, count } => {
                let shard = shard % self.stream.shards.len();
                self.processes[process].read(&self.stream, shard, count);
            }
            Act::Begin { process, task, at_once } => {
                let process = &mut self.processes[process];
                match task {
                    0 => process.commit(),
                    1 => process.follow(),
                    2 => process.seal(),
                    _ => process.maintain(),
                }
                if at_once {
                    process.finish(task, &self.waits).await;
                }
            }
            Act::Step { process, task, requests } => {
                for _ in 0..requests {
                    self.processes[process].step(task, &self.waits).await;
                }
            }
            Act::Kill(process) => self.processes[process] = Process::new(self.house().await),
        }
    }

    /// One process survives and has time for everything.
    async fn end(&mut self) {
        self.processes.truncate(1);
        let survivor = &mut self.processes[0];
        for task in 0..TASKS {
            survivor.finish(task, &self.waits).await;
        }
        self.stream.now_ms += 100_000;
        for _ in 0..2 * self.stream.shards.len() + 4 {
            for shard in 0..self.stream.shards.len() {
                survivor.read(&self.stream, shard, usize::MAX);
            }
            survivor.commit();
            survivor.finish(0, &self.waits).await;
            survivor.follow();
            survivor.finish(1, &self.waits).await;
            survivor.maintain();
            survivor.finish(3, &self.waits).await;
            survivor.seal();
            survivor.finish(2, &self.waits).await;
        }
    }
}

type Counts = BTreeMap<(i64, Option<String>), (i64, i128)>;

/// By windows of this size which begin every `hop_ms`.
fn counted<'a>(orders: impl Iterator<Item = &'a Order>, every_ms: i64, hop_ms: i64) -> Counts {
    let mut counts = Counts::new();
    for order in orders {
        let mut start_ms = order.at_ms.div_euclid(hop_ms) * hop_ms;
        while start_ms + every_ms > order.at_ms {
            let count = counts.entry((start_ms, Some(order.kind.to_owned()))).or_default();
            *count = (count.0 + 1, count.1 + i128::from(order.id));
            start_ms -= hop_ms;
        }
    }
    counts
}

/// The last row of each key, once all is corrected, is all that was put.
async fn check_revised(world: &World, lake: &Lake) -> Result<(), TestCaseError> {
    let all = counted(world.stream.shards.iter().flat_map(|shard| &shard.orders), EVERY_MS, world.hop_ms());
    let mut last = BTreeMap::new();
    for row in rows_of(lake, SEALED).await {
        let found = last.entry((row.start_ms, row.kind)).or_insert_with(Vec::new);
        found.push((row.revision, row.records, row.total));
    }
    for (key, found) in &mut last {
        found.sort_unstable();
        prop_assert!(found.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "{:?}: {:?}", key, found);
    }
    let last: Counts = last.into_iter().filter_map(|(key, found)| found.last().map(|it| (key, (it.1, it.2)))).collect();
    prop_assert_eq!(last, all);
    Ok(())
}

async fn check(world: &World, lake: &Lake) -> Result<(), TestCaseError> {
    let orders = || world.stream.shards.iter().flat_map(|shard| &shard.orders);
    let hop_ms = world.hop_ms();
    let all = counted(orders(), EVERY_MS, hop_ms);
    let in_time = counted(orders().filter(|it| it.at_ms >= it.arrived_ms - GRACE_MS), EVERY_MS, hop_ms);
    let mut partials = Counts::new();
    for row in rows_of(lake, SEALED_PARTIALS).await {
        let count = partials.entry((row.start_ms, row.kind)).or_default();
        *count = (count.0 + row.records, count.1 + row.total);
    }
    prop_assert_eq!(&partials, &counted(orders(), hop_ms, hop_ms), "the partials are what was put");
    let mut sealed = BTreeSet::new();
    for row in rows_of(lake, SEALED).await {
        let key = (row.start_ms, row.kind);
        prop_assert!(sealed.insert(key.clone()), "{:?} is sealed twice", key);
        let (everything, owed) =
            (all.get(&key).copied().unwrap_or_default(), in_time.get(&key).copied().unwrap_or_default());
        prop_assert!(row.records >= owed.0, "{:?}: {} of {} that came in time", key, row.records, owed.0);
        prop_assert!(row.records <= everything.0 && row.total <= everything.1, "{:?}", key);
        prop_assert!(row.records < everything.0 || row.total == everything.1, "{:?}", key);
    }
    let missing: Vec<_> = in_time.keys().filter(|key| !sealed.contains(*key)).collect();
    prop_assert!(missing.is_empty(), "never sealed: {:?}", missing);
    Ok(())
}

fn run(shards: usize, acts: Vec<Act>, declared: &str) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut world, lake) = World::begin(shards, contract_with(declared)).await;
        for act in acts {
            world.act(act).await;
        }
        world.end().await;
        if declared.contains("revise") { check_revised(&world, &lake).await } else { check(&world, &lake).await }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    #[test]
    fn no_schedule_seals_a_window_without_a_record_that_came_in_time(shards in 1usize..4, acts in acts()) {
        run(shards, acts, "")?;
    }

    #[test]
    fn whatever_the_schedule_the_last_revisions_are_all_that_was_put(shards in 1usize..4, acts in acts()) {
        run(shards, acts, "seal = \"revise\"")?;
    }

    #[test]
    fn nor_a_window_that_slides(shards in 1usize..3, acts in acts(), revise in any::<bool>()) {
        run(shards, acts, if revise { "hop = \"5s\"\nseal = \"revise\"" } else { "hop = \"5s\"" })?;
    }
}
