"""Sketches as Apache DataSketches' own library reads and merges them, against what they stand for.

Promise: bytes that it cannot read, a merge that it refuses, an estimate beyond the stated error: each is a difference.
Bounds are those of the library: three standard deviations for `distinct`, twice the rank error for `quantiles` (which is
stated at 99 %, and many are checked), and what holds without exception for `top`.
"""

import bisect

DEVIATIONS = 3
RANKS = (0.5, 0.9, 0.99)


def difference(function, parts, truth):
    """`None`, or what is wrong. `truth`: how many different values, all values in order, or how often each."""
    return {"distinct": _distinct, "quantiles": _quantiles, "top": _top}[function](parts, truth)


def _distinct(parts, truth):
    from datasketches import hll_sketch, hll_union

    if not parts:
        return f"has no sketch, and {truth} values" if truth else None
    union = hll_union(21)
    for part in parts:
        union.update(hll_sketch.deserialize(bytes(part)))
    low, high = union.get_lower_bound(DEVIATIONS), union.get_upper_bound(DEVIATIONS)
    return None if low - 0.5 <= truth <= high + 0.5 else f"is within {low:.1f} to {high:.1f}, and {truth} are right"


def _quantiles(parts, truth):
    from datasketches import kll_doubles_sketch

    truth = [float(value) for value in truth]  # what the sketch is of
    if not parts:
        return f"has no sketch, and {len(truth)} values" if truth else None
    merged = kll_doubles_sketch.deserialize(bytes(parts[0]))
    for part in parts[1:]:
        merged.merge(kll_doubles_sketch.deserialize(bytes(part)))
    if merged.n != len(truth):
        return f"is of {merged.n} values, not {len(truth)}"
    if (merged.get_min_value(), merged.get_max_value()) != (truth[0], truth[-1]):
        return f"has extremes {merged.get_min_value()} and {merged.get_max_value()}, not {truth[0]} and {truth[-1]}"
    error = 2 * merged.normalized_rank_error(False) if merged.is_estimation_mode() else 0.0
    for rank in RANKS:
        value = merged.get_quantile(rank)
        low, high = bisect.bisect_left(truth, value) / len(truth), bisect.bisect_right(truth, value) / len(truth)
        if not low - error - 1 / len(truth) <= rank <= high + error + 1 / len(truth):
            return f"gives {value} at {rank}, whose rank is {low:.4f} to {high:.4f} (error {error:.4f})"
    return None


def _top(parts, truth):
    from datasketches import frequent_strings_sketch

    total = sum(truth.values())
    if not parts:
        return f"has no sketch, and {total} values" if total else None
    merged = frequent_strings_sketch.deserialize(bytes(parts[0]))
    for part in parts[1:]:
        merged.merge(frequent_strings_sketch.deserialize(bytes(part)))
    if merged.total_weight != total:
        return f"is of {merged.total_weight} values, not {total}"
    for value, count in truth.items():
        low, high = merged.get_lower_bound(value), merged.get_upper_bound(value)
        if not low <= count <= high:
            return f"gives {value!r} {low} to {high}, and {count} is right"
    return None
