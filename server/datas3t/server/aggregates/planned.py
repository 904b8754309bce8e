"""Planned aggregates: the new archive is made of its sources' own bytes by a part plan, and the server makes its index.

So it is enough to check sizes, seams, a sample of the other headers, and the end marker. The new index is made of the
sources' indices, and no archive is read for it. Our clients check every header of the sources before S3 copies them.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import IO, NamedTuple

from datas3t.archive import index, join, names, tar
from datas3t.archive.header import Read
from datas3t.archive.index import RECORD_SIZE
from datas3t.server.aggregates.joined import have_checksums, write_checksums
from datas3t.server.aggregates.sources import check_source_archives, plan_parts, readable_source
from datas3t.server.call import map_concurrently
from datas3t.server.dataranges import object_changed
from datas3t.server.db.aggregate_uploads import Aggregate
from datas3t.server.db.dataranges import Datarange
from datas3t.server.intents import AGGREGATES
from datas3t.server.intents.joining import join_parts
from datas3t.server.objects import checks
from datas3t.server.objects.checks import CheckedObjects
from datas3t.server.objects.contents import Told
from datas3t.server.objects.spool import put_once, spool
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket

MAX_SEAMS = 224  # the most first entries of sources that are checked in the new archive, one request each

_INDEX_PIECE = 1 << 16  # records of an index in one request, and in memory for each thread: 1 MiB


class _Piece(NamedTuple):
    """Records `start` up to `stop` of a source's index."""

    row: Datarange
    start: int
    stop: int


def check_planned(
    resources: Resources,
    bucket: Bucket,
    aggregate: Aggregate,
    sources: Sequence[Datarange],
    etags: Sequence[str],
    extension: str | None,
) -> CheckedObjects:
    """Join the parts, check the new archive, and write its index and checksums; `sources` are in key order.

    A long index is made in the scratch folder, so memory does not grow with the number of datapoints. `extension` is
    that of all entries, if it is known.

    Raises:
        InvalidUploadError: The parts are not those of the plan; PartsRefusedError if S3 does not join them as they are.
        FormatError: The new archive breaks a rule of the format.
        Failure: OBJECT_CHANGED if a source's object is missing or was changed.
    """
    key = aggregate.data_object_key
    sizes = [part.size for part in plan_parts(aggregate, sources)]
    join_parts(resources, AGGREGATES, bucket, aggregate, sizes, etags)
    data = checks.find_object(bucket, key, "archive", aggregate.data_size)
    read = partial(bucket.get, key, etag=data.etag)
    entries_size = sum(row.entries_size_bytes for row in sources)
    tar.check_end(read, entries_size, data.size)
    check_source_archives(bucket, sources)
    with spool(resources.scratch) as new_index:
        for piece in joined_index(bucket, sources):
            new_index.write(piece)
        _check_headers(read, sources, new_index, extension)
        index_etag = put_once(bucket, aggregate.index_object_key, new_index)
    checksums_etag = None
    if have_checksums(sources):
        checksums_etag = write_checksums(bucket, names.checksums_key(key), sources, resources.scratch)
    return CheckedObjects(data.size, entries_size, data.etag, index_etag, checksums_etag, extension)


def joined_index(bucket: Bucket, sources: Sequence[Datarange]) -> Iterator[bytes]:
    """Yield the new index piece by piece: the sources' records, with positions in the new archive.

    Raise OBJECT_CHANGED if a source's index is not the one that was committed, and IndexFormatError if the entries do
    not follow each other.
    """
    archive_start = position = number = 0
    for piece, records in map_concurrently(partial(_fetch, bucket), _pieces(sources)):
        if piece.start == 0:
            archive_start = position
        shifted = join.shifted(records, archive_start)
        position = index.check_records(shifted, position, number)
        number += piece.stop - piece.start
        if piece.stop == piece.row.count and position - archive_start != piece.row.entries_size_bytes:
            raise object_changed(piece.row.index_object_key)
        yield shifted


def _pieces(sources: Sequence[Datarange]) -> Iterator[_Piece]:
    for row in sources:
        for start in range(0, row.count, _INDEX_PIECE):
            yield _Piece(row, start, min(start + _INDEX_PIECE, row.count))


def _fetch(bucket: Bucket, piece: _Piece) -> tuple[_Piece, bytes]:
    source = readable_source(bucket, piece.row)
    return piece, source.read_index(RECORD_SIZE * piece.start, RECORD_SIZE * piece.stop)


def _check_headers(read: Read, sources: Sequence[Datarange], new_index: IO[bytes], extension: str | None) -> None:
    """Check that entries are where the new index has them: each source's first entry, and a sample of all.

    If there are many sources, a sample of their first entries is checked.
    """
    first, last = sources[0].first_key, sources[-1].last_key
    told = Told(first, last + 1 - first, None, extension)

    def check_header(place: tuple[int, index.Entry]) -> None:
        key, entry = place
        told.check(key - first, entry, read(entry.position, entry.content.start))

    keys = {sources[number].first_key for number in checks.sample(len(sources), MAX_SEAMS)}
    keys.update(first + number for number in checks.sample(last - first + 1, checks.SAMPLE))
    for _ in map_concurrently(check_header, [(key, _entry(new_index, key - first)) for key in sorted(keys)]):
        pass


def _entry(new_index: IO[bytes], number: int) -> index.Entry:
    new_index.seek(RECORD_SIZE * number)
    return index.entry_at(new_index.read(RECORD_SIZE), 0)
