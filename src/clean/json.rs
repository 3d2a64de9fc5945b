//! RFC 8259, strictly, to a tape of nodes.
//!
//! simd-json is strict except in one thing: a number that is legal JSON but fits neither 64 bits nor a finite
//! double makes it refuse the whole text. One field must not cost a record, so such numbers, and only they, are
//! written again in a form that fits (see [`refit`]) and the text is parsed once more.

use serde::de::IgnoredAny;
use simd_json::{Buffers, ErrorType, INPUT_PADDING, Node, StaticNode, Tape, fill_tape_padded};

use super::fault::Fault;
use super::number::Decimal;
use super::text::shown;
use crate::limits::{JSON_DEPTH_MAX, JSON_VALUES_MAX, SCRATCH_KEPT_BYTES};
use crate::record::RejectReason;

/// Stands for a number that fits no double, so the largest double itself is not told from it.
pub(super) const TOO_LARGE: f64 = f64::MAX;

/// Parses texts one after the other in reused memory. The parser rewrites what it reads, so it works on a copy.
pub(super) struct Parser {
    text: Vec<u8>,
    buffers: Buffers,
    tape: Tape<'static>,
}

impl std::fmt::Debug for Parser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parser")
    }
}

impl Default for Parser {
    fn default() -> Self {
        Self { text: Vec::new(), buffers: Buffers::with_max_depth(0, JSON_DEPTH_MAX), tape: Tape(Vec::new()) }
    }
}

impl Parser {
    /// Shows `read` the nodes of a JSON text, or says why there are none.
    pub fn parse<R>(&mut self, json: &[u8], read: impl FnOnce(&[Node<'_>]) -> R) -> Result<R, Fault> {
        if has_too_many_values(json) {
            let detail = format!("more than {JSON_VALUES_MAX} keys and values in {} bytes", json.len());
            return Err(Fault::new(RejectReason::TooManyValues, detail));
        }
        self.text.clear();
        self.text.extend_from_slice(json);
        let (error, read) = match self.attempt(read) {
            Ok(answer) => return Ok(answer),
            Err(refused) => refused,
        };
        if matches!(error.error(), ErrorType::InvalidNumber) && refit(json, &mut self.text) {
            return self.attempt(read).map_err(|(error, _)| fault(json, &error));
        }
        Err(fault(json, &error))
    }

    /// Parses `self.text`; gives `read` back if there is nothing to show it.
    fn attempt<R, F: FnOnce(&[Node<'_>]) -> R>(&mut self, read: F) -> Result<R, (simd_json::Error, F)> {
        let len = self.text.len();
        self.text.resize(len + INPUT_PADDING, b' ');
        let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        if let Err(error) = fill_tape_padded(&mut self.text, len, &mut self.buffers, &mut tape) {
            self.tape = tape.reset();
            return Err((error, read));
        }
        let answer = read(&tape.0);
        self.tape = tape.reset();
        Ok(answer)
    }

    /// Frees what a huge text needed.
    pub fn shrink(&mut self) {
        if self.scratch_bytes() > SCRATCH_KEPT_BYTES {
            *self = Self::default();
        }
    }

    /// The copy of the text and the tape; the parser's own buffers are of the same order.
    pub fn scratch_bytes(&self) -> usize {
        self.text.capacity() + self.tape.0.capacity() * size_of::<Node<'_>>()
    }
}

fn fault(json: &[u8], error: &simd_json::Error) -> Fault {
    if let Err(error) = std::str::from_utf8(json) {
        return Fault::new(RejectReason::InvalidUtf8, format!("not UTF-8 from byte {} on", error.valid_up_to()));
    }
    if matches!(error.error(), ErrorType::DepthLimitExceeded) {
        return Fault::new(RejectReason::TooDeep, format!("nested deeper than {JSON_DEPTH_MAX}"));
    }
    let begins = shown(&String::from_utf8_lossy(&json[..json.len().min(80)]));
    let at = first_fault(json).unwrap_or_else(|| error.index());
    Fault::new(RejectReason::InvalidJson, format!("not JSON at byte {at} of {}; begins {begins}", json.len()))
}

/// Where a text stops being JSON: the fast parser knows it only of some faults. `None` if only the fast one finds any.
fn first_fault(json: &[u8]) -> Option<usize> {
    let error = serde_json::from_slice::<IgnoredAny>(json).err()?;
    if error.is_eof() {
        return Some(json.len());
    }
    let line_at: usize = json.split_inclusive(|byte| *byte == b'\n').take(error.line() - 1).map(<[u8]>::len).sum();
    Some((line_at + error.column().saturating_sub(1)).min(json.len()))
}

/// Each key and value begins the text or follows one of these; inside of texts they are none. What is shorter than
/// the limit cannot hold so many, so that ordinary records are not looked through.
fn has_too_many_values(json: &[u8]) -> bool {
    let announces = |byte: &u8| matches!(byte, b',' | b':' | b'[' | b'{');
    if json.len() <= JSON_VALUES_MAX || json.iter().filter(|byte| announces(byte)).count() < JSON_VALUES_MAX {
        return false;
    }
    let (mut at, mut values) = (0, 1);
    while let Some(byte) = json.get(at) {
        values += usize::from(announces(byte));
        at += if *byte == b'"' { string_len(&json[at..]) } else { 1 };
    }
    values > JSON_VALUES_MAX
}

// === Numbers that fit nothing ===

/// Writes the text with every legal number that fits no 64 bits and no finite double in a form that does: a whole
/// number as a double, one beyond every double as [`TOO_LARGE`]. False if there was none.
fn refit(json: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    let mut any = false;
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        let end = match byte {
            b'"' => at + string_len(&json[at..]),
            b'-' | b'0'..=b'9' => at + number_len(&json[at..]),
            _ => at + 1,
        };
        let token = &json[at..end];
        match std::str::from_utf8(token).ok().and_then(refitted) {
            Some(refitted) => {
                out.extend_from_slice(refitted.as_bytes());
                any = true;
            }
            None => out.extend_from_slice(token),
        }
        at = end;
    }
    any
}

fn string_len(json: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    json.len()
}

fn number_len(json: &[u8]) -> usize {
    let part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    json.iter().position(|byte| !part(byte)).unwrap_or(json.len())
}

fn refitted(token: &str) -> Option<String> {
    let decimal = Decimal::split(token).filter(Decimal::is_json)?;
    let value = token.parse::<f64>().ok()?;
    if !value.is_finite() {
        return Some(format!("{:e}", TOO_LARGE.copysign(value)));
    }
    let fits = !decimal.is_whole() || token.parse::<i64>().is_ok() || token.parse::<u64>().is_ok();
    (!fits).then(|| format!("{token}.0"))
}

// === Reading the tape ===

/// One value, as it stands in the JSON.
#[derive(Debug, Clone, Copy)]
pub(super) enum Json<'a> {
    Null,
    Boolean(bool),
    /// Written without fraction and exponent.
    Whole(i128),
    /// Written with one; finite. [`TOO_LARGE`] stands for what fits no double.
    Real(f64),
    Text(&'a str),
    /// The nodes after the list's own: its elements.
    List(&'a [Node<'a>]),
    /// The nodes after the object's own: keys and values in turn.
    Object(&'a [Node<'a>]),
}

