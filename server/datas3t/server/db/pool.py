"""Connections to PostgreSQL, and the one place that knows its errors: a constraint's name becomes a Failure."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool

from datas3t import v1
from datas3t.server.errors import Failure

Connection = psycopg.Connection[tuple[Any, ...]]
Pool = ConnectionPool[Connection]

# A statement that takes longer is stuck, and so is a transaction that its client left open.
_SETTINGS = "SET statement_timeout = '2min'; SET idle_in_transaction_session_timeout = '1min'"
_CONNECT = {"connect_timeout": 5, "keepalives_idle": 30, "tcp_user_timeout": 30_000, "application_name": "datas3t"}

# What a broken constraint says. Its fields are the `about` of the transaction, and the metadata of the failure.
_CONSTRAINTS: dict[str, tuple[v1.ErrorReason.ValueType, str]] = {
    "dataranges_never_overlap": (
        v1.ERROR_REASON_DATARANGE_OVERLAPS,
        "datapoints {first} to {last} overlap a datarange of datas3t {datas3t!r}; what was uploaded is removed",
    ),
    "bucket_names_are_unique": (
        v1.ERROR_REASON_BUCKET_EXISTS,
        "bucket configuration {bucket!r} exists with other settings; use it as it is, or another name",
    ),
    "a_bucket_is_configured_once": (
        v1.ERROR_REASON_BUCKET_EXISTS,
        "another bucket configuration already has the endpoint and bucket of {bucket!r}; use that one",
    ),
    "buckets_in_use_stay": (
        v1.ERROR_REASON_BUCKET_NOT_FOUND,  # who deletes one looks first, so it went from under whoever was to use it
        "there is no bucket configuration {bucket!r} any more; add it, or list those there are",
    ),
    "buckets_with_deletions_stay": (
        v1.ERROR_REASON_BUCKET_IN_USE,
        "objects in bucket configuration {bucket!r} are still to be deleted; try again later",
    ),
}


def open_pool(db_url: str, *, max_size: int = 16) -> Pool:
    """A pool on `postgres://…` or `postgresql://…`; the caller closes it. It connects in the background."""
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # its warnings repeat the connection's parameters
    return ConnectionPool(
        db_url,
        connection_class=psycopg.Connection[tuple[Any, ...]],
        kwargs={"autocommit": True, **_CONNECT},
        min_size=1,
        max_size=max_size,
        timeout=10,
        configure=_configure,
        check=ConnectionPool.check_connection,
        open=True,
    )


@contextmanager
def connection(pool: Pool) -> Iterator[Connection]:
    """A connection for single statements, each its own transaction."""
    with _failures({}), pool.connection() as conn:
        yield conn


@contextmanager
def transaction(pool: Pool, **about: object) -> Iterator[Connection]:
    """A short transaction: all or nothing. `about` names what a broken constraint's message speaks of.

    Raises Failure for broken constraints that callers can cause, and DATABASE_UNAVAILABLE where there is no answer.
    """
    with _failures(about), pool.connection() as conn, conn.transaction():
        yield conn


def unavailable(cause: str = "") -> Failure:
    """The database does not answer; `cause` is for whoever starts the server, never for a client."""
    message = "the database does not answer; nothing is lost, try again shortly"
    return Failure(v1.ERROR_REASON_DATABASE_UNAVAILABLE, f"{message} ({cause})" if cause else message)


def _configure(conn: Connection) -> None:
    conn.execute(_SETTINGS)


@contextmanager
def _failures(about: dict[str, object]) -> Iterator[None]:
    try:
        yield
    except psycopg.errors.IntegrityError as error:
        known = _CONSTRAINTS.get(error.diag.constraint_name or "")
        if known is None:
            raise
        reason, template = known
        raise Failure(reason, template.format(**about), **about) from error
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise unavailable() from error
