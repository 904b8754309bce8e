"""The quick way through archives of many small entries: a window at a time, all headers of it checked at once by numpy.

It vouches only for what is plain: USTAR, V7 or GNU headers with octal sizes, with or without a PAX header before them
whose records look like ones that the scalar reader has seen and found to be times. All else, and all messages, are the
scalar reader's (`header`).
"""

import os

import numpy as np
from numpy.typing import NDArray

from datas3t.archive import header
from datas3t.archive.errors import ArchiveError
from datas3t.archive.index import BLOCK
from datas3t.archive.names import MAX_KEY

_WINDOW = 4 << 20
_TEMPLATES = 64
_TIMES = frozenset((b"mtime", b"atime", b"ctime"))
_LANES = np.uint64(0x00FF00FF00FF00FF)
_FOLD = np.uint64(0x0001000100010001)
_RECORD = np.dtype([("position", ">u8"), ("blocks", ">u2"), ("high", ">u2"), ("low", ">u4")])

Blocks = NDArray[np.uint8]
Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Bulk:
    """Reads an archive of `size` bytes from a file descriptor."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._size = size
        self._buffer = bytearray(_WINDOW)
        self._templates: list[tuple[int, Blocks, Flags]] = []  # payload size, its bytes, which of them are digits

    def take(self, position: int, key: int) -> tuple[bytes, int]:
        """The records of the plain entries from `position` on, whose first has this key, and where they end.

        No records where the very first entry is not plain, or the window does not hold it.
        """
        if key > MAX_KEY - _WINDOW:
            return b"", position
        length = os.preadv(self._fd, [self._buffer], position)
        blocks = np.frombuffer(self._buffer, np.uint8, length // BLOCK * BLOCK).reshape(-1, BLOCK)
        sizes = _octal(blocks, 124, 11)  # of whatever is no header: nonsense, and never looked at
        heads = _chase(blocks, sizes)
        if not heads:
            return b"", position
        return self._vouched(blocks, sizes, np.array(heads), position, key)

    def _vouched(self, blocks: Blocks, sizes: Numbers, heads: Numbers, position: int, key: int) -> tuple[bytes, int]:
        kinds = blocks[heads, 156]
        extended = kinds == ord("x")
        mains = heads[~extended]
        before = np.zeros(len(heads), dtype=bool)
        before[1:] = extended[:-1]
        has_pax = before[~extended]
        good = _plain(blocks[heads])
        good_main = good[~extended] & _named(blocks[mains], key)
        if extended.any():
            ok = np.flatnonzero(extended & good)
            seen = np.zeros(len(heads), dtype=bool)
            seen[ok] = self._times(blocks, heads[ok], sizes[heads[ok]])
            previous = np.zeros(len(heads), dtype=bool)
            previous[1:] = seen[:-1]
            good_main &= ~has_pax | previous[~extended]
        starts = np.where(has_pax, mains - 2, mains)
        stops = mains + 1 + (sizes[mains] + BLOCK - 1) // BLOCK
        good_main &= position + stops * BLOCK <= self._size
        count = int(np.argmin(good_main)) if not good_main.all() else len(mains)
        if count == 0:
            return b"", position
        records = np.empty(count, dtype=_RECORD)
        records["position"] = position + starts[:count] * BLOCK
        records["blocks"] = np.where(has_pax[:count], 3, 1)
        records["high"] = 0  # eleven octal digits are 33 bits
        content = sizes[mains[:count]]
        records["high"] = content >> 32
        records["low"] = content & 0xFFFFFFFF
        return records.tobytes(), position + int(stops[count - 1]) * BLOCK

    def _times(self, blocks: Blocks, heads: Numbers, sizes: Numbers) -> Flags:
        """Which of the PAX headers hold nothing but times, in one block."""
        good = np.zeros(len(heads), dtype=bool)
        todo = np.flatnonzero((sizes > 0) & (sizes <= BLOCK))
        for length, template, digits in self._templates:
            if not len(todo):
                return good
            same = todo[sizes[todo] == length]
            fits = _fits(blocks[heads[same] + 1, :length], template, digits)
            good[same[fits]] = True
            todo = todo[~good[todo]]
        while len(todo) and len(self._templates) < _TEMPLATES:
            first = int(todo[0])
            length = int(sizes[first])
            learned = _learn(blocks[heads[first] + 1, :length])
            if learned is None:
                break
            self._templates.append((length, *learned))
            same = todo[sizes[todo] == length]
            good[same[_fits(blocks[heads[same] + 1, :length], *learned)]] = True
            todo = todo[~good[todo]]
        return good


def _chase(blocks: Blocks, sizes: Numbers) -> list[int]:
    """The blocks that are headers, from one to the next; whole entries' headers only. Stops at the first zero block."""
    following = (np.arange(1, len(blocks) + 1) + (sizes + BLOCK - 1) // BLOCK).tolist()
    used = (blocks[:, 0] != 0).tolist()
    extended = (blocks[:, 156] == ord("x")).tolist()
    heads: list[int] = []
    at, count = 0, len(following)
    while at < count and used[at]:
        heads.append(at)
        if extended[at]:
            at = following[at]
            # the header behind an extended one belongs to it: both are in the window, or neither
            if at >= count or at != heads[-1] + 2 or extended[at]:
                heads.pop()
                break
            heads.append(at)
        at = following[at]
    return heads


def _plain(rows: Blocks) -> Flags:
    """Which headers are regular files or PAX headers, with a checksum that holds and numbers of octal digits."""
    kinds = rows[:, 156]
    regular = (kinds == ord("0")) | (kinds == 0) | (kinds == ord("x"))
    prefixed = (rows[:, 345] != 0) & (rows[:, 257] != 0) & (rows[:, 262] == 0)
    ended = (rows[:, 135] == 0) | (rows[:, 135] == ord(" "))
    said = _octal(rows, 148, 6)
    signs = (rows[:, 154] == 0) & (rows[:, 155] == ord(" "))
    octal = _digits(rows, 124, 11) & _digits(rows, 148, 6)
    words = rows.view(np.uint64)
    lanes = ((words & _LANES) + ((words >> np.uint64(8)) & _LANES)).sum(axis=1, dtype=np.uint64)
    total = ((lanes * _FOLD) >> np.uint64(48)).astype(np.int64)
    total -= rows[:, 148:156].sum(axis=1, dtype=np.int64) - 8 * ord(" ")
    return np.asarray(regular & ~prefixed & ended & signs & octal & (said == total))


def _named(rows: Blocks, key: int) -> Flags:
    """Which headers carry the name that belongs there: consecutive keys, an extension, no slash."""
    digits = rows[:, :20].astype(np.int64) - ord("0")
    numeric = ((digits >= 0) & (digits <= 9)).all(axis=1) & (digits[:, 0] == 0)
    found = digits[:, 1:11] @ (10 ** np.arange(9, -1, -1)) * 10**9 + digits[:, 11:] @ (10 ** np.arange(8, -1, -1))
    same = found == key + np.arange(len(rows), dtype=np.int64)
    extension = rows[:, 21:100]
    named = (rows[:, 20] == ord(".")) & (extension[:, 0] != 0) & ~(extension == ord("/")).any(axis=1)
    return np.asarray(numeric & same & named)


def _octal(rows: Blocks, start: int, count: int) -> Numbers:
    """The number in `count` octal digits, whatever stands there."""
    value = np.zeros(len(rows), dtype=np.int64)
    for column in range(start, start + count):
        value = value << 3 | (rows[:, column] & 7)
    return value


def _digits(rows: Blocks, start: int, count: int) -> Flags:
    return np.asarray(((rows[:, start : start + count] & 0xF8) == 0x30).all(axis=1))


def _learn(payload: Blocks) -> tuple[Blocks, Flags] | None:
    """A payload that the scalar reader finds to be times, as a template: with other digits they are times as well."""
    raw = payload.tobytes()
    try:
        records = header.pax_records(raw, 0)
    except ArchiveError:
        return None
    if not records or not _TIMES.issuperset(records):
        return None
    digits = np.zeros(len(raw), dtype=bool)
    at = 0
    while at < len(raw) and raw[at]:
        stop = at + int(raw[at : raw.index(b" ", at)])
        equals = raw.index(b"=", at)
        digits[equals + 1 : stop - 1] = [48 <= byte <= 57 for byte in raw[equals + 1 : stop - 1]]
        at = stop
    return payload.copy(), digits


def _fits(rows: Blocks, template: Blocks, digits: Flags) -> Flags:
    literal = (rows[:, ~digits] == template[~digits]).all(axis=1)
    values = rows[:, digits]
    return np.asarray(literal & ((values >= ord("0")) & (values <= ord("9"))).all(axis=1))
