//! Transport damage, undone before cleaning: a list of one, JSON in a JSON string, base64, gzip and zstd, at most
//! three deep and in any order.
//!
//! Wrong guesses must not happen: compression is known by its magic bytes, and text is taken for base64 only if
//! it is not JSON and what comes out leads to an object; if not, the reject speaks about the text itself. Nothing
//! that inflates may cost more memory than the read's permit has paid for.

use std::io::Read;

use flate2::bufread::MultiGzDecoder;
use simd_json::Node;

use super::fault::Fault;
use super::json::{Json, Parser, elements, value};
use super::text::{shown, trim};
use crate::limits::{INFLATED_BATCH_BYTES_MAX, INFLATED_BYTES_MAX, REPAIR_DEPTH_MAX, SCRATCH_KEPT_BYTES};
use crate::record::{RejectReason, Repair};

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The zstd window (2^23 bytes) that every decoder should support by RFC 8878; larger ones are refused unallocated.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Inflated memory grows by at least this much at a time.
const INFLATE_STEP_BYTES: usize = 64 * 1024;

/// Opens one payload after the other, in reused memory.
#[derive(Debug, Default)]
pub(super) struct Opener {
    parser: Parser,
    repairs: Vec<Repair>,
    inside: Vec<u8>,
    inside_next: Vec<u8>,
    /// Of records that became objects. What a reject inflated to is gone, and must not cost its neighbours.
    batch_inflated_bytes: usize,
    record_inflated_bytes: usize,
}

/// What one look at some bytes led to.
enum Look<R> {
    /// An object, and what `read` made of it.
    Object(R),
    /// A guess; `inside_next` holds what was in there, and the fault stands if that leads nowhere.
    Guessed(Fault),
    /// No guess, since magic bytes said so; `inside_next` holds what was in there.
    Inflated,
}

impl Opener {
    /// The limit on inflated bytes is per read as well as per record.
    pub fn begin_batch(&mut self) {
        self.batch_inflated_bytes = 0;
    }

    /// Repairs that the last opened payload needed, outermost first.
    pub fn repairs(&self) -> &[Repair] {
        &self.repairs
    }

    /// Frees what a huge payload needed.
    pub fn shrink(&mut self) {
        self.parser.shrink();
        for scratch in [&mut self.inside, &mut self.inside_next] {
            if scratch.capacity() > SCRATCH_KEPT_BYTES {
                *scratch = Vec::new();
            }
        }
    }

    /// What is held for the next payload.
    pub fn scratch_bytes(&self) -> usize {
        self.parser.scratch_bytes() + self.inside.capacity() + self.inside_next.capacity()
    }

