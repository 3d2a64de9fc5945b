"""Whatever the seed, the contract, the records and the course of events that are drawn have all that the truth check is about."""

import tomllib
import unittest
from itertools import islice

import anything
import grouped

NUMBERS = {"integer", "long", "double"}
ANY = NUMBERS | {"string", "boolean", "timestamp", "date"}
MEASURES = {"count": {None}, "sum": NUMBERS, "mean": NUMBERS, "quantiles": NUMBERS, "min": NUMBERS | {"timestamp", "date"},
            "max": NUMBERS | {"timestamp", "date"}, "first": ANY, "last": ANY, "distinct": ANY, "top": {"string", "integer", "long"}}
SEEDS = range(300)


def windows_of(seed):
    contract = tomllib.loads(anything.contract(seed))
    return contract["window"], [grouped._window(contract, declared) for declared in contract["window"]]


class Drawn(unittest.TestCase):
    def test_every_contract_has_each_measure_of_each_type(self):
        for seed in SEEDS:
            found = {}
            for window in windows_of(seed)[1]:
                for measure in window.measures:
                    found.setdefault(measure.function, set()).add(measure.type)
            self.assertEqual(found, MEASURES, seed)

    def test_every_contract_has_an_hour_a_day_one_that_slides_and_two_that_are_sealed_while_records_come(self):
        for seed in SEEDS:
            declared, windows = windows_of(seed)
            self.assertEqual(len(windows), 12, seed)
            self.assertLessEqual({"1h", "1d"}, {each["every"] for each in declared}, seed)
            self.assertTrue(any(window.pane_us < window.every_us for window in windows), seed)
            self.assertTrue(all(window.every_us <= 7_000_000 and window.time == "at" and not window.where for window in windows[:2]), seed)
            self.assertEqual([window.revise_for_us is None for window in windows[:2]], [True, False], seed)

    def test_every_course_of_events_has_kills_a_split_and_a_merge(self):
        courses = [list(anything.events(seed)) for seed in SEEDS]
        for seed, course in zip(SEEDS, courses):
            kinds = [kind for *_, kind in course]
            self.assertTrue(kinds.count("kill") >= 2 and {"split", "merge"} <= set(kinds), seed)
        orders = {tuple(kind for *_, kind in course) for course in courses}
        self.assertGreater(len(orders), 50)
        at_once = {(before[3], after[3]) for course in courses for before, after in zip(course, course[1:]) if after[:3] == (0, 0.0, 0.0)}
        self.assertEqual(len(at_once), 9, "every kind comes right after every other")

    def test_a_seed_gives_the_same_again_and_another_gives_another(self):
        def drawn(seed):
            # What is drawn of a record, but for its times, which follow the clock.
            records = islice(anything.Records(seed), 50)
            return anything.contract(seed), list(anything.events(seed)), [(key, b'"at"' in payload) for _, key, payload in records]

        self.assertEqual(drawn(7), drawn(7))
        self.assertTrue(all(one != other for one, other in zip(drawn(7), drawn(8))))


if __name__ == "__main__":
    unittest.main()
