"""A GROUP BY of the rows by window and key, by two engines that are not Pintail's, as the contract declares the windows.

Promise: what a window holds is written here from the contract's meaning: once as DuckDB's SQL, once as Polars'
expressions. Counts, whole sums, minima, maxima, first and last are exact; sums of doubles are exact fractions.
"""

import re
import tomllib
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import duckdb
import polars as pl
from duckdb_extensions import import_extension

MICROSECONDS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
WHOLE = ("integer", "long")


class Measure(NamedTuple):
    name: str
    function: str
    column: str | None
    type: str | None
    top: int | None = None


class Window(NamedTuple):
    name: str
    rows: str
    pane_us: int
    every_us: int
    time: str | None  # a timestamp column; None: the arrival
    where: str | None
    keys: list  # (name, DuckDB expression)
    measures: list
    grace_us: int
    revise_for_us: int | None  # None: sealed once


class Cell(NamedTuple):
    """What one engine says of one window start and key."""

    records: int
    values: dict


class Made(NamedTuple):
    """What rows were made from: windows that end after `after_us` and no later than `through_us`, as of a version of the rows."""

    name: object
    after_us: int
    through_us: int
    version: int


# --- contracts ---


def windows_of(contracts):
    for path in sorted(Path(contracts).glob("*.toml")):
        contract = tomllib.loads(path.read_text(encoding="utf-8"))
        for declared in contract.get("window", []):
            yield _window(contract, declared)


def _window(contract, declared):
    types = {column["name"]: column["type"] for column in contract["column"]}
    every, time = _us(declared["every"]), declared.get("time", contract.get("event_time", "arrival"))
    return Window(
        declared["name"], contract["table"], _us(declared.get("hop", declared["every"])), every, None if time == "arrival" else time,
        declared.get("where"), [_key(by, types) for by in declared.get("by", [])],
        [_measure(name, call, types) for name, call in declared["measure"].items()], _us(declared.get("grace", "5s")),
        _us(declared.get("revise_for", "2d")) if declared.get("seal") == "revise" else None)


def _us(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text).groups()
    return int(number) * MICROSECONDS[unit]


def _key(by, types):
    if isinstance(by, str):
        return by, comparable(by, types[by])
    if "year" in by:
        return by["name"], f'year("{by["year"]}")'
    of, bounds, labels = by["bucket"], by["bounds"], by["labels"]
    cases = [f"""WHEN "{of}" >= {bound!r} THEN '{label.replace("'", "''")}'""" for bound, label in reversed(list(zip(bounds, labels)))]
    ended = [f'WHEN "{of}" >= {bounds[-1]!r} THEN NULL'] if len(labels) < len(bounds) else []
    return by["name"], f"CASE {' '.join(ended + cases)} END"


def comparable(column, type_):
    """Times as whole numbers: every engine shows those alike, whatever the year."""
    return {"timestamp": f'epoch_us("{column}")', "date": f"""("{column}" - DATE '1970-01-01')"""}.get(type_, f'"{column}"')


def _measure(name, call, types):
    function, arguments = re.fullmatch(r"(\w+)(?:\(([^)]*)\))?", call.strip()).groups()
    column, *rest = [part.strip() for part in arguments.split(",")] if arguments else [None]
    return Measure(name, function, column, types.get(column), int(rest[0]) if rest else None)


# --- one engine: DuckDB over the rows ---


def connect(lake):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for extension in ("parquet", "httpfs", "delta"):
        import_extension(extension, con=connection)
        connection.execute(f"LOAD {extension}")
    if lake.endpoint:
        connection.execute(
            f"CREATE SECRET (TYPE s3, KEY_ID '{lake.access_key}', SECRET '{lake.secret_key}', REGION 'us-east-1', "
            f"ENDPOINT '{lake.endpoint.removeprefix('http://')}', USE_SSL false, URL_STYLE 'path')")
    return connection


def _floor(micros, size):
    return f"({micros} - (({micros} % {size}) + {size}) % {size})"


def panes_by_duckdb(connection, lake, window):
    """{(pane start, key): Cell}"""
    panes = _panes(f"delta_scan('{lake.table(window.rows)}')", window)
    return _grouped(connection, window, f"SELECT *, __pane AS __start, 0 AS __made FROM ({panes})").get(0, {})


