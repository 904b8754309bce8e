"""Uploads against the plain functions of the server: small archives, and the PUTs that a client would make."""

import contextlib
import io
import os
import struct
import tarfile
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from datas3t.server import buckets, datas3ts, uploads
from datas3t.server.credentials import Cipher
from datas3t.server.db.pool import connection, open_pool
from datas3t.server.index_cache import IndexCache
from datas3t.server.intents import UPLOADS
from datas3t.server.reaper import sweep
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Buckets
from datas3t.server.uploads import Started

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from datas3t.embedded.stack import S3


@dataclass(frozen=True)
class Archive:
    """An archive of consecutive datapoints and its index."""

    first: int
    count: int
    data: bytes
    index: bytes


def archive(first: int, *contents: bytes, names: Sequence[str] = ()) -> Archive:
    """A USTAR archive, as Python's tarfile writes it; `names` instead of those the keys ask for."""
    out = io.BytesIO()
    records = b""
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key, content in enumerate(contents, first):
            member = tarfile.TarInfo(names[key - first] if names else f"{key:020d}.bin")
            member.size = len(content)
            records += struct.pack(">QHHI", out.tell(), 1, 0, len(content))
            tar.addfile(member, io.BytesIO(content))
    return Archive(first, len(contents), out.getvalue(), records)


def large_archive(first: int, count: int = 3, size: int = 7 << 20) -> Archive:
    """An archive of 21 MiB, which goes up in two parts."""
    return archive(first, *(os.urandom(size) for _ in range(count)))


def put(url: str, data: bytes) -> str:
    """PUTs to a presigned URL; the ETag, with its quotes."""
    request = urllib.request.Request(url, data=data, method="PUT", headers={"Content-Type": "application/octet-stream"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(answer.headers["ETag"])


def get(url: str, start: int, stop: int) -> bytes:
    """GETs bytes `start` up to `stop` of a presigned URL."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-{stop - 1}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 206
        return bytes(answer.read())


@contextlib.contextmanager
def open_resources(database: str, encryption_key: str, cache: Path) -> Iterator[Resources]:
    """What the app makes of its settings, without the app."""
    with open_pool(database, max_size=20) as pool:
        yield Resources(pool, Buckets(), IndexCache(cache, 1 << 30), Cipher(encryption_key))


def add_bucket(resources: Resources, s3: "S3", bucket: str, name: str = "local", endpoint: str | None = None) -> None:
    """Adds a bucket of the S3 server of the tests, at another address where there is a relay between."""
    buckets.add(resources, name, endpoint or s3.endpoint, bucket, None, s3.access_key, s3.secret_key)


@dataclass(frozen=True)
class Site:
    """A service with a datas3t on a bucket of its own, and a boto3 client to look into it."""

    resources: Resources
    datas3t: str
    bucket: str
    s3: "S3Client"

    def add(self) -> None:
        """Adds the datas3t."""
        datas3ts.add(self.resources, self.datas3t, "local")

    def clear(self) -> tuple[int, int]:
        """Clears the datas3t."""
        return datas3ts.clear(self.resources, self.datas3t)

    def delete(self) -> None:
        """Deletes the datas3t."""
        datas3ts.delete(self.resources, self.datas3t)

    def start(self, archive: Archive) -> Started:
        """Starts an upload of the archive."""
        return uploads.start(self.resources, self.datas3t, archive.first, archive.count, len(archive.data))

    def send(self, archive: Archive) -> tuple[int, list[str]]:
        """Starts an upload and PUTs all of it; its id and the parts' ETags."""
        started = self.start(archive)
        put(started.index_put_url, archive.index)
        return started.upload.id, put_data(started, archive.data)

    def upload(self, archive: Archive) -> None:
        """The whole way."""
        uploads.complete(self.resources, *self.send(archive))

    def move(self, endpoint: str) -> None:
        """The server reaches the bucket at this address from now on: that of a relay."""
        with connection(self.resources.pool) as conn:
            conn.execute("UPDATE s3_buckets SET endpoint = %s WHERE name = 'local'", [endpoint])

    def key(self, upload_id: int) -> str:
        """The archive's object key."""
        return UPLOADS.find(self.resources, upload_id).data_object_key

    def sweep(self) -> int:
        """Has the reaper do what is due."""
        return sweep(self.resources)

    def objects(self) -> list[str]:
        """The keys of all objects in the bucket."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def multiparts(self) -> list[str]:
        """The ids of all open multipart uploads in the bucket."""
        return [each["UploadId"] for each in self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])]

    def having(self, **changes: object) -> "Site":
        """The same with other settings of the service."""
        return replace(self, resources=replace(self.resources, **changes))  # type: ignore[arg-type]


def put_data(started: Started, data: bytes) -> list[str]:
    """PUTs an archive, or its parts, whose ETags it answers."""
    if started.data_put_url:
        put(started.data_put_url, data)
        return []
    size = started.upload.part_size
    return [put(url, data[i * size : (i + 1) * size]) for i, url in enumerate(started.part_urls)]
