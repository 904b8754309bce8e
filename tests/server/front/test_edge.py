"""One port for gRPC and HTTP/1.1: told apart by the first bytes, relayed without loss, and no client can tie it up."""

import contextlib
import os
import resource
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from datas3t import v1
from datas3t.server.front.calls.admission import Admission
from datas3t.server.front.edge import PREFACE, Edge, listen
from datas3t.server.front.rest.app import Rest
from datas3t.server.front.rest.routes import Routes
from datas3t.server.metrics import Metrics
from datas3t.server.settings import Address, Patience, SettingsError
from datas3t.v1.bucket_pb2_grpc import BucketServiceStub
from tests.support.front import HERE, Running, read_all, running_front
from tests.support.stack import wait_until

_NO_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"  # HTTP/2's frame of settings, without any
_MUCH = 48 * 2**20


@pytest.fixture
def front() -> Iterator[Running]:
    with running_front() as running:
        yield running


@contextlib.contextmanager
def edge_before(unix: Path, patience: Patience) -> Iterator[tuple[str, int]]:
    """An edge that relays to whoever listens at `unix`."""
    edge = Edge(HERE, unix, Rest(Routes([]), {}, Metrics(), Admission(), patience), patience)
    edge.start()
    try:
        yield "127.0.0.1", edge.port
    finally:
        edge.close()


@pytest.fixture
def relayed(tmp_path: Path) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a relayed connection: the client's, which has sent the preface, and the one that took it."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "rpc"))
        listening.listen()
        with edge_before(tmp_path / "rpc", Patience()) as address, socket.create_connection(address, 20) as client:
            client.sendall(PREFACE)
            far, _ = listening.accept()
            far.settimeout(20)
            with far:
                assert far.recv(len(PREFACE), socket.MSG_WAITALL) == PREFACE
                yield client, far


def receive(sock: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size and (data := sock.recv(2**20)):
        found += data
    return bytes(found)


def test_grpc_and_http_are_served_on_the_same_port(front: Running) -> None:
    with front.channel() as channel:
        BucketServiceStub(channel).AddBucket(v1.AddBucketRequest(name="x"))
    assert front.ask("POST", "/api/v1/buckets", {"name": "x"}).status == 201


def test_a_preface_may_arrive_byte_by_byte(front: Running) -> None:
    with socket.create_connection(front.address, 20) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in PREFACE + _NO_SETTINGS:
            sock.sendall(bytes([byte]))
        assert receive(sock, 9)[3] == 4, "grpcio answers with its own settings"


def test_what_begins_like_the_preface_and_is_none_is_http(front: Running) -> None:
    assert front.talk(b"PRI * HTTP/1.1\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.")


@pytest.mark.parametrize("sent", [b"", PREFACE[:5], b"GET / HT"], ids=["nothing", "half a preface", "half a head"])
def test_a_connection_that_stalls_is_closed(sent: bytes) -> None:
    with (
        running_front(patience=Patience(first_bytes=0.2, head=0.2)) as front,
        socket.create_connection(front.address, 20) as sock,
    ):
        sock.sendall(sent)
        assert read_all(sock) == b""


def test_a_slow_head_does_not_outlive_the_limit_by_dripping() -> None:
    with (
        running_front(patience=Patience(head=0.5)) as front,
        socket.create_connection(front.address, 20) as sock,
    ):
        sock.settimeout(0.05)
        sock.sendall(b"GET /healthz HTTP/1.1\r\n")

        def closed() -> bool:
            with contextlib.suppress(TimeoutError):
                try:
                    sock.sendall(b"X-Slow: 1\r\n")
                    return sock.recv(1) == b""
                except ConnectionError:
                    return True
            return False

        wait_until(closed, 10, "the end of the connection")


def test_a_client_that_leaves_half_way_through_the_preface_is_forgotten(front: Running) -> None:
    assert front.talk(PREFACE[:20], then_stop=True) == b""


def test_a_thousand_idle_connections_keep_nobody_waiting(front: Running) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 8192), hard))
    with contextlib.ExitStack() as idle:
        for _ in range(1000):
            idle.enter_context(socket.create_connection(front.address, 20))
        assert front.ask("POST", "/api/v1/buckets", {"name": "x"}).status == 201
        with front.channel() as channel:
            BucketServiceStub(channel).AddBucket(v1.AddBucketRequest(name="x"), timeout=10)


