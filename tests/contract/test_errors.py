"""Every reason of the contract over gRPC and REST: code, HTTP status, metadata. Of a defect only its id is sent."""

import logging
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc import code_pb2, error_details_pb2
from grpc_status import rpc_status

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.front.calls.failures import error_body, failure_status, http_status, unexpected_status
from datas3t.v1.bucket_pb2_grpc import BucketServiceStub
from datas3t.v1.datas3t_pb2_grpc import Datas3tServiceStub
from tests.support.front import RunningFront

HTTP_STATUS = {
    "INVALID_VALUE": 400, "MALFORMED_REQUEST": 400, "UNKNOWN_FIELD": 400, "BODY_TOO_LARGE": 413, "ROUTE_NOT_FOUND": 404,
    "CONTENT_ENCODING": 415, "CROSS_SITE": 403, "CALL_TOO_LONG": 504, "CALLER_LEFT": 499, "SERVER_BUSY": 503,
    "METHOD_NOT_ALLOWED": 405, "BUCKET_NOT_FOUND": 404, "BUCKET_EXISTS": 409, "BUCKET_IN_USE": 409,
    "ENDPOINT_UNREACHABLE": 400, "S3_BUCKET_NOT_FOUND": 400, "S3_CREDENTIALS_REFUSED": 400, "DATAS3T_NOT_FOUND": 404,
    "DATAS3T_EXISTS": 409, "DATAS3T_NOT_EMPTY": 409, "DATARANGE_NOT_FOUND": 404, "DATARANGE_OVERLAPS": 409,
    "LISTING_CHANGED": 409,
    "KEYS_RESERVED": 409, "KEYS_NOT_RESERVED": 409, "RESERVATION_NOT_FOUND": 404, "REQUEST_ID_USED": 409,
    "KEYS_EXHAUSTED": 409,
    "DATAPOINTS_NOT_FOUND": 404, "UPLOAD_NOT_FOUND": 404, "UPLOAD_INVALID": 400, "UPLOAD_CANCELLED": 409,
    "UPLOAD_COMPLETED": 409, "AGGREGATE_NOT_FOUND": 404, "AGGREGATE_INVALID": 400, "AGGREGATE_CANCELLED": 409,
    "AGGREGATE_COMPLETED": 409, "AGGREGATE_RANGE_UNFIT": 400, "AGGREGATE_SOURCES_CHANGED": 409,
    "TABLE_FILE_NOT_FOUND": 404, "TABLE_FILE_INVALID": 400, "TABLE_FILE_CANCELLED": 409, "TABLE_FILE_COMPLETED": 409,
    "TABLE_NOT_FOUND": 404, "TABLE_FILES_CHANGED": 409,
    "AGGREGATE_NEEDS_EQUAL_PARTS": 409, "S3_UNAVAILABLE": 503,
    "S3_REFUSED": 503, "OBJECT_CHANGED": 500, "DATABASE_UNAVAILABLE": 503, "CREDENTIALS_UNREADABLE": 500,
    "SHUTTING_DOWN": 503, "INTERNAL": 500, "CHECKSUM_MISMATCH": 500, "CHECKSUMS_EXIST": 409,
    "CHECKSUMS_UNDER_WAY": 409, "CHECKSUMS_NOT_FOUND": 404, "CHECKSUMS_INVALID": 400, "CHECKSUMS_CANCELLED": 409,
    "CHECKSUMS_COMPLETED": 409, "TOKEN_MISSING": 401, "TOKEN_REFUSED": 401, "ACCESS_DENIED": 403,
    "TOKEN_NOT_FOUND": 404, "TOKEN_EXISTS": 409, "AUTH_OFF": 400, "PROVIDER_UNAVAILABLE": 503,
}  # fmt: skip


def test_the_table_has_every_reason() -> None:
    assert {f"ERROR_REASON_{name}" for name in HTTP_STATUS} == set(v1.ErrorReason.keys()) - {"ERROR_REASON_UNSPECIFIED"}


@pytest.mark.parametrize("name", HTTP_STATUS)
def test_a_reason_has_its_http_status_and_carries_its_metadata(name: str) -> None:
    status = failure_status(Failure(v1.ErrorReason.Value(f"ERROR_REASON_{name}"), "what happened", count=3))
    assert http_status(status) == HTTP_STATUS[name]
    assert error_body(status) == {
        "code": code_pb2.Code.Name(status.code),
        "message": "what happened",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": name,
                "domain": "datas3t",
                "metadata": {"count": "3"},
            }
        ],
    }