def windows_by_duckdb(connection, rows, window, made):
    """{name of what was made: {(window start, key): Cell}}"""
    _tell_made(connection, made)
    windows = f"SELECT *, unnest(range(__pane - {window.every_us - window.pane_us}, __pane + {window.pane_us}, {window.pane_us})) AS __start"
    end = f"w.__start + {window.every_us}"
    source = (f"SELECT w.*, m.made AS __made FROM ({windows} FROM ({_panes(rows.relation, window)})) w "
              f"JOIN __made m ON {end} > m.after_us AND {end} <= m.through_us AND w.__version <= m.version")
    return _by_name(made, _grouped(connection, window, source))


def late_by_duckdb(connection, rows, window, made):
    """How many records came after a window that they belong to was sealed. The first that is sealed is the first that ends."""
    _tell_made(connection, made)
    return connection.execute(
        f"SELECT count(*) FROM ({_panes(rows.relation, window)}) JOIN __made ON __pane + {window.pane_us} > after_us "
        f"AND __pane + {window.pane_us} <= through_us AND __version > version").fetchone()[0]


def _tell_made(connection, made):
    connection.execute("CREATE OR REPLACE TEMP TABLE __made (made INTEGER, after_us BIGINT, through_us BIGINT, version BIGINT)")
    if made:
        connection.executemany("INSERT INTO __made VALUES (?, ?, ?, ?)", [(place, *each[1:]) for place, each in enumerate(made)])


def _by_name(made, cells):
    named = {}
    for place, each in enumerate(made):
        named.setdefault(each.name, {}).update(cells.get(place, {}))
    return named


def _panes(relation, window):
    time = _time(window)
    where = f"WHERE {window.where}" if window.where else ""
    return f"SELECT *, {_floor(time, window.pane_us)} AS __pane FROM {relation} {where}"


def _time(window):
    return f'coalesce(epoch_us("{window.time}"), epoch_us(_arrived_at))' if window.time else "epoch_us(_arrived_at)"


def _grouped(connection, window, source):
    order = f"ORDER BY {_time(window)}, _shard_id, length(_sequence_number), _sequence_number, _sub_sequence_number"
    selected = ["__made", "__start", *(f'{expression} AS "__key_{name}"' for name, expression in window.keys), "count(*) AS __records"]
    for measure in window.measures:
        selected += [f'{expression} AS "{name}"' for name, expression in _over_rows(measure, order).items()]
    groups = ", ".join(str(place + 1) for place in range(2 + len(window.keys)))
    answer = connection.execute(f"SELECT {', '.join(selected)} FROM ({source}) GROUP BY {groups}")
    names = [column[0] for column in answer.description]
    cells = {}
    for row in answer.fetchall():
        row = dict(zip(names, row))
        key = row["__start"], tuple(row[f"__key_{name}"] for name, _ in window.keys)
        values = {measure.name: _value_of_rows(measure, row) for measure in window.measures}
        cells.setdefault(row["__made"], {})[key] = Cell(row["__records"], values)
    return cells


def _over_rows(measure, order):
    name, column = measure.name, measure.column and comparable(measure.column, measure.type)
    return {
        "count": lambda: {},
        "sum": lambda: {name: f"sum({column}::HUGEINT)"} if measure.type in WHOLE
        else {name: f"list({column}) FILTER ({column} IS NOT NULL)"},
        "mean": lambda: {name: f"list({column}) FILTER ({column} IS NOT NULL)"},
        "min": lambda: {name: f"min({column})"},
        "max": lambda: {name: f"max({column})"},
        "first": lambda: {name: f"first({column} {order}) FILTER ({column} IS NOT NULL)"},
        "last": lambda: {name: f"last({column} {order}) FILTER ({column} IS NOT NULL)"},
        "distinct": lambda: {name: f"count(DISTINCT {column})"},
        "quantiles": lambda: {name: f"list({column} ORDER BY {column}) FILTER ({column} IS NOT NULL)"},
        "top": lambda: {name: f"list({_text(measure)}) FILTER ({column} IS NOT NULL)"},
    }[measure.function]()


def _text(measure):
    return f'"{measure.column}"::VARCHAR'


def _value_of_rows(measure, row):
    value = row.get(measure.name)
    match measure.function:
        case "count":
            return row["__records"]
        case "sum" if measure.type not in WHOLE:
            return None if value is None else _exact(value)
        case "mean":
            return None if value is None else (_exact(value) if measure.type not in WHOLE else sum(value), len(value))
        case "top":
            return Counter(value or [])
        case "quantiles":
            return value or []
        case _:
            return value


