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
    stretches = list(_stretches(entry_sizes))
    uploaded_size = _UPLOADED_PART
    count = sum(stretch.part_count(uploaded_size) for stretch in stretches)
    while count > _MANY_PARTS and uploaded_size < MAX_PART:
        uploaded_size *= 2
        fewer = sum(stretch.part_count(uploaded_size) for stretch in stretches)
        if fewer == count:
            break
        count = fewer
    _check_count(entry_sizes, count)
    return [part for stretch in stretches for part in stretch.parts(uploaded_size)]


def plan_uploads(entry_sizes: Iterable[int]) -> int:
    """Return how many bytes of the joined archive the client uploads by the parts of `plan`, in less time."""
    return sum(stretch.size + stretch.zeros for stretch in _stretches(entry_sizes) if not stretch.copied)


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
    _check_count(entry_sizes, len(parts))
    return parts


def equal_plan_uploads(entry_sizes: Sequence[int]) -> int:
    """Return how many bytes the client uploads by the parts of `equal_plan` with its own part size, in less time."""
    part_size, copied, stop = equal_part_size(entry_sizes), 0, 0
    for size in entry_sizes:
        start, stop = stop, stop + size
        copied += max(0, stop // part_size - -(-start // part_size)) * part_size
    return stop + END_SIZE - copied


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


def _check_count(entry_sizes: Sequence[int], parts: int) -> None:
    if parts > MAX_PARTS:
        raise ValueError(
            f"{len(entry_sizes)} dataranges need {parts} parts, but S3 allows {MAX_PARTS}; join fewer dataranges"
        )


class _Stretch(NamedTuple):
    """Bytes of sources that follow each other: what is left of one source and `copied`, or what the client uploads.

    `zeros` zero bytes follow them.
    """

    pieces: list[Piece]
    size: int
    copied: bool = False
    zeros: int = 0

    def part_count(self, uploaded_size: int) -> int:
        """Return how many parts `parts` yields."""
        if self.copied:
            return -(-self.size // MAX_PART)
        return max(1, self.size // uploaded_size) if self.size + self.zeros else 0

    def parts(self, uploaded_size: int) -> Iterator[Part]:
        """Yield parts of about equal size: the fewest that S3 can copy, or those that the client uploads.

        The latter have `uploaded_size` bytes and more, unless there are fewer. None is below 5 MiB, except for one that
        carries the end marker.
        """
        count = self.part_count(uploaded_size)
        if count == 1:
            yield Part(tuple(self.pieces), self.zeros, self.copied)
            return
        cuts = [self.size * number // count for number in range(count + 1)]
        sizes = [stop - start for start, stop in pairwise(cuts)]
        for number, pieces in zip(range(count), _cut(self.pieces, sizes), strict=False):
            yield Part(pieces, self.zeros if number == count - 1 else 0, self.copied)


def _stretches(entry_sizes: Iterable[int]) -> Iterator[_Stretch]:
    """Yield the bytes of all sources, in order, with whether S3 copies them. Takes each source once."""
    loose: list[Piece] = []  # what the client uploads before the next source that S3 copies
    loose_size = 0
    for source, size in enumerate(entry_sizes):
        start = 0

        # The loose pieces are too small for a part: fill it up from this source, if the rest can still be copied.
        missing = MIN_PART - loose_size
        if loose and missing > 0 and size - missing >= MIN_PART:
            start = missing
            loose.append(Piece(source, 0, start))
            loose_size = MIN_PART

        # The client uploads what S3 cannot copy. That includes a source that is too small to fill up the part.
        if size - start < MIN_PART or (loose and loose_size < MIN_PART):
            loose.append(Piece(source, start, size))
            loose_size += size - start
            continue

        if loose:
            yield _Stretch(loose, loose_size)
            loose, loose_size = [], 0
        yield _Stretch([Piece(source, start, size)], size - start, copied=True)
    yield _Stretch(loose, loose_size, zeros=END_SIZE)


def _size(pieces: Sequence[Piece]) -> int:
    """Return the number of bytes in all pieces."""
    return sum(piece.stop - piece.start for piece in pieces)
