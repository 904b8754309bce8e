"""The gRPC interceptor: request id, log, metrics and error status for every call of the contract."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any
from urllib.parse import unquote

import grpc.aio
from grpc_interceptor.server import AsyncServerInterceptor

from datas3t.server.errors import Failure
from datas3t.server.front.calls import Origin
from datas3t.server.front.calls.failures import CallFailed
from datas3t.server.front.calls.observing import Caller, observed
from datas3t.server.front.rpc.messages import abort, late_message, receive
from datas3t.server.front.rpc.methods import ORIGIN
from datas3t.server.telemetry.metrics import Metrics

_CONTRACT_PREFIX = "/datas3t.v1."
AUTHORIZATION = "authorization"

Method = Callable[[Any, Any], Awaitable[Any]]
Headers = tuple[tuple[str, str], ...]


class CallInterceptor(AsyncServerInterceptor):
    """Reads the request of each call of the contract, logs and counts the call, and sends the status of an error."""

    def __init__(self, metrics: Metrics, request_seconds: float) -> None:
        self._request_seconds = request_seconds
        self._metrics = metrics
        self._handlers: dict[str, Any] = {}

    async def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Wrap the methods of the contract, but not health checks and reflection."""
        name = handler_call_details.method
        if not name.startswith(_CONTRACT_PREFIX):
            return await continuation(handler_call_details)
        handler = self._handlers.get(name)
        if handler is None:
            handler = await super().intercept_service(continuation, handler_call_details)  # type: ignore[no-untyped-call]
            if handler is not None:
                self._handlers[name] = handler  # cached, because it depends only on the method
        return handler

    async def intercept(self, method: Method, _request_or_iterator: Any, context: Any, method_name: str) -> Any:
        metadata = context.invocation_metadata() or ()
        caller = Caller.of(dict(metadata).get)
        ORIGIN.set(Origin("grpc", caller.request_id, _authorization(metadata), client_of(context.peer())))
        headers = tuple(caller.headers().items())
        context.set_trailing_metadata(headers)
        call = partial(observed, self._metrics, method_name.removeprefix("/"), "grpc", caller)
        try:
            request = await self._receive(context, headers, call)
            with call():
                return await method(request, context)
        except CallFailed as error:
            await abort(context, error.status, *headers)

    async def _receive(self, context: Any, headers: Headers, call: Callable[[], AbstractContextManager[None]]) -> bytes:
        """Return the message of a call. A call without one is counted and logged here, as all others are by `call`."""
        try:
            return await receive(context, self._request_seconds, *headers)
        except grpc.aio.AbortError:
            with suppress(CallFailed), call():
                raise late_message() from None
            raise
        except (Failure, asyncio.CancelledError) as error:
            with call():
                raise error from None
            raise AssertionError from None  # never reached: `call` suppresses no exception


def client_of(peer: str) -> str:
    """Return the address of a client, as far as gRPC knows it."""
    kind, _, rest = peer.partition(":")
    if kind == "unix-abstract":  # a relayed connection, which the edge has named after its client
        return rest.rpartition("/")[2]
    return unquote(rest) if kind in ("ipv4", "ipv6") else ""


def _authorization(metadata: Headers) -> str | None:
    """Return what the call says about its caller. If that is given twice, no token equals both in one."""
    given = [value for name, value in metadata if name == AUTHORIZATION]
    return ", ".join(given) if given else None
