//! The lake against stores that fail in every way we know of, and against itself running twice.

mod commits;
pub mod faults;
pub mod followers;
mod missed;
mod opening;
mod others;
mod ranges;
pub mod readers;
mod replays;
mod schedules;
pub mod seal;
mod sealed_history;
mod watermarks;
mod writing;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deltalake::arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use deltalake::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use serde_json::Value;
use tokio::sync::oneshot;

use self::faults::Faulty;
use super::flush::Committer;
use super::ledger::StreamIdentity;
use super::log::read_table;
use super::micro_batch::MicroBatch;
use super::moment::{Moment, MomentClock};
use super::store::LakeStore;
use super::stream::{StreamLake, TableSet};
use super::table::{Kind, TableSpec};
use super::writer::{Writer, WriterOptions};
use crate::budget::{Budget, Permit};
use crate::checkpoint::{Position, PositionRange, Registration, SequenceNumber, ShardId};
use crate::clock::DAY_US;
use crate::contract::window::SealPolicy;
use crate::contract::{EventTime, WindowPlan};
use crate::metrics::{Registry, StreamMetrics};
use crate::record::{CleanBatch, Heir, LeftOver, RawRecord, Reject, RejectReason, ShardEnd, ShardGrant, WindowSink};
use crate::status::{StatusBoard, StreamBoard};

pub const ROWS: &str = "orders";
pub const REJECTS: &str = "orders_rejects";
pub const PARTIALS: &str = "orders_by_kind_partials";
/// 2026-11-22.
pub const DAY: i32 = 20_779;

pub use self::followers::{follow_all, rows_of};

// === Tables ===

pub fn identity() -> StreamIdentity {
    StreamIdentity { pipeline: "shop".to_owned(), stream: "orders".to_owned(), created_at_s: 1_700_000_000 }
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>()))
}

pub fn rows_schema() -> SchemaRef {
    let tags = DataType::List(Arc::new(Field::new("element", DataType::Utf8, true)));
    schema(&[
        ("id", DataType::Int64),
        ("name", DataType::Utf8),
        ("tags", tags),
        ("_shard_id", DataType::Utf8),
        ("_sequence_number", DataType::Utf8),
        ("_sub_sequence_number", DataType::Int64),
        ("_arrived_at", instant()),
        ("_date", DataType::Date32),
    ])
}

fn rejects_schema() -> SchemaRef {
    schema(&[
        ("_shard_id", DataType::Utf8),
        ("_sequence_number", DataType::Utf8),
        ("_sub_sequence_number", DataType::Int64),
        ("_arrived_at", instant()),
        ("reason", DataType::Utf8),
        ("detail", DataType::Utf8),
        ("payload", DataType::Binary),
        ("_date", DataType::Date32),
    ])
}

fn partials_schema() -> SchemaRef {
    schema(&[
        ("window_start", instant()),
        ("total", DataType::Decimal128(38, 0)),
        ("records", DataType::Int64),
        ("_shard_id", DataType::Utf8),
        ("_date", DataType::Date32),
    ])
}

pub fn tables_of(identity: &StreamIdentity) -> TableSet {
    let schema = partials_schema();
    let partials = TableSet::follower(identity, PARTIALS.to_owned(), Kind::Partials, &schema, Some("d1"));
    TableSet {
        rows: TableSet::ledger(identity, ROWS.to_owned(), &rows_schema()),
        rejects: TableSet::follower(identity, REJECTS.to_owned(), Kind::Rejects, &rejects_schema(), None),
        partials: vec![TableSpec { window: Some(Arc::new(window())), ..partials }],
        sealed: Vec::new(),
    }
}

