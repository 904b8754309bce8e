"""A request id, one log line, the metrics and the error status of every call over gRPC and REST."""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from google.rpc import code_pb2

from datas3t.server.front.calls.failures import CallFailed, error_status
from datas3t.server.metrics import Metrics

REQUEST_ID = "x-request-id"
_VALID_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_log = logging.getLogger("datas3t.server.calls")


def request_id(given: str | None) -> str:
    """Return the caller's request id if it can be logged as it is, otherwise a new one."""
    return given if given and _VALID_ID.fullmatch(given) else uuid.uuid4().hex


@contextmanager
def observed(metrics: Metrics, method: str, transport: str, call_id: str) -> Iterator[None]:
    """Count, time and log the call that the block makes. The request and the response are not logged.

    Args:
        metrics: Where the call is counted.
        method: `datas3t.v1.Service/Method`.
        transport: `grpc` or `rest`.
        call_id: The request id for the log.

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
        status = error_status(error, method, call_id)
        code = code_pb2.Code.Name(status.code)
        raise CallFailed(status) from None
    finally:
        seconds = time.perf_counter() - started
        metrics.call_ended(method, transport, code, seconds)
        _log.info("%s %s %s %.1f ms request_id=%s", transport, method, code, seconds * 1000, call_id)
