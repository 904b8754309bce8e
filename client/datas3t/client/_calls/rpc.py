"""Calls to the server: each has a deadline, is retried if the contract allows it, and raises this package's errors."""

import datas3t.client._calls.fork  # noqa: F401 isort: skip - before grpc is imported

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from datas3t.client._calls.failures import NO_RESPONSE, from_rpc_error
from datas3t.client._calls.fork import in_flight
from datas3t.client._calls.uninterrupted import uninterrupted
from datas3t.client.errors import Aborted, DeadlineExceeded, FailedPrecondition, NotFound, Unavailable

PATIENCE = 120.0  # seconds for which a server that has responded before may be away, as when it is restarted
_ATTEMPTS = 5  # of an idempotent call otherwise; the pauses take 2 seconds in all
_PAUSE_GROWTH = 2.0
_LONGEST_PAUSE = 5.0  # seconds
_WAKE_SECONDS = 0.1  # between two looks, during a pause, at whether the caller wants to end
_RESTARTING = frozenset(("", "DATABASE_UNAVAILABLE", "SHUTTING_DOWN"))  # reasons of a server that comes back

# Seconds. The server works on objects in S3 before it responds to these.
_LONG_TIMEOUTS = {
    "CompleteUpload": 900.0,
    "CompleteAggregate": 900.0,
    "CompleteTableFile": 900.0,
    "GetDatapointsBitmap": 600.0,
    "Import": 86_400.0,
}

_is_patient: ContextVar[bool] = ContextVar("is_patient", default=True)
_END = object()
_CLOSED = "the client was closed during a call; the call can be made again"
_DELETIONS = {
    "DeleteBucket": "BUCKET_NOT_FOUND",
    "DeleteDatas3t": "DATAS3T_NOT_FOUND",
    "DropTable": "TABLE_NOT_FOUND",
}

T = TypeVar("T")


class _Page(Protocol):
    @property
    def next_page_token(self) -> str: ...


P = TypeVar("P", bound=_Page)


def pages(fetch: Callable[[str], P]) -> Iterator[P]:
    """Yield all pages of a listing.

    Args:
        fetch: Returns the page that a token names, and the first page for "".
    """
    token = ""
    while True:
        page = fetch(token)
        yield page
        token = page.next_page_token
        if not token:
            return


def _repeated(
    call: Callable[[int], T],
    is_passing: Callable[[Exception, int], bool],
    *,
    pause: float,
    jitter: float,
    check: Callable[[], object] = lambda: None,
) -> T:
    """Return the result of `call`, repeated as long as it fails for a passing cause, with growing pauses between.

    Args:
        call: It gets the number of the attempt, from 1 on.
        is_passing: Returns whether to repeat the call, from its error and the number of the attempt.
        pause: The seconds of the first pause. Each one takes twice as long as the one before, at most 5 seconds.
        jitter: Up to how many seconds, at random, a pause takes in addition, so that many clients do not call at once.
        check: Called often during pauses; what it raises ends them.
    """
    number = 1
    while True:
        try:
            return call(number)
        except Exception as error:
            if not is_passing(error, number):
                raise
        until = time.monotonic() + min(_LONGEST_PAUSE, pause + random.uniform(0, jitter))  # noqa: S311 - no secret
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _WAKE_SECONDS))
            check()
        pause = min(_LONGEST_PAUSE, pause * _PAUSE_GROWTH)
        number += 1


def relisted(listing: Callable[[], T]) -> T:
    """Return the result of `listing`, made again from its first page if the datas3t is cleared between two pages."""

    def is_passing(error: Exception, number: int) -> bool:
        return isinstance(error, Aborted) and error.reason == "LISTING_CHANGED" and number < _ATTEMPTS

    return _repeated(lambda _number: listing(), is_passing, pause=0.1, jitter=0.2)


def retry_while_unavailable(
    call: Callable[[], T], seconds: float = PATIENCE, check: Callable[[], object] = lambda: None
) -> T:
    """Return the result of `call`, retried with back-off while the server, its database or its S3 is unavailable.

    Args:
        call: An idempotent call.
        seconds: When to give up and raise Unavailable.
        check: Called often during pauses; what it raises ends them.
    """
    until = time.monotonic() + seconds

    def is_passing(error: Exception, _number: int) -> bool:
        return isinstance(error, Unavailable) and time.monotonic() < until

    return _repeated(lambda _number: call(), is_passing, pause=0.5, jitter=1.0, check=check)


@contextmanager
def impatient() -> Iterator[None]:
    """Let the calls of the block fail soon if the server is away, though it has responded before."""
    token = _is_patient.set(False)
    try:
        yield
    finally:
        _is_patient.reset(token)


@cache
def is_idempotent(method: str) -> bool:
    """Return whether the contract declares the method "/package.Service/Name" idempotent."""
    return bool(_described(method).GetOptions().idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN)


def _described(method: str) -> MethodDescriptor:
    service, name = method.strip("/").split("/")
    return descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]


