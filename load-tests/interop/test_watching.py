"""The judge of the alerts, before a Prometheus that says what we want."""

import re
import shutil
import tempfile
import unittest
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import watching

STREAMS = ("geo", "pin")
ALL = [(alert, stream) for alert in watching.CUT_OFF for stream in STREAMS]


class Said:
    """Prometheus: some alerts while the lake is cut off, others when it is back."""

    def __init__(self, cut_off, back, state="firing"):
        self._said, self._then, self._state = cut_off, back, state

    def ask(self, path):
        assert path == "alerts"
        return {"alerts": [{"labels": {"alertname": alert, "stream": stream}, "state": self._state} for alert, stream in self._said]}

    @contextmanager
    def cut_off(self):
        yield
        self._said = self._then


class Alarm(unittest.TestCase):
    def judged(self, *said, **more):
        prometheus = Said(*said, **more)
        with mock.patch.object(watching, "WITHIN", 0):
            return watching.judge_alarm(prometheus, prometheus.cut_off, STREAMS).problems

    def test_alerts_that_fire_and_end_are_as_they_should_be(self):
        self.assertEqual(self.judged(ALL, []), [])

    def test_one_that_does_not_fire_or_end_is_found(self):
        self.assertEqual(self.judged(ALL[1:], []), ["PintailNotReady of geo does not fire while the lake is cut off"])
        self.assertEqual(self.judged(ALL, ALL[-1:]), ["PintailNotCommitting of pin does not end when the lake is back"])

    def test_one_that_waits_does_not_fire(self):
        self.assertEqual(len(self.judged(ALL, [], state="pending")), len(ALL))

    def test_the_alerts_are_the_shipped_ones_but_for_their_patience(self):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(watching.PROMETHEUS / "alerts.yml", folder)
            watching.impatient(Path(folder))
            made = (Path(folder) / "alerts.yml").read_text(encoding="utf-8")
        shipped = (watching.PROMETHEUS / "alerts.yml").read_text(encoding="utf-8")
        self.assertEqual(set(re.findall(r"for: (\S+)$", made, re.MULTILINE)), {"1s"})
        self.assertIn("clamp_min(10 * pintail_flush_interval_seconds, 1)", made)
        patience = re.compile(r"for: \S+$|(?<=flush_interval_seconds, )\d+", re.MULTILINE)
        self.assertEqual(patience.sub("", made), patience.sub("", shipped))


if __name__ == "__main__":
    unittest.main()
