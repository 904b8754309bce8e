"""Statements without a cursor: values arrive as they are, and errors are those of a cursor."""

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from datas3t.server.db.pool import Pool, connection, open_pool, transaction
from datas3t.server.db.statement import Statement, Value


@pytest.fixture
def pool(database: str) -> Iterator[Pool]:
    with open_pool(database) as pool:
        yield pool


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("text", ""),
        ("text", "ü'\"\\;--%(b)s"),
        ("text", None),
        ("bigint", (1 << 63) - 1),
        ("bigint", -1),
        ("float8", 0.1),
        ("boolean", True),
        ("boolean", False),
    ],
)
def test_a_value_comes_back_as_it_was_sent(pool: Pool, kind: str, value: Value) -> None:
    statement = Statement(f"SELECT %(a)s::{kind}, %(b)s::text, %(a)s::{kind}")
    with connection(pool) as conn:
        assert statement.rows(conn, b="b", a=value) == [(value, "b", value)]


def test_a_result_in_binary_form_has_the_bytes_themselves(pool: Pool) -> None:
    with connection(pool) as conn:
        assert Statement("SELECT int8send(%(n)s), 'x'::text, NULL").raw_row(conn, n=258) == (
            b"\0\0\0\0\0\0\1\2",
            b"x",
            None,
        )
        assert Statement("SELECT 1 WHERE false").raw_row(conn) is None
        assert Statement("SELECT 1 WHERE false").row(conn) is None


def test_a_text_with_a_nul_is_refused(pool: Pool) -> None:
    with connection(pool) as conn:
        with pytest.raises(psycopg.DataError):
            Statement("SELECT %(a)s::text").rows(conn, a="a\0b")
        assert Statement("SELECT 1").row(conn) == (1,)


def test_an_error_has_its_class_and_constraint_and_ends_the_transaction(pool: Pool, database: str) -> None:
    insert = Statement("INSERT INTO datas3ts (name) VALUES (%(name)s)")
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        insert_twice(pool, insert)
    assert caught.value.diag.constraint_name == "datas3t_names_are_unique"
    with closing(psycopg.connect(database)) as other:
        assert other.execute("SELECT count(*) FROM datas3ts").fetchone() == (0,)


def insert_twice(pool: Pool, insert: Statement) -> None:
    with transaction(pool) as conn:
        for _ in range(2):
            assert insert.rows(conn, name="x") == []
