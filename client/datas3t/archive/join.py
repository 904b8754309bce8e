"""Archives joined by cutting their end markers: where one's entries end, the next one's begin, both whole blocks.

So the joined index is the sources' with shifted positions, and no archive is read. `plan` says who makes which part of
the result: S3 copies what its rules allow (parts of 5 MiB to 5 GiB, the last may be smaller); the rest the client puts
together.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from datas3t.archive.index import END_SIZE, RECORD, Buffer, columns
from datas3t.archive.parts import MAX_PART, MAX_PARTS, MIN_PART

FILL_PART = 20 << 20  # the size of a part that the client puts together, where there is enough to fill it


class Piece(NamedTuple):
    """Bytes of a source's entries; sources are counted from 0."""

    source: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the result: its pieces in order, then `zeros` zero bytes. `copied`: S3 makes it of its one piece."""

    pieces: tuple[Piece, ...]
    zeros: int = 0
    copied: bool = False

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(piece.stop - piece.start for piece in self.pieces) + self.zeros


def shifted(raw: Buffer, offset: int) -> bytes:
    """The index of entries that lie `offset` bytes further on."""
    if len(raw) < RECORD.size << 12:
        records = RECORD.iter_unpack(raw)
        return b"".join(RECORD.pack(position + offset, *rest) for position, *rest in records)
    import numpy as np  # noqa: PLC0415 - 0.2 s that small indices do not need

    records_array = np.frombuffer(raw, dtype=np.dtype([("position", ">u8"), ("rest", "V8")])).copy()
    records_array["position"] = columns(raw)[0] + offset
    return records_array.tobytes()


def joined_size(entry_sizes: Iterable[int]) -> int:
    """The size of the joined archive: all entries and one end marker."""
    return sum(entry_sizes) + END_SIZE


def plan(entry_sizes: Sequence[int]) -> list[Part]:
    """The parts of the archive that joins sources with entries of these sizes, in order.

    Sources of 5 MiB and more are copied by S3, in parts of up to 5 GiB; smaller ones in a row are put together by the
    client. A row too small for a part takes what it lacks from the source behind it, or that one whole.
    The last part carries the end marker. Raises ValueError where that needs more than 10,000 parts.
    """
    parts: list[Part] = []
    loose: list[Piece] = []  # pieces that wait to become a part, in order
    for source, size in enumerate(entry_sizes):
        start = 0
        if loose and _size(loose) < MIN_PART and size - (MIN_PART - _size(loose)) >= MIN_PART:
            start = MIN_PART - _size(loose)  # the row becomes a part of its own, and the rest can be copied
            loose.append(Piece(source, 0, start))
        if size - start < MIN_PART:
            loose.append(Piece(source, start, size))
            continue
        if loose and _size(loose) < MIN_PART:
            loose.append(Piece(source, start, size))  # too small to give anything away: it is moved whole
            continue
        parts += _filled(loose)
        loose = []
        parts += _copied(Piece(source, start, size))
    parts += _filled(loose, END_SIZE)
    if len(parts) > MAX_PARTS:
        raise ValueError(f"{len(entry_sizes)} dataranges make {len(parts)} parts, but S3 takes {MAX_PARTS}; join fewer")
    return parts


def _copied(piece: Piece) -> Iterator[Part]:
    """Even parts that S3 copies, as few as can be."""
    size = piece.stop - piece.start
    count = -(-size // MAX_PART)
    for number in range(count):
        start = piece.start + size * number // count
        yield Part((Piece(piece.source, start, piece.start + size * (number + 1) // count),), copied=True)


def _filled(pieces: Sequence[Piece], zeros: int = 0) -> Iterator[Part]:
    """Parts of about 20 MiB, none below 5 MiB unless it carries the end marker."""
    total = _size(pieces)
    if total + zeros == 0:
        return
    count = max(1, total // FILL_PART)
    cut = [total * number // count for number in range(count + 1)]
    for number in range(count):
        part = tuple(_between(pieces, cut[number], cut[number + 1]))
        yield Part(part, zeros if number == count - 1 else 0)


def _between(pieces: Sequence[Piece], start: int, stop: int) -> Iterator[Piece]:
    """What of the pieces, joined, lies between two bytes."""
    at = 0
    for piece in pieces:
        length = piece.stop - piece.start
        first, last = max(start - at, 0), min(stop - at, length)
        if first < last:
            yield Piece(piece.source, piece.start + first, piece.start + last)
        at += length


def _size(pieces: Sequence[Piece]) -> int:
    return sum(piece.stop - piece.start for piece in pieces)
