"""The test of a new bucket configuration. It finds out which of endpoint, bucket, region and credentials is wrong."""

import re

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.s3.faults import LINK_LOCAL, unavailable
from datas3t.server.s3.listings import parse_page
from datas3t.server.s3.locations import Location
from datas3t.server.s3.markup import MAX_RESPONSE
from datas3t.server.s3.wire import Wire
from datas3t.transport import LINK_LOCAL_CODE, TransferError

# A person waits for the result, so it retries only once.
_RETRIES = 1
_ATTEMPT_SECONDS = 10.0
_REGION = re.compile(rb"<Region>([A-Za-z0-9-]{1,64})</Region>")
_NOT_S3 = "the server there does not speak S3; check host and port"
_NO_BUCKET = frozenset(("NoSuchBucket", "InvalidBucketName"))
_WRONG_REGION = frozenset(("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"))
_CREDENTIALS = {
    "InvalidAccessKeyId": "the access key is unknown",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "AccessDenied": "the credentials have no permission to list the bucket",
    "RequestTimeTooSkewed": "the clocks of this server and of S3 differ too much",
}
_GATEWAY = (429, 502, 503, 504)  # proxies in front of S3 return these, without an error code of S3


def check(location: Location) -> None:
    """Test a location by listing at most one key, which needs no permission to write.

    Raises ENDPOINT_UNREACHABLE, S3_BUCKET_NOT_FOUND, S3_CREDENTIALS_REFUSED or S3_UNAVAILABLE.
    """
    wire = Wire(location, retries=_RETRIES, seconds=_ATTEMPT_SECONDS)
    try:
        response = wire.send("ListObjectsV2", "GET", query={"list-type": "2", "max-keys": "1"}, limit=MAX_RESPONSE)
        parse_page(response.body)
    except TransferError as error:
        raise _refused(error, location) from None
    except ValueError:
        raise _unreachable(location, _NOT_S3) from None


def _refused(error: TransferError, location: Location) -> Failure:
    """Return the failure for a request that failed."""
    code, status = error.code, error.status
    if not status:
        cause = LINK_LOCAL if code == LINK_LOCAL_CODE else f"{error.cause}; check scheme, host and port"
        return _unreachable(location, cause)
    if code in _NO_BUCKET or code in _WRONG_REGION:
        match = _REGION.search(error.body)
        return _not_found(location, code, match[1].decode() if match else error.headers.get("x-amz-bucket-region", ""))
    if status in _GATEWAY or code == "SlowDown":
        return unavailable(location, error.cause)
    if not code:
        return _unreachable(location, f"{_NOT_S3} ({error.cause})")
    if code in _CREDENTIALS or status in (401, 403):
        cause = _CREDENTIALS.get(code, f"the credentials are refused ({code})") + error.cause.partition(code)[2]
        message = f"bucket {location.bucket!r} at {location.endpoint} cannot be listed: {cause}"
        return Failure(v1.ERROR_REASON_S3_CREDENTIALS_REFUSED, message, **_metadata(location))
    return unavailable(location, code) if status >= 500 else _unreachable(location, f"{_NOT_S3} ({code})")


def _not_found(location: Location, code: str, region: str) -> Failure:
    """Return S3_BUCKET_NOT_FOUND. `region` is that of the bucket, if S3 returned it."""
    if code in _NO_BUCKET:
        message = f"there is no bucket {location.bucket!r} at {location.endpoint}; create it, or check its name"
    else:
        hint = f"it is in region {region}" if region else "check the region"
        message = f"there is no bucket {location.bucket!r} at {location.endpoint} in region {location.region}; {hint}"
    return Failure(v1.ERROR_REASON_S3_BUCKET_NOT_FOUND, message, **_metadata(location))


def _metadata(location: Location) -> dict[str, str]:
    return {"endpoint": location.endpoint, "s3_bucket": location.bucket}


def _unreachable(location: Location, cause: str) -> Failure:
    message = f"endpoint {location.endpoint} does not work: {cause}"
    return Failure(v1.ERROR_REASON_ENDPOINT_UNREACHABLE, message, endpoint=location.endpoint)
