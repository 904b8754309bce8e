"""Uploads a spool, so that each of its datapoints is committed exactly once, whatever was killed in between.

Its keys are reserved for it alone. So if they are datapoints already, these are its own, committed by an earlier run
that could not remove the spool. That is verified, because a database that was lost and imported again has forgotten
reservations, and may have given the same keys to others.
"""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from datas3t import v1
from datas3t.archive import checksums, names
from datas3t.archive.tar import Contents
from datas3t.client._calls import tables
from datas3t.client._calls.rpc import retry_while_unavailable
from datas3t.client._calls.session import Session
from datas3t.client._files._writer.journal import SpoolJournal
from datas3t.client._files._writer.keys import Keys
from datas3t.client._files._writer.spool import Spool
from datas3t.client._reading import catalogue
from datas3t.client._reading.catalogue_cache import MAX_SIZE, CatalogueCache
from datas3t.client._reading.reader import Reader
from datas3t.client._transfers.open_upload import OpenUpload
from datas3t.client._transfers.source import Source, open_source
from datas3t.client._transfers.task import Tuning
from datas3t.client._transfers.upload import Uploaded, UploadTask, scan
from datas3t.client.errors import AlreadyExists, Datas3tError, FileError, InvalidArgument, NotFound
from datas3t.transport import FileRange

if TYPE_CHECKING:
    import pyarrow as pa

PATIENCE = 120.0  # seconds for which the server may be away when an upload is started
_ATTEMPTS = 3  # at uploads that are cancelled
_FORGOTTEN = frozenset(("RESERVATION_NOT_FOUND", "KEYS_NOT_RESERVED"))


def upload(session: Session, name: str, spool: Spool, keys: Keys, tuning: Tuning, check: Callable[[], None]) -> None:
    """Upload a spool and remove it.

    Args:
        session: The client's settings and connection.
        name: The datas3t.
        spool: The spool.
        keys: The keys of the writer.
        tuning: Parallelism and retries.
        check: Called now and then; it may raise what ends the upload. A later call resumes it.

    Raises:
        Datas3tError: The upload has failed. The spool is kept.
    """
    keys.sync()  # before the spool may be removed, so that its keys are not used again after a power failure
    spool.seal()
    try:
        with open_source(spool.path) as source:
            contents = scan(source, lambda *_: check())
            check_undamaged(spool, contents)
            _SpoolTask(session, name, spool, source, contents, tuning, check, keys.forget).run_until_done()
    except AlreadyExists as error:
        if error.reason not in ("DATARANGE_OVERLAPS", "KEYS_RESERVED") or not _is_committed(session, name, spool):
            raise _explained(error, spool) from None
    spool.remove()


