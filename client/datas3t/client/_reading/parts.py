"""Reading parts of contents: few ranged GETs, and the header of each datapoint once."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import TypeAlias

import numpy as np

from datas3t.archive import reads
from datas3t.client._reading import locations as _locations
from datas3t.client._reading.datapoint import DatapointInfo, checked_name
from datas3t.client._reading.fetching import MAX_REQUEST, Fetcher, Piece
from datas3t.client._reading.indices import Indices
from datas3t.client._reading.locations import Holders, Locations, Numbers

Part: TypeAlias = tuple[int, int, int]  # a key, and bytes `start` up to `stop` of its content

_MAX_CHECKED = 10_000


class CheckedHeaders:
    """Datapoints whose headers were compared with their index records: it is enough to do so once."""

    def __init__(self) -> None:
        self._checked: set[tuple[int, int]] = set()

    def __contains__(self, one: tuple[int, int]) -> bool:
        return one in self._checked

    def add(self, datarange: int, key: int) -> None:
        """Note the datapoint with this key in the datarange with this id."""
        if len(self._checked) >= _MAX_CHECKED:
            self._checked.clear()
        self._checked.add((datarange, key))


@dataclass(frozen=True, slots=True)
class _Bytes:
    """Bytes to read: of part number `part`, or the header of datapoint number `header`."""

    archive: int
    start: int
    stop: int
    part: int = -1
    header: int = -1


def parts(
    wanted: Sequence[Part], checked: CheckedHeaders, keys: Numbers, held: Holders, indices: Indices, fetcher: Fetcher
) -> list[bytes]:
    """Return parts of the contents of ascending keys; what is behind the end of a content is left out.

    Raises:
        IndexMismatch: An index does not fit its archive.
    """
    locations = _locations.locate(keys, held, indices, fetcher)
    found = [b""] * len(wanted)
    needed = _headers(locations, checked)
    large = []
    for number, ((_, start, stop), n) in enumerate(zip(wanted, _numbers(keys, wanted), strict=True)):
        begin, end = int(locations.contents[n]), int(locations.stops[n])
        each = _Bytes(int(locations.archives[n]), min(begin + start, end), min(begin + stop, end), part=number)
        if each.stop - each.start > MAX_REQUEST:
            large.append(each)
        elif each.stop > each.start:
            needed.append(each)

    def take(each: _Bytes, body: bytes) -> None:
        if each.header < 0:
            found[each.part] = body
            return
        n = each.header
        checked_name(locations.datarange(n), int(locations.keys[n]), locations.entry(n), body)
        checked.add(locations.datarange(n).id, int(locations.keys[n]))

    _fetch(needed, locations, fetcher, take)
    for each in large:
        found[each.part] = fetcher.fetch_large(locations.dataranges[each.archive], each.start, each.stop)
    return found


def descriptions(
    checked: CheckedHeaders, trusting: bool, keys: Numbers, held: Holders, indices: Indices, fetcher: Fetcher
) -> list[DatapointInfo]:
    """Return what is known of ascending keys without their contents. Raise as `parts` does.

    With `trusting`, no header is read where the server knows the extension of a datarange.
    """
    locations = _locations.locate(keys, held, indices, fetcher)
    extensions = [each.extension if trusting else "" for each in locations.dataranges]
    archives = locations.archives.tolist()
    names = [
        f"{key:020d}.{extensions[archive]}" if extensions[archive] else ""
        for key, archive in zip(keys.tolist(), archives, strict=True)
    ]

    def take(each: _Bytes, body: bytes) -> None:
        n = each.header
        names[n] = checked_name(locations.datarange(n), int(keys[n]), locations.entry(n), body)
        checked.add(locations.datarange(n).id, int(keys[n]))

    if not all(extensions):
        unnamed = [each for each in _headers(locations, CheckedHeaders()) if not names[each.header]]
        _fetch(unnamed, locations, fetcher, take)
    sources = [(each.id, each.data_etag) for each in locations.dataranges]
    return [
        DatapointInfo(key, name, size, *sources[archive])
        for key, name, size, archive in zip(keys.tolist(), names, locations.sizes.tolist(), archives, strict=True)
    ]


def _numbers(keys: Numbers, wanted: Sequence[Part]) -> list[int]:
    """Return for each part the number of its key."""
    numbers: list[int] = np.searchsorted(keys, np.array([key for key, _, _ in wanted], np.int64)).tolist()
    return numbers


def _headers(locations: Locations, checked: CheckedHeaders) -> list[_Bytes]:
    """Return the headers that were not checked yet."""
    bounds = zip(
        locations.archives.tolist(), locations.keys.tolist(), locations.starts.tolist(), locations.contents.tolist(),
        strict=True,
    )  # fmt: skip
    return [
        _Bytes(archive, start, content, header=n)
        for n, (archive, key, start, content) in enumerate(bounds)
        if (locations.dataranges[archive].id, key) not in checked
    ]


def _fetch(needed: list[_Bytes], locations: Locations, fetcher: Fetcher, take: Callable[[_Bytes, bytes], None]) -> None:
    """Call `take` with each of the bytes; neighbours are fetched together."""
    needed.sort(key=attrgetter("archive", "start", "stop"))
    pieces: list[Piece] = []
    members: list[list[_Bytes]] = []
    for archive, group in groupby(needed, key=attrgetter("archive")):
        those = list(group)
        ranges = [range(each.start, each.stop) for each in those]
        joined = list(reads.merge(ranges, fetcher.costs.gap, MAX_REQUEST))
        first = len(pieces)
        pieces += [Piece(locations.dataranges[archive], each.start, each.stop) for each in joined]
        members += [[] for _ in joined]
        starts = [each.start for each in joined]
        for each in those:
            members[first + bisect_right(starts, each.start) - 1].append(each)
    for piece, body, those in zip(pieces, fetcher.fetch_all(pieces), members, strict=True):
        for each in those:
            take(each, body[each.start - piece.start : each.stop - piece.start])
