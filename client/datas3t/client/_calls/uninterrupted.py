"""Running gRPC where no signal handler can interrupt it, as Ctrl-C interrupts the main thread.

gRPC's locks are Python objects. A handler that raises just after the main thread has acquired one leaves it locked for
good: the next call of the channel waits without end, and so does the thread in which the channel is collected.
"""

import _thread
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast

_WAKE_SECONDS = 0.2  # a signal that the system delivers to another thread does not wake the main thread

T = TypeVar("T")


def is_interruptible() -> bool:
    """Return whether a signal handler may interrupt this thread, and another thread can run what it must not."""
    # While the interpreter shuts down, another thread would not run any more.
    return threading.get_ident() == threading.main_thread().ident and not sys.is_finalizing()


def uninterrupted(function: Callable[[], T], abandon: Callable[[], object] | None = None) -> T:
    """Return the result of `function`, or raise its exception.

    Signal handlers run in the main thread alone. There, `function` runs in another thread, and the main thread waits
    for it. An exception that a handler raises ends the wait and reaches the caller, while `function` runs to its end.

    Args:
        function: What to run.
        abandon: Called in another thread after such an exception, to let `function` end soon.
    """
    if not is_interruptible():
        return function()
    # Of Python's queues and events, only a SimpleQueue has no lock that a handler could leave locked.
    outcome: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            outcome.put((function(), None))
        except BaseException as error:
            outcome.put((None, error))

    try:
        _thread.start_new_thread(copy_context().run, (run,))
    except RuntimeError:  # no more threads, or the interpreter is shutting down
        return function()
    try:
        while True:
            with suppress(Empty):
                result, error = outcome.get(timeout=_WAKE_SECONDS)
                break
    except BaseException:
        if abandon is not None:
            with suppress(RuntimeError):  # as above
                _thread.start_new_thread(abandon, ())
        raise
    if error is not None:
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame
    return cast(T, result)
