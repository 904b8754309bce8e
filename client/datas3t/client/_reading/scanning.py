"""Reading datapoints in key order: long ranges are read ahead, and headers are checked by the hundred."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

from datas3t.archive import bulk_headers, index, reads
from datas3t.archive.bulk_headers import WORD, WORDS, Checker
from datas3t.archive.index import BLOCK
from datas3t.client._reading.catalogue import SignedDatarange
from datas3t.client._reading.datapoint import Datapoint, checked_name, fetch_large
from datas3t.client._reading.fetching import MAX_REQUEST, Fetcher, Piece
from datas3t.client._reading.index_files import MAX_BATCH
from datas3t.client._reading.indices import Indices
from datas3t.client._reading.locations import Locations, from_records

_REQUEST_SIZE = 4 << 20  # bytes of one request, unless a single datapoint is larger
_READ_AHEAD = 16 << 20  # bytes in memory: four requests
_RECORDS_AT_ONCE = 16_384  # index records that are decoded together: 256 KiB
_NAME_REST = slice(20, 100)  # bytes of a header: the rest of the name after the key
_MAX_EXTENSIONS = 1_000  # decoded extensions that are remembered


def datapoints(first: int, last: int, indices: Indices, fetcher: Fetcher) -> Iterator[Datapoint]:
    """Yield the datapoints with keys from `first` to `last`.

    Raises:
        IndexMismatch: An index does not fit its archive.
        RestartRead: See `Fetcher`, with its other errors.
    """
    unpack = _Unpacker()
    for is_large, runs in groupby(_runs(first, last, indices, fetcher), key=lambda run: run.is_large):
        if is_large:
            for run in runs:
                key, entry = run.keys.start, run.locations.entry(0)
                yield Datapoint(key, *fetch_large(run.datarange, key, entry, fetcher))
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


def _runs(first: int, last: int, indices: Indices, fetcher: Fetcher) -> Iterator[_Run]:
    """Yield the runs that contain the keys from `first` to `last`."""
    ahead = 1
    dataranges = fetcher.catalogue.overlapping(first, last)
    for number, datarange in enumerate(dataranges):
        # Fetch small indices together, twice as many each time: a scan that stops early needs only a few.
        if number == ahead - 1:
            ahead = min(2 * ahead, ahead + MAX_BATCH)
            indices.prepare(dataranges[number:ahead], fetcher)
        end = min(last, datarange.last) + 1
        for start in range(max(first, datarange.first), end, _RECORDS_AT_ONCE):
            keys = range(start, min(start + _RECORDS_AT_ONCE, end))
            records = indices.records({datarange: keys}, fetcher, end - start)
            locations = from_records([datarange], keys, records)
            cut = reads.plan(locations.archives, locations.starts, locations.stops, MAX_REQUEST, _REQUEST_SIZE)
            bounds = cut.bounds.tolist()
            for at, stop in pairwise(bounds):
                yield _Run(datarange, keys[at:stop], locations.part(at, stop))


class _Unpacker:
    """Makes datapoints of the bytes of runs."""

    def __init__(self) -> None:
        self._checker = Checker()
        self._extensions: dict[bytes, str] = {}

    def __call__(self, run: _Run, body: memoryview) -> Iterable[Datapoint]:
        """Return the datapoints of a run. Raise IndexMismatch if a header contradicts its index record."""
        locations, start = run.locations, run.piece.start
        starts, stops = (locations.contents - start).tolist(), (locations.stops - start).tolist()
        # Lazily, so that the allocator can give each content the memory of the one before, if that is released.
        contents = map(bytes, map(body.__getitem__, map(slice, starts, stops)))
        return map(Datapoint._make, zip(run.keys, self._names(run, body), contents, strict=True))

    def _names(self, run: _Run, body: memoryview) -> list[str]:
        """Return the names of the entries, after comparing their headers with the keys and the index records."""
        # Check all headers at once: most are one plain block, perhaps after a PAX header without meaning here.
        locations, start = run.locations, run.piece.start
        blocks = np.frombuffer(body, WORD).reshape(-1, WORDS)
        heads, mains = (locations.starts - start) // BLOCK, (locations.contents - start) // BLOCK - 1
        rows = blocks[mains]
        good = self._checker.are_regular(rows) & bulk_headers.are_named(rows, run.keys.start)
        good &= bulk_headers.sizes(rows).astype(np.int64) == locations.sizes
        extended = np.flatnonzero(good & (mains - heads == 2))
        good &= mains == heads
        if len(extended):
            good[extended] = self._checker.are_harmless(blocks[heads[extended]], blocks[heads[extended] + 1])
        # Make the names; usually all entries have the same extension.
        rests = np.ascontiguousarray(rows.view(np.uint8)[:, _NAME_REST])
        if (rests == rests[0]).all():
            extension = self._extension(rests[0].tobytes())
            names = [f"{key:020d}{extension}" for key in run.keys]
        else:
            names = [f"{k:020d}{self._extension(rest.tobytes())}" for k, rest in zip(run.keys, rests, strict=True)]
        # Read the remaining headers one by one.
        for n in np.flatnonzero(~good).tolist():
            headers = bytes(body[heads[n] * BLOCK : (mains[n] + 1) * BLOCK])
            names[n] = checked_name(run.datarange, run.keys[n], run.locations.entry(n), headers)
        return names

    def _extension(self, raw: bytes) -> str:
        """Return what follows the key in a header's name; the result is meaningless if the header is not plain."""
        extension = self._extensions.get(raw)
        if extension is None:
            if len(self._extensions) > _MAX_EXTENSIONS:
                self._extensions.clear()
            extension = self._extensions[raw] = raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        return extension
