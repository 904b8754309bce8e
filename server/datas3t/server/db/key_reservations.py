"""Reservations of keys: one row each, until all of its keys are datapoints or it expires.

Keys are drawn from `datas3ts.next_key`, which is never lowered, so no key is in two reservations.
"""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString

from datas3t.server.db.pool import Connection
from datas3t.server.db.statement import Statement

# For statements on a row. The keys of one that has ended are as those that nobody has reserved.
LIVE: LiteralString = "keys_left > 0 AND expires_at > now()"


@dataclass(frozen=True, slots=True)
class Reservation:
    """A row. All keys from `first_key` to `last_key` are reserved."""

    id: int
    first_key: int
    last_key: int
    expires_at: datetime

    @property
    def count(self) -> int:
        """The number of its keys."""
        return self.last_key - self.first_key + 1


_COLUMNS: LiteralString = "id, first_key, last_key, expires_at"

# The row of the datas3t is locked by the update, which then reads it again. So concurrent calls get different keys. The
# conflict is a call with the same request that has inserted its row meanwhile: the keys of this one stay unused.
_RESERVE = Statement(f"""
    WITH drawn AS (
        UPDATE datas3ts AS d
           SET next_key = next_key + %(count)s::bigint, last_reserved_key = next_key + %(count)s::bigint - 1
         WHERE name = %(name)s AND bucket_id IS NOT NULL AND next_key + %(count)s::bigint - 1 <= 9223372036854775807
           AND NOT EXISTS (SELECT FROM key_reservations WHERE datas3t_id = d.id AND request_id = %(request_id)s)
        RETURNING id, last_reserved_key)
    INSERT INTO key_reservations (datas3t_id, request_id, first_key, last_key, keys_left, expires_at)
    SELECT id, %(request_id)s, last_reserved_key - %(count)s::bigint + 1, last_reserved_key, %(count)s::bigint,
           now() + %(seconds)s * interval '1 second'
      FROM drawn
        ON CONFLICT (datas3t_id, request_id) DO NOTHING
    RETURNING {_COLUMNS}
""")


def reserve(conn: Connection, name: str, count: int, request_id: str, lifetime: timedelta) -> Reservation | None:
    """Reserve the next `count` keys of a datas3t for `lifetime`.

    Returns None, and reserves nothing, if there is no such datas3t, if it has too few keys left, or if the request has
    reserved keys before.
    """
    row = _RESERVE.row(conn, name=name, count=count, request_id=request_id, seconds=lifetime.total_seconds())
    return Reservation(*row) if row else None


_BY_REQUEST: LiteralString = f"""
    SELECT {_COLUMNS} FROM key_reservations WHERE datas3t_id = %s AND request_id = %s
"""


def by_request(conn: Connection, datas3t_id: int, request_id: str) -> Reservation | None:
    """Return what a request has reserved, or None."""
    row = conn.execute(_BY_REQUEST, [datas3t_id, request_id]).fetchone()
    return Reservation(*row) if row else None


_BY_ID: LiteralString = f"SELECT {_COLUMNS} FROM key_reservations WHERE id = %s AND datas3t_id = %s AND {LIVE}"


def by_id(conn: Connection, reservation_id: int, datas3t_id: int) -> Reservation | None:
    """Return a reservation of a datas3t that has not ended, or None."""
    row = conn.execute(_BY_ID, [reservation_id, datas3t_id]).fetchone()
    return Reservation(*row) if row else None


# They do not overlap, so their last keys are in the order of their first keys.
_OVERLAPPING: LiteralString = f"""
    SELECT {_COLUMNS}
      FROM (SELECT {_COLUMNS} FROM key_reservations
             WHERE datas3t_id = %(datas3t_id)s AND last_key >= %(first)s AND {LIVE}
             ORDER BY last_key LIMIT 1) AS following
     WHERE first_key <= %(last)s
"""


def overlapping(conn: Connection, datas3t_id: int, first: int, last: int) -> Reservation | None:
    """Return the first reservation that has a key from `first` to `last` and has not ended, or None."""
    row = conn.execute(_OVERLAPPING, {"datas3t_id": datas3t_id, "first": first, "last": last}).fetchone()
    return Reservation(*row) if row else None


_UNCOVER: LiteralString = """
    UPDATE key_reservations
       SET keys_left = least(keys_left + least(last_key, %(last)s) - greatest(first_key, %(first)s) + 1,
                             last_key - first_key + 1)
     WHERE datas3t_id = %(datas3t_id)s AND last_key >= %(first)s AND first_key <= %(last)s AND keys_left > 0
       AND last_key <= coalesce((SELECT last_key FROM key_reservations
                                  WHERE datas3t_id = %(datas3t_id)s AND last_key >= %(last)s AND keys_left > 0
                                  ORDER BY last_key LIMIT 1), 9223372036854775807)
"""


def uncover(conn: Connection, datas3t_id: int, first: int, last: int) -> None:
    """Give the keys of deleted datapoints back to their reservations, as far as these exist."""
    conn.execute(_UNCOVER, {"datas3t_id": datas3t_id, "first": first, "last": last})


_DELETE_ALL: LiteralString = "DELETE FROM key_reservations WHERE datas3t_id = %s"


def delete_all(conn: Connection, datas3t_id: int) -> None:
    """Delete all reservations of a datas3t. Their keys stay unused."""
    conn.execute(_DELETE_ALL, [datas3t_id])


_DELETE_ENDED: LiteralString = """
    DELETE FROM key_reservations WHERE id IN (
        (SELECT id FROM key_reservations WHERE keys_left = 0 ORDER BY id LIMIT %(limit)s)
         UNION ALL
        (SELECT id FROM key_reservations WHERE expires_at <= now() ORDER BY expires_at LIMIT %(limit)s))
"""


def delete_ended(conn: Connection, limit: int) -> int:
    """Delete up to twice `limit` reservations that have ended, and return how many there were."""
    return conn.execute(_DELETE_ENDED, {"limit": limit}).rowcount
