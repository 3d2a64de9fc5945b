//! The store as the reader, the writer and the page use it, against plain counting.

mod gauges;
mod sharing;

use std::collections::BTreeMap;
use std::sync::Arc;

use deltalake::arrow::array::{
    ArrayRef, AsArray, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use proptest::prelude::*;

use super::*;
use crate::budget::Permit;
use crate::checkpoint::{Position, SequenceNumber};
use crate::contract;
use crate::metrics::Registry;
use crate::record::{LeftOver, ShardGrant};
use crate::toml_doc::Problems;

const COLUMNS: &str = r#"
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

[[column]]
name = "at"
type = "timestamp"
"#;

const WINDOWS: &str = r#"
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

[[window]]
name = "large_lately"
every = "3m"
hop = "1m"
time = "at"
where = "amount >= 10 and place in ('x', 'y')"
by = ["place"]
measure = { n = "count", total = "sum(amount)", newest = "last(amount)" }
"#;

const MINUTE_US: i64 = 60_000_000;

#[derive(Debug, Clone)]
pub(super) struct Order {
    place: Option<&'static str>,
    amount: Option<i32>,
    weight: Option<f64>,
    at_us: Option<i64>,
    arrived_at_us: i64,
}

pub(super) fn windows() -> StreamWindows {
    windows_of(&format!("{COLUMNS}{WINDOWS}"))
}

/// The same, and where their metrics are.
pub(super) fn measured_windows() -> (StreamWindows, Registry) {
    let registry = Registry::new().unwrap();
    (windows_in(&registry, &format!("{COLUMNS}{WINDOWS}")), registry)
}

fn windows_of(contract: &str) -> StreamWindows {
    windows_in(&Registry::new().unwrap(), contract)
}

fn windows_in(registry: &Registry, contract: &str) -> StreamWindows {
    let problems = Problems::default();
    let contract = contract::parse("orders.toml", contract.to_owned(), &problems);
    problems.into_result().unwrap();
    StreamWindows::new("orders", Arc::new(contract.unwrap()), registry.stream("orders"))
}

pub(super) fn after(number: u32) -> Position {
    Position::After(SequenceNumber::parse(&number.to_string()).unwrap())
}

pub(super) fn range(shard: &str, from: u32, through: u32) -> PositionRange {
    PositionRange { shard: ShardId::new(shard), after: after(from), through: after(through) }
}

pub(super) fn batch(windows: &StreamWindows, range: PositionRange, orders: &[Order]) -> CleanBatch {
    let times = || orders.iter().map(|order| order.arrived_at_us);
    let shard = range.shard.as_str().to_owned();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(orders.iter().map(|order| order.place).collect::<StringArray>()),
        Arc::new(orders.iter().map(|order| order.amount).collect::<Int32Array>()),
        Arc::new(orders.iter().map(|order| order.weight).collect::<Float64Array>()),
        Arc::new(orders.iter().map(|order| order.at_us).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
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
        watermark_ms: None,
        end: None,
        left: LeftOver::default(),
        grant: ShardGrant::new(),
        permit: Permit::default(),
    }
}

pub(super) fn order(place: &'static str, amount: i32, minute: i64) -> Order {
    let arrived_at_us = minute * MINUTE_US + 5;
    Order { place: Some(place), amount: Some(amount), weight: None, at_us: None, arrived_at_us }
}

/// (start minute, place) -> (records, pending), as the page shows it.
fn places(windows: &StreamWindows) -> BTreeMap<(i64, String), (u64, u64)> {
    let live = windows.live(&LiveFilter { window: Some("by_place".to_owned()), ..LiveFilter::default() });
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
fn a_fenced_shards_cells_are_in_no_partial_and_its_late_batches_count_for_nothing() {
    let windows = windows();
    let fenced = batch(&windows, range("a", 0, 1), &[order("x", 1, 7)]);
    fenced.grant.revoke();
    windows.observe(&fenced).unwrap();
    assert!(places(&windows).is_empty(), "it came too late to be seen");
    let fenced = batch(&windows, range("a", 0, 1), &[order("x", 1, 7)]);
    windows.observe(&fenced).unwrap();
    fenced.grant.revoke();
    windows.discard(&ShardId::new("a"));
    windows.observe(&fenced).unwrap();
    assert_eq!(windows.partials(&[range("a", 0, 1)])[0].num_rows(), 0);
    assert_eq!(of_x(&windows), 1, "what was seen stays on show");
}

/// Records of place x in minute 7.
fn of_x(windows: &StreamWindows) -> u64 {
    places(windows).get(&(7, "\"x\"".to_owned())).map_or(0, |(records, _)| *records)
}

/// A batch of one record of x a number.
fn numbered(windows: &StreamWindows, from: u32, through: u32) -> CleanBatch {
    let orders: Vec<Order> = (from..through).map(|number| order("x", number as i32, 7)).collect();
    batch(windows, range("a", from, through), &orders)
}

#[test]
fn what_a_fence_discards_stays_on_show_until_it_was_read_again_however_that_is_cut_and_committed() {
    let windows = windows();
    let (first, second) = (numbered(&windows, 0, 4), numbered(&windows, 4, 10));
    windows.observe(&first).unwrap();
    windows.committed(&[range("a", 0, 4)], 1);
    windows.observe(&second).unwrap();
    second.grant.revoke();
    windows.discard(&ShardId::new("a"));
    assert_eq!(of_x(&windows), 10);
    for (from, through, shown) in [(4, 6, 10), (6, 9, 10), (9, 12, 12), (12, 13, 13)] {
        windows.observe(&numbered(&windows, from, through)).unwrap();
        assert_eq!(of_x(&windows), shown, "after {through}");
        if through == 6 {
            windows.committed(&[range("a", 4, 6)], 2);
            assert_eq!(of_x(&windows), shown, "a commit of what is read again shows nothing twice");
        }
    }
    windows.committed(&[range("a", 6, 13)], 3);
    let all = places(&windows);
    assert_eq!(all[&(7, "\"x\"".to_owned())], (13, 0), "in the end everything once, and committed");
}

#[derive(Debug, Clone)]
enum Step {
    Read(u32),
    /// Through one of the ends that are not committed yet.
    Commit(prop::sample::Index),
    Fence,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1u32..4).prop_map(Step::Read),
        2 => any::<prop::sample::Index>().prop_map(Step::Commit),
        1 => Just(Step::Fence),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #[test]
    fn whatever_is_fenced_and_read_again_the_view_shows_every_record_that_was_ever_seen_once(steps in steps()) {
        let windows = windows();
        let (mut committed, mut highest, mut ends) = (0, 0, Vec::new());
        for step in steps {
            let read = ends.last().copied().unwrap_or(committed);
            match step {
                Step::Read(records) => {
                    windows.observe(&numbered(&windows, read, read + records)).unwrap();
                    ends.push(read + records);
                    highest = highest.max(read + records);
                }
                Step::Commit(_) if ends.is_empty() => {}
                Step::Commit(index) => {
                    let through = *index.get(&ends);
                    windows.committed(&[range("a", committed, through)], 1);
                    ends.retain(|end| *end > through);
                    committed = through;
                }
                Step::Fence => {
                    if let Some(shard) = windows.pending.get_mut(&ShardId::new("a")) {
                        shard.revoke_all();
                    }
                    windows.discard(&ShardId::new("a"));
                    ends.clear();
                }
            }
            prop_assert_eq!(of_x(&windows), u64::from(highest));
        }
        let read = ends.last().copied().unwrap_or(committed);
        windows.observe(&numbered(&windows, read, highest + 1)).unwrap();
        windows.committed(&[range("a", committed, highest + 1)], 2);
        prop_assert_eq!(places(&windows)[&(7, "\"x\"".to_owned())], (u64::from(highest) + 1, 0));
    }
}

#[test]
fn two_readers_of_a_shard_are_never_shown_side_by_side() {
    let windows = windows();
    let old = numbered(&windows, 0, 10);
    windows.observe(&old).unwrap();
    old.grant.revoke();
    windows.observe(&numbered(&windows, 0, 6)).unwrap();
    assert_eq!(of_x(&windows), 10, "before the first is discarded");
    windows.discard(&ShardId::new("a"));
    assert_eq!(of_x(&windows), 10);
    windows.observe(&numbered(&windows, 6, 11)).unwrap();
    assert_eq!(of_x(&windows), 11);
}

#[test]
fn a_second_fence_before_the_second_reading_has_caught_up_takes_nothing_off_the_view() {
    let windows = windows();
    for (from, through) in [(0, 10), (0, 5)] {
        let batch = numbered(&windows, from, through);
        windows.observe(&batch).unwrap();
        batch.grant.revoke();
        windows.discard(&ShardId::new("a"));
        assert_eq!(of_x(&windows), 10);
    }
    windows.observe(&numbered(&windows, 0, 11)).unwrap();
    windows.committed(&[range("a", 0, 11)], 1);
    assert_eq!(of_x(&windows), 11);
}

#[test]
fn nothing_is_shown_while_an_earlier_process_may_have_shown_more() {
    let windows = windows();
    windows.hold_back();
    windows.observe(&numbered(&windows, 0, 4)).unwrap();
    let live = &windows.live(&LiveFilter::default())[0];
    assert_eq!((live.catching_up, live.starts.len()), (true, 0));
    let gauges = |windows: &StreamWindows| windows.gauges(0, 5).iter().map(|window| window.starts.len()).sum::<usize>();
    assert_eq!(gauges(&windows), 0);
    windows.show();
    assert!(gauges(&windows) > 0);
    assert_eq!(of_x(&windows), 4);
}

#[test]
fn a_window_with_records_closes_when_the_watermark_passes_its_end_and_the_grace() {
    let windows = windows();
    let grace_ms = windows.contract.windows[0].grace_us / 1000;
    windows.observe(&batch(&windows, range("a", 0, 1), &[order("x", 1, 7)])).unwrap();
    for committed in [false, true] {
        if committed {
            windows.committed(&[range("a", 0, 1)], 1);
        }
        let closes = |from_ms, to_ms| windows.closes(from_ms, to_ms);
        let closed_ms = 8 * 60_000 + grace_ms;
        assert!(closes(Some(closed_ms - 1), closed_ms) && closes(None, closed_ms) && closes(Some(0), i64::MAX));
        assert!(!closes(None, closed_ms - 1), "the minute waits for stragglers");
        assert!(!closes(Some(closed_ms), closed_ms + 60_000), "the next minute has no record");
        let hour_ms = 3_600_000 + grace_ms;
        assert!(closes(Some(hour_ms - 1), hour_ms), "but the hour has");
    }
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
    restarted.restore_from(0, 5 * MINUTE_US);
    restarted.observe(&batch(&restarted, range("a", 0, 2), &[order("x", 1, 4), order("x", 1, 5)])).unwrap();
    assert_eq!(places(&restarted).into_keys().map(|(minute, _)| minute).collect::<Vec<_>>(), [5]);
}

#[test]
fn starts_ahead_of_the_clock_take_no_place_of_those_that_have_begun_and_never_come_back_in_parts() {
    let windows = windows();
    let kept = crate::limits::LIVE_WINDOWS_MAX as i64;
    let far = 4 * kept;
    let send = |from: u32, orders: &[Order], seen_minute: i64| {
        let mut sent = batch(&windows, range("a", from, from + 1), orders);
        sent.seen_ms = Some(seen_minute * 60_000);
        windows.observe(&sent).unwrap();
        windows.committed(&[range("a", from, from + 1)], from.into());
    };
    let minutes = || places(&windows).into_keys().map(|(minute, _)| minute).collect::<Vec<_>>();
    let wrong_clock: Vec<Order> = (11..far).map(|minute| order("x", 1, minute)).collect();
    send(0, &[order("x", 1, 9), order("x", 1, 10)], 10);
    send(1, &wrong_clock, 10);
    assert_eq!(minutes(), (9..11 + kept).collect::<Vec<_>>(), "the farthest go");

    send(2, &[order("x", 1, 9), order("x", 1, far - 1)], 10);
    assert_eq!(places(&windows)[&(9, "\"x\"".to_owned())].0, 2);
    assert_eq!(minutes(), (9..11 + kept).collect::<Vec<_>>(), "one record of two would be a wrong number");

    let later: Vec<Order> = (far..far + 3).map(|minute| order("x", 1, minute)).collect();
    send(3, &later, far + 2);
    assert_eq!(
        minutes(),
        (14..11 + kept).chain(far..far + 3).collect::<Vec<_>>(),
        "once they have begun, the oldest go"
    );
    let shown = minutes();
    windows.observe(&batch(&windows, range("a", 4, 5), &[order("x", 1, far - 1)])).unwrap();
    assert_eq!(minutes(), shown, "nor does one show what is not committed yet");
}

#[test]
fn a_start_a_little_ahead_of_the_clock_has_room_however_many_have_begun() {
    let windows = windows();
    let kept = crate::limits::LIVE_WINDOWS_MAX as i64;
    let begun: Vec<Order> = (0..kept + 20).map(|minute| order("x", 1, minute)).collect();
    let early = order("x", 1, kept + 20);
    for (from, orders) in [(0, begun), (1, vec![early]), (2, vec![order("x", 1, kept + 20)])] {
        let mut sent = batch(&windows, range("a", from, from + 1), &orders);
        sent.seen_ms = Some((kept + 20) * 60_000 - 1);
        windows.observe(&sent).unwrap();
        windows.committed(&[range("a", from, from + 1)], from.into());
    }
    assert_eq!(places(&windows)[&(kept + 20, "\"x\"".to_owned())].0, 2);
}

#[test]
fn starts_that_were_too_far_ahead_to_be_kept_are_told_once_they_have_begun() {
    let windows = windows();
    let far = 4 * crate::limits::LIVE_WINDOWS_MAX as i64;
    let orders: Vec<Order> = (10..far).map(|minute| order("x", 1, minute)).collect();
    let mut sent = batch(&windows, range("a", 0, 1), &orders);
    sent.seen_ms = Some(10 * 60_000);
    windows.observe(&sent).unwrap();
    windows.committed(&[range("a", 0, 1)], 1);
    let told = |minute: i64| {
        let now_ms = Some(minute * 60_000);
        let filter = LiveFilter { window: Some("by_place".to_owned()), now_ms, ..LiveFilter::default() };
        windows.live(&filter).remove(0).not_shown
    };
    assert_eq!(told(20), None);
    assert!(told(far - 1).unwrap().contains("so long before these began"));
}

/// (start minutes, ahead) of a window whose clock stands 30 s into `minute`.
fn shown_at(windows: &StreamWindows, window: &str, minute: i64, filter: LiveFilter) -> (Vec<i64>, Ahead) {
    let now_ms = Some(minute * 60_000 + 30_000);
    let live = windows.live(&LiveFilter { window: Some(window.to_owned()), now_ms, ..filter }).remove(0);
    (live.starts.iter().map(|start| start.start_ms.div_euclid(60_000)).collect(), live.ahead)
}

#[test]
fn the_newest_starts_are_those_that_have_begun_unless_times_are_asked_for() {
    let windows = windows();
    let orders = [order("x", 10, 6), order("x", 10, 7), order("x", 10, 8), order("x", 10, 9), order("y", 10, 1 << 24)];
    windows.observe(&batch(&windows, range("a", 0, 5), &orders)).unwrap();
    let ahead = |starts, records| Ahead { starts, records };
    let newest = |count| LiveFilter { starts_max: Some(count), ..LiveFilter::default() };
    let shown = |minute, filter| shown_at(&windows, "by_place", minute, filter);
    assert_eq!(shown(8, newest(2)), (vec![8, 7], ahead(2, 2)));
    assert_eq!(shown(9, newest(2)), (vec![9, 8], ahead(1, 1)), "a start is there as soon as it begins");
    assert_eq!(shown(8, LiveFilter::default()), (vec![1 << 24, 9, 8, 7, 6], ahead(2, 2)), "all there is");
    let since = LiveFilter { since_ms: Some(7 * 60_000), ..newest(3) };
    assert_eq!(shown(8, since), (vec![1 << 24, 9, 8], ahead(2, 2)), "whoever names a time means it");
    let of_x = LiveFilter { keys: vec![("place".to_owned(), "x".to_owned())], ..newest(1) };
    assert_eq!(shown(8, of_x), (vec![8], ahead(1, 1)));
    // Of windows that overlap, the newest ends with the pane of now.
    assert_eq!(shown_at(&windows, "large_lately", 8, newest(2)), (vec![6, 5], ahead(2, 2)));
}

#[test]
fn where_nothing_comes_any_more_windows_that_overlap_go_on_as_long_as_they_hold_something() {
    let windows = windows();
    windows.observe(&batch(&windows, range("a", 0, 1), &[order("x", 10, 7)])).unwrap();
    let at = |minute| shown_at(&windows, "large_lately", minute, LiveFilter::default()).0;
    assert_eq!([7, 8, 9, 10, 99].map(at), [vec![5], vec![6, 5], vec![7, 6, 5], vec![7, 6, 5], vec![7, 6, 5]]);
    let newest = |minute| {
        let two = LiveFilter { starts_max: Some(2), ..LiveFilter::default() };
        shown_at(&windows, "large_lately", minute, two).0
    };
    assert_eq!([7, 8, 99].map(newest), [vec![5], vec![6, 5], vec![7, 6]]);
}

/// (start minute, place, records, total, newest) of the window that slides, newest first.
fn large_lately(windows: &StreamWindows, starts_max: usize) -> Vec<(i64, String, u64, String, String)> {
    let filter =
        LiveFilter { window: Some("large_lately".to_owned()), starts_max: Some(starts_max), ..LiveFilter::default() };
    let window = windows.live(&filter).remove(0);
    assert_eq!((window.every_ms, window.hop_ms), (180_000, 60_000));
    let rows = window.starts.into_iter().flat_map(|start| {
        assert_eq!(start.end_ms, start.start_ms + 180_000);
        start.rows.into_iter().map(move |row| (start.start_ms / 60_000, row))
    });
    let told = rows.map(|(minute, row)| {
        let place = row.key[0].as_str().unwrap_or("null").to_owned();
        (minute, place, row.records, row.measures[1].to_string(), row.measures[2].to_string())
    });
    told.collect()
}

#[test]
fn a_sliding_window_counts_a_record_once_a_pane_and_shows_it_in_each_of_its_windows() {
    let windows = windows();
    let at = |minute: i64, order: Order| Order { at_us: Some(minute * MINUTE_US), ..order };
    let orders = [
        at(0, order("x", 10, 9)),
        at(1, order("x", 30, 8)),
        at(3, order("y", 50, 7)),
        // What is not counted: too small, of another place, without an amount.
        at(1, order("x", 9, 9)),
        at(1, order("z", 90, 9)),
        at(1, Order { amount: None, ..order("x", 0, 9) }),
        // Without a time of its own: its arrival, in minute 5.
        order("x", 70, 5),
    ];
    windows.observe(&batch(&windows, range("a", 0, 7), &orders)).unwrap();
    let partials = windows.partials(&[range("a", 0, 7)]).remove(2);
    let times = |name: &str| {
        let times = partials.column_by_name(name).unwrap();
        let times = times.as_primitive::<deltalake::arrow::datatypes::TimestampMicrosecondType>();
        times.values().iter().map(|us| us / MINUTE_US).collect::<Vec<i64>>()
    };
    assert_eq!((times("window_start"), times("window_end")), (vec![0, 1, 3, 5], vec![1, 2, 4, 6]));

    let row = |minute: i64, place: &str, records: u64, total: &str, newest: &str| {
        (minute, place.to_owned(), records, total.to_owned(), newest.to_owned())
    };
    let expected = [
        row(3, "x", 1, "70", "70"),
        row(3, "y", 1, "50", "50"),
        row(2, "y", 1, "50", "50"),
        row(1, "x", 1, "30", "30"),
        row(1, "y", 1, "50", "50"),
        row(0, "x", 2, "40", "30"),
        row(-1, "x", 2, "40", "30"),
        row(-2, "x", 1, "10", "10"),
    ];
    assert_eq!(large_lately(&windows, usize::MAX), expected);
    assert_eq!(large_lately(&windows, 2), expected[..3]);
    for (rows_in_all_max, rows) in [(12, [2, 1, 2, 1, 1, 1]), (11, [1; 6]), (5, [0; 6])] {
        let window = Some("large_lately".to_owned());
        let filter = LiveFilter { window, rows_in_all_max: Some(rows_in_all_max), ..LiveFilter::default() };
        let starts = windows.live(&filter).remove(0).starts;
        assert_eq!(starts.iter().map(|start| start.rows.len()).collect::<Vec<_>>(), rows, "{rows_in_all_max}");
        assert_eq!(starts[0].keys, 2, "how many there are is told");
    }
    windows.committed(&[range("a", 0, 7)], 1);
    assert_eq!(large_lately(&windows, usize::MAX), expected);

    let restarted = super::tests::windows();
    restarted.restore_from(2, 0);
    restarted.restore(2, &partials).unwrap();
    assert_eq!(large_lately(&restarted, usize::MAX), expected[..6], "only those that are whole");
}

#[test]
fn a_restart_brings_back_enough_panes_for_whole_windows() {
    let windows = windows();
    let restored = crate::limits::LIVE_WINDOWS_RESTORED;
    let now_us = 1_000 * MINUTE_US + 7;
    assert_eq!(windows.restored_since_us(0, now_us), (1_000 - restored + 1) * MINUTE_US);
    assert_eq!(windows.restored_since_us(2, now_us), (1_000 - restored + 1 - 2) * MINUTE_US);
}

#[test]
fn records_without_the_time_that_a_window_goes_by_are_counted() {
    let registry = Registry::new().unwrap();
    let contract = Arc::clone(&windows().contract);
    let windows = StreamWindows::new("orders", contract, registry.stream("orders"));
    let timed = Order { at_us: Some(0), ..order("x", 1, 7) };
    windows.observe(&batch(&windows, range("a", 0, 3), &[order("x", 1, 7), timed, order("z", 1, 7)])).unwrap();
    let counted = "pintail_records_without_time_total{stream=\"orders\",column=\"at\"} 2";
    assert!(registry.render().contains(counted), "{}", registry.render());
}

fn times() -> std::ops::Range<i64> {
    -3 * MINUTE_US..3 * MINUTE_US
}

fn orders() -> impl Strategy<Value = Vec<Order>> {
    let place = prop::option::of(prop::sample::select(vec!["x", "y", "z"]));
    let order =
        (place, prop::option::of(any::<i32>()), prop::option::of(-1e12..1e12f64), prop::option::of(times()), times());
    let order = order.prop_map(|(place, amount, weight, at_us, arrived_at_us)| Order {
        place,
        amount,
        weight,
        at_us,
        arrived_at_us,
    });
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
                restored.restore(window, rows).unwrap();
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
