"""One HTTP/1.1 connection: aiohttp's protocol, with JSON for bytes that are not HTTP, and with time limits."""

import asyncio
import logging

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.front.calls.failures import failure_status, unexpected_status
from datas3t.server.front.calls.observing import Caller
from datas3t.server.front.rest.responses import error_response, to_aiohttp
from datas3t.server.settings import Timeouts

MAX_LINE = 8190  # bytes of a request's first line
MAX_HEADER = 8190  # bytes of one header
MAX_HEADERS = 128

_NOT_HTTP = "the server cannot read this request; send gRPC or HTTP/1.1"
_NEEDS_TLS = "this port speaks TLS; write https:// in place of http://"
_HEAD_TOO_LARGE = (
    f"the head of this request is too large; its first line may have {MAX_LINE} bytes, each header {MAX_HEADER}, and"
    f" there may be {MAX_HEADERS} headers"
)
_TOO_MANY_HEADERS = "Too many headers received"  # aiohttp's text; it has no exception of its own for this
_log = logging.getLogger(__name__)


def needs_tls() -> bytes:
    """Return the response to a client that sends plain HTTP to a port with TLS. gRPC's clients show its status."""
    body = error_response(failure_status(Failure(v1.ERROR_REASON_MALFORMED_REQUEST, _NEEDS_TLS))).body
    head = (
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.2\r\nConnection: Upgrade, close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nCache-Control: no-store\r\n\r\n"
    )
    return head.encode() + body


class Connection(RequestHandler):
    """Sends errors as JSON, logs nothing that was received, and limits the size and the time of a request's head.

    aiohttp has a time limit for idle connections only, so half a head would hold a connection open for ever.
    """

    __slots__ = ("_head_timeout", "_timer")

    def __init__(self, server: web.Server, timeouts: Timeouts) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            lingering_time=0,  # `body.discard` does that, with a limit
            auto_decompress=False,  # a small body could become a huge one
            max_line_size=MAX_LINE,
            max_field_size=MAX_HEADER,
            max_headers=MAX_HEADERS,
            access_log=None,  # type: ignore[arg-type] # as in aiohttp's own runners
        )
        self._head_timeout = timeouts.request_head

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.await_head()

    def await_head(self) -> None:
        """Start the time limit for the next request's head."""
        if self.transport is not None:
            self._timer = self._loop.call_later(self._head_timeout, self.transport.abort)

    def head_received(self) -> None:
        """Stop the time limit for the head."""
        self._timer.cancel()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it may repeat what was received
    ) -> web.StreamResponse:
        """Return the response to bytes that aiohttp cannot parse, or to an unexpected exception."""
        if request.writer.output_size > 0 or isinstance(exc, ConnectionError):
            raise ConnectionResetError  # the client has left, or has already received a part of the response
        if status == 400:
            _log.debug("a connection sent bytes that are not HTTP")
            is_too_large = isinstance(exc, LineTooLong) or getattr(exc, "message", "") == _TOO_MANY_HEADERS
            why = _HEAD_TOO_LARGE if is_too_large else _NOT_HTTP
            error = failure_status(Failure(v1.ERROR_REASON_MALFORMED_REQUEST, why))
        else:
            error = unexpected_status(exc or RuntimeError("aiohttp gave no cause"), "HTTP")
        return to_aiohttp(error_response(error), Caller.of(lambda _: None).headers(), close=True)
