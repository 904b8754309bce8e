"""A datapoint as an open file."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class OpenDatapoint(io.BufferedReader):
    """A datapoint as a file that can be read and sought, and reads ahead.

    Attributes:
        key: Its key.
        size: The size of its content in bytes.
    """

    def __init__(self, key: int, name: str, size: int, read: Callable[[int, int], bytes], block_size: int) -> None:
        super().__init__(_Raw(name, size, read), block_size)
        self.key = key
        self.size = size


class _Raw(io.RawIOBase):
    """Reads bytes of one content, as they are asked for."""

    def __init__(self, name: str, size: int, read: Callable[[int, int], bytes]) -> None:
        self.name = name
        self._size, self._read, self._at = size, read, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place in the content, or behind it, and return it."""
        if whence not in (io.SEEK_SET, io.SEEK_CUR, io.SEEK_END):
            raise ValueError(f"whence must be 0, 1 or 2, but is {whence}")
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if at < 0:
            raise ValueError(f"place {at} is before the start")
        self._at = at
        return at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def readall(self) -> bytes:
        """Return all bytes from the place on; the base class would read some kilobytes at a time."""
        start, self._at = self._at, max(self._at, self._size)
        return self._read(start, self._size) if start < self._size else b""

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read bytes into the buffer, and return how many; 0 at the end."""
        with memoryview(buffer).cast("B") as view:
            count = max(0, min(len(view), self._size - self._at))
            if count:
                view[:count] = self._read(self._at, self._at + count)
        self._at += count
        return count
