"""A real server for the whole session, its clients, and datas3ts that each have their own bucket."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datas3t.client import Client
from tests.client.sites import Site
from tests.support.faults import relay
from tests.support.stack import new_database

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from datas3t.embedded.stack import Services
    from datas3t.server.app.server import Server

    StartServer = Callable[[timedelta], contextlib.AbstractContextManager[Server]]

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the test's own folder for journals and cached indices."""
    folder = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    monkeypatch.setenv("DATAS3T_CACHE_DIR", str(folder / "cache"))
    return folder


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have progress callbacks called for every step, without the minimum interval between calls."""
    monkeypatch.setattr("datas3t.client.progress._MIN_INTERVAL", 0.0)


@pytest.fixture(scope="session")
def start_server(
    services: "Services", migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[StartServer]":
    """Return a function that starts a server whose URLs have a given lifetime; all share one database."""
    from datas3t.server.app.server import Server
    from datas3t.server.settings import Address, Settings

    with new_database(services, migrated_template) as db_url:

        @contextlib.contextmanager
        def start(url_lifetime: timedelta) -> Iterator[Server]:
            cache = tmp_path_factory.mktemp("cache")
            settings = Settings(
                db_url, services.encryption_key, cache, Address("127.0.0.1", 0), url_lifetime=url_lifetime
            )
            server = Server(settings)
            server.start()
            try:
                yield server
            finally:
                server.stop()

        yield start


@pytest.fixture(scope="session")
def server(start_server: "StartServer") -> "Iterator[Server]":
    """Return the server that most tests use."""
    with start_server(timedelta(hours=24)) as running:
        yield running


@pytest.fixture
def client(server: "Server") -> Iterator[Client]:
    """Return a client of that server."""
    with Client(server.url) as client:
        yield client


@pytest.fixture
def short_url_client(start_server: "StartServer") -> Iterator[Client]:
    """Return a client of a server whose URLs are valid for two seconds."""
    with start_server(timedelta(seconds=2)) as running, Client(running.url) as client:
        yield client


@pytest.fixture
def bucket_settings(services: "Services", s3: "S3Client") -> Iterator[dict[str, str]]:
    """Return the arguments for `add_bucket` of an empty bucket without a bucket configuration."""
    name = f"client-{next(_numbers)}"
    s3.create_bucket(Bucket=name)
    yield _settings(services, name)
    s3.delete_bucket(Bucket=name)


@pytest.fixture
def bucket_name(client: Client, services: "Services", bucket: str) -> str:
    """Return the name of a bucket configuration, and of its empty bucket."""
    client.add_bucket(bucket, **_settings(services, bucket))
    return bucket


@pytest.fixture
def datas3t(client: Client, bucket_name: str) -> str:
    """Return the name of an empty datas3t on an empty bucket."""
    name = f"datas3t-{next(_numbers)}"
    client.add_datas3t(name, bucket=bucket_name)
    return name


@pytest.fixture
def site(client: Client, datas3t: str, bucket_name: str, s3: "S3Client") -> Site:
    """Return an empty datas3t with direct access to its bucket."""
    return Site(client, datas3t, bucket_name, s3)


@pytest.fixture
def relayed(client: Client, services: "Services", bucket: str, s3: "S3Client") -> Iterator[Site]:
    """Return an empty datas3t whose S3 is behind a relay that can cause faults."""
    name = f"relayed-{next(_numbers)}"
    with relay(services.s3.endpoint) as proxy:
        client.add_bucket(name, **_settings(services, bucket) | {"endpoint": proxy.url})
        client.add_datas3t(name, bucket=name)
        yield Site(client, name, bucket, s3, proxy)


def _settings(services: "Services", bucket: str) -> dict[str, str]:
    s3 = services.s3
    return {"endpoint": s3.endpoint, "bucket": bucket, "access_key": s3.access_key, "secret_key": s3.secret_key}
