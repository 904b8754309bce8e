"""Exceptions at every line of a package in turn, as a signal handler can raise them, and at random moments."""

import gc
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self, TypeAlias

Place: TypeAlias = tuple[str, int, int]
"""A file, a line in it, and how often the line has run before."""


class Interrupted(BaseException):
    """What the tests' signal handlers raise. No `except Exception` catches it."""


class InterruptedByError(Exception):
    """What handlers of other programs raise, such as TimeoutError. pycurl drops it where it passes on Interrupted."""


class Injector:
    """Raises `kind` at one place in the files of a folder, or only notes the places that the block passes."""

    def __init__(self, folder: Path, at: Place | None = None, kind: type[BaseException] = Interrupted) -> None:
        self.passed: Counter[tuple[str, int]] = Counter()
        self._folder = str(folder)
        self._at = at
        self._kind = kind

    def __enter__(self) -> Self:
        sys.settrace(self._trace)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(self._folder):
            return None
        if event == "line":
            line = (frame.f_code.co_filename, frame.f_lineno)
            # What a generator raises while it is collected reaches no caller: Python prints it.
            collected = isinstance(sys.exception(), GeneratorExit)
            if (*line, self.passed[line]) == self._at and not collected:
                raise self._kind(f"{frame.f_code.co_filename}:{frame.f_lineno}")
            self.passed[line] += 1
        return self._trace


def places(folder: Path, operation: Callable[[], object], *, more: bool = False) -> Iterator[Place]:
    """Yield the places of a folder that an operation passes: each line the first time that it runs.

    With `more`, also the last time. Lines run in the order of events on the network, so another run may not pass all
    of them.
    """
    with Injector(folder) as noted:
        operation()
    for (name, line), times in sorted(noted.passed.items()):
        yield name, line, 0
        if more and times > 1:
            yield name, line, times - 1


class Alarms:
    """Signals whose handler raises Interrupted, one for each `with` block, after a random time of at most `seconds`.

    `fired` says whether the handler of the last block has run.
    """

    def __init__(self, seed: int, seconds: float) -> None:
        self.fired = False
        self._random = random.Random(seed)
        self._seconds = seconds
        self._before: Any = None

    def __enter__(self) -> None:
        self.fired = False
        gc.disable()  # what a handler raises in a callback of the collector, such as hypothesis's, reaches no caller
        self._before = signal.signal(signal.SIGALRM, self._fire)
        signal.setitimer(signal.ITIMER_REAL, self._random.uniform(1e-5, self._seconds))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Whatever is raised from here on comes after the operation.
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)
        gc.enable()

    def _fire(self, _signal: int, _frame: object) -> None:
        self.fired = True
        raise Interrupted
