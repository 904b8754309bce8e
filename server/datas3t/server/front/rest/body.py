"""The body of a request: read whole within its limits, or refused and, up to a limit, thrown away."""

import asyncio
import contextlib

from aiohttp import web

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.settings import Timeouts

MAX_BODY = 4 * 2**20  # bytes; a completion with 10,000 ETags is under 1 MiB
_MAX_DISCARDED = 4 * 2**20  # bytes of a refused body
_MAX_SHOWN = 40  # characters of a Content-Encoding that an error repeats


async def read(request: web.BaseRequest, timeouts: Timeouts) -> bytes:
    """Return the body.

    Raises:
        Failure: CONTENT_ENCODING, BODY_TOO_LARGE or MALFORMED_REQUEST.
    """
    encoding = request.headers.get("Content-Encoding", "")
    if encoding.strip().lower() not in ("", "identity"):
        shown = encoding[:_MAX_SHOWN].encode("ascii", "backslashreplace").decode()
        message = f"the body has the Content-Encoding {shown!r}; send it without one"
        raise Failure(v1.ERROR_REASON_CONTENT_ENCODING, message, encoding=shown)
    if (request.content_length or 0) > MAX_BODY:
        raise _too_large()
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # as aiohttp does: these bytes are not part of the response
    body = bytearray()
    try:
        if request.content.is_eof() and request.content_length is not None:  # as most small bodies, it is all there
            return request.content.read_nowait()
        async with asyncio.timeout(timeouts.request_body):
            async for chunk in request.content.iter_any():  # a chunked body has no Content-Length
                body += chunk
                if len(body) > MAX_BODY:
                    raise _too_large()
    except TimeoutError:
        raise Failure(v1.ERROR_REASON_MALFORMED_REQUEST, "the body did not arrive in time; send it again") from None
    except web.RequestPayloadError:
        message = "the body does not match its headers; check its length and its chunks"
        raise Failure(v1.ERROR_REASON_MALFORMED_REQUEST, message) from None
    return bytes(body)


def is_left(request: web.BaseRequest) -> bool:
    """Return whether some of the body was not read, so that the connection cannot be used again."""
    return not request.content.is_eof()


async def discard(request: web.BaseRequest, seconds: float) -> None:
    """Read and discard the rest of a refused body if it is small.

    Many clients read the response only after they have sent everything, and lose it if the connection is closed before.
    For a large body, the connection is closed, which makes the client stop sending.
    """
    size = 0
    with contextlib.suppress(TimeoutError, web.RequestPayloadError):
        async with asyncio.timeout(seconds):
            async for chunk in request.content.iter_any():
                size += len(chunk)
                if size > _MAX_DISCARDED:
                    return


def _too_large() -> Failure:
    message = f"the body is larger than the limit of {MAX_BODY} bytes"
    return Failure(v1.ERROR_REASON_BODY_TOO_LARGE, message, limit=MAX_BODY)
