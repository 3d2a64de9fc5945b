//! Sealed windows read back, against the rows of their table.

use super::seal::{Order, SEALED, contract_with, house, order, rows_of};
use super::*;
use crate::contract::Contract;
use crate::lake::SealedTable;
use crate::limits::SEALED_STARTS_MAX;
use crate::window::{LiveFilter, SealedWindow, StreamWindows};

/// A process that only looks.
struct Reader {
    table: SealedTable,
    windows: StreamWindows,
}

impl Reader {
    async fn open(lake: &Lake, contract: &Arc<Contract>) -> Self {
        let tables = TableSet::of(contract, &identity());
        let opened = StreamLake::open_tables(lake.store.clone(), identity(), tables, lake.clock.moments());
        let table = opened.await.unwrap().sealed_tables().remove(0);
        Self { table, windows: StreamWindows::new("orders", Arc::clone(contract), metrics()) }
    }

    /// How many stretches of windows were read.
    async fn look(&mut self) -> usize {
        let found = self.table.look().await.unwrap().unwrap();
        let read = found.read.len();
        self.windows.sealed_found(0, found.through_ms, found.since_us, found.read);
        read
    }

    fn shown(&self) -> SealedWindow {
        self.windows.sealed(&LiveFilter::default()).remove(0)
    }

    /// By start, newest first: (its start, records by key, its revision).
    fn starts(&self) -> Vec<(i64, BTreeMap<String, u64>, i64)> {
        let starts = self.shown().starts.into_iter();
        let by_key = |row: crate::window::SealedRow| (row.key[0].as_str().unwrap().to_owned(), row.records);
        starts.map(|start| (start.start_ms, start.rows.into_iter().map(by_key).collect(), start.revision)).collect()
    }
}

fn keys(keys: &[(&str, u64)]) -> BTreeMap<String, u64> {
    keys.iter().map(|(key, records)| ((*key).to_owned(), *records)).collect()
}

#[tokio::test]
async fn a_look_finds_what_anybody_sealed_the_last_revision_of_each_key_and_a_restart_the_same() {
    let lake = Lake::in_memory();
    let contract = contract_with("seal = \"revise\"\nrevise_for = \"1m\"");
    let mut reader = Reader::open(&lake, &contract).await;
    assert_eq!((reader.look().await, reader.shown().through_ms, reader.shown().since_ms), (0, None, None));

    let mut house = house(&lake, &contract).await;
    house.committer.register(&[register("a")]).await.unwrap();
    let orders = [order(1, 3_000), order(2, 4_000), order(3, 9_999), order(4, 22_000), order(5, 22_001)];
    let batch = house.batch("a", after(0), &orders, None);
    house.commit([batch]).await;
    house.seal().await;
    assert_eq!(reader.look().await, 1);
    let first = (0, keys(&[("even", 1), ("odd", 2)]), 0);
    assert_eq!((reader.starts(), reader.shown().through_ms), (vec![first], Some(20_000)));
    assert_eq!(reader.look().await, 0, "nothing is read twice");

    let late = [Order { id: 6, at_ms: 5_000, arrived_ms: 23_000, kind: "even" }, order(7, 42_000)];
    let batch = house.batch("a", after(5), &late, None);
    house.commit([batch]).await;
    house.seal().await;
    assert_eq!(rows_of(&lake, SEALED).await.len(), 5, "a row for the correction and two for the next window");
    reader.look().await;
    let corrected = (0, keys(&[("even", 2), ("odd", 2)]), 1);
    let second = (20_000, keys(&[("even", 1), ("odd", 1)]), 0);
    assert_eq!((reader.starts(), reader.shown().through_ms), (vec![second, corrected], Some(40_000)));

    let mut restarted = Reader::open(&lake, &contract).await;
    restarted.look().await;
    assert_eq!(restarted.shown().starts, reader.shown().starts);
    assert_eq!(restarted.shown().through_ms, Some(40_000));
}

#[tokio::test]
async fn so_many_of_the_newest_windows_are_found_and_it_is_told_from_where_on() {
    let lake = Lake::in_memory();
    let contract = contract_with("");
    let mut house = house(&lake, &contract).await;
    house.committer.register(&[register("a")]).await.unwrap();
    let mut reader = Reader::open(&lake, &contract).await;
    let windows = SEALED_STARTS_MAX as u64 + 3;
    let orders: Vec<Order> = (0..=windows).map(|number| order(number + 1, number as i64 * 10_000)).collect();
    let batch = house.batch("a", after(0), &orders[..10], None);
    house.commit([batch]).await;
    house.seal().await;
    reader.look().await;
    assert_eq!(reader.starts().len(), 8);
    let batch = house.batch("a", after(10), &orders[10..], Some(windows as i64 * 10_000 + 2_000));
    house.commit([batch]).await;
    let idle = house.batch("a", after(windows + 1), &[], Some(windows as i64 * 10_000 + 2_000));
    house.commit([idle]).await;
    house.seal().await;
    reader.look().await;
    let mut restarted = Reader::open(&lake, &contract).await;
    restarted.look().await;
    for reader in [&reader, &restarted] {
        let shown = reader.shown();
        assert_eq!((shown.through_ms, shown.since_ms), (Some(windows as i64 * 10_000), Some(30_000)));
        assert_eq!((shown.starts.len(), shown.starts[0].start_ms), (SEALED_STARTS_MAX, (windows as i64 - 1) * 10_000));
    }
}

#[tokio::test]
async fn after_a_file_that_was_gone_the_table_is_read_anew() {
    let lake = Lake::in_memory();
    let contract = contract_with("");
    let mut house = house(&lake, &contract).await;
    house.committer.register(&[register("a")]).await.unwrap();
    let batch = house.batch("a", after(0), &[order(1, 3_000), order(2, 14_000)], None);
    house.commit([batch]).await;
    house.seal().await;
    let entry = lake.entry(SEALED, 1).await;
    let path = entry.iter().find_map(|action| action.get("add")).unwrap()["path"].as_str().unwrap().to_owned();
    let path = lake.store.path(SEALED, &path);
    let file = lake.faults.inner().get(&path).await.unwrap().bytes().await.unwrap();
    lake.faults.inner().delete(&path).await.unwrap();
    let mut reader = Reader::open(&lake, &contract).await;
    let error = reader.table.look().await.unwrap_err();
    assert!(error.to_string().contains("is gone"), "{error}");
    lake.faults.inner().put(&path, file.into()).await.unwrap();
    assert_eq!(reader.look().await, 1);
    assert_eq!(reader.starts(), [(0, keys(&[("odd", 1)]), 0)]);
}
