"""Translation of botocore's errors, in messages without secrets and without queries of URLs."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.s3.gate import GATE
from datas3t.server.s3.locations import Location
from datas3t.transport import LINK_LOCAL_CODE, TransferError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

LINK_LOCAL = "it has a link-local address, which is never allowed; correct the endpoint"


class ObjectMissing(Exception):  # noqa: N818 - a response of S3 that callers handle
    """The object does not exist."""


class ObjectChanged(Exception):  # noqa: N818
    """The object has another ETag or another size than expected."""


class UploadMissing(Exception):  # noqa: N818
    """The multipart upload does not exist, or it was completed or aborted."""


class InvalidParts(Exception):  # noqa: N818
    """S3 cannot join the parts. The message has S3's reason."""


class OtherDigest(Exception):  # noqa: N818
    """S3 has computed another checksum for the object than it was told."""


class UnknownOperation(Exception):  # noqa: N818
    """The store does not support the operation, which is one that some stores lack."""


_PASSING = frozenset(("RequestTimeout", "IncompleteBody", "RequestTimeTooSkewed"))  # of status 400, but may not recur
_INVALID_PARTS = frozenset(("InvalidPart", "InvalidPartOrder", "EntityTooSmall", "MalformedXML"))
_OTHER_DIGEST = frozenset(("BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch"))
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
    """Raise botocore's errors of the block as ObjectMissing, UploadMissing, InvalidParts, OtherDigest or Failure.

    The failures are S3_UNAVAILABLE and S3_REFUSED.
    """
    # What is in the block has imported boto3 or will. It takes 0.2 s, which other calls do not need.
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
    from botocore.parsers import ResponseParserError  # noqa: PLC0415

    from datas3t.server.s3.attempts import refused_response  # noqa: PLC0415
    from datas3t.server.s3.guard import is_refusal  # noqa: PLC0415

    try:
        with GATE.admitted(location):
            yield
    except ClientError as error:
        raise translate(error, location) from None
    except (BotoCoreError, ResponseParserError) as error:
        if is_refusal(error):
            raise _link_local(location) from None
        raise unavailable(location, refused_response(error) or type(error).__name__) from None
    except KeyError as error:
        raise unavailable(location, f"its response has no {error}") from None
    except ValueError as error:  # botocore's, for a number or a time that it cannot parse, or ours for a wrong number
        raise unavailable(location, f"its response has a wrong value: {_line(error)}") from None


def translate(error: "ClientError", location: Location) -> Exception:
    """Return the exception for an error response of S3."""
    details: Any = error.response.get("Error", {})
    code = str(details.get("Code", ""))
    response: Any = error.response.get("ResponseMetadata", {})
    status = int(response.get("HTTPStatusCode", 0))
    if code == "NoSuchUpload":
        return UploadMissing()
    if code in _OTHER_DIGEST and error.operation_name == "CompleteMultipartUpload":
        return OtherDigest()
    if code in _INVALID_PARTS or (status == 400 and _is_refused_completion(error, code)):
        return InvalidParts(f"{code}: {_line(details.get('Message', ''))}")
    if code in _REFUSED or status in (401, 403):
        clocks = _clocks(response) if code == "RequestTimeTooSkewed" else ""
        return _refused(location, f"{code or status}{clocks}")
    if code == "NoSuchKey" and error.operation_name == "AbortMultipartUpload":
        return ObjectMissing()
    return unavailable(location, code or str(status))


@contextmanager
def optional_operation() -> Iterator[None]:
    """Raise UnknownOperation if the store responds as if it does not support the operation of the block."""
    from botocore.exceptions import ClientError  # noqa: PLC0415 - as above
    from botocore.parsers import ResponseParserError  # noqa: PLC0415

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if (status in (400, 405, 501) or code == "NoSuchKey") and code not in _REFUSED | _PASSING:
            raise UnknownOperation from None
        raise
    except ResponseParserError:
        raise UnknownOperation from None


def _is_refused_completion(error: "ClientError", code: str) -> bool:
    """Return whether S3 has checked the parts and refuses to join them."""
    return error.operation_name == "CompleteMultipartUpload" and code not in {"", "400"} | _REFUSED | _PASSING


@contextmanager
def transfers_translated(location: Location, operation: str) -> Iterator[None]:
    """Raise the engine's errors of an operation as ObjectMissing, ObjectChanged or Failure, and wrong XML as Failure.

    Only GetObject, which asks for an ETag and a range, can find that an object has changed.
    """
    try:
        yield
    except TransferError as error:
        raise _translate_transfer(error, location, operation) from None
    except ValueError as error:
        raise unavailable(location, str(error)) from None


def _translate_transfer(error: TransferError, location: Location, operation: str) -> Exception:
    """Return the exception for a request that the engine could not do."""
    code, status = error.code, error.status
    if code == LINK_LOCAL_CODE:
        return _link_local(location)
    # A response to a HEAD has no body, so no code.
    if error.gone or (status == 404 and operation == "HeadObject"):
        return ObjectMissing()
    if code in _REFUSED or status in (301, 401, 403):
        return _refused(location, error.cause.removeprefix("S3 returned "))
    if operation == "GetObject" and status in (412, 416):
        return ObjectChanged()
    return unavailable(location, error.cause)


def _link_local(location: Location) -> Failure:
    message = f"endpoint {location.endpoint} is not used: {LINK_LOCAL}"
    return Failure(v1.ERROR_REASON_S3_REFUSED, message, endpoint=location.endpoint)


def _refused(location: Location, cause: str) -> Failure:
    message = (
        f"S3 at {location.endpoint} refuses access to bucket {location.bucket!r} ({cause}); "
        "update the bucket configuration, then call again"
    )
    if "clock" in cause:
        message = f"S3 at {location.endpoint} refuses access to bucket {location.bucket!r} ({cause})"
    return Failure(v1.ERROR_REASON_S3_REFUSED, message, endpoint=location.endpoint)


def _clocks(response: Any) -> str:
    theirs = response.get("HTTPHeaders", {}).get("date", "unknown")
    ours = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return f"; S3's clock says {_line(theirs)}, ours {ours}: set the clock that is wrong"


def unavailable(location: Location, cause: str) -> Failure:
    """Return S3_UNAVAILABLE: S3 does not respond, or has an internal error."""
    return Failure(
        v1.ERROR_REASON_S3_UNAVAILABLE,
        f"S3 at {location.endpoint} does not respond as expected ({cause}); nothing is lost, try again shortly",
        endpoint=location.endpoint,
    )


def _line(text: object) -> str:
    """Return a text on one line, with at most 200 characters."""
    return " ".join(str(text).split())[:200]
