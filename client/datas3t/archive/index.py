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
MAX_EXTENDED = 1 << 20  # bytes in all extended headers of an entry
MAX_HEADER_BLOCKS = 2_056  # what these bytes need in four extended headers, the headers themselves, and the main header

_MAX_POSITION = (1 << 63) - 1  # numpy's sums of int64 turn negative above this byte
_NUMPY_FROM = 50_000  # records from which numpy is faster, including the 0.2 s to import it
_RECORDS_AT_ONCE = 1 << 20  # 16 MB: bounds the memory that numpy needs for its arrays

Buffer = bytes | bytearray | memoryview


class Entry(NamedTuple):
    """Where a datapoint is in its archive. Positions and sizes are in bytes.

    Example:
        >>> entry = Entry(position=1024, header_blocks=1, size=700)
        >>> entry.content, entry.stop
        (range(1536, 2236), 2560)
    """

    position: int
    header_blocks: int
    size: int

    @property
    def content(self) -> range:
        """The bytes of the content in the archive."""
        start = self.position + BLOCK * self.header_blocks
        return range(start, start + self.size)

    @property
    def stop(self) -> int:
        """The byte at which the next entry or the end marker starts."""
        return self.position + BLOCK * self.header_blocks + padded(self.size)


def padded(size: int) -> int:
    """Return the size of a content of `size` bytes with its padding to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def encode(entries: Iterable[Entry]) -> bytes:
    """Return the records of the entries.

    Raises:
        IndexFormatError: A size or a number of header blocks does not fit a record.
    """
    out = bytearray()
    for position, blocks, size in entries:
        if not (0 <= size <= MAX_SIZE and 0 < blocks <= MAX_HEADER_BLOCKS):
            raise IndexFormatError(
                f"the entry at byte {position} has {blocks} header blocks and {size} bytes; "
                f"the limits are {MAX_HEADER_BLOCKS} blocks and {MAX_SIZE} bytes"
            )
        out += RECORD.pack(position, blocks, size >> 32, size & 0xFFFFFFFF)
    return bytes(out)


def decode(raw: Buffer) -> list[Entry]:
    """Return the entries of an index, as a list. For many entries, `columns` needs less time and memory.

    Raises:
        IndexFormatError: The index is torn.
    """
    count_of(raw)
    return [Entry(p, b, high << 32 | low) for p, b, high, low in RECORD.iter_unpack(raw)]


def entry_at(raw: Buffer, number: int) -> Entry:
    """Return one entry by its number, counted from 0, without decoding the others."""
    position, blocks, high, low = RECORD.unpack_from(raw, number * RECORD_SIZE)
    return Entry(position, blocks, high << 32 | low)


def count_of(raw: Buffer) -> int:
    """Return the number of entries of an index.

    Raises:
        IndexFormatError: The index is torn: it ends within a record.
    """
    if len(raw) % RECORD_SIZE:
        raise IndexFormatError(f"an index of {len(raw)} bytes is torn: its length is not a multiple of {RECORD_SIZE}")
    return len(raw) // RECORD_SIZE


def check(raw: Buffer, archive_size: int) -> int:
    """Check that the entries follow one another without a gap from byte 0, and that an end marker fits after them.

    Args:
        raw: The whole index.
        archive_size: The size of the archive in bytes.

    Returns:
        The byte after the last entry, at which the end marker starts.

    Raises:
        IndexFormatError: The index does not fit the archive; the message names the first wrong entry.
    """
    stop = check_records(raw, 0, 0)
    check_room(stop, archive_size)
    return stop


def check_records(raw: Buffer, position: int, number: int) -> int:
    """Check one piece of an index, so that a large one can be checked without reading it whole.

    Args:
        raw: The records of the piece.
        position: The byte at which the piece's first entry must start.
        number: The number of the piece's first entry, counted from 0, for messages.

    Returns:
        The byte after the piece's last entry.

    Raises:
        IndexFormatError: An entry does not start where the one before it ends, or its header blocks are too few or
            too many.
    """
    count = count_of(raw)
    if count < _NUMPY_FROM:
        return _check_in_python(raw, position, number)
    view = memoryview(raw)
    for start in range(0, count, _RECORDS_AT_ONCE):
        piece = view[start * RECORD_SIZE : (start + _RECORDS_AT_ONCE) * RECORD_SIZE]
        position = _check_with_numpy(piece, position, number + start)
    return position


def check_room(stop: int, archive_size: int) -> None:
    """Raise IndexFormatError if entries that end at byte `stop` and an end marker do not fit into the archive."""
    if stop == 0:
        raise IndexFormatError("the index is empty, but an archive holds at least one datapoint")
    if archive_size % BLOCK:
        raise IndexFormatError(f"the archive has {archive_size} bytes, which is not a multiple of {BLOCK}")
    if stop + END_SIZE > archive_size:
        raise IndexFormatError(
            f"according to the index the entries end at byte {stop}, but {END_SIZE} zero bytes must follow them "
            f"and the archive has {archive_size} bytes"
        )


def ends_are_records(first: Buffer, last: Buffer) -> bool:
    """Whether the first and the last record of an index look valid.

    After a power failure a cached file may have its full size but contain zeros, which are not valid records.
    """
    start, end = entry_at(first, 0), entry_at(last, 0)
    return start.position == 0 and start.header_blocks > 0 and end.header_blocks > 0


def columns(raw: Buffer) -> "tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]":
    """Return the positions, header blocks and sizes of all entries, as three arrays.

    They need 24 bytes of memory per entry in addition to the index.
    """
    import numpy as np  # noqa: PLC0415 - importing it takes 0.2 s, which small archives do not need

    fields = np.dtype([("position", ">u8"), ("blocks", ">u2"), ("high", ">u2"), ("low", ">u4")])
    records = np.frombuffer(raw, dtype=fields)
    sizes = records["high"].astype(np.int64) << 32 | records["low"].astype(np.int64)
    return records["position"].astype(np.int64), records["blocks"].astype(np.int64), sizes


def _check_in_python(raw: Buffer, position: int, number: int) -> int:
    for offset, (start, blocks, high, low) in enumerate(RECORD.iter_unpack(raw)):
        if start != position or not 0 < blocks <= MAX_HEADER_BLOCKS:
            raise _error(number + offset, start, blocks, position)
        position += BLOCK * blocks + padded(high << 32 | low)
    return position


def _check_with_numpy(raw: Buffer, position: int, number: int) -> int:
    import numpy as np  # noqa: PLC0415 - see columns()

    if position > _MAX_POSITION:
        raise _error(number, -1, 1, -1)
    positions, blocks, sizes = columns(raw)
    lengths = blocks * BLOCK + (sizes + BLOCK - 1) // BLOCK * BLOCK
    expected = np.empty_like(positions)
    expected[0] = position
    np.cumsum(lengths[:-1], out=expected[1:])
    expected[1:] += position
    # A sum above 2^63 becomes negative.
    wrong = np.flatnonzero((positions != expected) | (blocks == 0) | (blocks > MAX_HEADER_BLOCKS) | (expected < 0))
    if len(wrong):
        at = int(wrong[0])
        raise _error(number + at, int(positions[at]), int(blocks[at]), int(expected[at]))
    return int(expected[-1]) + int(lengths[-1])


def _error(number: int, start: int, blocks: int, expected: int) -> IndexFormatError:
    """Return the error for an entry that is wrong; a negative `expected` stands for a byte above 2^63."""
    if not blocks:
        return IndexFormatError(f"index entry {number} has no header block")
    if blocks > MAX_HEADER_BLOCKS:
        return IndexFormatError(
            f"index entry {number} has {blocks} header blocks, but an entry has at most {MAX_HEADER_BLOCKS}"
        )
    if expected < 0:
        return IndexFormatError(f"index entry {number} starts beyond the largest possible archive")
    return IndexFormatError(f"index entry {number} starts at byte {start}, but the one before it ends at {expected}")
