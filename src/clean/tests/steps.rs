//! Every column type and every cleaning step, also those that no shipped contract uses.

use super::*;

#[test]
fn long_columns_hold_64_bits() {
    let long = with_x("type = \"long\"");
    for (json, expected) in [
        ("9223372036854775807", ok("9223372036854775807")),
        ("-9223372036854775808", ok("-9223372036854775808")),
        ("9007199254740993", ok("9007199254740993")),
        ("\"-7\"", ok("-7")),
        ("1e3", ok("1000")),
        ("-0", ok("0")),
        ("9223372036854775808", null("out_of_range")),
        ("18446744073709551616", null("out_of_range")),
        ("-9223372036854775809", null("out_of_range")),
        ("1e999", null("out_of_range")),
        ("1e17", null("out_of_range")),
        ("0.5", null("unparsable")),
        ("1e-999", ok("0")),
        ("\"0x10\"", null("unparsable")),
    ] {
        assert_eq!(x(&long, json), expected, "{json}");
    }
    assert_eq!(x(&with_x("type = \"integer\""), "2147483648"), null("out_of_range"));
}

#[test]
fn a_number_that_fits_nothing_costs_its_column_and_not_the_record() {
    let digits = "9".repeat(400);
    let double = with_x("type = \"double\"");
    for (json, expected) in [
        ("1e999", null("out_of_range")),
        ("-1e999", null("out_of_range")),
        (digits.as_str(), null("out_of_range")),
        ("1.7976931348623157e308", null("out_of_range")),
        ("1.7976931348623155e308", ok("1.7976931348623155e308")),
        ("123456789012345678901234", ok("1.2345678901234569e23")),
        ("-18446744073709551616", ok("-1.8446744073709552e19")),
        ("\"1e999\"", null("out_of_range")),
        ("\"1e-3\"", ok("0.001")),
        ("\"NaN\"", null("unparsable")),
        ("5", ok("5.0")),
        ("-89.9787", ok("-89.9787")),
    ] {
        assert_eq!(x(&double, json), expected, "{json}");
    }
    assert_eq!(x(&with_x("type = \"string\""), "1e999"), null("wrong_type"));
    let elsewhere = clean_one(&double, b"{\"id\":1,\"a\":\"1e999 \\\" 7\",\"b\":[1e999,-1e999],\"x\":1.5}");
    assert_eq!(elsewhere.cell("x"), "1.5");
    let broken = clean_one(&double, b"{\"id\":1,\"a\":1e999,\"x\":01}");
    assert_eq!(broken.reject().0, RejectReason::InvalidJson);
}

#[test]
fn boolean_columns_take_true_and_false_only() {
    let boolean = with_x("type = \"boolean\"");
    assert_eq!((x(&boolean, "true"), x(&boolean, "false")), (ok("true"), ok("false")));
    for json in ["\"true\"", "1", "[]"] {
        assert_eq!(x(&boolean, json), null("wrong_type"), "{json}");
    }
    assert_eq!(x(&boolean, "null"), null("null"));
}

#[test]
fn date_columns_take_a_date_alone_or_the_utc_day_of_a_time() {
    let date = with_x("type = \"date\"\nnull_if = [\"never\"]");
    for (json, expected) in [
        ("\"2020-08-28\"", ok("2020-08-28")),
        ("\" 2020:08:28 \"", ok("2020-08-28")),
        ("\"08/28/2020\"", ok("2020-08-28")),
        ("\"2020-08-28T23:30:00-01:00\"", ok("2020-08-29")),
        ("{\"$date\":-1}", ok("1969-12-31")),
        ("\"2020-02-30\"", null("unparsable")),
        ("\"never\"", null("sentinel")),
        ("20200828", null("wrong_type")),
    ] {
        assert_eq!(x(&date, json), expected, "{json}");
    }
}

#[test]
fn timestamp_columns_know_their_sentinels() {
    let time = with_x("type = \"timestamp\"\nnull_if = [\"0000-00-00 00:00:00\"]");
    assert_eq!(x(&time, "\" 0000-00-00 00:00:00\""), null("sentinel"));
}

