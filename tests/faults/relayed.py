"""A datas3t to read from under faults: there is a relay in front of its S3, and its servers can be killed."""

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

NAME = "relayed"


@dataclass
class RelayedDatas3t:
    """A datas3t and its bucket, both called `NAME`. `contents` has its datapoints, by key.

    It is filled through a server in this process. Tests read through those that `start` and `serve` run.
    """

    folder: Path
    services: "Services"
    db_url: str
    bucket: str
    relay: Relay
    contents: dict[int, bytes] = field(default_factory=dict)

    def fill(self, archives: Sequence[tuple[int, Sequence[bytes]]]) -> None:
        """Create the datas3t, and upload archives, each given as its first key and its contents."""
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
        """Start a server whose URLs live that many seconds, and return it before it is ready."""
        options = ["--url-lifetime", str(url_lifetime)]
        return ServerProcess(self.folder, self.db_url, self.services.encryption_key, port=port, options=options)

    @contextlib.contextmanager
    def serve(self, url_lifetime: float) -> Iterator[tuple[ServerProcess, Client]]:
        """Yield a server that is ready, and a client of it. The server is killed when the block ends."""
        server = self.start(url_lifetime)
        try:
            server.wait_ready()
            with Client(server.url) as client:
                yield server, client
        finally:
            server.kill()


@contextlib.contextmanager
def relayed_datas3t(folder: Path, services: "Services", db_url: str, bucket: str) -> Iterator[RelayedDatas3t]:
    """Yield a datas3t that is to be filled, with a relay that runs during the block."""
    with relay(services.s3.endpoint) as between:
        yield RelayedDatas3t(folder, services, db_url, bucket, between)
