"""The journal of an upload or an aggregate: what a later run needs to resume it after a crash.

It is a small file in the user's state folder, from the start of the transfer to its completion. Without a writable
folder transfers work too, but start over after a crash.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from datas3t.client._transfers.source import Source
from datas3t.local import atomic, folders

_MAX_AGE = 30 * 86_400  # seconds after which a journal is removed; the server has ended such an upload long before


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """The progress of a transfer.

    Attributes:
        upload_id: The server's id of the upload or aggregate.
        sent: Whether everything is in S3, so that only the completion is missing.
        etags: The ETags of the parts, in order, if everything was sent.
        table_file_ids: The files of tables that are committed with it.
    """

    upload_id: int
    sent: bool = False
    etags: tuple[str, ...] = ()
    table_file_ids: tuple[int, ...] = ()


class Journal:
    """The journal of one transfer.

    Args:
        kind: The folder of its kind, "uploads" or "aggregates".
        server: The server's URL.
        name: The datas3t.
        identity: What distinguishes the transfer from others of its kind to the same datas3t.
        state: What must be unchanged for an entry to be valid, such as the size of the file.
    """

    def __init__(self, kind: str, server: str, name: str, identity: str, state: Mapping[str, object]) -> None:
        self._header = {"server": server, "datas3t": name, **state}
        self._folder = folders.state() / kind
        digest = hashlib.sha256("\0".join((server, name, identity)).encode(errors="surrogateescape"))
        self._path = self._folder / f"{digest.hexdigest()[:32]}.json"

    @classmethod
    def of_upload(cls, server: str, name: str, source: Source, rows: str = "") -> "Journal":
        """Return the journal of the upload of a file as it is now; `rows` identifies those that are sent with it."""
        state = {"path": source.path, "size": source.size, "mtime_ns": source.mtime_ns} | (
            {"rows": rows} if rows else {}
        )
        return cls("uploads", server, name, source.path, state)

    @classmethod
    def of_aggregate(cls, server: str, name: str, first: int, last: int) -> "Journal":
        """Return the journal of the aggregate of these keys."""
        return cls("aggregates", server, name, f"{first}-{last}", {"first": first, "last": last})

    def read(self) -> JournalEntry | None:
        """Return the entry of an earlier run; None if there is no entry, or it is not valid for the present state."""
        try:
            content = json.loads(self._path.read_bytes())
            entry = JournalEntry(**content.pop("upload"))
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            return None
        entry = replace(entry, etags=tuple(entry.etags), table_file_ids=tuple(entry.table_file_ids))
        return entry if content == self._header else None

    def write(self, entry: JournalEntry) -> None:
        """Replace the entry."""
        content = json.dumps({**self._header, "upload": asdict(entry)})
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._remove_old()
            atomic.write(self._path, content.encode())

    def remove(self) -> None:
        """Remove the journal: there is nothing to resume."""
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _remove_old(self) -> None:
        for path in self._folder.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _MAX_AGE:
                    path.unlink()
