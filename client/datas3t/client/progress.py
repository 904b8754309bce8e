"""Progress callbacks."""

import time
from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], object]
"""A callback `progress(phase, current, total)`.

It is called in the thread that called the method: at the start of each phase, at its end, and now and then in between.
Within a phase `current` never decreases. The unit is bytes unless the method says otherwise.
"""

_MIN_INTERVAL = 0.05  # seconds between two calls; a progress bar needs no more, and each call delays the transfer


class Reporter:
    """Reports one phase to a callback, and begins by reporting its start.

    Args:
        callback: The callback; None to report nothing.
        phase: The name of the phase.
        total: The value of `current` at its end.
        current: What is done already.
    """

    def __init__(self, callback: Progress | None, phase: str, total: int, current: int = 0) -> None:
        self._callback = callback
        self._phase = phase
        self._total = total
        self._current = current
        self._last_call = 0.0
        self._call()

    def update(self, current: int) -> None:
        """Report that `current` of the total is done. Less than reported before is ignored."""
        current = min(current, self._total)
        if current <= self._current:
            return
        self._current = current
        if current == self._total or time.monotonic() - self._last_call >= _MIN_INTERVAL:
            self._call()

    def done(self) -> None:
        """Report the end of the phase."""
        self.update(self._total)

    def _call(self) -> None:
        self._last_call = time.monotonic()
        if self._callback is not None:
            self._callback(self._phase, self._current, self._total)
