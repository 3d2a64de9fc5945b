"""The live page in Chromium, fed by a server of ours that says what a Pintail says on an unlucky day.

Runs in the browser's own environment: `browser/bin/python -m unittest test_page`.
"""

import json
import unittest

import browser
from pretended import Pintail, hello


class Unlucky(unittest.TestCase):
    def setUp(self):
        opened = browser.chromium()
        self.page = opened.__enter__()
        self.addCleanup(opened.__exit__, None, None, None)

    def open(self, ahead):
        pintail = Pintail(hello(ahead))
        self.addCleanup(pintail.die)
        self.page.open(pintail.url)
        self.page.until("document.getElementById('live')?.textContent === 'live'")
        return pintail

    def text(self, query):
        return self.page.ask(f"document.querySelector({json.dumps(query)}).textContent")

    def test_the_running_start_is_the_one_of_now_and_the_future_is_told_apart(self):
        self.open({"starts": 10, "records": 1234})
        self.assertEqual(self.text("#windows .sum:not(.ahead)"), "08:00:00 – 08:01:00 UTC · 30 s left · 7 records")
        self.assertEqual(self.text("#windows .ahead"), "10 starts in the future, 1,234 records: their time is later than the clock")
        labels = self.page.ask("[...document.querySelectorAll('.starts button')].map(button => button.title)")
        self.assertTrue(labels[0].startswith("2026-01-30 08:00:00 – 08:01:00 UTC: 3 records"), "another day is named")
        self.assertEqual(len(labels), 3)

    def test_without_a_future_nothing_is_said_of_it(self):
        self.open({"starts": 0, "records": 0})
        self.assertTrue(self.page.ask("document.querySelector('#windows .ahead').hidden"))

    def test_of_a_pintail_that_died_nothing_good_is_said(self):
        pintail = self.open({"starts": 0, "records": 0})
        states = "[...document.querySelectorAll('#streams .pill, #streams dd:first-of-type, #shards .pill, #shards .lag span, #whole dd')].map(node => node.textContent)"
        self.assertIn("ready", self.page.ask(states))
        self.assertIn("caught up", self.page.ask(states))
        pintail.die()
        self.page.until("document.getElementById('live').textContent === 'not live'")
        self.page.until("document.querySelector('#streams .pill').textContent === 'not known'")
        for good in ("ready", "caught up", "reading"):
            self.assertNotIn(good, self.page.ask(states))
        self.assertFalse(self.page.ask("document.querySelector('#streams .pill').classList.contains('good')"))

    def test_a_wide_card_shows_whole_names_and_a_table_that_goes_on_has_a_shade_at_its_edge(self):
        self.open({"starts": 0, "records": 0})
        cut = "(cell => cell.scrollWidth > cell.clientWidth)(document.querySelector('#windows tbody td'))"
        self.page.resize(3840, 2160, "light")
        self.page.until(f"!{cut}")
        self.page.resize(700, 900, "light")
        self.page.until("(box => box.scrollWidth > box.clientWidth)(document.querySelector('#windows .scroll'))")
        shades = "getComputedStyle(document.querySelector('#windows .scroll')).backgroundAttachment"
        self.assertEqual(self.page.ask(shades), "local, local, scroll, scroll")


if __name__ == "__main__":
    unittest.main()
