"""Tests that the engine returns what was requested, whatever the server does, and that its errors say what happened."""

import itertools
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from datas3t.client._calls.failures import translated_transfer_errors
from datas3t.client.errors import ObjectChanged, TransferRefused
from datas3t.transport import Engine, MemorySink, Range, Request, Response, TransferError
from tests.support.httpd import Fault, Httpd, Pattern, etag_of, httpd

SIZE = 4 << 20
ETAG = etag_of("/a")


@pytest.fixture
def server() -> Iterator[Httpd]:
    """Yield a server with an object of 4 MiB and an empty one."""
    with httpd({"/a": Pattern(SIZE), "/empty": b""}) as running:
        yield running


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Yield an engine with short timeouts."""
    with Engine(connect_timeout=5, stall_timeout=5) as created:
        yield created


def url(server: Httpd, path: str = "/a") -> str:
    """Return a URL with a secret in its query."""
    return f"{server.url}{path}?X-Amz-Signature=secret"


def get(engine: Engine, server: Httpd, start: int = 1000, stop: int = 3000, etag: str | None = ETAG) -> bytes:
    """Return bytes of the object."""
    return engine.fetch([Request("GET", url(server), start, stop, etag)], parallelism=1)[0]


def test_fetch_returns_the_ranges_in_the_order_of_the_requests(server: Httpd, engine: Engine) -> None:
    spans = [(7, 8), (1000, 200_000), (SIZE - 1, SIZE), (7, 8), *((i, i + 100) for i in range(0, 50_000, 100))]
    requests = [Request("GET", url(server), start, stop, ETAG) for start, stop in spans]
    assert engine.fetch(requests, parallelism=8) == [Pattern(SIZE)[start:stop] for start, stop in spans]
    assert server.connections <= 8
    assert server.requests[0].headers["if-match"] == f'"{ETAG}"'


def test_fetch_returns_large_ranges_and_whole_objects(server: Httpd, engine: Engine) -> None:
    large = Request("GET", url(server), 5, SIZE - 5)
    whole, empty = Request("GET", url(server)), Request("GET", url(server, "/empty"))
    bodies = engine.fetch([large, whole, empty], parallelism=2)
    assert bodies == [Pattern(SIZE)[5 : SIZE - 5], Pattern(SIZE)[0:SIZE], b""]


def test_sinks_fill_the_parts_of_a_buffer(server: Httpd, engine: Engine) -> None:
    buffer = bytearray(SIZE)
    halves = [
        Request("GET", url(server), a, b, sink=MemorySink(memoryview(buffer)[a:b])) for a, b in ((0, 9), (9, SIZE))
    ]
    responses: list[Response] = []
    engine.run(halves, parallelism=2, on_done=lambda _, response: responses.append(response))
    assert buffer == Pattern(SIZE)[0:SIZE]
    assert [(response.status, response.etag, response.body) for response in responses] == [(206, ETAG, b"")] * 2


def test_an_empty_range_raises_value_error(server: Httpd, engine: Engine) -> None:
    with pytest.raises(ValueError, match="bytes 10 to 10"):
        get(engine, server, 10, 10)
    assert get(engine, server) == Pattern(SIZE)[1000:3000]


WRONG_RESPONSES = (
    Fault(status=500),
    Fault(status=503, code="SlowDown"),
    Fault(status=429),
    Fault(status=400, code="RequestTimeout"),
    Fault(reset=True),
    Fault(cut_after=0),
    Fault(cut_after=100),
    Fault(ignore_range=True),
    Fault(headers={"Content-Range": f"bytes 0-1999/{SIZE}"}),
    Fault(headers={"Content-Range": f"bytes 1000-3000/{SIZE}"}),
    Fault(headers={"Content-Range": "pages 1-2"}),
    Fault(headers={"Content-Length": "1999"}, cut_after=1999),
    Fault(headers={"Content-Length": "1000000"}),
    Fault(extra=1),
)


@pytest.mark.parametrize("etag", [ETAG, None], ids=["known ETag", "any ETag"])
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("fault", WRONG_RESPONSES, ids=str)
def test_a_response_that_is_not_as_requested_is_retried(
    server: Httpd, engine: Engine, fault: Fault, before: int, etag: str | None
) -> None:
    for _ in range(before):  # after which the handle knows how this server writes heads
        get(engine, server)
    server.plan(fault)
    assert get(engine, server, etag=etag) == Pattern(SIZE)[1000:3000]
    assert len(server.requests) == before + 2


@pytest.mark.parametrize("fault", [Fault(), Fault(status=500)], ids=str)
def test_a_batch_continues_after_a_request_that_failed(server: Httpd, engine: Engine, fault: Fault) -> None:
    server.plan(*[Fault()] * 30, fault, fault, Fault(reset=True))
    spans = [(at, at + 100) for at in range(0, 10_000, 100)]
    requests = [Request("GET", url(server), start, stop, ETAG) for start, stop in spans * 2]
    assert engine.fetch(requests, parallelism=4) == [Pattern(SIZE)[a:b] for a, b in spans] * 2
    assert len(server.requests) == 200 + (1 if fault.status is None else 3)


def test_unusual_headers_cause_no_second_request(server: Httpd, engine: Engine) -> None:
    span = f"bytes 1000-2999/{SIZE}"
    for headers in ({"ETag": ETAG}, {"etag": ETAG, "ETag": ""}, {"content-range": span, "Content-Range": span}):
        server.plan(Fault(headers=headers, ignore_if_match=True))
        assert get(engine, server) == Pattern(SIZE)[1000:3000]
    assert len(server.requests) == 3


@pytest.mark.parametrize("fault", [Fault(ignore_range=True), Fault(headers={"Content-Range": "bytes 0-9/10"})], ids=str)
def test_a_sink_receives_no_byte_that_was_not_requested(server: Httpd, engine: Engine, fault: Fault) -> None:
    server.rule = lambda _: fault
    received: list[bytes] = []
    request = Request("GET", url(server), 8, SIZE - 8, sink=lambda _, pieces: received.extend(pieces))
    with pytest.raises(TransferError, match="does not hold bytes 8 to") as caught:
        engine.run([request], parallelism=1, retries=1)
    assert (received, len(server.requests), caught.value.retryable) == ([], 2, True)


@pytest.mark.parametrize("stop", [3000, SIZE], ids=["small", "large"])
@pytest.mark.parametrize("ignored", [False, True], ids=["If-Match is checked", "If-Match is ignored"])
def test_another_object_at_the_url_is_an_error(server: Httpd, engine: Engine, stop: int, ignored: bool) -> None:
    get(engine, server)
    server.rule = lambda _: Fault(headers={"ETag": '"other"'}, ignore_if_match=ignored)
    with pytest.raises(TransferError) as caught:
        get(engine, server, 1000, stop)
    assert (caught.value.changed, caught.value.status, caught.value.retryable) == (True, 412, False)
    assert (caught.value.code == "PreconditionFailed") is not ignored


def test_requests_for_two_objects_can_alternate_on_one_connection(server: Httpd, engine: Engine) -> None:
    server.objects = {"/a": Pattern(SIZE), "/b": Pattern(SIZE)}
    requests = [Request("GET", url(server, path), 0, 8, etag_of(path)) for path in ("/a", "/b") * 20]
    assert engine.fetch(requests, parallelism=1) == [bytes(8)] * 40
    assert {request.headers["if-match"] for request in server.seen("/b")} == {f'"{etag_of("/b")}"'}


def test_a_range_after_the_end_means_that_the_object_has_changed(server: Httpd, engine: Engine) -> None:
    with pytest.raises(TransferError, match="416 InvalidRange") as caught:
        get(engine, server, SIZE, SIZE + 10)
    assert caught.value.changed


@pytest.mark.parametrize(
    ("fault", "kind", "tries"),
    [
        (Fault(status=404, body=b"<html>not here</html>"), ObjectChanged, 3),  # as from a proxy
        (Fault(status=404, code="NoSuchKey"), ObjectChanged, 1),
        (Fault(status=404, code="NoSuchBucket"), TransferRefused, 1),
    ],
    ids=str,
)
def test_a_missing_object_and_a_missing_bucket_are_different_errors(
    server: Httpd, engine: Engine, fault: Fault, kind: type, tries: int
) -> None:
    server.rule = lambda _: fault
    with pytest.raises(kind, match="S3 returned 404"), translated_transfer_errors():
        engine.run([Request("GET", url(server), 0, 9)], parallelism=1)
    assert len(server.requests) == tries
    server.plan(Fault(status=404, body=b""))
    with pytest.raises(TransferRefused, match="S3 returned 404"), translated_transfer_errors():
        engine.run([Request("PUT", url(server), body=b"part")], parallelism=1)


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (Fault(status=404, code="NoSuchKey"), "S3 returned 404 NoSuchKey"),
        (Fault(status=403, code="AccessDenied"), "S3 returned 403 AccessDenied"),
        (Fault(status=400, code="EntityTooLarge"), "S3 returned 400 EntityTooLarge"),
        (Fault(status=307, headers={"Location": "http://127.0.0.1:1/"}, body=b""), "S3 returned 307"),
    ],
    ids=str,
)
def test_a_final_error_is_raised_at_once_and_shows_no_secret(
    server: Httpd, engine: Engine, fault: Fault, cause: str
) -> None:
    server.plan(fault)
    with pytest.raises(TransferError) as caught:
        engine.run([Request("GET", url(server), 0, 9)], parallelism=1)
    address = server.url.removeprefix("http://")
    assert str(caught.value) == f"GET {address}/a: {cause}"
    assert (caught.value.status, caught.value.retryable, len(server.requests)) == (fault.status, False, 1)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.__dict__) == (str(caught.value), caught.value.__dict__)


def test_a_request_that_fails_for_good_ends_the_others(server: Httpd, engine: Engine) -> None:
    server.rule = lambda request: Fault(status=404) if request.path == "/gone" else Fault(stall_after=10)
    requests = [Request("GET", url(server, path), 0, 100) for path in ("/a", "/a", "/gone", "/a")]
    more = iter(requests)
    with pytest.raises(TransferError, match="/gone: S3 returned 404"):
        engine.run(more, parallelism=3)
    assert next(more).url == url(server)  # the fourth request was never taken
    server.rule = lambda _: Fault()
    assert get(engine, server) == Pattern(SIZE)[1000:3000]


def test_a_refused_connection_is_a_retryable_error_in_one_line(engine: Engine) -> None:
    with pytest.raises(TransferError, match=r"^GET 127.0.0.1:1/a: .*connect") as caught:
        engine.fetch([Request("GET", "http://user:pass@127.0.0.1:1/a?sig=secret")], parallelism=1, retries=1)
    assert (caught.value.status, caught.value.retryable) == (0, True)
    assert "secret" not in str(caught.value)
    assert "pass" not in str(caught.value)


def test_an_exception_of_a_callback_ends_the_call_and_is_raised(server: Httpd, engine: Engine) -> None:
    def refuse(*_: object) -> Any:
        raise KeyError("mine")

    request = Request("GET", url(server), 0, SIZE)
    calls: tuple[dict[str, Any], ...] = (
        {"requests": [request], "on_done": refuse},
        {"requests": [request], "on_bytes": refuse},
        {"requests": [Request("GET", url(server), 0, SIZE, sink=refuse)]},
        {"requests": [Request("GET", refuse)]},
        {"requests": map(refuse, [1])},
    )
    for arguments in calls:
        with pytest.raises(KeyError, match="mine"):
            engine.run(parallelism=2, **arguments)
        assert get(engine, server) == Pattern(SIZE)[1000:3000]


def test_the_engine_can_be_used_after_a_url_function_has_failed(server: Httpd, engine: Engine) -> None:
    def refuse(_: bool) -> str:
        raise KeyError("mine")

    server.objects = {"/a": Pattern(SIZE), "/silent": Pattern(SIZE)}
    server.rule = lambda seen: Fault(stall_after=0) if seen.path == "/silent" else Fault()
    requests = [Request("GET", url(server, path), 0, 100, etag_of(path)) for path in ("/silent", "/a")]
    with pytest.raises(KeyError, match="mine"):
        engine.fetch([*requests, Request("GET", refuse, 0, 100, ETAG)], parallelism=2)
    assert get(engine, server) == Pattern(SIZE)[1000:3000]


def test_requests_are_taken_when_they_can_start(server: Httpd, engine: Engine) -> None:
    taken, done, ahead = itertools.count(), itertools.count(), []

    def requests() -> Iterator[Request]:
        for _ in range(200):
            next(taken)
            yield Request("GET", url(server), 0, 8)

    def note(*_: object) -> None:
        ahead.append(int(repr(taken)[6:-1]) - next(done))

    engine.run(requests(), parallelism=4, on_done=note)
    assert len(ahead) == 200
    assert max(ahead) <= 4
    assert server.most_at_once <= 4


def test_the_repr_of_a_request_does_not_show_its_url() -> None:
    url = "http://127.0.0.1/a?X-Amz-Signature=secret"
    request = Request("GET", url, 0, 8, "etag")
    assert request.current_url() == url
    for each in (request, Range(url, "etag", 0, 8), Range(url, "etag", 0, 8).request()):
        assert "secret" not in repr(each)
        assert "etag" in repr(each)
