"""Calls to the server: a deadline, retries where the contract allows them, and errors that are exceptions of ours."""

import datas3t.client._calls.fork  # noqa: F401 isort: skip - before grpc is imported

import logging
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Protocol, TypeVar

import grpc
import stamina
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import MethodOptions
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from datas3t.client import errors
from datas3t.client._calls.fork import in_flight
from datas3t.client.errors import Datas3tError, DeadlineExceeded, Unavailable

# stamina logs each retry as a warning; without this, Python prints it where logging was never set up.
logging.getLogger("stamina").addHandler(logging.NullHandler())

_BY_CODE: dict[grpc.StatusCode, type[Datas3tError]] = {
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgument,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidArgument,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.ABORTED: errors.Aborted,
    grpc.StatusCode.DATA_LOSS: errors.ObjectChanged,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.INTERNAL: errors.ServerError,
    grpc.StatusCode.UNKNOWN: errors.ServerError,
}

# Seconds: these work on objects in S3 before they answer.
_SLOW = {"CompleteUpload": 900.0, "CompleteAggregate": 900.0, "GetDatapointsBitmap": 600.0, "Import": 86_400.0}

T = TypeVar("T")


class _Page(Protocol):
    @property
    def next_page_token(self) -> str: ...


P = TypeVar("P", bound=_Page)


def pages(fetch: Callable[[str], P]) -> Iterator[P]:
    """All pages of a listing; `fetch` asks for the one that a token names, "" for the first."""
    token = ""
    while True:
        page = fetch(token)
        yield page
        token = page.next_page_token
        if not token:
            return


def patiently(call: Callable[[], T], seconds: float = 120.0) -> T:
    """The result of `call`, which is repeated with back-off while server, database or S3 are away, for `seconds`."""
    for attempt in stamina.retry_context(on=Unavailable, attempts=None, timeout=seconds, wait_initial=0.5):
        with attempt:
            return call()
    raise AssertionError  # the loop ends by returning or raising


@cache
def repeatable(method: str) -> bool:
    """Whether the contract allows to repeat the method "/package.Service/Name" after a lost answer."""
    service, name = method.strip("/").split("/")
    described = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    return bool(described.GetOptions().idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN)


def translated(error: grpc.RpcError, url: str) -> Datas3tError:
    """The exception that a failed call becomes: the class by its code, reason and metadata by its ErrorInfo."""
    assert isinstance(error, grpc.Call)
    kind = _BY_CODE.get(error.code(), Datas3tError)
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = ErrorInfo()
        if detail.Unpack(info):
            return kind(status.message, reason=info.reason, metadata=info.metadata)
    return kind(_in_words(error, kind, url))


def _in_words(error: grpc.Call, kind: type[Datas3tError], url: str) -> str:
    if kind is Unavailable:
        return f"no datas3t server answers at {url}; check the address, or start one with `datas3t up`"
    if kind is DeadlineExceeded:
        return f"the server at {url} did not answer in time; try again"
    return f"the server at {url} answered {error.code().name}: {' '.join(str(error.details()).split())}"


class Calls(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """What every call through a channel of ours gets. `timeout`, in seconds, is the deadline of each attempt.
    `closed` is set before the channel is closed."""

    def __init__(self, url: str, timeout: float) -> None:
        self.closed = False
        self._url = url
        self._timeout = timeout

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Makes the call, again where that is allowed and may help."""
        details = self._with_deadline(client_call_details)

        def attempt() -> Any:
            with in_flight():
                outcome = continuation(details, request)
                try:
                    outcome.result()
                except (grpc.RpcError, ValueError) as error:
                    raise self._failure(error) from None
                return outcome

        return _retried(attempt) if repeatable(details.method) else attempt()

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Makes the call; whoever joins its messages decides whether to begin again."""
        details = self._with_deadline(client_call_details)
        with in_flight():
            try:
                yield from continuation(details, request)
            except (grpc.RpcError, ValueError) as error:
                raise self._failure(error) from None

    def _failure(self, error: grpc.RpcError | ValueError) -> Exception:
        """What is raised for it. A ValueError is how gRPC says that the channel is closed."""
        if self.closed:
            return errors.FailedPrecondition("the client was closed while a call was made; the call can be made again")
        return translated(error, self._url) if isinstance(error, grpc.RpcError) else error

    def _with_deadline(self, details: Any) -> Any:
        if details.timeout is not None:
            return details
        return details._replace(timeout=_SLOW.get(details.method.rpartition("/")[2], self._timeout))


def _retried(call: Callable[[], T]) -> T:
    for attempt in stamina.retry_context(on=(Unavailable, DeadlineExceeded), attempts=5, timeout=None, wait_jitter=0.2):
        with attempt:
            return call()
    raise AssertionError  # the loop ends by returning or raising
