"""TLS to the server, and which certificates are trusted."""

import datetime
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
from datas3t.client import Bucket, Client, FileError, Unavailable
from tests.support.canned import CannedResponse, canned_server


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
