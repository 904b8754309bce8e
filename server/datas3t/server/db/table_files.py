"""The table of table files. Files of one table may overlap: for a key, the greatest counter counts.

A row belongs to a catalogue. The functions take the id of a datas3t, and use its current catalogue.

Rows with a negative counter are not files: see `dropped_tables`. Statements leave out what was dropped.
"""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from collections.abc import Sequence
from datetime import timedelta
from typing import LiteralString, NamedTuple

from datas3t.server.db.catalogues import CURRENT
from datas3t.server.db.dropped_tables import are_there
from datas3t.server.db.pool import Connection
from datas3t.server.db.spans import BucketVersion
from datas3t.server.db.statement import Statement


class TableFile(NamedTuple):
    """A row. The ETag has no quotes."""

    id: int
    first_key: int
    last_key: int
    counter: int
    object_key: str
    size_bytes: int
    etag: str


class Page(NamedTuple):
    """Files of a table in order of their counters, the bucket that they are in, and the catalogue they belong to."""

    bucket: BucketVersion
    catalogue_id: int
    rows: list[TableFile]


_COLUMNS: LiteralString = "id, first_key, last_key, counter, object_key, size_bytes, etag"

# The index of 0011 finds files by this, also where they overlap.
_IN_SPAN: LiteralString = """
    int8range(first_key - 1, last_key) && int8range(%(first)s::bigint - 1, %(last)s::bigint)
"""

# All files of the span are found by the keys, then those of the page are taken. For the span of all keys, the index by
# counters has them in order.
_PAGE_OF_SPAN = Statement(f"""
    SELECT b.id, b.xmin::text, d.catalogue_id, found.*
      FROM datas3ts AS d
      JOIN s3_buckets AS b ON b.id = d.bucket_id
      LEFT JOIN LATERAL (
           WITH of_span AS MATERIALIZED (
               SELECT {_COLUMNS} FROM table_files
                WHERE int8range(catalogue_id, catalogue_id, '[]') && int8range(d.catalogue_id, d.catalogue_id, '[]')
                  AND {_IN_SPAN} AND table_name = %(table)s AND counter > %(after)s::bigint
                  AND {are_there("d.catalogue_id", "%(table)s")})
           SELECT * FROM of_span ORDER BY counter LIMIT %(limit)s) AS found ON true
     WHERE d.name = %(name)s
""")
_PAGE_OF_ALL = Statement(f"""
    SELECT b.id, b.xmin::text, d.catalogue_id, found.*
      FROM datas3ts AS d
      JOIN s3_buckets AS b ON b.id = d.bucket_id
      LEFT JOIN LATERAL (
           SELECT {_COLUMNS} FROM table_files
            WHERE catalogue_id = d.catalogue_id AND table_name = %(table)s AND counter > (SELECT %(after)s::bigint)
              AND {are_there("d.catalogue_id", "%(table)s")}
            ORDER BY counter LIMIT %(limit)s) AS found ON true
     WHERE d.name = %(name)s
""")


def page(
    conn: Connection, name: str, table: str, span: tuple[int, int] | None, *, after: int, limit: int
) -> Page | None:
    """Return up to `limit` files of a table with a counter above `after`; None if there is no such datas3t.

    Those that may have rows of the span, its first and last key; None for all keys.
    """
    if span is None:
        rows = _PAGE_OF_ALL.rows(conn, name=name, table=table, after=after, limit=limit)
    else:
        rows = _PAGE_OF_SPAN.rows(conn, name=name, table=table, first=span[0], last=span[1], after=after, limit=limit)
    if not rows:
        return None
    bucket_id, version, catalogue_id, first_column = rows[0][:4]
    files = [] if first_column is None else [TableFile._make(row[3:]) for row in rows]
    return Page(BucketVersion(bucket_id, version), catalogue_id, files)


# The order makes the planner use the index, where it would otherwise look for any row in the order of the table.
_EXISTS: LiteralString = f"""
    SELECT 1 FROM table_files
     WHERE catalogue_id = %(catalogue_id)s AND table_name = %(table)s
       AND {are_there("%(catalogue_id)s", "%(table)s")}
     ORDER BY counter LIMIT 1
"""


def exist(conn: Connection, catalogue_id: int, table: str) -> bool:
    """Whether a catalogue has files of a table."""
    return conn.execute(_EXISTS, {"catalogue_id": catalogue_id, "table": table}).fetchone() is not None


class Table(NamedTuple):
    """A table and its totals. Sizes are in bytes. One that was dropped has no files, and None for all but its name."""

    name: str
    file_count: int
    total_bytes: int
    lowest_key: int
    highest_key: int


# The next name is looked up by the index, so files of other tables are not read. The totals read each file of a table
# once, about 4 million in a second.
_TABLES: LiteralString = f"""
    WITH RECURSIVE names (name, number) AS (
        (SELECT table_name, 1 FROM table_files WHERE catalogue_id = {CURRENT} AND table_name > %(after)s
          ORDER BY table_name LIMIT 1)
         UNION ALL
        SELECT (SELECT table_name FROM table_files WHERE catalogue_id = {CURRENT} AND table_name > names.name
                 ORDER BY table_name LIMIT 1), number + 1
          FROM names WHERE names.name IS NOT NULL AND number < %(limit)s)
    SELECT names.name, totals.*
      FROM names CROSS JOIN LATERAL (
           SELECT count(*), sum(size_bytes)::bigint, min(first_key), max(last_key)
             FROM table_files
            WHERE catalogue_id = {CURRENT} AND table_name = names.name
              AND {are_there(CURRENT, "names.name")}) AS totals
     WHERE names.name IS NOT NULL ORDER BY names.name
"""


