//! The flat reader against the parser: whatever it reads, the parser reads the same.

use proptest::prelude::*;

use super::*;
use crate::clean::fields::Located;
use crate::clean::repair::Opener;
use crate::clean::tests::compiled;
use crate::clean::value::Fields;
use crate::contract::Contract;

/// Fields of every kind, one below another, one with others inside it; `u` and `v` are unknown.
fn contract() -> std::sync::Arc<Contract> {
    let column =
        |name: &str, from: &str| format!("[[column]]\nname = \"{name}\"\nfrom = \"{from}\"\ntype = \"string\"\n");
    let columns = [("a", "a"), ("b", "b"), ("c", "c"), ("d", "e.f"), ("g", "h"), ("i", "h.j")];
    let columns: String = columns.iter().map(|(name, from)| column(name, from)).collect();
    compiled(&format!("table = \"t\"\n{columns}"))
}

/// All that a record says: each field's value and the unknown names.
fn said<'a>(contract: &Contract, fields: impl Fields<'a>) -> String {
    let values: Vec<_> = (0..contract.fields.len()).map(|field| fields.get(field)).collect();
    format!("{values:?} {:?}", fields.unknown_names().collect::<Vec<_>>())
}

/// What the flat reader made of the record, if it read it; the same as the parser then.
fn checked(contract: &Contract, reader: &mut FlatReader, payload: &[u8]) -> Option<String> {
    let flat = said(contract, reader.read(&contract.fields, payload)?);
    let (mut opener, mut located) = (Opener::default(), Located::default());
    let parsed = opener.open(payload, |object| said(contract, located.locate(&contract.fields, object)));
    assert_eq!(Ok(&flat), parsed.as_ref(), "{}", String::from_utf8_lossy(payload));
    assert!(opener.repairs().is_empty());
    Some(flat)
}

fn is_read(payload: &str) -> bool {
    checked(&contract(), &mut FlatReader::default(), payload.as_bytes()).is_some()
}

#[test]
fn usual_records_are_read_here() {
    for payload in [
        r#"{"a":1,"b":"x","u":null}"#,
        r#"{"a": 1, "b": "x", "u": true}"#,
        r#"{ "a" : -0.5 , "b" : "" , "c" : false }"#,
        r#"{"a":"\"\\\/\b\f\n\r\t\u00e9\u20AC\ud83d\uDE00 é€😀"}"#,
        r#"{"a":0,"b":-0,"c":0.0,"u":123456789012345678}"#,
        r#"{"a":-0.0,"b":-999999999999999999}"#,
        r#"{"a":-90.12345,"b":1234567890.123456789012345,"c":999999999999999.9}"#,
        r#"{"a":1,"a":2,"e":3,"u":4,"u":5,"v":6}"#,
        "{\"a\":1} \r\n\t",
    ] {
        assert!(is_read(payload), "{payload}");
    }
}

#[test]
fn the_unusual_is_left_to_the_parser() {
    for payload in [
        "",
        "{}",
        "{",
        "[1]",
        " {\"a\":1}",
        "{\"a\":1}x",
        "{\"a\":1}\u{c}",
        "{\"a\":1,}",
        "{\"a\":1 \"b\":2}",
        "{\"a\" 1}",
        "{\"a\":}",
        "{\"a\":01}",
        "{\"a\":-}",
        "{\"a\":+1}",
        "{\"a\":.5}",
        "{\"a\":1.}",
        "{\"a\":1e3}",
        "{\"a\":1.5E3}",
        "{\"a\":1234567890123456789}",
        "{\"a\":nul}",
        "{\"a\":nullx}",
        "{\"a\":[]}",
        "{\"a\":{}}",
        "{\"h\":1}",
        "{\"\\u0061\":1}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\ud800\\u0061\"}",
        "{\"a\":\"\\udc00\"}",
        "{\"a\":\"\\u+123\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\t\"}",
        "{\"a\":\"x}",
        "{\"a\":\"x\\\"}",
        "{\n\"a\":1}",
    ] {
        let payload = payload.as_bytes();
        assert!(FlatReader::default().read(&contract().fields, payload).is_none(), "{payload:?}");
    }
    assert!(FlatReader::default().read(&contract().fields, b"{\"a\":\"\xff\"}").is_none());
}

