"""Tests of the engine in threads and forked processes, under Ctrl-C, and of the memory that it needs."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, SupportsIndex

import pytest

from datas3t.transport import Engine, Range, Request
from datas3t.transport.multi import Multi
from tests.support.httpd import Fault, Httpd, Pattern, etag_of, httpd

GIB = 1 << 30
LARGE = 1 << 28


@pytest.fixture
def server() -> Iterator[Httpd]:
    """Yield a server with an object of 1 GiB."""
    with httpd({"/a": Pattern(GIB)}) as running:
        yield running


def read(engine: Engine, server: Httpd, seed: int, count: int = 100) -> None:
    """Read ranges that no other seed reads, and check their bytes."""
    starts = [seed * 10_000_000 + number * 4_096 for number in range(count)]
    bodies = engine.fetch([Request("GET", server.url + "/a", at, at + 4_000) for at in starts], parallelism=8)
    assert bodies == [Pattern(GIB)[at : at + 4_000] for at in starts]


def test_threads_can_share_an_engine_which_starts_no_thread(server: Httpd) -> None:
    with Engine() as engine:
        with ThreadPoolExecutor(16) as threads:
            for done in [threads.submit(read, engine, server, seed) for seed in range(48)]:
                done.result()
        before = [thread for thread in threading.enumerate() if "process_request_thread" not in thread.name]
        read(engine, server, 50)
        assert [thread for thread in threading.enumerate() if "process_request_thread" not in thread.name] == before
        assert server.connections <= 16 * 8


class _CollectingList(list[Multi]):
    """A list that collects garbage when it is changed, which is the worst moment for the pool."""

    def pop(self, *at: SupportsIndex) -> Multi:
        gc.collect()
        return super().pop(*at)

    def append(self, multi: Multi) -> None:
        gc.collect()
        super().append(multi)


def test_a_stream_can_be_garbage_collected_during_another_call(server: Httpd) -> None:
    def jobs() -> Iterator[tuple[int, Request]]:
        for at in range(10):
            yield at, Request("GET", server.url + "/a", at, at + 8)

    with Engine() as engine:
        engine._pool._idle = _CollectingList()
        for _ in range(3):
            stream = engine.stream(jobs(), parallelism=2, ahead=100)
            assert bytes(next(stream.__enter__())[1]) == Pattern(GIB)[0:8]
            cycle: list[Any] = [stream]
            cycle.append(cycle)
            del stream, cycle
            read(engine, server, 5, count=3)
        gc.collect()
        assert not engine._pool._lent
        assert len(engine._pool._idle) == 1  # the same one was used each time


def in_a_child(engine: Engine, server: Httpd, seed: int) -> int:
    """Fork, and return the child's process id. The child reads, and its exit code says whether that went well."""
    child = os.fork()
    if child:
        return child
    try:
        read(engine, server, seed, count=300)
        os._exit(0)
    except BaseException:
        os._exit(1)


def test_parent_and_children_can_read_concurrently(server: Httpd) -> None:
    with Engine() as engine:
        read(engine, server, 0)
        before = server.connections
        children = [in_a_child(engine, server, seed) for seed in (1, 2, 3)]
        for _ in range(10):
            read(engine, server, 4)
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
        assert server.connections - before == 3 * 8  # the parent has kept its own


def run_python(program: str, *arguments: str) -> str:
    """Run a program in its own process, and return what it prints. It must succeed, and write no error."""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


FORK_DURING_CALL = """
import os, sys
from datas3t.transport import Engine, Request
children = []
def fork(*_):
    if not children:
        children.append(os.fork())
requests = [Request("GET", sys.argv[1] + "/a", at, at + 10) for at in range(0, 1000, 10)]
try:
    Engine().run(requests, parallelism=4, on_done=fork)
except RuntimeError as error:
    assert "forked" in str(error)
    sys.exit(0)
assert children[0] and os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
"""


def test_a_call_does_not_continue_in_a_forked_child(server: Httpd) -> None:
    assert run_python(FORK_DURING_CALL, server.url) == ""


MANY_FILES = """
import os, resource, sys, time
from datas3t.transport import Engine, Request
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, limit), limit))
for _ in range(1100):
    os.dup(0)
requests = [Request("GET", sys.argv[1] + "/a", at, at + 10, sys.argv[2] or None) for at in range(0, 1000, 10)]
engine = Engine()
used = time.process_time()
bodies = engine.fetch(requests, parallelism=2)
print(b"".join(bodies).hex(), time.process_time() - used)
"""


