"""Dataranges. Two of one datas3t never overlap: the exclusion constraint is the judge, its index serves the lookups."""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import LiteralString

from psycopg.rows import class_row

from datas3t.server.db.pool import Connection


@dataclass(frozen=True, slots=True)
class Datarange:
    """A row. Sizes are bytes; ETags are without quotes."""

    id: int
    first_key: int
    last_key: int
    data_object_key: str
    index_object_key: str
    size_bytes: int
    entries_size_bytes: int
    data_etag: str
    index_etag: str

    @property
    def count(self) -> int:
        """How many datapoints it holds."""
        return self.last_key - self.first_key + 1


_COLUMNS: LiteralString = """
    id, first_key, last_key, data_object_key, index_object_key, size_bytes, entries_size_bytes, data_etag, index_etag
"""

_INSERT: LiteralString = """
    INSERT INTO dataranges (datas3t_id, first_key, last_key, data_object_key, index_object_key,
                            size_bytes, entries_size_bytes, data_etag, index_etag)
    VALUES (%(datas3t_id)s, %(first)s, %(last)s, %(data_key)s, %(index_key)s,
            %(size)s, %(entries_size)s, %(data_etag)s, %(index_etag)s)
    RETURNING id
"""


def insert(
    conn: Connection,
    datas3t_id: int,
    first: int,
    last: int,
    *,
    data_key: str,
    index_key: str,
    size: int,
    entries_size: int,
    data_etag: str,
    index_etag: str,
) -> int:
    """Its id. Raises, by the transaction, DATARANGE_OVERLAPS (about: datas3t, first, last)."""
    row = {"datas3t_id": datas3t_id, "first": first, "last": last, "data_key": data_key, "index_key": index_key}
    sizes = {"size": size, "entries_size": entries_size, "data_etag": data_etag, "index_etag": index_etag}
    found = conn.execute(_INSERT, {**row, **sizes}).fetchone()
    assert found is not None
    return int(found[0])


_PAGE: LiteralString = f"""
    SELECT {_COLUMNS} FROM dataranges
     WHERE datas3t_id = %s AND last_key > %s
     ORDER BY last_key LIMIT %s
"""


def page(conn: Connection, datas3t_id: int, after: int, limit: int) -> list[Datarange]:
    """In key order, those whose last key is above `after` (-1: from the first). The order of last keys is that of first
    keys, and a datarange that an aggregation made meanwhile is not passed over."""
    with conn.cursor(row_factory=class_row(Datarange)) as cur:
        return cur.execute(_PAGE, [datas3t_id, after, limit]).fetchall()


_OVERLAPPING: LiteralString = f"""
    SELECT {_COLUMNS} FROM dataranges
     WHERE int8range(datas3t_id, datas3t_id, '[]') && int8range(%(id)s::bigint, %(id)s::bigint, '[]')
       AND int8range(first_key - 1, last_key) && int8range(%(first)s::bigint - 1, %(last)s::bigint)
       AND last_key > %(after)s
     ORDER BY last_key LIMIT %(limit)s
"""


def overlapping(
    conn: Connection, datas3t_id: int, first: int, last: int, *, after: int = -1, limit: int | None = None
) -> list[Datarange]:
    """In key order, those with a key from `first` to `last`, and of these the ones whose last key is above `after`."""
    wanted = {"id": datas3t_id, "first": first, "last": last, "after": after, "limit": limit}
    with conn.cursor(row_factory=class_row(Datarange)) as cur:
        return cur.execute(_OVERLAPPING, wanted).fetchall()


_COUNT: LiteralString = "SELECT count(*) FROM dataranges WHERE datas3t_id = %s"


def count(conn: Connection, datas3t_id: int) -> int:
    found = conn.execute(_COUNT, [datas3t_id]).fetchone()
    assert found is not None
    return int(found[0])


