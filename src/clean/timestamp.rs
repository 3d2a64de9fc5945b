//! Times of day and days, from the forms that are on the wire. A time without a zone is UTC.
//!
//! Written by hand: a general parser would also take what nobody meant (a date alone, one-digit fields, a second
//! of 60), and this runs for every record.

use chrono::{Datelike, NaiveDate};

use super::counts::NullReason;
use super::json::{Json, members, value};
use super::text::trim;
use crate::clock::DAY_US;

const SECOND_US: i64 = 1_000_000;
/// 1970-01-01, counted as chrono does: days from 0001-01-01, which is day 1.
const EPOCH_DAY: i32 = 719_163;

/// The UTC day of a time, in days since 1970-01-01.
pub(super) fn day_of(micros: i64) -> i32 {
    // 2^63 microseconds are 107 million days.
    micros.div_euclid(DAY_US) as i32
}

/// UTC microseconds from a text, or from `{"$date": ..}` with such a text or whole epoch milliseconds.
pub(super) fn timestamp(json: Json<'_>) -> Result<i64, NullReason> {
    match json {
        Json::Text(text) => micros(text).ok_or(NullReason::Unparsable),
        Json::Object(inside) => {
            let mut date = None;
            for (key, at) in members(inside) {
                if key != "$date" {
                    return Err(NullReason::WrongType);
                }
                date = inside.get(at..).map(value);
            }
            match date {
                Some(Json::Whole(millis)) => micros_from_millis(millis).ok_or(NullReason::OutOfRange),
                Some(Json::Text(text)) => micros(trim(text)).ok_or(NullReason::Unparsable),
                Some(Json::Real(_)) => Err(NullReason::Unparsable),
                None | Some(Json::Null | Json::Boolean(_) | Json::List(_) | Json::Object(_)) => {
                    Err(NullReason::WrongType)
                }
            }
        }
        Json::Null | Json::Boolean(_) | Json::Whole(_) | Json::Real(_) | Json::List(_) => Err(NullReason::WrongType),
    }
}

/// Days since 1970-01-01 from a date alone, or the UTC day of a timestamp.
pub(super) fn date(json: Json<'_>) -> Result<i32, NullReason> {
    if let Json::Text(text) = json
        && let Some((days, [])) = calendar_day(text.as_bytes())
    {
        return Ok(days);
    }
    timestamp(json).map(day_of)
}

fn micros_from_millis(millis: i128) -> Option<i64> {
    in_years(i64::try_from(millis.checked_mul(1000)?).ok()?)
}

/// `2020-08-28T03:52:47`, the same with a space, `2020:08:28 03:52:47` or `08/28/2020, 03:52:47`; each with an
/// optional fraction of 1 to 9 digits (cut to microseconds) and an optional zone `Z`, `±hh:mm` or `±hhmm`.
fn micros(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let (days, rest) = calendar_day(bytes)?;
    let rest = match (bytes[2], bytes[4]) {
        (b'/', _) => rest.strip_prefix(b", ")?,
        (_, b':') => rest.strip_prefix(b" ")?,
        _ => rest.strip_prefix(b"T").or_else(|| rest.strip_prefix(b" "))?,
    };
    let ([h, hh, b':', m, mm, b':', s, ss], rest) = rest.split_first_chunk()? else { return None };
    let (hour, minute, second) = (two([h, hh])?, two([m, mm])?, two([s, ss])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction_us, rest) = fraction(rest)?;
    let seconds = i64::from(hour * 3600 + minute * 60 + second) - zone_seconds(rest)?;
    in_years(i64::from(days) * DAY_US + seconds * SECOND_US + fraction_us)
}

/// The day that a text begins with, and what follows it.
fn calendar_day(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (day, rest) = bytes.split_first_chunk()?;
    let (century, year, month, day) = match day {
        [m, mm, b'/', d, dd, b'/', c, cc, y, yy] => ([c, cc], [y, yy], [m, mm], [d, dd]),
        [c, cc, y, yy, b'-', m, mm, b'-', d, dd] | [c, cc, y, yy, b':', m, mm, b':', d, dd] => {
            ([c, cc], [y, yy], [m, mm], [d, dd])
        }
        _ => return None,
    };
    let year = two(century)? * 100 + two(year)?;
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, two(month)?, two(day)?)?;
    (year > 0).then(|| (date.num_days_from_ce() - EPOCH_DAY, rest))
}

fn two(digits: [&u8; 2]) -> Option<u32> {
    match digits {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some(u32::from(tens - b'0') * 10 + u32::from(ones - b'0')),
        _ => None,
    }
}

