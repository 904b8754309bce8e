"""One call over REST: JSON to a request, the servicer's method, its response to JSON. No gRPC is involved."""

from collections.abc import Sequence
from typing import Any, cast

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from datas3t.server.call import current
from datas3t.server.errors import Failure
from datas3t.server.front.calls import Context
from datas3t.server.front.rest import codec
from datas3t.server.front.rest.responses import Response
from datas3t.server.front.rest.routes import RAW_TYPE, Route

_CONTEXT = Context()


def invoke(route: Route, body: bytes, query: Sequence[tuple[str, str]]) -> Response:
    """Run the call to its end. The messages of a stream become one response, and so do the pages of a listing.

    Raises:
        Failure: for a request that is not valid, or if the call is ended between two messages or pages.
        Exception: whatever the servicer raises.
    """
    request = route.request()
    if route.has_body:
        codec.refuse_query(query, route.method.input_type)
        given = codec.decode(body, request)
    else:
        codec.refuse_body(body, route.method.input_type)
        given = codec.decode_query(query, request)
    try:
        return _called(route, request)
    except Failure as failure:
        raise codec.missing_field(failure, route.method.input_type, given) or failure from None


def _called(route: Route, request: Any) -> Response:
    if route.raw:
        raw = _joined_bytes(route, request)
        return Response(route.success, raw.data, raw.content_type)
    message = _joined_messages(route, request)
    if route.success == 204:
        return Response(204)
    return Response(route.success, codec.encode(message, only=route.response_body))


def _joined_messages(route: Route, request: Any) -> Message:
    if route.method.server_streaming:
        whole = GetMessageClass(route.method.output_type)()
        for message in route.call(request, _CONTEXT):
            whole.MergeFrom(message)
            current().raise_if_ended()
        return whole
    whole = page = cast(Message, route.call(request, _CONTEXT))
    while token := getattr(page, "next_page_token", ""):
        current().raise_if_ended()
        request.page_token = token
        page = route.call(request, _CONTEXT)
        whole.MergeFrom(page)
    return whole


def _joined_bytes(route: Route, request: Any) -> HttpBody:
    """Return the bytes of a stream of HttpBody in one. MergeFrom would overwrite `data` instead of appending to it."""
    result = route.call(request, _CONTEXT)
    parts: list[HttpBody] = list(result) if route.method.server_streaming else [result]
    content_type = next((part.content_type for part in parts if part.content_type), RAW_TYPE)
    return HttpBody(content_type=content_type, data=b"".join(part.data for part in parts))
