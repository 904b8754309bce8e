"""What an exception at any line of the engine does, as a signal handler raises it: it reaches the caller, and no more.

Either an operation raises the exception, or it returns the right bytes; and the next one returns the right bytes.
"""

import gc
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import datas3t.transport
from datas3t.transport import Engine, FileRange, FileSink, Range, Request, TransferError
from tests.support.httpd import Fault, Httpd, Pattern, etag_of, httpd
from tests.support.interrupts import Alarms, Injector, Interrupted, InterruptedByError, places

ENGINE = Path(datas3t.transport.__file__).parent
SIZE = 96 << 10
CONTENT = Pattern(SIZE)

Operation = Callable[[Engine, Httpd], bytes]


@pytest.fixture
def server() -> Iterator[Httpd]:
    """Yield a server with an object of 96 KiB."""
    with httpd({"/a": CONTENT}) as running:
        yield running


def small(engine: Engine, server: Httpd) -> bytes:
    """Fetch small ranges, as `get` and `get_many` do."""
    ranges = [Range(server.url + "/a", etag_of("/a"), at, at + 100) for at in range(0, 2000, 100)]
    bodies = [b""] * len(ranges)
    engine.each(ranges, bodies.__setitem__, parallelism=4)
    return b"".join(bodies)


def retried(engine: Engine, server: Httpd) -> bytes:
    """Fetch small ranges; some requests fail and must be repeated."""
    server.plan(Fault(status=500), Fault(cut_after=50), Fault(reset=True))
    return small(engine, server)


def streamed(engine: Engine, server: Httpd) -> bytes:
    """Read ahead, as `scan` does."""
    spans = [(at, at + 20_000) for at in range(0, 80_000, 20_000)]
    jobs = ((span, Request("GET", server.url + "/a", *span)) for span in spans)
    with engine.stream(jobs, parallelism=3, ahead=60_000) as stream:
        return b"".join(bytes(body) for _, body in stream)


def downloaded(engine: Engine, server: Httpd) -> bytes:
    """Download to a file, as `download_tar` does, with a connection that breaks in between."""
    server.plan(Fault(cut_after=30_000))
    fd = os.memfd_create("output")
    try:
        requests = [
            Request("GET", server.url + "/a", at, at + (SIZE >> 1), etag_of("/a"), sink=FileSink(fd, at))
            for at in (0, SIZE >> 1)
        ]
        engine.run(requests, parallelism=2, on_bytes=lambda _: None)
        return os.pread(fd, SIZE, 0)
    finally:
        os.close(fd)


def uploaded(engine: Engine, server: Httpd) -> bytes:
    """Send two parts of a file, one of them twice; return the hashes of what the server has received."""
    server.plan(Fault(status=500))
    fd = os.memfd_create("input")
    try:
        os.write(fd, CONTENT[0:SIZE])
        bodies = [FileRange(fd, range(SIZE >> 1)), FileRange(fd, range(SIZE >> 1, SIZE))]
        etags: dict[Request, str] = {}
        parts = [Request("PUT", server.url + "/part", body=body) for body in bodies]
        engine.run(parts, parallelism=2, on_done=lambda request, answer: etags.update({request: answer.etag}))
        return "".join(etags[part] for part in parts).encode()
    finally:
        os.close(fd)


HALVES = (CONTENT[0 : SIZE >> 1], CONTENT[SIZE >> 1 : SIZE])
EXPECTED: dict[Operation, bytes] = {
    small: CONTENT[0:2000],
    retried: CONTENT[0:2000],
    streamed: CONTENT[0:80_000],
    downloaded: CONTENT[0:SIZE],
    uploaded: "".join(hashlib.sha256(half).hexdigest() for half in HALVES).encode(),
}
UNDER_LIBCURL = ("bodies.py", "get.py", "put.py", "shield.py")  # modules with callbacks, or that these call
each_operation = pytest.mark.parametrize("operation", EXPECTED, ids=lambda operation: operation.__name__)


