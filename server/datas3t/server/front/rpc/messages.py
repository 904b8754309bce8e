"""Receiving the messages of a call, with a time limit, and ending it with an error status."""

import asyncio
import contextlib
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.front.calls.failures import ErrorStatus, failure_status

_DETAILS_KEY = "grpc-status-details-bin"  # gRPC's trailer for a google.rpc.Status
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


async def receive(context: Any, seconds: float, *metadata: tuple[str, str]) -> bytes:
    """Return the next message of the client. If it does not arrive within `seconds`, end the call.

    Raises:
        Failure: MALFORMED_REQUEST if the client ended the stream without a message.
        grpc.aio.AbortError: The message did not arrive in time. gRPC must receive this very exception.
    """
    # `read` itself must not be cancelled: gRPC's core would write into freed memory. It returns when the call is ended.
    ending: list[asyncio.Task[None]] = []  # asyncio itself holds tasks by weak references only
    timer = asyncio.get_running_loop().call_later(
        seconds, lambda: ending.append(asyncio.ensure_future(_end(context, failure_status(late_message()), *metadata)))
    )
    try:
        message = await context.read()
    finally:
        timer.cancel()
    if not isinstance(message, bytes):
        raise Failure(v1.ERROR_REASON_MALFORMED_REQUEST, "the call has no message; send one")
    return message


def late_message() -> Failure:
    """Return the failure of a call whose message did not arrive in time."""
    return Failure(v1.ERROR_REASON_MALFORMED_REQUEST, "the message did not arrive in time; send it again")


def parsed(kind: type[Message], serialised: bytes) -> Any:
    """Return the parsed message.

    Raises:
        Failure: MALFORMED_REQUEST if the bytes are not a message of this type.
    """
    try:
        return kind.FromString(serialised)
    except DecodeError:
        name = kind.DESCRIPTOR.full_name
        raise Failure(v1.ERROR_REASON_MALFORMED_REQUEST, f"the bytes are not a message {name}") from None


async def abort(context: Any, status: ErrorStatus, *metadata: tuple[str, str]) -> None:
    """End the call with an error status. Always raises grpc.aio.AbortError."""
    trailing = ((_DETAILS_KEY, status.to_rpc().SerializeToString()), *metadata)
    await context.abort(_CODES[status.code], status.message, trailing)


async def _end(context: Any, status: ErrorStatus, *metadata: tuple[str, str]) -> None:
    with contextlib.suppress(grpc.aio.AbortError):
        await abort(context, status, *metadata)
