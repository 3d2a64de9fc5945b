"""What some work took."""

import json
import os
import time
from contextlib import contextmanager


@contextmanager
def measured(version, helper=None):
    """Around the work alone, after imports and the engine's start. The block gets a dict for what it found: `rows`, if it knows. A `helper` is
    the process beside this one that does the work, by its id: what both take is told."""
    found = {"rows": None}
    cpu, wall = _cpu_s(helper), time.perf_counter()
    yield found
    cpu, wall = _cpu_s(helper) - cpu, time.perf_counter() - wall
    print(json.dumps({"rows": found["rows"], "cpu_s": cpu, "wall_s": wall, "rss_peak_bytes": _rss_peak_bytes(helper), "version": version}),
          flush=True)


def _cpu_s(helper):
    if helper is None:
        return time.process_time()
    with open(f"/proc/{helper}/stat") as file:
        after_name = file.read().rpartition(")")[2].split()  # a name may hold spaces
    user, system = map(int, after_name[11:13])
    return time.process_time() + (user + system) / os.sysconf("SC_CLK_TCK")


def _rss_peak_bytes(helper):
    return sum(_peak_bytes(process) for process in ("self", helper) if process is not None)


def _peak_bytes(process):
    """As /proc has it. getrusage's `ru_maxrss` is no less than what the process that started this one held."""
    with open(f"/proc/{process}/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