/// Ten seconds, and two to wait.
pub fn window() -> WindowPlan {
    WindowPlan {
        name: "orders_by_kind".to_owned(),
        every_us: 10_000_000,
        pane_us: 10_000_000,
        time: EventTime::Arrival,
        conditions: Vec::new(),
        grace_us: 2_000_000,
        keys: Vec::new(),
        measures: Vec::new(),
        definition: "d1".to_owned(),
        partials_schema: partials_schema(),
        seal: SealPolicy::Once,
        keep_us: None,
        sealed_schema: schema(&[("window_start", instant()), ("_date", DataType::Date32)]),
    }
}

pub fn tables() -> TableSet {
    tables_of(&identity())
}

// === Rows ===

pub fn number(n: u64) -> SequenceNumber {
    SequenceNumber::parse(&format!("4959033827149025660855969253836157109592157598913658{n:04}")).unwrap()
}

pub fn after(n: u64) -> Position {
    if n == 0 { Position::Beginning } else { Position::After(number(n)) }
}

pub fn rows(shard: &str, ids: std::ops::Range<i64>, day: impl Fn(i64) -> i32) -> RecordBatch {
    let ids: Vec<i64> = ids.collect();
    let mut tags = ListBuilder::new(StringBuilder::new()).with_field(Field::new("element", DataType::Utf8, true));
    for id in &ids {
        if id % 3 == 0 {
            tags.append_null();
        } else {
            tags.append_value([Some("a"), None]);
        }
    }
    let arrived = ids.iter().map(|id| i64::from(day(*id)) * DAY_US + id * 1_001);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids.clone())),
        Arc::new(StringArray::from_iter(ids.iter().map(|id| (id % 5 != 0).then(|| format!("name {id}"))))),
        Arc::new(tags.finish()),
        Arc::new(StringArray::from_iter_values(ids.iter().map(|_| shard))),
        Arc::new(StringArray::from_iter_values(ids.iter().map(i64::to_string))),
        Arc::new(Int64Array::from_iter_values(ids.iter().map(|_| 0))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(arrived).with_timezone("UTC")),
        Arc::new(Date32Array::from_iter_values(ids.iter().map(|id| day(*id)))),
    ];
    RecordBatch::try_new(rows_schema(), columns).unwrap()
}

pub fn reject(n: u64) -> Reject {
    let record = RawRecord {
        data: b"\xff\x00not json".as_slice().into(),
        sequence_number: number(n),
        sub_sequence_number: 0,
        arrived_at_us: i64::from(DAY) * DAY_US,
        refused: None,
    };
    Reject { record, reason: RejectReason::InvalidUtf8, detail: "byte 0".to_owned() }
}

/// Numbers (`from`, `through`] of a shard: one row each but the last, which is a reject.
pub fn batch(shard: &str, from: u64, through: u64, grant: &ShardGrant) -> CleanBatch {
    CleanBatch {
        range: PositionRange { shard: ShardId::new(shard), after: after(from), through: after(through) },
        rows: rows(shard, from as i64 + 1..through as i64, |_| DAY),
        rejects: vec![reject(through)],
        seen_ms: Some(through as i64 * 1000),
        watermark_ms: Some(through as i64 * 1000),
        end: None,
        left: LeftOver::default(),
        grant: grant.clone(),
        permit: Permit::default(),
    }
}

/// Nothing new, but seen until later.
pub fn quiet(shard: &str, at: u64, seen_ms: i64, grant: &ShardGrant) -> CleanBatch {
    let range = PositionRange { shard: ShardId::new(shard), after: after(at), through: after(at) };
    let rows = RecordBatch::new_empty(rows_schema());
    let grant = grant.clone();
    let (rejects, end, left, permit) = (Vec::new(), None, LeftOver::default(), Permit::default());
    CleanBatch { range, rows, rejects, seen_ms: Some(seen_ms), watermark_ms: Some(seen_ms), end, left, grant, permit }
}

pub fn ending(mut batch: CleanBatch, children: &[&str]) -> (CleanBatch, oneshot::Receiver<()>) {
    let (committed, told) = oneshot::channel();
    let heir = |child: &&str| Heir { shard: ShardId::new(child), parents: vec![batch.range.shard.clone()] };
    batch.end = Some(ShardEnd { children: children.iter().map(heir).collect(), committed });
    (batch, told)
}

