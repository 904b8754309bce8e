"""The engine's second tries: resumed where bytes are there, counted once, at a pace that S3 can bear, URLs renewed."""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datas3t.transport import Engine, FileRange, FileSink, Range, Request, Response, TransferError, policy, run, sweep
from tests.support.httpd import Fault, Httpd, Pattern, etag_of, httpd

SIZE = 4 << 20


@pytest.fixture
def server() -> Iterator[Httpd]:
    with httpd({"/a": Pattern(SIZE), "/b": Pattern(SIZE)}) as running:
        yield running


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(connect_timeout=5, stall_timeout=5) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def ranges(server: Httpd) -> list[str]:
    return [request.headers.get("range", "") for request in server.requests]


@pytest.mark.parametrize("whole", [False, True], ids=["a range", "the whole object"])
@pytest.mark.parametrize("to_file", [False, True], ids=["memory", "file"])
def test_a_torn_download_goes_on_where_it_broke_off(
    server: Httpd, engine: Engine, file: int, to_file: bool, whole: bool
) -> None:
    server.plan(Fault(cut_after=1 << 20), Fault(status=503, body=b""), Fault(cut_after=3000))
    counted: list[int] = []
    bodies: list[bytes] = []
    start, stop = (0, None) if whole else (16, SIZE)
    request = Request("GET", server.url + "/a", start, stop, sink=FileSink(file, 100) if to_file else None)
    engine.run(
        [request], parallelism=1, on_bytes=counted.append, on_done=lambda _, response: bodies.append(response.body)
    )
    got = os.pread(file, SIZE, 100) if to_file else bodies[0]
    assert got == Pattern(SIZE)[start:SIZE]
    assert sum(counted) == SIZE - start
    assert min(counted) > 0
    assert server.body_bytes_sent == SIZE - start  # no byte came twice
    assert len(set(ranges(server))) == 3


def test_bytes_that_are_all_there_are_not_asked_for_again(server: Httpd, engine: Engine, file: int) -> None:
    server.plan(Fault(headers={"Content-Length": "2000"}, cut_after=1000))
    engine.run([Request("GET", server.url + "/a", 0, 1000, sink=FileSink(file, 0))], parallelism=1)
    assert os.pread(file, 5000, 0) == Pattern(SIZE)[0:1000]
    assert len(server.requests) == 1


@pytest.mark.parametrize("stop", [1000, 1_000_000])
def test_bytes_too_many_do_not_reach_what_is_beside(server: Httpd, engine: Engine, file: int, stop: int) -> None:
    os.pwrite(file, b"neighbour", stop)
    server.plan(Fault(extra=100), Fault(extra=100))
    engine.run([Request("GET", server.url + "/a", 0, stop, sink=FileSink(file, 0))], parallelism=1)
    assert os.pread(file, stop + 100, 0) == Pattern(SIZE)[0:stop] + b"neighbour"
    assert len(server.requests) == 3


def test_what_is_resumed_must_be_the_same_object(server: Httpd, engine: Engine, file: int) -> None:
    server.plan(Fault(cut_after=1 << 20), *[Fault(headers={"ETag": '"another"'})] * 3)
    with pytest.raises(TransferError) as caught:
        engine.run([Request("GET", server.url + "/a", 0, SIZE, sink=FileSink(file, 0))], parallelism=1)
    assert caught.value.changed


def test_a_part_is_sent_again_whole_and_counted_once(server: Httpd, engine: Engine, file: int) -> None:
    os.pwrite(file, Pattern(SIZE)[0:SIZE], 0)
    server.plan(Fault(status=500, code="InternalError"), Fault(reset=True))
    counted: list[int] = []
    etags: list[str] = []
    request = Request("PUT", server.url + "/part", body=FileRange(file, range(10, SIZE)))
    engine.run(
        [request], parallelism=1, on_bytes=counted.append, on_done=lambda _, response: etags.append(response.etag)
    )
    digest = hashlib.sha256(Pattern(SIZE)[10:SIZE]).hexdigest()
    assert [sent.stored for sent in server.requests] == [(SIZE - 10, digest)] * 3
    assert (etags, sum(counted)) == ([digest], SIZE - 10)
    assert "expect" not in server.requests[0].headers
    assert "transfer-encoding" not in server.requests[0].headers


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bodies_in_memory_are_sent_as_they_are(server: Httpd, engine: Engine, kind: type) -> None:
    bodies = (b"", b"x", b"y" * 3_000_000)
    engine.run([Request("PUT", server.url + "/m", body=kind(body)) for body in bodies], parallelism=1)
    assert [sent.stored[1] for sent in server.requests] == [hashlib.sha256(body).hexdigest() for body in bodies]
    assert [sent.headers["content-length"] for sent in server.requests] == ["0", "1", "3000000"]


