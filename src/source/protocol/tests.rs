//! Held against the SDK's own reader: the same answer, or the same error, for whatever a body says.

use base64_simd::STANDARD;
use proptest::prelude::*;

use super::body::{self, Body};
use super::spare::Spare;
use crate::fuzzing::get_records;

/// What the quick reader makes of it, which is what the SDK's makes of it.
fn quick(text: &str) -> Option<Body<'_>> {
    get_records(text.as_bytes());
    body::read(text.as_bytes(), &Spare::pieces())
}

/// As Kinesis writes it.
fn body_of(records: &[(&str, &[u8])]) -> String {
    let record = |(key, data): &(&str, &[u8])| {
        let data = STANDARD.encode_to_string(data);
        let key = serde_json::to_string(key).unwrap();
        format!(
            r#"{{"SequenceNumber":"49590338271490256608559692538361571095921575989136588898","ApproximateArrivalTimestamp":1.480000000123E9,"Data":"{data}","PartitionKey":{key},"EncryptionType":"KMS"}}"#
        )
    };
    let records: Vec<String> = records.iter().map(record).collect();
    format!(
        r#"{{"Records":[{}],"NextShardIterator":"AAAAAAAAAAHsW8zCWf9164uy8Epue6WS3w6wmj4a4USt+CNvMd6uXQ+HL5vAJMznqqC0DLKsIjuoiTi1BpT6nW0LN2M2D56zM5H8anHm30Gbri9ua+qaGgj+3XTyvbhpERfrezgLHbPB/rIcVpykJbaSj5tmcXYRmFnqZBEyHwtZYFmh6hvWVFkIwLuMZLMrpWhG5r5hzkE=","MillisBehindLatest":2100}}"#,
        records.join(",")
    )
}

#[test]
fn what_kinesis_writes_is_read_quickly_and_right() {
    let keys = ["", "7528", "ключ", "a \"quoted\" \\ key\n", "😀"];
    let data: [&[u8]; 5] = [b"", b"{}", b"{\"index\":7528}", &[0, 255, 128], &[7; 100_000]];
    let records: Vec<(&str, &[u8])> = keys.into_iter().zip(data).collect();
    let text = body_of(&records);
    let body = quick(&text).unwrap();
    assert_eq!((body.millis_behind_latest, body.records.len()), (Some(2100), 5));
    assert!(body.next_shard_iterator.unwrap().starts_with("AAAAAAAAAAHsW8z"));
    for (found, (_, data)) in body.records.iter().zip(records) {
        assert_eq!((&*found.data, found.sub_sequence_number, found.refused), (data, 0, None));
        assert_eq!(found.sequence_number.to_string(), "49590338271490256608559692538361571095921575989136588898");
        assert_eq!(found.arrived_at_us, 1_480_000_000_123_000);
    }
}

