"""TLS on both ports: what the client offers decides, files are read again, and no client can block the handshakes."""

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from datas3t import v1
from datas3t.server.front import tls
from datas3t.server.front.edge import HTTP2_PREFACE
from datas3t.server.settings import SettingsError, Timeouts, TlsFiles
from datas3t.v1.bucket_pb2_grpc import BucketServiceStub
from tests.support.certificates import Authority, new_key
from tests.support.front import LOCALHOST, RunningFront, read_all, running_front
from tests.support.stack import wait_until

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Site:
    """A front with TLS on both ports, and its certificate's files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority()
        self.trusted = self.authority.write(folder / "ca.pem")
        self.files = self.authority.pair(folder)
        self.front: RunningFront

    def context(self, *alpn: str) -> ssl.SSLContext:
        """Return what a client needs that offers these protocols."""
        context = ssl.create_default_context(cafile=self.trusted)
        if alpn:
            context.set_alpn_protocols(alpn)
        return context

    def connect(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        plain = socket.create_connection(self.front.address, timeout=20)
        return context.wrap_socket(plain, server_hostname="localhost")

    def serial(self, port: int | None = None) -> str:
        """Return the number of the certificate that a new connection is shown."""
        plain = socket.create_connection(("127.0.0.1", port or self.front.address[1]), timeout=20)
        with self.context("h2").wrap_socket(plain, server_hostname="localhost") as sock:
            return str((sock.getpeercert() or {})["serialNumber"])

    def call(self, port: int, credentials: grpc.ChannelCredentials | None = None) -> None:
        """Make a call over gRPC, on a new connection."""
        credentials = credentials or grpc.ssl_channel_credentials(self.authority.pem)
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(f"localhost:{port}", credentials, options=options) as channel:
            BucketServiceStub(channel).AddBucket(v1.AddBucketRequest(name="x"), timeout=20)

    @property
    def ports(self) -> list[int]:
        """The one port, and that for gRPC alone."""
        assert self.front.front.grpc_port
        return [self.front.address[1], self.front.front.grpc_port]


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "_LOOK_SECONDS", 0.05)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    with running_front(grpc_address=LOCALHOST, tls=site.files, trusted=site.trusted) as site.front:
        yield site


@contextlib.contextmanager
def impatient(folder: Path) -> Iterator[Site]:
    """Yield a front that gives clients little time."""
    site = Site(folder)
    timeouts = Timeouts(first_bytes=0.3)
    with running_front(grpc_address=LOCALHOST, timeouts=timeouts, tls=site.files, trusted=site.trusted) as site.front:
        yield site


def test_both_ports_speak_tls(site: Site) -> None:
    for port in site.ports:
        site.call(port)
    assert site.front.request("GET", "/healthz").json == {"status": "alive"}
    assert site.front.front.url.startswith("https://")


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["h2", "http/1.1"], "http/1.1"),
        (["http/1.1", "h2"], "http/1.1"),
        (["h2"], "h2"),
        (["grpc-exp", "h2"], "h2"),
        (["http/1.1"], "http/1.1"),
        (["http/1.0"], None),
        ([], None),
    ],
    ids=lambda value: ",".join(value) or "nothing" if isinstance(value, list) else str(value),
)
def test_http2_is_chosen_only_by_clients_that_offer_it_alone(
    site: Site, offered: list[str], chosen: str | None
) -> None:
    with site.connect(site.context(*offered)) as sock:
        assert sock.selected_alpn_protocol() == chosen
        if chosen == "h2":
            sock.sendall(HTTP2_PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
            assert sock.recv(9)[3] == 4, "grpcio responds with its SETTINGS"
        else:
            sock.sendall(HEALTH)
            assert b"alive" in read_all(sock)


@pytest.mark.parametrize(
    ("offered", "sent"), [("h2", HEALTH), ("http/1.1", HTTP2_PREFACE)], ids=["http after h2", "h2 after http"]
)
def test_what_was_chosen_counts_and_not_what_is_sent(site: Site, offered: str, sent: bytes) -> None:
    with site.connect(site.context(offered)) as sock:
        sock.sendall(sent)
        assert b"200 OK" not in read_all(sock)


@pytest.mark.parametrize("offered", [[], ["h2"]], ids=["no alpn", "h2"])
def test_the_first_bytes_may_come_one_by_one(site: Site, offered: list[str]) -> None:
    with site.connect(site.context(*offered)) as sock:
        for byte in HTTP2_PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00":
            sock.sendall(bytes([byte]))
        assert sock.recv(9)[3] == 4


@pytest.mark.parametrize(("version", "works"), [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
@pytest.mark.filterwarnings("ignore:.*TLSv1_1:DeprecationWarning")
def test_versions_before_1_2_are_refused(site: Site, version: str, works: bool) -> None:
    context = site.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with contextlib.nullcontext() if works else pytest.raises((ssl.SSLError, ConnectionError)):
        site.connect(context).close()


@pytest.mark.parametrize("sent", [HEALTH, HTTP2_PREFACE], ids=["http", "gRPC"])
def test_a_client_without_tls_is_told_so(site: Site, sent: bytes) -> None:
    with socket.create_connection(site.front.address, 20) as sock:
        sock.sendall(sent)
        answer = read_all(sock)
    assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert b'"message": "this port speaks TLS; write https:// in place of http://"' in answer


# Files that change


def replaced(site: Site, folder: str = "new") -> TlsFiles:
    """Put another certificate of the same authority into the place of the front's, each file in one step."""
    (site.folder / folder).mkdir()
    new = site.authority.pair(site.folder / folder)
    os.replace(new.key, site.files.key)
    os.replace(new.cert, site.files.cert)
    return new


