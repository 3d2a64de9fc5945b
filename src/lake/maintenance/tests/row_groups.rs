//! Row groups that compaction takes over as they are, and those that it does not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use deltalake::arrow::array::{Array, RecordBatch, StringArray};
use deltalake::arrow::compute::concat_batches;
use deltalake::parquet::arrow::ArrowWriter;
use deltalake::parquet::basic::{Compression, ZstdLevel};
use deltalake::parquet::column::page::Page;
use deltalake::parquet::file::properties::WriterProperties;
use deltalake::parquet::file::reader::{FileReader, SerializedFileReader};
use object_store::PutPayload;

use super::compaction::{compactions, said};
use super::*;
use crate::limits::READ_WHOLE_BYTES_MAX;
use crate::record::CleanBatch;

/// Files of up to 8 MiB are of one size to it.
const ALL_ALIKE: MaintenanceOptions = MaintenanceOptions { target_file_bytes: 2 << 30, ..OPTIONS };

/// A batch whose names are these.
fn named(from: u64, through: u64, name: impl Fn(i64) -> String) -> CleanBatch {
    let mut batch = batch("a", from, through, &ShardGrant::new());
    let ids = batch.rows.column_by_name("id").unwrap().as_primitive::<Int64Type>();
    let names = ids.values().iter().map(|id| (id % 5 != 0).then(|| name(*id)));
    let mut columns = batch.rows.columns().to_vec();
    columns[1] = Arc::new(StringArray::from_iter(names));
    batch.rows = RecordBatch::try_new(batch.rows.schema(), columns).unwrap();
    batch
}

/// A KiB that compresses well.
fn long(id: i64) -> String {
    format!("{id} is long ").repeat(1 << 10).split_at(1 << 10).0.to_owned()
}

/// A KiB that does not.
fn noisy(id: i64) -> String {
    let mut state = id as u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + (state >> 33) as u8 % 94)
    };
    (0..1 << 10).map(|_| next()).collect()
}

/// The table's files with what is in them, by path.
async fn contents(lake: &Lake, table: &str) -> BTreeMap<String, SerializedFileReader<Bytes>> {
    let mut files = BTreeMap::new();
    for path in active(lake, table).await.into_keys() {
        let (bytes, _) = lake.store.read(&lake.store.path(table, &path)).await.unwrap().unwrap();
        files.insert(path, SerializedFileReader::new(bytes).unwrap());
    }
    files
}

/// Pages of each column of a row group, as they lie there.
fn pages(file: &SerializedFileReader<Bytes>, bytes: &Bytes, group: usize) -> Vec<Bytes> {
    let ranges = file.metadata().row_group(group).columns().iter().map(|column| column.byte_range());
    ranges.map(|(start, length)| bytes.slice(start as usize..(start + length) as usize)).collect()
}

#[tokio::test]
async fn large_row_groups_are_taken_over_as_they_are_and_what_lies_between_them_is_joined() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    let mut large = Vec::new();
    let batches = [
        named(0, 10, noisy),
        named(10, 20_010, long), // large when it is decoded
        named(20_010, 20_020, noisy),
        named(20_020, 20_030, noisy),
        named(20_030, 27_030, noisy), // large as it is
        named(27_030, 27_040, noisy),
    ];
    for batch in batches {
        let is_large = batch.rows.num_rows() > 10;
        let before = active(&lake, ROWS).await;
        lake.clock.pass_wall(Duration::from_millis(1));
        ours.committer.flush(micro([batch])).await.unwrap();
        if is_large {
            let added = active(&lake, ROWS).await.into_keys().find(|path| !before.contains_key(path)).unwrap();
            let (bytes, _) = lake.store.read(&lake.store.path(ROWS, &added)).await.unwrap().unwrap();
            let file = SerializedFileReader::new(bytes.clone()).unwrap();
            assert_eq!(file.num_row_groups(), 1);
            large.push((bytes.len() as u64 > READ_WHOLE_BYTES_MAX, pages(&file, &bytes, 0)));
        }
    }
    let ids = numbers(&lake, ROWS, "id").await;
    assert_eq!(compactions(&well(&mut maintainer(&lake, ALL_ALIKE), false).await, ROWS), [(6, 1)]);
    assert_eq!(numbers(&lake, ROWS, "id").await, ids);

    let (path, file) = contents(&lake, ROWS).await.into_iter().next().unwrap();
    let rows: Vec<i64> = file.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(rows, [9, 19_999, 18, 6_999, 9]);
    let (bytes, _) = lake.store.read(&lake.store.path(ROWS, &path)).await.unwrap().unwrap();
    assert_eq!(large, [(false, pages(&file, &bytes, 1)), (true, pages(&file, &bytes, 3))]);
    let read: Vec<RecordBatch> =
        ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap().map(Result::unwrap).collect();
    let read = concat_batches(&read[0].schema(), &read).unwrap();
    let found = read.column_by_name("id").unwrap().as_primitive::<Int64Type>();
    assert!(found.values().is_sorted(), "rows stay in their order");
    let names = read.column_by_name("name").unwrap().as_string::<i32>();
    for (id, name) in found.values().iter().zip(names) {
        let expected = if (11..20_010).contains(id) { long(*id) } else { noisy(*id) };
        assert_eq!(name, (id % 5 != 0).then_some(expected.as_str()));
    }

    let add = &active(&lake, ROWS).await[&path];
    let stats: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
    assert_eq!((&stats["minValues"]["id"], &stats["maxValues"]["id"]), (&json!(1), &json!(27_039)));
    assert_eq!(stats["nullCount"]["name"], names.null_count());
    assert_eq!(stats["nullCount"]["tags"], read.column_by_name("tags").unwrap().null_count());
    assert_eq!(stats["nullCount"]["_shard_id"], 0);
}

