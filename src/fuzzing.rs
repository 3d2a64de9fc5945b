//! Any bytes at all, against everything that reads bytes of others.
//!
//! Each function takes any input and panics if a promise is broken. `cargo fuzz` (see `load-tests/README.md`) runs
//! them on inputs of its own making, for as long as one likes; the test below on those that were worth keeping. So what
//! is fuzzed is what is tested, and it needs no door in the rooms that only a fuzzer would use.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a broken promise ends the run, as in a test")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use aws_sdk_kinesis::config::ConfigBag;
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;

use aws_smithy_runtime_api::http::{Request, Response, StatusCode};
use aws_smithy_schema::protocol::ClientProtocolInner;
use aws_smithy_types::body::SdkBody;
use deltalake::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, StructArray};
use deltalake::arrow::datatypes::{DataType, Field, Int64Type};

use crate::budget::Permit;
use crate::checkpoint::{Position, PositionRange, SequenceNumber, ShardId};
use crate::clean::Cleaner;
use crate::contract::{self, Contract};
use crate::demo::contracts::shipped;
use crate::demo::{Kind, aggregate as encode};
use crate::error_chain::chain;
use crate::lake::{Keep, LogEntry, action_lines};
use crate::limits::{PAYLOAD_COPIES, READ_COST_MAX, USER_RECORD_COST};
use crate::metrics::Registry;
use crate::record::{RawBatch, RawRecord, ShardGrant, WindowSink};
use crate::source::ForeignRecords;
use crate::source::aggregated::{Opened, Rules, disaggregate, open};
use crate::source::protocol::plain;
use crate::source::{QuickJson, ReadReply, RecordShelf, read_reply};
use crate::toml_doc::Problems;
use crate::window::StreamWindows;

/// Stands between the records of one input.
const BETWEEN_RECORDS: &[u8] = b"\n---\n";
/// Records that an aggregate may have here: few enough to be reached.
const RECORDS_MAX: usize = 100;
const SHARD: &str = "shardId-000000000000";
/// 2024-01-14T15:59:44.638Z.
const ARRIVED_AT_US: i64 = 1_705_247_984_638_000;

thread_local! {
    static HOUSES: RefCell<[House; 3]> = RefCell::new(Kind::ALL.map(|kind| {
        let (file, text) = shipped(kind);
        House::new(compiled(file, text).expect("the shipped contracts are right"))
    }));
}

// === Cleaning and counting ===

/// What a record meets between the source and the lake.
struct House {
    cleaner: Cleaner,
    windows: StreamWindows,
    shard: ShardId,
}

impl House {
    fn new(contract: Contract) -> Self {
        let (contract, registry) = (Arc::new(contract), Registry::new().unwrap());
        let windows = StreamWindows::new("fuzzed", Arc::clone(&contract), registry.stream("fuzzed"));
        Self { cleaner: Cleaner::new(contract), windows, shard: ShardId::new(SHARD) }
    }

    /// Every record comes out once, in order, a reject with its bytes; and every window counts every row.
    fn account_for(&mut self, records: Vec<RawRecord>) {
        let last = records.last().map_or(Position::Beginning, |record| Position::After(record.sequence_number));
        let range = PositionRange { shard: self.shard.clone(), after: Position::Beginning, through: last };
        let (sent, grant, permit) = (records.clone(), ShardGrant::new(), Permit::default());
        let raw = RawBatch { range, records, seen_ms: None, end: None, grant: grant.clone(), permit };
        let (cleaned, counts) = self.cleaner.clean(raw);
        let sent = &sent[..sent.len() - cleaned.left.records];
        assert!(!sent.is_empty() || cleaned.left.records == 0, "what is left is behind what was taken");
        assert_eq!(cleaned.rows.num_rows() + cleaned.rejects.len(), sent.len(), "rows + rejects = records");

        let mut rejects = cleaned.rejects.iter().map(|reject| &reject.record).peekable();
        let kept = sent.iter().filter(|record| rejects.next_if(|reject| reject == record).is_none());
        let numbers: Vec<String> = kept.map(|record| record.sequence_number.to_string()).collect();
        assert!(rejects.next().is_none(), "rejects are records, untouched and in order");
        let of_rows = cleaned.rows.column_by_name(contract::SEQUENCE_NUMBER).unwrap().as_string::<i32>();
        assert!(of_rows.iter().eq(numbers.iter().map(|number| Some(number.as_str()))), "rows are the others, in order");
        assert!(counts.nulls.values().all(|count| *count > 0));

        self.windows.observe(&cleaned).unwrap();
        for partials in self.windows.partials(std::slice::from_ref(&cleaned.range)) {
            let records = partials.column_by_name("records").unwrap().as_primitive::<Int64Type>();
            let counted: i64 = records.values().iter().sum();
            assert_eq!(counted, cleaned.rows.num_rows() as i64, "partials are a GROUP BY over the rows");
        }
        grant.revoke();
        self.windows.discard(&self.shard);
    }
}

