"""Windows of indices, from a cache on disk that all processes share, and from S3.

A small index is fetched whole at its first use. Of a large one, windows of records are fetched until the requests for
them have cost what the whole would cost. A folder that cannot be used, or a disk that is full, costs speed and nothing
else.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias

from datas3t.archive import IndexFormatError, index, reads
from datas3t.archive.index import RECORD_SIZE
from datas3t.client._reading.catalogue import Leased
from datas3t.client._reading.fetching import LARGEST, Fetching, Piece
from datas3t.client.errors import ArchiveError, Datas3tError
from datas3t.local.disk_cache import Cached, DiskCache

WIDTH = 256  # records of a window
TOGETHER = 64  # indices that are fetched at a time: each holds a lock file
_SMALL = 256 << 10  # bytes of an index that is always fetched whole
_SIZE = WIDTH * RECORD_SIZE
_RUN = 1 << 20  # bytes of neighbouring windows that are fetched as one
_BLOCK = 16  # windows that are read from disk together

Key: TypeAlias = tuple[int, str, int]  # datarange, ETag of its index, number of the window
Window: TypeAlias = bytes


class IndexFiles:
    """Indices of one datas3t on disk, in a folder of at most `max_size` bytes that others use as well."""

    def __init__(self, folder: Path, max_size: int) -> None:
        self._folder = folder
        self._max_size = max_size
        self._disk: DiskCache | None = None
        self._spent: dict[tuple[int, str], float] = {}  # seconds, on windows of an index
        self._homeless: set[tuple[int, str]] = set()  # large indices that the disk did not take

    def windows(self, wanted: Mapping[Leased, Sequence[int]], fetching: Fetching, soon: int) -> dict[Key, Window]:
        """These windows; `soon`: how many records will be wanted in all. Of small indices that cannot be kept on disk
        there are all windows. Raises Unfit for an index that does not fit its archive."""
        found: dict[Key, Window] = {}
        missing = [leased for leased in wanted if not self._read(leased, wanted[leased], found)]
        small = list(filter(_is_small, missing))
        self._fetch_small(small, fetching)
        homeless = [leased for leased in small if not self._read(leased, wanted[leased], found)]
        for leased, raw in zip(homeless, _whole(homeless, fetching), strict=True):
            found |= _cut(leased, 0, raw)
        single = {}
        for leased in (each for each in missing if not _is_small(each)):
            worth = self._is_worth_whole(leased, len(wanted[leased]), fetching, soon)
            if not worth or not self._fetch_large(leased, wanted[leased], fetching, found):
                single[leased] = wanted[leased]
        return found | _from_s3(single, fetching)

    def prepare(self, dataranges: Sequence[Leased], fetching: Fetching) -> None:
        """Has small indices on disk."""
        small = filter(_is_small, dataranges)
        self._fetch_small([leased for leased in small if not self._read(leased, (), {})], fetching)

    def forget(self, leased: Leased) -> None:
        """Removes an index that has turned out to be wrong."""
        with _disk_trouble():
            self._files().remove(_file_name(leased))

    def _files(self) -> DiskCache:
        if self._disk is None:
            self._disk = DiskCache(self._folder, self._max_size)
        return self._disk

    def _read(self, leased: Leased, numbers: Sequence[int], found: dict[Key, Window]) -> bool:
        """Adds windows of an index to those found, if it is on disk."""
        with _disk_trouble():
            cached = self._files().find(_file_name(leased), leased.count * RECORD_SIZE, sound=_sound)
            if cached is not None:
                with cached:
                    found |= _from_file(leased, cached, numbers)
                return True
        return False

    def _is_worth_whole(self, leased: Leased, count: int, fetching: Fetching, soon: int) -> bool:
        """As one who rents until the rent has reached the price; never where there is no place to put it."""
        size, costs, about = leased.count * RECORD_SIZE, fetching.costs, _about(leased)
        if size > self._max_size or about in self._homeless:
            return False
        spent = self._spent.get(about, 0.0) + count * max(costs.per_request, costs.latency)
        if spent >= size * costs.per_byte or 2 * soon >= leased.count:
            self._spent.pop(about, None)
            return True
        self._spent[about] = spent
        return False

    def _fetch_small(self, wanted: Sequence[Leased], fetching: Fetching) -> None:
        """Puts whole indices on disk, together. What another process fetches now is waited for."""

        def fetch(numbers: Sequence[int]) -> list[bytes]:
            return _whole([wanted[number] for number in numbers], fetching)

        files = [(_file_name(each), each.count * RECORD_SIZE) for each in wanted]
        with _disk_trouble():
            self._files().fill(files, fetch)
            for number, (name, size) in enumerate(files):
                self._files().open(name, size, partial(fetch, [number]), sound=_sound).close()

    def _fetch_large(
        self, leased: Leased, numbers: Sequence[int], fetching: Fetching, found: dict[Key, Window]
    ) -> bool:
        """One whole index, through the disk: it is never in memory. Whether the disk took it."""

        def fetch() -> Iterator[bytes]:
            check, size = _Check(leased), leased.count * RECORD_SIZE
            for start in range(0, size, LARGEST):
                stop = min(start + LARGEST, size)
                starts = range(start, stop, LARGEST // 4)
                pieces = [Piece(leased, at, min(at + LARGEST // 4, stop), of_index=True) for at in starts]
                for raw in fetching.all(pieces):
                    check.take(raw)
                    yield raw
            check.end()

        with _disk_trouble():
            size = leased.count * RECORD_SIZE
            with self._files().open(_file_name(leased), size, fetch, sound=_sound) as cached:
                found |= _from_file(leased, cached, numbers)
            return True
        self._homeless.add(_about(leased))
        return False


class _Check:
    """Holds an index that comes in pieces against its archive's size."""

    def __init__(self, leased: Leased) -> None:
        self._leased = leased
        self._stop = self._number = 0

    def take(self, raw: bytes) -> None:
        try:
            self._stop = index.check_records(raw, self._stop, self._number)
        except IndexFormatError as error:
            raise unfit(self._leased, str(error)) from None
        self._number += index.count_of(raw)

    def end(self) -> None:
        leased = self._leased
        if self._stop != leased.entries_end:
            raise unfit(leased, f"its entries end at byte {self._stop}, the archive's at {leased.entries_end}")


