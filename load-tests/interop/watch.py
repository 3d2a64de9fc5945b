"""What people see against what programs are told: what is read off the live page in Chromium, and the API's numbers.

Both are asked when the streams are quiet and everything is committed, so that what the page shows must be what it would
make of the API's numbers, its own way of rounding them included (`as_shown.py`).
"""

import json
import subprocess
import time
import urllib.request
from contextlib import contextmanager

import servers
from as_shown import lag, measure
from compare import Finding

# What the page shows: numbers of each stream, all cells of each window's chosen start and the starts to come, sealed windows, rejects by reason, shards.
SCRIPT = """(() => {
  const number = text => Number(text.replaceAll(",", ""));
  const text = (node, query) => node.querySelector(query).textContent;
  const cards = (query, key, read) => Object.fromEntries([...document.querySelectorAll(query)].map(node => [node.dataset[key], read(node)]));
  const heads = card => [...card.querySelector("thead tr").cells].slice(2).filter(cell => !cell.hidden).map(cell => cell.textContent);
  const rejects = {};
  for (const node of document.querySelectorAll("#rejects summary"))
    (rejects[node.dataset.stream] ??= {})[node.dataset.reason] = number(text(node, ".num"));
  return {
    state: text(document, "#state"),
    streams: cards("#streams > [data-stream]", "stream", card => text(card, ".counts").match(/[\\d,]+/g).map(number)),
    windows: cards("#windows > [data-window]", "window", card => Object.fromEntries([...card.querySelector("tbody").rows].map(row =>
      [row.cells[0].title, Object.fromEntries([...row.cells].slice(2).filter(cell => !cell.hidden).map((cell, i) => [heads(card)[i], cell.textContent]))]))),
    sealed: cards("#sealed > [data-window]", "window", card => Object.fromEntries([...card.querySelectorAll("tr[data-start]")].map(row => [row.dataset.start,
      [2, 3, 4, 5].map(cell => row.cells[cell].textContent)]))),
    ahead: cards("#windows > [data-window]", "window", card => (text(card, ".ahead").match(/[\\d,]+/g) ?? ["0", "0"]).map(number)),
    rejects,
    shards: Object.fromEntries([...document.querySelectorAll("#shards > tr")].map(row =>
      [row.cells[0].textContent, [row.cells[1].textContent, row.cells[2].textContent, text(row.cells[5], ".lag > span")]])),
    opened: performance.timeOrigin,
  };
})()"""
ROWS_ON_PAGE = 10
OWNERS = {"self": "this process", "another": "another process"}
WITHIN = 60  # seconds in which the page must show what the API says


class Tab:
    """The page in a Chromium that stays open."""

    def __init__(self, url, folder, process):
        self._url, self._folder, self._process = url, folder, process
        self._opened = None

    def _ask(self, what):
        print(what, file=self._process.stdin, flush=True)
        if answer := self._process.stdout.readline():
            return json.loads(answer)
        raise RuntimeError(f"chromium could not show {self._url}: {(self._folder / 'browser.log').read_text(errors='replace')[-2000:]}")

    def _api(self, path):
        return json.load(urllib.request.urlopen(f"{self._url}{path}", timeout=30))

    def agrees(self, name, accepted):
        """The finding once the page shows every accepted record and what the API says, or what it lacks in the end. It is never loaded again."""
        deadline = time.monotonic() + WITHIN
        while True:
            page = self._ask("values")
            self._opened = self._opened or page["opened"]
            counted, differences, problems = compare(page, self._api)
            problems += [f"{stream}: {count} were accepted, the page shows {page['streams'].get(stream)}"
                         for stream, count in accepted.items() if page["streams"].get(stream, [0])[0] != count]
            problems += ["the page was loaded again"] * (page["opened"] != self._opened)
            if not problems or time.monotonic() > deadline:
                return Finding(name, "chromium", counted, differences, problems)
            time.sleep(0.2)

    def looks(self):
        return Finding("looks of the live page", "chromium", *looks(self._ask("looks")))


