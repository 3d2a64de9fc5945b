"""Every cell of every table, as four readers show it, against the independent cleaning of the same records.

Promise: a lost row, a row twice, a row too many, one changed cell, a wrong type, a partial that does not add up: each
is found and named with both values and the bytes it came from. Equal is equal; only sums of doubles have a tolerance
(1e-12 of the sum of magnitudes), sketches their stated error, and -0.0 is 0.0.
"""

import argparse
import base64
import json
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

import readers
import windows
from clean import KINDS, clean
from kinesis import Record
from leaving import leave
from readers import Lake
from unwrap import Reject

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
PLACE = {"_shard_id": "string", "_sequence_number": "string", "_sub_sequence_number": "long", "_arrived_at": "timestamp"}
REPLAYED = {"_replayed": "long"}
DATE = {"_date": "date"}
REJECTS = {**PLACE, "reason": "string", "detail": "string", "payload": "binary", **DATE}
DELTA_TYPES = {"decimal": "decimal(38,0)", "array<double>": "array<double>"}
SHOWN_PROBLEMS = 8
NO_TABLE = "there is no such table"


class Finding(NamedTuple):
    """One table through one reader."""

    table: str
    reader: str
    rows: int
    cells: int
    problems: list


class Truth:
    """What the tables must hold, from the records that Kinesis holds."""

    def __init__(self, records, contracts):
        self.windows = windows.load_windows(contracts)
        self.payloads, self.tables = {}, {}
        for kind in KINDS:
            self.tables[kind], self.tables[f"{kind}_rejects"] = {}, {}
        for record in records:
            self._add(record)

    def _add(self, record):
        key = record.shard, record.sequence
        self.payloads[record.kind, key] = record.payload
        arrived_at = record.arrived_ms * 1000
        place = {"_shard_id": record.shard, "_sequence_number": record.sequence, "_sub_sequence_number": 0, "_arrived_at": arrived_at,
                 "_date": (EPOCH + timedelta(microseconds=arrived_at)).date()}
        try:
            self.tables[record.kind][key] = {**clean(record.kind, record.payload), **place, "_replayed": None}
        except Reject as reject:
            self.tables[f"{record.kind}_rejects"][key] = {"reason": reject.reason, "payload": record.payload, **place}

    def columns(self):
        """{table: {column: type}} of all tables, in their order."""
        columns = {}
        for kind, declared in KINDS.items():
            columns[kind] = {**declared.columns, **PLACE, **REPLAYED, **DATE}
            columns[f"{kind}_rejects"] = REJECTS
        return columns | {f"{window.name}_partials": window.columns() for window in self.windows}


def compare(truth, lake, folder, names=tuple(readers.READERS)):
    """A `Finding` for each table and reader, and one for each table's schema."""
    columns = truth.columns()
    findings = [_schema(lake, table, wanted) for table, wanted in columns.items()]
    if any(finding.problems == [NO_TABLE] for finding in findings):
        return findings
    for name in names:
        findings += judge(truth, name, readers.read(name, lake, list(columns), folder))
    return findings


def judge(truth, reader, shown):
    """A `Finding` for each table in `shown`, {table: Arrow table} as one reader shows it."""
    for table, columns in truth.columns().items():
        try:
            rows = _plain_rows(shown[table], columns)
        except (KeyError, pa.ArrowInvalid) as error:
            yield Finding(table, reader, 0, 0, [f"cannot be compared: {error!r}"])
        else:
            yield _table(truth, table, reader, rows)


def _schema(lake, table, wanted):
    try:
        fields = DeltaTable(lake.table(table), storage_options=lake.options).schema().fields
    except TableNotFoundError:
        return Finding(table, "schema", 0, 0, [NO_TABLE])
    found = {field.name: _type_name(json.loads(field.type.to_json())) for field in fields}
    wanted = {column: DELTA_TYPES.get(type_, type_) for column, type_ in wanted.items()}
    ordered = not table.endswith("_partials")
    same = list(found.items()) == list(wanted.items()) if ordered else found == wanted
    return Finding(table, "schema", len(found), len(found), [] if same else [f"wanted {wanted}, found {found}"])


def _type_name(declared):
    return f"array<{declared['elementType']}>" if isinstance(declared, dict) else declared


def _plain_rows(table, wanted):
    """Arrow to plain Python values: timestamps as UTC microseconds, decimals as whole numbers, text as text."""
    plain = {
        "timestamp": lambda column: column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()),
        "string": lambda column: column.cast(pa.large_binary()).cast(pa.large_string()),
    }
    columns = {name: plain.get(type_, lambda column: column)(table[name]).to_pylist() for name, type_ in wanted.items()}
    for name in (name for name, type_ in wanted.items() if type_ == "decimal"):
        columns[name] = [None if value is None else int(value) for value in columns[name]]
    return [dict(zip(columns, values)) for values in zip(*columns.values())]


