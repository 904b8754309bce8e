"""Pages of listings as JSON, which the database writes: the names in it are those of the fields of the contract.

Each page is one statement. The objects of a page are joined by commas, without brackets around them. They are in order,
because an aggregate takes the rows of an ordered subquery in that order.
"""

from collections.abc import Sequence
from typing import LiteralString, NamedTuple

from google.protobuf.descriptor import Descriptor
from psycopg import sql

from datas3t import v1
from datas3t.server.db import object_keys
from datas3t.server.db.pool import Connection
from datas3t.server.db.statement import Statement


class JsonPage(NamedTuple):
    """The objects of a page, joined by commas, and the token of the next page: empty after the last."""

    objects: bytes
    next_token: str


def _objects(message: Descriptor, columns: Sequence[LiteralString], text: LiteralString) -> Statement:
    """Return a statement whose `{columns}` are named as the fields that a message has over REST, in their order."""
    names = [field.name for field in message.fields if not field.GetOptions().Extensions[v1.rest_field].grpc_only]
    named = [
        sql.SQL("{} AS {}").format(sql.SQL(column), sql.Identifier(name))
        for column, name in zip(columns, names, strict=True)
    ]
    return Statement(sql.SQL(text).format(columns=sql.SQL(", ").join(named)))


def _page(row: Sequence[bytes | None], limit: int) -> JsonPage:
    objects, count, last = (text or b"" for text in row)
    return JsonPage(objects, last.decode() if int(count) == limit else "")


# Fields without a value are left out. A text in JSON cannot contain one, because its quotes are escaped; and removing
# them from the whole page takes a tenth of the time of json_strip_nulls for each row.
_DATARANGES = _objects(
    v1.Datarange.DESCRIPTOR,
    (
        "id",
        "data_object_key",
        "index_object_key",
        "first_key",
        "last_key",
        "size_bytes",
        f"CASE WHEN checksums_etag IS NOT NULL THEN {object_keys.CHECKSUMS} END",
        "extension",
    ),
    """
    SELECT d.catalogue_id::text, page.*
      FROM datas3ts AS d
     CROSS JOIN LATERAL (
           SELECT replace(replace(string_agg(object, ','), ',"checksums_object_key":null', ''),
                          ',"extension":null', ''),
                  count(*)::text, max(last_key)::text
             FROM (SELECT last_key, row_to_json(listed)::text AS object
                     FROM dataranges CROSS JOIN LATERAL (SELECT {columns}) AS listed
                    WHERE catalogue_id = d.catalogue_id AND last_key > (SELECT %(after)s::bigint)
                    ORDER BY last_key LIMIT %(limit)s) AS objects) AS page
     WHERE d.name = %(name)s AND d.bucket_id IS NOT NULL
    """,
)


def dataranges(conn: Connection, name: str, after: int, limit: int) -> tuple[int, bytes, str] | None:
    """Return up to `limit` dataranges of a datas3t whose last key is above `after`; None if there is no such datas3t.

    They are in key order. -1 starts at the first. The result is the datas3t's catalogue, the objects, and the last key
    if there may be more.
    """
    row = _DATARANGES.raw_row(conn, name=name, after=after, limit=limit)
    return (int(row[0] or b""), *_page(row[1:], limit)) if row else None


_DATAS3TS = _objects(
    v1.Datas3t.DESCRIPTOR,
    (
        "d.name",
        "b.name",
        "datarange_count",
        "datapoint_count",
        "coalesce(lowest_key, 0)",
        "coalesce(highest_key, 0)",
        "total_bytes",
    ),
    """
    SELECT string_agg(object, ','), count(*)::text, max(name)
      FROM (SELECT d.name, row_to_json(listed)::text AS object
              FROM datas3ts AS d JOIN s3_buckets AS b ON b.id = d.bucket_id
             CROSS JOIN LATERAL (SELECT {columns}) AS listed
             WHERE d.name > %(after)s AND d.bucket_id IS NOT NULL
               AND (%(matching)s::text IS NULL OR d.name ~ %(matching)s::text)
             ORDER BY d.name LIMIT %(limit)s) AS objects
    """,
)


def datas3ts(conn: Connection, after: str, limit: int, matching: str | None = None) -> JsonPage:
    """Return up to `limit` datas3ts after the name `after`, in order of their names.

    With `matching`, a regular expression, those with other names are left out.
    """
    row = _DATAS3TS.raw_row(conn, after=after, limit=limit, matching=matching)
    assert row is not None
    return _page(row, limit)
