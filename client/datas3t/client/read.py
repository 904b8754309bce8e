"""Datas3t: a handle to read datapoints with, straight from S3.

The server is asked once for all dataranges with their URLs, and again only when these near their end. Where a datapoint
lies is looked up in the datarange's index; neighbours are fetched as one.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, SupportsIndex, TypeVar

from pyroaring import BitMap64

from datas3t.archive import index, names, spans
from datas3t.archive.errors import FormatError
from datas3t.archive.header import check_entry
from datas3t.archive.index import Entry
from datas3t.client._catalogue import Catalogue, Leased, Leases
from datas3t.client._fetching import Fetch, Gone, Piece, fetcher
from datas3t.client._indices import Indices
from datas3t.client.dataranges import check_range
from datas3t.client.errors import ArchiveError, DatapointNotFound

if TYPE_CHECKING:
    from datas3t.client.client import Client

T = TypeVar("T")

_GAP = 64 << 10  # bytes between two datapoints that are fetched as one rather than by two requests
_REQUEST = 8 << 20  # bytes of one request at most, unless a single datapoint is larger
_AHEAD = 4  # requests of a scan that are under way at a time
_AT_ONCE = 16 << 20  # bytes of these together at most, unless a single one is larger
_SCAN_REQUEST = 2 << 20
_TRIES = 3  # how often the dataranges may be replaced under one read


@dataclass(frozen=True, slots=True)
class Datapoint:
    """A datapoint: its key, the name of its entry (`00000000000000000042.png`) and its content."""

    key: int
    name: str
    content: bytes


class Datas3t:
    """Reads the datapoints of one datas3t. Made by Client.datas3t; no request is made until something is read.

    What is there is asked for at the first use; `refresh` asks again. May be used from many threads and after a fork,
    and pickles. Errors, beside those of the methods: NotFound where there is no such datas3t; ObjectChanged where S3
    has other bytes than were uploaded; ArchiveError for an index that does not fit; TransferFailed.
    """

    def __init__(self, client: "Client", name: str) -> None:
        self._client = client
        self._name = name
        self._leases = Leases(client, name)
        self._indices = Indices()

    def __reduce__(self) -> tuple[type["Datas3t"], tuple["Client", str]]:
        return Datas3t, (self._client, self._name)

    def __repr__(self) -> str:
        return f"Datas3t({self._client.url!r}, {self._name!r})"

    @property
    def name(self) -> str:
        """The name of the datas3t."""
        return self._name

    @property
    def keys(self) -> BitMap64:
        """The keys of the datapoints present; a copy."""
        return BitMap64(self._leases.current().keys)

    def __len__(self) -> int:
        """How many datapoints are present."""
        return len(self._leases.current())

    def __contains__(self, key: object) -> bool:
        return isinstance(key, SupportsIndex) and self._leases.current().holding(key.__index__()) is not None

    def refresh(self) -> None:
        """Asks the server again what is there: datapoints that were uploaded or deleted meanwhile."""
        self._leases.renew()

    def get(self, key: int) -> bytes:
        """The content of one datapoint. Raises DatapointNotFound."""
        return self.get_many((key,))[0]

    def get_many(self, keys: Iterable[int]) -> list[bytes]:
        """The contents of datapoints, in the order of `keys`, which may repeat.

        Raises DatapointNotFound, which names the first key that is missing, before anything is fetched.
        """
        keys = list(keys)
        contents = self._again_where_replaced(lambda catalogue: self._contents(catalogue, keys))
        return [contents[key] for key in keys]

    def scan(self, first: int | None = None, last: int | None = None) -> Iterator[Datapoint]:
        """The datapoints from key `first` to `last`, both included, in key order; all of them where neither is given.

        Keys that do not exist are left out. Each entry's header is held against key and index: ArchiveError where it is
        another's; InvalidArgument, at once, for a range that is none. Memory: a few requests of 2 MiB, or of a
        datapoint where that is larger.
        """
        first, last = first or 0, names.MAX_KEY if last is None else last
        check_range(first, last)
        return self._scanned(first, last)

    def _scanned(self, cursor: int, last: int) -> Iterator[Datapoint]:
        while batch := self._batch(cursor, last):
            cursor = batch[-1][0].keys.stop
            while batch:
                run = batch[0][0]
                yield from run.datapoints(batch.pop(0)[1])  # held nowhere else: it may be large

    def _batch(self, first: int, last: int) -> "list[tuple[_Run, bytes]]":
        """The next few requests' worth of entries from `first` on."""

        def read(catalogue: Catalogue) -> "list[tuple[_Run, bytes]]":
            fetch = self._fetch(catalogue)
            runs = _at_once(_runs(catalogue.within(first, last), first, last, self._indices, fetch))
            return list(zip(runs, fetch([run.piece for run in runs]), strict=True))

        return self._again_where_replaced(read)

    def _contents(self, catalogue: Catalogue, keys: Sequence[int]) -> dict[int, bytes]:
        wanted: dict[Leased, list[int]] = {}
        for key in keys:
            if catalogue.holding(key) is None:
                raise DatapointNotFound(f"datas3t {self._name!r} has no datapoint {key}", key=key)
        for key in sorted(set(keys)):
            leased = catalogue.holding(key)
            assert leased is not None
            wanted.setdefault(leased, []).append(key)
        fetch = self._fetch(catalogue)
        entries = self._indices.entries(wanted, fetch)
        return _sliced(wanted, entries, fetch)

    def _fetch(self, catalogue: Catalogue) -> Fetch:
        return fetcher(self._client.connection.engine, self._leases, catalogue)

    def _again_where_replaced(self, read: Callable[[Catalogue], T]) -> T:
        for _ in range(_TRIES):
            try:
                return read(self._leases.current())
            except Gone:
                self._leases.renew()
        return read(self._leases.current())


