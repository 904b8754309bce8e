"""The files of one table: the server's listing of them, ranged GETs with URLs that are renewed, and new files."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from datas3t.archive.names import MAX_KEY
from datas3t.client._calls import tables
from datas3t.client._calls.failures import from_transfer_error, translated_transfer_errors
from datas3t.client._calls.rpc import retry_while_unavailable
from datas3t.client._calls.session import Session
from datas3t.client._calls.tables import SignedTableFile
from datas3t.client._reading.costs import Costs
from datas3t.client._tables.footers import Piece, TableFile
from datas3t.client.errors import Datas3tError, NotFound, ObjectChanged
from datas3t.transport import Body, Range, Request, TransferError

_RETRIES = 6  # of each request


class FilesReplaced(Exception):  # noqa: N818 - control flow, not an error: the read is planned again
    """A file of a listing is no part of the table any more: it was compacted, or the table was dropped."""


class Remote:
    """One table, as the server and S3 have it."""

    def __init__(self, session: Session, name: str, table: str) -> None:
        self.session = session
        self.name = name
        self.table = table
        self._costs = Costs()
        self._newer: dict[int, SignedTableFile] = {}  # with newer URLs, of those that were renewed

    def files(self, first: int = 0, last: int = MAX_KEY) -> list[SignedTableFile]:
        """Return the files that may have rows of keys from `first` to `last`; none if there is no such table.

        Raises:
            NotFound: There is no such datas3t.
        """
        connection = self.session.connection
        try:
            return retry_while_unavailable(lambda: tables.presign(connection, self.name, self.table, first, last))
        except NotFound as error:
            if not tables.is_no_table(error):
                raise
            return []

    def fetch(self, pieces: Sequence[Piece]) -> list[bytes]:
        """Return bytes of files.

        Raises:
            FilesReplaced: A file is no part of the table any more.
            ObjectChanged: An object is missing, or is not the one that was committed.
            TransferFailed: S3 cannot be reached.
        """
        if not pieces:
            return []
        bodies = [b""] * len(pieces)
        ranges = [Range(_RenewableUrl(self, file), file.etag, start, stop) for file, start, stop in pieces]
        size = sum(each.stop - each.start for each in ranges)
        parallelism = self._costs.parallelism(len(ranges), size)
        began = time.perf_counter()
        try:
            engine = self.session.connection.engine
            seen = engine.each(ranges, bodies.__setitem__, parallelism=parallelism, retries=_RETRIES)
        except TransferError as error:
            self._fail(error)
        if seen.crowded:
            self._costs.note_congestion(parallelism)
        elif seen.first_byte is not None:
            took = time.perf_counter() - began
            self._costs.note_batch(len(ranges), size, parallelism, took, seen.first_byte)
        return bodies

    def send(self, first: int, last: int, body: Body, replaces: Sequence[int] = ()) -> int:
        """Put a file with rows of keys from `first` to `last` into S3, and return its id. It is not complete then.

        Raises:
            Aborted: With `replaces`: a newer file has keys in common with it.
            TransferFailed: S3 cannot be reached, or refuses the file.
        """
        connection = self.session.connection
        started = tables.start(connection, self.name, self.table, first, last, body.size, replaces)
        try:
            with translated_transfer_errors():
                connection.engine.run([Request("PUT", started.url, body=body)], parallelism=1, retries=_RETRIES)
        except BaseException:
            self._abandon(started.id)
            raise
        return started.id

    def complete(self, file_id: int) -> None:
        """Make a file a part of the table."""
        connection = self.session.connection
        retry_while_unavailable(lambda: tables.complete(connection, file_id))

    def cancel(self, file_id: int) -> None:
        """Remove a file that is not complete."""
        tables.cancel(self.session.connection, file_id)

    def current(self, file: SignedTableFile, refused: bool) -> SignedTableFile:
        """Return a file with a URL that may be used; `refused` if S3 has refused the one that it has.

        Raises:
            FilesReplaced: It is no part of the table any more.
        """
        newer = self._newer.get(file.id, file)
        if newer.lifetime.is_over(refused):
            listed = self.files()  # the URLs of all others end at about the same time
            self._newer |= {each.id: each for each in listed}
            found = next((each for each in listed if each.id == file.id and each.etag == file.etag), None)
            if found is None:
                raise FilesReplaced
            newer = found
        return newer

    def _fail(self, error: TransferError) -> NoReturn:
        """Raise FilesReplaced if the object whose transfer failed is no part of the table any more."""
        failure = from_transfer_error(error)
        if isinstance(failure, ObjectChanged) and not any(
            each.location.endswith(error.path.lstrip("/")) for each in self.files()
        ):
            raise FilesReplaced from None
        raise failure from None

    def _abandon(self, file_id: int) -> None:
        with suppress(Datas3tError):  # the server cancels it when its time is over
            self.cancel(file_id)


class _RenewableUrl:
    """The URL of one file."""

    __slots__ = ("_file", "_remote")

    def __init__(self, remote: Remote, file: TableFile) -> None:
        assert isinstance(file, SignedTableFile)
        self._remote = remote
        self._file = file

    def __call__(self, refused: bool) -> str:
        """Return the URL to use now; `refused` if S3 refused the one returned before."""
        if refused or time.time() >= self._file.lifetime.stale_at:
            self._file = self._remote.current(self._file, refused)
        return self._file.url
