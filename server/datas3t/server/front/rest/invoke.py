"""One call over REST: JSON to a request, the servicer's method, its response to JSON. No gRPC is involved."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from datas3t.server.front.rest import codec
from datas3t.server.front.rest.responses import Response
from datas3t.server.front.rest.routes import Route


class _Context:
    """The part of gRPC's context that servicers use. A call over REST has no deadline and is never cancelled."""

    def time_remaining(self) -> None:
        return None

    def is_active(self) -> bool:
        return True

    def set_code(self, code: object) -> None:
        """Do nothing. Generated servicers set UNIMPLEMENTED before they raise it."""

    def set_details(self, details: str) -> None:
        """Do nothing, as in `set_code`."""


def invoke(
    route: Route, body: bytes, query: Sequence[tuple[str, str]], raise_if_stopped: Callable[[], None]
) -> Response:
    """Run the call to its end. The messages of a stream become one response, and so do the pages of a listing.

    `raise_if_stopped` is called between two messages or pages.

    Raises:
        Failure: for a request that is not valid.
        Exception: whatever the servicer or `raise_if_stopped` raises.
    """
    request = route.request()
    if route.has_body:
        for name, _ in query:
            raise codec.unknown_field(name)
        codec.decode(body, request)
    else:
        codec.decode_query(query, request)
    if route.raw:
        raw = _joined_bytes(route, request)
        return Response(route.success, raw.data, raw.content_type)
    message = _joined_messages(route, request, raise_if_stopped)
    if route.success == 204:
        return Response(204)
    return Response(route.success, codec.encode(message, only=route.response_body))


def _joined_messages(route: Route, request: Any, raise_if_stopped: Callable[[], None]) -> Message:
    if route.method.server_streaming:
        whole = GetMessageClass(route.method.output_type)()
        for message in route.call(request, _Context()):
            whole.MergeFrom(message)
            raise_if_stopped()
        return whole
    whole = page = cast(Message, route.call(request, _Context()))
    while token := getattr(page, "next_page_token", ""):
        raise_if_stopped()
        request.page_token = token
        page = route.call(request, _Context())
        whole.MergeFrom(page)
    return whole


def _joined_bytes(route: Route, request: Any) -> HttpBody:
    """Return the bytes of a stream of HttpBody in one. MergeFrom would overwrite `data` instead of appending to it."""
    result = route.call(request, _Context())
    parts: list[HttpBody] = list(result) if route.method.server_streaming else [result]
    content_type = next((part.content_type for part in parts if part.content_type), "application/octet-stream")
    return HttpBody(content_type=content_type, data=b"".join(part.data for part in parts))
