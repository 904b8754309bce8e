"""Translates failed calls to the server and failed transfers to S3 into the exceptions of `datas3t.client.errors`."""

import datas3t.client._calls.fork  # noqa: F401 isort: skip - before grpc is imported

import re
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from datas3t.client import errors
from datas3t.client.errors import (
    Datas3tError,
    DeadlineExceeded,
    ObjectChanged,
    TransferFailed,
    TransferRefused,
    Unavailable,
)
from datas3t.transport import TransferError, ca_bundle, grpc_proxy_variable

_BY_CODE: dict[grpc.StatusCode, type[Datas3tError]] = {
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgument,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidArgument,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.ABORTED: errors.Aborted,
    grpc.StatusCode.DATA_LOSS: ObjectChanged,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.INTERNAL: errors.ServerError,
    grpc.StatusCode.UNKNOWN: errors.ServerError,
}

# What gRPC says of a connection that fails, and what it means for people. The first one that fits counts.
_UNTRUSTED = (
    "the certificate of the server at {url} is not trusted{trusted}; name the file of its CA in DATAS3T_CA_FILE or"
    " SSL_CERT_FILE"
)
_HTTP1_ONLY = (
    "what responds at {url} speaks HTTP/1 only, and gRPC needs HTTP/2; check the address, or have the proxy there"
    " pass HTTP/2 on"
)
_NO_CLIENT_CERTIFICATE = (
    "the server at {url} asks for a client certificate of a CA that it knows; name one in DATAS3T_CLIENT_CERT and its"
    " key in DATAS3T_CLIENT_KEY"
)
_CONNECTION_CAUSES = {
    "certificate has expired": "the certificate of the server at {url} has expired; have it renewed",
    "certificate is not yet valid": "the certificate of the server at {url} is not valid yet; check the clocks",
    "Hostname Verification Check failed": (
        "the certificate of the server at {url} is not for this name; use a name that it is for"
    ),
    "CERTIFICATE_VERIFY_FAILED": _UNTRUSTED,
    "certificate signature failure": _UNTRUSTED,  # of another CA with the same name
    "WRONG_VERSION_NUMBER": "TLS fails at {url}; if the port speaks plain HTTP, write http://",
    "HTTP status 426": "the server at {url} speaks TLS; write https://",  # as our server answers plain requests
    "http1.x server": _HTTP1_ONLY,
    "Failed parsing HTTP/2": _HTTP1_ONLY,
    "Unwrap failed": _NO_CLIENT_CERTIFICATE,  # TLS 1.3 reports that after the handshake
    "CERTIFICATE_REQUIRED": _NO_CLIENT_CERTIFICATE,
}
NO_RESPONSE = "no datas3t server responds at"  # how the message begins that names no cause
_CLOSED = re.compile(r"failed to connect to all addresses; .*Socket closed$")  # as soon as the connection began


def from_rpc_error(error: grpc.RpcError, url: str, ca_file: str | None = None) -> Datas3tError:
    """Return the exception for a failed call to the server at `url`, of which `ca_file` alone was trusted.

    The status code decides the class. Message, reason and metadata are those that the server sent, if it sent any.
    """
    assert isinstance(error, grpc.Call)
    kind = _BY_CODE.get(error.code(), Datas3tError)
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = ErrorInfo()
        if detail.Unpack(info):
            return kind(status.message, reason=info.reason, metadata=info.metadata)
    return kind(_transport_message(error, kind, url, ca_file))


def _transport_message(error: grpc.Call, kind: type[Datas3tError], url: str, ca_file: str | None) -> str:
    details = str(error.details())
    if cause := next((cause for sign, cause in _CONNECTION_CAUSES.items() if sign in details), None):
        return cause.format(url=url, trusted=_trusted(ca_file))
    if kind is Unavailable:
        if proxy := grpc_proxy_variable(url):
            return f"{NO_RESPONSE} {url} through the proxy that {proxy} names; check both addresses"
        if _CLOSED.search(details):
            hint = "if it asks for client certificates, name one in DATAS3T_CLIENT_CERT and DATAS3T_CLIENT_KEY"
            hint = hint if url.startswith("https://") else "if the port speaks TLS, write https://"
            return f"what responds at {url} closes the connection at once; {hint}"
        return f"{NO_RESPONSE} {url}; check the address, or start one with `datas3t up`"
    if kind is DeadlineExceeded:
        return f"the server at {url} did not respond in time; try again"
    return f"the server at {url} responded {error.code().name}: {' '.join(details.split())}"


def _trusted(ca_file: str | None) -> str:
    if ca_file:
        return f"; trusted are those in {ca_file}"
    trusted = ca_bundle()
    return f"; trusted are those in {trusted.path}, named by {trusted.variable}" if trusted and trusted.variable else ""


def from_transfer_error(error: TransferError) -> Datas3tError:
    """Return the exception for a failed transfer: ObjectChanged, TransferRefused or TransferFailed."""
    metadata = {"status": str(error.status), "s3_code": error.code}
    if error.changed or error.gone:
        return _object_changed(error, metadata)
    return (TransferRefused if error.final else TransferFailed)(str(error), metadata=metadata)


def _object_changed(error: TransferError, metadata: dict[str, str]) -> ObjectChanged:
    """Return the exception for an object that is not the one that was committed, in the words of the server."""
    _, _, object_key = error.path.removeprefix("/").partition("/")  # the first part is the bucket
    if not object_key:
        return ObjectChanged(str(error), metadata=metadata)
    advice = (
        "drop the table and append its rows"
        if object_key.endswith(".parquet")
        else "delete its datarange and upload it"
    )
    return ObjectChanged(
        f"the object {object_key} is missing or was changed ({error.cause}); restore it, or {advice} again",
        reason="OBJECT_CHANGED",
        metadata={**metadata, "object_key": object_key},
    )


@contextmanager
def translated_transfer_errors() -> Iterator[None]:
    """Raise `from_transfer_error` of a TransferError that leaves the block."""
    try:
        yield
    except TransferError as error:
        raise from_transfer_error(error) from None