_BOUNDS: LiteralString = "SELECT first_key, last_key FROM dataranges WHERE datas3t_id = %s ORDER BY first_key"


def bounds(conn: Connection, datas3t_id: int) -> list[tuple[int, int]]:
    """First and last keys, in key order: runs that touch are not joined."""
    return conn.execute(_BOUNDS, [datas3t_id]).fetchall()


def _remove(which: LiteralString) -> LiteralString:
    """Both objects are queued, with a second look where a PUT may still come by a URL that was signed before."""
    return f"""
        WITH gone AS (
            DELETE FROM dataranges WHERE datas3t_id = %(datas3t_id)s {which}
            RETURNING data_object_key, index_object_key, created_at + %(last_put)s AS look_again_at)
        INSERT INTO keys_to_delete (bucket_id, object_key, look_again_at)
        SELECT %(bucket_id)s, object_key, look_again_at
          FROM gone CROSS JOIN LATERAL (VALUES (data_object_key), (index_object_key)) AS objects (object_key)
    """


_DELETE = _remove("AND first_key = %(first)s AND last_key = %(last)s")


def delete(conn: Connection, datas3t_id: int, bucket_id: int, first: int, last: int, last_put: timedelta) -> bool:
    """Deletes the one with exactly these keys and queues its objects; whether it was there. `last_put`: how long
    after the commit a PUT of its upload may come."""
    keys = {"first": first, "last": last}
    return (
        conn.execute(_DELETE, {"datas3t_id": datas3t_id, "bucket_id": bucket_id, "last_put": last_put, **keys}).rowcount
        > 0
    )


_CLEAR = _remove("")


def clear(conn: Connection, datas3t_id: int, bucket_id: int, last_put: timedelta) -> int:
    """Deletes all of a datas3t and queues their objects; how many objects that are, two for each datarange. `last_put`
    as above."""
    return conn.execute(_CLEAR, {"datas3t_id": datas3t_id, "bucket_id": bucket_id, "last_put": last_put}).rowcount


_DATA_KEYS: LiteralString = "SELECT data_object_key FROM dataranges WHERE datas3t_id = %s"


def data_keys(conn: Connection, datas3t_id: int) -> list[str]:
    """The object keys of all archives of a datas3t."""
    return [key for (key,) in conn.execute(_DATA_KEYS, [datas3t_id])]


_INSERT_FITTING: LiteralString = f"""
    INSERT INTO dataranges (datas3t_id, first_key, last_key, data_object_key, index_object_key,
                            size_bytes, entries_size_bytes, data_etag, index_etag)
    SELECT %s, new.*
      FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::text[],
                  %s::text[]) AS new
        ON CONFLICT DO NOTHING
    RETURNING {_COLUMNS}
"""


def insert_fitting(conn: Connection, datas3t_id: int, rows: Sequence[Datarange]) -> list[Datarange]:
    """Inserts, but for those that overlap one which is there; answers those inserted. Their ids are the database's."""
    columns = [
        [row.first_key for row in rows],
        [row.last_key for row in rows],
        [row.data_object_key for row in rows],
        [row.index_object_key for row in rows],
        [row.size_bytes for row in rows],
        [row.entries_size_bytes for row in rows],
        [row.data_etag for row in rows],
        [row.index_etag for row in rows],
    ]
    with conn.cursor(row_factory=class_row(Datarange)) as cur:
        return cur.execute(_INSERT_FITTING, [datas3t_id, *columns]).fetchall()


_DELETE_BY_IDS: LiteralString = f"DELETE FROM dataranges WHERE id = ANY(%s) RETURNING {_COLUMNS}"


def delete_by_ids(conn: Connection, ids: Sequence[int]) -> list[Datarange]:
    """Those that were still there; the caller queues their objects."""
    with conn.cursor(row_factory=class_row(Datarange)) as cur:
        return cur.execute(_DELETE_BY_IDS, [list(ids)]).fetchall()
