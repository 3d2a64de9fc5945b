"""One case's run: its servers and its producer, Pintail between them, and the judgement over every table, by every reader."""

import re
import shutil
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, TableNotFoundError

import anything
import kinesis
import servers
import truth as truth_check
import windows
from compare import Finding, Truth, compare, report, save_records
from generate import Generator
from kinesis import KINDS, Producer
from pintail import Pintail
from readers import Lake

COMPLETE_WITHIN = 240


class Case:
    """One run: its servers, its producer, Pintail, and in the end the judgement."""

    def __init__(self, name, given, seed, stack):
        self.name, self.given, self.seed = name, given, seed
        self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=given.runs))
        stack.callback(self._clear_away)
        self.stack, self.figures, self.passed = stack, {}, False
        print(f"\n== {name}, seed {seed} ({self.folder})", flush=True)

    def _clear_away(self):
        if self.passed and not self.given.keep:
            shutil.rmtree(self.folder)

    def lake_on_s3(self):
        endpoint = self.stack.enter_context(servers.seaweedfs(self.folder))
        return Lake(f"s3://{servers.BUCKET}/{self.name}", endpoint, servers.ACCESS_KEY, servers.SECRET_KEY)

    def lake_in_folder(self):
        (self.folder / "lake").mkdir()
        return Lake(str(self.folder / "lake"))

    @contextmanager
    def cut_off(self):
        """The lake in a folder cannot be reached: a file is where it was."""
        lake, away = self.folder / "lake", self.folder / "lake-away"
        lake.rename(away)
        lake.touch()
        try:
            yield
        finally:
            lake.unlink()
            away.rename(lake)

    def set_up(self, lake, endpoint, shards, **dirt):
        self.lake, self.kinesis = lake, kinesis.client(endpoint)
        kinesis.create_streams(self.kinesis, shards)
        self.producer = Producer(self.kinesis, Generator(self.seed, **dirt), self.folder / "accepted.jsonl")
        self.pintail = Pintail(self.given.pintail, self.folder, lake, endpoint, self.given.contracts)

    def set_up_anything(self, lake, endpoint, shards):
        """One stream under a contract drawn by lot."""
        self.lake, self.kinesis, kinds = lake, kinesis.client(endpoint), (anything.TABLE,)
        contracts = self.folder / "contracts"
        contracts.mkdir()
        (contracts / f"{anything.TABLE}.toml").write_text(anything.contract(self.seed), encoding="utf-8")
        kinesis.create_streams(self.kinesis, shards, kinds)
        self.producer = Producer(self.kinesis, anything.Records(self.seed), self.folder / "accepted.jsonl", kinds)
        self.pintail = Pintail(self.given.pintail, self.folder, lake, endpoint, contracts, kinds)

    def befalls(self, event):
        """A SIGKILL with an immediate restart, or a reshard; one shard that is left cannot be merged, and is split."""
        self.pintail.must_run()
        if event == "merge" and len(kinesis.open_shards(self.kinesis, anything.TABLE)) < 2:
            event = "split"
        self.figures[f"{event}s"] = self.figures.get(f"{event}s", 0) + 1
        if event == "kill":
            self.pintail.kill()
            self.pintail.start()
        else:
            {"split": kinesis.split_first_shard, "merge": kinesis.merge_last_shards}[event](self.kinesis, anything.TABLE)

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

    def all_there(self):
        """The finding of `wait_until_complete`."""
        self.wait_until_complete()
        missing = self._missing()
        return Finding("accepted = rows + rejects", "deltalake", sum(self.producer.accepted.values()), 0, [f"missing (negative: too many): {missing}"] if missing else [])

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

    def worth_compacting(self, kind):
        """The table at a version in which a partition has several files, which Pintail compacts sooner or later."""
        deadline = time.monotonic() + COMPLETE_WITHIN
        while time.monotonic() < deadline:
            table = DeltaTable(self.lake.table(kind), storage_options=self.lake.options)
            if max(Counter(uri.rpartition("/")[0] for uri in table.file_uris()).values(), default=0) > 1:
                return table
            self.put(20)  # its compaction has just left one file
            self.wait_until_complete()
        raise TimeoutError(f"within {COMPLETE_WITHIN} s no partition of {kind} has had several files")

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
