"""Responses of a hostile or broken store, and a resolver that hangs: bounded in memory and time, told in one line."""

import itertools
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import astuple
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from datas3t import v1
from datas3t.server.call import Call, caller_left, working_on
from datas3t.server.errors import Failure
from datas3t.server.s3 import markup, names
from datas3t.server.s3.bucket import Bucket, PartInfo
from datas3t.server.s3.listings import parse_page
from tests.server.s3.test_wire import at, endless, raw
from tests.support.canned import CannedResponse, canned_server
from tests.support.stack import wait_until


def hostile(kind: str, count: int) -> bytes:
    """Return a listing with this number of elements, attributes, or other things that an XML parser keeps."""
    inside = {
        "elements": b"<a/>" * count,
        "names": b"".join(b"<a%d/>" % number for number in range(count)),
        "nested": b"<a>" * (count // 2) + b"</a>" * (count // 2),
        "attributes": b"<a " + b"".join(b'a%d="" ' % number for number in range(count // 2)) + b"/>",
        "references": b"&#256;" * count,
        "lines": b"ab\n" * count,
        "objects": b"<Contents><Key>a</Key><Size>1</Size></Contents>" * (count // 6),
    }[kind]
    return b"<ListBucketResult>" + inside + b"</ListBucketResult>"


@pytest.mark.parametrize("kind", ["elements", "names", "nested", "attributes", "references", "lines", "objects"])
@pytest.mark.parametrize("count", [markup._MAX_MARKS - 100, 1_000_000])
def test_a_hostile_listing_takes_little_memory(kind: str, count: int) -> None:
    document = hostile(kind, count)
    tracemalloc.start()
    try:
        with suppress(ValueError):
            parse_page(document)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        ("<Size>-1</Size>", "its listing has '-1' as the size of an object"),
        ("<Size>1e9</Size>", "its listing has '1e9' as the size of an object"),
        (f"<Size>{'9' * 5000}</Size>", f"its listing has '{'9' * 40}' as the size of an object"),
        ("<Size>1</Size><LastModified>soon</LastModified>", "its listing has 'soon' as the time of an object"),
    ],
)
def test_a_listing_with_a_wrong_value_is_an_error_that_shows_it(inside: str, message: str) -> None:
    page = f"<ListBucketResult><Contents><Key>a</Key>{inside}</Contents></ListBucketResult>"
    with canned_server(lambda _: CannedResponse(body=page)) as (endpoint, _), pytest.raises(Failure) as caught:
        list(at(endpoint).objects(""))
    assert caught.value.reason == v1.ERROR_REASON_S3_UNAVAILABLE
    assert message in caught.value.message


@pytest.mark.parametrize(
    "text", ["2026-01-02T03:04:05.000Z", "2026-01-02T03:04:05", "Fri, 02 Jan 2026 03:04:05 GMT", "2026-01-02 03:04:05Z"]
)
def test_times_of_a_listing_may_have_several_forms(text: str) -> None:
    entry = f"<Contents><Key>a</Key><Size>1</Size><LastModified>{text}</LastModified></Contents>"
    ((listed,), _, _) = astuple(parse_page(f"<ListBucketResult>{entry}</ListBucketResult>".encode()))
    assert listed[3] == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


BOTO3: dict[str, Callable[[Bucket], object]] = {
    "ListPartsResult": lambda bucket: bucket.list_parts("a", "id"),
    "ListMultipartUploadsResult": lambda bucket: bucket.list_multiparts("a"),
    "ListVersionsResult": lambda bucket: list(bucket.versions("a")),
}


@pytest.mark.parametrize("root", BOTO3)
def test_responses_that_boto3_parses_are_bounded(root: str) -> None:
    with raw(endless) as server:
        with pytest.raises(Failure, match="the response has more than 8388608 bytes"):
            BOTO3[root](at(server.url))
        assert server.sent < 128 << 20  # three attempts
    documents = {"more elements": f"<{root}>{'<a/>' * 500_000}</{root}>", "a document type": f"<!DOCTYPE a><{root}/>"}
    for message, document in documents.items():
        with canned_server(partial(answer, document)) as (endpoint, _), pytest.raises(Failure, match=message):
            BOTO3[root](at(endpoint))


def answer(document: str, _: str) -> CannedResponse:
    """Return the same response to every request."""
    return CannedResponse(body=document)


PART = "<Part><PartNumber>{0}</PartNumber><Size>{1}</Size><ETag>e</ETag><LastModified>{2}</LastModified></Part>"
NOW = "2026-01-02T03:04:05Z"


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        (PART.format(1, -5, NOW), "part 1 of -5 bytes"),
        (PART.format(0, 5, NOW), "part 0 of 5 bytes"),
        (PART.format(10_001, 5, NOW), "part 10001 of 5 bytes"),
        (PART.format("one", 5, NOW), "'one'"),
        (PART.format(1, 5, "soon"), "soon"),
    ],
)
def test_a_listing_of_parts_with_a_wrong_value_is_an_error_that_shows_it(part: str, shown: str) -> None:
    body = f"<ListPartsResult><UploadId>id</UploadId>{part}</ListPartsResult>"
    with canned_server(lambda _: CannedResponse(body=body)) as (endpoint, _), pytest.raises(Failure) as caught:
        at(endpoint).list_parts("a", "id")
    assert caught.value.reason == v1.ERROR_REASON_S3_UNAVAILABLE
    assert shown in caught.value.message


