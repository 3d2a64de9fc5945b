"""The truth check: every window of every contract against a GROUP BY of its rows, by engines that are not Pintail's.

Promise: what the partials add up to is what DuckDB and Polars make of the rows table, for every window and key: exactly
for counts, integer sums, minima, maxima, first and last; within 1e-12 of the sum of magnitudes for sums of doubles;
within their stated error for sketches, which Apache DataSketches' own library reads and merges.

    load-tests/interop/run truth --lake LAKE --contracts FOLDER [--report FILE]
"""

import argparse
import json
import re
import tomllib
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import readers
import sketches
from leaving import leave
from readers import Lake

MICROSECONDS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
WHOLE = ("integer", "long")
SHOWN = 5
TOLERANCE = Fraction(1, 10**12)


class Measure(NamedTuple):
    name: str
    function: str
    column: str | None
    type: str | None
    top: int | None = None


class Window(NamedTuple):
    name: str
    rows: str
    pane_us: int
    every_us: int
    time: str | None  # a timestamp column; None: the arrival
    where: str | None
    keys: list  # (name, DuckDB expression)
    measures: list
    policy: str


class Cell(NamedTuple):
    """What one engine says of one window start and key."""

    records: int
    values: dict


# --- contracts ---


def windows_of(contracts):
    for path in sorted(Path(contracts).glob("*.toml")):
        contract = tomllib.loads(path.read_text(encoding="utf-8"))
        for declared in contract.get("window", []):
            yield _window(contract, declared)


def _window(contract, declared):
    types = {column["name"]: column["type"] for column in contract["column"]}
    every, time = _us(declared["every"]), declared.get("time", contract.get("event_time", "arrival"))
    return Window(
        declared["name"], contract["table"], _us(declared.get("hop", declared["every"])), every, None if time == "arrival" else time,
        declared.get("where"), [_key(by, types) for by in declared.get("by", [])],
        [_measure(name, call, types) for name, call in declared["measure"].items()], declared.get("seal", "once"))


def _us(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text).groups()
    return int(number) * MICROSECONDS[unit]


def _key(by, types):
    if isinstance(by, str):
        return by, _comparable(by, types[by])
    if "year" in by:
        return by["name"], f'year("{by["year"]}")'
    of, bounds, labels = by["bucket"], by["bounds"], by["labels"]
    cases = [f"""WHEN "{of}" >= {bound!r} THEN '{label.replace("'", "''")}'""" for bound, label in reversed(list(zip(bounds, labels)))]
    ended = [f'WHEN "{of}" >= {bounds[-1]!r} THEN NULL'] if len(labels) < len(bounds) else []
    return by["name"], f"CASE {' '.join(ended + cases)} END"


def _comparable(column, type_):
    """Times as whole numbers: every engine shows those alike, whatever the year."""
    return {"timestamp": f'epoch_us("{column}")', "date": f"""("{column}" - DATE '1970-01-01')"""}.get(type_, f'"{column}"')


def _measure(name, call, types):
    function, arguments = re.fullmatch(r"(\w+)(?:\(([^)]*)\))?", call.strip()).groups()
    column, *rest = [part.strip() for part in arguments.split(",")] if arguments else [None]
    return Measure(name, function, column, types.get(column), int(rest[0]) if rest else None)


# --- one engine: DuckDB over the rows ---


def _connect(lake):
    import duckdb
    from duckdb_extensions import import_extension

    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for extension in ("parquet", "httpfs", "delta"):
        import_extension(extension, con=connection)
        connection.execute(f"LOAD {extension}")
    if lake.endpoint:
        connection.execute(
            f"CREATE SECRET (TYPE s3, KEY_ID '{lake.access_key}', SECRET '{lake.secret_key}', REGION 'us-east-1', "
            f"ENDPOINT '{lake.endpoint.removeprefix('http://')}', USE_SSL false, URL_STYLE 'path')")
    return connection


def _floor(micros, size):
    return f"({micros} - (({micros} % {size}) + {size}) % {size})"


