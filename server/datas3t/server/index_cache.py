"""The server's cache of indices on disk: an entry of 16 bytes is read where it lies, no index is loaded for it."""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable

from datas3t.archive.index import RECORD_SIZE, Entry, ends_are_records, entry_at
from datas3t.local.disk_cache import Cached, DiskCache

_WARN_EVERY = 60.0  # seconds
_DIRECT = 5.0  # seconds after a failure for which the disk is left alone
_log = logging.getLogger(__name__)

Fetch = Callable[[int, int], Iterable[bytes]]


class IndexCache:
    """Many servers may share the folder. A file's name is the SHA-256 of endpoint, bucket, object key and ETag, each
    ended by a line feed, which none of them can hold; its content is the raw index."""

    def __init__(self, folder: str | os.PathLike[str], max_size: int) -> None:
        self._files = DiskCache(folder, max_size)
        self._warned = -_WARN_EVERY
        self._direct_until = 0.0

    def entry(
        self, endpoint: str, bucket: str, object_key: str, etag: str, number: int, count: int, fetch: Fetch
    ) -> Entry:
        """One entry, counted from 0, of an index of `count`. `fetch` gets the bytes of the index from the first number
        up to the second: all of them where it is missing, those of the entry alone where the disk is full or fails."""
        named = "".join(f"{each}\n" for each in (endpoint, bucket, object_key, etag))
        name, size = hashlib.sha256(named.encode()).hexdigest(), count * RECORD_SIZE
        start, stop = number * RECORD_SIZE, (number + 1) * RECORD_SIZE
        if time.monotonic() < self._direct_until:
            return entry_at(b"".join(fetch(start, stop)), 0)
        try:
            with self._files.open(name, size, lambda: fetch(0, size), is_valid=_sound) as index:
                return entry_at(index.read(start, stop), 0)
        except (OSError, EOFError) as error:
            self._direct_until = time.monotonic() + _DIRECT
            self._warn(error)
            return entry_at(b"".join(fetch(start, stop)), 0)

    def numbers(self) -> dict[str, float]:
        """Hits and misses since the start, and the bytes in use."""
        return {"hits": self._files.hits, "misses": self._files.misses, "bytes": self._files.bytes_used()}

    def _warn(self, error: OSError | EOFError) -> None:
        now = time.monotonic()
        if now - self._warned >= _WARN_EVERY:
            self._warned = now
            why = getattr(error, "strerror", None) or type(error).__name__
            _log.warning("the index cache fails (%s): entries of indices are read from S3, one by one", why)


def _sound(index: Cached) -> bool:
    return ends_are_records(index.read(0, RECORD_SIZE), index.read(index.size - RECORD_SIZE, index.size))
