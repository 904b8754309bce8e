"""Graceful shutdown: refuse new calls once draining, and wait for the running ones."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from datas3t import v1
from datas3t.server.errors import Failure

_LAST_STEP_SECONDS = 1.0  # for long calls to reach their next step and end there, after the time to drain is over


class RunningCalls:
    """Counts the calls that run, over gRPC and REST together. Any thread may use it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        self._draining = False
        self._stopped = False

    @property
    def draining(self) -> bool:
        """Whether new calls are refused."""
        return self._draining

    @contextmanager
    def track(self) -> Iterator[None]:
        """Count one call as running inside the block.

        Raises:
            Failure: SHUTTING_DOWN if the server is draining.
        """
        with self._changed:
            if self._draining:
                raise Failure(v1.ERROR_REASON_SHUTTING_DOWN, "the server is shutting down; try again shortly")
            self._count += 1
        try:
            yield
        finally:
            with self._changed:
                self._count -= 1
                self._changed.notify_all()

    def raise_if_stopped(self) -> None:
        """Raise Failure (SHUTTING_DOWN) if the time to drain is over. Long calls ask this between two steps."""
        if self._stopped:
            message = "the server stopped before the call was finished; what it has done is kept, so call again"
            raise Failure(v1.ERROR_REASON_SHUTTING_DOWN, message)

    def drain(self, seconds: float) -> bool:
        """Refuse new calls, and return whether all running calls ended within `seconds`.

        Calls that are still running then end at their next `raise_if_stopped`.
        """
        with self._changed:
            self._draining = True
            ended = self._changed.wait_for(lambda: self._count == 0, seconds)
            self._stopped = True
            self._changed.wait_for(lambda: self._count == 0, _LAST_STEP_SECONDS)
            return ended
