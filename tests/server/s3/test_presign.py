"""Our presigned URLs compared with those of boto3, and used with a real S3."""

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
from datas3t.server.s3.locations import Location
from datas3t.server.s3.presign import GetSigner, presign

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

NOW = datetime(2026, 11, 24, 1, 2, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)
LOCATION = Location("http://127.0.0.1:9000", "b-b", "us-east-1", "AK", "SK")
ENDPOINTS = [
    "http://127.0.0.1:9000",
    "https://s3.amazonaws.com",
    "http://host:80",
    "https://[::1]:9000",
    "https://host:443",
]


@lru_cache
def client_of(location: Location) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=location.endpoint,
        region_name=location.region,
        aws_access_key_id=location.access_key,
        aws_secret_access_key=location.secret_key,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


def presigned_by_boto3(
    location: Location, method: str, parameters: dict[str, Any], lifetime: timedelta, now: datetime = NOW
) -> str:
    seconds = int(lifetime.total_seconds())
    with mock.patch("botocore.auth.get_current_datetime", return_value=now.replace(tzinfo=None)):
        return str(client_of(location).generate_presigned_url(method, Params=parameters, ExpiresIn=seconds))


@contextmanager
def at_time(now: datetime) -> Iterator[None]:
    """Set the time for boto3 and for our code."""
    with (
        mock.patch("botocore.auth.get_current_datetime", return_value=now.replace(tzinfo=None)),
        mock.patch("datas3t.server.s3.presign.datetime", mock.Mock(now=mock.Mock(return_value=now))),
    ):
        yield


def equal(ours: str, theirs: str) -> bool:
    """Return whether two URLs are equal, except for the order of parameters and the default port of the scheme."""
    return _parts(ours) == _parts(theirs)


def _parts(url: str) -> tuple[object, ...]:
    parts = urlsplit(url)
    return parts.hostname, parts.path, sorted(parse_qsl(parts.query))


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("key", ["a/b.tar", "with blank", "plus+percent%", "é/ü", "tilde~star*'()!", "q?a=b&c#d"])
def test_urls_are_equal_to_those_of_boto3(endpoint: str, key: str) -> None:
    location = Location(endpoint, "my-bucket", "eu-west-1", "AK/+=", "SK/+= x")
    for method, name in (("GET", "get_object"), ("PUT", "put_object")):
        theirs = presigned_by_boto3(location, name, {"Bucket": "my-bucket", "Key": key}, HOUR)
        assert equal(presign(location, method, key, HOUR, now=NOW), theirs)
    part = {"Bucket": "my-bucket", "Key": key, "PartNumber": 3, "UploadId": "x/y=="}
    query = {"partNumber": "3", "uploadId": "x/y=="}
    assert equal(
        presign(location, "PUT", key, HOUR, query=query, now=NOW),
        presigned_by_boto3(location, "upload_part", part, HOUR),
    )


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(lambda key: key[0] != "/")
)
def test_urls_of_any_key_are_equal_to_those_of_boto3(key: str) -> None:
    if ".." in key or "//" in key or key in (".", "..") or "/./" in key or key.startswith("./") or key.endswith("/."):
        return  # botocore normalizes these paths before signing; our keys never contain them
    theirs = presigned_by_boto3(LOCATION, "get_object", {"Bucket": "b-b", "Key": key}, HOUR)
    assert equal(presign(LOCATION, "GET", key, HOUR, now=NOW), theirs)


@pytest.mark.parametrize("key", ["source.tar", "a b/+%é~.tar"])
def test_the_url_of_a_copy_is_equal_to_that_of_boto3_with_both_headers_signed(key: str) -> None:
    bucket = Buckets().at(LOCATION)
    parameters = {
        "Bucket": "b-b",
        "Key": "k",
        "PartNumber": 3,
        "UploadId": "u",
        "CopySource": {"Bucket": "b-b", "Key": key},
        "CopySourceRange": "bytes=5-9",
    }
    with at_time(NOW):
        ours = bucket.copy_part_url("k", "u", 3, key, 5, 10, HOUR)
        theirs = client_of(LOCATION).generate_presigned_url("upload_part_copy", Params=parameters, ExpiresIn=3600)
    assert equal(ours.url, theirs)
    assert "X-Amz-SignedHeaders=host%3Bx-amz-copy-source%3Bx-amz-copy-source-range" in ours.url
    assert ours.copy_source_range == "bytes=5-9"