class CallInterceptor(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Add a deadline, the token, retries and error translation to every call of a channel.

    Args:
        url: The server's address, for messages.
        timeout: The deadline of each attempt, in seconds.
        ca_file: The file of the certificates that alone are trusted, for messages.
        token: Returns what the server is shown, or None.

    Attributes:
        closed: Must be set before the channel is closed, so that calls in flight raise FailedPrecondition.
        retries: Whether idempotent calls are repeated.
    """

    def __init__(
        self, url: str, timeout: float, ca_file: str | None = None, token: Callable[[], str | None] = lambda: None
    ) -> None:
        self.closed = False
        self.retries = True
        self._has_responded = False
        self._cause = ""  # of a connection that failed
        self._url = url
        self._ca_file = ca_file
        self._timeout = timeout
        self._token = token

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Make a call with one response, and retry it if it is idempotent."""
        details = self._completed(client_call_details)

        def attempt(number: int, call: _Call) -> _Outcome:
            with in_flight(), call:
                try:
                    outcome = _Outcome(call.begun(lambda: continuation(details, request)).result())
                    self._has_responded, self._cause = True, ""
                    return outcome  # noqa: TRY300 - of the call
                except (grpc.RpcError, ValueError) as error:
                    translated = self._translated(error)
            # The error may be gRPC's own object of the call, so it is no context of what is raised.
            if number > 1 and _is_deleted(details.method, translated):
                return _Outcome(GetMessageClass(_described(details.method).output_type)())
            raise translated from None

        def uninterrupted_attempt(number: int) -> _Outcome:
            call = _Call()
            return uninterrupted(lambda: attempt(number, call), call.abandon)

        repeats = self.retries and is_idempotent(details.method)
        return self._retried(uninterrupted_attempt) if repeats else uninterrupted_attempt(1)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Make a call with a stream of responses, without retries: the caller may have used some of them."""
        details = self._completed(client_call_details)
        call = _Call()

        def following() -> Any:
            """Return the next response, or _END."""
            try:
                return next(call.begun(lambda: continuation(details, request)), _END)
            except (grpc.RpcError, ValueError) as error:
                translated = self._translated(error)
            raise translated from None  # as above

        with in_flight():
            try:
                while (response := uninterrupted(following, call.abandon)) is not _END:
                    yield response
            finally:  # also if the caller takes no more responses
                uninterrupted(call.abandon)

    def _retried(self, call: Callable[[int], T]) -> T:
        """Return the result of `call`, which gets the number of the attempt, from 1 on.

        A server that has responded before is waited for as readers do. If none has, the address may be wrong.
        """
        is_patient = _is_patient.get()
        until = time.monotonic() + (PATIENCE if is_patient else 0)

        def is_passing(error: Exception, number: int) -> bool:
            if not isinstance(error, (Unavailable, DeadlineExceeded) if is_patient else Unavailable):
                return False
            restarting = self._has_responded and isinstance(error, Unavailable) and error.reason in _RESTARTING
            return number < _ATTEMPTS or (restarting and time.monotonic() < until)

        return _repeated(call, is_passing, pause=0.1, jitter=0.2, check=self._check_open)

    def _check_open(self) -> None:
        if self.closed:
            raise FailedPrecondition(_CLOSED)

    def _translated(self, error: grpc.RpcError | ValueError) -> Exception:
        """Return the exception to raise. gRPC raises ValueError for a call on a closed channel."""
        if self.closed:
            return FailedPrecondition(_CLOSED)
        if not isinstance(error, grpc.RpcError):
            return error
        translated = from_rpc_error(error, self._url, self._ca_file)
        if not isinstance(translated, Unavailable) or translated.reason:
            return translated
        # Of a host with several addresses, gRPC tells why the last one failed, on which perhaps nobody listens.
        if not str(translated).startswith(NO_RESPONSE):
            self._cause = str(translated)
        return Unavailable(self._cause) if self._cause else translated

    def _completed(self, details: Any) -> Any:
        """Return the details of a call with a deadline, and with the token."""
        if details.timeout is None:
            method = details.method.rpartition("/")[2]
            details = details._replace(timeout=_LONG_TIMEOUTS.get(method, self._timeout))
        if token := self._token():
            details = details._replace(metadata=[*(details.metadata or ()), ("authorization", f"Bearer {token}")])
        return details


class _Call:
    """A call of gRPC that another thread can end. As a context it ends with the block.

    Only threads that no signal handler interrupts touch gRPC's own object, because that needs its locks.
    """

    def __init__(self) -> None:
        self._call: Any = None
        self._is_abandoned = False

    def begun(self, begin: Callable[[], Any]) -> Any:
        """Return gRPC's object of the call, which `begin` returns at first."""
        if self._is_abandoned:
            raise grpc.FutureCancelledError
        if self._call is None:
            self._call = call = begin()
            if self._is_abandoned:  # meanwhile, by a thread that may have found no call
                call.cancel()
            return call
        return self._call

    def abandon(self) -> None:
        """Cancel the call if it has not ended, and forget it."""
        self._is_abandoned = True
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._call = None


class _Outcome:
    """The response of a call, without gRPC's own object, whose destruction needs a lock."""

    def __init__(self, response: Message) -> None:
        self._response = response

    def result(self) -> Message:
        return self._response


def _is_deleted(method: str, error: Exception) -> bool:
    """Return whether an error says that what the method deletes does not exist.

    For a retry that is success: the attempt before it has deleted it, and its response was lost. A datarange is not
    decided here, because it may also have become a part of another one.
    """
    return isinstance(error, NotFound) and error.reason == _DELETIONS.get(method.rpartition("/")[2])
