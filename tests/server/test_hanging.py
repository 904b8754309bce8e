"""A database that hangs, and the end of a process in which everything hangs."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.server.test_slow_s3 import add_request, send_and_leave_open
from tests.support.freezing import Freezable, freezable
from tests.support.front import http_request
from tests.support.serving import serving, settings_for
from tests.support.stack import signal_another_thread, tied, wait_until
from tests.support.trickling import trickling_server

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

_DRAIN = 1
_RUN = """
import sys
from datetime import timedelta
from pathlib import Path
from datas3t.server.app.process import run
from datas3t.server.settings import Address, Settings
url, key, folder, port, drain = sys.argv[1:]
settings = Settings(url, key, Path(folder), Address("127.0.0.1", int(port)), drain=timedelta(seconds=int(drain)))
sys.exit(run(settings))
"""

_HANGING_STOP = """
import threading
from datas3t.server.app.server import Server
Server.stop = lambda server: threading.Event().wait()
"""


@pytest.fixture
def relayed(database: str) -> Iterator[Freezable]:
    with freezable(database) as relay:
        yield relay


def health_of(channel: grpc.Channel) -> Any:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status


def test_liveness_depends_on_nothing_and_readiness_follows_a_database_that_hangs(
    services: "Services", relayed: Freezable, tmp_path: Path
) -> None:
    with (
        serving(settings_for(services, relayed.url, tmp_path)) as server,
        grpc.insecure_channel(server.url.removeprefix("http://")) as channel,
    ):
        assert http_request(server.url, "GET", "/readyz").status == 200
        assert health_of(channel) == health_pb2.HealthCheckResponse.SERVING
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watched = stub.Watch(health_pb2.HealthCheckRequest())
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        relayed.freeze()
        try:
            # Scrapes pile up, and take nothing from the other pages.
            for _ in range(8):
                send_get(server.url, "/metrics")
            wait_until(lambda: http_request(server.url, "GET", "/readyz").status == 503, 5, "the end of readiness")
            assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert health_of(channel) == health_pb2.HealthCheckResponse.NOT_SERVING
            started = time.monotonic()
            assert http_request(server.url, "GET", "/healthz").status == 200
            assert time.monotonic() - started < 0.5
            page = http_request(server.url, "GET", "/metrics")
            assert time.monotonic() - started < 5
            assert b"\ndatas3t_build_info" in page.body
            assert b"\ndatas3t_deletions_due" not in page.body
        finally:
            relayed.thaw()
        wait_until(lambda: http_request(server.url, "GET", "/readyz").status == 200, 5, "readiness")
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        watched.cancel()


def send_get(url: str, path: str) -> None:
    """Send a request, and do not wait for the response."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), 20)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    connection.detach()


@pytest.mark.timing
@pytest.mark.parametrize("database_hangs", [False, True])
def test_sigterm_ends_the_process_in_time_whatever_hangs(
    services: "Services", relayed: Freezable, tmp_path: Path, *, database_hangs: bool
) -> None:
    from datas3t.embedded.ports import free_ports

    (port,) = free_ports(1)
    arguments = [relayed.url, services.encryption_key, str(tmp_path), str(port), str(_DRAIN)]
    process = subprocess.Popen(tied([sys.executable, "-c", _RUN, *arguments]), stderr=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}"
    with process, trickling_server() as slow:
        wait_until(lambda: is_up(url), 30, "the server")
        connections = [send_and_leave_open(url, add_request(slow, number)) for number in range(40)]
        wait_until(lambda: slow.open >= 40, 20, "the calls to S3")
        if database_hangs:
            relayed.freeze()
            connections.append(send_and_leave_open(url, add_request(slow, 1000)))
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(30) == 1
            assert time.monotonic() - started < _DRAIN + 5
        finally:
            process.kill()
            relayed.thaw()
            for connection in connections:
                connection.close()
        assert process.stderr
        log = process.stderr.read()
        assert "stopped before all running calls ended" in log
        assert "Traceback" not in log


@pytest.mark.timing
def test_sigterm_ends_the_process_in_time_if_stopping_hangs(
    services: "Services", database: str, tmp_path: Path
) -> None:
    from datas3t.embedded.ports import free_ports

    (port,) = free_ports(1)
    arguments = [database, services.encryption_key, str(tmp_path), str(port), str(_DRAIN)]
    process = subprocess.Popen(tied([sys.executable, "-c", _HANGING_STOP + _RUN, *arguments]), stderr=subprocess.PIPE)
    try:
        wait_until(lambda: is_up(f"http://127.0.0.1:{port}"), 30, "the server")
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
        assert process.returncode == 1
        assert time.monotonic() - started < _DRAIN + 5
        assert b"Traceback" not in log
    finally:
        process.kill()
        process.communicate()


@pytest.mark.timing
def test_sigterm_ends_a_start_that_hangs(services: "Services", relayed: Freezable, tmp_path: Path) -> None:
    from datas3t.embedded.ports import free_ports

    relayed.freeze()
    arguments = [relayed.url, services.encryption_key, str(tmp_path), str(free_ports(1)[0]), "1"]
    process = subprocess.Popen(tied([sys.executable, "-c", _RUN, *arguments]), stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_catching_sigterm(process.pid), 20, "the handler of signals")
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 1
        assert time.monotonic() - started < 1 + 5
    finally:
        process.kill()
        relayed.thaw()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_any_thread_stops_the_server(
    services: "Services", database: str, tmp_path: Path, signum: signal.Signals
) -> None:
    from datas3t.embedded.ports import free_ports

    (port,) = free_ports(1)
    arguments = [database, services.encryption_key, str(tmp_path), str(port), "1"]
    process = subprocess.Popen(tied([sys.executable, "-c", _RUN, *arguments]), stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_up(f"http://127.0.0.1:{port}"), 30, "the server")
        signal_another_thread(process.pid, signum)
        assert process.wait(30) == 0
    finally:
        process.kill()


def is_up(url: str) -> bool:
    try:
        return http_request(url, "GET", "/healthz").status == 200
    except OSError:
        return False


def is_catching_sigterm(pid: int) -> bool:
    """Return whether the process has installed a handler for SIGTERM, as the kernel says."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) & (1 << (signal.SIGTERM - 1)))
