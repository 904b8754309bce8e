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


def uninterrupted(function: Callable[[], T]) -> T:
    """Return the result of `function`, or raise its exception.

    Signal handlers run in the main thread alone. There, `function` runs in another thread, and the main thread waits
    for it. An exception that a handler raises ends the wait and reaches the caller, while `function` runs to its end.
    """
    # While the interpreter shuts down, another thread would not run any more.
    if threading.get_ident() != threading.main_thread().ident or sys.is_finalizing():
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
    while True:
        with suppress(Empty):
            result, error = outcome.get(timeout=_WAKE_SECONDS)
            break
    if error is not None:
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame
    return cast(T, result)
