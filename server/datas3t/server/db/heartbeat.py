"""Checks of the database every half second, on a separate connection, so that its state is known at once."""

import contextlib
import threading
import time

import psycopg

from datas3t.server.db.pool import LimitedConnection, connect

_INTERVAL = 0.5  # seconds between two checks
_TIMEOUT = 1.5  # seconds for a response
_STALE = 3.0  # seconds after the last response; also covers steps without a limit, such as the resolution of a name


class Heartbeat:
    """A thread that checks from `start` to `stop` whether the database responds."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: LimitedConnection | None = None
        self._responded = float("-inf")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Check once, then start the thread."""
        self._check()
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread. If it hangs, wait for its end for at most 3 seconds."""
        self._stopping.set()
        self._thread.join(_STALE)

    def is_alive(self) -> bool:
        """Return at once whether the database responded a short time ago."""
        return time.monotonic() - self._responded < _STALE

    def _run(self) -> None:
        while not self._stopping.wait(_INTERVAL):
            self._check()
        self._disconnect()

    def _check(self) -> None:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = connect(self._url, seconds=_TIMEOUT)
            self._connection.execute("SELECT 1")
            self._responded = time.monotonic()
        except (psycopg.Error, OSError, ValueError, RuntimeError):  # whatever the cause, the thread must continue
            self._disconnect()  # one failed check is tolerated: the last response is not too old yet

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None
