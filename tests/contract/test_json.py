"""JSON to requests and responses to JSON: exactly the contract's fields; errors name the field that is wrong."""

import json
import sys
from typing import Any

import pytest
from google.protobuf.message import Message

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.front.rest.codec import check, decode, decode_query, encode, missing_field
from tests.support.front import RunningFront

MALFORMED, UNKNOWN, INVALID = "MALFORMED_REQUEST", "UNKNOWN_FIELD", "INVALID_VALUE"


def start_upload(body: str | bytes) -> v1.StartUploadRequest:
    """Return the request that the body is decoded to."""
    request = v1.StartUploadRequest()
    decode(body.encode() if isinstance(body, str) else body, request)
    return request


def refuse(body: str | bytes, request: Message | None = None) -> tuple[str, str, str]:
    """Return the reason, the field and the message of the failure to decode the body."""
    with pytest.raises(Failure) as caught:
        decode(body.encode() if isinstance(body, str) else body, request or v1.StartUploadRequest())
    name = v1.ErrorReason.Name(caught.value.reason).removeprefix("ERROR_REASON_")
    return name, caught.value.metadata.get("field", ""), caught.value.message


def test_fields_are_read_by_their_proto_names() -> None:
    request = start_upload('{"datas3t_name": "büro", "first_datapoint_index": 9223372036854775808, "data_size": 0}')
    assert (request.datas3t_name, request.first_datapoint_index, request.data_size) == ("büro", 2**63, 0)


def test_null_is_read_as_absent() -> None:
    request = v1.AddBucketRequest()
    decode(b'{"name": null, "region": null}', request)
    assert not request.HasField("region")
    assert request.name == ""


def test_a_field_for_grpc_only_gets_its_fixed_value() -> None:
    assert start_upload("{}").all_urls is True


@pytest.mark.parametrize(
    ("body", "reason", "field"),
    [
        ("", MALFORMED, ""),
        ("   \n", MALFORMED, ""),
        ("null", MALFORMED, ""),
        ("[]", MALFORMED, ""),
        ('"text"', MALFORMED, ""),
        ("{", MALFORMED, ""),
        ("{}{}", MALFORMED, ""),
        ("{} trailing", MALFORMED, ""),
        ("{'datas3t_name': 1}", MALFORMED, ""),
        ('{"data_size": NaN}', MALFORMED, ""),
        ('{"data_size": Infinity}', MALFORMED, ""),
        (b'{"datas3t_name": "\xff"}', MALFORMED, ""),
        (b"\xef\xbb\xbf{}", MALFORMED, ""),
        ("[" * 200_000, MALFORMED, ""),
        ('{"data_size": ' + "9" * 5000 + "}", MALFORMED, ""),
        ('{"data_size": 1, "data_size": 1}', MALFORMED, "data_size"),
        ('{"data_size": "1.0"}', MALFORMED, "data_size"),
        ('{"data_size": " 1"}', MALFORMED, "data_size"),
        ('{"data_size": "-1"}', INVALID, "data_size"),
        ('{"data_size": 1.0}', MALFORMED, "data_size"),
        ('{"data_size": 1e3}', MALFORMED, "data_size"),
        ('{"data_size": 1.5}', MALFORMED, "data_size"),
        ('{"data_size": true}', MALFORMED, "data_size"),
        ('{"data_size": [1]}', MALFORMED, "data_size"),
        ('{"data_size": {}}', MALFORMED, "data_size"),
        ('{"data_size": -1}', INVALID, "data_size"),
        ('{"data_size": 18446744073709551616}', INVALID, "data_size"),
        ('{"datas3t_name": 7}', MALFORMED, "datas3t_name"),
        ('{"datas3t_name": ["a"]}', MALFORMED, "datas3t_name"),
        ('{"datas3t_name": "\\ud800"}', INVALID, "datas3t_name"),
        ('{"name": "a"}', UNKNOWN, "name"),
        ('{"name": null}', UNKNOWN, "name"),
        ('{"datas3tName": "a"}', UNKNOWN, "datas3tName"),
        ('{"all_urls": true}', UNKNOWN, "all_urls"),
    ],
)
def test_any_other_body_is_refused_with_reason_and_field(body: str | bytes, reason: str, field: str) -> None:
    actual_reason, actual_field, message = refuse(body)
    assert (actual_reason, actual_field) == (reason, field)
    assert field in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("upload_ids", "reason", "field"),
    [
        ("null", "", ""),
        ("[]", "", ""),
        ('"a"', MALFORMED, "upload_ids"),
        ('["a", 7]', MALFORMED, "upload_ids[1]"),
        ('["a", null]', MALFORMED, "upload_ids[1]"),
        ('[["a"]]', MALFORMED, "upload_ids[0]"),
    ],
)
def test_a_list_must_hold_values_of_its_type(upload_ids: str, reason: str, field: str) -> None:
    body = f'{{"datarange_upload_id": 1, "upload_ids": {upload_ids}}}'
    if reason:
        assert refuse(body, v1.CompleteUploadRequest())[:2] == (reason, field)
    else:
        decode(body.encode(), v1.CompleteUploadRequest())


def test_nested_messages_are_read_and_errors_name_their_path() -> None:
    response = v1.StartAggregateResponse()
    decode(b'{"source_datarange_download_urls": [{"datarange_id": 3}]}', response)
    assert response.source_datarange_download_urls[0].datarange_id == 3
    wrong = '{"source_datarange_download_urls": [{}, {"datarange_id": "x"}]}'
    assert refuse(wrong, v1.StartAggregateResponse())[1] == "source_datarange_download_urls[1].datarange_id"


