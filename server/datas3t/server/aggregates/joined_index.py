"""The index of a planned aggregate: its sources' indices, one behind the other. No archive is read for it."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from datas3t.archive import index, join
from datas3t.archive.index import RECORD_SIZE
from datas3t.server.aggregates.comparison import changed, source
from datas3t.server.db.dataranges import Datarange
from datas3t.server.parallel import at_once
from datas3t.server.s3.bucket import Bucket

_RECORDS = 1 << 16  # of an index, 1 MiB, that are in hand at once


class _Piece(NamedTuple):
    """Records `start` up to `stop` of a source's index."""

    row: Datarange
    start: int
    stop: int


def joined(bucket: Bucket, sources: Sequence[Datarange]) -> Iterator[bytes]:
    """Pieces of the new index, in order, with positions in the new archive, which they are checked to tile.

    Raises OBJECT_CHANGED where a source's index is not what was committed, and IndexFormatError.
    """
    begin = position = number = 0
    for piece, raw in at_once(partial(_fetched, bucket), _pieces(sources)):
        if piece.start == 0:
            begin = position
        made = join.shifted(raw, begin)
        position = index.check_records(made, position, number)
        number += piece.stop - piece.start
        if piece.stop == piece.row.count and position - begin != piece.row.entries_size_bytes:
            raise changed(piece.row.index_object_key)
        yield made


def _pieces(sources: Sequence[Datarange]) -> Iterator[_Piece]:
    for row in sources:
        for start in range(0, row.count, _RECORDS):
            yield _Piece(row, start, min(start + _RECORDS, row.count))


def _fetched(bucket: Bucket, piece: _Piece) -> tuple[_Piece, bytes]:
    return piece, source(bucket, piece.row).read_index(RECORD_SIZE * piece.start, RECORD_SIZE * piece.stop)
