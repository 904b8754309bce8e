"""Tests of proxies: loopback never uses one, other hosts use the one that the environment names, and errors name it."""

import socket
from collections.abc import Iterator

import pytest

from datas3t.transport import Engine, Request, TransferError, is_loopback
from tests.support.canned import CannedResponse, canned_server
from tests.support.httpd import Pattern, etag_of, httpd

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "no_proxy", "NO_PROXY")
SIZE = 1 << 10


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables of the shell that runs the tests."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Yield a port that refuses connections."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def get(url: str) -> bytes:
    """Return 8 bytes of the object at a URL."""
    with Engine() as engine:
        return engine.fetch([Request("GET", url + "/a?secret", 8, 16, etag_of("/a"))], parallelism=1, retries=0)[0]


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("exceptions", [None, "other.example", "*"])
def test_loopback_never_goes_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, closed_port: int, variable: str, exceptions: str | None
) -> None:
    monkeypatch.setenv(variable, f"http://127.0.0.1:{closed_port}")
    if exceptions:
        monkeypatch.setenv("no_proxy", exceptions)
    with httpd({"/a": Pattern(SIZE)}) as server:
        for host in ("127.0.0.1", "localhost", "a.localhost"):
            assert get(server.url.replace("127.0.0.1", host)) == Pattern(SIZE)[8:16]


def test_other_hosts_go_through_the_proxy_and_its_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    with canned_server(lambda _request: CannedResponse(403)) as (proxy, requests):
        monkeypatch.setenv("http_proxy", proxy)
        with pytest.raises(TransferError):
            get("http://data.example")
        assert requests == ["GET http://data.example/a?secret"]
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port}")
    with pytest.raises(TransferError, match=r"\(through the proxy that http_proxy names\)$"):
        get("http://data.example")


@pytest.mark.parametrize("exception", ["data.example", "*"])
def test_no_proxy_still_counts(monkeypatch: pytest.MonkeyPatch, closed_port: int, exception: str) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("NO_PROXY", exception)
    with pytest.raises(TransferError) as raised:
        get("http://data.example")
    assert "resolve host" in str(raised.value)
    assert "proxy" not in str(raised.value)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("s3.localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost.example", False),
        ("10.0.0.1", False),
        ("128.0.0.1", False),
        ("", False),
    ],
)
def test_what_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
