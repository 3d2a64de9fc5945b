//! Misuse is refused with the line and what would be right; the shipped contracts compile to the published tables.

use std::collections::BTreeSet;
use std::path::Path;

use super::window::{Comparison, Condition, Derive, Function, Test};
use super::*;
use crate::toml_doc::Invalid;

fn shipped(name: &str) -> Contract {
    let problems = Problems::default();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(name);
    let contract = load(&path, None, &problems);
    problems.into_result().unwrap();
    contract.unwrap()
}

fn refused(text: &str) -> Invalid {
    let problems = Problems::default();
    assert!(parse("c.toml", text.to_owned(), &problems).is_none(), "{text}");
    problems.into_result().unwrap_err()
}

fn accepted(text: &str) -> Contract {
    let problems = Problems::default();
    let contract = parse("c.toml", text.to_owned(), &problems);
    problems.into_result().unwrap();
    contract.unwrap()
}

fn schema_of(schema: &SchemaRef) -> Vec<String> {
    schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect()
}

// === The shipped contracts ===

const PLACE: [&str; 6] = [
    "_shard_id Utf8",
    "_sequence_number Utf8",
    "_sub_sequence_number Int64",
    "_arrived_at Timestamp(µs, \"UTC\")",
    "_replayed Int64",
    "_date Date32",
];

#[test]
fn the_shipped_contracts_have_the_published_columns() {
    let expected = [
        (
            "pin.toml",
            vec![
                "ind Int32",
                "unique_id Utf8",
                "title Utf8",
                "description Utf8",
                "follower_count Int32",
                "poster_name Utf8",
                "tag_list Utf8",
                "is_image_or_video Utf8",
                "image_src Utf8",
                "save_location Utf8",
                "category Utf8",
            ],
        ),
        (
            "geo.toml",
            vec![
                "ind Int32",
                "country Utf8",
                "coordinates List(Float64, field: 'element')",
                "timestamp Timestamp(µs, \"UTC\")",
            ],
        ),
        ("user.toml", vec!["ind Int32", "user_name Utf8", "age Int32", "date_joined Timestamp(µs, \"UTC\")"]),
    ];
    for (file, columns) in expected {
        let contract = shipped(file);
        assert_eq!(schema_of(&contract.rows_schema), [columns, PLACE.to_vec()].concat(), "{file}");
        assert_eq!(contract.event_time, EventTime::Arrival);
        assert!(contract.rows_schema.fields().iter().all(|field| field.is_nullable()));
    }
}

#[test]
fn the_rejects_table_keeps_the_payload_and_the_reason() {
    let contract = shipped("pin.toml");
    assert_eq!(contract.rejects_table(), "pin_rejects");
    let said = ["reason Utf8", "detail Utf8", "payload Binary"];
    assert_eq!(schema_of(&contract.rejects_schema), [&PLACE[..4], &said[..], &PLACE[5..]].concat());
}

#[test]
fn the_shipped_windows_compile() {
    let pin = shipped("pin.toml");
    let window = &pin.windows[0];
    assert_eq!(
        (window.name.as_str(), window.partials_table().as_str()),
        ("pins_by_category", "pins_by_category_partials")
    );
    assert_eq!((window.every_us, window.grace_us), (60_000_000, 5_000_000));
    let functions: Vec<Function> = window.measures.iter().map(|measure| measure.function).collect();
    let max = Function::Max(4, ColumnType::Integer);
    let sketches = [Function::Quantiles(4, ColumnType::Integer), Function::Distinct(5, ColumnType::String)];
    let exact = [Function::Count, Function::SumInteger(4), Function::MeanInteger(4), max];
    assert_eq!(functions, [&exact[..], &sketches[..]].concat());
    let user = shipped("user.toml");
    let labels = ["18-24", "25-35", "36-50", "+50"].map(str::to_owned).to_vec();
    assert_eq!(user.windows[0].keys[0].derive, Derive::Bucket { bounds: vec![18.0, 25.0, 36.0, 51.0], labels });
    assert_eq!(user.windows[1].keys[0].derive, Derive::Year);
    assert_eq!(user.windows[1].keys[0].column, 3);
    assert_eq!(shipped("geo.toml").windows[0].keys[0].name, "country");
}

#[test]
fn a_record_of_this_kind_has_a_field_that_no_required_column_reads() {
    let user = shipped("user.toml");
    let fields: Vec<&str> = user.kind_fields.iter().map(|field| user.fields.path(*field)).collect();
    assert_eq!(fields, ["first_name", "last_name", "age", "date_joined"]);
    let only = accepted("table = \"t\"\n[[column]]\nname = \"a\"\ntype = \"long\"\nrequired = true\n");
    assert!(only.kind_fields.is_empty());
}

#[test]
fn the_guide_builds_a_contract_that_compiles() {
    let guide = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/README.md")).unwrap();
    let blocks = guide.split("```toml\n").skip(1).filter_map(|block| block.split("```").next());
    let doors = accepted(&blocks.collect::<String>());
    assert_eq!((doors.columns.len(), doors.windows.len()), (4, 2));
    for reason in crate::record::RejectReason::ALL.map(|reason| reason.as_str()) {
        assert!(guide.contains(&format!("| `{reason}` |")), "{reason}");
    }
}

