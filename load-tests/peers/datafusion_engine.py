"""DataFusion: arrow-json and SQL, as in the engines that are built on it. It stops at a line that is no JSON."""

import datafusion
import pyarrow as pa
from cleaning import PREFIX, or_null, quoted
from job import FIELDS, INPUT, JOB, KIND, OUTPUT
from measuring import measured

TYPES = {int: pa.int32(), float: pa.float64(), str: pa.string()}
SETTINGS = {
    "datafusion.execution.parquet.compression": "zstd(1)",
    "datafusion.execution.parquet.maximum_parallel_row_group_writers": "1",
    "datafusion.execution.parquet.allow_single_file_parallelism": "false",
}

SELECT = {
    "pin": f"""select "index" as ind, unique_id, {or_null("title")}, {or_null("description")},
        try_cast(replace(replace(follower_count, 'k', '000'), 'M', '000000') as int) as follower_count, {or_null("poster_name")},
        {or_null("tag_list")}, is_image_or_video, {or_null("image_src")},
        case when starts_with(save_location, '{PREFIX}') then substr(save_location, {len(PREFIX) + 1}) else save_location end as save_location,
        category from lines where "index" is not null""",
    "geo": """select ind, nullif(country, '') as country,
        case when latitude between -90 and 90 and longitude between -180 and 180 then make_array(latitude, longitude) end as coordinates,
        try_cast("timestamp" as timestamp(6)) as "timestamp" from lines where ind is not null""",
    "user": """select ind, nullif(concat_ws(' ', first_name, last_name), '') as user_name, case when age between 0 and 150 then age end as age,
        try_cast(date_joined as timestamp(6)) as date_joined from lines where ind is not null""",
}[KIND]

config = datafusion.SessionConfig().with_target_partitions(1)
for key, value in SETTINGS.items():
    config = config.set(key, value)
context = datafusion.SessionContext(config)
with measured(datafusion.__version__) as found:
    schema = pa.schema([(name, TYPES[type_]) for name, type_ in FIELDS.items()])
    context.register_json("lines", INPUT, schema=schema, file_extension=".jsonl")
    if JOB == "clean":
        found["rows"] = sum(batch.to_pyarrow().num_rows for batch in context.sql(SELECT).execute_stream())
    else:
        context.sql(f"copy ({SELECT}) to {quoted(OUTPUT)} stored as parquet").collect()
