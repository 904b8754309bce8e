"""The quick way through archives of many entries: headers are found in a plain loop and checked all at once by numpy.

Where contents are small all is read, a window at a time; where they are large, the headers alone. It vouches for plain
entries only (`bulk_headers`). All else, and all messages, are the scalar reader's (`header`).
"""

import os
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datas3t.archive import bulk_headers
from datas3t.archive.bulk_headers import WORD, WORDS, Words
from datas3t.archive.index import BLOCK
from datas3t.archive.names import MAX_KEY

_LARGE = 12 << 10  # the mean entry from which on it is quicker to skip contents than to read them
_WINDOW = 4 << 20
_BATCH = 2_048  # entries whose headers are read one by one before they are checked
_FEW = 8  # entries that must be as long as the first, or the others are not looked at

Numbers = NDArray[np.intp]


class _Heads(NamedTuple):
    """Entries one behind the other: where they start, in blocks, and the rows of their headers.

    `extended` and `payloads` are the PAX headers, one block each, of the entries that have one: `which` of all.
    """

    starts: Numbers
    mains: Words
    which: Numbers | slice
    extended: Words
    payloads: Words


class Bulk:
    """Reads an archive of `size` bytes from a file descriptor; `mean` is the size of an entry, as far as is known."""

    def __init__(self, fd: int, size: int, mean: float) -> None:
        self._fd = fd
        self._size = size
        self._mean = mean
        self._buffer = bytearray(max(_WINDOW, 3 * _BATCH * BLOCK))
        self._picked = np.empty((_WINDOW // BLOCK, WORDS), WORD)  # kept: fresh memory costs more than filling it
        self._headers = bulk_headers.Headers()

    def take(self, position: int, key: int) -> tuple[bytes, int]:
        """The records of the plain entries from `position` on, whose first has this key, and where they end.

        No records where the very first entry is not plain.
        """
        if key > MAX_KEY - len(self._buffer):
            return b"", position
        heads = self._skipping(position) if self._mean > _LARGE else self._reading(position)
        if heads is None:
            return b"", position
        records, stop = self._vouched(heads, position, key)
        if records:
            self._mean = (stop - position) / (len(records) // 16)
        return records, stop

    def _reading(self, position: int) -> _Heads | None:
        """The headers of a window."""
        length = os.preadv(self._fd, [memoryview(self._buffer)[:_WINDOW]], position)
        blocks = bulk_headers.rows(self._buffer, length // BLOCK)
        if len(blocks) == 0:
            return None
        return _even(blocks) or _chased(blocks, self._picked)

    def _skipping(self, position: int) -> _Heads | None:
        """The headers of a batch of entries, and nothing else."""
        room, each, starts = memoryview(self._buffer), 1, []
        if os.preadv(self._fd, [room[:BLOCK]], position) == BLOCK and self._buffer[156] == ord("x"):
            each = 3
        size, at = each * BLOCK, position
        for row in range(0, _BATCH * size, size):
            if os.preadv(self._fd, [room[row : row + size]], at) < size:
                break
            end = row + size - BLOCK + 135
            try:
                content = int(self._buffer[end - 11 : end], 8)
            except ValueError:
                break
            starts.append(at - position)
            at += size + (content + BLOCK - 1) // BLOCK * BLOCK
        if not starts:
            return None
        blocks = bulk_headers.rows(self._buffer, len(starts) * each)
        return _regular(blocks, each, each, len(starts), np.array(starts) // BLOCK)

    def _vouched(self, heads: _Heads, position: int, key: int) -> tuple[bytes, int]:
        sizes = bulk_headers.sizes(heads.mains)
        good = self._headers.regular(heads.mains) & bulk_headers.named(heads.mains, key)
        blocks = np.ones(len(good), dtype=np.int64)
        if len(heads.extended):
            good[heads.which] &= self._headers.harmless(heads.extended, heads.payloads)
            blocks[heads.which] = 3
        stops = heads.starts + blocks + _lengths(heads.mains)
        good &= stops <= (self._size - position) // BLOCK
        count = len(good) if good.all() else int(np.argmin(good))
        if count == 0:
            return b"", position
        records = np.empty((count, 2), dtype=">u8")
        records[:, 0] = heads.starts[:count] * BLOCK + position
        records[:, 1] = blocks[:count].astype(np.uint64) << np.uint64(48) | sizes[:count]
        return records.tobytes(), position + int(stops[count - 1]) * BLOCK


def _regular(blocks: Words, stride: int, headers: int, count: int, starts: Numbers) -> _Heads:
    """Entries that lie `stride` blocks apart, all with one header block or all with three."""
    mains, none = blocks[headers - 1 :: stride][:count], blocks[:0]
    if headers == 1:
        return _Heads(starts, mains, slice(0), none, none)
    return _Heads(starts, mains, slice(None), blocks[::stride][:count], blocks[1::stride][:count])


def _even(blocks: Words) -> _Heads | None:
    """The headers of a window if its entries are all as long as the first; None where most of them are not."""
    headers = 3 if bulk_headers.kinds(blocks[:1])[0] == ord("x") else 1
    if len(blocks) < headers:
        return None
    length = _lengths(blocks[headers - 1 : headers])[0]
    stride = headers + int(length)
    rows = blocks[headers - 1 :: stride]
    if (_lengths(rows[:_FEW]) != length).any():
        return None
    same = _lengths(rows) == length
    count = len(rows) if same.all() else int(np.argmin(same))
    if count < 3 * len(rows) // 4:
        return None
    return _regular(blocks, stride, headers, count, np.arange(0, count * stride, stride))


def _chased(blocks: Words, out: Words) -> _Heads | None:
    """The headers of a window, from each to the next."""
    following = (_lengths(blocks) + np.arange(1, len(blocks) + 1)).tolist()
    found, at, count = [], 0, len(following)
    while at < count:
        found.append(at)
        at = following[at]
    heads = np.array(found)
    extended = bulk_headers.kinds(blocks)[heads] == ord("x")
    # behind an extended header there must be one block of records and a main header; at the edge the latter is missing
    odd = np.flatnonzero(extended & np.append((np.diff(heads) != 2) | extended[1:], True))
    keep = int(odd[0]) if len(odd) else len(heads)
    heads, extended = heads[:keep], extended[:keep]
    if keep == 0:
        return None
    before = np.flatnonzero(extended)
    which = before - np.arange(len(before))
    mains, headers = heads[~extended], heads[before]
    starts = mains.copy()
    starts[which] = headers
    picked = np.concatenate((mains, headers, headers + 1))
    rows = np.take(blocks, picked, axis=0, out=out[: len(picked)], mode="clip")
    one, two = len(mains), len(mains) + len(headers)
    return _Heads(starts, rows[:one], which, rows[one:two], rows[two:])


def _lengths(rows: Words) -> Numbers:
    """Blocks of content behind each header; of what is no header, some number."""
    return (bulk_headers.sizes(rows) + np.uint64(BLOCK - 1) >> np.uint64(9)).astype(np.intp)