// === The definition ===

#[test]
fn a_definition_changes_with_what_is_aggregated_and_with_nothing_else() {
    let base = "table = \"t\"\n[[column]]\nname = \"a\"\ntype = \"long\"\n[[column]]\nname = \"b\"\ntype = \"string\"\n\
                [[window]]\nname = \"w\"\nevery = \"1m\"\nby = [\"b\"]\nmeasure = { n = \"count\", s = \"sum(a)\" }\n";
    let definition = |text: &str| accepted(text).windows[0].definition.clone();
    let first = definition(base);
    // Partials in somebody's lake carry these digits.
    assert_eq!(first, "c1139398c3cdfdcf");
    for same in [
        base.replace("name = \"w\"", "name = \"other\""),
        base.replace("every = \"1m\"", "every = \"60s\"\ngrace = \"1h\" # why not"),
        base.replace("every = \"1m\"", "every = \"1m\"\nhop = \"60s\""),
        base.replace("type = \"string\"", "type = \"string\"\nnull_if = [\"x\"]"),
    ] {
        assert_eq!(definition(&same), first, "{same}");
    }
    let others = [
        base.replace("1m", "2m"),
        base.replace("by = [\"b\"]", "by = []"),
        base.replace("by = [\"b\"]", "by = [\"a\"]"),
        base.replace("sum(a)", "mean(a)"),
        base.replace("sum(a)", "first(a)"),
        base.replace("sum(a)", "last(a)"),
        base.replace("sum(a)", "distinct(a)"),
        base.replace("sum(a)", "quantiles(a)"),
        base.replace("sum(a)", "top(a, 3)"),
        base.replace("sum(a)", "top(a, 4)"),
        base.replace("1m\"", "1m\"\nhop = \"30s\""),
        base.replace("1m\"", "1m\"\nhop = \"20s\""),
        base.replace("1m\"", "1m\"\ntime = \"arrival\""),
        base.replace("1m\"", "1m\"\nwhere = \"a > 1\""),
        base.replace("1m\"", "1m\"\nwhere = \"a > 2\""),
        base.replace("1m\"", "1m\"\nwhere = \"a >= 1\""),
        base.replace("1m\"", "1m\"\nwhere = \"a is null\""),
        base.replace("1m\"", "1m\"\nwhere = \"b is null\""),
        base.replace("1m\"", "1m\"\nwhere = \"a in (1)\""),
        base.replace("1m\"", "1m\"\nwhere = \"a in (1) and a in (2)\""),
        base.replace("1m\"", "1m\"\nwhere = \"a in (1, 2)\""),
        base.replace("s = ", "total = "),
        base.replace("\"long\"", "\"integer\""),
        base.replace("\"a\"", "\"aa\"").replace("(a)", "(aa)"),
    ];
    let definitions: BTreeSet<String> = others.iter().map(|other| definition(other)).chain([first]).collect();
    assert_eq!(definitions.len(), others.len() + 1);
}

#[test]
fn measures_have_the_columns_that_the_guide_names() {
    let window = with_window(
        "every = \"1m\"\n[window.measure]\nf = \"first(s)\"\nd = \"distinct(s)\"\nq = \"quantiles(n)\"\n\
         t = \"top( s , 5 )\"",
    );
    let window = &accepted(&window).windows[0];
    assert_eq!(window.measures[3].function, Function::Top(1, ColumnType::String, 5));
    let columns = schema_of(&window.partials_schema);
    let expected = [
        "f Utf8",
        "f_at Timestamp(µs, \"UTC\")",
        "f_shard_id Utf8",
        "f_sequence_number Utf8",
        "f_sub_sequence_number Int64",
        "d Int64",
        "d_sketch Binary",
        "q_p50 Float64",
        "q_p90 Float64",
        "q_p99 Float64",
        "q_sketch Binary",
        "t Utf8",
        "t_error Int64",
        "t_sketch Binary",
    ];
    assert_eq!(columns[2..16], expected);
}

// === Misuse ===

/// A contract with these lines in its only column (line 2 on) or after it.
fn with_column(lines: &str) -> String {
    format!("table = \"t\"\n[[column]]\nname = \"a\"\n{lines}\n")
}

fn with_window(lines: &str) -> String {
    let columns = "table = \"t\"\n[[column]]\nname = \"n\"\ntype = \"long\"\n[[column]]\nname = \"s\"\ntype = \"string\"\n\
                   [[column]]\nname = \"l\"\ntype = \"array<long>\"\n[[column]]\nname = \"at\"\ntype = \"timestamp\"\n";
    format!("{columns}[[window]]\nname = \"w\"\n{lines}\n")
}

