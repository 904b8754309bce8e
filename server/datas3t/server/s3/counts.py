"""Counters of calls to S3 and of signed URLs, for the metrics."""

import itertools
import re
import threading
from collections import Counter

_MAX_COUNTS = 500  # S3 has some 100 codes, but a server that is not S3 may send any number of them
_CODE = re.compile(r"[A-Za-z0-9.]{1,64}")


class CallCounts:
    """Numbers of finished calls to S3, by operation (such as "GetObject") and code ("200", "NoSuchKey", "unreachable").

    Codes that are not in the form of S3's, and new codes when there are too many, are counted as "other".
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, operation: str, code: str) -> None:
        """Count a finished call."""
        with self._lock:
            is_new = (operation, code) not in self._counts
            if is_new and (len(self._counts) >= _MAX_COUNTS or not _CODE.fullmatch(code)):
                code = "other"
            self._counts[operation, code] += 1

    def read(self) -> dict[tuple[str, ...], float]:
        """Return the counts so far."""
        with self._lock:
            return {labels: float(count) for labels, count in self._counts.items()}


class Count:
    """A number that many threads add 1 to, in 30 ns and without a lock: `next` on an iterator in C is atomic."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self.add = self._numbers.__next__
        self._reads = 0
        self._lock = threading.Lock()

    def read(self) -> int:
        """Return how often `add` was called."""
        with self._lock:
            self._reads += 1  # reading takes a number as well
            return self.add() + 1 - self._reads


COUNTS = CallCounts()
SIGNED = {"GET": Count(), "PUT": Count()}  # URLs that clients got, by method