class Near(NamedTuple):
    """A sum of doubles, exact, and the sum of magnitudes that its tolerance is a part of."""

    value: Fraction
    magnitude: Fraction


def _exact(values):
    return Near(sum(map(Fraction, values)), sum(abs(Fraction(value)) for value in values))


# --- the other engine: Polars over the rows ---


def panes_by_polars(lake, window):
    """{(pane start, key): Cell}"""
    panes = _panes_by_polars(pl.scan_delta(lake.table(window.rows), storage_options=lake.options), window)
    return _grouped_by_polars(window, panes.with_columns(pl.col("__pane").alias("__start"), __made=pl.lit(0))).get(0, {})


def windows_by_polars(rows, window, made):
    """{name of what was made: {(window start, key): Cell}}"""
    columns = {"made": pl.Int64, "after_us": pl.Int64, "through_us": pl.Int64, "version": pl.Int64}
    ranges = pl.LazyFrame([(place, *each[1:]) for place, each in enumerate(made)], schema=columns, orient="row")
    pane, end = pl.col("__pane"), pl.col("__start") + window.every_us
    starts = pl.int_ranges(pane - window.every_us + window.pane_us, pane + window.pane_us, window.pane_us)
    windows = _panes_by_polars(rows.frame, window).with_columns(__start=starts).explode("__start").with_columns(__end=end)
    joined = windows.join_where(ranges, pl.col("__end") > pl.col("after_us"), pl.col("__end") <= pl.col("through_us"),
                                pl.col("__version") <= pl.col("version"))
    return _by_name(made, _grouped_by_polars(window, joined.rename({"made": "__made"})))


def _time_by_polars(window):
    arrived = pl.col("_arrived_at").dt.epoch("us")
    return pl.coalesce(pl.col(window.time).dt.epoch("us"), arrived) if window.time else arrived


def _panes_by_polars(rows, window):
    rows, time = rows.filter(pl.sql_expr(window.where)) if window.where else rows, _time_by_polars(window)
    return rows.with_columns((time - time.mod(window.pane_us)).alias("__pane"))  # the modulus is never negative


def _grouped_by_polars(window, rows):
    """What is exact. Quantiles and most frequent values are left to DuckDB."""

    def number(column, type_):
        return {"timestamp": pl.col(column).dt.epoch("us"), "date": pl.col(column).cast(pl.Int32)}.get(type_, pl.col(column))

    place = [_time_by_polars(window), pl.col("_shard_id"), pl.col("_sequence_number").str.len_bytes(), pl.col("_sequence_number"), pl.col("_sub_sequence_number")]
    keys = [pl.sql_expr(expression).alias(f"__key_{name}") if "epoch_us" not in expression and "DATE" not in expression
            else number(name, "timestamp" if "epoch_us" in expression else "date").alias(f"__key_{name}") for name, expression in window.keys]
    measured = [pl.len().alias("__records")]
    for measure in window.measures:
        of = number(measure.column, measure.type) if measure.column else None
        over = {
            "sum": lambda: of.cast(pl.Int128).sum() if measure.type in WHOLE else of.drop_nulls(),
            "mean": lambda: of.drop_nulls(),
            "min": lambda: of.min(), "max": lambda: of.max(),
            "first": lambda: of.sort_by(place).drop_nulls().first(), "last": lambda: of.sort_by(place).drop_nulls().last(),
            "distinct": lambda: of.drop_nulls().n_unique(),
        }.get(measure.function)
        if over:
            measured += [over().alias(measure.name), of.count().alias(f"__count_{measure.name}")]
    grouped = rows.with_columns(*keys).group_by("__made", "__start", *(f"__key_{name}" for name, _ in window.keys)).agg(measured).collect()
    cells = {}
    for row in grouped.iter_rows(named=True):
        for measure in window.measures:
            if measure.function != "distinct" and not row.get(f"__count_{measure.name}", 1):
                row[measure.name] = None  # a sum of nothing is 0 there
        values = {measure.name: _value_of_rows(measure, row) for measure in window.measures if measure.name in row or measure.function == "count"}
        key = row["__start"], tuple(row[f"__key_{name}"] for name, _ in window.keys)
        cells.setdefault(row["__made"], {})[key] = Cell(row["__records"], values)
    return cells
