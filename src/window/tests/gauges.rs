//! What Prometheus is shown of the windows.

use super::*;
use crate::limits::WINDOW_LABEL_BYTES_MAX;
use crate::metrics::{StartGauges, StartState, WindowGauges};

/// 59 s into minute 8, so that minute 7 is complete and minute 8 running.
const NOW_US: i64 = 9 * MINUTE_US - 1_000_000;

fn by_place(windows: &StreamWindows, now_us: i64, keys_max: usize) -> WindowGauges {
    windows.gauges(now_us, keys_max).into_iter().find(|window| window.window == "by_place").unwrap()
}

fn start(gauges: &WindowGauges, state: StartState) -> &StartGauges {
    gauges.starts.iter().find(|start| start.state == state).unwrap()
}

/// The series of a measure.
fn series(start: &StartGauges, measure: &str) -> Vec<(String, f64)> {
    let values = start.values.iter().filter(|value| value.measure == measure);
    values.map(|value| (value.key.clone(), value.value)).collect()
}

fn observed(orders: &[Order]) -> StreamWindows {
    let windows = windows();
    windows.observe(&batch(&windows, range("a", 0, 1), orders)).unwrap();
    windows
}

fn orders_of(place: &'static str, minute: i64, count: usize) -> Vec<Order> {
    vec![order(place, 10, minute); count]
}

fn pairs(expected: &[(&str, f64)]) -> Vec<(String, f64)> {
    expected.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect()
}

#[test]
fn the_largest_keys_have_series_and_the_rest_are_one() {
    let orders = [orders_of("x", 7, 5), orders_of("y", 7, 3), orders_of("z", 7, 2), orders_of("w", 7, 1)].concat();
    let windows = observed(&orders);
    let gauges = by_place(&windows, NOW_US, 2);
    let complete = start(&gauges, StartState::Complete);
    assert_eq!((complete.start_us, complete.records, complete.keys), (7 * MINUTE_US, 11, 4));
    assert_eq!(series(complete, "n"), pairs(&[("x", 5.0), ("y", 3.0), ("__other__", 3.0)]));
    assert_eq!(series(complete, "total"), pairs(&[("x", 50.0), ("y", 30.0), ("__other__", 30.0)]));
    assert_eq!(series(complete, "average"), pairs(&[("x", 10.0), ("y", 10.0)]), "means cannot be added up");
    assert_eq!(series(complete, "high"), [], "nothing had a weight");
    let totals = by_place(&windows, NOW_US, 0);
    assert_eq!(series(start(&totals, StartState::Complete), "n"), pairs(&[("__other__", 11.0)]));
}

#[test]
fn a_start_is_complete_when_its_grace_is_over_and_the_future_is_neither() {
    let orders =
        [orders_of("x", 7, 1), orders_of("x", 8, 2), orders_of("x", 9, 4), orders_of("x", 1 << 24, 8)].concat();
    let windows = observed(&orders);
    let records = |now_us: i64| {
        let starts = by_place(&windows, now_us, 5).starts;
        starts.iter().map(|start| (start.state, start.start_us / MINUTE_US, start.records)).collect::<Vec<_>>()
    };
    let (complete, running) = (StartState::Complete, StartState::Running);
    assert_eq!(records(9 * MINUTE_US + 4_999_999), [(complete, 7, 1), (running, 9, 4)]);
    assert_eq!(records(9 * MINUTE_US + 5_000_000), [(complete, 8, 2), (running, 9, 4)]);
    assert_eq!(records(11 * MINUTE_US), [(complete, 9, 4), (running, 11, 0)], "silence is told, and is not the past");
}

#[test]
fn of_a_start_that_is_not_wholly_in_memory_nothing_is_said() {
    let windows = windows();
    windows.restore_from(0, 8 * MINUTE_US);
    windows.observe(&batch(&windows, range("a", 0, 1), &[order("x", 1, 7), order("x", 1, 8)])).unwrap();
    let states: Vec<StartState> = by_place(&windows, NOW_US, 5).starts.iter().map(|start| start.state).collect();
    assert_eq!(states, [StartState::Running]);
}

#[test]
fn a_key_keeps_its_series_among_equals_and_loses_it_when_it_is_gone_or_clearly_smaller() {
    let windows = windows();
    let shown = |number: u32, orders: &[Order], now_us: i64| {
        windows.observe(&batch(&windows, range("a", number, number + 1), orders)).unwrap();
        let gauges = by_place(&windows, now_us, 1);
        series(start(&gauges, StartState::Running), "n")
    };
    assert_eq!(shown(0, &orders_of("y", 8, 3), NOW_US), pairs(&[("y", 3.0)]));
    let as_large = shown(1, &orders_of("x", 8, 6), NOW_US);
    assert_eq!(
        as_large,
        pairs(&[("x", 6.0), ("__other__", 3.0)]),
        "at twice the records and the first by name it is its turn"
    );
    assert_eq!(shown(2, &orders_of("y", 8, 8), NOW_US), pairs(&[("x", 6.0), ("__other__", 11.0)]));
    assert_eq!(shown(3, &orders_of("y", 8, 2), NOW_US), pairs(&[("y", 13.0), ("__other__", 6.0)]));
    assert_eq!(shown(4, &orders_of("z", 10, 1), NOW_US + 2 * MINUTE_US), pairs(&[("z", 1.0)]));
}

