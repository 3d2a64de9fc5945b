//! The store as the reader, the writer and the page use it, against plain counting.

mod gauges;

use std::collections::BTreeMap;
use std::sync::Arc;

use deltalake::arrow::array::{
    ArrayRef, AsArray, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use proptest::prelude::*;

use super::*;
use crate::budget::Permit;
use crate::checkpoint::SequenceNumber;
use crate::contract;
use crate::metrics::Registry;
use crate::record::ShardGrant;
use crate::toml_doc::Problems;

const CONTRACT: &str = r#"
table = "orders"

[[column]]
name = "place"
type = "string"

[[column]]
name = "amount"
type = "integer"

[[column]]
name = "weight"
type = "double"

[[window]]
name = "by_place"
every = "1m"
by = ["place"]
measure = { n = "count", total = "sum(amount)", low = "min(amount)", high = "max(weight)", mass = "sum(weight)", average = "mean(amount)" }

[[window]]
name = "by_size"
every = "1h"
by = [{ name = "size", bucket = "amount", bounds = [0, 10], labels = ["small", "large"] }]
measure = { n = "count" }
"#;

const MINUTE_US: i64 = 60_000_000;

#[derive(Debug, Clone)]
struct Order {
    place: Option<&'static str>,
    amount: Option<i32>,
    weight: Option<f64>,
    arrived_at_us: i64,
}

fn windows() -> StreamWindows {
    let problems = Problems::default();
    let contract = contract::parse("orders.toml", CONTRACT.to_owned(), &problems);
    problems.into_result().unwrap();
    StreamWindows::new("orders", Arc::new(contract.unwrap()), Registry::new().unwrap().stream("orders"))
}

fn after(number: u32) -> Position {
    Position::After(SequenceNumber::parse(&number.to_string()).unwrap())
}

fn range(shard: &str, from: u32, through: u32) -> PositionRange {
    PositionRange { shard: ShardId::new(shard), after: after(from), through: after(through) }
}

fn batch(windows: &StreamWindows, range: PositionRange, orders: &[Order]) -> CleanBatch {
    let times = || orders.iter().map(|order| order.arrived_at_us);
    let shard = range.shard.as_str().to_owned();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(orders.iter().map(|order| order.place).collect::<StringArray>()),
        Arc::new(orders.iter().map(|order| order.amount).collect::<Int32Array>()),
        Arc::new(orders.iter().map(|order| order.weight).collect::<Float64Array>()),
        Arc::new(StringArray::from_iter_values(orders.iter().map(|_| shard.clone()))),
        Arc::new(StringArray::from_iter_values(orders.iter().map(|_| "1"))),
        Arc::new(Int64Array::from_iter_values(orders.iter().map(|_| 0))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(times()).with_timezone("UTC")),
        Arc::new(Int64Array::new_null(orders.len())),
        Arc::new(Date32Array::from_iter_values(times().map(|us| us.div_euclid(86_400_000_000) as i32))),
    ];
    CleanBatch {
        range,
        rows: RecordBatch::try_new(Arc::clone(&windows.contract.rows_schema), columns).unwrap(),
        rejects: Vec::new(),
        seen_ms: None,
        end: None,
        grant: ShardGrant::new(),
        permit: Permit::default(),
    }
}

fn order(place: &'static str, amount: i32, minute: i64) -> Order {
    Order { place: Some(place), amount: Some(amount), weight: None, arrived_at_us: minute * MINUTE_US + 5 }
}

/// (start minute, place) -> (records, pending), as the page shows it.
fn places(windows: &StreamWindows) -> BTreeMap<(i64, String), (u64, u64)> {
    let live = windows.live(&LiveFilter { window: Some("by_place".to_owned()), starts_max: None });
    let starts = live.into_iter().flat_map(|window| window.starts);
    starts
        .flat_map(|start| start.rows.into_iter().map(move |row| (start.start_ms / 60_000, row)))
        .map(|(minute, row)| ((minute, row.key[0].to_string()), (row.records, row.pending)))
        .collect()
}

