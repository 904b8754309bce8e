"""Dataranges of a datas3t: listings, deletion, and URLs for readers that choose byte ranges themselves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from datas3t import v1
from datas3t.archive import names
from datas3t.archive.names import MAX_KEY
from datas3t.server import datas3ts, pages, values
from datas3t.server.db import dataranges, intents, key_reservations, listings, pool, spans, table_files
from datas3t.server.db import datas3ts as datas3t_rows
from datas3t.server.db.dataranges import Datarange
from datas3t.server.db.listings import JsonPage
from datas3t.server.db.spans import Listed, Span
from datas3t.server.errors import Failure
from datas3t.server.pages import Start
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket
from datas3t.server.s3.presign import GetSigner

_COLUMNS_SIZE = 96 + 66  # bytes of a datarange in columns, without its texts: signatures, and at most the numbers
_NO_SIGNATURE = bytes(32)  # in the columns
_JSON_ROWS = 1000  # of a page as JSON: 300 KB


@dataclass(frozen=True, slots=True)
class Presigned:
    """A datarange with GET URLs for any range of its archive, of its index, and of its checksums if it has any."""

    datarange: Datarange
    data_url: str = field(repr=False)
    index_url: str = field(repr=False)
    checksums_url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Columns:
    """Dataranges with usual object keys in one folder, and the signatures of their URLs.

    `counters` and `signatures` have an element for each of `rows`: the counter in its object keys, and 64 bytes, of
    archive and index. So has `checksums_signatures`, 32 bytes, which are zeros for a datarange without checksums; it is
    empty if none has any. All URLs begin with `url_prefix`, the address of the folder, and have the query `url_query`.
    """

    url_prefix: str
    url_query: str
    rows: list[Datarange] = field(default_factory=list)
    counters: list[int] = field(default_factory=list)
    signatures: list[bytes] = field(default_factory=list)
    checksums_signatures: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Page:
    """Dataranges with URLs: those with usual object keys as columns, the others one by one, each in key order.

    `next_token` is the token of the next page, empty after the last. The URLs end at `expires_at`.
    """

    columns: Columns
    others: list[Presigned]
    next_token: str
    expires_at: datetime


def page(resources: Resources, name: str, size: int, token: str) -> tuple[list[Listed], str]:
    """Return dataranges in key order, and the token of the next page, which is empty after the last."""
    size = pages.size(size, 1000, 1000)
    start = pages.start(token)
    values.name("datas3t_name", name)
    with pool.connection(resources.pool) as conn:
        found = spans.page(conn, name, start.after, size + 1)
    if found is None:
        raise datas3ts.not_found(name)
    start.check(name, found.catalogue_id)
    return found.rows[:size], pages.next_token(found.catalogue_id, found.rows, size)


def json_page(resources: Resources, name: str, token: str) -> JsonPage:
    """Return a page of what `page` returns as JSON, and the token of the next page."""
    values.name("datas3t_name", name)
    start = pages.start(token)
    with pool.connection(resources.pool) as conn:
        found = listings.dataranges(conn, name, start.after, _JSON_ROWS)
    if found is None:
        raise datas3ts.not_found(name)
    catalogue_id, objects, last = found
    start.check(name, catalogue_id)
    return JsonPage(objects, pages.token_after(catalogue_id, last) if last else "")


def delete(resources: Resources, name: str, first: int, last: int, *, purge_versions: bool = False) -> None:
    """Delete the datarange with exactly these keys and queue its objects for deletion.

    So are the files of tables whose keys are all among these. Other files keep rows of the deleted keys, which are not
    shown until such a key is uploaded again.

    If a URL of its upload may still be valid, the reaper deletes the objects once more after it has expired. With
    `purge_versions` it removes their versions and delete markers as well.
    """
    values.span("first_datapoint_key", first, "last_datapoint_key", last)
    datas3t = datas3ts.find(resources, name)
    with pool.transaction(resources.pool) as conn:
        bucket_id = datas3t_rows.record_removal(conn, datas3t.id)
        last_put = resources.url_lifetime + resources.put_grace
        if bucket_id is None or not dataranges.delete(
            conn, datas3t.id, bucket_id, first, last, last_put, purge_versions=purge_versions
        ):
            message = f"datas3t {name!r} has no datarange from {first} to {last}; list its dataranges"
            about = {"datas3t": name, "first": first, "last": last}
            raise Failure(v1.ERROR_REASON_DATARANGE_NOT_FOUND, message, **about)
        intents.cancel_checksums(conn, datas3t.id, resources.put_grace)
        key_reservations.uncover(conn, datas3t.id, first, last)
        table_files.delete_within(conn, datas3t.id, bucket_id, first, last, last_put, purge_versions=purge_versions)
    if purge_versions:
        datas3ts.purge(resources, bucket_id, names.range_prefix(name, first, last))
    resources.deletions.set()


def presign(
    resources: Resources, name: str, first: int | None, last: int | None, *, size: int = 0, token: str = ""
) -> tuple[list[Presigned], str, datetime]:
    """Return the dataranges with keys in the span, in key order, with URLs.

    Also returns the token of the next page, which is empty after the last, and when the URLs expire.
    """
    found, size, bucket, expires_at = _listed(resources, name, first, last, size, token)
    shown = list(pages.fitting(_signed(resources, bucket, found.rows[:size]), _size))
    return shown, pages.next_token(found.catalogue_id, found.rows, len(shown)), expires_at


def presign_columns(
    resources: Resources, name: str, first: int | None, last: int | None, *, size: int = 0, token: str = ""
) -> Page:
    """Return what `presign` returns, as a page of columns."""
    found, size, bucket, expires_at = _listed(resources, name, first, last, size, token)
    rows = found.rows
    signer = bucket.get_signer(resources.url_lifetime)
    folder = rows[0].data_object_key.rpartition("/")[0] + "/" if rows else ""
    columns, others = Columns(signer.address(folder), signer.query), list[Presigned]()
    space, shown = pages.MAX_BYTES, 0
    for row in rows[:size]:
        data_key, index_key = row.data_object_key, row.index_object_key
        counter = names.counter_of(folder, row.first_key, row.last_key, data_key, index_key)
        if counter is None:
            other = _presigned(signer, row)
            space -= _size(other)
        else:
            space -= _COLUMNS_SIZE + len(row.data_etag) + len(row.index_etag)
            if row.checksums_etag or row.extension:
                space -= _texts_size(row)
        if space < 0 and shown:
            break
        shown += 1
        if counter is None:
            others.append(other)
        else:
            columns.rows.append(row)
            columns.counters.append(counter)
            columns.signatures.append(signer.signature(data_key) + signer.signature(index_key))
    if any(row.checksums_etag for row in columns.rows):
        columns.checksums_signatures.extend(
            signer.signature(row.checksums_object_key) if row.checksums_etag else _NO_SIGNATURE for row in columns.rows
        )
    return Page(columns, others, pages.next_token(found.catalogue_id, rows, shown), expires_at)


def _listed(
    resources: Resources, name: str, first: int | None, last: int | None, size: int, token: str
) -> tuple[Span, int, Bucket, datetime]:
    """Return the rows of a page and one more if there is one, how many to show, the bucket, and when URLs expire."""
    span = values.span(
        "first_datapoint", 0 if first is None else first, "last_datapoint", MAX_KEY if last is None else last
    )
    size = pages.size(size, 2000, 1000)
    found = find_page(resources, name, *span, pages.start(token), size + 1)
    return found, size, datas3ts.at_version(resources, name, found.bucket), resources.expiry()


def find_page(resources: Resources, name: str, first: int, last: int, start: Start, limit: int) -> Span:
    """Return what `find_span` returns for a page. Raises LISTING_CHANGED if the earlier pages are of before a clear."""
    found = find_span(resources, name, first, last, after=start.after, limit=limit)
    start.check(name, found.catalogue_id)
    return found


def find_span(resources: Resources, name: str, first: int, last: int, *, after: int, limit: int) -> Span:
    """Return dataranges with a key from `first` to `last`, and a last key above `after`. Raises DATAS3T_NOT_FOUND."""
    values.name("datas3t_name", name)
    with pool.connection(resources.pool) as conn:
        found = spans.find(conn, name, first, last, after=after, limit=limit)
    if found is None:
        raise datas3ts.not_found(name)
    return found


def signed(resources: Resources, bucket: Bucket, rows: Sequence[Datarange]) -> list[Presigned]:
    """Return these dataranges with their URLs."""
    return list(_signed(resources, bucket, rows))


def _signed(resources: Resources, bucket: Bucket, rows: Sequence[Datarange]) -> Iterator[Presigned]:
    """Sign the URLs of one datarange at a time, so that none are signed for rows that do not fit a page."""
    signer = bucket.get_signer(resources.url_lifetime)
    for row in rows:
        yield _presigned(signer, row)


def _presigned(signer: GetSigner, row: Datarange) -> Presigned:
    checksums_url = signer.url(row.checksums_object_key) if row.checksums_etag else ""
    return Presigned(row, signer.url(row.data_object_key), signer.url(row.index_object_key), checksums_url)


def _size(presigned: Presigned) -> int:
    """Return the maximum number of bytes that a datarange takes in a response."""
    size = len(presigned.data_url) + len(presigned.index_url) + pages.OTHER_FIELDS
    row = presigned.datarange
    if row.checksums_etag or row.extension:
        size += len(presigned.checksums_url) + _texts_size(row)
    return size


def _texts_size(row: Datarange) -> int:
    """Return the maximum number of bytes of the fields that few or no dataranges of older clients have."""
    return len(row.checksums_etag or "") + 4 * len(row.extension or "")


def object_changed(object_key: str) -> Failure:
    """Return OBJECT_CHANGED: an object is missing, or is not the one that was committed."""
    message = (
        f"the object {object_key} is missing or was changed; restore it, or delete its datarange and upload it again"
    )
    return Failure(v1.ERROR_REASON_OBJECT_CHANGED, message, object_key=object_key)