def rows_by_duckdb(connection, lake, window):
    time = f'coalesce(epoch_us("{window.time}"), epoch_us(_arrived_at))' if window.time else "epoch_us(_arrived_at)"
    order = f"ORDER BY {time}, _shard_id, length(_sequence_number), _sequence_number, _sub_sequence_number"
    selected = [f"{_floor(time, window.pane_us)} AS __start", *(f'{expression} AS "__key_{name}"' for name, expression in window.keys),
                "count(*) AS __records"]
    for measure in window.measures:
        selected += [f'{expression} AS "{name}"' for name, expression in _over_rows(measure, order).items()]
    where = f"WHERE {window.where}" if window.where else ""
    groups = ", ".join(str(place + 1) for place in range(1 + len(window.keys)))
    answer = connection.execute(f"SELECT {', '.join(selected)} FROM delta_scan('{lake.table(window.rows)}') {where} GROUP BY {groups}")
    names = [column[0] for column in answer.description]
    cells = {}
    for row in answer.fetchall():
        row = dict(zip(names, row))
        key = row["__start"], tuple(row[f"__key_{name}"] for name, _ in window.keys)
        cells[key] = Cell(row["__records"], {measure.name: _value_of_rows(measure, row) for measure in window.measures})
    return cells


def _over_rows(measure, order):
    name, column = measure.name, measure.column and _comparable(measure.column, measure.type)
    return {
        "count": lambda: {},
        "sum": lambda: {name: f"sum({column}::HUGEINT)"} if measure.type in WHOLE
        else {name: f"list({column}) FILTER ({column} IS NOT NULL)"},
        "mean": lambda: {name: f"list({column}) FILTER ({column} IS NOT NULL)"},
        "min": lambda: {name: f"min({column})"},
        "max": lambda: {name: f"max({column})"},
        "first": lambda: {name: f"first({column} {order}) FILTER ({column} IS NOT NULL)"},
        "last": lambda: {name: f"last({column} {order}) FILTER ({column} IS NOT NULL)"},
        "distinct": lambda: {name: f"count(DISTINCT {column})"},
        "quantiles": lambda: {name: f"list({column} ORDER BY {column}) FILTER ({column} IS NOT NULL)"},
        "top": lambda: {name: f"list({_text(measure)}) FILTER ({column} IS NOT NULL)"},
    }[measure.function]()


def _text(measure):
    return f'"{measure.column}"::VARCHAR'


def _value_of_rows(measure, row):
    value = row.get(measure.name)
    match measure.function:
        case "count":
            return row["__records"]
        case "sum" if measure.type not in WHOLE:
            return None if value is None else _exact(value)
        case "mean":
            return None if value is None else (_exact(value) if measure.type not in WHOLE else sum(value), len(value))
        case "top":
            return Counter(value or [])
        case "quantiles":
            return value or []
        case _:
            return value


class Near(NamedTuple):
    """A sum of doubles, exact, and the sum of magnitudes that its tolerance is a part of."""

    value: Fraction
    magnitude: Fraction


def _exact(values):
    return Near(sum(map(Fraction, values)), sum(abs(Fraction(value)) for value in values))


# --- the other engine: Polars over the rows ---


