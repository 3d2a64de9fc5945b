//! Sealed rows against what was put into the partials, kills, and a second sealer.

use std::time::Duration;

use deltalake::arrow::array::{Array, AsArray};
use deltalake::arrow::compute::cast;
use deltalake::arrow::datatypes::{DataType, Decimal128Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use object_store::ObjectStoreExt;
use tokio::sync::oneshot;

use super::faults::Fault;
use super::*;
use crate::clean::Cleaner;
use crate::contract::{self, Contract};
use crate::lake::follower::{Follower, Head};
use crate::lake::log::each_action;
use crate::lake::maintenance::MaintenanceOptions;
use crate::lake::seal::{SealEvent, Sealers};
use crate::record::RawBatch;
use crate::toml_doc::Problems;
use crate::window::StreamWindows;

pub const SEALED: &str = "by_kind";
pub const SEALED_PARTIALS: &str = "by_kind_partials";

pub fn contract_with(seal: &str) -> Arc<Contract> {
    let text = format!(
        "table = \"orders\"\nevent_time = \"at\"\n\
         [[column]]\nname = \"id\"\ntype = \"long\"\nrequired = true\n\
         [[column]]\nname = \"at\"\ntype = \"timestamp\"\n\
         [[column]]\nname = \"kind\"\ntype = \"string\"\n\
         [[window]]\nname = \"by_kind\"\nevery = \"10s\"\ngrace = \"2s\"\n{seal}\nby = [\"kind\"]\n\
         measure = {{ n = \"count\", total = \"sum(id)\" }}\n"
    );
    let problems = Problems::default();
    let contract = contract::parse("orders.toml", text, &problems);
    problems.into_result().unwrap();
    Arc::new(contract.unwrap())
}

/// One process: everything that the service has between the reader and the lake, in parts.
pub struct House {
    pub contract: Arc<Contract>,
    pub windows: Arc<StreamWindows>,
    pub committer: Committer,
    pub follower: Follower,
    pub sealers: Sealers,
}

/// An order: event time and id, which is its sequence number too.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    pub id: u64,
    pub at_ms: i64,
    pub arrived_ms: i64,
    pub kind: &'static str,
}

impl House {
    pub async fn open(store: &LakeStore, clock: MomentClock, contract: &Arc<Contract>) -> Self {
        Self::open_as(identity(), store, clock, contract).await
    }

    pub async fn open_as(
        identity: StreamIdentity,
        store: &LakeStore,
        clock: MomentClock,
        contract: &Arc<Contract>,
    ) -> Self {
        let tables = TableSet::of(contract, &identity);
        let lake = StreamLake::open_tables(store.clone(), identity, tables.clone(), clock.clone()).await.unwrap();
        let metrics = metrics();
        let windows = Arc::new(StreamWindows::new("orders", Arc::clone(contract), metrics.clone()));
        let sink = Arc::clone(&windows) as Arc<dyn WindowSink>;
        let options = WriterOptions { flush_interval: Duration::from_secs(5), flush_bytes: 1 << 20 };
        let writer = Writer::new(lake, options, Budget::new(1 << 20), sink, None, metrics, stream_board());
        let (committer, mut followers) = writer.into_parts();
        let mut sealers = Sealers::new(store.clone(), MaintenanceOptions::default()).timed_by(clock);
        sealers.add_tables("orders", tables);
        Self { contract: Arc::clone(contract), windows, committer, follower: followers.remove(1), sealers }
    }

    /// What a read of this shard that brought these becomes.
    pub fn batch(&self, shard: &str, after: Position, orders: &[Order], idle_ms: Option<i64>) -> CleanBatch {
        read(&self.contract, &self.windows, shard, after, orders, idle_ms, &ShardGrant::new())
    }

    pub async fn commit(&mut self, batches: impl IntoIterator<Item = CleanBatch>) {
        self.committer.flush(micro(batches)).await.unwrap();
        let head = Head::of(&self.committer.view);
        self.follower.follow(head, std::future::pending).await.unwrap();
    }

    pub async fn seal(&mut self) -> Vec<SealEvent> {
        let mut events = Vec::new();
        self.sealers.look(None, &mut |_, event| events.push(event)).await;
        events
    }
}

