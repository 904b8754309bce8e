"""A merged archive against its sources: the same keys, names and sizes, whatever tar writers wrote them. Headers and
positions may differ, so each side is read by its own index."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from datas3t import v1
from datas3t.archive import index, tar
from datas3t.archive.index import RECORD_SIZE
from datas3t.server.db.dataranges import Datarange
from datas3t.server.errors import Failure
from datas3t.server.parallel import at_once
from datas3t.server.s3.bucket import Bucket, ObjectChanged, ObjectMissing
from datas3t.server.uploads.completion import Invalid, Read

SAMPLE = 256
SAMPLE_CONTENT = 4 << 10  # bytes of a content that are compared

_RECORDS = 1 << 16  # of an index, 1 MiB, that are compared at once
_SIZE = range(10, RECORD_SIZE)  # bytes of a record


@dataclass(frozen=True, slots=True)
class Readable:
    """An archive and its index, to be read by ranges."""

    first_key: int
    read: Read
    read_index: Read

    def datapoint(self, key: int) -> tuple[str, bytes]:
        """Its name, and how its content begins. Raises ArchiveError."""
        entry = index.entry_at(self.records(key, key), 0)
        content = entry.content
        piece = self.read(entry.position, min(content.stop, content.start + SAMPLE_CONTENT))
        headers = content.start - entry.position
        return tar.check_entry(piece[:headers], entry, key), piece[headers:]

    def records(self, first: int, last: int) -> bytes:
        """These keys' records of the index."""
        return self.read_index(RECORD_SIZE * (first - self.first_key), RECORD_SIZE * (last + 1 - self.first_key))


class _Span(NamedTuple):
    """Keys of one source, from `first` on: their records in the new index, and where to read those of the source."""

    first: int
    records: bytes
    old: Readable


def source(bucket: Bucket, row: Datarange) -> Readable:
    """A committed datarange; reading raises OBJECT_CHANGED where it is not what was committed."""
    read = partial(_read_source, bucket, row.data_object_key, row.data_etag)
    return Readable(row.first_key, read, partial(_read_source, bucket, row.index_object_key, row.index_etag))


def compare(new: Readable, sources: Sequence[tuple[Datarange, Readable]]) -> None:
    """All sizes by the indices; names and how contents begin by a sample, which is all of it where there are few.

    Raises Invalid where they differ. Sources are read some at a time, the new index once.
    """
    for _ in at_once(_compare_sizes, _spans(new, sources)):
        pass
    begin, end = sources[0][0].first_key, sources[-1][0].last_key
    keys = {begin + number for number in spread(end - begin + 1, SAMPLE // 2)}
    keys.update(sources[number][0].first_key for number in spread(len(sources), SAMPLE // 2))
    for _ in at_once(partial(_compare_datapoint, new), _among(sorted(keys), sources)):
        pass


def changed(object_key: str) -> Failure:
    """OBJECT_CHANGED: a source is not what was committed, or is gone."""
    message = f"the object {object_key} is not the one that was committed; import the bucket anew"
    return Failure(v1.ERROR_REASON_OBJECT_CHANGED, message, object_key=object_key)


def spread(count: int, most: int) -> list[int]:
    """At most so many of the numbers from 0 up to `count`, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({(count - 1) * number // (most - 1) for number in range(most)})


def _spans(new: Readable, sources: Sequence[tuple[Datarange, Readable]]) -> Iterator[_Span]:
    """All keys, in spans that lie within one source; the new index is read a block of many spans at a time."""
    block = memoryview(b"")  # what is left of it
    for row, old in sources:
        first = row.first_key
        while first <= row.last_key:
            if not block:
                block = memoryview(new.records(first, min(first + _RECORDS - 1, sources[-1][0].last_key)))
            size = RECORD_SIZE * (row.last_key + 1 - first)
            records, block = block[:size], block[size:]
            yield _Span(first, bytes(records), old)
            first += len(records) // RECORD_SIZE


def _among(keys: Sequence[int], sources: Sequence[tuple[Datarange, Readable]]) -> Iterator[tuple[Readable, int]]:
    """Each of the keys, which ascend, with its source."""
    at = 0
    for row, old in sources:
        while at < len(keys) and keys[at] <= row.last_key:
            yield old, keys[at]
            at += 1


def _compare_sizes(span: _Span) -> None:
    found = span.records
    right = span.old.records(span.first, span.first + len(found) // RECORD_SIZE - 1)
    if all(found[at::RECORD_SIZE] == right[at::RECORD_SIZE] for at in _SIZE):
        return
    for key, (one, other) in enumerate(zip(index.decode(found), index.decode(right), strict=True), span.first):
        if one.size != other.size:
            raise Invalid(f"datapoint {key} has {one.size} bytes, but in its source it has {other.size}; start anew")


def _compare_datapoint(new: Readable, wanted: tuple[Readable, int]) -> None:
    old, key = wanted
    name, content = new.datapoint(key)
    right_name, right_content = old.datapoint(key)
    if name != right_name:
        raise Invalid(f"datapoint {key} is named {name!r}, but in its source {right_name!r}; start anew")
    if content != right_content:
        raise Invalid(f"datapoint {key} has another content than in its source; start anew")


def _read_source(bucket: Bucket, object_key: str, etag: str, start: int, stop: int) -> bytes:
    try:
        return bucket.get(object_key, start, stop, etag=etag)
    except (ObjectMissing, ObjectChanged) as error:
        raise changed(object_key) from error