@pytest.mark.parametrize("etag", [etag_of("/a"), ""], ids=["known ETag", "any ETag"])
def test_descriptors_too_large_for_select_are_served_without_a_busy_loop(server: Httpd, etag: str) -> None:
    server.rule = lambda _: Fault(delay=0.02)
    began = time.monotonic()
    bodies, used = run_python(MANY_FILES, server.url, etag).split()
    assert bytes.fromhex(bodies) == Pattern(GIB)[0:1000]
    assert time.monotonic() - began < 10  # it would be 12.5 if each of the 50 rounds waited for the tick of 0.25
    assert float(used) < 0.5


def test_concurrent_calls_share_the_connections(server: Httpd) -> None:
    server.rule = lambda _: Fault(delay=0.02)
    ranges = [Range(server.url + "/a", etag_of("/a"), at, at + 10) for at in range(0, 1000, 10)]

    def work(engine: Engine) -> int:
        bodies: dict[int, bytes] = {}
        engine.each(ranges, bodies.__setitem__, parallelism=64)
        return sum(body == Pattern(GIB)[ranges[number].start : ranges[number].stop] for number, body in bodies.items())

    with Engine(connections=64) as engine, ThreadPoolExecutor(16) as threads:
        assert list(threads.map(work, [engine] * 20)) == [len(ranges)] * 20
        assert 16 <= server.most_at_once <= 64 + 16  # each call has at least one
        assert server.open_connections <= 64
        work(engine)


NO_DESCRIPTORS = """
import os, resource, sys
from datas3t.transport import Engine, Request, TransferError
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
engine = Engine()
requests = [Request("GET", sys.argv[1] + "/a", 0, 10, sys.argv[2])]
taken = []
try:
    while True:
        taken.append(os.dup(0))
except OSError:
    pass
for spare in range(4):
    try:
        print(engine.fetch(requests, parallelism=1, retries=1))
    except TransferError as error:
        assert error.retryable and "GET" in str(error) or "cannot continue" in str(error), error
    else:
        break
    os.close(taken.pop())
assert spare
"""


def test_running_out_of_descriptors_is_a_retryable_transfer_error(server: Httpd) -> None:
    assert run_python(NO_DESCRIPTORS, server.url, etag_of("/a")) == f"[{Pattern(GIB)[0:10]!r}]\n"


def test_close_closes_idle_connections_and_the_engine_can_still_be_used(server: Httpd) -> None:
    engine = Engine()
    read(engine, server, 1)
    engine.close()
    deadline = time.monotonic() + 10
    while server.open_connections and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.open_connections == 0
    read(engine, server, 2)
    engine.close()


CTRL_C = """
import sys, time
from datas3t.transport import Engine, FileSink, MemorySink, Request
how, url = sys.argv[1:]
request = {
    "silent": Request("GET", url + "/silent", 0, 100),
    "get": Request("GET", url + "/a", 0, 1 << 30, sink=MemorySink(memoryview(bytearray(1 << 30)))),
    "put": Request("PUT", url + "/p", body=memoryview(bytes(1 << 30))),
}[how]
engine = Engine()
try:
    while True:
        engine.run([request], parallelism=1, retries=0, on_bytes=lambda _: None)
except KeyboardInterrupt:
    engine.fetch([Request("GET", url + "/a", 0, 100)], parallelism=1)
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("how", ["silent", "get", "put"])
def test_ctrl_c_ends_a_transfer_at_once(server: Httpd, how: str) -> None:
    server.objects = {"/a": Pattern(GIB), "/silent": Pattern(800)}
    server.rule = lambda seen: Fault(stall_after=0) if seen.path == "/silent" else Fault()
    with subprocess.Popen(
        [sys.executable, "-c", CTRL_C, how, server.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not server.most_at_once:
            time.sleep(0.01)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=30)
    assert (out, errors) == ("interrupted\n", "")
    assert time.monotonic() - began < 3


MEMORY = """
import os, resource, sys
from datas3t.transport import Engine, FileRange, FileSink, Request
how, url, path = sys.argv[1:]
SIZE, PART = 1 << 28, 16 << 20
fd = os.open(path, os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, SIZE)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
def request(at):
    if how == "down":
        return Request("GET", url + "/a", at, at + PART, sink=FileSink(fd, at))
    return Request("PUT", f"{url}/{at}", body=FileRange(fd, range(at, at + PART)))
engine = Engine()
before = peak()
engine.run(map(request, range(0, SIZE, PART)), parallelism=4)
print(peak() - before)
"""


@pytest.mark.parametrize("how", ["down", "up"])
def test_transferring_256_mib_needs_less_than_40_mib_of_memory(server: Httpd, tmp_path: Path, how: str) -> None:
    path = tmp_path / "file"
    assert int(run_python(MEMORY, how, server.url, str(path))) < 40
    if how == "down":
        with path.open("rb") as file:
            for at in range(0, LARGE, 37 << 20):
                assert os.pread(file.fileno(), 1 << 16, at) == Pattern(GIB)[at : at + (1 << 16)]
    else:
        assert sum(seen.stored[0] for seen in server.requests) == LARGE
