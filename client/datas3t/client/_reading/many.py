"""Reading many datapoints at once: few ranged GETs, each cut into contents when it arrives."""

import numpy as np

from datas3t.archive.checksums import crc
from datas3t.archive.index import BLOCK
from datas3t.client._reading import locations as _locations
from datas3t.client._reading.checksums import Checksums
from datas3t.client._reading.costs import Explanation
from datas3t.client._reading.datapoint import REGULAR, Datapoint, checked_name, fetch_again, fetch_large
from datas3t.client._reading.fetching import MAX_REQUEST, Fetcher
from datas3t.client._reading.indices import Indices
from datas3t.client._reading.locations import Holders, Locations, Numbers
from datas3t.transport import Range


def contents(
    keys: Numbers, held: Holders, indices: Indices, fetcher: Fetcher, checksums: Checksums | None = None
) -> list[bytes]:
    """Return the contents of ascending keys, which these dataranges hold, compared with their checksums.

    Raises:
        IndexMismatch: An index does not fit its archive.
        ChecksumMismatch: A content differs from its checksum, also when both are fetched again.
    """
    return _compared(keys, held, indices, fetcher, checksums, None)


def datapoints(
    keys: Numbers, held: Holders, indices: Indices, fetcher: Fetcher, checksums: Checksums | None = None
) -> list[Datapoint]:
    """Return the datapoints with ascending keys. Raise as `contents` does."""
    names = [""] * len(keys)
    found = _compared(keys, held, indices, fetcher, checksums, names)
    return list(map(Datapoint._make, zip(keys.tolist(), names, found, strict=True)))


def sizes(keys: Numbers, held: Holders, indices: Indices, fetcher: Fetcher) -> Numbers:
    """Return the sizes of the contents of ascending keys in bytes, from the indices alone."""
    return _locations.locate(keys, held, indices, fetcher).sizes


def _compared(
    keys: Numbers,
    held: Holders,
    indices: Indices,
    fetcher: Fetcher,
    checksums: Checksums | None,
    names: list[str] | None,
) -> list[bytes]:
    locations = _locations.locate(keys, held, indices, fetcher)
    if checksums is None:
        return _contents(locations, fetcher, None, [], names)
    sums = checksums.of(_locations.wanted(keys, held), fetcher)
    differing: list[int] = []
    found = _contents(locations, fetcher, None if sums is None else sums.tolist(), differing, names)
    for n in differing:
        key = int(keys[n])
        found[n] = fetch_again(locations.datarange(n), key, locations.entry(n), fetcher, checksums)
    return found


def explanation(
    keys: Numbers, held: Holders, indices: Indices, fetcher: Fetcher, checksums: Checksums | None = None
) -> Explanation:
    """Return how `contents` would read these keys. Raise as it does."""
    locations = _locations.locate(keys, held, indices, fetcher)
    if checksums is not None:
        checksums.of(_locations.wanted(keys, held), fetcher)  # `contents` finds them in the cache, like the indices
    reads = locations.reads(fetcher.costs)
    # A range above the limit is one large datapoint: one request for its headers, and the content in parts.
    parts = -(-locations.sizes[reads.bounds[:-1]] // MAX_REQUEST)
    requests = int(np.where(reads.stops - reads.starts > MAX_REQUEST, parts + 1, 1).sum())
    parallelism = fetcher.costs.parallelism(requests, reads.size)
    return Explanation(len(keys), requests, int(locations.sizes.sum()), reads.size, parallelism, fetcher.costs.gap)


def _contents(
    locations: Locations,
    fetcher: Fetcher,
    sums: list[int] | None,
    differing: list[int],
    entry_names: list[str] | None,
) -> list[bytes]:
    """Return the contents.

    Args:
        locations: Where they are.
        fetcher: Fetches them.
        sums: Their checksums, or -1 where there is none.
        differing: The numbers of those that have another checksum are added to it.
        entry_names: The names of their entries are written to it, if it is a list.
    """
    contents = [b""] * len(locations.keys)
    # Plan the ranges. Plain lists from here on: single elements of arrays are slow to read.
    reads = locations.reads(fetcher.costs)
    bounds, keys = reads.bounds.tolist(), locations.keys.tolist()
    origins = np.repeat(reads.starts, np.diff(reads.bounds))
    starts, middles = (locations.starts - origins).tolist(), (locations.contents - origins).tolist()
    stops = (locations.stops - origins).tolist()
    # What the header of an entry has if it is the one block that most tools write.
    are_plain = (locations.contents - locations.starts == BLOCK).tolist()
    names, sizes = texts(locations.keys, 10, 20), texts(locations.sizes, 8, 11)

    def cut(number: int, body: bytes) -> None:
        """Check the datapoints in the body of range `number` and store their contents."""
        for n in range(bounds[number], bounds[number + 1]):
            start, middle = starts[n], middles[n]
            if not (
                are_plain[n]
                and body.startswith(names[n], start)
                and body.startswith(sizes[n], start + 124)
                and body[start + 156] in REGULAR
            ):
                name = checked_name(locations.datarange(n), keys[n], locations.entry(n), body[start:middle])
                if entry_names is not None:
                    entry_names[n] = name
            elif entry_names is not None:
                entry_names[n] = body[start : start + 100].partition(b"\0")[0].decode("utf-8", "surrogateescape")
            content = contents[n] = body[middle : stops[n]]
            if sums and crc(content) != sums[n] and sums[n] >= 0:
                differing.append(n)

    sources = [fetcher.source(datarange) for datarange in locations.dataranges]
    ranges = [
        Range(url, etag, start, stop)
        for (url, etag), start, stop in zip(
            [sources[archive] for archive in reads.archives.tolist()],
            reads.starts.tolist(),
            reads.stops.tolist(),
            strict=True,
        )
    ]
    # Fetch them: small ranges together, then large datapoints one by one, each over several connections.
    large = np.flatnonzero(reads.stops - reads.starts > MAX_REQUEST).tolist()
    if not large:
        fetcher.fetch_each(ranges, cut)
        return contents
    small = sorted({*range(len(ranges))}.difference(large))
    fetcher.fetch_each([ranges[number] for number in small], lambda at, body: cut(small[at], body))
    for n in (bounds[number] for number in large):
        name, contents[n] = fetch_large(locations.datarange(n), keys[n], locations.entry(n), fetcher)
        if entry_names is not None:
            entry_names[n] = name
        if sums and crc(contents[n]) != sums[n] and sums[n] >= 0:
            differing.append(n)
    return contents


def texts(values: Numbers, base: int, digits: int) -> list[bytes]:
    """Return numbers as text with leading zeros; of those with more digits, the last ones."""
    out = np.full((len(values), digits), ord("0"), np.uint8)
    for at in range(digits - 1, -1, -1):
        if not values.any():  # only zeros are left
            break
        rest = values // base
        out[:, at] += (values - rest * base).astype(np.uint8)
        values = rest
    texts: list[bytes] = out.view(f"S{digits}").ravel().tolist()
    return texts
