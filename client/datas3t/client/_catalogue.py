"""The dataranges of a datas3t with signed URLs, as one moment's answer: what a reader plans with until the URLs end."""

import time
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

from pyroaring import BitMap64

from datas3t import v1
from datas3t.archive import names
from datas3t.client._connection import Connection
from datas3t.client._expiry import stale_at
from datas3t.client._rpc import pages, patiently

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from datas3t.client.client import Client


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
    data_url: str
    index_url: str

    @property
    def count(self) -> int:
        """How many datapoints it holds."""
        return self.last - self.first + 1


class Catalogue:
    """Dataranges in key order: all that hold keys from `first` to `last`. From `stale_at`, in seconds since the epoch,
    on their URLs should be renewed."""

    def __init__(self, dataranges: list[Leased], stale_at: float, first: int = 0, last: int = names.MAX_KEY) -> None:
        self.dataranges = dataranges
        self.stale_at = stale_at
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


class Leases:
    """The catalogue of a datas3t that is used now: first of the keys that are asked for, and of all once there are
    others. No lock, which might be held while a process forks: two threads may ask at once, and one answer is kept."""

    def __init__(self, client: "Client", name: str) -> None:
        self._client = client
        self._name = name
        self._catalogue: Catalogue | None = None

    def current(self, first: int = 0, last: int = names.MAX_KEY) -> Catalogue:
        """A catalogue with these keys, asked for where there is none yet or its URLs near their end."""
        held = self._catalogue
        if held is None:
            return self._load(first, last)
        if not held.covers(first, last):
            return self._load()
        return held if time.time() < held.stale_at else self.renew(held)

    def renew(self, old: Catalogue | None = None) -> Catalogue:
        """Asks the server anew, unless another thread has already replaced `old`; for all keys where none is given."""
        held = self._catalogue
        if old is None or held is None:
            return self._load()
        return held if held is not old and held.covers(old.first, old.last) else self._load(old.first, old.last)

    def _load(self, first: int = 0, last: int = names.MAX_KEY) -> Catalogue:
        ask = partial(load, self._client.connection, self._name, first, last)
        # Who reads already rather waits for a server that is started again than gives up.
        self._catalogue = loaded = ask() if self._catalogue is None else patiently(ask)
        return loaded


def load(connection: Connection, name: str, first: int = 0, last: int = names.MAX_KEY) -> Catalogue:
    """The catalogue as the server has it now, of a span of keys. Raises NotFound."""
    found: list[Leased] = []
    stale = float("inf")
    for page in pages(
        lambda token: connection.datarange.PresignDataranges(
            v1.PresignDatarangesRequest(datas3t_name=name, first_datapoint=first, last_datapoint=last, page_token=token)
        )
    ):
        stale = min(stale, stale_at(page.expires_at))
        for each in map(_leased, page.dataranges):
            # After an aggregation between two pages the later one covers keys of the earlier one again.
            while found and found[-1].last >= each.first:
                found.pop()
            found.append(each)
    if found:  # of these all is known
        first, last = min(first, found[0].first), max(last, found[-1].last)
    return Catalogue(found, stale, first, last)


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
