"""DuckDB: `read_json` with the types told, SQL, results fetched as Arrow batches or copied to Parquet."""

import duckdb
from cleaning import PREFIX, or_null, quoted
from job import FIELDS, INPUT, JOB, KIND, OUTPUT
from measuring import measured

TYPES = {int: "INTEGER", float: "DOUBLE", str: "VARCHAR"}
COLUMNS = ", ".join(f"{name}: '{TYPES[type_]}'" for name, type_ in FIELDS.items())
SOURCE = f"read_json({quoted(INPUT)}, format = 'newline_delimited', ignore_errors = true, columns = {{{COLUMNS}}})"

SELECT = {
    "pin": f"""select "index" as ind, unique_id, {or_null("title")}, {or_null("description")},
        try_cast(replace(replace(follower_count, 'k', '000'), 'M', '000000') as integer) as follower_count, {or_null("poster_name")},
        {or_null("tag_list")}, is_image_or_video, {or_null("image_src")},
        case when starts_with(save_location, '{PREFIX}') then substr(save_location, {len(PREFIX) + 1}) else save_location end as save_location,
        category from {SOURCE} where "index" is not null""",
    "geo": f"""select ind, nullif(country, '') as country,
        case when latitude between -90 and 90 and longitude between -180 and 180 then [latitude, longitude] end as coordinates,
        try_cast("timestamp" as timestamp) as "timestamp" from {SOURCE} where ind is not null""",
    "user": f"""select ind, nullif(concat_ws(' ', first_name, last_name), '') as user_name, case when age between 0 and 150 then age end as age,
        try_cast(date_joined as timestamp) as date_joined from {SOURCE} where ind is not null""",
}[KIND]

connection = duckdb.connect()
connection.execute("set threads = 1")
connection.sql("select 1").to_arrow_reader(1).read_all()  # the first answer in Arrow imports pyarrow
with measured(duckdb.__version__) as found:
    if JOB == "clean":
        found["rows"] = sum(batch.num_rows for batch in connection.sql(SELECT).to_arrow_reader(100_000))
    else:
        connection.execute(f"copy ({SELECT}) to {quoted(OUTPUT)} (format parquet, compression zstd, compression_level 1)")
