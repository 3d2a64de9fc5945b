//! One golden case for each decision, on the shipped contracts and records as they were on the wire.

use super::*;

/// A pin with one field set to this JSON.
fn pin(field: &str, json: &str) -> String {
    let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(PIN_8304).unwrap();
    object.insert(field.to_owned(), serde_json::from_str(json).unwrap());
    serde_json::to_string(&object).unwrap()
}

/// What a column becomes when a field is this JSON, or why it is null.
fn pin_cell(field: &str, json: &str) -> Result<String, String> {
    cell_of(&shipped("pin.toml"), &pin(field, json), field)
}

fn geo_cell(latitude: &str, longitude: &str) -> Result<String, String> {
    let record =
        format!("{{\"ind\":1,\"country\":\"Albania\",\"timestamp\":\"2020-08-28 03:52:47\"{latitude}{longitude}}}");
    cell_of(&shipped("geo.toml"), &record, "coordinates")
}

fn user_cell(fields: &str, column: &str) -> Result<String, String> {
    cell_of(&shipped("user.toml"), &format!("{{\"ind\":1,{fields}}}"), column)
}

fn cell_of(contract: &Arc<Contract>, record: &str, column: &str) -> Result<String, String> {
    let cleaned = clean_one(contract, record.as_bytes());
    let value = cleaned.cell(column);
    let reasons: Vec<&str> =
        cleaned.nulls().into_iter().filter(|(of, _, _)| *of == column).map(|(_, reason, _)| reason).collect();
    match (value == NULL, reasons.as_slice()) {
        (false, []) => Ok(value),
        (true, [reason]) => Err((*reason).to_owned()),
        (_, reasons) => panic!("{value} {reasons:?}"),
    }
}

fn rejected(file: &str, record: impl AsRef<[u8]>) -> (RejectReason, String) {
    let cleaned = clean_one(&shipped(file), record.as_ref());
    let (reason, detail) = cleaned.reject();
    (reason, detail.to_owned())
}

#[test]
fn decision_01_sentinels_are_null_exactly_and_per_column() {
    let cleaned = clean_one(&shipped("pin.toml"), PIN_7528.as_bytes());
    let nulls = ["description", "follower_count", "image_src", "poster_name", "tag_list", "title"];
    assert_eq!(cleaned.nulls(), nulls.map(|column| (column, "sentinel", 1)));
    let row = cleaned.row(0);
    assert!(nulls.iter().all(|column| row[*column] == NULL), "{row:?}");
    assert_eq!(pin_cell("description", "\"No description available\""), null("sentinel"));
    assert_eq!(pin_cell("title", "\"\""), null("empty"));
    assert_eq!(pin_cell("title", "\" \\n\\u00a0\""), null("empty"));
    for data in ["Untitled", ".", "0", "…", "User Info Error", "No description available"] {
        assert_eq!(pin_cell("title", &format!("{data:?}")), ok(data));
    }
    assert_eq!(pin_cell("follower_count", "\"0\""), ok("0"));
}

#[test]
fn decision_02_sentinels_match_exactly_after_trimming() {
    assert_eq!(pin_cell("image_src", "\" \\tImage src error.\\u00a0\\n\""), null("sentinel"));
    for near in ["Image src error", "image src error.", "An Image src error.", "Image src error.."] {
        assert_eq!(pin_cell("image_src", &format!("{near:?}")), ok(near));
    }
}

#[test]
fn decision_03_text_is_trimmed_at_both_ends_and_keeps_its_ellipsis() {
    let cleaned = clean_one(&shipped("pin.toml"), PIN_5730.as_bytes());
    assert!(cleaned.cell("description").ends_with("long enough so that you…"), "{:?}", cleaned.cell("description"));
    assert!(cleaned.cell("description").contains("the \"basic\" couponer"));
    assert_eq!(pin_cell("title", "\"Resin Mosaic Coasters\\n\""), ok("Resin Mosaic Coasters"));
    assert_eq!(pin_cell("title", "\"Farmhouse\\nDining  Room\""), ok("Farmhouse\nDining  Room"));
    assert_eq!(pin_cell("title", "\"\\u00a0Tattoos🤍 \""), ok("Tattoos🤍"));
    let mathematical = "𝒜𝑒𝓈𝓉𝒽𝑒𝓉𝒾𝒸 / 𝒻𝑜𝓇 𝒻𝒶𝓃𝒻𝒾𝒸𝓈";
    assert_eq!(pin_cell("title", &format!("\"{mathematical}\"")), ok(mathematical));
}

