"""A real PostgreSQL and a real S3 server for the whole session, with a database and a bucket for each test."""

import gc
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import hypothesis
import pytest
from pytest_postgresql import factories

from tests.support.stack import BucketPool, DatabasePool, make_logins_cheap, new_database

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from pytest_postgresql.executors import NoopExecutor

    from datas3t.embedded.stack import Services


@dataclass(frozen=True)
class PostgresServer:
    """The address of a running server, with the attributes that pytest-postgresql expects."""

    port: int
    password: str
    host: str = "127.0.0.1"
    user: str = "postgres"
    options: str = ""
    maintenance_dbname: str = "postgres"
    template_dbname: str = "template0"


# A deadline per example would fail on a busy machine. Speed is measured by bench/.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

# Where the environment says to keep no byte code, each of hundreds of child processes would compile all our modules.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# SeaweedFS takes a third less computing time for small requests if it does not distribute them over the cores.
os.environ.setdefault("GOMAXPROCS", "1")

# Background jobs of a shell and nohup ignore Ctrl-C, which processes that a test starts and interrupts would inherit.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Number bytes that are no text, since the processes must agree on the names of tests, and gzip notes the time."""
    return argname if isinstance(val, bytes) and not val.isascii() else None


@pytest.hookimpl(trylast=True)  # after pytest-randomly
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest tests, and run tests marked `timing` again, up to twice, when they fail."""
    # Tests with a time limit of their own take longest. A worker that began one at the end would keep all waiting.
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)
    for item in items:
        if item.get_closest_marker("timing"):
            item.add_marker(pytest.mark.flaky(reruns=2, reruns_delay=1))


def pytest_collection_finish() -> None:
    """Keep the garbage collector from going through thousands of tests and modules, which all stay, again and again."""
    gc.freeze()


@pytest.fixture(scope="session")
def services() -> Iterator["Services"]:
    """Yield PostgreSQL and SeaweedFS, started at their first use. Tests that stop or kill services start their own."""
    from datas3t.embedded.stack import services

    with (
        tempfile.TemporaryDirectory(prefix="datas3t-tests-", ignore_cleanup_errors=True) as folder,
        services(Path(folder), durable=False) as running,
    ):
        make_logins_cheap(running)
        yield running


@pytest.fixture(scope="session")
def postgresql_server(services: "Services") -> PostgresServer:
    """Return the session's PostgreSQL for the fixtures of pytest-postgresql."""
    return PostgresServer(services.postgres.port, services.postgres.password)


def _migrate(*, port: int, dbname: str, password: str, **_: object) -> None:
    from datas3t.server.db.migrate import migrate

    migrate(f"postgresql://postgres:{quote(password)}@127.0.0.1:{port}/{dbname}")


# Creates a template database with the server's schema.
migrated_postgresql = factories.postgresql_noproc(dbname="migrated", load=[_migrate], depends_on="postgresql_server")


@pytest.fixture(scope="session")
def migrated_template(migrated_postgresql: "NoopExecutor") -> str:
    """Return the name of a database with the server's schema, which others are copied from."""
    return migrated_postgresql.template_dbname


@pytest.fixture(scope="session")
def databases(services: "Services", migrated_template: str) -> Iterator[DatabasePool]:
    """Yield databases with the server's schema, for tests that need several."""
    pool = DatabasePool(services, migrated_template)
    yield pool
    pool.close()


@pytest.fixture
def database(databases: DatabasePool) -> Iterator[str]:
    """Yield the URL of a database with the server's schema and no rows, which no other test uses."""
    with databases.lend() as url:
        yield url


@pytest.fixture
def empty_database(services: "Services") -> Iterator[str]:
    """Yield the URL of a new database without tables."""
    with new_database(services) as url:
        yield url


@pytest.fixture(scope="session")
def s3(services: "Services") -> Iterator["S3Client"]:
    """Yield a boto3 client of the session's S3 server."""
    client = services.seaweedfs.client()
    yield client
    client.close()


@pytest.fixture(scope="session")
def buckets(s3: "S3Client") -> BucketPool:
    """Return buckets for tests that need several."""
    return BucketPool(s3)


@pytest.fixture
def bucket(buckets: BucketPool) -> Iterator[str]:
    """Yield the name of an empty bucket on the session's S3 server, which no other test uses."""
    with buckets.lend() as name:
        yield name
