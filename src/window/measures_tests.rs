//! Every measure over random rows, cut and merged in random ways, against one pass and plain counting.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use deltalake::arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use deltalake::arrow::datatypes::Int64Type;
use proptest::prelude::*;

use super::aggregate::{WindowCells, aggregate};
use super::cell::{Cell, Measure, decoded_row_bytes};
use super::group::{Group, KeyValue};
use super::partials::{Undecodable, decode_current, encode};
use super::sketch::{Distinct, Quantiles, Top};
use crate::checkpoint::ShardId;
use crate::contract::{self, Contract};
use crate::limits::{TOP_TEXT_BYTES_MAX, TOP_VALUES_MAX};
use crate::toml_doc::Problems;

const CONTRACT: &str = r#"
table = "posts"

[[column]]
name = "text"
type = "string"

[[column]]
name = "whole"
type = "long"

[[column]]
name = "number"
type = "double"

[[column]]
name = "flag"
type = "boolean"

[[column]]
name = "day"
type = "date"

[[column]]
name = "at"
type = "timestamp"

[[window]]
name = "w"
every = "1m"
by = ["flag"]

[window.measure]
first_text = "first(text)"
last_text = "last(text)"
first_whole = "first(whole)"
last_number = "last(number)"
last_flag = "last(flag)"
first_day = "first(day)"
last_at = "last(at)"
texts = "distinct(text)"
wholes = "distinct(whole)"
numbers = "distinct(number)"
flags = "distinct(flag)"
days = "distinct(day)"
spread = "quantiles(number)"
whole_spread = "quantiles(whole)"
common = "top(text, 3)"
common_wholes = "top(whole, 3)"
"#;

const SHARDS: [&str; 3] = ["shardId-000000000000", "shardId-000000000001", "shardId-000000000002"];

#[derive(Debug, Clone)]
struct Row {
    shard: usize,
    sequence: u64,
    sub: i64,
    arrived_at_us: i64,
    text: Option<String>,
    whole: Option<i64>,
    number: Option<f64>,
    flag: Option<bool>,
}

fn contract() -> Contract {
    let problems = Problems::default();
    let contract = contract::parse("posts.toml", CONTRACT.to_owned(), &problems);
    problems.into_result().unwrap();
    contract.unwrap()
}

fn batch(contract: &Contract, rows: &[Row]) -> RecordBatch {
    let times = || rows.iter().map(|row| row.arrived_at_us);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.text.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.whole).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.number).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.flag).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|row| row.whole.map(|whole| whole as i32)).collect::<Date32Array>()),
        Arc::new(rows.iter().map(|row| row.whole).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| SHARDS[row.shard]))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.sequence.to_string()))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.sub))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(times()).with_timezone("UTC")),
        Arc::new(Int64Array::new_null(rows.len())),
        Arc::new(Date32Array::from_iter_values(times().map(|us| us.div_euclid(86_400_000_000) as i32))),
    ];
    RecordBatch::try_new(Arc::clone(&contract.rows_schema), columns).unwrap()
}

fn cells(contract: &Contract, rows: &[Row]) -> WindowCells {
    aggregate(contract, &batch(contract, rows)).unwrap().windows.remove(0)
}

/// The same as it comes back from the table.
fn there_and_back(contract: &Contract, cells: WindowCells) -> WindowCells {
    let plan = &contract.windows[0];
    let table = encode(plan, [(&ShardId::new(SHARDS[0]), &cells)].into_iter()).unwrap();
    assert_eq!(table.schema(), plan.partials_schema);
    decode_current(plan, &table).unwrap().into_iter().collect()
}

fn state<'a>(contract: &Contract, cell: &'a Cell, name: &str) -> &'a Measure {
    let index = contract.windows[0].measures.iter().position(|measure| measure.name == name);
    &cell.measures[index.unwrap()]
}

