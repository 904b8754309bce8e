"""The completion of an upload: what is to be checked, and the commit of its datarange, each in one statement."""

from datas3t.server.db.pool import Connection
from datas3t.server.db.spans import BucketVersion
from datas3t.server.db.statement import Statement

_PLACE = Statement("""
    SELECT d.name, b.id, b.xmin::text FROM datas3ts AS d JOIN s3_buckets AS b ON b.id = d.bucket_id WHERE d.id = %(id)s
""")


def place(conn: Connection, datas3t_id: int) -> tuple[str, BucketVersion] | None:
    """Return the name of a datas3t, and the bucket that it is in; None if it was deleted."""
    row = _PLACE.row(conn, id=datas3t_id)
    return (row[0], BucketVersion(row[1], row[2])) if row else None


# The datas3t is locked first, because two statements that insert overlapping dataranges at the same time would end in a
# deadlock.
_COMMIT = Statement("""
    WITH locked AS (
        SELECT id, catalogue_id FROM datas3ts WHERE id = %(datas3t_id)s AND bucket_id IS NOT NULL FOR NO KEY UPDATE),
    completed AS (
        UPDATE datarange_uploads SET state = 'completed', finished_at = now()
         WHERE id = %(upload_id)s AND state = 'pending' AND datas3t_id = (SELECT id FROM locked)
        RETURNING first_key, last_key, data_object_key, index_object_key, data_size, reservation_id),
    used AS (
        UPDATE key_reservations AS r SET keys_left = keys_left - (completed.last_key - completed.first_key + 1)
          FROM completed WHERE r.id = reservation_id)
    INSERT INTO dataranges (catalogue_id, first_key, last_key, data_object_key, index_object_key,
                            size_bytes, entries_size_bytes, data_etag, index_etag, checksums_etag, extension)
    SELECT catalogue_id, first_key, last_key, data_object_key, index_object_key,
           data_size, %(entries_size)s::bigint, %(data_etag)s, %(index_etag)s, %(checksums_etag)s, %(extension)s
      FROM locked CROSS JOIN completed
    RETURNING id
""")


def commit(
    conn: Connection,
    *,
    datas3t_id: int,
    upload_id: int,
    entries_size: int,
    data_etag: str,
    index_etag: str,
    checksums_etag: str | None,
    extension: str | None,
) -> bool:
    """Complete an upload and insert its datarange; return False, and change nothing, if it is not pending any more.

    Raises DATARANGE_OVERLAPS through the connection (fields: datas3t, first, last).
    """
    row = _COMMIT.row(
        conn,
        datas3t_id=datas3t_id,
        upload_id=upload_id,
        entries_size=entries_size,
        data_etag=data_etag,
        index_etag=index_etag,
        checksums_etag=checksums_etag,
        extension=extension,
    )
    return row is not None