def test_all_bytes_arrive_in_both_directions_at_once(relayed: tuple[socket.socket, socket.socket]) -> None:
    client, far = relayed
    up, down = os.urandom(_MUCH // 4), os.urandom(_MUCH // 4)
    with ThreadPoolExecutor(4) as pool:
        sends = [pool.submit(client.sendall, up), pool.submit(far.sendall, down)]
        received = pool.submit(receive, client, len(down)), pool.submit(receive, far, len(up))
        assert received[0].result(60) == down
        assert received[1].result(60) == up
        for send in sends:
            send.result(60)


@pytest.mark.parametrize("reader", [0, 1], ids=["a slow client", "a slow server"])
def test_a_reader_that_does_not_read_stops_the_writer(
    relayed: tuple[socket.socket, socket.socket], reader: int
) -> None:
    slow, fast = relayed[reader], relayed[1 - reader]
    fast.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while sent < _MUCH:
            sent += fast.send(bytes(2**16))
            threading.Event().wait(0.0005)  # the edge moves it on
    assert sent < _MUCH, "the edge buffers without end"
    fast.setblocking(True)
    fast.shutdown(socket.SHUT_WR)
    assert len(read_all(slow)) == sent


def test_a_client_that_has_said_all_still_hears_the_answer(relayed: tuple[socket.socket, socket.socket]) -> None:
    client, far = relayed
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    assert read_all(far) == b"question"
    far.sendall(b"answer")
    far.close()
    assert read_all(client) == b"answer"


def test_an_end_that_goes_takes_the_other_with_it(relayed: tuple[socket.socket, socket.socket]) -> None:
    client, far = relayed
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    client.close()  # with a reset
    assert read_all(far) == b""


def test_without_a_grpc_server_behind_it_the_connection_is_closed(tmp_path: Path) -> None:
    with edge_before(tmp_path / "nobody", Patience()) as address, socket.create_connection(address, 20) as client:
        client.sendall(PREFACE)
        assert read_all(client) == b""


def test_no_host_means_all_interfaces_of_both_kinds() -> None:
    with running_front(Address("", 0)) as front:
        port = front.address[1]
        hosts = ["127.0.0.1", *(["::1"] if socket.has_dualstack_ipv6() else [])]
        for host in hosts:
            with socket.create_connection((host, port), 20) as sock:
                sock.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                assert b" 200 " in read_all(sock)
        assert front.front.url == f"http://127.0.0.1:{port}"


def test_a_name_is_bound_at_each_of_its_addresses() -> None:
    listening = listen(Address("localhost", 0))
    try:
        assert len({sock.getsockname()[1] for sock in listening}) == 1
        assert "127.0.0.1" in {sock.getsockname()[0] for sock in listening}
    finally:
        for sock in listening:
            sock.close()


def test_a_port_in_use_is_a_clear_error(front: Running) -> None:
    taken = Address("127.0.0.1", front.address[1])
    with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1:{taken.port}: the port is in use; choose"):
        listen(taken)
    with (
        pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1:{taken.port} for gRPC; choose"),
        running_front(grpc_address=taken),
    ):
        pass


def test_grpc_may_have_a_port_of_its_own() -> None:
    with running_front(grpc_address=HERE) as front:
        assert front.front.grpc_port != front.address[1]
        with grpc.insecure_channel(f"127.0.0.1:{front.front.grpc_port}") as channel:
            BucketServiceStub(channel).AddBucket(v1.AddBucketRequest(name="x"))
