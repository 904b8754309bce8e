"""Progress callbacks: called with (phase, current, total), from one thread, never backwards within a phase."""

import time
from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], object]

_INTERVAL = 0.05  # seconds between calls: a bar needs no more, and a callback costs the transfer


class Reporter:
    """Tells a callback, if there is one, how far a phase is: its start, its end, and now and then between them."""

    def __init__(self, callback: Progress | None, phase: str, total: int, current: int = 0) -> None:
        self._callback = callback
        self._phase = phase
        self._total = total
        self._current = current
        self._told = 0.0
        self._tell()

    def at(self, current: int) -> None:
        """`current` of the total is done; less than before changes nothing."""
        current = min(current, self._total)
        if current <= self._current:
            return
        self._current = current
        if current == self._total or time.monotonic() - self._told >= _INTERVAL:
            self._tell()

    def done(self) -> None:
        """All of it is done."""
        self.at(self._total)

    def _tell(self) -> None:
        self._told = time.monotonic()
        if self._callback is not None:
            self._callback(self._phase, self._current, self._total)