#[test]
fn a_commit_moves_cells_from_pending_to_committed_and_the_view_stays_the_same() {
    let windows = windows();
    windows.observe(&batch(&windows, range("a", 0, 2), &[order("x", 1, 7), order("y", 2, 7)])).unwrap();
    windows.observe(&batch(&windows, range("a", 2, 3), &[order("x", 3, 7)])).unwrap();
    windows.observe(&batch(&windows, range("b", 0, 1), &[order("x", 4, 8)])).unwrap();
    let key = |minute: i64, place: &str| (minute, format!("\"{place}\""));
    let expected = [(key(7, "x"), (2, 2)), (key(7, "y"), (1, 1)), (key(8, "x"), (1, 1))];
    assert_eq!(places(&windows), BTreeMap::from(expected));

    windows.committed(&[range("a", 0, 2)], 4);
    let expected = [(key(7, "x"), (2, 1)), (key(7, "y"), (1, 0)), (key(8, "x"), (1, 1))];
    assert_eq!(places(&windows), BTreeMap::from(expected));
    assert_eq!(windows.live(&LiveFilter::default())[0].committed_version, 4);
}

#[test]
fn partials_hold_exactly_the_records_of_their_ranges() {
    let windows = windows();
    windows.observe(&batch(&windows, range("a", 0, 2), &[order("x", 1, 7), order("x", 20, 7)])).unwrap();
    windows.observe(&batch(&windows, range("a", 2, 3), &[order("x", 3, 7)])).unwrap();
    let partials = windows.partials(&[range("a", 0, 2)]);
    let rows = &partials[0];
    assert_eq!(rows.schema(), windows.contract.windows[0].partials_schema);
    assert_eq!(rows.num_rows(), 1);
    let long = |name: &str| {
        rows.column_by_name(name).unwrap().as_primitive::<deltalake::arrow::datatypes::Int64Type>().value(0)
    };
    assert_eq!((long("n"), long("records"), long("average_count")), (2, 2, 2));
    let sum = rows.column_by_name("total").unwrap().as_primitive::<deltalake::arrow::datatypes::Decimal128Type>();
    assert_eq!((sum.value(0), sum.precision(), sum.scale()), (21, 38, 0));
    assert_eq!(partials[1].num_rows(), 2, "one small and one large order");
    assert_eq!(windows.partials(&[range("a", 0, 3)])[0].num_rows(), 1, "asking takes nothing away");
}

#[test]
fn a_fenced_shards_cells_count_for_nothing_and_its_late_batches_neither() {
    let windows = windows();
    let fenced = batch(&windows, range("a", 0, 1), &[order("x", 1, 7)]);
    windows.observe(&fenced).unwrap();
    fenced.grant.revoke();
    windows.discard(&ShardId::new("a"));
    windows.observe(&fenced).unwrap();
    assert!(places(&windows).is_empty());
    assert_eq!(windows.partials(&[range("a", 0, 1)])[0].num_rows(), 0);
}

#[test]
fn memory_holds_the_newest_starts_only() {
    let windows = windows();
    let minutes = crate::limits::LIVE_WINDOWS_MAX as i64 + 30;
    let orders: Vec<Order> = (0..minutes).map(|minute| order("x", 1, minute)).collect();
    windows.observe(&batch(&windows, range("a", 0, 1), &orders)).unwrap();
    windows.committed(&[range("a", 0, 1)], 1);
    let kept: Vec<i64> = places(&windows).into_keys().map(|(minute, _)| minute).collect();
    assert_eq!(kept, (30..minutes).collect::<Vec<_>>());
}

