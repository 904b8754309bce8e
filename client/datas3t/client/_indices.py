"""Where datapoints lie: indices of dataranges, fetched whole where that is cheap, and kept in memory up to a limit."""

from collections.abc import Mapping, Sequence

from datas3t.archive import index, spans
from datas3t.archive.errors import IndexFormatError
from datas3t.archive.index import RECORD_SIZE, Entry
from datas3t.client._catalogue import Leased
from datas3t.client._fetching import Fetch, Piece
from datas3t.client.errors import ArchiveError

_WHOLE = 1 << 20  # bytes; a larger index is fetched whole only where much of it is needed
_MUCH = 50  # one of so many
_GAP = 4 << 10
_LIMIT = 128 << 20


class Indices:
    """Indices in memory. Safe to use from many threads: two may fetch the same one, and then one is kept."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._whole: dict[tuple[int, str], bytes] = {}
        self._held = 0

    def entries(self, wanted: Mapping[Leased, Sequence[int]], fetch: Fetch) -> dict[int, Entry]:
        """Where these keys, ascending in each datarange, lie. Raises ArchiveError for an index that does not fit."""
        known = {leased: raw for leased in wanted if (raw := self._kept(leased)) is not None}
        whole = [each for each in wanted if each not in known and _worth_whole(each, len(wanted[each]))]
        known |= self._fetched(whole, fetch)
        found = {}
        for leased, raw in known.items():
            for key in wanted[leased]:
                found[key] = index.entry_at(raw, key - leased.first)
        return found | _single({each: wanted[each] for each in wanted if each not in known}, fetch)

    def whole(self, leased: Leased, fetch: Fetch) -> bytes:
        """All of one index."""
        kept = self._kept(leased)
        return kept if kept is not None else self._fetched([leased], fetch)[leased]

    def _kept(self, leased: Leased) -> bytes | None:
        return self._whole.get((leased.id, leased.index_etag))

    def _fetched(self, wanted: Sequence[Leased], fetch: Fetch) -> dict[Leased, bytes]:
        pieces = fetch([Piece(each, range(each.count * RECORD_SIZE), of_index=True) for each in wanted])
        found = dict(zip(wanted, pieces, strict=True))
        for leased, raw in found.items():
            _check(leased, raw)
            self._keep(leased, raw)
        return found

    def _keep(self, leased: Leased, raw: bytes) -> None:
        # No lock: it might be held while a process forks. Threads may count wrong; the limit is a rough one.
        if self._held + len(raw) > self._limit:
            self._whole, self._held = {}, 0
        self._whole[leased.id, leased.index_etag] = raw
        self._held += len(raw)


def _worth_whole(leased: Leased, count: int) -> bool:
    return leased.count * RECORD_SIZE <= _WHOLE or count * _MUCH >= leased.count


def _single(wanted: Mapping[Leased, Sequence[int]], fetch: Fetch) -> dict[int, Entry]:
    """The entries of few keys of large indices, without the rest."""
    pieces = [
        Piece(leased, records, of_index=True)
        for leased, keys in wanted.items()
        for records in spans.merge((_record(leased, key) for key in keys), _GAP, _WHOLE)
    ]
    found = {}
    for piece, raw in zip(pieces, fetch(pieces), strict=True):
        for key in wanted[piece.leased]:
            at = _record(piece.leased, key)
            if piece.bytes.start <= at.start and at.stop <= piece.bytes.stop:
                found[key] = _checked(
                    piece.leased, key, index.entry_at(raw, (at.start - piece.bytes.start) // RECORD_SIZE)
                )
    return found


def _record(leased: Leased, key: int) -> range:
    start = (key - leased.first) * RECORD_SIZE
    return range(start, start + RECORD_SIZE)


def _checked(leased: Leased, key: int, entry: Entry) -> Entry:
    """One entry can only be held against its archive's bounds; what it points to is checked when it is read."""
    if not entry.header_blocks or entry.stop > leased.entries_end:
        raise _unfit(leased, f"key {key} would end at byte {entry.stop} of {leased.entries_end}")
    return entry


def _check(leased: Leased, raw: bytes) -> None:
    try:
        stop = index.check(raw, leased.size)
    except IndexFormatError as error:
        raise _unfit(leased, str(error)) from None
    if stop != leased.entries_end:
        raise _unfit(leased, f"its entries end at byte {stop}, the archive's at {leased.entries_end}")


def _unfit(leased: Leased, why: str) -> ArchiveError:
    return ArchiveError(f"the index of datarange {leased.first} to {leased.last} does not fit its archive: {why}")
