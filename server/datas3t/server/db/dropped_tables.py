"""Tables that were dropped. Their files are gone for readers at once, and the reaper deletes them in batches.

A drop is a row of `table_files` with a negative counter. It says that all files of its table with smaller ids were
dropped, so it takes the time of one row, and readers see all of the table or nothing. Its counter is its id, negated,
so that the index finds the last drop of a table first. A row of `cleared_catalogues` with the same number as its id
tells the reaper, which deletes both in the end.
"""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from datetime import timedelta
from typing import LiteralString

from datas3t.server.db.catalogues import CURRENT
from datas3t.server.db.pool import Connection


def dropped_up_to(catalogue: LiteralString, table: LiteralString) -> LiteralString:
    """Return SQL for the id below which all files of a table were dropped; NULL if none were."""
    return f"""
        (SELECT -counter FROM table_files WHERE catalogue_id = {catalogue} AND table_name = {table} AND counter < 0
          ORDER BY counter LIMIT 1)
    """


def are_there(catalogue: LiteralString, table: LiteralString) -> LiteralString:
    """Return a condition for rows of a table: they are files, and not dropped."""
    return f"counter > 0 AND id > coalesce({dropped_up_to(catalogue, table)}, 0)"


_COUNT: LiteralString = f"""
    SELECT count(*) FROM table_files
     WHERE catalogue_id = {CURRENT} AND table_name = %(table)s AND {are_there(CURRENT, "%(table)s")}
"""


def count(conn: Connection, datas3t_id: int, table: str) -> int:
    """Return how many files a table has."""
    row = conn.execute(_COUNT, {"datas3t_id": datas3t_id, "table": table}).fetchone()
    assert row is not None
    return int(row[0])


# The row of the drop is no file, so the trigger must not count it.
_DROP: LiteralString = f"""
    WITH number AS (SELECT nextval('table_file_ids') AS id),
    dropped AS (
        INSERT INTO table_files (id, catalogue_id, table_name, first_key, last_key, counter, object_key, size_bytes,
                                 etag)
        SELECT id, {CURRENT}, %(table)s, 0, 0, -id, '', 0, ''
          FROM number
         WHERE (SELECT id FROM table_files
                 WHERE catalogue_id = {CURRENT} AND table_name = %(table)s AND {are_there(CURRENT, "%(table)s")}
                 ORDER BY counter LIMIT 1) IS NOT NULL
        RETURNING id),
    queued AS (
        INSERT INTO cleared_catalogues (id, datas3t_id, bucket_id, last_put)
        SELECT -id, %(datas3t_id)s, %(bucket_id)s, %(last_put)s FROM dropped)
    UPDATE datas3ts SET table_file_count = table_file_count - 1
     WHERE id = %(datas3t_id)s AND EXISTS (SELECT FROM dropped)
"""


def drop(conn: Connection, datas3t_id: int, bucket_id: int, table: str, last_put: timedelta) -> bool:
    """Drop all files that a table has now, and return whether there are any; the caller has locked the datas3t.

    `delete_some` deletes them. `last_put` is as for `catalogues.clear`.
    """
    row = {"datas3t_id": datas3t_id, "bucket_id": bucket_id, "table": table, "last_put": last_put}
    return conn.execute(_DROP, row).rowcount == 1


# The datas3t is locked before its files, in the order that all transactions keep, because the trigger changes its row.
# If it was cleared since, the row of the drop is gone or in a catalogue that is not counted. Others may delete files of
# the batch at the same time, so whether it was the last one is seen by what it has found.
_DELETE_SOME: LiteralString = """
    WITH drops AS (
        SELECT * FROM cleared_catalogues WHERE id < 0 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED),
    locked AS MATERIALIZED (
        SELECT catalogue_id FROM datas3ts WHERE id = (SELECT datas3t_id FROM drops) FOR NO KEY UPDATE),
    dropped AS (
        SELECT f.id, f.catalogue_id, f.table_name, f.catalogue_id = locked.catalogue_id AS is_counted
          FROM locked CROSS JOIN drops JOIN table_files AS f ON f.id = -drops.id),
    batch AS (
        SELECT f.* FROM drops CROSS JOIN dropped CROSS JOIN LATERAL (
            SELECT id, counter FROM table_files
             WHERE catalogue_id = dropped.catalogue_id AND table_name = dropped.table_name
               AND counter > greatest(drops.deleted_key, 0) AND id < dropped.id
             ORDER BY counter LIMIT %(limit)s) AS f),
    deleted AS (
        DELETE FROM table_files WHERE id IN (SELECT id FROM batch) RETURNING object_key, created_at),
    queued AS (
        INSERT INTO keys_to_delete (bucket_id, object_key, look_again_at, purge_versions)
        SELECT bucket_id, object_key, created_at + last_put, purge_versions FROM drops CROSS JOIN deleted),
    numbers AS (SELECT count(*) AS found, max(counter) AS last FROM batch),
    continued AS (
        UPDATE cleared_catalogues SET deleted_key = numbers.last FROM numbers
         WHERE id IN (SELECT id FROM drops) AND numbers.found = %(limit)s),
    finished AS (
        DELETE FROM cleared_catalogues USING numbers
         WHERE id IN (SELECT id FROM drops) AND numbers.found < %(limit)s),
    removed AS (
        DELETE FROM table_files USING numbers
         WHERE id IN (SELECT id FROM dropped) AND numbers.found < %(limit)s),
    uncounted AS (
        UPDATE datas3ts SET table_file_count = table_file_count + 1 FROM numbers
         WHERE id = (SELECT datas3t_id FROM drops) AND numbers.found < %(limit)s
           AND (SELECT is_counted FROM dropped))
    SELECT EXISTS (SELECT FROM drops)
"""


def delete_some(conn: Connection, limit: int) -> bool:
    """Delete up to `limit` files of a table that was dropped, and queue their objects; return whether there was one."""
    row = conn.execute(_DELETE_SOME, {"limit": limit}).fetchone()
    assert row is not None
    return bool(row[0])
