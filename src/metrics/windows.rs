//! The live windows as gauges: series that come and go, which the registry cannot do.
//!
//! A key that is not among the largest any more must vanish from the next scrape, so these are written anew for each
//! one. Labels hold what producers sent; they are escaped here and bounded where they are made.

use std::fmt::Write;

/// One declared window at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowGauges {
    /// The stream.
    pub stream: String,
    /// The window's name.
    pub window: String,
    /// From the end of one window until the next one is over and may be sealed, us: its hop and its grace.
    pub closes_after_us: i64,
    /// The complete start, the running one, or both.
    pub starts: Vec<StartGauges>,
}

/// One start of it.
#[derive(Debug, Clone, PartialEq)]
pub struct StartGauges {
    /// Which of the two it is.
    pub state: StartState,
    /// Epoch us.
    pub start_us: i64,
    /// Records in all its keys.
    pub records: u64,
    /// How many keys it has.
    pub keys: usize,
    /// One number a key that is shown and measure, and `__other__`.
    pub values: Vec<WindowValue>,
}

/// Which start of a window. There is one of each at a time, so that a series does not change its name every minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartState {
    /// The newest whose end and grace are past.
    Complete,
    /// The one that is being counted.
    Running,
}

impl StartState {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Running => "running",
        }
    }
}

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowValue {
    /// Name of the measure.
    pub measure: String,
    /// The keys, readable.
    pub key: String,
    /// The number.
    pub value: f64,
}

/// All of it as Prometheus text.
pub fn render(windows: &[WindowGauges]) -> String {
    let (mut starts, mut records, mut keys, mut values) = (String::new(), String::new(), String::new(), String::new());
    let mut closes_after = String::new();
    for window in windows {
        let labels = format!("stream=\"{}\",window=\"{}\"", Escaped(&window.stream), Escaped(&window.window));
        sample(&mut closes_after, "pintail_window_closes_after_seconds", &labels, window.closes_after_us as f64 / 1e6);
        for start in &window.starts {
            let labels = format!("{labels},state=\"{}\"", start.state.as_str());
            sample(&mut starts, "pintail_window_start_timestamp_seconds", &labels, start.start_us as f64 / 1e6);
            sample(&mut records, "pintail_window_records", &labels, start.records as f64);
            sample(&mut keys, "pintail_window_keys", &labels, start.keys as f64);
            for WindowValue { measure, key, value } in &start.values {
                let labels = format!("{labels},measure=\"{}\",key=\"{}\"", Escaped(measure), Escaped(key));
                sample(&mut values, "pintail_window_value", &labels, *value);
            }
        }
    }
    let mut text = String::with_capacity(1024 + starts.len() + records.len() + keys.len() + values.len());
    for ((name, help), samples) in DESCRIPTIONS.iter().zip([closes_after, starts, records, keys, values]) {
        if !samples.is_empty() {
            text += &format!("# HELP {name} {help}\n# TYPE {name} gauge\n{samples}\n");
        }
    }
    text
}

const DESCRIPTIONS: [(&str, &str); 5] = [
    (
        "pintail_window_closes_after_seconds",
        "From a window's end until the next is over and may be sealed: hop and grace",
    ),
    ("pintail_window_start_timestamp_seconds", "Start of the window that is running, and of the last complete one"),
    ("pintail_window_records", "Records in it, committed or not"),
    ("pintail_window_keys", "Keys in it, shown or not"),
    ("pintail_window_value", "Its measures by key: the largest keys, and counts and sums of the rest as __other__"),
];

fn sample(into: &mut String, name: &str, labels: &str, value: f64) {
    // Writing to a String cannot fail.
    let value = Number(value);
    writeln!(into, "{name}{{{labels}}} {value}").ok();
}

/// A label's value between its quotes.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// A number as Prometheus writes it; Rust's infinity is another word.
struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_infinite() {
            f.write_str(if self.0 > 0.0 { "+Inf" } else { "-Inf" })
        } else {
            write!(f, "{}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_quotes_backslashes_and_line_ends_stays_within_its_quotes() {
        let value = WindowValue { measure: "posts".to_owned(), key: "a\"b\\c\nd\rü".to_owned(), value: f64::INFINITY };
        let start =
            StartGauges { state: StartState::Running, start_us: 60_500_000, records: 3, keys: 1, values: vec![value] };
        let window = WindowGauges {
            stream: "s".to_owned(),
            window: "w".to_owned(),
            closes_after_us: 65_000_000,
            starts: vec![start],
        };
        let text = render(&[window]);
        let samples: Vec<&str> = text.split('\n').filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        let labels = "stream=\"s\",window=\"w\",state=\"running\"";
        assert_eq!(
            samples,
            [
                "pintail_window_closes_after_seconds{stream=\"s\",window=\"w\"} 65".to_owned(),
                format!("pintail_window_start_timestamp_seconds{{{labels}}} 60.5"),
                format!("pintail_window_records{{{labels}}} 3"),
                format!("pintail_window_keys{{{labels}}} 1"),
                format!("pintail_window_value{{{labels},measure=\"posts\",key=\"a\\\"b\\\\c\\nd\rü\"}} +Inf"),
            ]
        );
    }

    #[test]
    fn without_a_window_nothing_is_declared() {
        assert_eq!(render(&[]), "");
    }
}