fn chosen(contract: &Contract, cell: &Cell, name: &str) -> Option<KeyValue> {
    let Measure::Chosen(_, chosen) = state(contract, cell, name) else { panic!("{name} is no first or last") };
    chosen.as_ref().map(|chosen| chosen.value.clone())
}

/// What the chosen ones must be, by sorting.
fn by_place<T>(rows: &[&Row], value: impl Fn(&Row) -> Option<T>, last: bool) -> Option<T> {
    let mut rows: Vec<&&Row> = rows.iter().filter(|row| value(row).is_some()).collect();
    rows.sort_by_key(|row| (row.arrived_at_us, SHARDS[row.shard], row.sequence, row.sub));
    value(if last { rows.last()? } else { rows.first()? })
}

/// What the three kinds of sketches must say while they are exact.
fn check_small_sketches(contract: &Contract, cell: &Cell, rows: &[&Row]) -> Result<(), TestCaseError> {
    let texts: Vec<&str> = rows.iter().filter_map(|row| row.text.as_deref()).collect();
    let wholes: Vec<i64> = rows.iter().filter_map(|row| row.whole).collect();
    let mut numbers: Vec<f64> = rows.iter().filter_map(|row| row.number).filter(|number| number.is_finite()).collect();
    numbers.sort_by(f64::total_cmp);
    let distinct = |name| if let Measure::Distinct(sketch) = state(contract, cell, name) { sketch.count() } else { -1 };
    let different = |count: usize| count as i64;
    let named = texts.iter().filter(|text| !text.is_empty()).collect::<BTreeSet<_>>();
    prop_assert_eq!(distinct("texts"), different(named.len()));
    prop_assert_eq!(distinct("wholes"), different(wholes.iter().collect::<BTreeSet<_>>().len()));
    let bits = numbers.iter().map(|number| (number + 0.0).to_bits()).collect::<BTreeSet<_>>();
    prop_assert_eq!(distinct("numbers"), different(bits.len()));
    prop_assert_eq!(distinct("flags"), i64::from(rows[0].flag.is_some()));

    let Measure::Quantiles(spread) = state(contract, cell, "spread") else { panic!() };
    let rank = |rank: f64| numbers[(rank * numbers.len() as f64).ceil() as usize - 1];
    prop_assert_eq!(spread.values(), (!numbers.is_empty()).then(|| [rank(0.5), rank(0.9), rank(0.99)]));

    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    texts.iter().for_each(|text| *counts.entry(text).or_default() += 1);
    let mut expected: Vec<(String, u64)> = counts.into_iter().map(|(text, count)| (text.to_owned(), count)).collect();
    expected.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    expected.truncate(3);
    let Measure::Top(common) = state(contract, cell, "common") else { panic!() };
    prop_assert_eq!((common.shown(), common.error().unwrap_or(0)), (expected, 0));
    Ok(())
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let text = prop::option::of(prop::sample::select(vec!["", "a", "b", "ä", "日本", "a\u{0}b", "'x'"]));
    let number = prop::sample::select(vec![0.0, -0.0, 1.5, -3.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300]);
    let values = (text, prop::option::of(-3i64..3), prop::option::of(number), prop::option::of(any::<bool>()));
    // Few times, so that places decide.
    let row = ((0usize..3, 0i64..3, 0i64..4), values).prop_map(|((shard, sub, second), values)| Row {
        shard,
        sequence: 0,
        sub,
        arrived_at_us: second * 1_000_000,
        text: values.0.map(str::to_owned),
        whole: values.1,
        number: values.2,
        flag: values.3,
    });
    prop::collection::vec(row, 1..60).prop_map(|mut rows| {
        // Numbers of one and of two digits: as text, 10 is before 9.
        rows.iter_mut().enumerate().for_each(|(index, row)| row.sequence = index as u64 + 1);
        rows
    })
}

