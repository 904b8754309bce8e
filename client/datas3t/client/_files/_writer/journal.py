"""The journal of the upload of a spool, beside its archive."""

import json
from dataclasses import asdict, replace
from pathlib import Path

from datas3t.client._transfers.journal import Journal, JournalEntry
from datas3t.client._transfers.output_file import os_errors_as_file_error
from datas3t.local import atomic


class SpoolJournal(Journal):
    """The journal of the upload of a spool.

    Unlike with other journals it is an error if it cannot be written: without it, what a user deletes just after its
    commit might be committed again.

    Attributes:
        table_file_ids: The ids of the rows' files, which are written and read with the entry.
    """

    def __init__(self, archive: Path) -> None:
        self.table_file_ids: tuple[int, ...] = ()
        self._path = archive.with_suffix(".journal")

    def read(self) -> JournalEntry | None:
        """Return the entry of an earlier run, if there is one."""
        try:
            content = json.loads(self._path.read_bytes())
            self.table_file_ids = tuple(content.pop("table_file_ids"))
            entry = JournalEntry(**content)
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            return None
        return replace(entry, etags=tuple(entry.etags))

    def write(self, entry: JournalEntry) -> None:
        """Replace the entry."""
        content = {**asdict(entry), "table_file_ids": self.table_file_ids}
        with os_errors_as_file_error(self._path):
            atomic.write(self._path, json.dumps(content).encode())
