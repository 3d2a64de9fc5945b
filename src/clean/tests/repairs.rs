//! Transport damage in every order, its limits, and what must not be taken for it.

use std::io::Write;

use super::*;
use crate::limits::{INFLATED_BATCH_BYTES_MAX, INFLATED_BYTES_MAX};

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

pub(super) fn base64(bytes: &[u8]) -> Vec<u8> {
    base64_simd::STANDARD.encode_to_string(bytes).into_bytes()
}

pub(super) fn in_string(bytes: &[u8]) -> Vec<u8> {
    serde_json::to_vec(std::str::from_utf8(bytes).unwrap()).unwrap()
}

pub(super) fn in_list(bytes: &[u8]) -> Vec<u8> {
    [b" [", bytes, b"]\n"].concat()
}

fn geo(payload: &[u8]) -> Cleaned {
    clean_one(&shipped("geo.toml"), payload)
}

#[test]
fn repairs_nest_and_each_is_counted() {
    let expected = geo(GEO_7528.as_bytes()).row(0);
    let plain = GEO_7528.as_bytes();
    for (payload, repairs) in [
        (gzip(plain), vec![(Repair::Gzip, 1)]),
        (zstd(plain), vec![(Repair::Zstd, 1)]),
        (base64(&gzip(plain)), vec![(Repair::Base64, 1), (Repair::Gzip, 1)]),
        (base64(&base64(plain)), vec![(Repair::Base64, 2)]),
        (in_string(&base64(&zstd(plain))), vec![(Repair::JsonInString, 1), (Repair::Base64, 1), (Repair::Zstd, 1)]),
        (zstd(&gzip(&in_list(plain))), vec![(Repair::ListOfOne, 1), (Repair::Gzip, 1), (Repair::Zstd, 1)]),
        (in_list(&in_list(plain)), vec![(Repair::ListOfOne, 2)]),
        (in_list(&in_string(plain)), vec![(Repair::ListOfOne, 1), (Repair::JsonInString, 1)]),
        (in_string(&in_string(&in_list(plain))), vec![(Repair::ListOfOne, 1), (Repair::JsonInString, 2)]),
    ] {
        let cleaned = geo(&payload);
        assert_eq!(cleaned.row(0), expected);
        assert_eq!(cleaned.repairs(), repairs);
    }
}

#[test]
fn a_fourth_repair_is_one_too_many() {
    let plain = GEO_7528.as_bytes();
    for (payload, said) in [
        (in_list(&in_list(&in_list(&in_list(plain)))), "list_of_one, then list_of_one"),
        (in_string(&in_string(&in_string(&in_string(plain)))), "json_in_string, then json_in_string"),
        (base64(&base64(&base64(&base64(plain)))), "base64, then base64"),
        (gzip(&zstd(&gzip(&zstd(plain)))), "gzip, then zstd, then gzip, then zstd"),
        (base64(&in_string(&base64(&gzip(plain)))), "base64, then json_in_string, then base64, then gzip"),
    ] {
        let cleaned = geo(&payload);
        let (reason, detail) = cleaned.reject();
        assert_eq!(reason, RejectReason::TooManyRepairs, "{detail}");
        assert!(detail.starts_with(said), "{detail}");
        assert_eq!((&*cleaned.rejects[0].record.data, cleaned.repairs()), (payload.as_slice(), vec![]));
    }
}

#[test]
fn base64_may_lack_its_padding_and_have_white_space_around_it() {
    let json = ["{\"ind\":1,\"country\":\"A\"}", "{\"ind\":1,\"country\":\"AB\"}", "{\"ind\":1,\"country\":\"ABC\"}"];
    for json in json {
        let padded = String::from_utf8(base64(json.as_bytes())).unwrap();
        for text in [padded.clone(), padded.trim_end_matches('=').to_owned(), format!(" \r\n{padded}\n")] {
            assert_eq!(geo(text.as_bytes()).repairs(), [(Repair::Base64, 1)], "{text}");
        }
    }
}

