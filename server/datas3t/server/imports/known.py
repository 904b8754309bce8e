"""What the database says of objects that an import has listed: those with a row, and those that must be left alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from datas3t.archive import names
from datas3t.server.db import dataranges, datas3ts, intents, keys_to_delete
from datas3t.server.db.datas3ts import Datas3t
from datas3t.server.db.pool import Connection
from datas3t.server.imports.cover import overlapped
from datas3t.server.imports.listing import Archive

_KEYS = 10_000  # in one statement


@dataclass(frozen=True, slots=True)
class Before:
    """What was so before the bucket was listed: how often dataranges had been removed, and which objects were queued.

    An object that was listed may be gone by now only if it was queued before, or a removal came since.
    """

    removals: int
    queued: frozenset[str]


def before_listing(conn: Connection, bucket_id: int, name: str) -> Before:
    """To be asked before the objects of a datas3t are listed."""
    queued = keys_to_delete.queued_under(conn, bucket_id, names.prefix(name))
    return Before(datas3ts.removals(conn, name), frozenset(queued))


class Known:
    """As of one moment. What moves on meanwhile, from pending to committed to deleted, is seen at least once."""

    def __init__(
        self, conn: Connection, bucket_id: int, datas3t: Datas3t | None, keys: Sequence[str], before: Before
    ) -> None:
        self._pending = intents.pending_keys(conn, datas3t.id) if datas3t else set()
        self._committed = set(dataranges.data_keys(conn, datas3t.id)) if datas3t else set()
        self._queued = set(before.queued)
        for start in range(0, len(keys), _KEYS):
            self._queued |= keys_to_delete.queued(conn, bucket_id, keys[start : start + _KEYS])
        parsed = (names.parse(key) for key in self._committed)
        self._spans = sorted((name for name in parsed if name), key=lambda name: name.first)

    def has(self, archive: Archive) -> bool:
        """Whether it has a row."""
        return archive.key in self._committed

    def claimed(self, key: str) -> str | None:
        """Who has a claim on an object, in words."""
        if key in self._pending:
            return "it belongs to an upload or aggregate that is open"
        return "it is about to be deleted" if key in self._queued else None

    def refusal(self, archive: Archive) -> str | None:
        """Why an archive without a row must not get one."""
        other = overlapped(self._spans, archive)
        return self.claimed(archive.key) or (overlap_reason(other.first, other.last) if other else None)


def overlap_reason(first: int, last: int) -> str:
    """Return why an archive is skipped that overlaps the datarange with these first and last keys."""
    return f"it overlaps the existing datarange from {first} to {last}"
