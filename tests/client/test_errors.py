"""The exceptions: their builtin base classes, pickling, and how failed calls become exceptions."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from datas3t.client import errors
from datas3t.client._calls.failures import from_rpc_error
from datas3t.client._calls.rpc import is_idempotent
from datas3t.client.errors import Datas3tError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Datas3tError)]

BUILTINS = [
    (errors.NotFound, LookupError),
    (errors.DatapointNotFound, KeyError),
    (errors.InvalidArgument, ValueError),
    (errors.ArchiveError, ValueError),
    (errors.Unavailable, ConnectionError),
    (errors.TransferFailed, ConnectionError),
    (errors.DeadlineExceeded, TimeoutError),
    (errors.FileError, OSError),
    (errors.Interrupted, KeyboardInterrupt),
]


def failed_call(code: grpc.StatusCode, message: str, reason: str = "", **metadata: str) -> grpc.RpcError:
    """Return the error of a call to a real server; with a reason, it has a status with ErrorInfo."""

    def abort(request: bytes, context: grpc.ServicerContext) -> bytes:
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="datas3t", metadata=metadata))
        status = status_pb2.Status(code=code.value[0], message=message, details=[detail])
        if reason:
            context.abort_with_status(rpc_status.to_status(status))
        context.abort(code, message)

    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("x.Service", {"Call": grpc.unary_unary_rpc_method_handler(abort)})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary("/x.Service/Call")(b"")  # type: ignore[arg-type]
    finally:
        server.stop(None)
    return raised.value


def test_the_key_of_a_missing_datapoint_crosses_processes_and_is_none_if_unknown() -> None:
    assert pickle.loads(pickle.dumps(errors.DatapointNotFound("no datapoint 0", key=0))).key == 0
    assert pickle.loads(pickle.dumps(errors.DatapointNotFound("none"))).key is None


@pytest.mark.parametrize("kind", KINDS)
def test_pickling_keeps_everything(kind: type[Datas3tError]) -> None:
    error = kind("no 'such' thing", reason="SOME_REASON", metadata={"field": "name"})
    restored = pickle.loads(pickle.dumps(error))
    assert type(restored) is kind
    assert (str(restored), restored.reason, restored.metadata) == ("no 'such' thing", "SOME_REASON", {"field": "name"})


def test_pickling_keeps_the_key_of_a_missing_datapoint() -> None:
    restored = pickle.loads(pickle.dumps(errors.DatapointNotFound("images has no datapoint 7", key=7)))
    assert (restored.key, str(restored)) == (7, "images has no datapoint 7")


@pytest.mark.parametrize(("kind", "builtin"), BUILTINS)
def test_errors_are_derived_from_the_matching_builtin(kind: type[BaseException], builtin: type) -> None:
    assert issubclass(kind, builtin)


def test_except_exception_does_not_catch_an_interrupt() -> None:
    assert not issubclass(errors.Interrupted, Exception)


def test_the_code_decides_the_class_and_error_info_the_reason() -> None:
    call = failed_call(grpc.StatusCode.NOT_FOUND, "no datas3t is named 'x'", "DATAS3T_NOT_FOUND", datas3t="x")
    error = from_rpc_error(call, "http://here")
    assert type(error) is errors.NotFound
    assert (str(error), error.reason, error.metadata) == (
        "no datas3t is named 'x'",
        "DATAS3T_NOT_FOUND",
        {"datas3t": "x"},
    )


def test_every_code_of_the_contract_has_a_class() -> None:
    from datas3t import v1

    for reason in v1.ErrorReason.DESCRIPTOR.values[1:]:
        rule = reason.GetOptions().Extensions[v1.rule]
        code = grpc.StatusCode[code_pb2.Code.Name(rule.code)]
        name = reason.name.removeprefix("ERROR_REASON_")
        error = from_rpc_error(failed_call(code, "a message", name), "http://here")
        assert error.reason == name
        # No client of this package receives these two: the one is of REST, the other of a client that has left.
        without = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.CANCELLED)
        assert type(error) is not Datas3tError or code in without, name


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
def test_a_transport_error_is_one_line_with_the_url_and_advice(code: grpc.StatusCode) -> None:
    error = from_rpc_error(failed_call(code, "failed to connect to all addresses;\n last error: x"), "http://here:1")
    assert "http://here:1" in str(error)
    assert ";" in str(error) or "try again" in str(error)
    assert "\n" not in str(error)


def test_the_contract_decides_which_calls_are_idempotent() -> None:
    assert is_idempotent("/datas3t.v1.DatarangeService/CompleteUpload")
    assert is_idempotent("/datas3t.v1.BucketService/ListBuckets")
    assert not is_idempotent("/datas3t.v1.DatarangeService/StartUpload")