/// Microseconds of an optional fraction, and what follows it.
fn fraction(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = bytes.strip_prefix(b".") else { return Some((0, bytes)) };
    let len = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=9).contains(&len) {
        return None;
    }
    let kept = digits[..len].iter().chain(std::iter::repeat(&b'0')).take(6);
    Some((kept.fold(0, |us, digit| us * 10 + i64::from(digit - b'0')), &digits[len..]))
}

/// Seconds east of UTC.
fn zone_seconds(zone: &[u8]) -> Option<i64> {
    let (hours, minutes) = match zone {
        [] | [b'Z'] => (0, 0),
        [b'+' | b'-', h, hh, b':', m, mm] | [b'+' | b'-', h, hh, m, mm] => (two([h, hh])?, two([m, mm])?),
        _ => return None,
    };
    let east = i64::from(hours * 3600 + minutes * 60);
    let legal = hours <= 23 && minutes <= 59;
    legal.then_some(if zone.first() == Some(&b'-') { -east } else { east })
}

/// The years 0001 to 9999, which every engine can show.
fn in_years(micros: i64) -> Option<i64> {
    const FIRST_DAY: i32 = 1 - EPOCH_DAY;
    const LAST_DAY: i32 = 2_932_896;
    (FIRST_DAY..=LAST_DAY).contains(&day_of(micros)).then_some(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 1_598_586_767_000_000;

    #[test]
    fn every_form_takes_every_fraction_and_zone() {
        for form in ["2020-08-28T03:52:47", "2020-08-28 03:52:47", "2020:08:28 03:52:47", "08/28/2020, 03:52:47"] {
            for (fraction, us) in [("", 0), (".5", 500_000), (".000001", 1), (".123456789", 123_456), (".000000999", 0)]
            {
                for (zone, seconds) in
                    [("", 0), ("Z", 0), ("+00:00", 0), ("+01:30", -5400), ("-0800", 28_800), ("+2359", -86_340)]
                {
                    let text = format!("{form}{fraction}{zone}");
                    assert_eq!(micros(&text), Some(DAY + us + seconds * SECOND_US), "{text}");
                }
            }
        }
    }

    #[test]
    fn what_is_almost_a_time_is_none() {
        for text in [
            "",
            "2020",
            "2020-08-28",
            "2020-08-28T03:52",
            "2020-08-28T03:52:60",
            "2020-08-28T24:00:00",
            "2020-08-28T03:60:47",
            "2020-8-28T03:52:47",
            "2020-08-28T3:52:47",
            "2020-02-30T03:52:47",
            "2021-02-29T03:52:47",
            "2020-13-01T03:52:47",
            "2020-00-01T03:52:47",
            "0000-01-01T00:00:00",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "2020-08-28T03:52:47.",
            "2020-08-28T03:52:47.1234567890",
            "2020-08-28T03:52:47 Z",
            "2020-08-28T03:52:47z",
            "2020-08-28t03:52:47",
            "2020-08-28T03:52:47+01",
            "2020-08-28T03:52:47+24:00",
            "2020-08-28T03:52:47+0160",
            "2020-08-28  03:52:47",
            "2020-08:28 03:52:47",
            "2020:08:28T03:52:47",
            "28/08/2020, 03:52:47",
            "08/28/2020 03:52:47",
            "08/28/20, 03:52:47",
            "2020-08-28T03:52:47Zjunk",
            "２020-08-28T03:52:47",
        ] {
            assert_eq!(micros(text), None, "{text}");
        }
    }

    #[test]
    fn times_before_1970_and_at_the_ends_of_the_calendar_are_right() {
        assert_eq!(micros("1969-12-31T23:59:59.999999"), Some(-1));
        assert_eq!(day_of(-1), -1);
        assert_eq!(micros("1970-01-01T00:00:00"), Some(0));
        assert_eq!(micros("0001-01-01T00:00:00"), Some(-62_135_596_800 * SECOND_US));
        assert_eq!(micros("9999-12-31T23:59:59"), Some(253_402_300_799 * SECOND_US));
        assert_eq!(date(Json::Text("1969-12-31")), Ok(-1));
        assert_eq!(date(Json::Text("01/02/1970")), Ok(1));
        assert_eq!(date(Json::Text("1970-01-02T00:30:00+01:00")), Ok(0));
        assert_eq!(date(Json::Text("1970-01-02 ")), Err(NullReason::Unparsable));
    }
}