/// What a read of a shard that brought these becomes, counted in the windows.
pub fn read(
    contract: &Arc<Contract>,
    windows: &StreamWindows,
    shard: &str,
    after: Position,
    orders: &[Order],
    idle_ms: Option<i64>,
    grant: &ShardGrant,
) -> CleanBatch {
    let number = |order: &Order| number(order.id);
    let records = orders.iter().map(|order| {
        let at = chrono::DateTime::from_timestamp_millis(order.at_ms).unwrap().to_rfc3339();
        RawRecord {
            data: format!("{{\"id\":{},\"at\":\"{at}\",\"kind\":\"{}\"}}", order.id, order.kind).into(),
            sequence_number: number(order),
            sub_sequence_number: 0,
            arrived_at_us: order.arrived_ms * 1000,
            refused: None,
        }
    });
    let through = orders.last().map_or(after, |order| Position::After(number(order)));
    let raw = RawBatch {
        range: PositionRange { shard: ShardId::new(shard), after, through },
        records: records.collect(),
        seen_ms: orders.last().map(|order| order.arrived_ms).or(idle_ms),
        end: None,
        grant: grant.clone(),
        permit: Permit::default(),
    };
    let (clean, _) = Cleaner::new(Arc::clone(contract)).clean(raw);
    assert!(clean.rejects.is_empty(), "{:?}", clean.rejects);
    windows.observe(&clean).unwrap();
    clean
}

/// A row of the sealed table or of the partials table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub start_ms: i64,
    pub kind: Option<String>,
    pub records: i64,
    pub total: i128,
    /// Of a sealed row.
    pub complete: Option<bool>,
    pub revision: Option<i64>,
}

/// All rows of a window's table, or of its partials, from the files that its log names, in order.
pub async fn rows_of(lake: &Lake, table: &str) -> Vec<Row> {
    let mut files = std::collections::BTreeSet::new();
    let note = |lines: &[u8]| {
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let action: Value = serde_json::from_slice(line).unwrap();
            let path = |kind: &str| action.get(kind).and_then(|it| it["path"].as_str()).map(str::to_owned);
            files.extend(path("add"));
            path("remove").map(|path| files.remove(&path));
        }
        Ok(())
    };
    each_action(&lake.store, table, |_| true, note).await.unwrap();
    let mut rows = Vec::new();
    for file in files {
        let (bytes, _) = lake.store.read(&lake.store.path(table, &file)).await.unwrap().unwrap();
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let column = |name: &str| batch.column_by_name(name);
            let starts = column("window_start").unwrap().as_primitive::<TimestampMicrosecondType>();
            let kinds = column("kind").unwrap().as_string::<i32>();
            let (records, n) = (column("records").unwrap(), column("n").unwrap());
            assert_eq!(records, n);
            let records = records.as_primitive::<Int64Type>();
            let totals = column("total").unwrap().as_primitive::<Decimal128Type>();
            for row in 0..batch.num_rows() {
                rows.push(Row {
                    start_ms: starts.value(row) / 1000,
                    kind: kinds.is_valid(row).then(|| kinds.value(row).to_owned()),
                    records: records.value(row),
                    total: totals.value(row),
                    complete: column("complete").map(|flags| flags.as_boolean().value(row)),
                    revision: column("revision").map(|numbers| numbers.as_primitive::<Int64Type>().value(row)),
                });
            }
        }
    }
    rows.sort();
    rows
}

pub fn order(id: u64, at_ms: i64) -> Order {
    Order { id, at_ms, arrived_ms: at_ms, kind: if id.is_multiple_of(2) { "even" } else { "odd" } }
}

fn row(start_ms: i64, kind: &str, records: i64, total: i128, complete: bool) -> Row {
    let (kind, complete, revision) = (Some(kind.to_owned()), Some(complete), Some(0));
    Row { start_ms, kind, records, total, complete, revision }
}

pub async fn house(lake: &Lake, contract: &Arc<Contract>) -> House {
    House::open(&lake.store, lake.clock.moments(), contract).await
}

/// A house that has read orders 1 to 5, of which 4 has come to an end of 20 s + 1 ms.
async fn with_orders(lake: &Lake) -> House {
    let mut house = house(lake, &contract_with("")).await;
    house.committer.register(&[register("a")]).await.unwrap();
    let orders = [order(1, 3_000), order(2, 4_000), order(3, 9_999), order(4, 12_000), order(5, 12_001)];
    let batch = house.batch("a", after(0), &orders, None);
    house.commit([batch]).await;
    house
}

