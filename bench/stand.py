"""The servers of the reading benchmark: PostgreSQL, SeaweedFS, a datas3t server, and nginx in front of S3."""

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
INSERT INTO dataranges (catalogue_id, first_key, last_key, data_object_key, index_object_key, size_bytes,
                        entries_size_bytes, data_etag, index_etag)
SELECT catalogue_id, %s, %s, %s, %s, %s, %s, %s, %s FROM datas3ts WHERE name = %s
"""


@dataclass(frozen=True)
class Stand:
    """The running servers.

    Attributes:
        client: A client of the datas3t server.
        server: The datas3t server.
        db_url: The URL of its database.
        encryption_key: The key that encrypts the stored credentials.
        s3: SeaweedFS.
        fast: Nginx in front of it, if nginx is installed.
        folder: A folder for the state of the servers.
        memory: A folder for files that must be read fast, in memory if possible.
    """

    client: Client
    server: ServerProcess
    db_url: str
    encryption_key: str
    s3: Access
    fast: Front | None
    folder: Path
    memory: Path

    def add_bucket(self, name: str, endpoint: str) -> Access:
        """Add a bucket configuration for the same bucket at another endpoint."""
        access = Access(endpoint, self.s3.bucket, self.s3.access_key, self.s3.secret_key)
        self.client.add_bucket(
            name, endpoint=endpoint, bucket=access.bucket, access_key=access.access_key, secret_key=access.secret_key
        )
        return access

    def place(self, name: str, access: Access, size: int, in_flight: int) -> Place:
        """Return what contestants need to read an existing datas3t."""
        listed = {each.id: each for each in self.client.list_dataranges(name)}
        archives: list[Archive] = []
        for each in presigned(self.client, name):
            first, last = each.min_datapoint_key, each.max_datapoint_key
            object_key = listed[each.datarange_id].object_key
            archives.append(Archive(first, last, object_key, each.data_etag, each.presigned_data_url))
        return Place(self.server.url, name, access, tuple(archives), size, in_flight)

    def in_front(self, object_key: str) -> Path:
        """Return the path of the file that nginx serves as an object; its folder is created."""
        assert self.fast
        path = self.fast.root / self.s3.bucket / object_key
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def etag(self, object_key: str) -> str:
        """Return the ETag that nginx sends for an object."""
        assert self.fast
        return self.fast.etag(self.in_front(object_key))

    def add_rows(self, name: str, rows: Sequence[tuple[int, int, str, str, int, int, str, str]]) -> None:
        """Insert dataranges into the database without an upload.

        Each row has the first and last key, both object keys, the size, the size of the entries, and both ETags.
        """
        with psycopg.connect(self.db_url) as connection, connection.cursor() as cursor:
            cursor.executemany(_INSERT, [(*row, name) for row in rows])


def presigned(client: Client, name: str) -> list[v1.PresignedDatarange]:
    """Return all dataranges with presigned URLs, requested in the largest possible pages."""
    dataranges: list[v1.PresignedDatarange] = []
    token, more = "", True
    while more:
        request = v1.PresignDatarangesRequest(datas3t_name=name, page_size=2_000, page_token=token)
        page = client.connection.datarange.PresignDataranges(request)
        dataranges += page.dataranges
        token = page.next_page_token
        more = bool(token)
    return dataranges


@contextlib.contextmanager
def running_stand(folder: Path | None) -> Iterator[Stand]:
    """Start all servers, and stop them with the block. Their state is in a new folder below `folder`."""
    with contextlib.ExitStack() as stack:
        own = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        enough = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 6 << 30
        memory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=_MEMORY if enough else folder)))
        memory.chmod(0o755)  # the worker process of nginx is another user
        (memory / "root").mkdir()
        os.environ["XDG_STATE_HOME"] = str(own / "state")
        os.environ["DATAS3T_CACHE_DIR"] = str(own / "cache")
        (own / "server").mkdir()
        running = stack.enter_context(services(own / "stack"))
        server = stack.enter_context(running_server(own / "server", running.db_url, running.encryption_key))
        s3 = Access(running.s3.endpoint, running.s3.bucket, running.s3.access_key, running.s3.secret_key)
        fast = stack.enter_context(front.fast(s3.endpoint, memory / "root")) if nginx.is_installed() else None
        client = stack.enter_context(Client(server.url))
        yield Stand(client, server, running.db_url, running.encryption_key, s3, fast, own, memory)
