"""The streams through boto3, the client that is not Pintail's: put, reshard, read back.

Promise: a record counts as accepted only when the server acknowledged it, and no request is ever sent twice behind our
back (one attempt, no retries), so that the records read back must be the acknowledged ones, no more and no fewer.
"""

import base64
import json
import time
from typing import NamedTuple

import boto3
from botocore.config import Config

KINDS = ("pin", "geo", "user")
MOST_RECORDS, MOST_BYTES = 500, 4 * 1024 * 1024


class Record(NamedTuple):
    """One record as Kinesis shows it; the arrival is exact, in milliseconds."""

    kind: str
    shard: str
    sequence: str
    arrived_ms: int
    payload: bytes


def client(endpoint):
    return boto3.client(
        "kinesis", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="interop", aws_secret_access_key="interop-secret",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=120))


def create_streams(kinesis, shards, kinds=KINDS):
    for kind in kinds:
        kinesis.create_stream(StreamName=kind, ShardCount=shards)
    for kind in kinds:
        wait_active(kinesis, kind)


def wait_active(kinesis, kind):
    deadline = time.monotonic() + 60
    while kinesis.describe_stream_summary(StreamName=kind)["StreamDescriptionSummary"]["StreamStatus"] != "ACTIVE":
        if time.monotonic() > deadline:
            raise TimeoutError(f"stream {kind} is not active after 60 s")
        time.sleep(0.2)


class Producer:
    """Puts generated records and writes down, line by line, each one that was acknowledged."""

    def __init__(self, kinesis, postings, ledger, kinds=KINDS):
        self._kinesis, self._postings, self._ledger = kinesis, iter(postings), open(ledger, "w", encoding="utf-8")
        self.accepted = dict.fromkeys(kinds, 0)

    def put(self, count, seconds=0.0):
        """The next `count` postings, spread evenly over `seconds`."""
        begun, taken, batches = time.monotonic(), 0, {kind: [] for kind in self.accepted}
        for taken in range(1, count + 1):
            kind, key, payload = next(self._postings)
            batch = batches[kind]
            if len(batch) == MOST_RECORDS or sum(len(data) for _, data in batch) + len(payload) > MOST_BYTES:
                self._send(kind, batch)
            batch.append((key, payload))
            if seconds and taken % 100 == 0:
                for each in self.accepted:
                    self._send(each, batches[each])
                time.sleep(max(0.0, begun + seconds * taken / count - time.monotonic()))
        for kind in self.accepted:
            self._send(kind, batches[kind])
        self._ledger.flush()

    def _send(self, kind, batch):
        while batch:
            answer = self._kinesis.put_records(StreamName=kind, Records=[{"PartitionKey": key, "Data": data} for key, data in batch])
            refused = []
            for (key, data), result in zip(batch, answer["Records"], strict=True):
                if "SequenceNumber" in result:
                    self._acknowledged(kind, result, data)
                else:
                    refused.append((key, data))
            batch[:] = refused

    def _acknowledged(self, kind, result, data):
        self.accepted[kind] += 1
        line = {"stream": kind, "shard": result["ShardId"], "sequence": result["SequenceNumber"], "payload": base64.b64encode(data).decode()}
        self._ledger.write(json.dumps(line) + "\n")


def read_ledger(path):
    """{(stream, sequence number): (shard, payload)} of everything acknowledged."""
    with open(path, encoding="utf-8") as lines:
        acknowledged = [json.loads(line) for line in lines]
    return {(each["stream"], each["sequence"]): (each["shard"], base64.b64decode(each["payload"])) for each in acknowledged}


def read_back(kinesis):
    """Every record of every shard, open or closed, from the beginning."""
    for kind in KINDS:
        for shard in list_shards(kinesis, kind):
            yield from _read_shard(kinesis, kind, shard["ShardId"])


def list_shards(kinesis, kind):
    return kinesis.list_shards(StreamName=kind)["Shards"]


def _read_shard(kinesis, kind, shard):
    iterator = kinesis.get_shard_iterator(StreamName=kind, ShardId=shard, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
    while iterator:
        answer = kinesis.get_records(ShardIterator=iterator, Limit=5000)
        for record in answer["Records"]:
            arrived_ms = round(record["ApproximateArrivalTimestamp"].timestamp() * 1000)
            yield Record(kind, shard, record["SequenceNumber"], arrived_ms, record["Data"])
        if not answer["Records"] and answer["MillisBehindLatest"] == 0:
            return
        iterator = answer.get("NextShardIterator")


def open_shards(kinesis, kind):
    """Open shards by their hash range, so that neighbours are adjacent."""
    shards = [shard for shard in list_shards(kinesis, kind) if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]
    return sorted(shards, key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))


def split_first_shard(kinesis, kind):
    shard = open_shards(kinesis, kind)[0]
    low, high = (int(shard["HashKeyRange"][end]) for end in ("StartingHashKey", "EndingHashKey"))
    kinesis.split_shard(StreamName=kind, ShardToSplit=shard["ShardId"], NewStartingHashKey=str((low + high) // 2 + 1))
    wait_active(kinesis, kind)


def merge_last_shards(kinesis, kind):
    left, right = open_shards(kinesis, kind)[-2:]
    kinesis.merge_shards(StreamName=kind, ShardToMerge=left["ShardId"], AdjacentShardToMerge=right["ShardId"])
    wait_active(kinesis, kind)
