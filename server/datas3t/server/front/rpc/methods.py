"""gRPC handlers for the methods of the contract. A call gets a thread only after its whole request has arrived."""

from collections.abc import Iterator
from contextlib import aclosing
from contextvars import ContextVar
from functools import partial
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from datas3t.server.front.calls import Origin, Service
from datas3t.server.front.calls.guarded import OPEN, Guard, GuardedMethod
from datas3t.server.front.calls.running import RunningCalls
from datas3t.server.front.rpc.messages import parsed

ORIGIN: ContextVar[Origin] = ContextVar("datas3t_origin")  # of the call that an asyncio task serves
Serialised = bytes


class Methods:
    """Creates the handlers of services. They receive and return bytes: messages are parsed in the call's thread."""

    def __init__(self, running: RunningCalls, guard: Guard = OPEN) -> None:
        self._running = running
        self._guard = guard

    def handler(self, service: Service) -> grpc.GenericRpcHandler:
        """Return the handler of all methods of a service."""
        handlers = {method.name: self._method(service, method) for method in service.descriptor.methods}
        return grpc.method_handlers_generic_handler(service.descriptor.full_name, handlers)

    def _method(self, service: Service, method: MethodDescriptor) -> Any:
        """Return the handler of a method. It takes a stream of requests, because the interceptor reads the request."""
        guarded = GuardedMethod(self._guard, service, method)
        name, call = guarded.name, _Method(guarded)

        async def unary(request: Serialised, context: Any) -> Serialised:
            with self._running.track(name, context.time_remaining()) as running:
                return await self._running.run(running, partial(call.one, ORIGIN.get(), request))

        async def stream(request: Serialised, context: Any) -> None:
            with self._running.track(name, context.time_remaining()) as running:
                async with aclosing(
                    self._running.steps(running, partial(call.many, ORIGIN.get(), request))
                ) as responses:
                    async for response in responses:
                        await context.write(response)

        if method.server_streaming:
            return grpc.stream_stream_rpc_method_handler(stream)
        return grpc.stream_unary_rpc_method_handler(unary)


class _Method:
    """A servicer's method, on serialised messages."""

    def __init__(self, guarded: GuardedMethod) -> None:
        self._request = GetMessageClass(guarded.descriptor.input_type)
        self._guarded = guarded

    def one(self, origin: Origin, request: Serialised) -> Serialised:
        """Return the one response."""
        with self._guarded.admitted(origin) as admission:
            response: Message = admission.call(parsed(self._request, request))
        return response.SerializeToString()

    def many(self, origin: Origin, request: Serialised) -> Iterator[Serialised]:
        """Yield the responses of a stream."""
        with self._guarded.admitted(origin) as admission:
            for response in admission.call(parsed(self._request, request)):
                yield response.SerializeToString()
