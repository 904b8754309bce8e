"""The reaper: ends what was abandoned, and deletes objects that no row names any more. Any number may run at once."""

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

BATCH = 1000
KEEP_FINISHED = timedelta(days=30)
LEASE = timedelta(minutes=10)  # longer than S3's time-outs and retries take for a batch
FIRST_RETRY = timedelta(seconds=5)
LONGEST_RETRY = timedelta(hours=1)

_log = logging.getLogger(__name__)


def sweep(resources: Resources, stopping: Event | None = None) -> int:
    """Does all that is due now; how many objects are gone. What fails stays queued, with back-off."""
    _end_abandoned(resources)
    gone = 0
    while not (stopping and stopping.is_set()):
        with pool.connection(resources.pool) as conn:
            claims = keys_to_delete.claim(conn, BATCH, LEASE)
        if not claims:
            break
        gone += _delete(resources, claims)
    return gone


def backlog(resources: Resources) -> Backlog:
    """What is still to be deleted, for the metrics."""
    with pool.connection(resources.pool) as conn:
        return keys_to_delete.backlog(conn)


class Reaper:
    """Sweeps in a thread of its own: every `interval`, and at once where something was queued by this server."""

    def __init__(self, resources: Resources, interval: timedelta = timedelta(seconds=30)) -> None:
        self._resources = resources
        self._interval = interval
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="reaper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Has it sweep now."""
        self._resources.deletions.set()

    def stop(self) -> None:
        """Waits until the batch at hand is done."""
        self._stopping.set()
        self.wake()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if gone := sweep(self._resources, self._stopping):
                    _log.info("%d objects deleted", gone)
            except Failure as failure:
                _log.warning("the reaper will try again: %s", failure.message)
            except Exception:
                _log.exception("the reaper will try again")
            self._resources.deletions.wait(self._interval.total_seconds())
            self._resources.deletions.clear()


def _end_abandoned(resources: Resources) -> None:
    with pool.connection(resources.pool) as conn:
        while intents.cancel_expired(conn, BATCH, resources.put_grace):
            continue
        while intents.forget_finished(conn, KEEP_FINISHED, BATCH):
            continue


def _delete(resources: Resources, claims: Sequence[Claim]) -> int:
    """Deletes from S3, with no transaction open, and notes what became of each; how many are gone."""
    by_bucket: dict[int, list[Claim]] = defaultdict(list)
    for claim in claims:
        by_bucket[claim.bucket_id].append(claim)
    with pool.connection(resources.pool) as conn:
        rows = s3_buckets.by_ids(conn, list(by_bucket))
    return sum(_delete_from(resources, row, by_bucket[row.id]) for row in rows)


def _delete_from(resources: Resources, row: S3Bucket, claims: Sequence[Claim]) -> int:
    try:
        bucket = buckets.opened(resources, row)
        aborted = _abort_all(bucket, [claim.object_key for claim in claims if claim.multipart])
        refused = bucket.delete([claim.object_key for claim in claims]) | aborted
    except Failure as failure:
        refused = {claim.object_key: failure.message for claim in claims}
    errors = {claim: refused[claim.object_key] for claim in claims if claim.object_key in refused}
    done = [claim for claim in claims if claim not in errors]
    with pool.transaction(resources.pool) as conn:
        keys_to_delete.done(conn, done)
        keys_to_delete.failed(conn, errors, FIRST_RETRY, LONGEST_RETRY)
    if errors:
        _log.warning("%d objects of bucket configuration %r are still to be deleted", len(errors), row.name)
    return len(done)


def _abort_all(bucket: Bucket, keys: Sequence[str]) -> dict[str, str]:
    """Before the objects themselves: what a completion still puts together is then found at the second look. Answers
    what S3 refused, and why: the objects of others are deleted all the same."""
    refused: dict[str, str] = {}
    for key in keys:
        try:
            _abort(bucket, key)
        except Failure as failure:
            if failure.reason != v1.ERROR_REASON_S3_REFUSED:
                raise
            refused[key] = failure.message
    return refused


def _abort(bucket: Bucket, key: str) -> None:
    for found, upload_id, _ in bucket.list_multiparts(key):
        if found == key:
            bucket.abort_multipart(key, upload_id)
