"""The content of a datapoint, as `append` takes it: bytes, or a binary file that is read piece by piece."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol

from datas3t.client.errors import InvalidArgument

PIECE = 1 << 20  # bytes of a file that are read at a time


class Readable(Protocol):
    """A binary file: `read` returns at most so many bytes, and b"" at the end."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""
        ...


Content = bytes | bytearray | memoryview | Readable


class Pieces:
    """The bytes of a content.

    Attributes:
        first: The first bytes.
        whole: Whether these are all.
    """

    def __init__(self, content: Content) -> None:
        """Read the first bytes.

        Raises:
            InvalidArgument: The content is neither bytes nor a binary file.
        """
        self._file: Readable | None = None
        self._start: int | None = None  # where the file was
        if isinstance(content, (bytes, bytearray, memoryview)):
            self.first: bytes | memoryview = content if isinstance(content, bytes) else _flat(content)
            self.whole = True
        elif callable(getattr(content, "read", None)):
            self._file = content
            with suppress(AttributeError, OSError, ValueError):  # it cannot be rewound
                self._start = content.tell() if content.seekable() else None  # type: ignore[attr-defined]
            self.first = b"".join(self._pieces(PIECE))
            self.whole = len(self.first) < PIECE
        else:
            raise InvalidArgument(
                f"the content is {type(content).__name__}; give bytes, or a file that is open as binary"
            )

    def rest(self) -> Iterator[bytes]:
        """Yield the bytes after the first ones."""
        return self._pieces(None)

    def rewind(self) -> None:
        """Bring the file back to where it was, if that is possible, so that it can be appended again."""
        if self._file is not None and self._start is not None:
            with suppress(OSError, ValueError):
                self._file.seek(self._start)  # type: ignore[attr-defined]

    def _pieces(self, limit: int | None) -> Iterator[bytes]:
        """Yield the next bytes of the file, up to its end or the limit."""
        assert self._file is not None
        left = PIECE if limit is None else limit
        while left and (piece := self._file.read(min(left, PIECE))):
            if not isinstance(piece, (bytes, bytearray, memoryview)):
                raise InvalidArgument("the content is a file that is open as text; open it as binary")
            if limit is not None:
                left -= len(piece)
            yield bytes(piece)


def _flat(content: bytearray | memoryview) -> memoryview:
    try:
        return memoryview(content).cast("B")
    except TypeError:
        raise InvalidArgument("the content is a memoryview with gaps; give its bytes") from None
