"""The call that a thread works on: how long it may take, and whether its client still waits for it.

Long work calls `current().raise_if_ended()` between its steps, and runs a blocking operation inside `interruptible`.
Other threads that work on the same call run functions wrapped by `in_current_call`, as `map_concurrently` does.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

from datas3t import v1
from datas3t.server.errors import Failure

MAX_THREADS = 16  # calls at a time: enough to hide S3's latency, few enough for a server that runs many of these
MAX_PENDING = 20  # items started and not yet yielded: more than threads, so that a slow call leaves no thread idle


P = ParamSpec("P")
Item = TypeVar("Item")
Result = TypeVar("Result")


def _nothing() -> None:
    return


class Call:
    """One call of a client, or work that no client waits for. Any thread may use it.

    Args:
        seconds: How long the call may take; None for work without a limit.
        release_slot: Called when the thread of the call begins to wait for S3, so that other calls can run.
        take_slot: Called when that wait is over.
    """

    def __init__(
        self,
        seconds: float | None = None,
        *,
        release_slot: Callable[[], None] = _nothing,
        take_slot: Callable[[], None] = _nothing,
    ) -> None:
        self.seconds = seconds
        self.subject = ""  # the key of the object that the call turned out to be about, for the audit log
        self.release_slot = release_slot
        self.take_slot = take_slot
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._lock = threading.Lock()
        self._cause: Failure | None = None
        self._interrupts: dict[object, Callable[[], None]] = {}

    @property
    def background(self) -> bool:
        """Whether no client waits for this call."""
        return self.seconds is None

    def remaining(self) -> float | None:
        """Return how many seconds are left, or None if there is no limit."""
        return None if self._deadline is None else self._deadline - time.monotonic()

    def end(self, cause: Failure) -> None:
        """End the call: interrupt blocking operations, and make `raise_if_ended` raise the first cause given."""
        with self._lock:
            self._cause = self._cause or cause
        self._run_interrupts()

    def raise_if_ended(self) -> None:
        """Raise the cause if the call was ended, or CALL_TOO_LONG if its time is over."""
        if self._cause is not None:
            raise self._cause.with_traceback(None)
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise too_long(self.seconds or 0)

    @contextlib.contextmanager
    def interruptible(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Call `interrupt`, from any thread, if the call is ended while the block runs."""
        remove = self.on_end(interrupt)
        try:
            yield
        finally:
            remove()

    def on_end(self, interrupt: Callable[[], None]) -> Callable[[], None]:
        """Call `interrupt` when the call is ended, or now if it already was; return a function that cancels this."""
        key = self.add_interrupt(interrupt)

        def remove() -> None:
            self.remove_interrupt(key)

        return remove

    def add_interrupt(self, interrupt: Callable[[], None]) -> object:
        """Call `interrupt` when the call is ended, or now if it already was; return what `remove_interrupt` takes."""
        key = object()
        # `end` sets the cause first, and each interrupt is taken out by one thread only: no lock is needed.
        self._interrupts[key] = interrupt
        if self._cause is not None:
            self._run_interrupts()
        return key

    def remove_interrupt(self, key: object) -> bool:
        """Do not call an interrupt any more; return False if it is being called, or was."""
        return self._interrupts.pop(key, None) is not None

    def _run_interrupts(self) -> None:
        while self._interrupts:
            try:
                _, interrupt = self._interrupts.popitem()
            except KeyError:  # another thread was faster
                return
            interrupt()


BACKGROUND = Call()
_current: ContextVar[Call] = ContextVar("datas3t_call", default=BACKGROUND)


def current() -> Call:
    """Return the call that this thread works on, or BACKGROUND if it works for no client."""
    return _current.get()


class working_on:  # noqa: N801 - used like a function
    """A context in which `call` is the current one."""

    __slots__ = ("_call", "_token")

    def __init__(self, call: Call) -> None:
        self._call = call

    def __enter__(self) -> None:
        self._token = _current.set(self._call)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


def in_current_call(function: Callable[P, Result]) -> Callable[P, Result]:
    """Wrap a function so that another thread can run it as part of the current call."""
    call = current()

    def run(*args: P.args, **kwargs: P.kwargs) -> Result:
        call.raise_if_ended()
        with working_on(call):
            return function(*args, **kwargs)

    return run


def map_concurrently(function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
    """Yield the function's results in the order of the items, calling it for several items at a time.

    No more than `MAX_PENDING` items are taken before a result is consumed. The first error is raised, and ends the
    iteration.
    """
    pending: deque[Future[Result]] = deque()
    threads = ThreadPoolExecutor(MAX_THREADS)
    wrapped = in_current_call(function)
    try:
        for item in items:
            pending.append(threads.submit(wrapped, item))
            if len(pending) == MAX_PENDING:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)


def too_long(seconds: float) -> Failure:
    """Return the failure of a call that took longer than `seconds`."""
    shown = f"{seconds:.0f}" if seconds >= 10 else f"{max(seconds, 0.001):.2g}"
    message = f"the call took longer than {shown} s and was ended; what it has done is kept, so call again"
    return Failure(v1.ERROR_REASON_CALL_TOO_LONG, message, seconds=shown)


def caller_left() -> Failure:
    """Return the failure of a call whose client cancelled it or disconnected."""
    return Failure(v1.ERROR_REASON_CALLER_LEFT, "the client cancelled the call or disconnected")
