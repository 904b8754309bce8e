"""A request id, one log line, the metrics and the error status of every call over gRPC and REST."""

import logging
import re
import secrets
import time
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from datas3t.server.front.calls.failures import CallFailed, code_name, error_status
from datas3t.server.telemetry.metrics import Metrics

REQUEST_ID = "x-request-id"
TRACEPARENT = "traceparent"
_VALID_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_VALID_TRACE = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_LINE = "%s %s %s %.1f ms %s"
_log = logging.getLogger("datas3t.server.calls")


class Caller(NamedTuple):
    """The ids by which a caller can find its call in the log. They are returned as headers or trailing metadata.

    `traceparent` is that of the W3C's trace context, or empty.
    """

    request_id: str
    traceparent: str = ""

    @classmethod
    def of(cls, header: Callable[[str], str | bytes | None]) -> "Caller":
        """Return the ids in the headers; `header` returns one by its lower-case name.

        A request id that is missing or not valid is replaced by a new one.
        """
        call_id, traceparent = header(REQUEST_ID), header(TRACEPARENT)
        return cls(
            call_id if isinstance(call_id, str) and _VALID_ID.fullmatch(call_id) else secrets.token_hex(16),
            traceparent if isinstance(traceparent, str) and _VALID_TRACE.fullmatch(traceparent) else "",
        )

    @property
    def trace_id(self) -> str:
        """The id of the trace, or empty."""
        return self.traceparent[3:35]

    def headers(self) -> dict[str, str]:
        """Return the headers of the response."""
        return {REQUEST_ID: self.request_id, **({TRACEPARENT: self.traceparent} if self.traceparent else {})}


class observed:  # noqa: N801 - used like a function
    """A context that counts, times and logs the call that its block makes. Neither request nor response is logged.

    Args:
        metrics: Where the call is counted.
        method: `datas3t.v1.Service/Method`.
        transport: `grpc` or `rest`.
        caller: The ids for the log.

    Raises:
        CallFailed: for every exception that the block raises, with the status to send.
    """

    __slots__ = ("_caller", "_method", "_metrics", "_started", "_transport")

    def __init__(self, metrics: Metrics, method: str, transport: str, caller: Caller) -> None:
        self._metrics = metrics
        self._method = method
        self._transport = transport
        self._caller = caller

    def __enter__(self) -> None:
        self._metrics.call_started(self._transport)
        self._started = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self._note("OK")
        elif isinstance(error, Exception):
            status = error_status(error, self._method, self._caller.request_id)
            self._note(code_name(status.code))
            raise CallFailed(status) from None
        else:  # CancelledError: the client cancelled the call or disconnected
            self._note("CANCELLED")

    def _note(self, code: str) -> None:
        """Count and log the call, which has ended."""
        seconds = time.perf_counter() - self._started
        self._metrics.call_ended(self._method, self._transport, code, seconds)
        if not _log.isEnabledFor(logging.INFO):
            return
        ids = {"request_id": self._caller.request_id}
        text = f"request_id={self._caller.request_id}"
        if self._caller.traceparent:
            ids["trace_id"] = self._caller.trace_id
            text += f" trace_id={self._caller.trace_id}"
        milliseconds = seconds * 1000
        fields = {
            "transport": self._transport,
            "method": self._method,
            "code": code,
            "seconds": round(seconds, 6),
            **ids,
        }
        arguments = (self._transport, self._method, code, milliseconds, text)
        # Made by hand, because `_log.info` would look for the line of code that called it.
        record = _log.makeRecord(_log.name, logging.INFO, "", 0, _LINE, arguments, None, extra={"fields": fields})
        _log.handle(record)
