"""What every call works with. `app` makes it once; the functions that do the work take it as their first argument."""

import tempfile
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Generic, TypeVar

from datas3t.server.credentials import Cipher
from datas3t.server.db.pool import Pool
from datas3t.server.objects.index_cache import IndexCache
from datas3t.server.s3.bucket import Bucket, Buckets
from datas3t.server.s3.endpoints import AllowedEndpoints

# A PUT that starts just before its URL expires continues after it. An hour is ample for an archive's largest part.
_MAX_PUT_GRACE = timedelta(hours=1)

_MAX_BUCKETS = 256 << 10  # bytes of configurations that are kept: some 500 of them
_MAX_BITMAPS = 16 << 20

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """Values by the name of what they were made of, each kept until that has another version.

    The least recently used ones are forgotten when all of them have more than `max_size` bytes.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._size = 0
        self._lock = threading.Lock()
        self._values: OrderedDict[object, tuple[str, Value, int]] = OrderedDict()

    def __repr__(self) -> str:
        return f"Kept({self._max_size})"  # values may have credentials

    def latest(self, name: object) -> tuple[str, Value] | None:
        """Return what is kept, and of which version it was made."""
        with self._lock:
            kept = self._values.get(name)
            if kept is None:
                return None
            self._values.move_to_end(name)
            return kept[:2]

    def put(self, name: object, version: str, value: Value, size: int) -> None:
        """Keep a value of `size` bytes in place of the one of an earlier version, unless it alone exceeds the limit."""
        with self._lock:
            replaced = self._values.pop(name, None)
            self._size -= replaced[2] if replaced else 0
            if size > self._max_size:
                return
            self._values[name] = version, value, size
            self._size += size
            while self._size > self._max_size:
                self._size -= self._values.popitem(last=False)[1][2]


@dataclass(frozen=True)
class Resources:
    """The database pool, the S3 clients, the index cache and the settings that calls need.

    `url_lifetime` is how long presigned URLs work, and so how long an upload may take. `scratch` is the folder for
    data that is too large for memory. `opened_buckets` are those of configurations, by their ids. `bitmaps` are those
    of datas3ts, by their names. `allowed_endpoints` are those that configurations may name. `deletions` is set whenever
    objects are queued for deletion; the reaper waits for it.
    """

    pool: Pool
    s3: Buckets
    index_cache: IndexCache
    cipher: Cipher
    url_lifetime: timedelta = timedelta(hours=24)
    scratch: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    opened_buckets: Kept[Bucket] = field(default_factory=lambda: Kept(_MAX_BUCKETS))
    allowed_endpoints: AllowedEndpoints = field(default_factory=AllowedEndpoints)
    bitmaps: Kept[bytes] = field(default_factory=lambda: Kept(_MAX_BITMAPS))
    deletions: Event = field(default_factory=Event)

    def expiry(self) -> datetime:
        """Return when URLs that are signed now expire, by this machine's clock, which signs them.

        It is for clients. What rows say about time is made by the database, whose clock may differ.
        """
        return datetime.now(UTC) + self.url_lifetime

    @property
    def kept_after_use(self) -> timedelta:
        """How long an object stays that was replaced: until every URL that was signed for it has expired."""
        return self.url_lifetime + self.put_grace

    @property
    def put_grace(self) -> timedelta:
        """How long a PUT that started just before its URL expired may still run."""
        return min(self.url_lifetime, _MAX_PUT_GRACE)