def test_a_file_that_ends_early_is_no_matter_for_another_try(server: Httpd, engine: Engine, file: int) -> None:
    os.pwrite(file, b"short", 0)
    request = Request("PUT", server.url + "/part", body=FileRange(file, range(100)))
    with pytest.raises(TransferError, match="the data to send ended after 5 of 100 bytes") as caught:
        engine.run([request], parallelism=1)
    assert not caught.value.retryable
    assert len(server.requests) <= 1


def test_an_upload_that_is_refused_early_says_why(server: Httpd, engine: Engine) -> None:
    server.rule = lambda _: Fault(status=400, code="EntityTooLarge", before_body=True)
    with pytest.raises(TransferError, match="400 EntityTooLarge"):
        engine.run([Request("PUT", server.url + "/p", body=bytes(32 << 20))], parallelism=1)


def test_an_error_in_an_answer_of_success_is_tried_again(server: Httpd, engine: Engine) -> None:
    def check(response: Response) -> str | None:
        return "InternalError" if b"<Error>" in response.body else None

    server.plan(Fault(body=b"<Error><Code>InternalError</Code></Error>"), Fault(body=b"<CopyPartResult/>"))
    bodies: list[bytes] = []
    copy = Request("PUT", server.url + "/p", headers={"x-amz-copy-source": "bucket/key"}, check=check)
    engine.run([copy], parallelism=1, on_done=lambda _, response: bodies.append(response.body))
    assert bodies == [b"<CopyPartResult/>"]
    assert [sent.headers["x-amz-copy-source"] for sent in server.requests] == ["bucket/key"] * 2


def test_headers_of_one_request_do_not_stay_for_the_next(server: Httpd, engine: Engine) -> None:
    for method, headers in (("GET", {"x-one": "1"}), ("GET", None), ("PUT", {"x-two": "2"}), ("PUT", None)):
        engine.run([Request(method, server.url + "/a", headers=headers)], parallelism=1)  # type: ignore[arg-type]
    assert [[name for name in seen.headers if name.startswith("x-")] for seen in server.requests] == [
        ["x-one"],
        [],
        ["x-two"],
        [],
    ]


@pytest.mark.parametrize("retries", [0, 2])
def test_a_request_is_tried_again_so_often_and_no_more(server: Httpd, engine: Engine, retries: int) -> None:
    server.rule = lambda _: Fault(status=500)
    with pytest.raises(TransferError, match="500") as caught:
        engine.run([Request("GET", server.url + "/a", 0, 9)], parallelism=1, retries=retries)
    assert caught.value.retryable
    assert len(server.requests) == 1 + retries


def test_what_waits_for_its_next_try_holds_up_nobody(server: Httpd, engine: Engine) -> None:
    order: list[str] = []
    first = iter([Fault(status=503, headers={"Retry-After": "1"})])
    server.rule = lambda seen: next(first, Fault()) if seen.path == "/a" else Fault()
    requests = [Request("GET", f"{server.url}{path}", 0, 9) for path in ("/a", *["/b"] * 50)]
    began = time.monotonic()
    engine.run(requests, parallelism=2, on_done=lambda request, _: order.append(str(request.url)[-2:]))
    assert order == ["/b"] * 50 + ["/a"]
    assert 1 <= time.monotonic() - began < 5


def test_a_server_that_is_gone_does_not_draw_requests_in(server: Httpd, engine: Engine) -> None:
    server.rule = lambda _: Fault(reset=True)
    more = (Request("GET", f"{server.url}/{number}", 0, 9) for number in range(10_000))
    with pytest.raises(TransferError):
        engine.run(more, parallelism=4, retries=2)
    assert len({seen.path for seen in server.requests}) <= 8


def test_fewer_run_at_a_time_where_s3_says_slow_down(
    server: Httpd, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "_FIRST_PAUSE", 0.01)
    server.rule = lambda _: Fault(status=503 if len(server.requests) <= 16 else None, delay=0.01)
    at_once: list[int] = []

    def note(*_: object) -> None:
        at_once.append(server.most_at_once)
        server.most_at_once = 0 if len(at_once) == 8 else server.most_at_once

    engine.run((Request("GET", server.url + "/a", 0, 9) for _ in range(50)), parallelism=16, retries=5, on_done=note)
    assert at_once[-1] <= 13  # half of them, and those that have come back one by one
    assert len(server.requests) == 66


