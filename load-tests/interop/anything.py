"""A contract with windows drawn by lot, records for it, and what befalls Pintail and its stream meanwhile: whatever a window
can be asked, over whatever a record can say.

Promise: the same seed gives the same contract, the same records and the same course of events. Whatever the seed, each
measure is there of each type that it is for, one window is an hour, one a day, and one slides; one seals once and one
revises, both so short that records come late; Pintail is killed, and shards are split and merged. Event times are in disorder, of the far past and the
far future, before 1970 and within leap seconds; numbers reach to the ends of their types and sums of them cancel out.
"""

import json
import random
from datetime import datetime, timedelta, timezone

TABLE = "anything"
COLUMNS = {"id": "long", "small": "integer", "large": "long", "real": "double", "name": "string", "colour": "string", "flag": "boolean",
           "at": "timestamp", "day": "date"}
COLOURS = ["red", "green", "blue", "ünïcödé", "with 'quotes' and \\ and \"", " ", "__other__", "null"]


def contract(seed, windows=12):
    """TOML text."""
    dice = random.Random(seed)
    lines = [f'table = "{TABLE}"', f'event_time = "{dice.choice(["at", "arrival"])}"', ""]
    for name, type_ in COLUMNS.items():
        required = "required = true\n" if name == "id" else ""
        lines.append(f'[[column]]\nname = "{name}"\ntype = "{type_}"\n{required}')
    sizes, measures = _sizes(dice, windows), dice.sample(_MEASURES, len(_MEASURES))
    lines += [_window(dice, number, sizes[number], measures[number::windows]) for number in range(windows)]
    return "\n".join(lines)


def _sizes(dice, windows):
    """Of each window its size and hop. The short ones come first: they are sealed while the records come."""
    sliding = dice.choice([each for each in _SIZES if each[1]])
    others = [("1h", _hop(dice, "1h")), ("1d", _hop(dice, "1d")), (sliding[0], dice.choice(sliding[1]))]
    for every, _ in dice.choices(_SIZES, k=windows - len(_SURE) - len(others)):
        others.append((every, _hop(dice, every)))
    return [(dice.choice(["1s", "7s"]), None) for _ in _SURE] + dice.sample(others, len(others))


def _hop(dice, every):
    hops = dict(_SIZES)[every]
    return dice.choice(hops) if hops and dice.random() < 0.5 else None


def _window(dice, number, size, dealt):
    sure, (every, hop) = _SURE.get(number), size
    slides = f'hop = "{hop}"\n' if hop else ""
    time = f'time = "{dice.choice(["at", "arrival"])}"\n' if dice.random() < 0.3 and not sure else ""
    where = f'where = "{" and ".join(dice.sample(_CONDITIONS, dice.randint(1, 2)))}"\n' if dice.random() < 0.3 and not sure else ""
    seal = sure or dice.choice(_SEALS) + dice.choice(["", 'grace = "2s"\n', 'grace = "11s"\n'])
    by = ", ".join(dice.sample(_KEYS, dice.choice([0, 1, 1, 2])))
    more = dice.sample([each for each in _MEASURES if each not in dealt], dice.randint(0, 2))
    measures = {"events": "count"} | {f"m{place}": call for place, call in enumerate(dealt + more)}
    measure = ", ".join(f'{name} = "{call}"' for name, call in measures.items())
    return f'[[window]]\nname = "any_{number}"\nevery = "{every}"\n{slides}{time}{where}{seal}by = [{by}]\nmeasure = {{ {measure} }}\n'


def events(seed):
    """[(records, over so many seconds, then after so many, what happens)]: what befalls Pintail and its stream, at moments and in
    an order drawn by lot. A kill may come just before a reshard, just after one, and just after another kill."""
    dice = random.Random(seed + 2)
    kinds = ["kill", "kill", "split", "merge", *dice.choices(["kill", "split", "merge"], k=dice.randint(2, 4))]
    for kind in dice.sample(kinds, len(kinds)):
        at_once = dice.random() < 0.3
        yield (0, 0.0, 0.0, kind) if at_once else (dice.randint(80, 220), dice.uniform(0, 3), dice.uniform(0, 3), kind)


