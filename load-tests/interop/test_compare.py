"""The judge is judged first: tables written from the independent cleaning agree, and each planted fault is found.

Why: a comparison that finds nothing proves nothing until it has been seen to find something.
"""

import shutil
import tempfile
import unittest
from datetime import date, timedelta
from itertools import islice
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

import estimates
import windows
from compare import EPOCH, Truth, compare, load_records, save_records
from generate import Generator
from kinesis import Record
from readers import READERS, Lake

CONTRACT = """
table = "pin"
event_time = "arrival"
[[window]]
name = "pins_by_category"
every = "1m"
by = ["category"]
measure = { pins = "count", followers = "sum(follower_count)", most = "max(follower_count)", typical = "mean(follower_count)", posters = "distinct(poster_name)", spread = "quantiles(follower_count)", images = "top(is_image_or_video, 2)", latest = "last(title)", earliest = "first(ind)" }
"""
USER_CONTRACT = """
table = "user"
[[window]]
name = "users_by_age_group"
every = "1m"
by = [{ name = "age_group", bucket = "age", bounds = [18, 25, 36, 51], labels = ["18-24", "25-35", "36-50", "+50"] }]
measure = { users = "count", youngest = "min(age)", first = "min(date_joined)" }
[[window]]
name = "users_by_year_joined"
every = "1m"
by = [{ name = "year", year = "date_joined" }]
measure = { users = "count" }
"""
ARROW = {
    "integer": pa.int32(), "long": pa.int64(), "string": pa.string(), "binary": pa.binary(), "double": pa.float64(), "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"), "array<double>": pa.list_(pa.float64()), "decimal": pa.decimal128(38, 0),
}


def some_records(count):
    postings = islice(Generator(11, garbage=0.05, twisted=0.1), count)
    start = 1_795_363_100_000
    return [Record(kind, f"shardId-{number % 3:012d}", str(49 * 10**54 + number), start + 173 * number, payload)
            for number, (kind, _, payload) in enumerate(postings)]


def write_tables(truth, lake):
    """What a right pipeline would have written, in two commits a table."""
    for name, columns in truth.columns().items():
        window = next((each for each in truth.windows if f"{each.name}_partials" == name), None)
        rows = list(partials(truth, window) if window else truth.tables[name].values())
        for half in (rows[::2], rows[1::2]):
            data = {column: pa.array([row.get(column) for row in half], ARROW[type_]) for column, type_ in columns.items()}
            write_deltalake(lake.table(name), pa.table(data), mode="append", partition_by=["_date"], storage_options=lake.options)


def partials(truth, window):
    """One partial for every few rows of a group."""
    rows = list(truth.tables[window.kind].values())
    for chunk in (rows[at : at + 50] for at in range(0, len(rows), 50)):
        shards = sorted({row["_shard_id"] for row in chunk})
        expected = [(shard, cell) for shard in shards
                    for cell in windows.expected(window, [row for row in chunk if row["_shard_id"] == shard]).items()]
        for shard, ((start, keys), measures) in expected:
            made = [cell for each in window.measures if each.sketch() for cell in sketched(each, measures.pop(f"{each.name}_sketch")).items()]
            means = {each.name: measures[f"{each.name}_sum"] / measures[f"{each.name}_count"] if measures[f"{each.name}_count"] else None
                     for each in window.measures if each.function == "mean"}
            yield {"window_start": start, "window_end": start + window.every, **dict(zip((key.name for key in window.keys), keys)), **measures,
                   **means, **dict(made), "definition": "one", "_shard_id": shard, "_date": (EPOCH + timedelta(microseconds=start)).date()}


def sketched(measure, values):
    """The columns of a sketch over these values."""
    kind = measure.sketch()
    values = [value for value in values if value != ""]
    cells = {**kind.readable(kind.sketch(values)), "_sketch": kind.sketch(values)} if values else kind.nothing()
    return {f"{measure.name}{suffix}": value for suffix, value in cells.items()}


class Estimates(unittest.TestCase):
    def test_a_distinct_count_is_the_same_however_its_values_were_split(self):
        # Near 384 values a list becomes registers, now in one of the parts, now between them.
        for count in range(376, 420):
            values, posters = [f"poster {n}" for n in range(count)], estimates.Distinct("posters")
            for parts in ([values[:200], values[200:]], [values[::3], values[1::3], values[2::3]], [values[:390], values[:5]]):
                if len(set().union(*parts)) == count:
                    merged = posters.merge([posters.sketch(part) for part in parts])
                    self.assertEqual(list(posters.problems(merged, values)), [], (count, len(parts)))


