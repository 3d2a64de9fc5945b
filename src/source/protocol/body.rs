//! The body of GetRecords in one pass: recognised whole, or `None`.
//!
//! What is recognised is what Kinesis sends: known members in any order, white space, nulls, unknown members that are
//! plain texts or literals, escapes in partition keys (which are the user's). `ChildShards`, which only the last read
//! of a shard has, other escapes and every error are somebody else's; so there is no error type here.

use std::borrow::Cow;

use aws_smithy_types::DateTime;
use memchr::memchr2;

/// What a body says; absent and null members are `None`.
#[derive(Debug, Default)]
pub(super) struct Body<'a> {
    pub records: Option<Vec<Recorded<'a>>>,
    pub next_shard_iterator: Option<&'a str>,
    pub millis_behind_latest: Option<i64>,
}

/// One record of a body, its data decoded.
#[derive(Debug, Default)]
pub(super) struct Recorded<'a> {
    pub sequence_number: Option<&'a str>,
    pub arrived_at: Option<DateTime>,
    pub data: Option<Vec<u8>>,
    pub partition_key: Option<Cow<'a, str>>,
    pub encryption_type: Option<&'a str>,
}

/// Reads a whole body. Of equal members the last counts.
pub(super) fn read(bytes: &[u8]) -> Option<Body<'_>> {
    let mut scanner = Scanner { bytes, at: 0 };
    let mut body = Body::default();
    scanner.object(|scanner, member| {
        match member {
            b"Records" => body.records = Some(records(scanner)?),
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

fn records<'a>(scanner: &mut Scanner<'a>) -> Option<Vec<Recorded<'a>>> {
    let mut records = Vec::new();
    scanner.take(b'[')?;
    if scanner.takes(b']') {
        return Some(records);
    }
    loop {
        records.push(record(scanner)?);
        if !scanner.takes(b',') {
            scanner.take(b']')?;
            return Some(records);
        }
    }
}

fn record<'a>(scanner: &mut Scanner<'a>) -> Option<Recorded<'a>> {
    let mut record = Recorded::default();
    scanner.object(|scanner, member| {
        match member {
            b"Data" => record.data = Some(base64_simd::STANDARD.decode_to_vec(scanner.plain()?).ok()?),
            b"SequenceNumber" => record.sequence_number = Some(scanner.text()?),
            b"ApproximateArrivalTimestamp" => record.arrived_at = Some(scanner.time()?),
            b"PartitionKey" => record.partition_key = Some(scanner.escaped_text()?),
            b"EncryptionType" => record.encryption_type = Some(scanner.text()?),
            unknown => scanner.skip(unknown)?,
        }
        Some(())
    })?;
    Some(record)
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
            if !self.takes_literal(b"null") {
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

    fn escaped_text(&mut self) -> Option<Cow<'a, str>> {
        let quoted = self.rest();
        let inside = quoted.strip_prefix(b"\"")?;
        let mut end = memchr2(b'"', b'\\', inside)?;
        if inside[end] == b'"' {
            return self.text().map(Cow::Borrowed);
        }
        while inside[end] == b'\\' {
            let beyond = end + 2;
            end = beyond + memchr2(b'"', b'\\', inside.get(beyond..)?)?;
        }
        self.at += end + 2;
        serde_json::from_slice(&quoted[..end + 2]).ok().map(Cow::Owned)
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
        if token.contains(['.', 'e', 'E']) {
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
