"""The server's requests to S3 go to the configured endpoint, or nowhere."""

import socket
from collections.abc import Callable
from typing import Any

import pytest

from datas3t import v1
from datas3t.server.errors import Failure
from datas3t.server.s3 import guard
from datas3t.server.s3.bucket import Bucket, Buckets
from datas3t.server.s3.check import check
from datas3t.server.s3.locations import Location
from tests.support.canned import CannedResponse, canned_server

CALLS: dict[str, Callable[[Bucket], object]] = {
    "head": lambda bucket: bucket.head("key"),
    "get": lambda bucket: bucket.get("key", 0, 10),
    "put": lambda bucket: bucket.put("key", b"data"),
    "list": lambda bucket: list(bucket.objects("")),
    "delete": lambda bucket: bucket.delete("key"),
    "start": lambda bucket: bucket.create_multipart("key"),
    "join": lambda bucket: bucket.complete_multipart("key", "id", ["etag"]),
}


def location(endpoint: str) -> Location:
    return Location(endpoint, "my-bucket", "us-east-1", "AKEXAMPLE", "hidden")


@pytest.mark.parametrize("status", [301, 302, 307, 308])  # 303 is an error of botocore's own
@pytest.mark.parametrize("region", [{}, {"x-amz-bucket-region": "eu-west-1"}], ids=["", "with a region"])
def test_no_redirect_is_followed(status: int, region: dict[str, str]) -> None:
    with canned_server(lambda _: CannedResponse()) as (elsewhere, followed):
        body = f"<Error><Code>TemporaryRedirect</Code><Endpoint>{elsewhere}</Endpoint></Error>"
        redirect = CannedResponse(status, body, headers={"Location": f"{elsewhere}/my-bucket/key", **region})
        with canned_server(lambda _: redirect) as (endpoint, requests):
            bucket = Buckets().at(location(endpoint))
            for call in CALLS.values():
                with pytest.raises(Failure, match="S3 at http"):
                    call(bucket)
            with pytest.raises(Failure, match="S3"):
                check(bucket.location)
    assert len(requests) >= len(CALLS) + 1
    assert followed == []


def resolve_as(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """Let the name `s3.example` resolve to one address after the other, as a name server may answer."""
    real = socket.getaddrinfo
    left = list(answers)

    def resolved(host: Any, *arguments: Any, **options: Any) -> Any:
        if host == "s3.example":
            host = left.pop(0) if len(left) > 1 else left[0]
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254"])
def test_a_name_that_resolves_to_a_link_local_address_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    resolve_as(monkeypatch, address)
    for scheme in ("http", "https"):
        bucket = Buckets().at(location(f"{scheme}://s3.example:9000"))
        with pytest.raises(Failure, match="link-local") as caught:
            bucket.create_multipart("key")
        assert caught.value.reason == v1.ERROR_REASON_S3_REFUSED


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]"])
def test_the_engine_refuses_link_local_addresses(host: str) -> None:
    bucket = Buckets().at(location(f"http://{host}:9000"))
    with pytest.raises(Failure, match="link-local address, which is never allowed; correct the endpoint") as caught:
        check(bucket.location)
    assert caught.value.reason == v1.ERROR_REASON_ENDPOINT_UNREACHABLE
    for call in (CALLS["get"], CALLS["put"], CALLS["list"], CALLS["head"]):
        with pytest.raises(Failure, match="link-local") as caught:
            call(bucket)
        assert caught.value.reason == v1.ERROR_REASON_S3_REFUSED


def test_it_is_the_address_of_the_connection_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server may answer differently from one moment to the next."""
    with canned_server(lambda _: CannedResponse()) as (endpoint, requests):
        resolve_as(monkeypatch, "192.0.2.1", "127.0.0.1")
        monkeypatch.setattr(guard, "is_link_local", lambda address: address == "127.0.0.1")
        bucket = Buckets().at(location(endpoint.replace("127.0.0.1", "s3.example")))
        with pytest.raises(Failure, match="link-local"):
            bucket.create_multipart("key")
    assert requests == []