class Comparison(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp())
        (cls.folder / "pin.toml").write_text(CONTRACT)
        (cls.folder / "user.toml").write_text(USER_CONTRACT)
        cls.records = some_records(1200)
        cls.truth = Truth(cls.records, cls.folder)
        cls.right = cls.folder / "right"
        write_tables(cls.truth, Lake(str(cls.right)))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def problems(self, lake, names=("deltalake", "duckdb")):
        findings = compare(self.truth, Lake(str(lake)), self.folder / "read", names)
        return [f"{finding.table} ({finding.reader}): {problem}" for finding in findings for problem in finding.problems]

    def planted(self, changes):
        """Problems after all of `changes`, each a (table, change of its rows), on a copy of the lake."""
        lake = self.folder / "planted"
        shutil.rmtree(lake, ignore_errors=True)
        shutil.copytree(self.right, lake)
        for table, change in changes:
            rows = change(DeltaTable(str(lake / table)).to_pyarrow_table())
            shutil.rmtree(lake / table)
            write_deltalake(str(lake / table), rows, partition_by=["_date"])
        return self.problems(lake)

    def assert_found(self, plants):
        """Each of `plants`, (table, change, words of the problem), is found by both readers."""
        found = self.planted([(table, change) for table, change, *_ in plants])
        for table, _, *words in plants:
            for reader in ("deltalake", "duckdb"):
                with self.subTest(table=table, reader=reader, words=words):
                    said = [problem for problem in found if problem.startswith(f"{table} ({reader})") and all(word in problem for word in words)]
                    self.assertTrue(said, found)

    def test_every_reader_agrees_with_right_tables(self):
        self.assertEqual(self.problems(self.right, tuple(READERS)), [])
        self.assertGreater(min(len(rows) for rows in self.truth.tables.values()), 5)

    def test_records_survive_their_file(self):
        save_records(self.records, self.folder / "records.jsonl")
        self.assertEqual(load_records(self.folder / "records.jsonl"), self.records)

    def test_a_changed_cell_is_found_in_every_kind_of_column(self):
        self.assert_found([(table, changed_cell(column, value), column) for table, column, value in [
            ("pin", "title", "changed"), ("pin", "follower_count", 1), ("pin", "category", None), ("geo", "coordinates", [1.0, 2.0]),
            ("geo", "_sub_sequence_number", 1), ("user", "_date", date(2000, 1, 1)), ("user", "date_joined", 0), ("user", "_arrived_at", 0),
            ("pin_rejects", "reason", "empty"), ("pin_rejects", "payload", b"touched"), ("pins_by_category_partials", "followers", 1),
            ("pins_by_category_partials", "typical", 0.5), ("pins_by_category_partials", "typical_count", 99),
            ("pins_by_category_partials", "latest_at", 4 * 10**15), ("pins_by_category_partials", "earliest_sequence_number", "1"),
            ("pins_by_category_partials", "spread_p50", 0.5), ("pins_by_category_partials", "posters", 99),
            ("pins_by_category_partials", "images", "[]"), ("pins_by_category_partials", "images_error", 1),
            ("pins_by_category_partials", "records", 99), ("pins_by_category_partials", "definition", "another"),
            ("users_by_age_group_partials", "youngest", 1), ("users_by_age_group_partials", "window_end", 0),
            ("users_by_year_joined_partials", "users", 99)]])

    def test_sketches_of_other_values_and_bytes_that_are_none_are_found(self):
        other = {"posters": estimates.Distinct("posters").sketch(["x", "y"]), "spread": estimates.Quantiles("spread").sketch([7.5]),
                 "images": estimates.Top("images", 2).sketch(["x"])}
        for bytes_ in (other, dict.fromkeys(other, b"none")):
            # One lake each: the first cell of a column is the first of all of them.
            for name, sketch in bytes_.items():
                self.assert_found([("pins_by_category_partials", changed_cell(f"{name}_sketch", sketch), f"{name}_sketch:")])

    def test_lost_rows_are_found(self):
        lost = lambda rows: rows.slice(1)  # noqa: E731
        self.assert_found([("geo", lost, "not in the table"), ("geo_rejects", lost, "not in the table"),
                           ("users_by_year_joined_partials", lost, "records")])

    def test_rows_twice_and_rows_of_nowhere_are_found(self):
        twice = lambda rows: pa.concat_tables([rows, rows.slice(0, 1)])  # noqa: E731
        self.assert_found([("user", twice, "twice in the table"), ("user_rejects", twice, "twice in the table"),
                           ("pins_by_category_partials", twice, "records"),
                           ("pin", changed_cell("_sequence_number", "5"), "should not be")])

    def test_wrong_types_wrong_order_and_no_table_are_found(self):
        wider = lambda rows: rows.set_column(0, "ind", rows["ind"].cast(pa.int64()))  # noqa: E731
        turned = lambda rows: rows.select(rows.column_names[::-1])  # noqa: E731
        found = self.planted([("pin", wider), ("user", turned)])
        for table in ("pin", "user"):
            self.assertTrue(any(problem.startswith(f"{table} (schema)") for problem in found), found)
        shutil.rmtree(self.folder / "planted" / "geo_rejects")
        self.assertIn("geo_rejects (schema): there is no such table", self.problems(self.folder / "planted"))


def changed_cell(column, value):
    """The first cell of a column that is neither null nor `value` becomes `value`."""
    def change(rows):
        values = rows[column].to_pylist()
        values[next(at for at, each in enumerate(values) if each not in (None, value))] = value
        field = rows.schema.field(column)
        return rows.set_column(rows.schema.get_field_index(column), field, pa.array(values, field.type))

    return change


if __name__ == "__main__":
    unittest.main()
