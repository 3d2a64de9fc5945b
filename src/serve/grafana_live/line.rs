//! Influx line protocol: a window's keys as lines, its measures as their fields.
//!
//! Keys are what producers send, so every one must come out as one tag, whatever it holds. Commas, spaces and equals
//! signs are escaped. A backslash has no form that all parsers read alike, and a line end has none at all: they become
//! a slash and a space.

use std::fmt::Write;

use crate::metrics::StartGauges;

/// One line a key, each with its line end. Numbers that the protocol cannot say (infinities) are left out.
pub fn lines(stream: &str, window: &str, start: &StartGauges, now_ms: i64) -> String {
    let mut text = String::new();
    let mut values = start.values.iter().filter(|value| value.value.is_finite()).peekable();
    // The values of a key stand together.
    while let Some(first) = values.next() {
        let (window, stream, key) = (Escaped(window), Escaped(stream), Escaped(&first.key));
        // Writing to a String cannot fail.
        write!(text, "{window},stream={stream},key={key} {}={}", Escaped(&first.measure), first.value).ok();
        while let Some(next) = values.next_if(|next| next.key == first.key) {
            write!(text, ",{}={}", Escaped(&next.measure), next.value).ok();
        }
        writeln!(text, " {}", now_ms.saturating_mul(1_000_000)).ok();
    }
    text
}

/// A measurement, a tag or a field's name.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                ',' | '=' | ' ' => write!(f, "\\{c}")?,
                '\\' => f.write_char('/')?,
                control if control.is_control() => f.write_str("\\ ")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use influxdb_line_protocol::{FieldValue, parse_lines};
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::{StartState, WindowValue};

    fn start(values: &[(&str, &str, f64)]) -> StartGauges {
        let values = values.iter().map(|(key, measure, value)| WindowValue {
            measure: (*measure).to_owned(),
            key: (*key).to_owned(),
            value: *value,
        });
        let values = values.collect();
        StartGauges { state: StartState::Running, start_us: 0, records: 1, keys: 1, values }
    }

    /// Measurement, key, fields, time.
    type Parsed = (String, String, Vec<(String, f64)>, Option<i64>);

    /// As another implementation reads it.
    fn parsed(text: &str) -> Vec<Parsed> {
        let lines = parse_lines(text).map(|line| {
            let line = line.unwrap_or_else(|error| panic!("{error} in {text:?}"));
            let number = |value: &FieldValue<'_>| match value {
                FieldValue::F64(number) => *number,
                FieldValue::I64(_) | FieldValue::U64(_) | FieldValue::String(_) | FieldValue::Boolean(_) => {
                    panic!("no float: {value:?}")
                }
            };
            let fields = line.field_set.iter().map(|(name, value)| (name.to_string(), number(value))).collect();
            let key = line.tag_value("key").unwrap().to_string();
            assert_eq!(line.tag_value("stream").unwrap().to_string(), "a stream, of = all");
            (line.series.measurement.to_string(), key, fields, line.timestamp)
        });
        lines.collect()
    }

    #[test]
    fn a_key_is_a_line_and_its_measures_are_fields() {
        let start = start(&[
            ("art", "pins", 3.0),
            ("art", "mean followers", 0.25),
            ("art", "never", f64::INFINITY),
            ("__other__", "pins", -1e300),
        ]);
        let text = lines("a stream, of = all", "pins_by_category", &start, 1_795_386_060_123);
        let time = Some(1_795_386_060_123_000_000);
        let name = |name: &str| name.to_owned();
        assert_eq!(
            parsed(&text),
            [
                (
                    name("pins_by_category"),
                    name("art"),
                    vec![(name("pins"), 3.0), (name("mean followers"), 0.25)],
                    time
                ),
                (name("pins_by_category"), name("__other__"), vec![(name("pins"), -1e300)], time),
            ]
        );
    }

    proptest! {
        #[test]
        fn whatever_a_key_holds_it_is_one_tag_and_reads_as_it_was(key in "(\\PC|[\\\\,= \n\r\t\"#]){1,20}", value: i32) {
            let start = start(&[(key.as_str(), "pins", f64::from(value)), ("art", "pins", 1.0)]);
            let text = lines("a stream, of = all", "pins", &start, 7);
            let found = parsed(&text);
            let readable: String =
                key.chars().map(|c| if c == '\\' { '/' } else if c.is_control() { ' ' } else { c }).collect();
            prop_assert_eq!(found.len(), 2, "{}", text);
            prop_assert_eq!((&found[0].1, found[0].2[0].1), (&readable, f64::from(value)));
        }
    }
}
