"""The one gRPC interceptor: what is around every call of the contract, for single answers and for streams."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any, NoReturn

import grpc
from google.protobuf import descriptor_pool
from google.rpc import code_pb2, status_pb2
from grpc_interceptor import ServerInterceptor

from datas3t.server.front.calls.admission import Admission
from datas3t.server.front.calls.failures import Refused
from datas3t.server.front.calls.observing import REQUEST_ID, observed, request_id
from datas3t.server.metrics import Metrics

_CONTRACT = "/datas3t.v1."
_DETAILS = "grpc-status-details-bin"
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

Handler = Callable[[Any, grpc.ServicerContext], Any]
Around = AbstractContextManager[None]


class Calls(ServerInterceptor):
    """Gives each call its id, log line, numbers and status."""

    def __init__(self, metrics: Metrics, admission: Admission) -> None:
        self._metrics = metrics
        self._admission = admission

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Health and reflection pass as they are: a wrapped method would lose the thread pool of its own."""
        if not handler_call_details.method.startswith(_CONTRACT):
            return continuation(handler_call_details)
        return super().intercept_service(continuation, handler_call_details)  # type: ignore[no-untyped-call]

    def intercept(self, method: Handler, request: Any, context: grpc.ServicerContext, method_name: str) -> Any:
        call_id = request_id(_given_id(context))
        context.set_trailing_metadata(((REQUEST_ID, call_id),))
        name = method_name.removeprefix("/")
        around = self._around(name, context, call_id)
        if _streams(name):
            return self._stream(method, request, context, around, call_id)
        return _single(method, request, context, around, call_id)

    def _stream(
        self, method: Handler, request: Any, context: grpc.ServicerContext, around: Around, call_id: str
    ) -> Iterator[Any]:
        try:
            with around:
                for answer in method(request, context):
                    yield answer
                    self._admission.go_on()
        except Refused as refused:
            _end(context, refused.status, call_id)

    @contextmanager
    def _around(self, name: str, context: grpc.ServicerContext, call_id: str) -> Iterator[None]:
        with observed(self._metrics, name, "grpc", call_id), self._admission.call():
            _check_time(context)
            yield


def _single(method: Handler, request: Any, context: grpc.ServicerContext, around: Around, call_id: str) -> Any:
    try:
        with around:
            return method(request, context)
    except Refused as refused:
        _end(context, refused.status, call_id)


def _check_time(context: grpc.ServicerContext) -> None:
    """A call that waited for a thread until its caller had given up is not begun."""
    if not context.is_active() or context.time_remaining() <= 0:
        raise Refused(status_pb2.Status(code=code_pb2.DEADLINE_EXCEEDED, message="the call's time was over"))


def _end(context: grpc.ServicerContext, status: status_pb2.Status, call_id: str) -> NoReturn:
    context.set_trailing_metadata(((_DETAILS, status.SerializeToString()), (REQUEST_ID, call_id)))
    context.abort(_CODES[status.code], status.message)


def _given_id(context: grpc.ServicerContext) -> str | None:
    for name, value in context.invocation_metadata():
        if name == REQUEST_ID:
            return str(value)
    return None


@cache
def _streams(name: str) -> bool:
    found = descriptor_pool.Default().FindMethodByName(name.replace("/", "."))
    return bool(found.server_streaming)
