"""The one place that knows botocore's errors: what they mean for a call, in words that hold no secret and no query."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.s3.clients import Location


class ObjectMissing(Exception):  # noqa: N818 - an answer of S3, which the caller asked for
    """The object is not there."""


class ObjectChanged(Exception):  # noqa: N818
    """The object has another ETag, or another size, than was asked for."""


class UploadMissing(Exception):  # noqa: N818
    """The multipart upload is not open: never was, was completed, or was aborted."""


class InvalidParts(Exception):  # noqa: N818
    """S3 does not put the parts together; the message says why, in S3's words."""


_CHANGED = frozenset(("PreconditionFailed", "412", "InvalidRange", "416"))
_INVALID_PARTS = frozenset(("InvalidPart", "InvalidPartOrder", "EntityTooSmall", "MalformedXML"))
_REFUSED = frozenset(
    (
        "AccessDenied",
        "403",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "AccountProblem",
        "AllAccessDisabled",
        "NoSuchBucket",
        "301",
        "PermanentRedirect",
        "AuthorizationHeaderMalformed",
        "RequestTimeTooSkewed",
    )
)


@contextmanager
def translated(location: Location) -> Iterator[None]:
    """Raises ObjectMissing, ObjectChanged, UploadMissing or InvalidParts; Failure where S3 is away or refuses us."""
    try:
        yield
    except ClientError as error:
        raise translate(error, location) from None
    except (BotoCoreError, ResponseParserError) as error:
        raise unavailable(location, type(error).__name__) from None
    except KeyError as error:
        raise unavailable(location, f"its answer lacks {error}") from None


def translate(error: ClientError, location: Location) -> Exception:
    """What an answer of S3 means."""
    details: Any = error.response.get("Error", {})
    code = str(details.get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "NoSuchUpload":
        return UploadMissing()
    if code in _INVALID_PARTS:
        return InvalidParts(f"{code}: {_line(details.get('Message', ''))}")
    if code in _REFUSED or status in (401, 403):
        return Failure(
            v1.ERROR_REASON_S3_REFUSED,
            f"S3 at {location.endpoint} refuses bucket {location.bucket!r} ({code or status}); "
            "update the bucket configuration, then call again",
            endpoint=location.endpoint,
        )
    if code == "NoSuchKey" or (status == 404 and error.operation_name == "HeadObject"):  # whose answer has no code
        return ObjectMissing()
    if code in _CHANGED or status in (412, 416):
        return ObjectChanged()
    return unavailable(location, code or str(status))


def unavailable(location: Location, cause: str) -> Failure:
    """S3 does not answer, or with an error of its own."""
    return Failure(
        v1.ERROR_REASON_S3_UNAVAILABLE,
        f"S3 at {location.endpoint} does not answer as it should ({cause}); nothing is lost, try again shortly",
        endpoint=location.endpoint,
    )


def _line(text: object) -> str:
    return " ".join(str(text).split())[:200]
