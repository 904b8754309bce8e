"""HTTP responses of the REST server, from a call's result or its error status."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

from aiohttp import web
from google.rpc import status_pb2

from datas3t.server.front.calls.failures import error_body, http_status

_RETRY_AFTER = "2"  # seconds


class Response(NamedTuple):
    """An HTTP status, the body and its type; `allow` is the Allow header of a 405."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    allow: str = ""


def error_response(status: status_pb2.Status, allow: str = "") -> Response:
    """Return the JSON response for an error status."""
    return Response(http_status(status), json.dumps(error_body(status), ensure_ascii=False).encode(), allow=allow)


def to_aiohttp(response: Response, headers: Mapping[str, str], *, close: bool) -> web.Response:
    """Return aiohttp's response with these headers and the common ones; with `close`, it ends the connection.

    No cache may keep it: presigned URLs in a body work like passwords until they expire.
    """
    headers = {**headers, "Cache-Control": "no-store", "Server": "datas3t"}
    if response.status != 204:
        headers["Content-Type"] = response.content_type
    if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = _RETRY_AFTER
    if response.allow:
        headers["Allow"] = response.allow
    converted = web.Response(status=response.status, body=response.body, headers=headers)
    if close:
        converted.force_close()
    return converted
