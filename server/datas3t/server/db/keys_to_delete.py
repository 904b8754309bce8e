"""The queue of objects to delete: objects that no datarange and no pending intent names any more.

A worker claims a row by moving its `due_at` into the future, so no lock is held while S3 is called.
"""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString

from psycopg.rows import class_row

from datas3t.server.db.pool import Connection


@dataclass(frozen=True, slots=True)
class Claim:
    """An object to delete before `due_at`; after that another worker may claim it.

    If `multipart` is set, the multipart uploads of the key are to be aborted as well: that with the id `s3_upload_id`,
    if it is known, and others that S3 lists. If `purge_versions` is set, its versions and delete markers are removed.
    """

    id: int
    bucket_id: int
    object_key: str
    multipart: bool
    s3_upload_id: str | None
    purge_versions: bool
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Backlog:
    """The numbers of rows in the queue, and the age of the oldest that is due.

    `queued` rows are due, and of these, the last attempt at `failing` rows failed. `later` rows are not due yet. Each
    number is counted up to MOST_COUNTED, which stands for more as well.
    """

    queued: int
    failing: int
    later: int
    oldest_seconds: float


_QUEUE: LiteralString = """
    INSERT INTO keys_to_delete (bucket_id, object_key, due_at, due_since)
    SELECT %(bucket_id)s, object_key, due_at, due_at
      FROM CAST(now() + %(after)s AS timestamptz) AS due_at, unnest(%(keys)s::text[]) AS objects (object_key)
"""


def queue(conn: Connection, bucket_id: int, keys: Sequence[str], *, after: timedelta = timedelta()) -> None:
    """Queue objects for deletion when `after` has passed, by default at once."""
    conn.execute(_QUEUE, {"bucket_id": bucket_id, "keys": list(keys), "after": after})


# `due_at = due_since` holds until a worker claims a row.
_FORGET_SECOND_LOOK: LiteralString = """
    DELETE FROM keys_to_delete WHERE bucket_id = %s AND object_key = %s AND second_look AND due_at = due_since
"""


def forget_second_look(conn: Connection, bucket_id: int, key: str) -> None:
    """Remove a second look at an object that is to be written again, unless a worker is about to delete it."""
    conn.execute(_FORGET_SECOND_LOOK, [bucket_id, key])


_QUEUED: LiteralString = "SELECT object_key FROM keys_to_delete WHERE bucket_id = %s AND object_key = ANY(%s)"


def queued(conn: Connection, bucket_id: int, keys: Sequence[str]) -> set[str]:
    """Return those of the keys that are queued."""
    return {key for (key,) in conn.execute(_QUEUED, [bucket_id, list(keys)])}


_LAST_CHARACTER = "\U0010ffff"  # object keys are compared by their bytes


_PURGE: LiteralString = """
    WITH batch AS (
        SELECT max(object_key) AS last
          FROM (SELECT object_key FROM keys_to_delete
                 WHERE bucket_id = %(bucket_id)s AND object_key >= %(prefix)s AND object_key < %(end)s
                   AND object_key > %(after)s
                 ORDER BY object_key LIMIT %(limit)s) AS keys),
        purged AS (
        UPDATE keys_to_delete SET purge_versions = true FROM batch
         WHERE bucket_id = %(bucket_id)s AND object_key >= %(prefix)s AND object_key <= batch.last
           AND object_key > %(after)s)
    SELECT last FROM batch
"""


def purge(conn: Connection, bucket_id: int, prefix: str, after: str = "", limit: int = 1000) -> str | None:
    """Have the versions of queued objects removed as well: of `limit` keys above `after` that start with `prefix`.

    Returns the last of these keys, after which the next call continues, or None if there are no more.
    """
    keys = {"bucket_id": bucket_id, "prefix": prefix, "end": prefix + _LAST_CHARACTER}
    row = conn.execute(_PURGE, {**keys, "after": after, "limit": limit}).fetchone()
    assert row is not None
    return None if row[0] is None else str(row[0])


_CLAIM: LiteralString = """
    UPDATE keys_to_delete SET due_at = now() + %(lease)s
     WHERE id IN (SELECT id FROM keys_to_delete WHERE due_at <= now()
                   ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    RETURNING id, bucket_id, object_key, multipart, s3_upload_id, purge_versions, due_at
"""


def claim(conn: Connection, limit: int, lease: timedelta) -> list[Claim]:
    """Claim up to `limit` due rows; no other worker gets them until `lease` has passed."""
    with conn.cursor(row_factory=class_row(Claim)) as cur:
        return cur.execute(_CLAIM, {"limit": limit, "lease": lease}).fetchall()


# A row still belongs to a claim if it has the claim's `due_at`: a later claim would have changed it.
_DONE: LiteralString = """
    WITH mine AS (SELECT * FROM unnest(%(ids)s::bigint[], %(due_ats)s::timestamptz[], %(purged)s::boolean[])
                    AS claims (id, due_at, purged)),
        second AS (
        UPDATE keys_to_delete
           SET due_at = look_again_at, due_since = look_again_at, look_again_at = NULL, second_look = true,
               attempts = 0, last_error = NULL
         WHERE (id, due_at) IN (SELECT id, due_at FROM mine) AND look_again_at > now())
    DELETE FROM keys_to_delete
     WHERE (id, due_at, purge_versions) IN (SELECT * FROM mine) AND coalesce(look_again_at, now()) <= now()
"""