fn raw(number: usize, data: &[u8]) -> RawRecord {
    RawRecord {
        data: data.to_vec().into(),
        sequence_number: SequenceNumber::parse(&number.to_string()).unwrap(),
        sub_sequence_number: 0,
        arrived_at_us: ARRIVED_AT_US,
        refused: None,
    }
}

/// A read under a shipped contract. The first byte says which, and what becomes of foreign records.
pub fn clean(data: &[u8]) {
    let Some((choice, payloads)) = data.split_first() else { return };
    let payloads = split(payloads, BETWEEN_RECORDS);
    let read: Vec<RawRecord> = (1..).zip(payloads).map(|(number, payload)| raw(number, payload)).collect();
    let foreign_records = match choice / 3 % 3 {
        0 => ForeignRecords::Keep,
        1 => ForeignRecords::Reject,
        _ => ForeignRecords::Strict,
    };
    let taken = disaggregate(read, Rules { foreign_records, hash_range: Some((0, u128::MAX / 2)), ..Rules::default() });
    HOUSES.with_borrow_mut(|houses| houses[usize::from(choice % 3)].account_for(taken.records));
}

/// A record under a shipped contract, as it is and after a space. With that only the parser reads it; it says the same.
pub fn flat(data: &[u8]) {
    let Some((choice, payload)) = data.split_first().filter(|(_, payload)| payload.starts_with(b"{")) else { return };
    let spaced = [b" ", payload].concat();
    HOUSES.with_borrow_mut(|houses| {
        let cleaner = &mut houses[usize::from(choice % 3)].cleaner;
        let mut said = |payload: &[u8]| {
            let records = &mut VecDeque::from([(ShardId::new(SHARD), raw(1, payload))]);
            let (rows, rejects) = cleaner.clean_some(records);
            (rows, rejects.first().map(|reject| reject.reason))
        };
        assert_eq!(said(payload), said(&spaced), "a record says what the parser finds in it");
    });
}

fn split<'a>(mut bytes: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = bytes.windows(separator.len()).position(|window| window == separator) {
        parts.push(&bytes[..at]);
        bytes = &bytes[at + separator.len()..];
    }
    parts.push(bytes);
    parts
}

// === What Kinesis answers ===

/// A body of GetRecords: the quick reader and the SDK's own make the same of it, also of what is wrong with it.
pub fn get_records(body: &[u8]) {
    for date_ms in [None, Some(ARRIVED_AT_US / 1000)] {
        let quick = replied(&QuickJson::default(), Some(&RecordShelf::default()), body, date_ms);
        let plain = replied(&plain(), None, body, date_ms);
        assert_eq!(quick, plain, "{}", String::from_utf8_lossy(body));
    }
}

