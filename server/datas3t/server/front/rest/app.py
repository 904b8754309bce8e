"""HTTP/1.1 on the edge's loop: the contract's routes and the operators' pages. Calls run in threads."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qsl

from aiohttp import web

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.front.calls.admission import Admission
from datas3t.server.front.calls.failures import Refused
from datas3t.server.front.calls.observing import REQUEST_ID, observed, request_id
from datas3t.server.front.rest.answers import Answer, refusal, response
from datas3t.server.front.rest.connection import Connection
from datas3t.server.front.rest.invoke import invoke
from datas3t.server.front.rest.routes import Route, Routes, method_not_allowed
from datas3t.server.metrics import Metrics
from datas3t.server.settings import Patience

THREADS = 32
BODY_LIMIT = 4 * 2**20  # a completion with 10,000 ETags is under 1 MiB
_READ = ("GET", "HEAD")

Page = Callable[[], Answer]


class Rest:
    """Serves HTTP/1.1 connections. `pages` are paths that are no calls: run in threads, neither counted nor logged."""

    def __init__(
        self, routes: Routes, pages: dict[str, Page], metrics: Metrics, admission: Admission, patience: Patience
    ) -> None:
        self._routes = routes
        self._pages = pages
        self._metrics = metrics
        self._admission = admission
        self._patience = patience
        self._calls = ThreadPoolExecutor(THREADS, thread_name_prefix="rest")
        self._looks = ThreadPoolExecutor(4, thread_name_prefix="pages")  # they answer while every other thread is busy

    def open(self) -> None:
        self._server = web.Server(self._handle)

    def connection(self) -> asyncio.Protocol:
        return Connection(self._server, self._patience)

    async def close(self) -> None:
        self._server.pre_shutdown()  # or idle connections would be waited for
        await self._server.shutdown(1.0)
        self._looks.shutdown(wait=False, cancel_futures=True)
        self._calls.shutdown(wait=False, cancel_futures=True)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.head_came()
        try:
            return await self._handled(request)
        finally:
            connection.wait_for_head()

    async def _handled(self, request: web.BaseRequest) -> web.StreamResponse:
        call_id = request_id(request.headers.get(REQUEST_ID))
        page = self._pages.get(request.path)
        if page is not None and request.method in _READ:
            answer = await asyncio.get_running_loop().run_in_executor(self._looks, page)
            return response(answer, call_id, close=self._admission.closed)
        try:
            route = self._route(request)
            query = _query(request)
            body = await self._body(request) if route.has_body else b""
            with self._admission.call():
                run = asyncio.get_running_loop().run_in_executor(self._calls, self._run, route, body, query, call_id)
                return await self._sent(request, response(await run, call_id, close=self._admission.closed))
        except Failure as failure:
            return response(self._refusal(failure, call_id), call_id, close=self._admission.closed)

    def _route(self, request: web.BaseRequest) -> Route:
        if request.path in self._pages:
            raise method_not_allowed(request.path, request.method, _READ)
        return self._routes.find(request.method, request.path)

    def _run(self, route: Route, body: bytes, query: list[tuple[str, str]], call_id: str) -> Answer:
        try:
            with observed(self._metrics, route.name, "rest", call_id):
                return invoke(route, body, query, self._admission.go_on)
        except Refused as refused:
            return refusal(refused.status)

    def _refusal(self, failure: Failure, call_id: str) -> Answer:
        """What ends before it is known to be a call of the contract."""
        try:
            with observed(self._metrics, "none", "rest", call_id):
                raise failure
        except Refused as refused:
            return refusal(refused.status, allow=failure.metadata.get("allowed", ""))

    async def _body(self, request: web.BaseRequest) -> bytes:
        if (request.content_length or 0) > BODY_LIMIT:
            raise _too_large()
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        body = bytearray()
        try:
            async with asyncio.timeout(self._patience.body):
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > BODY_LIMIT:
                        raise _too_large()
        except TimeoutError:
            raise Failure(v1.ERROR_REASON_MALFORMED_REQUEST, "the body did not arrive in time; send it again") from None
        except web.RequestPayloadError:
            message = "the body is not as its headers say: neither its length nor its encoding may differ"
            raise Failure(v1.ERROR_REASON_MALFORMED_REQUEST, message) from None
        return bytes(body)

    async def _sent(self, request: web.BaseRequest, answer: web.Response) -> web.Response:
        """Sends it now, for a call is over when its answer is on its way; a client that does not read is cut off."""
        try:
            async with asyncio.timeout(self._patience.answer):
                await answer.prepare(request)
                await answer.write_eof()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError from None
        return answer


def _query(request: web.BaseRequest) -> list[tuple[str, str]]:
    try:
        return parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise Failure(v1.ERROR_REASON_MALFORMED_REQUEST, "the query of the URL is not UTF-8, or too long") from None


def _too_large() -> Failure:
    message = f"the body is larger than the {BODY_LIMIT} bytes that are the limit"
    return Failure(v1.ERROR_REASON_BODY_TOO_LARGE, message, limit=BODY_LIMIT)
