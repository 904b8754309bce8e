"""Connections of the pool: those that the database has ended are replaced unnoticed, and need no request as a check."""

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from datas3t.server.call import Call, caller_left, working_on
from datas3t.server.db import pool as pools
from datas3t.server.db.pool import Pool, connection, open_pool, transaction
from datas3t.server.errors import Failure
from tests.support.faults import Relay, relay
from tests.support.stack import wait_until


@pytest.fixture
def pool(database: str) -> Iterator[Pool]:
    with open_pool(database, max_size=4) as pool:
        yield pool


@pytest.fixture
def counted(database: str) -> Iterator[tuple[Pool, Relay]]:
    """Yield a pool behind a relay that counts its requests, with one connection."""
    address = database.rpartition("@")[2].partition("/")[0]
    with relay(address) as between, open_pool(database.replace(address, between.address), max_size=1) as pool:
        with connection(pool) as conn:
            conn.execute("SELECT 1")
        yield pool, between


def end_connections(database: str) -> None:
    """Have the database end all connections but this one, and wait until it has."""
    with closing(psycopg.connect(database, autocommit=True)) as other:
        statement = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'datas3t'"
        other.execute(statement)


def fill(pool: Pool) -> None:
    """Open all connections of a pool."""
    conns = [pool.getconn() for _ in range(pool.max_size)]
    for conn in conns:
        pool.putconn(conn)


def test_connections_that_the_database_has_ended_are_replaced_unnoticed(pool: Pool, database: str) -> None:
    for _ in range(2):
        fill(pool)
        end_connections(database)
        with connection(pool) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)
        with transaction(pool) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)


def test_a_transaction_whose_connection_breaks_at_its_first_request_begins_again(
    pool: Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "_has_ended", lambda _: False)  # the database ends it just after it was looked at
    monkeypatch.setattr(pool, "_max_size", 1)
    with connection(pool) as conn:
        conn.execute("SELECT 1")
    end_connections(database)
    with transaction(pool) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_a_connection_is_used_without_a_request_before(counted: tuple[Pool, Relay]) -> None:
    pool, between = counted
    before = between.turns
    for _ in range(3):
        with connection(pool) as conn:
            conn.execute("SELECT 1")
    assert between.turns == before + 3


def test_one_that_was_not_used_for_long_is_checked_by_a_request(
    counted: tuple[Pool, Relay], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, between = counted
    monkeypatch.setattr(pools, "_FRESH_SECONDS", 0.0)
    before = between.turns
    with connection(pool) as conn:
        conn.execute("SELECT 1")
    assert between.turns == before + 2


def test_a_statement_is_cancelled_with_its_call_and_the_connection_is_used_again(pool: Pool, database: str) -> None:
    call = Call(60)
    with closing(psycopg.connect(database, autocommit=True)) as other, working_on(call):
        with pytest.raises(Failure, match="the client cancelled"):
            sleep_until_cancelled(pool, other, call)
        with working_on(Call(60)), connection(pool) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)


def sleep_until_cancelled(pool: Pool, other: "psycopg.Connection[tuple[object, ...]]", call: Call) -> None:
    """Run a long statement, and end its call once the database works on it."""
    import threading

    def end() -> None:
        sleeping = "SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'"
        wait_until(lambda: other.execute(sleeping).fetchone() is not None, what="the statement")
        call.end(caller_left())

    thread = threading.Thread(target=end)
    thread.start()
    try:
        with connection(pool) as conn:
            conn.execute("SELECT pg_sleep(60)")
    finally:
        thread.join()
