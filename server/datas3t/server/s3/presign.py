"""Presigned URLs: SigV4 in the query, path style, computed without a call.

AWS describes the signature in "Authenticating requests: using query parameters". The URLs are equal to those of boto3,
which the tests compare, in a tenth of the time.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from urllib.parse import quote, urlsplit

from datas3t.server.s3.counts import SIGNED
from datas3t.server.s3.locations import Location

_ALGORITHM = "AWS4-HMAC-SHA256"
_MIN_LIFETIME = timedelta(seconds=1)
_MAX_LIFETIME = timedelta(days=7)  # S3 rejects longer ones
_UNRESERVED = "-._~"  # characters besides letters and digits that SigV4 does not quote
_NEVER_QUOTED = re.compile(r"[A-Za-z0-9/\-._~]*").fullmatch


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
    instant = _instant(now)
    scope = _scope(location, instant)
    origin, host = _address(location.endpoint)
    signed = {"host": host, **(headers or {})}
    path, pairs = _path(location, key), _query(location, instant, lifetime, ";".join(sorted(signed)), query or {})
    digest = hashlib.sha256((f"{method}\n{path}" + _rest_of_request(pairs, signed)).encode()).hexdigest()
    text = f"{_ALGORITHM}\n{instant}\n{scope}\n{digest}"
    signature = _hmac(_day_key(location.secret_key, instant[:8], location.region), text).hex()
    return f"{origin}{path}?{pairs}&X-Amz-Signature={signature}"


class GetSigner:
    """Signs GETs of many objects for clients, with everything but the object's key computed once, and counts them.

    A URL is the address, "?", `query`, "&X-Amz-Signature=" and the signature in hexadecimal digits.

    Args:
        location: The bucket and the credentials.
        lifetime: As for `presign`.
        now: As for `presign`.
    """

    def __init__(self, location: Location, lifetime: timedelta, now: datetime | None = None) -> None:
        instant = _instant(now)
        origin, host = _address(location.endpoint)
        path = _path(location, "")
        self._root = f"{origin}{path}/"
        self.query = _query(location, instant, lifetime, "host", {})
        self._before = f"GET\n{path}/"
        self._after = _rest_of_request(self.query, {"host": host})
        self._count = SIGNED["GET"].add
        day_key = _day_key(location.secret_key, instant[:8], location.region)
        start = f"{_ALGORITHM}\n{instant}\n{_scope(location, instant)}\n"
        self._mac = hmac.new(day_key, start.encode(), "sha256")

    def signature(self, key: str) -> bytes:
        """Return the 32 bytes of the signature of a key."""
        return self._sign(_quoted_path(key))

    def address(self, key: str) -> str:
        """Return the URL of a key, or of a folder, without its query."""
        return self._root + _quoted_path(key)

    def url(self, key: str) -> str:
        """Return the URL of a key."""
        quoted = _quoted_path(key)
        return f"{self._root}{quoted}?{self.query}&X-Amz-Signature={self._sign(quoted).hex()}"

    def _sign(self, quoted: str) -> bytes:
        self._count()
        request = f"{self._before}{quoted}{self._after}"
        mac = self._mac.copy()
        mac.update(hashlib.sha256(request.encode()).hexdigest().encode())
        return mac.digest()


def _instant(now: datetime | None) -> str:
    """Return the time of a signature as SigV4 writes it."""
    return (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")


def _scope(location: Location, instant: str) -> str:
    return f"{instant[:8]}/{location.region}/s3/aws4_request"


def _path(location: Location, key: str) -> str:
    """Return the path of an object, quoted as SigV4 requires; that of the bucket if the key is empty."""
    return _quoted_path(f"/{location.bucket}/{key}" if key else f"/{location.bucket}")


def _quoted_path(path: str) -> str:
    """Return a path, or a part of it, quoted as SigV4 requires."""
    return path if _NEVER_QUOTED(path) else quote(path, safe=f"/{_UNRESERVED}")


def _query(location: Location, instant: str, lifetime: timedelta, names: str, query: Mapping[str, str]) -> str:
    """Return the query of a URL without the signature. `names` are those of the signed headers."""
    parameters = {
        **query,
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{location.access_key}/{_scope(location, instant)}",
        "X-Amz-Date": instant,
        "X-Amz-Expires": str(int(max(_MIN_LIFETIME, min(lifetime, _MAX_LIFETIME)).total_seconds())),
        "X-Amz-SignedHeaders": names,
    }
    return "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in sorted(parameters.items()))


def _rest_of_request(query: str, signed: Mapping[str, str]) -> str:
    """Return the canonical request after the path, given the query and the signed headers."""
    values = "".join(f"{name}:{signed[name].strip()}\n" for name in sorted(signed))
    return f"\n{query}\n{values}\n{';'.join(sorted(signed))}\nUNSIGNED-PAYLOAD"


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
