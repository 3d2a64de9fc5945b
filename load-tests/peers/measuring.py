"""What some work took."""

import json
import resource
import time
from contextlib import contextmanager


@contextmanager
def measured(version):
    """Around the work alone, after imports and the engine's start. The block gets a dict for what it found: `rows`, if it knows."""
    found = {"rows": None}
    cpu, wall = time.process_time(), time.perf_counter()
    yield found
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"rows": found["rows"], "cpu_s": cpu, "wall_s": wall, "rss_peak_bytes": peak, "version": version}), flush=True)
