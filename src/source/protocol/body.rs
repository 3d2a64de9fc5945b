//! The body of GetRecords in one pass, to records of ours: recognised whole, or `None`.
//!
//! What is recognised is what Kinesis sends: known members in any order, white space, nulls, unknown members that are
//! plain texts or literals, escapes in partition keys (which are the user's, and of no use to us). Other escapes,
//! `ChildShards`, which only the last read of a shard has, a record without a number or a time, and every error are
//! somebody else's; so there is no error type here.

use aws_smithy_types::DateTime;
use bytes::Bytes;
use memchr::{memchr, memchr2};

use super::payloads::Payloads;
use super::spare::Spare;
use crate::checkpoint::SequenceNumber;
use crate::limits::GET_RECORDS_LIMIT_MAX;
use crate::record::RawRecord;
use crate::source::kinesis::micros;

/// What Kinesis answers at most, and what is made room for at once.
const RECORDS_MAX: usize = GET_RECORDS_LIMIT_MAX as usize;

/// More members than a record has.
const NAMES_MAX: usize = 16;

/// What a body says; absent and null members are `None`, or no records.
#[derive(Debug, Default)]
pub(super) struct Body<'a> {
    pub records: Vec<RawRecord>,
    pub next_shard_iterator: Option<&'a str>,
    pub millis_behind_latest: Option<i64>,
}

/// Reads a whole body, whose payloads go to spare memory. Of equal members the last counts.
pub(super) fn read<'a>(bytes: &'a [u8], spare: &Spare) -> Option<Body<'a>> {
    let mut scanner = Scanner { bytes, at: 0 };
    let mut body = Body::default();
    scanner.object(&mut Vec::new(), |scanner, member| {
        match member {
            b"Records" => body.records = records(scanner, spare)?,
            b"NextShardIterator" => body.next_shard_iterator = Some(scanner.text()?),
            b"MillisBehindLatest" => body.millis_behind_latest = Some(scanner.whole()?),
            b"ChildShards" => return None,
            unknown => scanner.skip(unknown)?,
        }
        Some(())
    })?;
    scanner.skip_blanks();
    (scanner.at == bytes.len()).then_some(body)
}

fn records(scanner: &mut Scanner<'_>, spare: &Spare) -> Option<Vec<RawRecord>> {
    let mut records = Vec::new();
    scanner.take(b'[')?;
    if scanner.takes(b']') {
        return Some(records);
    }
    let (mut payloads, mut names) = (Payloads::with_room(spare, scanner.rest().len() / 4 * 3), Vec::new());
    loop {
        let began = scanner.at;
        payloads.begin_record();
        let record = record(scanner, &mut payloads, &mut names)?;
        if records.is_empty() {
            // As many as there are if all are like the first, which they mostly are.
            records.reserve((scanner.rest().len() / (scanner.at - began) + 1).min(RECORDS_MAX));
        }
        records.push(record);
        if !scanner.takes(b',') {
            scanner.take(b']')?;
            break;
        }
    }
    payloads.hand_to(&mut records);
    Some(records)
}

/// A record without its payload, which is put behind the others.
fn record<'a>(scanner: &mut Scanner<'a>, payloads: &mut Payloads<'_>, names: &mut Vec<&'a [u8]>) -> Option<RawRecord> {
    let (mut sequence_number, mut arrived_at_us) = (None, None);
    scanner.object(names, |scanner, member| {
        match member {
            b"Data" => payloads.put(scanner.base64()?)?,
            b"SequenceNumber" => sequence_number = Some(SequenceNumber::parse(scanner.text()?).ok()?),
            b"ApproximateArrivalTimestamp" => arrived_at_us = Some(scanner.time_us()?),
            b"PartitionKey" => scanner.skip_escaped_text()?,
            b"EncryptionType" => scanner.text().map(drop)?,
            unknown => scanner.skip(unknown)?,
        }
        Some(())
    })?;
    Some(RawRecord {
        data: Bytes::new(),
        sequence_number: sequence_number?,
        sub_sequence_number: 0,
        arrived_at_us: arrived_at_us?,
        refused: None,
    })
}

// === Scanner ===

