"""The live page with all that can be on it, used without a mouse and read aloud; and that each fault of it would be found.

Runs in the browser's own environment: `browser/bin/python -m unittest test_reach`.
"""

import copy
import unittest

import browser
import reach
from pretended import MINUTE, NOW, Pintail, everything, rejects, sealed, sealed_start, start

# One of each kind of fault, as somebody might write it, and words of what must be said of it.
PLANTS = {
    "button { outline: none !important; }": "has no outline",
    ".starts button:focus-visible { outline-color: var(--card) !important; }": "has an outline that hardly shows",
    ".starts { overflow: hidden; } .starts button { margin: 0; } .starts button:focus-visible { outline-offset: 9px !important; }": "cuts off",
    ".muted { color: #999 !important; }": ":1",
    ".card { opacity: .5; }": ":1",
    ".shards td:nth-child(3) { display: none; }": "a table has rows of",
}


class Reach(unittest.TestCase):
    minutes = 0

    def setUp(self):
        opened = browser.chromium()
        self.page = opened.__enter__()
        self.addCleanup(opened.__exit__, None, None, None)
        self.said = everything()
        self.pintail = Pintail(self.said)
        self.addCleanup(self.pintail.die)
        self.page.open(self.pintail.url)
        self.page.until("document.getElementById('live')?.textContent === 'live'")

    def test_it_is_used_by_keys_and_read_aloud_at_every_width_in_both_themes(self):
        self.assertEqual(reach.operate(self.page), [])
        for width in (320, 800, 1400):
            for theme in ("light", "dark"):
                self.page.resize(width, 900, theme)
                self.assertEqual(reach.problems(self.page), [], (width, theme))

    def test_the_tables_come_as_records_do(self):
        names = self.page.ask("[...document.querySelectorAll('#streams .lake tbody td:first-child')].map(cell => cell.textContent)")
        self.assertEqual(names, ["s", "s_rejects", "a_window_with_a_long_name_partials", "a_window_with_a_long_name"])

    def test_it_is_legible_when_it_is_not_live(self):
        self.pintail.die()
        self.page.until("document.getElementById('live').textContent === 'not live'")
        for theme in ("light", "dark"):
            self.page.resize(1400, 900, theme)
            self.assertEqual(reach.problems(self.page), [], theme)

    def test_each_fault_is_found(self):
        self.page.resize(1400, 900, "light")
        for style, words in PLANTS.items():
            self.plant(f"document.head.append(Object.assign(document.createElement('style'), {{ id: 'planted', textContent: `{style}` }}))", words)
            self.page.ask("document.getElementById('planted').remove()")
        for script, words in (
            ("document.querySelector('.starts button').tabIndex = 0; document.querySelector('.starts').inert = true", "Tab does not reach <button>"),
            ("document.querySelector('.starts').inert = false; document.querySelector('.starts button').setAttribute('aria-label', ' '); document.querySelector('.starts button').title = ''", "1 of role button have no name"),
            ("document.querySelector('.spark').removeAttribute('aria-label')", "have no name"),
            ("document.querySelector('#shards tr').removeAttribute('role'); document.querySelector('#shards tr').style.display = 'grid'", "has no role"),
            ("document.querySelector('#shards tr').role = 'presentation'", "a screen reader is told"),
        ):
            self.plant(script, words)

    def test_a_key_that_does_nothing_is_found(self):
        self.page.ask("document.addEventListener('click', event => event.stopImmediatePropagation(), true)")
        self.page.ask("document.addEventListener('keydown', event => event.preventDefault(), true)")
        found = reach.operate(self.page)
        self.assertIn("Enter on a start changes nothing", found)
        self.assertIn("Enter on a sealed row changes nothing", found)
        self.assertIn("Enter on what opens changes nothing", found)

    def test_the_focus_stays_where_it_is_while_everything_changes(self):
        for query in ("#windows .starts button:nth-child(2)", "#sealed tbody tr:nth-child(2) button", "#rejects summary", "#windows .scroll", "footer a"):
            self.page.ask(f"(window.held = document.querySelector('{query}')).focus()")
            self.change()
            self.assertTrue(self.page.ask("document.activeElement === window.held"), query)

    def test_the_focus_goes_to_the_neighbour_of_what_goes(self):
        self.page.ask("document.querySelector('#windows .starts button').focus()")
        self.change(room=3)
        self.assertEqual(self.page.ask("[...document.querySelectorAll('#windows .starts button')].indexOf(document.activeElement)"), 0)
        self.page.ask("[...document.querySelectorAll('#sealed tbody button')].at(-1).focus()")
        self.change(room=3)
        self.assertTrue(self.page.ask("document.activeElement === [...document.querySelectorAll('#sealed tbody button')].at(-1)"))

    def plant(self, script, words):
        self.page.ask(f"(() => {{ {script} }})()")
        found = reach.problems(self.page)
        self.assertTrue(any(words in problem for problem in found), (script, words, found[:5]))

    def change(self, room=9):
        """A minute later: a new start, a newly sealed one, another reason first; of starts only so many as there is room for."""
        self.minutes += 1
        said, minutes, at = self.said, self.minutes, MINUTE + self.minutes * 60_000
        live, past, refused = said["windows"][0], said["sealed"][0], said["rejects"]["streams"][0]
        live["starts"] = [start(at, 100 + minutes), *live["starts"]][:room]
        past["starts"] = [sealed_start(at - 60_000, 50 + minutes), *past["starts"]][:room]
        refused["reasons"] = [rejects(f"a_reason_{minutes}", 1000), *refused["reasons"]]
        summary = copy.deepcopy(said["summary"]) | {"now_ms": NOW + minutes * 60_000}
        said["summary"] = summary
        shown = [each["start_ms"] for each in live["starts"]]
        self.pintail.say("windows", [live | {"starts": live["starts"][:1], "shown": shown}])
        self.pintail.say("sealed", [sealed(past["starts"])])
        self.pintail.say("rejects", said["rejects"])
        self.pintail.say("summary", summary)
        self.page.until(f"document.querySelector('#rejects .reject [data-reason=a_reason_{minutes}]') && "
                        f"document.querySelectorAll('#windows .starts button').length === {len(shown)} && document.querySelectorAll('#sealed tbody tr[data-start]').length === {len(past['starts'])}")


if __name__ == "__main__":
    unittest.main()
