"""What the database knows about objects that an import has listed: which have a row, and which must not get one."""

from collections.abc import Sequence
from dataclasses import dataclass

from datas3t.archive import names
from datas3t.server.db import catalogues, dataranges, datas3ts, intents, keys_to_delete
from datas3t.server.db.datas3ts import Datas3t
from datas3t.server.db.pool import Connection
from datas3t.server.imports.cover import find_overlapping
from datas3t.server.imports.listing import Archive

_MAX_KEYS = 10_000  # object keys in one statement: about 1 MB


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the database knew before the bucket was listed: how often dataranges were removed, and the queued objects.

    Objects of cleared dataranges count as queued. A listed object can be gone only if it was queued for deletion
    before, or if dataranges were removed since.
    """

    removals: int
    queued: frozenset[str]


def read_baseline(conn: Connection, bucket_id: int, name: str) -> Baseline:
    """Return the baseline of a datas3t; call it before the objects of the datas3t are listed."""
    cleared = catalogues.object_keys(conn, name, bucket_id)  # before the queue, to which they are moved
    queued = keys_to_delete.queued_under(conn, bucket_id, names.prefix(name))
    return Baseline(datas3ts.removals(conn, name), frozenset(cleared | queued))


def overlap_reason(first: int, last: int) -> str:
    """Return why an archive is skipped that overlaps the existing datarange from `first` to `last`."""
    return f"it overlaps the existing datarange from {first} to {last}"


class Catalogue:
    """The dataranges of a datas3t, and the objects that its pending intents and the deletion queue name.

    It is read in four queries, in the order pending, committed, cleared, queued. So an object that goes from one state
    to the next in between is in at least one of the sets.
    """

    def __init__(
        self,
        conn: Connection,
        bucket_id: int,
        name: str,
        datas3t: Datas3t | None,
        keys: Sequence[str],
        baseline: Baseline,
    ) -> None:
        self._pending = intents.pending_keys(conn, datas3t.id) if datas3t else set()
        self._committed = set(dataranges.data_keys(conn, datas3t.id)) if datas3t else set()
        self._queued = baseline.queued | catalogues.object_keys(conn, name, bucket_id)
        for start in range(0, len(keys), _MAX_KEYS):
            self._queued |= keys_to_delete.queued(conn, bucket_id, keys[start : start + _MAX_KEYS])
        parsed = (names.parse(key) for key in self._committed)
        self._spans = sorted((name for name in parsed if name), key=lambda name: name.first)

    def has_row(self, archive: Archive) -> bool:
        """Whether the archive is a committed datarange."""
        return archive.key in self._committed

    def reason_in_use(self, key: str) -> str | None:
        """Return why an object must be left alone; None if neither an intent nor the deletion queue names it."""
        if key in self._pending:
            return "it belongs to a pending upload or aggregate"
        return "it is queued for deletion" if key in self._queued else None

    def reason_to_skip(self, archive: Archive) -> str | None:
        """Return why an archive without a row must not get one; None if it may."""
        overlapping = find_overlapping(self._spans, archive)
        overlap = overlap_reason(overlapping.first, overlapping.last) if overlapping else None
        return self.reason_in_use(archive.key) or overlap
