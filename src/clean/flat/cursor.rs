//! One value of a flat object after the other, each by the grammar of RFC 8259 or not at all.

use memchr::memchr2;

/// A value that is no list and no object.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scalar {
    Null,
    Boolean(bool),
    Whole(i64),
    Real(f64),
    /// A range of the record's text.
    Text {
        begin: u32,
        end: u32,
    },
    /// A range of what was unescaped.
    Unescaped {
        begin: u32,
        end: u32,
    },
}

/// Whole numbers of so many digits fit 64 bits, whatever the digits are.
const WHOLE_DIGITS_MAX: usize = 18;
/// Doubles hold every whole number of so many digits, and every power of ten up to this one.
const EXACT_DIGITS_MAX: usize = 15;
const POWERS_OF_TEN: [f64; EXACT_DIGITS_MAX + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

const WORD: usize = 8;
/// So many words of a text are looked through one by one.
const NEAR_WORDS: usize = 4;

/// A place in a text without control characters.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Where the text begins.
    pub fn new(text: &'a str) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0 }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    /// What it went over since it was there.
    pub fn since(&self, begin: usize) -> &'a [u8] {
        self.bytes.get(begin..self.at).unwrap_or_default()
    }

    pub fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub fn skip_spaces(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    /// Goes over this byte, if it stands here.
    pub fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    /// Goes over these bytes, if they stand here.
    #[inline]
    pub fn take_all(&mut self, bytes: &[u8]) -> bool {
        let stands = self.bytes.get(self.at..self.at + bytes.len()).is_some_and(|here| are_equal(here, bytes));
        self.at += if stands { bytes.len() } else { 0 };
        stands
    }

    /// Goes over a name, which is given with its quotes; one with escapes is none.
    pub fn quoted_name(&mut self) -> Option<&'a str> {
        let begin = self.at;
        self.take(b'"')?;
        self.at += memchr2(b'"', b'\\', self.bytes.get(self.at..)?)?;
        self.take(b'"')?;
        self.text.get(begin..self.at)
    }

    /// Goes over a value. Texts that have escapes are added to `unescaped`, without. Inlined, since a value that is handed
    /// back through memory is waited for.
    #[inline(always)]
    pub fn scalar(&mut self, unescaped: &mut String) -> Option<Scalar> {
        match self.peek()? {
            b'"' => self.string(unescaped),
            b'-' | b'0'..=b'9' => self.number(),
            b'n' => self.take_all(b"null").then_some(Scalar::Null),
            b't' => self.take_all(b"true").then_some(Scalar::Boolean(true)),
            b'f' => self.take_all(b"false").then_some(Scalar::Boolean(false)),
            _ => None,
        }
    }

    // === Texts ===

    #[inline(always)]
    fn string(&mut self, unescaped: &mut String) -> Option<Scalar> {
        let begin = self.at + 1;
        self.at = begin + text_len(self.bytes.get(begin..)?)?;
        if self.peek() == Some(b'\\') {
            return self.unescape(begin, unescaped);
        }
        let range = Scalar::Text { begin: u32::try_from(begin).ok()?, end: u32::try_from(self.at).ok()? };
        self.at += 1;
        Some(range)
    }

    /// At the first backslash of a text that begins at `begin`.
    fn unescape(&mut self, begin: usize, unescaped: &mut String) -> Option<Scalar> {
        let first = u32::try_from(unescaped.len()).ok()?;
        let mut copied = begin;
        while self.peek() == Some(b'\\') {
            unescaped.push_str(self.text.get(copied..self.at)?);
            self.at += 1;
            unescaped.push(self.escaped()?);
            copied = self.at;
            self.at += memchr2(b'"', b'\\', self.bytes.get(self.at..)?)?;
        }
        unescaped.push_str(self.text.get(copied..self.at)?);
        self.at += 1;
        Some(Scalar::Unescaped { begin: first, end: u32::try_from(unescaped.len()).ok()? })
    }

    /// What stands behind a backslash.
    fn escaped(&mut self) -> Option<char> {
        let kind = self.peek()?;
        self.at += 1;
        match kind {
            b'"' | b'\\' | b'/' => Some(char::from(kind)),
            b'b' => Some('\u{8}'),
            b'f' => Some('\u{c}'),
            b'n' => Some('\n'),
            b'r' => Some('\r'),
            b't' => Some('\t'),
            b'u' => self.code_point(),
            _ => None,
        }
    }

    /// Behind `\u`: one unit of UTF-16, or the two of a character beyond.
    fn code_point(&mut self) -> Option<char> {
        let unit = self.unit()?;
        if !(0xd800..0xdc00).contains(&unit) {
            return char::from_u32(unit);
        }
        let low = if self.take_all(b"\\u") { self.unit()? } else { return None };
        let low = (0xdc00..0xe000).contains(&low).then(|| low - 0xdc00)?;
        char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + low)
    }

    fn unit(&mut self) -> Option<u32> {
        let digits = self.bytes.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.iter().try_fold(0, |unit, digit| Some(unit * 16 + char::from(*digit).to_digit(16)?))
    }

    // === Numbers ===

    fn number(&mut self) -> Option<Scalar> {
        let begin = self.at;
        let is_negative = self.take(b'-').is_some();
        let whole_at = self.at;
        let whole = self.digits(0);
        let whole_digits = self.at - whole_at;
        let has_leading_zero = whole_digits > 1 && self.bytes[whole_at] == b'0';
        if !(1..=WHOLE_DIGITS_MAX).contains(&whole_digits) || has_leading_zero {
            return None;
        }
        if self.take(b'.').is_none() {
            let is_plain = !matches!(self.peek(), Some(b'e' | b'E'));
            return is_plain.then_some(Scalar::Whole(if is_negative { -whole } else { whole }));
        }
        let fraction_at = self.at;
        let digits = self.digits(whole);
        let fraction_digits = self.at - fraction_at;
        if fraction_digits == 0 || matches!(self.peek(), Some(b'e' | b'E')) {
            return None;
        }
        if whole_digits + fraction_digits > EXACT_DIGITS_MAX {
            return self.text.get(begin..self.at)?.parse().ok().map(Scalar::Real);
        }
        // Both sides are exact, so the quotient is the double next to the number, as it is to be.
        let real = digits as f64 / POWERS_OF_TEN[fraction_digits];
        Some(Scalar::Real(if is_negative { -real } else { real }))
    }

    /// Goes over digits and adds them to what stands before. More than fit give any number.
    fn digits(&mut self, before: i64) -> i64 {
        let mut number = before;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            number = number.wrapping_mul(10).wrapping_add(i64::from(digit - b'0'));
            self.at += 1;
        }
        number
    }
}