#[tokio::test]
async fn a_window_is_sealed_once_its_end_and_its_grace_have_passed_and_not_before() {
    let lake = Lake::in_memory();
    let contract = contract_with("");
    let mut house = house(&lake, &contract).await;
    house.committer.register(&[register("a")]).await.unwrap();
    let orders = [order(1, 3_000), order(2, 4_000), order(3, 9_999), order(4, 11_999)];
    let first = house.batch("a", after(0), &orders, None);
    house.commit([first]).await;
    assert_eq!(house.seal().await, [], "it waits for stragglers");
    let straggler = Order { id: 5, at_ms: 1_000, arrived_ms: 12_000, kind: "odd" };
    let second = house.batch("a", after(4), &[straggler], None);
    house.commit([second]).await;
    assert_eq!(house.seal().await, [], "its own time says nothing new");
    let idle = house.batch("a", after(5), &[], Some(12_000));
    house.commit([idle]).await;
    let events = house.seal().await;
    let [SealEvent::Sealed { version: 1, through_ms: 10_000, rows: 2, files: 1, bytes: _ }] = events[..] else {
        panic!("{events:?}")
    };
    let sealed = [row(0, "even", 1, 2, false), row(0, "odd", 3, 9, false)];
    assert_eq!(rows_of(&lake, SEALED).await, sealed, "it began before the first partial");
    assert_eq!(house.seal().await, []);

    let idle = house.batch("a", after(5), &[], Some(999_000));
    house.commit([idle]).await;
    assert_eq!(house.seal().await.len(), 1);
    assert_eq!(rows_of(&lake, SEALED).await[2..], [row(10_000, "even", 1, 4, true)]);
    assert_eq!(house.seal().await, [], "windows without records have no rows");
    assert_eq!(lake.version(SEALED).await, 2);
}

#[tokio::test]
async fn records_that_come_after_their_window_was_sealed_are_late_and_in_the_partials() {
    let lake = Lake::in_memory();
    let mut house = with_orders(&lake).await;
    assert_eq!(house.seal().await.len(), 1);
    let late = [Order { id: 6, at_ms: 5_000, arrived_ms: 13_000, kind: "even" }, order(7, 13_001)];
    let batch = house.batch("a", after(5), &late, None);
    house.commit([batch]).await;
    assert_eq!(house.seal().await, [SealEvent::Late { records: 1 }]);
    assert_eq!(house.seal().await, [], "told once");
    assert_eq!(rows_of(&lake, SEALED).await, [row(0, "even", 1, 2, false), row(0, "odd", 2, 4, false)]);
    let counted: i64 = rows_of(&lake, SEALED_PARTIALS).await.iter().map(|row| row.records).sum();
    assert_eq!(counted, 7);
}

#[tokio::test]
async fn of_two_sealers_each_tells_every_late_record_once_also_what_the_other_has_sealed_on_since() {
    let lake = Lake::in_memory();
    let mut one = with_orders(&lake).await;
    let mut other = house(&lake, &one.contract).await;
    assert_eq!((one.seal().await.len(), other.seal().await.len()), (1, 0));
    // One record is late, and the other closes the next window.
    let orders = [Order { id: 6, at_ms: 5_000, arrived_ms: 22_000, kind: "even" }, order(7, 22_000)];
    let batch = one.batch("a", after(5), &orders, None);
    one.commit([batch]).await;
    let events = one.seal().await;
    assert!(matches!(events[..], [SealEvent::Late { records: 1 }, SealEvent::Sealed { .. }]), "{events:?}");
    assert_eq!(other.seal().await, [SealEvent::Late { records: 1 }]);
    assert_eq!((one.seal().await, other.seal().await), (vec![], vec![]), "told once");
}

#[tokio::test]
async fn a_sealer_that_dies_at_any_step_seals_nothing_twice_and_the_next_one_seals_it() {
    for (part, fault, sealed) in [
        ("by_kind/_date", Fault::Fail, false),
        ("by_kind/_date", Fault::LoseAnswer, false),
        ("by_kind/_delta_log", Fault::Fail, false),
        ("by_kind/_delta_log", Fault::LoseAnswer, true),
        ("by_kind/_delta_log", Fault::ConflictWithNothing, true),
        ("by_kind/_delta_log", Fault::ConflictWithItself, true),
    ] {
        let lake = Lake::in_memory();
        let mut dying = with_orders(&lake).await;
        lake.faults.next_put(part, fault);
        let events = dying.seal().await;
        assert_eq!(lake.faults.waiting(), 0, "{part}");
        assert_eq!(rows_of(&lake, SEALED).await.len(), if sealed { 2 } else { 0 }, "{part}: {events:?}");
        let mut next = house(&lake, &dying.contract).await;
        next.seal().await;
        dying.seal().await;
        assert_eq!(rows_of(&lake, SEALED).await, [row(0, "even", 1, 2, false), row(0, "odd", 2, 4, false)], "{part}");
    }
}

