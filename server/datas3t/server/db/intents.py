"""Uploads, aggregates, table files and added checksums: tables whose columns for the state of an intent are the same.

The states and their transitions are described in `datas3t.server.intents`. Each transition is one statement here.
"""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from datetime import datetime, timedelta
from typing import Literal, LiteralString, NamedTuple

from datas3t.server.db import object_keys
from datas3t.server.db.pool import Connection

State = Literal["pending", "completed", "cancelled", "failed"]


# The tables of intents that have one object each, and the column with its key.
_OBJECT_ALONE: dict[LiteralString, LiteralString] = {
    "table_uploads": "data_object_key",
    "checksums_uploads": "checksums_object_key",
}


def _end(table: LiteralString, condition: LiteralString) -> LiteralString:
    """Return a statement that ends the pending intents of a table for which `condition` holds, and counts them.

    All objects that each may have are queued for deletion: checksums of an upload only if the client was to send them,
    of an aggregate always, because the server may have written them. A PUT whose URL was signed before may still arrive
    after that deletion, so they are deleted a second time once the URLs have expired and `%(put_grace)s` has passed.
    """
    if table in _OBJECT_ALONE:
        return _end_alone(table, condition)
    with_checksums: LiteralString = "with_checksums" if table == "datarange_uploads" else "true"
    return f"""
        WITH ended AS (
            UPDATE {table}
               SET state = %(state)s, failure_reason = %(reason)s, failure_message = %(message)s, finished_at = now()
             WHERE state = 'pending' AND {condition}
            RETURNING datas3t_id, data_object_key, index_object_key, {with_checksums} AS with_checksums, multipart,
                      s3_upload_id, expires_at),
        queued AS (
            INSERT INTO keys_to_delete (bucket_id, object_key, multipart, s3_upload_id, look_again_at, purge_versions)
            SELECT d.bucket_id, objects.object_key, objects.multipart, objects.s3_upload_id,
                   ended.expires_at + %(put_grace)s, %(purge_versions)s
              FROM ended
              JOIN datas3ts AS d ON d.id = ended.datas3t_id
             CROSS JOIN LATERAL (VALUES (true, data_object_key, multipart, s3_upload_id),
                                        (true, index_object_key, false, NULL),
                                        (with_checksums, {object_keys.CHECKSUMS}, false, NULL))
                             AS objects (is_there, object_key, multipart, s3_upload_id)
             WHERE is_there)
        SELECT count(*) FROM ended
    """


def _end_alone(table: LiteralString, condition: LiteralString) -> LiteralString:
    """Return what `_end` returns for intents that have one object each."""
    return f"""
        WITH ended AS (
            UPDATE {table}
               SET state = %(state)s, failure_reason = %(reason)s, failure_message = %(message)s, finished_at = now()
             WHERE state = 'pending' AND {condition}
            RETURNING datas3t_id, {_OBJECT_ALONE[table]} AS object_key, expires_at),
        queued AS (
            INSERT INTO keys_to_delete (bucket_id, object_key, look_again_at, purge_versions)
            SELECT d.bucket_id, object_key, expires_at + %(put_grace)s, %(purge_versions)s
              FROM ended JOIN datas3ts AS d ON d.id = ended.datas3t_id)
        SELECT count(*) FROM ended
    """


class Noted(NamedTuple):
    """When S3 was asked to join parts, and when it was asked before; None for never."""

    sent: datetime
    before: datetime | None


class IntentTable:
    """The statements that change one row of one of the tables.

    Each of them changes a row only while it is pending, and returns whether it was.
    """

    def __init__(self, table: LiteralString) -> None:
        self._set_s3_upload_id: LiteralString = f"""
            UPDATE {table} SET s3_upload_id = %s WHERE id = %s AND state = 'pending'
        """
        self._extend: LiteralString = f"""
            UPDATE {table} SET expires_at = greatest(expires_at, now() + %s) WHERE id = %s AND state = 'pending'
        """
        self._note_completion: LiteralString = f"""
            UPDATE {table} AS t SET completion_sent_at = clock_timestamp()
              FROM (SELECT id, completion_sent_at AS before FROM {table} WHERE id = %s FOR UPDATE) AS earlier
             WHERE t.id = earlier.id AND t.state = 'pending'
            RETURNING t.completion_sent_at, earlier.before
        """
        self._withdraw_completion: LiteralString = f"""
            UPDATE {table} SET completion_sent_at = %s WHERE id = %s AND completion_sent_at = %s
        """
        self._since_completion: LiteralString = f"""
            SELECT clock_timestamp() - completion_sent_at FROM {table} WHERE id = %s
        """
        self._complete: LiteralString = f"""
            UPDATE {table} SET state = 'completed', finished_at = now() WHERE id = %s AND state = 'pending'
        """
        self._end = _end(table, "id = %(id)s")

    def set_s3_upload_id(self, conn: Connection, intent_id: int, s3_upload_id: str) -> bool:
        """Store the id that S3 has given the intent's multipart upload."""
        return conn.execute(self._set_s3_upload_id, [s3_upload_id, intent_id]).rowcount == 1

    def extend(self, conn: Connection, intent_id: int, lifetime: timedelta) -> bool:
        """Let the intent expire when `lifetime` has passed from now, unless it expires later already."""
        return conn.execute(self._extend, [lifetime, intent_id]).rowcount == 1

    def note_completion(self, conn: Connection, intent_id: int) -> Noted | None:
        """Store that S3 is about to be asked to join the parts; return what was stored, None if it is not pending."""
        row = conn.execute(self._note_completion, [intent_id]).fetchone()
        return Noted(*row) if row else None

    def withdraw_completion(self, conn: Connection, intent_id: int, noted: Noted) -> None:
        """Store what was stored before the note, unless another call has asked S3 since."""
        conn.execute(self._withdraw_completion, [noted.before, intent_id, noted.sent])

    def since_completion(self, conn: Connection, intent_id: int) -> timedelta | None:
        """Return how long ago S3 was last asked to join the parts; None if it never was."""
        row = conn.execute(self._since_completion, [intent_id]).fetchone()
        return row[0] if row else None

    def complete(self, conn: Connection, intent_id: int) -> bool:
        """Mark the intent as completed; the caller inserts its datarange in the same transaction."""
        return conn.execute(self._complete, [intent_id]).rowcount == 1

    def cancel(self, conn: Connection, intent_id: int, put_grace: timedelta) -> bool:
        """Mark the intent as cancelled and queue its objects for deletion.

        `put_grace` is how long a PUT may go on after its URL has expired.
        """
        return _run_end(conn, self._end, "cancelled", put_grace, {"id": intent_id}) == 1

    def fail(self, conn: Connection, intent_id: int, put_grace: timedelta, *, reason: int, message: str) -> bool:
        """Mark the intent as failed and queue its objects for deletion; `reason` is an ErrorReason."""
        return _run_end(conn, self._end, "failed", put_grace, {"id": intent_id}, reason=reason, message=message) == 1


