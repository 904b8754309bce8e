"""The test of a new bucket configuration. It finds out which of endpoint, bucket, region and credentials is wrong."""

from collections.abc import Mapping
from typing import Any

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.s3.clients import CONFIG, Location, client_for
from datas3t.server.s3.faults import unavailable
from datas3t.server.s3.gate import GATE
from datas3t.server.s3.guard import LINK_LOCAL, is_refusal

# A person waits for the result, so it retries only once.
_CONFIG = CONFIG.merge(Config(retries={"mode": "standard", "total_max_attempts": 2}, read_timeout=10))
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
    try:
        with GATE.passed(location):
            client = client_for(location, _CONFIG)
            response = client.list_objects_v2(Bucket=location.bucket, MaxKeys=1)
    except ClientError as error:
        raise _refused(error, location) from None
    except SSLError:
        raise _unreachable(location, "TLS fails; check the scheme and the certificate") from None
    except (EndpointConnectionError, ConnectTimeoutError, ReadTimeoutError):
        raise _unreachable(location, "no server responds; check host and port") from None
    except ConnectionClosedError:
        raise _unreachable(location, "it closes the connection; check scheme, host and port") from None
    except ResponseParserError:
        raise _unreachable(location, _NOT_S3) from None
    except (BotoCoreError, ValueError) as error:
        cause = LINK_LOCAL if is_refusal(error) else f"the request failed ({type(error).__name__}); check the endpoint"
        raise _unreachable(location, cause) from None
    if "KeyCount" not in response and "Name" not in response:
        raise _unreachable(location, _NOT_S3)


def _refused(error: ClientError, location: Location) -> Failure:
    """Return the failure for an error response."""
    details: Mapping[str, Any] = error.response.get("Error", {})
    response: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
    code, status = str(details.get("Code", "")), int(response.get("HTTPStatusCode", 0))
    if code in _NO_BUCKET or code in _WRONG_REGION:
        region = details.get("Region") or response.get("HTTPHeaders", {}).get("x-amz-bucket-region")
        return _not_found(location, code, str(region or ""))
    if status in _GATEWAY or code == "SlowDown":
        return unavailable(location, code or str(status))
    if not code or code.isdigit():  # the body is not S3's; botocore uses the status as code, and 500 for a 200
        return _unreachable(location, _NOT_S3)
    if code in _CREDENTIALS or status in (401, 403):
        cause = _CREDENTIALS.get(code, f"the credentials are refused ({code})")
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
