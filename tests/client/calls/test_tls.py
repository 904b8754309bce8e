"""TLS to the server, and which certificates are trusted."""

import contextlib
import datetime
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from datas3t import v1
from datas3t.client import Bucket, Client, FileError, InvalidArgument, Unavailable
from datas3t.server.settings import TlsFiles
from tests.support.canned import CannedResponse, canned_server
from tests.support.certificates import Authority
from tests.support.front import LOCALHOST, RunningFront, running_front


def one_bucket(request: v1.ListBucketsRequest, context: grpc.ServicerContext) -> v1.ListBucketsResponse:
    return v1.ListBucketsResponse(buckets=[v1.Bucket(name="one")])


LIST_BUCKETS = grpc.unary_unary_rpc_method_handler(
    one_bucket,
    request_deserializer=v1.ListBucketsRequest.FromString,
    response_serializer=v1.ListBucketsResponse.SerializeToString,
)


def certificate() -> tuple[bytes, bytes]:
    """Return the key and the certificate of a self-signed certificate for localhost, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, signed.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[str]:
    """Return the URL of a server with TLS; its certificate is `ca.pem` in the test's folder."""
    private, public = certificate()
    (tmp_path / "ca.pem").write_bytes(public)
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("datas3t.v1.BucketService", {"ListBuckets": LIST_BUCKETS})]
    )
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([(private, public)]))
    server.start()
    yield f"https://localhost:{port}"
    server.stop(None)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables that name certificates."""
    for name in ("SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "AWS_CA_BUNDLE"])
def test_https_uses_tls_and_trusts_the_certificates_that_a_variable_names(
    tls_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, str(tmp_path / "ca.pem"))
    with Client(tls_server) as client:
        assert client.list_buckets() == [Bucket("one", "", "", "")]


def test_an_untrusted_certificate_is_refused(tls_server: str) -> None:
    with Client(tls_server) as client, pytest.raises(Unavailable, match=r"localhost:\d+ is not trusted; name the file"):
        client.list_buckets()


def test_the_error_names_the_variable_whose_certificates_are_trusted(
    tls_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.pem").write_bytes(certificate()[1])
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
    with Client(tls_server) as client, pytest.raises(Unavailable, match=r"other\.pem, named by SSL_CERT_FILE"):
        client.list_buckets()


# A real server with TLS

CLIENT_VARIABLES = ("DATAS3T_CA_FILE", "DATAS3T_CLIENT_CERT", "DATAS3T_CLIENT_KEY")


class Site:
    """Certificates of one authority, and fronts that use them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority("one")
        self.ca = str(self.authority.write(folder / "one.pem"))

    @contextlib.contextmanager
    def serving(self, tls: TlsFiles | None = None) -> Iterator[RunningFront]:
        tls = tls or self.authority.pair(self.folder)
        with running_front(grpc_address=LOCALHOST, tls=tls, trusted=Path(self.ca)) as front:
            yield front


@pytest.fixture
def tls_site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture(autouse=True)
def _no_client_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CLIENT_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def buckets(url: str, ca_file: str | None = None) -> int:
    """Return how many buckets a server names, without a second attempt."""
    with Client(url, ca_file=ca_file) as client:
        client.connection.interceptor.retries = False
        return len(client.list_buckets())


def on_localhost(front: RunningFront, port: int | None = None, scheme: str = "https") -> str:
    return f"{scheme}://localhost:{port or front.address[1]}"


