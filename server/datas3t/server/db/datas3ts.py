"""The table of datas3ts. A deleted one keeps its row, without a bucket, for the counter if it is added again.

A row also has the numbers of its dataranges, which a trigger of that table keeps (migration 0007).
"""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from dataclasses import dataclass, replace
from typing import LiteralString

from psycopg.rows import class_row

from datas3t.server.db.key_reservations import LIVE
from datas3t.server.db.pool import Connection


@dataclass(frozen=True, slots=True)
class Datas3t:
    """A row of a datas3t that is not deleted. `checksums_count` is the number of dataranges that have checksums."""

    id: int
    name: str
    bucket_id: int
    upload_counter: int
    datarange_count: int
    checksums_count: int
    table_file_count: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A datas3t and what it contains. The keys are 0 if it is empty. Sizes are in bytes."""

    datas3t_name: str
    bucket_name: str
    datarange_count: int
    total_datapoints: int
    lowest_datapoint: int
    highest_datapoint: int
    total_bytes: int


_COLUMNS: LiteralString = "id, name, bucket_id, upload_counter, datarange_count, checksums_count, table_file_count"

_ADD: LiteralString = f"""
    INSERT INTO datas3ts AS existing (name, bucket_id, upload_counter, next_key)
    VALUES (%(name)s, %(bucket_id)s, %(counter)s, greatest(1, %(last_key)s::bigint + 1::numeric))
    ON CONFLICT (name) DO UPDATE
       SET bucket_id = excluded.bucket_id,
           upload_counter = greatest(existing.upload_counter, excluded.upload_counter),
           next_key = greatest(existing.next_key, excluded.next_key)
     WHERE existing.bucket_id IS NULL OR existing.bucket_id = excluded.bucket_id
    RETURNING {_COLUMNS}
"""


def add(conn: Connection, name: str, bucket_id: int, counter: int, last_key: int = -1) -> Datas3t | None:
    """Add a datas3t, or a deleted one again, with at least this counter, and with a next key above `last_key`.

    Returns its row, also if it exists on this bucket; None if it exists on another bucket.
    """
    row = {"name": name, "bucket_id": bucket_id, "counter": counter, "last_key": last_key}
    with conn.cursor(row_factory=class_row(Datas3t)) as cur:
        return cur.execute(_ADD, row).fetchone()


_BY_NAME: LiteralString = f"SELECT {_COLUMNS} FROM datas3ts WHERE name = %s AND bucket_id IS NOT NULL"


def by_name(conn: Connection, name: str) -> Datas3t | None:
    """Return the datas3t with this name, or None."""
    with conn.cursor(row_factory=class_row(Datas3t)) as cur:
        return cur.execute(_BY_NAME, [name]).fetchone()


_BY_ID: LiteralString = f"SELECT {_COLUMNS} FROM datas3ts WHERE id = %s AND bucket_id IS NOT NULL"


def by_id(conn: Connection, datas3t_id: int) -> Datas3t | None:
    """Return the datas3t with this id, or None."""
    with conn.cursor(row_factory=class_row(Datas3t)) as cur:
        return cur.execute(_BY_ID, [datas3t_id]).fetchone()


_LOCKED: LiteralString = f"{_BY_NAME} FOR NO KEY UPDATE"


def locked(conn: Connection, name: str) -> Datas3t | None:
    """Return a datas3t and lock its row until the transaction ends.

    A transaction that locks rows of several tables locks this one first, so that no two wait for each other.
    """
    with conn.cursor(row_factory=class_row(Datas3t)) as cur:
        return cur.execute(_LOCKED, [name]).fetchone()


_DRAW: LiteralString = f"""
    UPDATE datas3ts SET upload_counter = upload_counter + 1
     WHERE name = %s AND bucket_id IS NOT NULL
    RETURNING {_COLUMNS}