def test_urls_of_our_keys_are_identical_to_those_of_boto3() -> None:
    key = "datas3t/images/dataranges/00000000000000000000-00000000000000000009-000000000001.tar"
    for method, name in (("GET", "get_object"), ("PUT", "put_object")):
        assert presign(LOCATION, method, key, HOUR, now=NOW) == presigned_by_boto3(
            LOCATION, name, {"Bucket": "b-b", "Key": key}, HOUR
        )


@given(st.text(min_size=1, max_size=30).filter(lambda key: key.isprintable()))
def test_the_signer_of_many_keys_returns_the_same_urls(key: str) -> None:
    for endpoint in ENDPOINTS:
        location = replace(LOCATION, endpoint=endpoint)
        signer = GetSigner(location, HOUR, now=NOW)
        assert signer.url(key) == presign(location, "GET", key, HOUR, now=NOW)
        assert signer.url(key).startswith(signer.address(key) + "?" + signer.query)
        assert signer.url(key).endswith(signer.signature(key).hex())


def test_the_cached_signing_key_is_not_used_on_the_next_day() -> None:
    tomorrow = NOW + timedelta(days=1)
    presign(LOCATION, "GET", "k", HOUR, now=NOW)
    theirs = presigned_by_boto3(LOCATION, "get_object", {"Bucket": "b-b", "Key": "k"}, HOUR, tomorrow)
    assert presign(LOCATION, "GET", "k", HOUR, now=tomorrow) == theirs


def test_an_endpoint_may_end_with_a_slash() -> None:
    slashed = replace(LOCATION, endpoint=f"{LOCATION.endpoint}/")
    assert presign(slashed, "GET", "k", HOUR, now=NOW) == presign(LOCATION, "GET", "k", HOUR, now=NOW)


@pytest.mark.parametrize(("days", "seconds"), [(30, 604800), (0, 1), (-1, 1), (1.5 / 86400, 1)])
def test_a_lifetime_is_limited_to_what_s3_allows(days: float, seconds: int) -> None:
    assert f"X-Amz-Expires={seconds}&" in presign(LOCATION, "GET", "k", timedelta(days=days), now=NOW)


def send(url: str, method: str = "GET", data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Send a request and return status and body. Headers are named with `_` in place of `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data=data, method=method, headers=named)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.fixture
def real(services: "Services", bucket: str) -> Bucket:
    s3 = services.s3
    return Buckets().at(Location(s3.endpoint, bucket, "us-east-1", s3.access_key, s3.secret_key))


def test_a_real_s3_accepts_the_urls(real: Bucket) -> None:
    key = "odd +%é/name.tar"
    assert send(real.put_url(key, HOUR), "PUT", b"0123456789")[0] == 200
    assert send(real.get_url(key, HOUR), Range="bytes=2-4") == (206, b"234")
    assert send(real.get_url(key, HOUR) + "0")[0] == 403
    upload = real.create_multipart("joined.tar")
    real.put("source.tar", bytes(6 << 20))
    copy = real.copy_part_url("joined.tar", upload, 1, "source.tar", 0, 5 << 20, HOUR)
    headers = {"x_amz_copy_source": copy.copy_source, "x_amz_copy_source_range": copy.copy_source_range}
    assert send(copy.url, "PUT", b"")[0] == 403, "the headers must be sent, because they are signed"
    assert send(copy.url, "PUT", b"", **headers)[0] == 200
    assert send(real.part_url("joined.tar", upload, 2, HOUR), "PUT", b"end")[0] == 200
    real.complete_multipart("joined.tar", upload, [part.etag for part in real.list_parts("joined.tar", upload) or ()])
    assert real.get("joined.tar", (5 << 20) - 1, (5 << 20) + 3) == b"\0end"


def test_the_repr_of_a_location_shows_no_credentials() -> None:
    shown = repr(Location("http://s3:9000", "b-b", "us-east-1", "THE-ACCESS-KEY", "THE-SECRET-KEY"))
    assert "http://s3:9000" in shown
    assert "THE-" not in shown
