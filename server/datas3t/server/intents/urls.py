"""The presigned URLs of a pending intent, and the parts of it that S3 has received."""

from collections.abc import Sequence

from datas3t import v1
from datas3t.archive import names
from datas3t.server import values
from datas3t.server.errors import Failure
from datas3t.server.intents.states import ArchiveIntent
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket, PartInfo, UploadMissing

MAX_PART_URLS = 1000  # in one response: about 1 MB, well below the 4 MiB that gRPC clients accept by default


def part_sizes(intent: ArchiveIntent) -> list[int]:
    """Return the sizes of the parts, which are equal except for the last; empty if the upload is a single PUT."""
    if not intent.multipart:
        return []
    return [min(intent.part_size, intent.data_size - start) for start in range(0, intent.data_size, intent.part_size)]


def check_part_numbers(numbers: Sequence[int], count: int) -> None:
    """Raise INVALID_VALUE if there are too many numbers, or if one is not between 1 and `count`."""
    if len(numbers) > MAX_PART_URLS:
        raise values.invalid("part_numbers", f"has {len(numbers)} numbers; ask for at most {MAX_PART_URLS} at a time")
    for number in numbers:
        if not 1 <= number <= count:
            raise values.invalid("part_numbers", f"has {number}, but there are {count} parts")


def check_multipart_opened(bucket: Bucket, intent: ArchiveIntent) -> None:
    """Raise S3_UNAVAILABLE if the intent has no multipart upload in S3 yet.

    The call that starts the intent is then still waiting for S3, or it has crashed. The caller may retry until the
    intent expires.
    """
    if intent.multipart and intent.s3_upload_id is None:
        message = "S3 has not opened the multipart upload yet; nothing is lost, try again shortly or start again"
        raise Failure(v1.ERROR_REASON_S3_UNAVAILABLE, message, endpoint=bucket.location.endpoint)


def for_parts(
    resources: Resources, bucket: Bucket, intent: ArchiveIntent, numbers: Sequence[int]
) -> list[tuple[int, str]]:
    """Return URLs to PUT these parts, each with its number; empty if the upload is a single PUT."""
    if intent.s3_upload_id is None:
        return []
    key, s3_upload_id, lifetime = intent.data_object_key, intent.s3_upload_id, resources.url_lifetime
    return [(number, bucket.part_url(key, s3_upload_id, number, lifetime)) for number in numbers]


def for_archive(resources: Resources, bucket: Bucket, intent: ArchiveIntent) -> str:
    """Return the URL to PUT the whole archive; empty if the upload has parts."""
    return "" if intent.multipart else bucket.put_url(intent.data_object_key, resources.url_lifetime)


def for_index(resources: Resources, bucket: Bucket, intent: ArchiveIntent) -> str:
    """Return the URL to PUT the index."""
    return bucket.put_url(intent.index_object_key, resources.url_lifetime)


def for_checksums(resources: Resources, bucket: Bucket, intent: ArchiveIntent) -> str:
    """Return the URL to PUT the checksums; empty if the client does not send them."""
    if not intent.with_checksums:
        return ""
    return bucket.put_url(names.checksums_key(intent.data_object_key), resources.url_lifetime)


def uploaded_parts(bucket: Bucket, intent: ArchiveIntent, sizes: Sequence[int]) -> list[PartInfo]:
    """Return the parts that S3 has received; `sizes` are those of all parts. Raise as `check_multipart_opened`.

    All parts are returned if S3 has joined them already, which is so when the response to a completion was lost. None
    is returned if the store cannot list them: all are sent again.
    """
    check_multipart_opened(bucket, intent)
    if intent.s3_upload_id is None:
        return []
    try:
        uploaded = bucket.list_parts(intent.data_object_key, intent.s3_upload_id)
        if uploaded is not None:
            return uploaded
    except UploadMissing:
        pass
    archive = bucket.head(intent.data_object_key)
    if archive is None:
        return []
    return [PartInfo(number, archive.etag, size) for number, size in enumerate(sizes, 1)]
