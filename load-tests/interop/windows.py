"""What the window partials must add up to: Python's own GROUP BY over the cleaned rows.

Promise: windows, keys and measures are read from the contract files, the numbers are computed here in whole numbers
and exact fractions. Partials are compared after adding them up over (window, keys), so that neither flushes nor a
compaction that adds partials up matter. First and last values are chosen by place; sketches are merged by
another implementation (`estimates.py`).
"""

import re
import tomllib
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from typing import Callable, NamedTuple

import estimates
from clean import KINDS

MICROSECONDS = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
WHOLE = ("integer", "long")
PLACE = {"_arrived_at": "timestamp", "_shard_id": "string", "_sequence_number": "string", "_sub_sequence_number": "long"}
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Near(NamedTuple):
    """A sum of doubles: exact, with the magnitude that its tolerance is a part of."""

    value: Fraction
    magnitude: Fraction


class Key(NamedTuple):
    name: str
    type: str
    of: Callable


class Values(list):
    """What a sketch must have been made of."""


class Measure(NamedTuple):
    name: str
    function: str
    column: str | None
    shown: str | None
    type: str | None

    def sketch(self):
        """The kind of sketch, if it is one."""
        kind = estimates.KINDS.get(self.function)
        return kind and kind(self.name, self.shown)

    def place(self):
        """{column of the partials: column of the rows} of what orders first and last values, in their order."""
        suffixes = "_at", "_shard_id", "_sequence_number", "_sub_sequence_number"
        return {f"{self.name}{suffix}": column for suffix, column in zip(suffixes, PLACE)}

    def columns(self):
        """{column of the partials: type}."""
        whole = self.type in WHOLE
        if self.sketch():
            return {f"{self.name}{suffix}": type_ for suffix, type_ in self.sketch().suffixes.items()}
        if self.function in ("first", "last"):
            return {self.name: self.type, **dict(zip(self.place(), PLACE.values()))}
        return {
            ("count", True): {self.name: "long"}, ("count", False): {self.name: "long"},
            ("sum", True): {self.name: "decimal"},
            ("sum", False): {self.name: "double", f"{self.name}_lo": "double"},
            ("mean", True): {self.name: "double", f"{self.name}_sum": "decimal", f"{self.name}_count": "long"},
            ("min", True): {self.name: self.type}, ("min", False): {self.name: self.type},
            ("max", True): {self.name: self.type}, ("max", False): {self.name: self.type},
        }[self.function, whole]


class Window(NamedTuple):
    name: str
    kind: str
    every: int
    keys: list
    measures: list

    def columns(self):
        """{column: type} of the partials."""
        measures = {name: type_ for measure in self.measures for name, type_ in measure.columns().items()}
        return {"window_start": "timestamp", "window_end": "timestamp", **{key.name: key.type for key in self.keys}, **measures,
                "records": "long", "definition": "string", "_shard_id": "string", "_date": "date"}


def load_windows(contracts):
    """The windows of every contract in a folder."""
    windows = []
    for path in sorted(Path(contracts).glob("*.toml")):
        contract = tomllib.loads(path.read_text(encoding="utf-8"))
        if contract.get("event_time", "arrival") != "arrival":
            raise ValueError(f"{path}: only windows by arrival are compared")
        windows += [_window(contract["table"], each) for each in contract.get("window", [])]
    return windows


def _window(kind, declared):
    for key in ("hop", "time", "where"):
        if key in declared:
            raise ValueError(f"window {declared['name']}: windows with `{key}` are not compared")
    size, unit = re.fullmatch(r"(\d+)([smhd])", declared["every"]).groups()
    return Window(declared["name"], kind, int(size) * MICROSECONDS[unit], [_key(kind, by) for by in declared["by"]],
                  [_measure(kind, name, call) for name, call in declared["measure"].items()])


def _key(kind, by):
    if isinstance(by, str):
        return Key(by, KINDS[kind].columns[by], lambda row: row[by])
    if "bucket" in by:
        return Key(by["name"], "string", lambda row: _bucket(row[by["bucket"]], by["bounds"], by["labels"]))
    return Key(by["name"], "integer", lambda row: _year(row[by["year"]]))


def _bucket(value, bounds, labels):
    """Inclusive lower bounds; the last label is open, outside them is no key."""
    return None if value is None else next((label for bound, label in reversed(list(zip(bounds, labels))) if value >= bound), None)


def _year(micros):
    return None if micros is None else (EPOCH + timedelta(microseconds=micros)).year


def _measure(kind, name, call):
    function, column, shown = re.fullmatch(r"(\w+)(?:\((\w+)(?:, *(\d+))?\))?", call).groups()
    return Measure(name, function, column, shown, KINDS[kind].columns[column] if column else None)


