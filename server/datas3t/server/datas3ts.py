"""Datas3ts: named datasets, each in one bucket."""

import struct

from pyroaring import BitMap64

from datas3t import v1
from datas3t.archive import names
from datas3t.server import buckets, pages, values
from datas3t.server.db import (
    catalogues,
    datas3ts,
    intents,
    key_reservations,
    keys_to_delete,
    listings,
    pool,
    s3_buckets,
    spans,
)
from datas3t.server.db.datas3ts import Datas3t, Summary
from datas3t.server.db.listings import JsonPage
from datas3t.server.db.spans import BucketVersion
from datas3t.server.errors import Failure
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket

_JSON_ROWS = 1000  # of a page as JSON: 250 KB
_BOUNDS = struct.Struct(">QQ")  # first and last key of a datarange
_BATCH = 1000  # uploads or aggregates that one statement cancels


def add(resources: Resources, name: str, bucket: str) -> None:
    """Add a datas3t. Adding it again on the same bucket configuration has no effect.

    Its upload counter and its next key start above those of all objects in the bucket, so that no object is ever
    overwritten, and no key reserved that was used before.
    """
    values.name("name", name)
    row = buckets.find(resources, bucket, "bucket")
    with pool.connection(resources.pool) as conn:
        existing = datas3ts.by_name(conn, name)
    if existing is None:
        counter, last_key = _greatest(buckets.open_bucket(resources, row), name)
        with pool.transaction(resources.pool, bucket=bucket) as conn:
            existing = datas3ts.add(conn, name, row.id, counter, last_key)
    if existing is None or existing.bucket_id != row.id:
        message = f"datas3t {name!r} is on another bucket configuration; use that one, or another name"
        raise Failure(v1.ERROR_REASON_DATAS3T_EXISTS, message, datas3t=name)


def page(resources: Resources, size: int, token: str, matching: str | None = None) -> tuple[list[Summary], str]:
    """Return datas3ts in order of their names, and the token of the next page, which is empty after the last.

    With `matching`, a regular expression, those with other names are left out.
    """
    size = pages.size(size, 1000, 1000)
    with pool.connection(resources.pool) as conn:
        rows = datas3ts.page(conn, pages.after_name(token), size + 1, matching)
    return rows[:size], rows[size - 1].datas3t_name if len(rows) > size else ""


def json_page(resources: Resources, token: str, matching: str | None = None) -> JsonPage:
    """Return a page of what `page` returns as JSON, and the token of the next page."""
    with pool.connection(resources.pool) as conn:
        return listings.datas3ts(conn, pages.after_name(token), _JSON_ROWS, matching)


def clear(resources: Resources, name: str, *, purge_versions: bool = False) -> tuple[int, int]:
    """Delete all dataranges and tables, and cancel all open uploads, aggregates and table files.

    For readers, all of them are gone at once. The reaper deletes their rows and objects in batches, at once or, if
    it is interrupted, at its next sweep. With `purge_versions` it removes the versions of the objects as well, and
    those of objects that were queued before.

    Returns the number of deleted dataranges, and of all objects that are to be deleted.
    """
    datas3t = find(resources, name, "name")
    _cancel_most(resources, datas3t, purge_versions)
    with pool.transaction(resources.pool) as conn:
        locked = datas3ts.locked(conn, name)
        if locked is None:
            raise not_found(name)
        intents.cancel_all(conn, locked.id, resources.put_grace, purge_versions=purge_versions)
        datas3ts.record_removal(conn, locked.id)
        if locked.datarange_count or locked.table_file_count:
            catalogues.clear(conn, locked.id, resources.url_lifetime + resources.put_grace)
            key_reservations.uncover(conn, locked.id, 0, names.MAX_KEY)
        if purge_versions:
            catalogues.purge(conn, locked.id)
    if purge_versions:
        purge(resources, locked.bucket_id, names.folder(name))
    resources.deletions.set()
    objects = 2 * locked.datarange_count + locked.checksums_count + locked.table_file_count
    return locked.datarange_count, objects


