"""Where datapoints lie: the records of dataranges' indices, those used last held in memory, within a bound."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from datas3t.archive.index import RECORD_SIZE
from datas3t.client._reading.catalogue import Leased
from datas3t.client._reading.fetching import Fetching
from datas3t.client._reading.index_files import TOGETHER, WIDTH, IndexFiles, Key, Window

_MEMORY = 16 << 20  # bytes of windows


class Indices:
    """Indices of one datas3t, in windows of records. Safe to use from many threads: two may fetch the same window, and
    one is kept. `folder` is shared with other processes and datas3ts, and holds `max_size` bytes at most.
    """

    def __init__(self, folder: Path, max_size: int) -> None:
        self._files = IndexFiles(folder, max_size)
        self._held: dict[Key, Window] = {}
        self._size = 0

    def records(self, wanted: Mapping[Leased, Sequence[int]], fetching: Fetching, soon: int = 0) -> bytes:
        """The records of these ascending keys, datarange after datarange. `soon`: how many will be wanted in all.

        Raises Unfit for an index that does not fit its archive.
        """
        found: list[bytes] = []
        dataranges = iter(wanted.items())
        while batch := dict(islice(dataranges, TOGETHER)):
            found += _picked(self._windows(batch, fetching, soon), batch)
        return b"".join(found)

    def record(self, leased: Leased, key: int, fetching: Fetching) -> bytes:
        """The record of one key. Raises as `records`."""
        number, at = divmod(key - leased.first, WIDTH)
        window = self._recall((leased.id, leased.index_etag, number))
        if window is None:
            return self.records({leased: (key,)}, fetching)
        return window[at * RECORD_SIZE : (at + 1) * RECORD_SIZE]

    def prepare(self, dataranges: Sequence[Leased], fetching: Fetching) -> None:
        """Has small indices at hand on disk, those that are missing fetched together."""
        self._files.prepare(dataranges, fetching)

    def forget(self, leased: Leased) -> None:
        """Drops what is known of an index that has turned out to be wrong, so that it is fetched anew."""
        for key in [key for key in list(self._held) if key[:2] == (leased.id, leased.index_etag)]:
            self._size -= len(self._held.pop(key, b""))
        self._files.forget(leased)

    def _windows(self, wanted: Mapping[Leased, Sequence[int]], fetching: Fetching, soon: int) -> dict[Key, Window]:
        """The windows of these keys; those that are not in memory are then."""
        held: dict[Key, Window] = {}
        missing: dict[Leased, list[int]] = {}
        for leased, keys in wanted.items():
            for number in _numbers(leased, keys):
                key = (leased.id, leased.index_etag, number)
                found = self._recall(key)
                if found is None:
                    missing.setdefault(leased, []).append(number)
                else:
                    held[key] = found
        if missing:
            obtained = self._files.windows(missing, fetching, soon)
            for key, window in obtained.items():
                self._keep(key, window)
            held |= obtained
        return held

    def _recall(self, key: Key) -> Window | None:
        """What is held; it is then the last to go. Threads that do this at once can lose it, not spoil it."""
        found = self._held.pop(key, None)
        if found is not None:
            self._held[key] = found
        return found

    def _keep(self, key: Key, window: Window) -> None:
        self._size += len(window) if key not in self._held else 0
        self._held[key] = window
        while self._size > _MEMORY:
            try:
                oldest = next(iter(self._held))
                self._size -= len(self._held.pop(oldest))
            except (StopIteration, KeyError, RuntimeError):  # another thread was there
                self._size = sum(map(len, list(self._held.values())))


def _numbers(leased: Leased, keys: Sequence[int]) -> Sequence[int]:
    """The windows with the records of ascending keys."""
    if isinstance(keys, range):
        return range((keys[0] - leased.first) // WIDTH, (keys[-1] - leased.first) // WIDTH + 1)
    return sorted({(key - leased.first) // WIDTH for key in keys})


def _picked(held: Mapping[Key, Window], wanted: Mapping[Leased, Sequence[int]]) -> Iterator[bytes]:
    for leased, keys in wanted.items():
        about = leased.id, leased.index_etag
        if isinstance(keys, range):
            numbers = _numbers(leased, keys)
            joined = b"".join(held[*about, number] for number in numbers)
            start = (keys[0] - leased.first - numbers[0] * WIDTH) * RECORD_SIZE
            yield joined[start : start + len(keys) * RECORD_SIZE]
        else:
            for key in keys:
                number, at = divmod(key - leased.first, WIDTH)
                yield held[*about, number][at * RECORD_SIZE : (at + 1) * RECORD_SIZE]
