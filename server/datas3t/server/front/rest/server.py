"""The HTTP/1.1 server on the edge's event loop: the contract's routes, run in threads, and the operators' pages."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

from aiohttp import web

from datas3t import v1
from datas3t.server.call import Call, caller_left
from datas3t.server.errors import Failure
from datas3t.server.front.calls import Origin
from datas3t.server.front.calls.failures import CallFailed
from datas3t.server.front.calls.observing import Caller, observed
from datas3t.server.front.calls.running import RunningCalls
from datas3t.server.front.rest import body
from datas3t.server.front.rest.connection import Connection, needs_tls
from datas3t.server.front.rest.cross_site import CrossSite, RequestInfo
from datas3t.server.front.rest.invoke import Listing, invoke
from datas3t.server.front.rest.responses import Response, error_response, streamed_to_aiohttp, to_aiohttp
from datas3t.server.front.rest.routes import Route, Routes, method_not_allowed
from datas3t.server.settings import Timeouts
from datas3t.server.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

_MAX_QUERY_FIELDS = 100  # far more than any request has
_PAGE_THREADS = 4  # of their own, so that the metrics respond even if all threads for calls are busy
_CLOSE_SECONDS = 1.0  # for open connections to end by themselves
_READING = ("GET", "HEAD")


class Page(NamedTuple):
    """A page for operators. Without `in_thread` it responds on the event loop, so it must not wait for anything.

    With `admit` it is shown to those alone whom that lets in, by their `authorization`; it raises a failure for others.
    """

    respond: Callable[[], Response]
    in_thread: bool = False
    admit: Callable[[str | None], object] | None = None


class RestServer:
    """Serves HTTP/1.1 connections.

    `pages` maps paths to pages, which are not calls of the contract: they are neither counted nor logged.
    """

    def __init__(
        self,
        routes: Routes,
        pages: dict[str, Page],
        metrics: Metrics,
        running: RunningCalls,
        timeouts: Timeouts,
        cross_site: CrossSite,
    ) -> None:
        self._routes = routes
        self._pages = pages
        self._metrics = metrics
        self._running = running
        self._timeouts = timeouts
        self._cross_site = cross_site
        self._page_threads = ThreadPoolExecutor(_PAGE_THREADS, thread_name_prefix="pages")

    def open(self) -> None:
        """Prepare to serve. Called on the loop before the first connection."""
        # A handler is cancelled when its client disconnects, and ends its call.
        self._server = web.Server(self._handle, handler_cancellation=True)

    def connection(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return Connection(self._server, self._timeouts)

    def needs_tls(self) -> bytes:
        """Return the response to a client without TLS, where it is needed."""
        return needs_tls()

    async def close(self) -> None:
        """End all connections."""
        self._server.pre_shutdown()  # closes idle connections, which `shutdown` would wait for
        await self._server.shutdown(_CLOSE_SECONDS)
        self._page_threads.shutdown(wait=False, cancel_futures=True)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.head_received()
        try:
            return await self._respond(request)
        finally:
            connection.await_head()

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        caller = Caller.of(request.headers.get)
        info = RequestInfo(request.method, request.path in self._pages, _Headers(request.headers))
        headers = {**caller.headers(), **self._cross_site.response_headers(info)}
        # A request that fails before it calls a method is counted and logged by `_refuse`, a call by `_call`.
        try:
            self._cross_site.check(info)
            if self._cross_site.allows_preflight(info):
                return to_aiohttp(Response(204), headers, close=self._running.draining)
            page = self._pages.get(request.path)
            if page is not None and request.method in _READING:
                return to_aiohttp(await self._read(page, info), headers, close=self._running.draining)
            route = self._route(request)
            query = _query(request)
            has_body = route.has_body or request.can_read_body
            content = await body.read(request, self._timeouts) if has_body else b""
            with self._running.track(route.name) as call:
                origin = _origin(request, caller, info)
                if route.guarded.has_json_pages:
                    listing = Listing(route, origin, content, query)
                    return await self._list(request, call, route.name, listing, caller, headers)
                response = await self._call(call, route, partial(invoke, route, origin, content, query), caller)
                return await self._sent(request, to_aiohttp(response, headers, close=self._running.draining))
        except Failure as failure:
            close = self._running.draining or body.is_left(request)
            self._routes.guard.note_refused(_origin(request, caller, info), failure)
            refused = await self._sent(request, to_aiohttp(self._refuse(failure, caller), headers, close=close))
            if body.is_left(request) and not _awaits_continue(request):
                await body.discard(request, self._timeouts.unread_body)
            return refused

    async def _read(self, page: Page, info: RequestInfo) -> Response:
        in_thread = partial(asyncio.get_running_loop().run_in_executor, self._page_threads)
        if page.admit is not None:
            await in_thread(page.admit, info.headers.get("authorization"))
        return await in_thread(page.respond) if page.in_thread else page.respond()

    def _route(self, request: web.BaseRequest) -> Route:
        if request.path in self._pages:
            raise method_not_allowed(request.path, request.method, _READING)
        return self._routes.find(request.method, request.path)

    async def _call(self, call: Call, route: Route, invoked: Callable[[], Response], caller: Caller) -> Response:
        try:
            with observed(self._metrics, route.name, "rest", caller):
                return await self._running.run(call, invoked)
        except CallFailed as error:
            return error_response(error.status)

    async def _list(
        self, request: web.BaseRequest, call: Call, name: str, listing: Listing, caller: Caller, headers: dict[str, str]
    ) -> web.StreamResponse:
        """Send a listing. If it has several parts, each is fetched when the client has taken most of the earlier ones.

        An error after the first part aborts the connection, so that no client takes the beginning for the whole.
        """
        streamed: web.StreamResponse | None = None
        try:
            with observed(self._metrics, name, "rest", caller):
                part = await self._running.run(call, listing.next)
                if listing.is_at_end:
                    response = Response(200, part)
                else:
                    streamed = streamed_to_aiohttp(headers, close=self._running.draining)
                    is_head = request.method == "HEAD"  # whose response has no body: further parts are not needed
                    await self._send_part(request, streamed, b"" if is_head else part, is_last=is_head)
                    while not is_head and not listing.is_at_end:
                        part = await self._running.run(call, listing.next)
                        await self._send_part(request, streamed, part, is_last=listing.is_at_end)
                    return streamed
        except CallFailed as error:
            if streamed is not None:
                if request.transport is not None:
                    request.transport.abort()
                raise ConnectionResetError from None
            response = error_response(error.status)
        return await self._sent(request, to_aiohttp(response, headers, close=self._running.draining))

    async def _send_part(
        self, request: web.BaseRequest, streamed: web.StreamResponse, part: bytes, *, is_last: bool
    ) -> None:
        """Send a part of a response. Raises CALLER_LEFT for a client that has left, or does not read it in time."""
        transport = request.transport
        if transport is None:
            raise caller_left()
        timer = asyncio.get_running_loop().call_later(self._timeouts.response, transport.abort)
        try:
            if not streamed.prepared:
                await streamed.prepare(request)
            if part:
                await streamed.write(part)
            if is_last:
                await streamed.write_eof()  # which waits for the client if the part was not waited for
        except ConnectionError:
            raise caller_left() from None
        finally:
            timer.cancel()

    def _refuse(self, failure: Failure, caller: Caller) -> Response:
        """Count and log a request that fails before it calls a method, and return the response."""
        try:
            with observed(self._metrics, "none", "rest", caller):
                raise failure
        except CallFailed as error:
            return error_response(error.status, allow=failure.metadata.get("allowed", ""))

    async def _sent(self, request: web.BaseRequest, response: web.Response) -> web.Response:
        """Send the response, and abort the connection of a client that does not read it in time.

        aiohttp would send it after the handler returns, when the call no longer counts as running: a server that
        drains could then stop before its last responses are sent.
        """
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        # When the connection is aborted, what waits for the client to read raises ConnectionError.
        timer = asyncio.get_running_loop().call_later(self._timeouts.response, transport.abort)
        try:
            await response.prepare(request)
            await response.write_eof()
        finally:
            timer.cancel()
        return response


def _origin(request: web.BaseRequest, caller: Caller, info: RequestInfo) -> Origin:
    peer = request.get_extra_info("peername")
    return Origin(
        "rest", caller.request_id, info.headers.get("authorization"), "{}:{}".format(*peer[:2]) if peer else ""
    )


class _Headers(Mapping[str, str]):
    """The headers of a request, by their names in any case; one that is given twice has both values."""

    def __init__(self, headers: "CIMultiDictProxy[str]") -> None:
        self._headers = headers

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._headers.getall(name))

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.lower() for name in self._headers))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in self._headers

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a header. Most are not there, so it does without an exception."""
        return self[name] if name in self._headers else default


def _awaits_continue(request: web.BaseRequest) -> bool:
    """Return whether the client waits for 100 Continue before it sends the body, and so will not send it."""
    return request.headers.get("Expect", "").lower() == "100-continue"


def _query(request: web.BaseRequest) -> list[tuple[str, str]]:
    text = request.rel_url.raw_query_string
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_FIELDS)
    except ValueError:
        message = f"the query of the URL is not UTF-8, or has more than {_MAX_QUERY_FIELDS} fields"
        raise Failure(v1.ERROR_REASON_MALFORMED_REQUEST, message) from None
