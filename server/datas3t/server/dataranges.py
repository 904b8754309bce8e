"""Dataranges of a datas3t: listings, deletion, and URLs for readers that choose byte ranges themselves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from datas3t import v1
from datas3t.archive import names
from datas3t.archive.names import MAX_KEY
from datas3t.server import datas3ts, pages, values
from datas3t.server.db import dataranges, keys_to_delete, pool
from datas3t.server.db import datas3ts as datas3t_rows
from datas3t.server.db.dataranges import Datarange
from datas3t.server.errors import Failure
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket


@dataclass(frozen=True, slots=True)
class Presigned:
    """A datarange with a GET URL for any range of its archive, and one for its index."""

    datarange: Datarange
    data_url: str
    index_url: str


def page(resources: Resources, name: str, size: int, token: str) -> tuple[list[Datarange], str]:
    """Return dataranges in key order, and the token of the next page, which is empty after the last."""
    size = pages.size(size, 1000, 1000)
    after = pages.after_key(token)
    datas3t = datas3ts.find(resources, name)
    with pool.connection(resources.pool) as conn:
        rows = dataranges.page(conn, datas3t.id, after, size + 1)
    return rows[:size], pages.next_token(rows, size)


def delete(resources: Resources, name: str, first: int, last: int, *, purge_versions: bool = False) -> None:
    """Delete the datarange with exactly these keys and queue its objects for deletion.

    If a URL of its upload may still be valid, the reaper deletes the objects once more after it has expired. With
    `purge_versions` it removes their versions and delete markers as well.
    """
    values.span("first_datapoint_key", first, "last_datapoint_key", last)
    datas3t = datas3ts.find(resources, name)
    with pool.transaction(resources.pool) as conn:
        bucket_id = datas3t_rows.record_removal(conn, datas3t.id)
        last_put = resources.url_lifetime + resources.put_grace
        if bucket_id is None or not dataranges.delete(conn, datas3t.id, bucket_id, first, last, last_put):
            message = f"datas3t {name!r} has no datarange from {first} to {last}; list its dataranges"
            raise Failure(v1.ERROR_REASON_DATARANGE_NOT_FOUND, message, datas3t=name, first=first, last=last)
        if purge_versions:
            keys_to_delete.purge(conn, bucket_id, names.range_prefix(name, first, last))
    resources.deletions.set()


def presign(
    resources: Resources, name: str, first: int | None, last: int | None, *, size: int = 0, token: str = ""
) -> tuple[list[Presigned], str, datetime]:
    """Return the dataranges with keys in the span, in key order, with URLs.

    Also returns the token of the next page, which is empty after the last, and when the URLs expire.
    """
    span = values.span(
        "first_datapoint", 0 if first is None else first, "last_datapoint", MAX_KEY if last is None else last
    )
    size = pages.size(size, 2000, 1000)
    after = pages.after_key(token)
    datas3t = datas3ts.find(resources, name)
    with pool.connection(resources.pool) as conn:
        rows = dataranges.overlapping(conn, datas3t.id, *span, after=after, limit=size + 1)
    bucket, expires_at = datas3ts.bucket_of(resources, datas3t), resources.expiry()
    shown = list(pages.fitting(_signed(resources, bucket, rows[:size]), _size))
    return shown, pages.next_token(rows, len(shown)), expires_at


def signed(resources: Resources, bucket: Bucket, rows: Sequence[Datarange]) -> list[Presigned]:
    """Return these dataranges with their URLs."""
    return list(_signed(resources, bucket, rows))


def _signed(resources: Resources, bucket: Bucket, rows: Sequence[Datarange]) -> Iterator[Presigned]:
    """Sign the URLs of one datarange at a time, so that none are signed for rows that do not fit a page."""
    lifetime = resources.url_lifetime
    for row in rows:
        data_url, index_url = (bucket.get_url(key, lifetime) for key in (row.data_object_key, row.index_object_key))
        yield Presigned(row, data_url, index_url)


def _size(presigned: Presigned) -> int:
    """Return the maximum number of bytes that a datarange takes in a response."""
    return len(presigned.data_url) + len(presigned.index_url) + pages.OTHER_FIELDS


def object_changed(object_key: str) -> Failure:
    """Return OBJECT_CHANGED: an object is missing, or is not the one that was committed."""
    message = (
        f"the object {object_key} is missing or was changed; restore it, or delete its datarange and upload it again"
    )
    return Failure(v1.ERROR_REASON_OBJECT_CHANGED, message, object_key=object_key)
