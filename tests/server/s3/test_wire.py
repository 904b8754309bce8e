"""Calls of the server to S3 are bounded in bytes and in time, follow no redirect, and are counted."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest

from datas3t import v1
from datas3t.server.call import Call, caller_left, working_on
from datas3t.server.errors import Failure
from datas3t.server.s3.bucket import Bucket, Buckets, ObjectChanged
from datas3t.server.s3.check import check
from datas3t.server.s3.counts import COUNTS, CallCounts
from datas3t.server.s3.listings import parse_page
from datas3t.server.s3.locations import Location
from tests.support.canned import CannedResponse, canned_server, s3_error
from tests.support.httpd import Fault, Pattern, httpd

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n"
PIECE = b"x" * (1 << 20)


@pytest.fixture
def location(services: "Services", bucket: str) -> Location:
    s3 = services.s3
    return Location(s3.endpoint, bucket, "us-east-1", s3.access_key, s3.secret_key)


def at(endpoint: str) -> Bucket:
    """Return a bucket at an endpoint that checks no signature."""
    return Buckets().at(Location(endpoint, "b", "us-east-1", "access", "secret"))


class Raw:
    """A server on loopback that sends what `chunks` yields as the response to each request, and counts it."""

    def __init__(self, chunks: Callable[[], Iterator[bytes]]) -> None:
        self.sent = 0
        self._chunks = chunks
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        try:
            while True:
                threading.Thread(target=self._serve, args=[self._listener.accept()[0]], daemon=True).start()
        except OSError:
            return

    def _serve(self, peer: socket.socket) -> None:
        with peer:
            peer.recv(65536)
            try:
                for chunk in self._chunks():
                    peer.sendall(chunk)
                    self.sent += len(chunk)
            except OSError:
                return


@contextmanager
def raw(chunks: Callable[[], Iterator[bytes]]) -> Iterator[Raw]:
    """Run such a server until the block ends."""
    server = Raw(chunks)
    try:
        yield server
    finally:
        server.close()


def endless() -> Iterator[bytes]:
    """Yield a response without an end."""
    yield HEAD + b"\r\n<ListBucketResult>"
    while True:
        yield PIECE


def trickle() -> Iterator[bytes]:
    """Yield a response that comes byte by byte."""
    yield HEAD + b"Content-Length: 1000000\r\n\r\n"
    while True:
        time.sleep(0.05)
        yield b"x"


LISTS: list[Callable[[Bucket], object]] = [
    lambda bucket: list(bucket.objects("")),
    lambda bucket: list(bucket.folders("")),
    lambda bucket: check(bucket.location),
]


@pytest.mark.parametrize("call", LISTS)
def test_a_listing_without_an_end_is_refused_after_some_megabytes(call: Callable[[Bucket], object]) -> None:
    with raw(endless) as server:
        with pytest.raises(Failure, match="the response has more than 8388608 bytes"):
            call(at(server.url))
        assert server.sent < 64 << 20


def test_a_listing_that_declares_its_size_is_not_read() -> None:
    with httpd({"/b": Pattern(512 << 20)}) as server:
        with pytest.raises(Failure):
            list(at(server.url).objects(""))
        assert server.body_bytes_sent < 64 << 20


def test_a_ranged_read_stops_at_its_length() -> None:
    with httpd({"/b/a": Pattern(64 << 20)}) as server:
        assert at(server.url).get("a", 8, 24) == Pattern(64 << 20)[8:24]
        server.rule = lambda _: Fault(ignore_range=True)
        with pytest.raises(Failure):
            at(server.url).get("a", 8, 24)
        assert server.body_bytes_sent < 32 << 20


def test_an_object_that_is_shorter_has_changed() -> None:
    with httpd({"/b/a": Pattern(16)}) as server, pytest.raises(ObjectChanged):
        at(server.url).get("a", 8, 24)


CALLS: dict[str, Callable[[Bucket], object]] = {
    "list": lambda bucket: list(bucket.objects("")),
    "get": lambda bucket: bucket.get("a", 0, 1_000_000),
    "put": lambda bucket: bucket.put("a", b"x"),
    "delete": lambda bucket: bucket.delete("a"),
}


@pytest.mark.parametrize("name", ["list", "get", "put"])
def test_a_call_has_an_end_however_slowly_the_store_responds(name: str) -> None:
    with raw(trickle) as server:
        began = time.monotonic()
        with working_on(Call(0.5)), pytest.raises(Failure) as caught:
            CALLS[name](at(server.url))
    assert caught.value.reason == v1.ERROR_REASON_CALL_TOO_LONG
    assert time.monotonic() - began < 10


def test_a_call_whose_client_leaves_ends() -> None:
    call = Call(60)
    with raw(trickle) as server:
        leaving = threading.Timer(0.3, call.end, [caller_left()])
        leaving.start()
        with working_on(call), pytest.raises(Failure) as caught:
            at(server.url).get("a", 0, 1_000_000)
        leaving.join()
    assert caught.value.reason == v1.ERROR_REASON_CALLER_LEFT


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(status: int) -> None:
    with canned_server(lambda _: CannedResponse()) as (elsewhere, received):
        redirect = CannedResponse(status, "<p>", "text/html", {"Location": f"{elsewhere}/b/a"})
        with canned_server(lambda _: redirect) as (endpoint, _):
            bucket = at(endpoint)
            for call in (*LISTS, CALLS["get"], CALLS["put"]):
                with pytest.raises(Failure):
                    call(bucket)
            with pytest.raises(Failure):
                bucket.head("a")
            with pytest.raises(Failure):
                bucket.create_multipart("a")
            with pytest.raises(Failure):
                bucket.delete("a")
        assert received == []


def test_calls_are_counted_by_operation_and_code(location: Location) -> None:
    before = COUNTS.read()
    bucket, unreachable = Buckets().at(location), at("http://127.0.0.1:1")
    bucket.put("a", b"x")
    bucket.get("a", 0, 1)
    bucket.head("none")
    list(bucket.objects(""))
    bucket.abort_multipart("a", bucket.create_multipart("a"))
    bucket.delete_many(["a"])
    bucket.delete("a")
    with pytest.raises(Failure):
        unreachable.head("a")
    added = {labels for labels, count in COUNTS.read().items() if count > before.get(labels, 0)}
    assert added == {
        ("PutObject", "200"),
        ("GetObject", "206"),
        ("HeadObject", "404"),
        ("ListObjectsV2", "200"),
        ("CreateMultipartUpload", "200"),
        ("AbortMultipartUpload", "204"),
        ("DeleteObjects", "200"),
        ("DeleteObject", "204"),
        ("HeadObject", "unreachable"),
    }


@pytest.mark.parametrize("key", ["a b+c", "ü/%41", "a&b<c>", "\u2028"])
def test_keys_of_any_characters_are_written_read_and_listed(location: Location, key: str) -> None:
    bucket = Buckets().at(location)
    bucket.put(f"k/{key}", b"abc")
    assert bucket.get(f"k/{key}", 1, 2) == b"b"
    assert f"k/{key}" in [each.key for page in bucket.objects("k/") for each in page]


BOMB = b'<!DOCTYPE l [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><ListBucketResult>&b;</ListBucketResult>'


@pytest.mark.parametrize(
    "document",
    [
        BOMB,
        BOMB.decode().encode("utf-16"),
        b"<a/>",
        b"",
        b"<ListBucketResult>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        b"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
    ],
)
def test_what_is_no_listing_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"listing|int\(\)"):
        parse_page(document)


def test_a_listing_that_does_not_go_on_ends() -> None:
    page = (
        "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>1</NextContinuationToken>"
        "</ListBucketResult>"
    )
    with canned_server(lambda _: CannedResponse(body=page)) as (endpoint, requests):
        with pytest.raises(Failure, match="does not go on"):
            list(at(endpoint).objects(""))
        assert len(requests) == 2


@pytest.mark.parametrize("call", [lambda bucket: bucket.get("a", 0, 1), lambda bucket: bucket.create_multipart("a")])
def test_clocks_that_differ_are_told_with_both_times(call: Callable[[Bucket], object]) -> None:
    theirs = datetime.now(UTC) - timedelta(hours=5)
    skewed = s3_error("RequestTimeTooSkewed", 403, Date=format_datetime(theirs, usegmt=True))
    with canned_server(lambda _: skewed) as (endpoint, _), pytest.raises(Failure) as caught:
        call(at(endpoint))
    assert caught.value.reason == v1.ERROR_REASON_S3_REFUSED
    assert f"{theirs:%H:%M}" in caught.value.message
    assert f"ours {datetime.now(UTC):%Y-%m-%d}" in caught.value.message


def test_the_check_of_a_bucket_tells_both_times(location: Location) -> None:
    theirs = datetime.now(UTC) + timedelta(hours=5)
    skewed = s3_error("RequestTimeTooSkewed", 403, Date=format_datetime(theirs, usegmt=True))
    with canned_server(lambda _: skewed) as (endpoint, _), pytest.raises(Failure, match="S3's clock says") as caught:
        check(replace(location, endpoint=endpoint))
    assert f"{theirs:%H:%M}" in caught.value.message


def test_what_is_counted_is_bounded_whatever_codes_an_endpoint_sends() -> None:
    counts = CallCounts()
    for number in range(10_000):
        counts.add("GetObject", f"Code{number}")
        counts.add("GetObject", "x" * 65)
        counts.add("GetObject", f"line\n{number}")
    counts.add("GetObject", "Code1")
    read = counts.read()
    assert len(read) <= 501
    assert read["GetObject", "Code1"] == 2
    assert sum(read.values()) == 30_001
