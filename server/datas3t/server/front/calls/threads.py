"""The threads that run the calls of gRPC and REST.

A call releases its slot while it waits for S3, and another call runs. So calls that only need the database always get a
thread, no matter how many calls wait for a slow bucket.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from datas3t import v1
from datas3t.server.errors import Failure

RUNNING = 32  # calls that run at once, not counting those that wait for S3, whose number `s3.gate` limits
QUEUED = 1024  # calls that wait for a thread; further calls are refused

Result = TypeVar("Result")


class _Work(NamedTuple):
    """A function to run, and the future of an event loop that receives its result."""

    function: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"

    def deliver(self, result: object, error: BaseException | None) -> None:
        """Set the result or the error, unless nobody waits for it any more."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(_settle, self.future, result, error)


class CallThreads:
    """Runs functions in threads, at most `RUNNING` at once, not counting those that have released their slot.

    The threads are daemons, so one that hangs does not keep the process from exiting.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._idle = 0  # threads without work
        self._queue: deque[_Work] = deque()
        self._dispatched: SimpleQueue[_Work | None] = SimpleQueue()
        self._closed = False

    def submit(self, function: Callable[[], Result]) -> "asyncio.Future[Result]":
        """Run the function as soon as a thread is free. If its future is done before, the function does not run.

        It is called on an event loop, which owns the future.

        Raises:
            Failure: SERVER_BUSY if too many calls wait.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        with self._lock:
            if len(self._queue) >= QUEUED:
                self._queue = deque(work for work in self._queue if not work.future.done())
            if len(self._queue) >= QUEUED:
                raise Failure(v1.ERROR_REASON_SERVER_BUSY, "too many calls wait already; try again shortly")
            self._queue.append(_Work(function, loop, future))
            self._dispatch()
        return future

    def release_slot(self) -> None:
        """Let another call run while the thread of this one waits for S3."""
        with self._lock:
            self._running -= 1
            self._dispatch()

    def take_slot(self) -> None:
        """Count the thread of a call that released its slot as running again."""
        with self._lock:
            self._running += 1

    def close(self) -> None:
        """Cancel the functions that wait, and end the idle threads."""
        with self._lock:
            self._closed = True
            queued, self._queue = self._queue, deque()
            for _ in range(self._idle):
                self._dispatched.put(None)
            self._idle = 0
        for work in queued:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                work.loop.call_soon_threadsafe(work.future.cancel)

    def _dispatch(self) -> None:
        while self._queue and self._running < RUNNING:
            work = self._queue.popleft()
            if work.future.done():
                continue
            self._running += 1
            self._dispatched.put(work)
            if self._idle:
                self._idle -= 1
            else:
                threading.Thread(target=self._run, name="call", daemon=True).start()

    def _run(self) -> None:
        while (work := self._dispatched.get()) is not None:
            result, failed = None, None
            try:
                result = work.function()
            except BaseException as error:
                failed = error
            self._finish()
            work.deliver(result, failed)
            del work, result, failed
            if self._closed:
                return

    def _finish(self) -> None:
        with self._lock:
            self._running -= 1
            if not self._closed:
                self._idle += 1
                self._dispatch()


def _settle(future: "asyncio.Future[Any]", result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
