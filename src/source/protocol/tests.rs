//! Held against the SDK's own reader: the same answer, or the same error, for whatever a body says.

use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use base64_simd::STANDARD;
use proptest::prelude::*;

use super::body;
use crate::fuzzing::{get_records, parsed_by};

/// What both readers make of it.
fn parsed(text: &str) -> Result<GetRecordsOutput, String> {
    get_records(text.as_bytes());
    parsed_by(&super::QuickJson::default(), text.as_bytes())
}

/// Whether the quick reader takes it upon itself.
fn is_quick(text: &str) -> bool {
    body::read(text.as_bytes()).is_some()
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
    assert!(is_quick(&text));
    let answer = parsed(&text).unwrap();
    assert_eq!((answer.millis_behind_latest, answer.records.len()), (Some(2100), 5));
    assert!(answer.next_shard_iterator.unwrap().starts_with("AAAAAAAAAAHsW8z"));
    for (found, (key, data)) in answer.records.iter().zip(records) {
        assert_eq!((found.partition_key(), found.data.as_ref()), (Some(key), data));
        assert_eq!(found.sequence_number, "49590338271490256608559692538361571095921575989136588898");
        assert_eq!(found.approximate_arrival_timestamp.unwrap().as_secs_f64(), 1_480_000_000.123);
        assert_eq!(found.encryption_type.as_ref().unwrap().as_str(), "KMS");
    }
}

#[test]
fn odd_but_plain_forms_are_read_quickly() {
    for text in [
        "{}",
        " {\n} ",
        r#"{"Records":[]}"#,
        r#"{"Records":null,"NextShardIterator":null,"MillisBehindLatest":null}"#,
        "\t{ \"MillisBehindLatest\" :\r\n-1 , \"Records\" : [ { } , { \"Data\" : \"\" } ] }\n",
        r#"{"Records":[{"Data":"AA==","Data":"AQ==","Data":null,"SequenceNumber":null}],"Records":[{}]}"#,
        r#"{"Records":[{"Data":"AA==","NewText":"x","NewFlag":true,"NewNumber":0,"__type":"y"}],"More":17,"Less":false}"#,
        r#"{"Records":[{"ApproximateArrivalTimestamp":1480000000},{"ApproximateArrivalTimestamp":-1.5}]}"#,
        r#"{"Records":[{"PartitionKey":"\u0041\/\b\f\n\r\t\"\\\ud83d\ude00"}]}"#,
        r#"{"Records":[{"PartitionKey":"\\\\"},{"PartitionKey":"\\\""}]}"#,
    ] {
        assert!(is_quick(text), "{text}");
        parsed(text).unwrap();
    }
}

#[test]
fn what_is_not_recognised_is_left_to_the_sdks_reader() {
    let readable = [
        "",
        r#"{"ChildShards":[{"ShardId":"shardId-1","ParentShards":["shardId-0"],"HashKeyRange":{"StartingHashKey":"0","EndingHashKey":"1"}}]}"#,
        r#"{"Records":[{"D\u0061ta":"AA=="}]}"#,
        r#"{"Records":[{"Data":"AA\u003d="}]}"#,
        r#"{"Records":[{"SequenceNumber":"\u0031"}],"New":{"inside":[1,2,{}]},"More":1.5e3,"\u0041":"\n"}"#,
        r#"{"NextShardIterator":"a\/b"}"#,
    ];
    for text in readable {
        assert!(!is_quick(text), "{text}");
        parsed(text).unwrap();
    }
    let wrong = [
        "null",
        "[]",
        "{",
        "{}x",
        "{}{}",
        r#"{"Records":[{}}"#,
        r#"{"Records":[{},]}"#,
        r#"{"Records":[null]}"#,
        r#"{"Records":{}}"#,
        r#"{"Records":[{"Data":"AA==",}]}"#,
        r#"{"Records":[{"Data":"A"}]}"#,
        r#"{"Records":[{"Data":"AB=="}]}"#,
        r#"{"Records":[{"Data":"AA"}]}"#,
        r#"{"Records":[{"Data":"A A="}]}"#,
        r#"{"Records":[{"Data":7}]}"#,
        r#"{"Records":[{"Data":"AA==}]}"#,
        r#"{"Records":[{"PartitionKey":"\ud83d"}]}"#,
        r#"{"Records":[{"PartitionKey":"\x"}]}"#,
        r#"{"Records":[{"PartitionKey":"\"#,
        r#"{"Records":[{"PartitionKey":nul}]}"#,
        r#"{"Records":[{"ApproximateArrivalTimestamp":"2024-01-14"}]}"#,
        r#"{"Records":[{"ApproximateArrivalTimestamp":1e}]}"#,
        r#"{"Records":[{"ApproximateArrivalTimestamp":99999999999999999999}]}"#,
        r#"{"MillisBehindLatest":1.5}"#,
        r#"{"MillisBehindLatest":99999999999999999999}"#,
        r#"{"MillisBehindLatest":"1"}"#,
        r#"{"New":nullx}"#,
        r#"{"New":01}"#,
    ];
    for text in wrong {
        assert!(!is_quick(text), "{text}");
        parsed(text).unwrap_err();
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
        assert!(body::read(&broken).is_none(), "{member}");
    }
}

#[test]
fn cut_anywhere_a_body_is_an_error_and_no_shorter_answer() {
    let text = body_of(&[("a\\", b"{\"index\":7528}"), ("b", b"")]);
    for end in 1..text.len() {
        assert!(parsed(&text[..end]).is_err(), "{end}");
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

fn object(names: &'static [&'static str], list: BoxedStrategy<String>) -> impl Strategy<Value = String> {
    let blank = prop_oneof![4 => Just(""), 1 => Just(" "), 1 => Just("\r\n\t ")];
    let member = (prop::sample::select(names), prop_oneof![2 => list, 1 => value().boxed()], blank);
    let member = member.prop_map(|(name, value, blank)| format!("{blank}\"{name}\"{blank}:{blank}{value}{blank}"));
    prop::collection::vec(member, 0..6).prop_map(|members| format!("{{{}}}", members.join(",")))
}

fn any_body() -> impl Strategy<Value = String> {
    const OF_RECORD: &[&str] =
        &["Data", "SequenceNumber", "ApproximateArrivalTimestamp", "PartitionKey", "EncryptionType", "New", "__type"];
    const OF_BODY: &[&str] = &["Records", "NextShardIterator", "MillisBehindLatest", "ChildShards", "New"];
    let record = object(OF_RECORD, value().boxed());
    let records = prop::collection::vec(record, 0..4).prop_map(|records| format!("[{}]", records.join(",")));
    object(OF_BODY, records.boxed())
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
        prop_assert!(is_quick(&text));
        let answer = parsed(&text).unwrap();
        let found = answer.records.iter().map(|record| (record.partition_key.as_deref().unwrap(), record.data.as_ref()));
        prop_assert!(found.eq(records));
    }
}
