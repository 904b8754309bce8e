"""Checksums that are added to a datarange: one row each. What they have in common with uploads is in `intents`."""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString

from psycopg.rows import class_row

from datas3t.server.db.catalogues import CURRENT
from datas3t.server.db.dataranges import Datarange
from datas3t.server.db.intents import State
from datas3t.server.db.pool import Connection


@dataclass(frozen=True, slots=True)
class ChecksumsUpload:
    """A row. `data_object_key` is that of the datarange's archive."""

    id: int
    datas3t_id: int
    datarange_id: int
    first_key: int
    last_key: int
    data_object_key: str
    checksums_object_key: str
    state: State
    failure_reason: int | None
    failure_message: str | None
    expires_at: datetime

    @property
    def multipart(self) -> bool:
        """Whether they are sent in parts: never."""
        return False


_COLUMNS: LiteralString = """
    id, datas3t_id, datarange_id, first_key, last_key, data_object_key, checksums_object_key, state, failure_reason,
    failure_message, expires_at
"""

_INSERT: LiteralString = f"""
    INSERT INTO checksums_uploads (datas3t_id, datarange_id, first_key, last_key, data_object_key, checksums_object_key,
                                   expires_at)
    VALUES (%(datas3t_id)s, %(datarange_id)s, %(first)s, %(last)s, %(data_key)s, %(checksums_key)s,
            now() + %(lifetime)s)
        ON CONFLICT (datarange_id) WHERE state = 'pending' DO NOTHING
    RETURNING {_COLUMNS}
"""


def insert(conn: Connection, datas3t_id: int, row: Datarange, lifetime: timedelta) -> ChecksumsUpload | None:
    """Insert a pending row for a datarange; return None, and insert nothing, if it has one already."""
    keys = {"first": row.first_key, "last": row.last_key, "data_key": row.data_object_key}
    about = {"datas3t_id": datas3t_id, "datarange_id": row.id, "checksums_key": row.checksums_object_key}
    with conn.cursor(row_factory=class_row(ChecksumsUpload)) as cur:
        return cur.execute(_INSERT, {**about, **keys, "lifetime": lifetime}).fetchone()


_BY_ID: LiteralString = f"SELECT {_COLUMNS} FROM checksums_uploads WHERE id = %s"


def by_id(conn: Connection, upload_id: int) -> ChecksumsUpload | None:
    """Return the row with this id, in whatever state it is."""
    with conn.cursor(row_factory=class_row(ChecksumsUpload)) as cur:
        return cur.execute(_BY_ID, [upload_id]).fetchone()


_PENDING: LiteralString = "SELECT id FROM checksums_uploads WHERE datarange_id = %s AND state = 'pending'"


def pending(conn: Connection, datarange_id: int) -> int | None:
    """Return the id of the pending row of a datarange."""
    row = conn.execute(_PENDING, [datarange_id]).fetchone()
    return int(row[0]) if row else None


_COMMIT: LiteralString = f"""
    WITH completed AS (
        UPDATE checksums_uploads SET state = 'completed', finished_at = now()
         WHERE id = %(id)s AND state = 'pending'
        RETURNING datarange_id),
    changed AS (
        UPDATE dataranges
           SET checksums_etag = %(etag)s, checksums_added_at = now(), extension = coalesce(extension, %(extension)s)
         WHERE id = (SELECT datarange_id FROM completed) AND catalogue_id = {CURRENT} AND checksums_etag IS NULL
        RETURNING id)
    UPDATE datas3ts SET checksums_count = checksums_count + 1
     WHERE id = %(datas3t_id)s AND EXISTS (SELECT FROM changed)
"""


def commit(conn: Connection, datas3t_id: int, upload_id: int, *, etag: str, extension: str | None) -> bool:
    """Complete a row and give its datarange the checksums; return False, and change nothing, if it is not pending.

    The caller has locked the datas3t. Deleting a datarange ends its pending row, so the datarange is there.
    """
    values = {"datas3t_id": datas3t_id, "id": upload_id, "etag": etag, "extension": extension}
    return conn.execute(_COMMIT, values).rowcount == 1