#[test]
fn decision_04_is_image_or_video_is_verbatim() {
    for media in ["image", "video", "multi-video(story page format)", "Image"] {
        assert_eq!(pin_cell("is_image_or_video", &format!("\" {media} \"")), ok(media));
    }
    assert_eq!(pin_cell("is_image_or_video", "null"), null("null"));
}

#[test]
fn decision_05_downloaded_is_in_no_table() {
    let cleaned = clean_one(&shipped("pin.toml"), PIN_8304.as_bytes());
    assert!(!cleaned.row(0).contains_key("downloaded"));
    assert_eq!(cleaned.unknown(), [("downloaded", 1)]);
}

#[test]
fn decision_06_follower_count_multiplies_exactly() {
    for (json, expected) in [
        ("\"51k\"", ok("51000")),
        ("\"51K\"", ok("51000")),
        ("\"6M\"", ok("6000000")),
        ("\"437\"", ok("437")),
        ("\"1.2M\"", ok("1200000")),
        ("\"1B\"", ok("1000000000")),
        ("\"0.9999999999k\"", ok("999")),
        ("\" 902k\\u00a0\"", ok("902000")),
        ("15000000", ok("15000000")),
        ("-4", ok("-4")),
        ("\"2147483647\"", ok("2147483647")),
        ("\"2147483648\"", null("out_of_range")),
        ("\"3B\"", null("out_of_range")),
        ("99999999999999999999999999", null("out_of_range")),
        ("7.0", null("unparsable")),
        ("\"-4\"", null("unparsable")),
        ("\"6m\"", null("unparsable")),
        ("\"1,200\"", null("unparsable")),
        ("\"many\"", null("unparsable")),
        ("\"\"", null("empty")),
        ("true", null("wrong_type")),
        ("[51]", null("wrong_type")),
    ] {
        assert_eq!(pin_cell("follower_count", json), expected, "{json}");
    }
}

#[test]
fn decision_07_coordinates_are_latitude_then_longitude_or_null() {
    assert_eq!(clean_one(&shipped("geo.toml"), GEO_7528.as_bytes()).cell("coordinates"), "[-89.9787, -173.293]");
    for (latitude, longitude, expected) in [
        (",\"latitude\":90", ",\"longitude\":-180", ok("[90.0, -180.0]")),
        (",\"latitude\":\"-5.34445\"", ",\"longitude\":\" -177.924 \"", ok("[-5.34445, -177.924]")),
        (",\"latitude\":90.0001", ",\"longitude\":0", null("out_of_range")),
        (",\"latitude\":0", ",\"longitude\":180.001", null("out_of_range")),
        // A latitude of 100 would be a fine longitude.
        (",\"latitude\":100", ",\"longitude\":1", null("out_of_range")),
        (",\"latitude\":1", "", null("incomplete")),
        (",\"latitude\":null", ",\"longitude\":1", null("incomplete")),
        (",\"latitude\":\"\"", ",\"longitude\":1", null("incomplete")),
        ("", "", null("absent")),
        (",\"latitude\":\"north\"", ",\"longitude\":1", null("unparsable")),
        (",\"latitude\":1", ",\"longitude\":[1]", null("wrong_type")),
    ] {
        assert_eq!(geo_cell(latitude, longitude), expected, "{latitude}{longitude}");
    }
}

#[test]
fn decision_08_timestamps_in_every_form_become_the_same_utc_microseconds() {
    let of = |json: &str| user_cell(&format!("\"age\":20,\"date_joined\":{json}"), "date_joined");
    for json in [
        "\"2020-08-28T03:52:47\"",
        "\"2020-08-28 03:52:47\"",
        "\"2020:08:28 03:52:47\"",
        "\"08/28/2020, 03:52:47\"",
        "\" 2020-08-28T03:52:47Z\\n\"",
        "\"2020-08-28T05:52:47.000+02:00\"",
        "{\"$date\":1598586767000}",
        "{\"$date\":\"2020-08-28T03:52:47Z\"}",
        "{ \"$date\" : \" 08/27/2020, 22:52:47-0500 \" }",
    ] {
        assert_eq!(of(json), ok("2020-08-28T03:52:47Z"), "{json}");
    }
    assert_eq!(of("\"2020-08-28T03:52:47.123456789\""), ok("2020-08-28T03:52:47.123456Z"));
    assert_eq!(of("{\"$date\":-1}"), ok("1969-12-31T23:59:59.999Z"));
    for (json, reason) in [
        ("\"2020-08-28\"", "unparsable"),
        ("\"2020-08-28T03:52:60\"", "unparsable"),
        ("\"2021-02-29T03:52:47\"", "unparsable"),
        ("{\"$date\":1.5}", "unparsable"),
        ("{\"$date\":\"2020-08-28\"}", "unparsable"),
        ("{\"$date\":99999999999999999}", "out_of_range"),
        ("{\"$date\":null}", "wrong_type"),
        ("{\"date\":1}", "wrong_type"),
        ("{}", "wrong_type"),
        ("1598586767000", "wrong_type"),
        ("\"\"", "empty"),
        ("null", "null"),
    ] {
        assert_eq!(of(json), null(reason), "{json}");
    }
}