const COLUMN_MISUSE: &[(&str, &str)] = &[
    (
        "type = \"int\"",
        "c.toml:4: type \"int\" is not offered; did you mean \"integer\"? (offered: string, integer, long, double, boolean, timestamp, date, array<string>, array<long>, array<double>)",
    ),
    ("type = \"string\"\nform = \"x\"", "c.toml:5: unknown key `column.form`; did you mean `from`?"),
    (
        "type = \"integer\"\nstrip_prefix = \"x\"",
        "c.toml:5: `strip_prefix` is not offered for a column of type integer; it is for string",
    ),
    (
        "type = \"integer\"\none_of = [\"x\"]",
        "c.toml:5: `one_of` is not offered for a column of type integer; it is for string",
    ),
    (
        "type = \"integer\"\ntrim = false",
        "c.toml:5: `trim` is not offered for a column of type integer; it is for string, array<string>",
    ),
    (
        "type = \"boolean\"\nnull_if = [\"x\"]",
        "c.toml:5: `null_if` is not offered for a column of type boolean; it is for string, integer, long, double, timestamp, date",
    ),
    (
        "type = \"string\"\nparse = \"magnitude\"",
        "c.toml:5: `parse` is not offered for a column of type string; it is for integer, long",
    ),
    ("type = \"long\"\nparse = \"hex\"", "c.toml:5: `parse` = \"hex\"; only \"magnitude\" is offered"),
    (
        "type = \"string\"\nrange = [0, 1]",
        "c.toml:5: `range` is not offered for a column of type string; it is for integer, long, double, array<long>, array<double>",
    ),
    ("type = \"long\"\nrange = [1, 0]", "c.toml:5: `range` = [1, 0]; expected [lowest, highest]"),
    ("type = \"long\"\nrange = [[0, 1], [0, 1]]", "c.toml:5: `range` = [[0, 1], [0, 1]]; expected [lowest, highest]"),
    (
        "type = \"array<double>\"\ncollect = [\"x\", \"y\"]\nrange = [[0, 1], [0, 1], [0, 1]]",
        "c.toml:6: `range` = [[0, 1], [0, 1], [0, 1]]; expected [lowest, highest], or 2 of these, one for each collected field",
    ),
    (
        "type = \"string\"\ncollect = [\"x\", \"y\"]",
        "c.toml:5: `collect` is not offered for a column of type string; it is for array<string>, array<long>, array<double>",
    ),
    ("type = \"array<long>\"\ncollect = [\"x\"]", "c.toml:5: `collect` needs at least two fields, like [\"x\", \"y\"]"),
    (
        "type = \"long\"\njoin = { from = [\"x\", \"y\"], with = \" \" }",
        "c.toml:5: `join` is not offered for a column of type long; it is for string",
    ),
    (
        "type = \"string\"\njoin = { from = [\"x\"], with = \" \" }",
        "c.toml:5: `join.from` needs at least two fields, like [\"first\", \"last\"]",
    ),
    (
        "type = \"string\"\njoin = { from = [\"x\", \"y\"] }",
        "c.toml:5: `column.join.with` is missing; expected a text in quotes",
    ),
    (
        "type = \"string\"\nfrom = \"x\"\njoin = { from = [\"x\", \"y\"], with = \" \" }",
        "c.toml:2: more than one of `from`, `join` and `collect`; a column has one source",
    ),
    (
        "type = \"string\"\nfrom = \"x..y\"",
        "c.toml:5: \"x..y\" is no JSON field; expected a name, or names like \"a.b\"",
    ),
    (
        "type = \"string\"\nrequired = true\ndefault = \"x\"",
        "c.toml:6: `default` on a required column: a record without a value is a reject; drop one",
    ),
    ("type = \"integer\"\ndefault = 3000000000", "c.toml:5: `default` = 3000000000 is no value of type integer"),
    (
        "type = \"integer\"\ndefault = 7\nrange = [0, 5]",
        "c.toml:5: `default` = 7 is not what `range` or `one_of` allow",
    ),
    (
        "type = \"timestamp\"\ndefault = \"x\"",
        "c.toml:5: `default` is not offered for a column of type timestamp; it is for string, integer, long, double, boolean",
    ),
    (
        "type = \"string\"\n[[column]]\nname = \"a\"\ntype = \"string\"",
        "c.toml:6: column `a` is taken by the column at c.toml:3; rename it",
    ),
    (
        "type = \"string\"\n[[column]]\nname = \"A\"\ntype = \"string\"",
        "c.toml:6: column `A` is taken by the column at c.toml:3, as `a`: Delta does not tell upper from lower case; rename it",
    ),
    (
        "type = \"string\"\n[[column]]\nname = \"_date\"\ntype = \"date\"",
        "c.toml:6: column name \"_date\" begins with `_`, which is kept for bookkeeping columns like `_shard_id`; take it away",
    ),
    (
        "type = \"string\"\n[[column]]\nname = \"a b\"\ntype = \"date\"",
        "c.toml:6: column name \"a b\" must be letters, digits and `_`",
    ),
    ("type = \"string\"\n[[column]]\ntype = \"date\"", "c.toml:5: `column.name` is missing; expected a text in quotes"),
];

