"""Faults planted between the page and the API: each must be found."""

import copy
import io
import json
import unittest
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import as_shown
import watch

ANSWERS = {
    "/api/summary": {"streams": [{"stream": "pin", "records": 1236, "rows": 1234, "rejects": {"empty": 2}, "shards": [
        {"shard": "0", "state": "reading", "owner": "self", "behind_ms": 0}, {"shard": "1", "state": "reading", "owner": "another", "behind_ms": 75_000},
        {"shard": "2", "state": "ended", "owner": None, "behind_ms": 9}]}]},
    f"/api/windows?starts=1&rows={watch.ROWS_ON_PAGE}": [
        {"window": "pins", "ahead": {"starts": 2, "records": 30}, "measures": ["followers_p", "n", "last"], "starts": [{"rows": [
            {"key": ["art"], "measures": [{"p50": 70.5, "p99": 1234567}, 7, "x"], "records": 7}, {"key": [None], "measures": [None, 5, "y"], "records": 5}]}]},
        {"window": "users", "ahead": {"starts": 0, "records": 0}, "measures": ["age"], "starts": [{"rows": [{"key": ["x", 2016], "measures": [[{"value": "a", "count": 9}]], "records": 3}]}]},
    ],
    "/api/sealed?rows=0": [{"window": "pins", "starts": [{"start_ms": 60000, "records": 1200, "keys": 2, "late": None, "revision": 1}, {"start_ms": 0, "records": 3, "keys": 1, "late": 4, "revision": 0}]}],
    "/api/rejects": {"streams": [{"stream": "pin", "reasons": [{"reason": "empty", "count": 2}]}, {"stream": "geo", "reasons": []}]},
}
PAGE = {
    "state": "Yes: every stream is read and committed.", "streams": {"pin": [1236, 1234, 2]},
    "windows": {"pins": {"art": {"followers p": "p50 70.5 · p99 1.23M", "n": "7", "last": "x"}, "(none)": {"followers p": "–", "n": "5", "last": "y"}},
                "users": {"x · 2016": {"records": "3", "age": "a 9"}}},
    "rejects": {"pin": {"empty": 2}}, "ahead": {"pins": [2, 30], "users": [0, 0]}, "sealed": {"pins": {"60000": ["1,200", "2", "–", "1"], "0": ["3", "1", "4", "0"]}},
    "shards": {"pin / 0": ["reading", "this process", "caught up"], "pin / 1": ["reading", "another process", "75 s"], "pin / 2": ["ended", "–", "–"]},
}
FOUND = {
    "errors": [], "reach": [],
    "sizes": [{"width": 320, "content": [320, 5000], "picture": [320, 5000], "theme": theme, "paper": paper} for theme, paper in (("light", "white"), ("dark", "black"))],
}


class Watching(unittest.TestCase):
    def test_what_is_the_same_is_the_same(self):
        self.assertEqual(watch.compare(PAGE, ANSWERS.get), (3 + 8 + 4 + 1 + 8 + 9, 0, []))
        self.assertEqual(watch.looks(FOUND)[2], [])

    def test_one_wrong_number_is_found(self):
        pins = PAGE["windows"]["pins"]
        for part, of, value in [("streams", "pin", [1236, 1234, 3]), ("windows", "pins", {"art": pins["art"]}), ("windows", "pins", {**pins, "art": {**pins["art"], "followers p": "p50 70.4 · p99 1.23M"}}),
                                ("windows", "pins", {**pins, "art": {**pins["art"], "last": "y"}}), ("windows", "users", {"x · 2016": {"age": "a 9"}}),
                                ("rejects", "pin", {"empty": 3}), ("sealed", "pins", {"60000": ["1,200", "2", "–", "0"]}), ("sealed", "pins", {"0": ["3", "1", "–", "0"]}),
                                ("sealed", "pins", {"1": ["1,200", "2", "–", "1"]}), ("sealed", "pins", {}), ("ahead", "pins", [2, 31]),
                                ("shards", "pin / 0", ["waiting", "this process", "caught up"]), ("shards", "pin / 0", ["reading", "another process", "caught up"]),
                                ("shards", "pin / 1", ["reading", "another process", "74 s"])]:
            page = copy.deepcopy(PAGE)
            page[part][of] = value
            self.assertEqual(len(watch.compare(page, ANSWERS.get)[2]), 1, (part, value))
        for part, value in [("shards", {}), ("state", "No: 1 of 3 streams is not working.")]:
            self.assertEqual(len(watch.compare({**PAGE, part: value}, ANSWERS.get)[2]), 1, part)

    def test_a_number_is_written_as_a_reader_expects_it(self):
        for value, text in [(0, "0"), (123456, "123,456"), (999999, "999,999"), (1_000_000, "1M"), (1_234_567, "1.23M"), (999_900_000, "1B"), (123456.789, "123,460"),
                            (12.34567, "12.346"), (0.5, "0.5"), (1.5e-5, "0.000015"), (-3, "-3"), (100.0, "100"), (True, "true")]:
            self.assertEqual(as_shown.measure(value), text)
        for ms, text in [(None, "–"), (0, "caught up"), (6000, "6.0 s"), (75_000, "75 s"), (400_000, "6 min 40 s"), (7_260_000, "2 h 1 min"), (176_400_000, "2 d 1 h")]:
            self.assertEqual(as_shown.lag(ms), text)

    def test_a_tab_that_does_not_move_or_is_loaded_again_is_found(self):
        def problems(accepted, *opened):
            shown = io.StringIO("".join(json.dumps({**PAGE, "opened": at}) + "\n" for at in opened))
            tab = watch.Tab("", Path(), SimpleNamespace(stdin=io.StringIO(), stdout=shown))
            with mock.patch.object(watch, "WITHIN", 0), mock.patch.object(tab, "_api", ANSWERS.get):
                return [problem for _ in opened for problem in tab.agrees("page", {"pin": accepted}).problems]
        self.assertEqual(problems(1236, 7, 7), [])
        self.assertEqual(problems(1237, 7), ["pin: 1237 were accepted, the page shows [1236, 1234, 2]"])
        self.assertEqual(problems(1236, 7, 8), ["the page was loaded again"])

    def test_a_page_that_is_empty_does_not_agree(self):
        empty = {"/api/summary": {"streams": []}, "/api/rejects": {"streams": []}}
        page = {"state": "Yes", "streams": {}, "windows": {}, "sealed": {}, "ahead": {}, "rejects": {}, "shards": {}}
        self.assertTrue(watch.compare(page, lambda path: empty.get(path, []))[2])

    def test_a_page_that_does_not_fit_or_complains_is_found(self):
        for change in [lambda found: found["sizes"][0].update(content=[400, 5000], picture=[400, 5000]), lambda found: found["sizes"][1].update(paper="white"),
                       lambda found: found["sizes"][0].update(picture=[320, 900]), lambda found: found["errors"].append("no"), lambda found: found["reach"].append("no")]:
            found = copy.deepcopy(FOUND)
            change(found)
            self.assertEqual(len(watch.looks(found)[2]), 1)


if __name__ == "__main__":
    unittest.main()
