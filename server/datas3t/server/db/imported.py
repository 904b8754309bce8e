"""What an import asks about the objects that it has listed, and the dataranges that it adds.

The statements take the objects of a page or a batch, so memory and time do not depend on how many a datas3t has.
"""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from collections.abc import Mapping, Sequence
from typing import LiteralString

from datas3t.server.db import object_keys
from datas3t.server.db.catalogues import CURRENT
from datas3t.server.db.pool import Connection

_RESERVED: LiteralString = f"""
    SELECT object_key
      FROM (SELECT data_object_key, index_object_key FROM datarange_uploads
             WHERE datas3t_id = %(datas3t_id)s AND state = 'pending'
             UNION ALL
            SELECT data_object_key, index_object_key FROM aggregate_uploads
             WHERE datas3t_id = %(datas3t_id)s AND state = 'pending') AS intents
     CROSS JOIN LATERAL {object_keys.ALL}
"""

_PENDING: LiteralString = f"SELECT key FROM unnest(%(keys)s::text[]) AS key WHERE key IN ({_RESERVED})"


def pending(conn: Connection, datas3t_id: int, keys: Sequence[str]) -> set[str]:
    """Return those of the object keys that pending intents of the datas3t have reserved."""
    return {key for (key,) in conn.execute(_PENDING, {"datas3t_id": datas3t_id, "keys": list(keys)})}


_COMMITTED: LiteralString = f"""
    SELECT data_object_key FROM dataranges WHERE catalogue_id = {CURRENT} AND data_object_key = ANY(%(keys)s)
"""


def committed(conn: Connection, datas3t_id: int, keys: Sequence[str]) -> set[str]:
    """Return those of the keys of archives that are dataranges."""
    return {key for (key,) in conn.execute(_COMMITTED, {"datas3t_id": datas3t_id, "keys": list(keys)})}


_CLEARED: LiteralString = """
    SELECT r.data_object_key
      FROM datas3ts AS d
      JOIN cleared_catalogues AS c ON c.datas3t_id = d.id
      JOIN dataranges AS r ON r.catalogue_id = c.id
     WHERE d.name = %s AND c.bucket_id = %s AND r.data_object_key = ANY(%s)
"""


def cleared(conn: Connection, name: str, bucket_id: int, keys: Sequence[str]) -> set[str]:
    """Return those of the keys of archives that are in cleared catalogues of the datas3t, and so may be deleted."""
    return {key for (key,) in conn.execute(_CLEARED, [name, bucket_id, list(keys)])}


_OVERLAPPED: LiteralString = f"""
    SELECT new.first, new.last, old.first_key, old.last_key
      FROM unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) AS new (first, last)
     CROSS JOIN LATERAL (
           SELECT first_key, last_key FROM dataranges
            WHERE catalogue_id = {CURRENT} AND last_key >= new.first
            ORDER BY last_key LIMIT 1) AS old
     WHERE old.first_key <= new.last
"""


def overlapped(
    conn: Connection, datas3t_id: int, spans: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], tuple[int, int]]:
    """Return a datarange with a key in common, as its first and last key, for each of the spans that has one."""
    parameters = {"datas3t_id": datas3t_id, "firsts": [span[0] for span in spans], "lasts": [span[1] for span in spans]}
    rows = conn.execute(_OVERLAPPED, parameters)
    return {(first, last): (old_first, old_last) for first, last, old_first, old_last in rows}


_INSERT: LiteralString = f"""
    WITH new AS (
        SELECT * FROM unnest(%(firsts)s::bigint[], %(lasts)s::bigint[], %(data_keys)s::text[], %(index_keys)s::text[],
                             %(sizes)s::bigint[], %(entries_sizes)s::bigint[], %(data_etags)s::text[],
                             %(index_etags)s::text[], %(checksums_etags)s::text[])
                 AS new (first_key, last_key, data_object_key, index_object_key, size_bytes, entries_size_bytes,
                         data_etag, index_etag, checksums_etag)),
    inserted AS (
        INSERT INTO dataranges (catalogue_id, first_key, last_key, data_object_key, index_object_key, size_bytes,
                                entries_size_bytes, data_etag, index_etag, checksums_etag)
        SELECT {CURRENT}, new.* FROM new
         WHERE data_object_key NOT IN ({_RESERVED})
           AND NOT EXISTS (SELECT FROM keys_to_delete
                            WHERE bucket_id = %(bucket_id)s AND object_key = new.data_object_key)
            ON CONFLICT DO NOTHING
        RETURNING data_object_key)
    SELECT data_object_key FROM new WHERE data_object_key NOT IN (SELECT data_object_key FROM inserted)
"""


def insert(
    conn: Connection, datas3t_id: int, bucket_id: int, columns: Mapping[str, Sequence[int | str | None]]
) -> list[str]:
    """Insert dataranges, and return the keys of the archives of those that were not inserted.

    These overlap existing ones, or a pending intent or the deletion queue names the archive.

    Args:
        conn: The transaction, which has locked the datas3t.
        datas3t_id: The datas3t.
        bucket_id: Its bucket.
        columns: `firsts` and `lasts`, the keys; `data_keys`, `index_keys`, `sizes`, `entries_sizes`, `data_etags`,
            `index_etags`; `checksums_etags`, with None where there are none.
    """
    rows = conn.execute(_INSERT, {"datas3t_id": datas3t_id, "bucket_id": bucket_id, **columns})
    return [key for (key,) in rows]


_DELETE: LiteralString = f"""
    DELETE FROM dataranges WHERE catalogue_id = {CURRENT} AND data_object_key = ANY(%(keys)s)
    RETURNING data_object_key
"""


def delete(conn: Connection, datas3t_id: int, keys: Sequence[str]) -> list[str]:
    """Delete the dataranges with these archives, and return the archives' keys. The caller queues their objects."""
    return [key for (key,) in conn.execute(_DELETE, {"datas3t_id": datas3t_id, "keys": list(keys)})]
