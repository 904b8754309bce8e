"""Sizes of the catalogue, and what is under way, for the metrics."""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from dataclasses import dataclass
from typing import LiteralString

from psycopg.rows import class_row

from datas3t.server.db.pool import Connection

MOST_COUNTED = 10_000  # open uploads of each kind

_TABLES: tuple[LiteralString, ...] = ("datarange_uploads", "aggregate_uploads", "table_uploads", "checksums_uploads")


@dataclass(frozen=True, slots=True)
class CatalogueSize:
    """What all datas3ts hold together."""

    datas3ts: int
    dataranges: int
    datapoints: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Open:
    """How many uploads of a kind are open, at most MOST_COUNTED, and how long the oldest has been, in seconds.

    `kind` is the name of their table.
    """

    kind: str
    count: int
    oldest_seconds: float


_SIZE: LiteralString = """
    SELECT count(*) AS datas3ts, coalesce(sum(datarange_count), 0)::bigint AS dataranges,
           coalesce(sum(datapoint_count), 0)::float8 AS datapoints, coalesce(sum(total_bytes), 0)::float8 AS bytes
      FROM datas3ts WHERE bucket_id IS NOT NULL
"""

# What was started first expires first, but for renewed URLs of an aggregate, and the index of pending rows is in that
# order.
_OPEN: LiteralString = " UNION ALL ".join(
    f"""
    SELECT '{table}' AS kind,
           (SELECT count(*) FROM (SELECT FROM {table} WHERE state = 'pending'
                                   ORDER BY expires_at LIMIT %(most)s) AS pending) AS count,
           coalesce(extract(epoch FROM now() - (SELECT created_at FROM {table} WHERE state = 'pending'
                                                 ORDER BY expires_at LIMIT 1)), 0)::float8 AS oldest_seconds
    """
    for table in _TABLES
)


def catalogue_size(conn: Connection) -> CatalogueSize:
    """Return the sums over all datas3ts, each of which has a row with its own numbers."""
    with conn.cursor(row_factory=class_row(CatalogueSize)) as cur:
        row = cur.execute(_SIZE).fetchone()
    assert row is not None
    return row


def open_uploads(conn: Connection) -> list[Open]:
    """Return what is open of each kind."""
    with conn.cursor(row_factory=class_row(Open)) as cur:
        return cur.execute(_OPEN, {"most": MOST_COUNTED}).fetchall()
