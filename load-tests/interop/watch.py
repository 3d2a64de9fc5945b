"""What people see against what programs are told: numbers read off the live page in Chromium, and the API's.

Both are asked when the streams are quiet and everything is committed, so every number must be the very same. The page's
numbers are text: `1,234` and `1,234 read = 1,200 rows + 34 rejects`; where it rounds (from a million on), so do we not ask.
"""

import json
import subprocess
import urllib.request

import servers
from compare import Finding

# Numbers of each stream, of each window's newest start that has begun and of those still to come, and of each reason, as the page shows them.
SCRIPT = """(() => {
  const number = text => Number(text.replaceAll(",", ""));
  const text = (node, query) => node.querySelector(query).textContent;
  const cards = (query, key, read) => Object.fromEntries([...document.querySelectorAll(query)].map(node => [node.dataset[key], read(node)]));
  const rejects = {};
  for (const node of document.querySelectorAll("#rejects summary"))
    (rejects[node.dataset.stream] ??= {})[node.dataset.reason] = number(text(node, ".num"));
  return {
    state: text(document, "#state"),
    streams: cards("#streams > [data-stream]", "stream", card => text(card, ".counts").match(/[\\d,]+/g).map(number)),
    windows: cards("#windows > [data-window]", "window", card => [...card.querySelectorAll("tbody")][0].rows.length &&
      Object.fromEntries([...card.querySelector("tbody").rows].map(row => [row.cells[0].title, number([...row.cells].find((cell, i) => i > 1 && !cell.hidden).textContent)]))),
    sealed: cards("#sealed > [data-window]", "window", card => Object.fromEntries([...card.querySelectorAll("tr[data-start]")].map(row => [row.dataset.start,
      [2, 3, 5].map(cell => number(row.cells[cell].textContent))]))),
    ahead: cards("#windows > [data-window]", "window", card => (text(card, ".ahead").match(/[\\d,]+/g) ?? ["0", "0"]).map(number)),
    rejects,
    shards: document.querySelectorAll("#shards > tr").length,
    unnamed: [...document.querySelectorAll("svg[role=img], [role=region], button, section, article")].filter(node =>
      !node.getAttribute("aria-label") && !node.getAttribute("aria-labelledby") && !node.textContent.trim()).length,
  };
})()"""
ROWS_ON_PAGE = 10


def look(url, folder):
    """The page as Chromium shows it, and the findings."""
    command = [servers.HOME / "browser/bin/python", servers.HERE / "browser.py", url, SCRIPT, folder]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    if done.returncode:
        return [Finding("live page in Chromium", "process", 0, 0, [f"chromium could not show it: {done.stderr[-2000:]}"])]
    found = json.loads(done.stdout)
    ask = lambda path: json.load(urllib.request.urlopen(f"{url}{path}", timeout=30))  # noqa: E731
    return [Finding("numbers on the live page", "chromium", *compare(found["values"], ask)), Finding("looks of the live page", "chromium", *looks(found))]


def compare(page, ask):
    summary, windows, rejects = ask("/api/summary"), ask(f"/api/windows?starts=1&rows={ROWS_ON_PAGE}"), ask("/api/rejects")
    told = {
        "streams": {each["stream"]: [each["records"], each["rows"], sum(each["rejects"].values())] for each in summary["streams"]},
        "windows": {each["window"]: _rows(each) for each in windows},
        "ahead": {each["window"]: [each["ahead"]["starts"], each["ahead"]["records"]] for each in windows},
        "rejects": {each["stream"]: {reason["reason"]: reason["count"] for reason in each["reasons"]} for each in rejects["streams"] if each["reasons"]},
        "shards": sum(len(each["shards"]) for each in summary["streams"]),
    }
    problems = [f"{what}: the page shows {page[what]}, the API {value}" for what, value in told.items() if page[what] != value]
    # A window may be sealed between the two; what is sealed stays as it is.
    sealed = {each["window"]: {str(start["start_ms"]): [start["records"], start["keys"], start["revision"]] for start in each["starts"]}
              for each in ask("/api/sealed?rows=0")}
    problems += [f"sealed {window}: the page shows {numbers} for {start}, the API {sealed[window].get(start)}"
                 for window, starts in page["sealed"].items() for start, numbers in starts.items() if sealed[window].get(start) != numbers]
    if not any(page["sealed"].values()):
        problems.append("no sealed window is on the page")
    if not page["state"].startswith(("Yes", "Mostly")):
        problems.append(f"the page says {page['state']!r}")
    if not all(told["windows"].values()) or not told["rejects"]:
        problems.append(f"there is too little to compare: {told}")
    counted = len(told["streams"]) * 3 + sum(map(len, told["windows"].values())) + len(told["ahead"]) * 2 + sum(map(len, told["rejects"].values())) + sum(map(len, page["sealed"].values())) * 3 + 1
    return counted, 0, problems


def _rows(window):
    """{key as the page names it: its first number}"""
    name = lambda value: {None: "(none)", "__other__": "(other keys)"}.get(value, str(value))  # noqa: E731
    rows = window["starts"][0]["rows"] if window["starts"] else []
    counts = [index for index in range(len(window["measures"])) if all(row["measures"][index] == row["records"] for row in rows)]
    return {" · ".join(map(name, row["key"])): row["measures"][0] if counts else row["records"] for row in rows}


def looks(found):
    problems = [f"the console says {error}" for error in found["errors"]]
    problems += [f"at {size['width']} px it is {size['content']} px wide" for size in found["sizes"] if size["content"] > size["width"]]
    papers = {theme: {size["paper"] for size in found["sizes"] if size["theme"] == theme} for theme in ("light", "dark")}
    if papers["light"] & papers["dark"]:
        problems.append(f"light and dark are the same: {papers}")
    if found["values"]["unnamed"]:
        problems.append(f"{found['values']['unnamed']} parts have no name for a screen reader")
    return len(found["sizes"]), 0, problems
