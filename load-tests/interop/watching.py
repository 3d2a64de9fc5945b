"""What an operator and Grafana see, held against a real Prometheus that scrapes a running Pintail.

Promise: every panel's query, every variable and every recording rule of the repository has data after a minute of
records, no alert is raised by a healthy run, those about a lake that is cut off are raised and end, and promtool finds nothing wrong with the configuration, the rules, their
tests and the metrics themselves.
"""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request

import dashboards
from compare import Finding

PROMETHEUS = dashboards.REPOSITORY / "infra/prometheus"
WITHIN = 150  # seconds: a minute to be complete, its grace, and a slow machine
CUT_OFF = ("PintailNotReady", "PintailNotCommitting")
STEADY = 20   # an alert that is pending for longer than this is one that waits to fire


class Prometheus:
    """Questions to its HTTP API."""

    def __init__(self, endpoint):
        self._endpoint = endpoint

    def ask(self, path, **parameters):
        url = f"{self._endpoint}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return json.loads(answer.read())["data"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path} {parameters}: {error.read().decode()}") from error

    def reload(self):
        """Reads its configuration and rules again; answers when it has."""
        urllib.request.urlopen(urllib.request.Request(f"{self._endpoint}/-/reload", method="POST"), timeout=20).close()

    def numbers(self, expression, instant):
        """All numbers of the answer; those of the last two minutes unless it is an instant query."""
        if instant:
            return [float(series["value"][1]) for series in self.ask("query", query=expression)["result"]]
        now = time.time()
        answer = self.ask("query_range", query=expression, start=now - 120, end=now, step=5)
        return [float(value) for series in answer["result"] for _, value in series["values"]]

    def labelled(self, expression, label):
        """{label's value: number} of an instant query."""
        return {series["metric"].get(label): float(series["value"][1]) for series in self.ask("query", query=expression)["result"]}