#[tokio::test]
async fn a_damaged_log_of_sealed_rows_costs_nothing_but_them_until_it_is_restored() {
    let lake = Lake::in_memory();
    drop(with_orders(&lake).await);
    let path = crate::lake::log::entry_path(&lake.store, SEALED, 0);
    let (entry, _) = lake.store.read(&path).await.unwrap().unwrap();
    lake.faults.inner().put(&path, entry.slice(..entry.len() / 2).into()).await.unwrap();

    let mut house = house(&lake, &contract_with("")).await;
    let more = house.batch("a", after(5), &[order(6, 13_000)], None);
    house.commit([more]).await;
    assert_eq!(rows_of(&lake, SEALED_PARTIALS).await.iter().map(|row| row.records).sum::<i64>(), 6);
    let events = house.seal().await;
    let [SealEvent::Failed { reason }] = &events[..] else { panic!("{events:?}") };
    assert!(reason.contains("table by_kind, log version 0") && reason.contains("restore the entry"), "{reason}");

    lake.faults.inner().put(&path, entry.into()).await.unwrap();
    let events = house.seal().await;
    assert!(matches!(events[..], [SealEvent::Sealed { .. }, SealEvent::Recovered]), "{events:?}");
    assert_eq!(house.seal().await, [], "it is told once that it works again");
    assert_eq!(rows_of(&lake, SEALED).await, [row(0, "even", 1, 2, false), row(0, "odd", 2, 4, false)]);
}

#[tokio::test]
async fn a_start_knows_the_version_of_sealed_rows_before_it_seals_any() {
    let lake = Lake::in_memory();
    let mut dead = with_orders(&lake).await;
    dead.seal().await;
    let set = TableSet::of(&dead.contract, &identity());
    let opened = StreamLake::open_tables(lake.store.clone(), identity(), set, lake.clock.moments()).await;
    let board = Instance::of(opened.unwrap()).board;
    assert_eq!((board.snapshot().tables[SEALED].version, lake.version(SEALED).await), (1, 1));
}

#[tokio::test]
async fn of_two_sealers_at_once_one_gives_way_whichever_is_first() {
    let lake = Lake::in_memory();
    let mut one = with_orders(&lake).await;
    let mut other = house(&lake, &one.contract).await;
    // Merged, uploaded, and about to commit.
    let ((arrived, at_commit), (go, go_on)) = (oneshot::channel(), oneshot::channel());
    lake.faults.next_put("by_kind/_delta_log", Fault::Hold(arrived, go_on));
    let overtake = async {
        at_commit.await.unwrap();
        let events = other.seal().await;
        go.send(()).unwrap();
        events
    };
    let (first, second) = both(one.seal(), overtake).await;
    assert!(matches!(second[..], [SealEvent::Sealed { .. }]), "{second:?}");
    assert_eq!(first, [SealEvent::Overtaken]);
    assert_eq!(rows_of(&lake, SEALED).await.len(), 2);
    assert_eq!(lake.faults.puts("by_kind/_date"), 2, "both had made their rows");
}

#[tokio::test]
async fn windows_of_many_days_are_sealed_a_bounded_number_of_days_at_a_time() {
    let lake = Lake::in_memory();
    let contract = contract_with("");
    let mut house = house(&lake, &contract).await;
    house.committer.register(&[register("a")]).await.unwrap();
    let mut at = after(0);
    for day in 0..70u64 {
        let one = Order { arrived_ms: 70 * 86_400_000, ..order(day + 1, day as i64 * 86_400_000 - 5) };
        let batch = house.batch("a", at, &[one], None);
        house.commit([batch]).await;
        at = after(day + 1);
    }
    let idle = house.batch("a", at, &[], Some(80 * 86_400_000));
    house.commit([idle]).await;
    let rows = |event: &SealEvent| if let SealEvent::Sealed { rows, .. } = event { Some(*rows) } else { None };
    let sealed: Vec<Option<u64>> = house.seal().await.iter().map(rows).collect();
    assert_eq!(sealed, [Some(32), Some(32), Some(6)]);
    assert_eq!(rows_of(&lake, SEALED).await.len(), 70);
}

/// Puts the rows of the partials file of this version into another order, one row group a row. Returns where it was.
pub async fn rewrite(lake: &Lake, version: u64, order: impl FnOnce(u32) -> Vec<u32>) -> object_store::path::Path {
    rewrite_in(lake, version, order, TimeUnit::Microsecond).await
}