#[test]
fn misuse_of_columns_is_refused_with_its_line() {
    for (lines, expected) in COLUMN_MISUSE {
        assert_eq!(refused(&with_column(lines)).problems(), [*expected], "{lines}");
    }
}

/// What `where` says, and what is said of it, after the letter.
const WHERE_MISUSE: &[(&str, &str)] = &[
    (" ", "2: the end; expected a column, like in `amount >= 1000`"),
    ("nn > 1", "1: `where` names \"nn\" (no such column; did you mean `n`?)"),
    ("n > 1 or n < -1", "7: `or` is not offered: use `in (..)`, or declare a window for each side"),
    ("not n = 1", "1: `not` is not offered here: use `!=` or `is not null`"),
    ("(n = 1)", "1: `(`; expected a column, like in `amount >= 1000`"),
    ("n", "2: the end where one of =, !=, <, <=, >, >=, `in (..)`, `is null` and `is not null` belongs"),
    (
        "n == 1",
        "3: `==` where one of =, !=, <, <=, >, >=, `in (..)`, `is null` and `is not null` belongs; equal is `=`",
    ),
    (
        "n <> 1",
        "3: `<>` where one of =, !=, <, <=, >, >=, `in (..)`, `is null` and `is not null` belongs; not equal is `!=`",
    ),
    (
        "s iss null",
        "3: `iss` where one of =, !=, <, <=, >, >=, `in (..)`, `is null` and `is not null` belongs; did you mean `is`?",
    ),
    ("n = '1'", "5: `'1'` for `n`, which is long; expected a whole number, like 1000"),
    ("n = 1.5", "5: `1.5` for `n`, which is long; expected a whole number, like 1000"),
    ("n = 1k", "5: `1k` for `n`, which is long; expected a whole number, like 1000"),
    ("s = 1", "5: `1` for `s`, which is string; expected a text, like 'art'"),
    (
        "s = \"art\"",
        "5: `\"art\"` for `s`, which is string; expected a text, like 'art'; values that are texts stand in single quotes",
    ),
    ("s = art", "5: `art` for `s`, which is string; expected a text, like 'art'"),
    (
        "s = null",
        "5: `null` for `s`, which is string; expected a text, like 'art'; nothing equals null: use `is null` or `is not null`",
    ),
    ("s = 'art", "5: a `'` that is not closed"),
    ("s = 'it''s' and \"n", "17: a `\"` that is not closed"),
    ("s is", "5: the end after `is`; expected `null`"),
    ("s is not nil", "10: `nil` after `is not`; expected `null`"),
    ("s in 'a'", "6: `'a'` after `in`; expected values in brackets"),
    ("s in ('a' 'b')", "11: `'b'` where `,` or `)` belongs"),
    ("s in ()", "7: `)` for `s`, which is string; expected a text, like 'art'"),
    ("n > 1, s = 'x'", "6: `,` where `and` or the end belongs"),
    ("l = 1", "3: `l` is array<long>: only `is null` and `is not null` are for it"),
    (
        "at > '2026-13-01'",
        "6: `'2026-13-01'` for `at`, which is timestamp; expected a time, like '2026-01-31T08:15:00Z' or '2026-01-31'",
    ),
];

#[test]
fn misuse_of_where_is_refused_with_its_letter() {
    for (text, expected) in WHERE_MISUSE {
        let lines = format!("every = \"1m\"\nwhere = \"\"\"{text}\"\"\"\nmeasure = {{ c = \"count\" }}");
        // The letter in the line is 11 after the one in the text.
        let (letter, message) = expected.split_once(": ").unwrap();
        let expected = format!("c.toml:17:{}: {message}", letter.parse::<usize>().unwrap() + 11);
        assert_eq!(refused(&with_window(&lines)).problems(), [expected], "{text}");
    }
    let escaped = "every = \"1m\"\nwhere = \"s = \\u0061\"\nmeasure = { c = \"count\" }";
    let expected = "c.toml:17: `a` for `s`, which is string; expected a text, like 'art'";
    assert_eq!(refused(&with_window(escaped)).problems(), [expected], "a text with escapes has no letters in the file");
    let third_line = "every = \"1m\"\nwhere = \"\"\"\n  n > 1\n  and nn > 2\"\"\"\nmeasure = { c = \"count\" }";
    let expected = "c.toml:19:7: `where` names \"nn\" (no such column; did you mean `n`?)";
    assert_eq!(refused(&with_window(third_line)).problems(), [expected]);
    let broken = "table = \"t\"\n[[column]]\nname = \"n\"\ntype = \"number\"\n[[window]]\nname = \"w\"\nevery = \"1m\"\n\
                  where = \"n > 'x' and n in (1)\"\nmeasure = { c = \"count\" }\n";
    assert_eq!(refused(broken).problems().len(), 1, "a broken column is complained about once");
    let all = "every = \"1m\"\nwhere = \"nn > 1 and n = 'x' and l = 1 and s in (1, 'a', 2) and n ! 1 and t = 1\"\nmeasure = { c = \"count\" }";
    let letters: Vec<String> =
        refused(&with_window(all)).problems().iter().map(|it| it.split(": ").next().unwrap().to_owned()).collect();
    // Beyond what is no sentence nothing is read.
    assert_eq!(letters, [10, 25, 35, 49, 57, 66].map(|letter| format!("c.toml:17:{letter}")));
}

