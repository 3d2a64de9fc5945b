"""Headless Chromium over its DevTools protocol: opens a page, asks it things, presses its keys, takes its picture.

Run as a program it does what `watch.py` wants: a line of JSON for each line that it is given, the page open all the
while. It has an environment of its own, so that the readers' need not know of it: `browser.py URL SCRIPT PICTURE_FOLDER`.
"""

import base64
import json
import re
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import websocket

import reach

KEYS = {"Tab": {"windowsVirtualKeyCode": 9}, "Enter": {"windowsVirtualKeyCode": 13, "text": "\r"}}
SIZES = [(width, height, theme) for width, height in ((320, 900), (1400, 1000), (3840, 2160)) for theme in ("light", "dark")]


class Page:
    """One tab. Whatever its console says as an error is kept."""

    def __init__(self, address):
        self._socket = websocket.create_connection(address, timeout=30, suppress_origin=True)
        self._number, self.errors = 0, []
        for domain in ("Page", "Runtime", "Log", "Accessibility"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

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

    def close(self):
        """Ends the browser, its children too: what is only killed leaves children that still write to its profile."""
        try:
            self.call("Browser.close")
        except (OSError, websocket.WebSocketException):
            pass  # it went before it had answered

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

    def press(self, key):
        self.call("Input.dispatchKeyEvent", type="keyDown" if "text" in KEYS[key] else "rawKeyDown", key=key, code=key, **KEYS[key])
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=KEYS[key]["windowsVirtualKeyCode"])

    def resize(self, width, height, theme):
        """Shows the page at this size, nothing of it in motion, once it has been laid out and painted so."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}, {"name": "prefers-reduced-motion", "value": "reduce"}])
        self.ask("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def picture(self, path):
        """All of the page, also what would have to be scrolled to; the picture's (width, height)."""
        content = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": content["width"], "height": content["height"], "scale": 1}
        png = base64.b64decode(self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"])
        Path(path).write_bytes(png)
        return struct.unpack(">II", png[16:24])


@contextmanager
def chromium():
    """A browser without a window and without a past; yields its first tab."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
                   "--disable-dev-shm-usage", "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            page = Page(_first_tab(process))
            yield page
            page.close()
            process.wait(30)
        finally:
            process.kill()
            process.wait()


def _first_tab(process):
    for line in process.stderr:
        if found := re.search(r"ws://(127\.0\.0\.1:\d+)/", line):
            with urllib.request.urlopen(f"http://{found[1]}/json/list", timeout=30) as answer:
                return next(tab["webSocketDebuggerUrl"] for tab in json.load(answer) if tab["type"] == "page")
    raise RuntimeError("chromium ended before it could be reached; is the Debian package installed?")


def main(url, script, pictures):
    """Opens the page and waits until it is live; then answers each line it is given: `values` (of the script), `looks` (of the page)."""
    with chromium() as page:
        page.open(url)
        page.until("document.getElementById('live')?.textContent === 'live'")
        for asked in sys.stdin:
            answer = page.ask(script) if asked.strip() == "values" else looks(page, Path(pictures))
            print(json.dumps(answer), flush=True)


def pictured(page, path):
    """A picture's size and the page's, which is alive and may grow while it is taken: then it is taken again."""
    # Of the page and not of the picture: a picture that lacks something would agree with itself.
    size = "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    for _ in range(10):
        before = page.ask(size)
        picture = page.picture(path)
        if page.ask(size) == before:
            break
    return picture, before


def looks(page, pictures):
    """Its pictures at each size as it opens, then, with everything open that opens, who cannot use it."""
    sizes = []
    for width, height, theme in SIZES:
        page.resize(width, height, theme)
        picture, content = pictured(page, pictures / f"page-{width}-{theme}.png")
        sizes.append({"width": width, "theme": theme, "content": content, "picture": picture, "paper": page.ask("getComputedStyle(document.body).backgroundColor")})
    reached = reach.operate(page)
    for width, height, theme in SIZES:
        page.resize(width, height, theme)
        reached += [f"at {width} px, {theme}: {problem}" for problem in reach.problems(page)]
    return {"sizes": sizes, "reach": reached, "errors": page.errors}


if __name__ == "__main__":
    main(*sys.argv[1:])