@pytest.mark.parametrize("named", ["argument", "DATAS3T_CA_FILE", "SSL_CERT_FILE"])
def test_the_ca_of_a_server_can_be_named_in_three_ways(
    tls_site: Site, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    if named != "argument":
        monkeypatch.setenv(named, tls_site.ca)
    with tls_site.serving() as front:
        for port in (front.address[1], front.front.grpc_port):
            assert buckets(on_localhost(front, port), tls_site.ca if named == "argument" else None) == 6


def test_the_ca_and_the_client_certificate_are_pickled_as_paths(
    tls_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tls_site.authority.pair(tls_site.folder, "worker")
    tls = tls_site.authority.pair(tls_site.folder)._replace(client_ca=Path(tls_site.ca))
    monkeypatch.setenv("DATAS3T_CLIENT_CERT", str(own.cert))
    monkeypatch.setenv("DATAS3T_CLIENT_KEY", str(own.key))
    with tls_site.serving(tls) as front, Client(on_localhost(front), ca_file=tls_site.ca) as client:
        pickled = pickle.dumps(client)
        assert b"PRIVATE KEY" not in pickled
        code = "import pickle, sys; print(len(pickle.load(sys.stdin.buffer).list_buckets()))"
        environment = {name: value for name, value in os.environ.items() if name not in CLIENT_VARIABLES}
        done = subprocess.run(
            [sys.executable, "-c", code], input=pickled, capture_output=True, timeout=60, check=True, env=environment
        )
    assert done.stdout.strip() == b"6"


def test_what_is_wrong_with_a_certificate_is_told_in_one_line(tls_site: Site) -> None:
    other = str(Authority("another").write(tls_site.folder / "another.pem"))
    same_name = str(Authority("one").write(tls_site.folder / "same.pem"))
    with tls_site.serving() as front:
        url = on_localhost(front)
        refused(
            url, other, f"the certificate of the server at {url} is not trusted; trusted are those in {other}; name"
        )
        refused(url, same_name, f"the certificate of the server at {url} is not trusted; trusted are those in")
        url = front.front.url
        refused(url, tls_site.ca, f"the certificate of the server at {url} is not for this name; use a name")
    with tls_site.serving(tls_site.authority.pair(tls_site.folder, valid=-datetime.timedelta(hours=1))) as front:
        url = on_localhost(front)
        refused(url, tls_site.ca, f"the certificate of the server at {url} has expired; have it renewed")


def test_http_and_https_that_are_mixed_up_are_told_in_one_line(tls_site: Site) -> None:
    with tls_site.serving() as front:
        url = on_localhost(front, scheme="http")
        refused(url, None, f"the server at {url} speaks TLS; write https://")
        url = on_localhost(front, front.front.grpc_port, "http")
        refused(url, None, f"what responds at {url} closes the connection at once; if the port speaks TLS, write https")
    with running_front() as front:
        url = on_localhost(front)
        refused(url, tls_site.ca, f"TLS fails at {url}; if the port speaks plain HTTP, write http://")


def test_a_client_certificate_that_is_missing_or_unknown_is_told_in_one_line(
    tls_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tls_site.folder / "foreign").mkdir()
    foreign = Authority("another").pair(tls_site.folder / "foreign", "worker")
    own = tls_site.authority.pair(tls_site.folder, "worker")
    tls = tls_site.authority.pair(tls_site.folder)._replace(client_ca=Path(tls_site.ca))

    def use(pair: TlsFiles) -> None:
        monkeypatch.setenv("DATAS3T_CLIENT_CERT", str(pair.cert))
        monkeypatch.setenv("DATAS3T_CLIENT_KEY", str(pair.key))

    with tls_site.serving(tls) as front:
        assert front.front.grpc_port
        urls = [on_localhost(front), on_localhost(front, front.front.grpc_port)]
        for url in urls:
            refused(url, tls_site.ca, "DATAS3T_CLIENT_CERT")
        use(foreign)
        for url in urls:
            refused(url, tls_site.ca, "DATAS3T_CLIENT_CERT")
        use(own)
        assert [buckets(url, tls_site.ca) for url in urls] == [6, 6]


def refused(url: str, ca_file: str | None, words: str) -> None:
    with pytest.raises(Unavailable) as caught:
        buckets(url, ca_file)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "words"),
    [("DATAS3T_CLIENT_CERT", "has no certificate in PEM"), ("DATAS3T_CLIENT_KEY", "has no private key in PEM")],
)
def test_client_certificates_that_cannot_be_used_are_an_error_that_does_not_show_them(
    tls_site: Site, monkeypatch: pytest.MonkeyPatch, variable: str, words: str
) -> None:
    own = tls_site.authority.pair(tls_site.folder, "worker")
    monkeypatch.setenv("DATAS3T_CLIENT_CERT", str(own.cert))
    with pytest.raises(InvalidArgument, match="a client certificate needs its key; set DATAS3T_CLIENT_CERT and"):
        Client("https://localhost")
    monkeypatch.setenv("DATAS3T_CLIENT_KEY", str(own.key))
    wrong = tls_site.folder / "wrong.pem"
    wrong.write_text("hush")
    monkeypatch.setenv(variable, str(wrong))
    with pytest.raises(FileError, match=f"wrong.pem, named by {variable}, {words}") as caught:
        buckets("https://localhost", tls_site.ca)
    assert "hush" not in str(caught.value)


# Other servers

_LIST = """
import sys
from datas3t.client import Client, Unavailable
with Client(sys.argv[1]) as client:
    try:
        client.list_buckets()
    except Unavailable as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("scheme", "words"),
    [("https", "TLS fails at {}; if the port speaks plain HTTP, write http://"), ("http", "{} speaks HTTP/1 only")],
)
def test_a_server_that_speaks_something_else_is_told_in_one_line(scheme: str, words: str) -> None:
    with canned_server(lambda _: CannedResponse(400)) as (http1, _):
        url = http1.replace("http:", f"{scheme}:")
        done = subprocess.run(
            [sys.executable, "-c", _LIST, url], capture_output=True, text=True, timeout=60, check=True
        )
    assert words.format(url) in done.stdout
    assert done.stdout.count("\n") == 1
    assert done.stderr == "", "gRPC prints nothing"


def test_the_error_for_a_missing_certificate_file_contains_its_path(
    tls_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with Client(tls_server) as client, pytest.raises(FileError, match="/nowhere/ca"):
        client.list_buckets()