pub fn micro(batches: impl IntoIterator<Item = CleanBatch>) -> MicroBatch {
    let mut micro = MicroBatch::default();
    batches.into_iter().for_each(|batch| micro.push(batch, tokio::time::Instant::now()));
    micro
}

// === Windows ===

/// One partial row a range and day; remembers what it was told.
#[derive(Debug, Default)]
pub struct FakeWindows {
    pub committed: Mutex<Vec<(Vec<PositionRange>, u64)>>,
    pub discarded: Mutex<Vec<ShardId>>,
    /// Revoked while the partials are made.
    pub revoke: Mutex<Option<ShardGrant>>,
    /// Further days, one row each, that every range has partials of.
    pub more_days: Mutex<i32>,
}

impl WindowSink for FakeWindows {
    fn partials(&self, ranges: &[PositionRange]) -> Vec<RecordBatch> {
        if let Some(grant) = self.revoke.lock().unwrap().take() {
            grant.revoke();
        }
        let days = 1 + *self.more_days.lock().unwrap();
        let rows: Vec<_> = ranges.iter().flat_map(|range| (0..days).map(move |day| (range, DAY - day))).collect();
        let count = rows.len();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from(vec![0; count]).with_timezone("UTC")),
            Arc::new(Decimal128Array::from(vec![10i128.pow(30); count]).with_precision_and_scale(38, 0).unwrap()),
            Arc::new(Int64Array::from(vec![1; count])),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|(range, _)| range.shard.as_str()))),
            Arc::new(Date32Array::from_iter_values(rows.iter().map(|(_, day)| *day))),
        ];
        vec![RecordBatch::try_new(partials_schema(), columns).unwrap()]
    }

    fn committed(&self, ranges: &[PositionRange], version: u64) {
        self.committed.lock().unwrap().push((ranges.to_vec(), version));
    }

    fn discard(&self, shard: &ShardId) {
        self.discarded.lock().unwrap().push(shard.clone());
    }

    /// Windows of ten seconds from 1970 on, all of which have records.
    fn closes(&self, from_ms: Option<i64>, to_ms: i64) -> bool {
        to_ms.div_euclid(10_000) > from_ms.unwrap_or(0).div_euclid(10_000)
    }
}

// === A stream's writer in parts ===

/// Time that passes when the test says so.
#[derive(Clone, Default)]
pub struct TestClock(Arc<AtomicI64>, Arc<AtomicI64>);

impl TestClock {
    pub fn pass_wall(&self, duration: Duration) {
        self.0.fetch_add(duration.as_millis() as i64, Ordering::SeqCst);
    }

    pub fn pass_boot(&self, duration: Duration) {
        self.1.fetch_add(duration.as_millis() as i64, Ordering::SeqCst);
    }

    pub fn moments(&self) -> MomentClock {
        let (wall, boot) = (Arc::clone(&self.0), Arc::clone(&self.1));
        MomentClock::of(move || Moment {
            wall_ms: 1_795_305_600_000 + wall.load(Ordering::SeqCst),
            boot_ms: boot.load(Ordering::SeqCst),
        })
    }
}

/// A lake in memory with faults on demand.
pub struct Lake {
    pub faults: Arc<Faulty>,
    pub store: LakeStore,
    pub clock: TestClock,
}

impl Lake {
    pub fn in_memory() -> Self {
        let clock = TestClock::default();
        let faults = Arc::new(Faulty::over(Arc::new(InMemory::new())).timed_by(clock.moments()));
        let store = LakeStore::with_objects(Arc::clone(&faults) as Arc<_>, "lake", "memory://lake");
        Self { faults, store, clock }
    }