@pytest.mark.parametrize("metadata", [{}, {"name": "ü\ud800", "text": "x" * 1000}], ids=["none", "long"])
def test_the_json_of_an_error_is_that_of_its_grpc_status(metadata: dict[str, str]) -> None:
    status = failure_status(Failure(v1.ERROR_REASON_DATAS3T_NOT_FOUND, "there is none\ud800", **metadata))
    as_json = MessageToDict(status.to_rpc(), preserving_proto_field_name=True)
    assert error_body(status) == {**as_json, "code": code_pb2.Code.Name(as_json["code"])}


def info_of(error: Any) -> error_details_pb2.ErrorInfo:
    """Return the ErrorInfo in the details of a gRPC error."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


def test_grpc_sends_a_failure_with_its_details(front: RunningFront) -> None:
    with front.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        BucketServiceStub(channel).AddBucket(v1.AddBucketRequest(name="refuse"))
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert caught.value.details() == "bucket 'refuse' exists; use another name"
    info = info_of(caught.value)
    assert (info.reason, info.domain, dict(info.metadata)) == ("BUCKET_EXISTS", "datas3t", {"bucket": "refuse"})


def test_rest_sends_a_failure_with_the_same_details(front: RunningFront) -> None:
    response = front.request("POST", "/api/v1/buckets", {"name": "refuse"})
    assert (response.status, response.json["code"], response.reason) == (409, "ALREADY_EXISTS", "BUCKET_EXISTS")
    assert response.json["message"] == "bucket 'refuse' exists; use another name"


def test_a_stream_can_fail_after_its_first_message(front: RunningFront) -> None:
    with front.channel() as channel:
        stream = Datas3tServiceStub(channel).GetDatapointsBitmap(v1.GetDatapointsBitmapRequest(datas3t_name="torn"))
        assert next(stream).data == b"\x00\x01"
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
    assert info_of(caught.value).reason == "DATAS3T_NOT_FOUND"


@pytest.mark.parametrize("over", ["grpc", "grpc stream", "rest"])
def test_a_defect_sends_its_log_id_and_nothing_else(
    front: RunningFront, over: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        received = _cause_defect(front, over)
    assert "hush" not in received
    assert "RuntimeError" not in received
    logged = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(logged) == 1
    log_id = logged[0].split()[0].removeprefix("log_id=")
    assert log_id in received
    assert "tests/support/front.py" in logged[0]
    assert "SELECT" not in logged[0]


def _cause_defect(front: RunningFront, over: str) -> str:
    """Make a call that crashes, and return everything that the client receives."""
    if over == "rest":
        response = front.request("POST", "/api/v1/buckets", {"name": "break"})
        assert (response.status, response.reason) == (500, "INTERNAL")
        return response.body.decode() + str(response.headers)
    with front.channel() as channel:
        single, stream = BucketServiceStub(channel).AddBucket, Datas3tServiceStub(channel).GetDatapointsBitmap
        call: Callable[[], object] = {
            "grpc": lambda: single(v1.AddBucketRequest(name="break")),
            "grpc stream": lambda: list(stream(v1.GetDatapointsBitmapRequest(datas3t_name="broken"))),
        }[over]
        with pytest.raises(grpc.RpcError) as caught:
            call()
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert info_of(caught.value).reason == "INTERNAL"
    return str(caught.value) + str(caught.value.trailing_metadata())


def test_a_method_without_a_servicer_is_unimplemented(front: RunningFront) -> None:
    with front.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        BucketServiceStub(channel).UpdateBucket(v1.UpdateBucketRequest())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_very_long_message_is_cut_to_fit_into_trailers(front: RunningFront) -> None:
    status = failure_status(Failure(v1.ERROR_REASON_UPLOAD_INVALID, "ü" * 100_000, entry="x" * 100_000))
    assert status.to_rpc().ByteSize() < 4096


def test_the_cause_of_a_defect_is_logged_without_sql(front: RunningFront, caplog: pytest.LogCaptureFixture) -> None:
    defect = RuntimeError("outer\nLINE 1: SELECT secret")
    defect.__cause__ = KeyError("inner")
    unexpected_status(defect, "datas3t.v1.Service/Method", "the-id")
    assert "RuntimeError: outer" in caplog.text
    assert "KeyError: 'inner'" in caplog.text
    assert "request_id=the-id" in caplog.text
    assert "SELECT" not in caplog.text
