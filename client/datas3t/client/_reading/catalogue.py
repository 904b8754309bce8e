"""The catalogue of a datas3t: its dataranges in key order, with presigned URLs."""

import time
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp
from pyroaring import BitMap64

from datas3t import v1
from datas3t.archive import names
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.renewal import Lifetime
from datas3t.client._calls.rpc import pages

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SignedDatarange:
    """A datarange with presigned URLs of its archive and its index.

    It holds the keys `first` to `last`. The archive has `size` bytes, and its last entry ends at byte `entries_end`.
    Until it expires, each URL serves any byte range of its object.
    """

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
        """The number of datapoints."""
        return self.last - self.first + 1


class Catalogue:
    """All dataranges with keys from `first` to `last`, as the server listed them at one moment, in key order.

    Args:
        dataranges: The dataranges, in key order.
        lifetime: How long their URLs may be used.
        requested_at: When the server was asked, in seconds of the monotonic clock.
        first: The first key that the listing covers.
        last: The last key that the listing covers.
    """

    def __init__(
        self,
        dataranges: list[SignedDatarange],
        lifetime: Lifetime,
        requested_at: float,
        first: int = 0,
        last: int = names.MAX_KEY,
    ) -> None:
        self.dataranges = dataranges
        self.lifetime = lifetime
        self.requested_at = requested_at
        self.first = first
        self.last = last
        self._firsts = [each.first for each in dataranges]
        self._by_id = {each.id: each for each in dataranges}

    def covers(self, first: int, last: int) -> bool:
        """Return whether the listing covers all keys from `first` to `last`."""
        return self.first <= first and last <= self.last

    @cached_property
    def bounds(self) -> "NDArray[np.int64]":
        """The first keys and the last keys of the dataranges, as an array of two rows."""
        import numpy as np  # noqa: PLC0415 - takes 0.1 s, which a single read does not need

        return np.array([self._firsts, [each.last for each in self.dataranges]], np.int64)

    def holding(self, key: int) -> SignedDatarange | None:
        """Return the datarange that holds the key, or None."""
        at = bisect_right(self._firsts, key) - 1
        return self.dataranges[at] if at >= 0 and key <= self.dataranges[at].last else None

    def with_id(self, datarange_id: int) -> SignedDatarange | None:
        """Return the datarange with this id, or None if the catalogue does not list it."""
        return self._by_id.get(datarange_id)

    def overlapping(self, first: int, last: int) -> list[SignedDatarange]:
        """Return the dataranges that hold a key from `first` to `last`."""
        start = max(bisect_right(self._firsts, first) - 1, 0)
        stop = bisect_right(self._firsts, last)
        return [each for each in self.dataranges[start:stop] if each.last >= first]

    def __len__(self) -> int:
        """Return the number of datapoints."""
        return sum(each.count for each in self.dataranges)

    def count(self, first: int, last: int) -> int:
        """Return how many datapoints have keys from `first` to `last`."""
        return sum(min(each.last, last) - max(each.first, first) + 1 for each in self.overlapping(first, last))

    @cached_property
    def keys(self) -> BitMap64:
        """The keys of all datapoints."""
        keys = BitMap64()
        for each in self.dataranges:
            keys.add_range(each.first, each.last + 1)
        return keys

    def split(self, first: int, last: int, parts: int) -> list[tuple[int, int]]:
        """Cut the keys from `first` to `last` into at most `parts` spans with about the same number of bytes each.

        All datapoints of a datarange count as equally large.

        Returns:
            Pairs of first and last key, in key order. Together they contain every datapoint from `first` to `last`,
            and each contains at least one.
        """
        spans = [(max(each.first, first), min(each.last, last), each) for each in self.overlapping(first, last)]
        if not spans:
            return []
        parts = min(parts, sum(stop - start + 1 for start, stop, _ in spans))
        sizes = [each.entries_end * (stop - start + 1) / each.count for start, stop, each in spans]
        ends = list(accumulate(sizes))
        starts = [*(start for start, _, _ in spans), spans[-1][1] + 1]

        def key_at(size: float) -> int:
            """Return the first existing key after `size` bytes; the key after the last span if there is no such key."""
            at = min(bisect_right(ends, size), len(spans) - 1)
            start, stop, each = spans[at]
            key = start + round((size - ends[at] + sizes[at]) / (each.entries_end / each.count))
            return key if key <= stop else starts[at + 1]

        # Cut at equal shares of the bytes; shares that fall on the same key become one span.
        cuts = sorted({starts[0], *(key_at(ends[-1] * n / parts) for n in range(1, parts)), starts[-1]})
        return [(start, stop - 1) for start, stop in pairwise(cuts)]


def load(connection: Connection, name: str, first: int = 0, last: int = names.MAX_KEY) -> Catalogue:
    """Ask the server for the dataranges with keys from `first` to `last`.

    Raises:
        NotFound: There is no datas3t with this name.
    """
    dataranges: list[SignedDatarange] = []
    expirations: list[Timestamp] = []
    requested_at = time.monotonic()
    for page in pages(
        lambda token: connection.datarange.PresignDataranges(
            v1.PresignDatarangesRequest(datas3t_name=name, first_datapoint=first, last_datapoint=last, page_token=token)
        )
    ):
        expirations.append(page.expires_at)
        for each in map(_signed_datarange, page.dataranges):
            # After an aggregation between two pages, the later page covers keys of the earlier one again.
            while dataranges and dataranges[-1].last >= each.first:
                dataranges.pop()
            dataranges.append(each)
    if dataranges:  # the server lists whole dataranges, which may reach beyond the keys asked for
        first, last = min(first, dataranges[0].first), max(last, dataranges[-1].last)
    return Catalogue(dataranges, Lifetime.until(*expirations), requested_at, first, last)


def _signed_datarange(message: v1.PresignedDatarange) -> SignedDatarange:
    return SignedDatarange(
        id=message.datarange_id,
        first=message.min_datapoint_key,
        last=message.max_datapoint_key,
        size=message.size_bytes,
        entries_end=message.entries_size_bytes,
        data_etag=message.data_etag,
        index_etag=message.index_etag,
        data_url=message.presigned_data_url,
        index_url=message.presigned_index_url,
    )
