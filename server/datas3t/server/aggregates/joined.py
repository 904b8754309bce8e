"""The checksums of an aggregate, which are those of its sources one after another, and the extension of its entries.

Contents stay the same in an aggregate. So the checksums that were made where the data came from go on to the new
archive, whoever moved the bytes.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from datas3t.archive import checksums
from datas3t.archive.checksums import RECORD_SIZE
from datas3t.archive.header import Read
from datas3t.server.aggregates.sources import readable_checksums
from datas3t.server.call import map_concurrently
from datas3t.server.db.dataranges import Datarange
from datas3t.server.objects.checks import InvalidUploadError
from datas3t.server.objects.spool import put_once, spool
from datas3t.server.s3.bucket import Bucket

_PIECE = 1 << 18  # checksums in one request, and in memory for each thread: 1 MiB


class _Piece(NamedTuple):
    """Checksums `start` up to `stop` of a source."""

    row: Datarange
    start: int
    stop: int


def have_checksums(sources: Sequence[Datarange]) -> bool:
    """Return whether all sources have checksums."""
    return all(row.checksums_etag is not None for row in sources)


def common_extension(sources: Sequence[Datarange], told: str | None) -> str | None:
    """Return the extension of all entries of all sources; None if they differ, or if it is not known.

    If that of a source is not known, the one that was `told` of all is returned, and the entries have to be checked.

    Raises:
        InvalidUploadError: The one that was told is not that of a source.
    """
    known = {row.extension for row in sources}
    if None not in known:
        return known.pop() if len(known) == 1 else None
    others = known - {None, told}
    if told is not None and others:
        message = f"the extension {told!r} was told of all entries, but those of a source have {others.pop()!r}"
        raise InvalidUploadError(f"{message}; start again")
    return told


def write_checksums(bucket: Bucket, key: str, sources: Sequence[Datarange], scratch: Path) -> str:
    """Write the checksums of all sources, which are in key order, as one object; return its ETag.

    Many are joined in the folder `scratch`, so memory does not grow with the number of datapoints. Raise OBJECT_CHANGED
    if those of a source are not the ones that were committed.
    """
    with spool(scratch, "checksums") as joined:
        for _, records in _pieces(bucket, sources):
            joined.write(records)
        return put_once(bucket, key, joined)


def compare_checksums(read: Read, bucket: Bucket, sources: Sequence[Datarange]) -> None:
    """Compare the checksums of a new archive, which `read` reads, with those of the sources that have some.

    Raises:
        InvalidUploadError: Those of a datapoint differ.
        Failure: OBJECT_CHANGED if those of a source are not the ones that were committed.
    """
    first = sources[0].first_key
    for piece, expected in _pieces(bucket, [row for row in sources if row.checksums_etag is not None]):
        start = piece.row.first_key - first + piece.start
        actual = read(RECORD_SIZE * start, RECORD_SIZE * start + len(expected))
        if actual == expected:
            continue
        for number, (one, other) in enumerate(zip(checksums.decode(actual), checksums.decode(expected), strict=True)):
            if one != other:
                message = (
                    f"datapoint {first + start + number} has the checksum {one:08x}, but {other:08x} in its source"
                )
                raise InvalidUploadError(f"{message}; start again")


def _pieces(bucket: Bucket, sources: Sequence[Datarange]) -> Iterator[tuple[_Piece, bytes]]:
    """Yield the checksums of all sources in order, several pieces being read at a time."""
    wanted = (
        _Piece(row, start, min(start + _PIECE, row.count)) for row in sources for start in range(0, row.count, _PIECE)
    )
    yield from map_concurrently(partial(_fetch, bucket), wanted)


def _fetch(bucket: Bucket, piece: _Piece) -> tuple[_Piece, bytes]:
    read = readable_checksums(bucket, piece.row)
    return piece, read(RECORD_SIZE * piece.start, RECORD_SIZE * piece.stop)
