//! One live or sealed window as CSV (RFC 4180): a line a start and key, times as ISO text, no value as nothing at all.

use std::fmt::Write;

use chrono::{DateTime, SecondsFormat};
use serde_json::Value;

use crate::window::{LiveWindow, SealedWindow};

/// The live window with a header: `window_start,window_end,<keys>,<measures>,records,pending`.
pub fn csv(window: &LiveWindow) -> String {
    let mut text = header(&window.keys, &window.measures, ["records", "pending"]);
    for start in &window.starts {
        for row in &start.rows {
            let last = [row.records.to_string(), row.pending.to_string()];
            row_of(&mut text, [start.start_ms, start.end_ms], &row.key, &row.measures, last);
        }
    }
    text
}

/// The sealed window with a header: `window_start,window_end,<keys>,<measures>,records,revision,complete,late`, the last
/// two of the whole window.
pub fn sealed_csv(window: &SealedWindow) -> String {
    let mut text = header(&window.keys, &window.measures, ["records", "revision", "complete", "late"]);
    for start in &window.starts {
        let late = start.late.map_or_else(String::new, |late| late.to_string());
        for row in &start.rows {
            let last = [row.records.to_string(), row.revision.to_string(), start.complete.to_string(), late.clone()];
            row_of(&mut text, [start.start_ms, start.end_ms], &row.key, &row.measures, last);
        }
    }
    text
}

fn header<const N: usize>(keys: &[String], measures: &[String], last: [&str; N]) -> String {
    let names = ["window_start", "window_end"].into_iter();
    let names = names.chain(keys.iter().chain(measures).map(String::as_str)).chain(last);
    let mut text = String::new();
    line(&mut text, names.map(quoted));
    text
}

fn row_of<const N: usize>(text: &mut String, times_ms: [i64; 2], key: &[Value], measures: &[Value], last: [String; N]) {
    let values = key.iter().chain(measures).map(value);
    line(text, times_ms.into_iter().map(time).chain(values).chain(last));
}

fn line(text: &mut String, fields: impl Iterator<Item = String>) {
    for (index, field) in fields.enumerate() {
        // Writing to a String cannot fail.
        write!(text, "{}{field}", if index == 0 { "" } else { "," }).ok();
    }
    text.push_str("\r\n");
}

/// Epoch ms as ISO text; beyond the calendar, the number.
fn time(ms: i64) -> String {
    let time = DateTime::from_timestamp_millis(ms);
    time.map_or_else(|| ms.to_string(), |time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

fn value(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        // Not to be taken for no value.
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => quoted(text),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(_) | Value::Object(_) => quoted(&value.to_string()),
    }
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) || text != text.trim() {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::{Ahead, LiveRow, LiveStart};
    use serde_json::json;

    #[test]
    fn a_line_is_a_start_and_a_key_and_what_would_break_it_is_quoted() {
        let row =
            |key: Value, measure: Value| LiveRow { key: vec![key], measures: vec![measure], records: 2, pending: 1 };
        let rows = vec![
            row(json!("a,\"b\"\n"), json!(1.5)),
            row(json!(null), json!(null)),
            row(json!(""), json!([1, "x"])),
            row(json!(7), json!(true)),
        ];
        let window = LiveWindow {
            stream: "s".to_owned(),
            window: "w".to_owned(),
            every_ms: 60_000,
            hop_ms: 60_000,
            keys: vec!["a, b".to_owned()],
            measures: vec!["m".to_owned()],
            committed_version: 1,
            as_of_ms: None,
            catching_up: false,
            not_shown: None,
            ahead: Ahead::default(),
            starts: vec![LiveStart { start_ms: 60_000, end_ms: 120_000, records: 8, pending: 4, keys: 4, rows }],
        };
        let times = "1970-01-01T00:01:00.000Z,1970-01-01T00:02:00.000Z";
        let expected = format!(
            "window_start,window_end,\"a, b\",m,records,pending\r\n\
             {times},\"a,\"\"b\"\"\n\",1.5,2,1\r\n{times},,,2,1\r\n{times},\"\",\"[1,\"\"x\"\"]\",2,1\r\n{times},7,true,2,1\r\n"
        );
        assert_eq!(csv(&window), expected);
    }
}
