"""Whether the database responds, asked all the time over a connection of its own, so that nobody has to wait for it."""

import contextlib
import threading
import time

import psycopg

from datas3t.server.db.pool import LimitedConnection, connect

_EVERY = 0.5  # seconds between two questions
_LIMIT = 1.5  # seconds for a response
_STALE = 3.0  # seconds after the last response; covers whatever else can hang, such as the resolution of a name


class Heartbeat:
    """A thread that asks the database whether it responds, from `start` to `stop`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: LimitedConnection | None = None
        self._responded = float("-inf")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Ask once, then start the thread."""
        self._ask()
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread. If it hangs, it is left behind."""
        self._stopping.set()
        self._thread.join(_STALE)

    def is_alive(self) -> bool:
        """Return at once whether the database responded a short time ago."""
        return time.monotonic() - self._responded < _STALE

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY):
            self._ask()
        self._disconnect()

    def _ask(self) -> None:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = connect(self._url, seconds=_LIMIT)
            self._connection.execute("SELECT 1")
            self._responded = time.monotonic()
        except psycopg.Error:
            self._disconnect()  # a single slow response is made up for by the next one, before the last is too old

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None
