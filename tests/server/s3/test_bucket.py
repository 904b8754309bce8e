"""Calls to a real S3, and the translation of its errors."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.s3.bucket import (
    Bucket,
    Buckets,
    InvalidParts,
    ObjectChanged,
    ObjectMissing,
    UnknownOperation,
    UploadMissing,
)
from datas3t.server.s3.locations import Location
from tests.support.canned import CannedResponse, canned_server, s3_error
from tests.support.faults import Fault, relay
from tests.support.stack import wait_until

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

PART = 5 << 20


@pytest.fixture
def location(services: "Services", bucket: str) -> Location:
    s3 = services.s3
    return Location(s3.endpoint, bucket, "us-east-1", s3.access_key, s3.secret_key)


@pytest.fixture
def real(location: Location) -> Bucket:
    return Buckets().at(location)


def test_objects_are_written_read_listed_and_deleted(real: Bucket) -> None:
    etag = real.put("a/1", b"0123456789")
    assert (info := real.head("a/1"))
    assert (info.size, info.etag) == (10, etag)
    assert '"' not in etag
    assert real.get("a/1", 2, 5, etag=etag) == b"234"
    assert real.get("a/1", 3, 3) == b""
    real.put("a/2", b"")
    real.put("b/1", b"x")
    assert [each.key for page in real.objects("a/") for each in page] == ["a/1", "a/2"]
    assert {each for page in real.folders("") for each in page} >= {"a/", "b/"}
    assert real.delete_many(["a/1", "a/2", "never"]) == {}
    assert real.head("a/1") is None


def test_a_missing_or_changed_object_raises_its_exception(real: Bucket) -> None:
    with pytest.raises(ObjectMissing):
        real.get("never", 0, 1)
    real.put("a", b"0123456789")
    with pytest.raises(ObjectChanged):
        real.get("a", 0, 1, etag="0" * 32)
    with pytest.raises(ObjectChanged):
        real.get("a", 5, 20)
    with pytest.raises(ObjectChanged):
        real.get("a", 50, 60)


def send_part(real: Bucket, upload: str, number: int, body: bytes) -> str:
    """Upload a part and return its ETag."""
    response = real._clients.usual.upload_part(
        Bucket=real.location.bucket, Key="m", UploadId=upload, PartNumber=number, Body=body
    )
    return response["ETag"].strip('"')


def test_a_part_that_was_sent_twice_is_listed_once_as_the_latest(real: Bucket) -> None:
    upload = real.create_multipart("m")
    send_part(real, upload, 1, b"1" * PART)
    sent = int(time.time())
    wait_until(lambda: time.time() > sent + 1)  # S3 stores times in whole seconds
    first, second = send_part(real, upload, 1, b"2" * PART), send_part(real, upload, 2, b"end")
    assert [(key, upload_id) for key, upload_id, _ in real.list_multiparts("m")] == [("m", upload)]
    parts = real.list_parts("m", upload) or []
    assert [(part.number, part.etag, part.size) for part in parts] == [(1, first, PART), (2, second, 3)]
    with pytest.raises(InvalidParts, match="InvalidPart"):
        real.complete_multipart("m", upload, ["0" * 32, second])
    real.complete_multipart("m", upload, [first, second])
    assert real.get("m", PART - 1, PART + 3) == b"2end"
    assert real.list_multiparts("m") == []


@pytest.mark.parametrize("chosen", range(3))
def test_a_part_that_was_sent_often_in_one_second_is_listed_with_the_given_etag(real: Bucket, chosen: int) -> None:
    upload = real.create_multipart("m")
    etags = [send_part(real, upload, 1, body) for body in (b"first", b"second", b"third!!")]
    last = send_part(real, upload, 2, b"end")
    parts = real.list_parts("m", upload, [etags[chosen], "0" * 32]) or []
    assert [(part.etag, part.size) for part in parts] == [(etags[chosen], 5 + chosen), (last, 3)]


def test_an_aborted_multipart_upload_is_missing_and_may_be_aborted_again(real: Bucket) -> None:
    upload = real.create_multipart("m")
    real.abort_multipart("m", upload)
    real.abort_multipart("m", upload)
    with pytest.raises(UploadMissing):
        real.list_parts("m", upload)
    with pytest.raises(UploadMissing):
        real.complete_multipart("m", upload, ["0" * 32])


def test_an_unreachable_s3_is_a_failure_that_says_what_to_do(location: Location) -> None:
    unreachable = Buckets().at(replace(location, endpoint="http://127.0.0.1:1"))
    calls: list[Callable[[], object]] = [
        lambda: unreachable.head("a"),
        lambda: unreachable.get("a", 0, 1),
        lambda: unreachable.put("a", b""),
        lambda: list(unreachable.objects("")),
        lambda: unreachable.create_multipart("a"),
        lambda: unreachable.delete("a"),
    ]
    for call in calls:
        with pytest.raises(Failure, match=r"http://127.0.0.1:1 does not respond .* try again") as caught:
            call()
        assert caught.value.reason == v1.ERROR_REASON_S3_UNAVAILABLE


def test_a_request_is_retried_after_an_error_of_s3(location: Location) -> None:
    with relay(location.endpoint) as between:
        bucket = Buckets().at(replace(location, endpoint=between.url))
        between.plan(Fault(status=503), Fault(cut_after=0))
        assert bucket.head("never") is None
        between.always = Fault(status=503)
        with pytest.raises(Failure) as caught:
            bucket.head("never")
    assert caught.value.reason == v1.ERROR_REASON_S3_UNAVAILABLE


@pytest.mark.parametrize("wrong", [{"secret_key": "wrong"}, {"access_key": "wrong"}, {"bucket": "no-such-bucket"}])
def test_credentials_that_no_longer_work_are_a_failure_that_does_not_show_them(
    location: Location, wrong: dict[str, str]
) -> None:
    bucket = Buckets().at(replace(location, **wrong))
    with pytest.raises(Failure, match="update the bucket configuration") as caught:
        bucket.put("a", b"x")
    assert caught.value.reason == v1.ERROR_REASON_S3_REFUSED
    assert location.access_key not in caught.value.message
    assert location.secret_key not in caught.value.message


def test_a_location_has_one_client(location: Location) -> None:
    buckets = Buckets()
    assert buckets.at(location)._clients.usual is buckets.at(location)._clients.usual
    assert buckets.at(location)._clients.usual is not buckets.at(replace(location, region="eu-west-1"))._clients.usual


REDIRECTS = [
    s3_error("PermanentRedirect", 301, x_amz_bucket_region="eu-west-1"),
    s3_error("AuthorizationHeaderMalformed", 400, "<Region>eu-west-1</Region>"),
]


@pytest.mark.parametrize("response", REDIRECTS, ids=lambda response: str(response.status))
def test_redirects_to_another_region_are_not_followed(location: Location, response: CannedResponse) -> None:
    with canned_server(lambda _: response) as (endpoint, requests):
        with pytest.raises(Failure) as caught:
            Buckets().at(replace(location, endpoint=endpoint)).get("a", 0, 1)
        assert len(requests) == 1
    assert caught.value.reason == v1.ERROR_REASON_S3_REFUSED


@pytest.mark.parametrize(
    "response", [CannedResponse(404, "<p>", "text/html"), CannedResponse(body="<p>", content_type="text/html")]
)
def test_a_404_of_another_server_is_not_a_missing_object(location: Location, response: CannedResponse) -> None:
    with canned_server(lambda _: response) as (endpoint, _):
        bucket = Buckets().at(replace(location, endpoint=endpoint))
        calls: list[Callable[[], object]] = [
            lambda: bucket.get("a", 0, 1),
            lambda: bucket.put("a", b"x"),
            lambda: list(bucket.objects("")),
            lambda: bucket.create_multipart("a"),
            lambda: bucket.complete_multipart("a", "upload", ["0" * 32]),
        ]
        for call in calls:
            with pytest.raises(Failure) as caught:
                call()
            assert caught.value.reason == v1.ERROR_REASON_S3_UNAVAILABLE


@pytest.mark.parametrize("status", [412, 416])
def test_only_a_get_finds_that_an_object_has_changed(location: Location, status: int) -> None:
    with canned_server(lambda _: s3_error("PreconditionFailed", status)) as (endpoint, _):
        bucket = Buckets().at(replace(location, endpoint=endpoint))
        calls: list[Callable[[], object]] = [
            lambda: bucket.put("a", b"x"),
            lambda: bucket.delete("a"),
            lambda: bucket.delete_many(["a"]),
            lambda: bucket.head("a"),
            lambda: list(bucket.objects("")),
            lambda: bucket.create_multipart("a"),
            lambda: bucket.complete_multipart("a", "upload", ["0" * 32]),
            lambda: bucket.abort_multipart("a", "upload"),
        ]
        for call in calls:
            with pytest.raises(Failure) as caught:
                call()
            assert caught.value.reason == v1.ERROR_REASON_S3_UNAVAILABLE
        with pytest.raises(ObjectChanged):
            bucket.get("a", 0, 1)


UNKNOWN = [
    s3_error("MissingContentMD5", 400),
    s3_error("InvalidArgument", 400),
    s3_error("MethodNotAllowed", 405),
    s3_error("NotImplemented", 501),
    CannedResponse(501, "<p>", "text/html"),
]


@pytest.mark.parametrize("answer", UNKNOWN, ids=lambda answer: f"{answer.status}")
def test_operations_that_a_store_does_not_know_are_told_apart_from_failures(
    location: Location, answer: CannedResponse
) -> None:
    with canned_server(lambda _: answer) as (endpoint, asked):
        bucket = Buckets().at(replace(location, endpoint=endpoint))
        with pytest.raises(UnknownOperation):
            bucket.delete_many(["a"])
        with pytest.raises(UnknownOperation):
            bucket.list_multiparts("a")
        assert bucket.list_parts("a", "upload") is None
        assert len(asked) == 3


def test_parts_without_etags_count_as_not_listed(location: Location) -> None:
    part = "<Part><PartNumber>{}</PartNumber>{}<Size>5</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Part>"
    etag = "<ETag>&quot;abc&quot;</ETag>"
    for second, listed in ((etag, 2), ("", None), ("<ETag></ETag>", None), ("<ETag>&quot;&quot;</ETag>", None)):
        parts = part.format(1, etag) + part.format(2, second)
        page = f"<ListPartsResult><UploadId>upload</UploadId>{parts}</ListPartsResult>"
        with canned_server(lambda _, page=page: CannedResponse(body=page)) as (endpoint, _):  # type: ignore[misc]
            found = Buckets().at(replace(location, endpoint=endpoint)).list_parts("a", "upload")
        assert (found and len(found)) == listed


def test_bad_credentials_are_no_unknown_operation(location: Location) -> None:
    with canned_server(lambda _: s3_error("ExpiredToken", 400)) as (endpoint, _):
        bucket = Buckets().at(replace(location, endpoint=endpoint))
        with pytest.raises(Failure) as caught:
            bucket.delete_many(["a"])
    assert caught.value.reason == v1.ERROR_REASON_S3_REFUSED


def test_objects_that_could_not_be_deleted_are_returned_except_missing_ones(location: Location) -> None:
    refused = "".join(
        f"<Error><Key>{key}</Key><Code>{code}</Code></Error>"
        for key, code in (("missing", "NoSuchKey"), ("kept", "AccessDenied"))
    )
    with canned_server(lambda _: CannedResponse(body=f"<DeleteResult>{refused}</DeleteResult>")) as (endpoint, _):
        bucket = Buckets().at(replace(location, endpoint=endpoint))
        assert bucket.delete_many(["missing", "kept", "a"]) == {"kept": "AccessDenied"}


def test_the_libraries_log_no_requests_even_at_debug(real: Bucket, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        real.put("a", b"x")
        real.get_url("a", timedelta(hours=1))
    assert real.location.secret_key not in caplog.text
    assert "Signature" not in caplog.text
    assert "Authorization" not in caplog.text