#[test]
fn every_key_is_one_readable_bounded_label() {
    let long = "ü".repeat(WINDOW_LABEL_BYTES_MAX);
    let longer = format!("{long}!");
    let keys = [None, Some("null"), Some(""), Some(long.as_str()), Some(longer.as_str())];
    let windows = windows();
    let orders: Vec<Order> = keys.iter().map(|_| order("x", 1, 8)).collect();
    let mut read = batch(&windows, range("a", 0, 1), &orders);
    let mut columns = read.rows.columns().to_vec();
    columns[0] = Arc::new(keys.into_iter().collect::<StringArray>());
    read.rows = RecordBatch::try_new(read.rows.schema(), columns).unwrap();
    windows.observe(&read).unwrap();
    let gauges = by_place(&windows, NOW_US, 10);
    let running = start(&gauges, StartState::Running);
    let cut = format!("{}…", "ü".repeat(62));
    assert_eq!(series(running, "n"), pairs(&[("(empty)", 1.0), ("(null)", 1.0), ("null", 1.0), (&cut, 2.0)]));
    assert!(cut.len() <= WINDOW_LABEL_BYTES_MAX && running.keys == 5);
}

proptest! {
    #[test]
    fn what_is_shown_adds_up_to_the_live_view(
        committed in orders(), pending in orders(), keys_max in 0usize..4, now_us in -3 * MINUTE_US..4 * MINUTE_US,
    ) {
        let windows = windows();
        windows.observe(&batch(&windows, range("a", 0, 1), &committed)).unwrap();
        windows.committed(&[range("a", 0, 1)], 1);
        windows.observe(&batch(&windows, range("a", 1, 2), &pending)).unwrap();
        let live = windows.live(&LiveFilter { window: Some("by_place".to_owned()), ..LiveFilter::default() });
        for shown in by_place(&windows, now_us, keys_max).starts {
            let found = live[0].starts.iter().find(|live| live.start_ms * 1000 == shown.start_us);
            let of = |measure: usize| {
                let rows = found.iter().flat_map(|start| &start.rows);
                rows.filter_map(|row| row.measures[measure].as_f64()).sum::<f64>()
            };
            let sum = |measure: &str| series(&shown, measure).iter().map(|(_, value)| value).sum::<f64>();
            prop_assert_eq!(shown.records, found.map_or(0, |start| start.records));
            prop_assert_eq!(shown.keys, found.map_or(0, |start| start.keys));
            prop_assert_eq!((sum("n"), sum("total")), (of(0), of(1)));
            prop_assert!((sum("mass") - of(4)).abs() <= 1e-12 * 80.0 * 1e12);
            let keys: std::collections::BTreeSet<&str> = shown.values.iter().map(|value| value.key.as_str()).collect();
            prop_assert!(keys.iter().filter(|key| **key != "__other__").count() <= keys_max);
            prop_assert_eq!(series(&shown, "n").len(), keys.len(), "no series twice");
        }
    }
}

const ESTIMATES: &str = r#"
[[window]]
name = "by_place"
every = "1m"
by = []
[window.measure]
places = "distinct(place)"
amounts = "quantiles(amount)"
heaviest = "quantiles(weight)"
first = "first(amount)"
first_place = "first(place)"
places_often = "top(place, 3)"
"#;

#[test]
fn estimates_are_numbers_under_the_names_of_their_columns_and_texts_are_none() {
    let windows = windows_of(&format!("{COLUMNS}{ESTIMATES}"));
    let orders = [order("x", 5, 8), order("y", 7, 8), order("y", 7, 8)];
    windows.observe(&batch(&windows, range("a", 0, 1), &orders)).unwrap();
    let gauges = by_place(&windows, NOW_US, 2);
    let values = start(&gauges, StartState::Running).values.iter();
    let values: Vec<_> = values.map(|value| (value.measure.as_str(), value.key.as_str(), value.value)).collect();
    let expected = [
        ("places", "(all)", 2.0),
        ("amounts_p50", "(all)", 7.0),
        ("amounts_p90", "(all)", 7.0),
        ("amounts_p99", "(all)", 7.0),
        ("first", "(all)", 5.0),
    ];
    assert_eq!(values, expected, "without a weight there is no quantile of it");
}

const SLIDING: &str = r#"
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
[[window]]
name = "by_place"
every = "3m"
hop = "1m"
by = ["place"]
measure = { n = "count" }
"#;

#[test]
fn of_windows_that_overlap_the_running_one_ends_with_the_pane_of_now() {
    let windows = windows_of(SLIDING);
    let orders = [orders_of("x", 5, 1), orders_of("x", 6, 2), orders_of("x", 7, 4), orders_of("y", 8, 8)].concat();
    windows.observe(&batch(&windows, range("a", 0, 1), &orders)).unwrap();
    let gauges = by_place(&windows, NOW_US, 1);
    let (complete, running) = (start(&gauges, StartState::Complete), start(&gauges, StartState::Running));
    assert_eq!((complete.start_us / MINUTE_US, series(complete, "n")), (5, pairs(&[("x", 7.0)])));
    assert_eq!((running.start_us / MINUTE_US, running.records, running.keys), (6, 14, 2));
    assert_eq!(series(running, "n"), pairs(&[("x", 6.0), ("__other__", 8.0)]));
}
