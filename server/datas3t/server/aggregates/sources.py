"""The sources of an aggregate: their rows, which are looked up at each step, and their objects in S3.

Ids of dataranges are never used again. So the same ids are the same archives, and the part plan made of them is the
same at each step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from datas3t import v1
from datas3t.archive import index, join, tar
from datas3t.archive.header import Read
from datas3t.archive.index import RECORD_SIZE
from datas3t.archive.join import Part
from datas3t.server.call import map_concurrently
from datas3t.server.dataranges import object_changed
from datas3t.server.db import dataranges, pool
from datas3t.server.db.aggregate_uploads import Aggregate
from datas3t.server.db.dataranges import Datarange
from datas3t.server.errors import Failure
from datas3t.server.intents import AGGREGATES
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket, ObjectChanged, ObjectMissing

SAMPLE_CONTENT = 4 << 10  # bytes of a content that are read to compare it: more would take longer than the request

_LIST_ABOVE = 50  # sources; up to so many are checked faster by one request each than by a listing
_SOURCES_PER_PAGE = 100  # a page of a listing is worth its time if it has so many sources; others' objects lie between


@dataclass(frozen=True, slots=True)
class ReadableArchive:
    """An archive and its index, read by ranges."""

    first_key: int
    read: Read
    read_index: Read

    def datapoint(self, key: int) -> tuple[str, bytes]:
        """Return the name of a datapoint and the first bytes of its content; raise ArchiveError if the key differs."""
        entry = index.entry_at(self.records(key, key), 0)
        content = entry.content
        piece = self.read(entry.position, min(content.stop, content.start + SAMPLE_CONTENT))
        headers = content.start - entry.position
        return tar.check_entry(piece[:headers], entry, key), piece[headers:]

    def records(self, first: int, last: int) -> bytes:
        """Return the index records of the keys from `first` to `last`."""
        return self.read_index(RECORD_SIZE * (first - self.first_key), RECORD_SIZE * (last + 1 - self.first_key))


def current_sources(resources: Resources, aggregate: Aggregate) -> list[Datarange] | None:
    """Return the sources in key order; None if one of them was deleted or aggregated since."""
    with pool.connection(resources.pool) as conn:
        rows = dataranges.overlapping(conn, aggregate.datas3t_id, aggregate.first_key, aggregate.last_key)
    return rows if [row.id for row in rows] == aggregate.source_ids else None


def sources_changed(aggregate: Aggregate) -> Failure:
    """Return AGGREGATE_SOURCES_CHANGED, which is final."""
    message = "a source was deleted or aggregated since the aggregate was started; list the dataranges and start again"
    return AGGREGATES.final_failure(aggregate, v1.ERROR_REASON_AGGREGATE_SOURCES_CHANGED, message)


def plan_parts(aggregate: Aggregate, sources: Sequence[Datarange]) -> list[Part]:
    """Return how each part of the archive of a planned aggregate is made from the sources' bytes."""
    sizes = [row.entries_size_bytes for row in sources]
    return join.equal_plan(sizes, aggregate.part_size) if aggregate.part_size else join.plan(sizes)


def readable_source(bucket: Bucket, row: Datarange) -> ReadableArchive:
    """Return a source to be read; reads raise OBJECT_CHANGED if its objects are not those that were committed."""
    read = partial(_read, bucket, row.data_object_key, row.data_etag)
    return ReadableArchive(row.first_key, read, partial(_read, bucket, row.index_object_key, row.index_etag))


def readable_checksums(bucket: Bucket, row: Datarange) -> Read:
    """Return what reads the checksums of a source that has some; it raises as the reads of `readable_source`."""
    return partial(_read, bucket, row.checksums_object_key, row.checksums_etag or "")


def check_source_archives(bucket: Bucket, sources: Sequence[Datarange]) -> None:
    """Raise OBJECT_CHANGED if a source's archive is missing or has another ETag; `sources` are in key order."""
    unchecked = list(sources)
    if len(sources) > _LIST_ABOVE:
        etags = _listed_etags(bucket, sources)
        unchecked = [row for row in sources if etags.get(row.data_object_key) != row.data_etag]
    for _ in map_concurrently(partial(_check_archive, bucket), unchecked):
        pass


def _read(bucket: Bucket, object_key: str, etag: str, start: int, stop: int) -> bytes:
    try:
        return bucket.get(object_key, start, stop, etag=etag)
    except (ObjectMissing, ObjectChanged) as error:
        raise object_changed(object_key) from error


def _listed_etags(bucket: Bucket, sources: Sequence[Datarange]) -> dict[str, str]:
    """Return the ETags of listed objects by key, those of the sources among them.

    Some sources may be missing: the listing stops early if it has too many other objects.
    """
    first, last = sources[0].data_object_key, sources[-1].data_object_key
    pages = bucket.objects(first.rpartition("/")[0] + "/", start_after=first[:-1])
    etags: dict[str, str] = {}
    for page in islice(pages, 1 + len(sources) // _SOURCES_PER_PAGE):
        etags.update((each.key, each.etag) for each in page)
        if page and page[-1].key >= last:
            break
    return etags


def _check_archive(bucket: Bucket, row: Datarange) -> None:
    stored = bucket.head(row.data_object_key)
    if stored is None or stored.etag != row.data_etag:
        raise object_changed(row.data_object_key)