#[test]
fn text_that_only_looks_like_base64_is_rejected_as_what_it_is() {
    let not_a_record = base64(b"not a record");
    for (payload, reason) in [
        (b"junk".to_vec(), RejectReason::InvalidJson),
        (b"AAAA".to_vec(), RejectReason::InvalidJson),
        (not_a_record.clone(), RejectReason::InvalidJson),
        (base64(b"7528"), RejectReason::InvalidJson),
        (base64(b" "), RejectReason::InvalidJson),
        (base64(b"{\"ind\":"), RejectReason::InvalidJson),
        (in_string(&not_a_record), RejectReason::NotAnObject),
        (in_list(&in_string(b"junk")), RejectReason::NotAnObject),
    ] {
        let cleaned = geo(&payload);
        assert_eq!(cleaned.reject().0, reason, "{:?}", cleaned.reject());
        assert_eq!(cleaned.repairs(), []);
    }
}

#[test]
fn a_record_of_another_kind_is_known_as_such_behind_a_repair() {
    let cleaned = geo(&base64(USER_7528.as_bytes()));
    assert_eq!(cleaned.reject().0, RejectReason::AnotherKind);
    assert_eq!(cleaned.repairs(), [(Repair::Base64, 1)]);
}

#[test]
fn what_does_not_inflate_is_corrupt_and_what_inflates_to_nonsense_is_nonsense() {
    for (payload, reason) in [
        (vec![0x1f, 0x8b], RejectReason::CorruptCompression),
        (vec![0x28, 0xb5, 0x2f, 0xfd], RejectReason::CorruptCompression),
        (gzip(GEO_7528.as_bytes())[..40].to_vec(), RejectReason::CorruptCompression),
        (zstd(GEO_7528.as_bytes())[..40].to_vec(), RejectReason::CorruptCompression),
        ([gzip(GEO_7528.as_bytes()), b"tail".to_vec()].concat(), RejectReason::CorruptCompression),
        (gzip(b""), RejectReason::Empty),
        (gzip(b"junk"), RejectReason::InvalidJson),
        (zstd(b"\xff\xff"), RejectReason::InvalidUtf8),
        (gzip(b"[1,2]"), RejectReason::NotAnObject),
        (base64(&[0x1f, 0x8b, 0, 0, 0]), RejectReason::CorruptCompression),
        (base64(&zstd(b"\xff\xff")), RejectReason::InvalidUtf8),
    ] {
        let cleaned = geo(&payload);
        assert_eq!(cleaned.reject().0, reason, "{:?}", cleaned.reject());
        assert_eq!(cleaned.rejects[0].record.data, payload);
    }
}

#[test]
fn a_gzip_file_of_several_members_is_read_whole() {
    let (first, second) = GEO_7528.split_at(50);
    let payload = [gzip(first.as_bytes()), gzip(second.as_bytes())].concat();
    assert_eq!(geo(&payload).row(0), geo(GEO_7528.as_bytes()).row(0));
}

/// A geo of this many bytes.
fn geo_of(bytes: usize) -> Vec<u8> {
    let mut json = GEO_7528.as_bytes().to_vec();
    json.resize(bytes, b' ');
    json
}

#[test]
fn inflating_stops_at_the_limit_of_a_record() {
    assert_eq!(geo(&zstd(&geo_of(INFLATED_BYTES_MAX))).repairs(), [(Repair::Zstd, 1)]);
    for payload in [zstd(&geo_of(INFLATED_BYTES_MAX + 1)), base64(&zstd(&geo_of(3 * INFLATED_BYTES_MAX)))] {
        assert_eq!(geo(&payload).reject().0, RejectReason::InflatesTooLarge);
    }
}

#[test]
fn a_read_is_cleaned_up_to_the_record_that_does_not_fit_beside_those_before_it() {
    let half = zstd(&geo_of(INFLATED_BATCH_BYTES_MAX / 2 + 1));
    let bomb = zstd(&geo_of(INFLATED_BYTES_MAX + 1));
    let mut cleaner = Cleaner::new(shipped("geo.toml"));
    for _ in 0..2 {
        let read = raw(&[GEO_7528.as_bytes(), &half, &bomb, &half, GEO_7528.as_bytes()]);
        let (third, left) = (read.records[2].clone(), LeftOver::of(&read.records[3..]));
        let (batch, _) = cleaner.clean(read);
        assert_eq!((batch.rows.num_rows(), batch.rejects.len()), (2, 1), "what is too large alone is a reject there");
        assert_eq!((batch.left.records, batch.left), (2, left));
        assert_eq!(batch.range.through, Position::After(third.sequence_number));
        assert_eq!(batch.seen_ms, Some(third.arrived_at_us / 1000));
    }
}

