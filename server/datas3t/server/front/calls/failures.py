"""Failures on the wire: the status that gRPC sends and REST renders, from the rules in errors.proto.

Whatever is no Failure is a defect: it is logged once under an id, and the client is told the id alone.
"""

import logging
import traceback
import uuid
from functools import cache
from http import HTTPStatus

from google.protobuf.json_format import MessageToDict
from google.rpc import code_pb2, error_details_pb2, status_pb2

from datas3t import v1
from datas3t.server.errors import Failure

DOMAIN = "datas3t"
_PREFIX = "ERROR_REASON_"
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


class Refused(Exception):  # noqa: N818 - a call's end, as Failure is
    """A call ended with this status; whoever speaks the protocol sends it."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.message)
        self.status = status


def status_of(failure: Failure) -> status_pb2.Status:
    """The failure's code, message, reason and metadata."""
    name = v1.ErrorReason.Name(failure.reason)
    status = status_pb2.Status(code=rule_of(failure.reason).code, message=_clipped(failure.message, 1_000))
    info = error_details_pb2.ErrorInfo(
        reason=name.removeprefix(_PREFIX),
        domain=DOMAIN,
        metadata={key: _clipped(value, 300) for key, value in failure.metadata.items()},
    )
    status.details.add().Pack(info)
    return status


def unexpected(error: BaseException, method: str, request_id: str = "") -> status_pb2.Status:
    """Logs a defect under a new id, without what may be secret in it, and makes the status that tells the id alone."""
    log_id = uuid.uuid4().hex[:12]
    _log.error("log_id=%s method=%s request_id=%s %s", log_id, method, request_id or "-", _trace(error))
    message = f"the server failed; its log has the details under {log_id}"
    return status_of(Failure(v1.ERROR_REASON_INTERNAL, message, log_id=log_id))


def status_for(error: BaseException, method: str, request_id: str = "") -> status_pb2.Status:
    """What a call that raised `error` ends with."""
    if isinstance(error, Refused):
        return error.status
    if isinstance(error, Failure):
        return status_of(error)
    if isinstance(error, NotImplementedError):
        return status_pb2.Status(code=code_pb2.UNIMPLEMENTED, message=f"this server does not have {method}")
    return unexpected(error, method, request_id)


def http_status(status: status_pb2.Status) -> int:
    """The HTTP status of an error: its reason's own, else the usual one for its code."""
    for reason in _reasons(status):
        if special := rule_of(v1.ErrorReason.Value(_PREFIX + reason)).http:
            return special
    return _HTTP.get(status.code, HTTPStatus.INTERNAL_SERVER_ERROR)


def error_body(status: status_pb2.Status) -> dict[str, object]:
    """The JSON of an error: code, message and details."""
    return {
        "code": code_pb2.Code.Name(status.code),
        "message": status.message,
        "details": [MessageToDict(detail, preserving_proto_field_name=True) for detail in status.details],
    }


@cache
def rule_of(reason: v1.ErrorReason.ValueType) -> v1.ErrorRule:
    """The code and HTTP status that the contract gives a reason."""
    return v1.ErrorReason.DESCRIPTOR.values_by_number[reason].GetOptions().Extensions[v1.rule]


def _clipped(text: str, longest: int) -> str:
    """A status travels in gRPC's trailers, which clients cut off at 8 KiB; an archive's names may be longer."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _reasons(status: status_pb2.Status) -> list[str]:
    info = error_details_pb2.ErrorInfo()
    return [info.reason for detail in status.details if detail.Unpack(info) and info.domain == DOMAIN]


def _trace(error: BaseException) -> str:
    """Where it was raised and through which calls; of its text the first line, for SQL stands below it."""
    lines = []
    for cause in _causes(error):
        said = (str(cause).splitlines() or [""])[0][:300]
        frames = traceback.extract_tb(cause.__traceback__)
        lines.append(f"{type(cause).__name__}: {said}")
        lines += [f"    {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
    return "\n".join(lines)


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found