#[test]
fn what_stands_between_values_may_change_from_record_to_record() {
    let (contract, mut reader) = (contract(), FlatReader::default());
    let long = "x".repeat(FLAT_NAME_BYTES_MAX);
    for payload in [
        r#"{"a": 1, "b": 2, "u": 3}"#,
        r#"{"a":  1,  "b":2 , "u" : 3 }"#,
        r#"{"a":1,"b":2,"u":3}"#,
        r#"{"b": 1, "u": 2, "a": 3}"#,
        r#"{"a": 1, "bb": 2, "u": 3, "u": 4}"#,
        r#"{"a": 1, "b": 2, "u": 3}"#,
        &format!("{{\"{long}\": 1, \"a\": 2}}"),
        &format!("{{\"a\": 1, \"{long}\": 2, \"b\": 3}}"),
        &format!("{{\"a\": 1{}, \"b\": 3}}", " ".repeat(FLAT_BETWEEN_BYTES_MAX)),
    ] {
        assert!(checked(&contract, &mut reader, payload.as_bytes()).is_some(), "{payload}");
    }
    for payload in [r#"{"a": 1{"a": 2}"#, r#"{"b": 1, "a": 2{"b": 3}"#, r#", "a": 1}"#, r#"{, "b": 1}"#] {
        assert!(checked(&contract, &mut reader, payload.as_bytes()).is_none(), "{payload}");
    }
    let after_long = format!("{{\"{long}\": 1{{\"a\": 2}}");
    assert!(checked(&contract, &mut reader, after_long.as_bytes()).is_none());
}

#[test]
fn names_that_were_not_remembered_are_found_all_the_same() {
    let (contract, mut reader) = (contract(), FlatReader::default());
    for number in 0..3 * FLAT_NAMES_MAX {
        let long = "x".repeat(number);
        let payload = format!("{{\"n{number}\":1,\"b\":2,\"{long}\":3,\"c\":\"{number}\",\"a\":5}}");
        assert!(checked(&contract, &mut reader, payload.as_bytes()).is_some(), "{payload}");
    }
    assert!(reader.names.len() <= FORGOTTEN + 1 + FLAT_NAMES_MAX);
    assert!(reader.names.iter().all(|name| name.quoted.len() <= FLAT_NAME_BYTES_MAX));
}

/// Pieces of JSON, right and wrong.
fn piece() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "c", "d", "e", "f", "h", "u", "v", "aa", "é"]);
    let text = prop_oneof![
        "[ -~é€😀]{0,12}".prop_map(|text| text.replace(['"', '\\'], "")),
        r#"(\\["\\/bfnrtu]|\\u[0-9a-fA-F]{4}|\\ud8[0-9]{2}\\udc[0-9]{2}|[a-z ]|é){0,6}"#,
        ".{0,8}",
    ];
    let number = prop_oneof![
        "-?[0-9]{1,19}",
        "-?(0|[1-9][0-9]{0,8})\\.[0-9]{1,20}",
        "-?[0-9]{1,3}([.][0-9]{0,3})?([eE][+-]?[0-9]{1,2})?"
    ];
    let literal = prop::sample::select(vec!["null", "true", "false", "[]", "{}", "{\"f\":1}", "{\"j\":1}", "nil"]);
    let value = prop_oneof![4 => text.prop_map(|text| format!("\"{text}\"")), 3 => number, 2 => literal.prop_map(str::to_owned)];
    let space = prop::sample::select(vec!["", "", "", " ", "  ", "\n"]);
    (name, space.clone(), value, space)
        .prop_map(|(name, before, value, after)| format!("\"{name}\"{before}:{after}{value}"))
}

proptest! {
    #[test]
    fn what_it_reads_is_what_the_parser_reads(records in prop::collection::vec(prop::collection::vec(piece(), 0..6), 1..6)) {
        let (contract, mut reader) = (contract(), FlatReader::default());
        for members in records {
            checked(&contract, &mut reader, format!("{{{}}}", members.join(",")).as_bytes());
        }
    }

    #[test]
    fn any_number_is_the_parsers_number(number in "-?(0|[1-9][0-9]{0,18})(\\.[0-9]{1,20})?") {
        checked(&contract(), &mut FlatReader::default(), format!("{{\"a\":{number}}}").as_bytes());
    }

    #[test]
    fn bytes_that_were_changed_are_read_alike_or_not_at_all(at in 0..120usize, byte: u8) {
        let mut payload = r#"{"a":-12.5,"b": "te\u00e9\n\"xt é", "c":true,"u":"more","h":null,"e":123}"#.as_bytes().to_vec();
        let at = at % payload.len();
        payload[at] = byte;
        checked(&contract(), &mut FlatReader::default(), &payload);
    }
}
