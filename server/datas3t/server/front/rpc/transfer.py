"""Messages and fields that the servicers of uploads, aggregates and downloads share."""

from collections.abc import Iterable
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from datas3t import v1
from datas3t.server.s3.bucket import PartInfo


def timestamp(instant: datetime) -> Timestamp:
    """Return the message for an instant that has a time zone."""
    message = Timestamp()
    message.FromDatetime(instant)
    return message


def uploaded_parts(parts: Iterable[PartInfo]) -> list[v1.UploadedPart]:
    """Return the messages for parts that S3 already has."""
    return [v1.UploadedPart(number=part.number, etag=part.etag, size=part.size) for part in parts]
