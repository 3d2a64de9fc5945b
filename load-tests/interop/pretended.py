"""A server of ours that says what a Pintail says: on an unlucky day, or when everything that can be on the page is there."""

import json
import queue
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "src/serve/page"
ORDER = re.findall(r'include_str!\("page/([\w.]+)"\)', (PAGE.parent / "page.rs").read_text(encoding="utf-8"))
DAY = 86_400_000
NOW = 1_769_846_430_000  # 2026-01-31T08:00:30Z
MINUTE = NOW - 30_000
SILENT = object()


def start(start_ms, records):
    rows = [{"key": ["a country with a name that is rather long"], "measures": [records, "x" * 200], "records": records, "pending": 0}]
    return {"start_ms": start_ms, "end_ms": start_ms + 60_000, "records": records, "pending": 0, "keys": 1, "rows": rows}


def window(ahead, starts):
    return {"stream": "s", "window": "w", "every_ms": 60_000, "hop_ms": 60_000, "keys": ["country"], "measures": ["n", "last"], "committed_version": 1,
            "as_of_ms": None, "catching_up": False, "not_shown": None, "ahead": ahead, "starts": starts}


def shard(name="shardId-0", **other):
    return {"shard": name, "state": "reading", "owner": "self", "parents": [], "children": [], "generation": 0, "hash_range": None, "position": None,
            "counted": None, "behind_ms": 0, "last_arrival_ms": NOW, "record_age_ms": 0, "records": 15, "bytes": 150, **other}


def stream(name="s", **other):
    return {"stream": name, "ready": True, "trouble": {}, "records": 15, "bytes": 150, "rows": 15, "rejects": {}, "nulls": {}, "repairs": {},
            "shards": [shard()], "tables": [], **other}


def hello(ahead, *streams):
    summary = {"now_ms": NOW, "pipeline": "p", "version": "1", "started_ms": NOW - DAY, "ready": True, "streams": list(streams) or [stream()]}
    return {"summary": summary, "windows": [window(ahead, [start(MINUTE, 7), start(MINUTE - 60_000, 5), start(MINUTE - DAY, 3)])], "sealed": [],
            "rejects": {"now_ms": NOW, "streams": []}, "history": {"now_ms": NOW, "streams": []}}


def sealed(starts):
    return {"stream": "s", "window": "w", "every_ms": 60_000, "hop_ms": 60_000, "keys": ["country"], "measures": ["n", "last"], "revises": True,
            "through_ms": MINUTE, "since_ms": 0, "as_of_ms": NOW - 5000, "starts": starts}


def sealed_start(start_ms, records, late=None):
    return {**start(start_ms, records), "late": late, "revision": 1, "complete": late is None, "whole": True}


def rejects(reason, count):
    sample = {"shard": "shardId-0", "sequence_number": "4" * 56, "sub_sequence_number": 3, "arrived_ms": NOW, "detail": "expected a value at byte 1",
              "payload": '{"index": ' * 40, "payload_bytes": 400}
    return {"reason": reason, "count": count, "samples": [sample, {**sample, "sequence_number": "5" * 56, "payload": ""}]}


def everything():
    """All parts of the page, in every colour that they have."""
    whole, half = 2 ** 128 - 1, 2 ** 127
    table = lambda name, kind: {"table": name, "kind": kind, "location": f"s3://lake/{name}", "version": 7, "rows": 1234, "files": 5, "bytes": 70_000,  # noqa: E731
                                "maintained_ms": NOW, "maintenance_trouble": "AccessDenied: s3:DeleteObject" if kind == "rejects" else None,
                                "seal_trouble": None, "commit_age_ms": 900}
    family = [shard("shardId-000000000000", state="ended", children=["shardId-000000000001", "shardId-000000000002"], hash_range=["0", str(whole)], behind_ms=None),
              shard("shardId-000000000001", parents=["shardId-000000000000"], hash_range=["0", str(half - 1)], behind_ms=6000),
              shard("shardId-000000000002", parents=["shardId-000000000000"], hash_range=[str(half), str(whole)], behind_ms=75_000),
              *(shard(f"shardId-00000000001{at}", state=state, owner=owner, behind_ms=None)
                for at, (state, owner) in enumerate([("waiting", None), ("parked", "another"), ("fenced", "another"), ("lost", None)]))]
    good = stream("s", records=1500, rows=1300, rejects={"invalid_json": 100, "required": 2}, nulls={"follower_count": {"unparsable": 40, "absent": 3}},
                  shards=family, tables=[table("a_window_with_a_long_name", "sealed"), table("a_window_with_a_long_name_partials", "partials"), table("s_rejects", "rejects"), table("s", "rows")])
    bad = stream("t", ready=False, trouble={"lake": "AccessDenied"}, lost={"shardId-000000000009": "(4, 9]"})
    said = hello({"starts": 10, "records": 1234}, good, bad)
    said["windows"][0]["starts"][0] |= {"pending": 3, "keys": 12}
    said["sealed"] = [sealed([sealed_start(MINUTE - 60_000, 5, late=2), sealed_start(MINUTE - 120_000, 4, late=0), sealed_start(MINUTE - DAY, 3)])]
    said["rejects"]["streams"] = [{"stream": "s", "rejects": 102, "reasons": [rejects("invalid_json", 100), rejects("required", 2)]}, {"stream": "t", "rejects": 0, "reasons": []}]
    return said


class Pintail:
    """Serves the page, says hello, and whatever it is told to say, until it dies."""

    def __init__(self, said, page=None):
        self._dead, self._lines = threading.Event(), []
        page = page or "".join((PAGE / name).read_text(encoding="utf-8") for name in ORDER)
        outer = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self):
                if outer._dead.is_set():
                    return self.connection.close()
                is_page = self.path == "/"
                self.send_response(200)
                self.send_header("Content-Type", "text/html" if is_page else "text/event-stream")
                self.end_headers()
                if is_page:
                    return self.wfile.write(page.encode())
                line = queue.Queue()
                outer._lines.append(line)
                event = ("hello", said)
                while event is not SILENT:
                    self.wfile.write(f"event: {event[0]}\ndata: {json.dumps(event[1])}\n\n".encode())
                    self.wfile.flush()
                    event = line.get()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def say(self, event, what):
        for line in self._lines:
            line.put((event, what))

    def die(self):
        self._dead.set()
        for line in self._lines:
            line.put(SILENT)
        self._server.shutdown()
        self._server.server_close()
