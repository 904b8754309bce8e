"""What goes back over HTTP: an answer or a refusal, and how it becomes a response."""

import json
from typing import NamedTuple

from aiohttp import web
from google.rpc import status_pb2

from datas3t.server.front.calls.failures import error_body, http_status
from datas3t.server.front.calls.observing import REQUEST_ID

JSON = "application/json"


class Answer(NamedTuple):
    """An HTTP status, the body, its type, and for 405 what would be allowed."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    allow: str = ""


def refusal(status: status_pb2.Status, allow: str = "") -> Answer:
    """The JSON of an error."""
    return Answer(http_status(status), json.dumps(error_body(status), ensure_ascii=False).encode(), allow=allow)


def response(answer: Answer, call_id: str, *, close: bool) -> web.Response:
    """The response; URLs in it are secrets for a day, so no cache keeps it."""
    headers = {REQUEST_ID: call_id, "Cache-Control": "no-store", "Server": "datas3t"}
    if answer.status != 204:
        headers["Content-Type"] = answer.content_type
    if answer.allow:
        headers["Allow"] = answer.allow
    made = web.Response(status=answer.status, body=answer.body, headers=headers)
    if close:
        made.force_close()
    return made