def test_the_pace_is_halved_once_for_a_crowd_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = run.Pace(16)
    for _ in range(16):
        pace.slow_down()
    assert pace.allowed == 8
    monkeypatch.setattr(run, "_CONGESTION_WINDOW", 0)
    for _ in range(9):
        pace.slow_down()
    assert pace.allowed == 1
    for _ in range(200):
        pace.speed_up()
    assert pace.allowed == 16


def test_an_expired_url_is_signed_anew(server: Httpd, engine: Engine) -> None:
    signed: list[bool] = []

    def sign(expired: bool) -> str:
        signed.append(expired)
        return f"{server.url}/a?signature={len(signed)}"

    server.rule = lambda seen: Fault(status=403, code="AccessDenied") if seen.query == "signature=1" else Fault()
    assert engine.fetch([Request("GET", sign, 8, 16)], parallelism=1) == [Pattern(SIZE)[8:16]]
    assert signed == [False, True]
    assert [seen.query for seen in server.requests] == ["signature=1", "signature=2"]


def test_a_url_that_never_does_is_not_signed_for_ever(server: Httpd, engine: Engine) -> None:
    server.rule = lambda _: Fault(status=403, code="SignatureDoesNotMatch")
    signed: list[bool] = []

    def sign(expired: bool) -> str:
        signed.append(expired)
        return server.url + "/a"

    with pytest.raises(TransferError, match="403 SignatureDoesNotMatch") as caught:
        engine.run([Request("GET", sign, 0, 9)], parallelism=1, retries=2)
    assert caught.value.expired
    assert signed == [False, True, True]


@pytest.mark.parametrize("after", [0, 100_000], ids=["the head", "a part of the body"])
def test_silence_is_broken_off(server: Httpd, after: int) -> None:
    server.plan(Fault(stall_after=after))
    with Engine(stall_timeout=1) as engine:
        assert engine.fetch([Request("GET", server.url + "/a", 0, SIZE)], parallelism=1) == [Pattern(SIZE)[0:SIZE]]
    assert len(server.requests) == 2


def small(server: Httpd, count: int) -> list[Range]:
    return [Range(server.url + "/a", etag_of("/a"), at, at + 10) for at in range(0, 10 * count, 10)]


def swept(engine: Engine, server: Httpd, count: int) -> bytes:
    """What comes of so many small ranges, four at a time."""
    found: dict[int, bytes] = {}
    engine.each(small(server, count), found.__setitem__, parallelism=4)
    return b"".join(found[number] for number in range(count))


def test_a_small_range_without_an_answer_is_soon_asked_for_again(server: Httpd) -> None:
    server.plan(*[Fault(delay=600)] * 2)
    with Engine(small_stall_timeout=1) as engine:
        assert swept(engine, server, 1) == Pattern(SIZE)[0:10]
    assert len(server.requests) == 3


def test_one_that_is_silent_while_others_are_answered_is_asked_for_again(
    server: Httpd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "_MIN_SILENCE", 0.3)
    server.plan(Fault(delay=600))
    began = time.monotonic()
    with Engine(stall_timeout=60, small_stall_timeout=60) as engine:
        assert swept(engine, server, 40) == Pattern(SIZE)[0:400]
    assert time.monotonic() - began < 30
    assert len(server.requests) == 41


def test_an_s3_that_is_slow_to_answer_is_asked_once(server: Httpd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_MIN_SILENCE", 0.3)
    server.rule = lambda _: Fault(delay=1.0)
    with Engine() as engine:
        assert swept(engine, server, 6) == Pattern(SIZE)[0:60]
    assert len(server.requests) == 6


def test_connections_that_the_server_closed_cost_one_try_at_most(server: Httpd, engine: Engine) -> None:
    requests = [Request("GET", server.url + "/a", 0, 9) for _ in range(40)]
    server.rule = lambda _: Fault(delay=0.01)
    engine.fetch(requests, parallelism=40)
    assert server.open_connections > 12  # libcurl itself gives up after five that it finds closed
    server.drop_connections()
    engine.run([Request("PUT", server.url + "/b", body=b"z" * 100_000)], parallelism=1, retries=1)
    assert server.requests[-1].stored[0] == 100_000