def rows_by_polars(lake, window):
    """What is exact. Quantiles and most frequent values are left to DuckDB."""
    import polars as pl

    def number(column, type_):
        return {"timestamp": pl.col(column).dt.epoch("us"), "date": pl.col(column).cast(pl.Int32)}.get(type_, pl.col(column))

    arrived = pl.col("_arrived_at").dt.epoch("us")
    time = pl.coalesce(pl.col(window.time).dt.epoch("us"), arrived) if window.time else arrived
    place = [time, pl.col("_shard_id"), pl.col("_sequence_number").str.len_bytes(), pl.col("_sequence_number"), pl.col("_sub_sequence_number")]
    rows = pl.scan_delta(lake.table(window.rows), storage_options=lake.options)
    rows = rows.filter(pl.sql_expr(window.where)) if window.where else rows
    keys = [pl.sql_expr(expression).alias(f"__key_{name}") if "epoch_us" not in expression and "DATE" not in expression
            else number(name, "timestamp" if "epoch_us" in expression else "date").alias(f"__key_{name}") for name, expression in window.keys]
    measured = [pl.len().alias("__records")]
    for measure in window.measures:
        of = number(measure.column, measure.type) if measure.column else None
        over = {
            "sum": lambda: of.cast(pl.Int128).sum() if measure.type in WHOLE else of.drop_nulls(),
            "mean": lambda: of.drop_nulls(),
            "min": lambda: of.min(), "max": lambda: of.max(),
            "first": lambda: of.sort_by(place).drop_nulls().first(), "last": lambda: of.sort_by(place).drop_nulls().last(),
            "distinct": lambda: of.drop_nulls().n_unique(),
        }.get(measure.function)
        if over:
            measured += [over().alias(measure.name), of.count().alias(f"__count_{measure.name}")]
    start = (time - time.mod(window.pane_us)).alias("__start")  # the modulus is never negative
    grouped = rows.with_columns(start, *keys).group_by("__start", *(f"__key_{name}" for name, _ in window.keys)).agg(measured).collect()
    cells = {}
    for row in grouped.iter_rows(named=True):
        for measure in window.measures:
            if measure.function != "distinct" and not row.get(f"__count_{measure.name}", 1):
                row[measure.name] = None  # a sum of nothing is 0 there
        values = {measure.name: _value_of_rows(measure, row) for measure in window.measures if measure.name in row or measure.function == "count"}
        cells[row["__start"], tuple(row[f"__key_{name}"] for name, _ in window.keys)] = Cell(row["__records"], values)
    return cells


# --- the partials ---


def partials(connection, lake, window):
    keys = [name for name, _ in window.keys]
    return _added_up(connection, lake.table(f"{window.name}_partials"), window, keys, window.pane_us)


def _added_up(connection, table, window, keys, size):
    relation, names, problems, groups, definitions = _as_numbers(connection, table), [], [], {}, set()
    names = [column[0] for column in relation.description]
    while rows := relation.fetchmany(10_000):
        for row in rows:
            row = dict(zip(names, row))
            definitions.add(row["definition"])
            if row["window_end"] != row["window_start"] + size:
                problems.append(f"a row of {row['window_start']} ends at {row['window_end']}, not {size} us later")
            groups.setdefault((row["window_start"], tuple(row[name] for name in keys)), []).append(row)
    if len(definitions) > 1 or None in definitions:
        problems.append(f"definition: one non-null value wanted, found {definitions}")
    cells = {key: Cell(sum(row["records"] for row in group), {measure.name: _merged(measure, group) for measure in window.measures})
             for key, group in groups.items()}
    return cells, problems


def _as_numbers(connection, table):
    """A table's rows, with times as whole numbers: Python's own do not reach as far."""
    described = connection.execute(f"DESCRIBE SELECT * FROM delta_scan('{table}')").fetchall()
    numbers = {"TIMESTAMP WITH TIME ZONE": "timestamp", "DATE": "date"}
    columns = [f'{_comparable(name, numbers.get(type_))} AS "{name}"' for name, type_, *_ in described]
    return connection.execute(f"SELECT {', '.join(columns)} FROM delta_scan('{table}')")


def _merged(measure, group):
    def values(suffix=""):
        return [row[measure.name + suffix] for row in group if row[measure.name + suffix] is not None]

    def doubles(*suffixes):
        return sum((Fraction(value) for suffix in suffixes for value in values(suffix)), Fraction(0)) if values(suffixes[0]) else None

    match measure.function:
        case "count":
            return sum(values())
        case "sum" if measure.type in WHOLE:
            return int(sum(values())) if values() else None
        case "sum":
            return doubles("", "_lo")
        case "mean":
            total = int(sum(values("_sum"))) if measure.type in WHOLE else doubles("_sum", "_sum_lo")
            return (total, sum(values("_count"))) if sum(values("_count")) else None
        case "min":
            return min(values(), default=None)
        case "max":
            return max(values(), default=None)
        case "first" | "last":
            placed = [(_place(row, measure), row[measure.name]) for row in group if row[f"{measure.name}_at"] is not None]
            pick = min if measure.function == "first" else max
            return pick(placed, key=lambda each: each[0])[1] if placed else None
        case "distinct" | "quantiles" | "top":
            return values("_sketch")