def _sliced(wanted: Mapping[Leased, Sequence[int]], entries: Mapping[int, Entry], fetch: Fetch) -> dict[int, bytes]:
    """The contents of these entries, neighbours fetched as one; an empty one needs no request."""
    pieces, holders = [], []
    for leased, keys in wanted.items():
        full = [key for key in keys if entries[key].size]
        at = 0
        for merged in spans.merge((entries[key].content for key in full), _GAP, _REQUEST):
            stop = bisect_left(full, merged.stop, at, key=lambda key: entries[key].content.start)
            pieces.append(Piece(leased, merged))
            holders.append(full[at:stop])
            at = stop
    contents = dict.fromkeys(entries, b"")
    for piece, held, data in zip(pieces, holders, fetch(pieces), strict=True):
        view = memoryview(data)
        for key in held:
            content = entries[key].content
            contents[key] = bytes(view[content.start - piece.bytes.start : content.stop - piece.bytes.start])
    return contents


@dataclass(frozen=True, slots=True)
class _Run:
    """Consecutive entries of one archive, fetched as one piece with their headers."""

    piece: Piece
    keys: range
    raw_index: bytes

    def datapoints(self, data: bytes) -> Iterator[Datapoint]:
        view, start, leased = memoryview(data), self.piece.bytes.start, self.piece.leased
        for key in self.keys:
            entry = index.entry_at(self.raw_index, key - leased.first)
            content = entry.content
            header = bytes(view[entry.position - start : content.start - start])
            try:
                name = check_entry(header, entry, key)
            except FormatError as error:
                raise ArchiveError(f"datarange {leased.first} to {leased.last}: {error}") from None
            yield Datapoint(key, name, bytes(view[content.start - start : content.stop - start]))


def _at_once(runs: Iterable[_Run]) -> list[_Run]:
    """The first few, as many as may be in memory together."""
    chosen: list[_Run] = []
    size = 0
    for run in islice(runs, _AHEAD):
        size += len(run.piece.bytes)
        if chosen and size > _AT_ONCE:
            break
        chosen.append(run)
    return chosen


def _runs(dataranges: Iterable[Leased], first: int, last: int, indices: Indices, fetch: Fetch) -> Iterator[_Run]:
    """Pieces of about one request each, in key order."""
    for leased in dataranges:
        raw = indices.whole(leased, fetch)
        key, behind = max(first, leased.first), min(last, leased.last) + 1
        while key < behind:
            start = index.entry_at(raw, key - leased.first).position
            # The entries that end within a request's size, and one at least.
            ends = range(key, behind)
            stop = key + bisect_right(
                ends, start + _SCAN_REQUEST, key=lambda k: index.entry_at(raw, k - leased.first).stop
            )
            keys = range(key, max(stop, key + 1))
            yield _Run(Piece(leased, spans.span(raw, leased.first, keys[0], keys[-1])), keys, raw)
            key = keys.stop