"""


def draw_counter(conn: Connection, name: str) -> Datas3t | None:
    """Increment the upload counter and return the datas3t with its new value, which no other upload has.

    Locks the row until the transaction ends.
    """
    with conn.cursor(row_factory=class_row(Datas3t)) as cur:
        return cur.execute(_DRAW, [name]).fetchone()


_REMOVALS: LiteralString = "SELECT coalesce(max(removals), 0) FROM datas3ts WHERE name = %s"


def removals(conn: Connection, name: str) -> int:
    """Return how often dataranges of this name have been removed, also before it was last deleted."""
    row = conn.execute(_REMOVALS, [name]).fetchone()
    assert row is not None
    return int(row[0])


_RECORD_REMOVAL: LiteralString = "UPDATE datas3ts SET removals = removals + 1 WHERE id = %s RETURNING bucket_id"


def record_removal(conn: Connection, datas3t_id: int) -> int | None:
    """Count a removal of dataranges and lock the row until the transaction ends. Call it before the removal itself.

    Returns the id of the current bucket, or None if the datas3t was deleted.
    """
    row = conn.execute(_RECORD_REMOVAL, [datas3t_id]).fetchone()
    return None if row is None or row[0] is None else int(row[0])


_PAGE: LiteralString = """
    SELECT d.name AS datas3t_name, b.name AS bucket_name, datarange_count, datapoint_count AS total_datapoints,
           coalesce(lowest_key, 0) AS lowest_datapoint, coalesce(highest_key, 0) AS highest_datapoint, total_bytes
      FROM datas3ts AS d JOIN s3_buckets AS b ON b.id = d.bucket_id
     WHERE d.name > %(after)s AND d.bucket_id IS NOT NULL
       AND (%(matching)s::text IS NULL OR d.name ~ %(matching)s::text)
     ORDER BY d.name LIMIT %(limit)s
"""


def page(conn: Connection, after: str, limit: int, matching: str | None = None) -> list[Summary]:
    """Return up to `limit` datas3ts after the name `after`, in order of their names.

    With `matching`, a regular expression, those with other names are left out.
    """
    with conn.cursor(row_factory=class_row(Summary)) as cur:
        rows = cur.execute(_PAGE, {"after": after, "limit": limit, "matching": matching}).fetchall()
    # Sums are stored as numeric, which psycopg reads as Decimal: the number of all keys does not fit a bigint.
    return [replace(row, total_datapoints=int(row.total_datapoints), total_bytes=int(row.total_bytes)) for row in rows]


_NEXT_FREE_KEY: LiteralString = f"""
    SELECT 1 + greatest(coalesce(highest_key, 0)::numeric,
                        (SELECT last_key FROM key_reservations WHERE datas3t_id = d.id AND {LIVE}
                          ORDER BY last_key DESC LIMIT 1))
      FROM datas3ts AS d WHERE id = %s
"""


def next_free_key(conn: Connection, datas3t_id: int) -> int:
    """Return the key after the greatest one of a datas3t that is a datapoint or reserved; pending uploads do not count.

    It may exceed the greatest possible key by 1.
    """
    row = conn.execute(_NEXT_FREE_KEY, [datas3t_id]).fetchone()
    assert row is not None
    return int(row[0])


_NEXT_KEY: LiteralString = "SELECT next_key FROM datas3ts WHERE id = %s"


def next_key(conn: Connection, datas3t_id: int) -> int:
    """Return the key above all that were ever used or reserved. It may exceed the greatest possible key by 1."""
    row = conn.execute(_NEXT_KEY, [datas3t_id]).fetchone()
    assert row is not None
    return int(row[0])


_DELETE: LiteralString = "UPDATE datas3ts SET bucket_id = NULL WHERE id = %s"


def delete(conn: Connection, datas3t_id: int) -> None:
    """Mark a datas3t as deleted by removing its bucket. The row keeps the upload counter."""
    conn.execute(_DELETE, [datas3t_id])
