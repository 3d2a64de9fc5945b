//! Old partials that go: which, when, and what becomes of records that come later still.

use std::time::Duration;

use tokio::sync::oneshot;

use super::folding::folding;
use super::*;
use crate::lake::ledger::dropped_through_ms;
use crate::lake::seal::SealEvent;
use crate::lake::tests::faults::Fault;
use crate::lake::tests::seal::{
    House, Order, SEALED, SEALED_PARTIALS, contract_with, corrections, house, order, rows_of,
};
use crate::lake::tests::{after, register};

const DAY_MS: i64 = 86_400_000;
const NOW_MS: i64 = 4 * DAY_MS + 3_600_000;
const HOUR: Duration = Duration::from_secs(3_600);

fn noon(day: i64) -> i64 {
    day * DAY_MS + DAY_MS / 2
}

fn late(id: u64, at_ms: i64) -> Order {
    Order { arrived_ms: NOW_MS, ..order(id, at_ms) }
}

/// One order at noon of each of the days 0, 1 and 2; it is day 4.
async fn with_days(lake: &Lake, declared: &str) -> House {
    let mut house = house(lake, &contract_with(declared)).await;
    house.committer.register(&[register("a")]).await.unwrap();
    for day in 0..3u64 {
        let batch = house.batch("a", after(day), &[order(day + 1, noon(day as i64))], None);
        house.commit([batch]).await;
    }
    let idle = house.batch("a", after(3), &[], Some(NOW_MS));
    house.commit([idle]).await;
    house
}

/// (through, files) of every drop.
fn drops(events: &[(String, Event)]) -> Vec<(i64, u64)> {
    let dropped = |(table, event): &(String, Event)| {
        let Event::Dropped { through_ms, files, .. } = event else { return None };
        (table == SEALED_PARTIALS).then_some((*through_ms, *files))
    };
    events.iter().filter_map(dropped).collect()
}

async fn starts(lake: &Lake) -> Vec<i64> {
    rows_of(lake, SEALED_PARTIALS).await.iter().map(|row| row.start_ms).collect()
}

async fn dropped_through(lake: &Lake) -> Option<i64> {
    dropped_through_ms(&read_table(&lake.store, SEALED_PARTIALS, "").await.unwrap().unwrap().txns)
}

#[tokio::test]
async fn old_partials_go_by_whole_days_once_they_are_sealed_and_records_that_come_later_are_counted_and_in_the_rows() {
    let lake = Lake::in_memory();
    let mut house = with_days(&lake, "keep_partials = \"2d\"").await;
    let mut maintainer = folding(&lake, &house);
    assert_eq!(drops(&well(&mut maintainer, true).await), [], "nothing is sealed yet");
    house.seal().await;
    assert_eq!(drops(&well(&mut maintainer, true).await), [(2 * DAY_MS, 2)]);
    assert_eq!(starts(&lake).await, [noon(2)]);
    let sealed = rows_of(&lake, SEALED).await;
    assert_eq!(sealed.len(), 3);

    let batch = house.batch("a", after(3), &[late(5, noon(1)), late(6, noon(0)), late(7, noon(2))], None);
    house.commit([batch]).await;
    assert_eq!(house.seal().await, [SealEvent::Late { records: 1 }, SealEvent::TooLate { records: 2 }]);
    assert_eq!(house.seal().await, [], "told once");
    assert_eq!(lake.records(ROWS).await, 6);
    assert_eq!(rows_of(&lake, SEALED).await, sealed);

    // Their partials would be taken for the whole windows.
    assert_eq!(drops(&well(&mut maintainer, false).await), [], "there is no hurry");
    lake.clock.pass_boot(HOUR);
    assert_eq!(drops(&well(&mut maintainer, false).await), [(2 * DAY_MS, 2)]);
    assert_eq!(starts(&lake).await, [noon(2), noon(2)]);
    assert_eq!(lake.records(ROWS).await, 6);
}

#[tokio::test]
async fn partials_are_kept_for_ever_unless_the_contract_says_otherwise() {
    let lake = Lake::in_memory();
    let mut house = with_days(&lake, "").await;
    house.seal().await;
    assert_eq!(drops(&well(&mut folding(&lake, &house), true).await), []);
    assert_eq!((starts(&lake).await.len(), dropped_through(&lake).await), (3, None));
}