/// The same, with times in this unit.
async fn rewrite_in(
    lake: &Lake,
    version: u64,
    order: impl FnOnce(u32) -> Vec<u32>,
    unit: TimeUnit,
) -> object_store::path::Path {
    let entry = lake.entry(SEALED_PARTIALS, version).await;
    let mut add = entry.iter().find_map(|action| action.get("add")).unwrap().clone();
    let path = add["path"].as_str().unwrap().to_owned();
    let (bytes, _) = lake.store.read(&lake.store.path(SEALED_PARTIALS, &path)).await.unwrap().unwrap();
    let batches: Vec<RecordBatch> = ParquetRecordBatchReaderBuilder::try_new(bytes)
        .unwrap()
        .with_batch_size(1 << 20)
        .build()
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let [batch] = &batches[..] else { panic!("{batches:?}") };
    let order = deltalake::arrow::array::UInt32Array::from(order(batch.num_rows() as u32));
    let reordered = deltalake::arrow::compute::take_record_batch(batch, &order).unwrap();
    let reordered = with_times_in(unit, &reordered);
    let properties = deltalake::parquet::file::properties::WriterProperties::builder();
    let properties = properties.set_max_row_group_row_count(Some(1)).build();
    let writer = deltalake::parquet::arrow::ArrowWriter::try_new(Vec::new(), reordered.schema(), Some(properties));
    let mut writer = writer.unwrap();
    // It writes what is more than a row group by calling itself.
    (0..reordered.num_rows()).for_each(|row| writer.write(&reordered.slice(row, 1)).unwrap());
    let bytes = writer.into_inner().unwrap();
    add["path"] = "_date=1970-01-01/foreign.parquet".into();
    add["size"] = bytes.len().into();
    add["dataChange"] = false.into();
    let location = lake.store.path(SEALED_PARTIALS, "_date=1970-01-01/foreign.parquet");
    lake.faults.inner().put(&location, bytes.into()).await.unwrap();
    let remove = serde_json::json!({ "remove": { "path": path, "deletionTimestamp": 1, "dataChange": false } });
    lake.foreign(SEALED_PARTIALS, &[remove, serde_json::json!({ "add": add })]).await;
    lake.store.path(SEALED_PARTIALS, &path)
}

fn with_times_in(unit: TimeUnit, rows: &RecordBatch) -> RecordBatch {
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns()).map(|(field, column)| {
        let is_time = column.as_primitive_opt::<TimestampMicrosecondType>().is_some();
        let to = DataType::Timestamp(unit, Some("UTC".into()));
        let column = if is_time { cast(column, &to).unwrap() } else { Arc::clone(column) };
        (field.name().clone(), column, field.is_nullable())
    });
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

#[tokio::test]
async fn a_file_that_somebody_rewrote_with_times_in_another_unit_is_the_same_file() {
    for unit in [TimeUnit::Nanosecond, TimeUnit::Millisecond] {
        let lake = Lake::in_memory();
        let mut house = with_orders(&lake).await;
        rewrite_in(&lake, 1, |rows| (0..rows).collect(), unit).await;
        assert_eq!(house.seal().await.len(), 1, "{unit:?}");
        assert_eq!(rows_of(&lake, SEALED).await, [row(0, "even", 1, 2, false), row(0, "odd", 2, 4, false)], "{unit:?}");
    }
}

#[tokio::test]
async fn a_file_that_somebody_rewrote_in_disorder_is_merged_all_the_same() {
    let lake = Lake::in_memory();
    let mut house = with_orders(&lake).await;
    // As an engine does that concatenates: the later window first, each key in two places.
    rewrite(&lake, 1, |rows| (0..rows).rev().chain(0..rows).collect()).await;
    assert_eq!(house.seal().await.len(), 1);
    assert_eq!(rows_of(&lake, SEALED).await, [row(0, "even", 2, 4, false), row(0, "odd", 4, 8, false)]);
}

#[tokio::test]
async fn a_file_in_the_opposite_order_is_put_in_order() {
    let lake = Lake::in_memory();
    let mut house = house(&lake, &contract_with("")).await;
    house.committer.register(&[register("a")]).await.unwrap();
    let keys = crate::limits::MERGE_CURSORS_MAX as u64 + 200;
    let kind = |id: u64| -> &'static str { Box::leak(format!("k{id}").into_boxed_str()) };
    let orders: Vec<Order> = (1..=keys).map(|id| Order { kind: kind(id), ..order(id, 3_000) }).collect();
    let first = house.batch("a", after(0), &orders, Some(20_000));
    house.commit([first]).await;
    let idle = house.batch("a", after(keys), &[], Some(20_000));
    house.commit([idle]).await;
    rewrite(&lake, 1, |rows| (0..rows).rev().collect()).await;
    house.seal().await;
    let sealed = rows_of(&lake, SEALED).await;
    assert_eq!((sealed.len() as u64, sealed.iter().map(|row| row.records).sum::<i64>() as u64), (keys, keys));
}

