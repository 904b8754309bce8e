"""One call over REST: JSON to a request, the servicer's method, its response to JSON. No gRPC is involved."""

from collections.abc import Sequence
from typing import Any, cast

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from datas3t.server.call import current
from datas3t.server.db.listings import JsonPage
from datas3t.server.errors import Failure
from datas3t.server.front.calls import Origin
from datas3t.server.front.calls.guarded import Admission
from datas3t.server.front.rest import codec
from datas3t.server.front.rest.responses import Response
from datas3t.server.front.rest.routes import RAW_TYPE, Route


def invoke(route: Route, origin: Origin, body: bytes, query: Sequence[tuple[str, str]]) -> Response:
    """Run the call to its end. The messages of a stream become one response, and so do the pages of a listing.

    Raises:
        Failure: for a caller that may not make the call, for a request that is not valid, or if the call is ended
            between two messages or pages.
        Exception: whatever the servicer raises.
    """
    with route.guarded.admitted(origin) as admission:
        request, given = _parsed(route, body, query)
        try:
            return _called(route, admission, request)
        except Failure as failure:
            raise codec.missing_field(failure, route.method.input_type, given) or failure from None


class Listing:
    """A call of a listing whose pages the database writes as JSON: they are fetched one by one, when they are sent."""

    def __init__(self, route: Route, origin: Origin, body: bytes, query: Sequence[tuple[str, str]]) -> None:
        self._route = route
        self._admission = route.guarded.admitted(origin)
        self._received = body, query
        self._request: Any = None
        self.is_at_end = False

    def next(self) -> bytes:
        """Return the next part of the JSON of the response. All of them together are the whole.

        Raises:
            Failure: as `invoke` does.
        """
        route = self._route
        if self._request is not None:
            page = self._admission.json_page(self._request)
            start = b"," if page.objects else b""
        else:
            page = self._first_page()
            start = codec.listing_start(route.method.output_type, route.response_body)
        self._request.page_token = page.next_token
        self.is_at_end = not page.next_token
        end = codec.listing_end(route.response_body) if self.is_at_end else b""
        return start + page.objects + end

    def _first_page(self) -> JsonPage:
        """Let the caller in, once for all pages, and return the first one."""
        with self._admission as admission:
            self._request, given = _parsed(self._route, *self._received)
            try:
                return admission.json_page(self._request)
            except Failure as failure:
                raise codec.missing_field(failure, self._route.method.input_type, given) or failure from None


def _parsed(route: Route, body: bytes, query: Sequence[tuple[str, str]]) -> tuple[Any, set[str]]:
    """Return the request, and the names of the fields that it has."""
    request = route.request()
    if route.has_body:
        codec.refuse_query(query, route.method.input_type)
        return request, codec.decode(body, request)
    codec.refuse_body(body, route.method.input_type)
    return request, codec.decode_query(query, request)


def _called(route: Route, admission: Admission, request: Any) -> Response:
    if route.raw:
        raw = _joined_bytes(route, admission, request)
        return Response(route.success, raw.data, raw.content_type)
    message = _joined_messages(route, admission, request)
    if route.success == 204:
        return Response(204)
    return Response(route.success, codec.encode(message, only=route.response_body))


def _joined_messages(route: Route, admission: Admission, request: Any) -> Message:
    if route.method.server_streaming:
        whole = GetMessageClass(route.method.output_type)()
        for message in admission.call(request):
            whole.MergeFrom(message)
            current().raise_if_ended()
        return whole
    whole = page = cast(Message, admission.call(request))
    while token := getattr(page, "next_page_token", ""):
        current().raise_if_ended()
        request.page_token = token
        page = admission.call(request)
        whole.MergeFrom(page)
    return whole


def _joined_bytes(route: Route, admission: Admission, request: Any) -> HttpBody:
    """Return the bytes of a stream of HttpBody in one. MergeFrom would overwrite `data` instead of appending to it."""
    result = admission.call(request)
    parts: list[HttpBody] = list(result) if route.method.server_streaming else [result]
    content_type = next((part.content_type for part in parts if part.content_type), RAW_TYPE)
    return HttpBody(content_type=content_type, data=b"".join(part.data for part in parts))
