//! Partials that are compacted: fewer rows, the same numbers, whatever is sealed meanwhile.

use std::time::Duration;

use object_store::ObjectStoreExt;

use super::*;
use crate::lake::pressing::Pressing;
use crate::lake::seal::SealEvent;
use crate::lake::stream::TableSet;
use crate::lake::tests::seal::{
    House, Order, Row, SEALED, SEALED_PARTIALS, contract_with, corrections, house, late, order, rows_of,
    with_sealed_orders,
};
use crate::lake::tests::{after, identity, register};

pub fn folding(lake: &Lake, house: &House) -> Maintainer {
    let mut maintainer = Maintainer::new(lake.store.clone(), OPTIONS);
    maintainer.clock = lake.clock.moments();
    maintainer.add_tables("orders", TableSet::of(&house.contract, &identity()));
    maintainer
}

/// Six flushes of two shards, each with orders of two windows and two kinds.
async fn with_flushes(lake: &Lake) -> House {
    let mut house = house(lake, &contract_with("")).await;
    house.committer.register(&[register("a"), register("b")]).await.unwrap();
    for flush in 0..6u64 {
        for (shard, first) in [("a", flush * 10), ("b", 100 + flush * 10)] {
            let from = if flush == 0 { after(0) } else { after(first - 7) };
            let at_ms = |id: u64| if id.is_multiple_of(3) { 12_500 } else { 3_000 };
            let orders =
                [first + 1, first + 2, first + 3].map(|id| Order { arrived_ms: 13_000, ..order(id, at_ms(id)) });
            let batch = house.batch(shard, from, &orders, None);
            house.commit([batch]).await;
        }
    }
    house
}

fn summed(rows: Vec<Row>) -> BTreeMap<(i64, Option<String>), (i64, i128)> {
    let mut sums = BTreeMap::new();
    for row in rows {
        let sum: &mut (i64, i128) = sums.entry((row.start_ms, row.kind)).or_default();
        *sum = (sum.0 + row.records, sum.1 + row.total);
    }
    sums
}

#[tokio::test]
async fn partials_of_one_window_and_key_become_one_row_and_no_number_changes() {
    let lake = Lake::in_memory();
    let mut house = with_flushes(&lake).await;
    let before = rows_of(&lake, SEALED_PARTIALS).await;
    let events = well(&mut folding(&lake, &house), true).await;
    let compacted = events.iter().find(|(table, event)| {
        table == SEALED_PARTIALS && matches!(event, Event::Compacted { files_in: 12, files_out: 1, .. })
    });
    assert!(compacted.is_some(), "{events:#?}");
    let folded = rows_of(&lake, SEALED_PARTIALS).await;
    assert_eq!((before.len(), folded.len()), (32, 4));
    assert_eq!(summed(folded), summed(before.clone()));

    // What is sealed from it is what would have been sealed without.
    house.seal().await;
    let sealed = rows_of(&lake, SEALED).await;
    assert_eq!(sealed.len(), 2, "one of the windows is closed");
    let closed = before.into_iter().filter(|row| row.start_ms == 0).collect();
    assert_eq!(summed(sealed), summed(closed));
}

#[tokio::test]
async fn files_that_are_folded_between_a_sealers_looks_are_sealed_all_the_same() {
    let lake = Lake::in_memory();
    let mut house = with_flushes(&lake).await;
    house.seal().await;
    well(&mut folding(&lake, &house), true).await;
    let idle = ["a", "b"].map(|shard| {
        let last = if shard == "a" { 53 } else { 153 };
        house.batch(shard, after(last), &[], Some(60_000))
    });
    house.commit(idle).await;
    house.seal().await;
    assert_eq!(summed(rows_of(&lake, SEALED).await), summed(rows_of(&lake, SEALED_PARTIALS).await));
}