/// Its rows are several times what is put in order in memory at once, and each key stands in it twice, far apart.
#[tokio::test]
async fn a_large_file_in_no_order_is_put_in_order_in_passes() {
    let lake = Lake::in_memory();
    let mut house = house(&lake, &contract_with("")).await;
    house.committer.register(&[register("a")]).await.unwrap();
    let keys = 2_400;
    let kind = |id: u64| -> &'static str { Box::leak(format!("{id:0>16384}").into_boxed_str()) };
    let orders: Vec<Order> = (1..=keys).map(|id| Order { kind: kind(id), ..order(id, 3_000) }).collect();
    let first = house.batch("a", after(0), &orders, Some(20_000));
    house.commit([first]).await;
    let idle = house.batch("a", after(keys), &[], Some(20_000));
    house.commit([idle]).await;
    // 1,009 has no divisor in common with the number of rows.
    rewrite(&lake, 1, |rows| (0..2 * rows).map(|at| at * 1_009 % rows).collect()).await;
    let events = house.seal().await;
    assert!(matches!(events[..], [SealEvent::Sealed { .. }]), "{events:?}");
    let sealed = rows_of(&lake, SEALED).await;
    assert_eq!((sealed.len() as u64, sealed.iter().map(|row| row.records).sum::<i64>() as u64), (keys, 2 * keys));
    assert!(sealed.iter().all(|row| row.records == 2));
}

#[tokio::test]
async fn a_look_at_nothing_new_costs_one_request() {
    let lake = Lake::in_memory();
    let mut house = with_orders(&lake).await;
    house.seal().await;
    house.seal().await;
    let before = lake.faults.calls();
    assert_eq!(house.seal().await, []);
    assert_eq!(lake.faults.calls() - before, 1);
}

// === Corrections ===

pub const REVISED: &str = "seal = \"revise\"\nrevise_for = \"1m\"";

fn revised(revision: i64, row: Row) -> Row {
    Row { revision: Some(revision), ..row }
}

pub fn late(id: u64, at_ms: i64) -> Order {
    Order { arrived_ms: 13_000, ..order(id, at_ms) }
}

/// A house whose orders 1 to 3 are sealed, and corrected.
pub async fn with_sealed_orders(lake: &Lake) -> House {
    let mut house = house(lake, &contract_with(REVISED)).await;
    house.committer.register(&[register("a")]).await.unwrap();
    let orders = [order(1, 3_000), order(2, 4_000), order(3, 9_999), order(4, 12_000), order(5, 12_001)];
    let batch = house.batch("a", after(0), &orders, None);
    house.commit([batch]).await;
    assert_eq!(house.seal().await.len(), 1);
    house
}

/// (revision, rows) of every correction.
pub fn corrections(events: &[SealEvent]) -> Vec<(i64, u64)> {
    let revised = |event: &SealEvent| {
        if let SealEvent::Revised { revision, rows, .. } = event { Some((*revision, *rows)) } else { None }
    };
    events.iter().filter_map(revised).collect()
}

#[tokio::test]
async fn a_key_that_got_late_records_gets_a_row_with_the_next_revision_and_the_others_none() {
    let lake = Lake::in_memory();
    let mut house = with_sealed_orders(&lake).await;
    let first = house.batch("a", after(5), &[late(6, 5_000), late(8, 6_000)], None);
    house.commit([first]).await;
    let events = house.seal().await;
    assert_eq!((&events[0], corrections(&events)), (&SealEvent::Late { records: 2 }, vec![(1, 1)]));
    let new_key = Order { kind: "new", ..late(9, 7_000) };
    let second = house.batch("a", after(8), &[new_key, late(11, 8_000)], None);
    house.commit([second]).await;
    assert_eq!(corrections(&house.seal().await), [(2, 2)]);
    assert_eq!(house.seal().await, [], "nothing more to correct");
    let said = lake.entry(SEALED, 3).await;
    let from_version = said.iter().find_map(|action| action["commitInfo"]["partialsVersion"].as_u64());
    assert_eq!(from_version, Some(3), "what it was made from is on record");
    let mut expected = [
        row(0, "even", 1, 2, false),
        revised(1, row(0, "even", 3, 16, false)),
        revised(2, row(0, "new", 1, 9, false)),
        row(0, "odd", 2, 4, false),
        revised(2, row(0, "odd", 3, 15, false)),
    ];
    expected.sort();
    assert_eq!(rows_of(&lake, SEALED).await, expected);
}

