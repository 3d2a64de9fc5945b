//! The history's bounds, and what is late.

use super::*;
use crate::record::WindowSink;
use crate::window::tests::{batch, measured_windows, order, range, windows};
use crate::window::{LiveFilter, SealedWindow};

const MINUTE_MS: i64 = 60_000;

/// A row of `by_place` with so many records.
fn push(windows: &StreamWindows, rows: &mut SealedRows, start_us: i64, place: &str, records: u64) {
    let plan = &windows.contract.windows[0];
    let cell = Cell { records, ..Cell::empty(&plan.measures) };
    let group = Group { start_us, key: vec![KeyValue::Text(place.into())] };
    rows.push(plan, group, &SealedCell { cell, revision: 0, complete: true });
}

fn sealed(windows: &StreamWindows, filter: LiveFilter) -> SealedWindow {
    windows.sealed(&LiveFilter { window: Some("by_place".to_owned()), ..filter }).remove(0)
}

#[test]
fn of_a_start_with_too_many_keys_the_largest_are_kept_and_all_are_counted() {
    let windows = windows();
    let mut rows = SealedRows::within(1 << 20, 3);
    for number in 0..20 {
        push(&windows, &mut rows, 0, &format!("place {number:02}"), 1 + number * 7 % 20);
    }
    windows.histories()[0].rows = SealedRows::within(1 << 20, 3);
    windows.sealed_found(0, Some(MINUTE_MS), 0, vec![(0..1, rows)]);
    let start = sealed(&windows, LiveFilter::default()).starts.remove(0);
    assert_eq!((start.keys, start.records, start.whole), (20, 210, false));
    let kept: Vec<u64> = start.rows.iter().map(|row| row.records).collect();
    assert_eq!(kept, [20, 19, 18]);
    let largest = LiveFilter { keys: vec![("place".to_owned(), "place 17".to_owned())], ..LiveFilter::default() };
    let asked = sealed(&windows, largest).starts.remove(0);
    assert_eq!((asked.keys, asked.records, asked.late), (1, 20, None));
}

#[test]
fn how_far_a_window_is_sealed_is_what_its_table_says_whoever_sealed_it() {
    let (windows, registry) = measured_windows();
    let told = || {
        let text = registry.render();
        let series = "pintail_sealed_through_timestamp_seconds{stream=\"orders\",window=\"by_place\"} ";
        text.lines().find_map(|line| line.strip_prefix(series)?.parse::<f64>().ok())
    };
    windows.sealed_found(0, None, 0, Vec::new());
    assert_eq!(told(), None, "nothing is sealed");
    for minutes in [1, 3] {
        windows.sealed_found(0, Some(minutes * MINUTE_MS), 0, Vec::new());
        assert_eq!(told(), Some(minutes as f64 * 60.0));
    }
}

#[test]
fn beyond_its_bytes_the_oldest_starts_go_and_are_not_promised() {
    let windows = windows();
    let mut rows = SealedRows::within(10_000, 1_000);
    for minute in 0..10 {
        for number in 0..10 {
            push(&windows, &mut rows, minute * 60_000_000, &format!("{number}{}", "x".repeat(100)), 1);
        }
        assert!(rows.bytes() <= 10_000);
    }
    windows.histories()[0].rows = SealedRows::within(10_000, 1_000);
    windows.sealed_found(0, Some(10 * MINUTE_MS), 0, vec![(0..600_000_000, rows)]);
    let found = sealed(&windows, LiveFilter::default());
    let starts: Vec<i64> = found.starts.iter().map(|start| start.start_ms / MINUTE_MS).collect();
    assert!((1..10).contains(&starts.len()) && starts[0] == 9, "{starts:?}");
    let since_ms = found.since_ms.unwrap();
    assert!(starts[starts.len() - 1] * MINUTE_MS >= since_ms && since_ms >= (9 - starts.len() as i64) * MINUTE_MS);

    let mut huge = SealedRows::within(10_000, 1_000);
    for number in 0..1_000 {
        push(&windows, &mut huge, 600_000_000, &format!("{number}{}", "x".repeat(100)), 1);
        assert!(huge.bytes() <= 10_000);
    }
    windows.sealed_found(0, Some(11 * MINUTE_MS), 0, vec![(600_000_000..600_000_001, huge)]);
    let newest = sealed(&windows, LiveFilter::default()).starts.remove(0);
    assert_eq!((newest.start_ms, newest.keys, newest.whole), (10 * MINUTE_MS, 1_000, false));
    assert!(!newest.rows.is_empty());
}

#[test]
fn what_is_committed_and_in_no_sealed_row_is_late() {
    let windows = windows();
    windows
        .observe(&batch(&windows, range("a", 0, 1), &[order("x", 1, 0), order("y", 2, 0), order("x", 3, 1)]))
        .unwrap();
    windows.committed(&[range("a", 0, 1)], 1);
    assert_eq!(sealed(&windows, LiveFilter::default()).through_ms, None);
    windows.seal_committed(0, MINUTE_MS, 0);
    let late = |filter: LiveFilter| -> Vec<Option<u64>> {
        sealed(&windows, filter).starts.iter().map(|start| start.late).collect()
    };
    assert_eq!(late(LiveFilter::default()), [Some(0)]);
    windows
        .observe(&batch(&windows, range("a", 1, 2), &[order("x", 1, 0), order("z", 2, 0), order("x", 3, 1)]))
        .unwrap();
    assert_eq!(late(LiveFilter::default()), [Some(0)], "no commit covers it yet");
    windows.committed(&[range("a", 1, 2)], 2);
    assert_eq!(late(LiveFilter::default()), [Some(2)]);
    let of_x = LiveFilter { keys: vec![("place".to_owned(), "x".to_owned())], ..LiveFilter::default() };
    assert_eq!(late(of_x), [Some(1)]);
    windows.hold_back();
    assert_eq!(late(LiveFilter::default()), [None], "what is committed is not all known yet");
    windows.show();

    windows.seal_committed(0, MINUTE_MS, 1);
    let start = sealed(&windows, LiveFilter::default()).starts.remove(0);
    assert_eq!((start.records, start.late, start.revision), (4, Some(0), 1));
}
