"""A merged archive against its sources: the same keys, names and sizes, whatever tar writers wrote them. Headers and
positions may differ, so each side is read by its own index."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from datas3t import v1
from datas3t.archive import index, tar
from datas3t.archive.index import RECORD_SIZE
from datas3t.server.completion import Invalid, Read
from datas3t.server.db.dataranges import Datarange
from datas3t.server.errors import Failure
from datas3t.server.s3.bucket import Bucket, ObjectChanged, ObjectMissing

SAMPLE = 256
SAMPLE_CONTENT = 4 << 10  # bytes of a content that are compared

_AT_ONCE = 8
_RECORDS = 1 << 16  # of an index, 1 MiB, that are compared at once

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Readable:
    """An archive and its index, to be read by ranges."""

    first_key: int
    read: Read
    read_index: Read

    def sizes(self, first: int, last: int) -> list[int]:
        """The sizes of these keys' contents."""
        return [entry.size for entry in index.decode(self._records(first, last))]

    def datapoint(self, key: int) -> tuple[str, bytes]:
        """Its name, and how its content begins. Raises ArchiveError."""
        entry = index.entry_at(self._records(key, key), 0)
        content = entry.content
        piece = self.read(entry.position, min(content.stop, content.start + SAMPLE_CONTENT))
        headers = content.start - entry.position
        return tar.check_entry(piece[:headers], entry, key), piece[headers:]

    def _records(self, first: int, last: int) -> bytes:
        return self.read_index(RECORD_SIZE * (first - self.first_key), RECORD_SIZE * (last + 1 - self.first_key))


def source(bucket: Bucket, row: Datarange) -> Readable:
    """A committed datarange; reading raises OBJECT_CHANGED where it is not what was committed."""
    read = partial(_read_source, bucket, row.data_object_key, row.data_etag)
    return Readable(row.first_key, read, partial(_read_source, bucket, row.index_object_key, row.index_etag))


def compare(new: Readable, sources: Sequence[tuple[Datarange, Readable]]) -> None:
    """All sizes by the indices; names and how contents begin by a sample, which is all of it where there are few.

    Raises Invalid where they differ.
    """
    for row, old in sources:
        for first in range(row.first_key, row.last_key + 1, _RECORDS):
            _compare_sizes(new, old, first, min(first + _RECORDS - 1, row.last_key))
    begin, end = sources[0][0].first_key, sources[-1][0].last_key
    keys = {begin + number for number in spread(end - begin + 1, SAMPLE // 2)}
    keys.update(sources[number][0].first_key for number in spread(len(sources), SAMPLE // 2))
    wanted = ((old, key) for row, old in sources for key in keys if row.first_key <= key <= row.last_key)
    for _ in at_once(lambda each: _compare_datapoint(new, *each), wanted):
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


def at_once(do: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The results in order; a few are worked on at a time."""
    threads = ThreadPoolExecutor(_AT_ONCE)
    try:
        yield from threads.map(do, items)
    finally:
        threads.shutdown(cancel_futures=True)


def _compare_sizes(new: Readable, old: Readable, first: int, last: int) -> None:
    for key, found, right in zip(range(first, last + 1), new.sizes(first, last), old.sizes(first, last), strict=True):
        if found != right:
            raise Invalid(f"datapoint {key} has {found} bytes, but in its source it has {right}; start anew")


def _compare_datapoint(new: Readable, old: Readable, key: int) -> None:
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