#[test]
fn list_columns_keep_what_fits_and_count_what_does_not() {
    for (column, json, shown, nulls) in [
        (
            "array<string>",
            "[\" a \",\"b\",\"\",null,5]",
            "[a, b, , , ]",
            vec![("x", "empty", 1), ("x", "null", 1), ("x", "wrong_type", 1)],
        ),
        ("array<long>", "[1,\"2\",3.0,0.5,[4]]", "[1, 2, 3, , ]", vec![("x", "unparsable", 1), ("x", "wrong_type", 1)]),
        (
            "array<double>",
            "[1,2.5,\"x\",1e999]",
            "[1.0, 2.5, , ]",
            vec![("x", "out_of_range", 1), ("x", "unparsable", 1)],
        ),
        ("array<long>", "[]", "[]", vec![]),
        ("array<long>", "null", NULL, vec![("x", "null", 1)]),
        ("array<long>", "5", NULL, vec![("x", "wrong_type", 1)]),
        ("array<string>", "\"a,b\"", NULL, vec![("x", "wrong_type", 1)]),
    ] {
        let contract = with_x(&format!("type = \"{column}\""));
        let cleaned = clean_one(&contract, format!("{{\"id\":1,\"x\":{json}}}").as_bytes());
        assert_eq!(cleaned.cell("x").replace(NULL, if shown == NULL { NULL } else { "" }), shown, "{json}");
        assert_eq!(cleaned.nulls(), nulls, "{json}");
    }
}

#[test]
fn collected_texts_and_numbers_are_all_or_nothing() {
    let texts = with_x("type = \"array<string>\"\ncollect = [\"a\", \"b\"]");
    let cell = |contract: &Arc<Contract>, fields: &str| {
        let cleaned = clean_one(contract, format!("{{\"id\":1,{fields}}}").as_bytes());
        (cleaned.cell("x"), cleaned.nulls().first().map(|(_, reason, _)| (*reason).to_owned()))
    };
    assert_eq!(cell(&texts, "\"a\":\"1 \",\"b\":\"2\""), ("[1, 2]".to_owned(), None));
    assert_eq!(cell(&texts, "\"a\":\"1\",\"b\":\" \""), (NULL.to_owned(), Some("incomplete".to_owned())));
    let longs = with_x("type = \"array<long>\"\ncollect = [\"a\", \"b\"]\nrange = [0, 9]");
    assert_eq!(cell(&longs, "\"a\":9,\"b\":\"0\""), ("[9, 0]".to_owned(), None));
    assert_eq!(cell(&longs, "\"a\":9,\"b\":10"), (NULL.to_owned(), Some("out_of_range".to_owned())));
}

#[test]
fn trimming_can_be_left_out() {
    let verbatim = with_x("type = \"string\"\ntrim = false\nnull_if = [\"none\"]");
    assert_eq!(x(&verbatim, "\" a\\u00a0\""), ok(" a\u{a0}"));
    assert_eq!(x(&verbatim, "\" none\""), ok(" none"));
    assert_eq!(x(&verbatim, "\"none\""), null("sentinel"));
    assert_eq!(x(&verbatim, "\" \\n\""), null("empty"));
}

#[test]
fn a_prefix_is_stripped_and_what_is_left_is_checked() {
    let stripped = with_x("type = \"string\"\nstrip_prefix = \"a:\"\none_of = [\"b\", \"c\"]");
    assert_eq!((x(&stripped, "\"a:b\""), x(&stripped, "\"c\"")), (ok("b"), ok("c")));
    assert_eq!(x(&stripped, "\"a:\""), null("empty"));
    assert_eq!(x(&stripped, "\"a:d\""), null("not_one_of"));
}

#[test]
fn a_default_stands_for_silence_and_not_for_nonsense() {
    let default = with_x("type = \"integer\"\ndefault = 7\nnull_if = [\"n/a\"]");
    for json in ["null", "\"\"", "\"n/a\""] {
        assert_eq!(x(&default, json), ok("7"), "{json}");
    }
    assert_eq!(x(&default, "\"seven\""), null("unparsable"));
    let absent = "type = \"string\"\ndefault = \"x\"\n[[column]]\nname = \"y\"\ntype = \"boolean\"\ndefault = true\n\
                  [[column]]\nname = \"z\"\ntype = \"double\"\ndefault = 0.5\n[[column]]\nname = \"w\"\ntype = \"long\"";
    let cleaned = clean_one(&with_x(absent), b"{\"id\":1,\"w\":1}");
    assert_eq!([cleaned.cell("x"), cleaned.cell("y"), cleaned.cell("z")], ["x", "true", "0.5"]);
    assert_eq!(cleaned.nulls(), []);
}

