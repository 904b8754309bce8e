"""Where datapoints lie: the records of dataranges' indices, from a cache on disk that all processes share.

A small index is fetched whole at its first use. Of a large one, windows of records are fetched until the requests for
them have cost what the whole would cost. What was used last is held in memory, within a bound.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from datas3t.archive import index, spans
from datas3t.archive.disk_cache import Cached, DiskCache
from datas3t.archive.errors import IndexFormatError
from datas3t.archive.index import RECORD_SIZE
from datas3t.client._catalogue import Leased
from datas3t.client._fetching import LARGEST, Fetching, Piece
from datas3t.client.errors import ArchiveError, Datas3tError

_SMALL = 256 << 10  # bytes; an index up to here is one window
_WINDOW = 256  # records of a larger one
_SIZE = _WINDOW * RECORD_SIZE
_MEMORY = 16 << 20  # bytes of windows
_TOGETHER = 64  # indices that are fetched at a time: each holds a lock file
_RUN = 1 << 20  # bytes of neighbouring windows that are fetched as one

_Key = tuple[int, str, int]  # datarange, ETag of its index, window


class Indices:
    """Indices of one datas3t. Safe to use from many threads: two may fetch the same window, and one is kept.

    `folder` is shared with other processes and datas3ts. A folder that cannot be used, or a disk that is full, costs
    speed and nothing else.
    """

    def __init__(self, folder: Path, max_size: int) -> None:
        self._folder = folder
        self._max_size = max_size
        self._disk: DiskCache | None = None
        self._held: dict[_Key, bytes] = {}
        self._size = 0
        self._spent: dict[tuple[int, str], float] = {}  # seconds, on windows of an index

    def records(self, wanted: Mapping[Leased, Sequence[int]], fetching: Fetching, soon: int = 0) -> bytes:
        """The records of these ascending keys, datarange after datarange. `soon`: how many more will be wanted.

        Raises Unfit for an index that does not fit its archive.
        """
        held = {}
        missing: dict[Leased, list[int]] = {}
        for leased, keys in wanted.items():
            for number in _numbers(leased, keys):
                found = self._recall((leased.id, leased.index_etag, number))
                if found is None:
                    missing.setdefault(leased, []).append(number)
                else:
                    held[leased.id, leased.index_etag, number] = found
        if missing:
            held |= self._obtained(missing, fetching, soon)
        return b"".join(_picked(held, wanted))

    def record(self, leased: Leased, key: int, fetching: Fetching) -> bytes:
        """The record of one key. Raises as `records`."""
        number, at = divmod(key - leased.first, _width(leased))
        window = self._recall((leased.id, leased.index_etag, number))
        if window is None:
            return self.records({leased: (key,)}, fetching)
        return window[at * RECORD_SIZE : (at + 1) * RECORD_SIZE]

    def forget(self, leased: Leased) -> None:
        """Drops what is known of an index that has turned out to be wrong, so that it is fetched anew."""
        for key in [key for key in list(self._held) if key[:2] == (leased.id, leased.index_etag)]:
            self._held.pop(key, None)
        with _disk_trouble():
            self._files().remove(_file_name(leased))

    def _recall(self, key: _Key) -> bytes | None:
        """What is held in memory; it is then the last to go. Threads that do this at once can lose it, not spoil it."""
        found = self._held.pop(key, None)
        if found is not None:
            self._held[key] = found
        return found

    def _keep(self, key: _Key, window: bytes) -> None:
        self._size += len(window) if key not in self._held else 0
        self._held[key] = window
        while self._size > _MEMORY:
            try:
                oldest = next(iter(self._held))
                self._size -= len(self._held.pop(oldest))
            except (StopIteration, KeyError, RuntimeError):  # another thread was there
                self._size = sum(map(len, list(self._held.values())))

    def _obtained(self, missing: Mapping[Leased, list[int]], fetching: Fetching, soon: int) -> dict[_Key, bytes]:
        """Windows that are not in memory: from disk, or from S3."""
        found: dict[_Key, bytes] = {}
        whole, single = [], {}
        for leased, numbers in missing.items():
            if self._from_disk(leased, numbers, found):
                continue
            if self._is_worth_whole(leased, len(numbers), fetching, soon):
                whole.append(leased)
            else:
                single[leased] = numbers
        small = [each for each in whole if each.count * RECORD_SIZE <= _SMALL]
        for start in range(0, len(small), _TOGETHER):
            self._fetch_small(small[start : start + _TOGETHER], fetching, found)
        for leased in whole:
            if leased.count * RECORD_SIZE > _SMALL:
                self._fetch_large(leased, missing[leased], fetching, found)
        if single:
            found |= _windows(single, fetching)
        for key, window in found.items():
            self._keep(key, window)
        return found

    def _is_worth_whole(self, leased: Leased, count: int, fetching: Fetching, soon: int) -> bool:
        """As one who rents until the rent has reached the price."""
        size = leased.count * RECORD_SIZE
        if size <= _SMALL:
            return True
        costs, about = fetching.costs, (leased.id, leased.index_etag)
        spent = self._spent.get(about, 0.0) + count * max(costs.per_request, costs.latency)
        if spent >= size * costs.per_byte or 2 * soon >= leased.count:
            self._spent.pop(about, None)
            return True
        self._spent[about] = spent
        return False

    def _files(self) -> DiskCache:
        if self._disk is None:
            self._disk = DiskCache(self._folder, self._max_size)
        return self._disk

    def _from_disk(self, leased: Leased, numbers: Sequence[int], found: dict[_Key, bytes]) -> bool:
        with _disk_trouble():
            cached = self._files().find(_file_name(leased), leased.count * RECORD_SIZE, sound=_sound)
            if cached is not None:
                with cached:
                    found |= _read(leased, cached, numbers)
                return True
        return False

    def _fetch_small(self, wanted: Sequence[Leased], fetching: Fetching, found: dict[_Key, bytes]) -> None:
        """Whole indices at once. What another process fetches now is waited for."""

        def fetch(numbers: Sequence[int]) -> list[bytes]:
            chosen = [wanted[number] for number in numbers]
            contents = fetching.all([Piece(each, 0, each.count * RECORD_SIZE, of_index=True) for each in chosen])
            for leased, raw in zip(chosen, contents, strict=True):
                check = _Check(leased)
                check.take(raw)
                check.end()
                found[leased.id, leased.index_etag, 0] = raw
            return contents

        def missing() -> list[int]:
            return [n for n, each in enumerate(wanted) if (each.id, each.index_etag, 0) not in found]

        with _disk_trouble():
            self._files().fill([(_file_name(each), each.count * RECORD_SIZE) for each in wanted], fetch)
            for number in missing():
                leased = wanted[number]
                size = leased.count * RECORD_SIZE
                again = partial(fetch, [number])
                with self._files().open(_file_name(leased), size, again, sound=_sound) as cached:
                    found |= _read(leased, cached, [0])
        fetch(missing())

    def _fetch_large(
        self, leased: Leased, numbers: Sequence[int], fetching: Fetching, found: dict[_Key, bytes]
    ) -> None:
        """One whole index, through the disk: it is never in memory."""

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
                found |= _read(leased, cached, numbers)
            return
        found |= _windows({leased: numbers}, fetching)


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


def _width(leased: Leased) -> int:
    """Records of a window."""
    return leased.count if leased.count * RECORD_SIZE <= _SMALL else _WINDOW


def _numbers(leased: Leased, keys: Sequence[int]) -> Iterable[int]:
    """The windows with the records of ascending keys."""
    width = _width(leased)
    if width == leased.count:
        return (0,)
    if isinstance(keys, range):
        return range((keys[0] - leased.first) // width, (keys[-1] - leased.first) // width + 1)
    return sorted({(key - leased.first) // width for key in keys})


def _picked(held: Mapping[_Key, bytes], wanted: Mapping[Leased, Sequence[int]]) -> Iterator[bytes]:
    for leased, keys in wanted.items():
        width, about = _width(leased), (leased.id, leased.index_etag)
        if isinstance(keys, range):
            numbers = _numbers(leased, keys)
            joined = b"".join(held[*about, number] for number in numbers)
            start = (keys[0] - leased.first - next(iter(numbers)) * width) * RECORD_SIZE
            yield joined[start : start + len(keys) * RECORD_SIZE]
        elif width == leased.count:
            window, first = held[*about, 0], leased.first
            for key in keys:
                at = (key - first) * RECORD_SIZE
                yield window[at : at + RECORD_SIZE]
        else:
            for key in keys:
                number, at = divmod(key - leased.first, width)
                yield held[*about, number][at * RECORD_SIZE : (at + 1) * RECORD_SIZE]


def _read(leased: Leased, cached: Cached, numbers: Sequence[int]) -> dict[_Key, bytes]:
    """Windows of an index on disk."""
    size = _width(leased) * RECORD_SIZE
    return {(leased.id, leased.index_etag, n): cached.read(n * size, min((n + 1) * size, cached.size)) for n in numbers}


def _windows(wanted: Mapping[Leased, Sequence[int]], fetching: Fetching) -> dict[_Key, bytes]:
    """Windows of large indices, from S3, neighbours as one."""
    pieces = []
    for leased, numbers in wanted.items():
        for run in spans.merge((range(n * _SIZE, (n + 1) * _SIZE) for n in numbers), 0, _RUN):
            pieces.append(Piece(leased, run.start, min(run.stop, leased.count * RECORD_SIZE), of_index=True))
    found = {}
    for (leased, start, _, _), raw in zip(pieces, fetching.all(pieces), strict=True):
        for at in range(0, len(raw), _SIZE):
            found[leased.id, leased.index_etag, (start + at) // _SIZE] = raw[at : at + _SIZE]
    return found


def _file_name(leased: Leased) -> str:
    """By the object's address and ETag, each ended by a line feed, which neither can hold."""
    return hashlib.sha256(f"{leased.index_url.partition('?')[0]}\n{leased.index_etag}\n".encode()).hexdigest()


def _sound(cached: Cached) -> bool:
    return index.ends_are_records(cached.read(0, RECORD_SIZE), cached.read(cached.size - RECORD_SIZE, cached.size))
