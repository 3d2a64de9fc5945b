"""The truth check finds what is planted: partials and sealed rows that miss a record, count one twice, or say another number;
sealed rows that are missing, there twice or of a wrong revision; windows that were sealed too early.
"""

import math
import shutil
import tempfile
import unittest
from datetime import date, datetime, timezone
from pathlib import Path

import pyarrow as pa
import truth
from datasketches import hll_sketch
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
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

LATE_ROWS = [row(4, 6, 1.0, "a", 16), row(5, 7, None, "b", 17)]
LATE_PARTIALS = [partial(0, "a", 1, 6, 1.0, 4, (4, 6, 16), [6]), partial(0, "b", 1, 7, None, 5, (5, 7, 17), [7])]
COLUMNS = pa.schema([("at", US), ("n", pa.int32()), ("x", pa.float64()), ("s", pa.string()), ("_shard_id", pa.string()),
                     ("_sequence_number", pa.string()), ("_sub_sequence_number", pa.int64()), ("_arrived_at", US)])
OURS = "p/things@1"


def sealed(part, revision=0, complete=True):
    return part | {"revision": revision, "complete": complete, "_date": part["window_start"].date()}


SEALED = [sealed(partial(0, "a", 3, 12, 1e300, 2, (2, 5, 11), [3, 4, 5])), sealed(PARTIALS[2])]
REVISED = [sealed(partial(0, "a", 4, 18, 1e300, 4, (4, 6, 16), [3, 4, 5, 6]), 1), sealed(LATE_PARTIALS[1], 1)]
ONCE, REVISE = "", 'seal = "revise"\n'


def append(path, rows, schema=None, info=None, **txns):
    """One commit that leaves these transactions, whose names are those of the stream's with `__` for `/`."""
    transactions = [Transaction(f"{OURS}/{name.replace('__', '/')}", value) for name, value in txns.items()]
    said = CommitProperties(custom_metadata={name: str(value) for name, value in (info or {}).items()}, app_transactions=transactions)
    write_deltalake(path, pa.Table.from_pylist(rows, schema), mode="append", commit_properties=said)


class TruthCheck(unittest.TestCase):
    def problems(self, partials, rows=ROWS):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "things.toml").write_text(CONTRACT)
            write_deltalake(f"{folder}/things", pa.Table.from_pylist(rows, COLUMNS))
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
        changes = [{"total": 10}, {"sum_x": 1.0000001e300}, {"mean_n": 4.0, "mean_n_sum": 8}, {"mean_n": 9.0, "mean_n_count": 1}, {"mean_n": 4.6},
                   {"mean_n": None}, {"mean_n": math.inf}, {"largest": at(3)}, {"latest": 4}, {"latest_at": at(0)}, {"different": 3}]
        for changed in changes:
            differences, problems = self.problems([PARTIALS[0], PARTIALS[1] | changed, *PARTIALS[2:]])
            self.assertEqual((differences, len(problems)), (1, 1), changed)
            self.assertIn(next(iter(changed)).removesuffix("_at"), problems[0])

    def test_a_sum_may_leave_the_range_of_doubles_only_if_its_values_do(self):
        beyond = [row(0, 1, x, "a", number) for number, x in ((20, 1e308), (21, 1e308), (22, -1.5e308))]
        of_beyond = partial(0, "a", 3, 3, math.inf, 0, (0, 1, 22), [1])
        self.assertEqual(self.problems([*PARTIALS, of_beyond], [*ROWS, *beyond]), (0, []))
        for value in (math.inf, math.nan):
            differences, problems = self.problems([PARTIALS[0] | {"sum_x": value}, *PARTIALS[1:]])
            self.assertEqual((differences, len(problems)), (1, 1), value)

    def test_a_sketch_of_other_values_is_found(self):
        other = partial(0, "a", 2, 9, 1e300, 2, (2, 5, 11), range(100))
        changed = {name: other[name] for name in ("different", "different_sketch")}
        differences, problems = self.problems([PARTIALS[0], PARTIALS[1] | changed, *PARTIALS[2:]])
        self.assertEqual(differences, 1, problems)

    def test_two_definitions_in_one_table_and_a_window_of_another_size_are_found(self):
        self.assertIn("definition", self.problems([PARTIALS[0] | {"definition": "e"}, *PARTIALS[1:]])[1][0])
        self.assertIn("ends at", self.problems([PARTIALS[0] | {"window_end": at(2 * MINUTE)}, *PARTIALS[1:]])[1][0])