#[tokio::test]
async fn a_file_with_rows_of_another_definition_stays_as_it_is() {
    let lake = Lake::in_memory();
    let house = with_flushes(&lake).await;
    let entry = lake.entry(SEALED_PARTIALS, 1).await;
    let mut foreign = entry.iter().find_map(|action| action.get("add")).unwrap().clone();
    let path = lake.store.path(SEALED_PARTIALS, foreign["path"].as_str().unwrap());
    let (bytes, _) = lake.store.read(&path).await.unwrap().unwrap();
    let batch = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap().next().unwrap().unwrap();
    let mut columns = batch.columns().to_vec();
    let definition = batch.schema().index_of("definition").unwrap();
    let other = deltalake::arrow::array::StringArray::from(vec!["of somebody else"; batch.num_rows()]);
    columns[definition] = std::sync::Arc::new(other);
    let batch = deltalake::arrow::array::RecordBatch::try_new(batch.schema(), columns).unwrap();
    let mut writer = deltalake::parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let bytes = writer.into_inner().unwrap();
    foreign["path"] = "_date=1970-01-01/foreign.parquet".into();
    foreign["size"] = bytes.len().into();
    let location = lake.store.path(SEALED_PARTIALS, "_date=1970-01-01/foreign.parquet");
    lake.faults.inner().put(&location, bytes.into()).await.unwrap();
    lake.foreign(SEALED_PARTIALS, &[json!({ "add": foreign })]).await;
    let before = summed(rows_of(&lake, SEALED_PARTIALS).await);
    for _ in 0..2 {
        well(&mut folding(&lake, &house), true).await;
    }
    assert!(active(&lake, SEALED_PARTIALS).await.contains_key("_date=1970-01-01/foreign.parquet"));
    assert_eq!(summed(rows_of(&lake, SEALED_PARTIALS).await), before);
}