proptest! {
    #[test]
    fn partials_in_any_split_and_order_equal_one_pass(
        (rows, parts) in rows().prop_flat_map(|rows| {
            let parts = prop::collection::vec(0usize..6, rows.len());
            (Just(rows).prop_shuffle(), parts)
        }),
        order in Just((0..6usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let contract = contract();
        let whole = cells(&contract, &rows);
        let mut merged = WindowCells::default();
        for part in order {
            let part: Vec<Row> = rows.iter().zip(&parts).filter(|(_, of)| **of == part).map(|(row, _)| row.clone()).collect();
            merged.merge(there_and_back(&contract, cells(&contract, &part)));
        }
        prop_assert_eq!(merged.len(), whole.len());
        let merged: HashMap<&Group, &Cell> = merged.iter().collect();
        for (group, cell) in whole.iter() {
            prop_assert_eq!(merged[group], cell, "{:?}", group);
            let of_group = |row: &&Row| group.key[0] == row.flag.map_or(KeyValue::Null, KeyValue::Boolean);
            let rows: Vec<&Row> = rows.iter().filter(of_group).collect();
            let text = |row: &Row| row.text.as_deref().map(|text| KeyValue::Text(text.into()));
            let whole = |row: &Row| row.whole.map(KeyValue::Integer);
            let number = |row: &Row| {
                row.number.filter(|number| number.is_finite()).map(|number| KeyValue::Double(number.to_bits()))
            };
            prop_assert_eq!(chosen(&contract, cell, "first_text"), by_place(&rows, text, false));
            prop_assert_eq!(chosen(&contract, cell, "last_text"), by_place(&rows, text, true));
            prop_assert_eq!(chosen(&contract, cell, "first_whole"), by_place(&rows, whole, false));
            prop_assert_eq!(chosen(&contract, cell, "first_day"), by_place(&rows, whole, false));
            prop_assert_eq!(chosen(&contract, cell, "last_at"), by_place(&rows, whole, true));
            prop_assert_eq!(chosen(&contract, cell, "last_number"), by_place(&rows, number, true));
            check_small_sketches(&contract, cell, &rows)?;
        }
    }

    #[test]
    fn no_bytes_make_a_sketch_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        kind in 0usize..3,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        values in 0i64..2_000,
    ) {
        let (mut distinct, mut quantiles, mut top) = (Distinct::default(), Quantiles::default(), Top::new(4));
        for value in 0..values {
            distinct.observe_integer(value);
            quantiles.observe(value as f64);
            top.observe_integer(value);
        }
        let mut ours = [distinct.to_bytes(), quantiles.to_bytes(), top.to_bytes()][kind].clone().unwrap_or(bytes.clone());
        for (at, byte) in flips {
            if !ours.is_empty() {
                let at = at.index(ours.len());
                ours[at] = byte;
            }
        }
        for bytes in [&bytes, &ours] {
            if let Ok(mut damaged) = Distinct::from_bytes(Some(bytes)) {
                damaged.merge(&distinct);
                damaged.count();
            }
            if let Ok(mut damaged) = Quantiles::from_bytes(Some(bytes)) {
                damaged.merge(&quantiles);
                damaged.values();
            }
            if let Ok(mut damaged) = Top::from_bytes(4, Some(bytes)) {
                damaged.merge(&top);
                damaged.shown();
            }
        }
    }
}

/// As many values as there are, in a scattered order, and cut into parts of different sizes.
fn parts(count: u64) -> Vec<Vec<u64>> {
    let scattered: Vec<u64> = (0..count).map(|index| index * 7_919 % count).collect();
    let mut parts = Vec::new();
    let mut rest = &scattered[..];
    for size in (1..).map(|part| part * 37 % 1_500 + 1) {
        let (part, after) = rest.split_at(size.min(rest.len()));
        parts.push(part.to_vec());
        rest = after;
        if rest.is_empty() {
            return parts;
        }
    }
    parts
}

#[test]
fn a_distinct_count_is_the_same_for_any_split_and_within_its_error() {
    for count in [300u64, 384, 385, 1_000, 20_000, 100_000] {
        let mut whole = Distinct::default();
        (0..count).for_each(|value| whole.observe_text(&format!("value {value}")));
        let (mut forward, mut backward) = (Distinct::default(), Distinct::default());
        let parts: Vec<Distinct> = parts(count)
            .iter()
            .map(|part| {
                let mut sketch = Distinct::default();
                part.iter().for_each(|value| sketch.observe_text(&format!("value {value}")));
                Distinct::from_bytes(sketch.to_bytes().as_deref()).unwrap()
            })
            .collect();
        parts.iter().for_each(|part| forward.merge(part));
        parts.iter().rev().for_each(|part| backward.merge(part));
        assert_eq!((forward.count(), backward.count()), (whole.count(), whole.count()), "{count}");
        let error = (whole.count() as f64 / count as f64 - 1.0).abs();
        assert!(error <= 3.0 * 1.04 / 64.0, "{count}: {error}");
    }
}

#[test]
fn merged_quantiles_are_within_twice_their_stated_error() {
    let count = 100_000u64;
    let mut merged = Quantiles::default();
    for part in parts(count) {
        let mut sketch = Quantiles::default();
        part.iter().for_each(|value| sketch.observe(*value as f64));
        merged.merge(&Quantiles::from_bytes(sketch.to_bytes().as_deref()).unwrap());
    }
    // 1.33 % holds 99 % of the time; twice as much always, so to say.
    for (value, rank) in merged.values().unwrap().into_iter().zip([0.5, 0.9, 0.99]) {
        let found = (value + 1.0) / count as f64;
        assert!((found - rank).abs() <= 2.0 * 0.0133, "{rank}: {found}");
    }
}

#[test]
fn merged_top_values_are_never_too_small_and_within_what_they_say() {
    let mut merged = Top::new(5);
    // Value v (1 to 3000) is in there 100,000 / v times.
    let mut rows: Vec<u64> = (1..=3_000u64).flat_map(|value| vec![value; (100_000 / value) as usize]).collect();
    let total = rows.len();
    let step = 7_919;
    rows = (0..total).map(|index| rows[index * step % total]).collect();
    for part in rows.chunks(4_999) {
        let mut sketch = Top::new(5);
        part.iter().for_each(|value| sketch.observe_integer(*value as i64));
        merged.merge(&Top::from_bytes(5, sketch.to_bytes().as_deref()).unwrap());
    }
    let counted = |value: &str| rows.iter().filter(|row| row.to_string() == value).count() as u64;
    let error = merged.error().unwrap();
    assert!(error > 0 && error as f64 <= 3.5 / 128.0 * total as f64, "{error} of {total}");
    for (value, count) in merged.shown() {
        let exact = counted(&value);
        assert!((exact..=exact + error).contains(&count), "{value}: {count}, {exact} + {error}");
    }
    assert_eq!(merged.shown()[0].0, "1");
}

#[test]
fn a_sketch_of_few_values_is_small_and_a_grown_one_is_charged() {
    let (mut distinct, mut quantiles, mut top) = (Distinct::default(), Quantiles::default(), Top::new(10));
    assert_eq!((distinct.heap_bytes(), quantiles.heap_bytes(), top.heap_bytes()), (0, 0, 0));
    distinct.observe_text("x");
    quantiles.observe(1.0);
    top.observe_text("x");
    assert_eq!((distinct.heap_bytes(), quantiles.heap_bytes(), top.heap_bytes()), (0, 0, 1), "a value is a value");
    distinct.observe_text("y");
    quantiles.observe(1.0);
    top.observe_text("y");
    let small = [distinct.heap_bytes(), quantiles.heap_bytes(), top.heap_bytes()];
    assert!(small[0] <= 256 && small[1] <= 320 && small[2] <= 512, "{small:?}");
    for value in 0..100_000 {
        distinct.observe_integer(value);
        quantiles.observe(value as f64);
        top.observe_text(&format!("{value:0>300}"));
    }
    let retained = quantiles.to_bytes().unwrap().len();
    assert!(distinct.heap_bytes() >= 4_096, "{}", distinct.heap_bytes());
    assert!((retained..retained * 4).contains(&quantiles.heap_bytes()), "{} {retained}", quantiles.heap_bytes());
    let texts = top.to_bytes().unwrap().len();
    assert!(top.heap_bytes() >= texts, "{} {texts}", top.heap_bytes());
}

#[test]
fn what_a_decoded_row_of_few_values_takes_is_not_estimated_too_low() {
    let contract = contract();
    let row = |sequence| Row {
        shard: 0,
        sequence,
        sub: 0,
        arrived_at_us: 0,
        text: Some(format!("{sequence}")),
        whole: Some(sequence as i64),
        number: Some(sequence as f64),
        flag: Some(true),
    };
    let estimate = decoded_row_bytes(&contract.windows[0]);
    for records in 1..4 {
        let cells = cells(&contract, &(0..records).map(row).collect::<Vec<_>>());
        let (group, cell) = cells.iter().next().unwrap();
        let bytes = group.bytes() + cell.bytes();
        assert!((estimate / 8..=estimate).contains(&bytes), "{records} records: {bytes} bytes, estimated {estimate}");
    }
}

fn hex(bytes: Option<Vec<u8>>) -> String {
    bytes.unwrap().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The expected bytes are what PyPI's `datasketches` 5.2.0 (the C++ library) wrote for the same values.
#[test]
fn the_bytes_are_those_of_another_implementation() {
    let mut texts = Distinct::default();
    ["a", "ä", "日本", "User Info", "", &"x".repeat(300)].iter().for_each(|text| texts.observe_text(text));
    assert_eq!(hex(texts.to_bytes()), "0201070c030805082f823b049fd52f097bf6210657dc250be588130c");
    let mut wholes = Distinct::default();
    [0, 1, -1, 1 << 62].into_iter().for_each(|whole| wholes.observe_integer(whole));
    assert_eq!(hex(wholes.to_bytes()), "0201070c03080408cbd7c2042bf2fb06d964e70b8e94df05");
    let mut doubles = Distinct::default();
    [0.0, -0.0, 1.5, -1e300].into_iter().for_each(|double| doubles.observe_double(double));
    assert_eq!(hex(doubles.to_bytes()), "0201070c03080308cbd7c20422822a140aadda09");

    let mut dense = Distinct::default();
    (0..1_000).for_each(|value| dense.observe_text(&format!("value {value}")));
    let bytes = dense.to_bytes().unwrap();
    // But for the flag of compact images in the sixth byte: registers are the same in both.
    let header = "0a01070c0000000a635fff436fb58e40000000806e58ab400000000000000000900c000000000000";
    assert_eq!((bytes.len(), hex(Some(bytes[..40].to_vec()))), (4_136, header.to_owned()));
    let weighted: u64 = (1..).zip(&bytes[40..]).map(|(at, register)| at * u64::from(*register)).sum();
    assert_eq!((weighted, dense.count()), (3_696_620, 991), "its own composite estimate is 990.57");

    let mut quantiles = Quantiles::default();
    quantiles.observe(7.5);
    assert_eq!(hex(quantiles.to_bytes()), "02020f04c80008000000000000001e40");
    quantiles = Quantiles::default();
    [3.0, 1.0, 2.0].into_iter().for_each(|value| quantiles.observe(value));
    let expected = "05010f00c80008000300000000000000c8000100c5000000000000000000f03f00000000000008400000000000000040000000000000f03f\
                    0000000000000840";
    assert_eq!(hex(quantiles.to_bytes()), expected);

    let theirs = "04010a060300000003000000000000000400000000000000000000000000000001000000000000000200000000000000010000000000\
                  000002000000c3a401000000610100000062";
    let theirs: Vec<u8> =
        (0..theirs.len() / 2).map(|at| u8::from_str_radix(&theirs[at * 2..at * 2 + 2], 16).unwrap()).collect();
    let mut top = Top::new(3);
    ["a", "b", "a", "ä"].iter().for_each(|text| top.observe_text(text));
    let read = Top::from_bytes(3, Some(&theirs)).unwrap();
    assert_eq!((&read, read.shown().len()), (&top, 3), "slots are ordered in another way");
    assert_eq!(top.to_bytes().unwrap()[..32], theirs[..32]);
}

#[test]
fn long_texts_count_as_their_beginning_cut_between_letters() {
    let mut top = Top::new(1);
    let long = format!("x{}", "ä".repeat(TOP_TEXT_BYTES_MAX));
    top.observe_text(&long);
    let (text, _) = top.shown().remove(0);
    assert_eq!((text.len(), long.starts_with(&text)), (TOP_TEXT_BYTES_MAX - 1, true));
}

#[test]
fn sketches_of_another_size_are_not_ours() {
    use datasketches::frequencies::FrequentItemsSketch;
    use datasketches::hll::{HllSketch, HllType};
    use datasketches::kll::{KllFloat, KllSketch};
    let mut hll = HllSketch::new(14, HllType::Hll8).unwrap();
    hll.update(1);
    assert!(Distinct::from_bytes(Some(&hll.serialize())).unwrap_err().to_string().contains("lg_k = 14, ours with 12"));
    let mut kll = KllSketch::<KllFloat<f64>>::new(400).unwrap();
    kll.update(KllFloat::<f64>::new(1.0).unwrap());
    assert!(Quantiles::from_bytes(Some(&kll.serialize())).is_err());
    let mut items = FrequentItemsSketch::<String>::new(1 << 20).unwrap();
    items.update("x".to_owned());
    assert!(Top::from_bytes(TOP_VALUES_MAX as usize, Some(&items.serialize())).is_err());
    assert!(Top::from_bytes(4, Some(b"")).is_err());
}

#[test]
fn rows_that_cannot_be_decoded_are_an_error_and_those_of_another_definition_are_not_looked_at() {
    let contract = contract();
    let plan = &contract.windows[0];
    let row = Row {
        shard: 0,
        sequence: 1,
        sub: 0,
        arrived_at_us: 0,
        text: Some("x".to_owned()),
        whole: Some(1),
        number: Some(1.0),
        flag: None,
    };
    let table = encode(plan, [(&ShardId::new("a"), &cells(&contract, &[row]))].into_iter()).unwrap();
    let replaced = |name: &str, column: ArrayRef| {
        let mut columns = table.columns().to_vec();
        columns[table.schema().index_of(name).unwrap()] = column;
        RecordBatch::try_new(table.schema(), columns).unwrap()
    };
    let damaged = replaced("texts_sketch", Arc::new(BinaryArray::from_iter_values([b"damaged"])));
    let error = decode_current(plan, &damaged).unwrap_err();
    assert!(matches!(&error, Undecodable::Sketch { column, .. } if column == "texts_sketch"), "{error}");
    let misplaced = replaced("first_text_sequence_number", Arc::new(StringArray::from_iter_values(["x"])));
    assert!(matches!(decode_current(plan, &misplaced), Err(Undecodable::Place { .. })));
    assert!(decode_current(plan, &table.project(&[0, 1, 2]).unwrap()).is_err());
    let other = replaced("definition", Arc::new(StringArray::from_iter_values(["of another"])));
    assert!(decode_current(plan, &other).unwrap().is_empty());
    let spread =
        table.column_by_name("whole_spread_p50").unwrap().as_primitive::<deltalake::arrow::datatypes::Float64Type>();
    let days = table.column_by_name("days").unwrap().as_primitive::<Int64Type>();
    assert_eq!((spread.value(0), days.value(0)), (1.0, 1));
}
