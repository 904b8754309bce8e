"""What a client tells about the entries of an archive, and its comparison with entries that are read anyway."""

from collections.abc import Sequence

from datas3t.archive import ArchiveError, checksums, names, tar
from datas3t.archive.header import Read
from datas3t.archive.index import BLOCK, Entry

LARGEST = 256 << 10  # bytes of a content that is read to check it, where an archive is not read whole

_AT_ONCE = 1 << 20  # bytes of checksums that one request reads; of more, only those that are needed are read


class Told:
    """The checksums of an archive's datapoints, and the extension that all of its entries have.

    Args:
        first: The first key.
        count: The number of datapoints.
        read_checksums: Reads the checksums; None if there are none.
        extension: The extension without the leading dot; None if it is not known.
    """

    def __init__(
        self, first: int, count: int, read_checksums: Read | None = None, extension: str | None = None
    ) -> None:
        self._first = first
        self._size = checksums.RECORD_SIZE * count
        self._read_checksums = read_checksums
        self._extension = extension
        self._whole: bytes | None = None

    def load(self) -> None:
        """Read the checksums before entries are checked by several threads, unless they are many."""
        if self._read_checksums is not None and self._size <= _AT_ONCE:
            self._whole = self._read_checksums(0, self._size)

    def bytes_needed(self, entry: Entry) -> int:
        """Return how many bytes of an entry `check` needs: those of its headers, and of a content that is not large."""
        is_content_needed = self._read_checksums is not None and entry.size <= LARGEST
        return BLOCK * entry.header_blocks + (entry.size if is_content_needed else 0)

    def check(self, number: int, entry: Entry, data: bytes) -> None:
        """Check the headers of an entry, and its content if `data` has it; entries are numbered from 0.

        Raises:
            ArchiveError: A header is wrong, or the entry is not what was told.
        """
        headers = BLOCK * entry.header_blocks
        name = tar.check_entry(data[:headers], entry, self._first + number)
        if self._extension is not None:
            self._check_name(number, name)
        if self._read_checksums is not None and len(data) == headers + entry.size:
            self._compare(number, checksums.crc(data[headers:]), self._told(number))

    def check_all(self, archive: bytes, entries: Sequence[Entry]) -> None:
        """Check all entries of an archive whose headers were found to be right. Raises as `check`."""
        if self._extension is not None:
            for number, entry in enumerate(entries):
                name = names.entry_name(self._first + number, self._extension)
                start = entry.content.start - BLOCK  # of the main header, which begins with the name
                if entry.header_blocks > 1 or not archive.startswith(b"%b\0" % name.encode(), start):
                    headers = archive[entry.position : entry.content.start]
                    self._check_name(number, tar.check_entry(headers, entry, self._first + number))
        if self._read_checksums is not None:
            told = self._read_checksums(0, self._size) if self._whole is None else self._whole
            contents = [entry.content for entry in entries]
            actual = checksums.of_contents(archive, [each.start for each in contents], [each.stop for each in contents])
            if actual != told:
                pairs = zip(checksums.decode(actual), checksums.decode(told), strict=True)
                for number, (one, other) in enumerate(pairs):
                    self._compare(number, one, other)

    def _told(self, number: int) -> int:
        """Return the checksum of an entry that was told."""
        assert self._read_checksums is not None
        start, stop = checksums.RECORD_SIZE * number, checksums.RECORD_SIZE * (number + 1)
        record = self._read_checksums(start, stop) if self._whole is None else self._whole[start:stop]
        return checksums.crc_at(record, 0)

    def _compare(self, number: int, actual: int, told: int) -> None:
        if actual != told:
            key = self._first + number
            raise ArchiveError(f"datapoint {key} has the checksum {actual:08x}, but {told:08x} among the checksums")

    def _check_name(self, number: int, name: str) -> None:
        if name != names.entry_name(self._first + number, self._extension or ""):
            raise ArchiveError(f"entry {name!r} does not have the extension {self._extension!r}, which was told of all")
