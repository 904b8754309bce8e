"""The checksum of a whole archive that S3 computes, and compares with the client's when an upload completes.

It is the CRC-32C that S3 calls a full object checksum. Stores differ. Some compute none, or never compare it. Some
refuse to open a multipart upload that asks for it. Others refuse parts without a checksum of their own, which a
presigned URL cannot have, as it is made before the part, or refuse to join them. The client tells the server of refused
parts; the rest it notices itself. Then the multipart upload is opened again without, and the store is not asked again.
"""

from dataclasses import replace

from datas3t.server.db import datarange_uploads, pool, s3_buckets
from datas3t.server.db.datarange_uploads import Upload
from datas3t.server.intents.states import UPLOADS
from datas3t.server.objects.checks import InvalidUploadError
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket, UnknownOperation


def open_multipart(resources: Resources, bucket: Bucket, bucket_id: int, upload: Upload) -> Upload:
    """Open the multipart upload of an upload, and return the row with the id that S3 gave it.

    S3 is asked for the checksum if the row says so, and if it accepts that. Raises as `Intents.open_multipart`.
    """
    is_accepted = upload.archive_crc32c

    def create() -> str:
        nonlocal is_accepted
        if is_accepted:
            try:
                return bucket.create_multipart(upload.data_object_key, crc32c=True)
            except UnknownOperation:
                is_accepted = False
        s3_upload_id = bucket.create_multipart(upload.data_object_key)
        if upload.archive_crc32c:
            _remember(resources, bucket_id)
            with pool.connection(resources.pool) as conn:
                datarange_uploads.without_archive_crc32c(conn, upload.id)
        return s3_upload_id

    s3_upload_id = UPLOADS.open_multipart(resources, bucket, upload, create)
    return replace(upload, s3_upload_id=s3_upload_id, archive_crc32c=is_accepted)


def open_again_without(resources: Resources, bucket: Bucket, bucket_id: int, upload: Upload) -> Upload:
    """Open the multipart upload again without a checksum, because S3 refuses its parts; return the row as it is then.

    Do nothing if S3 was not asked for one. Raises as `Intents.open_multipart`.
    """
    if not upload.archive_crc32c:
        return upload
    _remember(resources, bucket_id)
    if upload.s3_upload_id is not None:
        bucket.abort_multipart(upload.data_object_key, upload.s3_upload_id)
    with pool.connection(resources.pool) as conn:
        is_first = datarange_uploads.without_archive_crc32c(conn, upload.id)
    if not is_first:  # another call does it, or has ended the upload
        return UPLOADS.find_pending(resources, upload.id)
    return open_multipart(resources, bucket, bucket_id, replace(upload, s3_upload_id=None, archive_crc32c=False))


def refused(resources: Resources, bucket_id: int, error: InvalidUploadError) -> InvalidUploadError:
    """Remember that S3 refuses to join parts of an upload with a checksum; return the error of this upload."""
    _remember(resources, bucket_id)
    return InvalidUploadError(
        f"{error}. S3 was asked for a checksum of the archive, and will not be when you start again"
    )


def _remember(resources: Resources, bucket_id: int) -> None:
    with pool.connection(resources.pool) as conn:
        s3_buckets.lacks_archive_crc32c(conn, bucket_id)
