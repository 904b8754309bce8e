"""Join archives: remove their end markers, put their entries one after another, and add one end marker.

Entries are whole blocks, so the joined index consists of the sources' indices with shifted positions, and no archive
has to be read. `plan` decides how each part of the result is made: S3 copies what its rules allow (parts of 5 MiB to
4 GiB; the last one may be smaller), and the client downloads and uploads the rest. `equal_plan` does so for stores that
demand that all parts but the last have one size, such as R2 and B2.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat
from typing import NamedTuple

from datas3t.archive.index import END_SIZE, RECORD, Buffer, columns
from datas3t.archive.parts import MAX_PART, MAX_PARTS, MIN_PART

_NUMPY_FROM = 4_096  # fewer records are shifted without numpy, whose import takes 0.2 s
_UPLOADED_PART = 20 << 20  # bytes of the parts that the client uploads, if there is enough to fill one
_MANY_PARTS = 1_000  # with more, parts are larger; Scaleway accepts no more
_MOST_UPLOADED = 10  # equal parts grow beyond what is needed only as long as S3 copies at least 9 of 10 bytes


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

    S3 copies sources of 5 MiB and more, in parts of up to 4 GiB. The client uploads smaller ones, several in a part. If
    these are together too small for a part, the part also takes the missing bytes from the next source, or all of it.
    The size of the parts that the client uploads is doubled while there are more than 1,000 parts and that helps.

    Args:
        entry_sizes: The bytes of entries in each source, without the end marker.

    Raises:
        ValueError: The archive would need more than 10,000 parts.
    """
    uploaded_size = _UPLOADED_PART
    parts = _plan(entry_sizes, uploaded_size)
    while len(parts) > _MANY_PARTS and uploaded_size < MAX_PART:
        uploaded_size *= 2
        fewer = _plan(entry_sizes, uploaded_size)
        if len(fewer) == len(parts):
            break
        parts = fewer
    _check_count(entry_sizes, parts)
    return parts


def equal_part_size(entry_sizes: Sequence[int]) -> int:
    """Return the size of each part but the last, for `equal_plan`.

    It is 20 MiB, doubled until 10,000 parts are enough. It is doubled until 1,000 are enough where S3 still copies at
    least 9 of 10 bytes then: the client uploads about one part for each source.
    """
    total = joined_size(entry_sizes)
    size = _UPLOADED_PART
    while size * MAX_PARTS < total or (
        size * _MANY_PARTS < total and 2 * size * len(entry_sizes) * _MOST_UPLOADED <= total
    ):
        size *= 2
    return size


def equal_plan(entry_sizes: Sequence[int], part_size: int) -> list[Part]:
    """Return parts of the joined archive that all have `part_size` bytes but the last, which may be smaller.

    S3 copies a part that lies within one source. The client uploads the others, and the last, which carries the end
    marker.

    Raises:
        ValueError: The archive would need more than 10,000 parts.
    """
    *full, rest = _cut([Piece(source, 0, size) for source, size in enumerate(entry_sizes)], repeat(part_size))
    parts = [Part(pieces, copied=len(pieces) == 1) for pieces in full]
    zeros = min(END_SIZE, part_size - _size(rest))
    parts.append(Part(rest, zeros))
    if zeros < END_SIZE:  # the end marker does not fit
        parts.append(Part((), END_SIZE - zeros))
    _check_count(entry_sizes, parts)
    return parts


def _cut(pieces: Iterable[Piece], sizes: Iterable[int]) -> Iterator[tuple[Piece, ...]]:
    """Yield the pieces in groups of these sizes in bytes, and then the rest, which may be empty."""
    left = iter(sizes)
    group: list[Piece] = []
    room = next(left)
    for source, start, stop in pieces:
        at = start
        while at < stop:
            taken = min(stop - at, room)
            group.append(Piece(source, at, at + taken))
            at += taken
            room -= taken
            if not room:
                yield tuple(group)
                group, room = [], next(left, 0)
    yield tuple(group)


def _check_count(entry_sizes: Sequence[int], parts: Sequence[Part]) -> None:
    if len(parts) > MAX_PARTS:
        raise ValueError(
            f"{len(entry_sizes)} dataranges need {len(parts)} parts, but S3 allows {MAX_PARTS}; join fewer dataranges"
        )


def _plan(entry_sizes: Sequence[int], uploaded_size: int) -> list[Part]:
    parts: list[Part] = []
    pending: list[Piece] = []  # pieces for the next parts that the client uploads
    pending_size = 0
    for source, size in enumerate(entry_sizes):
        start = 0

        # The pending pieces are too small for a part: fill it up from this source, if the rest can still be copied.
        missing = MIN_PART - pending_size
        if pending and missing > 0 and size - missing >= MIN_PART:
            start = missing
            pending.append(Piece(source, 0, start))
            pending_size = MIN_PART

        # The client uploads what S3 cannot copy. That includes a source that is too small to fill up the part.
        if size - start < MIN_PART or (pending and pending_size < MIN_PART):
            pending.append(Piece(source, start, size))
            pending_size += size - start
            continue

        parts += _uploaded(pending, uploaded_size)
        pending, pending_size = [], 0
        parts += _copied(Piece(source, start, size))
    parts += _uploaded(pending, uploaded_size, END_SIZE)
    return parts


def _copied(piece: Piece) -> Iterator[Part]:
    """Yield the fewest parts that S3 can copy, of about equal size."""
    size = piece.stop - piece.start
    count = -(-size // MAX_PART)
    for number in range(count):
        start = piece.start + size * number // count
        yield Part((Piece(piece.source, start, piece.start + size * (number + 1) // count),), copied=True)


def _uploaded(pieces: Sequence[Piece], size: int, zeros: int = 0) -> Iterator[Part]:
    """Yield parts of `size` bytes and more that the client uploads; `zeros` follow the last one.

    None is below 5 MiB, except for one that carries the end marker.
    """
    total = _size(pieces)
    if total + zeros == 0:
        return
    count = max(1, total // size)
    cuts = [total * number // count for number in range(count + 1)]
    sizes = [stop - start for start, stop in pairwise(cuts)]
    for number, part in zip(range(count), _cut(pieces, sizes), strict=False):
        yield Part(part, zeros if number == count - 1 else 0)


def _size(pieces: Sequence[Piece]) -> int:
    """Return the number of bytes in all pieces."""
    return sum(piece.stop - piece.start for piece in pieces)
