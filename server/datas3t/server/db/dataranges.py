"""The table of dataranges. An exclusion constraint prevents overlaps within a datas3t; B-trees find keys, in order.

A row belongs to a catalogue. The functions take the id of a datas3t, and use its current catalogue.
"""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import LiteralString

from psycopg.rows import class_row

from datas3t.archive import names
from datas3t.archive.names import MAX_KEY
from datas3t.server.db import object_keys
from datas3t.server.db.catalogues import CURRENT
from datas3t.server.db.pool import Connection


@dataclass(frozen=True, slots=True)
class Datarange:
    """A row. Sizes are in bytes. ETags have no quotes.

    `checksums_etag` is None if there are no checksums. `extension` is that of all entries' names, or None.
    """

    id: int
    first_key: int
    last_key: int
    data_object_key: str
    index_object_key: str
    size_bytes: int
    entries_size_bytes: int
    data_etag: str
    index_etag: str
    checksums_etag: str | None = None
    extension: str | None = None

    @property
    def checksums_object_key(self) -> str:
        """The key of the checksums, whether there are any or not."""
        return names.checksums_key(self.data_object_key)

    @property
    def count(self) -> int:
        """The number of datapoints."""
        return self.last_key - self.first_key + 1


COLUMNS: LiteralString = """
    id, first_key, last_key, data_object_key, index_object_key, size_bytes, entries_size_bytes, data_etag, index_etag,
    checksums_etag, extension
"""

_INSERT: LiteralString = f"""
    INSERT INTO dataranges (catalogue_id, first_key, last_key, data_object_key, index_object_key,
                            size_bytes, entries_size_bytes, data_etag, index_etag, checksums_etag, extension)
    VALUES ({CURRENT}, %(first)s, %(last)s, %(data_key)s, %(index_key)s,
            %(size)s, %(entries_size)s, %(data_etag)s, %(index_etag)s, %(checksums_etag)s, %(extension)s)
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
    checksums_etag: str | None = None,
    extension: str | None = None,
) -> int:
    """Insert a datarange and return its id.

    Raises DATARANGE_OVERLAPS through the transaction (fields: datas3t, first, last).
    """
    row = {"datas3t_id": datas3t_id, "first": first, "last": last, "data_key": data_key, "index_key": index_key}
    sizes = {"size": size, "entries_size": entries_size, "data_etag": data_etag, "index_etag": index_etag}
    optional = {"checksums_etag": checksums_etag, "extension": extension}
    inserted = conn.execute(_INSERT, {**row, **sizes, **optional}).fetchone()
    assert inserted is not None
    return int(inserted[0])


_BY_ID: LiteralString = f"SELECT {COLUMNS} FROM dataranges WHERE id = %(id)s AND catalogue_id = {CURRENT}"


def by_id(conn: Connection, datas3t_id: int, datarange_id: int) -> Datarange | None:
    """Return the datarange of a datas3t that has this id, or None."""
    with conn.cursor(row_factory=class_row(Datarange)) as cur:
        return cur.execute(_BY_ID, {"datas3t_id": datas3t_id, "id": datarange_id}).fetchone()


# The planner reads an index in order, instead of sorting what matches, if it expects more rows than a page has. So
# statements for pages hide the keys in a subquery: statistics of all keys say nothing about those of one datas3t.
# Migration 0008 does the same for the catalogue. Keys are in the same order by first and by last keys.
_PAGE: LiteralString = f"""
    SELECT {COLUMNS} FROM dataranges
     WHERE catalogue_id = {CURRENT} AND last_key > (SELECT %(after)s::bigint)
     ORDER BY last_key LIMIT %(limit)s
"""


def page(conn: Connection, datas3t_id: int, after: int, limit: int) -> list[Datarange]:
    """Return up to `limit` dataranges whose last key is above `after`, in key order. -1 starts at the first.

    Last keys are in the same order as first keys. With first keys, a datarange that an aggregate creates between two
    pages could be left out.
    """
    with conn.cursor(row_factory=class_row(Datarange)) as cur:
        return cur.execute(_PAGE, {"datas3t_id": datas3t_id, "after": after, "limit": limit}).fetchall()


# The last condition compares rows, because two bounds of one column would make the planner expect few rows. It is told
# of the greatest key, which bounds nothing.
LAST: LiteralString = """
    CASE %(last)s::bigint WHEN 9223372036854775807 THEN 9223372036854775807 ELSE (SELECT %(last)s::bigint) END
