"""Our signer against its oracle, boto3, and against a real S3."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import parse_qsl, urlsplit

import boto3
import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from datas3t.server.s3.bucket import Bucket, Buckets
from datas3t.server.s3.clients import Location
from datas3t.server.s3.presign import presign

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

NOW = datetime(2026, 11, 24, 1, 2, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)
PLACE = Location("http://127.0.0.1:9000", "b-b", "us-east-1", "AK", "SK")
PLACES = [
    "http://127.0.0.1:9000",
    "https://s3.amazonaws.com",
    "http://host:80",
    "https://[::1]:9000",
    "https://host:443",
]


@lru_cache
def client_at(location: Location) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=location.endpoint,
        region_name=location.region,
        aws_access_key_id=location.access_key,
        aws_secret_access_key=location.secret_key,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


def oracle(
    location: Location, method: str, parameters: dict[str, Any], lifetime: timedelta, now: datetime = NOW
) -> str:
    seconds = int(lifetime.total_seconds())
    with mock.patch("botocore.auth.get_current_datetime", return_value=now.replace(tzinfo=None)):
        return str(client_at(location).generate_presigned_url(method, Params=parameters, ExpiresIn=seconds))


@contextmanager
def at(now: datetime) -> Iterator[None]:
    """The time is `now` for boto3 and for us."""
    with (
        mock.patch("botocore.auth.get_current_datetime", return_value=now.replace(tzinfo=None)),
        mock.patch("datas3t.server.s3.presign.datetime", mock.Mock(now=mock.Mock(return_value=now))),
    ):
        yield


def same(ours: str, theirs: str) -> bool:
    """The same but for the order of the parameters, and for a port that is the scheme's own."""
    one, other = urlsplit(ours), urlsplit(theirs)
    return (one.hostname, one.path) == (other.hostname, other.path) and sorted(parse_qsl(one.query)) == sorted(
        parse_qsl(other.query)
    )


@pytest.mark.parametrize("endpoint", PLACES)
@pytest.mark.parametrize("key", ["a/b.tar", "with blank", "plus+percent%", "é/ü", "tilde~star*'()!", "q?a=b&c#d"])
def test_the_signature_is_that_of_boto3(endpoint: str, key: str) -> None:
    location = Location(endpoint, "my-bucket", "eu-west-1", "AK/+=", "SK/+= x")
    for method, name in (("GET", "get_object"), ("PUT", "put_object")):
        theirs = oracle(location, name, {"Bucket": "my-bucket", "Key": key}, HOUR)
        assert same(presign(location, method, key, HOUR, now=NOW), theirs)
    part = {"Bucket": "my-bucket", "Key": key, "PartNumber": 3, "UploadId": "x/y=="}
    query = {"partNumber": "3", "uploadId": "x/y=="}
    assert same(presign(location, "PUT", key, HOUR, query=query, now=NOW), oracle(location, "upload_part", part, HOUR))


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(lambda key: key[0] != "/")
)
def test_any_key_is_signed_like_boto3(key: str) -> None:
    if ".." in key or "//" in key or key in (".", "..") or "/./" in key or key.startswith("./") or key.endswith("/."):
        return  # botocore rewrites these paths before it signs; ours are never so
    theirs = oracle(PLACE, "get_object", {"Bucket": "b-b", "Key": key}, HOUR)
    assert same(presign(PLACE, "GET", key, HOUR, now=NOW), theirs)


@pytest.mark.parametrize("key", ["source.tar", "a b/+%é~.tar"])
def test_a_copy_is_signed_like_boto3_with_both_headers(key: str) -> None:
    bucket = Buckets().at(PLACE)
    parameters = {
        "Bucket": "b-b",
        "Key": "k",
        "PartNumber": 3,
        "UploadId": "u",
        "CopySource": {"Bucket": "b-b", "Key": key},
        "CopySourceRange": "bytes=5-9",
    }
    with at(NOW):
        ours = bucket.copy_part_url("k", "u", 3, key, 5, 10, HOUR)
        theirs = client_at(PLACE).generate_presigned_url("upload_part_copy", Params=parameters, ExpiresIn=3600)
    assert same(ours.url, theirs)
    assert "X-Amz-SignedHeaders=host%3Bx-amz-copy-source%3Bx-amz-copy-source-range" in ours.url
    assert ours.copy_source_range == "bytes=5-9"


def test_get_and_put_are_boto3s_urls_to_the_byte() -> None:
    key = "datas3t/images/dataranges/00000000000000000000-00000000000000000009-000000000001.tar"
    for method, name in (("GET", "get_object"), ("PUT", "put_object")):
        assert presign(PLACE, method, key, HOUR, now=NOW) == oracle(PLACE, name, {"Bucket": "b-b", "Key": key}, HOUR)


def test_the_key_of_the_day_is_not_kept_beyond_it() -> None:
    tomorrow = NOW + timedelta(days=1)
    presign(PLACE, "GET", "k", HOUR, now=NOW)
    theirs = oracle(PLACE, "get_object", {"Bucket": "b-b", "Key": "k"}, HOUR, tomorrow)
    assert presign(PLACE, "GET", "k", HOUR, now=tomorrow) == theirs


def test_an_endpoint_may_end_with_a_slash() -> None:
    slashed = replace(PLACE, endpoint=f"{PLACE.endpoint}/")
    assert presign(slashed, "GET", "k", HOUR, now=NOW) == presign(PLACE, "GET", "k", HOUR, now=NOW)


@pytest.mark.parametrize(("days", "seconds"), [(30, 604800), (0, 1), (-1, 1), (1.5 / 86400, 1)])
def test_a_lifetime_is_cut_to_what_s3_takes(days: float, seconds: int) -> None:
    assert f"X-Amz-Expires={seconds}&" in presign(PLACE, "GET", "k", timedelta(days=days), now=NOW)


def send(url: str, method: str = "GET", data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data=data, method=method, headers=named)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.fixture
def real(services: "Services", bucket: str) -> Bucket:
    s3 = services.s3
    return Buckets().at(Location(s3.endpoint, bucket, "us-east-1", s3.access_key, s3.secret_key))


def test_a_real_s3_accepts_what_is_signed(real: Bucket) -> None:
    key = "odd +%é/name.tar"
    assert send(real.put_url(key, HOUR), "PUT", b"0123456789")[0] == 200
    assert send(real.get_url(key, HOUR), Range="bytes=2-4") == (206, b"234")
    assert send(real.get_url(key, HOUR) + "0")[0] == 403
    upload = real.create_multipart("joined.tar")
    real.put("source.tar", bytes(6 << 20))
    copy = real.copy_part_url("joined.tar", upload, 1, "source.tar", 0, 5 << 20, HOUR)
    headers = {"x_amz_copy_source": copy.copy_source, "x_amz_copy_source_range": copy.copy_source_range}
    assert send(copy.url, "PUT", b"")[0] == 403, "the headers are signed"
    assert send(copy.url, "PUT", b"", **headers)[0] == 200
    assert send(real.part_url("joined.tar", upload, 2, HOUR), "PUT", b"end")[0] == 200
    real.complete_multipart("joined.tar", upload, [part.etag for part in real.list_parts("joined.tar", upload)])
    assert real.get("joined.tar", (5 << 20) - 1, (5 << 20) + 3) == b"\0end"


def test_a_location_shows_no_key() -> None:
    shown = repr(Location("http://s3:9000", "b-b", "us-east-1", "THE-ACCESS-KEY", "THE-SECRET-KEY"))
    assert "http://s3:9000" in shown
    assert "THE-" not in shown
