"""The threads that calls run in, over gRPC and REST together.

A call that waits for S3 steps aside, and another one runs instead of it. So calls that need the database alone always
find a thread, however many wait for a bucket that is slow.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from datas3t import v1
from datas3t.server.errors import Failure

RUNNING = 32  # calls that run at once, not counting those that wait for S3, whose number the gate to S3 bounds
QUEUED = 1024  # calls that wait for a thread; more are refused

Result = TypeVar("Result")
Work = tuple["Future[Any]", Callable[[], Any]]


class CallThreads:
    """Runs functions in threads, at most `RUNNING` at once besides those that stepped aside.

    Its threads are daemons: one that hangs does not keep the process from ending.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._idle = 0  # threads without work
        self._queue: deque[Work] = deque()
        self._handed_out: SimpleQueue[Work | None] = SimpleQueue()
        self._closed = False

    def submit(self, function: Callable[[], Result]) -> "Future[Result]":
        """Run the function as soon as a thread is free. Its future can be cancelled until then.

        Raises:
            Failure: SERVER_BUSY if too many wait.
        """
        future: Future[Result] = Future()
        with self._lock:
            if len(self._queue) >= QUEUED:
                self._queue = deque(work for work in self._queue if not work[0].cancelled())
            if len(self._queue) >= QUEUED:
                raise Failure(v1.ERROR_REASON_SERVER_BUSY, "too many calls wait already; try again shortly")
            self._queue.append((future, function))
            self._hand_out()
        return future

    def step_aside(self) -> None:
        """Let another call run while the thread of this one waits for S3."""
        with self._lock:
            self._running -= 1
            self._hand_out()

    def step_back(self) -> None:
        """Count the thread of a call that stepped aside as running again."""
        with self._lock:
            self._running += 1

    def close(self) -> None:
        """Drop what waits, and end the threads that have no work."""
        with self._lock:
            self._closed = True
            queued, self._queue = self._queue, deque()
            for _ in range(self._idle):
                self._handed_out.put(None)
            self._idle = 0
        for future, _ in queued:
            future.cancel()

    def _hand_out(self) -> None:
        while self._queue and self._running < RUNNING:
            future, function = self._queue.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            self._running += 1
            self._handed_out.put((future, function))
            if self._idle:
                self._idle -= 1
            else:
                threading.Thread(target=self._run, name="call", daemon=True).start()

    def _run(self) -> None:
        while (work := self._handed_out.get()) is not None:
            future, function = work
            try:
                result = function()
            except BaseException as error:
                self._rest()
                future.set_exception(error)
            else:
                self._rest()
                future.set_result(result)
            del future, function, work
            if self._closed:
                return

    def _rest(self) -> None:
        with self._lock:
            self._running -= 1
            if not self._closed:
                self._idle += 1
                self._hand_out()