def tables(conn: Connection, datas3t_id: int, after: str, limit: int) -> list[Table]:
    """Return up to `limit` tables of a datas3t after the name `after`, in order of their names.

    Those that were dropped are among them, without files, until the reaper has deleted theirs.
    """
    rows = conn.execute(_TABLES, {"datas3t_id": datas3t_id, "after": after, "limit": limit})
    return [Table(*row) for row in rows]


class Replacing(NamedTuple):
    """What stands against a file that is to replace others.

    `found` of them exist. `beyond` is one with a key outside the span of the new file. `newer` is another file of the
    span whose rows would count less than before. Both are ids, None if there is none.
    """

    found: int
    beyond: int | None
    newer: int | None


_REPLACING: LiteralString = f"""
    WITH replaced AS MATERIALIZED (
        SELECT id, first_key, last_key, counter FROM table_files
         WHERE id = ANY(%(ids)s::bigint[]) AND catalogue_id = {CURRENT} AND table_name = %(table)s
           AND {are_there(CURRENT, "%(table)s")})
    SELECT (SELECT count(*) FROM replaced),
           (SELECT id FROM replaced WHERE first_key < %(first)s OR last_key > %(last)s LIMIT 1),
           (SELECT id FROM (
                SELECT id, counter, first_key, last_key FROM table_files
                 WHERE catalogue_id = {CURRENT} AND table_name = %(table)s
                   AND {are_there(CURRENT, "%(table)s")}
                 UNION ALL
                SELECT id, counter, first_key, last_key FROM table_uploads
                 WHERE datas3t_id = %(datas3t_id)s AND table_name = %(table)s AND state = 'pending') AS others
             WHERE counter > (SELECT min(counter) FROM replaced) AND counter < %(below)s
               AND first_key <= %(last)s AND last_key >= %(first)s AND id <> ALL(%(ids)s::bigint[])
             LIMIT 1)
"""


def replacing(
    conn: Connection, datas3t_id: int, table: str, first: int, last: int, *, ids: Sequence[int], below: int
) -> Replacing:
    """Return what stands against a file with this span and the counter `below`, if it replaces those with the ids.

    The caller has locked the datas3t.
    """
    keys = {"datas3t_id": datas3t_id, "table": table, "first": first, "last": last}
    row = conn.execute(_REPLACING, {**keys, "ids": list(ids), "below": below}).fetchone()
    assert row is not None
    return Replacing(*row)


_COMMIT = Statement("""
    WITH locked AS (
        SELECT id, catalogue_id FROM datas3ts WHERE id = %(datas3t_id)s AND bucket_id IS NOT NULL FOR NO KEY UPDATE),
    completed AS (
        UPDATE table_uploads SET state = 'completed', finished_at = now()
         WHERE id = %(upload_id)s AND state = 'pending' AND datas3t_id = (SELECT id FROM locked)
        RETURNING id, table_name, first_key, last_key, counter, data_object_key, data_size)
    INSERT INTO table_files (id, catalogue_id, table_name, first_key, last_key, counter, object_key, size_bytes, etag)
    SELECT completed.id, catalogue_id, table_name, first_key, last_key, counter, data_object_key, data_size, %(etag)s
      FROM locked CROSS JOIN completed
    RETURNING id
""")


def commit(conn: Connection, datas3t_id: int, upload_id: int, etag: str) -> bool:
    """Complete an upload and insert its file; return False, and change nothing, if it is not pending any more."""
    return _COMMIT.row(conn, datas3t_id=datas3t_id, upload_id=upload_id, etag=etag) is not None


_DELETE_BY_IDS: LiteralString = f"""
    DELETE FROM table_files WHERE id = ANY(%(ids)s) AND catalogue_id = {CURRENT} RETURNING object_key
"""


def delete_by_ids(conn: Connection, datas3t_id: int, ids: Sequence[int]) -> list[str]:
    """Delete files of a datas3t and return their object keys, which the caller queues."""
    return [key for (key,) in conn.execute(_DELETE_BY_IDS, {"datas3t_id": datas3t_id, "ids": list(ids)})]


# `look_again_at` as for dataranges: then no PUT with a URL of the upload can arrive any more.
_QUEUE_DELETED: LiteralString = """
    queued AS (
        INSERT INTO keys_to_delete (bucket_id, object_key, look_again_at, purge_versions)
        SELECT %(bucket_id)s, object_key, created_at + %(last_put)s, %(purge_versions)s FROM deleted)
    SELECT count(*) FROM deleted
"""
_DELETE_WITHIN: LiteralString = f"""
    WITH deleted AS (
        DELETE FROM table_files
         WHERE int8range(catalogue_id, catalogue_id, '[]') && int8range({CURRENT}, {CURRENT}, '[]')
           AND int8range(first_key - 1, last_key) <@ int8range(%(first)s::bigint - 1, %(last)s::bigint)
           AND counter > 0
        RETURNING object_key, created_at),
    {_QUEUE_DELETED}
"""


def delete_within(
    conn: Connection,
    datas3t_id: int,
    bucket_id: int,
    first: int,
    last: int,
    last_put: timedelta,
    *,
    purge_versions: bool = False,
) -> int:
    """Delete the files of all tables whose keys are all from `first` to `last`, queue their objects, and count them.

    The other arguments are those of `dataranges.delete`.
    """
    row = {"datas3t_id": datas3t_id, "bucket_id": bucket_id, "first": first, "last": last}
    return _counted(conn, _DELETE_WITHIN, {**row, "last_put": last_put, "purge_versions": purge_versions})


def _counted(conn: Connection, statement: LiteralString, values: dict[str, object]) -> int:
    row = conn.execute(statement, values).fetchone()
    assert row is not None
    return int(row[0])