"""
_OVERLAPPING: LiteralString = f"""
    SELECT {COLUMNS} FROM dataranges
     WHERE catalogue_id = {CURRENT}
       AND first_key >= (SELECT first_key FROM dataranges WHERE catalogue_id = {CURRENT} AND last_key >= %(lowest)s
                          ORDER BY last_key LIMIT 1)
       AND (first_key, catalogue_id) <= ({LAST}, {CURRENT})
     ORDER BY first_key LIMIT %(limit)s
"""

# All of them are read, so the planner may sort them. It expects few, and so uses the index.
_ALL_OVERLAPPING: LiteralString = f"""
    SELECT {COLUMNS} FROM dataranges
     WHERE catalogue_id = {CURRENT}
       AND first_key >= (SELECT first_key FROM dataranges WHERE catalogue_id = {CURRENT} AND last_key >= %(lowest)s
                          ORDER BY last_key LIMIT 1)
       AND first_key <= %(last)s
     ORDER BY first_key
"""


def overlapping(
    conn: Connection, datas3t_id: int, first: int, last: int, *, after: int = -1, limit: int | None = None
) -> list[Datarange]:
    """Return the dataranges with a key from `first` to `last` and a last key above `after`, in key order."""
    if after >= MAX_KEY:
        return []
    keys = {"datas3t_id": datas3t_id, "lowest": max(first, after + 1), "last": last}
    with conn.cursor(row_factory=class_row(Datarange)) as cur:
        if limit is None:
            return cur.execute(_ALL_OVERLAPPING, keys).fetchall()
        return cur.execute(_OVERLAPPING, {**keys, "limit": limit}).fetchall()


# `look_again_at` is when no PUT with a URL of the upload can arrive any more: then the reaper deletes once more.
_DELETE: LiteralString = f"""
    WITH deleted AS (
        DELETE FROM dataranges
         WHERE catalogue_id = {CURRENT} AND first_key = %(first)s AND last_key = %(last)s
        RETURNING data_object_key, index_object_key,
                  greatest(created_at, checksums_added_at) + %(last_put)s AS look_again_at)
    INSERT INTO keys_to_delete (bucket_id, object_key, look_again_at, purge_versions)
    SELECT %(bucket_id)s, object_key, look_again_at, %(purge_versions)s
      FROM deleted CROSS JOIN LATERAL {object_keys.ALL}
"""


def delete(
    conn: Connection,
    datas3t_id: int,
    bucket_id: int,
    first: int,
    last: int,
    last_put: timedelta,
    *,
    purge_versions: bool = False,
) -> bool:
    """Delete the datarange with exactly these keys, queue its objects, and return whether it existed.

    `last_put` is how long after the commit a PUT of its upload can arrive. With `purge_versions` the versions of its
    objects are removed as well.
    """
    row = {"datas3t_id": datas3t_id, "bucket_id": bucket_id, "first": first, "last": last}
    return conn.execute(_DELETE, {**row, "last_put": last_put, "purge_versions": purge_versions}).rowcount > 0


_DELETE_BY_IDS: LiteralString = f"""
    DELETE FROM dataranges WHERE id = ANY(%(ids)s) AND catalogue_id = {CURRENT} RETURNING {COLUMNS}
"""


def delete_by_ids(conn: Connection, datas3t_id: int, ids: Sequence[int]) -> list[Datarange]:
    """Delete dataranges of a datas3t and return the deleted rows. The caller queues their objects."""
    with conn.cursor(row_factory=class_row(Datarange)) as cur:
        return cur.execute(_DELETE_BY_IDS, {"datas3t_id": datas3t_id, "ids": list(ids)}).fetchall()
