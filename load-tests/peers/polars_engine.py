"""Polars: a lazy scan with the types told, on the streaming engine. It stops at a line that is no JSON."""

import os

os.environ["POLARS_MAX_THREADS"] = "1"

import polars as pl  # noqa: E402
from cleaning import NOTHING, PREFIX  # noqa: E402
from job import FIELDS, INPUT, JOB, KIND, OUTPUT  # noqa: E402
from measuring import measured  # noqa: E402
from polars import col  # noqa: E402

TYPES = {int: pl.Int32, float: pl.Float64, str: pl.String}
PIN = ["ind", "unique_id", "title", "description", "follower_count", "poster_name", "tag_list", "is_image_or_video", "image_src",
       "save_location", "category"]


def or_null(name, nothing):
    return pl.when(~col(name).is_in(nothing)).then(col(name)).alias(name)


def time_of(name):
    return col(name).str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="us", strict=False)


def cleaned(lines):
    if KIND == "pin":
        followers = col("follower_count").str.replace("k", "000", literal=True).str.replace("M", "000000", literal=True)
        return lines.with_columns(
            *(or_null(name, nothing) for name, nothing in NOTHING.items()), col("index").alias("ind"),
            col("save_location").str.strip_prefix(PREFIX), followers.cast(pl.Int32, strict=False)).select(PIN)
    if KIND == "geo":
        on_earth = col("latitude").is_between(-90, 90) & col("longitude").is_between(-180, 180)
        return lines.select("ind", or_null("country", [""]), pl.when(on_earth).then(pl.concat_list("latitude", "longitude")).alias("coordinates"),
                            time_of("timestamp"))
    name = pl.concat_str("first_name", "last_name", separator=" ", ignore_nulls=True)
    return lines.select("ind", pl.when(name != "").then(name).alias("user_name"), pl.when(col("age").is_between(0, 150)).then(col("age")).alias("age"),
                        time_of("date_joined"))


with measured(pl.__version__) as found:
    query = cleaned(pl.scan_ndjson(INPUT, schema={name: TYPES[type_] for name, type_ in FIELDS.items()}))
    if JOB == "clean":
        found["rows"] = query.collect(engine="streaming").height
    else:
        query.sink_parquet(OUTPUT, compression="zstd", compression_level=1, engine="streaming")
