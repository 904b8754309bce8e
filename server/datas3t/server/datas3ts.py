"""Datas3ts: named datasets, each in one bucket."""

from pyroaring import BitMap64

from datas3t import v1
from datas3t.archive import names
from datas3t.server import buckets, values
from datas3t.server.db import dataranges, datas3ts, intents, pool, s3_buckets
from datas3t.server.db.datas3ts import Datas3t, Summary
from datas3t.server.errors import Failure
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket


def add(resources: Resources, name: str, bucket: str) -> None:
    """Adds a datas3t; on the bucket that it already has, nothing happens.

    Its counter starts above all that stand in the bucket, so that no object is ever overwritten.
    """
    values.name("name", name)
    row = buckets.find(resources, bucket, "bucket")
    with pool.connection(resources.pool) as conn:
        present = datas3ts.by_name(conn, name)
    if present is None:
        counter = _greatest_counter(buckets.opened(resources, row), name)
        with pool.transaction(resources.pool, bucket=bucket) as conn:
            present = datas3ts.add(conn, name, row.id, counter)
    if present is None or present.bucket_id != row.id:
        message = f"datas3t {name!r} is on another bucket configuration; use another name"
        raise Failure(v1.ERROR_REASON_DATAS3T_EXISTS, message, datas3t=name)


def page(resources: Resources, size: int, token: str) -> tuple[list[Summary], str]:
    """By name; with the token of the next page, empty at the last."""
    size = values.page_size(size, 1000, 1000)
    with pool.connection(resources.pool) as conn:
        rows = datas3ts.page(conn, values.page_name(token), size + 1)
    return rows[:size], rows[size - 1].datas3t_name if len(rows) > size else ""


def clear(resources: Resources, name: str) -> tuple[int, int]:
    """Removes all dataranges, as one is deleted, and ends what is open; how many dataranges are gone, and how many of
    their objects go."""
    values.name("name", name)
    with pool.transaction(resources.pool) as conn:
        datas3t = datas3ts.locked(conn, name)
        if datas3t is None:
            raise not_found(name)
        intents.cancel_all(conn, datas3t.id, resources.put_grace)
        datas3ts.removed(conn, datas3t.id)
        objects = dataranges.clear(conn, datas3t.id, datas3t.bucket_id, resources.url_lifetime + resources.put_grace)
    resources.deletions.set()
    return objects // 2, objects


def delete(resources: Resources, name: str) -> None:
    """Removes an empty datas3t, and ends what is open."""
    values.name("name", name)
    with pool.transaction(resources.pool) as conn:
        datas3t = datas3ts.locked(conn, name)
        if datas3t is None:
            raise not_found(name)
        if count := dataranges.count(conn, datas3t.id):
            message = f"datas3t {name!r} contains {count} dataranges; clear it first"
            raise Failure(v1.ERROR_REASON_DATAS3T_NOT_EMPTY, message, datas3t=name, dataranges=count)
        intents.cancel_all(conn, datas3t.id, resources.put_grace)
        datas3ts.bury(conn, datas3t.id)
    resources.deletions.set()


def bitmap(resources: Resources, name: str) -> bytes:
    """The keys present, as a 64-bit Roaring bitmap in the portable format. Made of runs, whatever they hold."""
    datas3t = find(resources, name)
    with pool.connection(resources.pool) as conn:
        bounds = dataranges.bounds(conn, datas3t.id)
    keys = BitMap64()
    for first, last in bounds:
        keys.add_range(first, last + 1)
    keys.run_optimize()
    return bytes(keys.serialize())


def find(resources: Resources, name: str, field: str = "datas3t_name") -> Datas3t:
    """The row of a datas3t; raises DATAS3T_NOT_FOUND."""
    values.name(field, name)
    with pool.connection(resources.pool) as conn:
        datas3t = datas3ts.by_name(conn, name)
    if datas3t is None:
        raise not_found(name)
    return datas3t


def bucket_of(resources: Resources, datas3t: Datas3t) -> Bucket:
    """The bucket in S3 that a datas3t lives in. No call to S3 is made."""
    with pool.connection(resources.pool) as conn:
        rows = s3_buckets.by_ids(conn, [datas3t.bucket_id])
    if not rows:  # deleted since
        raise not_found(datas3t.name)
    return buckets.opened(resources, rows[0])


def not_found(name: str) -> Failure:
    """DATAS3T_NOT_FOUND."""
    message = f"there is no datas3t {name!r}; add it, or list those there are"
    return Failure(v1.ERROR_REASON_DATAS3T_NOT_FOUND, message, datas3t=name)


def _greatest_counter(bucket: Bucket, name: str) -> int:
    found = 0
    for listed in bucket.objects(names.prefix(name)):
        found = max(found, *(parsed.counter for each in listed if (parsed := names.parse(each.key))), 0)
    return found
