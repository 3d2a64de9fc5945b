use std::sync::Arc;

use deltalake::arrow::array::{ArrayRef, BinaryArray, Int32Array, Int64Array, StringArray};
use deltalake::parquet::arrow::ArrowWriter;
use tokio::time::Instant;

use super::super::pinterest::Population;
use super::*;

const SHARD: &str = "shardId-000000000000";

/// A Delta table made by hand: one file with these columns.
fn plant(folder: &std::path::Path, columns: Vec<(&str, ArrayRef)>) {
    std::fs::create_dir_all(folder.join("_delta_log")).unwrap();
    let field = |(name, column): &(&str, ArrayRef)| {
        let kind = match column.data_type().to_string().as_str() {
            "Int64" => "long",
            "Int32" => "integer",
            "Binary" => "binary",
            _ => "string",
        };
        format!(r#"{{\"name\":\"{name}\",\"type\":\"{kind}\",\"nullable\":true,\"metadata\":{{}}}}"#)
    };
    let fields = columns.iter().map(field).collect::<Vec<_>>().join(",");
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(folder.join("part-0.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let size = std::fs::metadata(folder.join("part-0.parquet")).unwrap().len();
    let log = format!(
        "{}\n{}{fields}{}\n{}{size}{}\n",
        r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#,
        r#"{"metaData":{"id":"0b0e8a3f-5c3e-4a51-9d7e-6f3f0c7b2a11","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":["#,
        r#"]}","partitionColumns":[],"configuration":{},"createdTime":0}}"#,
        r#"{"add":{"path":"part-0.parquet","partitionValues":{},"size":"#,
        r#","modificationTime":0,"dataChange":true}}"#,
    );
    std::fs::write(folder.join("_delta_log/00000000000000000000.json"), log).unwrap();
}

fn bookkeeping(numbers: &[u64]) -> Vec<(&'static str, ArrayRef)> {
    let texts = |texts: Vec<String>| Arc::new(StringArray::from(texts)) as ArrayRef;
    vec![
        (SHARD_ID, texts(vec![SHARD.to_owned(); numbers.len()])),
        (SEQUENCE_NUMBER, texts(numbers.iter().map(u64::to_string).collect())),
        (SUB_SEQUENCE_NUMBER, Arc::new(Int64Array::from(vec![0; numbers.len()])) as ArrayRef),
    ]
}

/// The countries of the emulation's rows 2863 and 5730 are Armenia and Colombia.
fn plant_rows(folder: &std::path::Path, rows: &[(u64, i32, &str)]) {
    let numbers: Vec<u64> = rows.iter().map(|(number, ..)| *number).collect();
    let mut columns = bookkeeping(&numbers);
    columns.push(("ind", Arc::new(Int32Array::from_iter_values(rows.iter().map(|(_, ind, _)| *ind)))));
    columns.push(("country", Arc::new(StringArray::from_iter_values(rows.iter().map(|(.., country)| *country)))));
    plant(folder, columns);
}

fn plant_rejects(folder: &std::path::Path, rejects: &[(u64, &str, &str)]) {
    let numbers: Vec<u64> = rejects.iter().map(|(number, ..)| *number).collect();
    let mut columns = bookkeeping(&numbers);
    columns.push((REASON, Arc::new(StringArray::from_iter_values(rejects.iter().map(|(_, reason, _)| *reason)))));
    let payloads = rejects.iter().map(|(.., payload)| payload.as_bytes());
    columns.push((PAYLOAD, Arc::new(BinaryArray::from_iter_values(payloads))));
    plant(folder, columns);
}

/// Each number put with the bytes `record {number}`, of row 2863 if it is odd and of row 5730 if it is even.
fn accepted(numbers: &[u64]) -> AcceptedShards {
    let one = |value: &u64| {
        let (number, ind) = (SequenceNumber::parse(&value.to_string()).unwrap(), [5730, 2863][*value as usize % 2]);
        Accepted::new(number, Instant::now(), ind, format!("record {value}").as_bytes())
    };
    AcceptedShards::from([(ShardId::new(SHARD), numbers.iter().map(one).collect())])
}

async fn reckoned(lake: &std::path::Path, accepted: AcceptedShards) -> Reckoning {
    let tables =
        StreamTables { stream: "geo".into(), kind: Kind::Geo, rows: "geo".into(), rejects: "geo_rejects".into() };
    let mut expected = ExpectedRows::new(Arc::new(Population::new()));
    let root = Url::from_directory_path(lake).unwrap();
    reckon(&root, &tables, accepted, &mut expected).await.unwrap()
}

#[tokio::test]
async fn planted_losses_and_duplicates_are_found() {
    let lake = tempfile::tempdir().unwrap();
    let (odd, even) = ((2863, "Armenia"), (5730, "Colombia"));
    let rows = [(1, odd.0, odd.1), (2, even.0, even.1), (3, odd.0, odd.1), (3, odd.0, odd.1), (9, odd.0, odd.1)];
    plant_rows(&lake.path().join("geo"), &rows);
    let rejects = [(2, "empty", "record 2"), (4, "invalid_json", "record 4")];
    plant_rejects(&lake.path().join("geo_rejects"), &rejects);
    let reckoning = reckoned(lake.path(), accepted(&[1, 2, 3, 4, 5, 6])).await;
    assert_eq!(reckoning.rows, 5);
    assert_eq!(reckoning.rejects, BTreeMap::from([("empty".to_owned(), 1), ("invalid_json".to_owned(), 1)]));
    assert_eq!(
        reckoning.total(),
        Tally { accepted: 6, lost: 2, duplicated: 2, unexpected: 1, ..Tally::default() },
        "{reckoning:?}"
    );
}

#[tokio::test]
async fn planted_alterations_and_swaps_are_found() {
    let lake = tempfile::tempdir().unwrap();
    let rows = [(1, 2863, "Armenia"), (2, 5730, "Armenia"), (3, 5730, "Colombia"), (6, 5730, "Colombia")];
    plant_rows(&lake.path().join("geo"), &[rows.as_slice(), &[(4, 5730, "Colombia")]].concat());
    plant_rejects(&lake.path().join("geo_rejects"), &[(5, "invalid_json", "record 5"), (7, "empty", "record 8")]);
    let reckoning = reckoned(lake.path(), accepted(&[1, 2, 3, 4, 5, 6, 7])).await;
    // 2: another country. 3: the row of another record. 7: other bytes. 4 comes after 6.
    assert_eq!(reckoning.total(), Tally { accepted: 7, altered: 3, out_of_order: 1, ..Tally::default() });
}

#[tokio::test]
async fn a_recovered_row_is_no_record_of_its_own_and_needs_one_reject() {
    let cases: [(&[u64], u64); 3] = [(&[4], 0), (&[4, 4], 1), (&[4, 2], 1)];
    for (recovered, unfounded) in cases {
        let lake = tempfile::tempdir().unwrap();
        plant_rejects(&lake.path().join("geo_rejects"), &[(3, "empty", "record 3"), (4, "empty", "record 4")]);
        let numbers = [&[1, 2], recovered].concat();
        let replays = numbers.iter().enumerate().map(|(row, _)| (row >= 2).then_some(1));
        let place = |number: &u64| [(5730, "Colombia"), (2863, "Armenia")][*number as usize % 2];
        let mut columns = bookkeeping(&numbers);
        columns.push(("ind", Arc::new(Int32Array::from_iter_values(numbers.iter().map(|it| place(it).0)))));
        columns.push(("country", Arc::new(StringArray::from_iter_values(numbers.iter().map(|it| place(it).1)))));
        columns.push((REPLAYED, Arc::new(Int64Array::from_iter(replays))));
        plant(&lake.path().join("geo"), columns);
        let found = reckoned(lake.path(), accepted(&[1, 2, 3, 4])).await;
        assert_eq!((found.rows, found.recovered, found.unfounded), (2, recovered.len() as u64, unfounded));
        assert_eq!(found.total(), Tally { accepted: 4, ..Tally::default() });
    }
}

#[tokio::test]
async fn a_number_that_was_booked_several_times_is_an_aggregate_of_as_many_records() {
    type There<'a> = &'a [(u64, i64)];
    let cases: [(There<'_>, (u64, u64, u64)); 4] = [
        (&[(7, 0), (7, 1), (7, 2), (8, 0)], (0, 0, 0)),
        (&[(7, 0), (7, 2), (8, 0)], (1, 0, 0)),
        (&[(7, 2), (7, 0), (7, 1), (7, 2), (8, 0)], (0, 1, 0)),
        (&[(7, 0), (7, 1), (7, 2), (8, 0), (8, 1)], (0, 0, 1)),
    ];
    for (there, expected) in cases {
        let lake = tempfile::tempdir().unwrap();
        let numbers: Vec<u64> = there.iter().map(|(number, _)| *number).collect();
        let mut columns = bookkeeping(&numbers);
        columns[2].1 = Arc::new(Int64Array::from_iter_values(there.iter().map(|(_, sub)| *sub)));
        let inds = numbers.iter().map(|number| [5730, 2863][*number as usize % 2]);
        columns.push(("ind", Arc::new(Int32Array::from_iter_values(inds))));
        let countries = numbers.iter().map(|number| ["Colombia", "Armenia"][*number as usize % 2]);
        columns.push(("country", Arc::new(StringArray::from_iter_values(countries))));
        plant(&lake.path().join("geo"), columns);
        let found = reckoned(lake.path(), accepted(&[7, 8, 7, 7])).await.total();
        assert_eq!((found.accepted, found.altered), (4, 0));
        assert_eq!((found.lost, found.duplicated, found.unexpected), expected, "{there:?}");
    }
}

#[tokio::test]
async fn a_clean_lake_reckons_to_nothing() {
    let lake = tempfile::tempdir().unwrap();
    plant_rows(&lake.path().join("geo"), &[(1, 2863, "Armenia"), (2, 5730, "Colombia"), (3, 2863, "Armenia")]);
    let reckoning = reckoned(lake.path(), accepted(&[3, 1, 2])).await;
    assert_eq!((reckoning.rows, reckoning.total()), (3, Tally { accepted: 3, ..Tally::default() }));
}

#[tokio::test]
async fn tables_that_were_never_made_have_lost_everything() {
    let lake = tempfile::tempdir().unwrap();
    let reckoning = reckoned(lake.path(), accepted(&[1, 2])).await;
    assert_eq!((reckoning.rows, reckoning.total()), (0, Tally { accepted: 2, lost: 2, ..Tally::default() }));
}
