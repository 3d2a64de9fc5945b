//! Numbers, exactly: no digit is lost without the value becoming a counted null.

use super::counts::NullReason;
use super::json::{Json, TOO_LARGE};

/// Doubles hold every whole number up to here; beyond, neighbours share one.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// A decimal number's parts, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal<'a> {
    sign: &'a str,
    whole: &'a str,
    fraction: Option<&'a str>,
    exponent: bool,
}

impl<'a> Decimal<'a> {
    /// Splits `[+-]digits[.digits][e[+-]digits]`; any other text is no number.
    pub fn split(text: &'a str) -> Option<Self> {
        let (sign, rest) = split_sign(text);
        let (whole, mut rest) = split_digits(rest)?;
        let mut fraction = None;
        if let Some(after) = rest.strip_prefix('.') {
            let (digits, after) = split_digits(after)?;
            (fraction, rest) = (Some(digits), after);
        }
        let exponent = rest.strip_prefix(['e', 'E']);
        if let Some(after) = exponent {
            let (_, after) = split_sign(after);
            (_, rest) = split_digits(after)?;
        }
        rest.is_empty().then_some(Self { sign, whole, fraction, exponent: exponent.is_some() })
    }

    /// Whether JSON allows it: no plus sign, no leading zeros.
    pub fn is_json(&self) -> bool {
        self.sign != "+" && (self.whole == "0" || !self.whole.starts_with('0'))
    }

    /// Written without fraction and exponent.
    pub fn is_whole(&self) -> bool {
        self.fraction.is_none() && !self.exponent
    }
}

fn split_sign(text: &str) -> (&str, &str) {
    text.split_at(usize::from(text.starts_with(['+', '-'])))
}

/// One digit or more, and the rest.
fn split_digits(text: &str) -> Option<(&str, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// A whole number from a JSON number or a trimmed numeric text. A fraction must be zero.
#[inline]
pub(super) fn whole(value: Json<'_>) -> Result<i64, NullReason> {
    match value {
        Json::Whole(whole) => i64::try_from(whole).map_err(|_| NullReason::OutOfRange),
        Json::Real(real) => whole_from_real(real),
        Json::Text(text) => whole_from_text(text),
        Json::Null | Json::Boolean(_) | Json::List(_) | Json::Object(_) => Err(NullReason::WrongType),
    }
}

fn whole_from_text(text: &str) -> Result<i64, NullReason> {
    let decimal = Decimal::split(text).ok_or(NullReason::Unparsable)?;
    if decimal.exponent {
        return whole_from_real(text.parse().map_err(|_| NullReason::Unparsable)?);
    }
    if decimal.fraction.is_some_and(|digits| digits.bytes().any(|digit| digit != b'0')) {
        return Err(NullReason::Unparsable);
    }
    let magnitude = decimal.whole.bytes().try_fold(0i128, push_digit).ok_or(NullReason::OutOfRange)?;
    let signed = if decimal.sign == "-" { -magnitude } else { magnitude };
    i64::try_from(signed).map_err(|_| NullReason::OutOfRange)
}

/// JSON's `7528.0` and `1e3` are whole numbers too, as far as a double is certain of them.
fn whole_from_real(real: f64) -> Result<i64, NullReason> {
    if real.abs() > EXACT_MAX {
        return Err(NullReason::OutOfRange);
    }
    if real.fract() != 0.0 {
        return Err(NullReason::Unparsable);
    }
    Ok(real as i64)
}

/// A finite double from a JSON number or a trimmed numeric text.
#[inline]
pub(super) fn double(value: Json<'_>) -> Result<f64, NullReason> {
    let double = match value {
        Json::Whole(whole) => whole as f64,
        Json::Real(real) => real,
        Json::Text(text) => {
            Decimal::split(text).ok_or(NullReason::Unparsable)?;
            text.parse().map_err(|_| NullReason::Unparsable)?
        }
        Json::Null | Json::Boolean(_) | Json::List(_) | Json::Object(_) => return Err(NullReason::WrongType),
    };
    if double.abs() < TOO_LARGE { Ok(double) } else { Err(NullReason::OutOfRange) }
}

/// A JSON integer, or a text like `437`, `51k`, `1.2M`, `3B`: exact decimal arithmetic, cut towards zero.
pub(super) fn magnitude(value: Json<'_>) -> Result<i64, NullReason> {
    match value {
        Json::Whole(whole) => i64::try_from(whole).map_err(|_| NullReason::OutOfRange),
        Json::Real(real) if real.abs() > EXACT_MAX => Err(NullReason::OutOfRange),
        Json::Real(_) => Err(NullReason::Unparsable),
        Json::Text(text) => magnitude_from_text(text),
        Json::Null | Json::Boolean(_) | Json::List(_) | Json::Object(_) => Err(NullReason::WrongType),
    }
}

fn magnitude_from_text(text: &str) -> Result<i64, NullReason> {
    let (number, zeros) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 3),
        Some(b'M') => (&text[..text.len() - 1], 6),
        Some(b'B') => (&text[..text.len() - 1], 9),
        Some(_) | None => (text, 0),
    };
    let decimal = Decimal::split(number).filter(|decimal| decimal.sign.is_empty() && !decimal.exponent);
    let decimal = decimal.ok_or(NullReason::Unparsable)?;
    let moved = decimal.fraction.unwrap_or("").bytes().chain(std::iter::repeat(b'0')).take(zeros);
    let value = decimal.whole.bytes().chain(moved).try_fold(0i128, push_digit).ok_or(NullReason::OutOfRange)?;
    i64::try_from(value).map_err(|_| NullReason::OutOfRange)
}

