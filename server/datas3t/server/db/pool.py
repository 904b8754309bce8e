"""Connections to PostgreSQL. They keep no state between transactions, so a pooler may be in between.

A pooler in transaction mode, such as PgBouncer, may execute each transaction on another connection. Therefore nothing
is set for a session: no SET, no prepared statements, no locks, no temporary tables, no LISTEN.
"""

import logging
import math
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
from datas3t.server.call import current
from datas3t.server.db import faults
from datas3t.server.db.url import DatabaseUrl

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]
Pool = ConnectionPool[Connection]

# Sent as one request. Unless something is stuck, no statement takes two minutes, and no transaction waits a minute for
# its client.
_BEGIN = "BEGIN; SET LOCAL statement_timeout = '2min'; SET LOCAL idle_in_transaction_session_timeout = '1min'"
_STATEMENT_SECONDS = 150.0  # the limit on this side, for a database that hangs and for statements outside transactions
_CHECK_SECONDS = 5.0  # for the response of a connection that is checked
_CANCEL_SECONDS = 2.0  # for the database to accept the cancellation of a statement
_FRESH_SECONDS = 1.0  # a connection that was used within this time is not checked, which saves a request
_REPEAT_SECONDS = 30.0  # before the same cause of failed connections is logged again

_CONNECT = {
    "connect_timeout": "5",
    "keepalives_idle": "30",
    "tcp_user_timeout": "30000",
    "application_name": "datas3t",
}

_log = logging.getLogger(__name__)


class LimitedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that is closed if a statement takes more than `seconds`. None is no limit."""

    seconds: float | None = _STATEMENT_SECONDS

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Wait for the result of a statement, or cancel it and close the connection after the limit."""
        started = time.monotonic()
        limit = self.seconds if timeout is None else timeout
        try:
            return super().wait(gen, interval, limit)
        except psycopg.OperationalError as error:
            if timeout is None and limit is not None and time.monotonic() - started >= limit and not self.closed:
                with suppress(psycopg.Error):
                    self.cancel_safe(timeout=_CANCEL_SECONDS)
                self.pgconn.finish()
                raise psycopg.OperationalError(f"no response within {limit:.0f} seconds") from error
            raise


class _PooledConnection(LimitedConnection):
    """A connection of the pool, with the time at which it was last used."""

    used = float("-inf")
    _last_logged = ("", float("-inf"))
    _logging = threading.Lock()

    @classmethod
    def connect(cls, conninfo: str = "", **parameters: Any) -> Self:
        """Connect, and log the cause of a failure: the pool only raises that it has no connection."""
        try:
            return super().connect(conninfo, **parameters)
        except psycopg.Error as error:
            cls._log_cause(faults.cause(error))
            raise

    @classmethod
    def _log_cause(cls, cause: str) -> None:
        """Log the cause of a failed connection, unless it was logged a short time ago."""
        with cls._logging:
            logged, when = _PooledConnection._last_logged
            if logged == cause and time.monotonic() - when < _REPEAT_SECONDS:
                return
            _PooledConnection._last_logged = (cause, time.monotonic())
        _log.warning("cannot connect to the database: %s", cause)


def connect(url: str, *, seconds: float | None = None) -> LimitedConnection:
    """Return a connection outside the pool in autocommit mode. The caller closes it.

    `seconds` limits each statement, and the time to connect. None is no limit.
    """
    parameters, _ = DatabaseUrl.parse(url)
    conninfo = make_conninfo(**{**_CONNECT, **parameters})
    if seconds is not None:
        conninfo = make_conninfo(conninfo, connect_timeout=str(math.ceil(seconds)))
    opened = LimitedConnection.connect(conninfo, autocommit=True, prepare_threshold=None)
    opened.seconds = seconds
    return opened


def open_pool(url: str, *, max_size: int = 16) -> Pool:
    """Open a pool on `postgres://…` or `postgresql://…`. It connects in the background. The caller closes it."""
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # its warnings contain the connection's parameters
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
    """Yield a connection for single statements. Each is a transaction.

    Raises DATABASE_UNAVAILABLE if the database does not respond.
    """
    with _failures({}), pool.connection() as conn, _cancelled_with_call(conn):
        yield conn


@contextmanager
def transaction(pool: Pool, **fields: object) -> Iterator[Connection]:
    """Yield a connection in a transaction, which is committed after the block, or rolled back by an exception.

    `fields` are the fields of the messages for violated constraints, in `faults`. Raises these failures, and
    DATABASE_UNAVAILABLE if the database does not respond.
    """
    with _failures(fields), pool.connection() as conn, _cancelled_with_call(conn):  # the pool commits or rolls back
        conn.execute(_BEGIN)
        yield conn


def _check(conn: Connection) -> None:
    """Raise psycopg's error if a connection no longer works."""
    assert isinstance(conn, _PooledConnection)
    if time.monotonic() - conn.used < _FRESH_SECONDS and not conn.closed:
        return
    conn.seconds = _CHECK_SECONDS
    try:
        conn.execute("")
    finally:
        conn.seconds = _STATEMENT_SECONDS


def _note_use(conn: Connection) -> None:
    """Store the time at which a connection was returned to the pool."""
    assert isinstance(conn, _PooledConnection)
    conn.used = time.monotonic()


@contextmanager
def _cancelled_with_call(conn: Connection) -> Iterator[None]:
    """Cancel the statement that the block waits for if the current call is ended, such as when its client leaves."""
    lock = threading.Lock()
    is_over = False

    def cancel() -> None:
        with lock, suppress(psycopg.Error):
            if not is_over:
                conn.cancel_safe(timeout=_CANCEL_SECONDS)

    # The call may be ended on an event loop, which must not wait for the database.
    with current().interruptible(lambda: threading.Thread(target=cancel, name="cancel", daemon=True).start()):
        try:
            yield
        finally:
            with lock:  # a cancellation that is under way must not reach the next user of the connection
                is_over = True


@contextmanager
def _failures(fields: dict[str, object]) -> Iterator[None]:
    """Raise psycopg's errors as failures. The others are defects and pass."""
    try:
        yield
    except psycopg.Error as error:
        if isinstance(error, psycopg.errors.QueryCanceled):
            current().raise_if_ended()
        failure = faults.failure(error, fields)
        if failure is None:
            raise
        if failure.reason == v1.ERROR_REASON_DATABASE_UNAVAILABLE:
            _log.warning("a call failed in the database: %s: %s", type(error).__name__, faults.cause(error))
        raise failure from error
