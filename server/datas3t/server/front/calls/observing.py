"""A request id, one log line, the metrics and the error status of every call over gRPC and REST."""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from google.rpc import code_pb2

from datas3t.server.front.calls.failures import CallFailed, error_status
from datas3t.server.metrics import Metrics

REQUEST_ID = "x-request-id"
TRACEPARENT = "traceparent"
_VALID_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_VALID_TRACE = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_log = logging.getLogger("datas3t.server.calls")


class Caller(NamedTuple):
    """The ids by which a caller can find its call in the log. They are returned as headers or trailing metadata.

    `traceparent` is that of the W3C's trace context, or empty.
    """

    request_id: str
    traceparent: str = ""

    @classmethod
    def of(cls, headers: Iterable[tuple[str, str | bytes]]) -> "Caller":
        """Return the ids in the headers. A request id that is missing or not valid is replaced by a new one."""
        given = {name.lower(): str(value) for name, value in headers if name.lower() in (REQUEST_ID, TRACEPARENT)}
        call_id, traceparent = given.get(REQUEST_ID, ""), given.get(TRACEPARENT, "")
        return cls(
            call_id if _VALID_ID.fullmatch(call_id) else uuid.uuid4().hex,
            traceparent if _VALID_TRACE.fullmatch(traceparent) else "",
        )

    @property
    def trace_id(self) -> str:
        """The id of the trace, or empty."""
        return self.traceparent[3:35]

    def headers(self) -> dict[str, str]:
        """Return the headers of the response."""
        return {REQUEST_ID: self.request_id, **({TRACEPARENT: self.traceparent} if self.traceparent else {})}


@contextmanager
def observed(metrics: Metrics, method: str, transport: str, caller: Caller) -> Iterator[None]:
    """Count, time and log the call that the block makes. The request and the response are not logged.

    Args:
        metrics: Where the call is counted.
        method: `datas3t.v1.Service/Method`.
        transport: `grpc` or `rest`.
        caller: The ids for the log.

    Raises:
        CallFailed: for every exception that the block raises, with the status to send.
    """
    metrics.call_started(transport)
    started = time.perf_counter()
    code = "OK"
    try:
        yield
    except asyncio.CancelledError:  # the client cancelled the call or disconnected
        code = "CANCELLED"
        raise
    except Exception as error:
        status = error_status(error, method, caller.request_id)
        code = code_pb2.Code.Name(status.code)
        raise CallFailed(status) from None
    finally:
        seconds = time.perf_counter() - started
        metrics.call_ended(method, transport, code, seconds)
        fields = {"transport": transport, "method": method, "code": code, "milliseconds": round(seconds * 1000, 1)}
        ids = {"request_id": caller.request_id, **({"trace_id": caller.trace_id} if caller.traceparent else {})}
        text = " ".join(f"{name}={value}" for name, value in ids.items())
        _log.info("%s %s %s %.1f ms %s", transport, method, code, seconds * 1000, text, extra={"fields": fields | ids})