/// What a read by this protocol brings; errors as their text.
fn replied(
    protocol: &impl ClientProtocolInner<Request = Request, Response = Response>,
    shelf: Option<&RecordShelf>,
    body: &[u8],
    date_ms: Option<i64>,
) -> Result<ReadReply, String> {
    let response = Response::new(StatusCode::try_from(200).unwrap(), SdkBody::from(body));
    let mut config = ConfigBag::base();
    if let Some(shelf) = shelf {
        config.interceptor_state().store_put(shelf.clone());
    }
    let answer = protocol.deserialize_response(&response, GetRecordsOutput::SCHEMA, &config);
    let parsed = answer.and_then(|mut answer| GetRecordsOutput::deserialize(&mut *answer));
    let parsed = parsed.map_err(|error| format!("{error:?}"))?;
    let records = shelf.and_then(RecordShelf::take);
    read_reply(parsed, records, date_ms).map_err(|error| chain(&error))
}

// === Aggregated records ===

/// A payload as it is, and as an aggregate's body under a right checksum, which no fuzzer would guess.
pub fn aggregated(data: &[u8]) {
    let framed = {
        use md5::{Digest, Md5};
        [&[0xf3, 0x89, 0x9a, 0xc2], data, Md5::digest(data).as_slice()].concat()
    };
    for payload in [data, &framed] {
        let Opened::Aggregate(records) = open(payload, RECORDS_MAX) else { continue };
        assert!((1..=RECORDS_MAX).contains(&records.len()));
        assert!(records.iter().map(|record| record.data.len()).sum::<usize>() <= payload.len());
        let again = encode(records.iter().map(|record| ("k", Some(record.hash_key), record.data)));
        assert_eq!(open(&again, RECORDS_MAX), Opened::Aggregate(records), "a round trip");
    }
    let read = vec![raw(1, data), raw(2, &framed), raw(3, data)];
    let taken = disaggregate(read.clone(), Rules::default());
    let cost = taken.bytes * PAYLOAD_COPIES + taken.records.len() as u64 * USER_RECORD_COST;
    assert!(cost <= READ_COST_MAX && taken.left == 0, "what is this small is taken, and paid for");
    let places = taken.records.iter().map(|record| (record.sequence_number, record.sub_sequence_number));
    assert!(places.is_sorted_by(|a, b| a < b), "every record has a place of its own");
    assert!(read.iter().all(|whole| taken.records.iter().any(|r| r.sequence_number == whole.sequence_number)));
}

// === The Delta log ===

/// A log entry that somebody else wrote, and the same bytes as the application ids of a checkpoint.
pub fn log_entry(data: &[u8]) {
    const PREFIX: &str = "p/";
    let keep = Keep::txns(PREFIX);
    match LogEntry::parse(data, keep) {
        Ok(entry) => {
            assert!(entry.txns.iter().all(|(app_id, _)| app_id.starts_with(PREFIX)));
            // A transaction of somebody else's may be anything; asked for, it must be one.
            if let Ok(all) = LogEntry::parse(data, Keep::txns("")) {
                assert!(all.txns.len() >= entry.txns.len());
            }
            let longer = [data, b"\n{\"fuzzed\":{}}"].concat();
            let unknown = LogEntry::parse(&longer, keep).expect("an unknown action stops nobody").unknown;
            assert_eq!(unknown.len(), entry.unknown.len() + 1);
            if let Some(metadata) = entry.metadata {
                let line = serde_json::json!({ "metaData": metadata.raw }).to_string();
                let again = LogEntry::parse(line.as_bytes(), keep).expect("what was read can be written again");
                assert_eq!(again.metadata, Some(metadata));
            }
        }
        Err(reason) => {
            let line = reason.strip_prefix("line ").and_then(|rest| rest.split(':').next()?.parse::<usize>().ok());
            let lines = data.split(|byte| *byte == b'\n').count();
            assert!(line.is_some_and(|line| (1..=lines).contains(&line)), "{reason}");
        }
    }
    of_checkpoint(&String::from_utf8_lossy(data));
}

