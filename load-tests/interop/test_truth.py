"""The truth check finds what is planted: partials that miss a record, count one twice, or say another number."""

import tempfile
import unittest
from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa
import truth
from datasketches import hll_sketch
from deltalake import write_deltalake
from readers import Lake

CONTRACT = """
table = "things"
event_time = "at"
column = [{ name = "at", type = "timestamp" }, { name = "n", type = "integer" }, { name = "x", type = "double" }, { name = "s", type = "string" }]
[[window]]
name = "all_things"
every = "1m"
by = ["s"]
where = "n > 0"
measure = { things = "count", total = "sum(n)", sum_x = "sum(x)", mean_n = "mean(n)", largest = "max(at)", latest = "last(n)", different = "distinct(n)" }
"""
MINUTE, US = 60_000_000, pa.timestamp("us", tz="UTC")


def at(micros):
    return datetime.fromtimestamp(micros / 1e6, timezone.utc)


def row(micros, n, x, s, number):
    return {"at": None if micros is None else at(micros), "n": n, "x": x, "s": s, "_shard_id": "shard", "_sequence_number": str(number),
            "_sub_sequence_number": 0, "_arrived_at": at(5 * MINUTE)}


ROWS = [row(1, 3, 0.1, "a", 9), row(2, 4, 0.2, "a", 10), row(2, 5, 1e300, "a", 11), row(MINUTE, 1, None, None, 12), row(None, 2, -1.5, "a", 13),
        row(3, 0, 1.0, "a", 14), row(3, None, 1.0, "a", 15)]


def partial(start, s, things, total, sum_x, largest, latest, numbers):
    sketch = hll_sketch(12)
    for number in numbers:
        sketch.update(number)
    return {"window_start": at(start), "window_end": at(start + MINUTE), "s": s, "things": things, "total": total, "sum_x": sum_x, "sum_x_lo": 0.0,
            "mean_n": total / things, "mean_n_sum": total, "mean_n_count": things, "largest": at(largest), "latest": latest[1],
            "latest_at": at(latest[0]), "latest_shard_id": "shard", "latest_sequence_number": str(latest[2]), "latest_sub_sequence_number": 0,
            "different": len(numbers), "different_sketch": sketch.serialize_compact(), "records": things, "definition": "d"}


PARTIALS = [partial(0, "a", 1, 3, 0.1, 1, (1, 3, 9), [3]), partial(0, "a", 2, 9, 1e300, 2, (2, 5, 11), [4, 5]),
            partial(MINUTE, None, 1, 1, None, MINUTE, (MINUTE, 1, 12), [1]), partial(5 * MINUTE, "a", 1, 2, -1.5, 0, (5 * MINUTE, 2, 13), [2])]
PARTIALS[3]["largest"] = None


class TruthCheck(unittest.TestCase):
    def problems(self, partials):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "things.toml").write_text(CONTRACT)
            columns = [("at", US), ("n", pa.int32()), ("x", pa.float64()), ("s", pa.string()), ("_shard_id", pa.string()),
                       ("_sequence_number", pa.string()), ("_sub_sequence_number", pa.int64()), ("_arrived_at", US)]
            write_deltalake(f"{folder}/things", pa.Table.from_pylist(ROWS, pa.schema(columns)))
            write_deltalake(f"{folder}/all_things_partials", pa.Table.from_pylist(partials))
            findings = truth.check(Lake(folder), folder)
            self.assertEqual([finding["engine"] for finding in findings], ["duckdb", "polars"])
            counts = {finding["differences"] for finding in findings}
            return counts.pop() if len(counts) == 1 else counts, findings[0]["problems"]

    def test_partials_that_add_up_agree(self):
        self.assertEqual(self.problems(PARTIALS), (0, []))

    def test_a_partial_that_is_missing_or_there_twice_is_found(self):
        self.assertNotEqual(self.problems(PARTIALS[1:])[0], 0)
        self.assertNotEqual(self.problems(PARTIALS[:2])[0], 0)
        self.assertNotEqual(self.problems([*PARTIALS, PARTIALS[0]])[0], 0)

    def test_each_number_that_differs_is_named(self):
        changes = {"total": 10, "sum_x": 1.0000001e300, "mean_n_sum": 8, "mean_n_count": 1, "largest": at(3), "latest": 4, "latest_at": at(0)}
        for column, value in changes.items():
            differences, problems = self.problems([PARTIALS[0], PARTIALS[1] | {column: value}, *PARTIALS[2:]])
            self.assertEqual((differences, len(problems)), (1, 1), column)
            self.assertIn(column.removesuffix("_sum").removesuffix("_count").removesuffix("_at"), problems[0])

    def test_a_sketch_of_other_values_is_found(self):
        other = partial(0, "a", 2, 9, 1e300, 2, (2, 5, 11), range(100))["different_sketch"]
        differences, problems = self.problems([PARTIALS[0], PARTIALS[1] | {"different_sketch": other}, *PARTIALS[2:]])
        self.assertEqual(differences, 1, problems)

    def test_two_definitions_in_one_table_and_a_window_of_another_size_are_found(self):
        self.assertIn("definition", self.problems([PARTIALS[0] | {"definition": "e"}, *PARTIALS[1:]])[1][0])
        self.assertIn("ends at", self.problems([PARTIALS[0] | {"window_end": at(2 * MINUTE)}, *PARTIALS[1:]])[1][0])


if __name__ == "__main__":
    unittest.main()