def test_files_that_change_are_read_again_and_running_connections_stay(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    before = [site.serial(port) for port in site.ports]
    assert before[0] == before[1]
    with site.connect(site.context()) as running, caplog.at_level("INFO", "datas3t.server.front.tls"):
        replaced(site)
        for port in site.ports:
            wait_until(lambda port=port: site.serial(port) not in before, 20, "the new certificate")  # type: ignore[misc]
            site.call(port)
        running.sendall(HEALTH)
        assert b"alive" in read_all(running)
    assert "the TLS certificate was read again; it is valid until 2" in caplog.text


@pytest.mark.parametrize("broken", ["garbage", "another key", "missing"])
def test_files_that_are_broken_keep_what_was_read_before(
    site: Site, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    before = site.serial()
    if broken == "garbage":
        site.files.cert.write_bytes(b"-----BEGIN CERTIFICATE-----\nsecret\n-----END CERTIFICATE-----\n")
    elif broken == "another key":
        (site.folder / "other").mkdir()
        os.replace(site.authority.pair(site.folder / "other").key, site.files.key)
    else:
        site.files.key.unlink()
    wait_until(lambda: "stays in use" in caplog.text, 20, "the warning")
    assert [site.serial(port) for port in site.ports] == [before, before]
    assert caplog.text.count("stays in use") == 1
    assert "BEGIN" not in caplog.text
    # When they are right again, they are used.
    site.files.key.unlink(missing_ok=True)
    replaced(site)
    wait_until(lambda: site.serial() != before, 20, "the new certificate")


def test_a_link_that_leads_elsewhere_counts_as_a_change(tmp_path: Path) -> None:
    """As the secrets of Kubernetes change."""
    site = Site(tmp_path)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    site.authority.pair(tmp_path / "one")
    site.authority.pair(tmp_path / "two")
    (tmp_path / "data").symlink_to("one")
    files = TlsFiles(tmp_path / "data" / "localhost.crt", tmp_path / "data" / "localhost.key")
    with running_front(tls=files, trusted=site.trusted) as site.front:
        before = site.serial()
        (tmp_path / "data-new").symlink_to("two")
        os.replace(tmp_path / "data-new", tmp_path / "data")
        wait_until(lambda: site.serial() != before, 20, "the new certificate")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: files.cert.unlink(), r"localhost\.crt cannot be read: No such file.*; correct --tls-cert"),
        (lambda files: files.key.write_text("hush"), r"localhost\.key has no private key in PEM format; correct"),
        (lambda files: files.cert.write_text("hush"), r"localhost\.crt has no certificate in PEM format; correct"),
        (lambda files: files.key.write_bytes(new_key(b"hush")), r"has a passphrase, which a server cannot ask for"),
        (lambda files: files.key.write_bytes(new_key()), r"localhost\.key is not that of the certificate in"),
    ],
    ids=["missing", "no key", "no certificate", "passphrase", "another key"],
)
def test_files_that_cannot_be_used_are_an_error_at_the_start(
    tmp_path: Path, change: Callable[[TlsFiles], object], message: str
) -> None:
    files = Authority().pair(tmp_path)
    change(files)
    with pytest.raises(SettingsError, match=message) as caught, running_front(tls=files):
        pass
    assert "\n" not in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("given", [(0,), (1,), (2,), (0, 2)], ids=str)
