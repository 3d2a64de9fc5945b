"""The judges of the dashboards find what is planted."""

import copy
import tempfile
import unittest
from pathlib import Path

import dashboards


class Planted(unittest.TestCase):
    def setUp(self):
        self.models = copy.deepcopy(dashboards.load())
        self.panel = self.models["overview"]["panels"][0]

    def untyped(self):
        with tempfile.TemporaryDirectory() as folder:
            return dashboards.untyped(self.models, Path(folder))

    def test_what_is_shipped_is_fine(self):
        self.assertEqual(set(self.models), {"overview", "shards", "lake", "windows"})
        self.assertEqual((self.untyped(), dashboards.unclear(self.models)), ([], []))

    def test_each_misspelling_is_found_by_its_type(self):
        curves = next(panel for panel in self.models["overview"]["panels"] if panel["type"] == "timeseries")
        layout = next(panel for panel in self.models["windows"]["panels"] if panel["type"] == "geomap")
        for plant in (
            lambda: self.panel["gridPos"].update(height=4),
            lambda: self.panel["options"].update(colorMode="backdrop"),
            lambda: curves["options"]["tooltip"].update(mode="multy"),
            lambda: curves["fieldConfig"]["defaults"]["custom"].update(drawstyle="line"),
            lambda: layout["options"]["view"].update(zoom="near"),
            lambda: self.panel["targets"][0].update(query="up"),
            lambda: self.models["lake"]["templating"]["list"][1].update(kind="query"),
        ):
            before = len(self.untyped())
            plant()
            self.assertGreater(len(self.untyped()), before)

    def test_each_lack_is_found(self):
        panels = self.models["overview"]["panels"]
        for plant, words in (
            (lambda: panels[0].update(description=" "), "has no description"),
            (lambda: panels[1]["fieldConfig"]["defaults"].pop("unit"), "has no unit"),
            (lambda: panels[2]["targets"][0].update(legendFormat=""), "has no legend"),
            (lambda: panels[3]["gridPos"].update(x=0), "covers another panel"),
            (lambda: self.models["overview"]["templating"]["list"].append({"name": "zone", "type": "custom"}), "nothing uses $zone"),
        ):
            plant()
            self.assertTrue(any(words in problem for problem in dashboards.unclear(self.models)), words)

    def test_what_has_a_bad_side_says_where_it_begins(self):
        rules = (dashboards.REPOSITORY / "infra/prometheus/alerts.yml").read_text(encoding="utf-8")
        self.assertEqual(dashboards.uncoloured(self.models, rules), [])
        of = lambda name, title: next(panel for panel in self.models[name]["panels"] if panel["title"] == title)  # noqa: E731
        base = {"mode": "absolute", "steps": [{"color": "green", "value": None}]}
        column = next(each for each in of("shards", "Shards")["fieldConfig"]["overrides"] if each["matcher"]["options"] == "Behind")
        for plant, words in (
            (lambda: of("overview", "Behind")["fieldConfig"]["defaults"].update(thresholds=base), "overview: Behind (Behind) has no thresholds"),
            (lambda: of("windows", "Rejects")["fieldConfig"]["defaults"].update(thresholds=base), "windows: Rejects (Rejects) has no thresholds"),
            (lambda: of("lake", "Sealed behind")["fieldConfig"]["defaults"]["thresholds"]["steps"].pop(), "has no threshold at 900.0"),
            (lambda: of("lake", "Tables behind their rows")["fieldConfig"]["defaults"]["thresholds"]["steps"].pop(1), "has no threshold at 1"),
            (lambda: of("lake", "Watermark")["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"].update(mode="off"), "does not draw"),
            (lambda: next(each for each in column["properties"] if each["id"] == "thresholds").update(value=base), "shards: Shards (Behind) has no thresholds"),
        ):
            plant()
            self.assertTrue(any(words in problem for problem in dashboards.uncoloured(self.models, rules)), words)

    def test_a_query_is_asked_without_grafanas_variables(self):
        asked = [query for _, query, _ in dashboards.queries(self.models)]
        self.assertEqual(len(asked), sum(len(panel["targets"]) for model in self.models.values() for panel in model["panels"]))
        self.panel["targets"][0]["expr"] = "up{zone='$zone'}"
        with self.assertRaises(AssertionError):
            list(dashboards.queries(self.models))


if __name__ == "__main__":
    unittest.main()
