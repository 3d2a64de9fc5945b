"""The sealed rows of a window against the rows, as they were when each was made and as they are now.

A commit that seals says from which version of the partials, and that version says how far it followed the rows. Hence
it is known of which records each sealed row must be, and what came later is late. Where that much of the logs is not
there any more, a sealed row may lack records, but one that lacks none must say the same as the rows.
"""

from typing import NamedTuple

import cells
import deltalog
import grouped
from grouped import Cell, Made, Window

DAY_US = 86_400_000_000
NEVER, FOREVER = -(2**62), 2**62
NOW, DUE = "now", "due"  # beside the numbers of revisions: names of what could be made


class Row(NamedTuple):
    start_us: int
    key: tuple
    revision: int
    cell: Cell


class Sealed(NamedTuple):
    """What is known of a window's sealed rows."""

    window: Window
    rows: list
    made: list
    """What the rows of each known revision were made from, and what could be made now."""
    through_us: int
    watermark_us: int | None
    source: deltalog.Rows
    has_history: bool
    problems: list


# --- reading ---


def read(connection, lake, window, definitions, rows_log, source):
    """`None` if the window has no table."""
    log = deltalog.read(connection, lake, window.name)
    if not log:
        return None
    found = list(cells.numbers_of(connection, lake.table(window.name)))
    partials_log = deltalog.read(connection, lake, f"{window.name}_partials")
    last = deltalog.transactions(partials_log, max(partials_log, default=0))
    seals, problems = _seals(window, log, partials_log, rows_log)
    through_us = max([NEVER, *(seal.through_us for seal in seals)] if deltalog.is_whole(log) else [row["window_end"] for row in found], default=NEVER)
    watermark_us = max((ms * 1000 for id_, ms in last.items() if id_.endswith("/watermark")), default=None)
    since_us = min((ms * 1000 for id_, ms in last.items() if id_.endswith("/since")), default=FOREVER)
    for row in found:
        problems += _inconsistencies(window, row, definitions, through_us, since_us)
    rows = [Row(row["window_start"], tuple(row[name] for name, _ in window.keys), row["revision"], cells.added_up(window, [row])) for row in found]
    has_history = source.has_versions and deltalog.is_whole(log) and deltalog.is_whole(partials_log)
    made = seals + _revisions(window, log, partials_log, rows) if has_history else []
    now = [Made(NOW, NEVER, through_us, FOREVER)]
    if watermark_us is not None:
        now.append(Made(DUE, through_us, _closed_us(window, watermark_us), FOREVER))
    problems += _repeated(rows) + _numbered(window, log, rows)
    return Sealed(window, rows, made + now, through_us, watermark_us, source, has_history, problems)


def _closed_us(window, watermark_us):
    """The end of the last window that a watermark closes."""
    return (watermark_us - window.grace_us) // window.pane_us * window.pane_us


def _seals(window, log, partials_log, rows_log):
    """What each commit that sealed was made from, and what is wrong with those commits."""
    seals, problems, after_us, ledger = [], [], NEVER, _ledger(rows_log)
    for version, entry in log.items():
        for id_, through_ms in entry.txns.items():
            prefix, sealed, name = id_.partition("/seal/")
            if not sealed or name != window.name:
                continue
            through_us, from_version = through_ms * 1000, entry.txns.get(f"{prefix}/sealed_from/{name}", -1)
            if through_us <= after_us:
                problems.append(f"version {version} seals through {through_us} what was sealed through {after_us}")
            known = deltalog.transactions(partials_log, from_version)
            applied, watermark_ms = known.get(f"{prefix}/applied"), known.get(f"{prefix}/watermark")
            if applied is not None and deltalog.is_whole(partials_log) and deltalog.is_whole(rows_log):
                problems += _too_early(window, version, through_us, watermark_ms, ledger.get((prefix, applied)))
            seals.append(Made(0, after_us, through_us, -1 if applied is None else applied))
            after_us = max(after_us, through_us)
    return seals, problems


def _too_early(window, version, through_us, watermark_ms, ledger_ms):
    if watermark_ms is None or through_us > _closed_us(window, watermark_ms * 1000):
        yield f"version {version} seals through {through_us}, and the partials' watermark is {watermark_ms} ms"
    if watermark_ms is not None and (ledger_ms is None or watermark_ms > ledger_ms):
        yield f"version {version} is sealed by a watermark of {watermark_ms} ms, and the ledger's is {ledger_ms} ms"


def _ledger(rows_log):
    """{(stream, version of the rows): the highest watermark up to it, ms}: the lowest of the open shards at each version."""
    shards, highest, found = {}, {}, {}
    for version, entry in rows_log.items():
        for id_, value in entry.txns.items():
            prefix, _, rest = id_.partition("@")
            created, _, rest = rest.partition("/")
            shard, _, part = rest.rpartition("/")
            if shard and not shard.startswith(("replay-", "range-")):
                shards.setdefault(f"{prefix}@{created}", {}).setdefault(shard, {})[part] = value
        for stream, of in shards.items():
            marks = [parts.get("watermark") for parts in of.values() if not parts.get("end")]
            if marks and None not in marks:
                highest[stream] = max(min(marks), highest.get(stream, NEVER))
            found[stream, version] = highest.get(stream)
    return found


def _revisions(window, log, partials_log, rows):
    """What corrections were made from."""
    made, starts = [], {}
    for row in rows:
        starts.setdefault(row.revision, set()).add(row.start_us)
    for entry in log.values():
        for id_, revision in entry.txns.items():
            prefix, corrected, name = id_.partition("/revisions/")
            if corrected and name == window.name and "partialsVersion" in entry.info:
                applied = deltalog.transactions(partials_log, int(entry.info["partialsVersion"])).get(f"{prefix}/applied", -1)
                ends = (start_us + window.every_us for start_us in starts.get(revision, ()))
                made += [Made(revision, end_us - 1, end_us, applied) for end_us in ends]
    return made