class Unfit(ArchiveError):  # noqa: N818 - as its base
    """An index says other things than its archive: to be fetched anew, once."""

    def __init__(self, message: str, leased: Leased) -> None:
        super().__init__(message)
        self.leased = leased


def unfit(leased: Leased, why: str) -> Unfit:
    """What is raised for an index that does not fit."""
    return Unfit(f"the index of datarange {leased.first} to {leased.last} does not fit its archive: {why}", leased)


@contextmanager
def _disk_trouble() -> Iterator[None]:
    """Ends the block where the disk is full or the folder cannot be used. Many of our own errors are OSErrors too."""
    try:
        yield
    except OSError as error:
        if isinstance(error, Datas3tError):
            raise


def _whole(wanted: Sequence[Leased], fetching: Fetching) -> list[bytes]:
    """Small indices, straight from S3, each held against its archive's size."""
    contents = fetching.all([Piece(each, 0, each.count * RECORD_SIZE, of_index=True) for each in wanted])
    for leased, raw in zip(wanted, contents, strict=True):
        check = _Check(leased)
        check.take(raw)
        check.end()
    return contents


def _about(leased: Leased) -> tuple[int, str]:
    return leased.id, leased.index_etag


def _is_small(leased: Leased) -> bool:
    return leased.count * RECORD_SIZE <= _SMALL


def _ranges(leased: Leased, numbers: Sequence[int], gap: int, limit: int) -> Iterator[range]:
    """The bytes of windows, neighbours as one."""
    size = leased.count * RECORD_SIZE
    return reads.merge((range(n * _SIZE, min((n + 1) * _SIZE, size)) for n in numbers), gap, limit)


def _cut(leased: Leased, start: int, raw: bytes) -> dict[Key, Window]:
    """The windows in the bytes from `start` on."""
    about = _about(leased)
    return {(*about, (start + at) // _SIZE): raw[at : at + _SIZE] for at in range(0, len(raw), _SIZE)}


def _from_file(leased: Leased, cached: Cached, numbers: Sequence[int]) -> dict[Key, Window]:
    """These windows, and those beside them: where one is read, others will be."""
    found: dict[Key, Window] = {}
    count = -(-cached.size // _SIZE)
    blocks = sorted({number // _BLOCK for number in numbers})
    beside = [n for block in blocks for n in range(block * _BLOCK, min((block + 1) * _BLOCK, count))]
    for place in _ranges(leased, beside, 0, _RUN):
        found |= _cut(leased, place.start, cached.read(place.start, place.stop))
    return found


def _from_s3(wanted: Mapping[Leased, Sequence[int]], fetching: Fetching) -> dict[Key, Window]:
    pieces = [
        Piece(leased, place.start, place.stop, of_index=True)
        for leased, numbers in wanted.items()
        for place in _ranges(leased, numbers, 0, _RUN)
    ]
    found: dict[Key, Window] = {}
    for piece, raw in zip(pieces, fetching.all(pieces), strict=True):
        found |= _cut(piece.leased, piece.start, raw)
    return found


def _file_name(leased: Leased) -> str:
    """By the object's address and ETag, each ended by a line feed, which neither can hold."""
    return hashlib.sha256(f"{leased.index_url.partition('?')[0]}\n{leased.index_etag}\n".encode()).hexdigest()


def _sound(cached: Cached) -> bool:
    return index.ends_are_records(cached.read(0, RECORD_SIZE), cached.read(cached.size - RECORD_SIZE, cached.size))