def configure(folder, listen):
    """The repository's own configuration, rules beside it, with this run's target and a pace for a short run."""
    for rules in ("recording.yml", "alerts.yml"):
        shutil.copy(PROMETHEUS / rules, folder)
    text = (PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8")
    for ours, here in (("127.0.0.1:9464", listen), ("scrape_interval: 15s", "scrape_interval: 1s"), ("evaluation_interval: 15s", "evaluation_interval: 1s")):
        assert ours in text, ours
        text = text.replace(ours, here)
    (folder / "prometheus.yml").write_text(text, encoding="utf-8")
    return folder / "prometheus.yml"


def promtool(*arguments, given=None):
    """Problems: what promtool finds."""
    done = subprocess.run(["promtool", *arguments], cwd=PROMETHEUS, input=given, capture_output=True, text=True)
    said = (done.stdout + done.stderr).strip()
    return [] if done.returncode == 0 else [f"promtool {' '.join(map(str, arguments))}: {said}"]


def judge_files(folder):
    """What can be said without a running Pintail."""
    models = dashboards.load()
    rules = ["recording.yml", "alerts.yml"]
    checks = {
        "prometheus.yml, rules": promtool("check", "config", "prometheus.yml") + promtool("check", "rules", *rules),
        "tests of the rules": promtool("test", "rules", "tests.yml"),
        "dashboards: current": dashboards.stale(),
        "dashboards: Grafana's types": dashboards.untyped(models, folder),
        "dashboards: readable": dashboards.unclear(models) or [] if models else ["there are none"],
        "dashboards: thresholds": dashboards.uncoloured(models, (PROMETHEUS / "alerts.yml").read_text(encoding="utf-8")),
    }
    return [_finding(name, problems) for name, problems in checks.items()]


def judge_metrics(scrape):
    """What promtool says of a scrape, its lints included."""
    return _finding("metrics: promtool's lints", promtool("check", "metrics", given=scrape), len(scrape.splitlines()))


def judge_queries(prometheus):
    """Every query of every panel, every variable and every recording rule; asked again until each has had data."""
    models = dashboards.load()
    wanted = {("panels", where, expression): lambda e=expression, i=instant: prometheus.numbers(e, i) for where, expression, instant in dashboards.queries(models)}
    for where, label, series in dashboards.choices(models):
        wanted["variables", where, series] = lambda n=label, s=series: prometheus.ask(f"label/{n}/values", **{"match[]": s})
    for rule in _rules(prometheus, "recording"):
        wanted["recording rules", rule["name"], rule["query"]] = lambda e=rule["name"]: prometheus.numbers(e, True)
    missing, deadline = dict(wanted), time.monotonic() + WITHIN
    while missing and time.monotonic() < deadline:
        time.sleep(1)
        missing = {key: ask for key, ask in missing.items() if not any(value == value for value in ask())}  # NaN is no data
    kinds = dict.fromkeys(kind for kind, *_ in wanted)
    return [_finding(kind, [f"{where}: no data: {query}" for of, where, query in missing if of == kind], sum(key[0] == kind for key in wanted))
            for kind in kinds]


def judge_rules(prometheus):
    """No rule that fails, no alert that fires or is about to."""
    rules = _rules(prometheus, "recording") + _rules(prometheus, "alerting")
    problems = [f"{rule['name']} cannot be evaluated: {rule.get('lastError')}" for rule in rules if rule["health"] != "ok"]
    watched = time.monotonic() + STEADY
    steady = _raised(prometheus)
    while steady and time.monotonic() < watched:
        time.sleep(1)
        now = _raised(prometheus)
        steady = {key: alert for key, alert in now.items() if key in steady}
    return _finding("alerts of a healthy run", problems + [f"{alert['state']}: {alert['annotations']['summary']}" for alert in steady.values()], len(rules))


def impatient(folder):
    """The same alerts, none of which waits before it fires, nor for a commit beyond ten flush intervals."""
    rules = folder / "alerts.yml"
    text, patient = re.subn(r"^( +for): \S+$", r"\1: 1s", rules.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text, floors = re.subn(r"(clamp_min\(10 \* pintail_flush_interval_seconds), \d+\)", r"\1, 1)", text)
    assert patient and floors == 1, f"{patient} alerts wait, {floors} have a floor of seconds"
    rules.write_text(text, encoding="utf-8")


def judge_alarm(prometheus, cut_off, streams):
    """While the lake is cut off and records arrive, each stream's alerts fire, and they end by themselves when it is back."""
    wanted = {(alert, stream) for alert in CUT_OFF for stream in streams}
    with cut_off():
        missing = _until(lambda: wanted - _firing(prometheus))
    stays = _until(lambda: wanted & _firing(prometheus))
    problems = [f"{alert} of {stream} does not fire while the lake is cut off" for alert, stream in sorted(missing)]
    problems += [f"{alert} of {stream} does not end when the lake is back" for alert, stream in sorted(stays)]
    return _finding("alerts of a lake cut off", problems, len(wanted))


def _until(problems):
    """What is left when nothing is, or when it has lasted too long."""
    deadline = time.monotonic() + WITHIN
    while (left := problems()) and time.monotonic() < deadline:
        time.sleep(1)
    return left


def _firing(prometheus):
    return {(alert["labels"]["alertname"], alert["labels"].get("stream")) for alert in prometheus.ask("alerts")["alerts"] if alert["state"] == "firing"}


def _raised(prometheus):
    return {(alert["activeAt"], json.dumps(alert["labels"])): alert for alert in prometheus.ask("alerts")["alerts"]}


def _rules(prometheus, kind):
    groups = prometheus.ask("rules")["groups"]
    return [rule for group in groups for rule in group["rules"] if rule["type"] == kind]


def judge_windows(prometheus, live):
    """What Prometheus has of the last whole minute is what the API says of that minute. `live` asks /api/windows."""
    deadline, problems = time.monotonic() + WITHIN, ["nothing compared"]
    while problems and time.monotonic() < deadline:
        time.sleep(1)
        starts = prometheus.labelled('pintail_window_start_timestamp_seconds{state="complete"}', "window")
        records = prometheus.labelled('pintail_window_records{state="complete"}', "window")
        counted = prometheus.labelled('sum by (window) (pintail_window_value{state="complete", measure=~"pins|posts|users"})', "window")
        api = {(window["window"], start["start_ms"]): start["records"] for window in live() for start in window["starts"]}
        problems = [f"{window}: Prometheus has {records.get(window)} records, by key {counted.get(window)}; the API {api.get((window, start * 1000))}"
                    for window, start in starts.items() if not records.get(window) == counted.get(window) == api.get((window, start * 1000))]
        problems += ["no window has a complete start"] * (not starts)
    return _finding("gauges = live windows", problems, len(starts))


def _finding(name, problems, cells=0):
    return Finding(name, "process", 0, cells, problems)
