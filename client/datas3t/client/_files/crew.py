"""Threads that work together, and end together: when their work is done, when one fails, or at Ctrl-C.

The main thread only waits, so that Ctrl-C interrupts nothing that holds a lock.
"""

import threading
from collections.abc import Callable, Iterator
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

T = TypeVar("T")

_WAKE_SECONDS = 0.1
_MAX_WAIT = 10.0  # seconds for a thread to end after an interruption; a process that exits does not wait for it


class Stopped(Exception):  # noqa: N818 - an event, not an error
    """The work was stopped because of something that happened in another thread."""


class Crew:
    """Threads that run functions until all have returned.

    Args:
        abandon: Called after an interruption, to end what a thread may wait for long.

    Attributes:
        stop: Is set when the threads are to end.
    """

    def __init__(self, abandon: Callable[[], object]) -> None:
        self.stop = threading.Event()
        self._abandon = abandon
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def start(self, function: Callable[[], object]) -> None:
        """Run a function in a thread of its own. If it raises, all are stopped."""
        thread = threading.Thread(target=self._run, args=(function,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def finish(self, tick: Callable[[], object]) -> None:
        """Wait for all, and call `tick` several times a second. Raise the first error of a thread, or of `tick`."""
        try:
            for thread in self._threads:
                while thread.is_alive():
                    thread.join(_WAKE_SECONDS)
                    tick()
        except BaseException:
            self.stop.set()
            self._abandon()
            for thread in self._threads:
                thread.join(_MAX_WAIT)
            raise
        if self._errors:
            raise self._errors[0]

    def check(self) -> None:
        """Raise Stopped if the threads are to end."""
        if self.stop.is_set():
            raise Stopped

    def _run(self, function: Callable[[], object]) -> None:
        try:
            function()
        except Stopped:
            pass
        except BaseException as error:  # raised where the threads are waited for
            self._errors.append(error)
            self.stop.set()


class Handover(Generic[T]):
    """Hands one item after another to the threads of a crew that take them; few wait in between."""

    def __init__(self, crew: Crew, waiting: int = 1) -> None:
        self._crew = crew
        self._items: Queue[T] = Queue(waiting)
        self._is_complete = threading.Event()

    def put(self, item: T) -> None:
        """Hand over an item, when there is room for it."""
        while True:
            self._crew.check()
            try:
                self._items.put(item, timeout=_WAKE_SECONDS)
            except Full:
                continue
            return

    def complete(self) -> None:
        """Say that there are no more items."""
        self._is_complete.set()

    def __iter__(self) -> Iterator[T]:
        """Yield items until there are no more."""
        while True:
            self._crew.check()
            is_complete = self._is_complete.is_set()  # before the queue is found empty
            try:
                yield self._items.get(timeout=0 if is_complete else _WAKE_SECONDS)
            except Empty:
                if is_complete:
                    return


class Permits:
    """Permits to send, shared by the threads of a crew."""

    def __init__(self, crew: Crew, count: int) -> None:
        self._crew = crew
        self._free = threading.Semaphore(count)

    def take(self, *, wait: bool) -> bool:
        """Take a permit, and return whether there was one; with `wait` there will be."""
        while not self._free.acquire(timeout=_WAKE_SECONDS if wait else 0):
            if not wait:
                return False
            self._crew.check()
        return True

    def give_back(self, count: int = 1) -> None:
        """Give permits back."""
        if count:
            self._free.release(count)
