"""A fast reader for archives of many entries: a plain loop finds the headers, and numpy checks them all at once.

If contents are small, or their checksums are wanted, it reads whole windows of the archive; otherwise only the headers.
It handles plain entries only (`bulk_headers`) and stops at the first other one, which the reference reader (`header`)
then handles.
"""

import os
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datas3t.archive import bulk_headers
from datas3t.archive.bulk_headers import WORD, WORDS, Words
from datas3t.archive.index import BLOCK, RECORD_SIZE
from datas3t.archive.names import MAX_KEY
from datas3t.archive.sums import Sums

_LARGE = 12 << 10  # bytes of the mean entry from which seeking to each header is faster than reading everything
_WINDOW = 4 << 20  # bytes that are read at once
_BATCH = 2_048  # entries whose headers are read one by one and then checked together
_PROBES = 8  # entries that must be as long as the first one before equal lengths are assumed for the whole window

Numbers = NDArray[np.intp]


class _Headers(NamedTuple):
    """The headers of consecutive entries.

    Attributes:
        starts: The block at which each entry starts.
        mains: The main header of each entry, a row each.
        which: The numbers of the entries that have a PAX header.
        extended: The PAX headers of these entries, a row each.
        payloads: The records of these PAX headers, one block each.
    """

    starts: Numbers
    mains: Words
    which: Numbers | slice
    extended: Words
    payloads: Words