/// A place in a body. Values begin where it stands; what stands between them, it passes over.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// Passes over a byte between values and the blanks around it, if it stands there.
    fn takes(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let found = self.bytes.get(self.at) == Some(&byte);
        if found {
            self.at += 1;
            self.skip_blanks();
        }
        found
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.takes(byte).then_some(())
    }

    fn takes_literal(&mut self, literal: &[u8]) -> bool {
        let found = self.rest().starts_with(literal);
        if found {
            self.at += literal.len();
        }
        found
    }

    /// An object; `member` reads the values that are not null. `names` are those of the object before it, with their quotes,
    /// and then its own: mostly the same ones, so that a name is compared and not looked for.
    fn object(
        &mut self,
        names: &mut Vec<&'a [u8]>,
        mut member: impl FnMut(&mut Self, &'a [u8]) -> Option<()>,
    ) -> Option<()> {
        self.take(b'{')?;
        if self.takes(b'}') {
            return Some(());
        }
        for number in 0.. {
            let name = self.name(names, number)?;
            self.take(b':')?;
            if self.takes_literal(b"null") {
                std::str::from_utf8(name).ok()?;
            } else {
                member(self, name)?;
            }
            if !self.takes(b',') {
                break;
            }
        }
        self.take(b'}')
    }

    fn name(&mut self, names: &mut Vec<&'a [u8]>, number: usize) -> Option<&'a [u8]> {
        if let Some([b'"', name @ .., b'"']) = names.get(number)
            && self.takes_literal(names[number])
        {
            return Some(name);
        }
        let (quoted, name) = (self.rest(), self.plain()?);
        names.truncate(number);
        if number < NAMES_MAX {
            names.push(&quoted[..name.len() + 2]);
        }
        Some(name)
    }

    /// The inside of a text without escapes.
    fn plain(&mut self) -> Option<&'a [u8]> {
        let inside = self.rest().strip_prefix(b"\"")?;
        let end = memchr2(b'"', b'\\', inside)?;
        if inside[end] != b'"' {
            return None;
        }
        self.at += end + 2;
        Some(&inside[..end])
    }

    /// The inside of a text that is Base64 if it is as it should be: of a text with escapes, something that is none.
    fn base64(&mut self) -> Option<&'a [u8]> {
        let inside = self.rest().strip_prefix(b"\"")?;
        let end = memchr(b'"', inside)?;
        self.at += end + 2;
        Some(&inside[..end])
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.plain()?).ok()
    }

    fn skip_escaped_text(&mut self) -> Option<()> {
        let quoted = self.rest();
        let inside = quoted.strip_prefix(b"\"")?;
        let mut end = memchr2(b'"', b'\\', inside)?;
        if inside[end] == b'"' {
            return self.text().map(drop);
        }
        while inside[end] == b'\\' {
            let beyond = end + 2;
            end = beyond + memchr2(b'"', b'\\', inside.get(beyond..)?)?;
        }
        self.at += end + 2;
        serde_json::from_slice::<String>(&quoted[..end + 2]).ok().map(drop)
    }

    /// The bytes ahead of which a number may consist.
    fn token(&mut self, belongs: impl Fn(u8) -> bool) -> Option<&'a str> {
        let rest = self.rest();
        let length = rest.iter().position(|byte| !belongs(*byte)).unwrap_or(rest.len());
        self.at += length;
        std::str::from_utf8(&rest[..length]).ok()
    }

    fn whole(&mut self) -> Option<i64> {
        self.token(|byte| matches!(byte, b'0'..=b'9' | b'-'))?.parse().ok()
    }

    /// A number of seconds as microseconds, as the SDK's reader understands it: by way of a double if it has a fraction.
    fn time_us(&mut self) -> Option<i64> {
        let token = self.token(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))?;
        if let Some(milliseconds) = milliseconds(token) {
            return Some(milliseconds * 1000);
        }
        if !token.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return None;
        }
        let time = if token.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
            DateTime::from_secs_f64(token.parse().ok()?)
        } else {
            DateTime::from_secs(token.parse().ok()?)
        };
        Some(micros(time))
    }

    /// Passes over the value of a member that nobody asked for.
    fn skip(&mut self, name: &[u8]) -> Option<()> {
        std::str::from_utf8(name).ok()?;
        if self.takes_literal(b"true") || self.takes_literal(b"false") {
            return Some(());
        }
        if self.rest().first() == Some(&b'"') { self.plain().map(drop) } else { self.count() }
    }

    /// A whole number without a sign.
    fn count(&mut self) -> Option<()> {
        let digits = self.token(|byte| byte.is_ascii_digit())?;
        (digits == "0" || !digits.is_empty() && !digits.starts_with('0')).then_some(())
    }
}

/// Seconds as Kinesis writes them (`1.705247984638E9`), if they are whole milliseconds of a year before 2096: so far the
/// double next to them is less than half a microsecond away, and stands for the same.
fn milliseconds(token: &str) -> Option<i64> {
    const BEFORE_MS: i64 = 4_000_000_000_000;
    const DIGITS_MAX: u32 = 16;
    let (mut value, mut digits, mut decimals, mut exponent) = (0, 0, None, 0);
    for (at, byte) in token.bytes().enumerate() {
        match byte {
            b'0'..=b'9' if digits < DIGITS_MAX => {
                value = value * 10 + i64::from(byte - b'0');
                digits += 1;
                decimals = decimals.map(|decimals| decimals + 1);
            }
            b'.' if digits > 0 && decimals.is_none() => decimals = Some(0),
            b'E' => {
                let [power @ b'0'..=b'9'] = token.as_bytes()[at + 1..] else { return None };
                exponent = u32::from(power - b'0');
                break;
            }
            _ => return None,
        }
    }
    let shift = (exponent + 3).checked_sub(decimals.filter(|decimals| *decimals > 0)?)?;
    value.checked_mul(10_i64.pow(shift)).filter(|milliseconds| *milliseconds < BEFORE_MS)
}
