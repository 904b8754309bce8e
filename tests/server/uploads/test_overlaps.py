"""No two dataranges of a datas3t overlap: the database refuses it, even in concurrent transactions."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest

from datas3t import v1
from datas3t.server.db import dataranges, datas3ts, s3_buckets
from datas3t.server.db.pool import Connection, Pool, connection, open_pool, transaction
from datas3t.server.errors import Failure

MAX_KEY = (1 << 63) - 1


@pytest.fixture
def pool(database: str) -> Iterator[Pool]:
    with open_pool(database) as pool:
        yield pool


@pytest.fixture
def datas3t(pool: Pool) -> int:
    return add_datas3t(pool, "images")


def add_datas3t(pool: Pool, name: str) -> int:
    with connection(pool) as conn:
        if s3_buckets.by_name(conn, "local") is None:
            s3_buckets.insert(
                conn, name="local", endpoint="http://s3", bucket="b", region="r", access_key="a", secret_key="s"
            )
        row = s3_buckets.by_name(conn, "local")
        assert row is not None
        added = datas3ts.add(conn, name, row.id, 0)
    assert added is not None
    return added.id


def insert(conn: Connection, datas3t: int, first: int, last: int) -> None:
    key = uuid4().hex
    dataranges.insert(
        conn, datas3t, first, last, data_key=key, index_key=key, size=1, entries_size=1, data_etag="", index_etag=""
    )


def try_to_add(pool: Pool, datas3t: int, first: int, last: int) -> bool:
    """Insert a datarange; return whether it was accepted, or refused because it overlaps."""
    try:
        with transaction(pool, datas3t="images", first=first, last=last) as conn:
            insert(conn, datas3t, first, last)
    except Failure as failure:
        return failure.reason != v1.ERROR_REASON_DATARANGE_OVERLAPS
    return True


def bounds(pool: Pool, datas3t: int) -> list[tuple[int, int]]:
    with connection(pool) as conn:
        statement = """SELECT first_key, last_key FROM dataranges JOIN datas3ts AS d USING (catalogue_id)
                        WHERE d.id = %s ORDER BY first_key"""
        return conn.execute(statement, [datas3t]).fetchall()


@pytest.mark.parametrize(("first", "last"), [(10, 20), (5, 10), (20, 25), (12, 13), (0, 100), (10, 10), (20, MAX_KEY)])
def test_a_range_that_shares_a_key_is_refused(pool: Pool, datas3t: int, first: int, last: int) -> None:
    assert try_to_add(pool, datas3t, 10, 20)
    assert not try_to_add(pool, datas3t, first, last)
    assert bounds(pool, datas3t) == [(10, 20)]


def test_neighbours_and_other_datas3ts_do_not_overlap(pool: Pool, datas3t: int) -> None:
    other = add_datas3t(pool, "other")
    for first, last in [(10, 20), (9, 9), (21, 21), (0, 0), (22, MAX_KEY)]:
        assert try_to_add(pool, datas3t, first, last)
        assert try_to_add(pool, other, first, last)
    assert bounds(pool, datas3t) == [(0, 0), (9, 9), (10, 20), (21, 21), (22, MAX_KEY)]


def test_the_greatest_key_has_a_neighbour_and_can_be_found(pool: Pool, datas3t: int) -> None:
    assert try_to_add(pool, datas3t, MAX_KEY, MAX_KEY)
    assert try_to_add(pool, datas3t, MAX_KEY - 1, MAX_KEY - 1)
    assert not try_to_add(pool, datas3t, MAX_KEY - 1, MAX_KEY)
    with connection(pool) as conn:
        found = dataranges.overlapping(conn, datas3t, MAX_KEY, MAX_KEY)
        everything = dataranges.overlapping(conn, datas3t, 0, MAX_KEY)
    assert [(each.first_key, each.last_key) for each in found] == [(MAX_KEY, MAX_KEY)]
    assert len(everything) == 2


def test_the_second_of_two_open_transactions_waits_and_is_refused(pool: Pool, datas3t: int) -> None:
    with ThreadPoolExecutor(1) as threads:
        with transaction(pool) as conn:
            insert(conn, datas3t, 10, 20)
            second = threads.submit(try_to_add, pool, datas3t, 20, 30)
            with connection(pool) as watcher:
                while not is_waiting(watcher):
                    pass
        assert not second.result(timeout=30)
    assert bounds(pool, datas3t) == [(10, 20)]


def is_waiting(conn: Connection) -> bool:
    """Whether a statement is waiting for another transaction to end."""
    found = conn.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    ).fetchone()
    return found is not None and found[0] > 0


@pytest.mark.parametrize("limit", [None, 3])
def test_spans_and_pages_of_them_have_exactly_the_dataranges_with_a_key_in_them(
    pool: Pool, datas3t: int, limit: int | None
) -> None:
    everything = [(0, 0), (9, 9), (10, 20), (22, 22), (30, 40), (MAX_KEY - 1, MAX_KEY)]
    other = add_datas3t(pool, "other")
    for first, last in everything:
        assert try_to_add(pool, datas3t, first, last)
    assert try_to_add(pool, other, 0, MAX_KEY)
    keys = (0, 1, 9, 15, 20, 21, 29, 40, 41, MAX_KEY - 1, MAX_KEY)
    with connection(pool) as conn:
        for first, last, after in itertools.product(keys, keys, (-1, *keys)):
            if first <= last:
                expected = [each for each in everything if each[0] <= last and each[1] >= first and each[1] > after]
                found = dataranges.overlapping(conn, datas3t, first, last, after=after, limit=limit)
                assert [(each.first_key, each.last_key) for each in found] == expected[:limit]
        for after in (-1, *keys):
            found = dataranges.page(conn, datas3t, after, 3)
            expected = [each for each in everything if each[1] > after]
            assert [(each.first_key, each.last_key) for each in found] == expected[:3]


def test_the_message_about_an_overlap_names_the_datapoints(pool: Pool, datas3t: int) -> None:
    assert try_to_add(pool, datas3t, 10, 20)
    with (
        pytest.raises(Failure, match="datapoints 7 to 11 overlap a datarange of datas3t 'images'") as caught,
        transaction(pool, datas3t="images", first=7, last=11) as conn,
    ):
        insert(conn, datas3t, 7, 11)
    assert caught.value.metadata == {"datas3t": "images", "first": "7", "last": "11"}


def test_a_lost_database_connection_raises_database_unavailable(pool: Pool, database: str) -> None:
    with pytest.raises(Failure) as caught:
        kill_backend(pool, database)
    assert caught.value.reason == v1.ERROR_REASON_DATABASE_UNAVAILABLE
    with connection(pool) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)


def kill_backend(pool: Pool, database: str) -> None:
    """Run a transaction whose connection the database ends in the middle."""
    with transaction(pool) as conn, psycopg.connect(database, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [conn.info.backend_pid])
        conn.execute("SELECT 1")
