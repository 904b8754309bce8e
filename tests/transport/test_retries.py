"""Tests of retries: they resume, count bytes once, slow down when S3 asks for it, and renew expired URLs."""

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
    """Yield a server with two objects of 4 MiB."""
    with httpd({"/a": Pattern(SIZE), "/b": Pattern(SIZE)}) as running:
        yield running


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Yield an engine with short timeouts."""
    with Engine(connect_timeout=5, stall_timeout=5) as created:
        yield created


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """Yield the descriptor of an empty file."""
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def ranges(server: Httpd) -> list[str]:
    """Return the Range headers of all requests."""
    return [request.headers.get("range", "") for request in server.requests]


@pytest.mark.parametrize("whole", [False, True], ids=["a range", "the whole object"])
@pytest.mark.parametrize("to_file", [False, True], ids=["memory", "file"])
def test_an_interrupted_download_continues_where_it_ended(
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
    received = os.pread(file, SIZE, 100) if to_file else bodies[0]
    assert received == Pattern(SIZE)[start:SIZE]
    assert sum(counted) == SIZE - start
    assert min(counted) > 0
    assert server.body_bytes_sent == SIZE - start  # no byte was sent twice
    assert len(set(ranges(server))) == 3


def test_a_complete_range_is_not_requested_again(server: Httpd, engine: Engine, file: int) -> None:
    server.plan(Fault(headers={"Content-Length": "2000"}, cut_after=1000))
    engine.run([Request("GET", server.url + "/a", 0, 1000, sink=FileSink(file, 0))], parallelism=1)
    assert os.pread(file, 5000, 0) == Pattern(SIZE)[0:1000]
    assert len(server.requests) == 1


@pytest.mark.parametrize("stop", [1000, 1_000_000])
def test_extra_bytes_do_not_overwrite_what_follows_the_range(
    server: Httpd, engine: Engine, file: int, stop: int
) -> None:
    os.pwrite(file, b"neighbour", stop)
    server.plan(Fault(extra=100), Fault(extra=100))
    engine.run([Request("GET", server.url + "/a", 0, stop, sink=FileSink(file, 0))], parallelism=1)
    assert os.pread(file, stop + 100, 0) == Pattern(SIZE)[0:stop] + b"neighbour"
    assert len(server.requests) == 3


def test_a_download_is_only_resumed_with_the_same_object(server: Httpd, engine: Engine, file: int) -> None:
    server.plan(Fault(cut_after=1 << 20), *[Fault(headers={"ETag": '"another"'})] * 3)
    with pytest.raises(TransferError) as caught:
        engine.run([Request("GET", server.url + "/a", 0, SIZE, sink=FileSink(file, 0))], parallelism=1)
    assert caught.value.changed


def test_a_retried_put_sends_all_bytes_again_and_counts_them_once(server: Httpd, engine: Engine, file: int) -> None:
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
def test_bodies_can_be_bytes_bytearray_or_memoryview(server: Httpd, engine: Engine, kind: type) -> None:
    bodies = (b"", b"x", b"y" * 3_000_000)
    engine.run([Request("PUT", server.url + "/m", body=kind(body)) for body in bodies], parallelism=1)
    assert [sent.stored[1] for sent in server.requests] == [hashlib.sha256(body).hexdigest() for body in bodies]
    assert [sent.headers["content-length"] for sent in server.requests] == ["0", "1", "3000000"]


def test_a_file_that_is_too_short_is_a_final_error(server: Httpd, engine: Engine, file: int) -> None:
    os.pwrite(file, b"short", 0)
    request = Request("PUT", server.url + "/part", body=FileRange(file, range(100)))
    with pytest.raises(TransferError, match="the data to send ended after 5 of 100 bytes") as caught:
        engine.run([request], parallelism=1)
    assert not caught.value.retryable
    assert len(server.requests) <= 1


def test_a_put_that_is_refused_before_its_body_was_sent_raises_the_reason(server: Httpd, engine: Engine) -> None:
    server.rule = lambda _: Fault(status=400, code="EntityTooLarge", before_body=True)
    with pytest.raises(TransferError, match="400 EntityTooLarge"):
        engine.run([Request("PUT", server.url + "/p", body=bytes(32 << 20))], parallelism=1)


def test_an_error_in_a_response_with_status_200_is_retried(server: Httpd, engine: Engine) -> None:
    def check(response: Response) -> str | None:
        return "InternalError" if b"<Error>" in response.body else None

    server.plan(Fault(body=b"<Error><Code>InternalError</Code></Error>"), Fault(body=b"<CopyPartResult/>"))
    bodies: list[bytes] = []
    copy = Request("PUT", server.url + "/p", headers={"x-amz-copy-source": "bucket/key"}, check=check)
    engine.run([copy], parallelism=1, on_done=lambda _, response: bodies.append(response.body))
    assert bodies == [b"<CopyPartResult/>"]
    assert [sent.headers["x-amz-copy-source"] for sent in server.requests] == ["bucket/key"] * 2


def test_headers_are_only_sent_with_their_own_request(server: Httpd, engine: Engine) -> None:
    for method, headers in (("GET", {"x-one": "1"}), ("GET", None), ("PUT", {"x-two": "2"}), ("PUT", None)):
        engine.run([Request(method, server.url + "/a", headers=headers)], parallelism=1)  # type: ignore[arg-type]
    assert [[name for name in seen.headers if name.startswith("x-")] for seen in server.requests] == [
        ["x-one"],
        [],
        ["x-two"],
        [],
    ]


@pytest.mark.parametrize("retries", [0, 2])
def test_a_request_is_retried_as_often_as_the_caller_says(server: Httpd, engine: Engine, retries: int) -> None:
    server.rule = lambda _: Fault(status=500)
    with pytest.raises(TransferError, match="500") as caught:
        engine.run([Request("GET", server.url + "/a", 0, 9)], parallelism=1, retries=retries)
    assert caught.value.retryable
    assert len(server.requests) == 1 + retries


def test_a_request_that_waits_for_its_next_try_does_not_block_others(server: Httpd, engine: Engine) -> None:
    order: list[str] = []
    first = iter([Fault(status=503, headers={"Retry-After": "1"})])
    server.rule = lambda seen: next(first, Fault()) if seen.path == "/a" else Fault()
    requests = [Request("GET", f"{server.url}{path}", 0, 9) for path in ("/a", *["/b"] * 50)]
    began = time.monotonic()
    engine.run(requests, parallelism=2, on_done=lambda request, _: order.append(str(request.url)[-2:]))
    assert order == ["/b"] * 50 + ["/a"]
    assert 1 <= time.monotonic() - began < 5


def test_few_requests_are_started_while_all_of_them_fail(server: Httpd, engine: Engine) -> None:
    server.rule = lambda _: Fault(reset=True)
    more = (Request("GET", f"{server.url}/{number}", 0, 9) for number in range(10_000))
    with pytest.raises(TransferError):
        engine.run(more, parallelism=4, retries=2)
    assert len({seen.path for seen in server.requests}) <= 8


def test_fewer_requests_run_at_a_time_after_503s(
    server: Httpd, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "_FIRST_PAUSE", 0.01)
    server.rule = lambda _: Fault(status=503 if len(server.requests) <= 16 else None, delay=0.01)
    at_once: list[int] = []

    def note(*_: object) -> None:
        at_once.append(server.most_at_once)
        server.most_at_once = 0 if len(at_once) == 8 else server.most_at_once

    engine.run((Request("GET", server.url + "/a", 0, 9) for _ in range(50)), parallelism=16, retries=5, on_done=note)
    assert at_once[-1] <= 13  # half of 16, and a few more after successes
    assert len(server.requests) == 66


def test_the_pace_is_halved_once_per_congestion_event_and_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_an_expired_url_is_renewed(server: Httpd, engine: Engine) -> None:
    signed: list[bool] = []

    def sign(expired: bool) -> str:
        signed.append(expired)
        return f"{server.url}/a?signature={len(signed)}"

    server.rule = lambda seen: Fault(status=403, code="AccessDenied") if seen.query == "signature=1" else Fault()
    assert engine.fetch([Request("GET", sign, 8, 16)], parallelism=1) == [Pattern(SIZE)[8:16]]
    assert signed == [False, True]
    assert [seen.query for seen in server.requests] == ["signature=1", "signature=2"]


def test_a_url_that_stays_refused_is_renewed_as_often_as_there_are_retries(server: Httpd, engine: Engine) -> None:
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
def test_a_response_that_stalls_is_requested_again(server: Httpd, after: int) -> None:
    server.plan(Fault(stall_after=after))
    with Engine(stall_timeout=1) as engine:
        assert engine.fetch([Request("GET", server.url + "/a", 0, SIZE)], parallelism=1) == [Pattern(SIZE)[0:SIZE]]
    assert len(server.requests) == 2


def small(server: Httpd, count: int) -> list[Range]:
    """Return consecutive ranges of 10 bytes."""
    return [Range(server.url + "/a", etag_of("/a"), at, at + 10) for at in range(0, 10 * count, 10)]


def swept(engine: Engine, server: Httpd, count: int) -> bytes:
    """Return the bytes of this many small ranges, read four at a time."""
    bodies: dict[int, bytes] = {}
    engine.each(small(server, count), bodies.__setitem__, parallelism=4)
    return b"".join(bodies[number] for number in range(count))


def test_a_small_range_without_a_response_is_requested_again_after_its_own_timeout(server: Httpd) -> None:
    server.plan(*[Fault(delay=600)] * 2)
    with Engine(small_stall_timeout=1) as engine:
        assert swept(engine, server, 1) == Pattern(SIZE)[0:10]
    assert len(server.requests) == 3


def test_a_small_range_is_requested_again_if_only_the_others_get_responses(
    server: Httpd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "_MIN_SILENCE", 0.3)
    server.plan(Fault(delay=600))
    began = time.monotonic()
    with Engine(stall_timeout=60, small_stall_timeout=60) as engine:
        assert swept(engine, server, 40) == Pattern(SIZE)[0:400]
    assert time.monotonic() - began < 30
    assert len(server.requests) == 41


def test_a_slow_s3_gets_no_second_request(server: Httpd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_MIN_SILENCE", 0.3)
    server.rule = lambda _: Fault(delay=1.0)
    with Engine() as engine:
        assert swept(engine, server, 6) == Pattern(SIZE)[0:60]
    assert len(server.requests) == 6


def test_connections_that_the_server_has_closed_cost_at_most_one_try(server: Httpd, engine: Engine) -> None:
    requests = [Request("GET", server.url + "/a", 0, 9) for _ in range(40)]
    server.rule = lambda _: Fault(delay=0.01)
    engine.fetch(requests, parallelism=40)
    assert server.open_connections > 12  # libcurl by itself gives up after five closed connections
    server.drop_connections()
    engine.run([Request("PUT", server.url + "/b", body=b"z" * 100_000)], parallelism=1, retries=1)
    assert server.requests[-1].stored[0] == 100_000
