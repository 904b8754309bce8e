"""The records of datapoints: where they are stored, or their checksums; the most recently used are in memory."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from datas3t.client._reading.fetching import Fetcher
from datas3t.client._reading.index_files import (
    DISK_WINDOWS,
    INDEX,
    MAX_BATCH,
    SMALL_WINDOWS,
    IndexFiles,
    Key,
    Layout,
    Window,
)
from datas3t.client._reading.signed import SignedDatarange

_MAX_MEMORY = 16 << 20  # bytes of windows in memory: the records of a million datapoints


class Indices:
    """The indices of one datas3t, or its checksums, cached in memory by windows of records.

    Safe to use from many threads: two may fetch the same window, and one copy is kept.

    Args:
        folder: The folder of the cache on disk, which other processes and datas3ts may share.
        max_size: How many bytes the folder may hold.
        layout: Which objects they are.
    """

    def __init__(self, folder: Path, max_size: int, layout: Layout = INDEX) -> None:
        self._layout = layout
        self._window_records = layout.window_records
        self._record_size = layout.record_size
        self._files = IndexFiles(folder, max_size, layout)
        self._windows: dict[Key, Window] = {}  # the least recently used first
        self._size = 0

    def records(self, wanted: Mapping[SignedDatarange, Sequence[int]], fetcher: Fetcher, expected: int = 0) -> bytes:
        """Return the records of many keys, joined in the order of `wanted`.

        Args:
            wanted: For each datarange the keys, in ascending order.
            fetcher: Fetches what is not cached.
            expected: How many records the caller expects to read in all, now and next; 0 if it does not know.

        Raises:
            IndexMismatch: An index does not fit its archive.
        """
        records: list[bytes] = []
        dataranges = iter(wanted.items())
        while batch := dict(islice(dataranges, MAX_BATCH)):
            records += self._picked(self._windows_of(batch, fetcher, expected), batch)
        return b"".join(records)

    def record(self, datarange: SignedDatarange, key: int, fetcher: Fetcher) -> bytes:
        """Return the record of one key. Raise as `records` does."""
        number, at = divmod(key - datarange.first, self._window_records)
        window = self._recall((*self._layout.key(datarange), number))
        if window is None:
            return self.records({datarange: (key,)}, fetcher)
        return window[at * self._record_size : (at + 1) * self._record_size]

    def prepare(self, dataranges: Sequence[SignedDatarange], fetcher: Fetcher) -> None:
        """Fetch those of the dataranges' small indices that are not on disk, all together."""
        self._files.prepare(dataranges, fetcher)

    def forget(self, datarange: SignedDatarange) -> None:
        """Drop an index that turned out to be wrong, so that its next use fetches it again."""
        mine = self._layout.key(datarange)
        for key in [key for key in list(self._windows) if key[:2] == mine]:
            self._size -= len(self._windows.pop(key, b""))
        self._files.forget(datarange)

    def _windows_of(
        self, wanted: Mapping[SignedDatarange, Sequence[int]], fetcher: Fetcher, expected: int
    ) -> dict[Key, Window]:
        """Return the windows with the records of these keys, and keep them in memory."""
        windows: dict[Key, Window] = {}
        missing: dict[SignedDatarange, list[int]] = {}
        for datarange, keys in wanted.items():
            object_id, etag = self._layout.key(datarange)
            for number in self._numbers(datarange, keys):
                key = (object_id, etag, number)
                window = self._recall(key)
                if window is None:
                    missing.setdefault(datarange, []).append(number)
                else:
                    windows[key] = window
        if missing:
            # As long as there is room in memory, the rest of a small index is read with its first piece.
            around = SMALL_WINDOWS if self._size < _MAX_MEMORY // 2 else DISK_WINDOWS
            fetched = self._files.windows(missing, fetcher, expected, around)
            for key, window in fetched.items():
                self._keep(key, window)
            windows |= fetched
        return windows

    def _numbers(self, datarange: SignedDatarange, keys: Sequence[int]) -> Sequence[int]:
        """Return the numbers of the windows that hold the records of ascending keys."""
        first, count = datarange.first, self._window_records
        if isinstance(keys, range):
            return range((keys[0] - first) // count, (keys[-1] - first) // count + 1)
        return sorted({(key - first) // count for key in keys})

    def _picked(
        self, windows: Mapping[Key, Window], wanted: Mapping[SignedDatarange, Sequence[int]]
    ) -> Iterator[bytes]:
        """Yield the records of keys out of their windows; those of consecutive keys as one piece."""
        count, size = self._window_records, self._record_size
        for datarange, keys in wanted.items():
            object_id, etag = self._layout.key(datarange)
            if isinstance(keys, range):
                numbers = self._numbers(datarange, keys)
                joined = b"".join(windows[object_id, etag, number] for number in numbers)
                start = (keys[0] - datarange.first - numbers[0] * count) * size
                yield joined[start : start + len(keys) * size]
            else:
                for key in keys:
                    number, at = divmod(key - datarange.first, count)
                    yield windows[object_id, etag, number][at * size : (at + 1) * size]

    def _recall(self, key: Key) -> Window | None:
        """Return a window from memory and mark it as just used; None if it is not there.

        Threads that do this at the same time may drop the window, but cannot corrupt it.
        """
        window = self._windows.pop(key, None)
        if window is not None:
            self._windows[key] = window
        return window

    def _keep(self, key: Key, window: Window) -> None:
        """Put a window into memory and evict the least recently used ones beyond the limit."""
        self._size += len(window) if key not in self._windows else 0
        self._windows[key] = window
        while self._size > _MAX_MEMORY:
            try:
                oldest = next(iter(self._windows))
                self._size -= len(self._windows.pop(oldest))
            except (StopIteration, KeyError, RuntimeError):  # another thread changed the dict: count again
                self._size = sum(map(len, list(self._windows.values())))
