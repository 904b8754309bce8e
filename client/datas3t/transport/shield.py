"""Callbacks for libcurl that never raise an exception.

pycurl prints an exception that a callback raises, and then continues as if the callback had returned None. A signal
handler can raise at almost any line, so every callback is made by `shielded`, or is a C function that runs no Python.
"""

from collections.abc import Callable, Generator
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def shielded(function: Callable[[T], R], failed: R, raised: list[BaseException]) -> Callable[[T], R]:
    """Return a C function that calls `function`. If that raises, add the exception to `raised` and return `failed`."""
    loop = _calls(function, failed, raised)
    next(loop)
    return loop.send  # type: ignore[return-value]  # only the first result, which `next` has consumed, is None


def _calls(function: Callable[[T], R], failed: R, raised: list[BaseException]) -> Generator[R | None, T, None]:
    # A `try` in a plain function is not enough, because a signal handler can raise before it is entered. A generator
    # that is suspended inside a `try` also resumes inside it.
    result: R | None = None
    while True:
        try:
            while True:
                result = function((yield result))
        except GeneratorExit:
            return
        except BaseException as error:  # the multi raises it after libcurl has returned
            raised.append(error)
            result = failed
