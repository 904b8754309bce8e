"""Join archives: remove their end markers, put their entries one after another, and add one end marker.

Entries are whole blocks, so the joined index consists of the sources' indices with shifted positions, and no archive
has to be read. `plan` decides how each part of the result is made: S3 copies what its rules allow (parts of 5 MiB to
5 GiB; the last one may be smaller), and the client downloads and uploads the rest.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from datas3t.archive.index import END_SIZE, RECORD, Buffer, columns
from datas3t.archive.parts import MAX_PART, MAX_PARTS, MIN_PART

_NUMPY_FROM = 4_096  # fewer records are shifted without numpy, whose import takes 0.2 s
_UPLOADED_PART = 20 << 20  # bytes of the parts that the client uploads, if there is enough to fill one


class Piece(NamedTuple):
    """The bytes from `start` up to `stop` of a source's entries. Sources are counted from 0."""

    source: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the joined archive.

    Attributes:
        pieces: What the part consists of, in order.
        zeros: The number of zero bytes after the pieces.
        copied: Whether S3 makes the part by copying its single piece.
    """

    pieces: tuple[Piece, ...]
    zeros: int = 0
    copied: bool = False

    @property
    def size(self) -> int:
        """The size of the part in bytes."""
        return sum(piece.stop - piece.start for piece in self.pieces) + self.zeros


def shifted(raw: Buffer, offset: int) -> bytes:
    """Return the index of the same entries `offset` bytes further on in the archive."""
    if len(raw) < RECORD.size * _NUMPY_FROM:
        records = RECORD.iter_unpack(raw)
        return b"".join(RECORD.pack(position + offset, *rest) for position, *rest in records)
    import numpy as np  # noqa: PLC0415 - importing it takes 0.2 s, which small indices do not need

    records_array = np.frombuffer(raw, dtype=np.dtype([("position", ">u8"), ("rest", "V8")])).copy()
    records_array["position"] = columns(raw)[0] + offset
    return records_array.tobytes()


def joined_size(entry_sizes: Iterable[int]) -> int:
    """Return the size of the joined archive in bytes: all entries and one end marker."""
    return sum(entry_sizes) + END_SIZE


def plan(entry_sizes: Sequence[int]) -> list[Part]:
    """Return the parts of the joined archive, in order. The last one carries the end marker.

    S3 copies sources of 5 MiB and more, in parts of up to 5 GiB. The client uploads smaller ones, several in a part. If
    these are together too small for a part, the part also takes the missing bytes from the next source, or all of it.

    Args:
        entry_sizes: The bytes of entries in each source, without the end marker.

    Raises:
        ValueError: The archive would need more than 10,000 parts.
    """
    parts: list[Part] = []
    pending: list[Piece] = []  # pieces for the next parts that the client uploads
    for source, size in enumerate(entry_sizes):
        start = 0

        # The pending pieces are too small for a part: fill it up from this source, if the rest can still be copied.
        if pending and _size(pending) < MIN_PART and size - (MIN_PART - _size(pending)) >= MIN_PART:
            start = MIN_PART - _size(pending)
            pending.append(Piece(source, 0, start))

        # The client uploads what S3 cannot copy. That includes a source that is too small to fill up the part.
        if size - start < MIN_PART or (pending and _size(pending) < MIN_PART):
            pending.append(Piece(source, start, size))
            continue

        parts += _uploaded(pending)
        pending = []
        parts += _copied(Piece(source, start, size))
    parts += _uploaded(pending, END_SIZE)
    if len(parts) > MAX_PARTS:
        raise ValueError(
            f"{len(entry_sizes)} dataranges need {len(parts)} parts, but S3 allows {MAX_PARTS}; join fewer dataranges"
        )
    return parts


def _copied(piece: Piece) -> Iterator[Part]:
    """Yield the fewest parts that S3 can copy, of about equal size."""
    size = piece.stop - piece.start
    count = -(-size // MAX_PART)
    for number in range(count):
        start = piece.start + size * number // count
        yield Part((Piece(piece.source, start, piece.start + size * (number + 1) // count),), copied=True)


def _uploaded(pieces: Sequence[Piece], zeros: int = 0) -> Iterator[Part]:
    """Yield parts of about 20 MiB that the client uploads; `zeros` follow the last one.

    None is below 5 MiB, except for one that carries the end marker.
    """
    total = _size(pieces)
    if total + zeros == 0:
        return
    count = max(1, total // _UPLOADED_PART)
    cut = [total * number // count for number in range(count + 1)]
    for number in range(count):
        part = tuple(_between(pieces, cut[number], cut[number + 1]))
        yield Part(part, zeros if number == count - 1 else 0)


def _between(pieces: Sequence[Piece], start: int, stop: int) -> Iterator[Piece]:
    """Yield the pieces, or parts of them, from byte `start` up to byte `stop` of all pieces joined."""
    at = 0  # the byte at which the current piece starts
    for piece in pieces:
        length = piece.stop - piece.start
        first, last = max(start - at, 0), min(stop - at, length)
        if first < last:
            yield Piece(piece.source, piece.start + first, piece.start + last)
        at += length


def _size(pieces: Sequence[Piece]) -> int:
    """Return the number of bytes in all pieces."""
    return sum(piece.stop - piece.start for piece in pieces)
