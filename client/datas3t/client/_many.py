"""Many datapoints at once: few ranged GETs, each cut into contents as it comes."""

import numpy as np

from datas3t.archive.index import BLOCK, Entry
from datas3t.client import _places
from datas3t.client._answers import Explanation
from datas3t.client._fetching import LARGEST, Fetching, Piece
from datas3t.client._indices import Indices
from datas3t.client._one import is_plain, large, name_of
from datas3t.client._places import Numbers, Places


def contents(keys: Numbers, indices: Indices, fetching: Fetching) -> list[bytes]:
    """The contents of ascending keys, all of which are there. Raises Unfit where an index is another archive's."""
    return _contents(_places.locate(keys, indices, fetching), fetching)


def explanation(keys: Numbers, indices: Indices, fetching: Fetching) -> Explanation:
    """How they would be read."""
    places = _places.locate(keys, indices, fetching)
    reads = places.reads(fetching.costs)
    parts = -(-places.sizes[reads.bounds[:-1]] // LARGEST)  # of a range that is one large datapoint, beside its header
    requests = int(np.where(reads.stops - reads.starts > LARGEST, parts + 1, 1).sum())
    parallelism = fetching.costs.parallelism(requests, reads.size)
    return Explanation(len(keys), requests, int(places.sizes.sum()), reads.size, parallelism, fetching.costs.gap)


def _contents(places: Places, fetching: Fetching) -> list[bytes]:
    found = [b""] * len(places.keys)
    holders, keys, starts = places.holders.tolist(), places.keys.tolist(), places.starts.tolist()
    middles, stops = places.contents.tolist(), places.stops.tolist()
    reads = places.reads(fetching.costs)
    froms, bounds = reads.starts.tolist(), reads.bounds.tolist()

    def entry(n: int) -> Entry:
        return Entry(starts[n], (middles[n] - starts[n]) // BLOCK, stops[n] - middles[n])

    def cut(number: int, body: bytes) -> None:
        start = froms[number]
        for n in range(bounds[number], bounds[number + 1]):
            at, middle, stop = starts[n] - start, middles[n] - start, stops[n] - start
            if not is_plain(body, at, middle - at, keys[n], stop - middle):
                name_of(places.dataranges[holders[n]], keys[n], entry(n), body[at:middle])
            found[n] = body[middle:stop]

    split = np.flatnonzero(reads.stops - reads.starts > LARGEST).tolist()
    pieces = [
        Piece(places.dataranges[archive], start, stop)
        for archive, start, stop in zip(reads.archives.tolist(), froms, reads.stops.tolist(), strict=True)
    ]
    if not split:
        fetching.each(pieces, cut)
        return found
    whole = sorted({*range(len(pieces))}.difference(split))
    fetching.each([pieces[number] for number in whole], lambda at, body: cut(whole[at], body))
    for n in (bounds[number] for number in split):
        found[n] = large(places.dataranges[holders[n]], keys[n], entry(n), fetching)[1]
    return found
