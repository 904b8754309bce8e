"""Uploads of table files: one row each. What they have in common with uploads of archives is in `intents`."""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString, NamedTuple

from psycopg.rows import class_row

from datas3t.server.db.intents import State
from datas3t.server.db.pool import Connection
from datas3t.server.db.spans import BucketVersion
from datas3t.server.db.statement import Statement


@dataclass(frozen=True, slots=True)
class TableUpload:
    """A row. Sizes are in bytes. `replaces` are the ids of files whose place it takes when it completes."""

    id: int
    datas3t_id: int
    table_name: str
    first_key: int
    last_key: int
    counter: int
    data_size: int
    data_object_key: str
    replaces: list[int]
    state: State
    failure_reason: int | None
    failure_message: str | None
    expires_at: datetime

    @property
    def multipart(self) -> bool:
        """Whether it is sent in parts: never."""
        return False


class Begun(NamedTuple):
    """The row of an upload, and the bucket that its object goes to."""

    upload: TableUpload
    bucket: BucketVersion


_COLUMNS: LiteralString = """
    id, datas3t_id, table_name, first_key, last_key, counter, data_size, data_object_key, replaces, state,
    failure_reason, failure_message, expires_at
"""

# The object key is that of `names.table_file_key`.
_BEGIN = Statement(f"""
    WITH drawn AS (
        UPDATE datas3ts SET upload_counter = upload_counter + 1 WHERE name = %(name)s AND bucket_id IS NOT NULL
        RETURNING id, bucket_id, upload_counter),
    begun AS (
        INSERT INTO table_uploads (datas3t_id, table_name, first_key, last_key, counter, data_size, data_object_key,
                                   replaces, expires_at)
        SELECT id, %(table)s, %(first)s::bigint, %(last)s::bigint, upload_counter, %(size)s::bigint,
               %(prefix)s || lpad(upload_counter::text, greatest(12, length(upload_counter::text)), '0') || '.parquet',
               %(replaces)s::bigint[], now() + %(seconds)s * interval '1 second'
          FROM drawn
        RETURNING {_COLUMNS})
    SELECT b.id, b.xmin::text, begun.* FROM begun CROSS JOIN drawn JOIN s3_buckets AS b ON b.id = drawn.bucket_id
""")


def begin(
    conn: Connection,
    *,
    name: str,
    table: str,
    first: int,
    last: int,
    prefix: str,
    size: int,
    replaces: Sequence[int],
    lifetime: timedelta,
) -> Begun | None:
    """Insert a pending upload, which expires when `lifetime` has passed by the database's clock.

    Returns None if there is no such datas3t. `prefix` is what the object key begins with.
    """
    row = _BEGIN.row(
        conn,
        name=name,
        table=table,
        first=first,
        last=last,
        prefix=prefix,
        size=size,
        replaces="{" + ",".join(map(str, replaces)) + "}",
        seconds=lifetime.total_seconds(),
    )
    return Begun(TableUpload(*row[2:]), BucketVersion(row[0], row[1])) if row else None


_BY_ID: LiteralString = f"SELECT {_COLUMNS} FROM table_uploads WHERE id = %s"


def by_id(conn: Connection, upload_id: int) -> TableUpload | None:
    """Return the upload with this id, in whatever state it is."""
    with conn.cursor(row_factory=class_row(TableUpload)) as cur:
        return cur.execute(_BY_ID, [upload_id]).fetchone()


_COMPLETED: LiteralString = """
    SELECT id FROM table_uploads WHERE id = ANY(%s) AND datas3t_id = %s AND state = 'completed'
"""


def completed(conn: Connection, datas3t_id: int, ids: Sequence[int]) -> set[int]:
    """Return those of the ids that are completed uploads of a datas3t."""
    return {found for (found,) in conn.execute(_COMPLETED, [list(ids), datas3t_id])}
