"""What every call works with. The plain functions take it first; the app makes it once."""

import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

from datas3t.server.credentials import Cipher
from datas3t.server.db.pool import Pool
from datas3t.server.index_cache import IndexCache
from datas3t.server.s3.bucket import Buckets


@dataclass(frozen=True)
class Resources:
    """`url_lifetime`: how long presigned URLs work, and so how long an upload may take.

    `scratch` is the folder for what is too large for memory. `deletions` is set whenever objects were queued for
    deletion: the reaper waits for it.
    """

    pool: Pool
    s3: Buckets
    index_cache: IndexCache
    cipher: Cipher
    url_lifetime: timedelta = timedelta(hours=24)
    scratch: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    deletions: Event = field(default_factory=Event)

    def expiry(self) -> datetime:
        """When URLs that are signed now will end."""
        return datetime.now(UTC) + self.url_lifetime

    @property
    def late(self) -> timedelta:
        """How long a PUT may still run that was sent just before its URL ended."""
        return min(self.url_lifetime, timedelta(hours=1))
