"""The cases: truth, volume, kill, reshard, maintenance and page, each against real third-party servers, each judged cell by cell; and
prometheus, which is judged by what a Prometheus sees.

Promise: exit code 0 means that the judges passed their own tests, that Pintail drained with exit code 0 in every case,
and that all its tables, through every reader, hold exactly what Kinesis holds, cleaned as the specification says.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

import anything
import kinesis
import servers
import truth as truth_check
import watch
import watching
import windows
from compare import Finding, Truth, compare, report, save_records
from generate import Generator
from kinesis import KINDS, Producer
from leaving import leave
from pintail import Pintail
from readers import Lake

REPOSITORY = servers.HERE.parents[1]
COMPLETE_WITHIN = 240


class Case:
    """One run: its servers, its producer, Pintail, and in the end the judgement."""

    def __init__(self, name, given, stack):
        self.name, self.given = name, given
        self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=given.runs))
        stack.callback(self._clear_away)
        self.stack, self.figures, self.passed = stack, {}, False
        print(f"\n== {name} ({self.folder})", flush=True)

    def _clear_away(self):
        if self.passed and not self.given.keep:
            shutil.rmtree(self.folder)

    def lake_on_s3(self):
        endpoint = self.stack.enter_context(servers.seaweedfs(self.folder))
        return Lake(f"s3://{servers.BUCKET}/{self.name}", endpoint, servers.ACCESS_KEY, servers.SECRET_KEY)

    def lake_in_folder(self):
        (self.folder / "lake").mkdir()
        return Lake(str(self.folder / "lake"))

    def set_up(self, lake, endpoint, shards, **dirt):
        self.lake, self.kinesis = lake, kinesis.client(endpoint)
        kinesis.create_streams(self.kinesis, shards)
        self.producer = Producer(self.kinesis, Generator(self.given.seed, **dirt), self.folder / "accepted.jsonl")
        self.pintail = Pintail(self.given.pintail, self.folder, lake, endpoint, self.given.contracts)

    def set_up_anything(self, lake, endpoint, shards):
        """One stream under a contract drawn by lot."""
        self.lake, self.kinesis, kinds = lake, kinesis.client(endpoint), (anything.TABLE,)
        contracts = self.folder / "contracts"
        contracts.mkdir()
        (contracts / f"{anything.TABLE}.toml").write_text(anything.contract(self.given.seed), encoding="utf-8")
        kinesis.create_streams(self.kinesis, shards, kinds)
        self.producer = Producer(self.kinesis, anything.Records(self.given.seed), self.folder / "accepted.jsonl", kinds)
        self.pintail = Pintail(self.given.pintail, self.folder, lake, endpoint, contracts, kinds)

    def judge_windows(self):
        """Stops Pintail, which completes the tables, seals what is closed by then and runs the truth check over all windows."""
        exit_code = self.pintail.stop()
        maintained, said = self.pintail.maintain()
        rows, rejects = self._rows(anything.TABLE), self._rows(f"{anything.TABLE}_rejects")
        missing = self.producer.accepted[anything.TABLE] - rows - rejects
        checked = truth_check.check(self.lake, self.folder / "contracts")
        truth_check.show(checked)
        findings = [self.drained(exit_code), Finding("accepted = rows + rejects", "deltalake", rows + rejects, 0, [f"{missing} are missing"] if missing else []),
                    Finding("exit code of maintain", "process", 0, 0, [] if maintained == 0 else [f"{maintained}, not 0: {said}"]), self._late_told,
                    *self._all_came_up([each for each in checked if "late" in each])]
        findings += [Finding(each["table"], each["engine"], each["records"], each["cells"], each["problems"]) for each in checked]
        self.figures |= {"rows": rows, "rejects": rejects, "cells": sum(each["cells"] for each in checked),
                         "differences": sum(each["differences"] for each in checked) + abs(missing)}
        self.passed = report(findings)
        if not self.passed:
            print(f"kept for a second look: {self.folder}\n{self.pintail.log_tail()}", flush=True)

    def _all_came_up(self, sealed):
        """What the check is about has happened at all, what all rows were made from is known, and nothing is left to be sealed."""
        sealed = [each for each in sealed if each["engine"] == "duckdb"]
        for name in ("sealed_windows", "sealed_rows", "corrections", "late"):
            self.figures[name] = sum(each[name] for each in sealed)
            yield Finding(f"{name} came up", "process", self.figures[name], 0, [] if self.figures[name] else ["none did"])
        unknown = [f"{each['table']}: what {each['of_unknown_origin']} rows were made from is not known" for each in sealed if each["of_unknown_origin"]]
        unsealed = [f"{each['table']}: {each['not_yet_sealed']} windows are closed and not sealed" for each in sealed if each["not_yet_sealed"]]
        yield Finding("sealed all that is closed", "process", len(sealed), 0, unknown + unsealed)

    def judge_late(self, put):
        """Of records that come after a start, Pintail counts those as late that came after their windows were sealed."""
        stopped = self.pintail.stop()
        maintained, said = self.pintail.maintain()
        if (stopped, maintained) != (0, 0):
            raise RuntimeError(f"exit codes {stopped} of run, {maintained} of maintain: {said}")
        before = truth_check.late_records(self.lake, self.folder / "contracts")
        self.pintail.start()
        self.pintail.maintained(rounds=2)  # it has looked at all windows and counts from here on
        put()
        self.wait_for_rows()
        problems, deadline = ["nothing compared"], time.monotonic() + COMPLETE_WITHIN
        while problems and time.monotonic() < deadline:
            self.pintail.must_run()
            time.sleep(1)
            late = truth_check.late_records(self.lake, self.folder / "contracts")
            late = {window: count - before[window] for window, count in late.items()}
            counted = {window: self.pintail.counter("pintail_late_records_total", window=window) for window in late}
            problems = [f"{window}: {counted[window]:.0f} counted, {count} came late" for window, count in late.items() if counted[window] != count]
            problems += [] if any(late.values()) else ["none came late"]
        self._late_told = Finding("late records at /metrics", "process", sum(late.values()), len(late), problems)

    def put(self, count, seconds=0.0):
        begun = time.monotonic()
        self.producer.put(count, seconds)
        self.figures["records"] = self.figures.get("records", 0) + count
        self.figures["put_s"] = self.figures.get("put_s", 0) + time.monotonic() - begun

    def put_until(self, enough):
        """Records at a steady pace until somebody has seen enough."""
        while not enough.is_set():
            self.put(200, seconds=1)

    def wait_until_complete(self):
        """Until the tables hold as many records as were accepted, partials included."""
        begun = time.monotonic()
        missing = self._missing()
        while max(missing.values(), default=0) > 0 and time.monotonic() < begun + COMPLETE_WITHIN:
            self.pintail.must_run()
            time.sleep(1)
            missing = self._missing()
        self.figures["complete_after_s"] = time.monotonic() - begun
        if missing:
            print(f"after {self.figures['complete_after_s']:.0f} s missing (negative: too many): {missing}\n{self.pintail.log_tail()}", flush=True)

    def wait_for_rows(self):
        """Until as many records as were accepted are rows or rejects."""
        deadline = time.monotonic() + COMPLETE_WITHIN
        while self._rows(anything.TABLE) + self._rows(f"{anything.TABLE}_rejects") < self.producer.accepted[anything.TABLE]:
            self.pintail.must_run()
            if time.monotonic() > deadline:
                print(f"not complete after {COMPLETE_WITHIN} s\n{self.pintail.log_tail()}", flush=True)
                return
            time.sleep(0.5)

    def _missing(self):
        missing, rows = {}, {}
        for kind, accepted in self.producer.accepted.items():
            rows[kind] = self._rows(kind)
            missing[kind] = accepted - rows[kind] - self._rows(f"{kind}_rejects")
        if not any(missing.values()):
            for window in windows.load_windows(self.given.contracts):
                missing[window.name] = rows[window.kind] - self._records_in_partials(window)
        return {name: count for name, count in missing.items() if count}

    def _rows(self, table):
        try:
            return DeltaTable(self.lake.table(table), storage_options=self.lake.options).count()
        except TableNotFoundError:
            return 0

    def _records_in_partials(self, window):
        try:
            table = DeltaTable(self.lake.table(f"{window.name}_partials"), storage_options=self.lake.options)
        except TableNotFoundError:
            return 0
        return sum(table.to_pyarrow_table(columns=["records"])["records"].to_pylist())

    def judge(self, counters=False):
        """Stops Pintail and compares everything with what Kinesis holds."""
        counted = {name: self.pintail.counter(name) for name in ("pintail_rows_cleaned_total", "pintail_rejects_total")} if counters else {}
        exit_code = self.pintail.stop()
        records = list(kinesis.read_back(self.kinesis))
        save_records(records, self.folder / "records.jsonl")
        truth = Truth(records, self.given.contracts)
        begun = time.monotonic()
        findings = [self.drained(exit_code), self._read_back(records)]
        if counters:
            findings.append(self._counted(counted, truth))
        findings += compare(truth, self.lake, self.folder / "read")
        self.figures |= {
            "rejects": sum(len(truth.tables[f"{kind}_rejects"]) for kind in KINDS),
            "shards": len({(record.kind, record.shard) for record in records}),
            "commits": sum(self._version(kind) for kind in KINDS),
            "cells": sum(finding.cells for finding in findings),
            "compare_s": time.monotonic() - begun,
            "differences": sum(len(finding.problems) for finding in findings),
        }
        self.passed = report(findings)
        self._judge_maintained(truth)
        if not self.passed:
            print(f"kept for a second look: {self.folder}\n{self.pintail.log_tail()}", flush=True)

    def _judge_maintained(self, truth):
        """The same tables after a thorough round of maintenance: everybody reads from a checkpoint and large files now."""
        exit_code, said = self.pintail.maintain(compact_files=2)
        print(f"-- after `pintail maintain`:\n{said}", flush=True)
        findings = [Finding("exit code of maintain", "process", 0, 0, [] if exit_code == 0 else [f"{exit_code}, not 0"])]
        findings += [Finding(f"checkpoint of {kind}", "process", 0, 0, self._without_checkpoint(kind, said)) for kind in KINDS]
        findings += compare(truth, self.lake, self.folder / "read-maintained")
        self.figures["differences"] += sum(len(finding.problems) for finding in findings)
        self.passed = report(findings) and self.passed

    def _without_checkpoint(self, kind, said):
        log = self.pintail.log()
        found = f"{kind}: log checkpoint" in said or re.search(rf'log checkpoint written.* table="?{kind}"? ', log)
        return [] if found else ["nobody wrote one"]

    def refuse(self, late):
        """A compaction by another engine that began before ours was committed must be refused: both would keep the rows."""
        version = late.version()
        optimised = any(commit.get("operation") == "OPTIMIZE" and commit["version"] > version
                        for commit in DeltaTable(late.table_uri, storage_options=self.lake.options).history())
        problems = []
        try:
            done = late.optimize.compact()
            if optimised and done["numFilesRemoved"]:
                problems = [f"it was not: {done}"]
        except CommitFailedError as error:
            print(f"deltalake's late compaction is refused: {error}", flush=True)
        if not optimised:
            problems = ["Pintail compacted nothing meanwhile"]
        self.passed = report([Finding("late foreign compaction", "process", 0, 0, problems)]) and self.passed

    def _version(self, kind):
        try:
            return DeltaTable(self.lake.table(kind), storage_options=self.lake.options).version()
        except TableNotFoundError:
            return 0

    def drained(self, exit_code):
        return Finding("exit code after SIGTERM", "process", 0, 0, [] if exit_code == 0 else [f"{exit_code}, not 0"])

    def _read_back(self, records):
        acknowledged = kinesis.read_ledger(self.folder / "accepted.jsonl")
        held = {(record.kind, record.sequence): (record.shard, record.payload) for record in records}
        lost, strange = acknowledged.keys() - held.keys(), {key for key, value in held.items() if acknowledged.get(key) != value}
        problems = [f"the server lost {key}" for key in lost] + [f"the server holds what nobody put: {key}" for key in strange]
        return Finding("accepted = read back", "process", len(held), 0, problems)

    def _counted(self, counted, truth):
        wanted = {"pintail_rows_cleaned_total": sum(len(truth.tables[kind]) for kind in KINDS),
                  "pintail_rejects_total": sum(len(truth.tables[f"{kind}_rejects"]) for kind in KINDS)}
        problems = [f"{name} is {counted[name]}, not {count}" for name, count in wanted.items() if counted[name] != count]
        return Finding("counters at /metrics", "process", 0, 0, problems)


class Foreign:
    """Python deltalake at work on a table that Pintail writes."""

    MARK = "foreign"

    def __init__(self, uri, options):
        self.uri, self.options = uri, options
        self.figures = dict.fromkeys(("appended", "optimised", "deleted", "gave_way"), 0)

    def meddle(self):
        try:
            table = DeltaTable(self.uri, storage_options=self.options)
        except TableNotFoundError:
            time.sleep(0.5)
            return
        self._try("appended", lambda: write_deltalake(table, self._row(table), mode="append"))
        stale = DeltaTable(self.uri, storage_options=self.options)
        time.sleep(1)  # in which Pintail commits and compacts
        self._try("optimised", stale.optimize.compact)
        self._try("deleted", lambda: DeltaTable(self.uri, storage_options=self.options).delete(f"_shard_id = '{self.MARK}'"))

    def tidy_up(self):
        before = self.figures["deleted"]
        while self.figures["deleted"] == before:
            self._try("deleted", lambda: DeltaTable(self.uri, storage_options=self.options).delete(f"_shard_id = '{self.MARK}'"))

    def _try(self, what, act):
        try:
            act()
            self.figures[what] += 1
        except (CommitFailedError, DeltaError) as error:
            self.figures["gave_way"] += 1
            print(f"deltalake gave way ({what}): {str(error)[:150]}", flush=True)

    def _row(self, table):
        schema = pa.schema(table.schema().to_arrow())
        values = {"_shard_id": self.MARK, "_date": datetime.now(timezone.utc).date()}
        return pa.Table.from_pylist([{name: values.get(name) for name in schema.names}], schema=schema)


def volume(case):
    """Two thirds wait in the streams, one third arrives while Pintail reads."""
    lake = case.lake_on_s3()
    case.set_up(lake, case.stack.enter_context(servers.ministack(case.folder)), shards=4)
    case.put(case.given.records * 2 // 3)
    with case.pintail:
        case.put(case.given.records - case.given.records * 2 // 3, seconds=10)
        case.wait_until_complete()
        case.judge(counters=True)


def kill(case):
    """SIGKILL and an immediate restart, four times while records arrive: nothing lost, nothing twice."""
    lake = case.lake_on_s3()
    case.set_up(lake, case.stack.enter_context(servers.ministack(case.folder)), shards=3, large=0.0)
    count, moments = case.given.records // 3, random.Random(case.given.seed)
    case.put(count // 3)
    with case.pintail, ThreadPoolExecutor(1) as beside:
        rest = beside.submit(case.put, count - count // 3, 24)
        for _ in range(4):
            time.sleep(moments.uniform(2, 6))
            case.pintail.must_run()
            case.pintail.kill()
            case.pintail.start()
        rest.result()
        case.wait_until_complete()
        case.judge()


def reshard(case):
    """Shards split and merge under Pintail's hands; a server that keeps the lineage, and is slow."""
    lake = case.lake_in_folder()
    case.set_up(lake, case.stack.enter_context(servers.kinesis_local(case.folder)), shards=2, garbage=0.05, twisted=0.1, large=0.0)
    case.put(150)
    with case.pintail:
        case.put(100, seconds=3)
        for kind in KINDS:
            kinesis.split_first_shard(case.kinesis, kind)
        case.put(150, seconds=3)
        for kind in KINDS:
            kinesis.merge_last_shards(case.kinesis, kind)
        case.put(200, seconds=3)
        case.wait_until_complete()
        case.judge()


