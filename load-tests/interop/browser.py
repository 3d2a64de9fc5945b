"""Headless Chromium over its DevTools protocol: opens a page, asks it things, takes its picture.

Run as a program it does what `watch.py` wants and prints what it found as JSON; it has an environment of its own, so
that the readers' need not know of it: `browser.py URL SCRIPT [PICTURE_FOLDER]`.
"""

import base64
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import websocket

SIZES = [(width, height, theme) for width, height in ((320, 900), (1400, 1000), (3840, 2160)) for theme in ("light", "dark")]


class Page:
    """One tab. Whatever its console says as an error is kept."""

    def __init__(self, address):
        self._socket = websocket.create_connection(address, timeout=30, suppress_origin=True)
        self._number, self.errors = 0, []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv())
            self._note(answer)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _note(self, said):
        params = said.get("params", {})
        if said.get("method") == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"].get("exception", {}).get("description", str(params)))
        elif said.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} ({params['entry'].get('url', '')})")

    def open(self, url):
        self.call("Page.navigate", url=url)

    def ask(self, expression):
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def until(self, expression, seconds=60):
        deadline = time.monotonic() + seconds
        while not (found := self.ask(expression)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {seconds} s still not: {expression}\n{self.ask('document.body.innerText')[:2000]}")
            time.sleep(0.1)
        return found

    def resize(self, width, height, theme):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    def picture(self, path):
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        Path(path).write_bytes(base64.b64decode(answer["data"]))


@contextmanager
def chromium():
    """A browser without a window and without a past; yields its first tab."""
    with tempfile.TemporaryDirectory(prefix="chromium-") as profile:
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
                   "--disable-dev-shm-usage", "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            yield Page(_first_tab(process))
        finally:
            process.kill()
            process.wait()


def _first_tab(process):
    for line in process.stderr:
        if found := re.search(r"ws://(127\.0\.0\.1:\d+)/", line):
            with urllib.request.urlopen(f"http://{found[1]}/json/list", timeout=30) as answer:
                return next(tab["webSocketDebuggerUrl"] for tab in json.load(answer) if tab["type"] == "page")
    raise RuntimeError("chromium ended before it could be reached; is the Debian package installed?")


def main(url, script, pictures=None):
    """Opens the page at each size, waits until it is live, runs the script once, and says what came of it."""
    found = {"sizes": []}
    with chromium() as page:
        page.open(url)
        page.until("document.getElementById('live')?.textContent === 'live'")
        found["values"] = page.ask(script)
        for width, height, theme in SIZES:
            page.resize(width, height, theme)
            time.sleep(1)  # in which what moves has moved
            found["sizes"].append({"width": width, "theme": theme, "content": page.ask("document.documentElement.scrollWidth"),
                                   "paper": page.ask("getComputedStyle(document.body).backgroundColor")})
            if pictures:
                page.picture(Path(pictures) / f"page-{width}-{theme}.png")
        found["errors"] = page.errors
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
