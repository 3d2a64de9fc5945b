//! What holds for any bytes: no panic, every record once, and no dependence on how the JSON was written.

use proptest::prelude::*;
use proptest::sample::Index;

use super::repairs::{base64, gzip, in_list, in_string, zstd};
use super::*;

const FILES: [&str; 3] = ["pin.toml", "geo.toml", "user.toml"];
const RECORDS: [(&str, &str); 5] = [
    ("pin.toml", PIN_7528),
    ("pin.toml", PIN_5730),
    ("pin.toml", PIN_8304),
    ("geo.toml", GEO_7528),
    ("user.toml", USER_7528),
];

/// A record and the contract it fits.
fn record() -> impl Strategy<Value = (&'static str, &'static str)> {
    prop::sample::select(&RECORDS[..])
}

/// Bytes that parsers find more interesting than random ones.
fn json_like() -> impl Strategy<Value = String> {
    let token = prop::sample::select(
        &[
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"",
            "\\",
            "\\u",
            "d800",
            "\\ud83e",
            "\\udd0d",
            "\\n",
            "\\x",
            "0",
            "1",
            "-",
            "+",
            ".",
            "e",
            "E5",
            "007",
            "1e999",
            "99999999999999999999",
            "true",
            "false",
            "null",
            "NaN",
            "tru",
            " ",
            "\n",
            "\u{1}",
            "\u{0}",
            "\u{a0}",
            "\u{feff}",
            "é",
            "🤍",
            "\"ind\"",
            "\"a\"",
            "/",
            "//",
            "'",
        ][..],
    );
    prop::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat())
}

/// Mutations of a record: bytes set, cut out, doubled.
fn mutated() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let change = (any::<Index>(), any::<u8>(), 0..3);
    (record(), prop::collection::vec(change, 1..6)).prop_map(|((file, record), changes)| {
        let mut bytes = record.as_bytes().to_vec();
        for (at, byte, how) in changes {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => drop(bytes.drain(at..(at + usize::from(byte) / 8 + 1).min(bytes.len() - 1).max(at))),
                _ => bytes.insert(at, bytes[at]),
            }
        }
        (file, bytes)
    })
}

/// One of the ways to damage a payload; `None` where the result would be no text.
fn damaged(bytes: &[u8], how: usize) -> Option<Vec<u8>> {
    let is_text = std::str::from_utf8(bytes).is_ok();
    let is_json = is_text && matches!(bytes.trim_ascii().first(), Some(b'{' | b'[' | b'"'));
    match how {
        0 => is_json.then(|| in_list(bytes)),
        1 => is_text.then(|| in_string(bytes)),
        2 => Some(base64(bytes)),
        3 => Some(gzip(bytes)),
        _ => Some(zstd(bytes)),
    }
}

/// The record written differently: keys shuffled, white space, escapes. `choices` decides, over and over.
fn rewritten(record: &str, choices: &[u8]) -> String {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(record).unwrap();
    let mut choices = choices.iter().copied().cycle();
    let mut pick = |of: u8| choices.next().unwrap() % of;
    let mut members: Vec<(String, serde_json::Value)> = object.into_iter().collect();
    for at in (1..members.len()).rev() {
        members.swap(at, usize::from(pick(255)) % (at + 1));
    }
    let mut out = String::new();
    let spaces = ["", " ", "\n", "\t \r"];
    for (at, (key, value)) in members.iter().enumerate() {
        out.push(if at == 0 { '{' } else { ',' });
        out.push_str(spaces[usize::from(pick(4))]);
        out.push_str(&written(key, &mut pick));
        out.push_str(spaces[usize::from(pick(4))]);
        out.push(':');
        match value.as_str() {
            Some(text) => out.push_str(&written(text, &mut pick)),
            None => out.push_str(&value.to_string()),
        }
        out.push_str(spaces[usize::from(pick(4))]);
    }
    out + "}" + spaces[usize::from(pick(4))]
}

