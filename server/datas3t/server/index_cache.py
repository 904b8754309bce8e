"""The server's cache of indices on disk: an entry of 16 bytes is read where it lies, no index is loaded for it."""

import hashlib
import os
from collections.abc import Callable, Iterable

from datas3t.archive.disk_cache import Cached, DiskCache
from datas3t.archive.index import RECORD_SIZE, Entry, ends_are_records, entry_at


class IndexCache:
    """Many servers may share the folder. A file's name is the SHA-256 of endpoint, bucket, object key and ETag, each
    ended by a line feed, which none of them can hold; its content is the raw index."""

    def __init__(self, folder: str | os.PathLike[str], max_size: int) -> None:
        self._files = DiskCache(folder, max_size)

    def entry(
        self,
        endpoint: str,
        bucket: str,
        object_key: str,
        etag: str,
        number: int,
        count: int,
        fetch: Callable[[], Iterable[bytes]],
    ) -> Entry:
        """One entry, counted from 0, of an index of `count`, which `fetch` gets where it is missing."""
        with self.open(endpoint, bucket, object_key, etag, count, fetch) as index:
            return entry_at(index.read(number * RECORD_SIZE, (number + 1) * RECORD_SIZE), 0)

    def open(
        self,
        endpoint: str,
        bucket: str,
        object_key: str,
        etag: str,
        count: int,
        fetch: Callable[[], Iterable[bytes]],
    ) -> Cached:
        """A whole index, to be read in pieces and closed."""
        named = "".join(f"{each}\n" for each in (endpoint, bucket, object_key, etag))
        name = hashlib.sha256(named.encode()).hexdigest()
        return self._files.open(name, count * RECORD_SIZE, fetch, sound=_sound)

    def numbers(self) -> dict[str, float]:
        """Hits and misses since the start, and the bytes in use."""
        return {"hits": self._files.hits, "misses": self._files.misses, "bytes": self._files.bytes_used()}


def _sound(index: Cached) -> bool:
    return ends_are_records(index.read(0, RECORD_SIZE), index.read(index.size - RECORD_SIZE, index.size))