#[tokio::test]
async fn what_came_late_to_many_windows_is_corrected_in_one_commit() {
    for seal in [REVISED.to_owned(), format!("{HOPPING}\n{REVISED}")] {
        let lake = Lake::in_memory();
        let mut house = house(&lake, &contract_with(&seal)).await;
        house.committer.register(&[register("a")]).await.unwrap();
        let orders: Vec<Order> = (0..6).map(|at| order(2 * (at + 1), at as i64 * 10_000)).collect();
        let first = house.batch("a", after(0), &orders, None);
        house.commit([first]).await;
        house.seal().await;
        let sealed = rows_of(&lake, SEALED).await;
        let late: Vec<Order> =
            [1, 3, 4].iter().map(|at| Order { arrived_ms: 52_000, ..order(20 + at, *at as i64 * 10_000) }).collect();
        let second = house.batch("a", after(12), &late, None);
        house.commit([second]).await;
        let events = house.seal().await;
        let [(1, corrected)] = corrections(&events)[..] else { panic!("{events:?}") };
        let rows = rows_of(&lake, SEALED).await;
        assert_eq!(rows.len(), sealed.len() + corrected as usize);
        let last: BTreeMap<_, _> = rows.iter().map(|row| ((row.start_ms, &row.kind), row.records)).collect();
        assert!([10_000, 30_000].iter().all(|at| last[&(*at, &Some("odd".to_owned()))] == 1), "{last:?}");
        assert_eq!(house.seal().await, [], "nothing more to correct");
    }
}

#[tokio::test]
async fn what_came_late_before_a_start_is_found_by_comparing_once() {
    let lake = Lake::in_memory();
    let mut dying = with_sealed_orders(&lake).await;
    let batch = dying.batch("a", after(5), &[late(6, 5_000)], None);
    dying.commit([batch]).await;
    let mut next = house(&lake, &dying.contract).await;
    assert_eq!(corrections(&next.seal().await), [(1, 1)]);
    assert_eq!(next.seal().await, []);
    let before = lake.faults.calls();
    assert_eq!(next.seal().await, []);
    assert_eq!(lake.faults.calls() - before, 1, "it compares no more");
    assert_eq!(dying.seal().await, [SealEvent::Late { records: 1 }], "it is corrected already");
}

#[tokio::test]
async fn of_two_that_correct_at_once_one_gives_way_and_finds_it_done() {
    let lake = Lake::in_memory();
    let mut one = with_sealed_orders(&lake).await;
    let batch = one.batch("a", after(5), &[late(6, 5_000)], None);
    one.commit([batch]).await;
    let mut other = house(&lake, &one.contract).await;
    let ((arrived, at_commit), (go, go_on)) = (oneshot::channel(), oneshot::channel());
    lake.faults.next_put("by_kind/_delta_log", Fault::Hold(arrived, go_on));
    let overtake = async {
        at_commit.await.unwrap();
        let events = other.seal().await;
        go.send(()).unwrap();
        events
    };
    let (first, second) = both(one.seal(), overtake).await;
    assert_eq!((corrections(&second), first.last()), (vec![(1, 1)], Some(&SealEvent::Overtaken)));
    assert_eq!(corrections(&one.seal().await), []);
    assert_eq!(rows_of(&lake, SEALED).await.len(), 3);
}

#[tokio::test]
async fn windows_that_ended_too_long_ago_are_not_corrected() {
    let lake = Lake::in_memory();
    let mut house = with_sealed_orders(&lake).await;
    let batch = house.batch("a", after(5), &[Order { arrived_ms: 90_000, ..order(6, 5_000) }, order(7, 90_000)], None);
    house.commit([batch]).await;
    let events = house.seal().await;
    assert_eq!((&events[0], corrections(&events)), (&SealEvent::Late { records: 1 }, vec![]));
}

#[tokio::test]
async fn a_correction_whose_answer_is_lost_is_made_once() {
    for fault in [Fault::LoseAnswer, Fault::ConflictWithItself, Fault::Fail] {
        let lake = Lake::in_memory();
        let mut house = with_sealed_orders(&lake).await;
        let batch = house.batch("a", after(5), &[late(6, 5_000)], None);
        house.commit([batch]).await;
        lake.faults.next_put("by_kind/_delta_log", fault);
        house.seal().await;
        house.seal().await;
        let corrected = revised(1, row(0, "even", 2, 8, false));
        assert_eq!(rows_of(&lake, SEALED).await.iter().filter(|row| **row == corrected).count(), 1);
        assert_eq!(rows_of(&lake, SEALED).await.len(), 3);
    }
}

#[tokio::test]
async fn corrections_of_many_days_are_made_a_bounded_number_of_days_at_a_time() {
    let lake = Lake::in_memory();
    let mut house = house(&lake, &contract_with("seal = \"revise\"\nrevise_for = \"100d\"")).await;
    house.committer.register(&[register("a")]).await.unwrap();
    let day_ms = 86_400_000;
    let orders = |first: u64| {
        let on =
            move |day: u64| Order { arrived_ms: 70 * day_ms, kind: "x", ..order(first + day, day as i64 * day_ms) };
        (0..40).map(on).collect::<Vec<_>>()
    };
    let first = house.batch("a", after(0), &orders(1), None);
    house.commit([first]).await;
    let idle = house.batch("a", after(40), &[], Some(70 * day_ms));
    house.commit([idle]).await;
    house.seal().await;
    assert_eq!(rows_of(&lake, SEALED).await.len(), 40);
    let again = house.batch("a", after(40), &orders(101), None);
    house.commit([again]).await;
    assert_eq!(corrections(&house.seal().await).iter().map(|(_, rows)| rows).sum::<u64>(), 40);
    assert_eq!(rows_of(&lake, SEALED).await.iter().filter(|row| row.records == 2).count(), 40);
}

