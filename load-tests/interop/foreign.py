"""Another program at work on a table that Pintail writes."""

import time
from datetime import datetime, timezone

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError


class Foreign:
    """Python deltalake at work on a table that Pintail writes."""

    MARK = "foreign"

    def __init__(self, uri, options):
        self.uri, self.options = uri, options
        self.figures = dict.fromkeys(("appended", "optimised", "deleted", "gave_way"), 0)

    def meddle(self):
        try:
            table = DeltaTable(self.uri, storage_options=self.options)
        except TableNotFoundError:
            time.sleep(0.5)
            return
        self._try("appended", lambda: write_deltalake(table, self._row(table), mode="append"))
        stale = DeltaTable(self.uri, storage_options=self.options)
        time.sleep(1)  # in which Pintail commits and compacts
        self._try("optimised", stale.optimize.compact)
        self._try("deleted", lambda: DeltaTable(self.uri, storage_options=self.options).delete(f"_shard_id = '{self.MARK}'"))

    def tidy_up(self):
        before = self.figures["deleted"]
        while self.figures["deleted"] == before:
            self._try("deleted", lambda: DeltaTable(self.uri, storage_options=self.options).delete(f"_shard_id = '{self.MARK}'"))

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
