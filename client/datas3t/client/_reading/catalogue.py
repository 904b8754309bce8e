"""The catalogue of a datas3t: its dataranges in key order, with presigned URLs, and listings of them by the server."""

import time
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from datas3t import v1
from datas3t.archive import names
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.renewal import Lifetime
from datas3t.client._calls.rpc import pages, relisted
from datas3t.client._reading.known import Known, Span
from datas3t.client._reading.signed import Columns, SignedDatarange

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAX_RECENT = 16  # dataranges that are kept as objects, of about 1 KB each

_Place = tuple[int, int, int]  # the row of a datarange, and the first and the last of its keys that are shown


class Catalogue:
    """Dataranges with keys from `first` to `last`, as the server listed them at one moment, in key order.

    Args:
        columns: The dataranges. They may reach beyond `first` and `last`.
        lifetime: How long their URLs may be used.
        requested_at: When the server was asked, in seconds of the monotonic clock.
        first: The first key that the listing covers.
        last: The last key that the listing covers.

    Attributes:
        used_at: When it was used last, by the count of its cache.
    """

    def __init__(
        self,
        columns: Columns,
        lifetime: Lifetime,
        requested_at: float,
        first: int = 0,
        last: int = names.MAX_KEY,
    ) -> None:
        self.lifetime = lifetime
        self.requested_at = requested_at
        self.first = first
        self.last = last
        self.used_at = 0
        self._columns = columns
        self._lows, self._highs = columns.firsts, columns.lasts  # the keys that are shown
        self._recent: dict[int, SignedDatarange] = {}  # those of the last keys that were looked up
        self._rows: array[int] | None = None  # the rows that they belong to, if some keys are hidden

    def __len__(self) -> int:
        """Return the number of dataranges, or of their parts if some keys are hidden."""
        return len(self._lows)

    @cached_property
    def size(self) -> int:
        """The bytes that it takes in memory."""
        return self._columns.size + (20 * len(self) if self._rows is not None else 0)

    @property
    def datapoints(self) -> int:
        """The number of datapoints of all dataranges."""
        return sum(self._highs) - sum(self._lows) + len(self)

    @property
    def entries_size(self) -> int:
        """The bytes of the entries of all dataranges."""
        return sum(self._columns.entries_ends)

    @property
    def spans(self) -> list[Span]:
        """The first and the last keys of each datarange that are shown, in key order."""
        return list(zip(self._lows, self._highs, strict=True))

    def shown(self) -> list[Span]:
        """Return the keys that are shown of those that the listing covers, as spans in key order."""
        # Some parts of the outermost dataranges may be outside.
        bounds = zip(self._lows, self._highs, strict=True)
        inside = [(max(low, self.first), min(high, self.last)) for low, high in bounds]
        return [(low, high) for low, high in inside if low <= high]

    def extend(self, first: int, last: int) -> None:
        """Let the listing cover all keys of its outermost dataranges, but none before `first` or after `last`."""
        if len(self):
            self.first = min(self.first, max(first, self._lows[0]))
            self.last = max(self.last, min(last, self._highs[-1]))

    def hide(self, known: Known) -> None:
        """Hide the keys that are known to be missing: their datapoints were uploaded after that was said."""
        places: list[_Place] = []
        for row, (first, last) in enumerate(zip(self._columns.firsts, self._columns.lasts, strict=True)):
            places += ((row, low, high) for low, high in known.visible(first, last))
        if len(places) != len(self._columns) or any(
            (low, high) != (self._columns.firsts[row], self._columns.lasts[row]) for row, low, high in places
        ):
            self._recent.clear()
            self._rows = array("I", [row for row, _, _ in places])
            self._lows = array("q", [low for _, low, _ in places])
            self._highs = array("q", [high for _, _, high in places])

    @property
    def bounds(self) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
        """The first keys and the last keys that are shown, as arrays."""
        import numpy as np  # noqa: PLC0415 - takes 0.1 s, which a single read does not need

        return np.asarray(self._lows), np.asarray(self._highs)

    def datarange(self, number: int) -> SignedDatarange:
        """Return the datarange with this number; several have the same if keys between them are hidden."""
        row = number if self._rows is None else self._rows[number]
        return SignedDatarange(self._columns, row, self.lifetime)

    def holding(self, key: int) -> SignedDatarange | None:
        """Return the datarange that holds the key, or None."""
        at = bisect_right(self._lows, key) - 1
        if at < 0 or key > self._highs[at]:
            return None
        found = self._recent.get(at)
        if found is None:
            if len(self._recent) >= _MAX_RECENT:
                self._recent.clear()
            found = self._recent[at] = self.datarange(at)
        return found

    def with_id(self, datarange_id: int) -> SignedDatarange | None:
        """Return the datarange with this id, or None if the catalogue does not list it."""
        try:
            return SignedDatarange(self._columns, self._columns.ids.index(datarange_id), self.lifetime)
        except ValueError:
            return None

    def overlapping(self, first: int, last: int) -> Iterator[tuple[SignedDatarange, int, int]]:
        """Yield the dataranges that hold keys from `first` to `last`, each with its first and last one of them."""
        start, stop = max(bisect_right(self._lows, first) - 1, 0), bisect_right(self._lows, last)
        for number in range(start, stop):
            low, high = max(self._lows[number], first), min(self._highs[number], last)
            if low <= high:
                yield self.datarange(number), low, high

    def count(self, first: int, last: int) -> int:
        """Return how many datapoints have keys from `first` to `last`."""
        return sum(high - low + 1 for _, low, high in self.overlapping(first, last))


