"""Aggregates: intents, as uploads are, that name the dataranges they will replace."""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from psycopg.rows import class_row

from datas3t.server.db.datarange_uploads import State
from datas3t.server.db.pool import Connection


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A row. `source_ids` are dataranges, by first key; `part_size` is in bytes, 0 where it is planned;
    `failure_reason` is an ErrorReason."""

    id: int
    datas3t_id: int
    first_key: int
    last_key: int
    data_size: int
    source_ids: list[int]
    planned: bool
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
    id, datas3t_id, first_key, last_key, data_size, source_ids, planned, data_object_key, index_object_key, part_size,
    multipart, s3_upload_id, state, failure_reason, failure_message, expires_at
"""

_INSERT: LiteralString = f"""
    INSERT INTO aggregate_uploads (datas3t_id, first_key, last_key, data_size, source_ids, planned, data_object_key,
                                   index_object_key, part_size, multipart, expires_at)
    VALUES (%(datas3t_id)s, %(first)s, %(last)s, %(data_size)s, %(source_ids)s, %(planned)s, %(data_key)s,
            %(index_key)s, %(part_size)s, %(multipart)s, %(expires_at)s)
    RETURNING {_COLUMNS}
"""


def insert(
    conn: Connection,
    datas3t_id: int,
    first: int,
    last: int,
    *,
    source_ids: Sequence[int],
    planned: bool,
    data_size: int,
    data_key: str,
    index_key: str,
    part_size: int,
    multipart: bool,
    expires_at: datetime,
) -> Aggregate:
    row = {"datas3t_id": datas3t_id, "first": first, "last": last, "source_ids": list(source_ids), "planned": planned}
    archive = {"data_size": data_size, "data_key": data_key, "index_key": index_key}
    parts = {"part_size": part_size, "multipart": multipart, "expires_at": expires_at}
    with conn.cursor(row_factory=class_row(Aggregate)) as cur:
        aggregate = cur.execute(_INSERT, {**row, **archive, **parts}).fetchone()
    assert aggregate is not None
    return aggregate


_BY_ID: LiteralString = f"SELECT {_COLUMNS} FROM aggregate_uploads WHERE id = %s"


def by_id(conn: Connection, aggregate_id: int) -> Aggregate | None:
    with conn.cursor(row_factory=class_row(Aggregate)) as cur:
        return cur.execute(_BY_ID, [aggregate_id]).fetchone()


_SET_S3_UPLOAD_ID: LiteralString = """
    UPDATE aggregate_uploads SET s3_upload_id = %s WHERE id = %s AND state = 'pending'
"""


def set_s3_upload_id(conn: Connection, aggregate_id: int, s3_upload_id: str) -> bool:
    """Whether the aggregate is still pending."""
    return conn.execute(_SET_S3_UPLOAD_ID, [s3_upload_id, aggregate_id]).rowcount == 1


_EXTEND: LiteralString = """
    UPDATE aggregate_uploads SET expires_at = greatest(expires_at, %s) WHERE id = %s AND state = 'pending'
"""


def extend(conn: Connection, aggregate_id: int, expires_at: datetime) -> bool:
    """Whether the aggregate is still pending; it then lives until `expires_at` at least."""
    return conn.execute(_EXTEND, [expires_at, aggregate_id]).rowcount == 1


_FINISH: LiteralString = """
    UPDATE aggregate_uploads
       SET state = %s, failure_reason = %s, failure_message = %s, finished_at = now()
     WHERE id = %s AND state = 'pending'
    RETURNING expires_at
"""


def finish(
    conn: Connection, aggregate_id: int, state: State, reason: int | None = None, message: str | None = None
) -> datetime | None:
    """Ends a pending aggregate, once: of several callers one gets when its URLs end, the others None."""
    ended = conn.execute(_FINISH, [state, reason, message, aggregate_id]).fetchone()
    return ended[0] if ended else None
