"""A server of several processes, which share the port, the calls, the metrics and one reaper."""

import contextlib
import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import psutil
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg import sql

from datas3t import v1
from datas3t.v1.bucket_pb2_grpc import BucketServiceStub
from tests.support.front import http_request
from tests.support.serving import serving, settings_for
from tests.support.stack import DatabasePool, ServerProcess, wait_until

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

WORKERS = 2
LIST = "datas3t.v1.BucketService/ListBuckets"
LINE = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ (INFO|WARNING) datas3t\.server\.[a-z.]+ \S.*")
REAPS = r"worker (\d) deletes objects in the background"
WAITING = "SELECT count(*) FROM keys_to_delete WHERE NOT second_look"  # for their first deletion
UPLOAD = {"datas3t_name": "images", "first_datapoint_index": 0, "number_of_datapoints": 1, "data_size": 2048}
LOCK = "LOCK TABLE s3_buckets"


class Workers:
    """A server with workers on free ports."""

    def __init__(self, services: "Services", database: str, folder: Path) -> None:
        environment = {"ADDR": "127.0.0.1:0", "GRPC_ADDR": "127.0.0.1:0", "WORKERS": str(WORKERS)}
        self.database = database
        self.process = ServerProcess(folder, database, services.encryption_key, environment=environment)
        wait_until(lambda: not self.process.running or "workers serve" in self.log, 90, "the workers")
        self.url = self.logged(r"listening on (http://\S+)")[-1]
        self.port = int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        return self.process.log

    def logged(self, pattern: str) -> list[str]:
        return re.findall(pattern, self.log)

    def pids(self) -> list[int]:
        return sorted(child.pid for child in psutil.Process(self.process.pid).children())

    def of_worker(self, pid: int, connections: list[socket.socket]) -> list[socket.socket]:
        """Return those of the connections that a worker has accepted."""
        with contextlib.suppress(psutil.Error):  # it may end at any time
            found = psutil.Process(pid).net_connections("tcp")
            accepted = {each.raddr.port for each in found if each.status == psutil.CONN_ESTABLISHED}
            return [each for each in connections if each.getsockname()[1] in accepted]
        return []

    def metric(self, name: str, **labels: str) -> float:
        """Return the value of a metric on the page."""
        page = http_request(self.url, "GET", "/metrics").body.decode()
        samples = (each for family in text_string_to_metric_families(page) for each in family.samples)
        return sum(each.value for each in samples if each.name == name and each.labels.items() >= labels.items())

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def connected_to_all(self, stack: contextlib.ExitStack) -> list[socket.socket]:
        """Return one or two connections to every worker: fewer than it has connections to the database."""
        opened: list[socket.socket] = []

        def reach_all() -> bool:
            opened.append(stack.enter_context(self.connect()))
            return all(self.of_worker(pid, opened) for pid in self.pids())

        wait_until(reach_all, what="a connection to each worker")
        return [connection for pid in self.pids() for connection in self.of_worker(pid, opened)[:2]]


def ask(connection: socket.socket, method: str = "GET", path: str = "/api/bucket", body: object = None) -> None:
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)


def status(connection: socket.socket) -> int:
    return int(connection.recv(65_536).split(b" ")[1])


@contextlib.contextmanager
def workers_on(services: "Services", database: str, folder: Path) -> Iterator[Workers]:
    workers = Workers(services, database, folder)
    try:
        yield workers
    finally:
        workers.process.kill()


@pytest.fixture(scope="module")
def shared(
    services: "Services", databases: DatabasePool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workers]:
    """Yield a server for tests that leave it as it was."""
    with databases.lend() as database, workers_on(services, database, tmp_path_factory.mktemp("workers")) as workers:
        yield workers


@pytest.fixture
def own(services: "Services", database: str, tmp_path: Path) -> Iterator[Workers]:
    """Yield a server for a test that ends it."""
    with workers_on(services, database, tmp_path) as workers:
        yield workers


def test_connections_reach_every_worker_and_both_ports_serve(shared: Workers) -> None:
    assert len(shared.pids()) == WORKERS
    with contextlib.ExitStack() as stack:
        for connection in shared.connected_to_all(stack):
            ask(connection)
            assert status(connection) == 200
    grpc_port = shared.logged(r"listening for gRPC alone on port (\d+)")[-1]
    for address in (f"127.0.0.1:{grpc_port}", f"127.0.0.1:{shared.port}"):
        with grpc.insecure_channel(address) as channel:
            assert not BucketServiceStub(channel).ListBuckets(v1.ListBucketsRequest()).buckets