def expected(window, rows):
    """{(start, keys): {measure: value}} over cleaned rows with their bookkeeping columns."""
    groups = {}
    for row in rows:
        start = row["_arrived_at"] // window.every * window.every
        keys = tuple(key.of(row) for key in window.keys)
        groups.setdefault((start, keys), []).append(row)
    return {key: {"records": len(group), **{name: value for each in window.measures for name, value in _measured(each, group).items()}}
            for key, group in groups.items()}


def _measured(measure, rows):
    values = [1 if measure.column is None else row[measure.column] for row in rows]
    if measure.function in ("first", "last"):
        places = [{measure.name: value, **{name: row[column] for name, column in measure.place().items()}}
                  for value, row in zip(values, rows) if value is not None]
        return _chosen(measure, places)
    values = [value for value in values if value is not None]
    if measure.sketch():
        return {f"{measure.name}_sketch": Values(values)}
    return {
        "count": lambda: {measure.name: len(values)},
        "sum": lambda: {measure.name: _sum(measure, values) if values else None},
        "mean": lambda: {f"{measure.name}_sum": sum(values), f"{measure.name}_count": len(values)},
        "min": lambda: {measure.name: min(values, default=None)},
        "max": lambda: {measure.name: max(values, default=None)},
    }[measure.function]()


def _chosen(measure, candidates):
    """The first or last of them by time, shard, sequence number as a number and sub-sequence number."""
    def place(candidate):
        at, shard, sequence, sub = (candidate[name] for name in measure.place())
        return at, shard.encode(), int(sequence), sub

    choose = min if measure.function == "first" else max
    return choose(candidates, key=place, default=dict.fromkeys([measure.name, *measure.place()]))


def _sum(measure, values):
    return sum(values) if measure.type in WHOLE else Near(sum(map(Fraction, values)), sum(abs(Fraction(value)) for value in values))


def merged(window, partials):
    """Partials added up to the shape of `expected`, and what is wrong with single ones."""
    groups, problems = {}, []
    definitions = {partial["definition"] for partial in partials}
    if len(definitions) > 1 or None in definitions:
        problems.append(f"definition: one non-null value wanted, found {definitions}")
    for partial in partials:
        problems += _inconsistencies(window, partial)
        key = partial["window_start"], tuple(partial[key.name] for key in window.keys)
        groups.setdefault(key, []).append(partial)
    return {key: {"records": sum(each["records"] for each in group),
                  **{name: value for each in window.measures for name, value in _added_up(each, group).items()}}
            for key, group in groups.items()}, problems


def _inconsistencies(window, partial):
    start = partial["window_start"]
    if partial["window_end"] != start + window.every:
        yield f"window_end {partial['window_end']} of window_start {start}"
    if partial["_date"] != (EPOCH + timedelta(microseconds=start)).date():
        yield f"_date {partial['_date']} of window_start {start}"
    for measure in window.measures:
        if measure.sketch():
            yield from estimates.unlike_its_sketch(measure.sketch(), partial)
        if measure.function == "mean":
            total, count, mean = partial[f"{measure.name}_sum"], partial[f"{measure.name}_count"], partial[measure.name]
            right = mean is None if not count else mean is not None and abs(mean - total / count) <= 1e-15 * abs(mean)
            if not right:
                yield f"{measure.name} {mean} is not {total} / {count}"


def _added_up(measure, partials):
    def values(name):
        return [partial[name] for partial in partials if partial[name] is not None]

    def total(name):
        return sum(values(name)) if values(name) else None

    if measure.sketch():
        return {f"{measure.name}_sketch": estimates.Merged(measure.sketch(), [each[f"{measure.name}_sketch"] for each in partials])}
    if measure.function in ("first", "last"):
        columns = [measure.name, *measure.place()]
        return _chosen(measure, [{column: each[column] for column in columns} for each in partials if each[measure.name] is not None])
    return {
        "count": lambda: {measure.name: total(measure.name)},
        "sum": lambda: {measure.name: total(measure.name) if measure.type in WHOLE else _double_double(measure.name, partials)},
        "mean": lambda: {f"{measure.name}_sum": total(f"{measure.name}_sum") or 0, f"{measure.name}_count": total(f"{measure.name}_count") or 0},
        "min": lambda: {measure.name: min(values(measure.name), default=None)},
        "max": lambda: {measure.name: max(values(measure.name), default=None)},
    }[measure.function]()


def _double_double(name, partials):
    parts = [Fraction(partial[name]) + Fraction(partial[f"{name}_lo"] or 0) for partial in partials if partial[name] is not None]
    return sum(parts) if parts else None
