"""The dataranges of a span of keys, together with what else a call needs to sign their URLs: one statement a call."""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from typing import LiteralString, NamedTuple

from datas3t.archive.names import MAX_KEY
from datas3t.server.db import object_keys
from datas3t.server.db.dataranges import COLUMNS, LAST, Datarange
from datas3t.server.db.pool import Connection
from datas3t.server.db.statement import Statement


class BucketVersion(NamedTuple):
    """A bucket configuration, and the transaction that wrote its row: another one for each version of the row."""

    id: int
    xmin: str


class Span(NamedTuple):
    """Dataranges of a datas3t in key order, the bucket that they are in, and whether the datas3t has any at all.

    `catalogue_id` is that of the datas3t when they were read: another one after each clear.
    """

    bucket: BucketVersion
    catalogue_id: int
    is_empty: bool
    rows: list[Datarange]


# A nested loop over the one datas3t keeps the order of its dataranges. db/dataranges.py explains the conditions.
_SPAN: LiteralString = f"""
    SELECT b.id, b.xmin::text, d.catalogue_id, d.datarange_count, found.*
      FROM datas3ts AS d
      JOIN s3_buckets AS b ON b.id = d.bucket_id
      LEFT JOIN LATERAL (
           SELECT {COLUMNS} FROM dataranges
            WHERE catalogue_id = d.catalogue_id
              AND first_key >= (SELECT first_key FROM dataranges
                                 WHERE catalogue_id = d.catalogue_id AND last_key >= %(lowest)s
                                 ORDER BY last_key LIMIT 1)
              AND (first_key, catalogue_id) <= ({LAST}, d.catalogue_id)
            ORDER BY first_key LIMIT %(limit)s) AS found ON true
     WHERE d.name = %(name)s
"""
_FIND = Statement(_SPAN)


def find(conn: Connection, name: str, first: int, last: int, *, after: int, limit: int) -> Span | None:
    """Return up to `limit` dataranges of a datas3t with a key from `first` to `last` and a last key above `after`.

    Returns None if there is no such datas3t.
    """
    rows = _FIND.rows(conn, name=name, lowest=min(max(first, after + 1), MAX_KEY), last=last, limit=limit)
    if not rows:
        return None
    bucket_id, version, catalogue_id, count, first_column = rows[0][:5]
    is_nothing = first_column is None or after >= MAX_KEY
    found = [] if is_nothing else [Datarange(*row[4:]) for row in rows]
    return Span(BucketVersion(bucket_id, version), catalogue_id, not count, found)


class Listed(NamedTuple):
    """What a listing shows of a datarange."""

    id: int
    data_object_key: str
    index_object_key: str
    first_key: int
    last_key: int
    size_bytes: int
    checksums_object_key: str | None
    extension: str | None


class Listing(NamedTuple):
    """Dataranges of a datas3t in key order, and the catalogue that it had when they were read."""

    catalogue_id: int
    rows: list[Listed]


_PAGE = Statement(f"""
    SELECT d.catalogue_id, found.*
      FROM datas3ts AS d
      LEFT JOIN LATERAL (
           SELECT id, data_object_key, index_object_key, first_key, last_key, size_bytes,
                  CASE WHEN checksums_etag IS NOT NULL THEN {object_keys.CHECKSUMS} END, extension
             FROM dataranges
            WHERE catalogue_id = d.catalogue_id AND last_key > (SELECT %(after)s::bigint)
            ORDER BY last_key LIMIT %(limit)s) AS found ON true
     WHERE d.name = %(name)s AND d.bucket_id IS NOT NULL
""")


def page(conn: Connection, name: str, after: int, limit: int) -> Listing | None:
    """Return the dataranges that `dataranges.page` returns for the datas3t of this name; None if there is none."""
    rows = _PAGE.rows(conn, name=name, after=after, limit=limit)
    if not rows:
        return None
    catalogue_id, first_column = rows[0][:2]
    return Listing(catalogue_id, [] if first_column is None else [Listed._make(row[1:]) for row in rows])


class Bounds(NamedTuple):
    """First and last key of each datarange in key order, as big-endian numbers of 8 bytes each, and their version.

    `bounds` is None if the caller knows this version. Each change of dataranges changes the row of their datas3t, and
    with it the version.
    """

    version: str
    bounds: bytes | None


_BOUNDS = Statement("""
    SELECT convert_to(d.version, 'UTF8'),
           CASE WHEN d.version <> %(known)s THEN coalesce(
               (SELECT string_agg(int8send(first_key) || int8send(last_key), ''::bytea ORDER BY first_key)
                  FROM dataranges WHERE catalogue_id = d.catalogue_id), ''::bytea) END
      FROM (SELECT catalogue_id, id || '-' || xmin AS version FROM datas3ts
             WHERE name = %(name)s AND bucket_id IS NOT NULL) AS d
""")


def bounds(conn: Connection, name: str, known: str) -> Bounds | None:
    """Return the bounds of all dataranges, unless the version is `known`; None if there is no such datas3t."""
    row = _BOUNDS.raw_row(conn, name=name, known=known)
    return Bounds((row[0] or b"").decode(), row[1]) if row else None
