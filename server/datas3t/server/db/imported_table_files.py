"""What an import asks about the table files that it has listed, and those that it adds.

The statements take the objects of a page. A file is found by its table and its counter, which are in its object key.
"""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from collections.abc import Mapping, Sequence
from typing import LiteralString

from datas3t.server.db.catalogues import CURRENT
from datas3t.server.db.dropped_tables import dropped_up_to
from datas3t.server.db.pool import Connection

Columns = Mapping[
    str, Sequence[int] | Sequence[str]
]  # of a page: `keys`, `tables`, `counters`, and for `insert` others

_RESERVED: LiteralString = """
    SELECT data_object_key FROM table_uploads WHERE datas3t_id = %(datas3t_id)s AND state = 'pending'
"""
_PENDING: LiteralString = f"SELECT key FROM unnest(%(keys)s::text[]) AS key WHERE key IN ({_RESERVED})"


def pending(conn: Connection, datas3t_id: int, page: Columns) -> set[str]:
    """Return the object keys of a page that pending files of the datas3t have reserved."""
    return _keys(conn, _PENDING, {"datas3t_id": datas3t_id, "keys": page["keys"]})


_OF_PAGE: LiteralString = """
    unnest(%(tables)s::text[], %(counters)s::bigint[], %(keys)s::text[]) AS listed (table_name, counter, object_key)
"""
_COMMITTED: LiteralString = f"""
    SELECT f.object_key FROM {_OF_PAGE}
      JOIN table_files AS f ON f.catalogue_id = {CURRENT} AND f.table_name = listed.table_name
           AND f.counter = listed.counter AND f.object_key = listed.object_key
     WHERE f.id > coalesce({dropped_up_to(CURRENT, "listed.table_name")}, 0)
"""


def committed(conn: Connection, datas3t_id: int, page: Columns) -> set[str]:
    """Return the object keys of a page that are files of tables, and not dropped."""
    return _keys(conn, _COMMITTED, {"datas3t_id": datas3t_id, **page})


_HERE: LiteralString = "(SELECT catalogue_id FROM datas3ts WHERE name = %(name)s AND bucket_id = %(bucket_id)s)"
_CLEARED: LiteralString = f"""
    SELECT f.object_key FROM {_OF_PAGE}
     CROSS JOIN (SELECT c.id FROM datas3ts AS d JOIN cleared_catalogues AS c ON c.datas3t_id = d.id
                  WHERE d.name = %(name)s AND c.bucket_id = %(bucket_id)s) AS cleared
      JOIN table_files AS f ON f.catalogue_id = cleared.id AND f.table_name = listed.table_name
           AND f.counter = listed.counter AND f.object_key = listed.object_key
     UNION ALL
    SELECT f.object_key FROM {_OF_PAGE}
      JOIN table_files AS f ON f.catalogue_id = {_HERE} AND f.table_name = listed.table_name
           AND f.counter = listed.counter AND f.object_key = listed.object_key
     WHERE f.id < {dropped_up_to(_HERE, "listed.table_name")}
"""


def cleared(conn: Connection, name: str, bucket_id: int, page: Columns) -> set[str]:
    """Return the object keys of a page that are in cleared catalogues or dropped tables, and so may be deleted."""
    return _keys(conn, _CLEARED, {"name": name, "bucket_id": bucket_id, **page})


_INSERT: LiteralString = f"""
    INSERT INTO table_files (catalogue_id, table_name, first_key, last_key, counter, object_key, size_bytes, etag)
    SELECT {CURRENT}, new.*
      FROM unnest(%(tables)s::text[], %(firsts)s::bigint[], %(lasts)s::bigint[], %(counters)s::bigint[],
                  %(keys)s::text[], %(sizes)s::bigint[], %(etags)s::text[])
               AS new (table_name, first_key, last_key, counter, object_key, size_bytes, etag)
     WHERE object_key NOT IN ({_RESERVED})
       AND NOT EXISTS (SELECT FROM keys_to_delete WHERE bucket_id = %(bucket_id)s AND object_key = new.object_key)
        ON CONFLICT DO NOTHING
    RETURNING object_key
"""


def insert(conn: Connection, datas3t_id: int, bucket_id: int, page: Columns) -> set[str]:
    """Insert files, and return the object keys of those that were inserted.

    The others are there already, or a pending file or the deletion queue names them. The caller has locked the datas3t.
    The page has `firsts`, `lasts`, `sizes` and `etags` as well.
    """
    return _keys(conn, _INSERT, {"datas3t_id": datas3t_id, "bucket_id": bucket_id, **page})


def _keys(conn: Connection, statement: LiteralString, values: Mapping[str, object]) -> set[str]:
    return {key for (key,) in conn.execute(statement, values)}