#[test]
fn conditions_are_compiled_with_values_of_their_columns() {
    let text = "N >= -1_000 AND s IN ('a', 'it''s') and at < '2026-01-31 08:15' and s is not null and l is null and \"in\" != true";
    let text = text.replace("N >=", "n >=").replace("08:15'", "08:15:00.5'");
    let columns = "[[column]]\nname = \"in\"\ntype = \"boolean\"\n[[window]]\n";
    let window = with_window(&format!("every = \"1m\"\nwhere = \"\"\"{text}\"\"\"\nmeasure = {{ c = \"count\" }}"));
    let window = &accepted(&window.replace("[[window]]\n", columns)).windows[0];
    let condition = |column, of, test| Condition { column, of, test };
    let texts = ["a", "it's"].map(|text| Constant::Text(text.to_owned())).to_vec();
    let expected = [
        condition(0, ColumnType::Long, Test::Compare(Comparison::AtLeast, Constant::Whole(-1000))),
        condition(1, ColumnType::String, Test::OneOf(texts)),
        condition(3, ColumnType::Timestamp, Test::Compare(Comparison::Less, Constant::Whole(1_769_847_300_500_000))),
        condition(1, ColumnType::String, Test::NotNull),
        condition(2, ColumnType::LongArray, Test::Null),
        condition(4, ColumnType::Boolean, Test::Compare(Comparison::NotEqual, Constant::Boolean(true))),
    ];
    assert_eq!(window.conditions, expected);
}

#[test]
fn a_window_slides_and_has_a_time_of_its_own() {
    let lines = "every = \"10m\"\nhop = \"1m\"\ntime = \"at\"\nmeasure = { c = \"count\" }";
    let window = &accepted(&with_window(lines)).windows[0];
    assert_eq!((window.every_us, window.pane_us, window.panes()), (600_000_000, 60_000_000, 10));
    assert_eq!(window.time, EventTime::Column(3));
    let by_contract = format!("event_time = \"at\"\n{}", with_window("every = \"1m\"\nmeasure = { c = \"count\" }"));
    assert_eq!(accepted(&by_contract).windows[0].time, EventTime::Column(3));
    let pinned = with_window("every = \"1m\"\ntime = \"arrival\"\nmeasure = { c = \"count\" }");
    assert_eq!(accepted(&format!("event_time = \"at\"\n{pinned}")).windows[0].time, EventTime::Arrival);
}

#[test]
fn partials_are_kept_from_the_midnight_before_which_all_windows_are_sealed_and_ended_long_enough_ago() {
    let window = |lines: &str| accepted(&with_window(lines)).windows[0].clone();
    let (day, hour) = (86_400_000_000, 3_600_000_000);
    let sliding = window("every = \"1d\"\nhop = \"1h\"\nkeep_partials = \"3d\"\nmeasure = { c = \"count\" }");
    let watermark_us = 10 * day + 5 * hour;
    assert_eq!(sliding.kept_from_us(watermark_us, i64::MAX), Some(6 * day), "the last that ended began at 6 d 5 h");
    assert_eq!(sliding.kept_from_us(10 * day - hour, i64::MAX), Some(6 * day));
    assert_eq!(
        sliding.kept_from_us(10 * day - 2 * hour, i64::MAX),
        Some(5 * day),
        "one that began at 5 d 23 h is younger"
    );
    assert_eq!(sliding.kept_from_us(watermark_us, 5 * day), Some(4 * day), "what is not sealed is kept");
    let minutes = window("every = \"1m\"\nkeep_partials = \"3d\"\nmeasure = { c = \"count\" }");
    assert_eq!(minutes.kept_from_us(10 * day, i64::MAX), Some(7 * day));
    assert_eq!(minutes.kept_from_us(10 * day - 1, i64::MAX), Some(6 * day));
    assert_eq!(window("every = \"1m\"\nmeasure = { c = \"count\" }").kept_from_us(watermark_us, i64::MAX), None);
}

const OFFERED: &str = "count, sum(column), min(column), max(column), mean(column), first(column), last(column), \
                       distinct(column), quantiles(column) and top(column, how many)";

