"""The index object: one 16-byte record per datapoint, in key order (docs/format.md, "Index").

bytes  0-7   position of the entry's first header block   uint64, big-endian
bytes  8-9   number of 512-byte header blocks             uint16, big-endian
bytes 10-15  size of the content                          uint48, big-endian
"""

import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from datas3t.archive import IndexFormatError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK = 512
RECORD = struct.Struct(">QHHI")  # the 48-bit size as its high 16 and low 32 bits
RECORD_SIZE = RECORD.size
END_SIZE = 2 * BLOCK
MAX_SIZE = (1 << 48) - 1
MAX_HEADER_BLOCKS = (1 << 16) - 1

_FURTHEST = (1 << 63) - 1  # byte that numpy can tell
_MANY = 50_000  # from here on numpy is quicker, its import included
_WINDOW = 1 << 20  # records that are checked at once: 16 MB

Buffer = bytes | bytearray | memoryview


class Entry(NamedTuple):
    """Where a datapoint lies in its archive; sizes and positions are bytes."""

    position: int
    header_blocks: int
    size: int

    @property
    def content(self) -> range:
        """The bytes of the content within the archive."""
        start = self.position + BLOCK * self.header_blocks
        return range(start, start + self.size)

    @property
    def stop(self) -> int:
        """Where the next entry, or the end marker, begins."""
        return self.position + BLOCK * self.header_blocks + padded(self.size)


def padded(size: int) -> int:
    """The size of a content with its padding to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def encode(entries: Iterable[Entry]) -> bytes:
    """The records of these entries. Raises IndexFormatError where a value does not fit."""
    out = bytearray()
    for position, blocks, size in entries:
        if not (0 <= size <= MAX_SIZE and 0 < blocks <= MAX_HEADER_BLOCKS):
            raise IndexFormatError(
                f"the entry at byte {position} has {blocks} header blocks and {size} bytes: too much"
            )
        out += RECORD.pack(position, blocks, size >> 32, size & 0xFFFFFFFF)
    return bytes(out)


def decode(raw: Buffer) -> list[Entry]:
    """The entries of an index; for few. Raises IndexFormatError."""
    count_of(raw)
    return [Entry(p, b, high << 32 | low) for p, b, high, low in RECORD.iter_unpack(raw)]


def entry_at(raw: Buffer, number: int) -> Entry:
    """One entry, counted from 0, without looking at the others."""
    position, blocks, high, low = RECORD.unpack_from(raw, number * RECORD_SIZE)
    return Entry(position, blocks, high << 32 | low)


def count_of(raw: Buffer) -> int:
    """How many entries an index has. Raises IndexFormatError for a torn one."""
    if len(raw) % RECORD_SIZE:
        raise IndexFormatError(f"an index of {len(raw)} bytes is torn: its length is no multiple of {RECORD_SIZE}")
    return len(raw) // RECORD_SIZE


def check(raw: Buffer, archive_size: int) -> int:
    """Checks that the entries tile the archive from byte 0 on; answers where they end.

    Behind them at least the end marker of 1,024 bytes must fit, and all must be whole blocks. Raises IndexFormatError,
    which names the first wrong entry.
    """
    stop = check_records(raw, 0, 0)
    check_room(stop, archive_size)
    return stop


def check_records(raw: Buffer, position: int, number: int) -> int:
    """Checks that the records continue at `position`; answers where they end. So an index can be checked in pieces.

    `number` is the first one's, for messages.
    """
    count = count_of(raw)
    if count < _MANY:
        return _check_few(raw, position, number)
    view = memoryview(raw)
    for start in range(0, count, _WINDOW):
        piece = view[start * RECORD_SIZE : (start + _WINDOW) * RECORD_SIZE]
        position = _check_many(piece, position, number + start)
    return position


def check_room(stop: int, archive_size: int) -> None:
    """Checks that entries which end at `stop` and an end marker fit into an archive of that size."""
    if stop == 0:
        raise IndexFormatError("the index is empty, but an archive holds at least one datapoint")
    if archive_size % BLOCK:
        raise IndexFormatError(f"the archive has {archive_size} bytes, which is no multiple of {BLOCK}")
    if stop + END_SIZE > archive_size:
        raise IndexFormatError(
            f"the entries end at byte {stop} by the index, but an archive of {archive_size} bytes must have "
            f"{END_SIZE} zero bytes behind them"
        )


def ends_are_records(first: Buffer, last: Buffer) -> bool:
    """Whether the first and the last record of an index look like such. After a power failure a file may have its size,
    but zeros in it."""
    start, end = entry_at(first, 0), entry_at(last, 0)
    return start.position == 0 and start.header_blocks > 0 and end.header_blocks > 0


def columns(raw: Buffer) -> "tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]":
    """Positions, header blocks and sizes of all entries, as arrays: about 24 bytes per entry on top of the index."""
    import numpy as np  # noqa: PLC0415 - 0.2 s that small archives do not need

    fields = np.dtype([("position", ">u8"), ("blocks", ">u2"), ("high", ">u2"), ("low", ">u4")])
    records = np.frombuffer(raw, dtype=fields)
    sizes = records["high"].astype(np.int64) << 32 | records["low"].astype(np.int64)
    return records["position"].astype(np.int64), records["blocks"].astype(np.int64), sizes


def _check_few(raw: Buffer, position: int, number: int) -> int:
    for offset, (found, blocks, high, low) in enumerate(RECORD.iter_unpack(raw)):
        if found != position or not blocks:
            raise _wrong(number + offset, found, blocks, position)
        position += BLOCK * blocks + padded(high << 32 | low)
    return position


def _check_many(raw: Buffer, position: int, number: int) -> int:
    import numpy as np  # noqa: PLC0415 - see columns()

    if position > _FURTHEST:
        raise _wrong(number, -1, 1, -1)
    positions, blocks, sizes = columns(raw)
    lengths = blocks * BLOCK + (sizes + BLOCK - 1) // BLOCK * BLOCK
    expected = np.empty_like(positions)
    expected[0] = position
    np.cumsum(lengths[:-1], out=expected[1:])
    expected[1:] += position
    wrong = np.flatnonzero((positions != expected) | (blocks == 0) | (expected < 0))  # a sum above 2^63 turns negative
    if len(wrong):
        at = int(wrong[0])
        raise _wrong(number + at, int(positions[at]), int(blocks[at]), int(expected[at]))
    return int(expected[-1]) + int(lengths[-1])


def _wrong(number: int, found: int, blocks: int, expected: int) -> IndexFormatError:
    if not blocks:
        return IndexFormatError(f"index entry {number} has no header block")
    if expected < 0:
        return IndexFormatError(f"index entry {number} begins behind the end of any archive")
    return IndexFormatError(f"index entry {number} begins at byte {found}, but the one before it ends at {expected}")
