"""The truth check: every window of every contract against a GROUP BY of its rows, by engines that are not Pintail's.

Promise: what the partials add up to is what DuckDB and Polars make of the rows table, for every window and key: exactly
for counts, integer sums, minima, maxima, first and last; within 1e-12 of the sum of magnitudes for sums of doubles;
within their stated error for sketches, which Apache DataSketches' own library reads and merges.

Of sealed windows (sealed.py): each row is what the rows were when it was made; under `revise` the last one is what they
are now; under `once` it lacks exactly the late ones. No window and key twice, nothing sealed that was not closed.

    load-tests/interop/run truth --lake LAKE --contracts FOLDER [--report FILE]
"""

import argparse
import json
from pathlib import Path

import cells
import deltalog
import grouped
import sealed
from leaving import leave
from readers import Lake

SHOWN = 5


def check(lake, contracts, only=None):
    """One finding for each table of each window and engine: {table, engine, cells, records, differences, problems}; of
    sealed ones also what `sealed.figures` says."""
    connection, logs, findings = grouped.connect(lake), {}, []
    for window in grouped.windows_of(contracts):
        if only and window.name not in only:
            continue
        found, definitions, problems = cells.partials(connection, lake, window)
        engines = {"duckdb": grouped.panes_by_duckdb(connection, lake, window), "polars": grouped.panes_by_polars(lake, window)}
        findings += [_finding(f"{window.name}_partials", engine, wanted, problems + list(cells.differences(window, wanted, found)))
                     for engine, wanted in engines.items()]
        if window.rows not in logs:
            log = deltalog.read(connection, lake, window.rows)
            logs[window.rows] = log, deltalog.rows(connection, lake, window.rows, log)
        log, rows = logs[window.rows]
        made = sealed.read(connection, lake, window, definitions, log, rows)
        if made:
            figures = sealed.figures(connection, made)
            findings += [_finding(window.name, engine, wanted, problems) | figures | also
                         for engine, wanted, problems, also in sealed.judge(connection, made)]
    return findings


def late_records(lake, contracts):
    """{window: records that came after one of the windows that they belong to was sealed}, also beside a running Pintail."""
    connection, late = grouped.connect(lake), {}
    for window in grouped.windows_of(contracts):
        log = deltalog.read(connection, lake, window.rows)
        made = sealed.read(connection, lake, window, set(), log, deltalog.rows(connection, lake, window.rows, log))
        if made:
            late[window.name] = sealed.figures(connection, made).get("late_records", 0)
    return late


def _finding(table, engine, wanted, problems):
    return {"table": table, "engine": engine, "cells": len(wanted), "records": sum(cell.records for cell in wanted.values()),
            "differences": len(problems), "problems": problems[:SHOWN]}


def show(findings):
    for finding in findings:
        verdict = "agrees " if not finding["differences"] else "DIFFERS"
        figures = " ".join(f"{name}={value}" for name, value in finding.items() if name not in ("table", "engine", "problems"))
        print(f"{finding['table']:<28} {finding['engine']:<8} {verdict} {figures}", flush=True)
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