#[test]
fn what_is_no_json_is_told_by_where_it_stops_being_it() {
    for (json, detail) in [
        ("{\"index\":1,}", "not JSON at byte 11 of 12; begins \"{\\\"index\\\":1,}\""),
        ("{'index':1}", "not JSON at byte 1 of 11; begins \"{'index':1}\""),
        ("hello, world", "not JSON at byte 0 of 12; begins \"hello, world\""),
        ("{\n\"a\":1\n\"b\":2}", "not JSON at byte 8 of 14; begins"),
        ("{\"index\":NaN}", "not JSON at byte 9 of 13; begins"),
        ("{\"index\":1", "not JSON at byte 10 of 10; begins"),
        ("{} x", "not JSON at byte 3 of 4; begins"),
    ] {
        let (reason, told) = rejected("pin.toml", json);
        assert_eq!(reason, RejectReason::InvalidJson, "{json}");
        assert!(told.starts_with(detail), "{json}: {told}");
    }
}

#[test]
fn decision_09_ind_is_an_integer_or_the_record_is_a_reject() {
    for json in ["7528", "\"7528\"", "\" 7528\\u00a0\"", "7528.0", "\"7528.0\""] {
        assert_eq!(clean_one(&shipped("pin.toml"), pin("index", json).as_bytes()).cell("ind"), "7528", "{json}");
    }
    for (json, detail) in [
        ("null", "ind (from \"index\"): null"),
        ("\"\"", "ind (from \"index\"): empty"),
        ("\"seven\"", "ind (from \"index\"): unparsable: \"seven\""),
        ("7528.5", "ind (from \"index\"): unparsable: 7528.5"),
        ("3000000000", "ind (from \"index\"): out_of_range: 3000000000"),
        ("[7528]", "ind (from \"index\"): wrong_type: a list"),
    ] {
        assert_eq!(rejected("pin.toml", pin("index", json)), (RejectReason::RequiredColumn, detail.to_owned()));
    }
    let without = pin("index", "1").replace("\"index\":1,", "");
    assert_eq!(
        rejected("pin.toml", without),
        (RejectReason::RequiredColumn, "ind (from \"index\"): absent".to_owned())
    );
    let (_, detail) = rejected("pin.toml", pin("index", &format!("\"{}\"", "é".repeat(500))));
    assert!(detail.len() <= crate::limits::REJECT_DETAIL_BYTES_MAX && detail.ends_with("é\"…"), "{detail}");
}

#[test]
fn decision_10_an_event_posted_twice_is_two_rows() {
    let cleaned = clean(&shipped("pin.toml"), &[PIN_8304.as_bytes(), PIN_8304.as_bytes()]);
    assert_eq!(cleaned.row(0), cleaned.row(1));
}

