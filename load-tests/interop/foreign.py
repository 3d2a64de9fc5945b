"""Another program at work on a table that Pintail writes."""

import itertools
import time
from datetime import datetime, timezone

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from compare import Finding


class Foreign:
    """Python deltalake at work on a table that Pintail writes."""

    MARK = "foreign"

    def __init__(self, uri, options):
        self.uri, self.options = uri, options
        self.figures = dict.fromkeys(("appended", "optimised", "deleted", "gave_way"), 0)
        self._waits = itertools.cycle((4, 0))  # seconds, in which Pintail commits and compacts, or does not

    def meddle_until(self, enough):
        while not enough():
            self.meddle()

    def meddle(self):
        try:
            table = DeltaTable(self.uri, storage_options=self.options)
        except TableNotFoundError:
            time.sleep(0.5)
            return
        for _ in range(4):  # as many small files as make Pintail compact
            self._try("appended", lambda: write_deltalake(table, self._row(table), mode="append"))
        stale = DeltaTable(self.uri, storage_options=self.options)
        time.sleep(next(self._waits))
        self._try("optimised", stale.optimize.compact)
        self._try("deleted", lambda: DeltaTable(self.uri, storage_options=self.options).delete(f"_shard_id = '{self.MARK}'"))

    def tidy_up(self):
        before = self.figures["deleted"]
        while self.figures["deleted"] == before:
            self._try("deleted", lambda: DeltaTable(self.uri, storage_options=self.options).delete(f"_shard_id = '{self.MARK}'"))

    def came_up(self, history):
        """That both were at work at all, by what happened here and by the table's history."""
        ours = [commit for commit in history if commit.get("operation") == "OPTIMIZE" and str(commit.get("engineInfo")).startswith("pintail")]
        counts = {"foreign appends": self.figures["appended"], "foreign compactions": self.figures["optimised"] + self.figures["gave_way"],
                  "compactions by Pintail": len(ours)}
        return [Finding(f"{what} came up", "process", count, 0, [] if count else ["none did"]) for what, count in counts.items()]

    def _try(self, what, act):
        try:
            act()
            self.figures[what] += 1
        except (CommitFailedError, DeltaError) as error:
            self.figures["gave_way"] += 1
            print(f"deltalake gave way ({what}): {str(error)[:150]}", flush=True)

    def _row(self, table):
        schema = pa.schema(table.schema().to_arrow())
        values = {"_shard_id": self.MARK, "_date": datetime.now(timezone.utc).date()}
        return pa.Table.from_pylist([{name: values.get(name) for name in schema.names}], schema=schema)