def _table(truth, table, reader, rows):
    window = next((each for each in truth.windows if f"{each.name}_partials" == table), None)
    if window:
        wanted = windows.expected(window, truth.tables[window.kind].values())
        found, problems = windows.merged(window, rows)
    else:
        wanted = truth.tables[table]
        found, problems = _by_key(rows)
    if reader == "chdb":
        wanted = {key: _without_null_arrays(row) for key, row in wanted.items()}
    cells, differences = _differences(wanted, found)
    kind = window.kind if window else table.removesuffix("_rejects")
    problems += [_explained(truth, kind, key, what) for key, what in differences]
    return Finding(table, reader, len(rows), cells, problems)


def _without_null_arrays(row):
    """ClickHouse has no null arrays: its reader shows an empty one."""
    return {**row, "coordinates": row["coordinates"] or []} if "coordinates" in row else row


def _by_key(rows):
    found, problems = {}, []
    for row in rows:
        key = row["_shard_id"], row["_sequence_number"]
        if key in found:
            problems.append(f"{key}: twice in the table")
        found[key] = row
    return found, problems


def _differences(wanted, found):
    """(cells compared, [(key, what is wrong)])."""
    differences = [(key, "not in the table") for key in wanted.keys() - found.keys()]
    differences += [(key, f"in the table, but should not be: {found[key]}") for key in found.keys() - wanted.keys()]
    cells = 0
    for key in wanted.keys() & found.keys():
        for column, value in wanted[key].items():
            cells += 1
            if isinstance(value, windows.Values):
                differences += [(key, f"{column}: {problem}") for problem in found[key][column].problems(value)]
            elif not _same(value, found[key][column]):
                differences.append((key, f"{column}: should be {value!r}, is {found[key][column]!r}"))
    return cells, differences


def _same(wanted, found):
    if isinstance(wanted, windows.Near):
        return found is not None and abs(wanted.value - found) <= wanted.magnitude / 10**12
    return type(wanted) is type(found) and wanted == found


def _explained(truth, kind, key, what):
    payload = truth.payloads.get((kind, key))
    return f"{key} {what}" + (f"  <- {payload[:300]!r}" if payload is not None else "")


def save_records(records, path):
    with open(path, "w", encoding="utf-8") as lines:
        for record in records:
            lines.write(json.dumps([*record[:4], base64.b64encode(record.payload).decode()]) + "\n")


def load_records(path):
    with open(path, encoding="utf-8") as lines:
        return [Record(*place, base64.b64decode(payload)) for *place, payload in map(json.loads, lines)]


def report(findings, out=sys.stdout):
    """The figures, a column of differences for each reader, then what is wrong; true if nothing is."""
    columns = list(dict.fromkeys(finding.reader for finding in findings))
    print(f"{'table':<32}{'rows':>8}{'cells':>10}  differences: " + "".join(f"{column:>11}" for column in columns), file=out)
    for table in dict.fromkeys(finding.table for finding in findings):
        of = {finding.reader: finding for finding in findings if finding.table == table}
        rows, cells = (max(getattr(finding, field) for finding in of.values()) for field in ("rows", "cells"))
        found = "".join(f"{len(of[column].problems) if column in of else '':>11}" for column in columns)
        print(f"{table:<32}{rows:>8}{cells:>10}{'':>15}{found}", file=out)
    for table in dict.fromkeys(finding.table for finding in findings):
        seen_by = {}
        for finding in findings:
            for problem in finding.problems if finding.table == table else []:
                seen_by.setdefault(problem, []).append(finding.reader)
        for problem in sorted(seen_by)[:SHOWN_PROBLEMS]:
            print(f"DIFFERENCE {table} ({', '.join(seen_by[problem])}): {problem}", file=out)
        if len(seen_by) > SHOWN_PROBLEMS:
            print(f"... and {len(seen_by) - SHOWN_PROBLEMS} more in {table}", file=out)
    return not any(finding.problems for finding in findings)


def main():
    arguments = argparse.ArgumentParser(description="Judge a kept run again, without servers: the same records, what the readers showed then.")
    arguments.add_argument("run", type=Path, help="the folder that the run named")
    arguments.add_argument("contracts", type=Path, help="folder of the contract files")
    given = arguments.parse_args()
    truth = Truth(load_records(given.run / "records.jsonl"), given.contracts)
    shown = {name: readers.kept(name, given.run / "read") for name in readers.READERS}
    leave(0 if report([finding for name in shown for finding in judge(truth, name, shown[name])]) else 1)


if __name__ == "__main__":
    main()