def test_a_long_field_name_is_cut_in_the_error() -> None:
    _, field, message = refuse('{"' + "x" * 10_000 + '": 1}')
    assert len(field) <= 100
    assert len(message) < 300


def test_a_query_is_read_like_a_body() -> None:
    request = v1.PresignDownloadRequest()
    decode_query([("datas3t_name", "7"), ("first_datapoint", "18446744073709551615")], request)
    assert (request.datas3t_name, request.first_datapoint) == ("7", 2**64 - 1)


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([("first_datapoint", "1.0")], MALFORMED),
        ([("first_datapoint", "")], MALFORMED),
        ([("first_datapoint", "-1")], INVALID),
        ([("datas3t_name", "a"), ("datas3t_name", "a")], MALFORMED),
        ([("page_size", "1")], UNKNOWN),
        ([("name", "a")], UNKNOWN),
    ],
)
def test_any_other_query_is_refused(pairs: list[tuple[str, str]], reason: str) -> None:
    with pytest.raises(Failure) as caught:
        decode_query(pairs, v1.PresignDownloadRequest())
    assert v1.ErrorReason.Name(caught.value.reason) == f"ERROR_REASON_{reason}"


def test_all_fields_are_written_in_order_except_empty_ones_that_the_contract_leaves_out() -> None:
    assert encode(v1.StartUploadResponse(part_size=5)) == (
        b'{"datarange_id":0,"datarange_upload_id":0,"object_key":"","first_datapoint_index":0,"use_direct_put":false,'
        b'"presigned_index_put_url":""}'
    )


def test_large_integers_are_numbers_and_text_is_utf_8() -> None:
    response = v1.ListDatas3tsResponse(datas3ts=[v1.Datas3t(datas3t_name="büro", total_bytes=2**64 - 1)])
    assert json.loads(encode(response, only="datas3ts"))[0]["total_bytes"] == 2**64 - 1
    assert "büro".encode() in encode(response)


def test_empty_lists_are_written_unless_the_contract_leaves_them_out() -> None:
    assert encode(v1.ListDatarangesResponse(next_page_token="more")) == b'{"dataranges":[]}'
    assert encode(v1.ListBucketsResponse(), only="buckets") == b"[]"


def test_a_message_that_json_cannot_hold_is_refused_at_start() -> None:
    with pytest.raises(TypeError, match="expires_at"):
        check(v1.SignUploadPartsResponse.DESCRIPTOR)


@pytest.mark.parametrize(
    ("request_type", "given", "reason", "missing"),
    [
        (
            v1.DeleteDatarangeRequest,
            {"datas3t_name", "last_datapoint_key"},
            "DATARANGE_NOT_FOUND",
            "first_datapoint_key",
        ),
        (
            v1.DeleteDatarangeRequest,
            {"datas3t_name", "first_datapoint_key"},
            "DATARANGE_NOT_FOUND",
            "last_datapoint_key",
        ),
        (v1.PresignDownloadRequest, {"datas3t_name", "last_datapoint"}, "DATAPOINTS_NOT_FOUND", "first_datapoint"),
        (v1.StartAggregateRequest, {"last_datapoint_index"}, "AGGREGATE_RANGE_UNFIT", "first_datapoint_index"),
        (v1.StartUploadRequest, {"number_of_datapoints", "data_size"}, "DATARANGE_OVERLAPS", "first_datapoint_index"),
        (v1.CancelAggregateRequest, set(), "AGGREGATE_NOT_FOUND", "aggregate_upload_id"),
        (v1.CancelAggregateRequest, {"aggregate_upload_id"}, "AGGREGATE_NOT_FOUND", None),
        (v1.PresignDownloadRequest, {"first_datapoint", "last_datapoint"}, "DATAPOINTS_NOT_FOUND", None),
        (v1.PresignDownloadRequest, {"datas3t_name"}, "DATAS3T_NOT_FOUND", None),
    ],
)
def test_a_failure_about_a_number_that_was_not_given_says_that_it_is_missing(
    request_type: type[Message], given: set[str], reason: str, missing: str | None
) -> None:
    failure = Failure(v1.ErrorReason.Value(f"ERROR_REASON_{reason}"), "there is no 0")
    instead = missing_field(failure, request_type.DESCRIPTOR, given)  # type: ignore[arg-type] # two classes of descriptors
    assert (instead and instead.message) == (missing and f'"{missing}" is missing; add it to the request')
    if instead:
        assert instead.reason == v1.ERROR_REASON_INVALID_VALUE
        assert instead.metadata == {"field": missing}


def test_deeply_nested_json_does_not_exhaust_the_stack(front: RunningFront) -> None:
    depth = sys.getrecursionlimit() * 20
    nested: Any = b'{"name": ' + b"[" * depth + b"]" * depth + b"}"
    assert front.request("POST", "/api/v1/buckets", raw=nested).reason == MALFORMED
    assert front.request("POST", "/api/v1/buckets", {"name": "x"}).status == 201


def test_integers_may_be_quoted(front: RunningFront) -> None:
    request = {"first_datapoint_index": "9007199254740993", "number_of_datapoints": "2", "data_size": 1}
    assert front.request("POST", "/api/v1/upload-datarange", request).status == 200
    assert front.dataranges.last_request.first_datapoint_index == 2**53 + 1
    assert front.dataranges.last_request.number_of_datapoints == 2
