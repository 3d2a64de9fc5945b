"""The cases: truth, volume, kill, reshard, maintenance and page, each against real third-party servers, each judged cell by cell; and
prometheus, which is judged by what a Prometheus sees.

Promise: exit code 0 means that the judges passed their own tests, that Pintail drained with exit code 0 in every case,
and that all its tables, through every reader, hold exactly what Kinesis holds, cleaned as the specification says.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import anything
import kinesis
import servers
import watch
import watching
from case import Case
from compare import report
from foreign import Foreign
from kinesis import KINDS
from leaving import leave

REPOSITORY = servers.HERE.parents[1]


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
    count = case.given.records // 3
    case.put(count // 3)
    with case.pintail, ThreadPoolExecutor(1) as beside:
        rest = beside.submit(case.put, count - count // 3, 24)
        kill_and_start(case)
        rest.result()
        case.wait_until_complete()
        case.judge()


def kill_and_start(case):
    """SIGKILL and an immediate restart, four times, at moments drawn by lot."""
    moments = random.Random(case.seed)
    for _ in range(4):
        time.sleep(moments.uniform(2, 6))
        case.pintail.must_run()
        case.pintail.kill()
        case.pintail.start()


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
    writes to and compacts it, is killed and starts again: whoever is too late gives way, and in the end only Pintail's rows
    are there."""
    lake = case.lake_in_folder()
    case.set_up(lake, case.stack.enter_context(servers.ministack(case.folder)), shards=2, large=0.0)
    count = case.given.records // 6
    case.put(count // 3)
    with case.pintail, ThreadPoolExecutor(2) as beside:
        rest = beside.submit(case.put, count - count // 3, 30)
        foreign = Foreign(lake.table("pin"), lake.options)
        meddling = beside.submit(foreign.meddle_until, rest.done)
        kill_and_start(case)  # by this thread: what a thread has started ends with it
        rest.result()
        meddling.result()
        foreign.tidy_up()
        case.wait_until_complete()
        case.figures |= foreign.figures
        late = case.worth_compacting("pin")
        came_up = foreign.came_up(late.history())
        case.judge()
        case.refuse(late)
        case.passed = report(came_up) and case.passed


def truth(case):
    """Windows drawn by lot over records drawn by lot, kills and reshards drawn by lot among them: all equal a GROUP BY of the rows."""
    case.set_up_anything(case.lake_in_folder(), case.stack.enter_context(servers.kinesis_local(case.folder)), shards=2)
    case.put(200)
    with case.pintail:
        for count, seconds, pause, event in anything.events(case.seed):
            if count:
                case.put(count, seconds)
            time.sleep(pause)
            case.befalls(event)
        case.pintail.maintained(rounds=1)  # a process that has just been started does not listen to signals yet
        case.wait_for_rows()
        case.judge_late(lambda: case.put(200, seconds=4))
        case.judge_windows()


def page(case):
    """The live page in Chromium, at three widths, light and dark: it moves with what arrives, its numbers are the API's, it fits, and everybody can use it."""
    lake = case.lake_in_folder()
    case.set_up(lake, case.stack.enter_context(servers.ministack(case.folder)), shards=2, large=0.0)
    count = case.given.records // 10
    case.put(count // 2)
    with case.pintail:
        case.wait_until_complete()
        case.pintail.settled()
        case.pintail.sealed()
        with watch.opened(case.pintail.url(), case.folder) as tab:
            seen = [tab.agrees("live page as it opens", case.producer.accepted)]
            case.put(count - count // 2, seconds=5)
            seen += [tab.agrees("live page while it is open", case.producer.accepted), tab.looks()]
        case.wait_until_complete()
        case.judge()
        case.passed = report(seen) and case.passed


def prometheus(case):
    """A Prometheus scrapes Pintail for some minutes of records: what the dashboards ask for is there, and nothing is alarmed
    until the lake is cut off."""
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
            watching.impatient(case.folder)
            asked.reload()
            findings.append(watching.judge_alarm(asked, case.cut_off, KINDS))
        finally:
            posting.set()
        posted.result()
        findings.append(case.all_there())
        case.pintail.must_run()
        findings.append(case.drained(case.pintail.stop()))
    case.passed = report(findings)


CASES = {"truth": truth, "volume": volume, "kill": kill, "reshard": reshard, "maintenance": maintenance, "page": page, "prometheus": prometheus}


def unit_tests():
    print("== tests of the judges", flush=True)
    tests = ["test_clean", "test_compare", "test_anything", "test_truth", "test_watch", "test_dashboards", "test_watching", "test_leaving"]
    judges = subprocess.run([sys.executable, "leaving.py", *tests], cwd=servers.HERE).returncode == 0
    browser = [servers.HOME / "browser/bin/python", "-W", "ignore", "-m", "unittest", "test_page", "test_reach"]
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
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="draw N contracts in the truth case: one by --seed, the others by fresh seeds, "
                        "which are printed; `--only truth --seed PRINTED` draws the same again (default 1)")
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
    # Nothing of this machine's own settings reaches a client or Pintail, nor how Polars wants its own memory kept.
    for name in [name for name in os.environ if name.startswith(("AWS_", "PINTAIL__", "_RJEM_MALLOC_CONF"))]:
        del os.environ[name]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped on the way out
    given = arguments()
    passed = given.only not in (None, "tests") or unit_tests()
    summary = []
    for name, run in CASES.items():
        for seed in seeds(name, given) if given.only in (None, name) else []:
            with ExitStack() as stack:
                case = Case(name, given, seed, stack)
                summary.append(case)
                try:
                    run(case)
                except Exception:  # the other cases still have something to say
                    traceback.print_exc()
                    print(f"kept for a second look: {case.folder}", flush=True)
    show(summary)
    leave(0 if passed and all(case.passed for case in summary) else 1)


def seeds(name, given):
    """What a case is run with: the seed that was given, and fresh ones where these draw something else."""
    fresh = given.seeds - 1 if name == "truth" else 0
    return [given.seed, *(random.SystemRandom().randrange(1 << 32) for _ in range(fresh))]


def show(cases):
    for case in cases:
        figures = "  ".join(f"{name}={value:.1f}" if isinstance(value, float) else f"{name}={value}" for name, value in case.figures.items())
        print(f"{case.name:<8} {'agrees' if case.passed else 'DIFFERS'}  seed={case.seed}  {figures}")


if __name__ == "__main__":
    main()
