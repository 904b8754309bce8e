"""The tests of this folder need PyTorch, Grain, Hugging Face or Ray: `make test-frameworks` runs them.

They use the server and the fixtures of tests/client.
"""

import itertools
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from datas3t.client import Client, Datas3t
from tests.client.conftest import (
    bucket_name,
    bucket_settings,
    client,
    datas3t,
    relayed,
    server,
    short_url_client,
    site,
    start_server,
    state_home,
)
from tests.frameworks.datasets import SPANS, Uploader
from tests.support.stack import BucketPool

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services
    from datas3t.server.app.server import Server

__all__ = [
    "bucket_name",
    "bucket_settings",
    "client",
    "datas3t",
    "relayed",
    "server",
    "short_url_client",
    "site",
    "start_server",
    "state_home",
]

# `make test` has an environment without the frameworks, and leaves the folder out.
collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]


@pytest.fixture(scope="session")
def uploaders(
    server: "Server", services: "Services", buckets: BucketPool, tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[Callable[[], Uploader]]":
    """Yield a function that creates a datas3t which stays for the session."""
    folder = tmp_path_factory.mktemp("frameworks")
    numbers = itertools.count(1)
    with buckets.lend() as bucket, Client(server.url, cache_dir=folder / "cache") as client:
        settings = services.s3
        client.add_bucket(
            bucket,
            endpoint=settings.endpoint,
            bucket=bucket,
            access_key=settings.access_key,
            secret_key=settings.secret_key,
        )

        def create() -> Uploader:
            name = f"frameworks-{next(numbers)}"
            client.add_datas3t(name, bucket=bucket)
            return Uploader(client, name, folder)

        yield create


@pytest.fixture(scope="session")
def numbers(uploaders: "Callable[[], Uploader]") -> Datas3t:
    """Return a datas3t of 237 datapoints, with gaps between their keys (`KEYS`)."""
    uploader = uploaders()
    for span in SPANS:
        uploader.upload(*span)
    return uploader.handle


@pytest.fixture(scope="session")
def more_numbers(uploaders: "Callable[[], Uploader]") -> Datas3t:
    """Return a datas3t of datapoints 40 to 99 and 100 to 119."""
    uploader = uploaders()
    uploader.upload(40, 119, size=10)
    return uploader.handle
