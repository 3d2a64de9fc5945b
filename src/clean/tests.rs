//! The decisions of the data contract, one golden case each, and what must hold for any bytes at all.

mod decisions;
mod properties;
mod repairs;
mod steps;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use deltalake::arrow::array::RecordBatch;
use deltalake::arrow::util::display::{ArrayFormatter, FormatOptions};

use super::*;
use crate::budget::Permit;
use crate::checkpoint::{Position, PositionRange, SequenceNumber};
use crate::contract;
use crate::limits::JSON_VALUES_MAX;
use crate::record::{LeftOver, Reject, Repair, ShardGrant};
use crate::toml_doc::Problems;

/// 2024-01-14T15:59:44.638Z.
const ARRIVED_AT_US: i64 = 1_705_247_984_638_000;

const PIN_7528: &str = r#"{"index":7528,"unique_id":"fbe53c66-3442-4773-b19e-d3ec6f54dddf","title":"No Title Data Available","description":"No description available Story format","poster_name":"User Info Error","follower_count":"User Info Error","tag_list":"N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e","is_image_or_video":"multi-video(story page format)","image_src":"Image src error.","downloaded":0,"save_location":"Local save in /data/mens-fashion","category":"mens-fashion"}"#;
const PIN_5730: &str = "{\"index\":5730,\"unique_id\":\"1e1f0c8b-9fcf-460b-9154-c775827206eb\",\"title\":\"Island Oasis Coupon Organizer\",\"description\":\"Description Coupon Organizer in a fun colorful fabric -island oasis, Great Size for the \\\"basic\\\" couponer - holds up to 500 coupons with ease, and is made long enough so that you…\u{a0}\",\"poster_name\":\"Consuelo Aguirre\",\"follower_count\":\"0\",\"tag_list\":\"Grocery Items,Grocery Coupons,Care Organization,Coupon Organization,Extreme Couponing,Couponing 101,Life Binder,Save My Money,Love Coupons\",\"is_image_or_video\":\"image\",\"image_src\":\"https://i.pinimg.com/originals/65/bb/ea/65bbeaf458907bb079317d8303c4fa0e.jpg\",\"downloaded\":1,\"save_location\":\"Local save in /data/finance\",\"category\":\"finance\"}";
const PIN_8304: &str = r##"{"index":8304,"unique_id":"5b6d0913-25e4-43ab-839d-85d5516f78a4","title":"The #1 Reason You’re Not His Priority Anymore - Matthew Coast","description":"#lovequotes #matchmaker #matchmadeinheaven #loveyourself #respectyourself","poster_name":"Commitment Connection","follower_count":"51k","tag_list":"Wise Quotes,Quotable Quotes,Words Quotes,Wise Words,Quotes To Live By,Great Quotes,Motivational Quotes,Inspirational Quotes,Funny Quotes","is_image_or_video":"image","image_src":"https://i.pinimg.com/originals/c6/64/ee/c664ee71524fb5a6e7b7b49233f93b43.png","downloaded":1,"save_location":"Local save in /data/quotes","category":"quotes"}"##;
const GEO_7528: &str =
    r#"{"ind":7528,"timestamp":"2020-08-28T03:52:47","latitude":-89.9787,"longitude":-173.293,"country":"Albania"}"#;
const USER_7528: &str =
    r#"{"ind":7528,"first_name":"Abigail","last_name":"Ali","age":20,"date_joined":"2015-10-24T11:23:51"}"#;

/// How a null is shown by [`Cleaned::row`].
const NULL: &str = "∅";

fn shipped(name: &str) -> Arc<Contract> {
    let problems = Problems::default();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(name);
    let contract = contract::load(&path, None, &problems);
    problems.into_result().unwrap();
    Arc::new(contract.unwrap())
}

pub(super) fn compiled(text: &str) -> Arc<Contract> {
    let problems = Problems::default();
    let contract = contract::parse("test.toml", text.to_owned(), &problems);
    problems.into_result().unwrap();
    Arc::new(contract.unwrap())
}

/// A contract with the column `id` (required) and the column `x` with these lines.
fn with_x(lines: &str) -> Arc<Contract> {
    let id = "table = \"t\"\n[[column]]\nname = \"id\"\ntype = \"long\"\nrequired = true\n";
    compiled(&format!("{id}[[column]]\nname = \"x\"\n{lines}\n"))
}

