"""How many calls went to S3, for the metrics."""

import threading
from collections import Counter


class CallCounts:
    """How many calls to S3 ended, by operation (such as "GetObject") and code ("200", "NoSuchKey", "unreachable")."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, operation: str, code: str) -> None:
        """Count a call."""
        with self._lock:
            self._counts[operation, code] += 1

    def read(self) -> dict[tuple[str, ...], float]:
        """Return the counts so far."""
        with self._lock:
            return {labels: float(count) for labels, count in self._counts.items()}


COUNTS = CallCounts()