/// A JSON string with some characters escaped that need not be.
fn written(text: &str, pick: &mut impl FnMut(u8) -> u8) -> String {
    let mut out = "\"".to_owned();
    for c in text.chars() {
        match (pick(5), c) {
            (0, _) => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04X}"))),
            (1, '/') => out.push_str("\\/"),
            (_, '"') => out.push_str("\\\""),
            (_, '\\') => out.push_str("\\\\"),
            (_, '\n') => out.push_str("\\n"),
            _ => out.push(c),
        }
    }
    out + "\""
}

/// Cleans a batch under each contract; [`clean`] asserts that every record comes out once.
fn account_for(payloads: &[Vec<u8>]) {
    let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
    for file in FILES {
        let cleaned = clean(&shipped(file), &payloads);
        for reject in &cleaned.rejects {
            assert!(payloads.contains(&&*reject.record.data));
            assert!(reject.detail.len() <= crate::limits::REJECT_DETAIL_BYTES_MAX);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_come_out_as_a_row_or_a_reject(payloads in prop::collection::vec(any::<Vec<u8>>(), 0..8)) {
        account_for(&payloads);
    }

    #[test]
    fn bytes_with_a_magic_come_out_too(tail in any::<Vec<u8>>(), magic in 0..3usize) {
        let magic: &[u8] = [&[0x1f, 0x8b, 8, 0][..], &[0x28, 0xb5, 0x2f, 0xfd][..], b"H4sI"][magic];
        account_for(&[[magic, &tail].concat()]);
    }

    #[test]
    fn mutated_records_come_out_too((_, payload) in mutated(), how in 0..5usize) {
        let damaged = damaged(&payload, how);
        account_for(&[vec![payload], damaged.into_iter().collect()].concat());
    }

    #[test]
    fn what_is_json_is_the_same_as_for_another_parser(json in json_like()) {
        let ours = super::super::json::Parser::default().parse(json.as_bytes(), |_| ()).map_err(|fault| fault.detail);
        match serde_json::from_str::<serde_json::Value>(&json) {
            Ok(_) => prop_assert!(ours.is_ok(), "{json:?} {ours:?}"),
            // That parser refuses numbers that fit nothing; they are JSON all the same.
            Err(error) if error.to_string().starts_with("number out of range") => {}
            Err(error) => prop_assert!(ours.is_err(), "{json:?} {error}"),
        }
    }

    #[test]
    fn a_number_is_the_nearest_double_however_it_is_written(
        number in "-?(0|[1-9][0-9]{0,24})([.][0-9]{1,24})?([eE][+-]?[0-9]{1,3})?",
    ) {
        let expected: f64 = number.parse().unwrap();
        let parsed = super::super::json::Parser::default().parse(number.as_bytes(), |nodes| {
            super::super::number::double(super::super::json::value(nodes))
        });
        match parsed.unwrap() {
            Ok(double) => prop_assert_eq!(double, expected),
            Err(_) => prop_assert!(expected.is_infinite(), "{}", number),
        }
    }

    #[test]
    fn the_row_does_not_depend_on_how_the_json_is_written(
        (file, record) in record(),
        choices in prop::collection::vec(any::<u8>(), 1..200),
    ) {
        let contract = shipped(file);
        let rewritten = rewritten(record, &choices);
        let (plain, other) = (clean_one(&contract, record.as_bytes()), clean_one(&contract, rewritten.as_bytes()));
        prop_assert_eq!(plain.row(0), other.row(0), "{}", rewritten);
        prop_assert_eq!(plain.counts, other.counts);
    }

    #[test]
    fn three_repairs_in_any_order_give_the_same_row_and_a_fourth_a_reject(
        (file, record) in record(),
        ways in prop::collection::vec(0..5usize, 1..5),
    ) {
        let contract = shipped(file);
        let mut payload = record.as_bytes().to_vec();
        let mut depth = 0;
        for way in ways {
            if let Some(damaged) = damaged(&payload, way) {
                payload = damaged;
                depth += 1;
            }
        }
        let cleaned = clean_one(&contract, &payload);
        if depth <= 3 {
            prop_assert_eq!(cleaned.row(0), clean_one(&contract, record.as_bytes()).row(0));
            prop_assert_eq!(cleaned.counts.repairs.values().sum::<u64>(), depth);
        } else {
            prop_assert_eq!(cleaned.reject().0, RejectReason::TooManyRepairs);
        }
    }
}