#[tokio::test]
async fn of_a_table_that_is_for_appends_alone_nothing_is_dropped_and_that_is_told() {
    let lake = Lake::in_memory();
    let mut house = with_days(&lake, "keep_partials = \"2d\"").await;
    house.seal().await;
    let state = read_table(&lake.store, SEALED_PARTIALS, "").await.unwrap().unwrap();
    let mut metadata = state.metadata.raw;
    metadata["configuration"]["delta.appendOnly"] = "true".into();
    lake.foreign(SEALED_PARTIALS, &[serde_json::json!({ "metaData": metadata })]).await;
    let events = round(&mut folding(&lake, &house), true).await;
    assert_eq!((starts(&lake).await.len(), dropped_through(&lake).await), (3, None));
    let told = format!("{events:?}");
    assert!(told.contains("delta.appendOnly is set, so that partials stay"), "{told}");
}

#[tokio::test]
async fn whoever_dies_while_partials_go_leaves_the_rest_to_the_next_look() {
    for (first, then) in
        [(Fault::Fail, Fault::LoseAnswer), (Fault::LoseAnswer, Fault::Fail), (Fault::LoseAnswer, Fault::LoseAnswer)]
    {
        let lake = Lake::in_memory();
        let mut house = with_days(&lake, "keep_partials = \"2d\"").await;
        house.seal().await;
        let mut maintainer = folding(&lake, &house);
        for fault in [first, then] {
            lake.faults.next_put("by_kind_partials/_delta_log", fault);
            round(&mut maintainer, true).await;
            let gone = starts(&lake).await.len() < 3;
            assert!(!gone || dropped_through(&lake).await == Some(2 * DAY_MS), "nobody can know why they are gone");
        }
        assert_eq!(lake.faults.waiting(), 0);
        well(&mut maintainer, true).await;
        assert_eq!(starts(&lake).await, [noon(2)]);
        let batch = house.batch("a", after(3), &[late(5, noon(1))], None);
        house.commit([batch]).await;
        assert_eq!(house.seal().await, [SealEvent::TooLate { records: 1 }]);
    }
}

#[tokio::test]
async fn of_two_that_remove_the_same_partials_one_gives_way() {
    let lake = Lake::in_memory();
    let mut house = with_days(&lake, "keep_partials = \"2d\"").await;
    house.seal().await;
    let (mut one, mut other) = (folding(&lake, &house), folding(&lake, &house));
    lake.faults.next_put("by_kind_partials/_delta_log", Fault::LoseAnswer);
    round(&mut one, true).await;
    assert_eq!((starts(&lake).await.len(), dropped_through(&lake).await), (3, Some(2 * DAY_MS)), "said and not done");

    let ((arrived, at_commit), (go, go_on)) = (oneshot::channel(), oneshot::channel());
    lake.faults.next_put("by_kind_partials/_delta_log", Fault::Hold(arrived, go_on));
    let overtake = async {
        at_commit.await.unwrap();
        let events = well(&mut other, true).await;
        go.send(()).unwrap();
        events
    };
    let (first, second) = both(well(&mut one, true), overtake).await;
    assert_eq!((drops(&first), drops(&second)), (vec![], vec![(2 * DAY_MS, 2)]));
    let gave_way =
        |(table, event): &(String, Event)| table == SEALED_PARTIALS && matches!(event, Event::Overtaken { .. });
    assert!(first.iter().any(gave_way), "{first:#?}");
    assert_eq!(starts(&lake).await, [noon(2)]);
}

#[tokio::test]
async fn what_is_left_of_a_window_corrects_nothing_however_long_windows_are_corrected_now() {
    let lake = Lake::in_memory();
    let mut before = with_days(&lake, "seal = \"revise\"\nrevise_for = \"1d\"\nkeep_partials = \"2d\"").await;
    before.seal().await;
    assert_eq!(drops(&well(&mut folding(&lake, &before), true).await), [(2 * DAY_MS, 2)]);
    let mut house = house(&lake, &contract_with("seal = \"revise\"\nrevise_for = \"30d\"")).await;
    assert_eq!(house.seal().await, []);
    let batch = house.batch("a", after(3), &[late(5, noon(0)), late(7, noon(0)), late(9, noon(2))], None);
    house.commit([batch]).await;
    let events = house.seal().await;
    assert_eq!(events[..2], [SealEvent::Late { records: 1 }, SealEvent::TooLate { records: 2 }]);
    assert_eq!(corrections(&events[2..]), [(1, 1)], "that of the window whose partials are whole");
    let corrected: Vec<i64> =
        rows_of(&lake, SEALED).await.iter().filter(|row| row.revision == Some(1)).map(|row| row.start_ms).collect();
    assert_eq!(corrected, [noon(2)]);
}