fn raw(payloads: &[&[u8]]) -> RawBatch {
    let records = payloads.iter().zip(1i64..).map(|(data, number)| RawRecord {
        data: data.to_vec().into(),
        sequence_number: SequenceNumber::parse(&number.to_string()).unwrap(),
        sub_sequence_number: 0,
        arrived_at_us: ARRIVED_AT_US,
        refused: None,
    });
    RawBatch {
        range: PositionRange {
            shard: ShardId::new("shardId-000000000000"),
            after: Position::Beginning,
            through: Position::Beginning,
        },
        records: records.collect(),
        seen_ms: Some(7),
        end: None,
        grant: ShardGrant::new(),
        permit: Permit::default(),
    }
}

/// What came out of one batch.
#[derive(Debug)]
struct Cleaned {
    rows: RecordBatch,
    rejects: Vec<Reject>,
    counts: CleanCounts,
}

fn clean(contract: &Arc<Contract>, payloads: &[&[u8]]) -> Cleaned {
    let (batch, counts) = Cleaner::new(Arc::clone(contract)).clean(raw(payloads));
    assert_eq!(batch.rows.num_rows() + batch.rejects.len(), payloads.len());
    assert_eq!(batch.rows.schema(), contract.rows_schema);
    Cleaned { rows: batch.rows, rejects: batch.rejects, counts }
}

fn clean_one(contract: &Arc<Contract>, payload: &[u8]) -> Cleaned {
    clean(contract, &[payload])
}

impl Cleaned {
    /// The data columns of a row as text, nulls as [`NULL`].
    fn row(&self, at: usize) -> BTreeMap<String, String> {
        assert!(self.rejects.is_empty(), "{:?}", self.rejects);
        let schema = self.rows.schema();
        let options = FormatOptions::default().with_null(NULL);
        let cell = |(field, column): (&Arc<_>, _)| {
            let field: &deltalake::arrow::datatypes::Field = field;
            (field.name().clone(), ArrayFormatter::try_new(column, &options).unwrap().value(at).to_string())
        };
        let cells = schema.fields().iter().zip(self.rows.columns().iter().map(|column| &**column)).map(cell);
        cells.filter(|(name, _)| !name.starts_with('_')).collect()
    }

    fn cell(&self, column: &str) -> String {
        self.row(0).remove(column).unwrap()
    }

    fn reject(&self) -> (RejectReason, &str) {
        assert_eq!(self.rejects.len(), 1, "{:?}", self.rows);
        (self.rejects[0].reason, &self.rejects[0].detail)
    }

    fn nulls(&self) -> Vec<(&str, &str, u64)> {
        self.counts.nulls.iter().map(|((column, reason), count)| (column.as_str(), *reason, *count)).collect()
    }

    fn repairs(&self) -> Vec<(Repair, u64)> {
        self.counts.repairs.iter().map(|(repair, count)| (*repair, *count)).collect()
    }

    fn unknown(&self) -> Vec<(&str, u64)> {
        self.counts.unknown_fields.iter().map(|(name, count)| (name.as_str(), *count)).collect()
    }
}

/// The value of `x`, or why it is null.
fn x(contract: &Arc<Contract>, json: &str) -> Result<String, String> {
    let cleaned = clean_one(contract, format!("{{\"id\":1,\"x\":{json}}}").as_bytes());
    match (cleaned.cell("x"), cleaned.nulls().as_slice()) {
        (value, []) => Ok(value),
        (value, [("x", reason, 1)]) if value == NULL => Err((*reason).to_owned()),
        (value, nulls) => panic!("{json}: {value} {nulls:?}"),
    }
}

fn null(reason: &str) -> Result<String, String> {
    Err(reason.to_owned())
}

fn ok(value: &str) -> Result<String, String> {
    Ok(value.to_owned())
}

#[test]
fn a_cleaner_moves_to_the_thread_that_has_time() {
    fn sent<T: Send + 'static>() {}
    sent::<Cleaner>();
}

#[test]
fn batches_do_not_influence_each_other() {
    let contract = shipped("pin.toml");
    let mut cleaner = Cleaner::new(Arc::clone(&contract));
    let (first, first_counts) = cleaner.clean(raw(&[PIN_7528.as_bytes(), b"junk"]));
    let (empty, empty_counts) = cleaner.clean(raw(&[]));
    let (second, second_counts) = cleaner.clean(raw(&[PIN_7528.as_bytes(), b"junk"]));
    assert_eq!((first.rows, first.rejects, first_counts), (second.rows, second.rejects, second_counts));
    assert_eq!((empty.rows.num_rows(), empty.rejects.len(), empty_counts), (0, 0, CleanCounts::default()));
    assert_eq!(second.seen_ms, Some(7));
}

