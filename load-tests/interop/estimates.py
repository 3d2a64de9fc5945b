"""Sketches, read and merged by Apache DataSketches' own C++ library: what Pintail wrote must say what the rows say.

Promise: bytes that cannot be read, values hashed in another way, a sketch of other rows, a readable estimate that is not
its sketch's: each is found. Where a sketch is exact its answers must be, elsewhere they must lie within its stated error.
"""

import json
import math

import datasketches

LG_REGISTERS = 12
K = 200
RANKS = {"_p50": 0.5, "_p90": 0.9, "_p99": 0.99}
# Three standard deviations of 1.04 / sqrt(4096); twice the rank error that holds 99 % of the time.
DISTINCT_ERROR = 0.049
RANK_ERROR = 2 * 0.0133


class Distinct:
    """How many different values."""

    suffixes = {"": "long", "_sketch": "binary"}

    def __init__(self, name, shown=None):
        self.name = name

    def sketch(self, values):
        sketch = datasketches.hll_sketch(LG_REGISTERS, datasketches.tgt_hll_type.HLL_8)
        for value in values:
            sketch.update(value)
        return sketch.serialize_compact()

    def merge(self, sketches):
        merged = self.union(datasketches.hll_sketch.deserialize(sketch) for sketch in sketches)
        # Registers that were merged with registers are read by the composite estimate, which depends on the values
        # alone. Where lists of values became registers on the way, it still depends on their order.
        return self.union([merged, merged])

    def union(self, sketches):
        union = datasketches.hll_union(LG_REGISTERS)
        for sketch in sketches:
            union.update(sketch)
        return union.get_result(datasketches.tgt_hll_type.HLL_8)

    def readable(self, sketch):
        return {"": math.floor(self.merge([sketch]).get_estimate() + 0.5)}

    def nothing(self):
        return {"": 0, "_sketch": None}

    def problems(self, merged, values):
        # The empty text is no value to the library.
        exact, estimate = len({value for value in values if value != ""}), merged.get_estimate()
        if estimate != self.merge([self.sketch(values)]).get_estimate():
            yield f"{estimate} of merged sketches is not {self.merge([self.sketch(values)]).get_estimate()} of one over the rows"
        if abs(estimate - exact) > max(DISTINCT_ERROR * exact, 0.5):
            yield f"{estimate} of {exact} different values"


class Quantiles:
    """The distribution of numbers."""

    suffixes = {**{suffix: "double" for suffix in RANKS}, "_sketch": "binary"}

    def __init__(self, name, shown=None):
        self.name = name

    def sketch(self, values):
        sketch = datasketches.kll_doubles_sketch(K)
        for value in values:
            sketch.update(value)
        return sketch.serialize()

    def merge(self, sketches):
        merged = datasketches.kll_doubles_sketch(K)
        for sketch in sketches:
            merged.merge(datasketches.kll_doubles_sketch.deserialize(sketch))
        return merged

    def readable(self, sketch):
        merged = datasketches.kll_doubles_sketch.deserialize(sketch)
        return {suffix: merged.get_quantile(rank, True) for suffix, rank in RANKS.items()}

    def nothing(self):
        return dict.fromkeys(self.suffixes)

    def problems(self, merged, values):
        values = sorted(map(float, values))
        found = merged.n, merged.get_min_value(), merged.get_max_value()
        if found != (len(values), values[0], values[-1]):
            yield f"count, least and greatest {found} of {len(values)} values from {values[0]} to {values[-1]}"
        for rank in RANKS.values():
            found, right = merged.get_quantile(rank, True), values[math.ceil(rank * len(values)) - 1]
            below, through = sum(value < found for value in values), sum(value <= found for value in values)
            exact = not merged.is_estimation_mode()
            error = 0 if exact else RANK_ERROR * len(values)
            if (exact and found != right) or through < rank * len(values) - error or below > rank * len(values) + error:
                yield f"quantile {rank} is {found}, should be {right} of {len(values)}"


class Top:
    """The most frequent values."""

    suffixes = {"": "string", "_error": "long", "_sketch": "binary"}

    def __init__(self, name, shown):
        self.name, self.shown = name, int(shown)
        self.lg_slots = max(64, 1 << (16 * self.shown - 1).bit_length()).bit_length() - 1

    def sketch(self, values):
        sketch = datasketches.frequent_strings_sketch(self.lg_slots)
        for value in values:
            sketch.update(str(value))
        return sketch.serialize()

    def merge(self, sketches):
        merged = datasketches.frequent_strings_sketch(self.lg_slots)
        for sketch in sketches:
            merged.merge(datasketches.frequent_strings_sketch.deserialize(sketch))
        return merged

    def counts(self, sketch):
        """(value, least count, greatest count), the most frequent first."""
        found = sketch.get_frequent_items(datasketches.frequent_items_error_type.NO_FALSE_NEGATIVES, 0)
        return sorted(((value, low, high) for value, _, low, high in found), key=lambda each: (-each[2], each[0].encode()))

    def readable(self, sketch):
        counts = self.counts(datasketches.frequent_strings_sketch.deserialize(sketch))
        shown = [{"value": value, "count": high} for value, _, high in counts[: self.shown]]
        error = counts[0][2] - counts[0][1] if counts else 0
        return {"": json.dumps(shown, ensure_ascii=False, separators=(",", ":")), "_error": error}

    def nothing(self):
        return dict.fromkeys(self.suffixes)

    def problems(self, merged, values):
        exact = {}
        for value in map(str, values):
            exact[value] = exact.get(value, 0) + 1
        if merged.total_weight != len(values):
            yield f"{merged.total_weight} values, should be {len(values)}"
        found = self.counts(merged)
        yield from (f"{value!r} {low} to {high} times, is there {exact.get(value, 0)} times"
                    for value, low, high in found if not low <= exact.get(value, 0) <= high)
        if found and found[0][1] == found[0][2] and len(found) != len(exact):
            yield f"{len(found)} values, should be {len(exact)}"


KINDS = {"distinct": Distinct, "quantiles": Quantiles, "top": Top}


def unlike_its_sketch(kind, row):
    """The readable columns of a row that are not what the library reads off the bytes beside them."""
    bytes_ = row[f"{kind.name}_sketch"]
    try:
        right = kind.nothing() if bytes_ is None else kind.readable(bytes_)
    except (RuntimeError, ValueError, IndexError) as error:
        yield f"{kind.name}_sketch cannot be read: {error}"
        return
    for suffix, value in right.items():
        if suffix != "_sketch" and row[f"{kind.name}{suffix}"] != value:
            yield f"{kind.name}{suffix} is {row[f'{kind.name}{suffix}']!r}, its sketch says {value!r}"


class Merged:
    """The sketches of one window and key, merged by the library; equal to the values it must have been made of."""

    def __init__(self, kind, sketches):
        self.kind, self.sketches = kind, [sketch for sketch in sketches if sketch is not None]

    def __repr__(self):
        return f"{len(self.sketches)} sketches"

    def problems(self, values):
        if not values or not self.sketches:
            real = [value for value in values if value != ""]
            return [f"{self!r} of {len(real)} values"] if bool(self.sketches) != bool(real) else []
        try:
            return list(self.kind.problems(self.kind.merge(self.sketches), values))
        except (RuntimeError, ValueError, IndexError) as error:
            return [f"cannot be read: {error}"]
