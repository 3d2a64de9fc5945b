"""One Delta table through four readers that are not Pintail's, each ending in the same Arrow columns.

Promise: what a reader shows is compared as that reader shows it; the only rewriting is the one named beside it.
Run as a program, one reader reads tables in a process of its own: two of the engines bring allocators and thread
pools that are better kept apart.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.feather

from leaving import leave


class Lake(NamedTuple):
    """A local folder, or a bucket prefix behind an S3 endpoint."""

    uri: str
    endpoint: str = ""
    access_key: str = ""
    secret_key: str = ""

    @property
    def options(self):
        if not self.endpoint:
            return {}
        return {"AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key,
                "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"}

    def table(self, name):
        return f"{self.uri.rstrip('/')}/{name}"


def read_deltalake(lake, names):
    """delta-rs, the Python side of the library that Pintail writes with: the control, not a second opinion."""
    from deltalake import DeltaTable

    return {name: DeltaTable(lake.table(name), storage_options=lake.options).to_pyarrow_table() for name in names}


def read_polars(lake, names):
    """Polars: deltalake for the log, its own Parquet reader for the data."""
    import polars

    return {name: polars.scan_delta(lake.table(name), storage_options=lake.options).collect().to_arrow() for name in names}


def read_duckdb(lake, names):
    """DuckDB: delta-kernel-rs for the log, its own Parquet reader for the data."""
    import duckdb
    from duckdb_extensions import import_extension

    connection = duckdb.connect()
    for extension in ("parquet", "httpfs", "delta"):
        import_extension(extension, con=connection)
        connection.execute(f"LOAD {extension}")
    if lake.endpoint:
        host = lake.endpoint.removeprefix("http://")
        connection.execute(
            f"CREATE SECRET (TYPE s3, KEY_ID '{lake.access_key}', SECRET '{lake.secret_key}', REGION 'us-east-1', "
            f"ENDPOINT '{host}', USE_SSL false, URL_STYLE 'path')")
    return {name: connection.execute(f"SELECT * FROM delta_scan('{lake.table(name)}')").fetch_arrow_table() for name in names}


def read_chdb(lake, names):
    """ClickHouse with its own C++ reader of the log, the most independent of the four."""
    import chdb

    tables = {}
    for name in names:
        if lake.endpoint:
            bucket_and_prefix = lake.table(name).removeprefix("s3://")
            source = f"deltaLake('{lake.endpoint}/{bucket_and_prefix}', '{lake.access_key}', '{lake.secret_key}')"
        else:
            source = f"deltaLakeLocal('{name}')"  # only paths below the working folder are allowed
        answer = chdb.query(
            f"SELECT * FROM {source} SETTINGS allow_experimental_delta_kernel_rs = 0, session_timezone = 'UTC', "
            "output_format_arrow_string_as_string = 0, output_format_arrow_low_cardinality_as_dictionary = 0", "ArrowStream")
        tables[name] = pa.ipc.open_stream(answer.bytes()).read_all()
    return tables


READERS = {"deltalake": read_deltalake, "duckdb": read_duckdb, "polars": read_polars, "chdb": read_chdb}


def read(reader, lake, names, folder):
    """{table: Arrow table} as `reader` shows them, read in a process of its own."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"*.{reader}"):
        old.unlink()
    request = json.dumps({"reader": reader, "lake": lake, "names": names, "folder": str(folder)})
    working_folder = folder if lake.endpoint else lake.uri
    done = subprocess.run([sys.executable, __file__, request], cwd=working_folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{reader} cannot read {lake.uri}: {done.stderr[-2000:]}")
    return kept(reader, folder)


def kept(reader, folder):
    """What an earlier `read` left in its folder."""
    return {path.stem: pa.feather.read_table(path, memory_map=False) for path in Path(folder).glob(f"*.{reader}")}


def main(request):
    request = json.loads(request)
    tables = READERS[request["reader"]](Lake(*request["lake"]), request["names"])
    for name, table in tables.items():
        pa.feather.write_feather(table, f"{request['folder']}/{name}.{request['reader']}", compression="uncompressed")
    leave()  # all answers are written


if __name__ == "__main__":
    main(sys.argv[1])