@pytest.fixture(autouse=True)
def _small_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make retries quick, and let a body of 96 KiB pass through all steps of a large one."""
    monkeypatch.setattr("datas3t.transport.policy._FIRST_PAUSE", 0.001)
    monkeypatch.setattr("datas3t.transport.get._BATCH", 10_000)


@each_operation
def test_an_exception_at_any_line_reaches_the_caller(
    server: Httpd, operation: Operation, capfd: pytest.CaptureFixture[str]
) -> None:
    def first_call() -> None:
        with Engine() as fresh:
            operation(fresh, server)

    raised = 0
    for place in places(ENGINE, first_call):
        with Engine() as engine:
            try:
                with Injector(ENGINE, place):
                    assert operation(engine, server) == EXPECTED[operation], place
            except Interrupted:
                raised += 1
            server.plan_nothing()
            assert operation(engine, server) == EXPECTED[operation], f"after {place}"
    assert raised > 100
    assert capfd.readouterr().err == "", "pycurl prints the exceptions that reach it"


@pytest.mark.parametrize("operation", [downloaded, uploaded], ids=lambda operation: operation.__name__)
def test_an_error_at_any_line_that_runs_under_libcurl_reaches_the_caller(
    server: Httpd, operation: Operation, capfd: pytest.CaptureFixture[str]
) -> None:
    def first_call() -> None:
        with Engine() as fresh:
            operation(fresh, server)

    raised = 0
    for place in (each for each in places(ENGINE, first_call) if Path(each[0]).name in UNDER_LIBCURL):
        server.plan_nothing()
        with Engine() as engine:
            try:
                with Injector(ENGINE, place, InterruptedByError):
                    assert operation(engine, server) == EXPECTED[operation], place
            except InterruptedByError:
                raised += 1
            server.plan_nothing()
            assert operation(engine, server) == EXPECTED[operation], f"after {place}"
    assert raised > 30
    assert capfd.readouterr().err == "", "pycurl prints the exceptions that reach it"


@each_operation
@pytest.mark.timing  # signals come at random moments
def test_no_signal_is_lost(server: Httpd, operation: Operation, capfd: pytest.CaptureFixture[str]) -> None:
    alarms, raised = Alarms(seed=1, seconds=0.01), 0
    gc.disable()  # what a handler raises in a finalizer is lost, as in any Python program
    try:
        with Engine() as engine:
            operation(engine, server)
            for _ in range(100):
                server.plan_nothing()
                try:
                    with alarms:
                        received = operation(engine, server)
                    assert not alarms.fired
                    assert received == EXPECTED[operation]
                except Interrupted:
                    raised += 1
    finally:
        gc.enable()
    assert raised > 10
    assert capfd.readouterr().err == ""


def _fail(_number: int, _body: bytes) -> None:
    raise ZeroDivisionError


class _BadBody:
    """A body that fails while it is read."""

    size = 100

    def read(self, _start: int, _stop: int, /) -> bytes:
        raise OSError("the disk is gone")


def test_what_a_sink_or_a_body_raises_reaches_the_caller(server: Httpd) -> None:
    def sink(_offset: int, _pieces: object) -> None:
        raise ZeroDivisionError

    with Engine() as engine:
        with pytest.raises(ZeroDivisionError):
            engine.run([Request("GET", server.url + "/a", 0, SIZE, sink=sink)], parallelism=1)
        with pytest.raises(OSError, match="the disk is gone"):
            engine.run([Request("PUT", server.url + "/a", body=_BadBody())], parallelism=1)
        assert len(server.requests) <= 2  # nothing was sent again


def test_only_the_connections_of_an_interrupted_call_are_closed(server: Httpd) -> None:
    with Engine() as engine:
        small(engine, server)
        opened = server.connections
        with pytest.raises(TransferError):
            engine.run([Request("GET", server.url + "/none", 0, 9)], parallelism=1)
        small(engine, server)
        assert server.connections == opened
        with pytest.raises(ZeroDivisionError):
            engine.each([Range(server.url + "/a", etag_of("/a"), 0, 9)], _fail, parallelism=1)
        small(engine, server)
        assert server.connections > opened