_SIZES = [("1s", []), ("7s", []), ("1m", ["10s", "20s", "30s"]), ("1h", ["10m", "15m"]), ("1d", ["6h"]), ("7d", ["1d"])]
_SURE = {0: 'time = "at"\nseal = "once"\ngrace = "2s"\n', 1: 'time = "at"\nseal = "revise"\ngrace = "2s"\n'}
_SEALS = ["", 'seal = "once"\n', 'seal = "revise"\n', 'seal = "revise"\nrevise_for = "2s"\n', 'seal = "revise"\nrevise_for = "30s"\n']
_KEYS = ['"colour"', '"small"', '"flag"', '"day"', '{ name = "band", bucket = "small", bounds = [-10, 0, 10.5], labels = ["low", "mid", "high"] }',
         '{ name = "half", bucket = "real", bounds = [-1000000.0, 0, 1000000.0], labels = ["minus", "plus"] }', '{ name = "year", year = "at" }']
_CONDITIONS = ["small > 0", "real <= 0.5", "colour = 'red'", "colour != 'blue'", "name is not null", "flag = true", "large is null"]
_NUMBERS, _ALL = ("small", "large", "real"), ("small", "large", "real", "name", "flag", "at", "day")
_MEASURES = (
    [f"{function}({column})" for function in ("sum", "mean", "quantiles") for column in _NUMBERS]
    + [f"{function}({column})" for function in ("min", "max") for column in (*_NUMBERS, "at", "day")]
    + [f"{function}({column})" for function in ("first", "last", "distinct") for column in _ALL]
    + ["distinct(colour)", "top(name, 5)", "top(colour, 3)", "top(small, 2)", "top(large, 40)"])


class Records:
    """An endless source of (stream, partition key, payload)."""

    def __init__(self, seed):
        self._dice, self._id, self._now = random.Random(seed + 1), 0, datetime.now(timezone.utc)

    def __iter__(self):
        return self

    def __next__(self):
        self._id += 1
        if self._dice.random() < 0.02:
            return TABLE, str(self._id), self._dice.choice([b"nonsense", b"{}", b'{"id": null}', b"\xff\xfe"])
        record = {"id": self._id} | {name: value for name in COLUMNS if name != "id" and (value := self._value(name)) is not None}
        return TABLE, str(self._dice.randrange(1 << 30)), json.dumps(record).encode()

    def _value(self, name):
        dice = self._dice
        if dice.random() < 0.1:
            return None
        return {
            "small": lambda: dice.choice([dice.randint(-20, 20), dice.choice([-(2**31), 2**31 - 1, 0])]),
            "large": lambda: dice.choice([dice.randint(0, 50), dice.randint(-(2**63), 2**63 - 1), 2**63 - 1, -(2**63)]),
            "real": lambda: dice.choice([dice.uniform(-1, 1), dice.uniform(-1e12, 1e12), 1e300, -1e300, 5e-324, 0.1, -0.1]),
            "name": lambda: f"name {int(dice.paretovariate(1))}",
            "colour": lambda: dice.choice(COLOURS),
            "flag": lambda: dice.random() < 0.5,
            "at": self._time,
            "day": lambda: (self._now + timedelta(days=dice.randint(-3, 3))).date().isoformat(),
        }[name]()

    def _time(self):
        dice, lot = self._dice, self._dice.random()
        if lot < 0.03:
            return dice.choice(["1969-12-31T23:59:59.999999Z", "1969-07-20T20:17:40Z", "2016-12-31T23:59:60Z", "2016-12-31T23:59:59.5Z",
                                "0001-01-01T00:00:00Z", "1883-11-18T12:00:00Z", "2099-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
        if lot < 0.1:
            return (self._now + timedelta(days=dice.uniform(-4, 4))).isoformat()
        return (datetime.now(timezone.utc) + timedelta(seconds=dice.gauss(0, 20))).isoformat()
