"""Parsing of responses: status line, headers, and the code in the body of an S3 error."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)?")
_STATUS = re.compile(r"HTTP/\S+\s+(\d{3})(?!\S)", re.ASCII)
_ERROR_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,64})</Code>")
_MAX_RETRY_AFTER = 30.0  # seconds; a server that sends a larger value must not stop a transfer for minutes


def parse_head(lines: Iterable[bytes]) -> tuple[int, dict[str, str]]:
    """Return the status (0 if there is no status line yet) and the headers, by lower-case name.

    Of several heads only the last one counts: "100 Continue" can come before the response.
    """
    status, headers = 0, dict[str, str]()
    for line in lines:
        name, colon, value = line.decode("latin-1").partition(":")
        if line_of_status := _STATUS.match(name):
            status = int(line_of_status[1])
            headers.clear()
        elif colon:
            headers[name.strip().lower()] = value.strip()
    return status, headers


def etag_of(headers: Mapping[str, str]) -> str:
    """Return the ETag as `bare_etag` does, or "" if the response has no ETag."""
    return bare_etag(headers.get("etag", ""))


def bare_etag(etag: str) -> str:
    """Return an ETag without its quotes, and without the mark of a weak one, which proxies add to strong ones.

    The quotes may be missing, and there may be others inside.
    """
    etag = etag.strip().removeprefix("W/")
    return etag[1:-1] if len(etag) > 1 and etag[0] == etag[-1] == '"' else etag


def is_other_object(headers: Mapping[str, str], etag: str | None) -> bool:
    """Whether a response has an ETag, and one other than `etag`. False if any will do, or the object's is not known."""
    return bool(etag) and etag_of(headers) not in ("", etag)


def is_range(status: int, headers: Mapping[str, str], start: int, stop: int | None) -> bool:
    """Whether a response declares that it holds exactly bytes `start` to `stop` (None: any end) of the object.

    Some stores send ranges with status 200, and some the whole object, which is right if that was requested.
    """
    if status not in (200, 206):
        return False
    if declared := _CONTENT_RANGE.match(headers.get("content-range", "")):
        return int(declared[1]) == start and stop in (None, int(declared[2]) + 1)
    return status == 200 and start == 0 and headers.get("content-length", "") in ("", str(stop))


def ends_before(headers: Mapping[str, str], start: int, stop: int) -> int | None:
    """Return the size of an object whose response says that it ends before `stop`; None if it does not say so."""
    declared = _CONTENT_RANGE.match(headers.get("content-range", ""))
    if declared is None or int(declared[1]) != start or not (declared[3] or "").isdigit():
        return None
    return int(declared[3]) if int(declared[2]) + 1 == int(declared[3]) < stop else None


def whole_size(headers: Mapping[str, str]) -> int | None:
    """Return the size of the object that a response has all or a range of; None if the response does not say."""
    if "content-range" not in headers:
        size = headers.get("content-length", "")
    else:
        declared = _CONTENT_RANGE.match(headers["content-range"])
        size = (declared[3] or "") if declared else ""
    return int(size) if size.isascii() and size.isdigit() else None


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds in a Retry-After header, at most 30, or 0 without a valid header."""
    value = headers.get("retry-after", "")
    if value.isascii() and value.isdigit():
        return min(float(value), _MAX_RETRY_AFTER)
    try:
        wait = parsedate_to_datetime(value) - datetime.now(UTC)
    except (ValueError, TypeError):
        return 0.0
    return min(max(wait.total_seconds(), 0.0), _MAX_RETRY_AFTER)


def s3_error_code(body: bytes) -> str:
    """Return the code of an S3 error document, such as "NoSuchKey"; "" if the body is not such a document."""
    code = _ERROR_CODE.search(body)
    return code[1].decode() if code else ""