def test_a_certificate_needs_its_key(given: tuple[int, ...]) -> None:
    with pytest.raises(SettingsError, match="TLS needs a certificate and its key; set --tls-cert and --tls-key"):
        TlsFiles.of(*(Path("x") if place in given else None for place in range(3)))


# Certificates of clients


def test_with_a_ca_for_clients_only_those_with_its_certificates_connect(tmp_path: Path) -> None:
    site = Site(tmp_path)
    files = site.files._replace(client_ca=site.trusted)
    other = Authority("another authority")
    (tmp_path / "other").mkdir()
    pairs = {"known": site.authority.pair(tmp_path, "client"), "unknown": other.pair(tmp_path / "other", "client")}
    with running_front(grpc_address=LOCALHOST, tls=files, trusted=site.trusted) as site.front:
        for port in site.ports:
            site.call(port, credentials(site, pairs["known"]))
            for refused in (None, credentials(site, pairs["unknown"])):
                with pytest.raises(grpc.RpcError):
                    site.call(port, refused)
        context = site.context()
        context.load_cert_chain(pairs["known"].cert, pairs["known"].key)
        with site.connect(context) as sock:
            sock.sendall(HEALTH)
            assert b"alive" in read_all(sock)
        with site.connect(site.context()) as sock, pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            sock.recv(1)


def credentials(site: Site, pair: TlsFiles) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(site.authority.pem, pair.key.read_bytes(), pair.cert.read_bytes())


# Clients that mean harm


def hello(site: Site) -> bytes:
    """Return the first message of a handshake."""
    outgoing = ssl.MemoryBIO()
    handshake = site.context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        handshake.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("part", ["nothing", "one byte", "half a message", "a whole message"])
def test_a_handshake_that_stalls_is_ended(tmp_path: Path, part: str) -> None:
    with impatient(tmp_path) as site:
        message = hello(site)
        sizes = {"nothing": 0, "one byte": 1, "half a message": len(message) // 2, "a whole message": len(message)}
        for port in site.ports:
            with socket.create_connection(("127.0.0.1", port), 20) as sock:
                sock.sendall(message[: sizes[part]])
                read_all(sock)  # until the server closes the connection
        assert site.front.request("GET", "/healthz").status == 200


@pytest.mark.parametrize(
    "sent", [b"\x16" + bytes(300), b"\x16\x03\x01\x02\x00" + os.urandom(600), b"\x00", b"\xff" * 99]
)
def test_garbage_ends_its_connection_alone(site: Site, sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(20):
        with socket.create_connection(site.front.address, 20) as sock:
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
            read_all(sock)
    assert site.front.request("GET", "/healthz").status == 200
    assert caplog.text == ""


def test_when_many_handshakes_are_under_way_the_oldest_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "_MOST_HANDSHAKES", 20)
    message = hello(site)
    with contextlib.ExitStack() as stack:
        stalled = [stack.enter_context(socket.create_connection(site.front.address, 20)) for _ in range(40)]
        for sock in stalled:
            sock.sendall(message[:50])
        assert site.front.request("GET", "/healthz").status == 200
        site.call(site.ports[0])
        for sock in stalled[:20]:
            assert read_all(sock) == b""
        for sock in stalled[30:]:
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(1)


def test_stalled_handshakes_and_half_open_connections_do_not_delay_calls(site: Site) -> None:
    message = hello(site)
    with contextlib.ExitStack() as stack:
        for number in range(300):
            sock = stack.enter_context(socket.create_connection(site.front.address, 20))
            sock.sendall(message[: number % len(message)])
        assert site.front.request("POST", "/api/v1/buckets", {"name": "x"}).status == 201
        for port in site.ports:
            site.call(port)


def test_a_large_response_arrives_whole_before_the_connection_is_closed(site: Site) -> None:
    with ThreadPoolExecutor(4) as pool:
        bodies = [pool.submit(site.front.request, "GET", "/openapi.json") for _ in range(16)]
        sizes = {len(each.result(20).body) for each in bodies}
    assert len(sizes) == 1
    assert sizes.pop() > 30_000


def test_the_thread_that_looks_at_the_files_ends_with_the_front(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with running_front(tls=site.files, trusted=site.trusted):
        assert [each for each in threading.enumerate() if each.name == "certificates"]
    wait_until(
        lambda: not [each for each in threading.enumerate() if each.name == "certificates"], 10, "the end of the thread"
    )