#[test]
fn event_time_comes_as_far_as_the_latest_record_and_never_further_than_kinesis_clock() {
    let by_column = compiled(
        "table = \"t\"\nevent_time = \"at\"\n[[column]]\nname = \"id\"\ntype = \"integer\"\nrequired = true\n\
         [[column]]\nname = \"at\"\ntype = \"timestamp\"\n\
         [[window]]\nname = \"w\"\nevery = \"1m\"\nmeasure = { n = \"count\" }\n",
    );
    let arrival_ms = ARRIVED_AT_US / 1000;
    let mut cleaner = Cleaner::new(by_column);
    let mut come_to = |payloads: &[&str]| {
        let payloads: Vec<&[u8]> = payloads.iter().map(|payload| payload.as_bytes()).collect();
        cleaner.clean(raw(&payloads)).0.watermark_ms
    };
    let (old, older) = ("{\"id\":1,\"at\":\"1969-12-31T23:59:59.999Z\"}", "{\"id\":1,\"at\":\"1969-12-31T23:59:59Z\"}");
    assert_eq!(come_to(&[old, older]), Some(-1));
    assert_eq!(come_to(&[older]), Some(-1000), "a batch says nothing of the one before it");
    assert_eq!(come_to(&[old, "{\"id\":1,\"at\":\"2099-01-01T00:00:00Z\"}"]), Some(arrival_ms), "not in 2099");
    assert_eq!(come_to(&[old, "{\"id\":1,\"at\":null}"]), Some(arrival_ms), "without a time: when it came");
    assert_eq!(
        come_to(&[old, "junk", "{\"id\":null,\"at\":\"2020-01-01T00:00:00Z\"}"]),
        Some(-1),
        "rejects say nothing"
    );
    assert_eq!(come_to(&["junk"]), Some(arrival_ms), "unless there is nothing else");
    assert_eq!(come_to(&[]), Some(7), "an empty answer says what is seen");
}

#[test]
fn windows_of_several_times_have_come_as_far_as_the_one_that_is_behind() {
    let contract = compiled(
        "table = \"t\"\n[[column]]\nname = \"id\"\ntype = \"integer\"\nrequired = true\n\
         [[column]]\nname = \"a\"\ntype = \"timestamp\"\n[[column]]\nname = \"b\"\ntype = \"timestamp\"\n\
         [[window]]\nname = \"v\"\nevery = \"1m\"\ntime = \"a\"\nmeasure = { n = \"count\" }\n\
         [[window]]\nname = \"w\"\nevery = \"1m\"\ntime = \"b\"\nmeasure = { n = \"count\" }\n",
    );
    let come_to = |a: &str, b: &str| {
        let record = format!("{{\"id\":1,\"a\":\"1970-01-01T00:00:{a}Z\",\"b\":\"1970-01-01T00:00:{b}Z\"}}");
        Cleaner::new(Arc::clone(&contract)).clean(raw(&[record.as_bytes()])).0.watermark_ms
    };
    assert_eq!((come_to("07", "30"), come_to("30", "08")), (Some(7_000), Some(8_000)));
    // By arrival alone, whatever the rows' day goes by.
    let by_arrival = compiled(
        "table = \"t\"\nevent_time = \"a\"\n[[column]]\nname = \"id\"\ntype = \"integer\"\nrequired = true\n\
         [[column]]\nname = \"a\"\ntype = \"timestamp\"\n\
         [[window]]\nname = \"w\"\nevery = \"1m\"\ntime = \"arrival\"\nmeasure = { n = \"count\" }\n",
    );
    let record = "{\"id\":1,\"a\":\"1970-01-01T00:00:07Z\"}";
    let watermark_ms = Cleaner::new(by_arrival).clean(raw(&[record.as_bytes()])).0.watermark_ms;
    assert_eq!(watermark_ms, Some(ARRIVED_AT_US / 1000));
}

#[test]
fn rows_and_rejects_say_where_the_record_stood() {
    let contract = shipped("geo.toml");
    let cleaned = clean(&contract, &[GEO_7528.as_bytes(), b"junk", GEO_7528.as_bytes()]);
    let options = FormatOptions::default();
    let shown = |batch: &RecordBatch, name: &str, at: usize| {
        ArrayFormatter::try_new(batch.column_by_name(name).unwrap(), &options).unwrap().value(at).to_string()
    };
    let place = ["_shard_id", "_sequence_number", "_sub_sequence_number", "_arrived_at", "_replayed", "_date"];
    let of_second = place.map(|name| shown(&cleaned.rows, name, 1));
    assert_eq!(of_second, ["shardId-000000000000", "3", "0", "2024-01-14T15:59:44.638Z", "", "2024-01-14"]);
    let reject = &cleaned.rejects[0];
    assert_eq!((reject.record.sequence_number.to_string().as_str(), reject.record.sub_sequence_number), ("2", 0));
    assert_eq!((reject.reason, &*reject.record.data), (RejectReason::InvalidJson, b"junk".as_slice()));
}