def done(conn: Connection, claims: Sequence[Claim]) -> None:
    """Remove rows whose objects were deleted, or keep them for a second look if one is planned.

    Rows that another worker has claimed since are left to that worker. Those whose versions are to be removed since
    they were claimed stay, and are claimed again.
    """
    conn.execute(_DONE, _claim_columns(claims))


_FAILED: LiteralString = """
    UPDATE keys_to_delete AS k
       SET due_at = now() + least(%(longest)s, %(first)s * power(2, least(attempts, 20))),
           attempts = attempts + 1, last_error = failed.error
      FROM unnest(%(ids)s::bigint[], %(due_ats)s::timestamptz[], %(errors)s::text[]) AS failed (id, due_at, error)
     WHERE k.id = failed.id AND k.due_at = failed.due_at
"""


def failed(conn: Connection, errors: dict[Claim, str], first: timedelta, longest: timedelta) -> None:
    """Make rows due again after `first`, doubled at each failure, up to `longest`.

    The errors are stored, so they must not contain secrets.
    """
    rows = {**_claim_columns(errors), "errors": list(errors.values())}
    conn.execute(_FAILED, {**rows, "first": first, "longest": longest})


# A second look that may be forgotten: the object was deleted once, and the row only waits in case a PUT arrives late.
# `due_at = due_since` holds until a worker claims the row, because a claim moves `due_at` alone. Keys with a multipart
# upload do not count: S3 may still be opening it, or joining its parts. clock_timestamp() is used because now() is when
# the transaction began, and the row may have come due since.
_FORGETTABLE_SECOND_LOOK: LiteralString = """
    (second_look AND NOT multipart AND due_at = due_since AND due_at > clock_timestamp())
"""

_HAS_DELETIONS: LiteralString = f"""
    SELECT EXISTS (SELECT FROM keys_to_delete WHERE bucket_id = %s AND NOT {_FORGETTABLE_SECOND_LOOK})
"""


def has_deletions(conn: Connection, bucket_id: int) -> bool:
    """Whether a bucket has rows in the queue other than second looks that may be forgotten."""
    row = conn.execute(_HAS_DELETIONS, [bucket_id]).fetchone()
    assert row is not None
    return bool(row[0])


_FORGET_SECOND_LOOKS: LiteralString = f"""
    WITH batch AS (
        SELECT max(object_key) AS last
          FROM (SELECT object_key FROM keys_to_delete WHERE bucket_id = %(bucket_id)s AND object_key > %(after)s
                 ORDER BY object_key LIMIT %(limit)s) AS keys),
        forgotten AS (
        DELETE FROM keys_to_delete USING batch
         WHERE bucket_id = %(bucket_id)s AND object_key > %(after)s AND object_key <= batch.last
           AND {_FORGETTABLE_SECOND_LOOK})
    SELECT last FROM batch
"""


def forget_second_looks(conn: Connection, bucket_id: int, after: str = "", limit: int = 1000) -> str | None:
    """Remove the second looks of a bucket that may be forgotten, of `limit` keys above `after`.

    Returns the last of these keys, after which the next call continues, or None if there are no more.
    """
    keys = {"bucket_id": bucket_id, "after": after, "limit": limit}
    row = conn.execute(_FORGET_SECOND_LOOKS, keys).fetchone()
    assert row is not None
    return None if row[0] is None else str(row[0])


MOST_COUNTED = 10_000  # rows: more would take longer than the metrics may

_BACKLOG: LiteralString = """
    SELECT (SELECT count(*) FROM (SELECT FROM keys_to_delete WHERE due_since <= now()
                                   ORDER BY due_since LIMIT %(most)s) AS due) AS queued,
           (SELECT count(*) FROM (SELECT FROM keys_to_delete WHERE due_since <= now() AND attempts > 0
                                   ORDER BY due_since LIMIT %(most)s) AS failing) AS failing,
           (SELECT count(*) FROM (SELECT FROM keys_to_delete WHERE due_since > now()
                                   ORDER BY due_since LIMIT %(most)s) AS later) AS later,
           coalesce(extract(epoch FROM now() - (SELECT due_since FROM keys_to_delete WHERE due_since <= now()
                                                 ORDER BY due_since LIMIT 1)), 0)::float8 AS oldest_seconds
"""


def backlog(conn: Connection) -> Backlog:
    """Count the rows of the queue, for the metrics."""
    with conn.cursor(row_factory=class_row(Backlog)) as cur:
        row = cur.execute(_BACKLOG, {"most": MOST_COUNTED}).fetchone()
    assert row is not None
    return row


def _claim_columns(claims: Collection[Claim]) -> dict[str, object]:
    return {
        "ids": [claim.id for claim in claims],
        "due_ats": [claim.due_at for claim in claims],
        "purged": [claim.purge_versions for claim in claims],
    }