// === Windows that overlap ===

const HOPPING: &str = "hop = \"5s\"";

#[tokio::test]
async fn a_window_that_slides_is_sealed_as_the_sum_of_its_panes() {
    let lake = Lake::in_memory();
    let mut house = house(&lake, &contract_with(HOPPING)).await;
    house.committer.register(&[register("a")]).await.unwrap();
    let orders = [order(1, 3_000), order(2, 4_000), order(3, 6_000), order(5, 16_000), order(7, 31_000)];
    let first = house.batch("a", after(0), &orders, None);
    house.commit([first]).await;
    let events = house.seal().await;
    assert!(matches!(events[..], [SealEvent::Sealed { through_ms: 25_000, .. }]), "{events:?}");
    let expected = [
        row(-5_000, "even", 1, 2, false),
        row(-5_000, "odd", 1, 1, false),
        row(0, "even", 1, 2, false),
        row(0, "odd", 2, 4, false),
        row(5_000, "odd", 1, 3, true),
        row(10_000, "odd", 1, 5, true),
        row(15_000, "odd", 1, 5, true),
    ];
    assert_eq!(rows_of(&lake, SEALED).await, expected);
    assert_eq!(house.seal().await, []);

    // The next window to be sealed shares a pane with one that is.
    let late = house.batch("a", after(7), &[Order { arrived_ms: 32_000, ..order(9, 21_000) }], None);
    house.commit([late]).await;
    assert_eq!(house.seal().await, [SealEvent::Late { records: 1 }], "it belongs to a window that is sealed");
    let idle = house.batch("a", after(9), &[], Some(32_000));
    house.commit([idle]).await;
    house.seal().await;
    assert_eq!(rows_of(&lake, SEALED).await[7..], [row(20_000, "odd", 1, 9, true)]);
}

#[tokio::test]
async fn a_late_record_corrects_every_window_that_holds_its_pane() {
    let lake = Lake::in_memory();
    let mut house = house(&lake, &contract_with(&format!("{HOPPING}\n{REVISED}"))).await;
    house.committer.register(&[register("a")]).await.unwrap();
    let first = house.batch("a", after(0), &[order(1, 3_000), order(3, 31_000)], None);
    house.commit([first]).await;
    house.seal().await;
    let late = [Order { arrived_ms: 32_000, ..order(5, 4_000) }, Order { arrived_ms: 32_000, ..order(7, 9_000) }];
    let second = house.batch("a", after(3), &late, None);
    house.commit([second]).await;
    let corrected: u64 = corrections(&house.seal().await).iter().map(|(_, rows)| rows).sum();
    assert_eq!(corrected, 3);
    let mut last = BTreeMap::new();
    for row in rows_of(&lake, SEALED).await {
        last.insert(row.start_ms, (row.records, row.total));
    }
    assert_eq!(last, BTreeMap::from([(-5_000, (2, 6)), (0, (3, 13)), (5_000, (1, 7))]));
}

#[tokio::test]
async fn a_file_in_disorder_is_read_right_by_looks_that_want_different_parts_of_it() {
    let lake = Lake::in_memory();
    let mut house = house(&lake, &contract_with("")).await;
    house.committer.register(&[register("a")]).await.unwrap();
    let orders: Vec<Order> = (1..=12).map(|id| Order { kind: "x", ..order(id, id as i64 * 5_000) }).collect();
    let first = house.batch("a", after(0), &orders, None);
    house.commit([first]).await;
    rewrite(&lake, 1, |rows| (0..rows).step_by(2).chain((1..rows).step_by(2)).rev().collect()).await;
    house.seal().await;
    let early = rows_of(&lake, SEALED).await.len();
    let idle = house.batch("a", after(12), &[], Some(100_000));
    house.commit([idle]).await;
    house.seal().await;
    let sealed = rows_of(&lake, SEALED).await;
    assert!(early < sealed.len(), "two looks");
    assert_eq!(sealed.iter().map(|row| row.records).sum::<i64>(), 12);
    assert_eq!(sealed.iter().map(|row| row.total).sum::<i128>(), 78);
}
