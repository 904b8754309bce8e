"""HTTP responses of the REST server, from a call's result or its error status."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

from aiohttp import web

from datas3t.server.front.calls.failures import ErrorStatus, error_body, http_status

_RETRY_AFTER = "2"  # seconds


class Response(NamedTuple):
    """An HTTP status, the body and its type; `allow` is the Allow header of a 405."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    allow: str = ""


def error_response(status: ErrorStatus, allow: str = "") -> Response:
    """Return the JSON response for an error status."""
    return Response(http_status(status), json.dumps(error_body(status), ensure_ascii=False).encode(), allow=allow)


def to_aiohttp(response: Response, headers: Mapping[str, str], *, close: bool) -> web.Response:
    """Return aiohttp's response with these headers and the common ones; with `close`, it ends the connection.

    No cache may keep it: presigned URLs in a body work like passwords until they expire.
    """
    headers = _with_common(headers)
    if response.status != 204:
        headers["Content-Type"] = response.content_type
    if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = _RETRY_AFTER
    if response.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if response.allow:
        headers["Allow"] = response.allow
    converted = web.Response(status=response.status, body=response.body, headers=headers)
    if close:
        converted.force_close()
    return converted


def streamed_to_aiohttp(headers: Mapping[str, str], *, close: bool) -> web.StreamResponse:
    """Return aiohttp's response to a call that succeeds, whose JSON is sent in parts."""
    streamed = web.StreamResponse(headers={**_with_common(headers), "Content-Type": "application/json"})
    if close:
        streamed.force_close()
    return streamed


def _with_common(headers: Mapping[str, str]) -> dict[str, str]:
    return {**headers, "Cache-Control": "no-store", "Server": "datas3t"}
