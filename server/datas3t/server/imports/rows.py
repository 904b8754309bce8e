"""The rows that an import adds to one datas3t, in one transaction, and those that it removes again."""

from collections.abc import Mapping, Sequence

from datas3t.archive import names
from datas3t.server.db import dataranges, datas3ts, keys_to_delete, pool
from datas3t.server.db.dataranges import Datarange
from datas3t.server.db.s3_buckets import S3Bucket
from datas3t.server.imports.archives import CheckedArchive
from datas3t.server.imports.catalogue import Baseline, Catalogue
from datas3t.server.imports.listing import Archive, Skipped
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket

_ROWS_PER_STATEMENT = 5_000  # about 1 MB


class RemovedSinceError(Exception):
    """Dataranges were removed since the bucket was listed, so it has to be listed again."""


def other_bucket_reason(name: str) -> str:
    """Return why objects are skipped whose datas3t is on another bucket."""
    return f"datas3t {name!r} is on another bucket configuration"


def commit(
    resources: Resources,
    bucket: S3Bucket,
    name: str,
    counter: int,
    chosen: Mapping[Archive, CheckedArchive],
    baseline: Baseline,
) -> tuple[list[Datarange], list[Skipped]]:
    """Add the datas3t, raise its upload counter to `counter` at least, and add dataranges.

    Returns:
        The dataranges that were added, and the archives that were not.

    Raises:
        RemovedSinceError: A listed object may be gone. Nothing was changed.
    """
    with pool.transaction(resources.pool, bucket=bucket.name) as conn:
        datas3t = datas3ts.add(conn, name, bucket.id, counter)  # locks the datas3t, as every commit does
        if datas3t is None:
            return [], [Skipped(archive.key, other_bucket_reason(name)) for archive in chosen]
        if datas3ts.removals(conn, name) != baseline.removals:
            raise RemovedSinceError

        # Uploads, deletions and other imports may have ended while S3 was called: look again, under the lock.
        catalogue = Catalogue(conn, bucket.id, name, datas3t, [archive.key for archive in chosen], baseline)
        reasons = {archive: catalogue.reason_to_skip(archive) for archive in chosen if not catalogue.has_row(archive)}
        rows = [_row(archive, chosen[archive]) for archive, reason in reasons.items() if reason is None]
        added: list[Datarange] = []
        for start in range(0, len(rows), _ROWS_PER_STATEMENT):
            added += dataranges.insert_fitting(conn, datas3t.id, rows[start : start + _ROWS_PER_STATEMENT])
    skipped = [Skipped(archive.key, reason) for archive, reason in reasons.items() if reason]
    added_keys = {row.data_object_key for row in added}
    overlapping = [row.data_object_key for row in rows if row.data_object_key not in added_keys]
    return added, [*skipped, *(Skipped(key, "it overlaps a datarange that was added since") for key in overlapping)]


def remove_rows_without_objects(
    resources: Resources, bucket: S3Bucket, s3: Bucket, name: str, added: Sequence[Datarange]
) -> tuple[list[Datarange], list[Skipped]]:
    """Remove those of the added rows whose objects are not in the bucket; return the other rows, and what was skipped.

    Between the check of an archive and its row another import may have added it, a user may have deleted it, and the
    reaper may have removed its objects, which leaves no trace in the database. So the bucket is listed once more. An
    object that is listed after its row was written stays: it was not queued for deletion when the row was written.

    If only the index is left, this import may have written it after the reaper had deleted it, so it is queued for
    deletion. An archive is never deleted here.
    """
    listed = {each.key for page in s3.objects(names.prefix(name)) for each in page}
    missing = {row.id for row in added if not listed.issuperset((row.data_object_key, row.index_object_key))}
    if not missing:
        return list(added), []
    with pool.transaction(resources.pool) as conn:
        datas3t = datas3ts.locked(conn, name)  # before dataranges, in the order that all transactions keep
        deleted = dataranges.delete_by_ids(conn, datas3t.id, list(missing)) if datas3t else []
        indices = [row.index_object_key for row in deleted if row.data_object_key not in listed]
        keys_to_delete.queue(conn, bucket.id, indices)
    resources.deletions.set()
    without_index, without_archive = (
        "its index was deleted during the import; import again",
        "it was deleted during the import",
    )
    keys = [row.data_object_key for row in deleted]
    skipped = [Skipped(key, without_index if key in listed else without_archive) for key in keys]
    return [row for row in added if row.id not in missing], skipped


def _row(archive: Archive, checked: CheckedArchive) -> Datarange:
    return Datarange(
        id=0,  # the database assigns it
        first_key=archive.first,
        last_key=archive.last,
        data_object_key=archive.key,
        index_object_key=archive.index_key,
        size_bytes=archive.data.size,
        entries_size_bytes=checked.entries_size,
        data_etag=archive.data.etag,
        index_etag=checked.index_etag,
    )
