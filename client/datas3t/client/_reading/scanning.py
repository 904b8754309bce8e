"""Reading datapoints in key order: long ranges are read ahead, and headers are checked by the hundred."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from datas3t.archive import index, reads
from datas3t.archive.checksums import crc
from datas3t.archive.index import BLOCK
from datas3t.client._reading import headers
from datas3t.client._reading.checksums import Checksums
from datas3t.client._reading.datapoint import Datapoint, DatapointView, fetch_again, fetch_large
from datas3t.client._reading.fetching import MAX_REQUEST, Fetcher, Piece
from datas3t.client._reading.indices import Indices
from datas3t.client._reading.locations import Locations
from datas3t.client._reading.signed import SignedDatarange

_REQUEST_SIZE = 4 << 20  # bytes of one request, unless a single datapoint is larger
_READ_AHEAD = 16 << 20  # bytes in memory: four requests
_COMPARED_SIZE = 256 << 10  # bytes of contents that are compared with their checksums at once


def datapoints(
    first: int,
    last: int,
    indices: Indices,
    fetcher: Fetcher,
    checksums: Checksums | None = None,
    *,
    copy: bool = True,
) -> Iterator[Datapoint | DatapointView]:
    """Yield the datapoints with keys from `first` to `last`.

    With `copy`, contents are bytes. Without it they are views of a buffer, which are valid until the next datapoint.
    They are compared with their checksums.

    Raises:
        IndexMismatch: An index does not fit its archive.
        ChecksumMismatch: A content differs from its checksum, also when both are fetched again.
        RestartRead: See `Fetcher`, with its other errors.
    """
    unpack = _Unpacker(copy, checksums, fetcher)
    for is_large, runs in groupby(_runs(first, last, indices, fetcher, checksums), key=lambda run: run.is_large):
        if is_large:
            for run in runs:
                key, entry = run.keys.start, run.locations.entry(0)
                name, content = fetch_large(run.datarange, key, entry, fetcher)
                if checksums is not None and not checksums.hold(run.datarange, key, content, fetcher):
                    content = fetch_again(run.datarange, key, entry, fetcher, checksums)
                yield Datapoint(key, name, content) if copy else DatapointView(key, name, memoryview(content))
        else:
            yield from fetcher.stream(((run, run.piece) for run in runs), unpack, _READ_AHEAD)


@dataclass(frozen=True, slots=True)
class _Run:
    """Consecutive entries of one archive that are read by one request, with headers and padding."""

    datarange: SignedDatarange
    keys: range
    locations: Locations

    @property
    def piece(self) -> Piece:
        stop = int(self.locations.stops[-1])
        return Piece(self.datarange, int(self.locations.starts[0]), index.padded(stop))

    @property
    def is_large(self) -> bool:
        piece = self.piece
        return piece.stop - piece.start > MAX_REQUEST


def _runs(first: int, last: int, indices: Indices, fetcher: Fetcher, checksums: Checksums | None) -> Iterator[_Run]:
    """Yield the runs that contain the keys from `first` to `last`."""
    for entries in headers.locations(first, last, indices, fetcher, checksums):
        cut = reads.plan(entries.archives, entries.starts, entries.stops, MAX_REQUEST, _REQUEST_SIZE)
        key = int(entries.keys[0])
        for at, stop in pairwise(cut.bounds.tolist()):
            yield _Run(entries.dataranges[0], range(key + at, key + stop), entries.part(at, stop))


class _Unpacker:
    """Makes datapoints of the bytes of runs; with or without a copy of each content."""

    def __init__(self, copy: bool, checksums: Checksums | None, fetcher: Fetcher) -> None:
        self._reader = headers.HeaderReader()
        self._copy = copy
        self._checksums = checksums
        self._fetcher = fetcher

    def __call__(self, run: _Run, body: memoryview) -> Iterable[Datapoint | DatapointView]:
        """Return the datapoints of a run. Raise as `datapoints` does."""
        locations, start = run.locations, run.piece.start
        starts, stops = (locations.contents - start).tolist(), (locations.stops - start).tolist()
        names = self._reader.names(locations, body, (locations.starts - start) // BLOCK)
        views = list(map(body.toreadonly().__getitem__, map(slice, starts, stops)))
        if self._checksums is None or locations.sums is None:
            return self._made(run.keys, names, views)
        return self._compared(self._checksums, run, names, views)

    def _made(
        self, keys: Sequence[int], names: Sequence[str], views: Sequence[memoryview]
    ) -> "Iterator[Datapoint] | Iterator[DatapointView]":
        if not self._copy:
            return map(DatapointView._make, zip(keys, names, views, strict=True))
        # Lazily, so that the allocator can give each content the memory of the one before, if that is released.
        return map(Datapoint._make, zip(keys, names, map(bytes, views), strict=True))

    def _compared(
        self, checksums: Checksums, run: _Run, names: list[str], views: list[memoryview]
    ) -> "Iterator[Datapoint | DatapointView]":
        """Yield datapoints whose contents have the right checksums; those that differ are fetched again.

        They are compared a few at a time, so that a content is still in the CPU's cache when it is copied or used.
        """
        assert run.locations.sums is not None
        sums, piece = run.locations.sums.tolist(), run.piece
        group = max(_COMPARED_SIZE * len(views) // (piece.stop - piece.start), 1)
        for at in range(0, len(views), group):
            some = slice(at, at + group)
            contents = views[some]
            if list(map(crc, contents)) != sums[some]:
                for n, content in enumerate(contents):
                    if crc(content) != sums[at + n]:
                        key, entry = run.keys[at + n], run.locations.entry(at + n)
                        contents[n] = memoryview(fetch_again(run.datarange, key, entry, self._fetcher, checksums))
            yield from self._made(run.keys[some], names[some], contents)
