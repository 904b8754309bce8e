"""Merged aggregates: a client's tar writer made the new archive, so it is compared with its sources.

Keys, names, sizes and contents must be the same. Headers and positions may differ, so each side is read by its own
index.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from datas3t.archive import index, names
from datas3t.archive.index import RECORD_SIZE
from datas3t.server.aggregates.joined import compare_checksums, have_checksums, write_checksums
from datas3t.server.aggregates.sources import ReadableArchive, readable_source
from datas3t.server.call import map_concurrently
from datas3t.server.db.aggregate_uploads import Aggregate
from datas3t.server.db.dataranges import Datarange
from datas3t.server.intents import AGGREGATES, urls
from datas3t.server.intents.joining import join_parts
from datas3t.server.objects import checks
from datas3t.server.objects.checks import CheckedObjects, InvalidUploadError
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket

SAMPLE = 256  # datapoints whose names and contents are compared: two requests each

_INDEX_PIECE = 1 << 16  # records of an index that are compared at a time: 1 MiB
_SIZE_BYTES = range(10, RECORD_SIZE)  # the bytes of a record that hold the size of the content


class _Span(NamedTuple):
    """Keys of one source, from `first` on: their records in the new index, and the source to compare them with."""

    first: int
    records: bytes
    source: ReadableArchive


def check_merged(
    resources: Resources,
    bucket: Bucket,
    aggregate: Aggregate,
    sources: Sequence[Datarange],
    etags: Sequence[str],
    extension: str | None,
) -> CheckedObjects:
    """Join the parts, check the new archive and its index, and compare them with the sources, which are in key order.

    The archive may have any size, because another tar writer's headers may be longer or shorter than ours. But it
    cannot have more parts than URLs were signed for. Checksums that the client sent are compared with those of the
    sources, as far as they have some. If it sent none and all sources have some, these are joined. `extension` is that
    of all entries, if it is known.

    Raises:
        InvalidUploadError: The archive or its index breaks a rule of the format, or differs from the sources.
        Failure: OBJECT_CHANGED if a source's object is missing or was changed.
    """
    data_key, index_key = aggregate.data_object_key, aggregate.index_object_key
    if aggregate.s3_upload_id is not None:
        part_count = len(urls.part_sizes(aggregate))
        if not 1 <= len(etags) <= part_count:
            message = f"{len(etags)} ETags were given, but the archive has 1 to {part_count} parts; start again"
            raise InvalidUploadError(message)
        join_parts(resources, AGGREGATES, bucket, aggregate, [None] * len(etags), etags)
    count = aggregate.last_key - aggregate.first_key + 1
    checksums_key = names.checksums_key(data_key) if aggregate.with_checksums else None
    if checksums_key is None and have_checksums(sources):
        checksums_key = names.checksums_key(data_key)
        write_checksums(bucket, checksums_key, sources, resources.scratch)
    checked = checks.check_objects(
        bucket,
        data_key,
        index_key,
        aggregate.first_key,
        count,
        data_size=None,
        checksums_key=checksums_key,
        extension=extension,
    )
    if aggregate.with_checksums:
        read_checksums = partial(bucket.get, names.checksums_key(data_key), etag=checked.checksums_etag)
        compare_checksums(read_checksums, bucket, sources)
    new = ReadableArchive(
        aggregate.first_key,
        partial(bucket.get, data_key, etag=checked.data_etag),
        partial(bucket.get, index_key, etag=checked.index_etag),
    )
    compare(new, [(row, readable_source(bucket, row)) for row in sources])
    return checked


def compare(new: ReadableArchive, sources: Sequence[tuple[Datarange, ReadableArchive]]) -> None:
    """Raise InvalidUploadError if the new archive differs from its sources.

    All sizes are compared, by the indices. Names and the first bytes of the contents are compared for a sample, which
    is all of them if there are few.
    """
    for _ in map_concurrently(_compare_sizes, _spans(new, sources)):
        pass

    # Half of the sample are any keys, the other half are first keys of sources, where a mistake is likely.
    first, last = sources[0][0].first_key, sources[-1][0].last_key
    keys = {first + number for number in checks.sample(last - first + 1, SAMPLE // 2)}
    keys.update(sources[number][0].first_key for number in checks.sample(len(sources), SAMPLE // 2))
    for _ in map_concurrently(partial(_compare_datapoint, new), _with_sources(sorted(keys), sources)):
        pass


def _spans(new: ReadableArchive, sources: Sequence[tuple[Datarange, ReadableArchive]]) -> Iterator[_Span]:
    """Yield spans that cover all keys, each within one source; the new index is read once, in large pieces."""
    unused = memoryview(b"")  # records of the new index that were read and not yielded yet
    for row, source in sources:
        first = row.first_key
        while first <= row.last_key:
            if not unused:
                unused = memoryview(new.records(first, min(first + _INDEX_PIECE - 1, sources[-1][0].last_key)))
            size = RECORD_SIZE * (row.last_key + 1 - first)
            records, unused = unused[:size], unused[size:]
            yield _Span(first, bytes(records), source)
            first += len(records) // RECORD_SIZE


def _with_sources(
    keys: Sequence[int], sources: Sequence[tuple[Datarange, ReadableArchive]]
) -> Iterator[tuple[ReadableArchive, int]]:
    """Yield each of the keys, which ascend, with its source."""
    at = 0
    for row, source in sources:
        while at < len(keys) and keys[at] <= row.last_key:
            yield source, keys[at]
            at += 1


def _compare_sizes(span: _Span) -> None:
    records = span.records
    expected = span.source.records(span.first, span.first + len(records) // RECORD_SIZE - 1)
    if all(records[at::RECORD_SIZE] == expected[at::RECORD_SIZE] for at in _SIZE_BYTES):
        return
    for key, (entry, right) in enumerate(zip(index.decode(records), index.decode(expected), strict=True), span.first):
        if entry.size != right.size:
            message = f"datapoint {key} has {entry.size} bytes, but {right.size} bytes in its source; start again"
            raise InvalidUploadError(message)


def _compare_datapoint(new: ReadableArchive, wanted: tuple[ReadableArchive, int]) -> None:
    source, key = wanted
    name, content = new.datapoint(key)
    expected_name, expected_content = source.datapoint(key)
    if name != expected_name:
        message = f"datapoint {key} is named {name!r}, but {expected_name!r} in its source; start again"
        raise InvalidUploadError(message)
    if content != expected_content:
        raise InvalidUploadError(f"datapoint {key} has another content than in its source; start again")
