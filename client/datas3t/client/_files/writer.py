"""Writer: appends datapoints one by one, keeps them on disk, and uploads them in archives."""

import copy
import os
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from datas3t.archive import FormatError, names, paths
from datas3t.client._calls import keys
from datas3t.client._calls.arguments import check_text
from datas3t.client._calls.session import Session
from datas3t.client._files._writer import sending
from datas3t.client._files._writer.columns import Columns, Row
from datas3t.client._files._writer.content import Content, Pieces
from datas3t.client._files._writer.folder import WriterFolder
from datas3t.client._files._writer.keys import Keys
from datas3t.client._files._writer.spool import Spool
from datas3t.client._files._writer.uploader import Uploader
from datas3t.client._files.pack import extension as extension_of
from datas3t.client._transfers.task import Tuning
from datas3t.client.errors import FailedPrecondition, FileError, Interrupted, InvalidArgument

_MIN_ARCHIVE_SIZE = 1 << 10
_MAX_EXTENSION = 100  # bytes
_BYTES_PER_KEY = 1_024  # of an archive, for how many keys are reserved: a small datapoint takes as much
_MIN_KEYS, _MAX_KEYS = 1 << 10, 1 << 20  # how many keys are reserved at a time
_MAX_WAITING = 2  # full archives on disk; `append` waits before there are more