_TABLES: tuple[LiteralString, ...] = ("datarange_uploads", "aggregate_uploads", "table_uploads", "checksums_uploads")

_CANCEL_ALL = [_end(table, "datas3t_id = %(datas3t_id)s") for table in _TABLES]
_CANCEL_SOME = [
    _end(
        table,
        f"""id IN (SELECT id FROM {table} WHERE state = 'pending' AND datas3t_id = %(datas3t_id)s
                    LIMIT %(limit)s FOR UPDATE SKIP LOCKED)""",
    )
    for table in _TABLES
]


def cancel_all(
    conn: Connection, datas3t_id: int, put_grace: timedelta, *, limit: int | None = None, purge_versions: bool = False
) -> int:
    """Cancel pending intents of a datas3t, at most `limit` of each table, and return how many there were.

    `put_grace` is how long a PUT may go on after its URL has expired. With `purge_versions` the versions of their
    objects are removed as well. With a limit, rows that another transaction has locked are left out.
    """
    values: dict[str, object] = {"datas3t_id": datas3t_id, "limit": limit, "purge_versions": purge_versions}
    statements = _CANCEL_ALL if limit is None else _CANCEL_SOME
    return sum(_run_end(conn, each, "cancelled", put_grace, values) for each in statements)


_CANCEL_TABLE = _end("table_uploads", "datas3t_id = %(datas3t_id)s AND table_name = %(table)s")


def cancel_table(conn: Connection, datas3t_id: int, table: str, put_grace: timedelta) -> int:
    """Cancel pending files of a table, and return how many there were; `put_grace` as for `cancel_all`."""
    return _run_end(conn, _CANCEL_TABLE, "cancelled", put_grace, {"datas3t_id": datas3t_id, "table": table})


_CANCEL_CHECKSUMS = _end(
    "checksums_uploads",
    """datas3t_id = %(datas3t_id)s
       AND NOT EXISTS (SELECT FROM dataranges WHERE dataranges.id = checksums_uploads.datarange_id)""",
)


def cancel_checksums(conn: Connection, datas3t_id: int, put_grace: timedelta) -> int:
    """Cancel pending additions of checksums whose dataranges the transaction has deleted; return their number."""
    return _run_end(conn, _CANCEL_CHECKSUMS, "cancelled", put_grace, {"datas3t_id": datas3t_id})


_CANCEL_EXPIRED = [
    _end(
        table,
        f"""id IN (SELECT id FROM {table} WHERE state = 'pending' AND expires_at < now()
                    ORDER BY expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)""",
    )
    for table in _TABLES
]


def cancel_expired(conn: Connection, limit: int, put_grace: timedelta) -> int:
    """Cancel intents whose URLs have expired, at most `limit` of each table; return how many there were."""
    return sum(_run_end(conn, each, "cancelled", put_grace, {"limit": limit}) for each in _CANCEL_EXPIRED)


_FORGET_FINISHED: list[LiteralString] = [
    f"""DELETE FROM {table} WHERE id IN (
            SELECT id FROM {table} WHERE state <> 'pending' AND finished_at < now() - %s
             ORDER BY finished_at LIMIT %s)"""
    for table in _TABLES
]


def forget_finished(conn: Connection, age: timedelta, limit: int) -> int:
    """Delete rows that ended longer ago than `age`, at most `limit` of each table; return how many there were."""
    return sum(conn.execute(each, [age, limit]).rowcount for each in _FORGET_FINISHED)


def _run_end(
    conn: Connection,
    statement: LiteralString,
    state: State,
    put_grace: timedelta,
    values: dict[str, object],
    *,
    reason: int | None = None,
    message: str | None = None,
) -> int:
    """Run a statement of `_end`; return how many intents it ended."""
    outcome = {"state": state, "put_grace": put_grace, "reason": reason, "message": message, "purge_versions": False}
    row = conn.execute(statement, {**outcome, **values}).fetchone()
    assert row is not None
    return int(row[0])
