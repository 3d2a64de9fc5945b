//! What other encoders wrote, what is broken, what is too much, and what the policies make of it.

use bytes::Bytes;
use md5::{Digest, Md5};
use proptest::prelude::*;

use super::*;
use crate::demo::aggregate;
use crate::limits::{GET_RECORDS_LIMIT_MAX, READ_BYTES_MAX};

/// Written by the Python package `aws-kinesis-agg` 1.2.3: `alpha`, then `beta` with the hash key 7, then `alpha`
/// with nothing.
const THREE: &str = "f3899ac20a05616c7068610a04626574611201371a1e08001a1a7b22696e646578223a312c2263617465676f7279223a226122\
                     7d1a20080110001a1a7b22696e646578223a322c2263617465676f7279223a2262227d1a0408001a007bdc0fae3e95713b2a0a\
                     a06cbcc0f617";
/// By the same package: `k`, `x`.
const ONE: &str = "f3899ac20a016b1a0508001a01787f3afd74423b091177e3da6903229bac";
/// By Google's protobuf package with AWS's message classes: a key beyond ASCII, a tag, the highest hash key.
const TAGGED: &str = "f3899ac20a08d0bad0bbd18ed1870a06756e75736564122733343032383233363639323039333834363334363333373436\
                      30373433313736383231313435351a0e08001a0200ff22060a01611201621a0a080110001a046c6173747e16ff74a5876c\
                      4822df7c63c2a15979";

const MD5_OF_ALPHA: u128 = 58_606_826_522_850_340_945_736_240_254_012_750_329;
const MD5_OF_K: u128 = 187_279_361_568_289_349_169_310_600_456_257_773_043;
const MD5_OF_KEY: u128 = 259_726_384_039_714_788_407_059_515_981_389_908_711;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// An aggregate's frame around any body.
fn framed(body: &[u8]) -> Vec<u8> {
    [&[0xf3, 0x89, 0x9a, 0xc2], body, Md5::digest(body).as_slice()].concat()
}

fn opened(payload: &[u8]) -> Vec<(u128, Vec<u8>)> {
    match open(payload, usize::MAX) {
        Opened::Aggregate(records) => records.iter().map(|record| (record.hash_key, record.data.to_vec())).collect(),
        Opened::Plain | Opened::TooMany => panic!("no aggregate: {payload:02x?}"),
    }
}

fn raw(number: u64, data: Vec<u8>) -> RawRecord {
    RawRecord {
        data: data.into(),
        sequence_number: SequenceNumber::parse(&number.to_string()).unwrap(),
        sub_sequence_number: 0,
        arrived_at_us: 1_000_000 + number as i64,
        refused: None,
    }
}

/// (number, sub-sequence number, payload) of each record.
fn places(taken: &Taken) -> Vec<(String, i64, Vec<u8>)> {
    let records = taken.records.iter();
    records.map(|r| (r.sequence_number.to_string(), r.sub_sequence_number, r.data.to_vec())).collect()
}

fn rules(foreign_records: ForeignRecords, hash_range: (u128, u128)) -> Rules {
    Rules { foreign_records, hash_range: Some(hash_range), counted_through: None }
}

// === The format ===

