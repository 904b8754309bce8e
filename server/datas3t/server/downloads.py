"""Downloads: a span of keys becomes one signed byte range for each datarange, by two entries of its index."""

from dataclasses import dataclass
from datetime import datetime

from datas3t import v1
from datas3t.archive.index import RECORD_SIZE, Entry
from datas3t.server import datas3ts, values
from datas3t.server.dataranges import cut
from datas3t.server.db import dataranges, pool
from datas3t.server.db.dataranges import Datarange
from datas3t.server.errors import Failure
from datas3t.server.s3.bucket import Bucket, ObjectChanged, ObjectMissing
from datas3t.server.service import Service


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes `start` up to `stop` of one archive, which has this ETag."""

    url: str
    start: int
    stop: int
    etag: str


def presign(
    service: Service, name: str, first: int, last: int, *, size: int = 0, token: str = ""
) -> tuple[list[Segment], str, datetime]:
    """The segments of the span in key order; with the token of the next page, and when the URLs end."""
    values.span("first_datapoint", first, "last_datapoint", last)
    size = values.page_size(size, 2000, 2000)
    after = values.page_key(token)
    datas3t = datas3ts.find(service, name)
    with pool.connection(service.pool) as conn:
        rows = dataranges.overlapping(conn, datas3t.id, first, last, after=after, limit=size + 1)
        if not rows and not token and dataranges.page(conn, datas3t.id, -1, 1):
            message = f"datas3t {name!r} has no datapoint from {first} to {last}; list its dataranges"
            raise Failure(v1.ERROR_REASON_DATAPOINTS_NOT_FOUND, message, datas3t=name, first=first, last=last)
    rows, following = cut(rows, size)
    bucket, expires_at = datas3ts.bucket_of(service, datas3t), service.expiry()
    # An aggregation between two pages may make a datarange with keys of the page before: they are not sent twice.
    segments = [_segment(service, bucket, row, max(first, after + 1), last) for row in rows]
    return segments, following, expires_at


def _segment(service: Service, bucket: Bucket, row: Datarange, first: int, last: int) -> Segment:
    """A datarange that is wanted whole needs no look into its index: of a span at most the first and the last do."""
    start = _entry(service, bucket, row, first).position if first > row.first_key else 0
    stop = _entry(service, bucket, row, last).stop if last < row.last_key else row.entries_size_bytes
    return Segment(bucket.get_url(row.data_object_key, service.url_lifetime), start, stop, row.data_etag)


def _entry(service: Service, bucket: Bucket, row: Datarange, key: int) -> Entry:
    """Where a datapoint lies, by 16 bytes of the cached index."""
    location = bucket.location
    named = location.endpoint, location.bucket, row.index_object_key, row.index_etag
    try:
        return service.index_cache.entry(
            *named,
            key - row.first_key,
            row.count,
            lambda: bucket.stream(row.index_object_key, 0, RECORD_SIZE * row.count, etag=row.index_etag),
        )
    except (ObjectMissing, ObjectChanged) as error:
        message = f"the index {row.index_object_key} is not the one that was committed; import the bucket anew"
        raise Failure(v1.ERROR_REASON_OBJECT_CHANGED, message, object_key=row.index_object_key) from error
