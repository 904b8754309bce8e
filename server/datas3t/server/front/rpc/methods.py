"""The contract's methods as gRPC's server takes them: a call has a thread once its request has arrived whole."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.front.calls import Context, Service
from datas3t.server.front.calls.running import RunningCalls

_CONTEXT = Context()
Serialised = bytes


class Methods:
    """Makes the handlers of services. They take and return bytes: messages are parsed in the call's thread."""

    def __init__(self, running: RunningCalls, request_seconds: float) -> None:
        self._running = running
        self._request_seconds = request_seconds

    def handler(self, service: Service) -> grpc.GenericRpcHandler:
        """Return the handler of all methods of a service."""
        handlers = {method.name: self._method(service, method) for method in service.descriptor.methods}
        return grpc.method_handlers_generic_handler(service.descriptor.full_name, handlers)

    def _method(self, service: Service, method: MethodDescriptor) -> Any:
        """Return the handler of a method. It reads the request itself, as if it were a stream, to limit its time."""
        name = f"{service.descriptor.full_name}/{method.name}"
        call = _Method(method, getattr(service.servicer, method.name))

        async def unary(_: Any, context: Any) -> Serialised:
            request = await receive(context, self._request_seconds)
            with self._running.track(name, context.time_remaining()) as running:
                return await self._running.run(running, partial(call.one, request))

        async def stream(_: Any, context: Any) -> None:
            request = await receive(context, self._request_seconds)
            with self._running.track(name, context.time_remaining()) as running:
                async with aclosing(self._running.steps(running, partial(call.many, request))) as responses:
                    async for response in responses:
                        await context.write(response)

        if method.server_streaming:
            return grpc.stream_stream_rpc_method_handler(stream)
        return grpc.stream_unary_rpc_method_handler(unary)


class _Method:
    """A servicer's method, on serialised messages."""

    def __init__(self, method: MethodDescriptor, function: Any) -> None:
        self._request = GetMessageClass(method.input_type)
        self._function = function

    def one(self, request: Serialised) -> Serialised:
        """Return the one response."""
        response: Message = self._function(parsed(self._request, request), _CONTEXT)
        return response.SerializeToString()

    def many(self, request: Serialised) -> Iterator[Serialised]:
        """Yield the responses of a stream."""
        for response in self._function(parsed(self._request, request), _CONTEXT):
            yield response.SerializeToString()


async def receive(context: Any, seconds: float) -> Serialised:
    """Return the next message of the client.

    Raises:
        Failure: MALFORMED_REQUEST if it does not arrive within `seconds`, or the client ended the stream without it.
    """
    # gRPC's core would write into freed memory if `read` itself were cancelled while the call goes on.
    reading = asyncio.ensure_future(context.read())
    reading.add_done_callback(_retrieve)
    done, _ = await asyncio.wait({reading}, timeout=seconds)
    if not done:
        raise Failure(v1.ERROR_REASON_MALFORMED_REQUEST, "the message did not arrive in time; send it again")
    message = reading.result()
    if not isinstance(message, bytes):
        raise Failure(v1.ERROR_REASON_MALFORMED_REQUEST, "the call has no message; send one")
    return message


def parsed(kind: type[Message], serialised: Serialised) -> Any:
    """Return the message.

    Raises:
        Failure: MALFORMED_REQUEST if the bytes are not one.
    """
    try:
        return kind.FromString(serialised)
    except DecodeError:
        name = kind.DESCRIPTOR.full_name
        raise Failure(v1.ERROR_REASON_MALFORMED_REQUEST, f"the bytes are not a message {name}") from None


def _retrieve(reading: "asyncio.Future[Any]") -> None:
    """Take the error of a read that nobody waits for any more, so that asyncio does not log it."""
    if not reading.cancelled():
        reading.exception()
