"""One call over REST, in a thread: JSON to request, the servicer's method, answer to JSON. No gRPC is in between."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from datas3t.server.front.rest import codec as json
from datas3t.server.front.rest.answers import Answer
from datas3t.server.front.rest.routes import Route


class Context:
    """What of gRPC's context a servicer may ask: over REST a call has no deadline, and nobody ends it halfway."""

    def time_remaining(self) -> None:
        return None

    def is_active(self) -> bool:
        return True

    def set_code(self, code: object) -> None:
        """For generated servicers, whose methods set UNIMPLEMENTED before they raise it."""

    def set_details(self, details: str) -> None:
        """As set_code."""


def invoke(route: Route, body: bytes, query: Sequence[tuple[str, str]], go_on: Callable[[], None]) -> Answer:
    """Runs the call to its end. A stream's messages become one answer, and so do a listing's pages.

    Raises what the servicer raises, what `go_on` raises between two steps, and Failure for requests that are none.
    """
    request = route.request()
    if route.has_body:
        for name, _ in query:
            raise json.unknown_field(name)
        json.decode(body, request)
    else:
        json.decode_query(query, request)
    answer = _whole(route, request, go_on)
    if route.success == 204:
        return Answer(204)
    if route.raw:
        raw = cast(HttpBody, answer)
        return Answer(route.success, raw.data, raw.content_type)
    return Answer(route.success, json.encode(answer, only=route.response_body))


def _whole(route: Route, request: Any, go_on: Callable[[], None]) -> Message:
    if route.raw:
        joined: Message = _joined(route, request)
        return joined
    if route.method.server_streaming:
        whole = GetMessageClass(route.method.output_type)()
        for message in route.call(request, Context()):
            whole.MergeFrom(message)
            go_on()
        return whole
    whole = page = cast(Message, route.call(request, Context()))
    while token := getattr(page, "next_page_token", ""):
        go_on()
        request.page_token = token
        page = route.call(request, Context())
        whole.MergeFrom(page)
    return whole


def _joined(route: Route, request: Any) -> HttpBody:
    """`data` is bytes, which MergeFrom would overwrite."""
    answer = route.call(request, Context())
    parts: list[HttpBody] = list(answer) if route.method.server_streaming else [answer]
    content_type = next((part.content_type for part in parts if part.content_type), "application/octet-stream")
    return HttpBody(content_type=content_type, data=b"".join(part.data for part in parts))
