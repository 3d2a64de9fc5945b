"""What transport and hand-made tests do to a record: wrappings that are to be repaired, and garbage that is not.

Promise: every reason of the rejects table occurs, most of them in several shapes, and no shape here depends on a
question that the records' specification leaves open. (Compression bombs inflate to a size beyond any sane limit.)
"""

import base64
import gzip
import json
import zlib
from functools import cache
from itertools import product

import zstandard

TEXTUAL = {
    "list": lambda data: b"[" + data + b"]",
    "string": lambda data: json.dumps(data.decode(), ensure_ascii=len(data) % 2 == 0).encode(),
}
BINARY = {
    "base64": base64.b64encode,
    "gzip": lambda data: gzip.compress(data, 1, mtime=0),
    "zstd": lambda data: zstandard.ZstdCompressor(write_checksum=len(data) % 2 == 0).compress(data),
}
WRAPPINGS = TEXTUAL | BINARY


def _makes_sense(chain):
    """A list holds JSON, a string holds text, compressed bytes are neither; four deep only now and then."""
    for inner, outer in zip(chain, chain[1:]):
        if outer == "list" and inner not in TEXTUAL or outer == "string" and inner in ("gzip", "zstd"):
            return False
    return True


CHAINS = [chain for depth in (1, 2, 3) for chain in product(WRAPPINGS, repeat=depth) if _makes_sense(chain)]
CHAINS += [(name,) for name in WRAPPINGS] * 20
CHAINS += [chain for chain in product(WRAPPINGS, repeat=4) if _makes_sense(chain)][::17]


def wrap(chain, payload):
    """`payload` inside the wrappings of `chain`, the first of them innermost."""
    for name in chain:
        payload = WRAPPINGS[name](payload)
    return payload


CONSTANTS = [
    b"", b" ", b"\n\r\n\t ", b"hello world, is this thing on?", b"null", b"true", b"12", b"-1.5e3", b'"hello"', b'""', b"[]", b"[1]", b"[null]",
    b"{}", b'{"ind":1}', b'{"index":1}', b'{"test":"payload"}', b"\xff\xfe\xfd", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"{", b"NaN", b"nil",
    b"ind=1&country=Albania", b"<record ind='1'/>", b"1,Albania,2020", b"\x00", b"[[], {}]",
]
OTHER_KINDS = {
    "pin": b'{"index":4,"unique_id":"x","title":"t","description":"d","poster_name":"p","follower_count":"1k","category":"art"}',
    "geo": b'{"ind":4,"timestamp":"2020-08-28T03:52:47","latitude":1.5,"longitude":2.5,"country":"Albania"}',
    "user": b'{"ind":4,"first_name":"A","last_name":"B","age":20,"date_joined":"2015-10-24T11:23:51"}',
}
# The value of one more field; some are RFC 8259 after all, and then the record is a row.
ODD_VALUES = [
    b"NaN", b"Infinity", b"-Infinity", b'"\\ud800"', b'"\\udc00 alone"', b'"\\ud83dx\\ude00"', b'"\\ud83d\\ud83d"', b"01", b"1.", b".5", b"+1",
    b"0x1f", b"'x'", b'"\\x41"', b'"raw\nnewline"', b'"raw\x00nul"', b"True", b"undefined", b"", b'"never closed', b"[1,]", b"[1 2]", b'{"a"}',
    b'{"a":1,}', b'"\xff"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\xf5\x80\x80\x80"', b'"cut \xf0\x9f\x98"', b"1e400", b"1E+400", b"-0",
    b"123456789012345678901234567890", b'"\\ud83d\\ude00"', b'"\\u0000\\/\\b\\f"', b'{"a":1,"a":2}', b'"\\\\ud800"', b"-", b"1e", b"tru",
]

def _with(good, value):
    return good[:-1] + b',"unknown":' + value + b"}"


def _flipped(data, at):
    """One byte of the checksum changed: all of the data is there, and wrong."""
    data = bytearray(data)
    data[at] ^= 0x55
    return bytes(data)


@cache
def _gzip_bomb():
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(512)), packer.flush()])


@cache
def _zstd_bomb():
    packer = zstandard.ZstdCompressor().compressobj()
    return b"".join([*(packer.compress(b" " * (1 << 20)) for _ in range(1024)), packer.flush()])


SPOILERS = [
    lambda good: b"\xef\xbb\xbf" + good,
    lambda good: good + b"x",
    lambda good: good + good,
    lambda good: b"[" + good + b"," + good + b"]",
    lambda good: good[:-1] + b",}",
    lambda good: good[:-1],
    lambda good: good.replace(b'"', b"'"),
    lambda good: b"// a comment\n" + good,
    lambda good: good + b"\xe2\x82",
    lambda good: good.decode().encode("utf-16-be"),
    lambda good: gzip.compress(good, mtime=0)[:-5],
    lambda good: _flipped(gzip.compress(good, mtime=0), -6),
    lambda good: gzip.compress(good[:-1], mtime=0),
    lambda good: gzip.compress(b"\xff" + good, mtime=0),
    lambda good: base64.b64encode(gzip.compress(good, mtime=0)[:-5]),
    lambda good: base64.b64encode(good[:-1]),
    lambda good: zstandard.ZstdCompressor().compress(good)[:-4],
    lambda good: _flipped(zstandard.ZstdCompressor(write_checksum=True).compress(good), -2),
    lambda good: b'{"records":[{"value":' + good + b"}]}",
    lambda good: b'{"StreamName":"s","Data":' + good + b',"PartitionKey":"p"}',
    lambda _good: _gzip_bomb(),
    lambda _good: _zstd_bomb(),
]
# Makers `(random, kind, good payload) -> payload` of everything that is no record of its kind, or nearly none.
GARBAGE = [
    *(lambda _random, _kind, _good, constant=constant: constant for constant in CONSTANTS),
    *(lambda _random, _kind, good, value=value: _with(good, value) for value in ODD_VALUES),
    *(lambda _random, _kind, good, levels=levels: _with(good, b"[" * levels + b"]" * levels) for levels in (100, 127, 130, 1000, 20000)),
    lambda random, kind, _good: random.choice([other for name, other in OTHER_KINDS.items() if name != kind]),
    lambda random, _kind, good: good[: random.randrange(1, len(good) - 1)].decode(errors="ignore").encode(),
    *(lambda _random, _kind, good, spoil=spoil: spoil(good) for spoil in SPOILERS),
]