@contextmanager
def opened(url, folder):
    """A tab with the page; its browser ends with it."""
    command = [servers.HOME / "browser/bin/python", servers.HERE / "browser.py", url, SCRIPT, folder]
    with open(folder / "browser.log", "ab") as log:
        process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        yield Tab(url, folder, process)
        process.stdin.close()
        process.wait(60)
    finally:
        process.kill()
        process.wait()


def compare(page, ask):
    summary, windows, rejects = ask("/api/summary"), ask(f"/api/windows?starts=1&rows={ROWS_ON_PAGE}"), ask("/api/rejects")
    told = {
        "streams": {each["stream"]: [each["records"], each["rows"], sum(each["rejects"].values())] for each in summary["streams"]},
        "windows": {each["window"]: _rows(each) for each in windows},
        "ahead": {each["window"]: [each["ahead"]["starts"], each["ahead"]["records"]] for each in windows},
        "rejects": {each["stream"]: {reason["reason"]: reason["count"] for reason in each["reasons"]} for each in rejects["streams"] if each["reasons"]},
        "shards": {f"{each['stream']} / {shard['shard']}": [shard["state"] or "starting", OWNERS.get(shard["owner"], "–"), _lag(shard)]
                   for each in summary["streams"] for shard in each["shards"]},
    }
    problems = [f"{what}: the page shows {page[what]}, the API {value}" for what, value in told.items() if page[what] != value]
    # A window may be sealed between the two; what is sealed stays as it is.
    sealed = {each["window"]: {str(start["start_ms"]): [measure(start["records"]), measure(start["keys"]), measure(start["late"]), str(start["revision"])]
                               for start in each["starts"]} for each in ask("/api/sealed?rows=0")}
    problems += [f"sealed {window}: the page shows {numbers} for {start}, the API {sealed[window].get(start)}"
                 for window, starts in page["sealed"].items() for start, numbers in starts.items() if sealed[window].get(start) != numbers]
    if not any(page["sealed"].values()):
        problems.append("no sealed window is on the page")
    if not page["state"].startswith(("Yes", "Mostly")):
        problems.append(f"the page says {page['state']!r}")
    if not all(told["windows"].values()) or not told["rejects"] or not told["shards"]:
        problems.append(f"there is too little to compare: {told}")
    counted = (len(told["streams"]) * 3 + sum(len(row) for rows in told["windows"].values() for row in rows.values()) + len(told["ahead"]) * 2
               + sum(map(len, told["rejects"].values())) + sum(map(len, page["sealed"].values())) * 4 + len(told["shards"]) * 3)
    return counted, 0, problems


def _lag(shard):
    return lag(shard["behind_ms"] if shard["state"] == "reading" else None)


def _rows(window):
    """{key as the page names it: {measure: as the page writes it}}; records are only there if no measure counts them."""
    name = lambda value: {None: "(none)", "__other__": "(other keys)"}.get(value, str(value))  # noqa: E731
    rows = window["starts"][0]["rows"] if window["starts"] else []
    counts = any(all(row["measures"][index] == row["records"] for row in rows) for index in range(len(window["measures"])))
    heads = [each.replace("_", " ") for each in window["measures"]]
    return {" · ".join(map(name, row["key"])) or "all":
            ({} if counts else {"records": measure(row["records"])}) | dict(zip(heads, map(measure, row["measures"]))) for row in rows}


def looks(found):
    sizes = found["sizes"]
    problems = [f"the console says {error}" for error in found["errors"]] + found["reach"]
    problems += [f"at {size['width']} px it is {size['content'][0]} px wide" for size in sizes if size["content"][0] > size["width"]]
    problems += [f"at {size['width']} px the picture is {size['picture']}, the page {size['content']}" for size in sizes if size["picture"] != size["content"]]
    papers = {theme: {size["paper"] for size in sizes if size["theme"] == theme} for theme in ("light", "dark")}
    if papers["light"] & papers["dark"]:
        problems.append(f"light and dark are the same: {papers}")
    return len(sizes), 0, problems
