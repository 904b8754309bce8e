"""What was used last, up to a number of bytes."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Values by key, of which the ones that were used least recently are dropped when they are too large together.

    Safe to use from many threads and after a fork, without a lock: what two threads do at once may be done again later.

    Args:
        limit: How many bytes the values may have. One value is kept however large it is.
        size_of: Returns the size of a value, in bytes.
    """

    def __init__(self, limit: int, size_of: Callable[[Value], int]) -> None:
        self._limit = limit
        self._size_of = size_of
        self._values: dict[Key, Value] = {}  # the least recently used first
        self.size = 0

    def __len__(self) -> int:
        """Return the number of values."""
        return len(self._values)

    def get(self, key: Key) -> Value | None:
        """Return a value, or None; it is then the one that was used last."""
        value = self._values.pop(key, None)
        if value is not None:
            self._values[key] = value
        return value

    def put(self, key: Key, value: Value) -> None:
        """Keep a value, and drop others that do not fit any more."""
        before = self._values.pop(key, None)
        self._values[key] = value
        self.size += self._size_of(value) - (self._size_of(before) if before is not None else 0)
        while self.size > self._limit and len(self._values) > 1:
            try:
                oldest = next(iter(self._values))
            except (RuntimeError, StopIteration):  # another thread has changed them
                continue
            removed = self._values.pop(oldest, None)
            if removed is not None:
                self.size -= self._size_of(removed)
