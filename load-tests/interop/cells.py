"""What Pintail's tables say of each window and key, added up, and where that is not what the rows say."""

import math
import sys
from fractions import Fraction

import estimates
import sketches
from grouped import WHOLE, Cell, Near, comparable

TOLERANCE = Fraction(1, 10**12)
ROUNDING, SMALLEST = Fraction(1, 10**15), Fraction(5e-324)


def partials(connection, lake, window):
    """({(pane start, key): Cell}, definitions, what is wrong with single ones)"""
    keys = [name for name, _ in window.keys]
    groups, definitions, problems = {}, set(), []
    for row in numbers_of(connection, lake.table(f"{window.name}_partials")):
        definitions.add(row["definition"])
        if row["window_end"] != row["window_start"] + window.pane_us:
            problems.append(f"a row of {row['window_start']} ends at {row['window_end']}, not {window.pane_us} us later")
        problems += [f"a row of {row['window_start']}: {problem}" for problem in unlike_itself(window, row)]
        groups.setdefault((row["window_start"], tuple(row[name] for name in keys)), []).append(row)
    if len(definitions) > 1 or None in definitions:
        problems.append(f"definition: one non-null value wanted, found {definitions}")
    return {key: added_up(window, group) for key, group in groups.items()}, definitions, problems


def unlike_itself(window, row):
    """What a row of partials or a sealed one says for people to read that its other columns do not say."""
    for measure in window.measures:
        if measure.function in estimates.KINDS:
            yield from estimates.unlike_its_sketch(estimates.KINDS[measure.function](measure.name, measure.top), row)
        elif measure.function == "mean":
            mean, of = row[measure.name], _merged(measure, [row])
            if not _is_mean(mean, of):
                yield f"{measure.name} is {mean!r}, and its sum and count are {of}"


def _is_mean(mean, of):
    """Where no double holds a sum, none holds its mean."""
    if mean is None or of is None:
        return mean is None and of is None
    total, count = of
    if total == math.inf or not math.isfinite(mean):
        return total == math.inf and not math.isfinite(mean)
    right = Fraction(total) / count
    return abs(Fraction(mean) - right) <= max(ROUNDING * abs(right), SMALLEST)


def added_up(window, rows):
    """One cell of some rows of partials, or of one sealed row."""
    return Cell(sum(row["records"] for row in rows), {measure.name: _merged(measure, rows) for measure in window.measures})


def numbers_of(connection, table):
    """A table's rows, with times as whole numbers: Python's own do not reach as far."""
    described = connection.execute(f"DESCRIBE SELECT * FROM delta_scan('{table}')").fetchall()
    numbers = {"TIMESTAMP WITH TIME ZONE": "timestamp", "DATE": "date"}
    columns = [f'{comparable(name, numbers.get(type_))} AS "{name}"' for name, type_, *_ in described]
    relation = connection.execute(f"SELECT {', '.join(columns)} FROM delta_scan('{table}')")
    names = [column[0] for column in relation.description]
    while rows := relation.fetchmany(10_000):
        yield from (dict(zip(names, row)) for row in rows)


def _merged(measure, group):
    def values(suffix=""):
        return [row[measure.name + suffix] for row in group if row[measure.name + suffix] is not None]

    def doubles(*suffixes):
        if not all(math.isfinite(value) for suffix in suffixes for value in values(suffix)):
            return math.inf
        return sum((Fraction(value) for suffix in suffixes for value in values(suffix)), Fraction(0)) if values(suffixes[0]) else None

    match measure.function:
        case "count":
            return sum(values())
        case "sum" if measure.type in WHOLE:
            return int(sum(values())) if values() else None
        case "sum":
            return doubles("", "_lo")
        case "mean":
            total = int(sum(values("_sum"))) if measure.type in WHOLE else doubles("_sum", "_sum_lo")
            return (total, sum(values("_count"))) if sum(values("_count")) else None
        case "min":
            return min(values(), default=None)
        case "max":
            return max(values(), default=None)
        case "first" | "last":
            placed = [(_place(row, measure), row[measure.name]) for row in group if row[f"{measure.name}_at"] is not None]
            pick = min if measure.function == "first" else max
            return pick(placed, key=lambda each: each[0])[1] if placed else None
        case "distinct" | "quantiles" | "top":
            return values("_sketch")


def _place(row, measure):
    at, shard, number, sub = (row[measure.name + suffix] for suffix in ("_at", "_shard_id", "_sequence_number", "_sub_sequence_number"))
    return at, shard, int(number), sub


def differences(window, wanted, found, place="the partials"):
    """What two engines say, where they do not agree. `wanted` is of the rows."""
    for key in sorted(wanted.keys() | found.keys(), key=repr):
        if key not in found:
            yield f"{key}: {wanted[key].records} records in the rows, none in {place}"
        elif key not in wanted:
            yield f"{key}: {found[key].records} records in {place}, none in the rows"
        else:
            yield from cell_differences(window, key, wanted[key], found[key])


def cell_differences(window, key, wanted, found):
    if wanted.records != found.records:
        yield f"{key}: records {found.records}, not {wanted.records}"
        return
    for measure in window.measures:
        if measure.name in wanted.values:
            problem = _difference(measure, wanted.values[measure.name], found.values[measure.name])
            if problem:
                yield f"{key}: {measure.name} {problem}"


def _difference(measure, wanted, found):
    match measure.function:
        case "distinct" | "quantiles" | "top":
            return sketches.difference(measure.function, found, wanted)
        case "mean" if wanted is not None and found is not None:
            apart = _apart(wanted[0], found[0])
            return apart or (f"counts {found[1]}, not {wanted[1]}" if wanted[1] != found[1] else None)
        case _:
            return _apart(wanted, found)


def _apart(wanted, found):
    if isinstance(wanted, Near):
        if found == math.inf:  # no double holds all that was added: a sum may have left their range, and then says so
            return None if wanted.magnitude > sys.float_info.max else f"is not finite, and should be {float(wanted.value)!r}"
        if found is None or abs(found - wanted.value) > TOLERANCE * wanted.magnitude:
            return f"is {found and float(found)!r}, not {float(wanted.value)!r}"
        return None
    return None if wanted == found else f"is {found!r}, not {wanted!r}"
