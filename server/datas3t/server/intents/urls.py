"""URLs by which an open upload or aggregate gets its objects to S3, and what S3 has of it."""

from collections.abc import Sequence
from typing import Protocol

from datas3t import v1
from datas3t.server import values
from datas3t.server.errors import Failure
from datas3t.server.intents.states import Intent
from datas3t.server.resources import Resources
from datas3t.server.s3.bucket import Bucket, PartInfo, UploadMissing

FIRST_URLS = 1000


class InEvenParts(Intent, Protocol):
    """An intent whose parts, but for the last, have all one size."""

    @property
    def data_size(self) -> int: ...
    @property
    def part_size(self) -> int: ...


def part_count(intent: InEvenParts) -> int:
    """How many parts; 0 where it is one PUT."""
    return -(-intent.data_size // intent.part_size) if intent.multipart else 0


def check_numbers(numbers: Sequence[int], count: int) -> None:
    """Refuses numbers of parts that are too many at once, or not among `count`."""
    if len(numbers) > FIRST_URLS:
        raise values.invalid("part_numbers", f"has {len(numbers)} numbers; ask for at most {FIRST_URLS} at once")
    for number in numbers:
        if not 1 <= number <= count:
            raise values.invalid("part_numbers", f"has {number}, but there are {count} parts")


def check_opened(bucket: Bucket, intent: Intent) -> None:
    """Raises S3_UNAVAILABLE where the call that starts it waits for S3 still, or has crashed: until it expires, whoever
    asks may ask again."""
    if intent.multipart and intent.s3_upload_id is None:
        message = "S3 has not opened the multipart upload yet; nothing is lost, try again shortly, or start anew"
        raise Failure(v1.ERROR_REASON_S3_UNAVAILABLE, message, endpoint=bucket.location.endpoint)


def of_parts(resources: Resources, bucket: Bucket, intent: Intent, numbers: Sequence[int]) -> list[tuple[int, str]]:
    """PUT these parts, by number."""
    if intent.s3_upload_id is None:
        return []
    key, s3_upload_id, lifetime = intent.data_object_key, intent.s3_upload_id, resources.url_lifetime
    return [(number, bucket.part_url(key, s3_upload_id, number, lifetime)) for number in numbers]


def of_archive(resources: Resources, bucket: Bucket, intent: Intent) -> str:
    """PUTs the whole archive; empty where it goes in parts."""
    return "" if intent.multipart else bucket.put_url(intent.data_object_key, resources.url_lifetime)


def of_index(resources: Resources, bucket: Bucket, intent: Intent) -> str:
    """PUTs the index."""
    return bucket.put_url(intent.index_object_key, resources.url_lifetime)


def uploaded(bucket: Bucket, intent: Intent, sizes: Sequence[int]) -> list[PartInfo]:
    """The parts, of these sizes, that S3 has. All of them where it has put them together already, and the answer of the
    completion was lost. Raises as check_opened."""
    check_opened(bucket, intent)
    if intent.s3_upload_id is None:
        return []
    try:
        return bucket.list_parts(intent.data_object_key, intent.s3_upload_id)
    except UploadMissing:
        whole = bucket.head(intent.data_object_key)
        if whole is None:
            return []
        return [PartInfo(number, whole.etag, size) for number, size in enumerate(sizes, 1)]
