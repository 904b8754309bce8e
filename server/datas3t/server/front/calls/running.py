"""How a call runs: in a thread, within its time, as long as its client waits and the server does not stop."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from functools import partial
from typing import Any, Generic, TypeVar

from datas3t import v1
from datas3t.server.call import Call, caller_left, too_long, working_on
from datas3t.server.errors import Failure
from datas3t.server.front.calls.threads import CallThreads
from datas3t.server.settings import Timeouts

_LAST_STEP_SECONDS = 1.0  # for long calls to reach their next step and end there, after the time to drain is over
_LONG = frozenset(("CompleteUpload", "StartAggregate", "CompleteAggregate"))
_STEPWISE = frozenset(("Import", "ListDataranges", "ListDatas3ts"))  # listings over REST are sent page by page
_END = object()

Result = TypeVar("Result")


class RunningCalls:
    """The calls that run, over gRPC and REST together. Any thread may use it."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._threads = CallThreads()
        self._changed = threading.Condition()
        self._calls: set[Call] = set()
        self._draining = False

    @property
    def draining(self) -> bool:
        """Whether new calls are refused."""
        return self._draining

    def track(self, method: str, seconds: float | None = None) -> "_Tracked":
        """Return a context that counts a call of `datas3t.v1.Service/Method` as running, and yields it.

        It ends after the time that such a call may take, or after `seconds` if that is less.

        Raises:
            Failure: SHUTTING_DOWN if the server is draining.
        """
        limit = self._limit(method.rpartition("/")[2])
        call = Call(
            limit if seconds is None else min(limit, seconds),
            release_slot=self._threads.release_slot,
            take_slot=self._threads.take_slot,
        )
        return _Tracked(self, call)

    def add(self, call: Call) -> None:
        """Count a call as running. Raises SHUTTING_DOWN if the server is draining."""
        with self._changed:
            if self._draining:
                raise Failure(v1.ERROR_REASON_SHUTTING_DOWN, "the server is shutting down; try again shortly")
            self._calls.add(call)

    def remove(self, call: Call) -> None:
        """Do not count a call as running any more."""
        with self._changed:
            self._calls.discard(call)
            if self._draining:
                self._changed.notify_all()

    async def run(self, call: Call, function: Callable[[], Result]) -> Result:
        """Run the function in a thread, and return its result or raise its exception.

        The call ends if this coroutine is cancelled, because the client left, and when its time is over, whatever the
        thread is waiting for.

        Raises:
            Failure: CALL_TOO_LONG or SERVER_BUSY.
        """
        waiting = self._threads.submit(partial(_in_call, call, function))
        left = call.remaining()
        timer = None if left is None else asyncio.get_running_loop().call_later(left, _end_late, call, waiting)
        try:
            return await waiting
        except asyncio.CancelledError:
            call.end(caller_left())
            if waiting.done() and not waiting.cancelled():
                waiting.exception()  # otherwise asyncio logs that nobody has taken note of it
            raise
        finally:
            if timer is not None:
                timer.cancel()

    async def steps(self, call: Call, function: Callable[[], Iterator[Result]]) -> AsyncGenerator[Result, None]:
        """Yield what the function's iterator yields. It has a thread for each step, and none between two of them."""
        steps: _Steps[Result] = _Steps(function)
        try:
            while (item := await self.run(call, steps.next)) is not _END:
                yield item
        finally:
            if not steps.exhausted:  # a step may still be running, so closing may take as long as that
                close = partial(_in_call, call, steps.close, check=False)
                threading.Thread(target=close, name="close", daemon=True).start()

    def drain(self, seconds: float) -> bool:
        """Refuse new calls, and return whether all running calls ended within `seconds`. Others are ended then."""
        with self._changed:
            self._draining = True
            ended = self._changed.wait_for(lambda: not self._calls, seconds)
            left = list(self._calls)
        message = "the server stopped before the call was finished; what it has done is kept, so call again"
        for call in left:
            call.end(Failure(v1.ERROR_REASON_SHUTTING_DOWN, message))
        with self._changed:
            self._changed.wait_for(lambda: not self._calls, _LAST_STEP_SECONDS)
        return ended

    def close(self) -> None:
        """Drop the calls that wait for a thread, and end the threads that are idle."""
        self._threads.close()

    def _limit(self, name: str) -> float:
        if name in _STEPWISE:
            return self._timeouts.stepwise_call
        return self._timeouts.long_call if name in _LONG else self._timeouts.call


class _Tracked:
    """A context in which a call counts as running. A class, because each call enters it."""

    __slots__ = ("_call", "_running")

    def __init__(self, running: RunningCalls, call: Call) -> None:
        self._running = running
        self._call = call

    def __enter__(self) -> Call:
        self._running.add(self._call)
        return self._call

    def __exit__(self, *_: object) -> None:
        self._running.remove(self._call)


class _Steps(Generic[Result]):
    """An iterator whose steps are taken in one thread after another, and never in two at once."""

    def __init__(self, function: Callable[[], Iterator[Result]]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._iterator: Iterator[Result] | None = None
        self.exhausted = False

    def next(self) -> Any:
        """Return the next item, or `_END`."""
        with self._lock:
            if self._iterator is None:
                self._iterator = iter(self._function())
            try:
                return next(self._iterator)
            except BaseException as error:
                self.exhausted = True
                if isinstance(error, StopIteration):
                    return _END
                raise

    def close(self) -> None:
        """Close a generator after the step that it is at."""
        with self._lock:
            close = getattr(self._iterator, "close", None)
            if close is not None:
                close()


def _end_late(call: Call, waiting: "asyncio.Future[Any]") -> None:
    """End a call whose time is over, unless its function has ended at the same moment."""
    if not waiting.done():
        late = too_long(call.seconds or 0)
        call.end(late)
        waiting.set_exception(late)


def _in_call(call: Call, function: Callable[[], Result], *, check: bool = True) -> Result:
    with working_on(call):
        if check:
            call.raise_if_ended()
        return function()
