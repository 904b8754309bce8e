"""Many datapoints at once: few ranged GETs, each cut into contents as it comes."""

import numpy as np

from datas3t.client._reading import places as _places
from datas3t.client._reading.fetching import LARGEST, Fetching
from datas3t.client._reading.indices import Indices
from datas3t.client._reading.one import is_plain, large, name_of
from datas3t.client._reading.places import Numbers, Places
from datas3t.client._reading.results import Explanation
from datas3t.transport import Range


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
    reads = places.reads(fetching.costs)
    bounds, keys = reads.bounds.tolist(), places.keys.tolist()
    origins = np.repeat(reads.starts, np.diff(reads.bounds))
    starts, middles = (places.starts - origins).tolist(), (places.contents - origins).tolist()
    stops = (places.stops - origins).tolist()

    def cut(number: int, body: bytes) -> None:
        for n in range(bounds[number], bounds[number + 1]):
            start, middle, stop = starts[n], middles[n], stops[n]
            if not is_plain(body, start, middle - start, keys[n], stop - middle):
                name_of(places.holder(n), keys[n], places.entry(n), body[start:middle])
            found[n] = body[middle:stop]

    sources = [fetching.source(leased) for leased in places.dataranges]
    ranges = [
        Range(url, etag, start, stop)
        for (url, etag), start, stop in zip(
            [sources[archive] for archive in reads.archives.tolist()],
            reads.starts.tolist(),
            reads.stops.tolist(),
            strict=True,
        )
    ]
    split = np.flatnonzero(reads.stops - reads.starts > LARGEST).tolist()
    if not split:
        fetching.each(ranges, cut)
        return found
    whole = sorted({*range(len(ranges))}.difference(split))
    fetching.each([ranges[number] for number in whole], lambda at, body: cut(whole[at], body))
    for n in (bounds[number] for number in split):
        found[n] = large(places.holder(n), keys[n], places.entry(n), fetching)[1]
    return found
