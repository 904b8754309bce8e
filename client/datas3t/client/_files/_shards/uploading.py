"""Uploads one archive of samples, with the rows of the table `files`, so that it is committed exactly once."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from datas3t.archive import checksums, index, paths
from datas3t.archive.tar import Contents
from datas3t.client._calls.keys import Reservation
from datas3t.client._calls.session import Session
from datas3t.client._files._shards.spools import Archive
from datas3t.client._tables.files_rows import files_rows, send_rows
from datas3t.client._tables.schemas import FILES
from datas3t.client._transfers.journal import Journal
from datas3t.client._transfers.source import open_source
from datas3t.client._transfers.task import Tuning
from datas3t.client._transfers.upload import UploadTask, scan
from datas3t.client.errors import AlreadyExists

Check = Callable[[], None]


def upload(
    session: Session, name: str, archive: Archive, keys: Reservation, kind: str, tuning: Tuning, check: Check
) -> int:
    """Upload an archive, and return the bytes of its contents.

    Args:
        session: The settings and the connection.
        name: The datas3t.
        archive: The archive.
        keys: Its keys, which are reserved for it alone: what is committed with them is what it has.
        kind: The folder of journals.
        tuning: Parallelism and retries.
        check: Called now and then; it may raise what ends the upload.
    """
    with open_source(archive.path) as source:
        contents = scan(source, lambda *_: check())
        state = {"size": source.size, "crc": contents.crc}
        task = _Task(
            session,
            name,
            source,
            contents,
            tuning,
            lambda *_: check(),
            keys.id,
            Journal(kind, session.url, name, str(keys.first), state),
            _Rows(session, name, archive.paths, contents),
        )
        task.end_by(check)
        try:
            task.run(None)
        except AlreadyExists as error:
            if error.reason != "DATARANGE_OVERLAPS" or task.committed() is None:
                raise
        _, _, sizes = index.columns(contents.index)
        return int(sizes.sum())


class _Task(UploadTask):
    def end_by(self, check: Check) -> None:
        """Have `check` called while bytes are sent; it may raise what ends the upload."""
        self._time_left = check


class _Rows:
    """The rows of an archive. What samples lack has none."""

    def __init__(self, session: Session, name: str, path: Path, contents: Contents) -> None:
        self._session = session
        self._name = name
        self._path = path
        self._contents = contents

    @property
    def digest(self) -> str:
        """Nothing: the journal is that of the keys."""
        return ""

    def send(self) -> int:
        """Put the rows into S3, and return the id of their file."""
        contents = self._contents
        with self._path.open(encoding="utf-8") as lines:
            texts: list[str | None] = [json.loads(line) for line in lines]
        present = np.array([text is not None for text in texts])
        _, _, sizes = index.columns(contents.index)
        keys = np.arange(contents.first_key, contents.last_key + 1)[present]
        crcs = np.frombuffer(checksums.decode(contents.checksums), np.uint32)[present]
        encoded = [paths.encode(text.lstrip("/")) for text in texts if text is not None]
        return send_rows(self._session, self._name, FILES, files_rows(keys, encoded, sizes[present], None, crcs))
