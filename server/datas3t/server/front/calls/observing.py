"""What happens around every call, over gRPC and over REST alike: an id, a line in the log, numbers, and errors."""

import logging
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.rpc import code_pb2

from datas3t.server.front.calls.failures import Refused, status_for
from datas3t.server.metrics import Metrics

REQUEST_ID = "x-request-id"
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_log = logging.getLogger("datas3t.server.calls")


class Servicing(Protocol):
    """A service of the contract and who serves it."""

    @property
    def descriptor(self) -> ServiceDescriptor: ...
    @property
    def servicer(self) -> Any: ...
    @property
    def add_to_server(self) -> Callable[[Any, grpc.Server], None]: ...


def request_id(given: str | None) -> str:
    """The caller's id for a call where it is fit for a log, else a new one."""
    return given if given and _SANE_ID.fullmatch(given) else uuid.uuid4().hex


@contextmanager
def observed(metrics: Metrics, method: str, transport: str, call_id: str) -> Iterator[None]:
    """Counts, times and logs one call; whatever it raises leaves as Refused. Neither request nor answer is logged.

    `method` is `datas3t.v1.Service/Method`.
    """
    metrics.began(transport)
    started = time.perf_counter()
    code = "OK"
    try:
        yield
    except GeneratorExit:  # whoever read the stream has gone
        code = "CANCELLED"
        raise
    except Exception as error:
        status = status_for(error, method, call_id)
        code = code_pb2.Code.Name(status.code)
        raise Refused(status) from None
    finally:
        seconds = time.perf_counter() - started
        metrics.ended(method, transport, code, seconds)
        _log.info("%s %s %s %.1f ms request_id=%s", transport, method, code, seconds * 1000, call_id)
