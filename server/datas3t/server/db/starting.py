"""The start of an upload in one statement: draws a counter, and inserts the pending row unless its keys are taken."""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from datetime import timedelta
from typing import NamedTuple

from datas3t.server.db.datarange_uploads import COLUMNS, Upload
from datas3t.server.db.key_reservations import LIVE
from datas3t.server.db.pool import Connection
from datas3t.server.db.spans import BucketVersion
from datas3t.server.db.statement import Statement


class Begun(NamedTuple):
    """The row of an upload, and the bucket that its objects go to."""

    upload: Upload
    bucket: BucketVersion


# The object keys are those of `names.archive_key` and `names.index_key`.
#
# If the update waits for the row, it reads that row again, but no other. What it has not seen are reservations that
# were made meanwhile. They change `last_reserved_key`, and their keys begin at the `next_key` of before.
_BEGIN = Statement(f"""
    WITH drawn AS (
        UPDATE datas3ts AS d
           SET upload_counter = upload_counter + 1, next_key = greatest(next_key, %(last)s::bigint + 1::numeric)
         WHERE name = %(name)s AND bucket_id IS NOT NULL
           AND NOT EXISTS (
               SELECT FROM dataranges
                WHERE catalogue_id = d.catalogue_id
                  AND first_key <= %(last)s
                  AND first_key >= (SELECT first_key FROM dataranges
                                     WHERE catalogue_id = d.catalogue_id AND last_key >= %(first)s
                                     ORDER BY last_key LIMIT 1))
           AND CASE
               WHEN %(reservation_id)s::bigint <> 0 THEN EXISTS (
                    SELECT FROM key_reservations
                     WHERE id = %(reservation_id)s AND datas3t_id = d.id
                       AND first_key <= %(first)s AND last_key >= %(last)s AND {LIVE})
               WHEN last_reserved_key < %(first)s THEN true
               ELSE NOT EXISTS (
                    SELECT FROM (SELECT first_key FROM key_reservations
                                  WHERE datas3t_id = d.id AND last_key >= %(first)s AND {LIVE}
                                  ORDER BY last_key LIMIT 1) AS following
                     WHERE first_key <= %(last)s)
                AND (SELECT %(last)s < next_key OR last_reserved_key = d.last_reserved_key
                       FROM datas3ts WHERE name = %(name)s) END
        RETURNING id, bucket_id, upload_counter),
    named AS (
        SELECT drawn.id, bucket_id,
               archive_crc32c AND %(archive_crc32c)s::boolean AS archive_crc32c,
               %(prefix)s || lpad(upload_counter::text, greatest(12, length(upload_counter::text)), '0') AS stem
          FROM drawn JOIN s3_buckets AS b ON b.id = bucket_id),
    begun AS (
        INSERT INTO datarange_uploads (datas3t_id, first_key, last_key, data_size, data_object_key, index_object_key,
                                       part_size, multipart, with_checksums, archive_crc32c, expires_at,
                                       reservation_id)
        SELECT id, %(first)s, %(last)s, %(data_size)s::bigint, stem || '.tar', stem || '.index',
               %(part_size)s::bigint, %(multipart)s::boolean, %(with_checksums)s::boolean, archive_crc32c,
               now() + %(seconds)s * interval '1 second', nullif(%(reservation_id)s, 0)
          FROM named
        RETURNING {COLUMNS})
    SELECT b.id, b.xmin::text, begun.* FROM begun CROSS JOIN named JOIN s3_buckets AS b ON b.id = named.bucket_id
""")


def begin(
    conn: Connection,
    name: str,
    first: int,
    last: int,
    *,
    prefix: str,
    data_size: int,
    part_size: int,
    multipart: bool,
    with_checksums: bool,
    archive_crc32c: bool,
    lifetime: timedelta,
    reservation_id: int = 0,
) -> Begun | None:
    """Insert a pending upload, which expires when `lifetime` has passed by the database's clock.

    Returns None, and changes nothing, if there is no such datas3t, if it has a datarange with one of the keys, or if
    one of them is reserved. With a `reservation_id` all keys must be of that reservation. `prefix` is what the object
    keys begin with. With `archive_crc32c` S3 is asked for a checksum of the archive, unless the store is known not to
    support that.
    """
    row = _BEGIN.row(
        conn,
        name=name,
        first=first,
        last=last,
        prefix=prefix,
        data_size=data_size,
        part_size=part_size,
        multipart=multipart,
        with_checksums=with_checksums,
        archive_crc32c=archive_crc32c,
        seconds=lifetime.total_seconds(),
        reservation_id=reservation_id,
    )
    return Begun(Upload(*row[2:]), BucketVersion(row[0], row[1])) if row else None
