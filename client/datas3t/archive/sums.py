"""What is learned of an archive's contents while it is read from start to end: checksums, and the common extension."""

import io
from collections.abc import Callable, Iterable

from datas3t.archive import checksums
from datas3t.archive.index import Entry

Some = Callable[[int, int], memoryview]
"""A function that returns bytes from `start` on: as many up to `stop` as it has at once, and at least one."""

_MIXED = ""


class Sums:
    """The checksum of each content and of the whole archive, made of its bytes in their order.

    Attributes:
        crc: The CRC-32C of the bytes so far.
    """

    def __init__(self) -> None:
        self.crc = 0
        self._records = io.BytesIO()
        self._extension: str | None = None  # None before the first entry

    @property
    def records(self) -> bytes:
        """The checksums object."""
        return self._records.getvalue()

    @property
    def extension(self) -> str:
        """The extension that all entries have; empty if they have different ones."""
        return self._extension or _MIXED

    def add_extension(self, extension: str) -> None:
        """Add the extension of an entry, or `""` for several that do not have the one before."""
        if self._extension is None:
            self._extension = extension
        elif extension != self._extension:
            self._extension = _MIXED

    def add_entry(self, entry: Entry, some: Some) -> None:
        """Add an entry, read in pieces of any size."""
        content = entry.content
        body = some(entry.position, entry.stop)
        if len(body) == entry.stop - entry.position:
            own = checksums.crc(body[content.start - entry.position : content.stop - entry.position])
            self.crc = checksums.crc(body, self.crc)
        else:
            del body  # the piece of the archive that it is part of is freed when the next one is read
            self.add_bytes(entry.position, content.start, some)
            own = self.add_bytes(content.start, content.stop, some)
            self.add_bytes(content.stop, entry.stop, some)
        self._records.write(checksums.RECORD.pack(own))

    def add_bytes(self, start: int, stop: int, some: Some) -> int:
        """Add bytes that are not an entry, such as the end marker, and return their own CRC."""
        own = 0
        while start < stop:
            piece = some(start, stop)
            own = checksums.crc(piece, own)
            self.crc = checksums.crc(piece, self.crc)
            start += len(piece)
            del piece
        return own

    def add_entries(self, body: memoryview, starts: Iterable[int], stops: Iterable[int]) -> None:
        """Add entries that `body` consists of; their contents begin and end at these bytes of it."""
        self._records.write(checksums.of_contents(body, starts, stops))
        self.crc = checksums.crc(body, self.crc)
