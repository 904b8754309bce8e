"""The reaper: cancels expired uploads and aggregates, and deletes queued objects. Several may run at the same time."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from threading import Event, Thread

from datas3t import v1
from datas3t.server import buckets
from datas3t.server.db import intents, keys_to_delete, pool, s3_buckets
from datas3t.server.db.keys_to_delete import Backlog, Claim
from datas3t.server.db.s3_buckets import S3Bucket
from datas3t.server.errors import Failure
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket

BATCH = 1000  # rows in one statement, and objects in one DeleteObjects request: S3's limit
KEEP_FINISHED = timedelta(days=30)  # how long a repeated call has the same outcome as the first
LEASE = timedelta(minutes=10)  # longer than S3's time-outs and retries take for a batch
FIRST_RETRY = timedelta(seconds=5)
LONGEST_RETRY = timedelta(hours=1)  # so that deletions go on soon after S3 is back, however long it was away

_log = logging.getLogger(__name__)


def sweep(resources: Resources, stopping: Event | None = None) -> int:
    """Do everything that is due, until `stopping` is set; return how many objects were deleted.

    Objects that cannot be deleted stay queued, and are retried less and less often.
    """
    _end_expired(resources)
    deleted = 0
    while not (stopping and stopping.is_set()):
        with pool.connection(resources.pool) as conn:
            claims = keys_to_delete.claim(conn, BATCH, LEASE)
        if not claims:
            break
        deleted += _delete(resources, claims)
    return deleted


def backlog(resources: Resources) -> Backlog:
    """Count the objects that are still to be deleted, for the metrics."""
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


def _end_expired(resources: Resources) -> None:
    with pool.connection(resources.pool) as conn:
        while intents.cancel_expired(conn, BATCH, resources.put_grace):
            continue
        while intents.forget_finished(conn, KEEP_FINISHED, BATCH):
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
        errors_by_key = _abort_multiparts(bucket, [claim.object_key for claim in claims if claim.multipart])
        errors_by_key = bucket.delete([claim.object_key for claim in claims]) | errors_by_key
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


def _abort_multiparts(bucket: Bucket, keys: Sequence[str]) -> dict[str, str]:
    """Abort the multipart uploads of these keys; return S3's errors by key.

    This is done before the objects are deleted. A completion that is still joining parts may create its object after
    that; the second look deletes it. An error does not keep other objects from being deleted.
    """
    errors: dict[str, str] = {}
    for key in keys:
        try:
            for found, upload_id, _ in bucket.list_multiparts(key):
                if found == key:
                    bucket.abort_multipart(key, upload_id)
        except Failure as failure:
            if failure.reason != v1.ERROR_REASON_S3_REFUSED:
                raise
            errors[key] = failure.message
    return errors
