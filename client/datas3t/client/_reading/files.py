"""Entries in a local file, such as a download, compared with their keys, index records and checksums."""

import os
from itertools import pairwise

import numpy as np

from datas3t.archive import index, reads
from datas3t.archive.checksums import crc
from datas3t.archive.index import BLOCK
from datas3t.client._reading.checksums import Checksums
from datas3t.client._reading.datapoint import fetch_again
from datas3t.client._reading.fetching import Fetcher
from datas3t.client._reading.headers import HeaderReader, locations
from datas3t.client._reading.indices import Indices
from datas3t.client._reading.locations import Locations, Numbers

_AT_ONCE = 4 << 20  # bytes that are read from a file and checked together


def check_file(
    fd: int, first: int, last: int, indices: Indices, fetcher: Fetcher, checksums: Checksums | None = None
) -> int:
    """Check a file that has the entries from key `first` to key `last`, one after the other.

    Every header is checked. Contents are compared with their checksums; one that differs is fetched again, and written
    to the file.

    Returns:
        The bytes of these entries.

    Raises:
        IndexMismatch: A header is damaged, or contradicts its key or its index record.
        ChecksumMismatch: A content differs from its checksum, also when both are fetched again.
        OSError: The file cannot be read or written.
        RestartRead: See `Fetcher`, with its other errors.
    """
    reader, offset = HeaderReader(), 0  # the byte of the file at which the next entry starts
    for entries in locations(first, last, indices, fetcher, checksums):
        origin = int(entries.starts[0])
        if checksums is None or entries.sums is None:
            _check_headers(fd, offset - origin, entries, reader)
        else:
            _check_entries(fd, offset - origin, entries, reader, fetcher, checksums)
        offset += index.padded(int(entries.stops[-1])) - origin
    return offset


def _check_headers(fd: int, shift: int, entries: Locations, reader: HeaderReader) -> None:
    """Check the headers, which are `shift` bytes further on in the file than in the archive. Contents are not read."""
    lengths = entries.contents - entries.starts
    cut = reads.plan(entries.archives, _before(lengths), np.cumsum(lengths), 0, _AT_ONCE)
    for at, stop in pairwise(cut.bounds.tolist()):
        part, sizes = entries.part(at, stop), lengths[at:stop]
        places = zip(sizes.tolist(), (part.starts + shift).tolist(), strict=True)
        body = b"".join([os.pread(fd, size, place) for size, place in places])
        reader.names(part, body, _before(sizes) // BLOCK)


def _check_entries(
    fd: int, shift: int, entries: Locations, reader: HeaderReader, fetcher: Fetcher, checksums: Checksums
) -> None:
    """Check the headers and the contents, in the file as for `_check_headers`."""
    assert entries.sums is not None
    cut = reads.plan(entries.archives, entries.starts, entries.stops, BLOCK, _AT_ONCE)
    for at, stop in pairwise(cut.bounds.tolist()):
        part, start = entries.part(at, stop), int(entries.starts[at])
        if int(part.stops[-1]) - start > _AT_ONCE:  # a single one
            _check_headers(fd, shift, part, reader)
            found = np.array([_crc(fd, int(part.contents[0]) + shift, int(part.stops[0]) + shift)])
        else:
            body = memoryview(os.pread(fd, index.padded(int(part.stops[-1])) - start, start + shift))
            reader.names(part, body, (part.starts - start) // BLOCK)
            places = map(slice, (part.contents - start).tolist(), (part.stops - start).tolist())
            found = np.fromiter(map(crc, map(body.__getitem__, places)), np.int64, stop - at)
        for n in np.flatnonzero(found != entries.sums[at:stop]).tolist():
            content = fetch_again(part.datarange(n), int(part.keys[n]), part.entry(n), fetcher, checksums)
            os.pwrite(fd, content, int(part.contents[n]) + shift)


def _crc(fd: int, start: int, stop: int) -> int:
    """Return the CRC of bytes of a file of any number."""
    found = 0
    for at in range(start, stop, _AT_ONCE):
        found = crc(os.pread(fd, min(_AT_ONCE, stop - at), at), found)
    return found


def _before(lengths: Numbers) -> Numbers:
    """Return for each of the lengths the sum of those before it."""
    return np.cumsum(lengths) - lengths
