"""The datapoints of the benchmark, at three endpoints: SeaweedFS, nginx, and nginx with added latency."""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from bench import data, front, wide
from bench.front import Front
from bench.places import Place, entry_size, single
from bench.stand import Stand
from bench.wide import Wide
from datas3t.archive.index import END_SIZE

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MILLISECONDS = 20


@dataclass(frozen=True)
class Sizes:
    """How much is read.

    Attributes:
        total: The number of datapoints.
        each: The number of datapoints per archive.
        size: The bytes of one content.
        chosen: How many datapoints are read at random.
        batch: How many of them per call.
        slow: How many of them by contestants that are too slow for more.
        seaweed: How many of them on SeaweedFS.
        wide: The number of dataranges of the datas3t that is opened.
        singly: How many datapoints are read one by one.
    """

    total: int = 100_000
    each: int = 10_000
    size: int = 10 << 10
    chosen: int = 10_000
    batch: int = 1_000
    slow: int = 1_000
    seaweed: int = 1_000
    wide: int = 10_000
    singly: int = 2_000


QUICK = Sizes(total=2_000, each=500, chosen=400, batch=200, slow=200, seaweed=200, singly=100, wide=200)


@dataclass(frozen=True)
class Site:
    """A place, and the nginx that counts the requests to it."""

    title: str
    place: Place
    front: Front | None


@dataclass(frozen=True)
class Sites:
    """The same datapoints at three endpoints. `keys` are those that random reads use, in this order."""

    seaweed: Site
    fast: Site | None
    far: Site | None
    keys: list[int]
    sizes: Sizes
    archives: tuple[Path, ...]
    stand: Stand

    @cached_property
    def wide(self) -> Wide:
        """A datas3t of many dataranges at each of the two endpoints of nginx, created at the first use."""
        return wide.create(self.stand, self.sizes.wide, [site.place.name for site in (self.fast, self.far) if site])

    def digest(self, keys: Sequence[int]) -> bytes:
        """Return the SHA-256 of the uploaded contents of these keys, joined."""
        digest = hashlib.sha256()
        for key in keys:
            path, number = self.archives[key // self.sizes.each], key % self.sizes.each
            digest.update(data.content(path, number, self.sizes.size))
        return digest.digest()


@contextlib.contextmanager
def set_up(stand: Stand, sizes: Sizes) -> Iterator[Sites]:
    """Upload the datapoints through the server and set up the endpoints where they can be read."""
    keys = data.chosen(sizes.total, sizes.chosen)
    stand.add_bucket("seaweedfs", stand.s3.endpoint)
    archives = _uploaded(stand, "images", sizes)
    _put_singles(stand, archives, keys[: sizes.seaweed], sizes)
    seaweed = Site("SeaweedFS", stand.place("images", stand.s3, sizes.size, 64), None)
    fast = far = None
    with contextlib.ExitStack() as stack:
        if stand.fast:
            _put_in_front(stand, archives, keys, sizes)
            fast = Site("nginx on loopback", _copy(stand, "fast", stand.fast.endpoint, sizes, 64), stand.fast)
            if front.can_delay():
                endpoint = stack.enter_context(front.delayed(stand.fast.endpoint, MILLISECONDS))
                title = f"nginx, {MILLISECONDS} ms to the first byte"
                far = Site(title, _copy(stand, "far", endpoint, sizes, 256), stand.fast)
        yield Sites(seaweed, fast, far, keys, sizes, archives, stand)


def _uploaded(stand: Stand, name: str, sizes: Sizes) -> tuple[Path, ...]:
    stand.client.add_datas3t(name, bucket="seaweedfs")
    paths = []
    for span in data.spans(sizes.total, sizes.each):
        path = stand.memory / f"{span.start}.tar"
        data.write_archive(path, span.start, len(span), sizes.size)
        stand.client.upload_tar(name, path)
        paths.append(path)
    return tuple(paths)


def _put_singles(stand: Stand, archives: Sequence[Path], keys: Sequence[int], sizes: Sizes) -> None:
    """Upload the datapoints as one object each."""
    s3 = _s3(stand)

    def put(key: int) -> None:
        content = data.content(archives[key // sizes.each], key % sizes.each, sizes.size)
        s3.put_object(Bucket=stand.s3.bucket, Key=single(key), Body=content)

    with ThreadPoolExecutor(16) as threads:
        for _ in threads.map(put, keys):
            pass


def _put_in_front(stand: Stand, archives: Sequence[Path], keys: Sequence[int], sizes: Sizes) -> None:
    """Make archives, indices and single objects files of nginx, with the same bytes as in S3."""
    s3 = _s3(stand)
    for path, datarange in zip(archives, stand.client.list_dataranges("images"), strict=True):
        os.link(path, stand.in_front(datarange.object_key))
        index = s3.get_object(Bucket=stand.s3.bucket, Key=datarange.index_object_key)["Body"].read()
        stand.in_front(datarange.index_object_key).write_bytes(index)
    for key in keys:
        content = data.content(archives[key // sizes.each], key % sizes.each, sizes.size)
        stand.in_front(single(key)).write_bytes(content)


def _copy(stand: Stand, name: str, endpoint: str, sizes: Sizes, in_flight: int) -> Place:
    """Create the datas3t again at an endpoint of nginx: rows with the same objects, but the ETags of nginx."""
    access = stand.add_bucket(name, endpoint)
    stand.client.add_datas3t(name, bucket=name)
    rows = []
    for datarange in stand.client.list_dataranges("images"):
        data_etag, index_etag = map(stand.etag, (datarange.object_key, datarange.index_object_key))
        entries = datarange.datapoints * entry_size(sizes.size)
        assert entries + END_SIZE <= datarange.size
        keys = datarange.object_key, datarange.index_object_key
        rows.append((datarange.first, datarange.last, *keys, datarange.size, entries, data_etag, index_etag))
    stand.add_rows(name, rows)
    return stand.place(name, access, sizes.size, in_flight)


def _s3(stand: Stand) -> "S3Client":
    return boto3.client(
        "s3",
        endpoint_url=stand.s3.endpoint,
        region_name="us-east-1",
        aws_access_key_id=stand.s3.access_key,
        aws_secret_access_key=stand.s3.secret_key,
        config=Config(s3={"addressing_style": "path"}, max_pool_connections=16),
    )