    pub async fn open(&self) -> StreamLake {
        let opened = StreamLake::open_tables(self.store.clone(), identity(), tables(), self.clock.moments());
        opened.await.unwrap()
    }

    /// A committer without followers, its shards registered from the beginning.
    pub async fn committer(&self, shards: &[&str]) -> Instance {
        let mut instance = Instance::of(self.open().await);
        let shards: Vec<Registration> = shards.iter().map(|shard| register(shard)).collect();
        instance.committer.register(&shards).await.unwrap();
        instance
    }

    pub async fn entry(&self, table: &str, version: u64) -> Vec<Value> {
        let path = super::log::entry_path(&self.store, table, version);
        let (bytes, _) = self.store.read(&path).await.unwrap().unwrap();
        bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|l| serde_json::from_slice(l).unwrap())
            .collect()
    }

    pub async fn version(&self, table: &str) -> u64 {
        read_table(&self.store, table, "").await.unwrap().unwrap().version
    }

    /// Commits an entry that somebody else wrote.
    pub async fn foreign(&self, table: &str, lines: &[Value]) -> u64 {
        let version = self.version(table).await + 1;
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        let path = super::log::entry_path(&self.store, table, version);
        self.faults.inner().put(&path, lines.join("\n").into()).await.unwrap();
        self.faults.date(&path, self.clock.moments().now().wall_ms);
        version
    }

    /// Rows in a table: `numRecords` of its `add`s, over its whole JSON log. No path may be added twice.
    pub async fn records(&self, table: &str) -> u64 {
        let mut seen = BTreeMap::new();
        for version in 0..=self.version(table).await {
            for action in self.entry(table, version).await {
                if let Some(add) = action.get("add") {
                    let stats: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
                    let path = add["path"].as_str().unwrap().to_owned();
                    assert!(seen.insert(path, stats["numRecords"].as_u64().unwrap()).is_none(), "added twice: {add}");
                }
            }
        }
        seen.values().sum()
    }
}

pub fn register(shard: &str) -> Registration {
    Registration { shard: ShardId::new(shard), start_ms: 0, ended: false }
}

/// One process's hold on a stream.
pub struct Instance {
    pub committer: Committer,
    pub followers: Vec<super::follower::Follower>,
    pub windows: Arc<FakeWindows>,
    pub board: StreamBoard,
    pub metrics: Registry,
}

impl Instance {
    pub fn of(lake: StreamLake) -> Self {
        let (windows, board, registry) = (Arc::new(FakeWindows::default()), stream_board(), Registry::new().unwrap());
        let metrics = registry.stream("orders");
        let options = WriterOptions { flush_interval: Duration::from_secs(5), flush_bytes: 1 << 20 };
        let sink = Arc::clone(&windows) as Arc<dyn WindowSink>;
        let writer = Writer::new(lake, options, Budget::new(1 << 20), sink, None, metrics, board.clone());
        let (committer, followers) = writer.into_parts();
        Self { committer, followers, windows, board, metrics: registry }
    }
}

pub fn stream_board() -> StreamBoard {
    let board = StatusBoard::default().stream("orders");
    board.resolved("start");
    board
}

pub fn metrics() -> StreamMetrics {
    Registry::new().unwrap().stream("orders")
}

/// Runs `work`, which must not end, until the board tells of a trouble; returns its words.
pub async fn trouble_during<T>(board: &StreamBoard, who: &str, work: impl Future<Output = T>) -> String {
    let told = async {
        loop {
            if let Some(what) = board.snapshot().trouble.get(who) {
                return what.clone();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = work => panic!("it went on"),
        what = tokio::time::timeout(Duration::from_secs(20), told) => what.expect("no trouble was told"),
    }
}

/// What two sides of one schedule return; panics if they wait for each other.
pub async fn both<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B) {
    let both = async { tokio::join!(one, other) };
    tokio::time::timeout(Duration::from_secs(60), both).await.expect("they wait for each other")
}