    /// Shows `read` the nodes of the object in a payload, or says why there is none.
    pub fn open<R>(&mut self, payload: &[u8], mut read: impl FnMut(&[Node<'_>]) -> R) -> Result<R, Fault> {
        self.repairs.clear();
        self.record_inflated_bytes = 0;
        let mut outer: Option<Fault> = None;
        let mut look = self.look(payload, &mut read);
        loop {
            match look {
                Ok(Look::Object(answer)) => {
                    self.batch_inflated_bytes += self.record_inflated_bytes;
                    return Ok(answer);
                }
                Ok(Look::Guessed(fault)) => outer = outer.or(Some(fault)),
                Ok(Look::Inflated) => outer = None,
                Err(fault) => return Err(blame(outer, fault)),
            }
            std::mem::swap(&mut self.inside, &mut self.inside_next);
            let inside = std::mem::take(&mut self.inside);
            look = self.look(&inside, &mut read);
            self.inside = inside;
        }
    }

    fn look<R>(&mut self, bytes: &[u8], read: &mut impl FnMut(&[Node<'_>]) -> R) -> Result<Look<R>, Fault> {
        if bytes.starts_with(GZIP_MAGIC) {
            self.repair(Repair::Gzip)?;
            return self.inflate(MultiGzDecoder::new(bytes), "gzip").map(|()| Look::Inflated);
        }
        if bytes.starts_with(ZSTD_MAGIC) {
            self.repair(Repair::Zstd)?;
            let corrupt = |error| Fault::new(RejectReason::CorruptCompression, format!("zstd: {error}"));
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(corrupt)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(corrupt)?;
            return self.inflate(decoder, "zstd").map(|()| Look::Inflated);
        }
        if bytes.trim_ascii().is_empty() {
            let detail = format!("{} bytes, nothing but white space", bytes.len());
            return Err(Fault::new(RejectReason::Empty, detail));
        }
        let Self { parser, repairs, inside_next, .. } = self;
        match parser.parse(bytes, |nodes| unwrap(nodes, repairs, inside_next, read)) {
            Ok(answer) => answer,
            Err(fault) if fault.reason == RejectReason::InvalidJson => self.decode_base64(bytes, fault),
            Err(fault) => Err(fault),
        }
    }

    /// Text that is not JSON may be base64 of it; else `fault` stands.
    fn decode_base64<R>(&mut self, text: &[u8], fault: Fault) -> Result<Look<R>, Fault> {
        self.inside_next.clear();
        self.inside_next.extend_from_slice(text);
        let Ok(decoded) = base64_simd::forgiving_decode_inplace(&mut self.inside_next) else { return Err(fault) };
        let decoded_len = decoded.len();
        self.inside_next.truncate(decoded_len);
        match self.repair(Repair::Base64) {
            Ok(()) => Ok(Look::Guessed(fault)),
            Err(too_many) if self.inside_next.trim_ascii_start().starts_with(b"{") => Err(too_many),
            Err(_) => Err(fault),
        }
    }

    fn repair(&mut self, repair: Repair) -> Result<(), Fault> {
        push_repair(&mut self.repairs, repair)
    }

    /// Fills `inside_next` with what the decoder gives, as long as that is within bounds.
    fn inflate(&mut self, mut decoder: impl Read, name: &str) -> Result<(), Fault> {
        let batch_left = INFLATED_BATCH_BYTES_MAX.saturating_sub(self.batch_inflated_bytes);
        let bytes_max = INFLATED_BYTES_MAX.min(batch_left);
        let out = &mut self.inside_next;
        let result = read_bounded(&mut decoder, out, bytes_max);
        self.record_inflated_bytes = self.record_inflated_bytes.max(out.len());
        let corrupt = |error| Fault::new(RejectReason::CorruptCompression, format!("{name}: {error}"));
        if result.map_err(corrupt)? {
            return Ok(());
        }
        let fits_alone = has_at_most(&mut decoder, INFLATED_BYTES_MAX - bytes_max).map_err(corrupt)?;
        let (of, limit) = match fits_alone {
            true => ("all compressed records of a read", INFLATED_BATCH_BYTES_MAX),
            false => ("a record", INFLATED_BYTES_MAX),
        };
        let detail = format!("{name}: {of} may inflate to {limit} bytes");
        Err(Fault { is_crowded_out: fits_alone, ..Fault::new(RejectReason::InflatesTooLarge, detail) })
    }
}

/// Whether so many bytes are left at most, beside one that is known of. They are read, and not kept.
fn has_at_most(source: &mut impl Read, bytes_max: usize) -> std::io::Result<bool> {
    let bytes_max = bytes_max as u64;
    let read = std::io::copy(&mut source.take(bytes_max), &mut std::io::sink())?;
    Ok(read < bytes_max)
}

/// Reads to the end into `out`, without ever reserving more than `bytes_max`. False if there was more.
fn read_bounded(source: &mut impl Read, out: &mut Vec<u8>, bytes_max: usize) -> std::io::Result<bool> {
    out.clear();
    let mut len = 0;
    loop {
        if len == bytes_max {
            out.truncate(len);
            return Ok(source.read(&mut [0])? == 0);
        }
        let size = (2 * len).max(INFLATE_STEP_BYTES).min(bytes_max);
        if len == out.len() {
            out.reserve_exact(size - len);
            out.resize(size, 0);
        }
        match source.read(&mut out[len..]) {
            Ok(0) => {
                out.truncate(len);
                return Ok(true);
            }
            Ok(read) => len += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                out.truncate(len);
                return Err(error);
            }
        }
    }
}

fn push_repair(repairs: &mut Vec<Repair>, repair: Repair) -> Result<(), Fault> {
    if repairs.len() == REPAIR_DEPTH_MAX {
        let done: Vec<&str> = repairs.iter().chain([&repair]).map(|repair| repair.as_str()).collect();
        let detail = format!("{}; at most {REPAIR_DEPTH_MAX} are undone", done.join(", then "));
        return Err(Fault::new(RejectReason::TooManyRepairs, detail));
    }
    repairs.push(repair);
    Ok(())
}

/// From a JSON text's nodes to the object: itself, the only element of a list, or the JSON in a string.
fn unwrap<'a, R>(
    mut nodes: &'a [Node<'a>],
    repairs: &mut Vec<Repair>,
    inside_next: &mut Vec<u8>,
    read: &mut impl FnMut(&[Node<'_>]) -> R,
) -> Result<Look<R>, Fault> {
    loop {
        let what = match value(nodes) {
            Json::Object(_) => return Ok(Look::Object(read(nodes))),
            Json::Text(text) if !trim(text).is_empty() => {
                let fault = not_an_object(&format!("a text that holds none: {}", shown(text)));
                push_repair(repairs, Repair::JsonInString)?;
                inside_next.clear();
                inside_next.extend_from_slice(text.as_bytes());
                return Ok(Look::Guessed(fault));
            }
            Json::List(inside) => match (elements(inside).next(), elements(inside).nth(1)) {
                (Some(Json::Object(_) | Json::List(_) | Json::Text(_)), None) => {
                    push_repair(repairs, Repair::ListOfOne)?;
                    nodes = inside;
                    continue;
                }
                (None, _) => "an empty list",
                (Some(_), None) => "a list of one that is no object",
                (Some(_), Some(_)) => "a list of more than one",
            },
            Json::Text(_) => "an empty text",
            Json::Whole(_) | Json::Real(_) => "a number",
            Json::Boolean(_) => "true or false",
            Json::Null => "null",
        };
        return Err(not_an_object(what));
    }
}

fn not_an_object(what: &str) -> Fault {
    Fault::new(RejectReason::NotAnObject, format!("expected a JSON object, found {what}"))
}

/// The reason that a reject gets: what was found inside a guess only counts if it proves the guess right.
fn blame(outer: Option<Fault>, inner: Fault) -> Fault {
    let Some(outer) = outer else { return inner };
    match inner.reason {
        RejectReason::TooDeep
        | RejectReason::TooManyValues
        | RejectReason::TooManyRepairs
        | RejectReason::InflatesTooLarge
        | RejectReason::CorruptCompression => inner,
        RejectReason::Empty
        | RejectReason::InvalidUtf8
        | RejectReason::InvalidJson
        | RejectReason::NotAnObject
        | RejectReason::AnotherKind
        | RejectReason::RequiredColumn
        | RejectReason::ForeignHashKey
        | RejectReason::AggregateTooLarge => inner.inside(outer),
    }
}
