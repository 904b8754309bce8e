"""One port for gRPC and HTTP/1.1: detected by the first bytes, relayed without loss, and no client can block it."""

import contextlib
import os
import resource
import socket
import ssl
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import grpc
import pytest

from datas3t import v1
from datas3t.server.front.calls.running import RunningCalls
from datas3t.server.front.edge import HTTP2_PREFACE, Edge, listen
from datas3t.server.front.rest.cross_site import CrossSite
from datas3t.server.front.rest.routes import Routes
from datas3t.server.front.rest.server import RestServer
from datas3t.server.front.tls import Certificates
from datas3t.server.settings import Address, SettingsError, Timeouts
from datas3t.server.telemetry.metrics import Metrics
from datas3t.v1.bucket_pb2_grpc import BucketServiceStub
from tests.support.certificates import Authority
from tests.support.front import LOCALHOST, RunningFront, read_all, running_front
from tests.support.stack import wait_until

_EMPTY_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"  # an HTTP/2 SETTINGS frame without any setting
_MAX_BUFFERED = 48 * 2**20  # bytes; more than the kernel and the edge may hold for a reader that does not read


Start = Callable[..., contextlib.AbstractContextManager[RunningFront]]


@pytest.fixture(params=["plain", "tls"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Start:
    """Return `running_front`, once without TLS and once with it."""
    if request.param == "plain":
        return running_front
    authority = Authority()
    return partial(running_front, tls=authority.pair(tmp_path), trusted=authority.write(tmp_path / "ca.pem"))


@pytest.fixture
def front(start: Start) -> Iterator[RunningFront]:
    with start() as running:
        yield running


@contextlib.contextmanager
def edge_to(unix: Path, timeouts: Timeouts, certificates: Certificates | None = None) -> Iterator[tuple[str, int]]:
    """Yield the address of an edge that relays to the unix socket."""
    edge = Edge(
        LOCALHOST,
        unix,
        RestServer(Routes([]), {}, Metrics(), RunningCalls(timeouts), timeouts, CrossSite(LOCALHOST)),
        timeouts,
        certificates=certificates,
    )
    edge.start()
    try:
        yield "127.0.0.1", edge.port
    finally:
        edge.close()


@pytest.fixture(params=["plain", "tls"])
def relayed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield both ends of a relayed connection, after the preface: the client's socket and the gRPC server's."""
    authority = Authority() if request.param == "tls" else None
    certificates = Certificates(authority.pair(tmp_path)) if authority else None
    with socket.socket(socket.AF_UNIX) as listening, contextlib.ExitStack() as stack:
        listening.bind(str(tmp_path / "rpc"))
        listening.listen()
        address = stack.enter_context(edge_to(tmp_path / "rpc", Timeouts(), certificates))
        client = stack.enter_context(socket.create_connection(address, 20))
        if authority:
            context = ssl.create_default_context(cadata=authority.pem.decode())
            client = stack.enter_context(context.wrap_socket(client, server_hostname="localhost"))
        client.sendall(HTTP2_PREFACE)
        grpc_end, _ = listening.accept()
        grpc_end.settimeout(20)
        with grpc_end:
            assert grpc_end.recv(len(HTTP2_PREFACE), socket.MSG_WAITALL) == HTTP2_PREFACE
            yield client, grpc_end


def receive(sock: socket.socket, size: int) -> bytes:
    """Return `size` bytes, or fewer if the connection ends before."""
    received = bytearray()
    while len(received) < size and (data := sock.recv(2**20)):
        received += data
    return bytes(received)


def test_grpc_and_http_are_served_on_the_same_port(front: RunningFront) -> None:
    with front.channel() as channel:
        BucketServiceStub(channel).AddBucket(v1.AddBucketRequest(name="x"))
    assert front.request("POST", "/api/v1/buckets", {"name": "x"}).status == 201


def test_the_preface_can_arrive_byte_by_byte(front: RunningFront) -> None:
    with front.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in HTTP2_PREFACE + _EMPTY_SETTINGS:
            sock.sendall(bytes([byte]))
        assert receive(sock, 9)[3] == 4, "grpcio responds with its own SETTINGS"


def test_bytes_that_begin_like_the_preface_but_differ_are_served_as_http(front: RunningFront) -> None:
    assert front.send_raw(b"PRI * HTTP/1.1\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.")


@pytest.mark.parametrize(
    "sent", [b"", HTTP2_PREFACE[:5], b"GET / HT"], ids=["nothing", "half a preface", "half a head"]
)
def test_a_connection_that_stalls_is_closed(start: Start, sent: bytes) -> None:
    with (
        start(timeouts=Timeouts(first_bytes=0.2, request_head=0.2)) as front,
        front.connect() as sock,
    ):
        sock.sendall(sent)
        assert read_all(sock) == b""


def test_a_head_that_arrives_slowly_does_not_extend_the_time_limit(start: Start) -> None:
    with (
        start(timeouts=Timeouts(request_head=0.5)) as front,
        front.connect() as sock,
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


@pytest.mark.parametrize("start", ["plain"], indirect=True)
def test_a_client_that_leaves_in_the_middle_of_the_preface_is_disconnected(front: RunningFront) -> None:
    assert front.send_raw(HTTP2_PREFACE[:20], half_close=True) == b""


def test_a_thousand_idle_connections_do_not_delay_calls(front: RunningFront) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 8192), hard))
    with contextlib.ExitStack() as idle:
        for _ in range(1000):
            idle.enter_context(front.connect())
        assert front.request("POST", "/api/v1/buckets", {"name": "x"}).status == 201
        with front.channel() as channel:
            BucketServiceStub(channel).AddBucket(v1.AddBucketRequest(name="x"), timeout=10)


def test_both_directions_carry_all_bytes_concurrently(relayed: tuple[socket.socket, socket.socket]) -> None:
    client, grpc_end = relayed
    up, down = os.urandom(_MAX_BUFFERED // 4), os.urandom(_MAX_BUFFERED // 4)
    with ThreadPoolExecutor(4) as pool:
        sends = [pool.submit(client.sendall, up), pool.submit(grpc_end.sendall, down)]
        received = pool.submit(receive, client, len(down)), pool.submit(receive, grpc_end, len(up))
        assert received[0].result(60) == down
        assert received[1].result(60) == up
        for send in sends:
            send.result(60)


@pytest.mark.parametrize("reader", [0, 1], ids=["a slow client", "a slow server"])
def test_a_reader_that_does_not_read_blocks_the_writer(
    relayed: tuple[socket.socket, socket.socket], reader: int
) -> None:
    slow, fast = relayed[reader], relayed[1 - reader]
    fast.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError, ssl.SSLWantWriteError):
        while sent < _MAX_BUFFERED:
            sent += fast.send(bytes(2**16))
            threading.Event().wait(0.0005)  # time for the edge to relay it
    assert sent < _MAX_BUFFERED, "the edge buffers without limit"
    fast.setblocking(True)
    with ThreadPoolExecutor(1) as pool:
        received = pool.submit(read_all, slow)
        if isinstance(fast, ssl.SSLSocket):
            sent += fast.send(bytes(2**16))  # the rest of a record that was begun
        fast.shutdown(socket.SHUT_WR)
        assert len(received.result(60)) == sent


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="only Linux lets a client delay acknowledgements")
def test_a_client_that_delays_its_acknowledgements_does_not_wait_for_small_packets(
    relayed: tuple[socket.socket, socket.socket],
) -> None:
    client, grpc_end = relayed
    waits: list[float] = []
    for _ in range(25):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
        grpc_end.sendall(b"first")
        assert receive(client, 5) == b"first"
        started = time.monotonic()
        grpc_end.sendall(b"second")
        assert receive(client, 6) == b"second"
        waits.append(time.monotonic() - started)
    assert statistics.median(waits) < 0.02, "the second packet waits for the acknowledgement of the first"


def test_accepted_connections_of_both_protocols_send_small_packets_at_once(front: RunningFront) -> None:
    with front.channel() as channel, front.connect() as sock:
        BucketServiceStub(channel).AddBucket(v1.AddBucketRequest(name="x"))
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(1)
        edge, rest = front.front._edge, front.front._rest
        accepted = [end.transport.get_extra_info("socket") for end in edge._relays._open]
        accepted += [each.transport.get_extra_info("socket") for each in rest._server.connections if each.transport]
        tcp = [each for each in accepted if each.family != socket.AF_UNIX]
        assert len(tcp) == 2
        assert all(each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for each in tcp)


@pytest.mark.parametrize("relayed", ["plain"], indirect=True)
def test_a_client_that_closed_its_sending_half_still_gets_the_response(
    relayed: tuple[socket.socket, socket.socket],
) -> None:
    client, grpc_end = relayed
    client.sendall(b"request")
    client.shutdown(socket.SHUT_WR)
    assert read_all(grpc_end) == b"request"
    grpc_end.sendall(b"response")
    grpc_end.close()
    assert read_all(client) == b"response"


def test_when_one_end_closes_the_other_is_closed(relayed: tuple[socket.socket, socket.socket]) -> None:
    client, grpc_end = relayed
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    client.close()  # SO_LINGER with 0 seconds makes it a reset
    assert read_all(grpc_end) == b""


def test_a_connection_is_closed_if_no_grpc_server_listens(tmp_path: Path) -> None:
    with edge_to(tmp_path / "missing", Timeouts()) as address, socket.create_connection(address, 20) as client:
        client.sendall(HTTP2_PREFACE)
        assert read_all(client) == b""


def test_an_empty_host_listens_on_all_interfaces_with_ipv4_and_ipv6() -> None:
    with running_front(Address("", 0)) as front:
        port = front.address[1]
        hosts = ["127.0.0.1", *(["::1"] if socket.has_dualstack_ipv6() else [])]
        for host in hosts:
            with socket.create_connection((host, port), 20) as sock:
                sock.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                assert b" 200 " in read_all(sock)
        assert front.front.url == f"http://127.0.0.1:{port}"


def test_a_host_name_is_bound_at_each_of_its_addresses() -> None:
    listening = listen(Address("localhost", 0))
    try:
        assert len({sock.getsockname()[1] for sock in listening}) == 1
        assert "127.0.0.1" in {sock.getsockname()[0] for sock in listening}
    finally:
        for sock in listening:
            sock.close()


def test_a_port_in_use_is_refused_with_advice(front: RunningFront) -> None:
    taken = Address("127.0.0.1", front.address[1])
    with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1:{taken.port}: the port is in use; choose"):
        listen(taken)
    with (
        pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1:{taken.port} for gRPC; choose"),
        running_front(grpc_address=taken),
    ):
        pass


def test_grpc_can_have_a_second_port() -> None:
    with running_front(grpc_address=LOCALHOST) as front:
        assert front.front.grpc_port != front.address[1]
        with grpc.insecure_channel(f"127.0.0.1:{front.front.grpc_port}") as channel:
            BucketServiceStub(channel).AddBucket(v1.AddBucketRequest(name="x"))
