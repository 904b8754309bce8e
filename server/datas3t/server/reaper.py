"""The reaper: cancels expired uploads and aggregates, deletes what was cleared, and deletes queued objects.

Several may run at the same time.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from datetime import timedelta
from functools import partial
from threading import Event, Thread

from datas3t import v1
from datas3t.server import buckets
from datas3t.server.call import map_concurrently
from datas3t.server.db import catalogues, dropped_tables, intents, key_reservations, keys_to_delete, pool, s3_buckets
from datas3t.server.db.keys_to_delete import MOST_COUNTED, Backlog, Claim
from datas3t.server.db.s3_buckets import S3Bucket
from datas3t.server.errors import Failure
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket, UnknownOperation

BATCH = 1000  # rows in one statement, and objects in one DeleteObjects request: S3's limit
KEEP_FINISHED = timedelta(days=3)  # how long a repeated call has the same outcome as the first
LEASE = timedelta(minutes=10)  # longer than S3's time-outs and retries take for a batch
FIRST_RETRY = timedelta(seconds=5)
LONGEST_RETRY = timedelta(hours=1)  # so that deletions go on soon after S3 is back, however long it was away

_UNAVAILABLE_IN_A_ROW = 3  # keys for which S3 did not respond, after which it is taken to be away

__all__ = ["MOST_COUNTED", "Reaper", "backlog", "sweep"]

_log = logging.getLogger(__name__)


def sweep(resources: Resources, stopping: Event | None = None) -> int:
    """Do everything that is due, until `stopping` is set; return how many objects were deleted.

    Objects that cannot be deleted stay queued, and are retried less and less often.
    """
    stopping = stopping or Event()
    _prepare(resources, stopping)
    deleted = 0
    while not stopping.is_set():
        with pool.connection(resources.pool) as conn:
            claims = keys_to_delete.claim(conn, BATCH, LEASE)
        if not claims:
            break
        deleted += _delete(resources, claims)
    return deleted


def backlog(resources: Resources) -> Backlog:
    """Count the objects that are still to be deleted, each kind up to MOST_COUNTED, for the metrics."""
    with pool.connection(resources.pool) as conn:
        return keys_to_delete.backlog(conn)


class Reaper:
    """A thread that sweeps every `interval`, and at once when this server has queued objects for deletion."""

    def __init__(self, resources: Resources, interval: timedelta = timedelta(seconds=30)) -> None:
        self._resources = resources
        self._interval = interval
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="reaper", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Sweep now instead of after the rest of the interval."""
        self._resources.deletions.set()

    def stop(self) -> None:
        """Stop the thread, after the batch that it is working on."""
        self._stopping.set()
        self.wake()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if deleted := sweep(self._resources, self._stopping):
                    _log.info("%d objects deleted", deleted)
            except Failure as failure:
                _log.warning("the reaper failed and will retry: %s", failure.message)
            except Exception:
                _log.exception("the reaper failed and will retry")
            self._resources.deletions.wait(self._interval.total_seconds())
            self._resources.deletions.clear()


def _prepare(resources: Resources, stopping: Event) -> None:
    """Queue the objects that nothing names any more, and delete old rows, in batches of one transaction each."""
    with pool.connection(resources.pool) as conn:
        while not stopping.is_set() and intents.cancel_expired(conn, BATCH, resources.put_grace):
            continue
        while not stopping.is_set() and catalogues.delete_some(conn, BATCH):
            continue
        while not stopping.is_set() and dropped_tables.delete_some(conn, BATCH):
            continue
        while not stopping.is_set() and intents.forget_finished(conn, KEEP_FINISHED, BATCH):
            continue
        while not stopping.is_set() and key_reservations.delete_ended(conn, BATCH):
            continue


def _delete(resources: Resources, claims: Sequence[Claim]) -> int:
    """Delete the objects bucket by bucket; return how many were deleted."""
    by_bucket: dict[int, list[Claim]] = defaultdict(list)
    for claim in claims:
        by_bucket[claim.bucket_id].append(claim)
    with pool.connection(resources.pool) as conn:
        rows = s3_buckets.by_ids(conn, list(by_bucket))
    return sum(_delete_from(resources, row, by_bucket[row.id]) for row in rows)