class _SpoolTask(UploadTask):
    restart_reasons = UploadTask.restart_reasons | {
        "TABLE_FILE_NOT_FOUND",
        "TABLE_FILE_CANCELLED",
        "TABLE_FILE_COMPLETED",
        "TABLE_FILE_INVALID",
    }
    closed_reasons = UploadTask.closed_reasons | restart_reasons

    def __init__(
        self,
        session: Session,
        name: str,
        spool: Spool,
        source: Source,
        contents: Contents,
        tuning: Tuning,
        check: Callable[[], None],
        forget: Callable[[int], None],
    ) -> None:
        self._own_journal = SpoolJournal(spool.path)
        super().__init__(
            session,
            name,
            source,
            contents,
            tuning,
            lambda *_: check(),
            spool.reservation_id,
            self._own_journal,
        )
        self._session = session
        self._spool = spool
        self._check = check
        self._forget = forget
        self._time_left = check

    def run_until_done(self) -> None:
        """Do what remains of the upload, again if it is cancelled meanwhile, as it is when the datas3t is cleared."""
        for _ in range(_ATTEMPTS - 1):
            try:
                self.run(lambda *_: self._check())
            except Datas3tError as error:
                if error.reason not in self.restart_reasons:
                    raise
            else:
                return
        self.run(lambda *_: self._check())

    def check(self) -> None:
        self._check()

    def start(self) -> OpenUpload:
        return retry_while_unavailable(self._start, PATIENCE, self._check)

    def transfer(self, opened: OpenUpload, uploaded: Sequence[v1.UploadedPart]) -> tuple[list[str], Uploaded]:
        self._own_journal.table_file_ids = tuple(self._sent_rows())
        return super().transfer(opened, uploaded)

    def committed(self) -> Uploaded:
        return self._result

    def _start(self) -> OpenUpload:
        self._check()
        try:
            return super().start()
        except Datas3tError as error:
            if error.reason not in _FORGOTTEN:
                raise
        # Nobody else gets these keys from the server, unless the database was lost.
        self._forget(self._spool.reservation_id)
        self._reservation_id = 0
        return super().start()

    def _sent_rows(self) -> Iterator[int]:
        """Send the rows of the tables, and yield the ids of their files."""
        if not self._spool.has_rows:
            return
        from datas3t.client._files._writer import parquet  # noqa: PLC0415 - needs pyarrow
        from datas3t.client._tables.remote import Remote  # noqa: PLC0415 - as above

        for rows in parquet.written(self._spool):
            self._check()
            with open_source(rows.path) as file:
                body = FileRange(file.fd, range(file.size))
                yield Remote(self._session, self._name, rows.table).send(rows.first, rows.last, body)

    def _complete(self, opened: OpenUpload, etags: Sequence[str]) -> None:
        opened.table_file_ids = self._own_journal.table_file_ids
        super()._complete(opened, etags)
        self._spool.remove()  # before the journal, which says that it was committed


def check_undamaged(spool: Spool, contents: Contents) -> None:
    """Raise FileError if the archive does not have the contents that were appended."""
    if (contents.first_key, contents.count) != (spool.first, spool.count):
        raise FileError(f"the spool {spool.path} is damaged: it does not have the datapoints that were appended")
    for entry, crc in zip(spool.entries(), checksums.decode(contents.checksums), strict=True):
        if entry.crc32c != crc:
            raise FileError(
                f"datapoint {entry.key} in {spool.path} is not what was appended: the disk has changed it; move the "
                "files of this spool away, and append its contents again"
            )


def _is_committed(session: Session, name: str, spool: Spool) -> bool:
    """Return whether the datapoints of the spool are stored, by reading them."""
    first, last = spool.first, spool.next_key - 1
    if catalogue.load(session.connection, name, first, last).count(first, last) != spool.count:
        return False
    stored = Reader(session, name).scan(first, last, copy=False)
    return all(
        entry.key == found.key and entry.size == len(found.content) and entry.crc32c == checksums.crc(found.content)
        for entry, found in zip(spool.entries(), stored, strict=True)
    )


def _explained(error: AlreadyExists, spool: Spool) -> AlreadyExists:
    message = (
        f"{error}; the keys {spool.first} to {spool.next_key - 1} that append returned belong to others now: move "
        f"{spool.path} and its records away, and append its contents again"
    )
    return AlreadyExists(message, reason=error.reason, metadata=error.metadata)


def check_table(table: str) -> None:
    """Raise InvalidArgument unless columns can go to a table of this name."""
    if not names.valid_name(table):
        raise InvalidArgument(f"the table {table!r} is not named by 1 to 255 letters, digits, '_' and '-'")
    if table == "files":
        raise InvalidArgument("the table 'files' has columns of its own, which append fills for each path")


def check_tables_work() -> None:
    """Raise PackageMissing unless rows of tables can be written."""
    import_module("datas3t.client._tables.arrow")


def schema_of(session: Session, name: str, table: str) -> "pa.Schema | None":
    """Return the columns of a table, or None if there is no such table yet."""
    from datas3t.client._tables.known import Known  # noqa: PLC0415 - needs pyarrow

    try:
        return Known(session, name, CatalogueCache(session, name, MAX_SIZE)).contents(table).schema()
    except NotFound as error:
        if not tables.is_no_table(error):
            raise
        return None