#[tokio::test]
async fn a_damaged_page_of_a_large_row_group_is_not_carried_on() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    ours.committer.flush(micro([named(0, 20_000, long)])).await.unwrap();
    let damaged = active(&lake, ROWS).await.into_keys().next().unwrap();
    flushes(&lake, 20_000, 3).await;
    let path = lake.store.path(ROWS, &damaged);
    let (whole, _) = lake.store.read(&path).await.unwrap().unwrap();
    let file = SerializedFileReader::new(whole.clone()).unwrap();
    let (start, length) = file.metadata().row_group(0).column(1).byte_range();
    let mut bytes = whole.to_vec();
    bytes[(start + length / 2) as usize..][..100].iter_mut().for_each(|byte| *byte ^= 0x5a);
    lake.faults.inner().put(&path, bytes.into()).await.unwrap();

    let events = round(&mut maintainer(&lake, ALL_ALIKE), false).await;
    assert_eq!(compactions(&events, ROWS), [(3, 1)], "{events:#?}");
    let (failures, _) = said(&events, ROWS);
    assert!(failures.len() == 1 && failures[0].contains(&damaged), "{failures:?}");
    assert!(active(&lake, ROWS).await.contains_key(&damaged));
}

#[tokio::test]
async fn large_row_groups_that_somebody_else_wrote_are_written_anew() {
    let lake = Lake::in_memory();
    lake.committer(&["a"]).await;
    flushes(&lake, 0, 3).await;
    let rows = named(30, 20_030, long).rows;
    let rows = rows.project(&(0..rows.num_columns() - 1).collect::<Vec<_>>()).unwrap(); // without the day
    let zstd = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(zstd)).unwrap();
    writer.write(&rows).unwrap();
    let bytes = writer.into_inner().unwrap();
    let path = "_date=2026-11-22/foreign.parquet";
    let add = json!({ "add": { "path": path, "partitionValues": { "_date": "2026-11-22" }, "size": bytes.len(),
        "modificationTime": 1, "dataChange": true, "stats": "{\"numRecords\":19999}" } });
    lake.faults.inner().put(&lake.store.path(ROWS, path), PutPayload::from(bytes)).await.unwrap();
    lake.foreign(ROWS, &[add]).await;
    let ids = numbers(&lake, ROWS, "id").await;

    let events = well(&mut maintainer(&lake, ALL_ALIKE), false).await;
    assert_eq!(compactions(&events, ROWS), [(4, 1)], "{events:#?}");
    assert_eq!(numbers(&lake, ROWS, "id").await, ids);
    let (_, file) = contents(&lake, ROWS).await.into_iter().next().unwrap();
    for group in 0..file.num_row_groups() {
        let group = file.get_row_group(group).unwrap();
        let pages = (0..group.num_columns()).flat_map(|column| group.get_column_page_reader(column).unwrap());
        let is_ours = |page: Page| matches!(page, Page::DataPageV2 { .. } | Page::DictionaryPage { .. });
        assert!(pages.into_iter().all(|page| is_ours(page.unwrap())), "pages of the first version are another's");
    }
}

#[tokio::test]
async fn a_try_that_ends_at_a_broken_file_leaves_none_of_its_own_behind() {
    let lake = Lake::in_memory();
    let mut ours = lake.committer(&["a"]).await;
    for from in (0..2_400).step_by(300) {
        lake.clock.pass_wall(Duration::from_millis(1));
        ours.committer.flush(micro([named(from, from + 300, noisy)])).await.unwrap();
    }
    let mut files: Vec<(String, Value)> = active(&lake, ROWS).await.into_iter().collect();
    files.sort_by_key(|(_, add)| add["modificationTime"].as_i64());
    let (newest, add) = files.last().unwrap();
    let path = lake.store.path(ROWS, newest);
    let (whole, _) = lake.store.read(&path).await.unwrap().unwrap();
    lake.faults.inner().put(&path, without_page(&whole).into()).await.unwrap();
    let options = MaintenanceOptions { target_file_bytes: add["size"].as_u64().unwrap() * 4, ..OPTIONS };
    round(&mut maintainer(&lake, options), false).await;
    let of_the_table = active(&lake, ROWS).await.into_keys().filter(|path| path.contains("compact-")).count();
    assert!(of_the_table > 0, "the others are compacted");
    assert_eq!(objects(&lake, "orders/_date=2026-11-22/compact-").await.len(), of_the_table);
}
