"""Who is let in: all calls until the server is about to stop, then none; and when those that are in have left."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from datas3t import v1
from datas3t.server.errors import Failure


class Admission:
    """Counts the calls that run, over whatever protocol. For any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._closed = False

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

    def close(self, seconds: float) -> bool:
        """Lets nobody in from now on; whether all have left within the time."""
        with self._changed:
            self._closed = True
            return self._changed.wait_for(lambda: self._running == 0, seconds)
