"""S3 servers other than SeaweedFS, as child processes of the tests: moto and nanio, both from wheels."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from datas3t.embedded.ports import free_ports
from tests.support.stack import tied, wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_ACCESS_KEY = "AKIDSTORESFORTESTS"
_SECRET_KEY = "a-secret-key-of-the-tests-alone"


@dataclass(frozen=True)
class Store:
    """How to reach an S3 server."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str

    @contextlib.contextmanager
    def client(self) -> "Iterator[S3Client]":
        """Yield a boto3 client that tries each call once."""
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                proxies={},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                retries={"total_max_attempts": 1},
                connect_timeout=5,
                read_timeout=30,
            ),
        )
        try:
            yield client
        finally:
            client.close()


@contextlib.contextmanager
def moto(folder: Path) -> Iterator[Store]:
    """Run moto's server. It checks no signature, key or expiry, and keeps objects in memory."""
    port = _port()
    program = Path(sys.executable).with_name("moto_server")
    store = Store("moto", f"http://127.0.0.1:{port}", _ACCESS_KEY, _SECRET_KEY)
    with _running(store, folder, {}, program, "-p", port):
        yield store


@contextlib.contextmanager
def nanio(folder: Path) -> Iterator[Store]:
    """Run nanio. It checks signatures and expiry, and knows no UploadPartCopy."""
    port = _port()
    program = Path(sys.executable).with_name("nanio")
    store = Store("nanio", f"http://127.0.0.1:{port}", _ACCESS_KEY, _SECRET_KEY)
    keys = {"NANIO_ACCESS_KEY": _ACCESS_KEY, "NANIO_SECRET_KEY": _SECRET_KEY}
    options = ("--data-dir", folder / "nanio", "--host", "127.0.0.1", "--port", port, "--no-access-log")
    with _running(store, folder, keys, program, "serve", *options):
        yield store


@contextlib.contextmanager
def _running(
    store: Store, folder: Path, environment: Mapping[str, str], program: Path, *arguments: object
) -> Iterator[None]:
    """Run a server until the block ends. It is ready when it lists its buckets."""
    with (folder / f"{store.name}.log").open("ab") as log:
        process = subprocess.Popen(
            tied([program, *map(str, arguments)]),
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        with store.client() as client:
            wait_until(lambda: _answers(client), what=f"{store.name} to be ready")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()


def _answers(client: "S3Client") -> bool:
    with contextlib.suppress(BotoCoreError, ClientError):
        client.list_buckets()
        return True
    return False


def _port() -> int:
    (port,) = free_ports(1)
    return port
