"""Calls to a real S3, and what its answers and its absence mean."""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.s3 import check
from datas3t.server.s3.bucket import Bucket, Buckets, InvalidParts, ObjectChanged, ObjectMissing, UploadMissing
from datas3t.server.s3.location import Location
from tests.support.faults import Fault, relay
from tests.support.httpd_html import html_server

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


def test_objects_are_written_read_looked_at_listed_and_deleted(real: Bucket) -> None:
    etag = real.put("a/1", b"0123456789")
    assert (found := real.head("a/1"))
    assert (found.size, found.etag) == (10, etag)
    assert '"' not in etag
    assert real.get("a/1", 2, 5, etag=etag) == b"234"
    assert real.get("a/1", 3, 3) == b""
    real.put("a/2", b"")
    real.put("b/1", b"x")
    assert [each.key for page in real.objects("a/") for each in page] == ["a/1", "a/2"]
    assert {each for page in real.folders("") for each in page} >= {"a/", "b/"}
    assert real.delete(["a/1", "a/2", "never"]) == {}
    assert real.head("a/1") is None


def test_what_is_not_as_expected_is_told(real: Bucket) -> None:
    with pytest.raises(ObjectMissing):
        real.get("never", 0, 1)
    real.put("a", b"0123456789")
    with pytest.raises(ObjectChanged):
        real.get("a", 0, 1, etag="0" * 32)
    with pytest.raises(ObjectChanged):
        real.get("a", 5, 20)
    with pytest.raises(ObjectChanged):
        real.get("a", 50, 60)


def test_parts_are_listed_once_each_the_later_where_sent_twice(real: Bucket) -> None:
    upload = real.create_multipart("m")
    for body in (b"1" * PART, b"2" * PART):
        real._client.upload_part(Bucket=real.location.bucket, Key="m", UploadId=upload, PartNumber=1, Body=body)
    real._client.upload_part(Bucket=real.location.bucket, Key="m", UploadId=upload, PartNumber=2, Body=b"end")
    assert [(key, found) for key, found, _ in real.list_multiparts("m")] == [("m", upload)]
    parts = real.list_parts("m", upload)
    assert [(part.number, part.size) for part in parts] == [(1, PART), (2, 3)]
    with pytest.raises(InvalidParts, match="InvalidPart"):
        real.complete_multipart("m", upload, ["0" * 32, parts[1].etag])
    real.complete_multipart("m", upload, [part.etag for part in parts])
    assert real.get("m", PART - 1, PART + 3) == b"2end"
    assert real.list_multiparts("m") == []


def test_a_multipart_upload_that_is_gone_is_told_and_aborting_it_again_is_fine(real: Bucket) -> None:
    upload = real.create_multipart("m")
    real.abort_multipart("m", upload)
    real.abort_multipart("m", upload)
    with pytest.raises(UploadMissing):
        real.list_parts("m", upload)
    with pytest.raises(UploadMissing):
        real.complete_multipart("m", upload, ["0" * 32])


def test_where_s3_is_away_it_says_so_and_what_to_do(location: Location) -> None:
    away = Buckets().at(replace(location, endpoint="http://127.0.0.1:1"))
    calls: list[Callable[[], object]] = [
        lambda: away.head("a"),
        lambda: away.get("a", 0, 1),
        lambda: away.put("a", b""),
        lambda: list(away.objects("")),
        lambda: away.create_multipart("a"),
        lambda: away.delete(["a"]),
    ]
    for call in calls:
        with pytest.raises(Failure, match=r"http://127.0.0.1:1 does not answer .* try again") as caught:
            call()
        assert caught.value.reason == v1.ERROR_REASON_S3_UNAVAILABLE


def test_an_answer_of_s3_that_is_a_fault_is_tried_again(location: Location) -> None:
    with relay(location.endpoint) as between:
        bucket = Buckets().at(replace(location, endpoint=between.url))
        between.plan(Fault(status=503), Fault(cut_after=0))
        assert bucket.head("never") is None
        between.always = Fault(status=503)
        with pytest.raises(Failure) as caught:
            bucket.head("never")
    assert caught.value.reason == v1.ERROR_REASON_S3_UNAVAILABLE


@pytest.mark.parametrize("wrong", [{"secret_key": "wrong"}, {"access_key": "wrong"}, {"bucket": "no-such-bucket"}])
def test_credentials_that_no_longer_work_are_refused_without_being_named(
    location: Location, wrong: dict[str, str]
) -> None:
    bucket = Buckets().at(replace(location, **wrong))
    with pytest.raises(Failure, match="update the bucket configuration") as caught:
        bucket.put("a", b"x")
    assert caught.value.reason == v1.ERROR_REASON_S3_REFUSED
    assert location.access_key not in caught.value.message
    assert location.secret_key not in caught.value.message


def test_one_client_serves_a_location(location: Location) -> None:
    buckets = Buckets()
    assert buckets.at(location)._client is buckets.at(location)._client
    assert buckets.at(location)._client is not buckets.at(replace(location, region="eu-west-1"))._client


CHECKS = [
    ({}, None, ""),
    ({"bucket": "no-such-bucket"}, v1.ERROR_REASON_S3_BUCKET_NOT_FOUND, "there is no bucket 'no-such-bucket'"),
    ({"secret_key": "wrong"}, v1.ERROR_REASON_S3_CREDENTIALS_REFUSED, "the secret key is wrong"),
    ({"access_key": "wrong"}, v1.ERROR_REASON_S3_CREDENTIALS_REFUSED, "the access key is unknown"),
    ({"endpoint": "http://127.0.0.1:1"}, v1.ERROR_REASON_ENDPOINT_UNREACHABLE, "nothing answers there"),
    ({"endpoint": "http://no-such-host.invalid"}, v1.ERROR_REASON_ENDPOINT_UNREACHABLE, "nothing answers there"),
]


@pytest.mark.parametrize(("changes", "reason", "said"), CHECKS, ids=lambda value: str(value)[:40])
def test_the_check_says_which_of_endpoint_bucket_and_credentials_is_wrong(
    location: Location, changes: dict[str, str], reason: v1.ErrorReason.ValueType | None, said: str
) -> None:
    tried = replace(location, **changes)
    if reason is None:
        check.check(tried)
        return
    with pytest.raises(Failure, match=said) as caught:
        check.check(tried)
    assert caught.value.reason == reason
    assert location.secret_key not in caught.value.message


def test_the_check_knows_tls_where_there_is_none_and_what_is_no_s3(location: Location) -> None:
    with pytest.raises(Failure, match="TLS fails there"):
        check.check(replace(location, endpoint=location.endpoint.replace("http://", "https://")))
    with html_server() as endpoint, pytest.raises(Failure, match="no S3") as caught:
        check.check(replace(location, endpoint=endpoint))
    assert caught.value.reason == v1.ERROR_REASON_ENDPOINT_UNREACHABLE


def test_the_libraries_cannot_log_requests_even_where_all_is_logged(
    real: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        real.put("a", b"x")
        real.get_url("a", timedelta(hours=1))
    assert real.location.secret_key not in caplog.text
    assert "Signature" not in caplog.text
    assert "Authorization" not in caplog.text
