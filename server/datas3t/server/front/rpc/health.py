"""gRPC's standard health service. Clients that watch it do not occupy threads."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from datas3t.server.errors import Failure
from datas3t.server.front.calls.failures import failure_status
from datas3t.server.front.rpc.messages import abort, parsed, receive

SERVICE = "grpc.health.v1.Health"
_CHECK_INTERVAL = 0.5  # seconds between two checks of whether the server is still ready, for each client that watches

_Status = health_pb2.HealthCheckResponse
_Handler = Callable[[Any], Awaitable[None]]


class Health:
    """The health service. Every service has the status of the server. To be used only on the event loop.

    `is_ready` must return at once.
    """

    def __init__(self, services: Sequence[str], is_ready: Callable[[], bool], request_seconds: float) -> None:
        self._services = frozenset(("", *services))
        self._request_seconds = request_seconds
        self._is_ready = is_ready
        self._serving = False
        self._changed = asyncio.Event()

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler of the service."""
        return standard_handler(SERVICE, {"Check": self._check, "Watch": self._watch})

    def report(self, *, serving: bool) -> None:
        """Set the status, and send it to the clients that watch it."""
        self._serving = serving
        self._changed.set()
        self._changed = asyncio.Event()

    async def _check(self, context: Any) -> None:
        request = parsed(health_pb2.HealthCheckRequest, await receive(context, self._request_seconds))
        status = self._status(request.service)
        if status == _Status.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        await context.write(_Status(status=status).SerializeToString())

    async def _watch(self, context: Any) -> None:
        request = parsed(health_pb2.HealthCheckRequest, await receive(context, self._request_seconds))
        known = None
        while True:
            changed, status = self._changed, self._status(request.service)
            if status != known:
                known = status
                await context.write(_Status(status=status).SerializeToString())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_INTERVAL):
                    await changed.wait()

    def _status(self, service: str) -> Any:
        if service not in self._services:
            return _Status.SERVICE_UNKNOWN
        return _Status.SERVING if self._serving and self._is_ready() else _Status.NOT_SERVING


def standard_handler(service: str, methods: dict[str, _Handler]) -> grpc.GenericRpcHandler:
    """Return a handler of methods that read and write bytes. A Failure of a method becomes the status of the call."""

    def method(function: _Handler) -> Any:
        async def run(_: Any, context: Any) -> None:
            try:
                await function(context)
            except Failure as failure:
                await abort(context, failure_status(failure))

        return grpc.stream_stream_rpc_method_handler(run)

    return grpc.method_handlers_generic_handler(service, {name: method(each) for name, each in methods.items()})