def delete(resources: Resources, name: str, *, purge_versions: bool = False) -> None:
    """Delete a datas3t without dataranges with its tables, and cancel its open uploads, aggregates and table files.

    With `purge_versions`, versions and delete markers of all its objects that are still to be deleted are removed.
    """
    _cancel_most(resources, _find_empty(resources, name), purge_versions)
    with pool.transaction(resources.pool) as conn:
        locked = datas3ts.locked(conn, name)
        if locked is None:
            raise not_found(name)
        _check_empty(locked)
        intents.cancel_all(conn, locked.id, resources.put_grace, purge_versions=purge_versions)
        if locked.table_file_count:
            datas3ts.record_removal(conn, locked.id)
            catalogues.clear(conn, locked.id, resources.url_lifetime + resources.put_grace)
        if purge_versions:
            catalogues.purge(conn, locked.id)
        key_reservations.delete_all(conn, locked.id)
        datas3ts.delete(conn, locked.id)
    if purge_versions:
        purge(resources, locked.bucket_id, names.folder(name))
    resources.deletions.set()


def _find_empty(resources: Resources, name: str) -> Datas3t:
    datas3t = find(resources, name, "name")
    _check_empty(datas3t)
    return datas3t


def _check_empty(datas3t: Datas3t) -> None:
    """Raise DATAS3T_NOT_EMPTY if there are dataranges."""
    if count := datas3t.datarange_count:
        message = f"datas3t {datas3t.name!r} contains {count} dataranges; clear it first"
        raise Failure(v1.ERROR_REASON_DATAS3T_NOT_EMPTY, message, datas3t=datas3t.name, dataranges=count)


def _cancel_most(resources: Resources, datas3t: Datas3t, purge_versions: bool) -> None:
    """Cancel the open uploads and aggregates in batches, so that few are left to the transaction that locks the row."""
    with pool.connection(resources.pool) as conn:
        while intents.cancel_all(conn, datas3t.id, resources.put_grace, limit=_BATCH, purge_versions=purge_versions):
            continue


def purge(resources: Resources, bucket_id: int, prefix: str) -> None:
    """Have the versions of the objects removed as well that are queued for deletion and whose keys have the prefix."""
    after: str | None = ""
    while after is not None:
        with pool.connection(resources.pool) as conn:
            after = keys_to_delete.purge(conn, bucket_id, prefix, after)


def bitmap(resources: Resources, name: str) -> bytes:
    """Return the keys of all datapoints as a 64-bit Roaring bitmap in the portable format, made of runs."""
    values.name("datas3t_name", name)
    known, kept = resources.bitmaps.latest(name) or ("", b"")
    with pool.connection(resources.pool) as conn:
        found = spans.bounds(conn, name, known)
    if found is None:
        raise not_found(name)
    if found.bounds is None:
        return kept
    keys = BitMap64()
    for first, last in _BOUNDS.iter_unpack(found.bounds):
        keys.add_range(first, last + 1)
    keys.run_optimize()
    serialised = bytes(keys.serialize())
    resources.bitmaps.put(name, found.version, serialised, len(serialised))
    return serialised


def find(resources: Resources, name: str, field: str = "datas3t_name") -> Datas3t:
    """Return the row of a datas3t. Raises DATAS3T_NOT_FOUND."""
    values.name(field, name)
    with pool.connection(resources.pool) as conn:
        datas3t = datas3ts.by_name(conn, name)
    if datas3t is None:
        raise not_found(name)
    return datas3t


def bucket_of(resources: Resources, datas3t: Datas3t) -> Bucket:
    """Return the bucket in S3 that stores a datas3t, without a call to S3."""
    with pool.connection(resources.pool) as conn:
        rows = s3_buckets.by_ids(conn, [datas3t.bucket_id])
    if not rows:  # it was deleted since
        raise not_found(datas3t.name)
    return buckets.open_bucket(resources, rows[0])


def at_version(resources: Resources, name: str, version: BucketVersion) -> Bucket:
    """Return the bucket in S3 that stores a datas3t, without a call to S3, and mostly without one to the database."""
    bucket = buckets.at_version(resources, version)
    if bucket is None:  # it was deleted since
        raise not_found(name)
    return bucket


def not_found(name: str) -> Failure:
    """Return DATAS3T_NOT_FOUND."""
    message = f"there is no datas3t {name!r}; add it, or list the existing ones"
    return Failure(v1.ERROR_REASON_DATAS3T_NOT_FOUND, message, datas3t=name)


def _greatest(bucket: Bucket, name: str) -> tuple[int, int]:
    """Return the greatest counter in the names of a datas3t's objects, or 0, and the greatest last key, or -1."""
    counter, last_key = 0, -1
    for page in bucket.objects(names.folder(name)):
        for listed in page:
            if parsed := names.parse(listed.key) or names.parse_table_file(listed.key):
                counter, last_key = max(counter, parsed.counter), max(last_key, parsed.last)
    return counter, last_key
