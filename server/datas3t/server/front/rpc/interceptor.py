"""The gRPC interceptor: request id, log, metrics and error status for every call of the contract."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.rpc import status_pb2
from grpc_interceptor.server import AsyncServerInterceptor

from datas3t.server.front.calls.failures import CallFailed
from datas3t.server.front.calls.observing import Caller, observed
from datas3t.server.metrics import Metrics

_CONTRACT_PREFIX = "/datas3t.v1."
_DETAILS_KEY = "grpc-status-details-bin"  # gRPC's trailer for a google.rpc.Status
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

Method = Callable[[Any, Any], Awaitable[Any]]


class CallInterceptor(AsyncServerInterceptor):
    """Observes each call of the contract, and sends the error status of those that fail."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Wrap the contract's methods only: health checks and reflection are no calls."""
        if not handler_call_details.method.startswith(_CONTRACT_PREFIX):
            return await continuation(handler_call_details)
        return await super().intercept_service(continuation, handler_call_details)  # type: ignore[no-untyped-call]

    async def intercept(self, method: Method, request_or_iterator: Any, context: Any, method_name: str) -> Any:
        caller = Caller.of(context.invocation_metadata() or ())
        context.set_trailing_metadata(tuple(caller.headers().items()))
        try:
            with observed(self._metrics, method_name.removeprefix("/"), "grpc", caller):
                return await method(request_or_iterator, context)
        except CallFailed as error:
            await abort(context, error.status, *caller.headers().items())


async def abort(context: Any, status: status_pb2.Status, *metadata: tuple[str, str]) -> None:
    """End the call with an error status."""
    trailing = ((_DETAILS_KEY, status.SerializeToString()), *metadata)
    await context.abort(_CODES[status.code], status.message, trailing)
