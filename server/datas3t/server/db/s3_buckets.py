"""The table of bucket configurations. It stores credentials encrypted; this module neither encrypts nor decrypts."""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from dataclasses import dataclass, field
from typing import LiteralString

from psycopg.rows import class_row

from datas3t.server.db.pool import Connection


@dataclass(frozen=True, slots=True)
class S3Bucket:
    """A row. `access_key` and `secret_key` are encrypted. `public_endpoint` is empty if it is the endpoint.

    `equal_parts`: the store demands that all parts of an object but the last have one size. `bulk_delete`: it deletes
    many objects by one request. `archive_crc32c`: it accepts multipart uploads that ask for a checksum of the object.
    """

    id: int
    name: str
    endpoint: str
    bucket: str
    region: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    public_endpoint: str = ""
    equal_parts: bool = False
    bulk_delete: bool = True
    archive_crc32c: bool = True


_COLUMNS: LiteralString = """
    id, name, endpoint, bucket, region, access_key, secret_key, public_endpoint, equal_parts, bulk_delete,
    archive_crc32c
"""

_INSERT: LiteralString = """
    INSERT INTO s3_buckets (name, endpoint, bucket, region, access_key, secret_key, public_endpoint)
    VALUES (%(name)s, %(endpoint)s, %(bucket)s, %(region)s, %(access_key)s, %(secret_key)s, %(public_endpoint)s)
"""


def insert(
    conn: Connection,
    *,
    name: str,
    endpoint: str,
    bucket: str,
    region: str,
    access_key: str,
    secret_key: str,
    public_endpoint: str = "",
) -> None:
    """Insert a configuration. Raises BUCKET_EXISTS through the transaction (fields: bucket)."""
    row = {"name": name, "endpoint": endpoint, "bucket": bucket, "region": region, "public_endpoint": public_endpoint}
    conn.execute(_INSERT, {**row, "access_key": access_key, "secret_key": secret_key})


_BY_NAME: LiteralString = f"SELECT {_COLUMNS} FROM s3_buckets WHERE name = %s"


def by_name(conn: Connection, name: str) -> S3Bucket | None:
    """Return the configuration with this name, or None."""
    with conn.cursor(row_factory=class_row(S3Bucket)) as cur:
        return cur.execute(_BY_NAME, [name]).fetchone()


_BY_IDS: LiteralString = f"SELECT {_COLUMNS} FROM s3_buckets WHERE id = ANY(%s)"


def by_ids(conn: Connection, ids: list[int]) -> list[S3Bucket]:
    """Return those of these configurations that exist, in any order."""
    with conn.cursor(row_factory=class_row(S3Bucket)) as cur:
        return cur.execute(_BY_IDS, [ids]).fetchall()


_WITH_VERSION: LiteralString = f"SELECT xmin::text, {_COLUMNS} FROM s3_buckets WHERE id = %s"


def with_version(conn: Connection, bucket_id: int) -> tuple[S3Bucket, str] | None:
    """Return a configuration, and the transaction that wrote this version of its row."""
    row = conn.execute(_WITH_VERSION, [bucket_id]).fetchone()
    return (S3Bucket(*row[1:]), row[0]) if row else None


_PAGE: LiteralString = f"SELECT {_COLUMNS} FROM s3_buckets WHERE name > %s ORDER BY name LIMIT %s"


def page(conn: Connection, after: str, limit: int) -> list[S3Bucket]:
    """Return up to `limit` configurations after the name `after`, in order of their names."""
    with conn.cursor(row_factory=class_row(S3Bucket)) as cur:
        return cur.execute(_PAGE, [after, limit]).fetchall()


_LOCKED_PAGE: LiteralString = f"{_PAGE} FOR NO KEY UPDATE"


def locked_page(conn: Connection, after: str, limit: int) -> list[S3Bucket]:
    """Return what `page` does, and keep others from changing these rows until the transaction ends."""
    with conn.cursor(row_factory=class_row(S3Bucket)) as cur:
        return cur.execute(_LOCKED_PAGE, [after, limit]).fetchall()


_UPDATE: LiteralString = "UPDATE s3_buckets SET access_key = %s, secret_key = %s WHERE id = %s"


def set_credentials(conn: Connection, bucket_id: int, access_key: str, secret_key: str) -> bool:
    """Replace the encrypted credentials, and return whether the configuration exists."""
    return conn.execute(_UPDATE, [access_key, secret_key, bucket_id]).rowcount == 1


_SET_ENDPOINT: LiteralString = "UPDATE s3_buckets SET endpoint = %s WHERE id = %s AND endpoint = %s"


def set_endpoint(conn: Connection, bucket_id: int, before: str, endpoint: str) -> bool:
    """Spell the endpoint of a configuration differently, and return whether it was spelled as `before`.

    Raises, by the transaction, BUCKET_EXISTS.
    """
    return conn.execute(_SET_ENDPOINT, [endpoint, bucket_id, before]).rowcount == 1


_DEMANDS_EQUAL_PARTS: LiteralString = "UPDATE s3_buckets SET equal_parts = true WHERE id = %s"


def demands_equal_parts(conn: Connection, bucket_id: int) -> None:
    """Remember that the store demands parts of one size."""
    conn.execute(_DEMANDS_EQUAL_PARTS, [bucket_id])


_LACKS_BULK_DELETE: LiteralString = "UPDATE s3_buckets SET bulk_delete = false WHERE id = %s"


def lacks_bulk_delete(conn: Connection, bucket_id: int) -> None:
    """Remember that the store deletes objects only one by one."""
    conn.execute(_LACKS_BULK_DELETE, [bucket_id])


_LACKS_ARCHIVE_CRC32C: LiteralString = "UPDATE s3_buckets SET archive_crc32c = false WHERE id = %s AND archive_crc32c"


def lacks_archive_crc32c(conn: Connection, bucket_id: int) -> None:
    """Remember that the store refuses uploads that ask for a checksum of the whole archive."""
    conn.execute(_LACKS_ARCHIVE_CRC32C, [bucket_id])


_LOCKED: LiteralString = f"{_BY_NAME} FOR UPDATE"


def locked(conn: Connection, name: str) -> S3Bucket | None:
    """Return a configuration and lock its row: inserts of rows that refer to it wait until the transaction ends."""
    with conn.cursor(row_factory=class_row(S3Bucket)) as cur:
        return cur.execute(_LOCKED, [name]).fetchone()


_IS_USED: LiteralString = "SELECT EXISTS (SELECT FROM datas3ts WHERE bucket_id = %s)"


def is_used(conn: Connection, bucket_id: int) -> bool:
    """Whether a datas3t is on the bucket."""
    row = conn.execute(_IS_USED, [bucket_id]).fetchone()
    assert row is not None
    return bool(row[0])


_DELETE: LiteralString = "DELETE FROM s3_buckets WHERE id = %s"


def delete(conn: Connection, bucket_id: int) -> None:
    """Delete a configuration, which the caller has locked and found unused."""
    conn.execute(_DELETE, [bucket_id])
