"""Whether a new bucket configuration works; and if not, which of endpoint, bucket and credentials is wrong."""

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.s3.faults import unavailable
from datas3t.server.s3.location import Location

_CONFIG = Config(
    signature_version="s3v4",
    s3={"addressing_style": "path"},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    retries={"mode": "standard", "total_max_attempts": 2},
    connect_timeout=5,
    read_timeout=10,
)
_NO_BUCKET = frozenset(("NoSuchBucket", "InvalidBucketName"))
_WRONG_REGION = frozenset(
    ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301")
)
_CREDENTIALS = {
    "InvalidAccessKeyId": "the access key is unknown",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "AccessDenied": "the credentials may not list the bucket",
}
_BUSY = (429, 500)


def check(location: Location) -> None:
    """Lists at most one key, which needs no permission to write.

    Raises ENDPOINT_UNREACHABLE, S3_BUCKET_NOT_FOUND, S3_CREDENTIALS_REFUSED, or S3_UNAVAILABLE.
    """
    try:
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=location.endpoint,
            region_name=location.region,
            aws_access_key_id=location.access_key,
            aws_secret_access_key=location.secret_key,
            config=_CONFIG,
        )
        answer = client.list_objects_v2(Bucket=location.bucket, MaxKeys=1)
    except ClientError as error:
        raise _refused(error, location) from None
    except SSLError:
        raise _unreachable(location, "TLS fails there; check the scheme and the certificate") from None
    except (EndpointConnectionError, ConnectTimeoutError, ReadTimeoutError):
        raise _unreachable(location, "nothing answers there; check host and port") from None
    except ResponseParserError:
        raise _unreachable(location, "what answers there is no S3; check host and port") from None
    except (BotoCoreError, ValueError) as error:
        raise _unreachable(location, f"it cannot be used ({type(error).__name__}); check the address") from None
    if "KeyCount" not in answer and "Name" not in answer:
        raise _unreachable(location, "what answers there is no S3; check host and port")


def _refused(error: ClientError, location: Location) -> Failure:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    about = {"endpoint": location.endpoint, "s3_bucket": location.bucket}
    if "html" in headers.get("content-type", ""):
        return _unreachable(location, "what answers there is no S3; check host and port")
    if code in _WRONG_REGION:
        hint = (
            f"it is in region {headers['x-amz-bucket-region']}"
            if "x-amz-bucket-region" in headers
            else "check the region"
        )
        message = f"bucket {location.bucket!r} is not at {location.endpoint} in region {location.region}; {hint}"
        return Failure(v1.ERROR_REASON_S3_BUCKET_NOT_FOUND, message, **about)
    if code in _NO_BUCKET:
        message = f"there is no bucket {location.bucket!r} at {location.endpoint}; create it, or check its name"
        return Failure(v1.ERROR_REASON_S3_BUCKET_NOT_FOUND, message, **about)
    if code in _CREDENTIALS or status in (401, 403):
        why = _CREDENTIALS.get(code, "the credentials are refused")
        message = f"bucket {location.bucket!r} at {location.endpoint} cannot be listed: {why}"
        return Failure(v1.ERROR_REASON_S3_CREDENTIALS_REFUSED, message, **about)
    if status >= 500 or status == 429 or code in ("SlowDown", "RequestTimeTooSkewed"):
        return unavailable(location, code or str(status))
    return _unreachable(location, f"what answers there is no S3 ({code or status}); check host and port")


def _unreachable(location: Location, why: str) -> Failure:
    message = f"endpoint {location.endpoint} does not work: {why}"
    return Failure(v1.ERROR_REASON_ENDPOINT_UNREACHABLE, message, endpoint=location.endpoint)