/// `COUNT` stands for a measure without fault, `OFFERED` for all that are offered.
const WINDOW_MISUSE: &[(&str, &str)] = &[
    ("every = \"0s\"\nCOUNT", "c.toml:16: `every` = \"0s\"; expected \"1s\" to \"366d\""),
    ("every = \"400d\"\nCOUNT", "c.toml:16: `every` = \"400d\"; expected \"1s\" to \"366d\""),
    ("every = \"1m\"\ngrace = \"1s\"\nCOUNT", "c.toml:17: `grace` = \"1s\"; expected \"2s\" to \"366d\""),
    ("every = \"1m\"\nseal = \"never\"\nCOUNT", "c.toml:17: `seal` = \"never\"; expected \"once\" or \"revise\""),
    (
        "every = \"1m\"\nrevise_for = \"1d\"\nCOUNT",
        "c.toml:17: `revise_for` goes with `seal = \"revise\"`; sealed once, a row stays as it is",
    ),
    (
        "every = \"1m\"\nkeep_partials = \"12h\"\nCOUNT",
        "c.toml:17: `keep_partials` = \"12h\"; expected \"1d\" to \"36600d\"",
    ),
    (
        "every = \"1m\"\nseal = \"revise\"\nkeep_partials = \"1d\"\nCOUNT",
        "c.toml:18: `keep_partials` = \"1d\" is shorter than `revise_for` = \"2d\": a window is corrected by \
         adding up its partials",
    ),
    (
        "every = \"1m\"\nmeasure = { revision = \"count\" }",
        "c.toml:14: measure `revision` is reserved: every window has a column of this name; rename it",
    ),
    (
        "every = \"1m\"\nhop = \"7s\"\nCOUNT",
        "c.toml:17: `hop` = \"7s\" does not divide `every` = \"1m\"; the next that does is \"7.5s\"",
    ),
    (
        "every = \"366d\"\nhop = \"184d\"\nCOUNT",
        "c.toml:17: `hop` = \"184d\" does not divide `every` = \"366d\"; the next that does is \"366d\"",
    ),
    (
        "every = \"1m\"\nhop = \"2m\"\nCOUNT",
        "c.toml:17: `hop` = \"2m\" is longer than `every` = \"1m\": records between two windows would be in none",
    ),
    (
        "every = \"1d\"\nhop = \"50s\"\nCOUNT",
        "c.toml:17: `hop` = \"50s\" is in `every` = \"1d\" 1728 times; expected at most 1440 times",
    ),
    ("every = \"1m\"\nhop = \"500ms\"\nCOUNT", "c.toml:17: `hop` = \"500ms\"; expected \"1s\" to \"366d\""),
    (
        "every = \"1m\"\nhop = 5\nCOUNT",
        "c.toml:17: `window.hop` = 5; expected a duration with its unit, like \"500ms\", \"5s\", \"1m\", \"2h\" or \"1d\"",
    ),
    (
        "every = \"1m\"\ntime = \"n\"\nCOUNT",
        "c.toml:17: `time` names `n`, which is long; it must be a timestamp column",
    ),
    (
        "every = \"1m\"\ntime = \"att\"\nCOUNT",
        "c.toml:17: `time` = \"att\" (no such column; did you mean `at`?); expected \"arrival\" or the name of a timestamp column",
    ),
    ("every = \"1m\"", "c.toml:14: `measure` is missing; expected at least one, like { events = \"count\" }"),
    (
        "every = \"1m\"\nmeasure = {}",
        "c.toml:17: `measure` is empty; expected at least one, like { events = \"count\" }",
    ),
    (
        "every = \"1m\"\nmeasure = { c = \"distnct(s)\" }",
        "c.toml:17: measure \"distnct(s)\" is not offered (did you mean `distinct`?); offered are OFFERED",
    ),
    (
        "every = \"1m\"\nmeasure = { c = \"avg(n)\" }",
        "c.toml:17: measure \"avg(n)\" is not offered; offered are OFFERED",
    ),
    (
        "every = \"1m\"\nmeasure = { c = \"count(n)\" }",
        "c.toml:17: measure \"count(n)\" is not offered; offered are OFFERED",
    ),
    (
        "every = \"1m\"\nmeasure = { c = \"quantiles(s)\" }",
        "c.toml:17: measure \"quantiles(s)\": the column is string; it takes integer, long, double",
    ),
    (
        "every = \"1m\"\nmeasure = { c = \"distinct(l)\" }",
        "c.toml:17: measure \"distinct(l)\": the column is array<long>; it takes string, integer, long, double, boolean, timestamp, date",
    ),
    (
        "every = \"1m\"\nmeasure = { c = \"last(l)\" }",
        "c.toml:17: measure \"last(l)\": the column is array<long>; it takes string, integer, long, double, boolean, timestamp, date",
    ),
    (
        "every = \"1m\"\nmeasure = { c = \"top(at, 3)\" }",
        "c.toml:17: measure \"top(at, 3)\": the column is timestamp; it takes string, integer, long",
    ),
    (
        "every = \"1m\"\nmeasure = { c = \"top(s)\" }",
        "c.toml:17: measure \"top(s)\": expected a column and how many of its values, 1 to 64, like top(colour, 10)",
    ),
    (
        "every = \"1m\"\nmeasure = { c = \"top(s, 65)\" }",
        "c.toml:17: measure \"top(s, 65)\": expected a column and how many of its values, 1 to 64, like top(colour, 10)",
    ),
    (
        "every = \"1m\"\nmeasure = { m = \"first(n)\", m_at = \"max(at)\" }",
        "c.toml:14: measure `m_at` is taken by measure `m`; rename it",
    ),
    (
        "every = \"1m\"\nmeasure = { c = \"sum(s)\" }",
        "c.toml:17: measure \"sum(s)\": the column is string; it takes integer, long, double",
    ),
    (
        "every = \"1m\"\nmeasure = { c = \"max(s)\" }",
        "c.toml:17: measure \"max(s)\": the column is string; it takes integer, long, double, timestamp, date",
    ),
    (
        "every = \"1m\"\nmeasure = { c = \"sum(nn)\" }",
        "c.toml:17: sum(nn) names \"nn\" (no such column; did you mean `n`?)",
    ),
    (
        "every = \"1m\"\nmeasure = { _c = \"count\" }",
        "c.toml:17: measure name \"_c\" begins with `_`, which is kept for bookkeeping columns like `_shard_id`; take it away",
    ),
    (
        "every = \"1m\"\nmeasure = { records = \"count\" }",
        "c.toml:14: measure `records` is reserved: every window has a column of this name; rename it",
    ),
    (
        "every = \"1m\"\nmeasure = { m = \"mean(n)\", m_sum = \"sum(n)\" }",
        "c.toml:14: measure `m_sum` is taken by measure `m`; rename it",
    ),
    ("every = \"1m\"\nby = [\"country\"]\nCOUNT", "c.toml:17: `by` names \"country\" (no such column)"),
    ("every = \"1m\"\nby = [\"l\"]\nCOUNT", "c.toml:17: `by` names `l`, which is array<long>; a key is a single value"),
    (
        "every = \"1m\"\nby = \"s\"\nCOUNT",
        "c.toml:17: `by` is no list; expected columns and derived keys, like [\"colour\"]",
    ),
    (
        "every = \"1m\"\nby = [5]\nCOUNT",
        "c.toml:17: `by` holds 5; expected a column's name, or {name = .., bucket = ..} or {name = .., year = ..}",
    ),
    (
        "every = \"1m\"\nby = [{ name = \"k\", year = \"n\" }]\nCOUNT",
        "c.toml:17: `n` is long; this key can be made of timestamp, date",
    ),
    (
        "every = \"1m\"\nby = [{ name = \"k\", bucket = \"s\", bounds = [1], labels = [\"x\"] }]\nCOUNT",
        "c.toml:17: `s` is string; this key can be made of integer, long, double",
    ),
    (
        "every = \"1m\"\nby = [{ name = \"k\", bucket = \"n\", bounds = [1, 2], labels = [\"x\", \"y\", \"z\"] }]\nCOUNT",
        "c.toml:17: 3 `labels` for 2 `bounds`; expected as many (the last is open-ended) or one fewer",
    ),
    (
        "every = \"1m\"\nby = [{ name = \"k\", bucket = \"n\", bounds = [2, 2], labels = [\"x\", \"y\"] }]\nCOUNT",
        "c.toml:17: `bounds` must rise from one to the next",
    ),
    (
        "every = \"1m\"\nby = [{ name = \"k\", bucket = \"n\" }]\nCOUNT",
        "c.toml:17: `bucket` needs `bounds` and `labels`",
    ),
    (
        "every = \"1m\"\nby = [{ name = \"k\" }]\nCOUNT",
        "c.toml:17: a derived key takes one of `bucket` (with `bounds` and `labels`) and `year`",
    ),
    (
        "every = \"1m\"\nCOUNT\n[[window]]\nname = \"w\"\nevery = \"1m\"\nCOUNT",
        "c.toml:18: window `w` is taken by the window at c.toml:14; rename it",
    ),
    (
        "every = \"1m\"\nCOUNT\n[[window]]\nname = \"t_rejects\"\nevery = \"1m\"\nCOUNT",
        "c.toml:18: window `t_rejects` is taken by the rejects table of `table = \"t\"`; rename it",
    ),
];