def split(pieces: Iterable[tuple[SignedDatarange, int, int]], parts: int) -> list[Span]:
    """Cut keys into at most `parts` spans with about the same number of bytes each.

    All datapoints of a datarange count as equally large.

    Args:
        pieces: Dataranges, each with the first and the last of its keys, as from `Catalogue.overlapping`.
        parts: How many spans to make.

    Returns:
        Pairs of first and last key, in key order. Together they contain every datapoint, and each contains at least
        one.
    """
    firsts, lasts, sizes = array("q"), array("q"), array("d")
    for each, first, last in pieces:
        firsts.append(first)
        lasts.append(last)
        sizes.append(each.entries_end * (last - first + 1) / each.count)
    if not firsts:
        return []
    parts = min(parts, sum(lasts) - sum(firsts) + len(firsts))
    ends = array("d", accumulate(sizes))
    starts: Sequence[int] = [*firsts, lasts[-1] + 1]

    def key_at(size: float) -> int:
        """Return the first existing key after `size` bytes; the key after the last span if there is no such key."""
        at = min(bisect_right(ends, size), len(lasts) - 1)
        count = lasts[at] - firsts[at] + 1
        key = firsts[at] + round((size - ends[at] + sizes[at]) / (sizes[at] / count))
        return key if key <= lasts[at] else starts[at + 1]

    # Cut at equal shares of the bytes; shares that fall on the same key become one span.
    cuts = sorted({starts[0], *(key_at(ends[-1] * n / parts) for n in range(1, parts)), starts[-1]})
    return [(start, stop - 1) for start, stop in pairwise(cuts)]


def load(connection: Connection, name: str, first: int = 0, last: int = names.MAX_KEY) -> Catalogue:
    """Ask the server for all dataranges with keys from `first` to `last`.

    Raises:
        NotFound: There is no datas3t with this name.
    """

    def listed() -> Catalogue:
        requested_at = time.monotonic()
        columns, expirations = Columns(), list[Timestamp]()
        for page in pages(lambda token: _page(connection, name, first, last, 0, token)):
            columns.add_page(page)
            expirations.append(page.expires_at)
        return Catalogue(columns, Lifetime.until(*expirations), requested_at, first, last)

    return relisted(listed)


def load_page(connection: Connection, name: str, first: int, last: int, count: int, jitter: float) -> Catalogue:
    """Ask the server for the first dataranges with keys from `first` to `last`; the catalogue tells which it covers.

    Args:
        connection: The connection.
        name: The datas3t.
        first: The first key.
        last: The last key.
        count: How many dataranges to ask for.
        jitter: By which share of a tenth of their lifetime, from 0 to 1, the URLs are renewed earlier than needed, so
            that readers which started together do not renew together.

    Raises:
        NotFound: There is no datas3t with this name.
    """
    requested_at = time.monotonic()
    page = _page(connection, name, first, last, count)
    columns = Columns()
    columns.add_page(page)
    if page.next_page_token:
        last = columns.lasts[-1]
    return Catalogue(columns, Lifetime.until(page.expires_at).earlier(jitter), requested_at, first, last)


def _page(
    connection: Connection, name: str, first: int, last: int, count: int, token: str = ""
) -> v1.PresignDatarangesResponse:
    request = v1.PresignDatarangesRequest(
        datas3t_name=name, first_datapoint=first, last_datapoint=last, page_size=count, page_token=token, columns=True
    )
    return connection.datarange.PresignDataranges(request)