# --- what can be said of single rows and of all of them ---


def _inconsistencies(window, row, definitions, through_us, since_us):
    start_us, end_us = row["window_start"], row["window_end"]
    if end_us != start_us + window.every_us or start_us % window.pane_us:
        yield f"a row of {start_us} ends at {end_us}: not {window.every_us} us later, or no multiple of {window.pane_us}"
    if end_us > through_us:
        yield f"a row of {start_us} ends at {end_us}, and windows are sealed through {through_us}"
    if row["_date"] not in (None, start_us // DAY_US):
        yield f"a row of {start_us} is of day {row['_date']}"
    if {row["definition"]} != definitions:
        yield f"definition: a row of {start_us} has {row['definition']}, the partials have {definitions}"
    yield from (f"a row of {start_us}: {problem}" for problem in cells.unlike_itself(window, row))
    if row["complete"] != (start_us >= since_us):
        yield f"a row of {start_us} says complete = {row['complete']}, and nothing is missing since {since_us}"


def _repeated(rows):
    seen, problems = set(), []
    for row in rows:
        if (row.start_us, row.key, row.revision) in seen:
            problems.append(f"{row.start_us, row.key}: twice in revision {row.revision}")
        seen.add((row.start_us, row.key, row.revision))
    return problems


def _numbered(window, log, rows):
    """Revisions are numbered one after the other, and each has more records than the one before."""
    found = sorted({row.revision for row in rows} - {0})
    if window.revise_for_us is None:
        return [f"revision {revision} of a window that is sealed once" for revision in found]
    committed = [value for entry in log.values() for id_, value in entry.txns.items() if id_.endswith(f"/revisions/{window.name}")]
    wanted = list(range(1, 1 + max(committed, default=0))) if deltalog.is_whole(log) else list(range(1, 1 + max(found, default=0)))
    problems = [] if found == wanted else [f"revisions {found}, where {wanted} were committed"]
    before = {}
    for row in sorted(rows, key=lambda row: row.revision):
        group = row.start_us, row.key
        if row.cell.records <= before.get(group, 0):
            problems.append(f"{group}: revision {row.revision} has {row.cell.records} records, the one before had {before[group]}")
        before[group] = row.cell.records
    return problems


# --- judgement ---


def judge(connection, sealed):
    """For each engine: its name, what it wants now, what is wrong, {figure: value}."""
    made = sealed.made
    for engine, wanted in (("duckdb", grouped.windows_by_duckdb(connection, sealed.source, sealed.window, made)),
                           ("polars", grouped.windows_by_polars(sealed.source, sealed.window, made))):
        problems = sealed.problems + _as_made(sealed, wanted) + _as_now(sealed, wanted[NOW])
        last = _last(sealed.rows)
        late = sum(cell.records - last[group].records if group in last else cell.records for group, cell in wanted[NOW].items())
        yield engine, wanted[NOW], problems, {"late": late, "not_yet_sealed": len({start_us for start_us, _ in wanted.get(DUE, ())})}


def _last(rows):
    return {(row.start_us, row.key): row.cell for row in sorted(rows, key=lambda row: row.revision)}


def _as_made(sealed, wanted):
    """Each row is what the rows were when it was made."""
    window, problems = sealed.window, []
    for revision in sorted({row.revision for row in sealed.rows} | (wanted.keys() - {NOW, DUE})):
        found = {(row.start_us, row.key): row.cell for row in sealed.rows if row.revision == revision}
        if revision not in wanted:
            problems += _no_more_than(window, wanted[NOW], found)
        elif revision == 0:
            problems += cells.differences(window, wanted[0], found, "the sealed rows")
        else:
            corrected = {group: cell for group, cell in wanted[revision].items() if group in found}
            problems += (f"revision {revision}: {each}" for each in cells.differences(window, corrected, found, "the sealed rows"))
    return problems


def _no_more_than(window, now, found):
    """Nobody knows any more what these were made from. They may lack records."""
    for group, cell in found.items():
        if group not in now or cell.records > now[group].records:
            yield f"{group}: {cell.records} records in the sealed rows, {now[group].records if group in now else 'none'} in the rows"
        elif cell.records == now[group].records:
            yield from cells.cell_differences(window, group, now[group], cell)


def _as_now(sealed, now):
    """Under `revise` the last row of every window that is still corrected is what the rows are now."""
    window = sealed.window
    if window.revise_for_us is None or sealed.watermark_us is None:
        return []
    oldest_us = sealed.watermark_us - window.revise_for_us - window.every_us
    corrected = ({group: cell for group, cell in each.items() if group[0] >= oldest_us} for each in (now, _last(sealed.rows)))
    return [f"last revision: {each}" for each in cells.differences(window, *corrected, "the sealed rows")]


def figures(connection, sealed):
    """{figure: value}, of no engine. `late_records` are those that came after one of their windows was sealed; there are none
    if what the rows were made from is not known."""
    seals = [each for each in sealed.made if each.name == 0]
    late = {"late_records": grouped.late_by_duckdb(connection, sealed.source, sealed.window, seals)} if sealed.has_history else {}
    known = {each.name for each in sealed.made}
    return {"sealed_windows": len({row.start_us for row in sealed.rows}), "sealed_rows": len(sealed.rows),
            "corrections": sum(row.revision > 0 for row in sealed.rows),
            "of_unknown_origin": sum(row.revision not in known for row in sealed.rows)} | late
