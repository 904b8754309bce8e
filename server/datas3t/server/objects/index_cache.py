"""The server's cache of indices on disk. An entry is read from its 16 bytes in the file; no index is in memory."""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable

from datas3t.archive.index import RECORD_SIZE, Entry, ends_are_records, entry_at
from datas3t.local.disk_cache import Cached, DiskCache

_WARNING_SECONDS = 60.0  # between two warnings
_BYPASS_SECONDS = 5.0  # after a failure of the disk, for which the cache is not used
_log = logging.getLogger(__name__)

Fetch = Callable[[int, int], Iterable[bytes]]


class IndexCache:
    """A cache of whole indices in a folder, which several servers may share.

    The name of a file is the SHA-256 of endpoint, bucket, object key and ETag, each followed by a line feed, which none
    of them can contain. The content is the raw index.
    """

    def __init__(self, folder: str | os.PathLike[str], max_size: int) -> None:
        """Open the cache, whose files have at most `max_size` bytes. Raises OSError if the folder cannot be used."""
        self._files = DiskCache(folder, max_size)
        self._last_warning = -_WARNING_SECONDS
        self._bypassed_until = 0.0

    def entry(
        self, endpoint: str, bucket: str, object_key: str, etag: str, number: int, count: int, fetch: Fetch
    ) -> Entry:
        """Return one entry of an index.

        Args:
            endpoint: Where the index is stored.
            bucket: The bucket in S3.
            object_key: The key of the index.
            etag: The ETag of the index.
            number: The number of the entry, counted from 0.
            count: The number of entries of the index.
            fetch: Returns the bytes of the index from its first argument up to its second. It is called for the whole
                index if the cache does not have it, and for the one entry if the disk is full or fails.
        """
        identity = "".join(f"{each}\n" for each in (endpoint, bucket, object_key, etag))
        name, size = hashlib.sha256(identity.encode()).hexdigest(), count * RECORD_SIZE
        start, stop = number * RECORD_SIZE, (number + 1) * RECORD_SIZE
        if time.monotonic() < self._bypassed_until:
            return entry_at(b"".join(fetch(start, stop)), 0)
        try:
            with self._files.open(name, size, lambda: fetch(0, size), is_valid=_is_valid) as index:
                return entry_at(index.read(start, stop), 0)
        except (OSError, EOFError) as error:
            self._bypassed_until = time.monotonic() + _BYPASS_SECONDS
            self._warn(error)
            return entry_at(b"".join(fetch(start, stop)), 0)

    @property
    def hits(self) -> int:
        """How many indices were in the cache when they were needed."""
        return self._files.hits

    @property
    def misses(self) -> int:
        """How many indices had to be fetched."""
        return self._files.misses

    def bytes_used(self) -> int:
        """Return the bytes in use, by scanning the folder."""
        return self._files.bytes_used()

    def _warn(self, error: OSError | EOFError) -> None:
        now = time.monotonic()
        if now - self._last_warning >= _WARNING_SECONDS:
            self._last_warning = now
            cause = getattr(error, "strerror", None) or type(error).__name__
            _log.warning("the index cache fails (%s): entries are read from S3 one by one", cause)


def _is_valid(index: Cached) -> bool:
    """Return whether the first and the last record of a file look like records of an index."""
    return ends_are_records(index.read(0, RECORD_SIZE), index.read(index.size - RECORD_SIZE, index.size))
