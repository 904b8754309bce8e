"""An import's rows of one datas3t: written in one transaction, and taken back where their objects went meanwhile."""

from collections.abc import Mapping, Sequence

from datas3t.archive import names
from datas3t.server.db import dataranges, datas3ts, keys_to_delete, pool
from datas3t.server.db.dataranges import Datarange
from datas3t.server.db.s3_buckets import S3Bucket
from datas3t.server.imports.known import Before, Known
from datas3t.server.imports.listing import Archive, Skipped
from datas3t.server.imports.rebuilt_index import Fit
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket

_AT_ONCE = 5_000  # rows, in one statement


def elsewhere(name: str) -> str:
    """Why objects are left out whose datas3t is on another bucket."""
    return f"datas3t {name!r} is on another bucket configuration"


class Moved(Exception):  # noqa: N818 - an event: the bucket is listed anew
    """Dataranges were removed since the bucket was listed."""


def commit(
    resources: Resources, bucket: S3Bucket, name: str, counter: int, taken: Mapping[Archive, Fit], before: Before
) -> tuple[list[Datarange], list[Skipped]]:
    """Adds the datas3t or has its counter catch up, and adds dataranges; answers those added, and what was not.

    Raises Moved, and then nothing is changed: what was listed may be gone.
    """
    with pool.transaction(resources.pool, bucket=bucket.name) as conn:
        datas3t = datas3ts.add(conn, name, bucket.id, counter)  # holds it until the end, as every commit does
        if datas3t is None:
            return [], [Skipped(archive.key, elsewhere(name)) for archive in taken]
        if datas3ts.removals(conn, name) != before.removals:
            raise Moved
        known = Known(conn, bucket.id, datas3t, [archive.key for archive in taken], before)
        refused = {archive: known.refusal(archive) for archive in taken if not known.has(archive)}
        rows = [_row(archive, taken[archive]) for archive, reason in refused.items() if reason is None]
        added: list[Datarange] = []
        for start in range(0, len(rows), _AT_ONCE):
            added += dataranges.insert_fitting(conn, datas3t.id, rows[start : start + _AT_ONCE])
    skipped = [Skipped(archive.key, reason) for archive, reason in refused.items() if reason]
    there = {row.data_object_key for row in added}
    late = [row.data_object_key for row in rows if row.data_object_key not in there]
    return added, [*skipped, *(Skipped(key, "it overlaps a datarange that came meanwhile") for key in late)]


def take_back(
    resources: Resources, bucket: S3Bucket, s3: Bucket, name: str, added: Sequence[Datarange]
) -> tuple[list[Datarange], list[Skipped]]:
    """The rows that stay, and what was left out after all.

    Between the check of an archive and its row, another import may have added it, a user deleted it and the reaper
    removed its objects: nothing in the database tells. What the bucket no longer lists after the row was written, loses
    the row; what it lists, nobody has removed, and the queue was empty of it when the row was written. An index that
    the import may have written behind the reaper goes as its archive did; no archive is ever deleted here.
    """
    there = {each.key for page in s3.objects(names.prefix(name)) for each in page}
    gone = {row.id for row in added if not there.issuperset((row.data_object_key, row.index_object_key))}
    if not gone:
        return list(added), []
    with pool.transaction(resources.pool) as conn:
        datas3ts.locked(conn, name)  # before dataranges, as everybody does
        deleted = dataranges.delete_by_ids(conn, list(gone))
        lonely = [row.index_object_key for row in deleted if row.data_object_key not in there]
        keys_to_delete.queue(conn, bucket.id, lonely)
    resources.deletions.set()
    index_alone, both = "its index vanished while it was imported; import again", "it was deleted while it was imported"
    keys = [row.data_object_key for row in deleted]
    skipped = [Skipped(key, index_alone if key in there else both) for key in keys]
    return [row for row in added if row.id not in gone], skipped


def _row(archive: Archive, fit: Fit) -> Datarange:
    return Datarange(
        id=0,
        first_key=archive.first,
        last_key=archive.last,
        data_object_key=archive.key,
        index_object_key=archive.index_key,
        size_bytes=archive.data.size,
        entries_size_bytes=fit.entries_size,
        data_etag=archive.data.etag,
        index_etag=fit.index_etag,
    )
