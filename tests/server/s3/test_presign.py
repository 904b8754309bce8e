"""Our signer against its oracle, boto3, and against a real S3."""

import urllib.error
import urllib.request
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
from datas3t.server.s3.location import Location
from datas3t.server.s3.presign import presign

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

NOW = datetime(2026, 11, 24, 1, 2, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)
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


def oracle(location: Location, method: str, parameters: dict[str, Any], lifetime: timedelta) -> str:
    seconds = int(lifetime.total_seconds())
    with mock.patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        return str(client_at(location).generate_presigned_url(method, Params=parameters, ExpiresIn=seconds))


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
    location = Location("http://127.0.0.1:9000", "b-b", "us-east-1", "AK", "SK")
    assert same(
        presign(location, "GET", key, HOUR, now=NOW),
        oracle(location, "get_object", {"Bucket": "b-b", "Key": key}, HOUR),
    )


def test_a_lifetime_above_seven_days_is_cut_to_what_s3_takes() -> None:
    location = Location("http://127.0.0.1:9000", "b-b", "us-east-1", "AK", "SK")
    assert "X-Amz-Expires=604800&" in presign(location, "GET", "k", timedelta(days=30), now=NOW)


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
    assert "SK" not in repr(real.location)
    assert real.location.secret_key not in repr(real.location)
