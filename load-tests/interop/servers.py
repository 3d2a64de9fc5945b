"""The third-party servers: each on free ports, asked until it answers, and gone with this process, however that ends."""

import ctypes
import os
import random
import signal
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import boto3
from botocore.config import Config

HERE = Path(__file__).resolve().parent
HOME = Path(os.environ["PINTAIL_INTEROP_HOME"])
ACCESS_KEY, SECRET_KEY, BUCKET = "interop", "interop-secret", "lake"


def free_port():
    """A port that is free together with the one 10,000 above it, where SeaweedFS puts its gRPC."""
    while True:
        port = random.randrange(20000, 30000)
        try:
            for each in (port, port + 10000):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", each))
            return port
        except OSError:
            continue


def spawn(command, log, env=None):
    """A child that the kernel kills when this process dies, even by SIGKILL."""
    die_with_parent = lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # noqa: E731 (PR_SET_PDEATHSIG)
    with open(log, "ab") as output:
        return subprocess.Popen(
            [str(part) for part in command], stdout=output, stderr=output, stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})},
            preexec_fn=die_with_parent)


@contextmanager
def running(name, command, log, ready, env=None, seconds=60):
    """A server that has answered `ready()`; killed on the way out (SeaweedFS takes 26 s to stop by itself)."""
    process = spawn(command, log, env)
    try:
        _wait(name, process, log, ready, seconds)
        yield
    finally:
        process.kill()
        process.wait()


def _wait(name, process, log, ready, seconds):
    deadline = time.monotonic() + seconds
    while True:
        try:
            ready()
            return
        except Exception as error:  # whatever a client raises while its server starts
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start: {error}\n{Path(log).read_text(errors='replace')[-2000:]}") from error
            time.sleep(0.2)


@contextmanager
def ministack(folder):
    """Kinesis for volume; yields its endpoint."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    command = [HOME / "ministack/bin/python", HERE / "ministack_server.py"]
    env = {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "LOG_LEVEL": "WARNING"}
    ready = lambda: urllib.request.urlopen(f"{endpoint}/_ministack/health", timeout=2).read()  # noqa: E731
    with running("ministack", command, folder / "ministack.log", ready, env):
        yield endpoint


@contextmanager
def kinesis_local(folder):
    """Kinesis for resharding; yields its endpoint."""
    package = HOME / "kinesis-local/node_modules/kinesis-local"
    tls, plain = free_port(), free_port()
    endpoint = f"http://127.0.0.1:{plain}"
    env = {"KINESIS_MOCK_CERT_PATH": str(package / "server.json"), "KINESIS_MOCK_TLS_PORT": str(tls),
           "KINESIS_MOCK_PLAIN_PORT": str(plain), "SHARD_LIMIT": "1000"}
    ready = lambda: _aws("kinesis", endpoint).list_streams()  # noqa: E731
    with running("kinesis-local", ["node", package / "main.js"], folder / "kinesis-local.log", ready, env):
        yield endpoint


@contextmanager
def seaweedfs(folder):
    """S3 that checks signatures and honours conditional puts; yields its endpoint, with the bucket made."""
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    endpoint = f"http://127.0.0.1:{ports['s3']}"
    (folder / "s3.json").write_text(
        '{"identities":[{"name":"interop","credentials":[{"accessKey":"%s","secretKey":"%s"}],'
        '"actions":["Admin","Read","Write","List","Tagging"]}]}' % (ACCESS_KEY, SECRET_KEY))
    (folder / "seaweedfs").mkdir(exist_ok=True)
    command = [HOME / "seaweedfs/bin/weed", "server", f"-dir={folder}/seaweedfs", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3",
               f"-s3.config={folder}/s3.json", "-s3.iam=false", "-master.volumeSizeLimitMB=64", "-volume.max=400",
               "-volume.minFreeSpace=100MiB",  # else it refuses all writes when a hundredth of the disk is left, however large the disk
               *(f"-{name}.port={port}" for name, port in ports.items())]
    with running("seaweedfs", command, folder / "seaweedfs.log", lambda: _make_bucket(endpoint)):
        yield endpoint


@contextmanager
def prometheus(folder, config):
    """Debian's; yields its endpoint."""
    endpoint = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/prometheus", f"--web.listen-address={endpoint}", "--web.enable-lifecycle"]
    ready = lambda: urllib.request.urlopen(f"http://{endpoint}/-/ready", timeout=2).read()  # noqa: E731
    with running("prometheus", command, folder / "prometheus.log", ready):
        yield f"http://{endpoint}"


def _make_bucket(endpoint):
    s3 = _aws("s3", endpoint)
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):  # by a try before, whose put was too early
        s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="probe", Body=b"x")


def _aws(service, endpoint):
    return boto3.client(
        service, endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=10, s3={"addressing_style": "path"}))
