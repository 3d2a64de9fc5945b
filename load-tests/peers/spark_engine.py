"""Spark, warm: `read.json` with the types told, SQL, rows to its sink that keeps nothing or to one Parquet file, in a folder as it writes them.

The JVM compiles most of its code in the first run of a job and much of it in the second; from the third on it is as fast as it gets, and that
one is measured. CPU and memory are those of the JVM and of this process.
"""

from cleaning import PREFIX, or_null
from job import FIELDS, INPUT, JOB, KIND, OUTPUT
from measuring import measured
from pyspark.sql import SparkSession

RUNS_BEFORE = 2

TYPES = {int: "int", float: "double", str: "string"}
SCHEMA = ", ".join(f"`{name}` {TYPES[type_]}" for name, type_ in FIELDS.items())
SETTINGS = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
    "spark.sql.ansi.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.hadoop.parquet.compression.codec.zstd.level": "1",
}

# A line that is no JSON is a row of nulls.
SELECT = {
    "pin": f"""select index as ind, unique_id, {or_null("title")}, {or_null("description")},
        cast(replace(replace(follower_count, 'k', '000'), 'M', '000000') as int) as follower_count, {or_null("poster_name")},
        {or_null("tag_list")}, is_image_or_video, {or_null("image_src")},
        case when startswith(save_location, '{PREFIX}') then substr(save_location, {len(PREFIX) + 1}) else save_location end as save_location,
        category from lines where index is not null""",
    "geo": """select ind, nullif(country, '') as country,
        case when latitude between -90 and 90 and longitude between -180 and 180 then array(latitude, longitude) end as coordinates,
        cast(timestamp as timestamp) as timestamp from lines where ind is not null""",
    "user": """select ind, nullif(concat_ws(' ', first_name, last_name), '') as user_name, case when age between 0 and 150 then age end as age,
        cast(date_joined as timestamp) as date_joined from lines where ind is not null""",
}[KIND]


def work(spark):
    spark.read.schema(SCHEMA).json(INPUT).createOrReplaceTempView("lines")
    cleaned = spark.sql(SELECT)
    if JOB == "clean":
        cleaned.write.format("noop").mode("overwrite").save()
    else:
        cleaned.coalesce(1).write.mode("overwrite").parquet(OUTPUT)


session = SparkSession.builder.master("local[1]").config(map=SETTINGS).getOrCreate()
jvm = session._jvm.java.lang.ProcessHandle.current().pid()
for _ in range(RUNS_BEFORE):
    work(session)
with measured(session.version, helper=jvm):
    work(session)
