"""Tests of the engine over TLS and through a proxy: which certificates it accepts, and what forks do to sessions."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from datas3t.transport import Engine, Request, TransferError, trust
from tests.client.calls.test_tls import certificate
from tests.support.httpd import Httpd, Pattern, etag_of, httpd
from tests.transport.test_processes import run_python

SIZE = 1 << 20
VARIABLES = ("SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """Return the path of the file with the certificate of `server`."""
    return tmp_path / "ca.pem"


@pytest.fixture
def server(tmp_path: Path, authority: Path) -> Iterator[Httpd]:
    """Yield a server with TLS."""
    private, public = certificate()
    authority.write_bytes(public)
    both = tmp_path / "both.pem"
    both.write_bytes(private + public)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    with httpd({"/a": Pattern(SIZE)}, context) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables that name certificates."""
    for name in (*VARIABLES, "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


def get(server: Httpd, *, retries: int = 3) -> bytes:
    """Return 8 bytes of the object."""
    url = server.url.replace("127.0.0.1", "localhost")
    with Engine() as engine:
        return engine.fetch([Request("GET", url + "/a?secret", 8, 16, etag_of("/a"))], parallelism=1, retries=retries)[
            0
        ]


@pytest.mark.parametrize("name", VARIABLES)
def test_the_ca_bundle_is_the_one_that_the_environment_names(
    server: Httpd, authority: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, str(authority))
    assert get(server) == Pattern(SIZE)[8:16]


def test_the_ca_bundle_is_otherwise_the_one_of_the_system(
    server: Httpd, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "_BUNDLES", ("/nowhere/ca.pem", str(authority)))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: ssl.DefaultVerifyPaths("", "", "", "", "", ""))
    assert get(server) == Pattern(SIZE)[8:16]


def test_an_unknown_certificate_is_a_final_error(server: Httpd) -> None:
    with pytest.raises(
        TransferError, match=r"GET localhost:\d+/a: its certificate is not trusted .* SSL_CERT_FILE"
    ) as caught:
        get(server)
    assert not caught.value.retryable
    assert server.requests == []
    assert "\n" not in str(caught.value)


def test_the_error_names_the_variable_whose_certificates_count(
    server: Httpd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.pem").write_bytes(certificate()[1])
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "other.pem"))
    with pytest.raises(TransferError, match=r"not trusted .*other\.pem, named by AWS_CA_BUNDLE"):
        get(server)


def test_https_to_a_plain_port_is_reported() -> None:
    with httpd({}) as plain, Engine() as engine:
        request = Request("GET", plain.url.replace("http:", "https:") + "/a", 0, 8)
        with pytest.raises(TransferError, match="plain HTTP, write http://"):
            engine.fetch([request], parallelism=1, retries=0)


def test_the_error_names_a_ca_bundle_that_does_not_exist(server: Httpd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(TransferError, match=r"/nowhere/ca\.pem, named by AWS_CA_BUNDLE") as caught:
        get(server)
    assert not caught.value.retryable


FORKED = """
import os, sys
from datas3t.transport import Engine, Request
url, etag = sys.argv[1:]
requests = [Request("GET", url + "/a", at, at + 100, etag) for at in range(0, 4000, 100)]
engine = Engine()
first = engine.fetch(requests, parallelism=4)
for _ in range(3):
    child = os.fork()
    if not child:
        assert engine.fetch(requests, parallelism=4) == first
        sys.exit()  # unlike os._exit, this frees all objects
    assert os.waitpid(child, 0)[1] == 0
    assert engine.fetch(requests, parallelism=4, retries=0) == first
"""


def test_a_child_that_exits_does_not_end_the_tls_sessions_of_its_parent(
    server: Httpd, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert run_python(FORKED, server.url.replace("127.0.0.1", "localhost"), etag_of("/a")) == ""
    assert server.connections == 4 + 3 * 4


@pytest.mark.parametrize("direct", [False, True])
def test_a_proxy_is_used_if_the_environment_names_one(monkeypatch: pytest.MonkeyPatch, direct: bool) -> None:
    with httpd({"http://s3.invalid/a": Pattern(SIZE), "/a": Pattern(SIZE)}) as proxy, Engine() as engine:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1" if direct else proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1" if direct else "")
        url = proxy.url if direct else "http://s3.invalid"
        assert engine.fetch([Request("GET", url + "/a", 8, 16)], parallelism=1) == [Pattern(SIZE)[8:16]]
        assert [seen.path for seen in proxy.requests] == ["/a" if direct else "http://s3.invalid/a"]
