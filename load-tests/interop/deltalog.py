"""A table's log as its JSON entries are, read by nobody's Delta library: which version brought which files, said what
of itself and left which transactions. And with it the rows of a table, each with the version that brought it.
"""

import json
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

import duckdb
import polars as pl


class Entry(NamedTuple):
    adds: list
    """Paths of the files that brought rows; what a compaction wrote is not among them."""
    txns: dict
    """Of this entry."""
    info: dict


def read(connection, lake, table):
    """{version: Entry} of the entries that have not been cleaned away."""
    columns = "{add: 'STRUCT(path VARCHAR, dataChange BOOLEAN)', txn: 'STRUCT(appId VARCHAR, version BIGINT)', commitInfo: 'JSON'}"
    try:
        lines = connection.execute(
            f"SELECT filename, add, txn, commitInfo FROM read_json('{lake.table(table)}/_delta_log/*.json', format = 'newline_delimited', "
            f"filename = true, columns = {columns})").fetchall()
    except duckdb.IOException:  # there are none
        return {}
    entries = {}
    for filename, add, txn, info in lines:
        version = PurePosixPath(filename).stem
        entry = entries.setdefault(int(version), Entry([], {}, {}))
        if add and add["dataChange"]:
            entry.adds.append(unquote(add["path"]))
        if txn:
            entry.txns[txn["appId"]] = txn["version"]
        if info:
            entry.info.update(json.loads(info))
    return dict(sorted(entries.items()))


def is_whole(entries):
    return bool(entries) and list(entries) == list(range(len(entries)))


def transactions(entries, version):
    """{application id: value} as of this version."""
    latest = {}
    for each in (entry for of, entry in entries.items() if of <= version):
        latest |= each.txns
    return latest


class Rows(NamedTuple):
    """A table's rows with the version that brought each in `__version`, for DuckDB and for Polars."""

    relation: str
    frame: pl.LazyFrame
    has_versions: bool
    """Otherwise each `__version` is 0: some of the log or of the files has been cleaned away."""


def rows(connection, lake, table, entries):
    """The rows that the table has, if they are all still where they were first written; otherwise as they are now."""
    shown = f"(SELECT *, 0 AS __version FROM delta_scan('{lake.table(table)}'))"
    now = Rows(shown, pl.scan_delta(lake.table(table), storage_options=lake.options).with_columns(__version=pl.lit(0)), False)
    brought = {f"{lake.table(table)}/{path}": version for version, entry in entries.items() for path in entry.adds}
    if not is_whole(entries) or not brought:
        return now
    name = f"__rows_{table}"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE __brought AS SELECT unnest(?) AS path, unnest(?) AS version", [list(brought), list(brought.values())])
    try:
        connection.execute(
            f'CREATE OR REPLACE TEMP TABLE "{name}" AS SELECT r.* EXCLUDE (filename), f.version AS __version FROM read_parquet(?, filename = true, '
            f"union_by_name = true, hive_partitioning = false) r JOIN __brought f ON r.filename = f.path", [list(brought)])
    except duckdb.IOException:  # vacuum has taken some
        return now
    counted = [connection.execute(f"SELECT count(*) FROM {relation}").fetchone() for relation in (f'"{name}"', shown)]
    if counted[0] != counted[1]:  # somebody has deleted rows, or changed them
        return now
    frames = [pl.scan_parquet(path, storage_options=lake.options, hive_partitioning=False).with_columns(__version=pl.lit(version))
              for path, version in brought.items()]
    return Rows(f'"{name}"', pl.concat(frames, how="diagonal"), True)
