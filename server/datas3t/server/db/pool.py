"""Connections to PostgreSQL. They keep no state between transactions, so a pooler may be in between.

A pooler in transaction mode, such as PgBouncer, may execute each transaction on another connection. Therefore nothing
is set for a session: no SET, no prepared statements, no locks, no temporary tables, no LISTEN.
"""

import logging
import math
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo
from psycopg.pq import ConnStatus
from psycopg_pool import ConnectionPool

from datas3t import v1
from datas3t.server.call import current
from datas3t.server.db import faults
from datas3t.server.db.url import DatabaseUrl
from datas3t.server.errors import Failure

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]
Pool = ConnectionPool[Connection]

# Sent as one request. Unless something is stuck, no statement takes two minutes, and no transaction waits a minute for
# its client.
_BEGIN = "BEGIN; SET LOCAL statement_timeout = '2min'; SET LOCAL idle_in_transaction_session_timeout = '1min'"
_STATEMENT_SECONDS = 150.0  # the limit on this side, for a database that hangs and for statements outside transactions
_CHECK_SECONDS = 5.0  # for the response of a connection that is checked
_CANCEL_SECONDS = 2.0  # for the database to accept the cancellation of a statement
_FRESH_SECONDS = 30.0  # after its last use a connection is checked by a statement: the way there may have broken
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


@contextmanager
def connected(url: str) -> Iterator[LimitedConnection]:
    """A context with a connection for a command that runs beside the servers, in autocommit mode.

    Raises:
        ValueError: if the URL is not valid.
        Failure: if the database cannot be used, or has not been used by a server yet.
    """
    try:
        with connect(url) as opened:
            opened.seconds = _STATEMENT_SECONDS
            yield opened
    except psycopg.errors.UndefinedTable as error:
        message = "the database has no tables of datas3t; check --db-url or DB_URL, or start a server on it first"
        raise Failure(v1.ERROR_REASON_DATABASE_UNAVAILABLE, message) from error
    except psycopg.Error as error:
        failure = faults.start_failure(error)
        if failure is None:
            raise
        raise failure from error


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
        open=True,
    )


class connection:  # noqa: N801 - used like a function
    """A context that yields a connection for single statements, each of which is a transaction.

    If the current call is ended, such as when its client leaves, the statement that the block waits for is cancelled.

    `fields` are the fields of the messages for violated constraints, in `faults`. Raises these failures, and
    DATABASE_UNAVAILABLE if the database does not respond.
    """

    # A class, because a call enters it once or more, and a generator for each of its purposes takes twice the time.
    __slots__ = ("_call", "_conn", "_fields", "_interrupt", "_lock", "_over", "_pool")

    def __init__(self, pool: Pool, **fields: object) -> None:
        self._pool = pool
        self._fields = fields

    def __enter__(self) -> Connection:
        try:
            self._take()
        except psycopg.Error as error:
            self._raise_failure(error)
            raise
        return self._conn

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self._give_back(failed=kind is not None)
        except psycopg.Error as at_end:
            self._raise_failure(at_end)
            raise
        if isinstance(error, psycopg.Error):
            self._raise_failure(error)

    def _take(self) -> None:
        """Take a connection that works out of the pool, and have it interrupted with the call."""
        self._conn = _working(self._pool)
        self._call = call = current()
        self._over = False
        self._lock = threading.Lock()
        # The call may be ended on an event loop, which must not wait for the database.
        self._interrupt = call.add_interrupt(self._cancel_in_thread)

    def _give_back(self, *, failed: bool) -> None:  # noqa: ARG002 - for transactions
        if not self._call.remove_interrupt(self._interrupt):
            with self._lock:  # a cancellation that is under way must not reach the next user of the connection
                self._over = True
        _put_back(self._pool, self._conn)

    def _cancel_in_thread(self) -> None:
        threading.Thread(target=self._cancel, name="cancel", daemon=True).start()

    def _cancel(self) -> None:
        with self._lock, suppress(psycopg.Error):
            if not self._over:
                self._conn.cancel_safe(timeout=_CANCEL_SECONDS)

    def _raise_failure(self, error: psycopg.Error) -> None:
        """Raise psycopg's error as a failure, unless it is a defect."""
        if isinstance(error, psycopg.errors.QueryCanceled):
            current().raise_if_ended()
        failure = faults.failure(error, self._fields)
        if failure is None:
            return
        if failure.reason == v1.ERROR_REASON_DATABASE_UNAVAILABLE:
            _log.warning("a call failed in the database: %s: %s", type(error).__name__, faults.cause(error))
        raise failure from error


class transaction(connection):  # noqa: N801
    """A context that yields a connection in a transaction, which is committed after the block.

    An exception rolls it back. Arguments and failures are those of `connection`.
    """

    __slots__ = ()

    def _take(self) -> None:
        started = time.monotonic()
        try:
            self._begin()
        except psycopg.OperationalError:
            # If a connection turns out to be broken, the transaction has done nothing yet, so it begins on another one.
            if not self._conn.closed or time.monotonic() - started > _CHECK_SECONDS:
                raise
            self._begin()

    def _begin(self) -> None:
        super()._take()
        try:
            self._conn.execute(_BEGIN, prepare=False)  # several statements cannot be prepared
        except BaseException:
            self._give_back(failed=True)
            raise

    def _give_back(self, *, failed: bool) -> None:
        conn = self._conn
        try:
            if not failed:
                conn.commit()
            elif not conn.closed:
                with suppress(psycopg.Error):  # the error of the block is raised
                    conn.rollback()
        finally:
            super()._give_back(failed=failed)


def _working(pool: Pool) -> Connection:
    """Take a connection out of the pool. Those that have ended since their last use are replaced."""
    while True:
        conn = pool.getconn()
        try:
            if _works(conn):
                return conn
        except BaseException:
            pool.putconn(conn)
            raise
        conn.close()
        pool.putconn(conn)  # which connects another one


def _works(conn: Connection) -> bool:
    """Return whether a connection still works, by a statement only if it has not been used for long."""
    assert isinstance(conn, _PooledConnection)
    if conn.closed or _has_ended(conn):
        return False
    if time.monotonic() - conn.used < _FRESH_SECONDS:
        return True
    conn.seconds = _CHECK_SECONDS
    try:
        conn.execute("")
    except psycopg.Error:
        return False
    finally:
        conn.seconds = _STATEMENT_SECONDS
    return True


def _has_ended(conn: Connection) -> bool:
    """Return whether the database has ended an idle connection: then its last message, or the end, is there to read."""
    idle = select.poll()
    idle.register(conn.pgconn.socket, select.POLLIN | select.POLLHUP)
    if not idle.poll(0):
        return False
    try:
        conn.pgconn.consume_input()  # a message of another kind, such as a changed setting, ends nothing
    except psycopg.Error:
        return True
    return bool(idle.poll(0)) or conn.pgconn.status != ConnStatus.OK


def _put_back(pool: Pool, conn: Connection) -> None:
    assert isinstance(conn, _PooledConnection)
    conn.used = time.monotonic()
    pool.putconn(conn)