#[test]
fn a_straggler_does_not_bring_back_a_start_that_is_not_whole_in_memory() {
    let windows = windows();
    let minutes = crate::limits::LIVE_WINDOWS_MAX as i64 + 1;
    let orders: Vec<Order> = (0..minutes).map(|minute| order("x", 1, minute)).collect();
    windows.observe(&batch(&windows, range("a", 0, 1), &orders)).unwrap();
    windows.committed(&[range("a", 0, 1)], 1);
    windows.observe(&batch(&windows, range("a", 1, 2), &[order("x", 1, 0)])).unwrap();
    assert!(places(&windows).into_keys().all(|(minute, _)| minute > 0));

    let restarted = super::tests::windows();
    restarted.restore(0, 5 * MINUTE_US, &[]).unwrap();
    restarted.observe(&batch(&restarted, range("a", 0, 2), &[order("x", 1, 4), order("x", 1, 5)])).unwrap();
    assert_eq!(places(&restarted).into_keys().map(|(minute, _)| minute).collect::<Vec<_>>(), [5]);
}

fn orders() -> impl Strategy<Value = Vec<Order>> {
    let place = prop::option::of(prop::sample::select(vec!["x", "y", "z"]));
    let order =
        (place, prop::option::of(any::<i32>()), prop::option::of(-1e12..1e12f64), -3 * MINUTE_US..3 * MINUTE_US);
    let order = order.prop_map(|(place, amount, weight, arrived_at_us)| Order { place, amount, weight, arrived_at_us });
    prop::collection::vec(order, 0..40)
}

proptest! {
    #[test]
    fn restored_partials_show_what_was_counted_however_the_records_were_cut(
        parts in prop::collection::vec(orders(), 1..6),
    ) {
        let whole = windows();
        let all: Vec<Order> = parts.iter().flatten().cloned().collect();
        whole.observe(&batch(&whole, range("a", 0, 1), &all)).unwrap();
        whole.committed(&[range("a", 0, 1)], 9);

        let (source, restored) = (windows(), windows());
        for (index, part) in parts.iter().enumerate() {
            let shard = format!("shard-{index}");
            let covered = [range(&shard, 0, 1)];
            source.observe(&batch(&source, covered[0].clone(), part)).unwrap();
            for (window, rows) in source.partials(&covered).iter().enumerate() {
                restored.restore(window, i64::MIN, std::slice::from_ref(rows)).unwrap();
            }
        }
        restored.committed(&[], 9);
        let (expected, found) = (whole.live(&LiveFilter::default()), restored.live(&LiveFilter::default()));
        for (expected, found) in expected.iter().zip(&found) {
            for (expected, found) in expected.starts.iter().zip(&found.starts) {
                prop_assert_eq!((expected.start_ms, expected.records), (found.start_ms, found.records));
                for (expected, found) in expected.rows.iter().zip(&found.rows) {
                    prop_assert_eq!((&expected.key, expected.records), (&found.key, found.records));
                    for (expected, found) in expected.measures.iter().zip(&found.measures) {
                        let close = match (expected.as_f64(), found.as_f64()) {
                            (Some(a), Some(b)) => (a - b).abs() <= 1e-12 * 40.0 * 6.0 * 1e12,
                            _ => expected == found,
                        };
                        prop_assert!(close, "{} {}", expected, found);
                    }
                }
            }
            prop_assert_eq!(expected.starts.len(), found.starts.len());
        }
    }
}

#[test]
fn a_batch_that_was_read_a_second_time_is_not_of_the_commit_of_the_first() {
    let through = |n: u32| Position::After(SequenceNumber::parse(&n.to_string()).unwrap());
    let pending = |ends: &[u32]| -> VecDeque<Pending> {
        ends.iter().map(|n| Pending { grant: ShardGrant::new(), through: through(*n), windows: Vec::new() }).collect()
    };
    for (ends, covered) in [([5, 10, 15], 2), ([5, 10, 10], 2), ([5, 10, 5], 2), ([10, 10, 20], 1), ([11, 5, 10], 0)] {
        assert_eq!(covered_by(&pending(&ends), through(10)), covered, "{ends:?}");
    }
}
