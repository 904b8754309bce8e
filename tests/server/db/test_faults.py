"""Errors of the database: a call raises a Failure that says what happened, and the log has the cause."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
import pytest

from datas3t import v1
from datas3t.embedded.ports import free_ports
from datas3t.server.db.heartbeat import Heartbeat
from datas3t.server.db.pool import LimitedConnection, Pool, connection, open_pool, transaction
from datas3t.server.errors import Failure
from tests.support.stack import wait_until

if TYPE_CHECKING:
    from _pytest.logging import LogCaptureFixture

INSERT = "INSERT INTO datas3ts (name) VALUES ('x')"


@pytest.fixture
def pool(database: str) -> Iterator[Pool]:
    with open_pool(database) as pool:
        yield pool


@pytest.mark.parametrize(
    ("setting", "statement", "message", "cause"),
    [
        ("statement_timeout = '20ms'", "SELECT pg_sleep(5)", "a statement took too long", "QueryCanceled"),
        ("lock_timeout = '20ms'", "LOCK TABLE datas3ts", "another transaction holds a lock", "LockNotAvailable"),
        ("transaction_read_only = on", INSERT, "DB_URL must name the primary", "ReadOnlySqlTransaction"),
        ("transaction_timeout = '20ms'", "SELECT pg_sleep(5)", "transaction that took too long", "TransactionTimeout"),
        ("role = pg_monitor", INSERT, "the server's user lacks a privilege", "InsufficientPrivilege"),
        (
            "temp_file_limit = '1kB', work_mem = '64kB'".replace(", ", "; SET LOCAL "),
            "SELECT count(*) FROM (SELECT DISTINCT n FROM generate_series(1, 200000) AS n ORDER BY n OFFSET 1) AS s",
            "out of memory, disk space or connections",
            "ConfigurationLimitExceeded",
        ),
    ],
)
def test_an_error_of_the_database_is_a_failure_and_its_cause_is_logged(
    pool: Pool, database: str, caplog: "LogCaptureFixture", setting: str, statement: str, message: str, cause: str
) -> None:
    with psycopg.connect(database) as other:
        other.execute("LOCK TABLE datas3ts IN ROW EXCLUSIVE MODE")
        with pytest.raises(Failure, match=message) as caught:
            run(pool, f"SET LOCAL {setting}", statement)
    assert caught.value.reason == v1.ERROR_REASON_DATABASE_UNAVAILABLE
    assert "SELECT" not in caught.value.message
    assert cause in caplog.text
    with connection(pool) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)


def run(pool: Pool, *statements: str) -> None:
    """Execute statements in one transaction."""
    with transaction(pool) as conn:
        for statement in statements:
            conn.execute(statement.encode())


def test_an_idle_transaction_that_the_database_ended_is_a_failure(pool: Pool, database: str) -> None:
    with pytest.raises(Failure, match="ended a transaction that was idle") as caught:
        stay_idle(pool, database)
    assert caught.value.reason == v1.ERROR_REASON_DATABASE_UNAVAILABLE


def stay_idle(pool: Pool, database: str) -> None:
    """Stay idle in a transaction until the database ends it."""
    with psycopg.connect(database, autocommit=True) as other, transaction(pool) as conn:
        conn.execute("SET LOCAL idle_in_transaction_session_timeout = '20ms'")
        backend = conn.info.backend_pid
        wait_until(lambda: not is_alive(other, backend), what="the end of the session")
        conn.execute("SELECT 1")


def is_alive(other: psycopg.Connection, backend: int) -> bool:
    """Return whether a process of the database exists."""
    return other.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [backend]).fetchone() is not None


def test_a_deadlock_is_a_failure_of_one_transaction(pool: Pool, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as other, ThreadPoolExecutor(1) as threads:
        other.execute("INSERT INTO datas3ts (name) VALUES ('a'), ('b')")
        other.execute("SET deadlock_timeout = '1min'")  # so that the database ends the transaction of the pool
        with pytest.raises(Failure, match="conflicted with another"):
            deadlock(pool, other, threads)


def deadlock(pool: Pool, other: psycopg.Connection, threads: ThreadPoolExecutor) -> None:
    """Lock two rows in another order than a concurrent transaction."""
    update = "UPDATE datas3ts SET upload_counter = 1 WHERE name = %s"
    with transaction(pool) as conn:
        conn.execute("SET LOCAL deadlock_timeout = '50ms'")
        conn.execute(update, ["a"])
        other.execute("BEGIN")
        other.execute(update, ["b"])
        threads.submit(other.execute, update, ["a"])
        waiting = "SELECT FROM pg_locks WHERE NOT granted"
        wait_until(lambda: conn.execute(waiting).fetchone() is not None, what="the other transaction to wait")
        conn.execute(update, ["b"])


def test_a_statement_without_response_is_cancelled(pool: Pool, database: str) -> None:
    with pytest.raises(Failure, match="does not respond"):
        sleep_beyond_the_limit(pool)
    sleeping = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT pg_sleep%'"
    with psycopg.connect(database, autocommit=True) as other:
        wait_until(lambda: other.execute(sleeping).fetchone() is None, what="the end of the statement")


def sleep_beyond_the_limit(pool: Pool) -> None:
    """Execute a statement that takes longer than a connection waits."""
    with connection(pool) as conn:
        assert isinstance(conn, LimitedConnection)
        conn.seconds = 0.2
        conn.execute("SELECT pg_sleep(60)")


def test_the_cause_of_failed_connections_is_in_the_log_and_not_in_the_failure(
    database: str, caplog: "LogCaptureFixture"
) -> None:
    url = urlsplit(database)
    wrong = url._replace(netloc=f"{url.username}:hidden@{url.hostname}:{url.port}").geturl()
    with open_pool(wrong) as pool:
        pool.timeout = 0.5
        with pytest.raises(Failure, match="the database does not respond") as caught, connection(pool):
            pass
    assert "password authentication failed" in caplog.text
    assert "password" not in caught.value.message
    assert "hidden" not in caplog.text


def test_the_same_cause_is_logged_only_once_in_a_while(caplog: "LogCaptureFixture") -> None:
    with caplog.at_level(logging.WARNING), open_pool(f"postgres://u:hidden@127.0.0.1:{free_ports(1)[0]}/d") as pool:
        for _ in range(3):
            pool.timeout = 0.1
            with pytest.raises(Failure), connection(pool):
                pass
    assert caplog.text.count("cannot connect to the database") == 1


@pytest.mark.parametrize("url", ["postgres://u:hid/den@h/d", "postgres://u:hid@den@h/d", "postgres://hid:den/d"])
def test_a_password_that_is_not_encoded_is_an_error_that_does_not_show_it(url: str) -> None:
    with pytest.raises(ValueError, match="percent-encoded") as caught, open_pool(url):
        pass
    assert "den" not in str(caught.value).replace("percent-encoded", "")


def test_no_error_ends_the_heartbeat() -> None:
    heartbeat = Heartbeat("no URL")
    heartbeat.start()
    assert not heartbeat.is_alive()
    assert heartbeat._thread.is_alive()
    heartbeat.stop()
    assert not heartbeat._thread.is_alive()