#[test]
fn a_path_reaches_into_objects_and_the_last_object_wins() {
    let path = with_x("from = \"a.b\"\ntype = \"long\"\n[[column]]\nname = \"y\"\nfrom = \"a.c.d\"\ntype = \"string\"");
    let of = |fields: &str| {
        let cleaned = clean_one(&path, format!("{{\"id\":1,{fields}}}").as_bytes());
        assert_eq!(cleaned.unknown(), []);
        (cleaned.cell("x"), cleaned.cell("y"))
    };
    let both = |x: &str, y: &str| (x.to_owned(), y.to_owned());
    assert_eq!(of("\"a\":{\"b\":5,\"z\":[{\"b\":6}],\"c\":{\"d\":\"e\"}}"), both("5", "e"));
    assert_eq!(of("\"a\":{\"b\":5,\"c\":{\"d\":\"e\"}},\"a\":{\"b\":7}"), both("7", NULL));
    assert_eq!(of("\"a\":{\"c\":{\"d\":\"e\"},\"c\":5,\"b\":1}"), both("1", NULL));
    let flat = clean_one(&path, b"{\"id\":1,\"a.b\":5}");
    assert_eq!(flat.reject().0, RejectReason::AnotherKind);
    let scalar = clean_one(&path, b"{\"id\":1,\"a\":5}");
    assert_eq!(scalar.reject().0, RejectReason::AnotherKind);
}

#[test]
fn two_columns_may_read_one_field() {
    let twice = with_x("from = \"a\"\ntype = \"long\"\n[[column]]\nname = \"y\"\nfrom = \"a\"\ntype = \"string\"");
    let cleaned = clean_one(&twice, b"{\"id\":1,\"a\":\"5\"}");
    assert_eq!((cleaned.cell("x"), cleaned.cell("y")), ("5".to_owned(), "5".to_owned()));
}

#[test]
fn every_type_can_be_required() {
    for (lines, good, bad) in [
        ("type = \"string\"", "\"a\"", "\"\""),
        ("type = \"integer\"", "1", "2147483648"),
        ("type = \"long\"", "1", "1.5"),
        ("type = \"double\"", "1.5", "\"x\""),
        ("type = \"boolean\"", "true", "1"),
        ("type = \"timestamp\"", "\"2020-08-28 03:52:47\"", "\"2020-08-28\""),
        ("type = \"date\"", "\"2020-08-28\"", "1"),
        ("type = \"array<string>\"", "[\"a\"]", "\"a\""),
        ("type = \"array<long>\"", "[1]", "null"),
        ("type = \"array<double>\"", "[1.5]", "{}"),
    ] {
        let contract = with_x(&format!("{lines}\nrequired = true"));
        let of = |json: &str| clean_one(&contract, format!("{{\"id\":1,\"x\":{json}}}").as_bytes());
        assert_eq!((of(good).rows.num_rows(), of(good).nulls()), (1, vec![]), "{lines}");
        assert_eq!(of(bad).reject().0, RejectReason::RequiredColumn, "{lines}");
        assert_eq!(of(bad).nulls(), [], "a reject's nulls are not counted");
        let [good, bad, other] = [(1, good), (2, bad), (2, good)].map(|(id, x)| format!("{{\"id\":{id},\"x\":{x}}}"));
        let without_id = other.replace("\"id\":2", "\"id\":null");
        let rows = clean(&contract, &[&good, &bad, &without_id, &good].map(|json| json.as_bytes())).rows;
        let row = |at| rows.project(&[0, 1]).unwrap().slice(at, 1);
        assert_eq!((rows.num_rows(), row(0)), (2, row(1)), "nothing of a reject is in a row");
    }
    let joined =
        with_x("type = \"string\"\njoin = { from = [\"a\", \"b\"], with = \" \" }\none_of = [\"x\"]\nrequired = true");
    let cleaned = clean_one(&joined, b"{\"id\":1,\"a\":1,\"b\":\"y\"}");
    assert_eq!(
        (cleaned.reject().0, cleaned.nulls()),
        (RejectReason::RequiredColumn, vec![]),
        "nor those of a join's parts"
    );
    let collected = with_x("type = \"array<double>\"\ncollect = [\"a\", \"b\"]\nrequired = true");
    let cleaned = clean_one(&collected, b"{\"id\":1,\"a\":1}");
    assert_eq!(cleaned.reject(), (RejectReason::RequiredColumn, "x (from \"a\", \"b\"): incomplete: 1, absent"));
}
