"""One HTTP/1.1 connection: aiohttp's protocol, with our words for what is no HTTP."""

import asyncio
import logging

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.front.calls.failures import status_of, unexpected
from datas3t.server.front.calls.observing import request_id
from datas3t.server.front.rest.answers import refusal, response
from datas3t.server.settings import Patience

_NO_HTTP = "this is no request that the server understands; it speaks gRPC and HTTP/1.1, both without TLS"
_log = logging.getLogger(__name__)


class Connection(RequestHandler):
    """Answers in JSON where aiohttp would in text, logs no part of what was received, and does not wait for ever.

    aiohttp's own limit is for idle connections: half a head would do to hold one.
    """

    __slots__ = ("_seconds", "_timer")

    def __init__(self, server: web.Server, patience: Patience) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            lingering_time=patience.rest_of_body,
            access_log=None,  # type: ignore[arg-type] # as in aiohttp's own runners
        )
        self._seconds = patience.head

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.wait_for_head()

    def wait_for_head(self) -> None:
        """Ends the connection unless the next request's head is there in time."""
        if self.transport is not None:
            self._timer = self._loop.call_later(self._seconds, self.transport.abort)

    def head_came(self) -> None:
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
        if request.writer.output_size > 0 or isinstance(exc, ConnectionError):
            raise ConnectionResetError  # the client has gone, or has half an answer
        if status == 400:
            _log.debug("a connection sent what is no HTTP")
            told = status_of(Failure(v1.ERROR_REASON_MALFORMED_REQUEST, _NO_HTTP))
        else:
            told = unexpected(exc or RuntimeError("no cause given"), "HTTP")
        return response(refusal(told), request_id(None), close=True)