/// Whether bytes of one length are the same. Those of names and what is about them are compared here, by their first ones
/// and their last, which may be in both: a call costs more.
#[inline]
fn are_equal(left: &[u8], right: &[u8]) -> bool {
    fn ends<const N: usize>(bytes: &[u8]) -> (Option<&[u8; N]>, Option<&[u8; N]>) {
        (bytes.first_chunk(), bytes.last_chunk())
    }
    match right.len() {
        WORD..=16 => ends::<WORD>(left) == ends::<WORD>(right),
        17..=32 => ends::<16>(left) == ends::<16>(right),
        _ => left == right,
    }
}

/// How many bytes there are before the first quote or backslash. Most texts are short, and are looked through here.
#[inline]
fn text_len(bytes: &[u8]) -> Option<usize> {
    let (words, _) = bytes.as_chunks::<WORD>();
    for (index, word) in words.iter().take(NEAR_WORDS).enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = places_of(word, b'"') | places_of(word, b'\\');
        if found != 0 {
            return Some(index * WORD + found.trailing_zeros() as usize / 8);
        }
    }
    let near = words.len().min(NEAR_WORDS) * WORD;
    memchr2(b'"', b'\\', bytes.get(near..)?).map(|at| near + at)
}

/// The highest bit of each byte that is this one, and perhaps of bytes above the first such.
#[inline]
fn places_of(word: u64, byte: u8) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHEST: u64 = 0x8080_8080_8080_8080;
    let zero_where_equal = word ^ (ONES * u64::from(byte));
    zero_where_equal.wrapping_sub(ONES) & !zero_where_equal & HIGHEST
}