#[test]
fn decision_11_user_name_is_what_there_is_of_first_and_last() {
    assert_eq!(clean_one(&shipped("user.toml"), USER_7528.as_bytes()).cell("user_name"), "Abigail Ali");
    for (fields, expected) in [
        ("\"first_name\":\" Abigail\\u00a0\",\"last_name\":\" Ali \"", ok("Abigail Ali")),
        ("\"first_name\":\"Abigail\"", ok("Abigail")),
        ("\"first_name\":\" \",\"last_name\":\"Ali\"", ok("Ali")),
        ("\"first_name\":null,\"last_name\":\"Ali\"", ok("Ali")),
        ("\"age\":20", null("absent")),
        ("\"first_name\":null,\"last_name\":\"\"", null("null")),
        ("\"last_name\":\"\"", null("empty")),
    ] {
        assert_eq!(user_cell(fields, "user_name"), expected, "{fields}");
    }
    let cleaned = clean_one(&shipped("user.toml"), br#"{"ind":1,"first_name":5,"last_name":"Ali"}"#);
    assert_eq!(cleaned.cell("user_name"), "Ali");
    assert!(cleaned.nulls().contains(&("user_name", "wrong_type", 1)), "{:?}", cleaned.nulls());
}

#[test]
fn decision_12_save_location_is_the_path() {
    assert_eq!(pin_cell("save_location", "\"Local save in /data/quotes\""), ok("/data/quotes"));
    assert_eq!(pin_cell("save_location", "\"/data/quotes\""), ok("/data/quotes"));
    assert_eq!(pin_cell("save_location", "\"Local save in\""), ok("Local save in"));
}

#[test]
fn decision_13_age_outside_0_to_150_is_null() {
    for (json, expected) in [
        ("0", ok("0")),
        ("150", ok("150")),
        ("\"20\"", ok("20")),
        ("-1", null("out_of_range")),
        ("151", null("out_of_range")),
        ("20.5", null("unparsable")),
    ] {
        assert_eq!(user_cell(&format!("\"first_name\":\"A\",\"age\":{json}"), "age"), expected, "{json}");
    }
}

#[test]
fn decision_14_what_is_no_record_of_the_stream_has_a_reason_of_its_own() {
    let deep = format!("{{\"ind\":1,\"country\":{}{}}}", "[".repeat(128), "]".repeat(128));
    for (payload, reason) in [
        (PIN_8304.as_bytes(), RejectReason::AnotherKind),
        (br#"{"hello":"world"}"#, RejectReason::AnotherKind),
        (b"{}", RejectReason::AnotherKind),
        (b"", RejectReason::Empty),
        (b" \n\t ", RejectReason::Empty),
        (b"hello world", RejectReason::InvalidJson),
        (b"test", RejectReason::InvalidJson),
        (&GEO_7528.as_bytes()[..60], RejectReason::InvalidJson),
        (b"{\"ind\":1,\"country\":\"\xff\"}", RejectReason::InvalidUtf8),
        (b"{\"ind\":1,\"country\":\"\xc3", RejectReason::InvalidUtf8),
        (b"7528", RejectReason::NotAnObject),
        (b"null", RejectReason::NotAnObject),
        (b"[]", RejectReason::NotAnObject),
        (b"[7528]", RejectReason::NotAnObject),
        (b"[{\"ind\":1},{\"ind\":2}]", RejectReason::NotAnObject),
        (b"\"hello\"", RejectReason::NotAnObject),
        (b"\"\"", RejectReason::NotAnObject),
        (deep.as_bytes(), RejectReason::TooDeep),
    ] {
        let cleaned = clean_one(&shipped("geo.toml"), payload);
        assert_eq!(cleaned.reject().0, reason, "{}", String::from_utf8_lossy(payload));
        assert_eq!(cleaned.rejects[0].record.data, payload);
        assert_eq!((cleaned.nulls(), cleaned.unknown(), cleaned.repairs()), (vec![], vec![], vec![]));
    }
}

#[test]
fn decision_15_transport_damage_is_repaired_and_counted() {
    let in_string = serde_json::to_string(GEO_7528).unwrap();
    let base64 = base64_simd::STANDARD.encode_to_string(GEO_7528);
    let contract = shipped("geo.toml");
    let plain = clean_one(&contract, GEO_7528.as_bytes());
    assert_eq!(plain.repairs(), []);
    for (payload, repair) in
        [(format!("[{GEO_7528}]"), Repair::ListOfOne), (in_string, Repair::JsonInString), (base64, Repair::Base64)]
    {
        let cleaned = clean_one(&contract, payload.as_bytes());
        assert_eq!(cleaned.row(0), plain.row(0));
        assert_eq!(cleaned.repairs(), [(repair, 1)]);
    }
}

#[test]
fn decision_15a_a_record_without_any_other_field_is_of_another_kind() {
    let reason = "it has none of these: country, latitude, longitude, timestamp";
    for record in ["{\"ind\":7528}", USER_7528, "{\"ind\":7528,\"COUNTRY\":\"Albania\"}"] {
        assert_eq!(rejected("geo.toml", record), (RejectReason::AnotherKind, reason.to_owned()));
    }
    let cleaned = clean_one(&shipped("geo.toml"), b"{\"ind\":7528,\"country\":null}");
    assert_eq!(cleaned.cell("country"), NULL);
    let only = compiled("table = \"t\"\n[[column]]\nname = \"ind\"\ntype = \"integer\"\nrequired = true\n");
    assert_eq!(clean_one(&only, b"{\"ind\":7528}").cell("ind"), "7528");
}

#[test]
fn decision_15b_a_value_of_another_json_type_is_null_and_counted() {
    for json in ["5", "1.5", "true", "[\"a\"]", "{\"a\":1}"] {
        assert_eq!(pin_cell("title", json), null("wrong_type"), "{json}");
    }
    for json in ["true", "[20]", "{\"a\":1}"] {
        assert_eq!(user_cell(&format!("\"first_name\":\"A\",\"age\":{json}"), "age"), null("wrong_type"), "{json}");
    }
}

#[test]
fn decision_15d_json_of_too_many_values_is_not_parsed() {
    let filled =
        |filling: &str, times: usize| format!("{{\"ind\":1,\"country\":\"Peru\",\"u\":[0{}]}}", filling.repeat(times));
    let values = crate::limits::JSON_VALUES_MAX;
    // Three keys, three values, the list's first: seven, and the object itself.
    assert_eq!(clean_one(&shipped("geo.toml"), filled(",0", values - 8).as_bytes()).cell("country"), "Peru");
    assert_eq!(rejected("geo.toml", filled(",0", values - 7)).0, RejectReason::TooManyValues);
    assert_eq!(rejected("geo.toml", filled(",[]", 3 << 20)).0, RejectReason::TooManyValues);
    let commas = format!("{{\"ind\":1,\"country\":\"{}\"}}", ",".repeat(values + 1));
    assert_eq!(clean_one(&shipped("geo.toml"), commas.as_bytes()).cell("ind"), "1");
}

#[test]
fn decision_15c_json_is_rfc_8259_and_at_most_128_deep() {
    let nested = |depth: usize| format!("{{\"ind\":1,\"country\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(clean_one(&shipped("geo.toml"), nested(127).as_bytes()).nulls()[1], ("country", "wrong_type", 1));
    assert_eq!(rejected("geo.toml", nested(128)).0, RejectReason::TooDeep);
    assert_eq!(rejected("geo.toml", "[".repeat(1 << 20)).0, RejectReason::TooDeep);
    for record in [
        "{\"ind\":1,\"latitude\":NaN}",
        "{\"ind\":1,\"latitude\":Infinity}",
        "{\"ind\":1,\"country\":\"\\ud800\"}",
        "\u{feff}{\"ind\":1,\"country\":\"Albania\"}",
        "{\"ind\":01,\"country\":\"Albania\"}",
        "{\"ind\":1,\"country\":\"Albania\",}",
        "{'ind':1}",
    ] {
        assert_eq!(rejected("geo.toml", record).0, RejectReason::InvalidJson, "{record}");
    }
}

#[test]
fn decision_16_unknown_fields_are_counted_once_a_record() {
    let renamed =
        PIN_8304.replace("image_src", "img_src").replace("\"downloaded\":1", "\"downloaded\":1,\"downloaded\":0");
    let cleaned = clean(&shipped("pin.toml"), &[renamed.as_bytes(), renamed.as_bytes(), PIN_8304.as_bytes()]);
    assert_eq!(cleaned.unknown(), [("downloaded", 3), ("img_src", 2)]);
    assert_eq!(cleaned.nulls(), [("image_src", "absent", 2)]);
}

#[test]
fn decision_16_a_sender_of_random_names_fills_no_memory() {
    let fields: Vec<String> = (0..100).map(|n| format!("\"field_{n:03}\":1")).collect();
    let long = "n".repeat(1000);
    let record = format!("{{\"ind\":1,\"country\":\"A\",\"{long}\":1,{}}}", fields.join(","));
    let cleaned = clean_one(&shipped("geo.toml"), record.as_bytes());
    let unknown = cleaned.unknown();
    assert_eq!(unknown.len(), crate::limits::UNKNOWN_FIELDS_MAX + 1);
    assert_eq!(unknown[0], ("__other__", 37));
    assert_eq!(unknown.iter().map(|(_, count)| count).sum::<u64>(), 101);
    assert!(unknown.iter().all(|(name, _)| name.len() <= crate::limits::UNKNOWN_FIELD_NAME_BYTES_MAX));
}

#[test]
fn decision_17_of_equal_keys_the_last_wins() {
    let cleaned = clean_one(
        &shipped("geo.toml"),
        br#"{"ind":1,"country":"Albania","ind":2,"country":null,"latitude":1,"longitude":2,"longitude":3}"#,
    );
    assert_eq!((cleaned.cell("ind"), cleaned.cell("country")), ("2".to_owned(), NULL.to_owned()));
    assert_eq!(cleaned.cell("coordinates"), "[1.0, 3.0]");
    assert_eq!(cleaned.nulls(), [("country", "null", 1), ("timestamp", "absent", 1)]);
    let escaped = clean_one(&shipped("geo.toml"), br#"{"ind":1,"country":"Albania","c\u006funtry":"Algeria"}"#);
    assert_eq!(escaped.cell("country"), "Algeria");
}