#[test]
fn neither_rows_nor_rejects_hold_what_was_read() {
    let contract = shipped("geo.toml");
    let read = Bytes::from([b"junk", GEO_7528.as_bytes()].concat());
    let mut batch = raw(&[b"", b""]);
    batch.records[0].data = read.slice(..4);
    batch.records[1].data = read.slice(4..);
    let (cleaned, _) = Cleaner::new(contract).clean(batch);
    assert_eq!((cleaned.rows.num_rows(), &*cleaned.rejects[0].record.data), (1, b"junk".as_slice()));
    assert!(read.is_unique());
}

#[test]
fn the_partition_day_follows_the_event_time_and_falls_back_to_the_arrival() {
    let contract = compiled(
        "table = \"t\"\nevent_time = \"at\"\n[[column]]\nname = \"at\"\ntype = \"timestamp\"\n[[column]]\nname = \"x\"\ntype = \"long\"\n",
    );
    let at = |time: &str| format!("{{\"at\":\"{time}\",\"x\":1}}");
    let cleaned = clean(
        &contract,
        &[at("2020-08-28T23:59:59.999999").as_bytes(), at("1969-12-31T23:00:00").as_bytes(), at("nonsense").as_bytes()],
    );
    let dates =
        ArrayFormatter::try_new(cleaned.rows.column_by_name("_date").unwrap(), &FormatOptions::default()).unwrap();
    assert_eq!([0, 1, 2].map(|row| dates.value(row).to_string()), ["2020-08-28", "1969-12-31", "2024-01-14"]);
    assert_eq!(cleaned.nulls(), [("at", "unparsable", 1)]);
}

#[test]
fn memory_that_one_huge_record_needed_is_given_back() {
    let contract = shipped("geo.toml");
    let mut cleaner = Cleaner::new(contract);
    let huge = format!("{{\"ind\":1,\"country\":\"{}\"}}", "x".repeat(3 << 20));
    let (batch, _) = cleaner.clean(raw(&[serde_json::to_string(&huge).unwrap().as_bytes()]));
    assert_eq!(batch.rows.num_rows(), 1);
    assert!(cleaner.opener.scratch_bytes() < 1 << 20, "{}", cleaner.opener.scratch_bytes());
    let (batch, _) = cleaner.clean(raw(&[huge.replace('x', "\\n").as_bytes()]));
    assert_eq!(batch.rows.num_rows(), 1);
    assert!(cleaner.flat.scratch_bytes() < 1 << 20, "{}", cleaner.flat.scratch_bytes());
    let names = |count: u32| (0..count).map(|n| format!(",\"{n:x}\":0")).collect::<String>();
    let few = format!("{{\"ind\":1,\"country\":\"a\"{}}}", names(150_000));
    assert!(few.len() < JSON_VALUES_MAX, "it is read as a flat one");
    let many = format!("{{\"ind\":1,\"country\":\"a\"{}}}", names(700_000));
    let (batch, _) = cleaner.clean(raw(&[few.as_bytes(), many.as_bytes()]));
    assert_eq!(batch.rows.num_rows(), 2);
    assert!(cleaner.flat.scratch_bytes() < 1 << 20, "{}", cleaner.flat.scratch_bytes());
    assert!(cleaner.located.scratch_bytes() < 1 << 20, "{}", cleaner.located.scratch_bytes());
}

#[test]
fn huge_records_of_one_read_need_no_more_than_the_largest() {
    let mut cleaner = Cleaner::new(shipped("geo.toml"));
    let long = format!("{{\"ind\":1,\"country\":\"{}\"}}", "x".repeat(10 << 20));
    let values = format!("{{\"ind\":1,\"country\":\"a\",\"z\":[{}0]}}", "0,".repeat(JSON_VALUES_MAX - 10));
    let mut scratch_bytes = |payloads: &[&[u8]]| {
        let mut counts = CleanCounts::default();
        for record in &raw(payloads).records {
            cleaner.clean_record(&ShardId::new("s"), record, &mut counts).unwrap();
        }
        let held = cleaner.opener.scratch_bytes();
        cleaner.shrink();
        held
    };
    let (of_long, of_values) = (scratch_bytes(&[long.as_bytes()]), scratch_bytes(&[values.as_bytes()]));
    let of_both = scratch_bytes(&[long.as_bytes(), values.as_bytes()]);
    assert!(of_both <= of_long.max(of_values), "{of_both} of {of_long} and {of_values}");
}
