"""Limits for each attempt of a request to S3: a total time, the size of its response, and the end of its call.

botocore's time-outs are for one read from the socket: an endpoint that sends a byte every few seconds would block
a thread for ever. One thread here watches all open attempts, and shuts down the sockets of those whose time is over.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
    AWSPreparedRequest,
    AWSResponse,
)
from botocore.exceptions import HTTPClientError, ReadTimeoutError

from datas3t.server.call import Call, current
from datas3t.server.s3.guard import LinkLocalGuard
from datas3t.server.s3.markup import MAX_RESPONSE, check_markup

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

COMPLETION_SECONDS = 900.0  # to join parts, which may take S3 minutes
_SLOWEST = 2**20  # bytes per second; larger bodies have this much more time
_CHECK_INTERVAL = 0.25  # seconds

_current = threading.local()


class ResponseRefusedError(Exception):
    """The response is larger than S3's, or would take too much memory to parse."""


def refused_response(error: BaseException) -> str:
    """Return why the response was refused, if botocore's error was caused by a ResponseRefusedError; otherwise ""."""
    cause = error.kwargs.get("error") if isinstance(error, HTTPClientError) else None
    return str(cause) if isinstance(cause, ResponseRefusedError) else ""


def limit_attempts(client: "S3Client", seconds: float) -> None:
    """Limit the total time of every attempt of the client to `seconds`, plus time for large bodies."""
    endpoint: Any = client._endpoint  # type: ignore[attr-defined] # botocore has no public way to its HTTP session
    session: Any = endpoint.http_session
    session._pool_classes_by_scheme.update(http=_Pool, https=_TlsPool)
    endpoint.http_session = _LimitedSession(session, seconds)


class _LimitedSession:
    """botocore's HTTP session, with a limit for each `send` and for the body that is read after it."""

    def __init__(self, session: Any, seconds: float) -> None:
        self._session = session
        self._seconds = seconds

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        call = current()
        call.raise_if_ended()
        left = call.remaining()
        limit = self._limit(request)
        attempt = _Attempt(call, limit if left is None else min(limit, left))
        _current.attempt = attempt
        try:
            response: AWSResponse = self._session.send(request)
        except Exception:
            attempt.finish()
            attempt.raise_if_interrupted(request.url)
            call.raise_if_ended()
            raise
        finally:
            _current.attempt = None
        if request.stream_output:
            _finish_with_body(response.raw, attempt)
        else:
            attempt.finish()
            # What was read until a shutdown looks like a whole response: botocore does not compare its length.
            attempt.raise_if_interrupted(request.url)
        return response

    def close(self) -> None:
        self._session.close()

    def _limit(self, request: AWSPreparedRequest) -> float:
        if request.method == "POST" and "uploadId=" in urlsplit(request.url).query:
            return COMPLETION_SECONDS
        headers = {name.lower(): _text(value) for name, value in request.headers.items()}
        return (
            self._seconds + (int(headers.get("content-length") or 0) + _range_size(headers.get("range", ""))) / _SLOWEST
        )


class _Attempt:
    """One request on one connection, until its response is read."""

    def __init__(self, call: Call, seconds: float) -> None:
        self.until = time.monotonic() + seconds
        self._call = call
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._interrupted = False
        _watch.add(self)
        self._remove_interrupt = call.on_end(self.interrupt)

    def set_socket(self, connection: socket.socket) -> None:
        """Set the connection that `interrupt` shuts down. It belongs to this attempt until `finish`."""
        with self._lock:
            self._socket = connection
            if self._interrupted:
                _shut_down(connection)

    def interrupt(self) -> None:
        """Shut down the connection, so that reads and writes of the attempt's thread fail at once."""
        with self._lock:
            self._interrupted = True
            if self._socket is not None:
                _shut_down(self._socket)

    def raise_if_interrupted(self, url: str) -> None:
        """Raise the cause if the call was ended, or ReadTimeoutError if the time of the attempt was over."""
        if self._interrupted:
            self._call.raise_if_ended()
            raise ReadTimeoutError(endpoint_url=url) from None

    def finish(self) -> None:
        """Stop watching the connection. May be called again."""
        with self._lock:
            self._socket = None
        _watch.discard(self)
        self._remove_interrupt()


