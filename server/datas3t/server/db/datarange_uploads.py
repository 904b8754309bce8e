"""Uploads: one row each. What they have in common with aggregates is in `intents`."""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString

from psycopg.rows import class_row

from datas3t.server.db.intents import State
from datas3t.server.db.pool import Connection


@dataclass(frozen=True, slots=True)
class Upload:
    """A row. Sizes are in bytes.

    `part_size` is the size of each part but the last, or `data_size` if the archive goes up in one PUT. `s3_upload_id`
    is None until S3 has opened the multipart upload. `failure_reason` is an ErrorReason.
    """

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
            %(part_size)s, %(multipart)s, now() + %(lifetime)s)
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
    lifetime: timedelta,
) -> Upload:
    """Insert a pending upload, which expires when `lifetime` has passed by the database's clock."""
    row = {"datas3t_id": datas3t_id, "first": first, "last": last, "data_size": data_size, "data_key": data_key}
    parts = {"index_key": index_key, "part_size": part_size, "multipart": multipart, "lifetime": lifetime}
    with conn.cursor(row_factory=class_row(Upload)) as cur:
        upload = cur.execute(_INSERT, {**row, **parts}).fetchone()
    assert upload is not None
    return upload


_BY_ID: LiteralString = f"SELECT {_COLUMNS} FROM datarange_uploads WHERE id = %s"


def by_id(conn: Connection, upload_id: int) -> Upload | None:
    """Return the upload with this id, in whatever state it is."""
    with conn.cursor(row_factory=class_row(Upload)) as cur:
        return cur.execute(_BY_ID, [upload_id]).fetchone()
