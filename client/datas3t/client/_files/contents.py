"""The bytes of an archive, made from the files while they are sent: headers, contents, padding, and checksums."""

import os
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from datas3t.archive import write
from datas3t.archive.checksums import crc
from datas3t.archive.index import BLOCK
from datas3t.archive.joined_crc import joined
from datas3t.archive.layout import Layout
from datas3t.client._files.listing import stored_time
from datas3t.client._files.plan import Group
from datas3t.client.errors import FileError

_PIECE = 1 << 20  # bytes that are made at a time
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # opening a pipe would wait for a writer
_ZEROS = bytes(BLOCK)


class Contents:
    """The archive of a group of files.

    Attributes:
        layout: Where everything is in it.
    """

    def __init__(self, group: Group, bases: Sequence[bytes], first: int) -> None:
        self.layout = Layout(first, group.sizes, group.kinds, group.extensions)
        self._group = group
        self._bases = bases
        self._crcs = np.zeros(len(group.names), np.uint32)
        # Of contents that several parts have: for each content and each of its pieces, by offset, the CRC and the size.
        self._pieces: dict[int, dict[int, tuple[int, int]]] = {}
        self._parts: dict[int, tuple[int, int]] = {}  # by position, the CRC and the size of each part

    def part(self, positions: range) -> "Part":
        """Return a part of the archive, as the body of a request."""
        return Part(self, positions)

    def crcs(self) -> NDArray[np.uint32]:
        """Return the CRC-32C of each content, when all parts have been read."""
        for number, pieces in self._pieces.items():
            self._crcs[number] = _joined(pieces)
        return self._crcs

    def crc(self) -> int | None:
        """Return the CRC-32C of the whole archive, or None if not all parts have been read."""
        is_whole = sum(size for _, size in self._parts.values()) == self.layout.size
        return _joined(self._parts) if is_whole else None

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes of a part, from `start` up to `stop`, some at a time.

        Raises:
            FileError: A file cannot be read, or changed since it was listed.
        """
        value, at = 0, start
        for piece in self._made(start, stop):
            value = crc(piece, value)
            at += len(piece)
            if at == stop:  # nobody may ask for more
                self._parts[start] = value, stop - start
            yield piece

    def _made(self, start: int, stop: int) -> Iterator[bytes]:
        starts = self.layout.starts
        number = int(np.searchsorted(starts, start, "right")) - 1
        while start < stop and number < len(self.layout):
            first, last = int(starts[number]), int(starts[number + 1])
            whole = int(np.searchsorted(starts, min(stop, start + _PIECE), "right")) - 1
            if start == first and whole > number:
                yield self._whole(number, whole)
                number = whole
                start = int(starts[number])
            else:
                yield from self._within(number, start - first, min(stop, last) - first)
                number += 1
                start = last
        if start < stop:
            yield bytes(stop - start)  # of the end marker

    def _whole(self, first: int, last: int) -> bytes:
        """Return the entries number `first` up to `last`, small ones."""
        group, crcs = self._group, []
        pieces: list[bytes] = []
        rows = zip(
            self.layout.headers(first, last),
            group.names[first:last],
            group.bases[first:last].tolist(),
            group.sizes[first:last].tolist(),
            group.mtimes[first:last].tolist(),
            strict=True,
        )
        for header, name, base, size, mtime in rows:
            path = self._bases[base] + name
            try:
                fd = os.open(path, _FLAGS)
                try:
                    content = os.read(fd, size + 1)  # one more byte shows that the file has grown
                    status = os.fstat(fd)
                finally:
                    os.close(fd)
            except OSError as error:
                raise _unreadable(path, error) from None
            if len(content) != size or status.st_size != size or stored_time(status.st_mtime_ns) != mtime:
                raise _changed(path)
            crcs.append(crc(content))
            pieces.append(header)
            pieces.append(content)
            if rest := -size % BLOCK:
                pieces.append(_ZEROS[:rest])
        self._crcs[first:last] = crcs
        return b"".join(pieces)

    def _within(self, number: int, start: int, stop: int) -> Iterator[bytes]:
        """Yield a piece of one entry, from byte `start` of the entry up to `stop`."""
        header = self.layout.headers(number, number + 1)[0]
        size = int(self.layout.sizes[number])
        if start < len(header):
            yield header[start:stop]
        content = range(max(start - len(header), 0), min(max(stop - len(header), 0), size))
        if content or (not size and start < len(header) <= stop):
            yield from self._content(number, content, size)
        end = len(header) + size
        if stop > end:
            yield write.padding(size)[max(start - end, 0) : stop - end]

    def _content(self, number: int, positions: range, size: int) -> Iterator[bytes]:
        """Yield a range of one content, and note its CRC before the last piece: nobody may ask for more."""
        path = self._bases[self._group.bases[number]] + self._group.names[number]
        value, at = 0, positions.start
        try:
            fd = os.open(path, _FLAGS)
            try:
                while True:
                    wanted = min(_PIECE, positions.stop - at)
                    piece = os.pread(fd, wanted, at)
                    value = crc(piece, value)
                    at += wanted
                    if at == positions.stop or len(piece) != wanted:
                        break
                    yield piece
                status = os.fstat(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise _unreadable(path, error) from None
        if len(piece) != wanted or not self._is_unchanged(number, status):
            raise _changed(path)
        if len(positions) == size:
            self._crcs[number] = value
        else:
            self._pieces.setdefault(number, {})[positions.start] = value, len(positions)
        yield piece

    def _is_unchanged(self, number: int, status: os.stat_result) -> bool:
        group = self._group
        listed = int(group.sizes[number]), int(group.mtimes[number])
        return (status.st_size, stored_time(status.st_mtime_ns)) == listed


class Part:
    """A part of an archive, as the body of a PUT.

    Attributes:
        size: Its size in bytes.
    """

    __slots__ = ("_at", "_contents", "_piece", "_pieces", "_positions", "_start", "size")

    def __init__(self, contents: Contents, positions: range) -> None:
        self.size = len(positions)
        self._contents = contents
        self._positions = positions
        self._at = 0  # where the present piece begins
        self._piece = b""
        self._pieces: Iterator[bytes] = iter(())
        self._rewind()

    def read(self, start: int, stop: int, /) -> bytes:
        """Return bytes `start` to `stop` of the part, or fewer from `start` on.

        Raises:
            FileError: A file cannot be read, or changed since it was listed.
        """
        if start < self._at:
            self._rewind()
        while start >= self._at + len(self._piece):
            self._at += len(self._piece)
            if (piece := next(self._pieces, None)) is None:
                return b""
            self._piece = piece
        offset = start - self._at
        if not offset and len(self._piece) <= stop - start:
            return self._piece  # without a copy
        return self._piece[offset : offset + stop - start]

    def _rewind(self) -> None:
        self._at, self._piece = 0, b""
        self._pieces = self._contents.pieces(self._positions.start, self._positions.stop)


def _joined(pieces: dict[int, tuple[int, int]]) -> int:
    """Return the CRC of pieces, given by position the CRC and the size of each."""
    whole = 0
    for _, (value, size) in sorted(pieces.items()):
        whole = joined(whole, value, size)
    return whole


def _unreadable(path: bytes, error: OSError) -> FileError:
    return FileError(f"{os.fsdecode(path)} cannot be read: {error.strerror}")


def _changed(path: bytes) -> FileError:
    return FileError(f"{os.fsdecode(path)} changed while it was pushed; push again when nothing writes to it")