fn push_digit(value: i128, digit: u8) -> Option<i128> {
    value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnitudes_are_exact_and_cut_towards_zero() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("437", Ok(437)),
            ("51k", Ok(51_000)),
            ("51K", Ok(51_000)),
            ("6M", Ok(6_000_000)),
            ("1.2M", Ok(1_200_000)),
            ("3B", Ok(3_000_000_000)),
            ("0.9999999999k", Ok(999)),
            ("7.9", Ok(7)),
            ("1.005k", Ok(1_005)),
            ("8.29k", Ok(8_290)),
            ("007k", Ok(7_000)),
            ("99999999999999999999999999999999999999999B", Err(NullReason::OutOfRange)),
        ] {
            assert_eq!(magnitude(Json::Text(text)), expected, "{text}");
        }
        for text in ["", "k", "51m", "51b", "51 k", "-5", "+5", "1e3", ".5k", "5.k", "1,2k", "51kk", "５1k", "0x5", "é"]
        {
            assert_eq!(magnitude(Json::Text(text)), Err(NullReason::Unparsable), "{text}");
        }
        assert_eq!(magnitude(Json::Whole(-3)), Ok(-3));
        assert_eq!(magnitude(Json::Real(7.0)), Err(NullReason::Unparsable));
    }

    #[test]
    fn whole_numbers_take_a_zero_fraction_and_nothing_else() {
        for (text, expected) in [
            ("7528", Ok(7528)),
            ("-7528", Ok(-7528)),
            ("+7", Ok(7)),
            ("007528.000", Ok(7528)),
            ("1e3", Ok(1000)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("-9223372036854775808.0", Ok(i64::MIN)),
            ("9223372036854775808", Err(NullReason::OutOfRange)),
            ("1e17", Err(NullReason::OutOfRange)),
            ("7.5", Err(NullReason::Unparsable)),
            ("7528.00000000000000000001", Err(NullReason::Unparsable)),
            ("NaN", Err(NullReason::Unparsable)),
            ("7.", Err(NullReason::Unparsable)),
            ("1e", Err(NullReason::Unparsable)),
        ] {
            assert_eq!(whole(Json::Text(text)), expected, "{text}");
        }
        assert_eq!(whole(Json::Real(7528.0)), Ok(7528));
        assert_eq!(whole(Json::Real(7528.5)), Err(NullReason::Unparsable));
        assert_eq!(whole(Json::Real(TOO_LARGE)), Err(NullReason::OutOfRange));
        assert_eq!(whole(Json::Whole(i128::from(u64::MAX))), Err(NullReason::OutOfRange));
    }

    #[test]
    fn doubles_are_finite() {
        assert_eq!(double(Json::Text("-5.34445")), Ok(-5.34445));
        assert_eq!(double(Json::Text("1e999")), Err(NullReason::OutOfRange));
        assert_eq!(double(Json::Real(-TOO_LARGE)), Err(NullReason::OutOfRange));
        for text in ["inf", "Infinity", "NaN", "", "1.", ".1", "0x1p3", "1_000"] {
            assert_eq!(double(Json::Text(text)), Err(NullReason::Unparsable), "{text}");
        }
    }
}
