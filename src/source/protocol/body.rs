//! The body of GetRecords in one pass, to records of ours: recognised whole, or `None`.
//!
//! What is recognised is what Kinesis sends: known members in any order, white space, nulls, unknown members that are
//! plain texts or literals, escapes in partition keys (which are the user's, and of no use to us). Other escapes,
//! `ChildShards`, which only the last read of a shard has, a record without a number or a time, and every error are
//! somebody else's; so there is no error type here.

use aws_smithy_types::DateTime;
use bytes::Bytes;
use memchr::memchr2;

use super::spare::Spare;
use crate::checkpoint::SequenceNumber;
use crate::limits::{GET_RECORDS_LIMIT_MAX, READ_BYTES_MAX};
use crate::record::RawRecord;
use crate::source::kinesis::micros;

/// What Kinesis answers at most, and what is made room for at once.
const RECORDS_MAX: usize = GET_RECORDS_LIMIT_MAX as usize;

/// What their payloads have at most, and what is made room for at once.
const PAYLOADS_BYTES_MAX: usize = READ_BYTES_MAX as usize;

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
    scanner.object(|scanner, member| {
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

/// The records, whose payloads lie one behind the other in memory that is taken once.
fn records(scanner: &mut Scanner<'_>, spare: &Spare) -> Option<Vec<RawRecord>> {
    let mut records = Vec::new();
    scanner.take(b'[')?;
    if scanner.takes(b']') {
        return Some(records);
    }
    let mut payloads = spare.take((scanner.rest().len() / 4 * 3).min(PAYLOADS_BYTES_MAX));
    let mut lengths = Vec::new();
    loop {
        let (began, before) = (scanner.at, payloads.len());
        let record = record(scanner, &mut payloads)?;
        if records.is_empty() {
            // As many as there are if all are like the first, which they mostly are.
            let alike = (scanner.rest().len() / (scanner.at - began) + 1).min(RECORDS_MAX);
            records.reserve(alike);
            lengths.reserve(alike);
        }
        records.push(record);
        lengths.push(payloads.len() - before);
        if !scanner.takes(b',') {
            scanner.take(b']')?;
            break;
        }
    }
    let mut payloads = spare.lend(payloads);
    for (record, length) in records.iter_mut().zip(lengths) {
        record.data = payloads.split_to(length);
    }
    Some(records)
}

/// A record without its payload, which is put behind the others.
fn record(scanner: &mut Scanner<'_>, payloads: &mut Vec<u8>) -> Option<RawRecord> {
    let before = payloads.len();
    let (mut sequence_number, mut arrived_at_us) = (None, None);
    scanner.object(|scanner, member| {
        match member {
            b"Data" => {
                payloads.truncate(before);
                base64_simd::STANDARD.decode_append(scanner.plain()?, payloads).ok()?;
            }
            b"SequenceNumber" => sequence_number = Some(SequenceNumber::parse(scanner.text()?).ok()?),
            b"ApproximateArrivalTimestamp" => arrived_at_us = Some(micros(scanner.time()?)),
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

    /// An object; `member` reads the values that are not null.
    fn object(&mut self, mut member: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.take(b'{')?;
        if self.takes(b'}') {
            return Some(());
        }
        loop {
            let name = self.plain()?;
            self.take(b':')?;
            if self.takes_literal(b"null") {
                std::str::from_utf8(name).ok()?;
            } else {
                member(self, name)?;
            }
            if !self.takes(b',') {
                return self.take(b'}');
            }
        }
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

    /// A number of seconds, as the SDK's reader understands it: by way of a double if it has a fraction.
    fn time(&mut self) -> Option<DateTime> {
        let token = self.token(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))?;
        if !token.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return None;
        }
        if token.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
            token.parse().ok().map(DateTime::from_secs_f64)
        } else {
            token.parse().ok().map(DateTime::from_secs)
        }
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
