"""Compares what an aggregate moves with the checksums of its sources, before it is sent on."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from datas3t import v1
from datas3t.archive import reads
from datas3t.archive.checksums import crc
from datas3t.archive.index import RECORD
from datas3t.archive.joined_crc import joined
from datas3t.client._calls.session import Session
from datas3t.client._reading.checksums import Checksums
from datas3t.client._reading.fetching import Fetcher
from datas3t.client._reading.headers import locations
from datas3t.client._reading.indices import Indices
from datas3t.client._reading.locations import Locations
from datas3t.client._reading.reader import Reader
from datas3t.client._reading.signed import SignedDatarange
from datas3t.client._transfers.sources import SourceMissing, Sources

_AT_ONCE = 4 << 20  # bytes that are compared together
_GAP = 1 << 20  # bytes of headers and padding between two contents that are read together

Read: TypeAlias = Callable[[int, int], memoryview]
"""A function that returns bytes of a part, from its first up to its second argument."""
_Wrong: TypeAlias = tuple[SignedDatarange, int, frozenset[int]]
"""A content that differs: its datarange, its key, and the numbers of the parts that have bytes of it."""


class Moved:
    """Compares the contents in the parts of an aggregate with their checksums, in constant memory.

    A content that is cut into several parts is compared when the last of them is there. If S3 copies one of them, or an
    earlier run has sent it, it is not compared. Nothing is with `Client(verify=False)`.

    Args:
        session: The settings and the connection.
        name: The datas3t.
        sources: The dataranges that are merged.
    """

    def __init__(self, session: Session, name: str, sources: Sources) -> None:
        self._reader = Reader(session, name)
        self._sources = sources
        # Of contents that are cut: by key, and by where the piece begins in the content, CRC, size and part.
        self._pieces: dict[int, dict[int, tuple[int, int, int]]] = {}
        self._repeated: set[int] = set()  # the parts that were to be fetched again

    def suspects(self, number: int, pieces: Iterable[tuple[v1.AggregatePiece, int]], read: Read) -> set[int]:
        """Compare a part. Return the numbers of the parts to fetch again, because a content in them differs.

        Args:
            number: The number of the part.
            pieces: What it consists of, and where each piece begins in it.
            read: Returns bytes of it.

        Raises:
            ChecksumMismatch: A content differs again.
            ArchiveError: An index does not fit its archive.
            SourceMissing: A source does not exist any more.
        """
        checksums = self._reader.checksums
        if checksums is None:
            return set()
        suspects: set[int] = set()
        for piece, offset in pieces:
            datarange = self._sources.datarange(piece.datarange_id)
            if not datarange.checksums_etag:
                continue
            compare = partial(self._wrong, number, piece, offset, read, datarange, checksums)
            for wrong, key, parts in self._reader.located(compare):
                if parts <= self._repeated:
                    raise checksums.mismatch(wrong, key)
                checksums.forget(wrong)
                self._pieces.pop(key, None)
                suspects |= parts
        self._repeated |= suspects
        return suspects

    def _wrong(
        self,
        number: int,
        piece: v1.AggregatePiece,
        offset: int,
        read: Read,
        datarange: SignedDatarange,
        checksums: Checksums,
        indices: Indices,
        fetcher: Fetcher,
    ) -> list[_Wrong]:
        """Return the contents in a piece that differ."""
        keys = _keys(datarange, piece.start, piece.stop, indices, fetcher)
        own, found = frozenset([number]), list[_Wrong]()
        for entries in locations(keys[0], keys[-1], indices, fetcher, checksums):
            if entries.dataranges[0].id != datarange.id:
                raise SourceMissing
            if entries.sums is None:
                continue
            # Contents that are in the piece as a whole, and those that are cut: the first or the last one, or both.
            is_whole = (entries.contents >= piece.start) & (entries.stops <= piece.stop)
            inside = np.flatnonzero(is_whole)
            if len(inside):
                whole = entries.part(int(inside[0]), int(inside[-1]) + 1)
                found += [(datarange, key, own) for key in _differing(whole, offset - piece.start, read)]
            for n in np.flatnonzero(~is_whole).tolist():
                cut = entries.part(n, n + 1)
                if parts := self._differs_joined(cut, piece, offset, read, number):
                    found.append((datarange, int(cut.keys[0]), parts))
        return found

    def _differs_joined(
        self, entry: Locations, piece: v1.AggregatePiece, offset: int, read: Read, number: int
    ) -> frozenset[int]:
        """Note a piece of a content. Return its parts if all are there and it differs."""
        assert entry.sums is not None
        content, stop = int(entry.contents[0]), int(entry.stops[0])
        low, high = max(content, piece.start), min(stop, piece.stop)
        if low >= high:
            return frozenset()
        shift = offset - piece.start
        pieces = self._pieces.setdefault(int(entry.keys[0]), {})
        pieces[low - content] = _crc(read, low + shift, high + shift), high - low, number
        if sum(size for _, size, _ in pieces.values()) < stop - content:
            return frozenset()
        whole = 0
        for _, (value, size, _) in sorted(pieces.items()):
            whole = joined(whole, value, size)
        parts = frozenset(part for _, _, part in pieces.values())
        del self._pieces[int(entry.keys[0])]
        return frozenset() if whole == int(entry.sums[0]) else parts


def _keys(datarange: SignedDatarange, start: int, stop: int, indices: Indices, fetcher: Fetcher) -> range:
    """Return the keys whose entries have bytes from `start` up to `stop` of an archive."""
    keys = range(datarange.first, datarange.last + 1)
    if start == 0 and stop == datarange.entries_end:
        return keys

    def position(key: int) -> int:
        return int(RECORD.unpack(indices.record(datarange, key, fetcher))[0])

    first = max(bisect_right(keys, start, key=position) - 1, 0)
    return keys[first : max(bisect_left(keys, stop, key=position), first + 1)]


def _differing(entries: Locations, shift: int, read: Read) -> Iterator[int]:
    """Yield the keys of whole contents that differ, which are `shift` bytes further on in the part."""
    assert entries.sums is not None
    cut = reads.plan(entries.archives, entries.contents, entries.stops, _GAP, _AT_ONCE)
    for at, stop in pairwise(cut.bounds.tolist()):
        part, start = entries.part(at, stop), int(entries.contents[at])
        if int(part.stops[-1]) - start > _AT_ONCE:  # a single one
            found = np.array([_crc(read, start + shift, int(part.stops[0]) + shift)])
        else:
            body = read(start + shift, int(part.stops[-1]) + shift)
            places = map(slice, (part.contents - start).tolist(), (part.stops - start).tolist())
            found = np.fromiter(map(crc, map(body.__getitem__, places)), np.int64, stop - at)
        yield from part.keys[found != entries.sums[at:stop]].tolist()


def _crc(read: Read, start: int, stop: int) -> int:
    value = 0
    for at in range(start, stop, _AT_ONCE):
        value = crc(read(at, min(at + _AT_ONCE, stop)), value)
    return value
