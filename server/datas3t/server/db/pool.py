"""Connections to PostgreSQL. They have no state that outlives a transaction, so a pooler may be in between.

A pooler in transaction mode (PgBouncer and its like) gives each transaction another connection of its own. So nothing
here is set for a session: no SET, no prepared statement, no lock, no temporary table, no LISTEN.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool

from datas3t import v1
from datas3t.server.database_url import DatabaseUrl
from datas3t.server.db import faults

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]
Pool = ConnectionPool[Connection]

# One round trip. The database ends a statement that is stuck, and a transaction that its client left open.
_BEGIN = "BEGIN; SET LOCAL statement_timeout = '2min'; SET LOCAL idle_in_transaction_session_timeout = '1min'"
_STATEMENT_SECONDS = 150.0  # the client's own limit: for a database that hangs, and for statements outside transactions
_CHECK_SECONDS = 5.0  # for a connection to show that it works
_CANCEL_SECONDS = 2.0  # for the database to take note that a statement was given up
_FRESH_SECONDS = 1.0  # a connection that was used within this time is lent without a check, which takes a round trip
_REPEAT_SECONDS = 30.0  # the same reason for a failed connection is logged once in this time

_CONNECT = {
    "connect_timeout": "5",
    "keepalives_idle": "30",
    "tcp_user_timeout": "30000",
    "application_name": "datas3t",
}

_log = logging.getLogger(__name__)


class LimitedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that is closed when the database does not answer within `seconds`. None stands for no limit."""

    seconds: float | None = _STATEMENT_SECONDS

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Run a statement to its end, or give it up and close the connection."""
        started = time.monotonic()
        limit = self.seconds if timeout is None else timeout
        try:
            return super().wait(gen, interval, limit)
        except psycopg.OperationalError as error:
            if timeout is None and limit is not None and time.monotonic() - started >= limit and not self.closed:
                with suppress(psycopg.Error):
                    self.cancel_safe(timeout=_CANCEL_SECONDS)
                self.pgconn.finish()
                raise psycopg.OperationalError(f"no answer within {limit:.0f} seconds") from error
            raise


class _PooledConnection(LimitedConnection):
    """A connection of the pool, which knows when it was used last."""

    used = float("-inf")
    _last_logged = ("", float("-inf"))
    _logging = threading.Lock()

    @classmethod
    def connect(cls, conninfo: str = "", **parameters: Any) -> Self:
        """Connect, and log why that fails: the pool itself only says that it has no connection."""
        try:
            return super().connect(conninfo, **parameters)
        except psycopg.Error as error:
            cls._log_cause(faults.cause(error))
            raise

    @classmethod
    def _log_cause(cls, cause: str) -> None:
        with cls._logging:
            logged, when = _PooledConnection._last_logged
            if logged == cause and time.monotonic() - when < _REPEAT_SECONDS:
                return
            _PooledConnection._last_logged = (cause, time.monotonic())
        _log.warning("cannot connect to the database: %s", cause)


def connect(url: str) -> Connection:
    """Return a connection of its own, in autocommit mode; the caller closes it. No statement has a time limit."""
    parameters, _ = DatabaseUrl.parse(url)
    conninfo = make_conninfo(**{**_CONNECT, **parameters})
    made = LimitedConnection.connect(conninfo, autocommit=True, prepare_threshold=None)
    made.seconds = None
    return made


def open_pool(url: str, *, max_size: int = 16) -> Pool:
    """Return a pool on `postgres://…` or `postgresql://…`; the caller closes it. It connects in the background."""
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # its warnings repeat the connection's parameters
    parameters, prepare_threshold = DatabaseUrl.parse(url)
    return ConnectionPool(
        "",
        connection_class=_PooledConnection,
        kwargs={"autocommit": True, "prepare_threshold": prepare_threshold, **_CONNECT, **parameters},
        min_size=1,
        max_size=max_size,
        timeout=10,
        check=_check,
        reset=_note_use,
        open=True,
    )


@contextmanager
def connection(pool: Pool) -> Iterator[Connection]:
    """Lend a connection for single statements, each its own transaction."""
    with _failures({}), pool.connection() as conn:
        yield conn


@contextmanager
def transaction(pool: Pool, **about: object) -> Iterator[Connection]:
    """Run a short transaction: all or nothing. `about` names what a broken constraint's message speaks of.

    Raises:
        Failure: for broken constraints that callers can cause, and DATABASE_UNAVAILABLE if there is no answer.
    """
    with _failures(about), pool.connection() as conn:  # which commits at the end, or rolls back
        conn.execute(_BEGIN)
        yield conn


def _check(conn: Connection) -> None:
    """Raise if a connection does not work any more."""
    assert isinstance(conn, _PooledConnection)
    if time.monotonic() - conn.used < _FRESH_SECONDS and not conn.closed:
        return
    conn.seconds = _CHECK_SECONDS
    try:
        conn.execute("")
    finally:
        conn.seconds = _STATEMENT_SECONDS


def _note_use(conn: Connection) -> None:
    assert isinstance(conn, _PooledConnection)
    conn.used = time.monotonic()


@contextmanager
def _failures(about: dict[str, object]) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        failure = faults.failure(error, about)
        if failure is None:
            raise
        if failure.reason == v1.ERROR_REASON_DATABASE_UNAVAILABLE:
            _log.warning("a call failed in the database: %s: %s", type(error).__name__, faults.cause(error))
        raise failure from error
