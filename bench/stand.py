"""What the reading bench stands on: a real PostgreSQL, a real SeaweedFS, a server process, and nginx in front of S3."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench import front, nginx
from bench.front import Front
from bench.places import Access, Archive, Place
from datas3t import v1
from datas3t.client import Client
from datas3t.embedded.stack import services
from tests.support.stack import ServerProcess, running_server

_MEMORY = Path("/dev/shm")
_INSERT = """
INSERT INTO dataranges (datas3t_id, first_key, last_key, data_object_key, index_object_key, size_bytes,
                        entries_size_bytes, data_etag, index_etag)
SELECT id, %s, %s, %s, %s, %s, %s, %s, %s FROM datas3ts WHERE name = %s
"""


@dataclass(frozen=True)
class Stand:
    """All that runs. `memory` is a folder for what should be read fast; `s3` is SeaweedFS, `fast` nginx before it."""

    client: Client
    server: ServerProcess
    db_url: str
    encryption_key: str
    s3: Access
    fast: Front | None
    folder: Path
    memory: Path

    def add_bucket(self, name: str, endpoint: str) -> Access:
        """A bucket configuration for the same bucket at another endpoint."""
        access = Access(endpoint, self.s3.bucket, self.s3.access_key, self.s3.secret_key)
        self.client.add_bucket(
            name, endpoint=endpoint, bucket=access.bucket, access_key=access.access_key, secret_key=access.secret_key
        )
        return access

    def place(self, name: str, access: Access, size: int, in_flight: int) -> Place:
        """What contestants are told of a datas3t that is there."""
        listed = {found.id: found for found in self.client.list_dataranges(name)}
        archives: list[Archive] = []
        for found in presigned(self.client, name):
            first, last = found.min_datapoint_key, found.max_datapoint_key
            object_key = listed[found.datarange_id].object_key
            archives.append(Archive(first, last, object_key, found.data_etag, found.presigned_data_url))
        return Place(self.server.url, name, access, tuple(archives), size, in_flight)

    def in_front(self, object_key: str) -> Path:
        """The file that nginx answers an object from; its folder is there."""
        assert self.fast
        path = self.fast.root / self.s3.bucket / object_key
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def etag(self, object_key: str) -> str:
        """What nginx answers as an object's ETag."""
        assert self.fast
        return self.fast.etag(self.in_front(object_key))

    def add_rows(self, name: str, rows: Sequence[tuple[int, int, str, str, int, int, str, str]]) -> None:
        """Dataranges that were never uploaded here: first, last, both object keys, size, size of the entries, ETags."""
        with psycopg.connect(self.db_url) as connection, connection.cursor() as cursor:
            cursor.executemany(_INSERT, [(*row, name) for row in rows])


def presigned(client: Client, name: str) -> list[v1.PresignedDatarange]:
    """All dataranges, signed, in pages as large as they may be."""
    found: list[v1.PresignedDatarange] = []
    token, more = "", True
    while more:
        request = v1.PresignDatarangesRequest(datas3t_name=name, page_size=2_000, page_token=token)
        page = client.connection.datarange.PresignDataranges(request)
        found += page.dataranges
        token = page.next_page_token
        more = bool(token)
    return found


@contextlib.contextmanager
def standing(folder: Path | None) -> Iterator[Stand]:
    """Everything, until the block ends. State is in a new folder below `folder`; what is read fast in memory."""
    with contextlib.ExitStack() as stack:
        own = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        enough = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 6 << 30
        memory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=_MEMORY if enough else folder)))
        memory.chmod(0o755)  # nginx's worker is somebody else
        (memory / "root").mkdir()
        os.environ["XDG_STATE_HOME"] = str(own / "state")
        os.environ["DATAS3T_CACHE_DIR"] = str(own / "cache")
        (own / "server").mkdir()
        running = stack.enter_context(services(own / "stack"))
        server = stack.enter_context(running_server(own / "server", running.db_url, running.encryption_key))
        s3 = Access(running.s3.endpoint, running.s3.bucket, running.s3.access_key, running.s3.secret_key)
        fast = stack.enter_context(front.fast(s3.endpoint, memory / "root")) if nginx.found() else None
        client = stack.enter_context(Client(server.url))
        yield Stand(client, server, running.db_url, running.encryption_key, s3, fast, own, memory)