def test_the_metrics_are_sums_and_a_worker_that_hangs_does_not_hold_them_up(shared: Workers) -> None:
    def calls() -> float:
        return shared.metric("datas3t_calls_total", method=LIST, transport="rest")

    before = calls()
    with contextlib.ExitStack() as stack:
        connections = shared.connected_to_all(stack)
        for connection in connections:
            ask(connection)
            assert status(connection) == 200
    expected = before + len(connections)
    wait_until(lambda: calls() == expected, what="the count of all calls")
    assert {calls() for _ in range(5)} == {expected}  # whichever worker answers
    memory = sum(psutil.Process(pid).memory_info().rss for pid in shared.pids())
    assert shared.metric("process_resident_memory_bytes") == pytest.approx(memory, rel=0.2)
    assert shared.metric("datas3t_build_info") == 1
    stopped = shared.pids()[0]
    os.kill(stopped, signal.SIGSTOP)
    try:
        # Until its main thread stops, the others go on, and may accept a connection.
        wait_until(lambda: psutil.Process(stopped).status() == psutil.STATUS_STOPPED, what="the stop")
        assert {calls() for _ in range(3)} == {expected}
    finally:
        os.kill(stopped, signal.SIGCONT)


def test_a_killed_worker_loses_only_its_calls_and_another_one_takes_its_place(shared: Workers) -> None:
    victim = shared.pids()[0]
    ended, before = len(shared.logged("SIGKILL")), shared.metric("datas3t_calls_total")
    answered = []
    with contextlib.ExitStack() as stack, psycopg.connect(shared.database) as blocking:
        connections = shared.connected_to_all(stack)
        its_own = shared.of_worker(victim, connections)
        blocking.execute(LOCK)
        for connection in connections:
            ask(connection)
        wait_until(lambda: shared.metric("datas3t_calls_running") == len(connections), what="the calls")
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(shared.logged("was ended by SIGKILL")) > ended, what="the end of the worker")
        assert http_request(shared.url, "GET", "/healthz").status == 200
        blocking.rollback()
        for connection in connections:
            with contextlib.suppress(OSError, IndexError):
                answered.append(status(connection))
    assert answered == [200] * (len(connections) - len(its_own))
    wait_until(lambda: len(shared.pids()) == WORKERS, what="another worker")
    with contextlib.ExitStack() as stack:
        shared.connected_to_all(stack)
    assert shared.metric("datas3t_calls_total") >= before + len(answered)


def test_a_worker_that_cannot_start_is_tried_again(shared: Workers) -> None:
    name, base = shared.database.rpartition("/")[2], shared.database.rpartition("/")[0]
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    with psycopg.connect(f"{base}/postgres", autocommit=True) as admin:
        admin.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
        try:
            os.kill(shared.pids()[0], signal.SIGKILL)
            wait_until(lambda: bool(shared.logged(r"worker \d could not start: cannot connect")), 90, "a failed start")
            assert http_request(shared.url, "GET", "/healthz").status == 200
        finally:
            admin.execute(allow.format(sql.Identifier(name), sql.SQL("true")))
    with contextlib.ExitStack() as stack:
        wait_until(lambda: len(shared.pids()) == WORKERS, what="another worker")
        shared.connected_to_all(stack)


def test_sigterm_drains_every_worker(own: Workers) -> None:
    with contextlib.ExitStack() as stack, psycopg.connect(own.database) as blocking:
        connections = own.connected_to_all(stack)
        idle = own.connected_to_all(stack)
        blocking.execute(LOCK)
        for connection in connections:
            ask(connection)
        wait_until(lambda: own.metric("datas3t_calls_running") == len(connections), what="the calls")
        os.kill(own.process.pid, signal.SIGTERM)
        for pid in own.pids():
            os.kill(pid, signal.SIGTERM)  # as a service manager does
        wait_until(lambda: "stopping: new calls are refused" in own.log, what="the signal")
        for connection in idle:
            wait_until_draining(connection)
        assert own.process.running
        blocking.rollback()
        assert {status(connection) for connection in connections} == {200}
    assert own.process.wait() == 0, own.log
    assert own.log.endswith(" stopped\n")
    assert [line for line in own.log.splitlines() if not LINE.fullmatch(line)] == []
    assert len(own.logged(r" listening on ")) == len(own.logged(r" stopped\n")) == 1


