"""Whether a new bucket configuration works; and if not, which of endpoint, bucket and credentials is wrong."""

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

_CONFIG = CONFIG.merge(Config(retries={"mode": "standard", "total_max_attempts": 2}, read_timeout=10))
_NO_S3 = "what answers there is no S3; check host and port"
_NO_BUCKET = frozenset(("NoSuchBucket", "InvalidBucketName"))
_WRONG_REGION = frozenset(("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"))
_CREDENTIALS = {
    "InvalidAccessKeyId": "the access key is unknown",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "AccessDenied": "the credentials may not list the bucket",
    "RequestTimeTooSkewed": "the clocks of this server and of S3 differ too much",
}
_GATEWAY = (429, 502, 503, 504)  # what stands before S3 says these, in words of its own


def check(location: Location) -> None:
    """Lists at most one key, which needs no permission to write.

    Raises ENDPOINT_UNREACHABLE, S3_BUCKET_NOT_FOUND, S3_CREDENTIALS_REFUSED, or S3_UNAVAILABLE.
    """
    try:
        client = client_for(location, _CONFIG)
        answer = client.list_objects_v2(Bucket=location.bucket, MaxKeys=1)
    except ClientError as error:
        raise _refused(error, location) from None
    except SSLError:
        raise _unreachable(location, "TLS fails there; check the scheme and the certificate") from None
    except (EndpointConnectionError, ConnectTimeoutError, ReadTimeoutError):
        raise _unreachable(location, "nothing answers there; check host and port") from None
    except ConnectionClosedError:
        raise _unreachable(location, "it ends the connection; check scheme, host and port") from None
    except ResponseParserError:
        raise _unreachable(location, _NO_S3) from None
    except (BotoCoreError, ValueError) as error:
        raise _unreachable(location, f"it cannot be used ({type(error).__name__}); check the address") from None
    if "KeyCount" not in answer and "Name" not in answer:
        raise _unreachable(location, _NO_S3)


def _refused(error: ClientError, location: Location) -> Failure:
    details: Mapping[str, Any] = error.response.get("Error", {})
    answer: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
    code, status = str(details.get("Code", "")), int(answer.get("HTTPStatusCode", 0))
    if code in _NO_BUCKET or code in _WRONG_REGION:
        region = details.get("Region") or answer.get("HTTPHeaders", {}).get("x-amz-bucket-region")
        return _not_found(location, code, str(region or ""))
    if status in _GATEWAY or code == "SlowDown":
        return unavailable(location, code or str(status))
    if not code or code.isdigit():  # its body is none of S3's: botocore has but the status, 500 where that was 200
        return _unreachable(location, _NO_S3)
    if code in _CREDENTIALS or status in (401, 403):
        why = _CREDENTIALS.get(code, f"the credentials are refused ({code})")
        message = f"bucket {location.bucket!r} at {location.endpoint} cannot be listed: {why}"
        return Failure(v1.ERROR_REASON_S3_CREDENTIALS_REFUSED, message, **_about(location))
    return unavailable(location, code) if status >= 500 else _unreachable(location, f"{_NO_S3} ({code})")


def _not_found(location: Location, code: str, region: str) -> Failure:
    if code in _NO_BUCKET:
        message = f"there is no bucket {location.bucket!r} at {location.endpoint}; create it, or check its name"
    else:
        hint = f"it is in region {region}" if region else "check the region"
        message = f"bucket {location.bucket!r} is not at {location.endpoint} in region {location.region}; {hint}"
    return Failure(v1.ERROR_REASON_S3_BUCKET_NOT_FOUND, message, **_about(location))


def _about(location: Location) -> dict[str, str]:
    return {"endpoint": location.endpoint, "s3_bucket": location.bucket}


def _unreachable(location: Location, why: str) -> Failure:
    message = f"endpoint {location.endpoint} does not work: {why}"
    return Failure(v1.ERROR_REASON_ENDPOINT_UNREACHABLE, message, endpoint=location.endpoint)
