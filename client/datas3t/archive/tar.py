"""Walks an archive: checks every rule of the format and makes the index. Contents are skipped, never read."""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from datas3t.archive import ArchiveError, header, names
from datas3t.archive.header import Read, check_entry
from datas3t.archive.index import BLOCK, END_SIZE, RECORD

__all__ = ["Contents", "check_end", "check_entry", "scan", "scan_file"]

Progress = Callable[[int, int], None]
Bulk = Callable[[int, int], tuple[bytes, int]]
"""From a position and the key expected there: the records it can vouch for, and where they end."""

_CHUNK = 4 << 20
_LOOK_FIRST = 1_000  # entries by which to judge whether the rest is worth numpy
_LARGE = 12 << 10  # a content that is quicker to skip than to read
_WORTH = 30_000  # entries: numpy takes 0.2 s to import
_MANY = 500  # entries that take as long one by one as the bulk reader takes to find none
_WIDER = 8  # times the piece before
_LONGEST_PAUSE = 4_096  # entries, before the bulk reader is asked again


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive holds. `entries_end` is where the end marker starts; sizes are bytes. The index is empty here if
    it went into a file."""

    first_key: int
    count: int
    entries_end: int
    archive_size: int
    index: bytes

    @property
    def last_key(self) -> int:
        """The key of the last datapoint."""
        return self.first_key + self.count - 1


def scan_file(
    source: str | os.PathLike[str] | int, *, first_key: int | None = None, progress: Progress | None = None
) -> Contents:
    """Checks a whole archive in a file, by path or descriptor. Raises ArchiveError, or OSError.

    Memory: some 50 MB however large the archive is, and 16 bytes per datapoint. `progress` gets bytes done and in all.
    """
    with _opened(source) as fd:
        size = os.fstat(fd).st_size
        read = _reader(fd, size)
        window = _Window(read, size, wide=_CHUNK, narrow=4 * BLOCK, large=_LARGE)
        return _Walk(window.read, size, first_key, progress).run(lambda mean: _bulk(fd, size, mean))


def scan(
    read: Read,
    size: int,
    *,
    first_key: int | None = None,
    wide: int = 8 << 20,
    large: int = 1_600_000,
    into: IO[bytes] | None = None,
) -> Contents:
    """Checks a whole archive that is read by ranges, as from S3. Raises ArchiveError, and what `read` raises.

    It asks for `wide` bytes at once, but behind a content larger than `large` only for a header: a content is worth
    skipping if it takes longer than another request. The index is written `into` a file where there is one: then memory
    is the same for any number of datapoints.
    """
    window = _Window(read, size, wide=wide, narrow=8 * BLOCK, large=large)
    return _Walk(window.read, size, first_key, None, into).run(None)


def check_end(read: Read, entries_end: int, size: int) -> None:
    """Checks that from where the entries end all is zeros, at least an end marker. Raises ArchiveError."""
    if entries_end + END_SIZE > size:
        raise ArchiveError(f"the archive has {size} bytes, but its end marker ends at byte {entries_end + END_SIZE}")
    for start in range(entries_end, size, _CHUNK):
        piece = read(start, min(start + _CHUNK, size))
        if piece.count(0) != len(piece):
            at = start + len(piece) - len(piece.lstrip(b"\0"))
            raise ArchiveError(f"byte {at} lies behind the archive's end marker but is not zero")


class _Walk:
    """From entry to entry; keys must follow one another."""

    def __init__(
        self,
        read: Read,
        size: int,
        first_key: int | None,
        progress: Progress | None,
        into: IO[bytes] | None = None,
    ) -> None:
        self._read = read
        self._size = size
        self._announced = first_key
        self._progress = progress
        self._made = io.BytesIO()  # hands out what it holds without a copy
        self._index = self._made if into is None else into
        self._first: int | None = None
        self._count = 0
        self._position = 0

    def run(self, make_bulk: Callable[[float], Bulk] | None) -> Contents:
        if self._size == 0:
            raise ArchiveError("the archive is empty: it has no byte")
        bulk: Bulk | None = None
        until, pause = _LOOK_FIRST, 1
        while self._step():
            if make_bulk is None or self._count < until:
                continue
            if bulk is None and not self._worth_bulk():
                until = 2 * self._count
                continue
            bulk = bulk or make_bulk(self._position / self._count)
            pause = 1 if self._take(bulk) >= _MANY else min(2 * pause, _LONGEST_PAUSE)
            until = self._count + pause
        return self._finish()

    def _step(self) -> bool:
        """One entry by the scalar reader; False at the end marker."""
        found = header.read_entry(self._read, self._position, self._size)
        if found is None:
            return False
        entry, key, extension = found
        expected = self._announced if self._first is None else self._first + self._count
        if expected is not None and key != expected:
            raise ArchiveError(_out_of_order(names.entry_name(key, extension), expected, self._count))
        if self._first is None:
            self._first = key
        self._index.write(RECORD.pack(entry.position, entry.header_blocks, entry.size >> 32, entry.size & 0xFFFFFFFF))
        self._count += 1
        self._position = entry.stop
        if self._progress and not self._count % _LOOK_FIRST:
            self._progress(self._position, self._size)
        return True

    def _take(self, bulk: Bulk) -> int:
        """As much as the bulk reader vouches for; how many entries that is."""
        before = self._count
        while True:
            assert self._first is not None
            records, position = bulk(self._position, self._first + self._count)
            if not records:
                return self._count - before
            self._index.write(records)
            self._count += len(records) // RECORD.size
            self._position = position
            if self._progress:
                self._progress(position, self._size)

    def _worth_bulk(self) -> bool:
        mean = self._position / self._count
        return (self._size - self._position) / mean > _WORTH

    def _finish(self) -> Contents:
        if self._first is None:
            raise ArchiveError("the archive is empty: it has an end marker but no entry")
        if self._size % BLOCK:
            raise ArchiveError(f"the archive has {self._size} bytes, which is no multiple of {BLOCK}")
        check_end(self._read, self._position, self._size)
        if self._progress:
            self._progress(self._size, self._size)
        return Contents(self._first, self._count, self._position, self._size, self._made.getvalue())


class _Window:
    """Reads ahead: wide pieces while contents are small; behind a large one a narrow piece, then wider ones again."""

    def __init__(self, read: Read, size: int, *, wide: int, narrow: int, large: int) -> None:
        self._read = read
        self._size = size
        self._wide = wide
        self._narrow = narrow
        self._large = large
        self._width = wide
        self._start = 0
        self._piece = b""
        self._asked = 0  # where what was asked for last ends

    def read(self, start: int, stop: int) -> bytes:
        offset = start - self._start
        if offset < 0 or stop > self._start + len(self._piece):
            if self._piece:
                skipped = start - self._asked > self._large
                self._width = self._narrow if skipped else min(_WIDER * self._width, self._wide)
            self._start = start
            self._piece = b""  # one in memory is enough
            self._piece = self._read(start, max(stop, min(start + self._width, self._size)))
            offset = 0
        self._asked = stop
        return self._piece[offset : offset + stop - start]


@contextmanager
def _opened(source: str | os.PathLike[str] | int) -> Iterator[int]:
    if isinstance(source, int):
        yield source
        return
    fd = os.open(Path(source), os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _reader(fd: int, size: int) -> Read:
    def read(start: int, stop: int) -> bytes:
        piece = os.pread(fd, stop - start, start)
        if len(piece) != stop - start:
            raise ArchiveError(f"the file became shorter than {size} bytes while it was read")
        return piece

    return read


def _bulk(fd: int, size: int, mean: float) -> Bulk:
    from datas3t.archive.bulk import Bulk as Numpy  # noqa: PLC0415 - numpy takes 0.2 s to import

    return Numpy(fd, size, mean).take


def _out_of_order(name: str, expected: int, count: int) -> str:
    if count == 0:
        return f"the first entry is {name!r}, but the first key was announced as {expected}"
    return f"entry {name!r} follows key {expected - 1}: keys must ascend one by one, without gap or repeat"
