"""Record bytes to one JSON object, or the reason why there is none.

Promise: decisions 14, 15 and 15c of the records' specification, written a second time and from that text alone,
so that Pintail's repairs are judged by something that shares no line and no library with it.

Two readings hold it together. Compression is recognised by its magic, so whatever comes out of it is what the
record is. A list, a JSON string or base64 is a *repair* only if JSON comes out of it; if not, nothing is repaired
and the reason describes the text as it stands: valid JSON that is no object, or no JSON at all.
"""

import base64
import json
import re
import zlib
from typing import NamedTuple

import zstandard

MAX_REPAIRS = 3
MAX_DEPTH = 128
# The specification names a limit, not its size. Bombs made by `damage.py` inflate far beyond it, everything else stays far below.
MAX_INFLATED = 64 * 1024 * 1024

JSON_SPACE = " \t\n\r"
HOLDS_NO_JSON = {"empty", "invalid_utf8", "invalid_json"}
BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)


class Reject(Exception):
    """A record that cannot be cleaned; `reason` is one of the closed set of the rejects table."""

    def __init__(self, reason, detail=""):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class Number(NamedTuple):
    """A JSON number as it was written, so that nothing is rounded before a column says how."""

    text: str


def unwrap(payload):
    """The one JSON object in a record's bytes; raises `Reject`."""
    return _from_bytes(payload, 0)


def _from_bytes(data, repairs):
    for magic, inflate in ((b"\x1f\x8b", _gunzip), (b"\x28\xb5\x2f\xfd", _unzstd)):
        if data.startswith(magic):
            if repairs == MAX_REPAIRS:
                raise Reject("too_many_repairs")
            return _from_bytes(inflate(data), repairs + 1)
    if not data.strip(JSON_SPACE.encode()):
        raise Reject("empty")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Reject("invalid_utf8", str(error)) from None
    return _from_text(text, repairs)


def _from_text(text, repairs):
    try:
        value = parse(text)
    except Reject as not_json:
        if not_json.reason != "invalid_json":
            raise
        decoded = _unbase64(text)
        if decoded is None:
            raise
        try:
            return _from_bytes(decoded, repairs + 1)
        except Reject as inner:
            raise (not_json if inner.reason in HOLDS_NO_JSON else inner) from None
    return _from_value(value, repairs)


def _from_value(value, repairs):
    if repairs > MAX_REPAIRS:
        raise Reject("too_many_repairs")
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], (dict, list, str)):
        return _from_value(value[0], repairs + 1)
    if isinstance(value, str):
        try:
            return _from_bytes(value.encode(), repairs + 1)
        except Reject as inner:
            if inner.reason not in HOLDS_NO_JSON:
                raise
    raise Reject("not_an_object")


def parse(text):
    """RFC 8259 and nothing beside it; numbers stay text, the last of two equal keys wins."""
    if _depth(text) > MAX_DEPTH:
        raise Reject("too_deep")
    try:
        value = json.loads(text, parse_int=Number, parse_float=Number, parse_constant=_no_constant)
    except ValueError as error:
        raise Reject("invalid_json", str(error)) from None
    _refuse_lone_surrogates(text)
    return value


def _no_constant(name):
    raise ValueError(f"{name} is not JSON")


def _depth(text):
    depth = deepest = 0
    for token in STRING_OR_BRACKET.finditer(text):
        first = token.group()[0]
        if first in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in "]}":
            depth -= 1
    return deepest


def _refuse_lone_surrogates(text):
    """`text` is valid JSON: a surrogate can only come from an escape, and a pair is two escapes side by side."""
    high_ends_at = None
    for escape in ESCAPE.finditer(text):
        unit = int(escape.group(1) or "0", 16)
        is_low = 0xDC00 <= unit <= 0xDFFF
        if is_low != (high_ends_at == escape.start()) or (high_ends_at is not None and not is_low):
            raise Reject("invalid_json", "lone surrogate")
        high_ends_at = escape.end() if 0xD800 <= unit <= 0xDBFF else None
    if high_ends_at is not None:
        raise Reject("invalid_json", "lone surrogate")


def _unbase64(text):
    text = text.strip(JSON_SPACE)
    return base64.b64decode(text) if BASE64.fullmatch(text) else None


def _gunzip(data):
    return _inflate(data, lambda: zlib.decompressobj(wbits=31), zlib.error)


def _unzstd(data):
    return _inflate(data, lambda: _ZstdFrame(), zstandard.ZstdError)


def _inflate(data, new_frame, error_type):
    """All frames or members of `data`, each of them complete."""
    out = b""
    while data:
        frame = new_frame()
        try:
            out += frame.decompress(data, MAX_INFLATED + 1 - len(out))
        except error_type as error:
            raise Reject("corrupt_compression", str(error)) from None
        if len(out) > MAX_INFLATED:
            raise Reject("inflates_too_large")
        if not frame.eof:
            raise Reject("corrupt_compression", "ends before its end")
        data = frame.unused_data
    return out


class _ZstdFrame:
    """`zstandard`'s object with the three names of `zlib`'s; it has no output limit, so input goes in by slices."""

    SLICE = 1024

    def __init__(self):
        self._frame = zstandard.ZstdDecompressor().decompressobj()

    def decompress(self, data, limit):
        out = []
        size = at = 0
        while at < len(data) and size < limit and not self._frame.eof:
            out.append(self._frame.decompress(data[at : at + self.SLICE]))
            size += len(out[-1])
            at += self.SLICE
        self.eof = self._frame.eof
        self.unused_data = (self._frame.unused_data or b"") + data[at:]
        return b"".join(out)
