"""The gRPC interceptor: request id, log, metrics, error status and graceful shutdown for every call of the contract."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any, NoReturn

import grpc
from google.protobuf import descriptor_pool
from google.rpc import code_pb2, status_pb2
from grpc_interceptor import ServerInterceptor

from datas3t.server.front.calls.failures import CallFailed
from datas3t.server.front.calls.observing import REQUEST_ID, observed, request_id
from datas3t.server.front.calls.running import RunningCalls
from datas3t.server.metrics import Metrics

_CONTRACT_PREFIX = "/datas3t.v1."
_DETAILS_KEY = "grpc-status-details-bin"  # gRPC's trailer for a google.rpc.Status
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

Handler = Callable[[Any, grpc.ServicerContext], Any]
Tracking = AbstractContextManager[None]


class CallInterceptor(ServerInterceptor):
    """Tracks each call of the contract, and sends the error status of those that fail."""

    def __init__(self, metrics: Metrics, running: RunningCalls) -> None:
        self._metrics = metrics
        self._running = running

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Wrap the contract's methods only. A wrapped health method would lose its own thread pool."""
        if not handler_call_details.method.startswith(_CONTRACT_PREFIX):
            return continuation(handler_call_details)
        return super().intercept_service(continuation, handler_call_details)  # type: ignore[no-untyped-call]

    def intercept(self, method: Handler, request: Any, context: grpc.ServicerContext, method_name: str) -> Any:
        call_id = request_id(_callers_id(context))
        context.set_trailing_metadata(((REQUEST_ID, call_id),))
        name = method_name.removeprefix("/")
        tracking = self._track(name, context, call_id)
        if _is_stream(name):
            return self._call_stream(method, request, context, tracking, call_id)
        return _call(method, request, context, tracking, call_id)

    def _call_stream(
        self, method: Handler, request: Any, context: grpc.ServicerContext, tracking: Tracking, call_id: str
    ) -> Iterator[Any]:
        try:
            with tracking:
                for response in method(request, context):
                    yield response
                    self._running.raise_if_stopped()
        except CallFailed as error:
            _abort(context, error.status, call_id)

    @contextmanager
    def _track(self, name: str, context: grpc.ServicerContext, call_id: str) -> Iterator[None]:
        with observed(self._metrics, name, "grpc", call_id), self._running.track():
            _check_deadline(context)
            yield


def _call(method: Handler, request: Any, context: grpc.ServicerContext, tracking: Tracking, call_id: str) -> Any:
    try:
        with tracking:
            return method(request, context)
    except CallFailed as error:
        _abort(context, error.status, call_id)


def _check_deadline(context: grpc.ServicerContext) -> None:
    """Raise CallFailed if the caller gave up while the call waited for a thread."""
    if not context.is_active() or context.time_remaining() <= 0:
        message = "the deadline passed before the call could start"
        raise CallFailed(status_pb2.Status(code=code_pb2.DEADLINE_EXCEEDED, message=message))


def _abort(context: grpc.ServicerContext, status: status_pb2.Status, call_id: str) -> NoReturn:
    context.set_trailing_metadata(((_DETAILS_KEY, status.SerializeToString()), (REQUEST_ID, call_id)))
    context.abort(_CODES[status.code], status.message)


def _callers_id(context: grpc.ServicerContext) -> str | None:
    for name, value in context.invocation_metadata():
        if name == REQUEST_ID:
            return str(value)
    return None


@cache
def _is_stream(name: str) -> bool:
    method = descriptor_pool.Default().FindMethodByName(name.replace("/", "."))
    return bool(method.server_streaming)
