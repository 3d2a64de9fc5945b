"""Faults planted between the page and the API: each must be found."""

import copy
import unittest

import watch

ANSWERS = {
    "/api/summary": {"streams": [{"stream": "pin", "records": 1236, "rows": 1234, "rejects": {"empty": 2}, "shards": [{}, {}]}]},
    f"/api/windows?starts=1&rows={watch.ROWS_ON_PAGE}": [
        {"window": "pins", "ahead": {"starts": 2, "records": 30}, "measures": ["followers", "n"], "starts": [{"rows": [{"key": ["art"], "measures": [70, 7], "records": 7}, {"key": [None], "measures": [50, 5], "records": 5}]}]},
        {"window": "users", "ahead": {"starts": 0, "records": 0}, "measures": ["age"], "starts": [{"rows": [{"key": ["x", 2016], "measures": [9], "records": 3}]}]},
    ],
    "/api/sealed?rows=0": [{"window": "pins", "starts": [{"start_ms": 60000, "records": 12, "keys": 2, "revision": 1}, {"start_ms": 0, "records": 3, "keys": 1, "revision": 0}]}],
    "/api/rejects": {"streams": [{"stream": "pin", "reasons": [{"reason": "empty", "count": 2}]}, {"stream": "geo", "reasons": []}]},
}
PAGE = {
    "state": "Yes: every stream is read and committed.", "streams": {"pin": [1236, 1234, 2]},
    "windows": {"pins": {"art": 70, "(none)": 50}, "users": {"x · 2016": 3}}, "rejects": {"pin": {"empty": 2}}, "shards": 2,
    "sealed": {"pins": {"60000": [12, 2, 1]}}, "ahead": {"pins": [2, 30], "users": [0, 0]},
}
FOUND = {
    "errors": [], "values": {"unnamed": 0},
    "sizes": [{"width": 320, "content": 320, "theme": "light", "paper": "white"}, {"width": 320, "content": 320, "theme": "dark", "paper": "black"}],
}


class Watching(unittest.TestCase):
    def test_what_is_the_same_is_the_same(self):
        self.assertEqual(watch.compare(PAGE, ANSWERS.get), (3 + 3 + 4 + 1 + 3 + 1, 0, []))
        self.assertEqual(watch.looks(FOUND)[2], [])

    def test_one_wrong_number_is_found(self):
        for part, of, value in [("streams", "pin", [1236, 1234, 3]), ("windows", "pins", {"art": 70}), ("windows", "pins", {"art": 71, "(none)": 50}),
                                ("rejects", "pin", {"empty": 3}), ("sealed", "pins", {"60000": [12, 2, 0]}), ("sealed", "pins", {"1": [12, 2, 1]}),
                                ("sealed", "pins", {}), ("ahead", "pins", [2, 31])]:
            page = copy.deepcopy(PAGE)
            page[part][of] = value
            self.assertEqual(len(watch.compare(page, ANSWERS.get)[2]), 1, (part, value))
        for part, value in [("shards", 1), ("state", "No: 1 of 3 streams is not working.")]:
            self.assertEqual(len(watch.compare({**PAGE, part: value}, ANSWERS.get)[2]), 1, part)

    def test_a_page_that_is_empty_does_not_agree(self):
        empty = {"/api/summary": {"streams": []}, "/api/rejects": {"streams": []}}
        page = {"state": "Yes", "streams": {}, "windows": {}, "sealed": {}, "ahead": {}, "rejects": {}, "shards": 0}
        self.assertTrue(watch.compare(page, lambda path: empty.get(path, []))[2])

    def test_a_page_that_does_not_fit_or_complains_is_found(self):
        for change in [lambda found: found["sizes"][0].update(content=400), lambda found: found["sizes"][1].update(paper="white"),
                       lambda found: found["errors"].append("no"), lambda found: found["values"].update(unnamed=1)]:
            found = copy.deepcopy(FOUND)
            change(found)
            self.assertEqual(len(watch.looks(found)[2]), 1)
