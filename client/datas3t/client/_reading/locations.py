"""Where many datapoints are stored, as arrays, with the checks that their index records must pass."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from datas3t.archive import index, reads
from datas3t.archive.index import BLOCK, Entry
from datas3t.client._reading.catalogue import Catalogue
from datas3t.client._reading.catalogue_cache import CatalogueCache
from datas3t.client._reading.costs import Costs
from datas3t.client._reading.fetching import MAX_REQUEST, Fetcher
from datas3t.client._reading.index_files import IndexMismatch
from datas3t.client._reading.indices import Indices
from datas3t.client._reading.signed import SignedDatarange

Numbers = NDArray[np.int64]

_MIN_SPLIT = 1 << 20  # bytes up to which neighbours are read by one request, however many connections there are
_SPLIT_CONNECTIONS = 16  # connections that share a long run of neighbours


@dataclass(frozen=True, slots=True)
class Locations:
    """Datapoints in ascending order of their keys.

    Attributes:
        dataranges: The dataranges that hold them.
        archives: For each datapoint the number of its datarange in `dataranges`.
        keys: The keys.
        starts: Where the header blocks start, in bytes of the archive.
        contents: Where the contents start.
        stops: Where the contents end.
        sums: Their checksums, or -1 where there is none; None if they are not wanted or there are none at all.
    """

    dataranges: list[SignedDatarange]
    archives: Numbers
    keys: Numbers
    starts: Numbers
    contents: Numbers
    stops: Numbers
    sums: Numbers | None = None

    @property
    def sizes(self) -> Numbers:
        """The sizes of the contents in bytes."""
        return self.stops - self.contents

    def datarange(self, n: int) -> SignedDatarange:
        """Return the datarange of datapoint number `n`."""
        return self.dataranges[int(self.archives[n])]

    def entry(self, n: int) -> Entry:
        """Return the index record of datapoint number `n`."""
        start, middle = int(self.starts[n]), int(self.contents[n])
        return Entry(start, (middle - start) // BLOCK, int(self.stops[n]) - middle)

    def part(self, start: int, stop: int) -> "Locations":
        """Return the locations of datapoints number `start` up to `stop`."""
        return Locations(
            self.dataranges,
            self.archives[start:stop],
            self.keys[start:stop],
            self.starts[start:stop],
            self.contents[start:stop],
            self.stops[start:stop],
            None if self.sums is None else self.sums[start:stop],
        )

    def reads(self, costs: Costs) -> reads.Reads:
        """Return the byte ranges by which to read the datapoints, given these costs."""
        total = int((self.stops - self.starts).sum())
        limit = min(max(total // _SPLIT_CONNECTIONS, _MIN_SPLIT), MAX_REQUEST)
        return reads.plan(self.archives, self.starts, self.stops, costs.gap, limit)


@dataclass(frozen=True, slots=True)
class Holders:
    """The dataranges that hold some keys.

    Attributes:
        dataranges: The dataranges, in key order.
        archives: For each of the keys the number of its datarange in `dataranges`.
        missing: The keys that no datarange holds. If there are any, the others have no datarange either.
    """

    dataranges: list[SignedDatarange]
    archives: Numbers
    missing: Numbers


def holders(keys: Numbers, catalogues: CatalogueCache) -> Holders:
    """Return the dataranges that hold these ascending keys."""
    # Find the place of each key in its catalogue.
    parts: list[tuple[Catalogue, Numbers]] = []
    missing: list[Numbers] = []
    at, last = 0, int(keys[-1]) if len(keys) else 0
    while at < len(keys):
        key = int(keys[at])
        catalogue = catalogues.covering(key, key, last)
        stop = int(np.searchsorted(keys, catalogue.last, side="right"))
        part, (lows, highs) = keys[at:stop], catalogue.bounds
        numbers = np.searchsorted(lows, part, side="right") - 1
        missing.append(part[(numbers < 0) | (part > highs[numbers])] if len(lows) else part)
        parts.append((catalogue, numbers))
        at = stop
    lost = np.concatenate(missing) if missing else keys
    dataranges: list[SignedDatarange] = []
    if len(lost):
        return Holders(dataranges, keys[:0], lost)
    # Make the dataranges. Neighbours may be the same one, listed by two catalogues, or in parts if keys are hidden.
    archives = np.zeros(len(keys), np.int64)
    at = 0
    for catalogue, numbers in parts:
        changes = np.flatnonzero(np.diff(numbers, prepend=-1))
        for start, number in zip(changes.tolist(), numbers[changes].tolist(), strict=True):
            datarange = catalogue.datarange(number)
            if not dataranges or datarange.id != dataranges[-1].id:
                archives[at + start] = 1 if dataranges else 0
                dataranges.append(datarange)
        at += len(numbers)
    return Holders(dataranges, np.cumsum(archives), lost)


def locate(keys: Numbers, held: Holders, indices: Indices, fetcher: Fetcher) -> Locations:
    """Return the locations of ascending keys, which all exist.

    Raises:
        IndexMismatch: An index does not fit its archive.
    """
    return from_records(held.dataranges, keys, indices.records(wanted(keys, held), fetcher), held.archives)


def wanted(keys: Numbers, held: Holders) -> dict[SignedDatarange, list[int]]:
    """Return which of these ascending keys each of the dataranges holds."""
    bounds = [*np.flatnonzero(np.diff(held.archives, prepend=-1)).tolist(), len(keys)]
    every = keys.tolist()
    spans = zip(held.dataranges, pairwise(bounds), strict=True)
    return {datarange: every[start:stop] for datarange, (start, stop) in spans}


def from_records(
    dataranges: list[SignedDatarange], keys: Numbers | range, raw: bytes, archives: Numbers | None = None
) -> Locations:
    """Return the locations that index records contain.

    Args:
        dataranges: The dataranges that hold the datapoints.
        keys: The keys, in ascending order.
        raw: Their records.
        archives: For each key the number of its datarange in `dataranges`; None if there is only one.

    Raises:
        IndexMismatch: An index does not fit its archive.
    """
    starts, blocks, sizes = index.columns(raw)
    contents = starts + blocks * BLOCK
    if archives is None:
        archives = np.zeros(len(starts), np.int64)
    locations = Locations(dataranges, archives, np.asarray(keys), starts, contents, contents + sizes)
    _check(locations)
    return locations


def _check(locations: Locations) -> None:
    """Raise IndexMismatch for a datapoint outside its archive, or one that overlaps its neighbour.

    More cannot be checked without the archive; the headers are compared with the records when they are read.
    """
    ends = np.array([each.entries_end for each in locations.dataranges])[locations.archives]
    starts, stops, archives = locations.starts, locations.stops, locations.archives
    wrong = (starts < 0) | (locations.contents <= starts) | (stops > ends)
    wrong[1:] |= (starts[1:] < stops[:-1]) & (archives[1:] == archives[:-1])
    if wrong.any():
        n = int(np.argmax(wrong))
        raise IndexMismatch(
            locations.datarange(n), f"key {locations.keys[n]} would be at bytes {starts[n]} to {stops[n]}"
        )
