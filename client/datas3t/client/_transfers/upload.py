"""upload_tar: check and index an archive, make its checksums, send all to S3, and have the server commit it."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from datas3t import v1
from datas3t.archive import FormatError, index, tar
from datas3t.archive.tar import Contents
from datas3t.client._calls.session import Session
from datas3t.client._reading import catalogue
from datas3t.client._transfers.journal import Journal
from datas3t.client._transfers.open_upload import OpenUpload, to_tell
from datas3t.client._transfers.sending import send
from datas3t.client._transfers.source import Source, open_source
from datas3t.client._transfers.task import Task, Tuning, resumable
from datas3t.client.errors import ArchiveError, FileError, TransferFailed, TransferRefused
from datas3t.client.progress import Progress, Reporter
from datas3t.transport import TimeLeft


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A datarange that was uploaded.

    Attributes:
        first: The first key.
        last: The last key.
        size: The size of the archive, in bytes.
    """

    first: int
    last: int
    size: int

    @property
    def datapoints(self) -> int:
        """The number of its datapoints."""
        return self.last - self.first + 1


class Rows(Protocol):
    """Rows of a table that are committed together with an archive."""

    @property
    def digest(self) -> str:
        """What is the same for the same rows."""
        ...

    def send(self) -> int:
        """Put them into S3, and return the id of their file."""
        ...


RowsFor: TypeAlias = Callable[[Contents], Rows]


def upload_tar(
    session: Session,
    name: str,
    path: str | os.PathLike[str],
    tuning: Tuning,
    progress: Progress | None,
    reservation_id: int = 0,
    rows_for: RowsFor | None = None,
) -> Uploaded:
    """Upload a TAR archive; see `Datas3t.upload_tar`. `rows_for` returns rows that are committed with it."""
    with open_source(path) as source:
        contents = scan(source, progress)
        rows = rows_for(contents) if rows_for else None
        task = UploadTask(session, name, source, contents, tuning, progress, reservation_id, rows=rows)
        with resumable(f"the upload of {source.path}"):
            return task.run(progress)


def scan(source: Source, progress: Progress | None) -> Contents:
    """Return the keys, the index and the checksums of an archive that keeps every rule of the format."""
    reporter = Reporter(progress, "index", source.size)
    try:
        contents = tar.scan_file(source.fd, progress=lambda current, _: reporter.update(current), checksums=True)
        # The server checks the index in the same way, after the upload. A mistake should show before it.
        index.check(contents.index, contents.archive_size)
    except FormatError as error:
        raise ArchiveError(f"{source.path}: {error}") from None
    except OSError as error:
        raise FileError(f"{source.path} cannot be read: {error.strerror}") from None
    if contents.archive_size != source.size:
        source.check_unchanged()
    reporter.done()
    return contents


class UploadTask(Task[OpenUpload, Uploaded]):
    """The upload of an archive; `journal` takes the place of the one in the user's state folder.

    With `rows`, these are committed together with the archive.
    """

    restart_reasons = frozenset(
        ("UPLOAD_NOT_FOUND", "UPLOAD_CANCELLED", "TABLE_FILE_NOT_FOUND", "TABLE_FILE_CANCELLED", "TABLE_FILE_COMPLETED")
    )
    closed_reasons = restart_reasons | {"UPLOAD_INVALID", "UPLOAD_COMPLETED", "DATARANGE_OVERLAPS"}
    final_errors = (FileError, TransferRefused)

    def __init__(
        self,
        session: Session,
        name: str,
        source: Source,
        contents: Contents,
        tuning: Tuning,
        progress: Progress | None,
        reservation_id: int,
        journal: Journal | None = None,
        rows: Rows | None = None,
    ) -> None:
        super().__init__(journal or Journal.of_upload(session.url, name, source, rows.digest if rows else ""))
        self._rows = rows
        self._connection = session.connection
        self._name = name
        self._source = source
        self._contents = contents
        self._tuning = tuning
        self._reservation_id = reservation_id
        self._progress = progress
        self._time_left: TimeLeft | None = None
        self._result = Uploaded(contents.first_key, contents.last_key, contents.archive_size)
        self._extension = to_tell(contents.extension)

    def start(self) -> OpenUpload:
        contents = self._contents
        keys = contents.first_key, contents.count
        return self._told(
            OpenUpload.start(self._connection, self._name, *keys, contents.archive_size, self._reservation_id)
        )

    def reopen(self, upload_id: int) -> OpenUpload:
        opened = self._told(OpenUpload(self._connection, upload_id, self._source.size))
        entry = self._journal.read()
        opened.table_file_ids = entry.table_file_ids if entry else ()
        return opened

    def _told(self, opened: OpenUpload) -> OpenUpload:
        opened.extension, opened.crc = self._extension, self._contents.crc
        return opened

    def transfer(self, opened: OpenUpload, uploaded: Sequence[v1.UploadedPart]) -> tuple[list[str], Uploaded]:
        with self._failure_explained():
            etags = send(
                self._connection.engine,
                opened,
                self._source,
                self._contents,
                uploaded=uploaded,
                tuning=self._tuning,
                progress=self._progress,
                time_left=self._time_left,
            )
        self._source.check_unchanged()
        if self._rows is not None:
            opened.table_file_ids = (self._rows.send(),)
        return etags, self._result

    def committed(self) -> Uploaded | None:
        first, last = self._result.first, self._result.last
        stored = catalogue.load(self._connection, self._name, first, last).count(first, last)
        return self._result if stored == self._contents.count else None

    @contextmanager
    def _failure_explained(self) -> Iterator[None]:
        """Raise FileError if a transfer failed because the file changed."""
        try:
            yield
        except TransferFailed:
            # For the engine, a file that was cut short is the same as a lost connection.
            self._source.check_unchanged()
            raise