def wait_until_draining(connection: socket.socket) -> None:
    def is_draining() -> bool:
        ask(connection, path="/readyz")
        return status(connection) == 503

    wait_until(is_draining, what="the refusal of calls")


def test_a_second_signal_kills_at_once(own: Workers) -> None:
    with contextlib.ExitStack() as stack, psycopg.connect(own.database) as blocking:
        connections = own.connected_to_all(stack)
        blocking.execute(LOCK)
        ask(connections[0])
        wait_until(lambda: own.metric("datas3t_calls_running") == 1, what="the call")
        children = psutil.Process(own.process.pid).children()
        os.kill(own.process.pid, signal.SIGTERM)
        wait_until(lambda: "stopping: new calls are refused" in own.log, what="the first signal")
        started = time.monotonic()
        assert own.process.terminate(signal.SIGINT) != 0
        assert time.monotonic() - started < 15
        assert psutil.wait_procs(children, 10)[1] == []


def test_no_worker_outlives_a_killed_parent(own: Workers) -> None:
    children = psutil.Process(own.process.pid).children()
    children[0].suspend()  # not even one that hangs
    own.process.kill()
    assert psutil.wait_procs(children, 10)[1] == []
    with pytest.raises(ConnectionRefusedError):
        own.connect()


@pytest.mark.parametrize("second_port", [False, True], ids=["addr", "grpc-addr"])
def test_a_port_in_use_is_noticed_before_anything_starts(
    services: "Services", empty_database: str, tmp_path: Path, second_port: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        options = ["--workers", "2", "--grpc-addr" if second_port else "--addr", address]
        process = ServerProcess(tmp_path, empty_database, services.encryption_key, options=options)
        assert process.wait() == 1
    assert process.log.startswith(f"Error: cannot listen on {address}")
    assert len(process.log.splitlines()) == 1
    with psycopg.connect(empty_database) as conn:
        assert conn.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_the_connections_to_the_database_are_divided(services: "Services", database: str, tmp_path: Path) -> None:
    with serving(settings_for(services, database, tmp_path, workers=4)) as server:
        assert server.resources.pool.max_size == 4


def test_workers_that_cannot_start_end_with_one_line(services: "Services", database: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    options = ["--workers", "2", "--cache-dir", str(tmp_path / "file" / "cache")]
    process = ServerProcess(tmp_path, database, services.encryption_key, options=options)
    assert process.wait() == 1
    assert re.fullmatch(r"Error: cannot use \S+ as the index cache: .*; choose another --cache-dir\n", process.log)


def test_one_worker_deletes_objects_for_all_and_another_one_takes_over(
    services: "Services", own: Workers, bucket: str
) -> None:
    s3 = services.s3
    store = {"endpoint": s3.endpoint, "bucket": bucket, "access_key": s3.access_key, "secret_key": s3.secret_key}
    assert http_request(own.url, "POST", "/api/bucket", {"name": "store", **store}).status == 201
    assert http_request(own.url, "POST", "/api/datas3t", {"name": "images", "bucket": "store"}).status == 204

    def delete_by_all() -> None:
        """Have every worker queue an object for deletion, and wait for less than the time between two sweeps."""
        with contextlib.ExitStack() as stack:
            for connection in own.connected_to_all(stack):
                upload = http_request(own.url, "POST", "/api/v1/upload-datarange", UPLOAD).json
                cancelled = {"datarange_upload_id": upload["datarange_upload_id"]}
                ask(connection, "POST", "/api/v1/upload-datarange/cancel", cancelled)
                assert status(connection) == 200
        with psycopg.connect(own.database, autocommit=True) as conn:
            wait_until(lambda: conn.execute(WAITING).fetchone() == (0,), 20, "the deletions")

    delete_by_all()
    (first,) = own.logged(REAPS)
    os.kill(psutil.Process(own.process.pid).children()[int(first) - 1].pid, signal.SIGKILL)
    wait_until(lambda: len(own.logged(REAPS)) == 2, what="another reaper")
    delete_by_all()
