"""Where many datapoints lie, as arrays; and what of it must hold before their bytes are believed."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from datas3t.archive import index, reads
from datas3t.archive.index import BLOCK, Entry
from datas3t.client._reading.catalogue import Catalogue, Leased
from datas3t.client._reading.costs import Costs
from datas3t.client._reading.fetching import LARGEST, Fetching
from datas3t.client._reading.index_files import unfit
from datas3t.client._reading.indices import Indices

Numbers = NDArray[np.int64]

_LEAST = 1 << 20  # bytes up to which neighbours are read by one request, however many connections there are
_CONNECTIONS = 16  # that share a long run


@dataclass(frozen=True, slots=True)
class Places:
    """Datapoints in ascending order of their keys: number n is in `dataranges[holders[n]]`, its header blocks from
    `starts[n]`, its content from `contents[n]` up to `stops[n]`."""

    dataranges: list[Leased]
    holders: Numbers
    keys: Numbers
    starts: Numbers
    contents: Numbers
    stops: Numbers

    @property
    def sizes(self) -> Numbers:
        """Bytes of the contents."""
        return self.stops - self.contents

    def holder(self, n: int) -> Leased:
        """The datarange of datapoint number n."""
        return self.dataranges[int(self.holders[n])]

    def entry(self, n: int) -> Entry:
        """The record of datapoint number n."""
        start, middle = int(self.starts[n]), int(self.contents[n])
        return Entry(start, (middle - start) // BLOCK, int(self.stops[n]) - middle)

    def part(self, start: int, stop: int) -> "Places":
        """Datapoints number `start` up to `stop`."""
        arrays = (self.holders, self.keys, self.starts, self.contents, self.stops)
        return Places(self.dataranges, *(each[start:stop] for each in arrays))

    def reads(self, costs: Costs) -> reads.Reads:
        """The ranges to read them by, at these costs."""
        total = int((self.stops - self.starts).sum())
        limit = min(max(total // _CONNECTIONS, _LEAST), LARGEST)
        return reads.plan(self.holders, self.starts, self.stops, costs.gap, limit)


def missing(catalogue: Catalogue, keys: Numbers) -> Numbers:
    """Which of these ascending keys are not there."""
    at, (firsts, lasts) = _holders(catalogue, keys), catalogue.bounds
    return keys[(at < 0) | (keys > lasts[at])] if len(firsts) else keys


def locate(keys: Numbers, indices: Indices, fetching: Fetching) -> Places:
    """Places of these ascending keys, all of which are there. Raises ArchiveError for an index that does not fit."""
    catalogue = fetching.catalogue
    at = _holders(catalogue, keys)
    bounds = np.append(np.flatnonzero(np.diff(at, prepend=-1)), len(keys)).tolist()
    numbers, every = at.tolist(), keys.tolist()
    wanted: dict[Leased, Sequence[int]] = {
        catalogue.dataranges[numbers[start]]: every[start:stop] for start, stop in pairwise(bounds)
    }
    holders = np.repeat(np.arange(len(wanted)), np.diff(bounds))
    return of_records(list(wanted), keys, indices.records(wanted, fetching), holders)


def of_records(dataranges: list[Leased], keys: Numbers | range, raw: bytes, holders: Numbers | None = None) -> Places:
    """The places that records tell. Raises ArchiveError for an index that does not fit."""
    starts, blocks, sizes = index.columns(raw)
    contents = starts + blocks * BLOCK
    if holders is None:
        holders = np.zeros(len(starts), np.int64)
    places = Places(dataranges, holders, np.asarray(keys), starts, contents, contents + sizes)
    _check(places)
    return places


def _holders(catalogue: Catalogue, keys: Numbers) -> Numbers:
    return np.searchsorted(catalogue.bounds[0], keys, side="right") - 1


def _check(places: Places) -> None:
    """One record can only be held against its archive's bounds, and against its neighbours; what it points to is
    checked when it is read."""
    ends = np.array([each.entries_end for each in places.dataranges])[places.holders]
    wrong = (places.starts < 0) | (places.contents <= places.starts) | (places.stops > ends)
    wrong[1:] |= (places.starts[1:] < places.stops[:-1]) & (places.holders[1:] == places.holders[:-1])
    if wrong.any():
        number = int(np.argmax(wrong))
        leased = places.dataranges[places.holders[number]]
        raise unfit(
            leased, f"key {places.keys[number]} would be at bytes {places.starts[number]} to {places.stops[number]}"
        )