#[tokio::test]
async fn a_file_of_partials_that_cannot_be_read_is_named_until_it_is_back_and_the_others_are_added_up() {
    let cut = |bytes: &[u8]| Some(bytes[..bytes.len() / 2].to_vec());
    let spoil = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[4..300].iter_mut().for_each(|byte| *byte ^= 0x5a);
        Some(bytes)
    };
    type Damage<'a> = &'a dyn Fn(&[u8]) -> Option<Vec<u8>>;
    let damages: [(&str, Damage<'_>); 3] =
        [("is not there", &|_| None), ("cannot be decoded", &cut), ("cannot be decoded", &spoil)];
    for (words, damage) in damages {
        let lake = Lake::in_memory();
        let mut house = with_flushes(&lake).await;
        let before = summed(rows_of(&lake, SEALED_PARTIALS).await);
        let broken = active(&lake, SEALED_PARTIALS).await.into_keys().nth(3).unwrap();
        let path = lake.store.path(SEALED_PARTIALS, &broken);
        let (whole, _) = lake.store.read(&path).await.unwrap().unwrap();
        match damage(&whole) {
            Some(bytes) => drop(lake.faults.inner().put(&path, bytes.into()).await.unwrap()),
            None => delete(&lake, &path).await,
        }
        let mut folding = folding(&lake, &house);
        let events = round(&mut folding, false).await;
        let of_partials = || events.iter().filter(|(table, _)| table == SEALED_PARTIALS).map(|(_, event)| event);
        let is_folded = |event: &Event| matches!(event, Event::Compacted { files_in: 11, files_out: 1, .. });
        assert!(of_partials().any(is_folded), "{words}: {events:#?}");
        let is_named = |reason: &str| reason.contains(&broken) && reason.contains(words);
        let is_told = |event: &Event| matches!(event, Event::Failed { reason, .. } if is_named(reason));
        assert!(of_partials().any(is_told), "{words}: {events:#?}");
        assert!(matches!(of_partials().next_back(), Some(Event::Ended(Ended::Failed(reason))) if is_named(reason)));
        // Whoever seals cannot do without it.
        let events = house.seal().await;
        assert!(matches!(&events[..], [SealEvent::Failed { reason }] if reason.contains(&broken)), "{events:?}");

        lake.faults.inner().put(&path, whole.into()).await.unwrap();
        lake.clock.pass_boot(Duration::from_secs(3_600));
        well(&mut folding, true).await;
        assert_eq!(summed(rows_of(&lake, SEALED_PARTIALS).await), before);
        assert!(matches!(house.seal().await[..], [SealEvent::Sealed { .. }, SealEvent::Recovered]));
    }
}

#[tokio::test]
async fn what_sealing_waits_for_is_compacted_however_little_it_is_and_nothing_else() {
    let lake = Lake::in_memory();
    let house = with_flushes(&lake).await;
    let mut maintainer =
        Maintainer { options: MaintenanceOptions { compact_files: 1_000, ..OPTIONS }, ..folding(&lake, &house) };
    let pressing = Pressing::default();
    maintainer = maintainer.pressed_by(&pressing);
    well(&mut maintainer, false).await;
    let before = (active(&lake, SEALED_PARTIALS).await.len(), active(&lake, ROWS).await.len());
    assert!(before.0 > 1 && before.1 > 1, "files that are not worth it: {before:?}");
    pressing.add(SEALED_PARTIALS);
    well(&mut maintainer, false).await;
    assert_eq!((active(&lake, SEALED_PARTIALS).await.len(), active(&lake, ROWS).await.len()), (1, before.1));
    assert!(pressing.is_empty());
}

/// So many files of each of so many windows: a hundred keys of 16 KiB in each, of which merging can hold some forty.
async fn with_a_flood(lake: &Lake, shape: &str, windows: i64, files: usize) -> (House, u64) {
    let mut house = house(lake, &contract_with(shape)).await;
    house.committer.register(&[register("a")]).await.unwrap();
    let kinds: Vec<&'static str> = (0..100).map(|key| &*Box::leak(format!("{key:0>16384}").into_boxed_str())).collect();
    let mut id = 0;
    for window in (0..windows).flat_map(|window| std::iter::repeat_n(window, files)) {
        let from = after(id);
        let orders: Vec<Order> = kinds
            .iter()
            .map(|kind| {
                id += 1;
                Order { kind, arrived_ms: 10_000 * window + 4_000, ..order(id, 10_000 * window + 3_000) }
            })
            .collect();
        let batch = house.batch("a", from, &orders, None);
        house.commit([batch]).await;
    }
    let idle = house.batch("a", after(id), &[], Some(10_000 * windows + 10_000));
    house.commit([idle]).await;
    (house, id)
}

#[tokio::test]
async fn a_window_of_more_files_than_memory_is_for_asks_for_compaction_and_is_sealed_after_it() {
    let lake = Lake::in_memory();
    let (mut house, orders) = with_a_flood(&lake, "", 1, 60).await;
    let pressing = Pressing::default();
    house.sealers = house.sealers.pressing(&pressing);
    assert_eq!(house.seal().await, [SealEvent::Waits { table: SEALED_PARTIALS.to_owned() }]);
    assert_eq!(house.seal().await, [], "it has said so");
    assert!(pressing.take(SEALED_PARTIALS));
    let events = house.seal().await;
    assert!(matches!(&events[..], [SealEvent::Failed { reason }] if reason.contains("too many")), "{events:?}");
    let mut maintainer = folding(&lake, &house).pressed_by(&pressing);
    maintainer.options.compact_files = 1_000;
    let events = well(&mut maintainer, false).await;
    let is_folded = |event: &Event| matches!(event, Event::Compacted { files_in, files_out: 1, .. } if *files_in < 60);
    assert!(events.iter().any(|(table, event)| table == SEALED_PARTIALS && is_folded(event)), "{events:#?}");
    let events = house.seal().await;
    assert!(matches!(events[..], [SealEvent::Sealed { rows: 100, .. }, SealEvent::Recovered]), "{events:?}");
    let sealed = rows_of(&lake, SEALED).await;
    assert_eq!(sealed.iter().map(|row| row.records).sum::<i64>() as u64, orders);
}

#[tokio::test]
async fn windows_in_too_many_files_to_be_merged_together_are_merged_part_after_part() {
    // Where windows overlap, each order is in two of them.
    for (shape, times) in [("", 1), ("hop = \"5s\"", 2)] {
        let lake = Lake::in_memory();
        let (mut house, orders) = with_a_flood(&lake, shape, 3, 25).await;
        let events = house.seal().await;
        assert!(matches!(events[..], [SealEvent::Sealed { through_ms: 30_000.., .. }]), "{events:?}");
        let sealed = rows_of(&lake, SEALED).await;
        let records = sealed.iter().map(|row| row.records).sum::<i64>() as u64;
        assert_eq!((sealed.len(), records), (300 * times as usize, orders * times), "{shape}");
    }
}

#[tokio::test]
async fn a_sealer_whose_next_entries_were_cleaned_away_reads_the_table_anew() {
    let lake = Lake::in_memory();
    let mut house = with_sealed_orders(&lake).await;
    for id in 6..9 {
        let batch = house.batch("a", after(id - 1), &[late(id, 5_000)], None);
        house.commit([batch]).await;
    }
    let mut maintainer = folding(&lake, &house);
    well(&mut maintainer, true).await;
    lake.clock.pass_wall(Duration::from_secs(40 * 86_400));
    let events = well(&mut maintainer, true).await;
    let is_cleaned = |event: &(String, Event)| event.0 == SEALED_PARTIALS && matches!(event.1, Event::Cleaned { .. });
    assert!(events.iter().any(is_cleaned), "{events:#?}");
    assert_eq!(corrections(&house.seal().await), [(1, 2)]);
}