class BulkReader:
    """Reads the plain entries of an archive in a file."""

    def __init__(self, fd: int, size: int, mean: float, sums: Sums | None = None) -> None:
        """Make a reader.

        Args:
            fd: The descriptor of the file.
            size: The size of the archive in bytes.
            mean: The mean size of the entries so far, in bytes.
            sums: To which the contents are added; None: they are not read.
        """
        self._sums = sums
        self._fd = fd
        self._size = size
        self._mean = mean
        self._buffer = bytearray(max(_WINDOW, 3 * _BATCH * BLOCK))
        self._picked = np.empty((_WINDOW // BLOCK, WORDS), WORD)  # reused: new memory costs more than filling it
        self._checker = bulk_headers.Checker()

    def read(self, position: int, key: int) -> tuple[bytes, int]:
        """Read the plain entries from `position`. The first one must have this key.

        Returns:
            The records of these entries, and the byte after the last one. There are no records if the first entry is
            not plain.
        """
        if key > MAX_KEY - len(self._buffer):  # the keys of the window might exceed the largest one
            return b"", position
        by_header = self._mean > _LARGE and self._sums is None
        headers = self._read_headers(position) if by_header else self._read_window(position)
        if headers is None:
            return b"", position
        records, stop = self._checked(headers, position, key)
        if records:
            self._mean = (stop - position) / (len(records) // RECORD_SIZE)
        return records, stop

    def _read_window(self, position: int) -> _Headers | None:
        """Read a window of the archive, and return the headers in it."""
        length = os.preadv(self._fd, [memoryview(self._buffer)[:_WINDOW]], position)
        blocks = bulk_headers.rows(self._buffer, length // BLOCK)
        if len(blocks) == 0:
            return None
        return _equally_long(blocks) or _followed(blocks, self._picked)

    def _read_headers(self, position: int) -> _Headers | None:
        """Read the headers of a batch of entries, without their contents."""
        # All entries must have as many header blocks as the first one: one, or three with a PAX header.
        view, header_blocks, starts = memoryview(self._buffer), 1, []
        if os.preadv(self._fd, [view[:BLOCK]], position) == BLOCK and self._buffer[156] == ord("x"):
            header_blocks = 3

        # Each header gives the position of the next one. A wrong size is found when the headers are checked.
        size, at = header_blocks * BLOCK, position
        for row in range(0, _BATCH * size, size):
            if os.preadv(self._fd, [view[row : row + size]], at) < size:
                break
            end = row + size - BLOCK + 135  # of the eleven digits of the size
            try:
                content = int(self._buffer[end - 11 : end], 8)
            except ValueError:
                break
            starts.append(at - position)
            at += size + (content + BLOCK - 1) // BLOCK * BLOCK
        if not starts:
            return None
        blocks = bulk_headers.rows(self._buffer, len(starts) * header_blocks)
        return _evenly_spaced(blocks, header_blocks, header_blocks, len(starts), np.array(starts) // BLOCK)

    def _checked(self, headers: _Headers, position: int, key: int) -> tuple[bytes, int]:
        """Return the records of the entries up to the first that is not plain, and the byte after them."""
        sizes = bulk_headers.sizes(headers.mains)
        plain = self._checker.are_regular(headers.mains) & bulk_headers.are_named(headers.mains, key)
        blocks = np.ones(len(plain), dtype=np.int64)
        if len(headers.extended):
            plain[headers.which] &= self._checker.are_harmless(headers.extended, headers.payloads)
            blocks[headers.which] = 3
        stops = headers.starts + blocks + _content_blocks(headers.mains)
        room = (self._size - position) // BLOCK
        if self._sums is not None:  # the contents must be in the window as well
            room = min(room, _WINDOW // BLOCK)
        plain &= stops <= room
        count = len(plain) if plain.all() else int(np.argmin(plain))
        if count == 0:
            return b"", position
        if self._sums is not None:
            self._sum(self._sums, headers, blocks[:count], sizes[:count], int(stops[count - 1]))

        # A record is two words: the position, and the header blocks in the upper 16 bits of the second.
        records = np.empty((count, 2), dtype=">u8")
        records[:, 0] = headers.starts[:count] * BLOCK + position
        records[:, 1] = blocks[:count].astype(np.uint64) << np.uint64(48) | sizes[:count]
        return records.tobytes(), position + int(stops[count - 1]) * BLOCK

    def _sum(self, sums: Sums, headers: _Headers, blocks: Numbers, sizes: Words, stop: int) -> None:
        """Add the first entries of a window, which end at block `stop` of it."""
        if sums.extension and not bulk_headers.all_have(headers.mains[: len(blocks)], sums.extension):
            sums.add_extension("")
        starts = (headers.starts[: len(blocks)] + blocks) * BLOCK
        body = memoryview(self._buffer)[: stop * BLOCK]
        sums.add_entries(body, starts.tolist(), (starts + sizes.astype(np.intp)).tolist())


def _evenly_spaced(blocks: Words, stride: int, headers: int, count: int, starts: Numbers) -> _Headers:
    """Return the headers of entries that are `stride` rows apart and have one or three header blocks each."""
    mains, none = blocks[headers - 1 :: stride][:count], blocks[:0]
    if headers == 1:
        return _Headers(starts, mains, slice(0), none, none)
    return _Headers(starts, mains, slice(None), blocks[::stride][:count], blocks[1::stride][:count])


def _equally_long(blocks: Words) -> _Headers | None:
    """Return the headers of the entries in a window that are as long as the first, or None if many are not."""
    headers = 3 if bulk_headers.kinds(blocks[:1])[0] == ord("x") else 1
    if len(blocks) < headers:
        return None
    length = _content_blocks(blocks[headers - 1 : headers])[0]
    stride = headers + int(length)
    rows = blocks[headers - 1 :: stride]
    if (_content_blocks(rows[:_PROBES]) != length).any():
        return None
    same = _content_blocks(rows) == length
    count = len(rows) if same.all() else int(np.argmin(same))
    if count < 3 * len(rows) // 4:
        return None
    return _evenly_spaced(blocks, stride, headers, count, np.arange(0, count * stride, stride))


def _followed(blocks: Words, out: Words) -> _Headers | None:
    """Return the headers in a window, found by following the size in each to the next.

    `out` is memory for a copy of the headers.
    """
    # The block after each header's content, computed for all blocks at once; only those of headers are used.
    following = (_content_blocks(blocks) + np.arange(1, len(blocks) + 1)).tolist()
    visited, at, count = [], 0, len(following)
    while at < count:
        visited.append(at)
        at = following[at]
    heads = np.array(visited)

    # Keep the entries up to a PAX header that is not followed by one block of records and a main header. At the end of
    # the window the main header is missing.
    is_extended = bulk_headers.kinds(blocks)[heads] == ord("x")
    odd = np.flatnonzero(is_extended & np.append((np.diff(heads) != 2) | is_extended[1:], True))
    keep = int(odd[0]) if len(odd) else len(heads)
    heads, is_extended = heads[:keep], is_extended[:keep]
    if keep == 0:
        return None

    # An entry starts at its PAX header if it has one, otherwise at its main header.
    places = np.flatnonzero(is_extended)
    which = places - np.arange(len(places))
    mains, extended = heads[~is_extended], heads[places]
    starts = mains.copy()
    starts[which] = extended

    # Copy the headers together: checking rows that are next to each other is much faster.
    picked = np.concatenate((mains, extended, extended + 1))
    rows = np.take(blocks, picked, axis=0, out=out[: len(picked)], mode="clip")
    one, two = len(mains), len(mains) + len(extended)
    return _Headers(starts, rows[:one], which, rows[one:two], rows[two:])


def _content_blocks(rows: Words) -> Numbers:
    """Return the blocks of content after each header. For a row that is not a header, the number is meaningless."""
    return (bulk_headers.sizes(rows) + np.uint64(BLOCK - 1) >> np.uint64(9)).astype(np.intp)
