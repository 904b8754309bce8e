"""Datapoints in key order: long ranges read ahead, headers checked by the hundred."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

from datas3t.archive import bulk_headers, index, reads
from datas3t.archive.bulk_headers import WORD, WORDS, Headers
from datas3t.archive.index import BLOCK
from datas3t.client._reading.catalogue import Leased
from datas3t.client._reading.fetching import LARGEST, Fetching, Piece
from datas3t.client._reading.index_files import TOGETHER
from datas3t.client._reading.indices import Indices
from datas3t.client._reading.one import large, name_of
from datas3t.client._reading.places import Places, of_records
from datas3t.client._reading.results import Datapoint

_REQUEST = 4 << 20  # bytes
_AHEAD = 16 << 20  # bytes
_BLOCK = 16_384  # records that are looked at together
_TAIL = slice(20, 100)  # of a header: what follows the key in its name
_MANY = 1_000  # extensions that are remembered


def datapoints(first: int, last: int, indices: Indices, fetching: Fetching) -> Iterator[Datapoint]:
    """Those from `first` to `last` that are there. Raises Unfit, and what Fetching raises."""
    unpack = _Unpacking()
    for is_large, runs in groupby(_runs(first, last, indices, fetching), key=lambda run: run.is_large):
        if is_large:
            for run in runs:
                key, entry = run.keys.start, run.places.entry(0)
                yield Datapoint(key, *large(run.leased, key, entry, fetching))
        else:
            yield from fetching.stream(((run, run.piece) for run in runs), unpack, _AHEAD)


@dataclass(frozen=True, slots=True)
class _Run:
    """Consecutive entries of one archive that are read as one, headers and padding included."""

    leased: Leased
    keys: range
    places: Places

    @property
    def piece(self) -> Piece:
        stop = int(self.places.stops[-1])
        return Piece(self.leased, int(self.places.starts[0]), index.padded(stop))

    @property
    def is_large(self) -> bool:
        piece = self.piece
        return piece.stop - piece.start > LARGEST


def _runs(first: int, last: int, indices: Indices, fetching: Fetching) -> Iterator[_Run]:
    ahead = 1
    dataranges = fetching.catalogue.within(first, last)
    for number, leased in enumerate(dataranges):
        if number == ahead - 1:  # twice as many each time: who stops soon has not asked for much
            ahead = min(2 * ahead, ahead + TOGETHER)
            indices.prepare(dataranges[number:ahead], fetching)
        behind = min(last, leased.last) + 1
        for start in range(max(first, leased.first), behind, _BLOCK):
            keys = range(start, min(start + _BLOCK, behind))
            places = of_records([leased], keys, indices.records({leased: keys}, fetching, behind - start))
            cut = reads.plan(places.holders, places.starts, places.stops, LARGEST, _REQUEST)
            bounds = cut.bounds.tolist()
            for at, stop in pairwise(bounds):
                yield _Run(leased, keys[at:stop], places.part(at, stop))


class _Unpacking:
    """Makes datapoints of the bytes of runs."""

    def __init__(self) -> None:
        self._headers = Headers()
        self._extensions: dict[bytes, str] = {}

    def __call__(self, run: _Run, body: memoryview) -> Iterable[Datapoint]:
        places, start = run.places, run.piece.start
        froms, stops = (places.contents - start).tolist(), (places.stops - start).tolist()
        # One at a time, so that each content has the memory that the one before has left.
        contents = map(bytes, map(body.__getitem__, map(slice, froms, stops)))
        return map(Datapoint._make, zip(run.keys, self._names(run, body), contents, strict=True))

    def _names(self, run: _Run, body: memoryview) -> list[str]:
        """What the entries are called, after their headers were held against keys and records."""
        places, start = run.places, run.piece.start
        blocks = np.frombuffer(body, WORD).reshape(-1, WORDS)
        heads, mains = (places.starts - start) // BLOCK, (places.contents - start) // BLOCK - 1
        rows = blocks[mains]
        good = self._headers.regular(rows) & bulk_headers.named(rows, run.keys.start)
        good &= bulk_headers.sizes(rows).astype(np.int64) == places.sizes
        extended = np.flatnonzero(good & (mains - heads == 2))
        good &= mains == heads
        if len(extended):
            good[extended] = self._headers.harmless(blocks[heads[extended]], blocks[heads[extended] + 1])
        tails = np.ascontiguousarray(rows.view(np.uint8)[:, _TAIL])
        if (tails == tails[0]).all():
            extension = self._extension(tails[0].tobytes())
            names = [f"{key:020d}{extension}" for key in run.keys]
        else:
            names = [f"{k:020d}{self._extension(tail.tobytes())}" for k, tail in zip(run.keys, tails, strict=True)]
        for n in np.flatnonzero(~good).tolist():
            headers = bytes(body[heads[n] * BLOCK : (mains[n] + 1) * BLOCK])
            names[n] = name_of(run.leased, run.keys[n], run.places.entry(n), headers)
        return names

    def _extension(self, raw: bytes) -> str:
        """What follows the key in a header's name; nonsense where it is none."""
        found = self._extensions.get(raw)
        if found is None:
            if len(self._extensions) > _MANY:
                self._extensions.clear()
            found = self._extensions[raw] = raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        return found
