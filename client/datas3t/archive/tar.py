"""Check every rule of the format in an archive, and make its index.

Contents are skipped, unless their checksums are wanted: then the archive is read once, from start to end.
"""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from datas3t.archive import ArchiveError, header, names
from datas3t.archive.header import Read, check_entry
from datas3t.archive.index import BLOCK, END_SIZE, RECORD
from datas3t.archive.sums import Sums

__all__ = ["Contents", "check_end", "check_entry", "scan", "scan_file"]

Progress = Callable[[int, int], None]
Bulk = Callable[[int, int], tuple[bytes, int]]
"""A function that takes a position and the key expected there.

It returns the records of the plain entries that start there, possibly none, and the byte after the last one.
"""

_CHUNK = 4 << 20  # bytes of a file that are read at once
_SAMPLE = 1_000  # entries read one by one before the bulk reader is considered, and between calls of `progress`
_LARGE = 12 << 10  # bytes of content from which seeking to the next header is faster than reading on
_AFTER_BULK = 64 << 10  # bytes that are read first where the bulk reader has stopped, if nothing is skipped
_LARGE_SUMMED = 64 << 10  # bytes of the mean entry up to which the bulk reader makes checksums
_NUMPY_FROM = 30_000  # entries from which the bulk reader saves more than the 0.2 s to import numpy
_BREAK_EVEN = 500  # entries that take as long one by one as one call of the bulk reader
_MAX_PAUSE = 4_096  # the maximum number of entries to read one by one before the bulk reader is tried again
_GROWTH = 8  # how many times larger each piece is than the one before, until they are of full width


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive contains.

    Attributes:
        first_key: The key of the first datapoint.
        count: The number of datapoints.
        entries_end: The byte at which the end marker starts.
        archive_size: The size of the archive in bytes.
        index: The records of the index. Empty if the index was written to a file.
        checksums: The records of the checksums. This and the next two are made only if they are asked for.
        crc: The CRC-32C of the whole archive.
        extension: The extension that all entries have; empty if they have different ones.
    """

    first_key: int
    count: int
    entries_end: int
    archive_size: int
    index: bytes
    checksums: bytes = b""
    crc: int = 0
    extension: str = ""

    @property
    def last_key(self) -> int:
        """The key of the last datapoint."""
        return self.first_key + self.count - 1


def scan_file(
    source: str | os.PathLike[str] | int,
    *,
    first_key: int | None = None,
    progress: Progress | None = None,
    checksums: bool = False,
) -> Contents:
    """Check a whole archive in a file.

    Memory: about 50 MB for an archive of any size, and 16 bytes per datapoint, or 20 with checksums.

    Args:
        source: The path of the file, or an open descriptor, which is left open.
        first_key: The key that the first datapoint must have. None accepts any.
        progress: Called with the bytes that are checked and the size of the archive.
        checksums: Whether to read all contents as well, and make their checksums.

    Raises:
        ArchiveError: The archive breaks a rule of the format; the message names the place and the rule.
        OSError: The file cannot be read.

    Example:
        >>> contents = scan_file("photos.tar")
        >>> contents.first_key, contents.count, contents.archive_size
        (1, 2450, 99421184)
    """
    with _opened(source) as fd:
        size = os.fstat(fd).st_size
        read = _reader(fd, size)
        if checksums:  # nothing is skipped but what the bulk reader has read
            sums = Sums()
            window = _Window(read, size, wide=_CHUNK, narrow=_AFTER_BULK, large=0)
        else:
            sums = None
            window = _Window(read, size, wide=_CHUNK, narrow=4 * BLOCK, large=_LARGE)
        walk = _Walk(window, size, first_key, progress, sums=sums)
        return walk.run(lambda mean: _bulk(fd, size, mean, sums))


def scan(
    read: Read,
    size: int,
    *,
    first_key: int | None = None,
    wide: int = 8 << 20,
    large: int = 1_600_000,
    into: IO[bytes] | None = None,
    checksums: bool = False,
) -> Contents:
    """Check a whole archive that is read by byte ranges, for example from S3.

    Args:
        read: Reads the archive.
        size: The size of the archive in bytes.
        first_key: The key that the first datapoint must have. None accepts any.
        wide: The bytes to read at once.
        large: The bytes of content that take longer to read than one more request. After a larger content, only a
            header is read.
        into: A file to which the index is written. Without it the index is returned, and memory grows with the number
            of datapoints.
        checksums: Whether to read all contents as well, and make their checksums.

    Raises:
        ArchiveError: The archive breaks a rule of the format; the message names the place and the rule.
        Exception: Any exception that `read` raises.
    """
    window = _Window(read, size, wide=wide, narrow=8 * BLOCK, large=large)
    return _Walk(window, size, first_key, None, into, Sums() if checksums else None).run(None)


def check_end(read: Read, entries_end: int, size: int) -> None:
    """Raise ArchiveError unless an end marker follows the entries, and zeros to the end of the archive.

    Args:
        read: Reads the archive.
        entries_end: The byte after the last entry.
        size: The size of the archive in bytes.
    """
    if entries_end + END_SIZE > size:
        raise ArchiveError(
            f"the archive has {size} bytes, but its end marker would end at byte {entries_end + END_SIZE}"
        )
    for start in range(entries_end, size, _CHUNK):
        piece = read(start, min(start + _CHUNK, size))
        if piece.count(0) != len(piece):
            at = start + len(piece) - len(piece.lstrip(b"\0"))
            raise ArchiveError(f"byte {at} is after the archive's end marker but is not zero")


class _Walk:
    """Reads entry after entry; their keys must be consecutive."""

    def __init__(
        self,
        window: "_Window",
        size: int,
        first_key: int | None,
        progress: Progress | None,
        into: IO[bytes] | None = None,
        sums: Sums | None = None,
    ) -> None:
        self._window = window
        self._read = window.read
        self._sums = sums
        self._size = size
        self._expected_first = first_key
        self._progress = progress
        self._in_memory = io.BytesIO()  # getvalue() returns its content without a copy
        self._index = self._in_memory if into is None else into
        self._first: int | None = None
        self._count = 0
        self._position = 0

    def run(self, make_bulk: Callable[[float], Bulk] | None) -> Contents:
        """Check the archive.

        Args:
            make_bulk: Makes the bulk reader for a mean size of entries. None reads all entries one by one.
        """
        if self._size == 0:
            raise ArchiveError("the archive is empty: it has 0 bytes")
        bulk: Bulk | None = None
        bulk_at, pause = _SAMPLE, 1  # the count at which to try the bulk reader next, and the entries until then
        while self._read_one():
            if make_bulk is None or self._count < bulk_at:
                continue
            if bulk is None and not self._is_bulk_worthwhile():
                bulk_at = 2 * self._count
                continue
            # Where entries are not plain, the bulk reader is tried less and less often.
            bulk = bulk or make_bulk(self._position / self._count)
            pause = 1 if self._read_many(bulk) >= _BREAK_EVEN else min(2 * pause, _MAX_PAUSE)
            bulk_at = self._count + pause
        return self._finish()

    def _read_one(self) -> bool:
        """Read one entry with the reference reader. Return False at the end marker."""
        named = header.read_entry(self._read, self._position, self._size)
        if named is None:
            return False
        entry, key, extension = named
        expected = self._expected_first if self._first is None else self._first + self._count
        if expected is not None and key != expected:
            raise ArchiveError(_out_of_order(names.entry_name(key, extension), expected, self._count))
        if self._first is None:
            self._first = key
        self._index.write(RECORD.pack(entry.position, entry.header_blocks, entry.size >> 32, entry.size & 0xFFFFFFFF))
        self._count += 1
        self._position = entry.stop
        if self._sums is not None:
            self._sums.add_extension(extension)
            self._sums.add_entry(entry, self._window.some)
        if self._progress and not self._count % _SAMPLE:
            self._progress(self._position, self._size)
        return True

    def _read_many(self, bulk: Bulk) -> int:
        """Read as many entries as the bulk reader can, and return their number."""
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

    def _is_bulk_worthwhile(self) -> bool:
        mean = self._position / self._count
        if self._sums is not None and mean > _LARGE_SUMMED:
            return False  # most of the time is for the contents
        return (self._size - self._position) / mean > _NUMPY_FROM

    def _finish(self) -> Contents:
        """Check what follows the entries, and return the result."""
        if self._first is None:
            raise ArchiveError("the archive is empty: it has an end marker but no entry")
        if self._size % BLOCK:
            raise ArchiveError(f"the archive has {self._size} bytes, which is not a multiple of {BLOCK}")
        check_end(self._read, self._position, self._size)
        if self._progress:
            self._progress(self._size, self._size)
        contents = Contents(self._first, self._count, self._position, self._size, self._in_memory.getvalue())
        if self._sums is None:
            return contents
        self._sums.add_bytes(self._position, self._size, self._window.some)
        return replace(contents, checksums=self._sums.records, crc=self._sums.crc, extension=self._sums.extension)


class _Window:
    """Reads ahead, so that many headers need few reads.

    Pieces are wide while contents are small. After a large content, which is skipped, a narrow piece is read first.
    """

    def __init__(self, read: Read, size: int, *, wide: int, narrow: int, large: int) -> None:
        self._read = read
        self._size = size
        self._wide = wide
        self._narrow = narrow
        self._large = large
        self._width = wide
        self._start = 0
        self._piece = b""
        self._last_stop = 0  # the end of the range that was requested last

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` up to `stop`, from the current piece or a new one."""
        offset = start - self._start
        if offset < 0 or stop > self._start + len(self._piece):
            self._load(start, stop)
            offset = 0
        self._last_stop = stop
        return self._piece[offset : offset + stop - start]

    def some(self, start: int, stop: int) -> memoryview:
        """Return the bytes from `start` on that the current piece has, or a new one, at most up to `stop`.

        They are not copied, and must be released before the next call.
        """
        offset = start - self._start
        if not 0 <= offset < len(self._piece):
            self._load(start, start)
            offset = 0
        body = memoryview(self._piece)[offset : offset + stop - start]
        self._last_stop = start + len(body)
        return body

    def _load(self, start: int, stop: int) -> None:
        """Read a new piece from `start`, at least up to `stop`."""
        if self._piece:
            skipped = start - self._last_stop > self._large
            self._width = self._narrow if skipped else min(_GROWTH * self._width, self._wide)
        self._start = start
        self._piece = b""  # freed first, so that only one piece is in memory
        self._piece = self._read(start, max(stop, min(start + self._width, self._size)))


@contextmanager
def _opened(source: str | os.PathLike[str] | int) -> Iterator[int]:
    """Yield a descriptor of the file, and close it if it was opened here."""
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


def _bulk(fd: int, size: int, mean: float, sums: Sums | None) -> Bulk:
    from datas3t.archive.bulk import BulkReader  # noqa: PLC0415 - importing numpy takes 0.2 s

    return BulkReader(fd, size, mean, sums).read


def _out_of_order(name: str, expected: int, count: int) -> str:
    if count == 0:
        return f"the first entry is {name!r}, but the first key must be {expected}"
    return f"entry {name!r} follows key {expected - 1}: keys must be consecutive"