def test_parts_may_be_listed_with_times_of_several_forms() -> None:
    times = (NOW, "2026-01-02T03:04:06", "Fri, 02 Jan 2026 03:04:07 GMT")
    parts = "".join(PART.format(1, size, when) for size, when in enumerate(times))
    body = f"<ListPartsResult><UploadId>id</UploadId>{parts}</ListPartsResult>"
    with canned_server(lambda _: CannedResponse(body=body)) as (endpoint, _):
        assert at(endpoint).list_parts("a", "id") == [PartInfo(1, "e", 2)]


def test_a_listing_of_parts_without_an_end_ends() -> None:
    numbers = itertools.count(1)

    def respond(_: str) -> CannedResponse:
        more = f"<IsTruncated>true</IsTruncated><NextPartNumberMarker>{next(numbers)}</NextPartNumberMarker>"
        return CannedResponse(body=f"<ListPartsResult><UploadId>id</UploadId>{more}</ListPartsResult>")

    with canned_server(respond) as (endpoint, requests):
        with pytest.raises(Failure, match="a listing of more than 100 pages"):
            at(endpoint).list_parts("a", "id")
        assert len(requests) == 101


@pytest.fixture
def hanging_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Make the look-up of s3.example hang until the event is set. No resolver of the tests' machine can be slowed."""
    real, released = socket.getaddrinfo, threading.Event()

    def resolve(host: Any, *arguments: Any, **options: Any) -> Any:
        if host == "s3.example":
            released.wait(60)
            host = "127.0.0.1"
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    yield released
    released.set()
    wait_until(lambda: "look-up" not in {each.name for each in threading.enumerate()}, what="the look-ups")


def test_a_call_has_an_end_however_slow_the_resolver_is(hanging_resolver: threading.Event) -> None:
    began = time.monotonic()
    with working_on(Call(0.5)), pytest.raises(Failure) as caught:
        at("http://s3.example:9000").create_multipart("a")
    assert caught.value.reason == v1.ERROR_REASON_CALL_TOO_LONG
    assert time.monotonic() - began < 10


def test_a_call_whose_client_leaves_does_not_wait_for_the_resolver(hanging_resolver: threading.Event) -> None:
    call = Call(60)
    leaving = threading.Timer(0.3, call.end, [caller_left()])
    leaving.start()
    with working_on(call), pytest.raises(Failure) as caught:
        at("http://s3.example:9000").create_multipart("a")
    leaving.join()
    assert caught.value.reason == v1.ERROR_REASON_CALLER_LEFT


def test_look_ups_that_hang_are_bounded(hanging_resolver: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_SECONDS", 0.01)
    for _ in range(names._MAX_PENDING):
        with pytest.raises(names.LookupTimeoutError, match="does not answer"):
            names.addresses_of("s3.example", 9000)
    with pytest.raises(names.LookupTimeoutError, match="too many"):
        names.addresses_of("s3.example", 9000)
    monkeypatch.undo()