#[test]
fn misuse_of_windows_is_refused_with_its_line() {
    for (lines, expected) in WINDOW_MISUSE {
        let problems = refused(&with_window(&lines.replace("COUNT", "measure = { c = \"count\" }")));
        let expected = expected.replace("OFFERED", OFFERED);
        assert_eq!(problems.problems().first(), Some(&expected), "{lines}");
    }
}

#[test]
fn what_a_window_lacks_because_it_is_misspelt_is_told_with_what_was_meant() {
    let problems = refused(&with_window("every = \"1m\"\nmeasures = { c = \"count\" }"));
    let expected = [
        "c.toml:14: `measure` is missing; expected at least one, like { events = \"count\" }",
        "c.toml:17: unknown key `window.measures`; did you mean `measure`?",
    ];
    assert_eq!(problems.problems(), expected);
}

#[test]
fn two_windows_of_one_name_are_one_problem_that_says_where_the_first_is() {
    let twice = "every = \"1m\"\nmeasure = { c = \"count\" }\n[[window]]\nname = \"W\"\nevery = \"1m\"\nmeasure = { c = \"count\" }";
    let expected = "c.toml:18: window `W` is taken by the window at c.toml:14, as `w`: Delta does not tell upper from lower case; rename it";
    assert_eq!(refused(&with_window(twice)).problems(), [expected]);
}

