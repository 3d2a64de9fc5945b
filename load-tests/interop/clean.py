"""One record's bytes to one row of its table: the cleaning, written a second time from the specification alone.

Promise: nothing here was taken from Pintail's source, and nothing here is ever changed to agree with it. Where the two
differ, the records' specification decides which one is wrong. The numbers in brackets are its decisions.
"""

import re
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import Callable, NamedTuple

from unwrap import Number, Reject, unwrap

WHITE_SPACE = " \t\n\r\x0b\x0c\u00a0"
NUMERAL = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
MAGNITUDE = re.compile(r"([0-9]+)(?:\.([0-9]+))?([kKMB])?")
FACTOR = {None: 1, "k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9}
FRACTION_AND_ZONE = r"(?:\.(?P<fraction>[0-9]{1,9}))?(?P<zone>Z|[+-][0-9]{2}:?[0-9]{2})?"
TIMESTAMPS = [
    re.compile(form + r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})" + FRACTION_AND_ZONE)
    for form in (
        r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})[T ]",
        r"(?P<year>[0-9]{4}):(?P<month>[0-9]{2}):(?P<day>[0-9]{2}) ",
        r"(?P<month>[0-9]{2})/(?P<day>[0-9]{2})/(?P<year>[0-9]{4}), ",
    )
]
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
FIRST_MICROSECOND = (datetime.min.replace(tzinfo=timezone.utc) - EPOCH) // timedelta(microseconds=1)
LAST_MICROSECOND = (datetime.max.replace(tzinfo=timezone.utc) - EPOCH) // timedelta(microseconds=1)


def trimmed(value):
    """[2, 3, 15b] A JSON string without the white space around it; null for anything else and for nothing."""
    return (value.strip(WHITE_SPACE) or None) if isinstance(value, str) else None


def text(value, *sentinels):
    """[1, 2] A text column; a sentinel counts only whole and only in its own column."""
    value = trimmed(value)
    return None if value in sentinels else value


def numeral(value):
    """[15b] A JSON number or a trimmed numeric string, as it was written."""
    written = value.text if isinstance(value, Number) else trimmed(value)
    return written if written and NUMERAL.fullmatch(written) else None


def integer(value, low=-(2**31), high=2**31 - 1):
    """[9, 13] A whole number in the range; `7528.0` is whole."""
    written = numeral(value)
    if written is None:
        return None
    try:
        number = Decimal(written)
    except InvalidOperation:  # an exponent of more than 18 digits
        return None
    return int(number) if low <= number <= high and number == number.to_integral_value() else None


def magnitude(value):
    """[6] `51k`, `1.2M`, `3B`, `437`; a JSON integer as it is; the sentinel matches nothing and so is null."""
    if isinstance(value, Number):
        number = int(value.text) if re.fullmatch(r"-?[0-9]{1,20}", value.text) else None
    else:
        found = MAGNITUDE.fullmatch(trimmed(value) or "")
        number = found and _scaled(found[1], found[2] or "", FACTOR[found[3]])
    return number if number is not None and -(2**31) <= number < 2**31 else None


def _scaled(whole, fraction, factor):
    """Truncated towards zero, in whole numbers all the way."""
    return int(whole + fraction) * factor // 10 ** len(fraction)


def coordinate(value, bound):
    """[7] Half of a place; null outside its bound."""
    written = numeral(value)
    return float(written) if written is not None and abs(float(written)) <= bound else None


def coordinates(latitude, longitude):
    """[7] Both halves or nothing."""
    both = [coordinate(latitude, 90), coordinate(longitude, 180)]
    return None if None in both else both


def full_name(*parts):
    """[11] What there is of first and last name."""
    return " ".join(part for part in map(trimmed, parts) if part) or None


def path(value):
    """[12] What stands behind the prefix."""
    value = trimmed(value)
    return trimmed(value.removeprefix("Local save in ")) if value else None


def timestamp(value):
    """[8] UTC microseconds since 1970."""
    if isinstance(value, dict):
        value = value.get("$date")
        if isinstance(value, Number):
            return _epoch_milliseconds(value.text)
    written = trimmed(value) or ""
    found = next(filter(None, (form.fullmatch(written) for form in TIMESTAMPS)), None)
    return found and _microseconds(**found.groupdict())


def _epoch_milliseconds(written):
    if not re.fullmatch(r"-?[0-9]{1,20}", written):
        return None
    return _representable(int(written) * 1000)


def _microseconds(year, month, day, hour, minute, second, fraction, zone):
    try:
        whole = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=timezone.utc)
    except ValueError:
        return None
    offset = _offset_minutes(zone)
    if offset is None:
        return None
    micros = (whole - EPOCH) // timedelta(microseconds=1) + int((fraction or "0").ljust(9, "0")[:6])
    return _representable(micros - offset * 60_000_000)


def _offset_minutes(zone):
    if zone in (None, "Z"):
        return 0
    hours, minutes = int(zone[1:3]), int(zone[-2:])
    if hours > 23 or minutes > 59:
        return None
    return (hours * 60 + minutes) * (-1 if zone[0] == "-" else 1)


def _representable(micros):
    return micros if FIRST_MICROSECOND <= micros <= LAST_MICROSECOND else None


class Kind(NamedTuple):
    """One stream: its required field, its other source fields, its columns in their order and how each is made."""

    required: str
    others: tuple
    columns: dict
    row: Callable


def _pin(record):
    get = record.get
    return [
        text(get("unique_id")),
        text(get("title"), "No Title Data Available"),
        text(get("description"), "No description available Story format", "No description available"),
        magnitude(get("follower_count")),
        text(get("poster_name"), "User Info Error"),
        text(get("tag_list"), "N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e"),
        text(get("is_image_or_video")),
        text(get("image_src"), "Image src error."),
        path(get("save_location")),
        text(get("category")),
    ]


def _geo(record):
    get = record.get
    return [text(get("country")), coordinates(get("latitude"), get("longitude")), timestamp(get("timestamp"))]


def _user(record):
    get = record.get
    return [full_name(get("first_name"), get("last_name")), integer(get("age"), 0, 150), timestamp(get("date_joined"))]


KINDS = {
    "pin": Kind(
        "index",
        ("unique_id", "title", "description", "follower_count", "poster_name", "tag_list", "is_image_or_video",
         "image_src", "save_location", "category"),
        {"ind": "integer", "unique_id": "string", "title": "string", "description": "string",
         "follower_count": "integer", "poster_name": "string", "tag_list": "string", "is_image_or_video": "string",
         "image_src": "string", "save_location": "string", "category": "string"},
        _pin,
    ),
    "geo": Kind(
        "ind",
        ("timestamp", "latitude", "longitude", "country"),
        {"ind": "integer", "country": "string", "coordinates": "array<double>", "timestamp": "timestamp"},
        _geo,
    ),
    "user": Kind(
        "ind",
        ("first_name", "last_name", "age", "date_joined"),
        {"ind": "integer", "user_name": "string", "age": "integer", "date_joined": "timestamp"},
        _user,
    ),
}


def clean(kind, payload):
    """A row as {column: value}; raises `Reject` with the reason."""
    kind = KINDS[kind]
    record = unwrap(payload)
    if not any(field in record for field in kind.others):
        raise Reject("another_kind")
    ind = integer(record.get(kind.required))
    if ind is None:
        raise Reject("required_column", kind.required)
    return dict(zip(kind.columns, [ind, *kind.row(record)]))
