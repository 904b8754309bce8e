"""One HTTP/1.1 connection: aiohttp's protocol, with our words for what is no HTTP."""

import logging

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.rest.answers import refusal, response
from datas3t.server.rpc.calls import request_id
from datas3t.server.rpc.failures import status_of, unexpected

_NO_HTTP = "this is no request that the server understands; it speaks gRPC and HTTP/1.1, both without TLS"
_log = logging.getLogger(__name__)


class Connection(RequestHandler):
    """Answers in JSON where aiohttp would in text, and logs no part of what was received."""

    __slots__ = ()

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
