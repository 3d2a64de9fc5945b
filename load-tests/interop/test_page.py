"""The live page in Chromium, fed by a server of ours that says what a Pintail says on an unlucky day.

Runs in the browser's own environment: `browser/bin/python -m unittest test_page`.
"""

import json
import re
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import browser

PAGE = Path(__file__).resolve().parents[2] / "src/serve/page"
ORDER = re.findall(r'include_str!\("page/([\w.]+)"\)', (PAGE.parent / "page.rs").read_text(encoding="utf-8"))
DAY = 86_400_000
NOW = 1_769_846_430_000  # 2026-01-31T08:00:30Z
MINUTE = NOW - 30_000


def start(start_ms, records):
    rows = [{"key": ["a country with a name that is rather long"], "measures": [records, "x" * 200], "records": records, "pending": 0}]
    return {"start_ms": start_ms, "end_ms": start_ms + 60_000, "records": records, "pending": 0, "keys": 1, "rows": rows}


def hello(ahead):
    window = {"stream": "s", "window": "w", "every_ms": 60_000, "hop_ms": 60_000, "keys": ["country"], "measures": ["n", "last"], "committed_version": 1,
              "as_of_ms": None, "catching_up": False, "not_shown": None, "ahead": ahead, "starts": [start(MINUTE, 7), start(MINUTE - 60_000, 5), start(MINUTE - DAY, 3)]}
    shard = {"shard": "shardId-0", "state": "reading", "owner": "self", "parents": [], "children": [], "generation": 0, "hash_range": None, "position": None,
             "counted": None, "behind_ms": 0, "last_arrival_ms": NOW, "record_age_ms": 0, "records": 15, "bytes": 150}
    stream = {"stream": "s", "ready": True, "trouble": {}, "records": 15, "bytes": 150, "rows": 15, "rejects": {}, "nulls": {}, "repairs": {},
              "shards": [shard], "tables": []}
    summary = {"now_ms": NOW, "pipeline": "p", "version": "1", "started_ms": NOW - DAY, "ready": True, "streams": [stream]}
    return {"summary": summary, "windows": [window], "sealed": [], "rejects": {"now_ms": NOW, "streams": []}, "history": {"now_ms": NOW, "streams": []}}


class Pintail:
    """Serves the page and says hello until it dies."""

    def __init__(self, said):
        self._dead = threading.Event()
        page = "".join((PAGE / name).read_text(encoding="utf-8") for name in ORDER)
        outer = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self):
                if outer._dead.is_set():
                    return self.connection.close()
                is_page = self.path == "/"
                self.send_response(200)
                self.send_header("Content-Type", "text/html" if is_page else "text/event-stream")
                self.end_headers()
                self.wfile.write(page.encode() if is_page else f"event: hello\ndata: {json.dumps(said)}\n\n".encode())
                self.wfile.flush()
                if not is_page:
                    outer._dead.wait()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def die(self):
        self._dead.set()
        self._server.shutdown()
        self._server.server_close()


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
