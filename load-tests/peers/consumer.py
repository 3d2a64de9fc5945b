"""The consumer that people write: GetRecords shard by shard with boto3, orjson, pyarrow, `write_deltalake`.

`consumer.py ENDPOINT S3_ENDPOINT LAKE RECORDS STREAM...` reads the streams from their beginning until it has seen so many records of each and
has written them to `LAKE/STREAM`. Written with care: calls of 10,000 records, one table and one commit per flush, columns cleaned as a whole,
one deserialiser, no row touched twice. It keeps no positions, no rejects and no windows, and cleans like the other engines here.
"""

import sys
import time

import boto3
import deltalake
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from botocore.config import Config
from cleaning import NOTHING, PREFIX
from deltalake import WriterProperties, write_deltalake
from measuring import measured

ENDPOINT, S3_ENDPOINT, LAKE, RECORDS = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
STREAMS = sys.argv[5:]

FLUSH_RECORDS, FLUSH_S = 40_000, 5.0
STORAGE = {"AWS_ENDPOINT_URL": S3_ENDPOINT, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "local",
           "AWS_SECRET_ACCESS_KEY": "local", "aws_conditional_put": "etag"}
WRITER = WriterProperties(compression="ZSTD", compression_level=1)


class Columns:
    """Fields of some records, as Arrow arrays."""

    def __init__(self, records):
        self._records = records

    def of(self, field, type_):
        return pa.array([record.get(field) for record in self._records], type=type_)

    def text(self, field):
        return self.of(field, pa.string())

    def text_or_null(self, field):
        values = self.text(field)
        return pc.if_else(pc.is_in(values, value_set=pa.array(NOTHING.get(field, [""]))), None, values)

    def time(self, field):
        return pc.strptime(self.text(field), format="%Y-%m-%dT%H:%M:%S", unit="us", error_is_null=True).cast(pa.timestamp("us", tz="UTC"))


def pins(columns):
    followers = pc.replace_substring(columns.text("follower_count"), "k", "000")
    followers = pc.replace_substring(followers, "M", "000000")
    followers = pc.if_else(pc.equal(followers, "User Info Error"), None, followers)
    place = columns.text("save_location")
    place = pc.if_else(pc.starts_with(place, PREFIX), pc.utf8_slice_codeunits(place, len(PREFIX)), place)
    return {"ind": columns.of("index", pa.int32()), "unique_id": columns.text("unique_id"), "title": columns.text_or_null("title"),
            "description": columns.text_or_null("description"), "follower_count": followers.cast(pa.int32()),
            "poster_name": columns.text_or_null("poster_name"), "tag_list": columns.text_or_null("tag_list"),
            "is_image_or_video": columns.text("is_image_or_video"), "image_src": columns.text_or_null("image_src"), "save_location": place,
            "category": columns.text("category")}


def geos(columns):
    latitude, longitude = columns.of("latitude", pa.float64()), columns.of("longitude", pa.float64())
    on_earth = pc.and_kleene(pc.less_equal(pc.abs(latitude), 90), pc.less_equal(pc.abs(longitude), 180)).fill_null(False)
    both = np.column_stack([latitude.to_numpy(zero_copy_only=False), longitude.to_numpy(zero_copy_only=False)])
    offsets = pa.array(np.arange(0, both.size + 1, 2, dtype=np.int32))
    coordinates = pa.ListArray.from_arrays(offsets, pa.array(both.ravel()), mask=pc.invert(on_earth))
    return {"ind": columns.of("ind", pa.int32()), "country": columns.text_or_null("country"), "coordinates": coordinates,
            "timestamp": columns.time("timestamp")}


def users(columns):
    name = pc.binary_join_element_wise(columns.text("first_name"), columns.text("last_name"), " ", null_handling="skip")
    age = columns.of("age", pa.int32())
    return {"ind": columns.of("ind", pa.int32()), "user_name": pc.if_else(pc.equal(name, ""), None, name),
            "age": pc.if_else(pc.and_(pc.greater_equal(age, 0), pc.less_equal(age, 150)), age, None), "date_joined": columns.time("date_joined")}


CLEAN = {"pin": pins, "geo": geos, "user": users}


class Stream:
    """One stream: its shards, what was read of it, and its table."""

    def __init__(self, kinesis, name):
        self._kinesis, self._name, self._records, self.seen, self._flushed_at = kinesis, name, [], 0, time.monotonic()
        shards = kinesis.list_shards(StreamName=name)["Shards"]
        first = [kinesis.get_shard_iterator(StreamName=name, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON") for shard in shards]
        self._iterators = [each["ShardIterator"] for each in first]

    def poll(self):
        """A call for each shard, and a flush if there is enough."""
        for index, iterator in enumerate(self._iterators):
            answer = self._kinesis.get_records(ShardIterator=iterator, Limit=10_000)
            self._iterators[index] = answer["NextShardIterator"]
            self.seen += len(answer["Records"])
            for record in answer["Records"]:
                try:
                    self._records.append(orjson.loads(record["Data"]))
                except orjson.JSONDecodeError:
                    pass  # a serious consumer would keep it somewhere
        if len(self._records) >= FLUSH_RECORDS or time.monotonic() - self._flushed_at >= FLUSH_S:
            self.flush()

    def flush(self):
        if self._records:
            table = pa.table(CLEAN[self._name](Columns(self._records)))
            write_deltalake(f"{LAKE}/{self._name}", table, mode="append", storage_options=STORAGE, writer_properties=WRITER)
        self._records, self._flushed_at = [], time.monotonic()


def main():
    config = Config(retries={"max_attempts": 10}, parameter_validation=False)
    kinesis = boto3.client("kinesis", endpoint_url=ENDPOINT, region_name="us-east-1", aws_access_key_id="local", aws_secret_access_key="local",
                           config=config)
    with measured(f"boto3 {boto3.__version__}, deltalake {deltalake.__version__}") as found:
        streams = [Stream(kinesis, name) for name in STREAMS]
        while any(stream.seen < RECORDS for stream in streams):
            for stream in streams:
                stream.poll()
        for stream in streams:
            stream.flush()
        found["rows"] = sum(stream.seen for stream in streams)


main()