class Writer:
    """Appends datapoints to a datas3t; `Client.writer` makes writers.

    Safe for threads. After a fork only the parent may use it.

    Attributes:
        writer_id: The id that it was given, or one that was made up.

    Example:
        >>> with client.writer("photos", table="labels") as out:
        ...     key = out.append(content, extension="jpg", path="cats/1.jpg", label="cat")
    """

    def __init__(
        self,
        session: Session,
        name: str,
        *,
        archive_size: int,
        writer_id: str | None,
        table: str | None,
        tuning: Tuning,
    ) -> None:
        """Open a writer; see `Client.writer`."""
        check_text(name=name, writer_id=writer_id, table=table)
        if archive_size < _MIN_ARCHIVE_SIZE:
            raise InvalidArgument(f"archive_size is {archive_size}; it must be {_MIN_ARCHIVE_SIZE} or more")
        if table is not None:
            sending.check_table(table)
        session = copy.copy(session)  # with a connection that can be closed to end calls of an upload
        self._session = session
        self._name = name
        self._archive_size = archive_size
        self._table = table
        self._process = os.getpid()
        self._closed = False
        self._appending = threading.Lock()
        self._columns = Columns(lambda: sending.schema_of(session, name, table) if table else None)
        self._spool: Spool | None = None
        self._folder = WriterFolder.opened(session.url, name, writer_id)
        try:
            spools = self._folder.recovered()
            self._keys = Keys(self._folder.path, lambda count: keys.reserve(session.connection, name, count, None))
            for spool in spools:
                self._keys.use_up_to(spool.reservation_id, spool.next_key)
        except BaseException:
            self._release()
            raise
        self._last_number = spools[-1].number if spools else 0
        self._uploads = Uploader(
            lambda spool, check: sending.upload(session, name, spool, self._keys, tuning, check), spools, _MAX_WAITING
        )
        self._uploads.start()
        self.writer_id = self._folder.writer_id

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flush and close; after an exception only close, so that what was appended stays on disk."""
        if error is None:
            self.close()
        elif not self._is_foreign:
            self._end()
            if self._has_something:
                error.add_note(
                    f"what the writer {self.writer_id!r} has not uploaded yet is kept in {self._folder.path}; "
                    f"a writer of {self._name!r} with this writer_id uploads it"
                )

    def __repr__(self) -> str:
        return f"Writer({self._session.url!r}, {self._name!r}, writer_id={self.writer_id!r})"

    def append(
        self,
        content: Content,
        /,
        *,
        extension: str | None = None,
        path: str | bytes | os.PathLike[str] | None = None,
        **columns: object,
    ) -> int:
        """Add a datapoint, and return its key.

        It is on disk when this returns: if the process is killed then, a writer with the same id uploads it. Only a
        power failure may take what was appended since the last `flush`. Readers see it when its archive is committed.

        Args:
            content: The content: bytes, or a binary file, which is read to its end. Other threads wait meanwhile. At
                an error it is rewound, if it can be.
            extension: Without the dot; None: that of the path, otherwise "bin".
            path: The name by which `find` finds it, in the table `files`; None: it has none.
            columns: Its values in the writer's table; None is the same as a column that is left out.

        Raises:
            InvalidArgument: A value has another type than its column, or the extension or the path is not allowed.
            FileError: The disk is full.
            PackageMissing: pyarrow is not installed, which paths and columns need.
            FailedPrecondition: The writer is closed, or this is a forked child.
            Datas3tError: An archive could not be uploaded. What was appended before is kept; this was not added.
        """
        self._check_process()
        row = self._row(columns)
        encoded_path = None if path is None else _encoded(path)
        if row or encoded_path is not None:
            sending.check_tables_work()
        if extension is None:
            extension = "bin" if path is None else extension_of(os.path.basename(os.fsdecode(path)))
        _check_extension(extension)
        pieces = Pieces(content)
        try:
            with self._appending:
                self._check_open()
                self._uploads.check()
                spool = self._with_room(len(pieces.first))
                return spool.append(pieces, names.entry_name(spool.next_key, extension), encoded_path, row)
        except BaseException:
            pieces.rewind()
            raise

    def flush(self) -> None:
        """Return when everything that was appended is committed.

        Raises:
            Datas3tError: Something could not be uploaded. It is kept, and the next `flush` tries again.
            Interrupted: Ctrl-C was pressed.
        """
        self._check_process()
        with self._appending:
            self._check_open()
            self._hand_over()
            last = self._last_number
        try:
            self._uploads.wait_for(last)
        except KeyboardInterrupt:
            raise Interrupted(
                f"the upload of what was appended to {self._name!r} was interrupted; it is kept, and a writer with the "
                f"writer_id {self.writer_id!r} uploads it"
            ) from None

    def close(self) -> None:
        """Flush and close. Closing it again, or in a forked child, has no effect.

        Raises:
            Datas3tError: Something could not be uploaded. It is kept; a writer with the same id uploads it.
        """
        if self._closed or self._is_foreign:
            return
        try:
            self.flush()
        finally:
            self._end()

    @property
    def _is_foreign(self) -> bool:
        """Whether this process was forked from the writer's."""
        return os.getpid() != self._process

    @property
    def _current(self) -> Spool | None:
        """The spool that is appended to. An interruption may have come just after it was handed over."""
        if self._spool is not None and self._uploads.has(self._spool):
            self._spool = None
        return self._spool

    @property
    def _has_something(self) -> bool:
        return self._current is not None or not self._uploads.is_empty

    def _end(self) -> None:
        """Close everything. What was not uploaded stays on disk."""
        self._closed = True
        self._uploads.stop()
        self._session.close()  # an upload may wait for the server, and the id must not stay locked meanwhile
        with self._appending:  # no append is at work any more
            spool = self._current
            if spool is not None and not spool.count:
                with suppress(FileError):
                    spool.remove()
                self._spool = None
            elif spool is not None:
                spool.close()
        self._uploads.when_stopped(self._release)

    def _release(self) -> None:
        self._session.close()
        self._folder.close()

    def _row(self, columns: dict[str, object]) -> Row | None:
        if columns and self._table is None:
            raise InvalidArgument(f"the column {next(iter(columns))!r} needs a table; open the writer with table=...")
        return self._columns.row(columns) if columns else None

    def _with_room(self, size: int) -> Spool:
        """Return the spool for a content of `size` bytes or more."""
        spool = self._current
        if spool is not None and spool.is_full(size, self._archive_size):
            self._uploads.wait_for_room()
            self._hand_over()
            spool = None
        if spool is None:
            block = self._keys.block(min(max(self._archive_size // _BYTES_PER_KEY, _MIN_KEYS), _MAX_KEYS))
            self._last_number += 1
            path = self._folder.new_path(self._last_number)
            self._spool = spool = Spool.create(path, block.next, block.last, block.reservation_id, self._table)
        return spool

    def _hand_over(self) -> None:
        """Pass the spool on to the uploads."""
        spool = self._current
        if spool is not None and spool.count:
            self._keys.use_up_to(spool.reservation_id, spool.next_key)
            self._uploads.add(spool)
            self._spool = None
            self._uploads.start()

    def _check_process(self) -> None:
        if self._is_foreign:
            raise FailedPrecondition("a writer belongs to the process that opened it; open another one in this process")

    def _check_open(self) -> None:
        if self._closed:
            raise FailedPrecondition(f"the writer of {self._name!r} is closed; open another one")


def _encoded(path: str | bytes | os.PathLike[str]) -> str:
    """Return a path as the table `files` has it."""
    name = os.fspath(path)
    if not name or (b"\0" if isinstance(name, bytes) else "\0") in name:  # type: ignore[operator]
        raise InvalidArgument(f"the path {name!r} is empty or has a NUL character; no file can have it")
    try:
        return paths.encode(name)
    except FormatError as error:
        raise InvalidArgument(str(error)) from None


def _check_extension(extension: str) -> None:
    check_text(extension=extension)
    if extension.startswith("."):
        raise InvalidArgument(f"the extension {extension[:_MAX_EXTENSION]!r} begins with a dot; leave it out")
    if not extension or "/" in extension or "\0" in extension or len(extension.encode()) > _MAX_EXTENSION:
        raise InvalidArgument(
            f"the extension {extension[:_MAX_EXTENSION]!r} is not 1 to {_MAX_EXTENSION} bytes without '/' and NUL"
        )
