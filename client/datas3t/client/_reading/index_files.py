"""Windows of the records of indices, or of checksums, from a cache on disk that all processes share, and from S3.

A small object is fetched whole when it is first used. Of a large one, windows of records are fetched until the
requests for them have cost as much as fetching the whole object would. If the cache folder cannot be used or the disk
is full, objects are read from S3 instead: that is slower, and nothing fails.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from datas3t.archive import IndexFormatError, checksums, index, reads
from datas3t.archive.index import RECORD_SIZE
from datas3t.client._reading.fetching import MAX_REQUEST, Fetcher, Piece
from datas3t.client._reading.signed import Kind, SignedDatarange
from datas3t.client.errors import ArchiveError, Datas3tError
from datas3t.local.disk_cache import Cached, DiskCache

MAX_BATCH = 64  # objects that are fetched together; each holds a lock file and so a file descriptor
_SMALL = 256 << 10  # bytes up to which an object is always fetched whole: about what a request costs
_WINDOW_SIZE = 4 << 10  # bytes
_MAX_MERGED = 1 << 20  # bytes of neighbouring windows that are fetched by one request
DISK_WINDOWS = 16  # windows that are read from disk together: 64 KiB
SMALL_WINDOWS = 64  # the windows of the largest of the small objects: 256 KiB

Key: TypeAlias = tuple[int, str, int]  # id of the datarange, ETag of the object, number of the window
Window: TypeAlias = bytes


@dataclass(frozen=True, slots=True)
class Layout:
    """What the records of an object are.

    Attributes:
        kind: The object.
        record_size: The bytes of the record of each datapoint.
    """

    kind: Kind
    record_size: int

    @property
    def window_records(self) -> int:
        """The records in a window."""
        return _WINDOW_SIZE // self.record_size

    def key(self, datarange: SignedDatarange) -> tuple[int, str]:
        """Return what identifies the object of a datarange."""
        return datarange.id, datarange.etag(self.kind)

    def size(self, datarange: SignedDatarange) -> int:
        """Return the bytes of the object of a datarange."""
        return datarange.count * self.record_size

    def is_small(self, datarange: SignedDatarange) -> bool:
        """Return whether the object is always fetched whole."""
        return self.size(datarange) <= _SMALL


INDEX = Layout("index", RECORD_SIZE)
CHECKSUMS = Layout("crc32c", checksums.RECORD_SIZE)


class IndexMismatch(ArchiveError):  # noqa: N818 - named after what is wrong, as its base class is
    """An index contradicts its archive. It is fetched again, once."""

    def __init__(self, datarange: SignedDatarange, detail: str) -> None:
        super().__init__(
            f"the index of datarange {datarange.first} to {datarange.last} does not fit its archive: {detail}"
        )
        self.datarange = datarange


class IndexFiles:
    """The indices of one datas3t, or its checksums, read through a cache in a folder.

    Args:
        folder: The folder, which other processes and datas3ts may share.
        max_size: How many bytes the folder may hold.
        layout: Which objects they are.
    """

    def __init__(self, folder: Path, max_size: int, layout: Layout = INDEX) -> None:
        self._folder = folder
        self._max_size = max_size
        self._layout = layout
        self._disk: DiskCache | None = None
        self._spent: dict[tuple[int, str], float] = {}  # seconds that windows of an index have cost so far
        self._uncacheable: set[tuple[int, str]] = set()  # large indices that could not be written to disk

    def windows(
        self, wanted: Mapping[SignedDatarange, Sequence[int]], fetcher: Fetcher, expected: int, around: int
    ) -> dict[Key, Window]:
        """Return windows of indices, and possibly more windows of the same indices.

        Args:
            wanted: For each datarange the numbers of the windows.
            fetcher: Fetches what is not on disk.
            expected: How many records the caller expects to read in all, now and next; 0 if it does not know.
            around: How many windows are read from disk together.

        Raises:
            IndexMismatch: An index does not fit its archive.
        """
        windows: dict[Key, Window] = {}
        # Read the windows from disk where they are stored.
        missing = [datarange for datarange in wanted if not self._read(datarange, wanted[datarange], windows, around)]
        # Fetch small indices as a whole, to disk or, if they cannot be stored, into memory.
        small = list(filter(self._layout.is_small, missing))
        self._fetch_small(small, fetcher)
        not_stored = [datarange for datarange in small if not self._read(datarange, wanted[datarange], windows, around)]
        for datarange, raw in zip(not_stored, self._fetch_whole(not_stored, fetcher), strict=True):
            windows |= _cut(self._layout.key(datarange), 0, raw)
        # Fetch large indices as a whole to disk if that pays off, otherwise only the windows.
        in_windows = {}
        for datarange in (each for each in missing if not self._layout.is_small(each)):
            fetch_whole = self._should_fetch_whole(datarange, len(wanted[datarange]), fetcher, expected)
            if not fetch_whole or not self._fetch_large(datarange, wanted[datarange], fetcher, windows):
                in_windows[datarange] = wanted[datarange]
        return windows | self._fetch_windows(in_windows, fetcher)

    def prepare(self, dataranges: Sequence[SignedDatarange], fetcher: Fetcher) -> None:
        """Fetch those of the dataranges' small indices that are not on disk, all together."""
        small = filter(self._layout.is_small, dataranges)
        self._fetch_small([datarange for datarange in small if not self._read(datarange, (), {}, 1)], fetcher)

    def forget(self, datarange: SignedDatarange) -> None:
        """Remove an index that turned out to be wrong."""
        with _disk_errors_ignored():
            self._files().remove(self._file_name(datarange))

    def _files(self) -> DiskCache:
        if self._disk is None:
            self._disk = DiskCache(self._folder, self._max_size)
        return self._disk

    def _read(
        self, datarange: SignedDatarange, numbers: Sequence[int], windows: dict[Key, Window], around: int
    ) -> bool:
        """Add windows of an index to `windows` if the index is on disk; return whether it is."""
        with _disk_errors_ignored():
            cached = self._files().find(
                self._file_name(datarange), self._layout.size(datarange), is_valid=self._is_valid
            )
            if cached is not None:
                with cached:
                    windows |= _read_windows(self._layout.key(datarange), cached, numbers, around)
                return True
        return False

    def _should_fetch_whole(self, datarange: SignedDatarange, count: int, fetcher: Fetcher, expected: int) -> bool:
        """Return whether to fetch the whole of a large index now instead of `count` windows.

        Ski-rental rule: read windows until they have cost as much as the whole index. Always False if the cache cannot
        hold it.
        """
        size, costs, key = self._layout.size(datarange), fetcher.costs, self._layout.key(datarange)
        if size > self._max_size or key in self._uncacheable:
            return False
        spent = self._spent.get(key, 0.0) + count * max(costs.per_request, costs.latency)
        if spent >= size * costs.per_byte or 2 * expected >= datarange.count:
            self._spent.pop(key, None)
            return True
        self._spent[key] = spent
        return False

    def _fetch_small(self, dataranges: Sequence[SignedDatarange], fetcher: Fetcher) -> None:
        """Put whole indices on disk, with one batch of requests; wait for those that other processes are fetching."""

        def fetch(numbers: Sequence[int]) -> list[bytes]:
            return self._fetch_whole([dataranges[number] for number in numbers], fetcher)

        files = [(self._file_name(each), self._layout.size(each)) for each in dataranges]
        with _disk_errors_ignored():
            self._files().fill(files, fetch)
            for number, (name, size) in enumerate(files):
                self._files().open(name, size, partial(fetch, [number]), is_valid=self._is_valid).close()

    def _fetch_large(
        self, datarange: SignedDatarange, numbers: Sequence[int], fetcher: Fetcher, windows: dict[Key, Window]
    ) -> bool:
        """Put one whole index on disk, without having all of it in memory, and add windows of it to `windows`.

        Returns:
            Whether it could be written to disk.
        """

        def fetch() -> Iterator[bytes]:
            check, size = self._check(datarange), self._layout.size(datarange)
            for start in range(0, size, MAX_REQUEST):
                stop = min(start + MAX_REQUEST, size)
                starts = range(start, stop, MAX_REQUEST // 4)
                ends = [min(at + MAX_REQUEST // 4, stop) for at in starts]
                pieces = [Piece(datarange, at, end, self._layout.kind) for at, end in zip(starts, ends, strict=True)]
                for raw in fetcher.fetch_all(pieces):
                    check.add(raw)
                    yield raw
            check.finish()

        with _disk_errors_ignored():
            name, size = self._file_name(datarange), self._layout.size(datarange)
            with self._files().open(name, size, fetch, is_valid=self._is_valid) as cached:
                windows |= _read_windows(self._layout.key(datarange), cached, numbers, DISK_WINDOWS)
            return True
        self._uncacheable.add(self._layout.key(datarange))
        return False

    def _fetch_whole(self, dataranges: Sequence[SignedDatarange], fetcher: Fetcher) -> list[bytes]:
        """Return whole objects from S3; indices are checked against their archives."""
        contents = fetcher.fetch_all(
            [Piece(each, 0, self._layout.size(each), self._layout.kind) for each in dataranges]
        )
        for datarange, raw in zip(dataranges, contents, strict=True):
            check = self._check(datarange)
            check.add(raw)
            check.finish()
        return contents

    def _fetch_windows(self, wanted: Mapping[SignedDatarange, Sequence[int]], fetcher: Fetcher) -> dict[Key, Window]:
        """Return windows from S3."""
        pieces = [
            Piece(datarange, place.start, place.stop, self._layout.kind)
            for datarange, numbers in wanted.items()
            for place in _merged(self._layout.size(datarange), numbers)
        ]
        windows: dict[Key, Window] = {}
        for piece, raw in zip(pieces, fetcher.fetch_all(pieces), strict=True):
            windows |= _cut(self._layout.key(piece.datarange), piece.start, raw)
        return windows

    def _check(self, datarange: SignedDatarange) -> "IndexCheck | _NoCheck":
        return IndexCheck(datarange) if self._layout is INDEX else _NoCheck()

    def _is_valid(self, cached: Cached) -> bool:
        """Return whether a cached index looks intact; after a power failure a file may consist of zeros.

        Checksums that are wrong are noticed where contents are compared with them.
        """
        if self._layout is not INDEX:
            return True
        size = self._layout.record_size
        return index.ends_are_records(cached.read(0, size), cached.read(cached.size - size, cached.size))

    def _file_name(self, datarange: SignedDatarange) -> str:
        """Return the name of an object in the cache: a hash of its address and ETag.

        Both end with a line feed, which neither can contain, so that no two pairs are alike.
        """
        kind = self._layout.kind
        address = datarange.url(kind).partition("?")[0]
        return hashlib.sha256(f"{address}\n{datarange.etag(kind)}\n".encode()).hexdigest()


class IndexCheck:
    """Checks that an index, which is added in pieces, fits its archive."""

    def __init__(self, datarange: SignedDatarange) -> None:
        self._datarange = datarange
        self._stop = self._number = 0

    def add(self, raw: bytes) -> None:
        """Check the next records. Raise IndexMismatch if they do not continue the ones before."""
        try:
            self._stop = index.check_records(raw, self._stop, self._number)
        except IndexFormatError as error:
            raise IndexMismatch(self._datarange, str(error)) from None
        self._number += index.count_of(raw)

    def finish(self) -> None:
        """Raise IndexMismatch unless the entries end where those of the archive do."""
        datarange = self._datarange
        if self._stop != datarange.entries_end:
            raise IndexMismatch(
                datarange, f"its entries end at byte {self._stop}, the archive's at {datarange.entries_end}"
            )


class _NoCheck:
    """Takes the place of a check for objects that have nothing to be checked."""

    def add(self, raw: bytes) -> None:
        """Accept the next records."""

    def finish(self) -> None:
        """Accept the object."""


@contextmanager
def _disk_errors_ignored() -> Iterator[None]:
    """End the block silently if the disk is full or the folder cannot be used."""
    try:
        yield
    except OSError as error:
        if isinstance(error, Datas3tError):  # such as TransferFailed, which is a ConnectionError
            raise


def _merged(size: int, numbers: Sequence[int]) -> Iterator[range]:
    """Yield the byte ranges of windows of an object of `size` bytes, those of neighbours as one range."""
    ranges = (range(n * _WINDOW_SIZE, min((n + 1) * _WINDOW_SIZE, size)) for n in numbers)
    return reads.merge(ranges, gap=0, limit=_MAX_MERGED)


def _cut(key: tuple[int, str], start: int, raw: bytes) -> dict[Key, Window]:
    """Return the windows in `raw`, which are the bytes of an object from `start` on."""
    return {
        (*key, (start + at) // _WINDOW_SIZE): raw[at : at + _WINDOW_SIZE] for at in range(0, len(raw), _WINDOW_SIZE)
    }


def _read_windows(key: tuple[int, str], cached: Cached, numbers: Sequence[int], around: int) -> dict[Key, Window]:
    """Return windows from a file, `around` at a time: those next to them are likely to be wanted soon."""
    windows: dict[Key, Window] = {}
    count = -(-cached.size // _WINDOW_SIZE)
    blocks = sorted({number // around for number in numbers})
    chosen = [n for block in blocks for n in range(block * around, min((block + 1) * around, count))]
    for place in _merged(cached.size, chosen):
        windows |= _cut(key, place.start, cached.read(place.start, place.stop))
    return windows
