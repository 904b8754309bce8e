"""Aggregates: one row each, with the ids of the dataranges that it replaces.

What they have in common with uploads is in `intents`.
"""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString

from psycopg.rows import class_row

from datas3t.server.db.catalogues import CURRENT
from datas3t.server.db.intents import State
from datas3t.server.db.pool import Connection


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A row. Sizes are in bytes.

    `source_ids` are the ids of the dataranges to be replaced, in key order. A planned aggregate is put together from
    the bytes of its sources by a part plan. Its `part_size` is 0 if its parts differ in size. Otherwise `part_size`,
    `s3_upload_id`, `failure_reason` and `with_checksums` are as for an upload.
    """

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
    with_checksums: bool


_COLUMNS: LiteralString = """
    id, datas3t_id, first_key, last_key, data_size, source_ids, planned, data_object_key, index_object_key, part_size,
    multipart, s3_upload_id, state, failure_reason, failure_message, expires_at, with_checksums
"""

_INSERT: LiteralString = f"""
    INSERT INTO aggregate_uploads (datas3t_id, first_key, last_key, data_size, source_ids, planned, data_object_key,
                                   index_object_key, part_size, multipart, with_checksums, expires_at)
    SELECT %(datas3t_id)s, %(first)s, %(last)s, %(data_size)s, %(source_ids)s, %(planned)s, %(data_key)s,
           %(index_key)s, %(part_size)s, %(multipart)s, %(with_checksums)s,
           now() + %(lifetime)s
     WHERE cardinality(%(source_ids)s::bigint[]) = (
           SELECT count(*) FROM dataranges
            WHERE catalogue_id = {CURRENT} AND first_key BETWEEN %(first)s AND %(last)s
              AND id = ANY(%(source_ids)s::bigint[]))
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
    with_checksums: bool,
    lifetime: timedelta,
) -> Aggregate | None:
    """Insert a pending aggregate, which expires when `lifetime` has passed by the database's clock.

    Returns None, and inserts nothing, if a source was deleted or aggregated in the meantime.
    """
    row = {"datas3t_id": datas3t_id, "first": first, "last": last, "source_ids": list(source_ids), "planned": planned}
    archive = {"data_size": data_size, "data_key": data_key, "index_key": index_key}
    parts = {"part_size": part_size, "multipart": multipart, "with_checksums": with_checksums, "lifetime": lifetime}
    with conn.cursor(row_factory=class_row(Aggregate)) as cur:
        return cur.execute(_INSERT, {**row, **archive, **parts}).fetchone()


_BY_ID: LiteralString = f"SELECT {_COLUMNS} FROM aggregate_uploads WHERE id = %s"


def by_id(conn: Connection, aggregate_id: int) -> Aggregate | None:
    """Return the aggregate with this id, in whatever state it is."""
    with conn.cursor(row_factory=class_row(Aggregate)) as cur:
        return cur.execute(_BY_ID, [aggregate_id]).fetchone()
