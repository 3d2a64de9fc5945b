//! What a TOML value, or an environment variable's text, can be read as.

use std::fmt;

use toml_edit::Value;

/// A type that a TOML value, or an environment variable's text, can be read as.
pub trait FromToml: Sized {
    /// What would be right, for messages.
    const EXPECTED: &'static str;
    /// From a value in the file.
    fn from_value(value: &Value) -> Option<Self>;
    /// From an environment variable.
    fn from_text(text: &str) -> Option<Self>;
}

impl FromToml for String {
    const EXPECTED: &'static str = "a text in quotes";
    fn from_value(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

/// A text with something in it: what an unset shell variable leaves behind is no name, address or folder, and must not
/// quietly mean the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled(pub String);

impl FromToml for Filled {
    const EXPECTED: &'static str = "a text in quotes that is not empty (what is not to be set is left out)";
    fn from_value(value: &Value) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }
    fn from_text(text: &str) -> Option<Self> {
        (!text.trim().is_empty()).then(|| Self(text.to_owned()))
    }
}

impl FromToml for bool {
    const EXPECTED: &'static str = "true or false";
    fn from_value(value: &Value) -> Option<Self> {
        value.as_bool()
    }
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl FromToml for i64 {
    const EXPECTED: &'static str = "a whole number";
    fn from_value(value: &Value) -> Option<Self> {
        value.as_integer()
    }
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl FromToml for f64 {
    const EXPECTED: &'static str = "a number";
    fn from_value(value: &Value) -> Option<Self> {
        value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64)).filter(|number| number.is_finite())
    }
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number: &f64| number.is_finite())
    }
}

impl FromToml for Vec<String> {
    const EXPECTED: &'static str = "a list of texts, like [\"a\", \"b\"]";
    fn from_value(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(|element| element.as_str().map(str::to_owned)).collect()
    }
    fn from_text(text: &str) -> Option<Self> {
        Some(text.split(',').map(|part| part.trim().to_owned()).collect())
    }
}

impl FromToml for Vec<f64> {
    const EXPECTED: &'static str = "a list of numbers, like [0, 150]";
    fn from_value(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(f64::from_value).collect()
    }
    fn from_text(text: &str) -> Option<Self> {
        text.split(',').map(|part| f64::from_text(part.trim())).collect()
    }
}

/// A duration as people write it: `500ms`, `5s`, `1m`, `2h`, `1d`. Held in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DurationMs(pub u64);

/// As it would be written, in quotes: in the largest unit that it is a whole number of.
impl fmt::Display for DurationMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0;
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.into_iter().find(|(factor, _)| ms > 0 && ms.is_multiple_of(*factor)) {
            Some((factor, unit)) => write!(f, "\"{}{unit}\"", ms / factor),
            None if ms > 1_000 => write!(f, "\"{}s\"", ms as f64 / 1e3),
            None if ms == 0 => f.write_str("\"0s\""),
            None => write!(f, "\"{ms}ms\""),
        }
    }
}

impl FromToml for DurationMs {
    const EXPECTED: &'static str = "a duration with its unit, like \"500ms\", \"5s\", \"1m\", \"2h\" or \"1d\"";
    fn from_value(value: &Value) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }
    fn from_text(text: &str) -> Option<Self> {
        let factor = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
        scaled(text, &factor).map(Self)
    }
}

/// A size as people write it: `512KiB`, `32MiB`, `1GiB`, or plain bytes with `B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl FromToml for ByteSize {
    const EXPECTED: &'static str = "a size with its unit, like \"512KiB\", \"32MiB\" or \"1GiB\"";
    fn from_value(value: &Value) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }
    fn from_text(text: &str) -> Option<Self> {
        let factor = [
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("KB", 1_000),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
            ("B", 1),
        ];
        scaled(text, &factor).map(Self)
    }
}

/// `number unit`, the unit from `factors` (longest match first), the product in range.
fn scaled(text: &str, factors: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = (&text[..digits], text[digits..].trim());
    let (_, factor) = factors.iter().find(|(name, _)| *name == unit)?;
    let product = number.parse::<f64>().ok()? * *factor as f64;
    (0.0..9e15).contains(&product).then_some(product.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_as_it_would_be_written() {
        for text in ["0s", "1ms", "999ms", "1s", "7s", "7.5s", "90s", "61.001s", "1m", "2h", "25h", "1d", "366d"] {
            assert_eq!(DurationMs::from_text(text).unwrap().to_string(), format!("\"{text}\""));
        }
    }

    #[test]
    fn sizes_and_durations_carry_their_unit() {
        assert_eq!(ByteSize::from_text("32MiB"), Some(ByteSize(32 << 20)));
        assert_eq!(ByteSize::from_text("1.5KiB"), Some(ByteSize(1536)));
        assert_eq!(DurationMs::from_text("1m"), Some(DurationMs(60_000)));
        for text in ["", "5", "s", "-5s", "5x", "1e9s", "999999999999d"] {
            assert_eq!(DurationMs::from_text(text), None, "{text}");
        }
    }
}
