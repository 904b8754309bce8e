"""How far a transfer of many files is: counted by several threads, reported by one."""

import threading

from datas3t.client.progress import Progress


class Counts:
    """What was done, and what there is to do.

    Args:
        phase: The name of the phase that counts bytes.
        progress: Is called with that phase, and with "files".

    Attributes:
        size: How many bytes were moved.
        files: How many files are done.
    """

    def __init__(self, phase: str, progress: Progress | None) -> None:
        self.size = self.files = 0
        self._phase = phase
        self._progress = progress
        self._lock = threading.Lock()
        self._reported = (-1, -1, -1, -1)

    def add(self, *, size: int = 0, files: int = 0) -> None:
        """Add what was done; `size` is negative for bytes that have to be moved again."""
        with self._lock:
            self.size += size
            self.files += files

    def report(self, size: int, files: int) -> None:
        """Report what was done of `size` bytes and `files` files. What was reported before never decreases."""
        if self._progress is None:
            return
        before = self._reported
        now = (
            max(before[0], min(self.size, size)),
            max(before[1], size),
            max(before[2], min(self.files, files)),
            max(before[3], files),
        )
        if now[:2] != before[:2]:
            self._progress(self._phase, now[0], now[1])
        if now[2:] != before[2:]:
            self._progress("files", now[2], now[3])
        self._reported = now
