"""Presigned URLs: SigV4 in the query, path style, computed without a call.

AWS describes the signature in "Authenticating requests: using query parameters". The URLs are equal to those of boto3,
which the tests compare, in a tenth of the time.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from urllib.parse import quote, urlsplit

from datas3t.server.s3.clients import Location

_ALGORITHM = "AWS4-HMAC-SHA256"
_MIN_LIFETIME = timedelta(seconds=1)
_MAX_LIFETIME = timedelta(days=7)  # S3 rejects longer ones
_UNRESERVED = "-._~"  # characters besides letters and digits that SigV4 does not quote


def presign(
    location: Location,
    method: str,
    key: str,
    lifetime: timedelta,
    *,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> str:
    """Return a URL for one method on one object.

    Args:
        location: The bucket and the credentials.
        method: The HTTP method.
        key: The object key.
        lifetime: How long the URL is valid, in whole seconds. It is limited to 1 second to 7 days.
        query: Further parameters of the query.
        headers: Headers to sign in addition to Host. The client must send them unchanged.
        now: The time of the signature, for tests.
    """
    # The query has everything but the signature.
    instant = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{instant[:8]}/{location.region}/s3/aws4_request"
    origin, host = _address(location.endpoint)
    signed = {"host": host, **(headers or {})}
    names = ";".join(sorted(signed))
    parameters = {
        **(query or {}),
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{location.access_key}/{scope}",
        "X-Amz-Date": instant,
        "X-Amz-Expires": str(int(max(_MIN_LIFETIME, min(lifetime, _MAX_LIFETIME)).total_seconds())),
        "X-Amz-SignedHeaders": names,
    }
    # The canonical request, and the text that is signed.
    path = quote(f"/{location.bucket}/{key}" if key else f"/{location.bucket}", safe=f"/{_UNRESERVED}")
    pairs = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in sorted(parameters.items()))
    values = "".join(f"{name}:{signed[name].strip()}\n" for name in sorted(signed))
    request = f"{method}\n{path}\n{pairs}\n{values}\n{names}\nUNSIGNED-PAYLOAD"
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"{_ALGORITHM}\n{instant}\n{scope}\n{digest}"
    signature = _hmac(_day_key(location.secret_key, instant[:8], location.region), text).hex()
    return f"{origin}{path}?{pairs}&X-Amz-Signature={signature}"


@lru_cache(maxsize=1024)
def _quoted(text: str) -> str:
    """Return a name or a value of the query, quoted as SigV4 requires."""
    return quote(text, safe=_UNRESERVED)


@lru_cache(maxsize=256)
def _address(endpoint: str) -> tuple[str, str]:
    """Return the origin, and the Host header as clients send it: without the default port of the scheme."""
    parts = urlsplit(endpoint)
    default = {"http": 80, "https": 443}[parts.scheme]
    host = parts.netloc.removesuffix(f":{default}") if parts.port == default else parts.netloc
    return f"{parts.scheme}://{parts.netloc}", host


@lru_cache(maxsize=256)
def _day_key(secret_key: str, day: str, region: str) -> bytes:
    """Return the signing key, which is the same for all URLs of a day."""
    key = b"AWS4" + secret_key.encode()
    for step in (day, region, "s3", "aws4_request"):
        key = _hmac(key, step)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
