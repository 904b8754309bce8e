"""Uploads: one row each. What they have in common with aggregates is in `intents`."""
# ruff: noqa: S608 - the statements are joined from LiteralStrings alone

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from psycopg.rows import class_row

from datas3t.server.db.intents import State
from datas3t.server.db.pool import Connection


@dataclass(frozen=True, slots=True)
class Upload:
    """A row. Sizes are in bytes.

    `part_size` is the size of each part but the last, or `data_size` if the archive goes up in one PUT. `s3_upload_id`
    is None until S3 has opened the multipart upload. `failure_reason` is an ErrorReason. `with_checksums`: the client
    sends checksums. `archive_crc32c`: S3 was asked for a checksum of the whole archive.
    """

    id: int
    datas3t_id: int
    first_key: int
    last_key: int
    data_size: int
    data_object_key: str
    index_object_key: str
    part_size: int
    multipart: bool
    s3_upload_id: str | None
    state: State
    failure_reason: int | None
    failure_message: str | None
    expires_at: datetime
    with_checksums: bool
    archive_crc32c: bool


COLUMNS: LiteralString = """
    id, datas3t_id, first_key, last_key, data_size, data_object_key, index_object_key, part_size, multipart,
    s3_upload_id, state, failure_reason, failure_message, expires_at, with_checksums, archive_crc32c
"""

_BY_ID: LiteralString = f"SELECT {COLUMNS} FROM datarange_uploads WHERE id = %s"


def by_id(conn: Connection, upload_id: int) -> Upload | None:
    """Return the upload with this id, in whatever state it is."""
    with conn.cursor(row_factory=class_row(Upload)) as cur:
        return cur.execute(_BY_ID, [upload_id]).fetchone()


_WITHOUT_ARCHIVE_CRC32C: LiteralString = """
    UPDATE datarange_uploads SET archive_crc32c = false, s3_upload_id = NULL
     WHERE id = %s AND state = 'pending' AND archive_crc32c
"""


def without_archive_crc32c(conn: Connection, upload_id: int) -> bool:
    """Forget a pending upload's multipart upload if it asks S3 for a checksum of the archive; return whether it did.

    The caller opens another one, without that.
    """
    return conn.execute(_WITHOUT_ARCHIVE_CRC32C, [upload_id]).rowcount == 1