def _delete_from(resources: Resources, row: S3Bucket, claims: Sequence[Claim]) -> int:
    """Delete the objects of one bucket in S3, with no transaction open, then store what became of each."""
    try:
        bucket = buckets.open_bucket(resources, row)
        # Multipart uploads go before the objects. A completion that is still joining parts may create its object after
        # that; the second look deletes it.
        aborts = {claim.object_key: claim for claim in claims if claim.multipart}
        errors_by_key = _one_by_one(lambda key: _abort_multiparts(bucket, aborts[key]), list(aborts))
        errors_by_key = _delete_objects(resources, row, bucket, [claim.object_key for claim in claims]) | errors_by_key
        purges = [claim.object_key for claim in claims if claim.purge_versions]
        errors_by_key = _one_by_one(partial(_purge, bucket), purges) | errors_by_key
    except Failure as failure:
        errors_by_key = {claim.object_key: failure.message for claim in claims}
    errors = {claim: errors_by_key[claim.object_key] for claim in claims if claim.object_key in errors_by_key}
    done = [claim for claim in claims if claim not in errors]
    with pool.transaction(resources.pool) as conn:
        keys_to_delete.done(conn, done)
        keys_to_delete.failed(conn, errors, FIRST_RETRY, LONGEST_RETRY)
    if errors:
        _log.warning("%d objects of bucket configuration %r could not be deleted", len(errors), row.name)
    return len(done)


def _abort_multiparts(bucket: Bucket, claim: Claim) -> None:
    """Abort the multipart uploads of a key: the one whose id is known, and others if S3 lists them."""
    if claim.s3_upload_id is not None:
        bucket.abort_multipart(claim.object_key, claim.s3_upload_id)
    try:
        for found, upload_id, _ in bucket.list_multiparts(claim.object_key):
            if found == claim.object_key:
                bucket.abort_multipart(claim.object_key, upload_id)
    except UnknownOperation:
        return
    except Failure as failure:
        if claim.s3_upload_id is None or failure.reason != v1.ERROR_REASON_S3_REFUSED:
            raise


def _purge(bucket: Bucket, key: str) -> None:
    """Remove the versions and delete markers of a key; also the marker that its deletion has just added."""
    with suppress(UnknownOperation):  # a store that cannot list versions keeps none
        for version_id in bucket.versions(key):
            bucket.delete(key, version_id)


def _delete_objects(resources: Resources, row: S3Bucket, bucket: Bucket, keys: Sequence[str]) -> dict[str, str]:
    """Delete objects, by one request if the store can do that; return the errors by key."""
    if row.bulk_delete:
        try:
            errors = bucket.delete_many(keys)
            if errors.keys() <= set(keys):
                return errors
            _log.info("S3 returned errors for objects that were not in the request; deleting one by one")
        except UnknownOperation:
            errors = _one_by_one(bucket.delete, keys)
            if len(errors) < len(keys):  # it supports the other operation
                with pool.connection(resources.pool) as conn:
                    s3_buckets.lacks_bulk_delete(conn, row.id)
            return errors
        except Failure as failure:
            _log.info("many objects at once could not be deleted, trying one by one: %s", failure.message)
    return _one_by_one(bucket.delete, keys)


def _one_by_one(act: Callable[[str], None], keys: Sequence[str]) -> dict[str, str]:
    """Call `act` for each key, several at a time, and return the errors by key.

    A key that S3 refuses does not hold up the others. If S3 does not respond for several keys in a row, it is not asked
    about the rest.
    """

    def attempt(key: str) -> Failure | None:
        try:
            act(key)
        except Failure as failure:
            return failure
        return None

    errors: dict[str, str] = {}
    unavailable = 0
    with closing(map_concurrently(attempt, keys)) as outcomes:
        for number, (key, failure) in enumerate(zip(keys, outcomes, strict=True), 1):
            if failure is None:
                unavailable = 0
                continue
            errors[key] = failure.message
            unavailable = unavailable + 1 if failure.reason == v1.ERROR_REASON_S3_UNAVAILABLE else 0
            if unavailable == _UNAVAILABLE_IN_A_ROW:
                errors.update(dict.fromkeys(keys[number:], failure.message))
                break
    return errors
