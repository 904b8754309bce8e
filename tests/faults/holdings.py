"""A datas3t to read from while things go wrong: a relay in front of S3, and a real server that may be killed."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from datas3t.client import Client
from tests.support.faults import Relay, relay
from tests.support.serving import serving, settings_for
from tests.support.stack import ServerProcess
from tests.support.tars import archive

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

NAME = "library"


@dataclass
class Library:
    """Filled by a server of its own; `contents` is what is in it. Readers use those that `serve` starts."""

    folder: Path
    services: "Services"
    db_url: str
    bucket: str
    relay: Relay
    contents: dict[int, bytes] = field(default_factory=dict)

    def fill(self, archives: Sequence[tuple[int, Sequence[bytes]]]) -> None:
        """Uploads archives: first keys and contents."""
        with serving(settings_for(self.services, self.db_url, self.folder)) as server, Client(server.url) as client:
            s3 = self.services.s3
            keys = {"access_key": s3.access_key, "secret_key": s3.secret_key}
            client.add_bucket(NAME, endpoint=self.relay.url, bucket=self.bucket, **keys)
            client.add_datas3t(NAME, bucket=NAME)
            for first, bodies in archives:
                path = self.folder / f"{first}.tar"
                path.write_bytes(archive(first, bodies))
                client.upload_tar(NAME, path)
                self.contents |= dict(enumerate(bodies, first))

    def start(self, url_lifetime: float, port: int | None = None) -> ServerProcess:
        """A server whose URLs live so many seconds. Not ready yet."""
        options = ["--url-lifetime", str(url_lifetime)]
        return ServerProcess(self.folder, self.db_url, self.services.encryption_key, port=port, options=options)

    @contextlib.contextmanager
    def serve(self, url_lifetime: float) -> Iterator[tuple[ServerProcess, Client]]:
        """The same, ready and with a client, as long as the block."""
        server = self.start(url_lifetime)
        try:
            server.wait_ready()
            with Client(server.url) as client:
                yield server, client
        finally:
            server.kill()


@contextlib.contextmanager
def library(folder: Path, services: "Services", db_url: str, bucket: str) -> Iterator[Library]:
    """An empty one, as long as the block."""
    with relay(services.s3.endpoint) as between:
        yield Library(folder, services, db_url, bucket, between)
