"""Callbacks from which no exception escapes into libcurl.

pycurl prints what a callback raises, and then continues as if the callback had returned nothing. A signal handler can
raise at almost any line, so every callback is one of these, or is a function of C that runs no Python.
"""

from collections.abc import Callable, Generator
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def shielded(function: Callable[[T], R], failed: R, raised: list[BaseException]) -> Callable[[T], R]:
    """Return a function of C that calls `function`; what it raises is added to `raised`, and `failed` is returned."""
    loop = _calls(function, failed, raised)
    next(loop)
    return loop.send  # type: ignore[return-value]  # the first answer alone, which `next` has taken, is None


def _calls(function: Callable[[T], R], failed: R, raised: list[BaseException]) -> Generator[R | None, T, None]:
    # A `try` in a plain function would not do: a signal handler can raise before it is entered. A generator that waits
    # inside a `try` also continues inside it.
    answer: R | None = None
    while True:
        try:
            while True:
                answer = function((yield answer))
        except GeneratorExit:
            return
        except BaseException as error:  # the multi raises it when libcurl has returned
            raised.append(error)
            answer = failed