class SealedRows(unittest.TestCase):
    """Two commits of the rows; what is in the second came after windows were sealed through the second minute."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def write(self, policy, rows, corrections=(), through=2 * MINUTE, watermark_s=125, ledger_s=125, revision=1):
        (Path(self.folder) / "things.toml").write_text(CONTRACT + policy)
        marks = {"shard__start": 0, "shard__watermark": ledger_s * 1000, "ended__start": 0, "ended__watermark": 1, "ended__end": 1}
        append(f"{self.folder}/things", ROWS, COLUMNS, **marks)
        append(f"{self.folder}/things", LATE_ROWS, COLUMNS)
        append(f"{self.folder}/all_things_partials", PARTIALS, applied=0, watermark=watermark_s * 1000, since=0)
        append(f"{self.folder}/all_things_partials", LATE_PARTIALS, applied=1)
        append(f"{self.folder}/all_things", rows, seal__all_things=through // 1000, sealed_from__all_things=0)
        if corrections:
            append(f"{self.folder}/all_things", corrections, info={"partialsVersion": 1}, revisions__all_things=revision)

    def judged(self):
        """(figures, problems), which both engines find."""
        findings = {finding["engine"]: finding for finding in truth.check(Lake(self.folder), self.folder) if finding["table"] == "all_things"}
        self.assertEqual(list(findings), ["duckdb", "polars"])
        self.assertEqual(findings["duckdb"]["problems"], findings["polars"]["problems"])
        return findings["duckdb"], "\n".join(findings["duckdb"]["problems"])

    def problems(self, *what, **how):
        shutil.rmtree(self.folder)
        Path(self.folder).mkdir()
        self.write(*what, **how)
        return self.judged()[1]

    def test_sealed_once_rows_lack_exactly_what_came_late(self):
        self.write(ONCE, SEALED)
        figures, problems = self.judged()
        self.assertEqual(problems, "")
        self.assertEqual({name: figures[name] for name in ("sealed_windows", "sealed_rows", "corrections", "late", "late_records", "not_yet_sealed")},
                         {"sealed_windows": 2, "sealed_rows": 2, "corrections": 0, "late": 2, "late_records": 2, "not_yet_sealed": 0})
        late_too = sealed(REVISED[0], 0)
        self.assertIn("records 4, not 3", self.problems(ONCE, [late_too, SEALED[1]]))
        self.assertIn("1 records in the sealed rows, none in the rows", self.problems(ONCE, [*SEALED, sealed(LATE_PARTIALS[1])]))

    def test_revised_rows_are_what_the_rows_are_now(self):
        self.write(REVISE, SEALED, REVISED)
        figures, problems = self.judged()
        self.assertEqual((problems, figures["corrections"], figures["late"], figures["late_records"], figures["of_unknown_origin"]), ("", 2, 0, 2, 0))
        self.assertIn("none in the sealed rows", self.problems(REVISE, SEALED, REVISED[:1]))
        self.assertIn("last revision", self.problems(REVISE, SEALED))
        self.assertIn("total is 19, not 18", self.problems(REVISE, SEALED, [REVISED[0] | {"total": 19}, REVISED[1]]))

    def test_a_changed_row_a_missing_one_and_one_twice_are_found(self):
        self.assertIn("total is 13, not 12", self.problems(ONCE, [SEALED[0] | {"total": 13}, SEALED[1]]))
        self.assertIn("records 2, not 3", self.problems(ONCE, [SEALED[0] | {"records": 2}, SEALED[1]]))
        self.assertIn("none in the sealed rows", self.problems(ONCE, SEALED[:1]))
        self.assertIn("twice in revision 0", self.problems(ONCE, [*SEALED, SEALED[0]]))
        self.assertIn("twice in revision 1", self.problems(REVISE, SEALED, [*REVISED, REVISED[1]]))

    def test_wrong_revisions_are_found(self):
        self.assertIn("sealed once", self.problems(ONCE, SEALED, REVISED))
        two = [row | {"revision": 2} for row in REVISED]
        self.assertIn("revisions [2], where [1] were committed", self.problems(REVISE, SEALED, two))
        self.assertIn("revisions [2], where [1, 2] were committed", self.problems(REVISE, SEALED, two, revision=2))
        again = sealed(SEALED[1], 1)
        self.assertIn("revision 1 has 1 records, the one before had 1", self.problems(REVISE, SEALED, [*REVISED, again]))

    def test_what_each_row_says_of_itself_is_checked(self):
        for changed, said in (({"window_end": at(2 * MINUTE)}, "ends at"), ({"window_start": at(1), "window_end": at(MINUTE + 1)}, "no multiple"),
                              ({"definition": "e"}, "definition"), ({"complete": False}, "complete"), ({"mean_n": 4.5}, "mean_n is 4.5"), ({"different": 4}, "its sketch says 3"), ({"_date": date(1970, 1, 2)}, "of day 1")):
            self.assertIn(said, self.problems(ONCE, [SEALED[0] | changed, SEALED[1]]), changed)

    def test_windows_that_were_sealed_too_early_are_found(self):
        early = [*SEALED, sealed(PARTIALS[3])]
        self.assertIn("windows are sealed through", self.problems(ONCE, early))
        self.assertIn("the partials' watermark is 125000 ms", self.problems(ONCE, early, through=6 * MINUTE))
        self.assertIn("the ledger's is 125000 ms", self.problems(ONCE, early, through=6 * MINUTE, watermark_s=365))
        self.assertEqual("", self.problems(ONCE, early, through=6 * MINUTE, watermark_s=365, ledger_s=365))

    def test_closed_windows_without_rows_are_counted(self):
        self.write(ONCE, SEALED, watermark_s=365, ledger_s=365)
        self.assertEqual(self.judged()[0]["not_yet_sealed"], 1)

    def test_of_rows_whose_history_is_gone_what_lacks_nothing_must_be_right_and_nothing_may_be_too_many(self):
        for rows, said in ((SEALED, ""), ([SEALED[0], SEALED[1] | {"total": 2}], "total is 2, not 1"), ([SEALED[0] | {"records": 5}, SEALED[1]], "5 records")):
            shutil.rmtree(self.folder)
            Path(self.folder).mkdir()
            self.write(ONCE, rows)
            table = DeltaTable(f"{self.folder}/things")
            table.optimize.compact()
            table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
            figures, problems = self.judged()
            self.assertTrue(said in problems if said else not problems, problems)
            self.assertEqual((figures["late"], "late_records" in figures, figures["of_unknown_origin"]), (0 if "5" in said else 2, False, 2))


if __name__ == "__main__":
    unittest.main()
