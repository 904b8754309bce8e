"""The engine's answers: what is delivered is what was asked for, whatever the server does; errors say what happened."""

import itertools
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from datas3t.client._calls.failures import translated_transfer_errors
from datas3t.client.errors import ObjectChanged, TransferRefused
from datas3t.transport import Engine, MemorySink, Request, Response, TransferError
from tests.support.httpd import Fault, Httpd, Pattern, etag_of, httpd

SIZE = 4 << 20
ETAG = etag_of("/a")


@pytest.fixture
def server() -> Iterator[Httpd]:
    with httpd({"/a": Pattern(SIZE), "/empty": b""}) as running:
        yield running


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(connect_timeout=5, stall_timeout=5) as made:
        yield made


def url(server: Httpd, path: str = "/a") -> str:
    return f"{server.url}{path}?X-Amz-Signature=secret"


def get(engine: Engine, server: Httpd, start: int = 1000, stop: int = 3000, etag: str | None = ETAG) -> bytes:
    return engine.fetch([Request("GET", url(server), start, stop, etag)], parallelism=1)[0]


def test_ranges_come_in_the_order_asked_for(server: Httpd, engine: Engine) -> None:
    places = [(7, 8), (1000, 200_000), (SIZE - 1, SIZE), (7, 8), *((i, i + 100) for i in range(0, 50_000, 100))]
    requests = [Request("GET", url(server), start, stop, ETAG) for start, stop in places]
    assert engine.fetch(requests, parallelism=8) == [Pattern(SIZE)[start:stop] for start, stop in places]
    assert server.connections <= 8
    assert server.requests[0].headers["if-match"] == f'"{ETAG}"'


def test_large_ranges_and_whole_objects_come_into_memory(server: Httpd, engine: Engine) -> None:
    large = Request("GET", url(server), 5, SIZE - 5)
    whole, empty = Request("GET", url(server)), Request("GET", url(server, "/empty"))
    found = engine.fetch([large, whole, empty], parallelism=2)
    assert found == [Pattern(SIZE)[5 : SIZE - 5], Pattern(SIZE)[0:SIZE], b""]


def test_a_sink_gets_the_bytes_in_order_and_their_place(server: Httpd, engine: Engine) -> None:
    buffer = bytearray(SIZE)
    halves = [
        Request("GET", url(server), a, b, sink=MemorySink(memoryview(buffer)[a:b])) for a, b in ((0, 9), (9, SIZE))
    ]
    responses: list[Response] = []
    engine.run(halves, parallelism=2, on_done=lambda _, response: responses.append(response))
    assert buffer == Pattern(SIZE)[0:SIZE]
    assert [(response.status, response.etag, response.body) for response in responses] == [(206, ETAG, b"")] * 2


def test_an_empty_range_is_the_callers_mistake(server: Httpd, engine: Engine) -> None:
    with pytest.raises(ValueError, match="bytes 10 to 10"):
        get(engine, server, 10, 10)
    assert get(engine, server) == Pattern(SIZE)[1000:3000]


WRONG_ANSWERS = (
    Fault(status=500),
    Fault(status=503, code="SlowDown"),
    Fault(status=429),
    Fault(status=400, code="RequestTimeout"),
    Fault(reset=True),
    Fault(cut_after=0),
    Fault(cut_after=100),
    Fault(whole=True),
    Fault(headers={"Content-Range": f"bytes 0-1999/{SIZE}"}),
    Fault(headers={"Content-Range": f"bytes 1000-3000/{SIZE}"}),
    Fault(headers={"Content-Range": "pages 1-2"}),
    Fault(headers={"Content-Length": "1999"}, cut_after=1999),
    Fault(headers={"Content-Length": "1000000"}),
    Fault(extra=1),
)


@pytest.mark.parametrize("etag", [ETAG, None], ids=["known ETag", "any ETag"])
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("fault", WRONG_ANSWERS, ids=str)
def test_what_was_not_asked_for_is_tried_again(
    server: Httpd, engine: Engine, fault: Fault, before: int, etag: str | None
) -> None:
    for _ in range(before):  # the handle has learnt how this server answers
        get(engine, server)
    server.plan(fault)
    assert get(engine, server, etag=etag) == Pattern(SIZE)[1000:3000]
    assert len(server.requests) == before + 2


@pytest.mark.parametrize("fault", [Fault(), Fault(status=500)], ids=str)
def test_a_batch_goes_on_behind_one_that_failed(server: Httpd, engine: Engine, fault: Fault) -> None:
    server.plan(*[Fault()] * 30, fault, fault, Fault(reset=True))
    places = [(at, at + 100) for at in range(0, 10_000, 100)]
    requests = [Request("GET", url(server), start, stop, ETAG) for start, stop in places * 2]
    assert engine.fetch(requests, parallelism=4) == [Pattern(SIZE)[a:b] for a, b in places] * 2
    assert len(server.requests) == 200 + (1 if fault.status is None else 3)


def test_a_server_with_its_own_ways_of_writing_is_asked_once(server: Httpd, engine: Engine) -> None:
    place = f"bytes 1000-2999/{SIZE}"
    for headers in ({"ETag": ETAG}, {"etag": ETAG, "ETag": ""}, {"content-range": place, "Content-Range": place}):
        server.plan(Fault(headers=headers, unconditional=True))
        assert get(engine, server) == Pattern(SIZE)[1000:3000]
    assert len(server.requests) == 3