#[test]
fn what_other_encoders_wrote_is_read() {
    let three = [
        (MD5_OF_ALPHA, br#"{"index":1,"category":"a"}"#.to_vec()),
        (7, br#"{"index":2,"category":"b"}"#.to_vec()),
        (MD5_OF_ALPHA, Vec::new()),
    ];
    assert_eq!(opened(&bytes(THREE)), three);
    assert_eq!(opened(&bytes(ONE)), [(MD5_OF_K, b"x".to_vec())]);
    assert_eq!(opened(&bytes(TAGGED)), [(MD5_OF_KEY, vec![0x00, 0xff]), (u128::MAX, b"last".to_vec())]);
}

#[test]
fn what_we_encode_is_what_other_encoders_wrote() {
    let (one, two): (&[u8], &[u8]) = (br#"{"index":1,"category":"a"}"#, br#"{"index":2,"category":"b"}"#);
    assert_eq!(aggregate([("alpha", None, one), ("beta", Some(7), two), ("alpha", None, b"")]), bytes(THREE));
    assert_eq!(aggregate([("k", None, b"x".as_slice())]), bytes(ONE));
}

#[test]
fn tables_may_stand_behind_records_and_unknown_fields_anywhere() {
    let record: &[u8] = &[0x1a, 0x05, 0x08, 0x00, 0x1a, 0x01, b'x'];
    let key: &[u8] = &[0x0a, 0x01, b'k'];
    // A number, a fixed 64, a fixed 32 and a text, under numbers that nobody has given a meaning.
    let unknown: &[u8] = &[0x50, 0x96, 0x01, 0x59, 1, 2, 3, 4, 5, 6, 7, 8, 0x65, 1, 2, 3, 4, 0x6a, 0x01, b'?'];
    for body in [[record, key, unknown].concat(), [unknown, record, unknown, key].concat()] {
        assert_eq!(opened(&framed(&body)), [(MD5_OF_K, b"x".to_vec())]);
    }
}

#[test]
fn whatever_is_broken_is_a_plain_record() {
    let good = bytes(ONE);
    let mut wrong_digest = good.clone();
    wrong_digest[20] ^= 1;
    let mut wrong_magic = good.clone();
    wrong_magic[0] ^= 1;
    let key = [0x0a, 0x01, b'k'];
    let with_key = |rest: &[u8]| framed(&[&key, rest].concat());
    let broken = [
        Vec::new(),
        good[..3].to_vec(),
        good[..4].to_vec(),
        good[..20].to_vec(),
        good[..good.len() - 1].to_vec(),
        wrong_magic,
        wrong_digest,
        framed(b""),
        // Keys and no record.
        framed(&key),
        // A partition key, and an explicit one, that no table has.
        with_key(&[0x1a, 0x05, 0x08, 0x01, 0x1a, 0x01, b'x']),
        with_key(&[0x1a, 0x07, 0x08, 0x00, 0x10, 0x00, 0x1a, 0x01, b'x']),
        // A record without a key, without data.
        with_key(&[0x1a, 0x03, 0x1a, 0x01, b'x']),
        with_key(&[0x1a, 0x02, 0x08, 0x00]),
        // An explicit hash key that is no number, and one beyond 128 bits.
        with_key(&[0x12, 0x01, b'x', 0x1a, 0x05, 0x08, 0x00, 0x1a, 0x01, b'x']),
        framed(&[&key[..], b"\x12\x27340282366920938463463374607431768211456\x1a\x05\x08\x00\x1a\x01x"].concat()),
        // A key that is no text.
        framed(&[0x0a, 0x01, 0xff, 0x1a, 0x05, 0x08, 0x00, 0x1a, 0x01, b'x']),
        // Longer than what is there; a varint of 11 bytes; one beyond 64 bits; a group; the field 0.
        with_key(&[0x1a, 0x06, 0x08, 0x00, 0x1a, 0x01, b'x']),
        with_key(&[0x50, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        with_key(&[0x50, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]),
        with_key(&[0x53, 0x54]),
        with_key(&[0x02, 0x00]),
    ];
    for payload in broken {
        assert_eq!(open(&payload, usize::MAX), Opened::Plain, "{payload:02x?}");
        let taken = disaggregate(vec![raw(5, payload.clone())], Rules::default());
        assert_eq!((taken.aggregates, taken.records), (0, vec![raw(5, payload)]));
    }
}

#[test]
fn records_and_keys_are_counted_before_they_cost_anything() {
    assert_eq!(open(&bytes(THREE), 2), Opened::TooMany);
    assert!(matches!(open(&bytes(THREE), 3), Opened::Aggregate(records) if records.len() == 3));
    let keys = [0x0a, 0x01, b'k'].repeat(4);
    assert_eq!(open(&framed(&keys), 3), Opened::TooMany);
}

proptest! {
    #[test]
    fn what_is_aggregated_comes_out_again(
        records in prop::collection::vec(("\\PC{1,8}", any::<Option<u128>>(), prop::collection::vec(any::<u8>(), 0..300)), 1..40),
    ) {
        let payload = aggregate(records.iter().map(|(key, hash, data)| (key.as_str(), *hash, data.as_slice())));
        let expected: Vec<(u128, Vec<u8>)> = records
            .into_iter()
            .map(|(key, hash, data)| (hash.unwrap_or_else(|| u128::from_be_bytes(Md5::digest(key).into())), data))
            .collect();
        prop_assert_eq!(opened(&payload), expected);
    }

    #[test]
    fn any_body_under_a_right_checksum_is_read_within_bounds(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let payload = framed(&body);
        if let Opened::Aggregate(records) = open(&payload, 20) {
            prop_assert!(records.len() <= 20);
            prop_assert!(records.iter().map(|record| record.data.len()).sum::<usize>() <= body.len());
        }
    }
}

// === What is taken ===

#[test]
fn records_of_an_aggregate_share_its_number_and_count_from_0() {
    let read = vec![raw(3, b"plain".to_vec()), raw(4, bytes(THREE)), raw(9, bytes(ONE))];
    let length = read.iter().map(|record| record.data.len() as u64).sum();
    let taken = disaggregate(read, Rules::default());
    let expected: [(&str, i64, &[u8]); 5] = [
        ("3", 0, b"plain"),
        ("4", 0, br#"{"index":1,"category":"a"}"#),
        ("4", 1, br#"{"index":2,"category":"b"}"#),
        ("4", 2, b""),
        ("9", 0, b"x"),
    ];
    let found = places(&taken);
    assert_eq!(found, expected.map(|(number, sub, data)| (number.to_owned(), sub, data.to_vec())));
    assert_eq!((taken.kinesis_records, taken.left, taken.bytes, taken.aggregates), (3, 0, length, 2));
    assert_eq!(taken.last.map(|(number, at)| (number.to_string(), at)), Some(("9".to_owned(), 1_000_009)));
    assert!(
        taken
            .records
            .iter()
            .filter(|record| record.sequence_number.to_string() == "4")
            .all(|record| { record.arrived_at_us == 1_000_004 && record.refused.is_none() })
    );
}

#[test]
fn foreign_records_are_kept_refused_or_dropped_with_their_aggregate_and_always_counted() {
    let read = || vec![raw(4, bytes(THREE)), raw(9, bytes(ONE))];
    // `beta` of THREE belongs elsewhere; all the others, and both ends of the range, belong here.
    let around = (MD5_OF_ALPHA, MD5_OF_K);
    let kept = disaggregate(read(), rules(ForeignRecords::Keep, around));
    assert_eq!((kept.records.len(), kept.foreign), (4, 1));
    assert!(kept.records.iter().all(|record| record.refused.is_none()));

    let rejected = disaggregate(read(), rules(ForeignRecords::Reject, around));
    let refused: Vec<_> = rejected.records.iter().map(|record| record.refused).collect();
    assert_eq!((refused, rejected.foreign), (vec![None, Some(Refusal::ForeignHashKey), None, None], 1));
    assert_eq!(places(&rejected), places(&kept));

    for (policy, counted, foreign) in [(ForeignRecords::Keep, kept, 0), (ForeignRecords::Strict, rejected, 3)] {
        let again = Rules { counted_through: Some(raw(3, Vec::new()).sequence_number), ..rules(policy, around) };
        assert_eq!(disaggregate(read(), again).foreign, counted.foreign.max(foreign), "all of it is news");
        let again = Rules { counted_through: Some(raw(4, Vec::new()).sequence_number), ..again };
        let taken = disaggregate(read(), again);
        assert_eq!((taken.foreign, taken.aggregates, taken.bytes), (0, 1, bytes(ONE).len() as u64), "counted before");
    }

    let strict = disaggregate(read(), rules(ForeignRecords::Strict, around));
    assert_eq!(places(&strict), [("9".to_owned(), 0, b"x".to_vec())]);
    assert_eq!((strict.foreign, strict.kinesis_records, strict.left), (3, 2, 0));

    let all = rules(ForeignRecords::Strict, (0, 0));
    let nothing = disaggregate(read(), all);
    assert!(nothing.records.is_empty() && nothing.last.is_some_and(|(number, _)| number.to_string() == "9"));
    // Kinesis has placed a plain record where it is, and a shard without a range owns everything.
    assert_eq!(disaggregate(vec![raw(1, b"plain".to_vec())], all).records.len(), 1);
    let unknown = Rules { hash_range: None, ..all };
    assert_eq!((disaggregate(read(), unknown).records.len(), disaggregate(read(), unknown).foreign), (4, 0));
}

// === Bounds ===

fn tiny(count: usize) -> Vec<u8> {
    aggregate(std::iter::repeat_n(("k", None, b"{}".as_slice()), count))
}

#[test]
fn a_plain_read_is_never_cut() {
    let size = READ_BYTES_MAX as usize / GET_RECORDS_LIMIT_MAX as usize;
    let read = (1..=GET_RECORDS_LIMIT_MAX as u64).map(|number| raw(number, vec![b'x'; size])).collect();
    let taken = disaggregate(read, Rules::default());
    assert_eq!((taken.records.len(), taken.left), (GET_RECORDS_LIMIT_MAX as usize, 0));
    assert_eq!(disaggregate(vec![raw(1, vec![b'x'; READ_BYTES_MAX as usize])], Rules::default()).left, 0);
}

#[test]
fn a_read_is_cut_before_the_aggregate_that_the_permit_does_not_pay_for() {
    let read: Vec<RawRecord> = (1..=10).map(|number| raw(number, tiny(15_000))).collect();
    let taken = disaggregate(read, Rules::default());
    assert_eq!((taken.kinesis_records, taken.left), (2, 8));
    assert_eq!(taken.records.len(), 30_000);
    assert_eq!(taken.last.map(|(number, _)| number.to_string()), Some("2".to_owned()));
}

/// Three records whose payloads share their memory, as in a read: an aggregate of so many, and twice one of 15,000.
fn shared(first: usize) -> (Bytes, Vec<RawRecord>) {
    let payloads = [tiny(first), tiny(15_000), tiny(15_000)];
    let memory = Bytes::from(payloads.concat());
    let (mut rest, mut records) = (memory.clone(), Vec::new());
    for (number, payload) in (1..).zip(&payloads) {
        records.push(RawRecord { data: rest.split_to(payload.len()), ..raw(number, Vec::new()) });
    }
    (memory, records)
}

#[test]
fn payloads_are_not_copied_out_of_their_aggregates() {
    let (memory, mut read) = shared(2);
    read.truncate(1);
    let taken = disaggregate(read, Rules::default());
    assert_eq!(taken.records.len(), 2);
    assert!(taken.records.iter().all(|record| memory.as_ptr_range().contains(&record.data.as_ptr())));
}

#[test]
fn what_is_taken_of_a_read_that_is_cut_does_not_hold_the_rest() {
    let (memory, read) = shared(15_000);
    let whole = places(&disaggregate(read[..2].to_vec(), Rules::default()));
    let taken = disaggregate(read, Rules::default());
    assert_eq!(taken.left, 1);
    assert!(memory.is_unique());
    assert!(places(&taken) == whole);
}

#[test]
fn an_aggregate_that_does_not_fit_even_alone_is_refused_whole_and_the_rest_goes_on() {
    let huge = tiny(60_000);
    let taken = disaggregate(vec![raw(1, huge.clone()), raw(2, bytes(ONE))], Rules::default());
    assert_eq!((taken.records.len(), taken.left, taken.aggregates), (2, 0, 1));
    assert_eq!(taken.records[0].refused, Some(Refusal::AggregateTooLarge));
    assert_eq!(taken.records[0].data, huge);
    // Behind others too: it is not that there is too little room left for it.
    let taken = disaggregate(vec![raw(1, bytes(ONE)), raw(2, huge)], Rules::default());
    assert_eq!((taken.records.len(), taken.left), (2, 0));
}

proptest! {
    // Megabytes a case.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn what_is_taken_is_paid_for_whole_and_in_order(
        sizes in prop::collection::vec(prop_oneof![3 => 0usize..50, 1 => 5_000usize..60_000], 1..12),
    ) {
        let read: Vec<RawRecord> = (1..).zip(&sizes).map(|(number, count)| {
            // None at all: a plain record.
            raw(number, if *count == 0 { b"plain".to_vec() } else { tiny(*count) })
        }).collect();
        let (mut left, mut found) = (read.clone(), 0);
        while !left.is_empty() {
            let taken = disaggregate(left.clone(), Rules::default());
            prop_assert!(taken.kinesis_records > 0);
            let cost = taken.bytes * PAYLOAD_COPIES + taken.records.len() as u64 * USER_RECORD_COST;
            prop_assert!(cost <= READ_COST_MAX && taken.records.len() <= READ_RECORDS_MAX, "{}", cost);
            prop_assert_eq!(taken.left + taken.kinesis_records, left.len());
            left.drain(..taken.kinesis_records);
            found += taken.records.len();
        }
        let alone = |count: &usize| if (1..=READ_RECORDS_MAX).contains(count) { *count } else { 1 };
        prop_assert_eq!(found, sizes.iter().map(alone).sum::<usize>());
    }
}
