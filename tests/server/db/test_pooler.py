"""The server behind a pooler in transaction mode: it relies on nothing that outlives a transaction."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from datas3t.server import buckets, datas3ts, downloads, reaper, uploads
from datas3t.server.db import datas3ts as datas3t_rows
from datas3t.server.db.migrate import _FOLDER, _run, migrate
from datas3t.server.db.pool import Connection, connect, connection, open_pool, transaction
from datas3t.server.resources import Resources
from tests.support import pgbouncer
from tests.support.front import http_request
from tests.support.serving import serving, settings_for
from tests.support.uploads import Site, add_bucket, archive, open_resources

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from datas3t.embedded.stack import Services

needs_pgbouncer = pytest.mark.skipif(pgbouncer.program() is None, reason=pgbouncer.MISSING)

# The state that a session can keep between transactions.
_STATE = {
    "settings": "SELECT name FROM pg_settings WHERE source = 'session'",
    "prepared statements": "SELECT statement FROM pg_prepared_statements",
    "advisory locks": "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    "channels": "SELECT pg_listening_channels()",
    "cursors": "SELECT name FROM pg_cursors WHERE is_holdable",
    "temporary tables": "SELECT relname FROM pg_class WHERE relpersistence = 't' AND pg_table_is_visible(oid)",
}


@pytest.fixture
def behind_pooler(services: "Services", database: str, bucket: str, s3: "S3Client", tmp_path: Path) -> Iterator[Site]:
    """Yield a datas3t whose server reaches the database through PgBouncer, with three connections for twenty."""
    with (
        pgbouncer.running(database, pool_size=3) as url,
        open_resources(url, services.encryption_key, tmp_path / "cache") as resources,
    ):
        add_bucket(resources, services.s3, bucket)
        site = Site(resources, "images", bucket, s3)
        site.add()
        yield site


def call_everything(site: Site, number: int) -> None:
    """Make every kind of call, for other keys per number, so often that psycopg would prepare the statements."""
    first = number * 100
    for offset in range(8):
        started = site.start(archive(first + offset, b"content"))
        assert started.upload.first_key == first + offset
        uploads.sign_parts(site.resources, started.upload.id, [])
        uploads.cancel(site.resources, started.upload.id)
        segments, _, _ = downloads.presign(site.resources, "images", 1, 1)
        assert len(segments) == 1
        listed, _ = buckets.page(site.resources, 10, "")
        assert [row.name for row in listed] == ["local"]
        summaries, _ = datas3ts.page(site.resources, 10, "")
        assert [(row.datas3t_name, row.datarange_count) for row in summaries] == [("images", 1)]


@needs_pgbouncer
def test_calls_behind_a_pooler_in_transaction_mode_run_their_own_statements(behind_pooler: Site) -> None:
    site = behind_pooler
    site.upload(archive(1, b"content"))
    with ThreadPoolExecutor(8) as threads:
        for call in [threads.submit(call_everything, site, number) for number in range(1, 9)]:
            call.result()
    assert site.sweep() == 2 * 8 * 8
    site.clear()
    site.delete()


@needs_pgbouncer
def test_a_whole_server_runs_behind_a_pooler_with_two_connections(
    services: "Services", empty_database: str, tmp_path: Path
) -> None:
    with (
        pgbouncer.running(empty_database, pool_size=2) as url,
        serving(settings_for(services, url, tmp_path)) as server,
        ThreadPoolExecutor(16) as threads,
    ):
        answers = threads.map(lambda _: http_request(server.url, "GET", "/api/v1/datas3ts"), range(200))
        assert {(answer.status, answer.body) for answer in answers} == {(200, b"[]")}
        assert http_request(server.url, "GET", "/readyz").status == 200


@needs_pgbouncer
def test_ten_servers_migrate_once_behind_a_pooler_with_one_connection(empty_database: str) -> None:
    with pgbouncer.running(empty_database, pool_size=1) as url, ThreadPoolExecutor(10) as threads:
        ran = sorted(threads.map(lambda _: migrate(url), range(10)), key=len)
        with psycopg.connect(empty_database) as other:  # while the pooler keeps its connection
            assert other.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)
    assert ran[:9] == [[]] * 9
    assert ran[9]


def test_connections_keep_no_state_after_calls(site: Site) -> None:
    site.upload(archive(1, b"content"))
    call_everything(site, 1)
    reaper.backlog(site.resources)
    site.sweep()
    site.clear()
    assert state(site.resources) == {name: set() for name in _STATE}


def state(resources: Resources) -> dict[str, set[str]]:
    """Return the state of the sessions of all connections of a pool."""
    kept: dict[str, set[str]] = {name: set() for name in _STATE}
    with contextlib.ExitStack() as borrowed:
        for _ in range(resources.pool.get_stats()["pool_size"]):
            conn = borrowed.enter_context(resources.pool.connection())
            for name, values in state_of(conn).items():
                kept[name] |= values
    return kept


def state_of(conn: Connection) -> dict[str, set[str]]:
    """Return the state of the session of a connection."""
    return {name: {str(value) for (value,) in conn.execute(query)} for name, query in _STATE.items()}


def test_a_migration_releases_its_lock(empty_database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as other:
        migrate(empty_database)
        assert other.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)


def test_a_migration_leaves_no_state_in_its_session(empty_database: str) -> None:
    with connect(empty_database) as conn:
        assert _run(conn, sorted(_FOLDER.glob("[0-9]*.sql")), timedelta(seconds=10))
        assert state_of(conn) == {name: set() for name in _STATE}


def test_statements_are_prepared_only_if_the_url_asks_for_it(database: str) -> None:
    for url, expected in ((database, 0), (f"{database}?prepare_threshold=0", 1)):
        with open_pool(url) as pool, connection(pool) as conn:
            datas3t_rows.by_name(conn, "images")
            prepared = conn.execute(
                "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT id, name,%'"
            )
            assert prepared.fetchone() == (expected,)


@pytest.mark.parametrize("threshold", [0, 1])
def test_transactions_begin_also_if_statements_are_prepared(database: str, threshold: int) -> None:
    with open_pool(f"{database}?prepare_threshold={threshold}", max_size=1) as pool:
        for _ in range(3):
            with transaction(pool) as conn:
                assert conn.execute("SELECT 1").fetchone() == (1,)


def test_the_database_has_time_limits_for_transactions(site: Site) -> None:
    with transaction(site.resources.pool) as conn:
        limits = conn.execute(
            "SELECT current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout')"
        ).fetchone()
    assert limits == ("2min", "1min")
