"""What every call works with. `app` makes it once; the functions that do the work take it as their first argument."""

import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

from datas3t.server.credentials import Cipher
from datas3t.server.db.pool import Pool
from datas3t.server.index_cache import IndexCache
from datas3t.server.s3.bucket import Bucket, Buckets

# A PUT that starts just before its URL expires continues after it. An hour is ample for an archive's largest part.
_MAX_PUT_GRACE = timedelta(hours=1)


@dataclass(frozen=True)
class Resources:
    """The database pool, the S3 clients, the index cache and the settings that calls need.

    `url_lifetime` is how long presigned URLs work, and so how long an upload may take. `scratch` is the folder for
    data that is too large for memory. `opened_buckets` are the buckets of configurations by their ids, each with the
    version of its row, for `buckets.at_version`. `deletions` is set whenever objects are queued for deletion; the
    reaper waits for it.
    """

    pool: Pool
    s3: Buckets
    index_cache: IndexCache
    cipher: Cipher
    url_lifetime: timedelta = timedelta(hours=24)
    scratch: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    opened_buckets: dict[int, tuple[str, Bucket]] = field(default_factory=dict, repr=False)
    deletions: Event = field(default_factory=Event)

    def expiry(self) -> datetime:
        """Return when URLs that are signed now expire, by this machine's clock, which signs them.

        It is for clients. What rows say about time is made by the database, whose clock may differ.
        """
        return datetime.now(UTC) + self.url_lifetime

    @property
    def put_grace(self) -> timedelta:
        """How long a PUT that started just before its URL expired may still run."""
        return min(self.url_lifetime, _MAX_PUT_GRACE)