#[test]
fn misuse_at_the_top_is_refused_with_its_line() {
    let column = "[[column]]\nname = \"a\"\ntype = \"string\"\n";
    for (lines, expected) in [
        (column.to_owned(), "c.toml:1: `table` is missing; expected a text in quotes"),
        (
            format!("table = \"a/b\"\n{column}"),
            "c.toml:1: table name \"a/b\" must be ASCII letters, digits, `_` and `-`, and begin with a letter or a digit",
        ),
        (
            format!("table = \"_t\"\n{column}"),
            "c.toml:1: table name \"_t\" must be ASCII letters, digits, `_` and `-`, and begin with a letter or a digit",
        ),
        ("table = \"t\"\n".to_owned(), "c.toml:1: no [[column]]; a table needs at least one"),
        (
            format!("table = \"t\"\nevent_time = \"b\"\n{column}"),
            "c.toml:2: `event_time` = \"b\" (no such column); expected \"arrival\" or the name of a timestamp column",
        ),
        (
            format!("table = \"t\"\nevent_time = \"a\"\n{column}"),
            "c.toml:2: `event_time` names `a`, which is string; it must be a timestamp column",
        ),
        (
            format!("table = \"t\"\npartition_by = \"hour\"\n{column}"),
            "c.toml:2: `partition_by` = \"hour\"; only \"day\" is offered",
        ),
        (format!("tabel = \"t\"\ntable = \"t\"\n{column}"), "c.toml:1: unknown key `tabel`; did you mean `table`?"),
    ] {
        assert_eq!(refused(&lines).problems(), [expected], "{lines}");
    }
}

#[test]
fn all_problems_come_at_once_and_a_broken_column_is_complained_about_once() {
    let text = "table = \"a/b\"\n[[column]]\nname = \"n\"\ntype = \"number\"\n[[column]]\nname = \"s\"\ntype = \"string\"\n\
                range = [0, 1]\n[[window]]\nname = \"w\"\nevery = \"0s\"\nby = [\"n\", \"x\"]\nmeasure = { c = \"sum(s)\" }\n";
    let lines: Vec<String> =
        refused(text).problems().iter().map(|p| p.split(": ").next().unwrap_or_default().to_owned()).collect();
    assert_eq!(lines, ["c.toml:1", "c.toml:4", "c.toml:8", "c.toml:11", "c.toml:12"]);
}

#[test]
fn a_path_and_the_object_it_reaches_into_are_different_fields() {
    let contract = accepted(&with_column(
        "from = \"x.y\"\ntype = \"long\"\n[[column]]\nname = \"b\"\nfrom = \"x\"\ntype = \"string\"",
    ));
    assert_eq!((contract.fields.path(0), contract.fields.path(1)), ("x.y", "x"));
    let x = contract.fields.top().find("x").unwrap();
    assert_eq!((x.field, x.inner.find("y").unwrap().field), (Some(1), Some(0)));
    assert!(contract.fields.top().find("y").is_none());
}

#[test]
fn a_contract_for_tables_of_another_name_is_otherwise_the_same() {
    let contract = shipped("geo.toml");
    let renamed = contract.renamed("again").unwrap();
    assert_eq!(
        renamed.tables(),
        ["again", "again_rejects", "again_posts_by_country_partials", "again_posts_by_country"]
    );
    assert_eq!(renamed.windows[0].definition, contract.windows[0].definition);
    assert_eq!(renamed.rows_schema, contract.rows_schema);
    let long = "x".repeat(190);
    for wrong in ["", "a/b", "_again", long.as_str()] {
        assert!(contract.renamed(wrong).is_err(), "{wrong}");
    }
}

// === The guide ===

#[test]
fn the_guides_example_is_a_contract_and_its_faults_are_told_as_it_says() {
    let guide = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/README.md")).unwrap();
    let blocks = |language: &str| -> Vec<String> {
        let unindented = |block: &str| block.lines().map(|line| format!("{}\n", line.trim_start())).collect();
        let begin = format!("```{language}\n");
        guide.split(&begin).skip(1).filter_map(|rest| Some(unindented(rest.split_once("```")?.0))).collect()
    };
    let toml = blocks("toml");
    let doors = format!("{}\n{}", toml[0].trim(), toml[1].trim());
    accepted(&doors);
    let faulty = doors.replace("\"timestamp\"", "\"timestmp\"").replace("\"CLOSED\"]", "\"CLOSED\"]\nrange = [0, 1]");
    let problems = Problems::default();
    assert!(parse("doors.toml", faulty, &problems).is_none());
    let told = problems.into_result().unwrap_err().to_string();
    let shown = blocks("text").concat();
    assert!(told.lines().count() == 2 && shown.contains(&told), "{told}\n{shown}");
}