#[test]
fn an_aggregate_that_does_not_fit_is_left_whole_and_one_that_never_fits_is_gone_through() {
    let half = zstd(&geo_of(INFLATED_BATCH_BYTES_MAX / 2 + 1));
    let mut read = raw(&[GEO_7528.as_bytes(), &half, GEO_7528.as_bytes(), &half, &half]);
    let aggregate = read.records[2].sequence_number;
    read.records[3].sequence_number = aggregate;
    let mut cleaner = Cleaner::new(shipped("geo.toml"));
    let (batch, counts) = cleaner.clean(read);
    assert_eq!((batch.rows.num_rows(), batch.rejects.len(), batch.left.records), (2, 0, 3), "nothing of the aggregate");
    assert_eq!((counts.repairs[&Repair::Zstd], batch.left.kinesis_records), (1, 2));

    let mut read = raw(&[&half, &half, GEO_7528.as_bytes()]);
    let aggregate = read.records[0].sequence_number;
    read.records[1].sequence_number = aggregate;
    let through = read.range.through;
    let (batch, _) = cleaner.clean(read);
    assert_eq!((batch.rows.num_rows(), batch.rejects[0].reason), (2, RejectReason::InflatesTooLarge));
    assert!(batch.rejects[0].detail.contains("all compressed records of a read"), "{}", batch.rejects[0].detail);
    assert_eq!((batch.range.through, batch.left), (through, LeftOver::default()));
}

#[test]
fn a_record_that_does_not_fit_beside_those_before_it_is_left_with_all_after_it_and_fits_the_next_time() {
    let half = zstd(&geo_of(INFLATED_BATCH_BYTES_MAX / 2 + 1));
    let bomb = zstd(&geo_of(INFLATED_BYTES_MAX + 1));
    let payloads: [&[u8]; 6] = [&bomb, &half, &half, GEO_7528.as_bytes(), &bomb, &half];
    let records = payloads.iter().enumerate().map(|(index, payload)| {
        let mut record = raw(&[payload]).records.remove(0);
        record.sub_sequence_number = index as i64;
        // As they stand in a rejects table: of many shards, which count together all the same.
        (ShardId::new(format!("shard-{}", index % 2)), record)
    });
    let mut records: VecDeque<_> = records.collect();
    let mut cleaner = Cleaner::new(shipped("geo.toml"));
    let mut seen = Vec::new();
    while !records.is_empty() {
        let (rows, rejects) = cleaner.clean_some(&mut records);
        assert!(rejects.iter().all(|reject| reject.reason == RejectReason::InflatesTooLarge));
        seen.push((rows.num_rows(), rejects.len(), records.len()));
    }
    assert_eq!(seen, [(1, 1, 4), (2, 1, 1), (1, 0, 0)]);
}

#[test]
fn a_bomb_costs_its_neighbours_nothing() {
    let bomb = zstd(&geo_of(INFLATED_BYTES_MAX + 1));
    let good = gzip(GEO_7528.as_bytes());
    let (batch, _) = Cleaner::new(shipped("geo.toml")).clean(raw(&[&bomb, &good, &bomb, &good]));
    assert_eq!((batch.rows.num_rows(), batch.rejects.len()), (2, 2));
}

#[test]
fn a_zstd_window_beyond_what_decoders_must_support_is_refused_before_it_is_allocated() {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(GEO_7528.as_bytes()).unwrap();
    encoder.flush().unwrap();
    encoder.write_all(b"\n").unwrap();
    let payload = encoder.finish().unwrap();
    assert_eq!(zstd::decode_all(payload.as_slice()).unwrap().len(), GEO_7528.len() + 1);
    assert_eq!(geo(&payload).reject().0, RejectReason::CorruptCompression);
}

#[test]
fn a_record_that_found_no_room_says_nothing_of_those_that_come_later() {
    let half = zstd(&geo_of(INFLATED_BATCH_BYTES_MAX / 2 + 1));
    let mut cleaner = Cleaner::new(shipped("geo.toml"));
    // Two parts of one aggregate, of which the second has no room and never will have.
    let mut read = raw(&[&half, &half]);
    read.records[1].sequence_number = read.records[0].sequence_number;
    assert_eq!(cleaner.clean(read).0.rejects.len(), 1);
    // Flat records without the required `ind`: nothing of them is inflated.
    let bad: &[u8] = br#"{"country":"A"}"#;
    let (batch, _) = cleaner.clean(raw(&[bad, bad, bad]));
    assert_eq!((batch.rejects.len(), batch.left), (3, LeftOver::default()));
}
