"""Who is let in: all calls until the server is about to stop, then none; and when those that are in have left."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from datas3t import v1
from datas3t.server.errors import Failure

_LAST_STEP = 1.0  # seconds


class Admission:
    """Counts the calls that run, over whatever protocol. For any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._closed = False
        self._over = False

    @property
    def closed(self) -> bool:
        return self._closed

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around one call. Raises Failure (SHUTTING_DOWN) where none is let in any more."""
        with self._changed:
            if self._closed:
                raise Failure(v1.ERROR_REASON_SHUTTING_DOWN, "the server is about to stop; try again shortly")
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def go_on(self) -> None:
        """Between two steps of a long call. Raises Failure (SHUTTING_DOWN) where those that ran had their time."""
        if self._over:
            message = "the server stopped before the call was done; what it did so far stays, call again"
            raise Failure(v1.ERROR_REASON_SHUTTING_DOWN, message)

    def close(self, seconds: float) -> bool:
        """Lets nobody in from now on; whether all have left within the time. Long calls then end at their next step."""
        with self._changed:
            self._closed = True
            left = self._changed.wait_for(lambda: self._running == 0, seconds)
            self._over = True
            self._changed.wait_for(lambda: self._running == 0, _LAST_STEP)
            return left