def _place(row, measure):
    at, shard, number, sub = (row[measure.name + suffix] for suffix in ("_at", "_shard_id", "_sequence_number", "_sub_sequence_number"))
    return at, shard, int(number), sub


# --- judgement ---


def differences(window, wanted, found):
    """What two engines say, where they do not agree. `wanted` is of the rows."""
    for key in sorted(wanted.keys() | found.keys(), key=repr):
        if key not in found:
            yield f"{key}: {wanted[key].records} records in the rows, none in the partials"
        elif key not in wanted:
            yield f"{key}: {found[key].records} records in the partials, none in the rows"
        else:
            yield from _cell_differences(window, key, wanted[key], found[key])


def _cell_differences(window, key, wanted, found):
    if wanted.records != found.records:
        yield f"{key}: records {found.records}, not {wanted.records}"
        return
    for measure in window.measures:
        if measure.name in wanted.values:
            problem = _difference(measure, wanted.values[measure.name], found.values[measure.name])
            if problem:
                yield f"{key}: {measure.name} {problem}"


def _difference(measure, wanted, found):
    match measure.function:
        case "distinct" | "quantiles" | "top":
            return sketches.difference(measure.function, found, wanted)
        case "mean" if wanted is not None and found is not None:
            apart = _apart(wanted[0], found[0])
            return apart or (f"counts {found[1]}, not {wanted[1]}" if wanted[1] != found[1] else None)
        case _:
            return _apart(wanted, found)


def _apart(wanted, found):
    if isinstance(wanted, Near):
        if found is None or abs(found - wanted.value) > TOLERANCE * wanted.magnitude:
            return f"is {found and float(found)!r}, not {float(wanted.value)!r}"
        return None
    return None if wanted == found else f"is {found!r}, not {wanted!r}"


def check(lake, contracts, only=None):
    """One finding for each window and engine: {window, engine, cells, records, problems}."""
    connection, findings = _connect(lake), []
    for window in windows_of(contracts):
        if only and window.name not in only:
            continue
        found, problems = partials(connection, lake, window)
        exact = rows_by_duckdb(connection, lake, window)
        engines = {"duckdb": exact, "polars": rows_by_polars(lake, window)}
        for engine, wanted in engines.items():
            wrong = problems + list(differences(window, wanted, found))
            findings.append({"window": window.name, "engine": engine, "cells": len(wanted),
                             "records": sum(cell.records for cell in wanted.values()), "differences": len(wrong), "problems": wrong[:SHOWN]})
    return findings


def show(findings):
    for finding in findings:
        verdict = "agrees " if not finding["differences"] else "DIFFERS"
        print(f"{finding['window']:<28} {finding['engine']:<8} {verdict} cells={finding['cells']} records={finding['records']} "
              f"differences={finding['differences']}", flush=True)
        for problem in finding["problems"]:
            print(f"    {problem}", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="run truth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lake", required=True, help="the lake's root: a folder, or s3://bucket/prefix")
    parser.add_argument("--contracts", required=True, type=Path, help="folder of the contract files")
    parser.add_argument("--window", action="append", help="only this one; may be repeated")
    parser.add_argument("--endpoint", default="", help="of S3, if the lake is not on AWS")
    parser.add_argument("--access-key", default="", help="for S3")
    parser.add_argument("--secret-key", default="", help="for S3")
    parser.add_argument("--report", type=Path, help="write the findings here as JSON")
    given = parser.parse_args()
    findings = check(Lake(given.lake, given.endpoint, given.access_key, given.secret_key), given.contracts, given.window)
    show(findings)
    if given.report:
        given.report.write_text(json.dumps(findings, indent=2))
    leave(1 if not findings or any(finding["differences"] for finding in findings) else 0)


if __name__ == "__main__":
    main()