@pytest.mark.parametrize("fault", [Fault(whole=True), Fault(headers={"Content-Range": "bytes 0-9/10"})], ids=str)
def test_a_sink_gets_no_byte_that_was_not_asked_for(server: Httpd, engine: Engine, fault: Fault) -> None:
    server.rule = lambda _: fault
    got: list[bytes] = []
    request = Request("GET", url(server), 8, SIZE - 8, sink=lambda _, pieces: got.extend(pieces))
    with pytest.raises(TransferError, match="does not hold bytes 8 to") as caught:
        engine.run([request], parallelism=1, retries=1)
    assert (got, len(server.requests), caught.value.retryable) == ([], 2, True)


@pytest.mark.parametrize("stop", [3000, SIZE], ids=["small", "large"])
@pytest.mark.parametrize("heeded", [True, False], ids=["If-Match is heeded", "If-Match is ignored"])
def test_another_object_at_the_url_is_an_error(server: Httpd, engine: Engine, stop: int, heeded: bool) -> None:
    get(engine, server)
    server.rule = lambda _: Fault(headers={"ETag": '"other"'}, unconditional=not heeded)
    with pytest.raises(TransferError) as caught:
        get(engine, server, 1000, stop)
    assert (caught.value.changed, caught.value.status, caught.value.retryable) == (True, 412, False)
    assert (caught.value.code == "PreconditionFailed") is heeded


def test_objects_in_turn_on_one_connection_are_told_apart(server: Httpd, engine: Engine) -> None:
    server.objects = {"/a": Pattern(SIZE), "/b": Pattern(SIZE)}
    requests = [Request("GET", url(server, path), 0, 8, etag_of(path)) for path in ("/a", "/b") * 20]
    assert engine.fetch(requests, parallelism=1) == [bytes(8)] * 40
    assert {request.headers["if-match"] for request in server.seen("/b")} == {f'"{etag_of("/b")}"'}


def test_more_than_the_object_holds_is_another_object(server: Httpd, engine: Engine) -> None:
    with pytest.raises(TransferError, match="416 InvalidRange") as caught:
        get(engine, server, SIZE, SIZE + 10)
    assert caught.value.changed


@pytest.mark.parametrize(
    ("fault", "kind", "tries"),
    [
        (Fault(status=404, body=b"<html>not here</html>"), ObjectChanged, 3),  # some proxy's
        (Fault(status=404, code="NoSuchKey"), ObjectChanged, 1),
        (Fault(status=404, code="NoSuchBucket"), TransferRefused, 1),
    ],
    ids=str,
)
def test_an_object_that_is_gone_is_told_from_a_bucket_that_is(
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
    ("fault", "says"),
    [
        (Fault(status=404, code="NoSuchKey"), "S3 returned 404 NoSuchKey"),
        (Fault(status=403, code="AccessDenied"), "S3 returned 403 AccessDenied"),
        (Fault(status=400, code="EntityTooLarge"), "S3 returned 400 EntityTooLarge"),
        (Fault(status=307, headers={"Location": "http://127.0.0.1:1/"}, body=b""), "S3 returned 307"),
    ],
    ids=str,
)
def test_what_is_final_fails_at_once_and_names_no_secret(
    server: Httpd, engine: Engine, fault: Fault, says: str
) -> None:
    server.plan(fault)
    with pytest.raises(TransferError) as caught:
        engine.run([Request("GET", url(server), 0, 9)], parallelism=1)
    address = server.url.removeprefix("http://")
    assert str(caught.value) == f"GET {address}/a: {says}"
    assert (caught.value.status, caught.value.retryable, len(server.requests)) == (fault.status, False, 1)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.__dict__) == (str(caught.value), caught.value.__dict__)


def test_one_that_fails_for_good_ends_the_others(server: Httpd, engine: Engine) -> None:
    server.rule = lambda request: Fault(status=404) if request.path == "/gone" else Fault(stall_after=10)
    requests = [Request("GET", url(server, path), 0, 100) for path in ("/a", "/a", "/gone", "/a")]
    more = iter(requests)
    with pytest.raises(TransferError, match="/gone: S3 returned 404"):
        engine.run(more, parallelism=3)
    assert next(more).url == url(server)  # the fourth was never taken
    server.rule = lambda _: Fault()
    assert get(engine, server) == Pattern(SIZE)[1000:3000]


def test_nobody_listening_is_a_retryable_error_in_a_line(engine: Engine) -> None:
    with pytest.raises(TransferError, match=r"^GET 127.0.0.1:1/a: .*connect") as caught:
        engine.fetch([Request("GET", "http://user:pass@127.0.0.1:1/a?sig=secret")], parallelism=1, retries=1)
    assert (caught.value.status, caught.value.retryable) == (0, True)
    assert "secret" not in str(caught.value)
    assert "pass" not in str(caught.value)


def test_what_a_callback_raises_comes_out_and_ends_the_call(server: Httpd, engine: Engine) -> None:
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


def test_a_batch_that_cannot_go_on_leaves_nothing_in_the_way(server: Httpd, engine: Engine) -> None:
    def refuse(_: bool) -> str:
        raise KeyError("mine")

    server.objects = {"/a": Pattern(SIZE), "/silent": Pattern(SIZE)}
    server.rule = lambda seen: Fault(stall_after=0) if seen.path == "/silent" else Fault()
    requests = [Request("GET", url(server, path), 0, 100, etag_of(path)) for path in ("/silent", "/a")]
    with pytest.raises(KeyError, match="mine"):
        engine.fetch([*requests, Request("GET", refuse, 0, 100, ETAG)], parallelism=2)
    assert get(engine, server) == Pattern(SIZE)[1000:3000]


def test_requests_are_taken_as_places_come_free(server: Httpd, engine: Engine) -> None:
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
