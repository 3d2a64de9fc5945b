"""ClickHouse, in process as chdb: JSONEachRow with the types told, SQL, results to nowhere or to a Parquet file.

A list cannot be null there; a place that is no place is an empty list.
"""

import chdb
from cleaning import NOTHING, PREFIX, quoted
from job import FIELDS, INPUT, JOB, KIND, OUTPUT
from measuring import measured

TYPES = {int: "Nullable(Int32)", float: "Nullable(Float64)", str: "Nullable(String)"}
STRUCTURE = ", ".join(f"`{name}` {TYPES[type_]}" for name, type_ in FIELDS.items())
SOURCE = f"file({quoted(INPUT)}, 'JSONEachRow', {quoted(STRUCTURE)}) as line"
SETTINGS = {
    "max_threads": 1,
    "max_parsing_threads": 1,
    "input_format_parallel_parsing": 0,
    "input_format_allow_errors_num": 1_000_000,
    "input_format_allow_errors_ratio": 0.02,
    "output_format_parquet_compression_method": "'zstd'",
    "output_format_compression_level": 1,
    "output_format_parquet_string_as_string": 1,
    "output_format_parquet_parallel_encoding": 0,
}


def or_null(name):
    return f"if(line.{name} in ({', '.join(map(quoted, NOTHING[name]))}), null, line.{name}) as {name}"


def time_of(name):
    return f"parseDateTime64BestEffortOrNull(line.{name}, 6, 'UTC') as {name}"


SELECT = {
    "pin": f"""select assumeNotNull(line.index) as ind, unique_id, {or_null("title")}, {or_null("description")},
        toInt32OrNull(replaceOne(replaceOne(line.follower_count, 'k', '000'), 'M', '000000')) as follower_count, {or_null("poster_name")},
        {or_null("tag_list")}, is_image_or_video, {or_null("image_src")},
        if(startsWith(line.save_location, '{PREFIX}'), substring(line.save_location, {len(PREFIX) + 1}), line.save_location) as save_location,
        category from {SOURCE} where line.index is not null""",
    "geo": f"""select ind, nullIf(line.country, '') as country,
        if(latitude between -90 and 90 and longitude between -180 and 180, [assumeNotNull(latitude), assumeNotNull(longitude)], []) as coordinates,
        {time_of("timestamp")} from {SOURCE} where ind is not null""",
    "user": f"""select ind, multiIf(first_name is null, last_name, last_name is null, first_name, concat(first_name, ' ', last_name)) as user_name,
        if(line.age between 0 and 150, line.age, null) as age, {time_of("date_joined")} from {SOURCE} where ind is not null""",
}[KIND]

SET = " settings " + ", ".join(f"{key} = {value}" for key, value in SETTINGS.items())
chdb.query("select 1", "Null")  # the first query starts the engine
with measured(chdb.__version__) as found:
    if JOB == "clean":
        chdb.query(SELECT + SET, "Null")
    else:
        chdb.query(f"{SELECT} into outfile {quoted(OUTPUT)} format Parquet{SET}")
