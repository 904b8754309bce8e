"""Downloads: a span of keys becomes a byte range with a URL for each datarange."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from datas3t import v1
from datas3t.archive.index import Entry
from datas3t.server import datas3ts, pages, values
from datas3t.server.dataranges import find_page, object_changed
from datas3t.server.db.dataranges import Datarange
from datas3t.server.db.spans import Span
from datas3t.server.errors import Failure
from datas3t.server.pages import Start
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket, ObjectChanged, ObjectMissing
from datas3t.server.s3.presign import GetSigner

_MAX_ATTEMPTS = 5  # at a page, if dataranges are deleted while their indices are read


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes `start` up to `stop` of an archive with this ETag."""

    url: str = field(repr=False)
    start: int
    stop: int
    etag: str


def presign(
    resources: Resources, name: str, first: int, last: int, *, size: int = 0, token: str = ""
) -> tuple[list[Segment], str, datetime]:
    """Return the segments of a span in key order, the token of the next page, and when the URLs expire."""
    span = values.span("first_datapoint", first, "last_datapoint", last)
    size = pages.size(size, 2000, 2000)
    start = pages.start(token)
    found, attempts = _found(resources, name, *span, start, size + 1), _MAX_ATTEMPTS
    bucket, expires_at = datas3ts.at_version(resources, name, found.bucket), resources.expiry()
    while True:
        try:
            # If an aggregate was made between two pages, its datarange may start with keys of the earlier page.
            segments = list(_segments(resources, bucket, found.rows[:size], max(first, start.after + 1), last))
            return segments, pages.next_token(found.catalogue_id, found.rows, len(segments)), expires_at
        except Failure as failure:
            attempts -= 1
            if failure.reason != v1.ERROR_REASON_OBJECT_CHANGED or not attempts:
                raise
            # Dataranges may have been deleted since, with their indices. If so, sign those that exist now.
            previous, found = found, _found(resources, name, *span, start, size + 1)
            if found.rows == previous.rows:
                raise


def _found(resources: Resources, name: str, first: int, last: int, start: Start, limit: int) -> Span:
    """Return the dataranges of a span. Raise DATAPOINTS_NOT_FOUND if it has none and the datas3t is not empty."""
    found = find_page(resources, name, first, last, start, limit)
    if not found.rows and start.after < 0 and not found.is_empty:
        message = f"datas3t {name!r} has no datapoint from {first} to {last}; list its dataranges"
        raise Failure(v1.ERROR_REASON_DATAPOINTS_NOT_FOUND, message, datas3t=name, first=first, last=last)
    return found


def _segments(
    resources: Resources, bucket: Bucket, rows: Sequence[Datarange], first: int, last: int
) -> Iterator[Segment]:
    """Return as many segments as fit a page."""
    signer = bucket.get_signer(resources.url_lifetime)
    segments = (_segment(resources, bucket, signer, row, first, last) for row in rows)
    return pages.fitting(segments, lambda segment: len(segment.url) + pages.OTHER_FIELDS)


def _segment(resources: Resources, bucket: Bucket, signer: GetSigner, row: Datarange, first: int, last: int) -> Segment:
    """Return the segment of a datarange. The index is read only if a part is requested, at either end of a span."""
    start = _entry(resources, bucket, row, first).position if first > row.first_key else 0
    stop = _entry(resources, bucket, row, last).stop if last < row.last_key else row.entries_size_bytes
    return Segment(signer.url(row.data_object_key), start, stop, row.data_etag)


def _entry(resources: Resources, bucket: Bucket, row: Datarange, key: int) -> Entry:
    """Return where a datapoint is in its archive, from the cached index."""
    location = bucket.location
    identity = location.endpoint, location.bucket, row.index_object_key, row.index_etag
    try:
        return resources.index_cache.entry(
            *identity,
            key - row.first_key,
            row.count,
            lambda start, stop: bucket.stream(row.index_object_key, start, stop, etag=row.index_etag),
        )
    except (ObjectMissing, ObjectChanged) as error:
        raise object_changed(row.index_object_key) from error
