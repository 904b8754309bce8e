"""A spool: datapoints that were appended, in an archive on disk, until they are committed.

Its files are `<number>.tar`, an archive that grows, and `<number>.records`, which says about each datapoint in it what
`append` was told. A datapoint counts from its record on, which is written last. So after a crash, at any byte, the
spool has every datapoint whose key was returned, and perhaps the one that was being appended. Records (`records.py`):

    "spool", first key, last key that it may have, reservation, table      the first record
    "columns"; Arrow's schema                   for the datapoints that follow
    "datapoint", key, byte after it, size, CRC-32C, name, path; Arrow's values of the columns
    "sealed", byte after the archive            the last record, of a spool that gets no more
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from datas3t.archive import checksums, parts, write
from datas3t.archive.index import BLOCK, padded
from datas3t.client._files._writer import records
from datas3t.client._files._writer.columns import Row
from datas3t.client._files._writer.content import Pieces
from datas3t.client._files._writer.records import Record
from datas3t.client.errors import FileError, InvalidArgument
from datas3t.transport import FileSink

_READ_AT_ONCE = 1 << 20  # bytes
_MAX_RECORDS = 1 << 30  # bytes; files of tables that are made of them have at most 5 GiB
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
SUFFIX = ".records"


class Entry(NamedTuple):
    """What the record of a datapoint says.

    Attributes:
        key: The key.
        stop: The byte of the archive after its padding.
        size: The size of the content.
        crc32c: The CRC-32C of the content.
        name: The name of its entry.
        path: Its path in the table `files`; None if it has none.
        columns: The values of its columns; empty if it has none.
        schema: The schema of these columns.
    """

    key: int
    stop: int
    size: int
    crc32c: int
    name: str
    path: str | None
    columns: bytes
    schema: bytes


class _Place(NamedTuple):
    """Where the next datapoint goes. Replaced as a whole, so that an interrupted `append` has no effect."""

    archive: int
    records: int
    key: int
    schema: bytes


class Spool:
    """One spool, by the path of its archive.

    Attributes:
        path: The path of the archive.
        first: The key of the first datapoint.
        last: The last key that it may have.
        reservation_id: The reservation that its keys belong to.
        table: The table that the columns go to; None if there are no columns.
        lost: How many datapoints a crash of the machine has damaged, so that they were dropped.
    """

    def __init__(self, path: Path, first: int, last: int, reservation_id: int, table: str | None) -> None:
        """Take over files that are there; `create` and `recovered` return spools."""
        self.path = path
        self.first = first
        self.last = last
        self.reservation_id = reservation_id
        self.table = table
        self.lost = 0
        self._sealed = False
        self._place = _Place(0, 0, first, b"")
        self._archive = self._records = -1

    @classmethod
    def create(cls, path: Path, first: int, last: int, reservation_id: int, table: str | None) -> "Spool":
        """Create an empty spool."""
        spool = cls(path, first, last, reservation_id, table)
        begin = records.encode(("spool", first, last, reservation_id, table))
        with spool._writing():
            spool._open(os.O_TRUNC)  # an earlier attempt may have found the disk full
            FileSink(spool._records, 0)(0, (begin,))
        spool._place = spool._place._replace(records=len(begin))
        return spool

    @classmethod
    def recovered(cls, path: Path) -> "Spool | None":
        """Return what a crash has left of a spool; if that is nothing, remove its files and return None."""
        begin = None
        with suppress(FileNotFoundError), path.with_suffix(SUFFIX).open("rb") as file:
            begin = next(records.read(file), None)
        spool = cls(path, *(begin.about[1:] if begin else (0, 0, 0, None)))
        if begin is None:
            spool.remove()
            return None
        spool._recover(begin)
        return spool

    @property
    def number(self) -> int:
        """The number in its files' names, which grows from spool to spool."""
        return int(self.path.stem)

    @property
    def count(self) -> int:
        """The number of datapoints."""
        return self._place.key - self.first

    @property
    def next_key(self) -> int:
        """The key after the last datapoint."""
        return self._place.key

    @property
    def size(self) -> int:
        """The bytes of the archive, without its end marker."""
        return self._place.archive

    @property
    def has_rows(self) -> bool:
        """Whether a datapoint has a path or columns."""
        return any(entry.path is not None or entry.columns for entry in self.entries())

    def is_full(self, size: int, archive_size: int) -> bool:
        """Return whether a content of `size` bytes should go into the next spool, given the size of archives."""
        larger = self.size + BLOCK + padded(size) + len(write.END) > archive_size
        many_rows = self._place.records > min(archive_size, _MAX_RECORDS)
        return self.next_key > self.last or (self.count > 0 and (larger or many_rows))

    @property
    def folder(self) -> Path:
        """The folder of its files."""
        return self.path.parent

    def append(self, content: Pieces, name: str, path: str | None, row: Row | None) -> int:
        """Add a datapoint, and return its key.

        Args:
            content: The content.
            name: The name of its entry, as `names.entry_name` makes it of `next_key`.
            path: The path in the table `files`, or None.
            row: The values of its columns, or None.

        Raises:
            FileError: The disk is full. The spool is as it was.
        """
        place = self._place
        stop, size, crc = self._write_content(content, name, place.archive)
        lines = []
        if row and row.schema != place.schema:
            lines.append(records.encode(("columns",), row.schema))
        about = ("datapoint", place.key, stop, size, crc, name, path)
        lines.append(records.encode(about, row.values if row else b""))
        self._write(self._records, place.records, *lines)
        schema = row.schema if row else place.schema
        self._place = _Place(stop, place.records + sum(map(len, lines)), place.key + 1, schema)
        return place.key

    def seal(self) -> None:
        """Write the end marker, and wait until everything is on disk. Doing this again has no effect."""
        if self._sealed:
            return
        with self._writing():
            self._open(0)
            stop = self._place.archive
            os.ftruncate(self._archive, stop)
            FileSink(self._archive, stop)(0, (write.END,))
            os.fsync(self._archive)
            os.ftruncate(self._records, self._place.records)
            sealed = records.encode(("sealed", stop + len(write.END)))
            FileSink(self._records, self._place.records)(0, (sealed,))
            os.fsync(self._records)
            _sync_folder(self.folder)
        self._sealed = True
        self.close()

    def entries(self) -> Iterator[Entry]:
        """Yield what the records say about the datapoints, in key order.

        Raises:
            FileError: The records are not what was written.
        """
        schema, key = b"", self.first
        for record in self._read():
            if record.about[0] == "columns":
                schema = record.blob
            elif record.about[0] == "datapoint" and key < self.next_key:
                yield _entry(record, schema)
                key += 1
        if key != self.next_key:
            raise FileError(f"{self.path.with_suffix(SUFFIX)} is damaged: it has no record of datapoint {key}")

    def remove(self) -> None:
        """Remove the files. The records go first: without them, the others mean nothing."""
        self.close()
        with self._writing():
            self.path.with_suffix(SUFFIX).unlink(missing_ok=True)
            for path in sorted(self.folder.glob(f"{self.path.stem}[.-]*"), key=lambda path: path.suffix == ".journal"):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the files."""
        for fd in (self._archive, self._records):
            if fd >= 0:
                os.close(fd)
        self._archive = self._records = -1

    def _open(self, flags: int) -> None:
        if self._archive < 0:
            self._archive = os.open(self.path, _FLAGS | flags, 0o600)
        if self._records < 0:
            self._records = os.open(self.path.with_suffix(SUFFIX), _FLAGS | flags, 0o600)

    def _write_content(self, content: Pieces, name: str, position: int) -> tuple[int, int, int]:
        """Write header, content and padding at a position. Return the byte after it, the content's size and CRC."""
        size = len(content.first)
        crc = checksums.crc(content.first)
        if content.whole:
            header = write.header(name, size)
            _check_size(position, len(header) + size)
            self._write(self._archive, position, header, content.first, write.padding(size))
            return position + len(header) + padded(size), size, crc

        # The header comes first, and its size must not depend on that of the content, which is known last.
        start = position + len(write.header(name, 0, any_size=True))
        self._write(self._archive, start, content.first)
        for piece in content.rest():
            _check_size(start, size + len(piece))
            self._write(self._archive, start + size, piece)
            crc = checksums.crc(piece, crc)
            size += len(piece)
        self._write(self._archive, start + size, write.padding(size))
        self._write(self._archive, position, write.header(name, size, any_size=True))
        return start + padded(size), size, crc

    def _write(self, fd: int, position: int, *pieces: bytes | memoryview) -> None:
        with self._writing():
            FileSink(fd, position)(0, pieces)

    def _read(self) -> Iterator[Record]:
        with self.path.with_suffix(SUFFIX).open("rb", buffering=_READ_AT_ONCE) as file:
            yield from records.read(file)

    def _recover(self, begin: Record) -> None:
        """Find the last datapoint that is whole."""
        sealed = next((record for record in self._read() if record.about[0] == "sealed"), None)
        place = self._place._replace(records=begin.stop)
        with self.path.open("rb", buffering=0) as archive:
            size = os.fstat(archive.fileno()).st_size
            self._sealed = sealed is not None and sealed.about[1] == size
            for record in self._read():
                if record.about[0] == "columns" and not self.lost:
                    place = place._replace(records=record.stop, schema=record.blob)
                if record.about[0] != "datapoint":
                    continue
                entry = _entry(record, b"")
                # After a crash of the machine, the file system may have kept the record without the content.
                if self.lost or not (self._sealed or _is_stored(archive.fileno(), place.archive, entry)):
                    self.lost += 1
                else:
                    place = _Place(entry.stop, record.stop, entry.key + 1, place.schema)
        self._place = place

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Raise FileError in place of an OSError of the block."""
        try:
            yield
        except OSError as error:
            raise FileError(
                f"the spool {self.folder} cannot be written: {error.strerror or error}; what was appended is kept"
            ) from None


def _entry(record: Record, schema: bytes) -> Entry:
    key, stop, size, crc32c, name, path = record.about[1:]
    return Entry(key, stop, size, crc32c, name, path, record.blob, schema)


def _is_stored(fd: int, position: int, entry: Entry) -> bool:
    """Return whether the archive has the entry from this position on."""
    header_size = entry.stop - padded(entry.size) - position
    header = write.header(entry.name, entry.size)
    if len(header) != header_size:
        header = write.header(entry.name, entry.size, any_size=True)
    if os.pread(fd, header_size, position) != header:
        return False
    crc, start = 0, position + header_size
    for at in range(start, start + entry.size, _READ_AT_ONCE):
        crc = checksums.crc(os.pread(fd, min(_READ_AT_ONCE, start + entry.size - at), at), crc)
    return crc == entry.crc32c


def _check_size(position: int, size: int) -> None:
    if position + size + 3 * len(write.END) > parts.MAX_OBJECT:
        raise InvalidArgument(f"a datapoint does not fit into an archive, which has at most {parts.MAX_OBJECT} bytes")


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
