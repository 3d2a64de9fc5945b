//! Seeded records: the emulation's, clean, in the order in which it posts them.

use std::fmt::Write;
use std::sync::Arc;

use pintail::checkpoint::SequenceNumber;
use pintail::demo::Kind;
use pintail::demo::pinterest::{Emulation, EmulationOptions, Population};
use pintail::record::RawRecord;

const SEED: u64 = 100;
/// 2024-01-14T16:00:00Z.
const FIRST_ARRIVAL_MS: i64 = 1_705_248_000_000;
/// Between two records of a shard that is read at its full megabyte a second.
const ARRIVAL_STEP_MS: i64 = 1;

/// Payloads of one stream.
pub fn payloads(kind: Kind, count: usize) -> Vec<Vec<u8>> {
    let emulation = Emulation::new(Arc::new(Population::new()), EmulationOptions::clean(SEED));
    let of_kind = |posting: &pintail::demo::pinterest::Posting| posting.kind == kind;
    let postings = emulation.flat_map(|action| action.postings).filter(of_kind);
    postings.map(|posting| posting.data).take(count).collect()
}

/// Payloads as records of one shard.
pub fn records(payloads: Vec<Vec<u8>>) -> Vec<RawRecord> {
    let record = |(at, data): (i64, Vec<u8>)| RawRecord {
        data: data.into(),
        sequence_number: SequenceNumber::parse(&number(at)).expect("decimal"),
        sub_sequence_number: 0,
        arrived_at_us: (FIRST_ARRIVAL_MS + at * ARRIVAL_STEP_MS) * 1000,
        refused: None,
    };
    (0..).zip(payloads).map(record).collect()
}

/// A body of GetRecords, as Kinesis writes it, of about so many bytes; and how many records it has.
pub fn body(bytes: usize) -> (Vec<u8>, usize) {
    let payloads = payloads(Kind::Pin, 11_000);
    let (mut body, mut count) = ("{\"Records\":[".to_owned(), 0);
    while body.len() < bytes {
        let payload = &payloads[count % payloads.len()];
        let (at, between) = (count as i64, if count == 0 { "" } else { "," });
        let seconds = (FIRST_ARRIVAL_MS + at * ARRIVAL_STEP_MS) as f64 / 1e12;
        let _infallible = write!(
            body,
            "{between}{{\"ApproximateArrivalTimestamp\":{seconds:.12}E9,\"Data\":\"{}\",\"EncryptionType\":\"NONE\",\
             \"PartitionKey\":\"{}\",\"SequenceNumber\":\"{}\"}}",
            base64_simd::STANDARD.encode_to_string(payload),
            at % 10_000,
            number(at),
        );
        count += 1;
    }
    let iterator = "A".repeat(260);
    let _infallible = write!(body, "],\"NextShardIterator\":\"{iterator}\",\"MillisBehindLatest\":2100}}");
    (body.into_bytes(), count)
}

/// 56 digits, as Kinesis's are.
fn number(at: i64) -> String {
    format!("49590338271490256608559692538361571095921{:015}", 575_989_136_588_898 + at * 7)
}
