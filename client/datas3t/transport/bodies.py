"""Bodies: where the bytes of a PUT come from (`Body`), and where the bytes of a GET go (`Sink`)."""

import os
from collections.abc import Sequence
from typing import Protocol

_MAX_VECTORS = 1024  # pieces per pwritev; Linux and macOS accept no more (IOV_MAX)


class Sink(Protocol):
    """Receives the bytes of a GET in order. A retried request continues where the last piece ended."""

    def __call__(self, offset: int, pieces: Sequence[bytes], /) -> None:
        """Store consecutive pieces. The first one begins `offset` bytes after the start of the request's range."""


class FileSink:
    """Writes the bytes of a GET into an open file, beginning at position `start` of the file."""

    __slots__ = ("_fd", "_start")

    def __init__(self, fd: int, start: int) -> None:
        self._fd = fd
        self._start = start

    def __call__(self, offset: int, pieces: Sequence[bytes | memoryview], /) -> None:
        """Write the pieces to their place in the file."""
        position = self._start + offset
        for first in range(0, len(pieces), _MAX_VECTORS):
            position = _write(self._fd, pieces[first : first + _MAX_VECTORS], position)


def _write(fd: int, pieces: Sequence[bytes | memoryview], position: int) -> int:
    """Write all pieces from `position` on, and return the position after the last byte."""
    end = position + sum(map(len, pieces))
    position += os.pwritev(fd, pieces, position)
    # A signal or a nearly full disk can end the call early.
    if position < end:
        rest = memoryview(b"".join(pieces))[position - end :]
        while rest:
            written = os.pwrite(fd, rest, position)
            position, rest = position + written, rest[written:]
    return end


class MemorySink:
    """Copies the bytes of a GET into existing memory, such as a part of a larger buffer."""

    __slots__ = ("_view",)

    def __init__(self, view: memoryview) -> None:
        self._view = view

    def __call__(self, offset: int, pieces: Sequence[bytes], /) -> None:
        """Copy the pieces to their place in the memory."""
        for piece in pieces:
            self._view[offset : offset + len(piece)] = piece
            offset += len(piece)


class Body(Protocol):
    """The bytes that a PUT sends. They are read again from the start when the request is retried."""

    size: int

    def read(self, start: int, stop: int, /) -> bytes:
        """Return bytes `start` to `stop`, or fewer from `start` on; b"" if the source has become shorter."""
        ...


class FileRange:
    """A range of an open file as the body of a PUT, read from the file while it is sent."""

    __slots__ = ("_fd", "_start", "size")

    def __init__(self, fd: int, positions: range) -> None:
        self._fd = fd
        self._start = positions.start
        self.size = len(positions)

    def read(self, start: int, stop: int, /) -> bytes:
        """Return bytes `start` to `stop` of the range, or fewer if the file has become shorter."""
        return os.pread(self._fd, stop - start, self._start + start)


class MemoryRange:
    """Bytes in memory, or in a mapped file, as the body of a PUT."""

    __slots__ = ("_view", "size")

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._view = memoryview(data).cast("B")
        self.size = len(self._view)

    def read(self, start: int, stop: int, /) -> bytes:
        """Return bytes `start` to `stop`."""
        return bytes(self._view[start:stop])
