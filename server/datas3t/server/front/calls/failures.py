"""The status of a failed call, which gRPC sends and REST renders as JSON. The rules are in errors.proto.

Any exception other than Failure is a defect: it is logged once under an id, and the client receives only that id.
"""

import logging
import traceback
import uuid
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from types import MappingProxyType
from typing import NamedTuple

from google.rpc import code_pb2, error_details_pb2, status_pb2

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.telemetry.logs import Lines

DOMAIN = "datas3t"
_PREFIX = "ERROR_REASON_"
_INFO_TYPE = f"type.googleapis.com/{error_details_pb2.ErrorInfo.DESCRIPTOR.full_name}"
# A status travels in gRPC's trailers, which clients cut off at 8 KiB. Names from an archive can be longer than that.
_MAX_MESSAGE = 1_000
_MAX_METADATA_VALUE = 300
_log = logging.getLogger(__name__)

_HTTP = {
    code_pb2.OK: 200,
    code_pb2.CANCELLED: 499,
    code_pb2.INVALID_ARGUMENT: 400,
    code_pb2.FAILED_PRECONDITION: 400,
    code_pb2.OUT_OF_RANGE: 400,
    code_pb2.UNAUTHENTICATED: 401,
    code_pb2.PERMISSION_DENIED: 403,
    code_pb2.NOT_FOUND: 404,
    code_pb2.ALREADY_EXISTS: 409,
    code_pb2.ABORTED: 409,
    code_pb2.RESOURCE_EXHAUSTED: 429,
    code_pb2.UNIMPLEMENTED: 501,
    code_pb2.UNAVAILABLE: 503,
    code_pb2.DEADLINE_EXCEEDED: 504,
}


class ErrorStatus(NamedTuple):
    """How a call has failed: gRPC's code, a message, and the reason of the contract with its metadata, if any."""

    code: int
    message: str
    reason: str = ""
    metadata: Mapping[str, str] = MappingProxyType({})

    def to_rpc(self) -> status_pb2.Status:
        """Return the status as gRPC sends it."""
        status = status_pb2.Status(code=self.code, message=self.message)
        if self.reason:
            info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata)
            status.details.add(type_url=_INFO_TYPE, value=info.SerializeToString())
        return status


class CallFailed(Exception):  # noqa: N818 - the end of a call, as Failure is
    """Ends a call with `status`, which gRPC and REST each send in their own way."""

    def __init__(self, status: ErrorStatus) -> None:
        super().__init__(status.message)
        self.status = status


def failure_status(failure: Failure) -> ErrorStatus:
    """Return the status with the failure's code, message, reason and metadata."""
    return ErrorStatus(
        rule_of(failure.reason).code,
        _clipped(failure.message, _MAX_MESSAGE),
        _name_of(failure.reason),
        {key: _clipped(value, _MAX_METADATA_VALUE) for key, value in failure.metadata.items()},
    )


def unexpected_status(error: BaseException, method: str, request_id: str = "") -> ErrorStatus:
    """Log a defect under a new id, without the parts that may be secret, and return a status with only that id."""
    log_id = uuid.uuid4().hex[:12]
    _log.error("log_id=%s method=%s request_id=%s %s", log_id, method, request_id or "-", Lines(_trace(error)))
    message = f"the server failed; its log has the details under {log_id}"
    return failure_status(Failure(v1.ERROR_REASON_INTERNAL, message, log_id=log_id))


def error_status(error: BaseException, method: str, request_id: str = "") -> ErrorStatus:
    """Return the status of a call of `method` that raised `error`, and log it if it is a defect."""
    if isinstance(error, CallFailed):
        return error.status
    if isinstance(error, Failure):
        return failure_status(error)
    if isinstance(error, NotImplementedError):
        return ErrorStatus(code_pb2.UNIMPLEMENTED, f"this server does not have {method}")
    return unexpected_status(error, method, request_id)


def http_status(status: ErrorStatus) -> int:
    """Return the HTTP status of an error: the one that its reason sets, otherwise the usual one for its code."""
    special = rule_of(v1.ErrorReason.Value(_PREFIX + status.reason)).http if status.reason else 0
    return special or _HTTP.get(status.code, HTTPStatus.INTERNAL_SERVER_ERROR)


def error_body(status: ErrorStatus) -> dict[str, object]:
    """Return the JSON object of an error: code, message and details, as protobuf's own JSON of the status has them."""
    info: dict[str, object] = {"@type": _INFO_TYPE, "reason": status.reason, "domain": DOMAIN}
    if status.metadata:
        info["metadata"] = status.metadata
    return {
        "code": code_name(status.code),
        "message": status.message,
        "details": [info] if status.reason else [],
    }


@cache
def code_name(code: int) -> str:
    """Return the name of a gRPC code."""
    return str(code_pb2.Code.Name(code))


@cache
def rule_of(reason: v1.ErrorReason.ValueType) -> v1.ErrorRule:
    """Return the gRPC code and the HTTP status that the contract sets for a reason."""
    return v1.ErrorReason.DESCRIPTOR.values_by_number[reason].GetOptions().Extensions[v1.rule]


@cache
def _name_of(reason: v1.ErrorReason.ValueType) -> str:
    return v1.ErrorReason.Name(reason).removeprefix(_PREFIX)


def _clipped(text: str, limit: int) -> str:
    """Return at most `limit` characters. Halves of surrogate pairs are escaped: JSON can hold them, a status cannot."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _trace(error: BaseException) -> str:
    """Return the error and its causes with their frames, but only the first line of each message: psycopg adds SQL."""
    lines = []
    for cause in _causes(error):
        first_line = (str(cause).splitlines() or [""])[0][:300]
        frames = traceback.extract_tb(cause.__traceback__)
        lines.append(f"{type(cause).__name__}: {first_line}")
        lines += [f"    {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
    return "\n".join(lines)


def _causes(error: BaseException | None) -> list[BaseException]:
    """Return the error and the chain of its causes, as Python's own tracebacks follow it."""
    causes: list[BaseException] = []
    while error is not None and error not in causes:
        causes.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return causes