#[test]
fn payloads_lie_one_behind_the_other_whatever_else_is_in_a_record() {
    let text = body_of(&[("k", b"first"), ("k", b""), ("k", b"last")]);
    let doubled = text.replacen(r#""Data":"#, r#""Data":"AAAA","Data":"#, 1);
    for text in [text, doubled] {
        let records = quick(&text).unwrap().records;
        assert_eq!(records[0].data.as_ptr_range().end, records[2].data.as_ptr());
    }
}

#[test]
fn odd_but_plain_forms_are_read_quickly() {
    for text in [
        "{}",
        " {\n} ",
        r#"{"Records":[]}"#,
        r#"{"Records":null,"NextShardIterator":null,"MillisBehindLatest":null}"#,
        "\t{ \"MillisBehindLatest\" :\r\n-1 , \"Records\" : [ ] }\n",
    ] {
        assert!(quick(text).is_some(), "{text}");
    }
    for members in [
        r#""#,
        r#","Data":null,"PartitionKey":null,"EncryptionType":null"#,
        r#", "Data" : "AA==" , "Data":"AQ==" , "Data":null , "SequenceNumber" :"2","SequenceNumber":null"#,
        r#","Data":"AA==","NewText":"x","NewFlag":true,"NewNumber":0,"__type":"y","More":17,"Less":false"#,
        r#","ApproximateArrivalTimestamp":-1.5"#,
        r#","ApproximateArrivalTimestamp":1.705247984638E9"#,
        r#","ApproximateArrivalTimestamp":1e300"#,
        r#","PartitionKey":"\u0041\/\b\f\n\r\t\"\\\ud83d\ude00""#,
        r#","PartitionKey":"\\""#,
    ] {
        let text = records_of(&[members, ""]);
        assert_eq!(quick(&text).map(|body| body.records.len()), Some(2), "{text}");
    }
}

/// Records with a number, a time and these members.
fn records_of(members: &[&str]) -> String {
    let record =
        |members: &&str| format!(r#"{{"SequenceNumber":"1","ApproximateArrivalTimestamp":1480000000{members}}}"#);
    let records: Vec<String> = members.iter().map(record).collect();
    format!(r#"{{"Records":[{}],"Records":[{}]}}"#, records[0], records.join(","))
}

#[test]
fn what_is_not_recognised_is_left_to_the_sdks_reader() {
    let bodies = [
        "",
        "null",
        "[]",
        "{",
        "{}x",
        "{}{}",
        r#"{"Records":[{}]}"#,
        r#"{"Records":[{}}"#,
        r#"{"Records":[null]}"#,
        r#"{"Records":{}}"#,
        r#"{"ChildShards":[{"ShardId":"shardId-1","ParentShards":["shardId-0"],"HashKeyRange":{"StartingHashKey":"0","EndingHashKey":"1"}}]}"#,
        r#"{"Records":[],"New":{"inside":[1,2,{}]}}"#,
        r#"{"More":1.5e3}"#,
        r#"{"\u0041":"x"}"#,
        r#"{"A":"\n"}"#,
        r#"{"A":nullx}"#,
        r#"{"A":01}"#,
        r#"{"A":}"#,
        r#"{"A":1,}"#,
        r#"{"A":1"B":2}"#,
        r#"{"NextShardIterator":"a\/b"}"#,
        r#"{"MillisBehindLatest":1.5}"#,
        r#"{"MillisBehindLatest":99999999999999999999}"#,
        r#"{"MillisBehindLatest":"1"}"#,
    ];
    for text in bodies {
        assert!(quick(text).is_none(), "{text}");
    }
    let of_a_record = [
        ",",
        r#","D\u0061ta":"AA==""#,
        r#","Data":"AA\u003d=""#,
        r#","Data":"A""#,
        r#","Data":"AA""#,
        r#","Data":"AB==""#,
        r#","Data":"A A=""#,
        r#","Data":7"#,
        r#","Data":"AA=="#,
        r#","PartitionKey":"\ud83d""#,
        r#","PartitionKey":"\x""#,
        r#","PartitionKey":"\""#,
        r#","PartitionKey":nul"#,
        r#","PartitionKey":7"#,
        r#","EncryptionType":"\u004bMS""#,
        r#","SequenceNumber":"\u0031""#,
        r#","SequenceNumber":"one""#,
        r#","SequenceNumber":1"#,
        r#","ApproximateArrivalTimestamp":"2024-01-14""#,
        r#","ApproximateArrivalTimestamp":1e"#,
        r#","ApproximateArrivalTimestamp":+1"#,
        r#","ApproximateArrivalTimestamp":99999999999999999999"#,
    ];
    for members in of_a_record {
        let text = records_of(&["", members]);
        assert!(quick(&text).is_none(), "{text}");
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_as_the_sdk_refuses_them() {
    for member in ["SequenceNumber", "PartitionKey", "EncryptionType", "Data", "\u{fffd}"] {
        let text = body_of(&[("k", b"x")]).replacen("KMS", "NONE", 1);
        let bytes = text.into_bytes();
        let from = format!("\"{member}\":\"");
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).map_or(2, |at| at + from.len());
        let mut broken = bytes.clone();
        broken[at] = 0xff;
        get_records(&broken);
        assert!(body::read(&broken, &Spare::pieces()).is_none(), "{member}");
    }
}

#[test]
fn cut_anywhere_a_body_is_an_error_and_no_shorter_answer() {
    let text = body_of(&[("a\\", b"{\"index\":7528}"), ("b", b"")]);
    for end in 1..text.len() {
        assert!(quick(&text[..end]).is_none(), "{end}");
    }
}

// === Bodies of any kind ===

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|whole| whole.to_string()),
        (0..2_000_000_000i64, 0..1000u32).prop_map(|(s, ms)| format!("{s}.{ms:03}")),
        (1.0..9.0f64).prop_map(|mantissa| format!("{mantissa:.12}E9")),
        "-?[0-9]{1,3}(\\.[0-9]{0,3})?([eE][-+]?[0-9]{0,2})?",
        "[-+.0-9eE]{0,5}",
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..200).prop_map(|data| format!("\"{}\"", STANDARD.encode_to_string(data))),
        3 => any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        3 => number(),
        1 => "\"[A-Za-z0-9+/=\\\\u\"]{0,9}\"",
        1 => Just("null".to_owned()),
        1 => "(true|false|nul|\\{\\}|\\[\\]|\\[1,2\\]|\\{\"a\":\"b\"\\}|)",
    ]
}

