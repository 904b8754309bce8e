"""Uploads with the plain functions of the server: small archives, and the PUTs that a client would send."""

import contextlib
import io
import os
import struct
import tarfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING

from datas3t.archive import checksums, index
from datas3t.server import buckets, datas3ts, uploads
from datas3t.server.credentials import Cipher
from datas3t.server.db.pool import connection, open_pool
from datas3t.server.errors import Failure
from datas3t.server.intents import UPLOADS
from datas3t.server.objects.index_cache import IndexCache
from datas3t.server.reaper import sweep
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Buckets
from datas3t.server.uploads import Started

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from datas3t.embedded.stack import S3


DONE = 0  # what `run_concurrently` returns for a call that succeeds


@dataclass(frozen=True)
class Archive:
    """An archive of consecutive datapoints and its index."""

    first: int
    count: int
    data: bytes
    index: bytes

    @property
    def checksums(self) -> bytes:
        """The checksums of its contents."""
        entries = index.decode(self.index)
        return checksums.encode(checksums.crc(self.data[e.content.start : e.content.stop]) for e in entries)


def archive(first: int, *contents: bytes, names: Sequence[str] = ()) -> Archive:
    """Return a USTAR archive written by Python's tarfile; `names` replace the right names of the entries."""
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
    """Return an archive of 21 MiB with random contents, which is uploaded in two parts."""
    return archive(first, *(os.urandom(size) for _ in range(count)))


def put(url: str, data: bytes) -> str:
    """PUT data to a presigned URL; return the ETag with its quotes."""
    request = urllib.request.Request(url, data=data, method="PUT", headers={"Content-Type": "application/octet-stream"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return str(response.headers["ETag"])


def get(url: str, start: int, stop: int) -> bytes:
    """GET the bytes from `start` up to `stop` of a presigned URL."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-{stop - 1}"})
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status == 206
        return bytes(response.read())


@contextlib.contextmanager
def open_resources(database: str, encryption_key: str, cache: Path) -> Iterator[Resources]:
    """Yield what the app makes of its settings, without the app."""
    with open_pool(database, max_size=20) as pool:
        yield Resources(pool, Buckets(), IndexCache(cache, 1 << 30), Cipher(encryption_key))


def add_bucket(resources: Resources, s3: "S3", bucket: str, name: str = "local", endpoint: str | None = None) -> None:
    """Add a bucket of the tests' S3 server; `endpoint` is that of a relay to it, if there is one."""
    buckets.add(resources, name, endpoint or s3.endpoint, bucket, None, s3.access_key, s3.secret_key)


@dataclass(frozen=True)
class Site:
    """What the plain functions need, a datas3t on its own bucket, and a boto3 client to look into the bucket."""

    resources: Resources
    datas3t: str
    bucket: str
    s3: "S3Client"

    def add(self) -> None:
        """Add the datas3t."""
        datas3ts.add(self.resources, self.datas3t, "local")

    def clear(self) -> tuple[int, int]:
        """Clear the datas3t."""
        return datas3ts.clear(self.resources, self.datas3t)

    def delete(self) -> None:
        """Delete the datas3t."""
        datas3ts.delete(self.resources, self.datas3t)

    def start(self, archive: Archive, **options: bool) -> Started:
        """Start an upload of the archive."""
        return uploads.start(self.resources, self.datas3t, archive.first, archive.count, len(archive.data), **options)

    def send(self, archive: Archive, checksums: bytes | None = None) -> tuple[int, list[str]]:
        """Start an upload and PUT all of its objects; return the upload's id and the ETags of the parts.

        `checksums` are sent as well if they are given; empty stands for those that the archive has.
        """
        started = self.start(archive, with_checksums=checksums is not None)
        put(started.index_put_url, archive.index)
        if checksums is not None:
            put(started.checksums_put_url, checksums or archive.checksums)
        return started.upload.id, put_data(started, archive.data)

    def upload(self, archive: Archive, checksums: bytes | None = None, extension: str = "") -> None:
        """Upload the archive and complete the upload; `checksums` as for `send`."""
        uploads.complete(self.resources, *self.send(archive, checksums), extension=extension)

    def set_endpoint(self, endpoint: str) -> None:
        """Have the server reach the bucket at this address, which is that of a relay."""
        with connection(self.resources.pool) as conn:
            conn.execute("UPDATE s3_buckets SET endpoint = %s WHERE name = 'local'", [endpoint])

    def key(self, upload_id: int) -> str:
        """Return the object key of an upload's archive."""
        return UPLOADS.find(self.resources, upload_id).data_object_key

    def sweep(self) -> int:
        """Run the reaper once; return how many objects it has deleted."""
        return sweep(self.resources)

    def objects(self) -> list[str]:
        """Return the keys of all objects in the bucket."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def multiparts(self) -> list[str]:
        """Return the ids of all open multipart uploads in the bucket."""
        return [each["UploadId"] for each in self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])]

    def with_resources(self, **changes: object) -> "Site":
        """Return a copy with some of the resources replaced."""
        return replace(self, resources=replace(self.resources, **changes))  # type: ignore[arg-type]


def put_data(started: Started, data: bytes) -> list[str]:
    """PUT an archive, or its parts; return the ETags of the parts."""
    if started.data_put_url:
        put(started.data_put_url, data)
        return []
    size = started.upload.part_size
    return [put(url, data[i * size : (i + 1) * size]) for i, url in enumerate(started.part_urls)]


def run_concurrently(calls: Sequence[Callable[[], object]]) -> list[int]:
    """Start all calls at the same moment; return for each the reason of its failure, or `DONE`."""
    ready = Barrier(len(calls))

    def run(call: Callable[[], object]) -> int:
        ready.wait()
        try:
            call()
        except Failure as failure:
            return failure.reason
        return DONE

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))
