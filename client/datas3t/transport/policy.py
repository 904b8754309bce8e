"""What the outcome of a try means, and what the engine does next. No other module lists HTTP statuses or S3 codes.

| outcome of a try | meaning |
|---|---|
| 401, 403, codes of expired requests | EXPIRED: the URL has expired, or the clocks differ |
| any other 4xx after the URL's own end | EXPIRED, besides what it means otherwise |
| 412, 416; GET: 404 without an S3 code | CHANGED: the object was replaced or deleted, or a proxy is mistaken |
| code NoSuchKey | GONE: the object does not exist; S3 itself says so |
| 429, 503, code SlowDown | TEMPORARY and CROWDED: S3 asks for fewer requests |
| 408, 425, 500, 502, 504, codes in `_BY_CODE` | TEMPORARY |
| any other status of 300 or more | FINAL |
| success, but with another ETag | CHANGED, reported as status 412 |
| success, but other bytes, too few, or too many | TEMPORARY |
| success, but refused by the request's own check | TEMPORARY, and what its S3 code means |
| no complete response | TEMPORARY; FINAL for the errors in `_FINAL_CURL_ERRORS` |

A status and a code can each have a meaning; then both hold. What follows, the first row that applies:

| meaning | remedy | how often |
|---|---|---|
| EXPIRED, and the URL can be renewed | RENEW_URL: send again at once with a new URL | `retries`, at least once |
| CHANGED | ASK_AGAIN: send again after a short pause | `retries`, at most twice |
| TEMPORARY | RETRY: send again after a pause that grows | `retries` |
| otherwise | GIVE_UP: raise TransferError | |
"""

import enum
import random
from collections.abc import Mapping

import pycurl


class Meaning(enum.Flag):
    """What a try that failed says about the request, the object and S3."""

    FINAL = 0
    TEMPORARY = enum.auto()
    CROWDED = enum.auto()
    EXPIRED = enum.auto()
    CHANGED = enum.auto()
    GONE = enum.auto()


class Remedy(enum.Enum):
    """What the engine does after a try that failed."""

    RENEW_URL = enum.auto()
    ASK_AGAIN = enum.auto()
    RETRY = enum.auto()
    GIVE_UP = enum.auto()


_BY_STATUS: Mapping[int, Meaning] = {
    401: Meaning.EXPIRED,
    403: Meaning.EXPIRED,
    408: Meaning.TEMPORARY,
    412: Meaning.CHANGED,
    416: Meaning.CHANGED,
    425: Meaning.TEMPORARY,
    429: Meaning.TEMPORARY | Meaning.CROWDED,
    500: Meaning.TEMPORARY,
    502: Meaning.TEMPORARY,
    503: Meaning.TEMPORARY | Meaning.CROWDED,
    504: Meaning.TEMPORARY,
}
_BY_CODE: Mapping[str, Meaning] = {
    "BadDigest": Meaning.TEMPORARY,
    "ExpiredRequest": Meaning.EXPIRED,
    "ExpiredToken": Meaning.EXPIRED,
    "IncompleteBody": Meaning.TEMPORARY,
    "InternalError": Meaning.TEMPORARY,
    "NoSuchKey": Meaning.GONE,
    "RequestExpired": Meaning.EXPIRED,
    "RequestTimeTooSkewed": Meaning.EXPIRED,
    "RequestTimeout": Meaning.TEMPORARY,
    "SlowDown": Meaning.TEMPORARY | Meaning.CROWDED,
}
# The cause is on this side and stays: the URL, a certificate or its settings, or the source of a PUT's body.
_FINAL_CURL_ERRORS = frozenset(
    (
        pycurl.E_URL_MALFORMAT,
        pycurl.E_SSL_CACERT_BADFILE,
        pycurl.E_PEER_FAILED_VERIFICATION,
        pycurl.E_SSL_CERTPROBLEM,
        pycurl.E_READ_ERROR,
    )
)
_MAX_DOUBTS = 2  # a stale proxy cache is right again by then, and a changed object is reported soon
_FIRST_PAUSE = 0.2  # seconds, at most, before the first retry
_PAUSE_GROWTH = 3  # how much longer each further pause may be
_MAX_PAUSE = 5.0  # seconds; restarts and congestion of S3 take no longer


def meaning_of_status(method: str, status: int, code: str, *, is_over: bool = False) -> Meaning:
    """Return what an error response means.

    Args:
        method: The method of the request.
        status: The status, 300 or more.
        code: S3's error code, or "".
        is_over: Whether the time of the presigned URL is over. Stores respond to such a URL with different statuses.
    """
    expired = Meaning.EXPIRED if is_over and 400 <= status < 500 else Meaning.FINAL
    # S3 itself always says NoSuchKey. A 404 without it comes from a proxy, which may be mistaken.
    if method == "GET" and status == 404 and not code:
        return Meaning.CHANGED | expired
    return _BY_STATUS.get(status, Meaning.FINAL) | meaning_of_code(code) | expired


def meaning_of_code(code: str) -> Meaning:
    """Return what an S3 error code means by itself, as in the body of a response with status 200."""
    return _BY_CODE.get(code, Meaning.FINAL)


def meaning_of_curl_error(error: int) -> Meaning:
    """Return what it means that libcurl has ended a request with this error, without a complete response."""
    return Meaning.FINAL if error in _FINAL_CURL_ERRORS else Meaning.TEMPORARY


def choose_remedy(meaning: Meaning, taken: Mapping[Remedy, int], retries: int, *, renewable: bool) -> Remedy:
    """Return what to do next.

    Args:
        meaning: What the last try meant.
        taken: How often the request has had each remedy before; must return 0 for those it has not had.
        retries: How often the caller lets a request be retried.
        renewable: Whether the request can get a new URL.
    """
    if Meaning.EXPIRED in meaning and renewable and taken[Remedy.RENEW_URL] < max(1, retries):
        return Remedy.RENEW_URL
    if Meaning.CHANGED in meaning and taken[Remedy.ASK_AGAIN] < min(_MAX_DOUBTS, retries):
        return Remedy.ASK_AGAIN
    if Meaning.TEMPORARY in meaning and taken[Remedy.RETRY] < retries:
        return Remedy.RETRY
    return Remedy.GIVE_UP


def pause_before(remedy: Remedy, taken: Mapping[Remedy, int], retry_after: float) -> float:
    """Return how many seconds to wait before the next try. Random, so that requests that failed together spread out.

    Args:
        remedy: Why the request is sent again.
        taken: How often it has had each remedy before, as for `choose_remedy`.
        retry_after: The seconds to wait that S3 returned.
    """
    if remedy is Remedy.RENEW_URL:
        return 0.0
    if remedy is Remedy.ASK_AGAIN:
        return random.uniform(0, _FIRST_PAUSE)  # noqa: S311
    longest = min(_MAX_PAUSE, _FIRST_PAUSE * _PAUSE_GROWTH ** taken[remedy])
    return max(random.uniform(0, longest), retry_after)  # noqa: S311
