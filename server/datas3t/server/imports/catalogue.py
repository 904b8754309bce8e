"""What the database knows about objects that an import has listed: which have a row, and which must not get one."""

from collections.abc import Sequence

from datas3t.archive import names
from datas3t.server.db import imported, keys_to_delete
from datas3t.server.db.datas3ts import Datas3t
from datas3t.server.db.pool import Connection
from datas3t.server.imports.listing import Archive


class Catalogue:
    """Which of some listed objects pending intents, dataranges and the deletion queue name.

    It is read in four statements, in the order pending, committed, cleared, queued. So an object that goes from one
    state to the next in between is in at least one of the sets. An object that is in none of them and is still in the
    bucket afterwards was not queued for deletion before: its queue entry would have stayed until it was gone.
    """

    def __init__(
        self,
        conn: Connection,
        bucket_id: int,
        name: str,
        datas3t: Datas3t | None,
        archives: Sequence[Archive],
        lone: Sequence[str] = (),
    ) -> None:
        keys = [archive.key for archive in archives]
        beside = [archive.checksums_key for archive in archives if archive.checksums]
        objects = [*keys, *beside, *lone]
        self._pending = imported.pending(conn, datas3t.id, objects) if datas3t else set()
        self._committed = imported.committed(conn, datas3t.id, keys) if datas3t else set()
        cleared = imported.cleared(conn, name, bucket_id, [*keys, *map(names.archive_of, lone)])
        self._queued = keys_to_delete.queued(conn, bucket_id, objects).union(
            cleared, map(names.index_key, cleared), map(names.checksums_key, cleared)
        )
        spans = [(archive.first, archive.last) for archive in archives]
        self._overlapped = imported.overlapped(conn, datas3t.id, spans) if datas3t else {}

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
        overlapped = self._overlapped.get((archive.first, archive.last))
        return self.reason_in_use(archive.key) or (overlap_reason(*overlapped) if overlapped else None)


def overlap_reason(first: int, last: int) -> str:
    """Return why an archive is skipped that overlaps the datarange with these first and last keys."""
    return f"it overlaps the existing datarange from {first} to {last}"
