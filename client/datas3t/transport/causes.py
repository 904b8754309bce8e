"""Why a try has failed, in one line for people: refusals by S3 or by what is in between, and failed connections."""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import pycurl

from datas3t.transport.trust import ca_bundle

_SKEW = 60.0  # seconds by which clocks may differ before a message mentions it
_TITLE = re.compile(rb"<title>([^<]{1,200})</title>", re.IGNORECASE)
_SERVER_TIME = re.compile(rb"<ServerTime>([0-9TZ:.+-]{10,40})</ServerTime>")
_WANTS_TLS = re.compile(rb"HTTP request (was sent )?to (an )?HTTPS", re.IGNORECASE)
_NOBODY = (pycurl.E_COULDNT_CONNECT, pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_OPERATION_TIMEDOUT)
_NOT_HTTP = ": what responds is no HTTP server; if the port speaks TLS, write https://"
_HINTS = {
    pycurl.E_SSL_CONNECT_ERROR: ": TLS fails; if the port speaks plain HTTP, write http://",
    pycurl.E_UNSUPPORTED_PROTOCOL: _NOT_HTTP,
    pycurl.E_GOT_NOTHING: _NOT_HTTP,
    8: _NOT_HTTP,  # CURLE_WEIRD_SERVER_REPLY
}


class Validity(NamedTuple):
    """When a presigned URL was signed, and when it ends, in seconds since the epoch."""

    start: float
    end: float


def validity(url: str) -> Validity | None:
    """Return when a URL is valid, according to its query; None for a URL that does not expire."""
    query = parse_qs(urlsplit(url).query)
    try:
        signed = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        return Validity(signed, signed + float(query["X-Amz-Expires"][0]))
    except (KeyError, ValueError):
        return None


def is_over(url: str, headers: Mapping[str, str]) -> bool:
    """Whether a URL's own time is over, by S3's clock or by ours."""
    valid = validity(url)
    return valid is not None and max(time.time(), _clock_of(headers) or 0.0) >= valid.end


def refusal(status: int, code: str, headers: Mapping[str, str], body: bytes) -> str:
    """Return what a response with an error status says. If the body is a page of HTML, include its title."""
    if code:
        return f"S3 returned {status} {code}"
    if _WANTS_TLS.search(body):
        return f"the port speaks TLS (status {status}); write https:// instead of http://"
    hint = (
        "; the limit there for the size of a request is too low (nginx: client_max_body_size)" if status == 413 else ""
    )
    if not _is_page(headers, body):
        return f"S3 returned {status}{hint}"
    title = _TITLE.search(body)
    words = f" ({_line(title[1].decode('latin-1'))})" if title else ""
    return f"S3 returned {status} with a page of HTML{words}, as a proxy or another server in its place does{hint}"


def clocks(code: str, url: str, headers: Mapping[str, str], body: bytes, *, is_new: bool) -> str:
    """Return how S3's clock and ours differ, if that can be why S3 has refused a URL; "" if they agree.

    Args:
        code: S3's error code.
        url: The URL that was refused.
        headers: The headers of the refusal.
        body: Its body.
        is_new: Whether the URL was signed just now, to replace one that was refused.
    """
    match = _SERVER_TIME.search(body)
    theirs, ours, valid = _time_of(match[1]) if match else _clock_of(headers), time.time(), validity(url)
    if theirs is None:
        return "; the clocks of S3 and of the signer differ too much" if code == "RequestTimeTooSkewed" else ""
    by_url = is_new and valid is not None and not valid.start - _SKEW <= theirs <= valid.end
    if code != "RequestTimeTooSkewed" and abs(theirs - ours) <= _SKEW and not by_url:
        return ""
    signed = f", and the URL was signed at {_said(valid.start)}" if valid else ""
    return f"; S3's clock says {_said(theirs)}, ours {_said(ours)}{signed}: set the clock that is wrong"


def failed_connection(error: int, message: str) -> str:
    """Return why there was no complete response, given libcurl's error and message."""
    words, trusted = _line(message) or f"libcurl error {error}", ca_bundle()
    if error == pycurl.E_PEER_FAILED_VERIFICATION:
        which = f"; trusted is {trusted}".rstrip(",") if trusted else ""
        return f"its certificate is not trusted ({words}){which}; name its CA's file in SSL_CERT_FILE"
    if error == pycurl.E_SSL_CACERT_BADFILE and trusted:
        return f"{trusted} cannot be read as certificates"
    if error in _NOBODY:
        return f"no server responds ({words})"
    return words + _HINTS.get(error, "")


def _is_page(headers: Mapping[str, str], body: bytes) -> bool:
    return "html" in headers.get("content-type", "").lower() or body.lstrip()[:14].lower().startswith(
        (b"<!doctype html", b"<html")
    )


def _clock_of(headers: Mapping[str, str]) -> float | None:
    try:
        return parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (ValueError, TypeError):
        return None


def _time_of(text: bytes) -> float | None:
    try:
        return datetime.fromisoformat(text.decode()).timestamp()
    except ValueError:
        return None


def _said(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _line(text: str) -> str:
    """Return foreign text as one printable line of at most 200 characters."""
    return "".join(each if each.isprintable() else "?" for each in " ".join(text.split())[:200])
