"""A contract with windows drawn by lot, and records for it: whatever a window can be asked, over whatever a record can say.

Promise: the same seed gives the same contract and the same records, and whatever the seed, one window seals once and one
revises, both so short that records come late. Event times are in disorder, of the far past and the
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
    lines += [_window(dice, number) for number in range(windows)]
    return "\n".join(lines)


def _window(dice, number):
    sure = _SURE.get(number)  # sealed while the records come, many of which are late
    every, hops = dice.choice([("1s", []), ("7s", [])] if sure else [("1s", []), ("7s", []), ("1m", ["10s", "20s", "30s"]), ("1h", ["10m", "15m"]), ("1d", ["6h"]), ("7d", ["1d"])])
    hop = f'hop = "{dice.choice(hops)}"\n' if hops and dice.random() < 0.5 else ""
    time = f'time = "{dice.choice(["at", "arrival"])}"\n' if dice.random() < 0.3 and not sure else ""
    where = f'where = "{" and ".join(dice.sample(_CONDITIONS, dice.randint(1, 2)))}"\n' if dice.random() < 0.3 and not sure else ""
    seal = sure or dice.choice(_SEALS) + dice.choice(["", 'grace = "2s"\n', 'grace = "11s"\n'])
    by = ", ".join(dice.sample(_KEYS, dice.choice([0, 1, 1, 2])))
    measures = {"events": "count"} | {f"m{place}": call for place, call in enumerate(dice.sample(_MEASURES, dice.randint(2, 6)))}
    measure = ", ".join(f'{name} = "{call}"' for name, call in measures.items())
    return f'[[window]]\nname = "any_{number}"\nevery = "{every}"\n{hop}{time}{where}{seal}by = [{by}]\nmeasure = {{ {measure} }}\n'


_SURE = {0: 'time = "at"\nseal = "once"\ngrace = "2s"\n', 1: 'time = "at"\nseal = "revise"\ngrace = "2s"\n'}
_SEALS = ["", 'seal = "once"\n', 'seal = "revise"\n', 'seal = "revise"\nrevise_for = "2s"\n', 'seal = "revise"\nrevise_for = "30s"\n']
_KEYS = ['"colour"', '"small"', '"flag"', '"day"', '{ name = "band", bucket = "small", bounds = [-10, 0, 10.5], labels = ["low", "mid", "high"] }',
         '{ name = "half", bucket = "real", bounds = [-1000000.0, 0, 1000000.0], labels = ["minus", "plus"] }', '{ name = "year", year = "at" }']
_CONDITIONS = ["small > 0", "real <= 0.5", "colour = 'red'", "colour != 'blue'", "name is not null", "flag = true", "large is null"]
_MEASURES = (
    [f"{function}({column})" for function in ("sum", "mean") for column in ("small", "large", "real")]
    + [f"{function}({column})" for function in ("min", "max") for column in ("small", "large", "real", "at", "day")]
    + [f"{function}({column})" for function in ("first", "last") for column in ("small", "real", "name", "flag", "at", "day")]
    + ["distinct(name)", "distinct(large)", "distinct(colour)", "quantiles(real)", "quantiles(small)", "top(name, 5)", "top(colour, 3)"])


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
