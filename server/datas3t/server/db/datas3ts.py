"""Datas3ts. A deleted one keeps its row, without a bucket: its upload counter goes on if the name comes back."""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from dataclasses import dataclass, replace
from typing import LiteralString

from psycopg.rows import class_row

from datas3t.server.db.pool import Connection


@dataclass(frozen=True, slots=True)
class Datas3t:
    """A row that has a bucket: a deleted datas3t is never answered."""

    id: int
    name: str
    bucket_id: int
    upload_counter: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A datas3t and what it holds. The keys are 0 where it is empty; sizes are bytes."""

    datas3t_name: str
    bucket_name: str
    datarange_count: int
    total_datapoints: int
    lowest_datapoint: int
    highest_datapoint: int
    total_bytes: int


_COLUMNS: LiteralString = "id, name, bucket_id, upload_counter"

_ADD: LiteralString = f"""
    INSERT INTO datas3ts AS present (name, bucket_id, upload_counter)
    VALUES (%(name)s, %(bucket_id)s, %(counter)s)
    ON CONFLICT (name) DO UPDATE
       SET bucket_id = excluded.bucket_id,
           upload_counter = greatest(present.upload_counter, excluded.upload_counter)
     WHERE present.bucket_id IS NULL OR present.bucket_id = excluded.bucket_id
    RETURNING {_COLUMNS}
"""


def add(conn: Connection, name: str, bucket_id: int, counter: int) -> Datas3t | None:
    """Adds or revives a datas3t whose counter is at least `counter`; None where the name is on another bucket."""
    with conn.cursor(row_factory=class_row(Datas3t)) as cur:
        return cur.execute(_ADD, {"name": name, "bucket_id": bucket_id, "counter": counter}).fetchone()


_BY_NAME: LiteralString = f"SELECT {_COLUMNS} FROM datas3ts WHERE name = %s AND bucket_id IS NOT NULL"


def by_name(conn: Connection, name: str) -> Datas3t | None:
    with conn.cursor(row_factory=class_row(Datas3t)) as cur:
        return cur.execute(_BY_NAME, [name]).fetchone()


_BY_ID: LiteralString = f"SELECT {_COLUMNS} FROM datas3ts WHERE id = %s AND bucket_id IS NOT NULL"


def by_id(conn: Connection, datas3t_id: int) -> Datas3t | None:
    with conn.cursor(row_factory=class_row(Datas3t)) as cur:
        return cur.execute(_BY_ID, [datas3t_id]).fetchone()


_LOCKED: LiteralString = f"{_BY_NAME} FOR NO KEY UPDATE"


def locked(conn: Connection, name: str) -> Datas3t | None:
    """Holds the datas3t until the transaction ends. Whoever locks several rows takes this one first."""
    with conn.cursor(row_factory=class_row(Datas3t)) as cur:
        return cur.execute(_LOCKED, [name]).fetchone()


_DRAW: LiteralString = f"""
    UPDATE datas3ts SET upload_counter = upload_counter + 1
     WHERE name = %s AND bucket_id IS NOT NULL
    RETURNING {_COLUMNS}
"""


def draw_counter(conn: Connection, name: str) -> Datas3t | None:
    """The datas3t with a counter that nobody else has; holds it until the transaction ends."""
    with conn.cursor(row_factory=class_row(Datas3t)) as cur:
        return cur.execute(_DRAW, [name]).fetchone()


_REMOVALS: LiteralString = "SELECT coalesce(max(removals), 0) FROM datas3ts WHERE name = %s"


def removals(conn: Connection, name: str) -> int:
    """How often dataranges of this name were removed, also before it was deleted and came back."""
    found = conn.execute(_REMOVALS, [name]).fetchone()
    assert found is not None
    return int(found[0])


_REMOVED: LiteralString = "UPDATE datas3ts SET removals = removals + 1 WHERE id = %s RETURNING bucket_id"


def removed(conn: Connection, datas3t_id: int) -> int | None:
    """Counts a removal of dataranges; holds the datas3t until the transaction ends. Goes before the removal itself.

    Answers the bucket that it is on now; None where it was deleted meanwhile.
    """
    row = conn.execute(_REMOVED, [datas3t_id]).fetchone()
    return None if row is None or row[0] is None else int(row[0])


_PAGE: LiteralString = """
    SELECT d.name AS datas3t_name, b.name AS bucket_name, s.*
      FROM (SELECT id, name, bucket_id FROM datas3ts
             WHERE name > %s AND bucket_id IS NOT NULL ORDER BY name LIMIT %s) AS d
      JOIN s3_buckets AS b ON b.id = d.bucket_id
     CROSS JOIN LATERAL (
           SELECT count(*) AS datarange_count,
                  coalesce(sum(last_key - first_key + 1::numeric), 0) AS total_datapoints,
                  coalesce(min(first_key), 0) AS lowest_datapoint,
                  coalesce(max(last_key), 0) AS highest_datapoint,
                  coalesce(sum(size_bytes), 0) AS total_bytes
             FROM dataranges WHERE datas3t_id = d.id) AS s
     ORDER BY d.name
"""


def page(conn: Connection, after: str, limit: int) -> list[Summary]:
    """By name, those behind `after`."""
    with conn.cursor(row_factory=class_row(Summary)) as cur:
        rows = cur.execute(_PAGE, [after, limit]).fetchall()
    # PostgreSQL's sums are numeric, which arrives as Decimal; that of all keys does not fit a bigint
    return [replace(row, total_datapoints=int(row.total_datapoints), total_bytes=int(row.total_bytes)) for row in rows]


_BURY: LiteralString = "UPDATE datas3ts SET bucket_id = NULL WHERE id = %s"


def bury(conn: Connection, datas3t_id: int) -> None:
    """Deletes the datas3t: it loses its bucket and keeps its counter."""
    conn.execute(_BURY, [datas3t_id])
