"""How the live page writes a number, a lag and a measure, a second time and from what a reader expects of it.

Whole numbers below a million are there to the last digit, others to five digits, and from a million on three digits and a letter.
"""

from decimal import ROUND_HALF_UP, Decimal

LETTERS = ["", "K", "M", "B", "T"]


def measure(value):
    match value:
        case None:
            return "–"
        case bool():
            return str(value).lower()
        case str():
            return value
        case int() | float():
            return number(value)
        case list():
            return ", ".join(f"{each['value']} {measure(each['count'])}" for each in value)
        case dict():
            return " · ".join(f"{name} {measure(each)}" for name, each in value.items())


def number(value):
    exact = Decimal(repr(value))
    if abs(exact) >= 1_000_000:
        digits = _rounded(exact, 3)
        power = min(digits.adjusted() // 3, len(LETTERS) - 1)
        return f"{_plain(digits.scaleb(-3 * power))}{LETTERS[power]}"
    return _plain(exact if exact == exact.to_integral_value() else _rounded(exact, 5))


def _rounded(exact, digits):
    return exact.quantize(Decimal(1).scaleb(exact.adjusted() - digits + 1), ROUND_HALF_UP)


def _plain(number):
    text = f"{number:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def lag(ms):
    """A shard's distance from the newest record."""
    if ms is None:
        return "–"
    s = ms // 1000
    for below, text in ((0.001, "caught up"), (10, f"{ms / 1000:.1f} s"), (90, f"{round(ms / 1000)} s"), (5400, f"{s // 60} min {round(ms / 1000 % 60)} s"),
                        (172_800, f"{s // 3600} h {s % 3600 // 60} min")):
        if ms / 1000 < below:
            return text
    return f"{s // 86_400} d {s % 86_400 // 3600} h"
