"""upload_tar: checks and indexes an archive, sends it to S3 in parts, and has it committed. Run again, it goes on."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from datas3t import v1
from datas3t.archive import FormatError, index, tar
from datas3t.archive.tar import Contents
from datas3t.client._calls.connection import Connection
from datas3t.client._calls.rpc import retry_while_unavailable
from datas3t.client._reading import catalogue
from datas3t.client._transfers.journal import Begun, Journal
from datas3t.client._transfers.open_upload import OpenUpload
from datas3t.client._transfers.resumable import says_how_to_go_on
from datas3t.client._transfers.sending import send
from datas3t.client._transfers.source import Source, opened
from datas3t.client._transfers.tuning import Tuning
from datas3t.client.errors import ArchiveError, Datas3tError, FileError, TransferFailed, TransferRefused
from datas3t.client.progress import Progress, Reporter

# With these reasons the server says that an upload is over: there is nothing to go on with.
_GONE = frozenset(("UPLOAD_NOT_FOUND", "UPLOAD_CANCELLED"))
_OVER = _GONE | {"UPLOAD_INVALID", "UPLOAD_COMPLETED", "DATARANGE_OVERLAPS"}


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A datarange that was uploaded: keys `first` to `last` in an archive of `size` bytes."""

    first: int
    last: int
    size: int

    @property
    def datapoints(self) -> int:
        """How many datapoints it holds."""
        return self.last - self.first + 1


def upload_tar(
    connection: Connection,
    server: str,
    name: str,
    path: str | os.PathLike[str],
    *,
    tuning: Tuning,
    progress: Progress | None,
) -> Uploaded:
    """As Client.upload_tar; `server` is the URL that the journal goes by."""
    with opened(path) as source:
        contents = _checked(source, progress)
        task = _Task(connection, name, source, contents, Journal.of_upload(server, name, source))
        with says_how_to_go_on(f"the upload of {source.path}"):
            task.run(tuning, progress)
        return Uploaded(contents.first_key, contents.last_key, contents.archive_size)


def _checked(source: Source, progress: Progress | None) -> Contents:
    """Keys and index of the archive; every rule of the format is checked, and the index once more against itself."""
    reporter = Reporter(progress, "index", source.size)
    try:
        contents = tar.scan_file(source.fd, progress=lambda current, _: reporter.at(current))
        index.check(contents.index, contents.archive_size)
    except FormatError as error:
        raise ArchiveError(f"{source.path}: {error}") from None
    except OSError as error:
        raise FileError(f"{source.path} cannot be read: {error.strerror}") from None
    if contents.archive_size != source.size:
        source.check_unchanged()
    reporter.done()
    return contents


class _Task:
    """One archive on its way, with the journal that lets a later run take over."""

    def __init__(self, connection: Connection, name: str, source: Source, contents: Contents, journal: Journal) -> None:
        self._connection = connection
        self._name = name
        self._source = source
        self._contents = contents
        self._journal = journal

    def run(self, tuning: Tuning, progress: Progress | None) -> None:
        """Sends what S3 does not have yet, and completes. Raises what ended it; then nothing is left to go on with,
        unless it was cut off from outside."""
        begun = self._journal.read()
        if begun is None or not self._completed_before(begun):
            upload, there = (begun and self._open_still(begun)) or (self._started(), [])
            with self._cancelled_where_hopeless(upload):
                etags = send(
                    self._connection.engine,
                    upload,
                    self._source,
                    self._contents.index,
                    there=there,
                    tuning=tuning,
                    progress=progress,
                )
                self._source.check_unchanged()
            self._note(upload, etags)
            self._complete(upload, etags)
        self._journal.forget()
        Reporter(progress, "complete", 1).done()

    def _started(self) -> OpenUpload:
        contents = self._contents
        upload = OpenUpload.start(
            self._connection, self._name, contents.first_key, contents.count, contents.archive_size
        )
        self._note(upload)
        return upload

    def _note(self, upload: OpenUpload, etags: Sequence[str] | None = None) -> None:
        self._journal.write(Begun(upload.id, etags is not None, tuple(etags or ())))

    def _open_still(self, begun: Begun) -> tuple[OpenUpload, list[v1.UploadedPart]] | None:
        """What an earlier run began, if the server still has it open, and the parts that are there."""
        try:
            return OpenUpload.again(self._connection, begun.upload_id, self._source.size)
        except Datas3tError as error:
            if error.reason not in _OVER:
                raise
            return None

    def _completed_before(self, begun: Begun) -> bool:
        """Whether an earlier run sent everything, and it is, or now becomes, complete.

        Complete means that the keys are there: they may have been deleted since.
        """
        if not begun.sent:
            return False
        try:
            self._complete(OpenUpload(self._connection, begun.upload_id, self._source.size), begun.etags)
        except Datas3tError as error:
            if error.reason not in _GONE:
                raise
            return False
        first, last = self._contents.first_key, self._contents.last_key
        return catalogue.load(self._connection, self._name, first, last).count(first, last) == self._contents.count

    def _complete(self, upload: OpenUpload, etags: Sequence[str]) -> None:
        try:
            retry_while_unavailable(lambda: upload.complete(etags))
        except Datas3tError as error:
            if error.reason in _OVER:
                self._journal.forget()
            raise

    @contextmanager
    def _cancelled_where_hopeless(self, upload: OpenUpload) -> Iterator[None]:
        """Sending it again would not help: the server need not keep what was sent."""
        try:
            try:
                yield
            except TransferFailed:
                self._source.check_unchanged()  # a file cut short looks like a torn connection
                raise
        except (FileError, TransferRefused):
            with suppress(Datas3tError):
                upload.cancel()
            self._journal.forget()
            raise
