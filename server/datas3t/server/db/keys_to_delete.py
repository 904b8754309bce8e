"""Objects that no row names any more. A row is claimed by moving `due_at` on, so that no lock is held across S3."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString

from psycopg.rows import class_row

from datas3t.server.db.pool import Connection


@dataclass(frozen=True, slots=True)
class Claim:
    """An object to delete until `due_at`, when others may claim it; `multipart`: its multipart uploads are aborted as
    well."""

    id: int
    bucket_id: int
    object_key: str
    multipart: bool
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits: `queued` rows that are due, `failing` of them tried in vain, and those whose time comes `later`."""

    queued: int
    failing: int
    later: int
    oldest_seconds: float


_QUEUE: LiteralString = """
    INSERT INTO keys_to_delete (bucket_id, object_key, multipart, due_at, due_since, look_again_at)
    SELECT %(bucket_id)s, object_key, %(multipart)s, due_at, due_at, %(look_again_at)s
      FROM coalesce(%(due_at)s::timestamptz, now()) AS due_at, unnest(%(keys)s::text[]) AS objects (object_key)
"""


def queue(
    conn: Connection,
    bucket_id: int,
    keys: Sequence[str],
    *,
    multipart: bool = False,
    due_at: datetime | None = None,
    look_again_at: datetime | None = None,
) -> None:
    """Queues objects, to be deleted at once or from `due_at` on, and once more at `look_again_at`."""
    times = {"due_at": due_at, "look_again_at": look_again_at}
    conn.execute(_QUEUE, {"bucket_id": bucket_id, "keys": list(keys), "multipart": multipart, **times})


_QUEUED: LiteralString = "SELECT object_key FROM keys_to_delete WHERE bucket_id = %s AND object_key = ANY(%s)"


def queued(conn: Connection, bucket_id: int, keys: Sequence[str]) -> set[str]:
    """Which of these objects of a bucket are queued."""
    return {key for (key,) in conn.execute(_QUEUED, [bucket_id, list(keys)])}


_QUEUED_UNDER: LiteralString = """
    SELECT object_key FROM keys_to_delete WHERE bucket_id = %s AND starts_with(object_key, %s)
"""


def queued_under(conn: Connection, bucket_id: int, prefix: str) -> set[str]:
    """The queued objects of a bucket whose keys begin so."""
    return {key for (key,) in conn.execute(_QUEUED_UNDER, [bucket_id, prefix])}


_CLAIM: LiteralString = """
    UPDATE keys_to_delete SET due_at = now() + %(lease)s
     WHERE id IN (SELECT id FROM keys_to_delete WHERE due_at <= now()
                   ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    RETURNING id, bucket_id, object_key, multipart, due_at
"""


def claim(conn: Connection, limit: int, lease: timedelta) -> list[Claim]:
    """Due rows, which nobody else gets before `lease` is over."""
    with conn.cursor(row_factory=class_row(Claim)) as cur:
        return cur.execute(_CLAIM, {"limit": limit, "lease": lease}).fetchall()


_DONE: LiteralString = """
    WITH mine AS (SELECT * FROM unnest(%(ids)s::bigint[], %(until)s::timestamptz[]) AS claims (id, due_at)),
        later AS (
        UPDATE keys_to_delete
           SET due_at = look_again_at, due_since = look_again_at, look_again_at = NULL, second_look = true,
               attempts = 0, last_error = NULL
         WHERE (id, due_at) IN (SELECT id, due_at FROM mine) AND look_again_at > now())
    DELETE FROM keys_to_delete
     WHERE (id, due_at) IN (SELECT id, due_at FROM mine) AND coalesce(look_again_at, now()) <= now()
"""


def done(conn: Connection, claims: Sequence[Claim]) -> None:
    """The objects are gone: those to be looked at once more wait for it, the others leave the list. What somebody else
    has claimed meanwhile is left to them."""
    conn.execute(_DONE, _whose(claims))


_FAILED: LiteralString = """
    UPDATE keys_to_delete AS k
       SET due_at = now() + least(%(longest)s, %(first)s * power(2, least(attempts, 20))),
           attempts = attempts + 1, last_error = failed.error
      FROM unnest(%(ids)s::bigint[], %(until)s::timestamptz[], %(errors)s::text[]) AS failed (id, due_at, error)
     WHERE k.id = failed.id AND k.due_at = failed.due_at
"""


def failed(conn: Connection, errors: dict[Claim, str], first: timedelta, longest: timedelta) -> None:
    """Tries again after `first`, doubled at each failure, up to `longest`. Errors are kept: without secrets."""
    rows = {**_whose(errors), "errors": list(errors.values())}
    conn.execute(_FAILED, {**rows, "first": first, "longest": longest})


_FORGET_SECOND_LOOKS: LiteralString = """
    DELETE FROM keys_to_delete
     WHERE bucket_id = %s AND second_look AND NOT multipart AND due_at = due_since AND due_at > clock_timestamp()
"""


def forget_second_looks(conn: Connection, bucket_id: int) -> None:
    """Takes those off the list whose objects are gone already, and that only wait for a PUT that may come late: nothing
    that is due or in the reaper's hands, and no multipart upload, which S3 may still be opening or putting together."""
    conn.execute(_FORGET_SECOND_LOOKS, [bucket_id])


_BACKLOG: LiteralString = """
    SELECT count(*) FILTER (WHERE due_since <= now()) AS queued,
           count(*) FILTER (WHERE attempts > 0) AS failing,
           count(*) FILTER (WHERE due_since > now()) AS later,
           coalesce(extract(epoch FROM now() - min(due_since) FILTER (WHERE due_since <= now())), 0)::float8
               AS oldest_seconds
      FROM keys_to_delete
"""


def backlog(conn: Connection) -> Backlog:
    with conn.cursor(row_factory=class_row(Backlog)) as cur:
        found = cur.execute(_BACKLOG).fetchone()
    assert found is not None
    return found


def _whose(claims: Collection[Claim]) -> dict[str, object]:
    return {"ids": [claim.id for claim in claims], "until": [claim.due_at for claim in claims]}
