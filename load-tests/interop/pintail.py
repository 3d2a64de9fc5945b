"""The program under test as its users meet it: a config file, a process, signals, an exit code and /metrics."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import servers
from kinesis import KINDS


class Pintail:
    """One deployment; the process behind it may be started and killed many times."""

    def __init__(self, binary, folder, lake, kinesis_endpoint, contracts, kinds=KINDS):
        self._binary, self._log = binary, folder / "pintail.log"
        self.listen = f"127.0.0.1:{servers.free_port()}"
        self._config = folder / "pintail.toml"
        self._config.write_text(_config(lake, kinesis_endpoint, self.listen, contracts, kinds))
        self._process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()

    def start(self):
        self._process = servers.spawn([self._binary, "run", "--config", self._config], self._log, _credentials())

    def kill(self):
        """SIGKILL: no instruction more."""
        self._process.kill()
        self._process.wait()

    def stop(self, seconds=60):
        """SIGTERM; the exit code, or that there was none in time."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"still running after {seconds} s"

    def maintain(self, **settings):
        """One round of `pintail maintain` in a process of its own: (exit code, what it printed)."""
        environment = {f"PINTAIL__MAINTENANCE__{name.upper()}": str(value) for name, value in settings.items()}
        done = subprocess.run([self._binary, "maintain", "--config", self._config], capture_output=True, text=True, timeout=300,
                              env={**os.environ, **_credentials(), **environment})
        return done.returncode, done.stdout + done.stderr

    def must_run(self):
        if self._process.poll() is not None:
            raise RuntimeError(f"pintail exited with {self._process.returncode}:\n{self.log_tail()}")

    def log(self):
        return self._log.read_text(errors="replace")

    def log_tail(self):
        return self.log()[-4000:]

    def url(self):
        """Where the live page and the API are."""
        return f"http://{self.listen}"

    def settled(self, seconds=60):
        """Waits until nothing that is shown is uncommitted and everything that is shown is counted."""
        deadline = time.monotonic() + seconds
        while True:
            with urllib.request.urlopen(f"{self.url()}/api/windows?rows=0", timeout=10) as answer:
                windows = json.load(answer)
            if windows and all(window["starts"] and not any(start["pending"] for start in window["starts"]) for window in windows):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {seconds} s something is still pending: {windows}")
            time.sleep(0.2)

    def maintained(self, rounds, seconds=120):
        """Waits until maintenance has looked at every table so often since the start."""
        deadline = time.monotonic() + seconds
        while True:
            looks = {}
            for table, count in re.findall(r'^pintail_maintenance_rounds_total{[^\n]*table="([^"]*)"[^\n]*} (\S+)$', self._metrics(), re.MULTILINE):
                looks[table] = looks.get(table, 0) + float(count)
            if looks and min(looks.values()) >= rounds:
                return
            self.must_run()
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {seconds} s maintenance has looked at {looks}")
            time.sleep(0.2)

    def _metrics(self):
        """What /metrics says; nothing while it starts."""
        try:
            return self.ask("/metrics")
        except OSError:
            return ""

    def counter(self, name, **labels):
        """The sum of a counter at /metrics over all series with these labels."""
        series = re.findall(rf"^{name}(?:{{([^\n]*)}})? (\S+)$", self.ask("/metrics"), re.MULTILINE)
        return sum(float(value) for said, value in series if all(f'{label}="{text}"' in said for label, text in labels.items()))

    def sealed(self, seconds=180):
        """Waits until the history of every window has a sealed start."""
        deadline = time.monotonic() + seconds
        while True:
            windows = json.loads(self.ask("/api/sealed?rows=0"))
            if windows and all(window["starts"] for window in windows):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {seconds} s a window is not sealed: {windows}")
            time.sleep(0.2)

    def ask(self, path):
        """The body of an answer over HTTP."""
        with urllib.request.urlopen(f"http://{self.listen}{path}", timeout=10) as answer:
            return answer.read().decode()


def _credentials():
    return {"AWS_ACCESS_KEY_ID": servers.ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": servers.SECRET_KEY, "AWS_EC2_METADATA_DISABLED": "true"}


def _config(lake, kinesis_endpoint, listen, contracts, kinds):
    streams = "".join(f'\n[[stream]]\nname = "{kind}"\ncontract = "{Path(contracts) / kind}.toml"\n' for kind in kinds)
    s3 = f'endpoint = "{lake.endpoint}"\n' if lake.endpoint else ""
    return (f'pipeline = "interop"\n\n[lake]\nuri = "{lake.uri}"\nflush_interval = "2s"\n{s3}\n[source]\nstart = "trim_horizon"\n\n'
            f'[maintenance]\ninterval = "2s"\ncheckpoint_commits = 5\ncompact_files = 4\n\n'
            f'[serve]\nlisten = "{listen}"\n\n[aws]\nregion = "us-east-1"\nendpoint = "{kinesis_endpoint}"\n{streams}')