class _Watch:
    """A thread that interrupts attempts whose time is over. It ends after a minute without attempts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[_Attempt] = set()
        self._running = False

    def add(self, attempt: _Attempt) -> None:
        with self._lock:
            self._open.add(attempt)
            if self._running:
                return
            self._running = True
        threading.Thread(target=self._run, name="s3 attempts", daemon=True).start()

    def discard(self, attempt: _Attempt) -> None:
        with self._lock:
            self._open.discard(attempt)

    def _run(self) -> None:
        idle_since = time.monotonic()
        while True:
            time.sleep(_CHECK_INTERVAL)
            now = time.monotonic()
            with self._lock:
                if self._open:
                    idle_since = now
                elif now - idle_since > 60:
                    self._running = False
                    return
                overdue = [attempt for attempt in self._open if now >= attempt.until]
            for attempt in overdue:
                attempt.interrupt()


_watch = _Watch()


class _WatchedConnection:
    """A mixin for connections, which registers the socket with the current attempt.

    The socket is duplicated, because TLS detaches the plain one during its handshake.
    """

    _duplicate: socket.socket | None = None

    def request(self, *args: Any, **kwargs: Any) -> Any:
        self._register()
        return super().request(*args, **kwargs)  # type: ignore[misc] # of the connection that this is mixed into

    def _new_conn(self) -> socket.socket:
        connected: socket.socket = super()._new_conn()  # type: ignore[misc]
        self._duplicate = socket.socket(fileno=os.dup(connected.fileno()))
        self._register()
        return connected

    def getresponse(self) -> Any:
        response: Any = super().getresponse()  # type: ignore[misc]
        response.stream = partial(_limited, response, response.stream)
        return response

    def close(self) -> None:
        if self._duplicate is not None:
            self._duplicate.close()
            self._duplicate = None
        super().close()  # type: ignore[misc]

    def _register(self) -> None:
        attempt: _Attempt | None = getattr(_current, "attempt", None)
        if attempt is not None and self._duplicate is not None:
            attempt.set_socket(self._duplicate)


class _Connection(_WatchedConnection, LinkLocalGuard, AWSHTTPConnection):  # type: ignore[misc] # as botocore mixes its own in
    pass


class _TlsConnection(_WatchedConnection, LinkLocalGuard, AWSHTTPSConnection):  # type: ignore[misc]
    pass


class _Pool(AWSHTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(AWSHTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def _limited(response: Any, stream: Callable[[], Iterator[bytes]]) -> Iterator[bytes]:
    """Yield a response that botocore parses, in one piece. Raises ResponseRefusedError."""
    body = bytearray()
    try:
        for piece in stream():
            body += piece
            if len(body) > MAX_RESPONSE:
                raise ValueError(f"the response has more than {MAX_RESPONSE} bytes")
        check_markup(body)
    except ValueError as error:
        response.close()
        raise ResponseRefusedError(str(error)) from None
    yield bytes(body)


def _finish_with_body(raw: Any, attempt: _Attempt) -> None:
    """Finish the attempt when the response is read to its end, which releases its connection, or is closed."""

    def before(method: Callable[[], None]) -> Callable[[], None]:
        def finish_first() -> None:
            attempt.finish()
            method()

        return finish_first

    raw.close, raw.release_conn = before(raw.close), before(raw.release_conn)


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _range_size(text: str) -> int:
    """Return the number of bytes that a Range header requests."""
    start, _, last = text.removeprefix("bytes=").partition("-")
    return int(last) - int(start) + 1 if start.isdigit() and last.isdigit() else 0


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
