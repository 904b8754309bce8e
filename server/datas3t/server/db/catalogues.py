"""Cleared catalogues: all dataranges and table files that a datas3t had when it was cleared, deleted in batches.

A datas3t names its current catalogue. Clearing gives it a new, empty one, in the time of one row. From then on no
reader sees the old dataranges, and new ones may have their keys. Whoever deletes a batch holds the catalogue's row, so
several servers do not get in each other's way, and an interrupted clear is continued by the next sweep of any reaper.

A row with a negative id is a table that was dropped: see `dropped_tables`.
"""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from datetime import timedelta
from typing import LiteralString

from datas3t.server.db import object_keys
from datas3t.server.db.pool import Connection

# The current catalogue, for statements with the parameter `datas3t_id`. Each of them looks it up by itself, so it sees
# all dataranges or none of them, whenever the datas3t is cleared.
CURRENT: LiteralString = "(SELECT catalogue_id FROM datas3ts WHERE id = %(datas3t_id)s)"

_CLEAR: LiteralString = """
    WITH cleared AS (
        INSERT INTO cleared_catalogues (id, datas3t_id, bucket_id, last_put)
        SELECT catalogue_id, id, bucket_id, %(last_put)s FROM datas3ts WHERE id = %(datas3t_id)s)
    UPDATE datas3ts
       SET catalogue_id = nextval('catalogue_ids'), datarange_count = 0, datapoint_count = 0, total_bytes = 0,
           checksums_count = 0, lowest_key = NULL, highest_key = NULL, table_file_count = 0
     WHERE id = %(datas3t_id)s
"""


def clear(conn: Connection, datas3t_id: int, last_put: timedelta) -> None:
    """Give a datas3t, whose row the caller has locked, a new catalogue. `delete_some` deletes the old one.

    `last_put` is how long after the commit of a datarange a PUT of its upload can arrive.
    """
    conn.execute(_CLEAR, {"datas3t_id": datas3t_id, "last_put": last_put})


# The batch begins where the last one ended, so it does not look at the rows that are deleted already. The reaper
# deletes objects once more at `look_again_at`, when no PUT with a URL of their upload can arrive any more.
_DELETE_SOME: LiteralString = f"""
    WITH catalogue AS (
        SELECT * FROM cleared_catalogues WHERE id > 0 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED),
        batch AS (
        SELECT d.* FROM catalogue CROSS JOIN LATERAL (
            SELECT id, first_key FROM dataranges
             WHERE catalogue_id = catalogue.id AND first_key > deleted_key
             ORDER BY first_key LIMIT %(limit)s) AS d),
        deleted AS (
        DELETE FROM dataranges WHERE id IN (SELECT id FROM batch)
        RETURNING data_object_key, index_object_key, greatest(created_at, checksums_added_at) AS last_url_at),
        batch_of_files AS (
        SELECT f.id FROM catalogue CROSS JOIN LATERAL (
            SELECT id FROM table_files WHERE catalogue_id = catalogue.id
             ORDER BY table_name, counter LIMIT %(limit)s) AS f),
        files AS (
        DELETE FROM table_files WHERE id IN (SELECT id FROM batch_of_files) RETURNING object_key, created_at),
        queued_files AS (
        INSERT INTO keys_to_delete (bucket_id, object_key, look_again_at, purge_versions)
        SELECT bucket_id, object_key, created_at + last_put, purge_versions FROM catalogue CROSS JOIN files
         WHERE object_key <> ''),
        queued AS (
        INSERT INTO keys_to_delete (bucket_id, object_key, look_again_at, purge_versions)
        SELECT bucket_id, object_key, last_url_at + last_put, purge_versions
          FROM catalogue CROSS JOIN deleted
         CROSS JOIN LATERAL {object_keys.ALL}),
        numbers AS (
        SELECT greatest(count(*), (SELECT count(*) FROM batch_of_files)) AS found, max(first_key) AS last FROM batch),
        finished AS (
        DELETE FROM cleared_catalogues USING numbers
         WHERE id IN (SELECT id FROM catalogue) AND numbers.found < %(limit)s),
        continued AS (
        UPDATE cleared_catalogues SET deleted_key = coalesce(numbers.last, deleted_key) FROM numbers
         WHERE id IN (SELECT id FROM catalogue) AND numbers.found = %(limit)s)
    SELECT EXISTS (SELECT FROM catalogue)
"""


def delete_some(conn: Connection, limit: int) -> bool:
    """Delete up to `limit` dataranges and as many table files of a cleared catalogue, and queue their objects.

    Returns whether there was a cleared catalogue.
    """
    row = conn.execute(_DELETE_SOME, {"limit": limit}).fetchone()
    assert row is not None
    return bool(row[0])


_PURGE: LiteralString = "UPDATE cleared_catalogues SET purge_versions = true WHERE datas3t_id = %s"


def purge(conn: Connection, datas3t_id: int) -> None:
    """Have the versions of the objects in all cleared catalogues of a datas3t removed as well."""
    conn.execute(_PURGE, [datas3t_id])


_ARE_IN: LiteralString = "SELECT EXISTS (SELECT FROM cleared_catalogues WHERE bucket_id = %s)"


def are_in(conn: Connection, bucket_id: int) -> bool:
    """Whether a cleared catalogue has objects in a bucket."""
    row = conn.execute(_ARE_IN, [bucket_id]).fetchone()
    assert row is not None
    return bool(row[0])
