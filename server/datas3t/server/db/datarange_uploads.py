"""Uploads: intents, written before anything is done in the bucket. Finished ones stay, to answer repeated calls."""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, LiteralString

from psycopg.rows import class_row

from datas3t.server.db.pool import Connection

State = Literal["pending", "completed", "cancelled", "failed"]


@dataclass(frozen=True, slots=True)
class Upload:
    """A row. `part_size` is in bytes; `failure_reason` is an ErrorReason."""

    id: int
    datas3t_id: int
    first_key: int
    last_key: int
    data_size: int
    data_object_key: str
    index_object_key: str
    part_size: int
    multipart: bool
    s3_upload_id: str | None
    state: State
    failure_reason: int | None
    failure_message: str | None
    expires_at: datetime


_COLUMNS: LiteralString = """
    id, datas3t_id, first_key, last_key, data_size, data_object_key, index_object_key, part_size, multipart,
    s3_upload_id, state, failure_reason, failure_message, expires_at
"""

_INSERT: LiteralString = f"""
    INSERT INTO datarange_uploads (datas3t_id, first_key, last_key, data_size, data_object_key, index_object_key,
                                   part_size, multipart, expires_at)
    VALUES (%(datas3t_id)s, %(first)s, %(last)s, %(data_size)s, %(data_key)s, %(index_key)s,
            %(part_size)s, %(multipart)s, %(expires_at)s)
    RETURNING {_COLUMNS}
"""


def insert(
    conn: Connection,
    datas3t_id: int,
    first: int,
    last: int,
    *,
    data_size: int,
    data_key: str,
    index_key: str,
    part_size: int,
    multipart: bool,
    expires_at: datetime,
) -> Upload:
    row = {"datas3t_id": datas3t_id, "first": first, "last": last, "data_size": data_size, "data_key": data_key}
    parts = {"index_key": index_key, "part_size": part_size, "multipart": multipart, "expires_at": expires_at}
    with conn.cursor(row_factory=class_row(Upload)) as cur:
        upload = cur.execute(_INSERT, {**row, **parts}).fetchone()
    assert upload is not None
    return upload


_BY_ID: LiteralString = f"SELECT {_COLUMNS} FROM datarange_uploads WHERE id = %s"


def by_id(conn: Connection, upload_id: int) -> Upload | None:
    with conn.cursor(row_factory=class_row(Upload)) as cur:
        return cur.execute(_BY_ID, [upload_id]).fetchone()


_SET_S3_UPLOAD_ID: LiteralString = """
    UPDATE datarange_uploads SET s3_upload_id = %s WHERE id = %s AND state = 'pending'
"""


def set_s3_upload_id(conn: Connection, upload_id: int, s3_upload_id: str) -> bool:
    """Whether the upload is still pending."""
    return conn.execute(_SET_S3_UPLOAD_ID, [s3_upload_id, upload_id]).rowcount == 1


_EXTEND: LiteralString = """
    UPDATE datarange_uploads SET expires_at = greatest(expires_at, %s) WHERE id = %s AND state = 'pending'
"""


def extend(conn: Connection, upload_id: int, expires_at: datetime) -> bool:
    """Whether the upload is still pending; it then lives until `expires_at` at least."""
    return conn.execute(_EXTEND, [expires_at, upload_id]).rowcount == 1


_FINISH: LiteralString = """
    UPDATE datarange_uploads
       SET state = %s, failure_reason = %s, failure_message = %s, finished_at = now()
     WHERE id = %s AND state = 'pending'
    RETURNING expires_at
"""


def finish(
    conn: Connection, upload_id: int, state: State, reason: int | None = None, message: str | None = None
) -> datetime | None:
    """Ends a pending upload, once: of several callers one gets when its URLs end, the others None."""
    ended = conn.execute(_FINISH, [state, reason, message, upload_id]).fetchone()
    return ended[0] if ended else None