fn object(
    begins: &'static str,
    names: &'static [&'static str],
    list: BoxedStrategy<String>,
) -> impl Strategy<Value = String> {
    let blank = prop_oneof![4 => Just(""), 1 => Just(" "), 1 => Just("\r\n\t ")];
    let member = (prop::sample::select(names), prop_oneof![2 => list, 1 => value().boxed()], blank);
    let member = member.prop_map(|(name, value, blank)| format!("{blank}\"{name}\"{blank}:{blank}{value}{blank}"));
    let members = prop::collection::vec(member, 0..6);
    members.prop_map(move |members| format!("{{{begins}{}}}", members.join(",")))
}

fn any_body() -> impl Strategy<Value = String> {
    const OF_RECORD: &[&str] =
        &["Data", "SequenceNumber", "ApproximateArrivalTimestamp", "PartitionKey", "EncryptionType", "New", "__type"];
    const OF_BODY: &[&str] = &["Records", "NextShardIterator", "MillisBehindLatest", "ChildShards", "New"];
    const READABLE: &str = r#""SequenceNumber":"1","ApproximateArrivalTimestamp":1480000000,"Data":"AA==","#;
    let record = prop_oneof![
        1 => object("", OF_RECORD, value().boxed()),
        5 => object(READABLE, OF_RECORD, value().boxed()),
    ];
    let records = prop::collection::vec(record, 0..4).prop_map(|records| format!("[{}]", records.join(",")));
    object("", OF_BODY, records.boxed())
}

proptest! {
    #[test]
    fn any_body_gives_the_answer_or_the_error_of_the_sdks_reader(body in any_body()) {
        get_records(body.as_bytes());
    }

    #[test]
    fn a_body_with_a_byte_changed_or_moved_gives_what_the_sdks_reader_gives(
        key in any::<String>(),
        data in prop::collection::vec(any::<u8>(), 0..60),
        at in any::<prop::sample::Index>(),
        byte in prop_oneof![any::<u8>(), prop::sample::select(&b"\"\\{}[],:0-n "[..])],
        removed in 0..3usize,
    ) {
        let mut bytes = body_of(&[(&key, &data), ("k", b"7")]).into_bytes();
        let at = at.index(bytes.len());
        let end = (at + removed).min(bytes.len());
        bytes.splice(at..end, [byte]);
        get_records(&bytes);
    }

    #[test]
    fn records_of_any_keys_and_data_are_read_quickly(
        records in prop::collection::vec((any::<String>(), prop::collection::vec(any::<u8>(), 0..300)), 0..9),
    ) {
        let records: Vec<(&str, &[u8])> = records.iter().map(|(key, data)| (key.as_str(), data.as_slice())).collect();
        let text = body_of(&records);
        let body = quick(&text);
        let found = body.iter().flat_map(|body| &body.records).map(|record| &*record.data);
        prop_assert!(found.eq(records.iter().map(|(_, data)| *data)));
    }
}