/// Rows of a checkpoint become lines of a log entry, whatever is in their texts.
fn of_checkpoint(text: &str) {
    let ids: Vec<&str> = text.split(',').collect();
    let versions: Vec<i64> = ids.iter().map(|id| id.len() as i64 - 3).collect();
    let columns: Vec<(Arc<Field>, ArrayRef)> = vec![
        (Arc::new(Field::new("appId", DataType::Utf8, true)), Arc::new(StringArray::from(ids.clone()))),
        (Arc::new(Field::new("version", DataType::Int64, true)), Arc::new(Int64Array::from(versions.clone()))),
    ];
    let txns: ArrayRef = Arc::new(StructArray::from(columns));
    let lines = action_lines(&RecordBatch::try_from_iter([("txn", txns)]).unwrap()).unwrap();
    let entry = LogEntry::parse(&lines, Keep::txns("")).expect("our own lines can be read");
    let found = entry.txns.iter().map(|(app_id, version)| (app_id.as_str(), *version));
    assert!(found.eq(ids.into_iter().zip(versions)), "{:?}", entry.txns);
}

// === Contracts ===

/// A contract file: either what is wrong with it, each thing with its line, or a contract that cleans.
pub fn contract(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(contract) = compiled("fuzzed.toml", text) else { return };
    let samples: [&[u8]; 4] = [
        br#"{"index":1,"unique_id":"u","follower_count":"51k","tag_list":"a,b","downloaded":1,"category":"art"}"#,
        br#"{"ind":7528,"timestamp":"2020-08-28T03:52:47","latitude":-89.9787,"longitude":-173.293,"country":"Albania"}"#,
        br#"[{"ind":"7","age":20,"a":{"b":[1.5,null,"x"]},"date_joined":"2015-10-24T11:23:51","x":1e999}]"#,
        b"no JSON",
    ];
    let records = (1..).zip(samples).map(|(number, payload)| raw(number, payload));
    House::new(contract).account_for(records.collect());
}

fn compiled(file: &str, text: &str) -> Option<Contract> {
    let problems = Problems::default();
    let contract = contract::parse(file, text.to_owned(), &problems);
    match problems.into_result() {
        Ok(()) => {
            assert!(contract.is_some(), "refused without a reason");
            contract
        }
        Err(invalid) => {
            let lines = text.split('\n').count();
            for problem in invalid.problems() {
                let place = problem.strip_prefix(file).and_then(|rest| rest.strip_prefix(':')?.split(':').next());
                let line = place.and_then(|line| line.parse::<usize>().ok());
                assert!(line.is_some_and(|line| (1..=lines).contains(&line)), "{problem}");
                assert!(!problem.contains('\n'), "{problem}");
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Runs everything that is kept for one target.
    fn replay(target: &str, run: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("load-tests/fuzz/corpus").join(target);
        let files = std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
        let mut replayed = 0;
        for file in files {
            let path = file.unwrap().path();
            // The test runner shows the last one if it panics.
            println!("{}", path.display());
            run(&std::fs::read(&path).unwrap());
            replayed += 1;
        }
        assert!(replayed > 3, "{} is nearly empty", corpus.display());
    }

    #[test]
    fn what_was_worth_keeping_of_fuzzed_reads_is_accounted_for() {
        replay("clean", clean);
    }

    #[test]
    fn what_was_worth_keeping_of_fuzzed_records_is_read_as_the_parser_reads_it() {
        replay("flat", flat);
    }

    #[test]
    fn what_was_worth_keeping_of_fuzzed_bodies_is_read_as_the_sdk_reads_it() {
        replay("get_records", get_records);
    }

    #[test]
    fn what_was_worth_keeping_of_fuzzed_aggregates_is_read_within_bounds() {
        replay("aggregated", aggregated);
    }

    #[test]
    fn what_was_worth_keeping_of_fuzzed_log_entries_is_read_or_refused() {
        replay("log_entry", log_entry);
    }

    #[test]
    fn what_was_worth_keeping_of_fuzzed_contracts_cleans_or_is_refused_with_its_line() {
        replay("contract", contract);
    }
}
