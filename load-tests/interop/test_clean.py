"""The independent cleaning against its specification: each test names the decision it holds, each case is one line of it."""

import base64
import gzip
import json
import unittest
import zlib
from datetime import datetime, timezone

import zstandard

from clean import KINDS, clean
from unwrap import Reject

PIN = {
    "index": 7528, "unique_id": "fbe53c66-3442-4773-b19e-d3ec6f54dddf", "title": "No Title Data Available",
    "description": "No description available Story format", "poster_name": "User Info Error",
    "follower_count": "User Info Error", "tag_list": "N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e",
    "is_image_or_video": "multi-video(story page format)", "image_src": "Image src error.", "downloaded": 0,
    "save_location": "Local save in /data/mens-fashion", "category": "mens-fashion",
}
GEO = {"ind": 7528, "timestamp": "2020-08-28T03:52:47", "latitude": -89.9787, "longitude": -173.293, "country": "Albania"}
USER = {"ind": 7528, "first_name": "Abigail", "last_name": "Ali", "age": 20, "date_joined": "2015-10-24T11:23:51"}
RECORDS = {"pin": PIN, "geo": GEO, "user": USER}


def encode(record):
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


def micros(*parts):
    return int((datetime(*parts, tzinfo=timezone.utc) - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds()) * 1_000_000


def quoted(data):
    return json.dumps(data.decode()).encode()


class Cleaning(unittest.TestCase):
    def cell(self, kind, column, **changed):
        return clean(kind, encode({**RECORDS[kind], **changed}))[column]

    def cells(self, kind, column, field, cases):
        for value, wanted in cases:
            with self.subTest(field=field, value=value):
                self.assertEqual(self.cell(kind, column, **{field: value}), wanted)

    def raw(self, kind, column, field, cases):
        """Values that Python's own encoder would not write."""
        for value, wanted in cases:
            with self.subTest(field=field, value=value):
                record = encode({**RECORDS[kind], field: "HERE"}).replace(b'"HERE"', value.encode())
                self.assertEqual(clean(kind, record)[column], wanted)

    def reason(self, kind, payload, wanted):
        with self.subTest(payload=payload[:80]), self.assertRaises(Reject) as raised:
            clean(kind, payload)
        self.assertEqual(raised.exception.reason, wanted, payload[:80])

    def test_the_first_triplet_ever_sent(self):
        self.assertEqual(list(clean("pin", encode(PIN)).values()), [
            7528, "fbe53c66-3442-4773-b19e-d3ec6f54dddf", None, None, None, None, None,
            "multi-video(story page format)", None, "/data/mens-fashion", "mens-fashion"])
        self.assertEqual(clean("geo", encode(GEO)), {
            "ind": 7528, "country": "Albania", "coordinates": [-89.9787, -173.293], "timestamp": micros(2020, 8, 28, 3, 52, 47)})
        self.assertEqual(clean("user", encode(USER)), {
            "ind": 7528, "user_name": "Abigail Ali", "age": 20, "date_joined": micros(2015, 10, 24, 11, 23, 51)})

    def test_decisions_1_to_4_text_and_sentinels(self):
        self.cells("pin", "title", "title", [
            ("Untitled", "Untitled"), (".", "."), ("0", "0"), ("", None), (" \u00a0\n", None), (None, None),
            (" No Title Data Available\u00a0", None), ("No Title Data Available!", "No Title Data Available!"),
            ("no title data available", "no title data available"), ("User Info Error", "User Info Error"),
            ("Farmhouse\nDining Room", "Farmhouse\nDining Room"), ("Mosaic Coasters\n", "Mosaic Coasters"),
            ("you…\u00a0", "you…"), ("a\u00a0b", "a\u00a0b"), ("\u3000wide\u3000", "\u3000wide\u3000"), ("\u200bx", "\u200bx"),
            (5, None), (True, None), (["x"], None), ({"x": 1}, None)])
        self.cells("pin", "description", "description", [
            ("No description available", None), ("No description available Story format", None),
            ("No description available yet", "No description available yet")])
        self.cells("pin", "image_src", "image_src", [("Image src error.", None), ("Image src error", "Image src error")])
        self.cells("pin", "is_image_or_video", "is_image_or_video", [(None, None), (" video ", "video")])

    def test_decision_6_follower_count(self):
        self.cells("pin", "follower_count", "follower_count", [
            ("437", 437), ("51k", 51_000), ("51K", 51_000), ("6M", 6_000_000), ("1.2M", 1_200_000), (" 7k\u00a0", 7_000),
            ("0", 0), ("1.9", 1), ("1.2345k", 1_234), ("0.0001k", 0), ("2.147483647B", 2**31 - 1), ("2.1474836479B", 2**31 - 1),
            ("2.147483648B", None), ("3B", None), ("5m", None), ("1b", None), ("-1", None), ("+1", None), ("1e3", None),
            ("1 k", None), ("k", None), (".5k", None), ("5.k", None), ("1,000", None), ("51kk", None), ("", None),
            ("User Info Error", None), (51_000, 51_000), (-5, -5), (2**31 - 1, 2**31 - 1), (2**31, None), (51.5, None),
            (51.0, None), (True, None), (None, None), ([1], None)])
        self.raw("pin", "follower_count", "follower_count", [("1e3", None), ("1" * 30, None), ("-0", 0)])

    def test_decision_7_coordinates(self):
        for latitude, longitude, wanted in [
            (90, 180, [90.0, 180.0]), (-90.0, -180.0, [-90.0, -180.0]), (90.0001, 0, None), (0, -180.5, None),
            (None, 1, None), (1, None, None), (" 12.5 ", "-7", [12.5, -7.0]), ("1e1", "0", [10.0, 0.0]),
            ("NaN", 0, None), ("inf", 0, None), ("0x10", 0, None), ("1_0", 0, None), ("", 0, None), (True, 0, None), ([1], 0, None)]:
            with self.subTest(latitude=latitude, longitude=longitude):
                self.assertEqual(self.cell("geo", "coordinates", latitude=latitude, longitude=longitude), wanted)
        self.raw("geo", "coordinates", "latitude", [("1e400", None), ("1E1", [10.0, -173.293]), ("-0.0", [0.0, -173.293])])
        without = {key: value for key, value in GEO.items() if key != "longitude"}
        self.assertIsNone(clean("geo", encode(without))["coordinates"])

    def test_decision_8_timestamps(self):
        base = micros(2020, 8, 28, 3, 52, 47)
        forms = ["2020-08-28T03:52:47", "2020-08-28 03:52:47", "2020:08:28 03:52:47", "08/28/2020, 03:52:47"]
        for form in forms:
            self.cells("geo", "timestamp", "timestamp", [
                (form, base), (f" {form}\n", base), (form + ".5", base + 500_000), (form + ".123456789", base + 123_456),
                (form + "Z", base), (form + "+02:00", base - 7_200_000_000), (form + "-0330", base + 12_600_000_000),
                (form + ".000001Z", base + 1), ({"$date": form}, base), ({"$date": form + "+00:00"}, base),
                (form + ".", None), (form + ".1234567890", None), (form + "+2", None), (form + "+24:00", None),
                (form + "+01:60", None), (form + " UTC", None), (form[:-2] + "60", None), (form[:-3], None)])
        self.cells("geo", "timestamp", "timestamp", [
            ({"$date": 1598586767000}, base), ({"$date": -1}, -1000), ({"$date": {"$numberLong": "1598586767000"}}, None),
            ({"$date": None}, None), ({"$date": 9 * 10**18}, None), ({}, None), (1598586767000, None), ("1598586767000", None),
            ("2020-08-28", None), ("2020-8-28T03:52:47", None), ("2020-02-30T03:52:47", None), ("2019-02-29T00:00:00", None),
            ("2020-02-29T00:00:00", micros(2020, 2, 29)), ("2020-13-01T00:00:00", None), ("28/08/2020, 03:52:47", None),
            ("2020-08-28T24:00:00", None), ("2020-08-28T23:60:00", None), ("1969-12-31T23:59:59.9999999", -1),
            ("2020:08:28T03:52:47", None), ("08/28/2020 03:52:47", None), (None, None), (True, None), ("", None)])

    def test_decision_9_ind(self):
        self.cells("pin", "ind", "index", [
            (7528, 7528), ("7528", 7528), (" 7528\u00a0", 7528), (7528.0, 7528), ("7528.0", 7528), (-1, -1), (2**31 - 1, 2**31 - 1)])
        self.raw("pin", "ind", "index", [("7.528e3", 7528), ("7528.000", 7528), ("-0", 0)])
        for value in [None, "abc", "", True, 7528.5, "7528.5", 2**31, -(2**31) - 1, "2147483648", [7528], {}, "7528x", "0x10"]:
            self.reason("pin", encode({**PIN, "index": value}), "required_column")
        self.reason("pin", encode({key: value for key, value in PIN.items() if key != "index"}), "required_column")
        self.reason("pin", encode(PIN).replace(b"7528", b"1e99999999"), "required_column")
        self.reason("pin", encode(PIN).replace(b"7528", b"1e99999999999999999999"), "required_column")

    def test_decisions_11_to_13_name_path_age(self):
        for first, last, wanted in [(" Ann ", "Lee\u00a0", "Ann Lee"), (None, "Lee", "Lee"), ("Ann", " ", "Ann"), ("", None, None), (1, "Lee", "Lee")]:
            self.assertEqual(self.cell("user", "user_name", first_name=first, last_name=last), wanted)
        self.cells("pin", "save_location", "save_location", [
            ("Local save in /data/art", "/data/art"), ("/data/art", "/data/art"), (" Local save in /data/art ", "/data/art"),
            ("Saved: Local save in /x", "Saved: Local save in /x"), ("local save in /x", "local save in /x"), (None, None)])
        self.cells("user", "age", "age", [
            (0, 0), (150, 150), (151, None), (-1, None), ("33", 33), (" 33 ", 33), (33.0, 33), (33.5, None), ("old", None), (True, None)])

    def test_decisions_14_and_15a_another_kind(self):
        for kind, record in [("user", PIN), ("user", GEO), ("geo", USER), ("geo", PIN), ("pin", GEO), ("pin", USER)]:
            self.reason(kind, encode(record), "another_kind")
        for payload in [b"{}", b'{"ind":1}', b'{"index":1}', b'{"records":[{"value":{"index":1,"title":"x"}}]}']:
            for kind in KINDS:
                self.reason(kind, payload, "another_kind")
        self.assertEqual(clean("user", b'{"ind":1,"age":null}'), {"ind": 1, "user_name": None, "age": None, "date_joined": None})

    def test_decision_15_repairs(self):
        plain = encode(USER)
        wrap = {
            "list": lambda data: b"[" + data + b"]", "string": quoted, "base64": base64.b64encode,
            "gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress,
        }
        for chain in ["list", "string", "base64", "gzip", "zstd", "list string", "string list", "base64 string", "base64 base64",
                      "gzip base64 string", "string base64 zstd", "list list list", "zstd gzip zstd", "string string string"]:
            data = plain
            for name in chain.split():
                data = wrap[name](data)
            with self.subTest(chain=chain):
                self.assertEqual(clean("user", data), clean("user", plain))
        for chain in ["list list list list", "string list base64 gzip", "gzip gzip gzip gzip", "base64 base64 base64 base64", "list string base64 string"]:
            data = plain
            for name in chain.split():
                data = wrap[name](data)
            self.reason("user", data, "too_many_repairs")
        self.assertEqual(clean("user", gzip.compress(plain[:20]) + gzip.compress(plain[20:]))["ind"], 7528)

    def test_decision_15_damage_beyond_repair(self):
        packed, squeezed = gzip.compress(encode(USER)), zstandard.ZstdCompressor(write_checksum=True).compress(encode(USER))
        for payload in [packed[:-9], packed[:3], packed[:-8] + b"\0\0\0\0" + packed[-4:], squeezed[:-6], squeezed[:5], squeezed[:-4] + b"\0\0\0\0"]:
            self.reason("user", payload, "corrupt_compression")
        bomb = zlib.compressobj(wbits=31)
        bomb = b"".join([*(bomb.compress(bytes(1 << 20)) for _ in range(65)), bomb.flush()])
        self.reason("user", bomb, "inflates_too_large")
        self.reason("user", gzip.compress(b"\xff\xfe"), "invalid_utf8")
        self.reason("user", gzip.compress(b"{"), "invalid_json")
        self.reason("user", base64.b64encode(b"{"), "invalid_json")

    def test_decision_15c_strict_json(self):
        self.reason("pin", b"", "empty")
        self.reason("pin", b" \r\n\t", "empty")
        for payload in [b'{"index":1,"title":"\xff"}', b'{"title":"\xed\xa0\x80"}', b'{"title":"\xc0\xaf"}', encode(PIN) + b"\xe2\x82"]:
            self.reason("pin", payload, "invalid_utf8")
        for bad in ["NaN", "Infinity", "-Infinity", '"\\ud800"', '"\\udc00"', '"\\ud800\\ud800"', '"\\ud800x\\udc00"', "01", "1.", ".5",
                    "+1", "0x1", "'x'", '"\\x41"', '"a\nb"', "tru", "", '"open']:
            self.reason("pin", b'{"index":1,"title":"t","unknown":' + bad.encode() + b"}", "invalid_json")
        for payload in [b"\xef\xbb\xbf" + encode(PIN), encode(PIN)[:-5], encode(PIN) + b"x", encode(PIN) * 2, b'{"index":1,}', b"hello world",
                        b"{'index':1}", b"/**/" + encode(PIN), b'{"\\ud800":1,"index":1,"title":"x"}', b'{"title":"\\ud800","title":"x","index":1}']:
            self.reason("pin", payload, "invalid_json")
        for payload in [b"null", b"true", b"12", b'"hello"', b'""', b"[]", b"[1]", b"[null]", b"[" + encode(PIN) + b"," + encode(PIN) + b"]"]:
            self.reason("pin", payload, "not_an_object")
        self.assertEqual(clean("pin", b' {"index":1,"title":"\\ud83d\\ude00\\u0000\\/"}\n')["title"], "😀\0/")
        self.assertEqual(clean("pin", b'{"index":1,"title":"x","n":1e400,"m":123456789012345678901234567890}')["ind"], 1)

    def test_decision_15c_depth(self):
        def deep(levels):
            return b'{"index":1,"title":"x","u":' + b"[" * levels + b"]" * levels + b"}"

        self.assertEqual(clean("pin", deep(127))["ind"], 1)
        self.reason("pin", deep(128), "too_deep")
        self.reason("pin", deep(100_000), "too_deep")
        self.assertEqual(clean("pin", b'{"index":1,"title":"' + b"[" * 200 + b'"}')["ind"], 1)

    def test_decisions_16_and_17_unknown_and_double_keys(self):
        self.assertEqual(clean("pin", encode({**PIN, "img_src": None, "Index": 5}))["ind"], 7528)
        self.assertEqual(clean("pin", b'{"index":1,"title":"a","title":"b","index":2}')["title"], "b")
        self.assertEqual(clean("pin", b'{"index":1,"title":"a","titl\\u0065":null,"\\u0069ndex":3}')["ind"], 3)


if __name__ == "__main__":
    unittest.main()
