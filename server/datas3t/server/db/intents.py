"""What ends many uploads or aggregates at once: both kinds of intents have the same columns for it."""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from datetime import timedelta
from typing import LiteralString

from datas3t.server.db.pool import Connection

_TABLES: tuple[LiteralString, ...] = ("datarange_uploads", "aggregate_uploads")


def _cancel(table: LiteralString, which: LiteralString) -> LiteralString:
    """Both objects of what ends are queued, with a second look for PUTs that were signed before and come later."""
    return f"""
        WITH ended AS (
            UPDATE {table} SET state = 'cancelled', finished_at = now()
             WHERE state = 'pending' AND {which}
            RETURNING datas3t_id, data_object_key, index_object_key, multipart, expires_at),
        queued AS (
            INSERT INTO keys_to_delete (bucket_id, object_key, multipart, look_again_at)
            SELECT d.bucket_id, objects.object_key, objects.multipart, ended.expires_at + %(late)s
              FROM ended
              JOIN datas3ts AS d ON d.id = ended.datas3t_id
             CROSS JOIN LATERAL (VALUES (ended.data_object_key, ended.multipart), (ended.index_object_key, false))
                             AS objects (object_key, multipart))
        SELECT count(*) FROM ended
    """


_CANCEL_ALL = [_cancel(table, "datas3t_id = %(datas3t_id)s") for table in _TABLES]


def cancel_all(conn: Connection, datas3t_id: int, late: timedelta) -> int:
    """Cancels what is pending in a datas3t; how many there were. `late`: how long a PUT may run after its URL ended."""
    return sum(_count(conn, each, {"datas3t_id": datas3t_id, "late": late}) for each in _CANCEL_ALL)


_CANCEL_EXPIRED = [
    _cancel(
        table,
        f"""id IN (SELECT id FROM {table} WHERE state = 'pending' AND expires_at < now()
                    ORDER BY expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)""",
    )
    for table in _TABLES
]


def cancel_expired(conn: Connection, limit: int, late: timedelta) -> int:
    """Cancels what was not completed before its URLs ended, `limit` of each kind; how many there were."""
    return sum(_count(conn, each, {"limit": limit, "late": late}) for each in _CANCEL_EXPIRED)


_FORGET: list[LiteralString] = [
    f"""DELETE FROM {table} WHERE id IN (
            SELECT id FROM {table} WHERE state <> 'pending' AND finished_at < now() - %s LIMIT %s)"""
    for table in _TABLES
]


def forget_finished(conn: Connection, age: timedelta, limit: int) -> int:
    """Deletes the rows that ended that long ago, `limit` of each kind; how many there were."""
    return sum(conn.execute(each, [age, limit]).rowcount for each in _FORGET)


_PENDING_KEYS: list[LiteralString] = [
    f"""SELECT objects.key
          FROM {table} CROSS JOIN LATERAL (VALUES (data_object_key), (index_object_key)) AS objects (key)
         WHERE datas3t_id = %s AND state = 'pending'"""
    for table in _TABLES
]


def pending_keys(conn: Connection, datas3t_id: int) -> set[str]:
    """The keys of the objects that what is pending in a datas3t will have."""
    return {key for each in _PENDING_KEYS for (key,) in conn.execute(each, [datas3t_id])}


def _count(conn: Connection, statement: LiteralString, values: dict[str, object]) -> int:
    found = conn.execute(statement, values).fetchone()
    assert found is not None
    return int(found[0])