def maintenance(case):
    """Another engine appends to a table, deletes what it appended, and compacts the table, again and again, while Pintail
    writes to and compacts it: whoever is too late gives way, and in the end only Pintail's rows are there."""
    lake = case.lake_in_folder()
    case.set_up(lake, case.stack.enter_context(servers.ministack(case.folder)), shards=2, large=0.0)
    count = case.given.records // 6
    case.put(count // 3)
    with case.pintail, ThreadPoolExecutor(1) as beside:
        rest = beside.submit(case.put, count - count // 3, 30)
        foreign = Foreign(lake.table("pin"), lake.options)
        while not rest.done():
            case.pintail.must_run()
            foreign.meddle()
        rest.result()
        foreign.tidy_up()
        case.wait_until_complete()
        case.figures |= foreign.figures
        late = DeltaTable(lake.table("pin"), storage_options=lake.options)
        case.judge()
        case.refuse(late)


def truth(case):
    """Windows drawn by lot over records drawn by lot, kills and reshards among them: all equal a GROUP BY of the rows."""
    case.set_up_anything(case.lake_in_folder(), case.stack.enter_context(servers.kinesis_local(case.folder)), shards=2)
    moments = random.Random(case.given.seed)
    case.put(200)
    with case.pintail:
        for change in (kinesis.split_first_shard, kinesis.merge_last_shards, kinesis.split_first_shard):
            case.put(200, seconds=2)
            case.pintail.must_run()
            case.pintail.kill()
            change(case.kinesis, anything.TABLE)
            case.pintail.start()
            case.put(100, seconds=moments.uniform(1, 3))
        case.wait_for_rows()
        case.judge_late(lambda: case.put(200, seconds=4))
        case.judge_windows()


def page(case):
    """The live page in Chromium, at three widths, light and dark: its numbers are the API's, and it fits."""
    lake = case.lake_in_folder()
    case.set_up(lake, case.stack.enter_context(servers.ministack(case.folder)), shards=2, large=0.0)
    case.put(case.given.records // 10)
    with case.pintail:
        case.wait_until_complete()
        case.pintail.settled()
        case.pintail.sealed()
        seen = watch.look(case.pintail.url(), case.folder)
        case.judge()
        case.passed = report(seen) and case.passed


def prometheus(case):
    """A Prometheus scrapes Pintail for some minutes of records: what the dashboards ask for is there, and nothing is alarmed."""
    kinesis_endpoint = case.stack.enter_context(servers.ministack(case.folder))
    case.set_up(case.lake_in_folder(), kinesis_endpoint, shards=2, garbage=0.002, damaged=0.01, twisted=0.01, large=0.0)
    findings = watching.judge_files(case.folder)
    with case.pintail, ThreadPoolExecutor(1) as beside:
        config = watching.configure(case.folder, case.pintail.listen)
        asked = watching.Prometheus(case.stack.enter_context(servers.prometheus(case.folder, config)))
        posting = threading.Event()
        posted = beside.submit(case.put_until, posting)
        try:
            findings += watching.judge_queries(asked)
            findings.append(watching.judge_rules(asked))
            findings.append(watching.judge_metrics(case.pintail.ask("/metrics")))
            findings.append(watching.judge_windows(asked, lambda: json.loads(case.pintail.ask("/api/windows?starts=4&rows=0"))))
        finally:
            posting.set()
        posted.result()
        case.pintail.must_run()
        findings.append(case.drained(case.pintail.stop()))
    case.passed = report(findings)


CASES = {"truth": truth, "volume": volume, "kill": kill, "reshard": reshard, "maintenance": maintenance, "page": page, "prometheus": prometheus}


def unit_tests():
    print("== tests of the judges", flush=True)
    tests = ["test_clean", "test_compare", "test_truth", "test_watch", "test_dashboards", "test_leaving"]
    judges = subprocess.run([sys.executable, "leaving.py", *tests], cwd=servers.HERE).returncode == 0
    browser = [servers.HOME / "browser/bin/python", "-W", "ignore", "-m", "unittest", "test_page"]
    return subprocess.run(browser, cwd=servers.HERE).returncode == 0 and judges


def default_pintail():
    """The newest build."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", Path.home() / ".cache/pintail-target"))
    built = [path for path in (target / "release/pintail", target / "debug/pintail") if path.exists()]
    return max(built, key=lambda path: path.stat().st_mtime, default=None)


def arguments():
    parser = argparse.ArgumentParser(prog="run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=21_000, help="records of the volume case; the kill case takes a third (default 21000)")
    parser.add_argument("--seed", type=int, default=100, help="of the records and of the kills (default 100)")
    parser.add_argument("--only", choices=["tests", *CASES], help="one part instead of all")
    parser.add_argument("--keep", action="store_true", help="keep the folders of cases that passed, too")
    parser.add_argument("--pintail", type=Path, default=default_pintail(), help="the program (default: the newest build in the target folder)")
    parser.add_argument("--contracts", type=Path, default=REPOSITORY / "schemas", help="folder of the contract files (default: schemas)")
    given = parser.parse_args()
    if given.only != "tests" and not (given.pintail and given.pintail.exists()):
        parser.error("no pintail program: build it first (cargo build --bin pintail) or say --pintail PATH")
    given.contracts = given.contracts.resolve()
    given.runs = servers.HOME / "runs"
    given.runs.mkdir(exist_ok=True)
    return given


def main():
    for name in [name for name in os.environ if name.startswith(("AWS_", "PINTAIL__"))]:
        del os.environ[name]  # nothing of this machine's own settings reaches a client or Pintail
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped on the way out
    given = arguments()
    passed = given.only not in (None, "tests") or unit_tests()
    summary = []
    for name, run in CASES.items():
        if given.only in (None, name):
            with ExitStack() as stack:
                case = Case(name, given, stack)
                summary.append(case)
                try:
                    run(case)
                except Exception:  # the other cases still have something to say
                    traceback.print_exc()
                    print(f"kept for a second look: {case.folder}", flush=True)
    show(summary)
    leave(0 if passed and all(case.passed for case in summary) else 1)


def show(cases):
    for case in cases:
        figures = "  ".join(f"{name}={value:.1f}" if isinstance(value, float) else f"{name}={value}" for name, value in case.figures.items())
        print(f"{case.name:<8} {'agrees' if case.passed else 'DIFFERS'}  {figures}")


if __name__ == "__main__":
    main()
