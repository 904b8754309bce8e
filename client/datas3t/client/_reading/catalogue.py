"""The dataranges of a datas3t with signed URLs, as one moment's answer: what a reader plans with until the URLs end."""

import time
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from pyroaring import BitMap64

from datas3t import v1
from datas3t.archive import names
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.renewal import stale_at
from datas3t.client._calls.rpc import pages

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Leased:
    """A datarange that can be read: keys `first` to `last`; the entries end at `entries_end` of its archive's `size`
    bytes. Each URL answers any range of its object as long as it lasts."""

    id: int
    first: int
    last: int
    size: int
    entries_end: int
    data_etag: str
    index_etag: str
    data_url: str = field(repr=False)
    index_url: str = field(repr=False)

    @property
    def count(self) -> int:
        """How many datapoints it holds."""
        return self.last - self.first + 1


class Catalogue:
    """Dataranges in key order: all that hold keys from `first` to `last`.

    Their URLs should be renewed from `stale_at` on, and end at `ends_at`, in seconds since the epoch. They were asked
    for at `asked_at` by the monotonic clock.
    """

    def __init__(
        self,
        dataranges: list[Leased],
        stale_at: float,
        ends_at: float,
        asked_at: float,
        first: int = 0,
        last: int = names.MAX_KEY,
    ) -> None:
        self.dataranges = dataranges
        self.stale_at = stale_at
        self.ends_at = ends_at
        self.asked_at = asked_at
        self.first = first
        self.last = last
        self._firsts = [each.first for each in dataranges]
        self._by_id = {each.id: each for each in dataranges}

    def covers(self, first: int, last: int) -> bool:
        """Whether it tells of all keys from `first` to `last`."""
        return self.first <= first and last <= self.last

    @cached_property
    def bounds(self) -> "NDArray[np.int64]":
        """First and last keys, as two rows."""
        import numpy as np  # noqa: PLC0415 - 0.1 s that a single read does not need

        return np.array([self._firsts, [each.last for each in self.dataranges]], np.int64)

    def holding(self, key: int) -> Leased | None:
        """The datarange that holds the key."""
        at = bisect_right(self._firsts, key) - 1
        return self.dataranges[at] if at >= 0 and key <= self.dataranges[at].last else None

    def with_id(self, datarange_id: int) -> Leased | None:
        """The datarange with this id, if it is still there."""
        return self._by_id.get(datarange_id)

    def within(self, first: int, last: int) -> list[Leased]:
        """The dataranges that hold keys from `first` to `last`."""
        start = max(bisect_right(self._firsts, first) - 1, 0)
        stop = bisect_right(self._firsts, last)
        return [each for each in self.dataranges[start:stop] if each.last >= first]

    def __len__(self) -> int:
        return sum(each.count for each in self.dataranges)

    def count(self, first: int, last: int) -> int:
        """How many keys from `first` to `last` are present."""
        return sum(min(each.last, last) - max(each.first, first) + 1 for each in self.within(first, last))

    @cached_property
    def keys(self) -> BitMap64:
        """The keys present."""
        keys = BitMap64()
        for each in self.dataranges:
            keys.add_range(each.first, each.last + 1)
        return keys


def load(connection: Connection, name: str, first: int = 0, last: int = names.MAX_KEY) -> Catalogue:
    """The catalogue as the server has it now, of a span of keys. Raises NotFound."""
    found: list[Leased] = []
    stale = end = float("inf")
    asked_at = time.monotonic()
    for page in pages(
        lambda token: connection.datarange.PresignDataranges(
            v1.PresignDatarangesRequest(datas3t_name=name, first_datapoint=first, last_datapoint=last, page_token=token)
        )
    ):
        stale = min(stale, stale_at(page.expires_at))
        end = min(end, page.expires_at.ToMicroseconds() / 1e6)
        for each in map(_leased, page.dataranges):
            # After an aggregation between two pages the later one covers keys of the earlier one again.
            while found and found[-1].last >= each.first:
                found.pop()
            found.append(each)
    if found:  # of these all is known
        first, last = min(first, found[0].first), max(last, found[-1].last)
    return Catalogue(found, stale, end, asked_at, first, last)


def _leased(found: v1.PresignedDatarange) -> Leased:
    return Leased(
        id=found.datarange_id,
        first=found.min_datapoint_key,
        last=found.max_datapoint_key,
        size=found.size_bytes,
        entries_end=found.entries_size_bytes,
        data_etag=found.data_etag,
        index_etag=found.index_etag,
        data_url=found.presigned_data_url,
        index_url=found.presigned_index_url,
    )
