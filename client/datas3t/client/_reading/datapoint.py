"""Reading one datapoint: its record in the index, its header, its content."""

from typing import NamedTuple

from datas3t.archive import FormatError
from datas3t.archive.header import check_entry
from datas3t.archive.index import BLOCK, RECORD, Entry
from datas3t.client._reading.checksums import Checksums
from datas3t.client._reading.fetching import MAX_REQUEST, Fetcher
from datas3t.client._reading.index_files import IndexMismatch
from datas3t.client._reading.indices import Indices
from datas3t.client._reading.signed import SignedDatarange

_KEY_DIGITS = 20  # in a name; a dot follows
REGULAR = b"0\0"  # the types of a regular file, one byte of its header


class Datapoint(NamedTuple):
    """A datapoint: its key, the name of its entry (`00000000000000000042.png`) and its content."""

    key: int
    name: str
    content: bytes

    @property
    def extension(self) -> str:
        """The name without the key and the dot after it, such as `png` or `json.zst`."""
        return self.name.partition(".")[2]

    @property
    def size(self) -> int:
        """The size of the content in bytes."""
        return len(self.content)


class DatapointInfo(NamedTuple):
    """What is known of a datapoint without its content.

    Attributes:
        key: Its key.
        name: The name of its entry (`00000000000000000042.png`).
        size: The size of its content in bytes.
        datarange_id: The server's id of its datarange. Another one holds it when it was aggregated.
        etag: The ETag of the archive of that datarange.
    """

    key: int
    name: str
    size: int
    datarange_id: int
    etag: str

    @property
    def extension(self) -> str:
        """The name without the key and the dot after it."""
        return self.name.partition(".")[2]


class DatapointView(NamedTuple):
    """A datapoint whose content is not copied: it is valid until the next datapoint is asked for."""

    key: int
    name: str
    content: memoryview

    @property
    def extension(self) -> str:
        """The name without the key and the dot after it."""
        return self.name.partition(".")[2]

    @property
    def size(self) -> int:
        """The size of the content in bytes."""
        return len(self.content)


def content(key: int, indices: Indices, fetcher: Fetcher, checksums: Checksums | None = None) -> bytes | None:
    """Return the content of a key, or None if no datarange holds it. It is compared with one of the checksums.

    Raises:
        IndexMismatch: The index does not fit the archive.
        ChecksumMismatch: The content differs from its checksum, also when both are fetched again.
    """
    datarange = fetcher.catalogues.holding(key)
    if datarange is None:
        return None
    start, blocks, high, low = RECORD.unpack(indices.record(datarange, key, fetcher))
    headers, size = blocks * BLOCK, high << 32 | low
    stop = start + headers + size
    if not blocks or stop > datarange.entries_end:
        raise IndexMismatch(datarange, f"key {key} would be at bytes {start} to {stop}")
    if stop - start > MAX_REQUEST:
        found = fetch_large(datarange, key, Entry(start, blocks, size), fetcher)[1]
    else:
        body = fetcher.fetch(datarange, start, stop)
        if not is_plain(body, 0, headers, key, size):
            checked_name(datarange, key, Entry(start, blocks, size), body[:headers])
        found = body[headers:]
    if checksums is not None and not checksums.hold(datarange, key, found, fetcher):
        return fetch_again(datarange, key, Entry(start, blocks, size), fetcher, checksums)
    return found


def fetch_large(datarange: SignedDatarange, key: int, entry: Entry, fetcher: Fetcher) -> tuple[str, bytes]:
    """Fetch a datapoint that is larger than one request may be; return its name and content."""
    place = entry.content
    headers = fetcher.fetch(datarange, entry.position, place.start)
    return checked_name(datarange, key, entry, headers), fetcher.fetch_large(datarange, place.start, place.stop)


def fetch_again(datarange: SignedDatarange, key: int, entry: Entry, fetcher: Fetcher, checksums: Checksums) -> bytes:
    """Fetch a content that differs from its checksum again, and the checksum as well; return the content.

    Raises:
        ChecksumMismatch: They differ again.
        IndexMismatch: The headers belong to another key or have another size than the index records.
        RestartRead: See `Fetcher`, with its other errors.
    """
    checksums.forget(datarange)
    _, found = fetch_large(datarange, key, entry, fetcher)
    if not checksums.hold(datarange, key, found, fetcher):
        raise checksums.mismatch(datarange, key)
    return found


def is_plain(body: bytes, at: int, headers: int, key: int, size: int) -> bool:
    """Return whether the headers of an entry are the one block that most tools write for this key and size.

    This is a quick check of the common case. `checked_name` checks all other headers.

    Args:
        body: Bytes of an archive.
        at: Where the headers start in `body`.
        headers: Their length in bytes.
        key: The key that the name must have.
        size: The size of the content in bytes.
    """
    return (
        headers == BLOCK
        and body[at : at + 20] == b"%020d" % key
        and body[at + 124 : at + 135] == b"%011o" % size
        and body[at + 156] in REGULAR
    )


def checked_name(datarange: SignedDatarange, key: int, entry: Entry, headers: bytes) -> str:
    """Return the name in the headers of an entry.

    Raises:
        IndexMismatch: The headers belong to another key or have another size than the index records.
    """
    try:
        name = check_entry(headers, entry, key)
    except FormatError as error:
        raise IndexMismatch(datarange, str(error)) from None
    # The checksum of a header does not cover a name in an extended header.
    if datarange.extension and name[_KEY_DIGITS + 1 :] != datarange.extension:
        raise IndexMismatch(datarange, f"entry {name!r} does not have the extension {datarange.extension!r}")
    return name