/// The value that begins at the first of these nodes. A tape has no value without nodes; none reads as null.
pub(super) fn value<'a>(nodes: &'a [Node<'a>]) -> Json<'a> {
    match nodes.first() {
        None | Some(Node::Static(StaticNode::Null)) => Json::Null,
        Some(Node::Static(StaticNode::Bool(truth))) => Json::Boolean(*truth),
        Some(Node::Static(StaticNode::I64(whole))) => Json::Whole(i128::from(*whole)),
        Some(Node::Static(StaticNode::U64(whole))) => Json::Whole(i128::from(*whole)),
        Some(Node::Static(StaticNode::F64(real))) => Json::Real(*real),
        Some(Node::String(text)) => Json::Text(text),
        Some(Node::Array { count, .. }) => Json::List(inside(nodes, *count)),
        Some(Node::Object { count, .. }) => Json::Object(inside(nodes, *count)),
    }
}

fn inside<'a>(nodes: &'a [Node<'a>], count: usize) -> &'a [Node<'a>] {
    nodes.get(1..=count).unwrap_or(&[])
}

/// How many nodes the value at the first of these takes.
fn span(nodes: &[Node<'_>]) -> usize {
    match nodes.first() {
        None | Some(Node::Static(_) | Node::String(_)) => 1,
        Some(Node::Array { count, .. } | Node::Object { count, .. }) => 1 + count,
    }
}

/// The elements of a list, from the nodes inside it.
pub(super) fn elements<'a>(mut nodes: &'a [Node<'a>]) -> impl Iterator<Item = Json<'a>> {
    std::iter::from_fn(move || {
        let element = (!nodes.is_empty()).then(|| value(nodes))?;
        nodes = nodes.get(span(nodes)..).unwrap_or(&[]);
        Some(element)
    })
}

/// The members of an object, from the nodes inside it: each key, and where its value begins among them.
pub(super) fn members<'a>(nodes: &'a [Node<'a>]) -> impl Iterator<Item = (&'a str, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let Some(Node::String(key)) = nodes.get(at) else { return None };
        let value_at = at + 1;
        at = value_at + span(nodes.get(value_at..).unwrap_or(&[]));
        Some((*key, value_at))
    })
}
